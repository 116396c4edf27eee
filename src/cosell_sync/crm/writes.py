"""Writes of one batch: what each has come to, and what becomes of the batch when the CRM stops answering."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from cosell_sync.core.deal import ABSENT, Customer, Fields, Snapshot
from cosell_sync.core.fields import KINDS, SHARED, STATUS_FIELDS, inseparable
from cosell_sync.core.normalize import same
from cosell_sync.core.parted import PartedWrite
from cosell_sync.crm.related import members
from cosell_sync.crm.users import Directory
from cosell_sync.errors import (
    AuthFailed,
    Flaky,
    Locked,
    OutsideError,
    RecordError,
    Rejected,
    Stale,
    Surprise,
    Unavailable,
    Unclear,
)
from cosell_sync.ports import OpportunityDraft, OpportunityWrite, Outcome

# Our fields that are kept in rows related to the opportunity, or on which such rows depend.
RELATED_FIELDS: Final = frozenset({"team", "contacts", "solutions", "customer", "referral_id"})
# Fields of a new opportunity's own row without which it can be made.
OPTIONAL_AT_CREATE: Final = SHARED.keys() - RELATED_FIELDS - {"name", "close_date"}


# The external key says that a row exists, and no query finds it.
OUT_OF_SIGHT: Final = "The opportunity of this referral exists already, but the sync user may not see it. Ask your admin to share it with the sync user."


@dataclass
class PendingWrite:
    """One write until its outcome is known. A new opportunity has an empty ``id`` and no ``before``.

    ``error``: why it failed; ``partial_error``: why a part of it failed while the rest landed. ``may_have_landed``: something
    was sent that may have changed the CRM, so the record is read back. ``columns``: what is sent of the opportunity's own row.
    ``location``: the partner's, of a new opportunity.
    ``refused``: our fields that the CRM refused, and why; a `Flaky` there was left out of a create and follows as an update.
    ``search``, ``words``: see `ports.OpportunityWrite`; ``fields`` has the words as well. ``guard``: the record whose version guards the next request.
    """

    id: str
    before: Snapshot | None
    fields: Fields
    error: RecordError | None = None
    partial_error: RecordError | None = None
    may_have_landed: bool = False
    unheld: dict[str, frozenset[str]] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()
    account_made: str | None = None
    location: str | None = None
    columns: dict[str, object] = field(default_factory=dict)
    refused: dict[str, RecordError] = field(default_factory=dict)
    search: bool = True
    words: frozenset[str] = frozenset()
    guard: Snapshot | None = None

    @property
    def active(self) -> bool:
        """Whether nothing has failed so far, so that the next step applies."""
        return self.error is None

    @property
    def referral_id(self) -> str:
        """The referral that the opportunity belongs to; empty where it has none."""
        wanted = self.fields.get("referral_id", ABSENT)
        if isinstance(wanted, str):
            return wanted
        return self.before.text("referral_id") if self.before else ""

    @property
    def customer(self) -> Customer | None:
        """The customer to write; None without a name by which an account could be found."""
        wanted = self.fields.get("customer")
        return wanted if isinstance(wanted, Customer) and wanted.name else None

    def needs_related_rows(self, *, keyed: bool) -> bool:
        """Whether the rows related to the opportunity have to be read. ``keyed``: whether solutions have a key in this CRM.

        A solution that a seller added receives its key with whatever is written next.
        """
        wanted = RELATED_FIELDS & self.fields.keys()
        if wanted - {"referral_id"}:
            return True
        current = self.before["solutions"] if self.before else ()
        solutions = current if isinstance(current, tuple) else ()
        if wanted:  # only the keys of solutions depend on the referral id
            return bool(solutions)
        return keyed and any(each.extra.get("row") and not each.extra.get("key") for each in solutions)

    def owned(self, candidates: Sequence[str | None], owner: str | None) -> None:
        """Note the owner that was taken of those to be tried: where it was none of them, the seller is told."""
        if owner is None and len(candidates) > 1:
            self.unheld["owner"] = frozenset(each for each in candidates if each)

    def fail(self, error: RecordError) -> None:
        """Note why the write failed. The first reason stands, but a write that may have landed outranks one that did not."""
        if self.error is None or (isinstance(error, Unclear) and not isinstance(self.error, Unclear)):
            self.error = error

    def fail_field(self, name: str, error: RecordError) -> None:
        """Note why a part was not written. ``name``: our field. A refusal of it, or a lock on its row (an account under
        approval), is about that part alone, and the rest goes on; any other error is about the write. Several writes may
        share the error.
        """
        own = copy_error(error)
        own.fields = own.fields or (name,)
        if type(error) in {Rejected, Locked}:
            self.refused.setdefault(name, own)
        else:
            self.fail(own)

    @property
    def nothing_landed(self) -> bool:
        """Whether every field of an update was refused."""
        names = self.fields.keys() - self.words - STATUS_FIELDS.keys()
        return self.before is not None and bool(names) and names <= self.refused.keys()

    def may_do_without(self, error: RecordError, named: Iterable[str]) -> bool:
        """Whether a refused create may be sent again, and without what: then those fields are ``refused``.

        ``named``: our names of what the refusal is about. Where it names none, everything that a new row can do without is
        left out; it follows as an update, which finds the one that is refused.
        """
        left = (self.fields.keys() & OPTIONAL_AT_CREATE) - self.refused.keys()
        about = {name for unit in inseparable(left) if unit & frozenset(named) for name in unit}
        if about:
            self.refused |= dict.fromkeys(about, error)
        elif left and not named and self.search:
            self.search = False
            self.refused |= {name: Flaky("follows as an update", code="not_sent") for name in left}
        else:
            return False
        return True


W = TypeVar("W", bound=PendingWrite)
R = TypeVar("R")


def pending_updates(kind: type[W], batch: Sequence[OpportunityWrite]) -> list[W]:
    """A pending write for each update; ``kind``: the CRM's own class of them."""
    return [
        kind(
            each.before.id,
            each.before,
            {**each.words, **each.fields},
            search=each.search,
            words=frozenset(each.words.keys() - each.fields.keys()),
            guard=each.before,
        )
        for each in batch
    ]


