"""What both CRMs share below their rows: single values, countries, and what makes two customers one."""

from __future__ import annotations

import pytest

from cosell_sync.core.deal import Customer
from cosell_sync.crm import countries
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.values import pieces


@pytest.mark.parametrize(
    ("text", "code"),
    [("DE", "DE"), ("de", "DE"), ("Germany", "DE"), (" united  states ", "US"), ("UK", "GB"), ("Narnia", "Narnia"), ("", None)],
)  # fmt: skip
def test_country_names_become_codes(text: str, code: str | None) -> None:
    assert countries.country_code(text) == code


def test_customers_are_one_case_and_blanks_aside() -> None:
    match = ("name", "postal_code", "country")
    one = customer_key(Customer("  ACME  Corp", postal_code="10 115", country="DE"), match)
    assert one == customer_key(Customer("acme corp", postal_code="10115", country="de"), match)
    assert one != customer_key(Customer("acme corp", postal_code="10115", country="AT"), match)


def test_pieces() -> None:
    assert [list(each) for each in pieces([1, 2, 3], 2)] == [[1, 2], [3]]
