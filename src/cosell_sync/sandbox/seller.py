"""What a seller reads and does in a CRM, in one set of names for Salesforce and Dynamics 365.

Fields have the names in OUR_FIELDS instead of API names; a deal has a phase (`standby`, `open`, `won`, `lost`) and a sales
stage of Partner Center's four; colleagues and contacts are named by e-mail, solutions by id. `salesforce/seller.py` and
`dataverse/seller.py` implement it on the rows of the fakes.
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
    "visible_to_microsoft", "help", "help_note", "consent", "campaign_id", "marketplace_intent", "partner_role",
    "solution_area", "solution_play", "location", "notes", "favorite", "respond_by",
    "microsoft_status", "microsoft_id", "sync_state", "message", "last_sync",
)  # fmt: skip


class Seller(Protocol):
    """One CRM. Deals are named by their id."""

    @property
    def crm(self) -> str:
        """The name that users know the CRM by."""

    @property
    def labels(self) -> Mapping[str, str]:
        """Labels of fields on the form, where they differ from the usual name."""

    @property
    def longest_name(self) -> int:
        """How many characters the name of a deal keeps."""

    @property
    def currencies(self) -> Mapping[str, int]:
        """The currencies of the CRM by ISO code, each with the decimals that its amounts keep."""

    @property
    def logins(self) -> Mapping[str, str]:
        """Ids of the active users by e-mail in lower case; without the integration user."""

    def deal(self, deal: str) -> DealFields:
        """OUR_FIELDS and id, name, amount, currency, close_date, phase, sales_stage, account, owner (its e-mail)."""

    def deals(self) -> list[DealFields]:
        """All deals, in the order of creation."""

    def contacts(self) -> Groups:
        """The customer's people of each deal, by e-mail."""

    def team(self) -> Groups:
        """The colleagues of each deal, by e-mail."""

    def solutions(self) -> Groups:
        """The solutions of each deal, by id."""

    def new_deal(self, *, by: str, customer: Mapping[str, str], **words: Any) -> str:
        """An open deal for a new account, made by that user. ``customer``: name, street, city, postal_code, country."""

    def write(self, deal: str, **words: Any) -> None:
        """Changes fields: OUR_FIELDS, name, amount, close_date."""

    def move(self, deal: str, to: Phase | SalesStage) -> None:
        """Moves the deal to a phase or to a sales stage."""

    def add_contact(self, deal: str, *, first: str, last: str, email: str, phone: str) -> None:
        """A new contact of the deal's account; the deal's first one is its primary contact."""

    def drop_contact(self, deal: str, email: str) -> None:
        """Removes a contact from the deal; the contact itself stays."""

    def add_colleague(self, deal: str, email: str) -> None: ...

    def drop_colleague(self, deal: str, email: str) -> None: ...

    def add_solution(self, deal: str, code: str, name: str) -> None:
        """Adds a solution of the partner."""

    def drop_solution(self, deal: str, code: str) -> None: ...


def grouped(pairs: Iterable[tuple[str, str | None]]) -> dict[str, set[str]]:
    """The items of each deal; e-mail addresses in lower case."""
    groups: dict[str, set[str]] = {}
    for deal, item in pairs:
        if item:
            groups.setdefault(deal, set()).add(item.lower() if "@" in item else item)
    return groups


def decimal(amount: Any) -> Decimal | None:
    """An amount as Decimal; None stays None."""
    return None if amount is None else Decimal(str(amount))
