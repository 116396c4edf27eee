"""The shared lifecycle: every legal move from where it starts, by stage and by Action; everything else refused and told.

Two plays over many deals at once: one in which moves go out at once, one in which ends wait out their hold.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from acting import Done, Row, Stage, staged
from judging import disagreements, doubles

from cosell_sync.sandbox.pipeline import Document

pytestmark = pytest.mark.wire

REASON = "Budget insufficient"
STANDBY, ACCEPTED = "Prospecting", "Qualification"
LABEL = "Co-sell reason"  # what the seller calls the field


@dataclass(frozen=True)
class Case:
    """A deal, what is done to it between two cycles, and how it must stand after the next."""

    kind: str
    status: str  # as the record says it afterwards
    stage: str
    state: str
    moves: tuple[str, ...] = ()  # substatus of each PATCH that moves it
    seller: Row = field(default_factory=dict)
    portal: str = ""
    says: tuple[str, ...] = ()  # patterns that the message must hold
    never: tuple[str, ...] = ()  # and such as it must not
    sends: Row = field(default_factory=dict)  # path → value of the first PATCH
    start: Row = field(default_factory=dict)


PENDING, RECEIVED, OPEN, OWN = "inbound_pending", "inbound_received", "inbound_accepted", "partner_led"
CASES = {
    # -- the seller's moves
    "accept by action": Case(PENDING, "Accepted", ACCEPTED, "In sync", ("Accepted",), {"Cosell_Action__c": "Accept"}, says=("[Aa]ccepted",), sends={"status": "Active", "substatus": "Accepted"}),
    "accept when seen": Case(RECEIVED, "Accepted", ACCEPTED, "In sync", ("Accepted",), {"Cosell_Action__c": "Accept"}),
    "accept by stage": Case(PENDING, "Accepted", "Needs Analysis", "In sync", ("Accepted",), {"StageName": "Needs Analysis"}, sends={"salesStage": "20"}),
    "accept with edits": Case(PENDING, "Accepted", ACCEPTED, "In sync", ("Accepted",), {"Cosell_Action__c": "Accept", "Amount": 77}, sends={"details/dealValue": 77}),
    "accept without a value": Case(PENDING, "Received", STANDBY, "Needs attention", (), {"Cosell_Action__c": "Accept"}, says=("Amount",), start={"details": {"dealValue": None}}),
    "edits before the answer": Case(PENDING, "Received", STANDBY, "Waiting", (), {"Amount": 78}, says=("Amount", "Accept")),
    "decline by action": Case(PENDING, "Declined", "Closed Lost", "Closed", ("Declined",), {"Cosell_Action__c": "Decline", "Cosell_Reason__c": REASON, "Cosell_Reason_Note__c": "next year"}, sends={"status": "Closed", "substatus": "Declined", "statusReason": f"{REASON}: next year"}),
    "decline by stage": Case(RECEIVED, "Declined", "Closed Lost", "Closed", ("Declined",), {"StageName": "Closed Lost", "Cosell_Reason__c": REASON}, sends={"statusReason": REASON}),
    "decline without a reason": Case(PENDING, "Received", STANDBY, "Needs attention", (), {"Cosell_Action__c": "Decline"}, says=(LABEL,)),
    "win": Case(OPEN, "Won", "Closed Won", "Closed", ("Won",), {"StageName": "Closed Won"}),
    "win our own": Case(OWN, "Won", "Closed Won", "Closed", ("Won",), {"StageName": "Closed Won"}),
    "win with edits": Case(OPEN, "Won", "Closed Won", "Closed", ("Won",), {"StageName": "Closed Won", "Amount": 500}, sends={"details/dealValue": 500}),
    "lose": Case(OPEN, "Lost", "Closed Lost", "Closed", ("Lost",), {"StageName": "Closed Lost", "Cosell_Reason__c": "Other"}, sends={"statusReason": "Other"}),
    "lose without a reason": Case(OPEN, "Accepted", "Closed Lost", "Needs attention", (), {"StageName": "Closed Lost"}, says=(LABEL,)),
    "win what was not answered": Case(PENDING, "Won", "Closed Won", "Closed", ("Accepted", "Won"), {"StageName": "Closed Won"}),
    # -- refused
    "accept twice": Case(OPEN, "Accepted", ACCEPTED, "In sync", (), {"Cosell_Action__c": "Accept"}, says=("Accept is not possible",)),
    "decline too late": Case(OPEN, "Accepted", ACCEPTED, "In sync", (), {"Cosell_Action__c": "Decline", "Cosell_Reason__c": REASON}, says=("Decline is not possible",)),
    # -- the portal's moves
    "portal accepts": Case(PENDING, "Accepted", ACCEPTED, "In sync", portal="accept", says=("accepted",)),
    "portal accepts far along": Case(PENDING, "Accepted", "Proposal/Price Quote", "In sync", portal="accept far along"),
    "portal wins": Case(OPEN, "Won", "Closed Won", "Closed", portal="win", says=("won",)),
    "portal loses": Case(OPEN, "Lost", "Closed Lost", "Closed", portal="lose", says=("Other vendor chosen",)),
    "portal declines": Case(RECEIVED, "Declined", "Closed Lost", "Closed", portal="decline", says=("Not a customer",)),
    "portal lets it expire": Case(PENDING, "Expired", "Closed Lost", "Closed", portal="expire", says=("expired",), start={"expirationDateTime": "2026-01-01T00:00:00.0000000Z"}),
    # -- both at once
    "both accept": Case(PENDING, "Accepted", ACCEPTED, "In sync", (), {"Cosell_Action__c": "Accept"}, "accept", never=("not possible",)),
    "both win": Case(OPEN, "Won", "Closed Won", "Closed", (), {"StageName": "Closed Won"}, "win"),
    "seller accepts, portal declines": Case(PENDING, "Declined", "Closed Lost", "Closed", (), {"Cosell_Action__c": "Accept"}, "decline", says=("Accept is not possible",)),
    "seller goes on, portal loses": Case(OPEN, "Lost", "Closed Lost", "Closed", (), {"StageName": "Negotiation/Review"}, "lose"),
    "seller loses, portal wins": Case(OPEN, "Won", "Closed Lost", "Conflict", (), {"StageName": "Closed Lost", "Cosell_Reason__c": REASON}, "win", says=("won", "Closed Lost")),
    "seller wins, portal loses": Case(OPEN, "Lost", "Closed Won", "Conflict", (), {"StageName": "Closed Won"}, "lose", says=("lost", "Closed Won")),
    "seller declines, portal declines": Case(PENDING, "Declined", "Closed Lost", "Closed", (), {"Cosell_Action__c": "Decline", "Cosell_Reason__c": REASON}, "decline", never=("not possible",)),
}  # fmt: skip
STUCK = {name for name, case in CASES.items() if case.state in {"Needs attention", "Conflict"}}


@dataclass
class Play:
    stage: Stage
    deals: dict[str, Document]
    after: dict[str, tuple[Document, Row]]
    patched: dict[str, list[Row]]
    told: Done


def move_in_portal(stage: Stage, how: str, referral_id: str) -> None:
    match how:
        case "accept far along":
            stage.pc.accept(referral_id, salesStage="60")
        case "expire":
            assert referral_id in stage.pc.expire_due()
        case "":
            pass
        case _:
            getattr(stage.pc, how)(referral_id)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Play]:
    for stage in staged(tmp_path_factory.mktemp("moves")):
        stage.env.update(COSELL_SYNC__TERMINAL_HOLD="0s", COSELL_SYNC__SURPRISE_MIN="1000")
        deals = {
            name: stage.add(case.kind, name=name, salesStage=None, **case.start)
            for name, case in CASES.items()
        }
        stage.sync()
        assert disagreements(stage) == []
        for name, case in CASES.items():
            if case.seller:
                stage.seller(deals[name], **case.seller)
            move_in_portal(stage, case.portal, deals[name]["id"])
        stage.forget_calls()
        told = stage.sync(expect=1)
        patched = {name: stage.patches(deal["id"]) for name, deal in deals.items()}
        stage.sync(expect=1)
        after = {name: (stage.referral(deal), stage.deal(deal)) for name, deal in deals.items()}
        stage.quiet(expect=1)
        yield Play(stage, deals, after, patched, told)


@pytest.mark.parametrize("name", CASES)
def test_a_move_ends_where_the_table_says(play: Play, name: str) -> None:
    case = CASES[name]
    referral, row = play.after[name]
    assert (row["Cosell_Status__c"], row["StageName"], row["Cosell_Sync_State__c"]) == (case.status, case.stage, case.state), row["Cosell_Message__c"]  # fmt: skip
    words = {"Received": {"Pending", "Received"}}.get(case.status, {case.status})
    assert referral["substatus"] in words
    patches = play.patched[name]
    assert [patch["substatus"] for patch in patches if "substatus" in patch] == list(case.moves)
    assert len(patches) == len(case.moves), "one PATCH a move, edits with the first"
    for path, value in case.sends.items():
        assert patches[0][path] == value
    message = row["Cosell_Message__c"] or ""
    for pattern in case.says:
        assert re.search(pattern, message), message
    for pattern in case.never:
        assert not re.search(pattern, message), message


@pytest.mark.parametrize("name", sorted({name for name, case in CASES.items() if "Cosell_Action__c" in case.seller} - STUCK))  # fmt: skip
def test_an_action_is_cleared_once_it_is_done_or_refused(play: Play, name: str) -> None:
    assert play.after[name][1]["Cosell_Action__c"] is None


def test_the_accept_carries_what_partner_center_wants_with_it(play: Play) -> None:
    """Both status fields in one document; value and close date stand."""
    for name in ("accept by action", "win what was not answered"):
        assert play.patched[name][0]["status"] == "Active"
        assert play.after[name][0]["details"]["dealValue"] is not None


def test_what_stands_in_the_way_shows_in_every_cycle_until_it_is_cured(play: Play) -> None:
    assert play.told.finished["rejected"] == len(
        {name for name in STUCK if CASES[name].state == "Needs attention"}
    )
    listed = play.stage.cosell("deals", "list", "--attention", "--json").json()
    assert {row["referral_id"] for row in listed} == {play.deals[name]["id"] for name in STUCK}


def test_once_cured_everything_goes_on_and_late_edits_are_told_and_left_alone(play: Play) -> None:
    """Last, for it changes what the others look at."""
    stage, deals = play.stage, play.deals
    stage.seller(deals["accept without a value"], Amount=900)
    stage.seller(deals["decline without a reason"], Cosell_Reason__c="Timeline too short")
    stage.seller(deals["lose without a reason"], Cosell_Reason__c="Other vendor chosen")
    stage.seller(deals["edits before the answer"], Cosell_Action__c="Accept")
    stage.seller(deals["seller loses, portal wins"], StageName="Closed Won")
    stage.seller(deals["seller wins, portal loses"], StageName="Closed Lost")
    late = {name: stage.referral(deals[name]) for name in ("win", "lose", "decline by action", "portal wins")}
    stage.seller(deals["win"], Amount=123456)
    stage.seller(deals["lose"], StageName="Negotiation/Review")
    stage.seller(deals["decline by action"], Cosell_Action__c="Accept")
    stage.seller(deals["portal wins"], Cosell_Notes__c="after the end")
    stage.forget_calls()
    stage.sync()
    stage.sync()
    expected = {
        "accept without a value": ("Active", "Accepted"),
        "decline without a reason": ("Closed", "Declined"),
        "lose without a reason": ("Closed", "Lost"),
        "edits before the answer": ("Active", "Accepted"),
        "seller loses, portal wins": ("Closed", "Won"),
        "seller wins, portal loses": ("Closed", "Lost"),
    }
    assert {name: stage.status(deals[name]) for name in expected} == expected
    assert stage.referral(deals["accept without a value"])["details"]["dealValue"] == 900
    assert stage.referral(deals["edits before the answer"])["details"]["dealValue"] == 78
    for name in ("seller loses, portal wins", "seller wins, portal loses"):
        assert stage.deal(deals[name])["Cosell_Sync_State__c"] == "Closed"
    for name, before in late.items():
        row = stage.deal(deals[name])
        assert stage.referral(deals[name]) == before
        assert stage.patches(deals[name]["id"]) == []
        assert row["Cosell_Sync_State__c"] == "Closed", row["Cosell_Message__c"]
    assert "Amount" in stage.deal(deals["win"])["Cosell_Message__c"]
    assert "Stage" in stage.deal(deals["lose"])["Cosell_Message__c"]
    assert "notes" in stage.deal(deals["portal wins"])["Cosell_Message__c"]
    assert "not possible" in stage.deal(deals["decline by action"])["Cosell_Message__c"]
    assert stage.deal(deals["decline by action"])["Cosell_Action__c"] is None
    stage.quiet()
    besides = [
        (deals["win"]["id"], "value"),
        (deals["lose"]["id"], "stage"),
        (deals["portal wins"]["id"], "notes"),
    ]
    assert disagreements(stage, besides=besides, held=[]) == []
    assert doubles(stage) == []


# -- the hold --------------------------------------------------------------------------------------------------------


def date_in(message: str) -> datetime:
    found = re.search(r"\d{4}-\d{2}-\d{2} \d{2}:\d{2} UTC", message)
    assert found, message
    return datetime.strptime(found[0], "%Y-%m-%d %H:%M UTC").replace(tzinfo=UTC)


def test_an_end_waits_out_its_hold_and_can_be_taken_back(tmp_path: Path) -> None:
    """Fifteen minutes by default: told with the moment, no exit code, no PATCH; a change of stage starts it anew."""
    for stage in staged(tmp_path):
        won, lost, declined, jumped, back, other = (
            stage.add(kind, salesStage=None) for kind in (OPEN, OPEN, PENDING, PENDING, OPEN, OPEN)
        )
        stage.sync()
        stage.seller(won, StageName="Closed Won")
        stage.seller(lost, StageName="Closed Lost", Cosell_Reason__c=REASON)
        stage.seller(declined, Cosell_Action__c="Decline", Cosell_Reason__c=REASON)
        stage.seller(jumped, StageName="Closed Won")
        stage.seller(back, StageName="Closed Won")
        stage.seller(other, StageName="Closed Lost", Cosell_Reason__c=REASON, Amount=31)
        stage.forget_calls()
        stage.sync()
        due = datetime.now(UTC) + timedelta(minutes=15)
        for deal in (won, lost, declined, jumped, back, other):
            row = stage.deal(deal)
            assert row["Cosell_Sync_State__c"] == "Waiting", row["Cosell_Message__c"]
            assert abs(date_in(row["Cosell_Message__c"]) - due) < timedelta(minutes=2)
            assert (
                stage.status(deal) == ("Active", "Accepted") if deal is not declined else ("New", "Pending")
            )
        assert [patch.get("substatus") for patch in stage.patches(jumped["id"])] == ["Accepted"], (
            "the accept at once"
        )
        assert stage.patches(won["id"]) == stage.patches(declined["id"]) == []
        assert stage.referral(other)["details"]["dealValue"] == 31, "edits do not wait for the end"
        assert re.search(r"72 hours", stage.deal(won)["Cosell_Message__c"])
        stage.quiet()
        # taken back, or changed to another end, in time
        stage.seller(back, StageName="Negotiation/Review")
        stage.seller(lost, StageName="Closed Won")
        stage.forget_calls()
        stage.sync()
        assert [set(patch) - {"externalReferenceId"} for patch in stage.patches(back["id"])] == [
            {"salesStage"}
        ]
        assert stage.deal(back)["Cosell_Sync_State__c"] == "In sync"
        assert "Won" in stage.deal(lost)["Cosell_Message__c"]
        assert stage.status(lost) == ("Active", "Accepted")
        # over: by the store's clock, across restarts
        stage.sync(COSELL_SYNC__TERMINAL_HOLD="1s")
        assert {name: stage.status(deal)[1] for name, deal in (("won", won), ("lost", lost), ("declined", declined), ("jumped", jumped), ("back", back), ("other", other))} == {
            "won": "Won", "lost": "Won", "declined": "Declined", "jumped": "Won", "back": "Accepted", "other": "Lost",
        }  # fmt: skip
        stage.sync()
        assert disagreements(stage) == []
        stage.quiet()