def pending_creates(kind: type[W], batch: Sequence[OpportunityDraft]) -> list[W]:
    """A pending write for each new opportunity."""
    return [
        kind("", None, {**each.fields, "referral_id": each.referral_id}, location=each.location)
        for each in batch
    ]


def parted(pending: PendingWrite, names: Sequence[str]) -> PartedWrite:
    """The write of an opportunity's own row; ``names``: our fields whose columns are sent. A close goes with the last piece.

    The facts of the referral go along with what lands; where nothing does they are not worth a request of their own.
    """
    given = frozenset(names)
    moves = given & {"stage"}
    optional = [name for name in names if name in SHARED]
    along = (given & STATUS_FIELDS.keys()) - {"referral_id"} - pending.words
    riders = given - SHARED.keys() - moves - along - pending.words
    return PartedWrite(
        optional, riders, moves, along=along, words=given & pending.words, search=pending.search
    )


def copy_error(error: RecordError, text: str = "") -> RecordError:
    """The same error for another record, or in other words."""
    return type(error)(
        text or error.text,
        code=error.code,
        status=error.status,
        fields=error.fields,
        request_id=error.request_id,
        cure=error.cure,
    )


def as_stale(error: RecordError) -> Stale:
    """The error of a related row that is not as it was read (a merged account, a deleted contact): read and decide again."""
    return Stale(error.text, code=error.code, status=error.status)


