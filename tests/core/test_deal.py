"""The values themselves: what is not known, what a snapshot answers, when two readings are one."""

from __future__ import annotations

from datetime import date

import pytest
from deals import NOW

from cosell_sync.core.deal import ABSENT, Snapshot, Value, same_version


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("1", "1", True), ("1?", "1", True), ("1", "1?", True), ("1?", "1?", True), ("1", "2?", False), ("?1", "1", False)],
)  # fmt: skip
def test_a_version_read_too_soon_is_the_same_version(one: str, other: str, *, same: bool) -> None:
    assert same_version(one, other) is same


@pytest.mark.parametrize(
    ("value", "text", "flag", "moment"),
    [
        ("x", "x", False, None),
        (True, "", True, None),
        (False, "", False, None),
        (NOW, "", False, NOW),
        (date(2026, 3, 2), "", False, None),
        (None, "", False, None),
        (ABSENT, "", False, None),
    ],
)
def test_a_snapshot_answers_only_for_the_right_kind(
    value: Value, text: str, moment: Value, *, flag: bool
) -> None:
    held = Snapshot("R1", "1", {"it": value})
    assert (held.text("it"), held.flag("it"), held.moment("it")) == (text, flag, moment)
    assert held["it"] == value
    assert held["else"] is ABSENT


def test_what_is_not_known_says_so_in_a_log() -> None:
    assert repr(ABSENT) == "ABSENT"
