"""First sight: a partner's whole pipeline arrives in the CRM, once, and then nothing is written any more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acting import Row, Stage, staged
from judging import compared, disagreements, doubles, expected, is_lead

from cosell_sync.sandbox.pipeline import blank

pytestmark = pytest.mark.wire

UNKNOWN_CURRENCY = "PLN"  # the pipeline has it, the org does not


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    yield from staged(tmp_path)


def held(stage: Stage) -> set[str]:
    """Open co-sell referrals that the org cannot hold."""
    return {
        referral["id"]
        for referral in stage.pc.ours()
        if referral["status"] != "Closed"
        and not is_lead(referral)
        and referral["details"]["currency"] == UNKNOWN_CURRENCY
    }


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Stage, dict[str, Any]]]:
    """Three hundred mixed deals, imported; what the commands said besides."""
    for stage in staged(tmp_path_factory.mktemp("pipeline"), deals=300):
        sf = stage.sf
        stage.sf.create(
            "Account", Name="  harbor mills GMBH ", BillingPostalCode="28195", BillingCountry="DE",
            BillingStreet="Kai 7", BillingCity="Bremen",
        )  # fmt: skip
        before = stage.sf.snapshot()
        planned = stage.cosell("plan", "--json")
        assert stage.mutations() == []
        assert sf.snapshot() == before
        documents = stage.pc.all()
        stage.forget_calls()
        first = stage.sync(expect=1)
        said: dict[str, Any] = {"plan": planned.json(), "first": first, "calls": stage.api_calls()}
        assert stage.pc.all() == documents, "an import writes nothing to Partner Center"
        said["second"] = stage.quiet(expect=1)
        said["third"] = stage.quiet(expect=1)
        said["fourth"] = stage.quiet(expect=1)
        said["list"] = stage.cosell("deals", "list", "--all", "--json").json()
        yield stage, said


def test_every_open_cosell_referral_becomes_exactly_one_opportunity(
    pipeline: tuple[Stage, dict[str, Any]],
) -> None:
    """Leads and what was closed before are skipped; what the org cannot hold waits for a person."""
    stage, said = pipeline
    wanted = {referral["id"] for referral in expected(stage)}
    made = Counter(row["Cosell_Referral_Id__c"] for row in stage.sf.rows("Opportunity"))
    assert made == Counter(wanted)
    finished = said["first"].finished
    assert finished["created"] == {"partner_center": 0, "crm": len(wanted)}
    assert finished["pulled"]["partner_center"] == 300
    assert finished["rejected"] == len(held(stage)) > 0
    assert (finished["failed"], finished["parked"], finished["conflicts"]) == (0, 0, 0)


def test_the_two_sides_agree_field_by_field_and_nothing_exists_twice(
    pipeline: tuple[Stage, dict[str, Any]],
) -> None:
    stage, _ = pipeline
    assert disagreements(stage) == []
    assert doubles(stage) == []


def test_customers_are_found_again_by_name_postal_code_and_country(
    pipeline: tuple[Stage, dict[str, Any]],
) -> None:
    """Case and blanks aside: the account that a seller made first is the customer of many deals."""
    stage, _ = pipeline
    accounts = [row for row in stage.sf.rows("Account") if "harbor" in row["Name"].lower()]
    assert len(accounts) == 1
    assert len(stage.sf.rows("Opportunity", AccountId=accounts[0]["Id"])) > 10
    named = {
        (row["customerProfile"]["name"], row["customerProfile"]["address"]["postalCode"])
        for row in expected(stage)
    }
    assert len(stage.sf.rows("Account")) == len(named)


def test_the_owner_is_the_first_colleague_with_a_login(pipeline: tuple[Stage, dict[str, Any]]) -> None:
    stage, _ = pipeline
    users = {user["Email"].lower(): user["Id"] for user in stage.sf.users if user["IsActive"]}
    owners = Counter()
    for referral in expected(stage):
        colleagues = [users[person["email"]] for person in referral["team"] if person["email"] in users]
        fallback = stage.sf.integration_user
        assert stage.deal(referral)["OwnerId"] == next(iter(colleagues), fallback)
        owners[bool(colleagues)] += 1
    assert owners[True] > 100


def test_an_idle_cycle_costs_the_same_few_calls_however_many_deals(
    pipeline: tuple[Stage, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    stage, said = pipeline
    with capsys.disabled():
        print(
            f"\nimport of {len(expected(stage))} of 300: {said['first'].calls} calls, {said['first'].seconds:.1f} s"
        )
        print(f"idle cycles after it: {[said[name].calls for name in ('second', 'third', 'fourth')]}")
    assert said["calls"] == said["first"].calls, "what is told is what was called"
    ours, theirs = said["first"].calls
    assert ours == 3
    assert theirs <= 40
    for name in ("third", "fourth"):
        ours, theirs = said[name].calls
        assert ours == 1
        assert theirs <= 3


def test_what_waits_for_a_person_is_listed_with_its_reason(pipeline: tuple[Stage, dict[str, Any]]) -> None:
    stage, said = pipeline
    rows = {row["referral_id"]: row for row in said["list"]}
    for referral_id in held(stage):
        assert rows[referral_id]["sync_state"] == "Needs attention"
        assert UNKNOWN_CURRENCY in rows[referral_id]["todo"]


def test_the_plan_of_an_import_is_what_the_import_then_did(pipeline: tuple[Stage, dict[str, Any]]) -> None:
    """One effect a field, the id that does not exist yet null; the moves' words are those of the record."""
    stage, said = pipeline
    plan = said["plan"]
    assert plan.keys() == {"effects", "conflicts", "holds"}
    shape = {"side", "referral_id", "opportunity_id", "action", "field", "old", "new", "rule"}
    planned: dict[str, dict[str, Any]] = {}
    for effect in plan["effects"]:
        assert effect.keys() == shape
        assert (effect["side"], effect["action"], effect["opportunity_id"]) == ("crm", "create", None)
        fields = planned.setdefault(effect["referral_id"], {})
        assert effect["field"] not in fields, "one effect a field"
        fields[effect["field"]] = effect["new"]
    assert planned.keys() == {referral["id"] for referral in expected(stage)}
    for referral_id, fields in planned.items():
        row = stage.deal(referral_id)
        for name in fields.keys() & row.keys() - {"AccountId", "Amount", "Cosell_Last_Sync__c"}:
            there = fields[name]
            if name == "Cosell_Respond_By__c":
                there, row[name] = (there or "")[:19], (row[name] or "")[:19]
            assert (there or None) == (row[name] or None), f"{referral_id} {name}"
    assert {hold["referral_id"] for hold in plan["holds"]} == held(stage)
    for hold in plan["holds"]:
        assert hold.keys() == {
            "referral_id",
            "opportunity_id",
            "field",
            "partner_center",
            "crm",
            "rule",
            "until",
        }


