"""Edits on both sides: carried, merged, or named as a conflict on the record with both values; then silence.

One play with twenty-odd edits made between two cycles; each test looks at what became of some of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acceptance import Done, Stage, staged
from comparison import compared, disagreements, doubles

from cosell_sync.sandbox.partner_center.samples import own_member
from cosell_sync.sandbox.partner_center.schema import Document, member

pytestmark = pytest.mark.wire

IDA, JONAS, TARIQ = (
    "ida.kern@nordlicht.example",
    "jonas.brueck@nordlicht.example",
    "tariq.aziz@nordlicht.example",
)
MARA, PIA = "mara.oconnell@nordlicht.example", "pia.freelance@helpers.example"
PLANNER = {"id": "SOL-10001-ABC", "name": "Mill Planner", "type": "Name", "solutionType": "3P", "price": 1200.5, "quantity": 3}  # fmt: skip
TIDE = {"id": "SOL-10002-DEF", "name": "Tide & Flow", "type": "Name", "solutionType": "3P", "price": None}
AZURE = {"id": "0a1b2c3d-1111-4000-8000-000000000001", "name": "Azure", "type": "Name", "solutionType": "1P"}
GRETA = member("Greta", "Öztürk", "greta@customer.example", "+49 421 100001", title="Head of IT")
GERDA = {**GRETA, "email": "gerda@customer.example"}
LIAM = member("Liam", "O'Hara", "liam@customer.example", "+353 1 100002")
NAMES = (
    "crm_value", "crm_date", "crm_stage", "crm_campaign", "crm_notes", "crm_team", "crm_phone", "crm_contact",
    "crm_solution", "crm_unsold", "crm_currency", "crm_several", "pc_value", "pc_date", "pc_stage", "pc_campaign",
    "pc_notes", "pc_team", "pc_contact", "pc_phone", "pc_solution", "pc_unsold", "pc_name", "pc_favorite", "pc_nothing",
    "both_value", "both_currency", "both_notes", "both_team", "both_solutions", "both_fields", "both_contact", "both_same",
    "untouched",
)  # fmt: skip


@dataclass
class Play:
    stage: Stage
    deals: dict[str, Document]
    before: dict[str, Document]
    first: Done
    second: Done
    patched: dict[str, list[dict[str, Any]]]

    def now(self, name: str) -> Document:
        return self.stage.referral(self.deals[name])

    def row(self, name: str) -> dict[str, Any]:
        return self.stage.deal(self.deals[name])

    def differing(self, name: str) -> list[str]:
        return [
            field
            for field, there, here in compared(self.stage, self.now(name), self.row(name))
            if there != here
        ]


def prepared(stage: Stage) -> dict[str, Document]:
    requirements = {"solutions": [PLANNER, AZURE]}
    return {
        name: stage.add(
            name=f"Deal {name}",
            salesStage="20",
            team=[own_member(IDA, emailValidationStatus="Valid"), own_member(PIA)],
            details={"notes": "Line one\nLine two", "dealValue": 1000, "requirements": requirements},
            customerProfile={"team": [GERDA if name == "both_contact" else GRETA]},
        )
        for name in NAMES
    }


def edit(stage: Stage, deals: dict[str, Document]) -> None:
    crm, pc = stage.crm, stage.pc
    opp = {name: stage.deal(deal)["id"] for name, deal in deals.items()}
    # sellers
    crm.edit("opportunity", opp["crm_value"], value=2500.55)
    crm.edit("opportunity", opp["crm_date"], close_date="2028-02-29")
    crm.edit("opportunity", opp["crm_stage"], stage="Close")
    crm.edit("opportunity", opp["crm_campaign"], campaign_id="SUMMER-27")
    crm.edit("opportunity", opp["crm_notes"], notes="Line one\nLine two\nfrom the seller 🚀")
    crm.add_member(opp["crm_team"], stage.user(TARIQ))
    alone = crm.create("contact", account=stage.deal(deals["crm_phone"])["account"], last_name="Own", email="own@x.example", phone="+1 1")  # fmt: skip
    crm.add_contact(opp["crm_phone"], alone)
    new = crm.create("contact", account=stage.deal(deals["crm_contact"])["account"], first_name="Nora", last_name="Né", email="nora@customer.example", phone="+1 2")  # fmt: skip
    crm.add_contact(opp["crm_contact"], new)
    crm.create("solution", opportunity=opp["crm_solution"], code="SOL-10002-DEF", title="Tide & Flow", type="Own")  # fmt: skip
    crm.delete("solution", stage.solutions(deals["crm_unsold"])["SOL-10001-ABC"]["id"])
    crm.edit("opportunity", opp["crm_currency"], currency="USD")
    crm.edit("opportunity", opp["crm_several"], value=7, close_date="2028-03-01", campaign_id="X", stage="Propose")  # fmt: skip
    # the portal
    pc.edit(deals["pc_value"]["id"], "details/dealValue", 3100.125)
    pc.edit(deals["pc_date"]["id"], "details/closingDateTime", "2028-04-30T22:15:00Z")
    pc.edit(deals["pc_stage"]["id"], "salesStage", "60")
    pc.edit(deals["pc_campaign"]["id"], "campaignId", "WINTER-28")
    pc.edit(deals["pc_notes"]["id"], "details/notes", "Line one\nLine two\nfrom the portal")
    pc.edit(deals["pc_team"]["id"], "team", [own_member(IDA), own_member(JONAS), own_member(PIA)])
    pc.edit(deals["pc_contact"]["id"], "customerProfile/team", [GRETA, LIAM])
    pc.edit(deals["pc_phone"]["id"], "customerProfile/team", [{**GRETA, "email": "gesa@customer.example", "phoneNumber": "+49 1"}])  # fmt: skip
    pc.edit(deals["pc_solution"]["id"], "details/requirements/solutions", [PLANNER, AZURE, TIDE])
    pc.edit(deals["pc_unsold"]["id"], "details/requirements/solutions", [AZURE])
    pc.edit(deals["pc_name"]["id"], "name", "Renamed in the portal")
    pc.edit(deals["pc_favorite"]["id"], "favorite", True)
    pc.edit(deals["pc_nothing"]["id"], "details/notes", None)
    # both, between the same two cycles
    pc.edit(deals["both_value"]["id"], "details/dealValue", 4111)
    crm.edit("opportunity", opp["both_value"], value=4222)
    pc.edit(deals["both_currency"]["id"], "details/currency", "GBP")
    crm.edit("opportunity", opp["both_currency"], currency="CHF")
    pc.edit(deals["both_notes"]["id"], "details/notes", "portal on top\nLine one\nLine two")
    crm.edit("opportunity", opp["both_notes"], notes="Line one\nseller at the end")
    pc.edit(deals["both_team"]["id"], "team", [*deals["both_team"]["team"], own_member(JONAS)])
    crm.add_member(opp["both_team"], stage.user(MARA))
    pc.edit(deals["both_solutions"]["id"], "details/requirements/solutions", [PLANNER, AZURE, TIDE])
    crm.delete("solution", stage.solutions(deals["both_solutions"])[AZURE["id"]]["id"])
    pc.edit(deals["both_fields"]["id"], "details/dealValue", 5111)
    crm.edit("opportunity", opp["both_fields"], close_date="2028-05-05")
    pc.edit(deals["both_contact"]["id"], "customerProfile/team", [{**GERDA, "phoneNumber": "+49 2"}])
    crm.edit("contact", stage.contacts(deals["both_contact"])[GERDA["email"]]["id"], first_name="Gerda")
    for agreed in ("crm_contact", "crm_phone", "both_contact"):
        crm.edit("opportunity", opp[agreed], consent=True)
    pc.edit(deals["both_same"]["id"], "details/dealValue", 6000)
    crm.edit("opportunity", opp["both_same"], value=6000)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Iterator[Play]:
    for stage in staged(tmp_path_factory.mktemp("edits"), crm, COSELL_SYNC__SURPRISE_SHARE="100%"):
        stage.env["COSELL_SYNC__SURPRISE_MIN"] = "1000"
        stage.env["COSELL_SYNC__SURPRISE_MOVES"] = "1000"
        deals = prepared(stage)
        stage.sync()
        assert disagreements(stage) == []
        edit(stage, deals)
        before = {name: stage.referral(deal) for name, deal in deals.items()}
        stage.forget_calls()
        stage.wait_a_second()
        first = stage.sync()
        patched = {name: stage.patches(deal["id"]) for name, deal in deals.items()}
        second = stage.sync()
        stage.quiet()
        yield Play(stage, deals, before, first, second, patched)


def kept(play: Play) -> list[tuple[str, str]]:
    """Dynamics fixes the currency of an opportunity with its first quote or product, so there it is never written: what
    Partner Center has instead is told.
    """
    return [(play.deals["both_currency"]["id"], "currency")] if play.stage.crm.name == "dynamics" else []


def test_afterwards_both_sides_agree_and_nothing_exists_twice(play: Play) -> None:
    assert disagreements(play.stage, besides=kept(play)) == []
    assert doubles(play.stage) == []


def test_a_crm_edit_costs_one_patch_with_all_its_fields(play: Play) -> None:
    sent = {name: [set(patch) for patch in patches] for name, patches in play.patched.items()}
    reference = {"externalReferenceId"}
    assert sent["crm_value"] == [{"details/dealValue"} | reference] or sent["crm_value"] == [
        {"details/dealValue"}
    ]
    several = {"details/dealValue", "details/closingDateTime", "campaignId", "salesStage"}
    assert len(sent["crm_several"]) == 1
    assert sent["crm_several"][0] - reference == several
    for name in NAMES:
        touched = name.startswith(("crm_", "both_")) and name not in {"both_same", "both_currency"}
        assert len(sent[name]) == int(touched), f"{name}: {sent[name]}"


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("crm_value", "dealValue", 2500.55),
        ("crm_date", "closingDateTime", "2028-02-29T00:00:00Z"),
        ("crm_currency", "currency", "USD"),
        ("crm_notes", "notes", "Line one\nLine two\nfrom the seller 🚀"),
    ],
)
def test_what_a_seller_writes_reaches_partner_center(play: Play, name: str, path: str, value: object) -> None:
    assert play.now(name)["details"][path] == value


def test_sales_stage_campaign_people_and_solutions_reach_partner_center(play: Play) -> None:
    assert play.now("crm_stage")["salesStage"] == "80"
    assert play.now("crm_campaign")["campaignId"] == "SUMMER-27"
    assert [person["email"] for person in play.now("crm_team")["team"]] == [IDA, PIA, TARIQ]
    contacts = {person["email"]: person for person in play.now("crm_contact")["customerProfile"]["team"]}
    assert (contacts["nora@customer.example"]["lastName"], contacts["nora@customer.example"]["phoneNumber"]) == ("Né", "+1 2")  # fmt: skip
    assert set(contacts) == {"nora@customer.example", GRETA["email"]}
    assert {tag["id"] for tag in play.now("crm_solution")["details"]["requirements"]["solutions"]} == {PLANNER["id"], AZURE["id"], TIDE["id"]}  # fmt: skip
    assert [tag["id"] for tag in play.now("crm_unsold")["details"]["requirements"]["solutions"]] == [
        AZURE["id"]
    ]


def test_what_partner_center_knows_besides_survives_a_replaced_array(play: Play) -> None:
    """Price, quantity, title and whatever else a member carries."""
    solutions = {tag["id"]: tag for tag in play.now("crm_solution")["details"]["requirements"]["solutions"]}
    assert (solutions[PLANNER["id"]]["price"], solutions[PLANNER["id"]]["quantity"]) == (1200.5, 3)
    ida = play.now("crm_team")["team"][0]
    assert ida["emailValidationStatus"] == "Valid"
    assert ida["contactPreference"] == {"locale": "en-us", "disableNotifications": False}
    greta = next(
        p for p in play.now("crm_contact")["customerProfile"]["team"] if p["email"] == GRETA["email"]
    )
    assert greta["title"] == "Head of IT"


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("pc_value", "value", 3100.13),
        ("pc_date", "close_date", "2028-04-30"),
        ("pc_stage", "stage", "Propose"),
        ("pc_campaign", "campaign_id", "WINTER-28"),
        ("pc_notes", "notes", "Line one\nLine two\nfrom the portal"),
        ("pc_name", "name", "Renamed in the portal"),
        ("pc_favorite", "favorite", True),
        ("pc_nothing", "notes", None),
    ],
)
def test_what_the_portal_writes_reaches_the_crm(play: Play, name: str, column: str, value: object) -> None:
    assert play.row(name)[column] == value
    assert play.row(name)["last_sync"] is not None


def test_people_and_solutions_of_the_portal_reach_the_crm(play: Play) -> None:
    stage, deals = play.stage, play.deals
    assert stage.team(deals["pc_team"]) == {IDA, JONAS}
    assert set(stage.contacts(deals["pc_contact"])) == {GRETA["email"], LIAM["email"]}
    changed = stage.contacts(deals["pc_phone"])
    assert {email: person["phone"] for email, person in changed.items()} == {"gesa@customer.example": "+49 1"}
    assert changed["gesa@customer.example"]["primary"]
    assert set(stage.solutions(deals["pc_solution"])) == {PLANNER["id"], AZURE["id"], TIDE["id"]}
    assert set(stage.solutions(deals["pc_unsold"])) == {AZURE["id"]}


def test_a_solution_row_of_a_seller_receives_its_key(play: Play) -> None:
    row = play.stage.solutions(play.deals["crm_solution"])[TIDE["id"]]
    assert row["key"] == f"{play.deals['crm_solution']['id']}:{TIDE['id']}"


def test_two_edits_of_one_field_are_a_conflict_named_with_both_values(play: Play) -> None:
    """By default the CRM keeps the value and Partner Center the currency."""
    assert play.first.finished["conflicts"] == 2
    assert play.second.finished["conflicts"] == 0
    assert play.now("both_value")["details"]["dealValue"] == play.row("both_value")["value"] == 4222
    told = play.row("both_value")["message"]
    assert "4,111" in told
    assert "4,222" in told
    assert play.now("both_currency")["details"]["currency"] == "GBP"
    assert play.row("both_currency")["currency"] == ("CHF" if kept(play) else "GBP")
    told = play.row("both_currency")["message"]
    assert "GBP" in told
    assert "CHF" in told
    fields = {play.stage.crm.word(event["field"]) for event in play.first.named("deal.conflict")}
    assert fields == {"value", "currency"}


def test_the_losing_value_stays_in_the_history(play: Play) -> None:
    shown = play.stage.cosell("deals", "show", play.deals["both_value"]["id"], "--json").json()
    conflict = next(entry for entry in shown["history"] if entry["action"] == "conflict")
    assert (conflict["field"], float(conflict["old"]), float(conflict["new"])) == (
        play.stage.crm.column("value"),
        4111,
        4222,
    )


def test_edits_of_different_parts_merge(play: Play) -> None:
    """Notes line by line, sets member by member, fields one by one."""
    notes = play.row("both_notes")["notes"].split("\n")
    assert sorted(notes) == sorted(["portal on top", "Line one", "seller at the end"])
    assert play.stage.team(play.deals["both_team"]) == {IDA, JONAS, MARA}
    assert {person["email"] for person in play.now("both_team")["team"]} == {IDA, PIA, JONAS, MARA}
    assert set(play.stage.solutions(play.deals["both_solutions"])) == {PLANNER["id"], TIDE["id"]}
    person = play.stage.contacts(play.deals["both_contact"])[GERDA["email"]]
    assert (person["first_name"], person["phone"]) == ("Gerda", "+49 2")
    (person,) = play.now("both_contact")["customerProfile"]["team"]
    assert (person["firstName"], person["phoneNumber"]) == ("Gerda", "+49 2")
    assert play.row("both_fields")["value"] == 5111
    assert play.now("both_fields")["details"]["closingDateTime"] == "2028-05-05T00:00:00Z"


def test_the_same_edit_on_both_sides_is_no_conflict_and_no_write(play: Play) -> None:
    assert play.patched["both_same"] == []
    assert "both sides" not in (play.row("both_same")["message"] or "")


def test_deals_that_nobody_edited_are_left_alone(play: Play) -> None:
    assert play.patched["untouched"] == []
    assert play.now("untouched") == play.before["untouched"]


def test_last_sync_is_when_something_was_carried(play: Play) -> None:
    """Written only with that change, never because a cycle ran."""
    carried = play.row("crm_value")["last_sync"]
    assert carried > play.row("untouched")["last_sync"]


def test_an_unchanged_day_never_rewrites_the_time(tmp_path: Path, crm: str) -> None:
    """Nor does a detail of a contact, a touch of the record, or a job in the org cost Partner Center a write."""
    for stage in staged(tmp_path, crm):
        deal = stage.add(
            name="Timed",
            details={"closingDateTime": "2027-06-30T17:45:12.1234567Z", "dealValue": 0.1 + 0.2 + 4999},
        )
        stage.sync()
        document = stage.referral(deal)
        stage.crm.touch("opportunity", stage.deal(deal)["id"])
        stage.seller(deal, aside="call", description="only ours")
        stage.quiet()
        assert stage.referral(deal) == document
        stage.seller(deal, campaign_id="C")
        stage.sync()
        assert stage.referral(deal)["details"] == document["details"]
        assert disagreements(stage) == []
        stage.seller(deal, name="The seller's name", favorite=True)
        stage.sync()
        row = stage.deal(deal)
        assert (row["name"], row["favorite"]) == ("The seller's name", True)
        assert row["sync_state"] == "In sync"
        assert stage.crm.spoken("{name}") in row["message"]
        assert stage.referral(deal)["name"] == "Timed"
        stage.quiet()
        stage.pc.switches.accept_name = stage.pc.switches.accept_favorite = True
        stage.seller(deal, name="The seller's second name")
        stage.sync(COSELL_MAPPING__WRITE_NAME="true", COSELL_MAPPING__WRITE_FAVORITE="true")
        assert stage.referral(deal)["name"] == "The seller's second name"
        assert stage.referral(deal)["favorite"] is True
        assert disagreements(stage) == []
