"""``Referrals`` over HTTP: lists by watermark, PATCHes one by one, creates once.

What the service does not say, and what is done about it:

- Whether ``$filter`` takes ``updatedDateTime ge …``, and with or without quotes, is a guess of ours; refused with 400 in
  both forms, the list is read newest first down to the watermark instead
  (learn.microsoft.com/partner-center/developer/get-a-list-of-referrals). ``forms`` remembers what was found.
- Whether a new name or the heart is taken is not documented either: such a field comes as a step of its own, whose refusal
  stops nothing.
- There is no batch write, so PATCHes go through a small pool; the steps of one referral stay in order, each guarded
  by the eTag that the one before left. An answer 500 proves nothing, so the referral is looked at: the same eTag
  means that nothing happened, and it may be tried again.
- One refused property refuses the whole PATCH. What the answer names as its ``target`` is left out, and the rest is sent
  again; without a target it is searched for by halves (``core.parted``).
- PATCH may answer 204 without a body even though ``Prefer: return=representation`` was sent; then we read back.

When Partner Center goes away in the middle of a batch, nothing further is started: what is known is returned, and
``outage`` holds the reason.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

import structlog

from cosell_sync.core.capabilities import Capability
from cosell_sync.core.deal import ABSENT, Snapshot, Step, state_of
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.errors import (
    AuthFailed,
    CosellError,
    Flaky,
    Gone,
    OutsideError,
    RecordError,
    Rejected,
    Stale,
    Unavailable,
    Unclear,
)
from cosell_sync.partner_center import create, patch, read
from cosell_sync.partner_center.forms import QUOTED, REFUSED, UNQUOTED, Forms, about, names
from cosell_sync.partner_center.paging import REFERRALS, SYSTEM, QueryRefused, Reach, pages
from cosell_sync.partner_center.sight import Sight, look
from cosell_sync.partner_center.values import ID, WireOptions, tenant_of, timestamp
from cosell_sync.ports import Findings, Identity, Outcome, Page, ReferralDraft, ReferralWrite
from cosell_sync.transport.answers import Answer
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.exact_json import encode
from cosell_sync.transport.safety import Safety

log = structlog.get_logger()

ONE: Final = REFERRALS + "/{id}"
ID_HEADERS: Final = (
    "client-request-id",
    "MS-CorrelationId",
)  # for the caller: one new GUID for every request
CHUNK: Final = 100  # snapshots a page, where we cut the pages ourselves
NEWEST: Final = 500  # among so many newest referrals a create whose answer was lost is looked for
ABOUT_CONTENT: Final = frozenset(
    {400, 413, 422}
)  # statuses of a refusal that may be about one field of several
SILENT_AFTER: Final = 3  # so many in a row mean that the system is away

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class _Carried:
    """How far a write has come."""

    steps: int = 0
    snapshot: Snapshot | None = None
    refused: dict[str, RecordError] = field(default_factory=dict)


class PartnerCenter:
    """Implements ``ports.Referrals``. ``caller`` must know the sign-in.

    ``tenant``: the configured one, where the token does not name it. ``organization_id``: ours, where it is configured; else rows of the plain list are taken for ours (it shows no
    others, as far as the page says) unless they are Microsoft's.
    """

    def __init__(
        self,
        caller: HttpCaller,
        wire: WireOptions | None = None,
        *,
        organization_id: str | None = None,
        tenant: str = "",
        workers: int = 4,
        page_size: int | None = None,
        findings: Findings | None = None,
    ) -> None:
        self._caller = caller
        self._wire = wire or WireOptions()
        self._forms = Forms(self._wire, findings or Findings())
        self._configured = frozenset({organization_id} if organization_id else ())
        self._tenant = tenant
        self._workers = workers
        self._top = f"$top={page_size}" if page_size else ""
        self._lock = threading.Lock()
        self._learned: set[str] = set()
        self._unanswered_calls = 0
        self._outage: OutsideError | None = None

    def identity(self) -> Identity:
        """Whose referrals these are: the tenant that the sign-in names, else the configured one."""
        token = self._caller.sign_in()
        tenant = tenant_of(token.value) if token else ""
        return Identity(SYSTEM, tenant or self._tenant.lower(), self._caller.address)

    def sight(self) -> Sight:
        """What this sign-in shows, by one call."""
        return look(self._caller)

    @property
    def calls(self) -> int:
        """HTTP requests made so far, retries included, sign-ins not."""
        return self._caller.calls

    @property
    def outage(self) -> OutsideError | None:
        """Why the last batch was cut short; None once the system answers again."""
        return self._outage

    # -- reading -----------------------------------------------------------------------------------------------------

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        """Referrals updated since the watermark less the overlap; all of them without a watermark."""
        reach = Reach(watermark, overlap)
        since = reach.since
        if since is None:
            yield from self._by_creation("$orderby=createdDateTime asc", reach)
            return
        moment, refusal = timestamp(since), ""
        for form in self._forms.filters(Capability.CHANGES_FILTER, UNQUOTED, QUOTED):
            literal = f"'{moment}'" if form == QUOTED else moment
            query = f"$filter=updatedDateTime ge {literal}&$orderby=createdDateTime asc"
            try:
                yield from self._by_creation(query, reach)
            except QueryRefused as refused:
                refusal = refused.code
            else:
                self._forms.filtered(Capability.CHANGES_FILTER, form)
                return
        if refusal:
            self._forms.filtered(Capability.CHANGES_FILTER, REFUSED, refusal)
            log.info("list.filter_refused", system=SYSTEM)
        yield from self._newest_down_to(since, reach)

    def index(self) -> Iterator[Page]:
        """Every referral there is. By creation, for that order no update disturbs while the pages are read."""
        for rows, _ in self._pages("$orderby=createdDateTime asc", whole=True):
            snapshots, _stamps = self._ours(rows)
            yield Page(snapshots)

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        """Each referral as it is now; None where it is gone or out of sight (404).

        One that could not be read for reasons of its own is a snapshot with a ``problem``.
        """
        distinct = list(dict.fromkeys(ids))
        return dict(zip(distinct, self._spread(self._fetched, distinct), strict=True))

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        """All sides of a deal, other organizations' included (``category`` is ``foreign`` there)."""
        if not ID.fullmatch(engagement_id):
            return ()
        rows = self._sides(engagement_id)
        own = self._configured or frozenset(self._learned)
        sides = (read.snapshot(row, self._wire, own=own) for row in rows)
        return [side for side in sides if side is not None]

    def _sides(self, engagement_id: str) -> list[object]:
        first, second = self._forms.filters(Capability.ENGAGEMENT_FILTER, QUOTED, UNQUOTED)
        for form in (first, second):
            literal = f"'{engagement_id}'" if form == QUOTED else engagement_id
            try:
                rows = [row for page, _ in self._pages(f"$filter=engagementId eq {literal}") for row in page]
            except QueryRefused:
                if form == second:
                    raise
                continue
            self._forms.filtered(Capability.ENGAGEMENT_FILTER, form)
            break
        return rows

    def find_created(self, external_reference: str) -> Snapshot | None:
        """Among the newest referrals, the one that carries this opportunity's id.

        Neither ``externalReferenceId`` nor ``direction`` can be relied on in a filter, so we look through them.
        """
        seen = 0
        for rows, _ in self._pages("$orderby=createdDateTime desc"):
            snapshots, _stamps = self._ours(rows)
            for snapshot in snapshots:
                if snapshot.text("external_reference") == external_reference:
                    return snapshot
            seen += len(rows)
            if seen >= NEWEST:
                return None
        return None

    def _by_creation(self, query: str, reach: Reach) -> Iterator[Page]:
        """Pages in an order that no edit disturbs; the last one has the watermark.

        Pages go by position: by ``updatedDateTime``, a row that is edited between two of them moves to the end, and the next
        page begins one row too late.
        """
        held: list[Snapshot] | None = None
        for rows, at in self._pages(query):
            if held is not None:
                yield Page(held)
            held, stamps = self._ours(rows)
            reach.read(stamps, at)
        yield Page(held or [], watermark=reach.watermark)

    def _newest_down_to(self, since: datetime, reach: Reach) -> Iterator[Page]:
        """For a service that refuses our filter. What changed since is held until the watermark is reached, then
        given oldest first, so that no page promises what the next one may fail to bring.
        """
        found: list[tuple[datetime, Snapshot]] = []
        for rows, at in self._pages("$orderby=updatedDateTime desc"):
            snapshots, stamps = self._ours(rows)
            reach.read(stamps, at)
            found += [
                (snapshot.moment("updated_at") or since, snapshot)
                for snapshot in snapshots
                if (snapshot.moment("updated_at") or since) >= since
            ]
            if stamps and min(stamps) < since:
                break
        found.sort(key=lambda pair: pair[0])
        chunks = [found[start : start + CHUNK] for start in range(0, len(found), CHUNK)] or [[]]
        for number, chunk in enumerate(chunks, start=1):
            last = number == len(chunks)
            yield Page([snapshot for _, snapshot in chunk], watermark=reach.watermark if last else None)

    def _ours(self, rows: Sequence[object]) -> tuple[list[Snapshot], list[datetime]]:
        """Our rows of a page, and the stamps of all of them."""
        snapshots: list[Snapshot] = []
        stamps: list[datetime] = []
        unreadable = 0
        for row in rows:
            snapshot = read.snapshot(row, self._wire, own=self._configured)
            if snapshot is None:
                unreadable += 1
                continue
            if moment := snapshot.moment("updated_at"):
                stamps.append(moment)
            if snapshot.text("category") != "foreign":
                snapshots.append(snapshot)
                self._learn(row)
                self._forms.saw(row)
        if unreadable:
            log.warning("referrals.unreadable", system=SYSTEM, count=unreadable)
        return snapshots, stamps

    def _learn(self, row: object) -> None:
        organization = row.get("organizationId") if isinstance(row, dict) else None
        if isinstance(organization, str) and organization:
            with self._lock:
                self._learned.add(organization)

    def _pages(
        self, query: str, *, whole: bool = False
    ) -> Iterator[tuple[Sequence[object], datetime | None]]:
        """The rows of a list, page by page, and the service's time. Raises ``QueryRefused`` where the query is answered 400.

        ``whole``: see `pages`.
        """
        for page in pages(self._caller, "&".join(filter(None, (query, self._top))), whole=whole):
            self._answered()
            self._outage = None
            yield page

    def _fetched(self, referral_id: str) -> Snapshot | None:
        try:
            return self._read(referral_id)
        except Gone:
            return None
        except RecordError as cause:
            text = f"This referral cannot be read: {cause.text}"
            return Snapshot(referral_id, "", {"problem": text})

    def _read(self, referral_id: str) -> Snapshot:
        """The referral by its id. Raises RecordError or OutsideError."""
        _checked(referral_id)
        answer = self._caller.call(
            "GET",
            f"{REFERRALS}/{quote(referral_id, safe='')}",
            template=ONE,
            safety=Safety.READ,
            headers={"content-type": "application/json"},
        )
        self._answered()
        snapshot = self._mine(answer, referral_id)
        if snapshot is None:
            raise Flaky(
                "Partner Center answered with something else", code="unreadable", status=answer.status
            )
        return snapshot

    def _mine(self, answer: Answer, referral_id: str) -> Snapshot | None:
        own = self._configured or frozenset(self._learned)
        snapshot = read.snapshot(answer.data, self._wire, own=own)
        return snapshot if snapshot and snapshot.id.lower() == referral_id.lower() else None

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, batch: Sequence[ReferralWrite]) -> Sequence[Outcome]:
        """Carry out each write; the outcomes stand in the order of the batch."""
        self._unanswered_calls = 0
        self._outage = None
        return self._spread(self._carry, batch)

    def create(self, draft: ReferralDraft) -> Outcome:
        """One POST, never repeated; ``Unclear`` where no answer came.

        For an invitation the answer may be Microsoft's row: then ``category`` is ``foreign``.
        A refusal that names the sales stage made nothing: then its other form is posted, once.
        """
        wire = self._forms.wire
        outcome = self._post(draft, wire)
        sent = draft.fields.get("sales_stage", ABSENT)
        other = self._forms.other(wire) if isinstance(sent, str) else None
        if other and isinstance(outcome.error, Rejected) and names(outcome.error, "salesStage"):
            again = self._post(draft, other)
            if not isinstance(again.error, Rejected):
                outcome, wire = again, other
        if other and outcome.snapshot is not None and outcome.snapshot["sales_stage"] == sent:
            self._forms.settled(wire, taken=True)
        return outcome

    def _post(self, draft: ReferralDraft, wire: WireOptions) -> Outcome:
        try:
            body = encode(create.body(draft, wire))
        except ValueError as bug:
            return Outcome(None, Rejected(str(bug), code="not_expressible"))
        try:
            answer = self._caller.call(
                "POST",
                REFERRALS,
                template=REFERRALS,
                safety=Safety.ONCE,
                headers={"content-type": "application/json"},
                body=body,
            )
        except RecordError as cause:
            return Outcome(None, cause)
        self._answered()
        own = self._configured or frozenset(self._learned)
        snapshot = read.snapshot(answer.data, self._wire, own=own)
        if snapshot is None:
            return Outcome(
                None,
                Unclear(
                    "Partner Center took the referral, but its answer cannot be read",
                    code="unreadable",
                    status=answer.status,
                    request_id=answer.request_id,
                ),
            )
        if snapshot.text("category") != "foreign":
            self._learn(answer.data)
        return Outcome(snapshot.id, snapshot=snapshot, steps=1)

    def _carry(self, write: ReferralWrite) -> Outcome:
        """All steps of one referral, as far as they go."""
        carried = _Carried()
        referral_id = write.before.id
        current, state = write.before, state_of(write.before)
        error: RecordError | None = None
        try:
            _checked(referral_id)
            for step in write.steps:
                if self._outage is not None:
                    raise _unavailable(self._outage)
                current = carried.snapshot or current
                if carried.steps and carried.snapshot is None:
                    raise Flaky("the referral could not be read after the last step", code="no_version")
                if carried.steps and state_of(current) is not state:
                    # read after the last step, it has moved on: what was decided for it is decided anew
                    raise Stale("the referral was moved by somebody else", code="moved")
                state = step.state or state
                try:
                    self._take(current, step, carried, search=write.search)
                except (Rejected, Flaky) as cause:
                    if not (step.trial and _says_no(cause, step)):
                        raise
                    carried.refused |= dict.fromkeys(step.fields, cause)
                    carried.steps += 1
                    carried.snapshot = carried.snapshot or current
        except RecordError as cause:
            error = cause
        except OutsideError as cause:
            self._halt(cause)
            error = _unavailable(cause)
        if isinstance(error, Unclear):
            self._unanswered(error)
        return Outcome(referral_id, error, carried.snapshot, carried.steps, refused=carried.refused)

    def _take(self, current: Snapshot, step: Step, carried: _Carried, *, search: bool) -> None:
        """One step, in pieces where parts of it are refused. It counts once every piece is through.

        Raises Rejected where all of it was refused, or its move; after a refused move nothing further is sent.
        """
        write = patch.parted(step, search=search)
        pieces = 0
        while (names := write.next_piece()) is not None:
            if pieces and carried.snapshot is None:
                raise Flaky("the referral could not be read after a part of the step", code="no_version")
            try:
                self._formed(carried.snapshot or current, patch.piece(step, names), carried)
            except Rejected as error:
                if error.status not in ABOUT_CONTENT:
                    raise
                write.refused(error, _named(error))
            else:
                pieces += 1
                write.landed()
        carried.refused |= write.refusals
        if write.error is not None:
            raise write.error
        carried.steps += bool(pieces)
        for cause in write.refusals.values():
            if not pieces or cause is write.refusals.get(patch.MOVE):
                raise cause

    def _formed(self, current: Snapshot, step: Step, carried: _Carried) -> None:
        """One PATCH, its sales stage in the form that is known to be taken, else in either (``forms``)."""
        wire = self._forms.wire
        other = self._forms.other(wire) if "sales_stage" in step.fields else None
        try:
            self._send(current, step, carried, wire)
        except Rejected as refusal:
            if other is None or not about(refusal, "salesStage"):
                raise
            try:
                self._send(current, step, carried, other)
            except Rejected:
                raise refusal from None
            wire = other
        if other is not None:
            self._judge(current, step, carried, wire)

    def _judge(self, before: Snapshot, step: Step, carried: _Carried, wire: WireOptions) -> None:
        """What a step that landed says of the form of its sales stage. Where it was ignored the other form is sent, once."""
        sent, after = step.fields["sales_stage"], carried.snapshot
        if after is None or before["sales_stage"] == sent:
            return
        other = self._forms.other(wire)
        if after["sales_stage"] == sent:
            self._forms.settled(wire, taken=True)
        elif after["sales_stage"] == before["sales_stage"] and step.state not in TERMINAL and other:
            try:
                self._send(after, Step({"sales_stage": sent}), carried, other)
            except Rejected:
                self._forms.settled(wire, taken=False)
            except RecordError:
                carried.snapshot = self._looked(before.id)
            except OutsideError as cause:
                self._halt(cause)
            else:
                taken = carried.snapshot is not None and carried.snapshot["sales_stage"] == sent
                self._forms.settled(other if taken else wire, taken=taken)

    def _send(self, current: Snapshot, step: Step, carried: _Carried, wire: WireOptions) -> None:
        """One PATCH. Notes in ``carried`` what the referral holds then; None where that cannot be read."""
        try:
            operations = patch.operations(current, step, wire)
        except ValueError as bug:
            raise Rejected(str(bug), code="not_expressible") from bug
        if not operations:
            carried.snapshot = self._read(current.id)
            return
        if not current.version:
            raise Stale("this referral was read without its version", code="no_version")
        answer = self._caller.call(
            "PATCH",
            f"{REFERRALS}/{quote(current.id, safe='')}",
            template=ONE,
            safety=Safety.GUARDED,
            headers={
                "content-type": "application/json",  # not json-patch+json, says the page
                "if-match": current.version,
                "prefer": "return=representation",
            },
            body=encode(operations),
            unchanged=partial(self._unchanged, current, carried),
        )
        self._answered()
        found = self._mine(answer, current.id)
        if found is None or not found.version:
            found = self._looked(current.id)
            if answer.data is not None and (found is None or found.version == current.version):
                raise Unclear("Partner Center answered with something else", code="unreadable")
        carried.snapshot = found

    def _unchanged(self, current: Snapshot, carried: _Carried) -> bool:
        """After an answer 500, which proves nothing: whether the referral is as it was. Else notes what it is now."""
        found = self._looked(current.id)
        if found is not None and found.version == current.version:
            return True
        carried.snapshot = found or carried.snapshot
        return False

    def _looked(self, referral_id: str) -> Snapshot | None:
        """The referral after an answer that proved nothing; None where it cannot be read just now."""
        try:
            return self._read(referral_id)
        except RecordError as cause:
            log.info("read_back.failed", system=SYSTEM, referral_id=referral_id, code=cause.code)
        except OutsideError as cause:
            self._halt(cause)
        return None

    def _spread(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Each item on a thread of the pool, with the log context of the one who asked."""
        if len(items) < 2:
            return list(map(work, items))
        with ThreadPoolExecutor(min(self._workers, len(items)), thread_name_prefix=SYSTEM) as pool:
            tasks = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
            try:
                return [task.result() for task in tasks]
            except CosellError:
                for task in tasks:
                    task.cancel()
                raise

    def _answered(self) -> None:
        self._unanswered_calls = 0

    def _unanswered(self, cause: Unclear) -> None:
        """One lost answer is one record's failure, several in a row are the system's."""
        if cause.status is None:
            with self._lock:
                self._unanswered_calls += 1
                silent = self._unanswered_calls >= SILENT_AFTER or cause.code == "stopping"
            if silent:
                self._halt(Unavailable(SYSTEM, "Partner Center does not answer", code=cause.code))

    def _halt(self, cause: OutsideError) -> None:
        with self._lock:
            self._outage = self._outage or cause


def _unavailable(cause: OutsideError) -> Flaky:
    code = "unauthenticated" if isinstance(cause, AuthFailed) else "unavailable"
    return Flaky("Partner Center is not available just now", code=code, status=cause.status)


def _says_no(cause: Rejected | Flaky, step: Step) -> bool:
    """Whether a refusal of a trial is about its field. An error 500 counts, for then the referral was seen unchanged."""
    if isinstance(cause, Flaky):
        return cause.status == 500
    return about(cause, *step.fields)


def _named(error: Rejected) -> frozenset[str]:
    """Our names of what a refusal names as its target; empty where that is nothing of ours."""
    return frozenset(name for name in map(patch.field_of, error.fields) if name)


def _checked(referral_id: str) -> None:
    if not ID.fullmatch(referral_id):
        raise Gone("this is no referral id", code="malformed_id")
