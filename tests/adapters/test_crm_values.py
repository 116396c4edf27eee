"""What both CRMs share below their rows: single values, and what makes two customers one."""

from __future__ import annotations

from cosell_sync.core.deal import Customer
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.values import pieces


def test_customers_are_one_case_and_blanks_aside() -> None:
    match = ("name", "postal_code", "country")
    one = customer_key(Customer("  ACME  Corp", postal_code="10 115", country="DE"), match)
    assert one == customer_key(Customer("acme corp", postal_code="10115", country="de"), match)
    assert one != customer_key(Customer("acme corp", postal_code="10115", country="AT"), match)


def test_pieces() -> None:
    assert [list(each) for each in pieces([1, 2, 3], 2)] == [[1, 2], [3]]
