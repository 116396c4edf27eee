"""The two outside systems as dictionaries, with people on either side: what the cycle is played against.

Both behave like the real ones where it matters: writes are guarded by versions, a closed referral takes nothing, moves
follow the lifecycle, an opportunity's referral id is unique, pulls overlap. What a correct program never does is
written down in ``violations``. ``at`` is told of every boundary, the moment before and after something that cannot be
taken back; a test makes crashes, faults and colleagues' edits happen there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from contract.memory_store import MemoryStore
from cosell_sync.core.deal import (
    ABSENT,
    KINDS,
    SHARED,
    Customer,
    DealType,
    Direction,
    Fields,
    Kind,
    Side,
    Snapshot,
    State,
    Step,
    Value,
)
from cosell_sync.core.lifecycle import MOVES, TERMINAL, WIRE, Actor, frozen
from cosell_sync.core.mapping import (
    CrmShape,
    FieldRule,
    Flow,
    Policy,
    Rules,
    StageFlags,
    Stages,
    for_crm,
    keyed,
)
from cosell_sync.errors import Flaky, Gone, OutsideError, RecordError, Rejected, Stale, Unavailable, Unclear
from cosell_sync.ports import (
    Found,
    OpportunityDraft,
    OpportunityWrite,
    Outcome,
    Page,
    ReferralDraft,
    ReferralWrite,
    Seen,
    Sought,
    Tally,
)

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PAGE = 2
STAGES = Stages(
    sales={
        "Qualification": "Qualify",
        "Development": "Develop",
        "Proposal": "Propose",
        "Negotiation": "Close",
    }
)
FLAGS = {
    "Prospecting": StageFlags(),
    "Qualification": StageFlags(),
    "Development": StageFlags(),
    "Proposal": StageFlags(),
    "Negotiation": StageFlags(),
    "Closed Won": StageFlags(closed=True, won=True),
    "Closed Lost": StageFlags(closed=True),
}
SHAPE = CrmShape(
    fields=frozenset(KINDS) - {"sales_stage"}, stages=FLAGS, lengths={"name": 8}, default_currency="USD"
)
POLICIES = {
    "notes": Policy.MERGE,
    "campaign_id": Policy.PARTNER_CENTER,
    "close_date": Policy.ASK,
    "customer": Policy.PARTNER_CENTER,
}


def rules(**changes: object) -> Rules:
    fields = {name: FieldRule(name, name, Flow.BOTH, POLICIES.get(name, Policy.CRM)) for name in SHARED}
    return Rules(fields=fields, stages=STAGES, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Change:
    """One element of one record changed: a field, or a member of a set, or a line of the notes."""

    at: int
    side: Side
    deal: str  # referral id
    record: str
    element: tuple[str, str]
    value: object
    person: bool
    base: object  # what the sync takes for agreed on this side; ABSENT where it knows nothing


def elements(fields: Fields) -> dict[tuple[str, str], object]:
    """A record's shared fields, sets member by member and notes line by line."""
    found: dict[tuple[str, str], object] = {}
    for name, kind in SHARED.items():
        value = fields.get(name)
        if kind in {Kind.MEMBERS, Kind.SOLUTIONS}:
            found |= {(name, key): member for key, member in keyed(value).items()}
        elif kind is Kind.NOTES:
            found |= {(name, line): True for line in (value or "").split("\n") if line}  # type: ignore[union-attr]
        elif name != "sales_stage":
            found[name, ""] = value
    return found


@dataclass
class Row:
    """One record of one side. ``stamp`` is its last modification, ``version`` counts them."""

    id: str
    fields: dict[str, Value]
    version: int = 1
    stamp: datetime = START
    gone: bool = False


@dataclass
class Fault:
    """What befalls the next write of a side: ``rejected``, ``flaky``, ``away`` before it lands, ``lost``, ``unread`` after."""

    side: Side
    kind: str


class CountingStore(MemoryStore):
    """The store as dictionaries, and how many of its deals stand how."""

    def another(self, name: str = "another") -> CountingStore:
        return CountingStore(name=name, shared=self._held)

    def counts(self) -> Sequence[Tally]:
        standing = Counter(
            (link.phase, link.memory.sync_state, link.memory.parked, link.memory.rejected)
            for link in self.links()
        )
        return [Tally(*how, deals) for how, deals in standing.items()]


Boundary = Callable[[str], None]


def _untouched(_name: str, value: Value) -> Value:
    return value


def _no_base(_side: Side, _record: str) -> Fields:
    return {}


def _nothing(_where: str) -> None:
    return None