def test_leads_and_closed_referrals_come_too_where_that_is_asked_for(tmp_path: Path) -> None:
    for stage in staged(tmp_path, deals=60, seed=11):
        stage.env.update(COSELL_SYNC__IMPORT_CLOSED="true", COSELL_MAPPING__LEADS="import")
        stage.sync(expect=1)
        assert disagreements(stage, leads=True, closed=True) == []
        assert doubles(stage) == []
        for referral in expected(stage, leads=True, closed=True):
            row = stage.deal(referral)
            if referral["status"] == "Closed":
                assert row["Cosell_Sync_State__c"] == "Closed"
                if referral["statusReason"]:
                    assert referral["statusReason"] in row["Cosell_Message__c"]
            if is_lead(referral):
                assert row["Cosell_Deal_Type__c"] == "Lead"
        stage.quiet(expect=1)
        stage.quiet(expect=1)


def test_what_the_crm_already_has_is_used_and_what_it_cannot_hold_is_said(stage: Stage) -> None:
    """People without a login stay in Partner Center, contacts are found by e-mail, long names are cut."""
    customer = dict(stage.add("cosell")["customerProfile"])
    account = stage.sf.create(
        "Account", Name="Bergbahn AG", BillingPostalCode="7260", BillingCountry="CH", BillingStreet="Promenade 1",
        BillingCity="Davos",
    )  # fmt: skip
    known = stage.sf.create(
        "Contact",
        AccountId=account,
        FirstName="Ursina",
        LastName="Caduff",
        Email="Ursina.Caduff@bergbahn.example",
    )
    twin = {**customer["team"][0], "email": "ursina.caduff@bergbahn.example", "firstName": "Ursina", "lastName": "Caduff"}  # fmt: skip
    twin["phoneNumber"] = "+41 81 000111"
    deal = stage.add(
        "inbound_pending",
        name="N" * 119 + "ö and more than the CRM takes",
        details={"dealValue": 1234.565, "currency": "CHF", "closingDateTime": "2027-03-31T23:30:00Z", "notes": None},
        customerProfile={
            "name": "Bergbahn AG",
            "address": {**blank()["customerProfile"]["address"], "addressLine1": "Promenade 1", "city": "Davos",
                        "postalCode": "7260", "country": "CH"},
            "team": [twin, {**twin, "email": "Reto@Bergbahn.example", "firstName": None, "phoneNumber": None}],
        },
    )  # fmt: skip
    stage.sync()
    row = stage.deal(deal)
    assert row["AccountId"] == account
    assert row["Name"] == "N" * 119 + "ö"
    assert row["Amount"] == 1234.57
    assert row["CloseDate"] == "2027-03-31"
    people = stage.contacts(deal)
    assert people["ursina.caduff@bergbahn.example"]["Id"] == known
    assert people["ursina.caduff@bergbahn.example"]["role"]["IsPrimary"]
    assert disagreements(stage) == []
    assert doubles(stage) == []
    stage.quiet()
    stage.quiet()
    assert stage.mutations() == []


