"""What stands on the record: a function of the deal and of passed deadlines only, so that a deal at rest is never written."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from deals import NOW, SHAPE, at_rest, here, remembering, rules, there

from cosell_sync.core import messages
from cosell_sync.core.deal import Side, State, SyncState, Value
from cosell_sync.core.decision import Decision
from cosell_sync.core.fields import STATUS_FIELDS
from cosell_sync.core.memory import INTERNAL_ERROR, Failure, Link
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import Policy, Rules
from cosell_sync.core.status import StatusReport, facts, status_report

DAY = timedelta(days=1)
REFUSED = Failure(Side.PARTNER_CENTER, "not_liked", "Value too small.", NOW)
AWAY = replace(REFUSED, transient=True)


def said(link: Link, *news: str, rule: Rules | None = None, later: timedelta = timedelta()) -> StatusReport:
    return status_report(decide(link, rule or rules(), SHAPE, NOW + later), news, SHAPE, NOW + later)


def written(link: Link, told: StatusReport) -> Link:
    """The record after it was told."""
    return here(told.link, **told.fields)


DEALS = {
    "at rest": at_rest(),
    "waits for an answer": at_rest(State.RECEIVED),
    "won": at_rest(State.WON),
    "edited while unanswered": here(at_rest(State.RECEIVED), value=Decimal(5)),
    "held": here(at_rest(), name="Other", value=None),
    "asked": there(here(at_rest(), value=Decimal(5)), value=Decimal(6)),
    "closing": here(at_rest(), stage="Closed Won"),
    "late": here(at_rest(State.LOST), value=Decimal(5)),
    "both over": there(here(at_rest(), stage="Closed Won"), state="Lost"),
    "paused": here(at_rest(), sync=False),
    "unknown": at_rest(State.UNKNOWN),
    "refused": remembering(at_rest(), failure=REFUSED, attempts=2, next_attempt=NOW + DAY),
    "parked": remembering(at_rest(), failure=REFUSED, parked=True),
    "gone": remembering(at_rest(), gone=Side.PARTNER_CENTER),
}
ASK = rules({"value": Policy.ASK})


@pytest.mark.parametrize("name", DEALS)
def test_told_once_and_then_at_rest(name: str) -> None:
    """Nothing more is written: not by the next look, and not because time goes by, until a deadline passes."""
    told = said(DEALS[name], "News.", rule=ASK)
    link = written(DEALS[name], told)
    until = told.link.due or NOW + 1000 * DAY
    for later in (timedelta(), timedelta(seconds=1), until - NOW - timedelta(seconds=1)):
        assert said(link, rule=ASK, later=later).fields == {}


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("at rest", SyncState.IN_SYNC, ""),
        ("waits for an answer", SyncState.IN_SYNC, "choose Accept or Decline"),
        ("won", SyncState.CLOSED, "over in Partner Center (won)"),
        ("edited while unanswered", SyncState.WAITING, "Accepting also sends your Amount"),
        ("held", SyncState.NEEDS_ATTENTION, "Partner Center needs Amount"),
        ("asked", SyncState.CONFLICT, "changed on both sides"),
        ("closing", SyncState.WAITING, "2 Mar 2026, 10:15 UTC"),
        ("late", SyncState.CLOSED, "after the end and not sent: Amount"),
        ("both over", SyncState.CONFLICT, "cannot be changed any more"),
        ("paused", SyncState.WAITING, "Paused"),
        ("unknown", SyncState.WAITING, "As Partner Center words it"),
        ("refused", SyncState.NEEDS_ATTENTION, "Value too small. Please correct it"),
        ("parked", SyncState.NEEDS_ATTENTION, "ask your administrator"),
        ("gone", SyncState.NEEDS_ATTENTION, "cannot be found"),
    ],
)
def test_the_state_and_its_words(name: str, state: SyncState, words: str) -> None:
    told = said(replace(DEALS[name], dirty=True), rule=ASK)
    assert told.state is state
    assert words in told.message
    assert told.link.memory.sync_state is state
    assert told.link.dirty is False


def test_what_the_record_does_not_take_is_not_written() -> None:
    link = at_rest(State.WON)
    assert said(link, "Sent.").fields["message"] == said(link, "Sent.").message
    assert link.opportunity is not None
    locked = replace(
        link,
        opportunity=replace(
            link.opportunity, readonly=frozenset(link.opportunity.fields) | STATUS_FIELDS.keys()
        ),
    )
    told = said(locked, "Sent.")
    assert told.fields == {}
    assert "Sent." in told.message


def test_the_last_news_stays_until_the_next() -> None:
    first = said(at_rest(), "Sent.", "Sent.")
    assert first.message == "Sent."
    assert said(written(at_rest(), first)).message == "Sent."
    assert said(written(at_rest(), first), "Taken.").message == "Taken."


def test_a_deal_without_its_referral_is_told_what_is_known() -> None:
    told = status_report(Decision(replace(at_rest(), referral=None)), ("News.",), SHAPE, NOW)
    assert (told.message, told.state, told.fields) == (
        "News.",
        SyncState.IN_SYNC,
        {"message": "News.", "sync_state": "In sync"},
    )


def test_without_its_referral_a_gone_one_is_still_told() -> None:
    gone = remembering(replace(at_rest(), referral=None), gone=Side.PARTNER_CENTER)
    assert status_report(Decision(gone), (), SHAPE, NOW).state is SyncState.NEEDS_ATTENTION


def test_what_a_person_must_do_comes_first() -> None:
    held = said(here(at_rest(), value=None), "Sent.")
    assert held.message.index("needs Amount") < held.message.index("Sent.")
    waits = said(here(at_rest(), stage="Closed Won"), "Sent.")
    assert waits.message.index("Sent.") < waits.message.index("Won goes")


def test_fields_are_called_what_the_crm_calls_them() -> None:
    """A seller who looks for Action finds Co-sell action."""
    shape = replace(
        SHAPE, labels={"action": "Co-sell action", "sync": "Co-sell sync", "reason": "Co-sell reason"}
    )

    def told(link: Link) -> str:
        return status_report(decide(link, rules(), shape, NOW), (), shape, NOW).message

    unanswered = there(at_rest(State.RECEIVED), respond_by=NOW + 10 * DAY)
    assert "choose Accept or Decline under Co-sell action." in told(unanswered)
    assert "switch Co-sell sync on, and what you chose under Co-sell action" in told(
        here(unanswered, sync=False)
    )
    assert "until Co-sell sync is switched on" in told(here(at_rest(), sync=False))
    assert "choose a reason under Co-sell reason." in told(here(unanswered, stage="Closed Lost"))


@pytest.mark.parametrize(("days", "reminder"), [(10, 0), (7, 1), (4, 1), (3, 2), (2, 2), (1, 3), (0, 3)])
def test_reminders(days: int, reminder: int) -> None:
    """At 7, 3 and 1 days; the text gives the date, never what remains."""
    until = NOW + days * DAY
    link = there(at_rest(State.RECEIVED), respond_by=until)
    told = said(link)
    assert told.reminder == reminder
    assert f"Answer by {until.day} Mar 2026: choose Accept or Decline under Action." in told.message
    assert ("eminder" in told.message) is (reminder > 0)
    coming = [until - span * DAY for span in (7, 3, 1) if until - span * DAY > NOW]
    assert told.link.due == min(coming, default=None)


def test_no_reminder_once_it_is_answered() -> None:
    assert said(there(at_rest(), respond_by=NOW + DAY)).reminder == 0
    assert "Answer by" not in said(here(at_rest(State.RECEIVED), action="Accept")).message


def test_a_passing_fault_is_told_after_a_quarter_of_an_hour() -> None:
    link = remembering(here(at_rest(), value=Decimal(5)), failure=AWAY, next_attempt=NOW)
    assert said(link).message == ""
    assert said(link).link.due == NOW, "it is tried now"
    assert said(remembering(link, next_attempt=None)).link.due == NOW + timedelta(minutes=15)
    late = said(link, later=timedelta(minutes=15))
    assert (late.state, "since 2 Mar 2026, 10:00 UTC" in late.message) == (SyncState.WAITING, True)


def test_the_end_of_a_hold_is_the_next_look() -> None:
    assert said(here(at_rest(), stage="Closed Won")).link.due == NOW + timedelta(minutes=15)


def test_refused_by_our_own_checks() -> None:
    assert said(here(at_rest(), value=None)).link.memory.rejected
    assert not said(here(at_rest(), name="Other")).link.memory.rejected


@pytest.mark.parametrize(
    ("state", "status"), [(State.RECEIVED, "Received"), (State.WON, "Won"), (State.UNKNOWN, None)]
)
def test_the_facts_of_the_referral(state: State, status: str | None) -> None:
    """An unknown state is not written; an answered deal has no deadline."""
    known: dict[str, Value] = {
        "referral_link": "https://x",
        "respond_by": NOW,
        "microsoft_status": "Active / Accepted",
        "microsoft_id": "7-1",
    }
    link = there(at_rest(state), **known)
    known |= {"referral_id": "R1", "direction": "Inbound", "deal_type": "Co-sell"}
    known["respond_by"] = NOW if state is State.RECEIVED else None
    if status:
        known["status"] = status
    assert facts(link) == known
    newer = remembering(link, microsoft={"status": "Closed / Won", "id": "7-2"})
    assert facts(newer) == {**known, "microsoft_status": "Closed / Won", "microsoft_id": "7-2"}
    assert facts(replace(link, referral=None)) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [("sync_state", "Conflict"), ("message", "typed over"), ("status", "Lost"), ("respond_by", NOW)],
)
def test_what_was_typed_over_is_put_right(name: str, value: Value) -> None:
    link = written(at_rest(), said(at_rest()))
    assert said(here(link, **{name: value})).fields.keys() == {name}


def test_a_field_the_crm_lacks_is_not_told() -> None:
    bare = replace(SHAPE, fields=frozenset({"status"}))
    told = status_report(Decision(there(at_rest(), state="Won")), (), bare, NOW)
    assert told.fields == {"status": "Won"}


def test_last_sync_is_written_with_the_change_only() -> None:
    carried = remembering(at_rest(), carried_at=NOW)
    assert said(carried).fields["last_sync"] == NOW
    assert "last_sync" not in said(at_rest()).fields


def test_an_internal_error_is_not_laid_at_a_systems_door() -> None:
    """The seller reads neither that the CRM refused something nor where in the program it happened."""
    failure = replace(REFUSED, code=INTERNAL_ERROR, text=messages.broken())
    report = said(remembering(at_rest(), failure=failure, attempts=1, next_attempt=NOW + DAY))
    assert (report.state, report.message) == (SyncState.NEEDS_ATTENTION, messages.broken())
