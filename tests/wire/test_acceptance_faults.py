"""Bad weather without a crash: lost answers, limits, expired tokens, races. Nothing is lost, nothing is made twice.

Each deal of a play has notes that both sides add to, for a line that is sent twice would show.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from acceptance import Stage, staged, struck, waited
from comparison import disagreements, doubles
from crm_vocabulary import Row

from cosell_sync.sandbox.partner_center.schema import Document

pytestmark = pytest.mark.wire

REFERRALS = r"/engagements/referrals"
PATCH = {"method": "PATCH", "path": REFERRALS}
PERSON = {"firstName": "Nora", "lastName": "Né", "phoneNumber": "+1 2"}


@dataclass
class Play:
    """A stage with linked deals in store; each test takes its own."""

    stage: Stage
    linked: Iterator[Document]

    def edited(self) -> Document:
        """A linked deal that both sides have just added to."""
        stage, deal = self.stage, next(self.linked)
        stage.seller(deal, value=4321, notes="one\ntwo\nthe seller's")
        team = [*deal["customerProfile"]["team"], {**PERSON, "email": f"nora@{deal['id'][:8]}.example"}]
        stage.pc.edit(deal["id"], {"details/notes": "the portal's\none\ntwo", "customerProfile/team": team})
        return deal


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Iterator[Play]:
    for stage in staged(tmp_path_factory.mktemp("faults"), crm):
        stage.env.update(
            COSELL_SYNC__TERMINAL_HOLD="0s",
            COSELL_SYNC__SURPRISE_MIN="1000",
            COSELL_SYNC__SURPRISE_MOVES="1000",
        )
        deals = [stage.add(details={"notes": "one\ntwo"}) for _ in range(20)]
        stage.sync()
        yield Play(stage, iter(deals))


@pytest.fixture
def stage(play: Play) -> Stage:
    return play.stage


def carried(stage: Stage, *deals: Document) -> None:
    for deal in deals:
        document, row = stage.referral(deal), stage.deal(deal)
        assert document["details"]["dealValue"] == 4321
        assert sorted(row["notes"].split("\n")) == ["one", "the portal's", "the seller's", "two"]
        assert row["sync_state"] == "In sync", row["message"]
    assert disagreements(stage) == []
    assert doubles(stage) == []


def test_lost_answers_to_patches_are_settled_by_the_next_cycle(play: Play) -> None:
    """Cut before the answer, in the middle of it, or reported as failed: no fault of the deal, no exit code."""
    stage, faults = play.stage, play.stage.servers[0].faults
    deals = [play.edited() for _ in range(3)]
    for deal, kind in zip(deals, ("reset_after", "truncate", "answer"), strict=True):
        faults.add(kind, method="PATCH", path=deal["id"], status=500, applied=True)
    stage.sync()
    assert not faults.pending()
    assert {stage.deal(deal)["sync_state"] for deal in deals} == {"In sync"}
    assert stage.sync().finished["failed"] == 0
    carried(stage, *deals)


LOST_IN_THE_CRM = {
    "write": ("reset_after", "write", {}),
    "write, reported as failed": ("answer", "write", {"status": 503, "applied": True}),
    "new contact": ("reset_after", "contact", {}),
    "new role": ("reset_after", "person", {}),
}


@pytest.mark.parametrize("what", LOST_IN_THE_CRM)
def test_a_lost_answer_of_the_crm_is_settled_by_the_next_cycle(play: Play, what: str) -> None:
    kind, call, match = LOST_IN_THE_CRM[what]
    stage, deal, server = play.stage, play.edited(), play.stage.servers[1]
    server.faults.add(kind, **stage.crm.calls[call], **match)
    stage.sync()
    assert struck(server)()
    assert stage.deal(deal)["sync_state"] == "In sync", stage.deal(deal)["message"]
    assert stage.sync().finished["failed"] == 0
    carried(stage, deal)


@pytest.mark.parametrize("arrived", [True, False])
def test_an_edit_after_a_lost_write_is_no_conflict(play: Play, *, arrived: bool) -> None:
    """The record itself shows whether our write arrived, so the seller's next edit costs nobody anything."""
    stage, deal, server = play.stage, next(play.linked), play.stage.servers[1]
    stage.pc.edit(deal["id"], {"details/dealValue": 5151, "campaignId": "LOST"})
    server.faults.add(
        "reset_after" if arrived else "reset_before", applied=arrived, **stage.crm.calls["write"]
    )
    stage.sync()
    assert struck(server)()
    stage.seller(deal, close_date="2031-03-03")
    assert stage.sync().finished["conflicts"] == 0
    row, document = stage.deal(deal), stage.referral(deal)
    assert (row["value"], row["campaign_id"]) == (5151, "LOST")
    assert (document["details"]["dealValue"], document["campaignId"]) == (5151, "LOST")
    assert document["details"]["closingDateTime"].startswith("2031-03-03")
    assert disagreements(stage) == []


