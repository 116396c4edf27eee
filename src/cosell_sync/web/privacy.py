"""What of a deal may stand on a page that anybody may read who reaches the port: its name, its customer's, and no person.

Values are shown by an allow list of fields. Texts, which may quote another system or a value, lose the people and notes of this
deal, and whatever looks like an address, a number of a phone or a secret. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import Final

from cosell_sync.core.deal import ABSENT, Customer, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.memory import Link
from cosell_sync.core.messages import shown
from cosell_sync.log import redact_text

HIDDEN: Final = "[hidden]"
_PUBLIC: Final = frozenset({
    "name", "value", "currency", "close_date", "sales_stage", "stage", "favorite", "customer", "solutions",
    "sync", "action", "reason", "visible", "consent", "status", "direction", "deal_type", "respond_by",
    "marketplace_intent", "partner_role", "solution_area", "solution_play",
    "microsoft_status", "sync_state", "last_sync", "is_closed", "is_won", "state", "status_reason", "created_at",
    "closed_at",
})  # fmt: skip
# Controls, and the marks that turn the direction of a line.
_INVISIBLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_SHORTEST: Final = 3  # letters of a word that is blotted out; less would tear other words apart


class Discreet:
    """``names``: whether the names of the deal and its customer are shown."""

    def __init__(self, link: Link, *, names: bool) -> None:
        self._link = link
        self._names = names

    @property
    def name(self) -> str:
        """The deal's name, the CRM's first; empty where it is hidden or there is none."""
        found = (side.text("name") for side in self._sides)
        return self._own(next(filter(None, found), ""))

    @property
    def customer(self) -> str:
        """The customer's name, as ``name``."""
        found = (side["customer"] for side in self._sides)
        return self._own(next((each.name for each in found if isinstance(each, Customer) and each.name), ""))

    def text(self, words: str) -> str:
        """A sentence about this deal."""
        masked = redact_text(_INVISIBLE.sub("", words))
        return self._pattern.sub(HIDDEN, masked) if self._pattern else masked

    def value(self, field: str, value: Value) -> str:
        """One value of a field of it."""
        match value:
            case _ if value is ABSENT:
                return ""
            case None:
                return "empty"
            case _ if field not in _PUBLIC:
                return _kept_back(field, value)
            case Customer():
                return self._own(value.name or "") or HIDDEN
            case str() if field == "name":
                return self._own(value) or HIDDEN
            case str():
                return self.text(value)
            case _:
                return shown(value)

    @property
    def _sides(self) -> list[Snapshot]:
        return [side for side in (self._link.opportunity, self._link.referral) if side is not None]

    def _own(self, name: str) -> str:
        return redact_text(_INVISIBLE.sub("", name)) if self._names else ""

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        words = {word.strip() for word in self._private()}
        longest_first = sorted((word for word in words if len(word) >= _SHORTEST), key=len, reverse=True)
        if not longest_first:
            return None
        return re.compile(
            "|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in longest_first), re.IGNORECASE
        )

    def _private(self) -> Iterator[str]:
        """People and notes of this deal, as both sides and both bases have them; names, where they are hidden."""
        for fields in (
            *(side.fields for side in self._sides),
            self._link.base_referral,
            self._link.base_opportunity,
        ):
            for field, value in fields.items():
                if isinstance(value, tuple):
                    for member in value:
                        if isinstance(member, Member):
                            yield from _words_of(member)
                elif isinstance(value, str) and KINDS.get(field) is Kind.NOTES and field != "message":
                    yield from (value, shown(value))
                elif not self._names and isinstance(value, Customer):
                    yield value.name or ""
                elif not self._names and field == "name" and isinstance(value, str):
                    yield from (value, shown(value))


def _words_of(member: Member) -> Iterator[str]:
    yield member.email
    yield " ".join(part for part in (member.first_name, member.last_name) if part)
    yield " ".join(part for part in (member.last_name, member.first_name) if part)
    yield member.phone or ""


def _kept_back(field: str, value: Value) -> str:
    """That there is something, and not what."""
    if isinstance(value, tuple):
        people = sum(not isinstance(each, Solution) for each in value)
        return "1 person" if people == 1 else f"{people} people"
    return "a text" if KINDS.get(field) in {Kind.TEXT, Kind.NOTES} else "a value"
