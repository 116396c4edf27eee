"""Questions that settle themselves over the wire, both CRMs: each in every world that the sandbox can play.

The world is chosen by the sandbox's control address, as a person would from a shell.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from acceptance import Done, Stage, staged

pytestmark = pytest.mark.wire

WORLDS = {"taken": True, "ignored": "ignored", "refused": False}


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def world(stage: Stage, **switches: object) -> None:
    trusted = ssl.create_default_context(cafile=stage.environment()["SSL_CERT_FILE"])
    url = f"{stage.servers[0].url}/_sandbox/switches"
    assert httpx.patch(url, json=switches, verify=trusted).json().items() >= switches.items()


def settled(done: Done, about: str = "mapping.") -> dict[str, tuple[str, str]]:
    found = [each for each in done.named("doubt.settled") if each["capability"].startswith(about)]
    return {each["capability"].removeprefix(about): (each["answer"], each["code"]) for each in found}


def sent(stage: Stage, deal: Any) -> list[set[str]]:
    """The paths of each PATCH since the calls were forgotten."""
    return [set(patch) for patch in stage.patches(deal["id"])]


def checks(stage: Stage) -> dict[str, str]:
    found = stage.cosell("doctor", "--json", expect=None).json()["checks"]
    return {each["name"]: each["message"] for each in found}


def test_a_name_and_a_heart_entered_with_the_accept_reach_partner_center(stage: Stage) -> None:
    """No setting, no artificial edit: the deal that has something to send is the try, and the only one."""
    world(stage, accept_name=True, accept_favorite=True)
    deal, other = stage.add("inbound_pending"), stage.add("inbound_pending")
    stage.sync()
    stage.forget_calls()
    stage.seller(deal, name="A name of ours", favorite=True, value=91000, action="Accept")
    planned = stage.cosell("plan", "--json").json()["effects"]
    tries = {stage.crm.word(each["field"]): each["rule"] for each in planned if "a try:" in each["rule"]}
    assert tries.keys() == {"name", "favorite"}
    assert stage.patches(deal["id"]) == []
    done = stage.sync()
    assert sent(stage, deal) == [{"status", "substatus", "details/dealValue", "externalReferenceId"}, {"name"}, {"favorite"}]  # fmt: skip
    assert settled(done) == {"write_name": ("yes", "taken"), "write_favorite": ("yes", "taken")}
    there = stage.referral(deal)
    assert (there["name"], there["favorite"], there["status"]) == ("A name of ours", True, "Active")
    stage.sync()
    stage.quiet()
    stage.seller(other, name="Another name of ours", favorite=True, action="Accept")
    stage.forget_calls()
    done = stage.sync()
    assert sent(stage, other) == [{"status", "substatus", "name", "favorite", "externalReferenceId"}]
    assert settled(done) == {}
    stage.pc.edit(deal["id"], {"name": "Renamed in the portal", "favorite": False})
    stage.sync()
    row = stage.deal(deal)
    assert (row["name"], row["favorite"]) == ("Renamed in the portal", False)
    stage.sync()
    stage.quiet()


@pytest.mark.parametrize("kind", ["ignored", "refused"])
def test_what_is_not_taken_stays_in_the_crm_holds_nothing_and_costs_one_call(stage: Stage, kind: str) -> None:
    world(stage, accept_name=WORLDS[kind], accept_favorite=WORLDS[kind])
    deal, other = stage.add(name="Theirs"), stage.add(name="Theirs too")
    stage.sync()
    stage.forget_calls()
    stage.seller(deal, name="Ours", favorite=True, value=91000, stage="Won")
    stage.seller(other, name="Ours too")
    done = stage.sync(COSELL_SYNC__TERMINAL_HOLD="0s")
    code = "ignored" if kind == "ignored" else "invalidRequest"
    assert settled(done) == {"write_name": ("no", code), "write_favorite": ("no", code)}
    assert (done.finished["failed"], done.finished["conflicts"]) == (0, 0)
    assert stage.status(deal) == ("Closed", "Won")
    every = [*sent(stage, deal), *sent(stage, other)]
    assert sorted(map(sorted, every)) == [
        ["details/dealValue", "externalReferenceId", "status", "substatus"],
        ["favorite"],
        ["name"],
    ], "one of the two tried the name"
    for each, name, theirs in ((deal, "Ours", "Theirs"), (other, "Ours too", "Theirs too")):
        row = stage.deal(each)
        assert (row["name"], stage.referral(each)["name"]) == (name, theirs)
    row = stage.deal(other)
    words = stage.crm.spoken("{name} stays as you wrote it in the CRM but was not sent")
    assert (row["sync_state"], row["message"].count(words)) == ("In sync", 1)
    stage.sync()
    stage.quiet()
    stage.seller(other, value=7)
    stage.forget_calls()
    done = stage.sync()
    assert sent(stage, other) == [{"details/dealValue", "externalReferenceId"}]
    assert settled(done) == {}
    told = checks(stage)["mapping.write_name"]
    assert told.startswith("auto found out: no (")
    assert "may be tried once more from " in told


FORMS = [
    ("percent", "refused", "stored"),
    ("percent", "ignored", "stored"),
    ("name", "refused", "stored"),
    ("name", "ignored", "stored"),
    ("name", "refused", "percent"),
    ("percent", "ignored", "name"),
]


@pytest.mark.parametrize(("taken", "other", "shown"), FORMS)
def test_the_sales_stage_finds_its_form(stage: Stage, taken: str, other: str, shown: str) -> None:
    """By what is read, by a refusal, by a success that changed nothing; then every PATCH is right at once."""
    world(stage, sales_stage=taken, other_sales_stage=other, shown_sales_stage=shown)
    known = {"percent": "20", "name": "Qualify"}[taken]
    deal = stage.add(salesStage=known)
    stage.sync()
    stage.sync()
    stage.seller(deal, stage="Propose")
    stage.forget_calls()
    stage.sync()
    right = {"percent": "60", "name": "Propose"}[taken]
    assert stage.referral(deal)["salesStage"] == right
    misled = shown not in {"stored", taken}
    assert len(sent(stage, deal)) == 1 + misled
    assert checks(stage)["mapping.sales_stage_wire"].startswith(f"auto found out: {taken} (a call")
    stage.sync()
    stage.quiet()
    stage.seller(deal, stage="Close")
    stage.forget_calls()
    stage.sync()
    assert [patch["salesStage"] for patch in stage.patches(deal["id"])] == [
        {"percent": "80", "name": "Close"}[taken]
    ]


def test_a_sales_stage_that_was_never_seen_is_tried(stage: Stage) -> None:
    """Nothing was read; the refusal names the property, the other form goes with everything else of the change."""
    world(stage, sales_stage="name")
    deal = stage.add(salesStage=None)
    stage.sync()
    stage.seller(deal, stage="Propose", value=91000)
    stage.forget_calls()
    done = stage.sync()
    assert [patch["salesStage"] for patch in stage.patches(deal["id"])] == ["60", "Propose"]
    assert stage.referral(deal)["details"]["dealValue"] == 91000
    assert settled(done) == {"sales_stage_wire": ("name", "taken")}
    assert done.finished["failed"] == 0


@pytest.mark.parametrize("world_of", ["unquoted", "quoted", "refused"])
def test_the_filter_of_the_list_is_remembered_by_the_next_process(stage: Stage, world_of: str) -> None:
    """Each `sync` is a process of its own: only the first one asks in vain."""
    world(stage, date_filter=world_of)
    stage.add()
    stage.sync()
    done = stage.sync()
    answer = (world_of, "invalidRequest" if world_of == "refused" else "taken")
    assert settled(done, "partner_center.") == {"changes_filter": answer}
    done = stage.quiet()
    assert settled(done, "partner_center.") == {}
    assert done.calls[0] == 1
    assert checks(stage)["partner_center.changes_filter"].startswith(f"auto found out: {world_of}")


def test_doctor_names_an_owner_whom_the_crm_does_not_know(stage: Stage) -> None:
    """Else each deal without a colleague's name silently belongs to the sync user. No address is repeated: a bundle holds this."""
    stage.env["COSELL_MAPPING__DEFAULT_OWNER"] = "nobody@example.com"
    stage.env["COSELL_MAPPING__OWNER_BY_LOCATION"] = '{"4711": "also-nobody"}'
    told = checks(stage)
    for key in ("mapping.default_owner", "mapping.owner_by_location.4711"):
        assert told[key].startswith("no active user has this name or address")
        assert "nobody" not in told[key]
    del stage.env["COSELL_MAPPING__OWNER_BY_LOCATION"]
    stage.env["COSELL_MAPPING__DEFAULT_OWNER"] = "ida.kern@nordlicht.example"
    assert "mapping.default_owner" not in checks(stage)


def test_doctor_says_what_would_find_out(stage: Stage) -> None:
    told = checks(stage)
    assert told["mapping.write_name"] == "not known yet; found out with the first rename in the CRM"
    stage.env["COSELL_MAPPING__WRITE_NAME"] = "true"
    assert "mapping.write_name" not in checks(stage), "what is configured is no question"