@dataclass
class Outside:
    """Both systems, their clock, and everything that ever changed in them."""

    now: datetime = START
    referrals: dict[str, Row] = field(default_factory=dict)
    opportunities: dict[str, Row] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    flow: Callable[[str, Value], Value] = field(default=_untouched)  # an automation in the CRM
    at: Boundary = field(default=_nothing)
    base: Callable[[Side, str], Fields] = field(default=_no_base)
    writes: int = 0

    def clock(self) -> datetime:
        return self.now

    def rows(self, side: Side) -> dict[str, Row]:
        return self.referrals if side is Side.PARTNER_CENTER else self.opportunities

    def deal_of(self, side: Side, row: Row) -> str:
        return row.id if side is Side.PARTNER_CENTER else str(row.fields.get("referral_id") or row.id)

    def change(self, side: Side, row: Row, fields: Fields, *, person: bool) -> None:
        """Put new values into a record; one that holds them already stays as it is, version and all."""
        new = {
            name: value
            for name, value in fields.items()
            if name not in row.fields or row.fields[name] != value
        }
        if not new:
            return
        before = elements(row.fields)
        row.fields.update(new)
        row.version += 1
        self.now += timedelta(milliseconds=1)
        row.stamp = self.now
        self.note(side, row, before, person=person)

    def note(self, side: Side, row: Row, before: Mapping[tuple[str, str], object], *, person: bool) -> None:
        after = elements(row.fields)
        base = self.base(side, row.id)
        for element in {**before, **after}:
            if before.get(element) != after.get(element):
                known = element[0] in base
                change = Change(
                    at=len(self.changes),
                    side=side,
                    deal=self.deal_of(side, row),
                    record=row.id,
                    element=element,
                    value=after.get(element),
                    person=person,
                    base=elements(base).get(element) if known else ABSENT,
                )
                self.changes.append(change)

    def fault(self, side: Side) -> str | None:
        for index, item in enumerate(self.faults):
            if item.side is side:
                return self.faults.pop(index).kind
        return None

    # --- what people and time do ---

    def new_referral(self, state: State = State.RECEIVED, **fields: Value) -> Row:
        number = len(self.referrals) + 1
        row = Row(f"R{number}", {})
        held: dict[str, Value] = {
            "name": f"Deal {number}",
            "value": Decimal(100),
            "currency": "USD",
            "close_date": (START + timedelta(days=90)).date(),
            "notes": None,
            "campaign_id": None,
            "favorite": False,
            "customer": Customer(name="Contoso", country="US"),
            "team": (),
            "contacts": (),
            "solutions": (),
            "state": state.value,
            "status_text": " / ".join(WIRE[state]),
            "status_reason": None,
            "category": "cosell",
            "direction": Direction.INBOUND.value,
            "deal_type": DealType.COSELL.value,
            "referral_link": f"https://example.test/{row.id}",
            "external_reference": None,
            "created_at": self.now,
            "respond_by": self.now + timedelta(days=14),
            **fields,
        }
        self.referrals[row.id] = row
        self.change(Side.PARTNER_CENTER, row, held, person=True)
        return row

    def people(self, side: Side, record: str, fields: Fields) -> bool:
        """Somebody edits a record; False where that system would not let him."""
        row = self.rows(side).get(record)
        if row is None or row.gone:
            return False
        if side is Side.PARTNER_CENTER and State(str(row.fields["state"])) in TERMINAL:
            return False
        self.change(side, row, fields, person=True)
        return True

    def portal_moves(self, record: str, state: State) -> bool:
        """A colleague, or the service, moves a deal in Partner Center."""
        row = self.referrals[record]
        legal = {
            move.target
            for move in MOVES
            if move.source.value == row.fields["state"] and Actor.PORTAL in move.actors
        }
        return state in legal and self.people(
            Side.PARTNER_CENTER,
            record,
            {"state": state.value, "status_text": " / ".join(WIRE[state]), "status_reason": "in the portal"},
        )

    def pass_time(self, span: timedelta) -> None:
        self.now += span
        for row in self.referrals.values():
            due = row.fields["respond_by"]
            if row.fields["state"] == State.RECEIVED and isinstance(due, datetime) and due <= self.now:
                self.portal_moves(row.id, State.EXPIRED)

    def vanish(self, side: Side, record: str, *, gone: bool) -> None:
        """Deleted or out of sight, or back again; not back where a second one took its unique referral id."""
        row = self.rows(side)[record]
        deal = self.deal_of(side, row)
        others = [each for each in self.rows(side).values() if each is not row and not each.gone]
        if any(self.deal_of(side, each) == deal for each in others):
            return
        if row.gone is not gone:
            row.gone = gone
            row.version += 1
            self.now += timedelta(milliseconds=1)
            row.stamp = self.now


def _version(snapshot: Snapshot) -> int:
    return int(snapshot.version or 0)


def _back(watermark: str | None, overlap: timedelta) -> datetime | None:
    return datetime.fromisoformat(watermark) - overlap if watermark else None


