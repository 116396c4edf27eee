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
from acceptance import Done, Stage, staged
from comparison import disagreements, doubles
from crm_vocabulary import Row

from cosell_sync.sandbox.partner_center.schema import Document

pytestmark = pytest.mark.wire

REASON = "Budget insufficient"
STANDBY, ACCEPTED = "Standby", "Accepted"
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
    says: tuple[str, ...] = ()  # patterns that the message must hold, as `Crm.spoken` reads them
    never: tuple[str, ...] = ()  # and such as it must not
    sends: Row = field(default_factory=dict)  # path → value of the first PATCH
    start: Row = field(default_factory=dict)


PENDING, RECEIVED, OPEN, OWN = "inbound_pending", "inbound_received", "inbound_accepted", "partner_led"
CASES = {
    # -- the seller's moves
    "accept by action": Case(PENDING, "Accepted", ACCEPTED, "In sync", ("Accepted",), {"action": "Accept"}, says=("[Aa]ccepted",), sends={"status": "Active", "substatus": "Accepted"}),
    "accept when seen": Case(RECEIVED, "Accepted", ACCEPTED, "In sync", ("Accepted",), {"action": "Accept"}),
    "accept by stage": Case(PENDING, "Accepted", "Qualify", "In sync", ("Accepted",), {"stage": "Qualify"}, sends={"salesStage": "20"}),
    "accept with edits": Case(PENDING, "Accepted", ACCEPTED, "In sync", ("Accepted",), {"action": "Accept", "value": 77}, sends={"details/dealValue": 77}),
    "accept without a value": Case(PENDING, "Received", STANDBY, "Needs attention", (), {"action": "Accept"}, says=("{value}",), start={"details": {"dealValue": None}}),
    "edits before the answer": Case(PENDING, "Received", STANDBY, "Waiting", (), {"value": 78}, says=("{value}", "Accept")),
    "decline by action": Case(PENDING, "Declined", "Lost", "Closed", ("Declined",), {"action": "Decline", "reason": REASON, "reason_note": "next year"}, sends={"status": "Closed", "substatus": "Declined", "statusReason": f"{REASON}: next year"}),
    "decline by stage": Case(RECEIVED, "Declined", "Lost", "Closed", ("Declined",), {"stage": "Lost", "reason": REASON}, sends={"statusReason": REASON}),
    "decline without a reason": Case(PENDING, "Received", STANDBY, "Needs attention", (), {"action": "Decline"}, says=(LABEL,)),
    "win": Case(OPEN, "Won", "Won", "Closed", ("Won",), {"stage": "Won"}),
    "win our own": Case(OWN, "Won", "Won", "Closed", ("Won",), {"stage": "Won"}),
    "win with edits": Case(OPEN, "Won", "Won", "Closed", ("Won",), {"stage": "Won", "value": 500}, sends={"details/dealValue": 500}),
    "lose": Case(OPEN, "Lost", "Lost", "Closed", ("Lost",), {"stage": "Lost", "reason": "Other"}, sends={"statusReason": "Other"}),
    "lose without a reason": Case(OPEN, "Accepted", "Lost", "Needs attention", (), {"stage": "Lost"}, says=(LABEL,)),
    "win what was not answered": Case(PENDING, "Won", "Won", "Closed", ("Accepted", "Won"), {"stage": "Won"}),
    # -- refused
    "accept twice": Case(OPEN, "Accepted", ACCEPTED, "In sync", (), {"action": "Accept"}, says=("Accept is not possible",)),
    "decline too late": Case(OPEN, "Accepted", ACCEPTED, "In sync", (), {"action": "Decline", "reason": REASON}, says=("Decline is not possible",)),
    # -- the portal's moves
    "portal accepts": Case(PENDING, "Accepted", ACCEPTED, "In sync", portal="accept", says=("accepted",)),
    "portal accepts far along": Case(PENDING, "Accepted", "Propose", "In sync", portal="accept far along"),
    "portal wins": Case(OPEN, "Won", "Won", "Closed", portal="win", says=("won",)),
    "portal loses": Case(OPEN, "Lost", "Lost", "Closed", portal="lose", says=("Other vendor chosen",)),
    "portal declines": Case(RECEIVED, "Declined", "Lost", "Closed", portal="decline", says=("Not a customer",)),
    "portal lets it expire": Case(PENDING, "Expired", "Lost", "Closed", portal="expire", says=("expired",), start={"expirationDateTime": "2026-01-01T00:00:00.0000000Z"}),
    # -- both at once
    "both accept": Case(PENDING, "Accepted", ACCEPTED, "In sync", (), {"action": "Accept"}, "accept", never=("not possible",)),
    "both win": Case(OPEN, "Won", "Won", "Closed", (), {"stage": "Won"}, "win"),
    "seller accepts, portal declines": Case(PENDING, "Declined", "Lost", "Closed", (), {"action": "Accept"}, "decline", says=("Accept is not possible",)),
    "seller goes on, portal loses": Case(OPEN, "Lost", "Lost", "Closed", (), {"stage": "Close"}, "lose"),
    "seller loses, portal wins": Case(OPEN, "Won", "Lost", "Conflict", (), {"stage": "Lost", "reason": REASON}, "win", says=("won", "{Lost}")),
    "seller wins, portal loses": Case(OPEN, "Lost", "Won", "Conflict", (), {"stage": "Won"}, "lose", says=("lost", "{Won}")),
    "seller declines, portal declines": Case(PENDING, "Declined", "Lost", "Closed", (), {"action": "Decline", "reason": REASON}, "decline", never=("not possible",)),
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
def play(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Iterator[Play]:
    for stage in staged(tmp_path_factory.mktemp("moves"), crm):
        # Without mapped reasons, so that both CRMs ask for ours; what Dynamics' own say has a test below.
        stage.env.update(
            COSELL_SYNC__TERMINAL_HOLD="0s",
            COSELL_SYNC__SURPRISE_MIN="1000",
            COSELL_SYNC__SURPRISE_MOVES="1000",
            COSELL_MAPPING__REASONS="{}",
        )
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
    # A sales stage that the platform filled in says no more than the status reason does.
    stage = ACCEPTED if row["stage"] == play.stage.crm.unclaimed != case.stage else row["stage"]
    assert (row["status"], stage, row["sync_state"]) == (case.status, case.stage, case.state), row["message"]
    words = {"Received": {"Pending", "Received"}}.get(case.status, {case.status})
    assert referral["substatus"] in words
    patches = play.patched[name]
    assert [patch["substatus"] for patch in patches if "substatus" in patch] == list(case.moves)
    assert len(patches) == len(case.moves), "one PATCH a move, edits with the first"
    for path, value in case.sends.items():
        if path == "salesStage" and case.stage == play.stage.crm.unclaimed:
            continue  # the platform filled it in, so it is nobody's claim
        assert patches[0][path] == value
    message = row["message"] or ""
    for pattern in case.says:
        assert re.search(play.stage.crm.spoken(pattern), message), message
    for pattern in case.never:
        assert not re.search(pattern, message), message


@pytest.mark.parametrize("name", sorted({name for name, case in CASES.items() if "action" in case.seller} - STUCK))  # fmt: skip
def test_an_action_is_cleared_once_it_is_done_or_refused(play: Play, name: str) -> None:
    assert play.after[name][1]["action"] is None


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
    stage.seller(deals["accept without a value"], value=900)
    stage.seller(deals["decline without a reason"], reason="Timeline too short")
    stage.seller(deals["lose without a reason"], reason="Other vendor chosen")
    stage.seller(deals["edits before the answer"], action="Accept")
    stage.seller(deals["seller loses, portal wins"], stage="Won")
    stage.seller(deals["seller wins, portal loses"], stage="Lost")
    late = {name: stage.referral(deals[name]) for name in ("win", "lose", "decline by action", "portal wins")}
    stage.seller(deals["win"], value=123456)
    stage.seller(deals["lose"], stage="Close")
    stage.seller(deals["decline by action"], action="Accept")
    stage.seller(deals["portal wins"], notes="after the end")
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
        assert stage.deal(deals[name])["sync_state"] == "Closed"
    for name, before in late.items():
        row = stage.deal(deals[name])
        assert stage.referral(deals[name]) == before
        assert stage.patches(deals[name]["id"]) == []
        assert row["sync_state"] == "Closed", row["message"]
    assert stage.crm.spoken("{value}") in stage.deal(deals["win"])["message"]
    assert stage.crm.spoken("{stage}") in stage.deal(deals["lose"])["message"]
    assert "notes" in stage.deal(deals["portal wins"])["message"]
    assert "not possible" in stage.deal(deals["decline by action"])["message"]
    assert stage.deal(deals["decline by action"])["action"] is None
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
    found = re.search(r"\d{1,2} \w{3} \d{4}, \d{2}:\d{2} UTC", message)
    assert found, message
    return datetime.strptime(found[0], "%d %b %Y, %H:%M UTC").replace(tzinfo=UTC)


def test_an_end_waits_out_its_hold_and_can_be_taken_back(tmp_path: Path, crm: str) -> None:
    """Fifteen minutes by default: told with the moment, no exit code, no PATCH; a change of stage starts it anew."""
    for stage in staged(tmp_path, crm):
        won, lost, declined, jumped, back, other = (
            stage.add(kind, salesStage=None) for kind in (OPEN, OPEN, PENDING, PENDING, OPEN, OPEN)
        )
        stage.sync()
        stage.seller(won, stage="Won")
        stage.seller(lost, stage="Lost", reason=REASON)
        stage.seller(declined, action="Decline", reason=REASON)
        stage.seller(jumped, stage="Won")
        stage.seller(back, stage="Won")
        stage.seller(other, stage="Lost", reason=REASON, value=31)
        stage.forget_calls()
        stage.sync()
        due = datetime.now(UTC) + timedelta(minutes=15)
        for deal in (won, lost, declined, jumped, back, other):
            row = stage.deal(deal)
            assert row["sync_state"] == "Waiting", row["message"]
            assert abs(date_in(row["message"]) - due) < timedelta(minutes=2)
            unanswered = deal in (declined, jumped)
            assert stage.status(deal) == (("New", "Pending") if unanswered else ("Active", "Accepted"))
        assert "Accepted and Won" in stage.deal(jumped)["message"]
        for deal in (won, declined, jumped):
            assert stage.patches(deal["id"]) == [], "the accept before an end waits with it"
        assert stage.referral(other)["details"]["dealValue"] == 31, "edits do not wait for the end"
        assert re.search(r"72 hours", stage.deal(won)["message"])
        stage.quiet()
        # taken back, or changed to another end, in time
        stage.seller(back, stage="Close")
        stage.seller(lost, stage="Won")
        stage.forget_calls()
        stage.sync()
        assert [set(patch) - {"externalReferenceId"} for patch in stage.patches(back["id"])] == [
            {"salesStage"}
        ]
        assert stage.deal(back)["sync_state"] == "In sync"
        assert stage.deal(back)["message"].startswith("Your Won was taken back in time")
        assert "Sent to" not in stage.deal(back)["message"]
        assert "Won" in stage.deal(lost)["message"]
        assert stage.status(lost) == ("Active", "Accepted")
        # over: by the store's clock, across restarts
        stage.wait_a_second()
        stage.sync(COSELL_SYNC__TERMINAL_HOLD="1s")
        assert {name: stage.status(deal)[1] for name, deal in (("won", won), ("lost", lost), ("declined", declined), ("jumped", jumped), ("back", back), ("other", other))} == {
            "won": "Won", "lost": "Won", "declined": "Declined", "jumped": "Won", "back": "Accepted", "other": "Lost",
        }  # fmt: skip
        stage.sync()
        assert disagreements(stage) == []
        stage.quiet()


# -- closed rows -----------------------------------------------------------------------------------------------------


def test_where_a_closed_row_takes_nothing_the_end_is_carried_and_its_words_wait_in_the_list(
    tmp_path: Path,
) -> None:
    """Dynamics only, as it is by default: every Salesforce org lets a closed opportunity be edited.

    The portal's end is written before the row is closed, so it is told on the record.
    """
    for stage in staged(tmp_path, "dynamics", COSELL_SYNC__TERMINAL_HOLD="0s"):
        stage.crm.world.closed_rows_writable = False
        del stage.env["COSELL_DYNAMICS__CLOSED_ROWS"]
        ours, theirs = stage.add(), stage.add()
        stage.sync()
        stage.seller(ours, stage="Won")
        stage.pc.lose(theirs["id"])
        stage.sync()
        assert stage.status(ours) == ("Closed", "Won")
        assert stage.deal(ours)["status"] == "Accepted"
        row = stage.deal(theirs)
        assert (row["stage"], row["status"], row["sync_state"]) == ("Lost", "Lost", "Closed")
        listed = {
            each["referral_id"]: each for each in stage.cosell("deals", "list", "--all", "--json").json()
        }
        assert (listed[ours["id"]]["sync_state"], listed[ours["id"]]["untold"]) == ("Closed", True)
        assert "closed record takes no writes" in listed[ours["id"]]["todo"]
        stage.quiet()


def test_where_a_closed_row_takes_our_words_it_is_found_out_and_they_are_true(tmp_path: Path) -> None:
    """closed_rows: auto, as it is by default: one try on a real closed row."""
    for stage in staged(tmp_path, "dynamics", COSELL_SYNC__TERMINAL_HOLD="0s"):
        del stage.env["COSELL_DYNAMICS__CLOSED_ROWS"]
        deals = [stage.add(), stage.add()]
        stage.sync()
        for deal in deals:
            stage.seller(deal, stage="Won")
        stage.sync()
        assert [(stage.deal(deal)["status"], stage.deal(deal)["sync_state"]) for deal in deals] == [
            ("Won", "Closed")
        ] * 2
        stage.quiet()


def test_lost_in_the_stock_dialog_the_status_reason_is_the_reason(tmp_path: Path) -> None:
    """The dialog knows nothing of our Reason: the normal way of losing in Dynamics. One that is not mapped asks for it."""
    for stage in staged(tmp_path, "dynamics", COSELL_SYNC__TERMINAL_HOLD="0s"):
        world = stage.crm.world
        world.add_status_reason("No budget", "Lost")
        given = {"Canceled": "Other", "Out-Sold": "Other vendor chosen", "No budget": None}
        deals = {reason: stage.add(name=reason) for reason in given}
        stage.sync()
        for reason, deal in deals.items():
            world.close(stage.deal(deal)["id"], won=False, reason=reason)
        stage.sync(expect=1)
        sent = {reason: stage.referral(deal)["statusReason"] for reason, deal in deals.items()}
        assert sent == given
        asked = stage.deal(deals["No budget"])
        assert asked["sync_state"] == "Needs attention"
        assert stage.crm.spoken(LABEL) in asked["message"]


def test_an_org_that_locks_closed_opportunities_has_done_deals(tmp_path: Path) -> None:
    """Salesforce: a validation rule against changes of closed opportunities. Nothing fails, and nothing is parked."""
    for stage in staged(tmp_path, "salesforce", COSELL_SYNC__TERMINAL_HOLD="0s"):
        stage.crm.world.closed_rows_writable = False
        won, accepted = stage.add(), stage.add()
        stage.sync()
        stage.seller(won, stage="Won")
        for _ in range(3):
            assert stage.sync().finished["parked"] == 0
        listed = {row["referral_id"]: row for row in stage.cosell("deals", "list", "--json").json()}
        assert (listed[won["id"]]["sync_state"], listed[won["id"]]["untold"]) == ("Closed", True)
        assert not listed[accepted["id"]]["untold"]
        stage.quiet()


def test_an_approval_holds_a_deal_without_end_and_without_a_fault(tmp_path: Path) -> None:
    """Salesforce: ENTITY_IS_LOCKED."""
    for stage in staged(tmp_path, "salesforce"):
        deal = stage.add()
        stage.sync()
        row_id = stage.deal(deal)["id"]
        stage.crm.world.lock(row_id)
        stage.pc.edit(deal["id"], {"details/dealValue": 4711})
        stage.sync()
        stage.sync()
        (listed,) = stage.cosell("deals", "list", "--json").json()
        assert (listed["locked"], listed["parked"], listed["sync_state"]) == (True, False, "Waiting")
        assert "locked" in listed["todo"]
        stage.crm.world.unlock(row_id)
        stage.seller(deal, notes="signed by legal")
        stage.sync()
        assert stage.deal(deal)["value"] == 4711
        stage.quiet()
