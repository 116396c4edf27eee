"""What counts as an answer, how long it stands, and where a try stands among the steps of a deal."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from deals import NOW as AT
from deals import SHAPE, at_rest, here, rules

from cosell_sync.core.capabilities import (
    FAILED,
    IGNORED,
    NO,
    READ,
    TAKEN,
    YES,
    Capability,
    Verdict,
    again_at,
    evidence,
    found_of,
    stands,
)
from cosell_sync.core.deal import ABSENT, Snapshot, State, Step, Value
from cosell_sync.core.decision import Decision
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import Rules

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("before", "sent", "after", "says"),
    [
        ("Old", "New", "New", True),
        ("Old", "New", "  New ", True),
        ("Old", "New", "Old", False),
        ("Old", "New", "Theirs", None),
        ("Old", "New", ABSENT, None),
        ("New", "New", "New", None),
        (ABSENT, "New", "New", True),
        (ABSENT, "New", None, None),
    ],
)
def test_a_name_that_stands_there_was_taken_and_an_old_one_was_not(
    before: Value, sent: Value, after: Value, says: bool | None
) -> None:
    """A value that is neither says nothing, and neither does one that stood there before, or cannot be read."""
    there = (Snapshot("R", "1", {"name": value}) for value in (before, after))
    first, second = there
    assert evidence("name", first, Step({"name": sent}), second) is says


@pytest.mark.parametrize(
    ("capability", "answer", "code", "asked_again_after"),
    [
        (Capability.WRITE_NAME, YES, TAKEN, None),
        (Capability.WRITE_NAME, NO, "invalidRequest", 30 * DAY),
        (Capability.WRITE_NAME, NO, IGNORED, 30 * DAY),
        (Capability.WRITE_FAVORITE, NO, FAILED, DAY),
        (Capability.SALES_STAGE, "name", READ, None),
        (Capability.SALES_STAGE, "percent", IGNORED, 30 * DAY),
        (Capability.CHANGES_FILTER, "refused", "invalidRequest", 30 * DAY),
        (Capability.CLOSED_ROWS, NO, "FIELD_CUSTOM_VALIDATION_EXCEPTION", DAY),
        (Capability.CLOSED_ROWS, YES, TAKEN, None),
    ],
)
def test_only_a_no_is_asked_again(
    capability: Capability, answer: str, code: str, asked_again_after: timedelta | None
) -> None:
    verdict = Verdict(capability, answer, code, NOW, "v1.0")
    again = again_at(verdict)
    assert (again and again - NOW) == asked_again_after
    assert stands(verdict, "v1.0", NOW)
    assert stands(verdict, "v1.0", NOW + 400 * DAY) is (asked_again_after is None)
    assert not stands(verdict, "v2.0", NOW), "another version of the interface"
    assert not stands(verdict, None, NOW), "configured now"


def test_what_was_found_becomes_a_rule() -> None:
    name = Verdict(Capability.WRITE_NAME, NO, IGNORED, NOW)
    heart = Verdict(Capability.WRITE_FAVORITE, YES, TAKEN, NOW)
    others = Verdict(Capability.SALES_STAGE, "name", READ, NOW)
    assert found_of([name, heart, others]) == {"name": False, "favorite": True}
    mine = rules(write_name=None, write_favorite=None, found=found_of([name]))
    assert (mine.takes("name"), mine.takes("favorite"), mine.takes("value")) == (False, None, True)
    assert replace(mine, write_name=True).takes("name") is True, "what is configured is not asked"


@pytest.mark.parametrize(
    ("state", "stage", "expected"),
    [
        (State.ACCEPTED, "Qualification", [(("value",), None, False), (("name",), None, True)]),
        (State.ACCEPTED, "Closed Won", [(("name",), None, True), (("value",), State.WON, False)]),
        (State.RECEIVED, "Qualification", [(("value",), State.ACCEPTED, False), (("name",), None, True)]),
        (State.RECEIVED, "Closed Lost", [(("value",), State.DECLINED, False)]),
        (State.RECEIVED, "Prospecting", []),
    ],
)
def test_a_try_stands_alone_after_the_accept_and_before_the_end(
    state: State, stage: str, expected: list[tuple[tuple[str, ...], State | None, bool]]
) -> None:
    """Whatever becomes of it, the rest of the deal goes on; a deal that is declined tries nothing."""
    steps = edited(state, stage, rules(write_name=None, terminal_hold=timedelta())).steps
    told = [
        (tuple(name for name in step.fields if name in {"name", "value"}), step.state, step.trial)
        for step in steps
    ]
    assert told == expected


def test_once_it_is_known_the_name_goes_along_or_stays() -> None:
    taken, kept = (
        edited(State.ACCEPTED, "Qualification", rules(write_name=None, found={"name": answer})).steps[0]
        for answer in (True, False)
    )
    assert {"name", "value"} <= taken.fields.keys()
    assert "name" not in kept.fields
    assert not taken.trial
    assert not kept.trial


def edited(state: State, stage: str, mine: Rules) -> Decision:
    """The seller gave the deal another name and value, and moved it there."""
    fields = {"name": "New", "value": Decimal(5), "reason": "Other"}
    return decide(here(at_rest(state), stage=stage, **fields), mine, SHAPE, AT)  # type: ignore[arg-type]