class Batch(Generic[W]):
    """Carries out one batch of writes step by step and reads back what may have landed.

    ``outage``: why the CRM as a whole did not answer last; None while it answers.
    ``needs_related_rows``: whether a write takes more than one request for the opportunity's own row.
    """

    def __init__(
        self,
        system: str,
        name: str,
        *,
        fetch: Callable[[Sequence[str]], Mapping[str, Snapshot | None]],
        needs_related_rows: Callable[[W], bool],
    ) -> None:
        self.outage: OutsideError | None = None
        self._system = system
        self._name = name
        self._fetch = fetch
        self._needs_related_rows = needs_related_rows

    def run(self, pending: Sequence[W], steps: Sequence[Callable[[Sequence[W]], None]]) -> Sequence[Outcome]:
        """Each step over all writes, then the read-back. The outcomes are in the order of the writes."""
        try:
            for step in steps:
                step(pending)
        except (OutsideError, Surprise) as error:
            self._stop(pending, error)
        found = self._read_back(pending)
        return [
            Outcome(
                id=each.id or None,
                error=each.error or each.partial_error or _if_nothing_landed(each),
                snapshot=found.get(each.id),
                steps=_steps(each),
                unheld=each.unheld,
                ambiguous=each.ambiguous,
                account_made=each.account_made,
                refused=each.refused,
            )
            for each in pending
        ]

    def unreachable(self) -> Flaky:
        """The error of a write that was not finished because the CRM did not answer."""
        code = self.outage.code if isinstance(self.outage, AuthFailed) else ""
        return Flaky(f"{self._name} cannot be reached", code=code or "unavailable")

    def send_pieces(
        self,
        pending: Sequence[tuple[W, PartedWrite]],
        send: Callable[[Sequence[tuple[W, frozenset[str]]]], None],
    ) -> None:
        """Send these writes of the opportunities' own rows, in pieces where parts are refused; all of them in step.

        ``send``: sends one piece of each write in one batch, and tells the `PartedWrite` what became of it or fails the
        write. Raises an outage.
        """
        writing = list(pending)
        while True:
            pieces = [
                (each, write, names)
                for each, write in writing
                if each.active and (names := write.next_piece()) is not None
            ]
            self._guard_again([(each, names) for each, _, names in pieces if each.guard is None])
            pieces = [piece for piece in pieces if piece[0].active]
            if not pieces:
                break
            send([(each, names) for each, _, names in pieces])
            writing = [(each, write) for each, write, _ in pieces]
        for each, write in pending:
            if each.active:
                each.refused |= {name: error for name, error in write.refusals.items() if name in each.fields}
                if write.error is not None:
                    each.fail(write.error)

    def _guard_again(self, pending: Sequence[tuple[W, frozenset[str]]]) -> None:
        """Read the version that guards the next piece, after one landed. What is still to be sent must be as it was."""
        found = self._fetch([each.id for each, _ in pending]) if pending else {}
        for each, names in pending:
            each.guard = now = found.get(each.id)
            known = each.before
            if (
                now is None
                or known is None
                or any(not same(KINDS[name], known[name], now[name]) for name in names & KINDS.keys())
            ):
                each.fail(Stale("changed while it was written", code="CHANGED_AROUND"))

    def _stop(self, pending: Sequence[W], error: OutsideError | Surprise) -> None:
        """An outage: every write without an error of its own is unfinished."""
        if isinstance(error, Surprise):
            error = Unavailable(self._system, str(error), code=str(error.facts.get("code", "")))
        self.outage = error
        for each in pending:
            complete = each.may_have_landed and each.before is not None and not self._needs_related_rows(each)
            if (
                each.active and not complete
            ):  # a write of one request is complete once that request has landed
                each.fail(self.unreachable())

    def _read_back(self, pending: Sequence[W]) -> Mapping[str, Snapshot | None]:
        """What the written records hold now; empty where the CRM does not answer, then outcomes have no snapshot."""
        wanted = [
            each.id
            for each in pending
            if each.id and (each.may_have_landed or each.active) and not isinstance(each.error, Unclear)
        ]
        if not wanted or self.outage is not None:
            return {}
        try:
            return self._fetch(wanted)
        except OutsideError as error:
            self.outage = error
        except Surprise:
            pass  # the next pull meets the same and reports it
        return {}


def _steps(pending: PendingWrite) -> int:
    """How many steps landed: of a create whether it has an id, of an update whether all of it landed."""
    if pending.before is None:
        return int(bool(pending.id))
    landed = pending.error is None and pending.partial_error is None and not pending.nothing_landed
    return int(landed)


def _if_nothing_landed(pending: PendingWrite) -> RecordError | None:
    return next(iter(pending.refused.values())) if pending.nothing_landed else None


@dataclass(frozen=True)
class Ownership:
    """Who owns an imported opportunity: who answers for its location, else a colleague of its team if ``team``, else ``default``.

    ``by_location``: MPN id of a partner location → e-mail or user name, which ``default`` is as well.

    The CRM may refuse one (somebody without the right to read opportunities, or without a role); then the next is tried.
    Last of all the opportunity is made without naming an owner, and belongs to the sync user: an owner sinks no deal.
    """

    team: bool = True
    default: str | None = None
    by_location: Mapping[str, str] = field(default_factory=dict)

    def owners(self, pending: Sequence[PendingWrite], directory: Directory) -> Sequence[Sequence[str | None]]:
        """For each write the user ids to try, in order; None, the CRM's own default, ends each."""
        teams = [(members(each.fields, "team") or ()) if self.team else () for each in pending]
        placed = [self.by_location.get(each.location or "") for each in pending]
        asked = [name for name in (*placed, self.default) if name]
        users = directory.find([*(each.email for team in teams for each in team), *asked]).users
        fallback = directory.named(self.default)
        found = [
            [directory.named(name), *(users.get(each.email) for each in team), fallback]
            for name, team in zip(placed, teams, strict=True)
        ]
        return [[*dict.fromkeys(each for each in own if each), None] for own in found]


def first_taken(
    owners: Sequence[Sequence[str | None]],
    send: Callable[[Sequence[tuple[int, str | None]]], Sequence[R]],
    refused: Callable[[R, str], bool],
) -> list[tuple[R, str | None]]:
    """Each write with the first of its owners that the CRM takes: its result, and that owner.

    All are sent, then the refused ones again. ``owners``: see ``Ownership.owners``. ``send``: which write with which owner,
    in one batch. ``refused``: whether a result says that this owner is not taken.
    """
    results: list[Any] = [None] * len(owners)
    left = {at: list(candidates) for at, candidates in enumerate(owners)}
    while left:
        asked = [(at, candidates.pop(0)) for at, candidates in left.items()]
        for (at, owner), result in zip(asked, send(asked), strict=True):
            results[at] = result, owner
            if owner is None or not refused(result, owner):
                del left[at]
    return results
