"""Accounts and people that only look alike, and accounts that other opportunities use, each on a stage of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance import Stage, held_back, staged
from crm_vocabulary import Row
from test_acceptance_people import known_customer, own

from cosell_sync.sandbox.partner_center.samples import member, own_member
from cosell_sync.sandbox.partner_center.schema import Document

pytestmark = pytest.mark.wire

MOVED = {"addressLine1": "Kai 7", "addressLine2": None, "city": "Bremen", "state": None, "postalCode": "28195", "country": "DE"}  # fmt: skip


def account(stage: Stage, account_id: str) -> Row:
    return stage.crm.get("account", account_id)


def linked(stage: Stage, opportunity: str, name: str, **profile: object) -> Document:
    """A referral of this customer, joined to the opportunity by a person."""
    deal = stage.add(name="Another name", customerProfile={"name": name, "address": MOVED, **profile})
    stage.cosell("deals", "link", deal["id"], opportunity)
    return deal


def test_linking_neither_renames_nor_moves_an_account(tmp_path: Path, crm: str) -> None:
    """Ten other opportunities use it; the seller reads the difference once, and Microsoft is told nothing of it."""
    for stage in staged(tmp_path, crm):
        shared, _ = known_customer(stage, "Contoso AG")
        others = [own(stage, shared, f"Running {at}") for at in range(10)]
        before = account(stage, shared)
        deal = linked(stage, own(stage, shared, "Running deal"), "Contoso Deutschland")
        stage.sync()
        after = account(stage, shared)
        assert after == before
        row = stage.deal(deal)
        assert row["account"] == shared
        assert "Contoso AG" in row["message"]
        assert "Contoso Deutschland" in row["message"]
        assert stage.referral(deal)["customerProfile"]["name"] == "Contoso Deutschland"
        assert all(stage.crm.get("opportunity", each)["account"] == shared for each in others)
        stage.quiet()


def test_linking_fills_what_the_account_leaves_blank(tmp_path: Path, crm: str) -> None:
    for stage in staged(tmp_path, crm):
        bare = stage.crm.create("account", name="Contoso AG", city="Bremen")
        linked(stage, own(stage, bare, "Running deal"), "Contoso Deutschland")
        stage.sync()
        row = account(stage, bare)
        assert (row["name"], row["street"], row["city"]) == ("Contoso AG", "Kai 7", "Bremen")
        assert row["postal_code"] == "28195"
        stage.quiet()


def test_two_referrals_of_one_account_do_not_overwrite_it_in_turn(tmp_path: Path, crm: str) -> None:
    for stage in staged(tmp_path, crm):
        shared, _ = known_customer(stage, "Contoso AG")
        deals = [
            linked(stage, own(stage, shared, f"Running {name}"), name)
            for name in ("Contoso Nord", "Contoso Sued")
        ]
        stage.sync()
        stage.pc.edit(deals[0]["id"], "customerProfile/name", "Contoso West")
        stage.sync()
        assert account(stage, shared)["name"] == "Contoso AG"
        assert "Contoso West" in stage.deal(deals[0])["message"]
        assert "Contoso Sued" in stage.deal(deals[1])["message"]
        stage.quiet()


def test_an_account_that_we_made_is_kept_equal_until_others_use_it(tmp_path: Path, crm: str) -> None:
    for stage in staged(tmp_path, crm):
        stage.env["COSELL_MAPPING__ACCOUNT_UPDATES"] = "own"
        deal = stage.add(customerProfile={"name": "Fjord AS", "address": MOVED})
        stage.sync()
        made = stage.deal(deal)["account"]
        stage.pc.edit(deal["id"], "customerProfile/name", "Fjord ASA")
        stage.sync()
        assert account(stage, made)["name"] == "Fjord ASA"
        own(stage, made, "Somebody else's deal")
        stage.pc.edit(deal["id"], "customerProfile/name", "Fjord Group")
        stage.sync()
        assert account(stage, made)["name"] == "Fjord ASA"
        assert "Fjord Group" in stage.deal(deal)["message"]
        stage.quiet()


def test_what_one_deal_writes_to_an_account_is_no_edit_of_the_others(tmp_path: Path, crm: str) -> None:
    """With `all` accounts follow their referrals; the other sellers are not told that they changed something."""
    for stage in staged(tmp_path, crm):
        stage.env["COSELL_MAPPING__ACCOUNT_UPDATES"] = "all"
        profile = {"name": "Fjord AS", "address": MOVED}
        first, *rest = [stage.add(name=f"Deal {at}", customerProfile=profile) for at in range(6)]
        stage.sync()
        shared = stage.deal(first)["account"]
        assert {stage.deal(each)["account"] for each in rest} == {shared}
        stage.pc.edit(first["id"], "customerProfile/name", "Fjord ASA")
        stage.sync()
        stage.sync()
        assert account(stage, shared)["name"] == "Fjord ASA"
        for each in rest:
            message = stage.deal(each)["message"]
            assert "as you wrote it" not in message
            assert "Sent to Partner Center" not in message
            assert "Fjord ASA here and Fjord AS in Partner Center" in message
        stage.quiet()


def test_a_contact_of_the_same_name_is_not_sent_to_microsoft(tmp_path: Path, crm: str) -> None:
    """The standard duplicate rules name a stranger of the same name; only the same e-mail is the same person."""
    for stage in staged(tmp_path, crm):
        elsewhere = stage.crm.create("account", name="Elsewhere")
        stage.crm.create(
            "contact", account=elsewhere, first_name="Greta", last_name="Oz", email="stranger@elsewhere.example", phone="+9"
        )  # fmt: skip
        greta = member("Greta", "Oz", "greta@customer.example", "+49 421 1")
        deal = stage.add(customerProfile={"name": "Fjord AS", "address": MOVED, "team": [greta]})
        stage.sync()
        assert set(stage.contacts(deal)) == {"greta@customer.example"}
        stage.quiet()
        people = stage.referral(deal)["customerProfile"]["team"]
        assert [person["email"] for person in people] == ["greta@customer.example"]


def test_a_crash_after_an_account_was_written_makes_it_nobodys_edit_all_the_same(
    tmp_path: Path, crm: str
) -> None:
    """Killed between the write and its record: the deals that share the account are told what is so, and send nothing."""
    for stage in staged(tmp_path, crm):
        stage.env["COSELL_MAPPING__ACCOUNT_UPDATES"] = "all"
        profile = {"name": "Fjord AS", "address": MOVED}
        first, *rest = [stage.add(name=f"Deal {at}", customerProfile=profile) for at in range(3)]
        stage.sync()
        shared = stage.deal(first)["account"]
        stage.pc.edit(first["id"], "customerProfile/name", "Fjord ASA")
        server = stage.crm.server
        server.faults.hang(**stage.crm.calls["account write"], applied=True)
        stage.killed("sync", at=held_back(server))
        assert account(stage, shared)["name"] == "Fjord ASA"
        stage.forget_calls()
        stage.sync()
        stage.sync()
        assert account(stage, shared)["name"] == "Fjord ASA"
        for each in (first, *rest):
            assert stage.patches(each["id"]) == []
            message = stage.deal(each)["message"] or ""
            assert "as you wrote it" not in message
            assert "Sent to Partner Center" not in message
        for each in rest:
            assert "Fjord ASA here and Fjord AS in Partner Center" in stage.deal(each)["message"]
        stage.quiet()


def test_of_two_users_with_one_email_nobody_is_added_and_the_rest_of_the_team_is(
    tmp_path: Path, crm: str
) -> None:
    for stage in staged(tmp_path, crm):
        shared, other = "ida.kern@nordlicht.example", "jonas.brueck@nordlicht.example"
        twins = [stage.user(shared), stage.user("tariq.aziz@nordlicht.example")]
        stage.crm.edit("user", twins[1], email=shared)
        deal = stage.add(team=[own_member(other), own_member(shared)])
        stage.sync()
        stage.sync()
        row = stage.deal(deal)
        assert row["owner"] == stage.user(other)
        assert set(stage.crm.team(row["id"])) & set(twins) == set()
        assert stage.team(deal) <= {other}
        assert shared in row["message"]
        assert row["sync_state"] == "In sync"
        people = [person["email"] for person in stage.referral(deal)["team"]]
        assert people == [other, shared], "Microsoft's side keeps the team"
        stage.seller(deal, value=11)
        stage.sync()
        assert stage.referral(deal)["details"]["dealValue"] == 11
        assert [person["email"] for person in stage.referral(deal)["team"]] == people
        assert set(stage.crm.team(row["id"])) & set(twins) == set()
        stage.quiet()
