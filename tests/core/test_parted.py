"""A write in pieces: whatever a side refuses, everything else lands, and nothing counts as landed that did not."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.fields import inseparable
from cosell_sync.core.parted import PartedWrite
from cosell_sync.errors import Rejected

FIELDS = ("value", "currency", "close_date", "notes", "campaign_id", "name", "team", "contacts", "solutions")
RIDERS = frozenset({"message", "external_reference"})
MOVE = frozenset({"status", "status_reason"})


class Side:
    """Refuses a piece that holds anything of ``bad``, and may name what."""

    def __init__(self, bad: frozenset[str], *, names: bool) -> None:
        self.bad = bad
        self.names = names
        self.landed: list[str] = []
        self.refusals = 0
        self.pieces = 0
        self.moved_at: int | None = None

    def play(self, write: PartedWrite) -> None:
        while (piece := write.next_piece()) is not None:
            self.pieces += 1
            assert piece
            assert not piece & set(self.landed), "nothing is sent twice once it landed"
            assert self.moved_at is None, "nothing follows the move"
            if wrong := piece & self.bad:
                self.refusals += 1
                write.refused(Rejected("no"), sorted(wrong)[:1] if self.names else ())
            else:
                self.landed += piece
                self.moved_at = self.pieces if piece & MOVE else None
                write.landed()


some = st.sets(st.sampled_from(FIELDS))


@given(fields=some, bad=some, names=st.booleans(), moves=st.booleans(), riders=st.booleans())
def test_what_landed_and_what_was_refused_are_all_there_is_and_never_the_same(
    fields: set[str], bad: set[str], names: bool, moves: bool, riders: bool
) -> None:
    side = Side(frozenset(bad), names=names)
    write = PartedWrite(sorted(fields), RIDERS if riders else (), MOVE if moves else ())
    side.play(write)
    whole = fields | (RIDERS if riders else set()) | (MOVE if moves else set())
    assert write.error is None
    assert set(side.landed) | write.refusals.keys() == whole
    assert not set(side.landed) & write.refusals.keys()
    assert fields & bad <= write.refusals.keys()
    assert not moves or set(side.landed) >= MOVE, "the move lands whatever fields are refused"
    for unit in inseparable(fields):
        assert unit <= set(side.landed) or unit <= write.refusals.keys()


@given(fields=st.sets(st.sampled_from(FIELDS), min_size=1), data=st.data(), moves=st.booleans())
def test_one_cause_is_found_by_halves_and_alone(fields: set[str], data: st.DataObject, moves: bool) -> None:
    """At most log2 n pieces to find it, and one that takes the rest along."""
    bad = data.draw(st.sampled_from(sorted(fields)))
    side = Side(frozenset({bad}), names=False)
    write = PartedWrite(sorted(fields), RIDERS, MOVE if moves else ())
    side.play(write)
    (cause,) = [unit for unit in inseparable(fields) if bad in unit]
    assert write.refusals.keys() == cause
    assert side.pieces <= 1 + math.ceil(math.log2(len(inseparable(fields)))) + 1


def test_what_is_named_costs_one_piece_more() -> None:
    side = Side(frozenset({"close_date"}), names=True)
    write = PartedWrite(FIELDS, RIDERS, MOVE)
    side.play(write)
    assert (write.refusals.keys(), side.pieces) == ({"close_date"}, 2)


def test_nothing_refused_is_one_piece() -> None:
    side = Side(frozenset(), names=False)
    write = PartedWrite(FIELDS, RIDERS, MOVE)
    side.play(write)
    assert (write.refusals, side.pieces) == ({}, 1)


def test_a_refused_move_lets_the_fields_in() -> None:
    side = Side(frozenset({"status"}), names=True)
    write = PartedWrite(FIELDS, (), MOVE)
    side.play(write)
    assert (write.refusals.keys(), write.error) == ({"status"}, None)
    assert set(side.landed) == set(FIELDS)


def test_a_move_that_is_refused_without_a_name_lets_the_fields_in() -> None:
    """It is the last suspect once everything else was tried without what the search had found."""
    for fields in (FIELDS, ("notes",)):
        side = Side(frozenset({"status"}), names=False)
        write = PartedWrite(fields, (), MOVE)
        side.play(write)
        assert (write.refusals.keys(), write.error) == (MOVE, None)
        assert set(side.landed) == set(fields)


@given(fields=some, bad=some, names=st.booleans(), riders=st.booleans())
def test_what_goes_along_never_goes_alone_and_words_only_with_the_whole(
    fields: set[str], bad: set[str], names: bool, riders: bool
) -> None:
    side = Side(frozenset(bad), names=names)
    moves = {"accept"} if riders else set()
    write = PartedWrite(sorted(fields), moves, along={"external_reference"}, words={"message"})
    side.play(write)
    landed = set(side.landed)
    assert ("message" in landed) is not bool(fields & bad)
    assert ("external_reference" in landed) is (bool(landed & (fields | moves)) or not fields & bad)
    assert not {"message", "external_reference"} & write.refusals.keys()
    assert (write.error is None) is bool(landed | write.refusals.keys())


def test_a_refusal_of_what_goes_along_lets_the_rest_in() -> None:
    for extra in ("message", "external_reference"):
        side = Side(frozenset({extra}), names=True)
        write = PartedWrite(FIELDS, (), along={"external_reference"}, words={"message"})
        side.play(write)
        assert (write.refusals, write.error, side.pieces) == ({}, None, 2)
        assert set(side.landed) >= set(FIELDS)
    alone = Side(frozenset({"message"}), names=True)
    write = PartedWrite((), (), words={"message"})
    alone.play(write)
    assert write.error is not None


def test_what_cannot_be_left_out_is_an_error() -> None:
    for names in (True, False):
        side = Side(frozenset({"message"}), names=names)
        write = PartedWrite(FIELDS, RIDERS, MOVE)
        side.play(write)
        assert write.error is not None
        assert not side.landed


def test_without_a_search_only_a_name_helps() -> None:
    for names in (True, False):
        side = Side(frozenset({"notes"}), names=names)
        write = PartedWrite(FIELDS, RIDERS, MOVE, search=False)
        side.play(write)
        assert (write.error is None, side.pieces) == ((True, 2) if names else (False, 1))
