"""What the CRM demands and Partner Center does not promise: the deal arrives at once, and nothing made up goes back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from acceptance import Stage, staged

from cosell_sync.core.texts import Language

pytestmark = pytest.mark.wire

BRITISH = Language(region="GB")  # as the sandbox's orgs are
NOBODY = {"name": None, "address": None, "team": []}


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def in_a_month() -> str:
    return (datetime.now(UTC).date() + timedelta(days=30)).isoformat()


# What Microsoft brings: what the record holds then, and what its message says.
GAPS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no name": ({"name": None}, {"name": "{customer} - {solution}"}, "Microsoft gave none"),
    "a name of blanks": ({"name": "  "}, {"name": "{customer} - {solution}"}, "Microsoft gave none"),
    "no date": ({"details": {"closingDateTime": None}}, {"close_date": "{month}"}, "{day} only stands in for it"),
    "year 1": ({"details": {"closingDateTime": "0001-01-01T00:00:00Z"}}, {"close_date": "{month}"}, "only stands in"),
    "no such date": ({"details": {"closingDateTime": "soon"}}, {"close_date": "{month}"}, "only stands in for it"),
    "a date of no CRM": ({"details": {"closingDateTime": "9999-12-31T00:00:00Z"}}, {"close_date": "{month}"}, "only stands in"),
    "a foreign currency": ({"details": {"currency": "PLN"}}, {"value": None}, "84,000 PLN"),
    "no currency": ({"details": {"currency": None}}, {"value": None}, "gave 84,000 without a currency"),
    "too much": ({"details": {"dealValue": 10**17}}, {"value": None, "currency": "EUR"}, "does not fit here"),
    "much too much": ({"details": {"dealValue": 9 * 10**29}}, {"value": None, "currency": "EUR"}, "does not fit here"),
    "much too little": ({"details": {"dealValue": -(10**17)}}, {"value": None, "currency": "EUR"}, "does not fit here"),
    "no number": ({"details": {"dealValue": "a lot"}}, {"value": None, "currency": "EUR"}, "is no amount"),
    "nobody": ({"customerProfile": NOBODY}, {"account": None}, "Microsoft named no customer"),
}  # fmt: skip


def added(stage: Stage, gap: dict[str, Any], kind: str = "inbound_accepted") -> dict[str, Any]:
    """A deal that comes to lack this; the sandbox checks what it is given, as the portal would, and live data does not."""
    deal = stage.add(kind)
    for name, value in gap.items():
        changes = (
            {f"{name}/{key}": item for key, item in value.items()} if name == "details" else {name: value}
        )
        for path, item in changes.items():
            stage.pc.edit(deal["id"], path, item)
    return stage.referral(deal)


def test_it_arrives_at_once_and_says_what_to_fill_in(stage: Stage) -> None:
    """All at once, for the time it takes; then nothing is written any more, anywhere."""
    deals = {gap: added(stage, given) for gap, (given, _, _) in GAPS.items()}
    small = added(stage, {"details": {"currency": "eur"}})
    stage.forget_calls()
    before = in_a_month()
    done = stage.sync(expect=1)
    month = stage.deal(deals["no date"])["close_date"]
    assert month in {before, in_a_month()}, "midnight may have passed"
    assert done.finished["created"] == {"partner_center": 0, "crm": len(deals) + 1}
    assert (done.finished["failed"], done.finished["rejected"]) == (0, 0)
    assert all(not stage.patches(deal["id"]) for deal in deals.values())
    for gap, deal in deals.items():
        _, holds, says = GAPS[gap]
        row = stage.deal(deal)
        words = {
            "month": month,
            "day": BRITISH.day(date.fromisoformat(month)),
            "customer": (deal["customerProfile"]["name"] or ""),
            "solution": deal["details"]["requirements"]["solutions"][0]["name"],
        }
        wanted = {
            name: value.format(**words) if isinstance(value, str) else value for name, value in holds.items()
        }
        assert {name: row.get(name) for name in wanted} == wanted, gap
        assert row["sync_state"] == "Needs attention", gap
        assert says.format(**words) in row["message"], (gap, row["message"])
    row = stage.deal(small)
    assert (row["value"], row["currency"], row["sync_state"]) == (84000, "EUR", "In sync")
    stage.quiet(expect=1)
    stage.quiet(expect=1)
    assert {gap: stage.referral(deal) for gap, deal in deals.items()} == deals


def test_what_a_person_enters_replaces_it_on_either_side(stage: Stage) -> None:
    """The seller's travels, Microsoft's arrives, and neither needs attention any more."""
    ours = {
        gap: added(stage, GAPS[gap][0])
        for gap in ("no date", "no such date", "a foreign currency", "too much", "no currency")
    }
    theirs = {gap: added(stage, GAPS[gap][0]) for gap in GAPS if gap != "nobody"}
    stage.sync(expect=1)
    for gap, deal in ours.items():
        stage.seller(
            deal, **({"close_date": "2031-06-01"} if "date" in gap else {"value": 900, "currency": "EUR"})
        )
    for gap, deal in theirs.items():
        if "name" in gap:
            stage.pc.edit(deal["id"], "name", f"From Microsoft {gap}")
        elif "date" in gap or "year" in gap:
            stage.pc.edit(deal["id"], "details/closingDateTime", "2031-07-01T08:00:00Z")
        else:
            stage.pc.edit(deal["id"], {"details/dealValue": 700, "details/currency": "EUR"})
    stage.sync()
    for gap, deal in ours.items():
        details, row = stage.referral(deal)["details"], stage.deal(deal)
        if "date" in gap:
            assert details["closingDateTime"] == "2031-06-01T00:00:00Z", gap
        else:
            assert (details["dealValue"], details["currency"]) == (900, "EUR"), gap
        assert row["sync_state"] == "In sync", (gap, row["message"])
    for gap, deal in theirs.items():
        row = stage.deal(deal)
        if "name" in gap:
            assert row["name"] == f"From Microsoft {gap}"
        elif "date" in gap or "year" in gap:
            assert row["close_date"] == "2031-07-01", gap
            assert stage.referral(deal)["details"]["closingDateTime"] == "2031-07-01T08:00:00Z"
        else:
            assert (row["value"], row["currency"]) == (700, "EUR"), gap
        assert row["sync_state"] == "In sync", (gap, row["message"])
    stage.quiet()
    stage.quiet()


def test_an_unanswered_deal_is_answered_without_what_stood_in(stage: Stage) -> None:
    deal = added(stage, {"details": {"closingDateTime": None}}, "inbound_pending")
    stage.sync(expect=1)
    first, *_ = stage.deal(deal)["message"].splitlines()
    assert "choose Accept or Decline" in first
    stage.seller(deal, action="Accept")
    stage.sync(expect=1)
    assert stage.status(deal)[0] == "New"
    stage.seller(deal, close_date="2031-06-01")
    stage.sync()
    assert stage.status(deal) == ("Active", "Accepted")
    assert stage.referral(deal)["details"]["closingDateTime"] == "2031-06-01T00:00:00Z"
    stage.quiet()


def test_a_deal_of_nobody_gets_the_account_that_the_seller_chooses(stage: Stage) -> None:
    deal = added(stage, GAPS["nobody"][0])
    stage.sync(expect=1)
    account = stage.crm.create("account", name="Chosen GmbH", postal_code="1", country="DE", city="Bonn")
    stage.seller(deal, account=account)
    stage.sync()
    assert (stage.deal(deal)["account"], stage.deal(deal)["sync_state"]) == (account, "In sync")
    stage.quiet()


def test_a_linked_deal_keeps_what_it_has_when_microsofts_becomes_unusable(stage: Stage) -> None:
    deals = {gap: stage.add() for gap in GAPS}
    stage.sync()
    before = {gap: stage.deal(deal) for gap, deal in deals.items()}
    for gap, deal in deals.items():
        for name, value in GAPS[gap][0].items():
            for path, item in (
                {f"{name}/{key}": each for key, each in value.items()} if name == "details" else {name: value}
            ).items():
                stage.pc.edit(deal["id"], path, item)
    stage.sync(expect=1)
    for gap, deal in deals.items():
        row = stage.deal(deal)
        for name in ("name", "value", "currency", "close_date", "account"):
            assert row[name] == before[gap][name], (gap, name)
    stage.quiet(expect=1)


def test_closed_with_a_word_that_is_not_known_and_a_status_that_is_not_known(stage: Stage) -> None:
    """Closed is closed; what is not known is told in the first cycle, of a new deal and of a known one."""
    known, closed, over = stage.add(), stage.add(), stage.add()
    stage.sync()
    new = stage.add()
    for deal in (known, new):
        stage.pc.edit(deal["id"], {"status": "Paused", "substatus": "Maybe"})
    stage.pc.edit(closed["id"], {"status": "Closed", "substatus": "Withdrawn"})
    before = stage.deal(closed)
    stage.sync()
    for deal in (known, new):
        row = stage.deal(deal)
        assert 'the status "Paused / Maybe"' in row["message"]
        assert row["sync_state"] == "Waiting"
    row = stage.deal(closed)
    assert (row["sync_state"], row["stage"]) == ("Closed", before["stage"])
    assert 'closed this deal as "Closed / Withdrawn"' in row["message"]
    late = stage.add()
    stage.pc.edit(late["id"], {"status": "Closed", "substatus": "Withdrawn"})
    stage.seller(closed, value=7)
    stage.sync()
    assert stage.deals(late) == [], "closed before it was first seen"
    assert stage.patches(closed["id"]) == []
    assert stage.deal(closed)["sync_state"] == "Closed"
    assert stage.deal(over)["sync_state"] == "In sync"
    stage.quiet()


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "Pacific/Honolulu", "Europe/Berlin"])
def test_a_close_date_is_a_day_in_the_configured_zone(stage: Stage, zone: str) -> None:
    """Both ways; an unchanged day leaves the time of day alone."""
    stage.env["COSELL_MAPPING__CLOSE_DATE_ZONE"] = zone
    there = ZoneInfo(zone)
    evening = datetime(2031, 1, 15, 22, 30, tzinfo=there)
    written = evening.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    deal = stage.add(details={"closingDateTime": written})
    stage.sync()
    assert stage.deal(deal)["close_date"] == "2031-01-15"
    stage.quiet()
    stage.seller(deal, value=4321)
    stage.sync()
    assert stage.referral(deal)["details"]["closingDateTime"] == written
    stage.seller(deal, close_date="2031-07-01")
    stage.sync()
    now = datetime.fromisoformat(stage.referral(deal)["details"]["closingDateTime"])
    assert now.astimezone(there) == datetime(2031, 7, 1, tzinfo=there)
    assert stage.deal(deal)["close_date"] == "2031-07-01"
    stage.quiet()


def test_another_zone_reads_every_day_again(stage: Stage) -> None:
    deal = stage.add(details={"closingDateTime": "2031-01-15T22:30:00Z"})
    stage.sync()
    assert stage.deal(deal)["close_date"] == "2031-01-15"
    stage.env.update(
        COSELL_MAPPING__CLOSE_DATE_ZONE="Europe/Berlin",
        COSELL_MAPPING__FIELDS__CLOSE_DATE__CONFLICT="partner_center",
    )
    stage.sync()
    assert stage.deal(deal)["close_date"] == "2031-01-15"
    stage.env.update(COSELL_MAPPING__CLOSE_DATE_ZONE="Pacific/Auckland")
    stage.sync()
    assert stage.deal(deal)["close_date"] == "2031-01-16"
    assert stage.referral(deal)["details"]["closingDateTime"] == "2031-01-15T22:30:00Z"
    stage.quiet()


def test_a_deal_made_again_moves_on_to_the_opportunity_of_the_one_that_is_over(stage: Stage) -> None:
    """It is proposed for that opportunity, not doubled; `deals link` moves it on, and the history stays."""
    first = stage.add()
    stage.sync()
    opportunity = stage.deal(first)["id"]
    stage.pc.edit(first["id"], {"status": "Closed", "substatus": "Lost"})
    stage.sync()
    again = stage.add("inbound_pending")
    stage.pc.edit(again["id"], "externalReferenceId", opportunity)
    stage.sync(expect=1)
    assert stage.deals(again) == []
    listed = {row["referral_id"]: row for row in stage.cosell("deals", "list", "--json").json()}
    assert f"deals link {again['id']} {opportunity}" in listed[again["id"]]["todo"]
    stage.cosell("deals", "link", again["id"], opportunity)
    stage.sync(expect=None)
    stage.sync(expect=None)
    row = stage.deal(again)
    assert row["id"] == opportunity
    assert stage.deals(first) == []
    assert row["status"] == "Received", "linking is not accepting"
    for deal in (first, again):
        shown = stage.cosell("deals", "show", deal["id"], "--json").json()
        assert shown["history"], "the history of both is kept"
    stage.cosell("deals", "list", "--attention", "--json")
    stage.quiet(expect=None)
