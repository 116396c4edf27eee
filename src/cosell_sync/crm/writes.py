"""Writes on their way through a CRM: what each has come to, and what becomes of a batch when the CRM goes away."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from cosell_sync.core.deal import ABSENT, Customer, Fields, Snapshot
from cosell_sync.crm.related import members
from cosell_sync.crm.users import Directory
from cosell_sync.crm.values import folded
from cosell_sync.errors import (
    AuthFailed,
    Flaky,
    OutsideError,
    RecordError,
    Stale,
    Surprise,
    Unavailable,
    Unclear,
)
from cosell_sync.ports import OpportunityDraft, OpportunityWrite, Outcome

AROUND: Final = frozenset({"team", "contacts", "solutions", "customer", "referral_id"})


@dataclass
class Deal:
    """One write on its way; a new opportunity has no ``id`` and no ``before``."""

    id: str
    before: Snapshot | None
    fields: Fields
    error: RecordError | None = None
    later: RecordError | None = None  # a part of it failed, the rest goes on
    touched: bool = False
    unheld: dict[str, frozenset[str]] = field(default_factory=dict)
    columns: dict[str, object] = field(default_factory=dict)

    @property
    def going(self) -> bool:
        return self.error is None

    @property
    def referral_id(self) -> str:
        given = self.fields.get("referral_id", ABSENT)
        if isinstance(given, str):
            return given
        return self.before.text("referral_id") if self.before else ""

    @property
    def customer(self) -> Customer | None:
        """The customer to write, where it has a name to be found by."""
        given = self.fields.get("customer")
        return given if isinstance(given, Customer) and given.name else None

    def concerns_rows(self, *, keyed: bool) -> bool:
        """Whether rows around the opportunity have to be looked at; ``keyed``: whether solutions have a key here.

        A solution that a seller added receives its key with whatever is written next.
        """
        if (asked := AROUND & self.fields.keys()) - {"referral_id"}:
            return True
        given = self.before["solutions"] if self.before else ()
        held = given if isinstance(given, tuple) else ()
        if asked:  # only the keys of solutions depend on it
            return bool(held)
        return keyed and any(each.extra.get("row") and not each.extra.get("key") for each in held)

    def fail(self, error: RecordError) -> None:
        """The first reason stands; but what may have landed outranks what surely did not."""
        if self.error is None or (isinstance(error, Unclear) and not isinstance(self.error, Unclear)):
            self.error = error

    def fail_at(self, name: str, error: RecordError) -> None:
        """Like ``fail``, for an error that other deals may share; ``name``: our field, where the error names none."""
        told = again(error)
        told.fields = told.fields or (name,)
        self.fail(told)


D = TypeVar("D", bound=Deal)


def asked(made: type[D], batch: Sequence[OpportunityWrite]) -> list[D]:
    return [made(each.before.id, each.before, each.fields) for each in batch]


def drafted(made: type[D], batch: Sequence[OpportunityDraft]) -> list[D]:
    return [made("", None, {**each.fields, "referral_id": each.referral_id}) for each in batch]


def again(error: RecordError) -> RecordError:
    """The same error once more, for another record."""
    return type(error)(
        error.text, code=error.code, status=error.status, fields=error.fields, request_id=error.request_id
    )


def moved(error: RecordError) -> Stale:
    """A row around the opportunity that is not as it was (a merged account, a deleted contact): look again."""
    return Stale(error.text, code=error.code, status=error.status)


class Line(Generic[D]):
    """The line to a CRM while a batch is carried out. ``outage``: what it answered last as a whole, None while it
    answers.

    ``around``: whether a deal takes more than the one write of its own row.
    """

    def __init__(
        self,
        system: str,
        name: str,
        *,
        fetch: Callable[[Sequence[str]], Mapping[str, Snapshot | None]],
        around: Callable[[D], bool],
    ) -> None:
        self.outage: OutsideError | None = None
        self._system = system
        self._name = name
        self._fetch = fetch
        self._around = around

    def carry(self, deals: Sequence[D], steps: Sequence[Callable[[Sequence[D]], None]]) -> Sequence[Outcome]:
        """Each step over all deals; then everything that may have landed is read back."""
        try:
            for step in steps:
                step(deals)
        except (OutsideError, Surprise) as error:
            self._cut(deals, error)
        found = self._read_back(deals)
        return [
            Outcome(
                id=deal.id or None,
                error=deal.error or deal.later,
                snapshot=found.get(deal.id),
                steps=int(
                    bool(deal.id) if deal.before is None else deal.error is None and deal.later is None
                ),
                unheld=deal.unheld,
            )
            for deal in deals
        ]

    def away(self) -> Flaky:
        """Why a deal was not finished that nothing is wrong with."""
        code = self.outage.code if isinstance(self.outage, AuthFailed) else ""
        return Flaky(f"{self._name} cannot be reached", code=code or "unavailable")

    def _cut(self, deals: Sequence[D], error: OutsideError | Surprise) -> None:
        """The CRM is gone: what has not failed on its own has not been finished."""
        if isinstance(error, Surprise):
            error = Unavailable(self._system, str(error), code=str(error.facts.get("code", "")))
        self.outage = error
        for deal in deals:
            landed = deal.touched and deal.before is not None and not self._around(deal)
            if deal.going and not landed:  # what was all in one piece is done, whatever became of the others
                deal.fail(self.away())

    def _read_back(self, deals: Sequence[D]) -> Mapping[str, Snapshot | None]:
        """Without an answer the outcomes stay, just without their snapshots."""
        wanted = [
            deal.id
            for deal in deals
            if deal.id and (deal.touched or deal.going) and not isinstance(deal.error, Unclear)
        ]
        if not wanted or self.outage is not None:
            return {}
        try:
            return self._fetch(wanted)
        except OutsideError as error:
            self.outage = error
        except Surprise:
            pass  # the next pull meets it too, and says so
        return {}


@dataclass(frozen=True)
class Ownership:
    """Who owns an imported opportunity: a colleague of its team if ``team``, else ``default`` (e-mail or user name)."""

    team: bool = True
    default: str | None = None

    def of(self, deals: Sequence[Deal], directory: Directory) -> Sequence[str | None]:
        """User id for each deal."""
        teams = [(members(deal.fields, "team") or ()) if self.team else () for deal in deals]
        names = [each.email for team in teams for each in team]
        users = directory.find([*names, *filter(None, [self.default])])
        fallback = users.get(folded(self.default))
        return [next((users[each.email] for each in team if each.email in users), fallback) for team in teams]