# -- the plan --------------------------------------------------------------------------------------------------------


def changes(before: Row, after: Row) -> dict[str, Any]:
    return {name: after[name] for name in before if before[name] != after[name]}


def test_a_plan_writes_nothing_and_names_what_the_next_sync_does(stage: Stage) -> None:
    """Updates, moves, what is told, conflicts and holds: planned = done, on both sides."""
    accepted = [stage.add(salesStage="20") for _ in range(4)]
    pending = [stage.add("inbound_pending") for _ in range(2)]
    stage.sync()
    stage.sync()
    stage.pc.edit(accepted[0]["id"], "details/dealValue", 777)
    stage.seller(accepted[1], CloseDate="2028-01-31", Cosell_Campaign_Id__c="AUTUMN")
    stage.seller(accepted[2], StageName="Closed Lost", Cosell_Reason__c="Budget insufficient")
    stage.pc.edit(accepted[3]["id"], "details/dealValue", 111)
    stage.seller(accepted[3], Amount=222)
    stage.seller(pending[0], Cosell_Action__c="Accept")
    stage.pc.decline(pending[1]["id"], "Other vendor chosen")
    rows = {referral["id"]: stage.deal(referral) for referral in (*accepted, *pending)}
    documents = {referral["id"]: stage.referral(referral) for referral in (*accepted, *pending)}
    bytes_before = stage.store.read_bytes()
    stage.forget_calls()
    plan = stage.cosell("plan", "--json").json()
    assert stage.mutations() == []
    assert stage.store.read_bytes() == bytes_before
    assert {i: stage.deal(i) for i in rows} == rows
    assert {i: stage.referral(i) for i in documents} == documents
    stage.sync()

    moves = {
        (effect["referral_id"], effect["side"], effect["old"], effect["new"])
        for effect in plan["effects"]
        if effect["action"] == "move"
    }
    assert moves == {
        (pending[0]["id"], "partner_center", "Received", "Accepted"),
        (pending[0]["id"], "crm", "Received", "Accepted"),
        (pending[1]["id"], "crm", "Received", "Declined"),
    }
    done: dict[str, dict[str, Any]] = {}
    for referral_id, row in rows.items():
        done[referral_id] = changes(row, stage.deal(referral_id))
    planned: dict[str, dict[str, Any]] = {}
    for effect in plan["effects"]:
        assert (effect["referral_id"], effect["opportunity_id"]) == (effect["referral_id"], rows[effect["referral_id"]]["Id"])  # fmt: skip
        if effect["side"] == "crm" and effect["action"] in {"update", "tell"}:
            planned.setdefault(effect["referral_id"], {})[effect["field"]] = effect["new"]
        if effect["side"] == "crm" and effect["action"] == "move":
            planned.setdefault(effect["referral_id"], {})["StageName"] = None
    derived = {"Probability", "ForecastCategory", "ForecastCategoryName", "ExpectedRevenue", "IsClosed", "IsWon", "LastModifiedDate", "LastModifiedById", "SystemModstamp", "FiscalYear", "FiscalQuarter"}  # fmt: skip
    for referral_id, changed in done.items():
        assert changed.keys() - derived == planned.get(referral_id, {}).keys(), json.dumps([changed, planned.get(referral_id)], indent=1)  # fmt: skip
    sent = {
        (effect["referral_id"], effect["field"]): effect["new"]
        for effect in plan["effects"]
        if effect["side"] == "partner_center" and effect["action"] == "update"
    }
    assert sent[accepted[1]["id"], "CloseDate"] == "2028-01-31"
    assert sent[accepted[1]["id"], "Cosell_Campaign_Id__c"] == "AUTUMN"
    assert float(sent[accepted[3]["id"], "Amount"]) == 222
    assert {referral_id for referral_id, _ in sent} == {
        accepted[1]["id"],
        accepted[3]["id"],
        pending[0]["id"],
    }
    assert [(item["referral_id"], item["field"], float(item["partner_center"]), float(item["crm"])) for item in plan["conflicts"]] == [(accepted[3]["id"], "Amount", 111, 222)]  # fmt: skip
    assert [(item["referral_id"], item["partner_center"], item["crm"]) for item in plan["holds"] if item["until"]] == [(accepted[2]["id"], "Accepted", "Lost")]  # fmt: skip
    assert [name for name, there, here in compared(stage, stage.referral(accepted[1]), stage.deal(accepted[1])) if there != here] == []  # fmt: skip
