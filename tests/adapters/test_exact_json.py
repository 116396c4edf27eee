"""JSON is written with every digit of a decimal."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.transport.exact_json import encode, encoded


def test_a_part_that_was_written_before_stands_in_the_whole_as_it_is() -> None:
    row: dict[str, Any] = {"Amount": Decimal("84000.00"), "Name": 'Größe "L"', "rows": [None, True]}
    assert encode({"records": [encoded(row), encoded("@{x}")]}) == encode({"records": [row, "@{x}"]})
    assert len(encoded(row)) == len(encode(row))


def test_money_is_written_to_the_last_digit() -> None:
    assert encode({"Amount": Decimal("9999999999999999.99")}) == b'{"Amount":9999999999999999.99}'
    assert encode([Decimal("1E+3"), True, None, "ü"]) == b'[1000,true,null,"\\u00fc"]'


@pytest.mark.parametrize("text", ["0.1", "84000.00", "12345678901234567.89", "1E+3", "0.000001", "-0.5"])
def test_decimals_are_written_exactly(text: str) -> None:
    body = encode({"dealValue": Decimal(text)})
    assert json.loads(body, parse_float=Decimal, parse_int=Decimal)["dealValue"] == Decimal(text)
    assert b"e" not in body.lower().replace(b"dealvalue", b"")


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text()
        | st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**20), max_value=10**20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_the_encoder_writes_json(data: Any) -> None:
    assert json.loads(encode(data), parse_float=Decimal) == data
