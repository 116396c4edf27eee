"""The three-way merge of one member of a set that both sides have: attribute by attribute, a person's names as one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from cosell_sync.core.deal import Member, Side, Solution, hidden_parts
from cosell_sync.core.frozen import replace

Record = Member | Solution


@dataclass(frozen=True)
class Pair:
    """One member on both sides; ``stored``: what the CRM can store of Partner Center's."""

    there: Record
    stored: Record
    here: Record


def merge_record(
    pair: Pair, was_there: Record | None, was_here: Record | None, prefer: Side
) -> tuple[Record, Record, bool]:
    """Attribute by attribute; on first sight an empty attribute is filled, never emptied."""
    there, here = pair.there, pair.here
    unseen = hidden_parts(there) | hidden_parts(here)
    without_base = hidden_parts(was_there) | hidden_parts(was_here)
    up: dict[str, object] = {}
    down: dict[str, object] = {}
    clash = False
    for names in _parts(there):
        part = tuple(name for name in names if name not in unseen)
        value_there, stored = _held(there, part), _held(pair.stored, part)
        # what stands here cut is what stands there whole
        value_here = tuple(
            whole if cut == own else own
            for own, cut, whole in zip(_held(here, part), stored, value_there, strict=True)
        )
        if value_here == value_there:
            continue
        first = was_there is None or was_here is None or bool(without_base & set(part))
        changed_there = first or value_there != _held(was_there, part)
        changed_here = first or _held(here, part) != _held(was_here, part)
        if part == ("type",) and value_there != (None,):
            changed_there, changed_here = (
                True,
                False,
            )  # whose solution it is, its publisher says and nobody else
        if changed_there and changed_here:
            if _is_within(value_there, value_here) or _is_within(value_here, value_there):
                changed_here = _is_within(value_there, value_here)
                changed_there = not changed_here
            else:
                clash = True
                changed_there, changed_here = prefer is Side.PARTNER_CENTER, prefer is Side.CRM
        if changed_there:
            down |= zip(part, stored, strict=True)
        elif changed_here:
            up |= zip(part, value_here, strict=True)
    return replace(there, **up), replace(here, **down), clash  # type: ignore[arg-type]


def waiting_parts(
    written: Record | None,
    source: Record | None,
    *,
    not_sent: tuple[Record | None, Record | None] | None = None,
) -> frozenset[str]:
    """The attributes in which a member differs on both sides after it was written: the written side's own, which still have to
    go to the source.

    ``not_sent``: the written side's member before and as it was sent; what these differ in has come from the source, though
    it may have been cut on its way.
    """
    if written is None or source is None or (not_sent and None in not_sent):
        return frozenset()
    unseen = hidden_parts(written) | hidden_parts(source)
    return frozenset(
        name
        for part in _parts(written)
        if _held(written, part) != _held(source, part)
        and (not_sent is None or _held(not_sent[0], part) == _held(not_sent[1], part))
        for name in part
        if name not in unseen
    )


def with_parts_of(record: Record | None, was: Record | None, names: frozenset[str]) -> Record | None:
    """The record with these attributes as they were; None where it was not there, so that it is merged as at first sight."""
    if record is None or not names:
        return record
    if was is None:
        return None
    return replace(record, **{name: getattr(was, name) for name in names})


def _parts(record: Record) -> Iterator[tuple[str, ...]]:
    """The attributes of a record, each by itself; a person's two names are one, or both sides would make up a third."""
    names = [item.name for item in fields(record) if item.compare]
    for name in names:
        if name == "first_name" and "last_name" in names:
            yield "first_name", "last_name"
        elif name != "last_name":
            yield (name,)


def _held(record: Record | None, part: tuple[str, ...]) -> tuple[object, ...]:
    return tuple(getattr(record, name) for name in part)


def _is_within(less: tuple[object, ...], more: tuple[object, ...]) -> bool:
    """Whether the one says nothing that the other does not say as well."""
    return all(each is None or each == other for each, other in zip(less, more, strict=True))
