"""Ids as people type and paste them."""

from __future__ import annotations

import pytest

from cosell_sync.core.keys import referral_key
from cosell_sync.crm.dynamics import ids as dynamics
from cosell_sync.crm.salesforce import ids as salesforce

GUID = "0f8fad5b-d9cb-469f-a165-70867728950e"
APP = "11111111-2222-3333-4444-555555555555"
LONG, SHORT = "0065g00000AbCdEFAA", "0065g00000AbCdE"


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        (GUID, GUID),
        (f"  {GUID.upper()}\n", GUID),
        (f"{{{GUID}}}", GUID),
        (f" {{ {GUID} }} ", GUID),
        (f"https://partner.microsoft.com/en-us/dashboard/v2/referrals/cosell/{APP}/{GUID}?tab=1", GUID),
        (" R1 ", "R1"),
        (f"see {GUID}", f"see {GUID}"),
        ("", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_a_referrals_id_as_people_paste_it(typed: object, key: str) -> None:
    assert referral_key(typed) == key


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        (LONG, LONG),
        (SHORT, SHORT),
        (f" {LONG}\t", LONG),
        (f"https://acme.lightning.force.com/lightning/r/Opportunity/{LONG}/view", LONG),
        (f"https://acme.my.salesforce.com/{SHORT}", SHORT),
        (f"https://acme.lightning.force.com/one/one.app#/sObject/{LONG}/view?0=a", LONG),
        (
            f"https://acme.lightning.force.com/lightning/r/{LONG}/view?ws=%2Flightning%2Fr%2FAccount%2F001",
            LONG,
        ),
        (f"https://acme.my.salesforce.com/apex/Page?id%3D{LONG}", LONG),
        (f"https://acme.my.salesforce.com/001{LONG[3:]}", None),
        (f"x{LONG}", None),
        ("PO 4711", None),
        (None, None),
        ("0065g00000AbCdEF", None),
    ],
)
def test_an_opportunitys_id_of_salesforce(typed: object, key: str | None) -> None:
    assert salesforce.opportunity_id(typed) == key


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        (GUID.upper(), GUID),
        (f" {{{GUID}}} ", GUID),
        (
            f"https://acme.crm4.dynamics.com/main.aspx?appid={APP}&pagetype=entityrecord&etn=opportunity&id={GUID}",
            GUID,
        ),
        (f"https://acme.crm.dynamics.com/main.aspx?etn=opportunity&id=%7B{GUID.upper()}%7D&extraqs=x", GUID),
        (f"https://acme.crm.dynamics.com/api/data/v9.2/opportunities({GUID})", GUID),
        (f"https://acme.crm.dynamics.com/main.aspx?appid={APP}&etn=account&id={GUID}", None),
        (f"https://acme.crm.dynamics.com/main.aspx?appid={APP}", None),
        (f"https://acme.crm.dynamics.com/api/data/v9.2/accounts({GUID})", None),
        ("https://[acme", None),
        ("PO 4711", None),
        (None, None),
    ],
)
def test_an_opportunitys_id_of_dynamics(typed: object, key: str | None) -> None:
    assert dynamics.opportunity_id(typed) == key