@pytest.mark.parametrize("table", ["account", "opportunity", "solution"])
def test_a_lost_answer_to_a_create_makes_nothing_twice(stage: Stage, table: str) -> None:
    deal = stage.add("cosell", customerProfile={"name": f"Lost {table} AG"})
    server = stage.servers[1]
    server.faults.reset_after(**stage.crm.calls[table])
    stage.sync()
    assert struck(server)()
    stage.sync()
    assert stage.deal(deal)["sync_state"] == "In sync"
    assert disagreements(stage) == []
    assert doubles(stage) == []


SLOW_DOWN = {"statusCode": 429, "message": "slow down"}
EXPIRED = {"error": {"code": "unauthenticated", "message": "expired"}}
LIST = {"method": "GET", "path": REFERRALS}
# To Partner Center by a fault's match, to the CRM by the name of the call.
PASSING: dict[str, tuple[tuple[str | Row, Row], ...]] = {
    "too many calls": (
        (LIST, {"status": 429, "headers": {"Retry-After": "2"}, "answer": SLOW_DOWN}),
        (PATCH, {"status": 429, "headers": {"Retry-After": "1"}, "answer": SLOW_DOWN}),
        ("query", {"status": 429, "headers": {"Retry-After": "1"}}),
    ),
    "overload": (
        (LIST, {"status": 503, "headers": {"Retry-After": "1"}}),
        ("query", {"status": 503, "headers": {"Retry-After": "1"}}),
    ),
    "expired tokens": (
        (PATCH, {"status": 401, "answer": EXPIRED}),
        ("query", {"status": 401}),
        ("write", {"status": 401}),
    ),
}


@pytest.mark.parametrize("what", PASSING)
def test_what_passes_is_waited_out_and_nobody_hears_of_it(play: Play, what: str) -> None:
    """``Retry-After`` to the second; a token is renewed once; the edits go out in the same cycle."""
    stage, deal = play.stage, play.edited()
    ours, theirs = stage.servers
    for call, fault in PASSING[what]:
        if isinstance(call, str):
            answer = {"answer": stage.crm.expired} if fault["status"] == 401 else {}
            theirs.faults.add("answer", **stage.crm.calls[call], **answer, **fault)
        else:
            ours.faults.add("answer", **call, **fault)
    stage.forget_calls()
    done = stage.sync()
    assert all(struck(server)() for server in stage.servers)
    assert done.finished["failed"] == 0
    waits = sum(int(fault.get("headers", {}).get("Retry-After", 0)) for _, fault in PASSING[what])
    assert done.finished["duration_s"] >= waits
    assert done.calls == stage.api_calls(), "retries count"
    carried(stage, deal)


def test_tokens_that_expire_between_two_calls_are_renewed(play: Play) -> None:
    """Both sides at once, in the middle of a cycle; the new refresh token is the one that is used next."""
    stage, deal = play.stage, play.edited()
    stage.pc.entra.strict_rotation = True
    stage.servers[0].faults.delay(1.0, **PATCH)
    process = stage.start("sync")
    waited(struck(stage.servers[0]), "the PATCH to be under way", process=process)
    stage.pc.expire_tokens()
    stage.crm.world.expire_sessions()
    done = stage.finish(process, ("sync",))
    assert done.code == 0, str(done)
    carried(stage, deal)
    stage.quiet()


def test_an_edit_between_reading_and_patching_is_merged(play: Play) -> None:
    """412: read again, decide again."""
    stage, deal = play.stage, play.edited()
    stage.forget_calls()
    stage.servers[0].faults.delay(1.0, **PATCH)
    process = stage.start("sync")
    waited(struck(stage.servers[0]), "the PATCH to be under way", process=process)
    stage.pc.edit(deal["id"], "campaignId", "RACE")
    done = stage.finish(process, ("sync",))
    assert done.code == 0, str(done)
    assert [call.status for call in stage.servers[0].calls.matching("PATCH")] == [412, 200]
    stage.sync()
    assert stage.deal(deal)["campaign_id"] == "RACE"
    carried(stage, deal)


