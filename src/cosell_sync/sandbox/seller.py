"""The CRM as the people in it see it: one language for the sellers of Salesforce and of Dynamics.

What a person may do with a deal and read on it, in words instead of API names: `close_date`, `help_note`, a phase of
`standby`, `open`, `won` or `lost`, a sales stage of Partner Center's four, colleagues and contacts by e-mail, solutions
by their id. `salesforce_desk` and `dataverse_desk` say it in the words of their CRM, on the raw records of the fakes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Literal, Protocol

DealFields = dict[str, Any]
Groups = Mapping[str, set[str]]
Phase = Literal["standby", "open", "won", "lost"]
SalesStage = Literal["Qualify", "Develop", "Propose", "Close"]

OUR_FIELDS = (
    "sync", "referral_id", "referral_link", "status", "direction", "deal_type", "action", "reason", "reason_note",
    "visible_to_microsoft", "help", "help_note", "consent", "campaign_id", "notes", "favorite", "respond_by",
    "microsoft_status", "microsoft_id", "sync_state", "message", "last_sync",
)  # fmt: skip


class Seller(Protocol):
    """One CRM. Deals are named by their id."""

    @property
    def crm(self) -> str:
        """What people call it."""

    @property
    def labels(self) -> Mapping[str, str]:
        """What the form calls a field, where that is not its usual name."""

    @property
    def longest_name(self) -> int: ...

    @property
    def currencies(self) -> Mapping[str, int]:
        """ISO codes that a deal may have here, each with the decimals that amounts in it keep."""

    @property
    def logins(self) -> Mapping[str, str]:
        """Ids of the active users by e-mail in lower case; the sync's own user is none."""

    def deal(self, deal: str) -> DealFields:
        """OUR_FIELDS and id, name, amount, currency, close_date, phase, sales_stage, account, owner (its e-mail)."""

    def deals(self) -> list[DealFields]:
        """All there are, in the order of their creation."""

    def contacts(self) -> Groups:
        """The customer's people of each deal, by e-mail."""

    def team(self) -> Groups:
        """The colleagues of each deal, by e-mail."""

    def solutions(self) -> Groups:
        """The solutions of each deal, by id."""

    def new_deal(self, *, by: str, customer: Mapping[str, str], **words: Any) -> str:
        """An open deal for a new account, made by that user. ``customer``: name, street, city, postal_code, country."""

    def write(self, deal: str, **words: Any) -> None:
        """Changes what can be typed: OUR_FIELDS, name, amount, close_date."""

    def move(self, deal: str, to: Phase | SalesStage) -> None: ...

    def add_contact(self, deal: str, *, first: str, last: str, email: str, phone: str) -> None:
        """A new contact of the deal's account; the deal's first one is its primary contact."""

    def drop_contact(self, deal: str, email: str) -> None:
        """Off the deal; the contact itself stays."""

    def add_colleague(self, deal: str, email: str) -> None: ...

    def drop_colleague(self, deal: str, email: str) -> None: ...

    def add_solution(self, deal: str, code: str, name: str) -> None:
        """One of our own."""

    def drop_solution(self, deal: str, code: str) -> None: ...


def grouped(pairs: Iterable[tuple[str, str | None]]) -> dict[str, set[str]]:
    """What belongs to each deal; addresses are compared in lower case."""
    groups: dict[str, set[str]] = {}
    for deal, item in pairs:
        if item:
            groups.setdefault(deal, set()).add(item.lower() if "@" in item else item)
    return groups


def decimal(amount: Any) -> Decimal | None:
    return None if amount is None else Decimal(str(amount))