def _trouble(kind: str, system: str) -> RecordError:
    match kind:
        case "rejected":
            return Rejected(f"{system} does not like it", code="not_liked", status=400)
        case "lost":
            return Unclear("no answer", code="timeout")
        case _:
            return Flaky("not now", code="busy", status=503)


class MemoryReferrals:
    """``ports.Referrals``."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.calls = 0
        self.trouble: OutsideError | None = None

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        since = _back(watermark, overlap)
        rows = [row for row in self.outside.referrals.values() if since is None or row.stamp >= since]
        yield from self._pages(sorted((row for row in rows if not row.gone), key=lambda row: row.stamp))

    def index(self) -> Iterator[Page]:
        yield from self._pages([row for row in self.outside.referrals.values() if not row.gone])

    def _pages(self, rows: Sequence[Row]) -> Iterator[Page]:
        for start in range(0, max(len(rows), 1), PAGE):
            chunk = rows[start : start + PAGE]
            self._call("pull")
            # a row that changed while we paged shows as it is now, under the stamp it was listed by
            yield Page(
                [self._snapshot(row) for row in chunk], (), chunk[-1].stamp.isoformat() if chunk else None
            )

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        found: dict[str, Snapshot | None] = {}
        for referral_id in ids:
            self._call("fetch")
            row = self.outside.referrals.get(referral_id)
            found[referral_id] = None if row is None or row.gone else self._snapshot(row)
        return found

    def write(self, batch: Sequence[ReferralWrite]) -> Sequence[Outcome]:
        self.trouble = None
        return [self._carry(item) for item in batch]

    def _carry(self, write: ReferralWrite) -> Outcome:
        snapshot, steps, version = None, 0, _version(write.before)
        error: RecordError | None = None
        row = self.outside.referrals[write.before.id]
        for step in write.steps:
            kind = self.outside.fault(Side.PARTNER_CENTER)
            if kind == "away":
                self.trouble = Unavailable("partner_center", "away")
            if self.trouble is not None:
                return Outcome(row.id, Flaky("not now", code="unavailable"), snapshot, steps)
            self._call("write")
            error = self._take(row, step, version, kind)
            if error is None:
                self.outside.at("landed")
                steps += 1
                snapshot = None if kind == "unread" else self._snapshot(row)
                version = row.version
                if kind == "unread" and steps < len(write.steps):
                    error = Flaky("could not be read after the last step", code="no_version")
            elif isinstance(error, Unclear):
                self.outside.at("lost")
            if error is not None:
                break
        return Outcome(row.id, error, snapshot, steps)

    def _take(self, row: Row, step: Step, version: int, kind: str | None) -> RecordError | None:
        if row.gone:
            return Gone("404", code="not_found", status=404)
        if kind in {"rejected", "flaky"}:
            return _trouble(kind, "Partner Center")
        if row.version != version:
            return Stale("412", code="modified", status=412)
        fields = self._judged(row, step)
        self.outside.writes += 1
        self.outside.change(Side.PARTNER_CENTER, row, fields, person=False)
        return _trouble(kind, "Partner Center") if kind == "lost" else None

    def _judged(self, row: Row, step: Step) -> dict[str, Value]:
        state = State(str(row.fields["state"]))
        wrong = self.outside.violations
        fields = dict(step.fields)
        if state in TERMINAL:
            wrong.append(f"{row.id}: written to though {state}: {fields} {step.state}")
        for name, value in fields.items():
            if frozen(name, DealType(str(row.fields["deal_type"])), outbound=False):
                wrong.append(f"{row.id}: {name} is frozen")
            if name in {"team", "solutions", "value", "close_date", "name"} and value in {(), None}:
                wrong.append(f"{row.id}: {name} emptied")
        after = {**row.fields, **fields}
        if step.state is not None:
            move = next((each for each in MOVES if (each.source, each.target) == (state, step.state)), None)
            if move is None or Actor.SELLER not in move.actors:
                wrong.append(f"{row.id}: from {state} to {step.state}")
            elif missing := [
                need for need in move.needs if after.get({"reason": "status_reason"}.get(need, need)) is None
            ]:
                wrong.append(f"{row.id}: to {step.state} without {missing}")
            fields |= {"state": step.state.value, "status_text": " / ".join(WIRE[step.state])}
        return fields

    def create(self, draft: ReferralDraft) -> Outcome:
        raise NotImplementedError

    def find_created(self, external_reference: str) -> Snapshot | None:
        return None

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        return ()

    def _call(self, what: str) -> None:
        self.calls += 1
        self.outside.at(f"partner_center.{what}")

    def _snapshot(self, row: Row) -> Snapshot:
        return Snapshot(row.id, str(row.version), {**row.fields, "updated_at": row.stamp})


class MemoryCrm:
    """``ports.Crm``."""

    def __init__(self, outside: Outside, lookalikes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.outside = outside
        self.lookalikes = lookalikes or {}
        self.calls = 0
        self.trouble: OutsideError | None = None

    def shape(self) -> CrmShape:
        return SHAPE

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: Seen) -> Iterator[Page]:
        since = _back(watermark, overlap)
        rows = [row for row in self.outside.opportunities.values() if since is None or row.stamp >= since]
        rows.sort(key=lambda row: row.stamp)
        for start in range(0, max(len(rows), 1), PAGE):
            chunk = rows[start : start + PAGE]
            self._call("pull")
            known = seen.versions([row.id for row in chunk])
            yield Page(
                [
                    self._snapshot(row)
                    for row in chunk
                    if not row.gone and known.get(row.id) != str(row.version)
                ],
                [row.id for row in chunk if row.gone],
                chunk[-1].stamp.isoformat() if chunk else None,
            )

    def index(self) -> Iterator[Mapping[str, str]]:
        self._call("index")
        yield {row.id: str(row.version) for row in self.outside.opportunities.values() if not row.gone}

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        self._call("fetch")
        rows = {each: self.outside.opportunities.get(each) for each in ids}
        return {each: None if row is None or row.gone else self._snapshot(row) for each, row in rows.items()}

    def find(self, sought: Sequence[Sought]) -> Mapping[str, Found]:
        self._call("find")
        here = {id_: row for id_, row in self.outside.opportunities.items() if not row.gone}
        held = {
            str(row.fields["referral_id"]): id_ for id_, row in here.items() if row.fields.get("referral_id")
        }
        return {
            each.referral_id: Found(
                held.get(each.referral_id),
                each.external_reference if each.external_reference in here else None,
                self.lookalikes.get(each.referral_id, ()),
            )
            for each in sought
        }

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        self.trouble = None
        return [self._carry(item) for item in batch]

    def _carry(self, write: OpportunityWrite) -> Outcome:
        row = self.outside.opportunities[write.before.id]
        kind = self.outside.fault(Side.CRM)
        if kind == "away":
            self.trouble = Unavailable("salesforce", "away")
        if self.trouble is not None:
            return Outcome(row.id, Flaky("not now", code="unavailable"))
        self._call("write")
        if row.gone:
            return Outcome(row.id, Gone("deleted", code="NOT_FOUND"))
        if kind in {"rejected", "flaky"}:
            return Outcome(row.id, _trouble(kind, "The CRM"))
        if row.version != _version(write.before):
            return Outcome(row.id, Stale("changed", code="stale"))
        self.outside.writes += 1
        self._put(row, write.fields)
        self.outside.at("landed")
        if kind == "lost":
            return Outcome(row.id, _trouble(kind, "The CRM"))
        return Outcome(row.id, None, None if kind == "unread" else self._snapshot(row), 1)

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        self.trouble = None
        return [self._make(item) for item in batch]

    def _make(self, draft: OpportunityDraft) -> Outcome:
        kind = self.outside.fault(Side.CRM)
        if kind == "away":
            self.trouble = Unavailable("salesforce", "away")
        if self.trouble is not None:
            return Outcome(None, Flaky("not now", code="unavailable"))
        self._call("create")
        if kind in {"rejected", "flaky"}:
            return Outcome(None, _trouble(kind, "The CRM"))
        self.outside.writes += 1
        alive = [row for row in self.outside.opportunities.values() if not row.gone]
        row = next((row for row in alive if row.fields.get("referral_id") == draft.referral_id), None)
        if row is None:
            row = Row(f"O{len(self.outside.opportunities) + 1}", dict.fromkeys(KINDS), version=0)
            del row.fields["sales_stage"]
            row.fields |= {
                "sync": False,
                "referral_id": draft.referral_id,
                "team": (),
                "contacts": (),
                "solutions": (),
            }
            self.outside.opportunities[row.id] = row
        self._put(row, {**draft.fields, "referral_id": draft.referral_id})
        self.outside.at("landed")
        if kind == "lost":
            return Outcome(None, _trouble(kind, "The CRM"))
        return Outcome(row.id, None, None if kind == "unread" else self._snapshot(row), 1)

    def _put(self, row: Row, fields: Fields) -> None:
        self.outside.change(
            Side.CRM, row, {name: for_crm(name, value, SHAPE) for name, value in fields.items()}, person=False
        )
        rewritten = {name: self.outside.flow(name, row.fields[name]) for name in fields if name in SHARED}
        self.outside.change(Side.CRM, row, rewritten, person=True)

    def _call(self, what: str) -> None:
        self.calls += 1
        self.outside.at(f"crm.{what}")

    def _snapshot(self, row: Row) -> Snapshot:
        flags = FLAGS[str(row.fields["stage"])]
        return Snapshot(
            row.id, str(row.version), {**row.fields, "is_closed": flags.closed, "is_won": flags.won}
        )