def test_an_edit_between_reading_and_writing_the_crm_is_not_overwritten(play: Play) -> None:
    """Of another field, of the same field, of a row around the deal."""
    stage = play.stage
    other, same, contact = (next(play.linked) for _ in range(3))
    for deal in (other, same, contact):
        stage.pc.edit(deal["id"], {"details/dealValue": 5000, "campaignId": "PC"})
    person = stage.contacts(contact)[contact["customerProfile"]["team"][0]["email"]]
    for row in stage.crm.rows("opportunity"):  # the contact may be on several deals
        if any(each["id"] == person["id"] for each in stage.crm.contacts(row["id"])):
            stage.crm.edit("opportunity", row["id"], consent=True)
    stage.servers[1].faults.delay(1.5, **stage.crm.calls["write"])
    process = stage.start("sync")
    waited(struck(stage.servers[1]), "the write to be under way", process=process)
    stage.seller(other, close_date="2029-01-01")
    stage.seller(same, value=6000)
    stage.crm.edit("contact", person["id"], phone="+49 999")
    done = stage.finish(process, ("sync",))
    assert done.code == 0, str(done)
    stage.sync()
    for deal in (other, same, contact):
        row, document = stage.deal(deal), stage.referral(deal)
        assert row["campaign_id"] == "PC"
        # Both edited the value: the CRM's is kept by default.
        assert row["value"] == document["details"]["dealValue"] == (6000 if deal is same else 5000)
    told = stage.deal(same)["message"]
    assert "5,000" in told
    assert "6,000" in told
    assert stage.referral(other)["details"]["closingDateTime"].startswith("2029-01-01")
    assert stage.referral(contact)["customerProfile"]["team"][0]["phoneNumber"] == "+49 999"
    assert disagreements(stage) == []


def test_a_hanging_patch_is_given_up_and_settled_later(play: Play) -> None:
    stage, deal = play.stage, play.edited()
    stage.servers[0].faults.hang(applied=True, **PATCH)
    done = stage.sync(COSELL_SYNC__CALL_TIMEOUT="1s")
    assert done.finished["duration_s"] < 20
    stage.sync()
    carried(stage, deal)


def test_one_bad_deal_harms_no_other(tmp_path: Path, crm: str) -> None:
    """It is tried again with growing pauses, then parked; a change of the record frees it, and so does a person."""
    for stage in staged(tmp_path, crm):
        bad, good = stage.add(), stage.add()
        stage.sync()
        words = 'The field dealValue has "odd" contents: 7ß.'
        refusal = {
            "error": {
                "code": "invalidRequest",
                "message": words,
                "target": "details.dealValue",
                "innerError": None,
            }
        }
        stage.servers[0].faults.answer(400, refusal, times=None, path=bad["id"])
        stage.seller(bad, value=7)
        stage.seller(good, value=8)
        env = {"COSELL_SYNC__MAX_ATTEMPTS": "2"}
        first = stage.sync(expect=1, **env)
        assert first.finished["failed"] == 1
        assert stage.referral(good)["details"]["dealValue"] == 8
        row = stage.deal(bad)
        assert (row["sync_state"], words in row["message"]) == ("Needs attention", True)
        assert words not in first.err, "another system's words go to the record, never to a log"
        assert stage.deal(good)["sync_state"] == "In sync"
        stage.forget_calls()
        second = stage.sync(expect=1, **env)  # the first retry is due at once, and is the last
        assert len(stage.patches(bad["id"])) == 1
        assert second.finished["parked"] == 1
        stage.forget_calls()
        third = stage.sync(expect=1, **env)
        assert stage.patches(bad["id"]) == []
        assert third.finished["parked"] == 1
        listed = stage.cosell("deals", "list", "--attention", "--json").json()
        assert [(row["referral_id"], row["parked"]) for row in listed] == [(bad["id"], True)]
        stage.cosell("deals", "retry", bad["id"])
        stage.sync(expect=1, **env)
        assert len(stage.patches(bad["id"])) == 1
        stage.servers[0].faults.clear()
        stage.seller(bad, value=9)
        stage.sync(**env)
        assert stage.referral(bad)["details"]["dealValue"] == 9
        assert stage.deal(bad)["sync_state"] == "In sync"
        assert disagreements(stage) == []


def test_a_system_that_goes_away_ends_the_cycle_and_loses_nothing(play: Play) -> None:
    """Exit 3 with one ``cycle.finished``: overload, a redirect, nonsense in place of an answer."""
    stage, deal = play.stage, play.edited()
    weather = (
        (0, "answer", {"status": 503, "headers": {"Retry-After": "0"}}),
        (0, "redirect", {"status": 302, "headers": {"Location": "https://portal.example/login"}}),
        (1, "wrong_json", {"answer": ["unexpected"]}),
    )
    for number, kind, match in weather:
        server = stage.servers[number]
        server.faults.add(kind, path=(REFERRALS, stage.crm.calls["any"]["path"])[number], times=None, **match)
        started = time.monotonic()
        done = stage.sync(expect=None)
        assert done.code == 3, f"{kind} {match}\n{done}"
        assert done.finished["written"] == {"partner_center": 0, "crm": 0}
        assert ("partner_center", stage.crm.name)[number] in done.sentences
        assert time.monotonic() - started < 60
        server.faults.clear()
    stage.sync()
    carried(stage, deal)
