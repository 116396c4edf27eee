"""How a budget stands, what it still allows and how fast it may be used: values in, values out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import State
from cosell_sync.core.quota import DAY, Allowance, Level, Urgency, allows, foresee, pace, today, urgency

MINUTE = timedelta(minutes=1)
PURSES = st.builds(
    Allowance,
    used=st.integers(0, 100_000),
    ceiling=st.integers(1, 100_000),
    span=st.timedeltas(timedelta(seconds=1), DAY),
    rolling=st.booleans(),
)


@pytest.mark.parametrize(
    ("used", "span", "level"),
    [
        (0, DAY, Level.AMPLE),
        (49, DAY, Level.AMPLE),
        (51, DAY, Level.TIGHT),
        (76, DAY, Level.LOW),
        (91, DAY, Level.SCARCE),
        (100, DAY, Level.SPENT),
        (130, DAY, Level.SPENT),
        (74, DAY / 2, Level.AMPLE),  # 26 % for half of a day is as good as 52 % for a whole one
        (99, DAY / 96, Level.SCARCE),  # but a last call is a last call, also just before midnight
    ],
)
def test_a_level_weighs_what_is_left_against_the_time_it_must_last(
    used: int, span: timedelta, level: Level
) -> None:
    assert Allowance(used, 100, span).level is level


@pytest.mark.parametrize(
    ("used", "level"), [(79, Level.AMPLE), (81, Level.TIGHT), (91, Level.LOW), (97, Level.SCARCE)]
)
def test_a_limit_that_others_use_as_well_is_ample_for_longer(used: int, level: Level) -> None:
    assert Allowance(used, 100, rolling=True).level is level


def test_each_level_allows_one_kind_less_and_the_answer_goes_last() -> None:
    allowed = {level: [what for what in Urgency if allows(level, what)] for level in Level}
    assert allowed[Level.AMPLE] == list(Urgency)
    assert allowed[Level.TIGHT] == [Urgency.ANSWER, Urgency.STATUS, Urgency.FIELDS]
    assert allowed[Level.LOW] == [Urgency.ANSWER, Urgency.STATUS]
    assert allowed[Level.SCARCE] == [Urgency.ANSWER]
    assert allowed[Level.SPENT] == []


def test_an_answer_is_more_urgent_than_any_other_move_and_that_more_than_fields() -> None:
    assert urgency([State.ACCEPTED, State.WON]) is Urgency.ANSWER
    assert urgency([State.DECLINED]) is Urgency.ANSWER
    assert urgency([State.LOST]) is Urgency.STATUS
    assert urgency([], fresh=True) is Urgency.STATUS
    assert urgency([]) is Urgency.FIELDS


@given(allowance=PURSES, per_look=st.floats(1, 50))
def test_looking_never_takes_more_than_half_of_what_is_left(allowance: Allowance, per_look: float) -> None:
    """Unless only a limit that rolls is spent nearly to its end: that is looked at hourly."""
    pause = pace(allowance, per_look, MINUTE)
    assert pause >= MINUTE
    if allowance.left and not allowance.rolling:
        looks = allowance.span // pause
        assert looks <= 1 or looks * per_look <= allowance.left / 2 + per_look


def test_an_ample_budget_slows_nothing_down() -> None:
    assert pace(Allowance(0, 100_000), 3.0, MINUTE) == MINUTE


def test_a_forecast_says_whether_it_lasts_at_the_configured_pace() -> None:
    lasting = foresee(Allowance(0, 3000), 2.0, 1.0, MINUTE)
    short = foresee(Allowance(1000, 3000), 2.0, 1.0, MINUTE)
    assert (lasting.expected, lasting.lasts, lasting.pause) == (2880, True, MINUTE)
    assert (short.expected, short.lasts) == (3880, False)


def test_the_day_ends_at_midnight_utc() -> None:
    assert today(3, 10, datetime(2026, 5, 4, 18, tzinfo=UTC)) == Allowance(3, 10, timedelta(hours=6))
