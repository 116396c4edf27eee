"""What the store keeps comes back as it was, through real JSON; an older or newer version's data does no harm."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.as_json import (
    base_to_json,
    fields_from_json,
    fields_to_json,
    snapshot_from_json,
    snapshot_to_json,
    to_json,
    value_from_json,
)
from cosell_sync.core.deal import ABSENT, Customer, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import KINDS, Kind

NAMES = st.sampled_from([None, "", "Ann", "Öz\n"])
EXTRA = st.sampled_from([{}, {"row": "1", "n": 1}])
VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    Kind.TEXT: st.text(max_size=5),
    Kind.NOTES: st.text(max_size=5),
    Kind.NUMBER: st.decimals(-(10**16), 10**16),
    Kind.DATE: st.dates(),
    Kind.MOMENT: st.datetimes(timezones=st.just(UTC)),
    Kind.FLAG: st.booleans(),
    Kind.MEMBERS: st.lists(st.builds(Member, st.text(max_size=3), NAMES, NAMES, NAMES, EXTRA), max_size=2).map(tuple),
    Kind.SOLUTIONS: st.lists(st.builds(Solution, st.text(max_size=3), NAMES, NAMES, EXTRA), max_size=2).map(tuple),
    Kind.CUSTOMER: st.builds(Customer, *[NAMES] * 7, EXTRA),
}  # fmt: skip
ONE = st.sampled_from(sorted(KINDS)).flatmap(
    lambda name: st.fixed_dictionaries({name: st.none() | VALUES[KINDS[name]]})
)
IDS = st.frozensets(st.sampled_from(["name", "value", ""]))


def extras(held: Value) -> list[object]:
    """What comparing members and customers leaves out."""
    return [getattr(item, "extra", None) for item in (held if isinstance(held, tuple) else (held,))]


@given(st.builds(Snapshot, st.text(max_size=3), st.text(max_size=3), ONE, IDS, IDS))
def test_a_snapshot_comes_back_whole(kept: Snapshot) -> None:
    back = snapshot_from_json(json.loads(json.dumps(snapshot_to_json(kept))))
    assert back == kept
    for name, held in kept.fields.items():
        assert type(back[name]) is type(held)
        assert extras(back[name]) == extras(held)


@given(ONE)
def test_what_is_not_known_stays_so(held: dict[str, Value]) -> None:
    """ABSENT is left out, and None is not."""
    unknown: dict[str, Value] = {name: ABSENT for name in KINDS if name not in held}
    assert fields_from_json(fields_to_json({**held, **unknown})) == held


@pytest.mark.parametrize(
    ("held", "data"),
    [
        (Decimal("1E+3"), "1000"),
        (Decimal("0.10"), "0.10"),
        (date(2026, 3, 2), "2026-03-02"),
        (datetime(2026, 3, 2, 10, tzinfo=UTC), "2026-03-02T10:00:00Z"),
        (datetime(2026, 3, 2, 10, tzinfo=timezone(timedelta(hours=2))), "2026-03-02T08:00:00Z"),
        (
            (Member("a@x", "Ann", extra={"row": "1"}), Member("b@x")),
            [
                {"email": "a@x", "first_name": "Ann", "last_name": None, "phone": None, "extra": {"row": "1"}},
                {"email": "b@x", "first_name": None, "last_name": None, "phone": None},
            ],
        ),
        ((Solution("S1", "One", "Own"),), [{"id": "S1", "name": "One", "type": "Own"}]),
        (
            Customer("C", "1", "2", "B", "S", "P", "DE"),
            {
                "name": "C",
                "address_line1": "1",
                "address_line2": "2",
                "city": "B",
                "state": "S",
                "postal_code": "P",
                "country": "DE",
            },
        ),
        (None, None),
        (True, True),
        ("x", "x"),
        (ABSENT, None),
    ],
)  # fmt: skip
def test_as_json(held: Value, data: object) -> None:
    """What stands in stores and in `--json` today; amounts as text, moments in UTC."""
    assert to_json(held) == data


def test_a_base_says_what_its_side_says_but_for_what_is_its_own() -> None:
    """Also of what is never compared: the parts that a side did not show when both agreed last."""
    ann, bob = Member("ann@x.example", extra={"row": "1"}), Member("bob@x.example")
    side = Snapshot("1", "1", {"name": "A", "team": (ann, bob), "contacts": (ann,), "value": Decimal("1.50")})
    base: dict[str, Value] = {
        "name": "A", "team": (ann, bob), "contacts": (Member("ann@x.example", extra={"hidden": ["phone"]}),),
        "value": Decimal("1.5"), "notes": None, "currency": ABSENT,
    }  # fmt: skip
    said = snapshot_to_json(side)
    data = base_to_json(base, said, side)
    assert data == fields_to_json(base) == base_to_json(base, None, None)
    assert data["contacts"][0]["extra"] == {"hidden": ["phone"]}
    assert (data["value"], data["team"] is said["fields"]["team"]) == ("1.5", True)


def test_for_people_the_rest_is_left_out() -> None:
    """A title or a row id is the adapter's own affair."""
    ann = Member("a@x", extra={"title": "CEO"})
    assert to_json((ann,), extras=False) == to_json((Member("a@x"),))
    assert to_json(Customer("C", extra={"id": 1}), extras=False) == to_json(Customer("C"))


def test_other_versions_data() -> None:
    """A name that is not known any more is dropped; what was not kept yet is empty."""
    older = {"id": "R1", "version": "1", "fields": {"favorite": 1, "name": "x", "long_gone": {"a": 1}}}
    assert snapshot_from_json(older) == Snapshot("R1", "1", {"favorite": True, "name": "x"})


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (Kind.NUMBER, []),
        (Kind.DATE, "2026-13-01"),
        (Kind.MOMENT, "yesterday"),
        (Kind.MEMBERS, [{"nobody": 1}]),
        (Kind.CUSTOMER, {"nobody": 1}),
    ],
)
def test_broken_data_is_an_error_and_never_a_guess(kind: Kind, data: object) -> None:
    with pytest.raises((ValueError, TypeError, KeyError)):
        value_from_json(kind, data)
