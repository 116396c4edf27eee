"""Partner Center and a CRM in memory, with edits of people on both sides, for tests of the cycle.

Both behave like the real ones where it matters: writes are guarded by versions, a closed referral takes nothing, moves
follow the lifecycle, an opportunity's referral id is unique, pulls overlap. What a correct program never does is
written down in ``violations``. ``at`` is told of every boundary, the moment before and after something that cannot be
taken back; a test makes crashes, faults and colleagues' edits happen there.

The CRM comes in kinds, for the two real ones differ in what the cycle can notice; ``CrmKind`` names each difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from contract.memory_store import MemoryStore
from cosell_sync.core.deal import (
    ABSENT,
    TOO_SOON,
    Customer,
    DealType,
    Direction,
    Fields,
    Member,
    Side,
    Snapshot,
    Solution,
    State,
    Step,
    Value,
    same_version,
)
from cosell_sync.core.fields import KINDS, NEWER, SHARED, STATUS_FIELDS, Kind, inseparable
from cosell_sync.core.lifecycle import MOVES, TERMINAL, Actor, frozen
from cosell_sync.core.memory import Link
from cosell_sync.core.normalize import agree, by_key, for_crm
from cosell_sync.core.rules import CrmShape, FieldRule, Flow, Policy, Rules, StageFlags, Stages
from cosell_sync.errors import (
    Cure,
    Flaky,
    Gone,
    Locked,
    OutsideError,
    RecordError,
    Rejected,
    Stale,
    Unavailable,
    Unclear,
)
from cosell_sync.ports import (
    DealCount,
    Identity,
    KnownRecords,
    Matches,
    MatchQuery,
    OpportunityDraft,
    OpportunityWrite,
    Outcome,
    Page,
    ReferralDraft,
    ReferralWrite,
)

# How Partner Center words each state (referral resources; status transitions).
STATUS_TEXT = {
    State.RECEIVED: "New / Received",
    State.ACCEPTED: "Active / Accepted",
    State.WON: "Closed / Won",
    State.LOST: "Closed / Lost",
    State.DECLINED: "Closed / Declined",
    State.EXPIRED: "Closed / Expired",
}
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
    fields=frozenset(KINDS) - {"sales_stage"},
    stages=FLAGS,
    lengths={"name": 8},
    default_currency="USD",
    currencies=frozenset({"USD", "JPY"}),
)
IDENTITIES = {
    Side.CRM: Identity("salesforce", "00D000000000001AAA", "acme.my.salesforce.com"),
    Side.PARTNER_CENTER: Identity("partner_center", "tenant-1", "api.partner.microsoft.com"),
}
SECOND = timedelta(seconds=1)
CALL = timedelta(milliseconds=300)  # what one call takes
AROUND = frozenset(
    {"customer", "team", "contacts", "solutions"}
)  # rows of their own beside the opportunity's
STOCK = frozenset({"name", "value", "currency", "close_date", "sales_stage"})


@dataclass(frozen=True)
class CrmKind:
    """What sets one CRM apart from another, as far as a cycle can notice.

    ``exact``: a version counts every change. Otherwise it is a stamp of whole seconds, and one that was read within two
    seconds of its change may hide another (Salesforce, ``SystemModstamp``).
    ``locks``: a closed row takes nothing but its reopening, from nobody (Dynamics); ``own``: yet our own columns. A
    currency stays once it is set.
    """

    exact: bool = True
    locks: bool = False
    own: bool = True
    shape: CrmShape = SHAPE
    stages: Stages = STAGES


LIKE_SALESFORCE = CrmKind(exact=False)
LIKE_DYNAMICS = CrmKind(
    locks=True,
    # a choice for the sales stage beside the status reason; a yen has no cents
    shape=replace(SHAPE, fields=frozenset(KINDS), scales={"JPY": 0}),
    stages=Stages(),
)
POLICIES = {
    "notes": Policy.MERGE,
    "campaign_id": Policy.PARTNER_CENTER,
    "close_date": Policy.ASK,
    "customer": Policy.PARTNER_CENTER,
    **dict.fromkeys(NEWER, Policy.PARTNER_CENTER),
}


def rules(stages: Stages = STAGES, **changes: object) -> Rules:
    fields = {name: FieldRule(name, name, Flow.BOTH, POLICIES.get(name, Policy.CRM)) for name in SHARED}
    return Rules(fields=fields, stages=stages, **changes)  # type: ignore[arg-type]


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
            found |= {(name, key): member for key, member in by_key(value).items()}
        elif kind is Kind.NOTES:
            found |= {(name, line): True for line in (value or "").split("\n") if line}  # type: ignore[union-attr]
        elif name != "sales_stage":
            found[name, ""] = value
    return found


@dataclass
class Row:
    """One record of one side. ``stamp`` is its last modification, ``version`` counts them; ``saved``: when each field was."""

    id: str
    fields: dict[str, Value]
    version: int = 1
    stamp: datetime = START
    gone: bool = False
    saved: dict[str, datetime] = field(default_factory=dict)
    by_us: bool = False  # who changed it last


@dataclass
class Fault:
    """What befalls the next write of a side: ``rejected``, ``flaky``, ``away`` before it lands, ``lost``, ``unread`` after;
    ``partly``: the rows around an opportunity are refused, its columns land.
    """

    side: str
    kind: str


class CountingStore(MemoryStore):
    """The store as dictionaries, and how many of its deals stand how."""

    def another(self, name: str = "another") -> CountingStore:
        return CountingStore(name=name, shared=self._held)

    def counts(self) -> Sequence[DealCount]:
        standing = Counter(
            (
                link.phase,
                link.memory.sync_state,
                link.memory.parked,
                link.memory.rejected,
                bool(link.memory.withheld),
                _held(link),
            )
            for link in self.links()
        )
        return [DealCount(*how[:4], deals, *how[4:]) for how, deals in standing.items()]


def _held(link: Link) -> bool:
    return link.memory.failure is not None and link.memory.failure.locked


Boundary = Callable[[str], None]


def _untouched(_name: str, value: Value) -> Value:
    return value


def _never(_value: Value) -> bool:
    return False


def _no_base(_side: Side, _record: str) -> Fields:
    return {}


def _nothing(_where: str) -> None:
    return None


@dataclass
class Outside:
    """Both systems, their clock, and everything that ever changed in them."""

    kind: CrmKind = CrmKind()
    now: datetime = START
    referrals: dict[str, Row] = field(default_factory=dict)
    opportunities: dict[str, Row] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    flow: Callable[[str, Value], Value] = field(default=_untouched)  # an automation in the CRM
    flow_there: Callable[[str, Value], Value] = field(
        default=_untouched
    )  # what Partner Center makes of a write
    defaults: Mapping[str, Value] = field(default_factory=dict)  # what the CRM fills in for a new record
    born: dict[str, dict[str, Value]] = field(
        default_factory=dict
    )  # of a new record, what was not as it was given
    bad_names: set[str] = field(default_factory=set)  # the CRM takes no record of such a name
    refuses: dict[str, Callable[[Value], bool]] = field(
        default_factory=dict
    )  # fields that the CRM does not take so
    refuses_there: dict[str, Callable[[Value], bool]] = field(default_factory=dict)  # and Partner Center
    cure: Cure = Cure.SELLER  # who ends such a refusal
    at: Boundary = field(default=_nothing)
    base: Callable[[Side, str], Fields] = field(default=_no_base)
    shape: CrmShape | None = None  # what an admin made of it
    writes: int = 0
    shut_when_closed: bool = False  # a rule of the org locks closed opportunities
    doubtful: dict[str, str] = field(default_factory=dict)  # field → ignored or refused by Partner Center
    identities: dict[Side, Identity] = field(default_factory=lambda: dict(IDENTITIES))

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
        self._touch(row)
        row.by_us = not person
        row.saved |= dict.fromkeys(new, self.now)
        self.note(side, row, before, person=person)

    def _touch(self, row: Row) -> None:
        row.version += 1
        self.now += timedelta(milliseconds=1)
        row.stamp = self.now

    def version(self, row: Row) -> str:
        """The version of an opportunity, as its kind of CRM has them."""
        if self.kind.exact:
            return str(row.version)
        second = row.stamp.replace(microsecond=0)
        return second.isoformat() + (TOO_SOON if self.now - second < 2 * SECOND else "")

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
            if item.side == side:
                return self.faults.pop(index).kind
        return None

    # --- what people and time do ---

    def new_referral(self, state: State = State.RECEIVED, *, person: bool = True, **fields: Value) -> Row:
        number = len(self.referrals) + 1
        row = Row(f"R{number}", {})
        held: dict[str, Value] = {
            "name": f"Deal {number}",
            "value": Decimal(100),
            "currency": "USD",
            "close_date": (START + timedelta(days=90)).date(),
            "notes": None,
            "campaign_id": None,
            **dict.fromkeys(NEWER),
            "favorite": False,
            "customer": Customer(name="Contoso", country="US"),
            "team": (),
            "contacts": (),
            "solutions": (),
            "state": state.value,
            "status_text": STATUS_TEXT[state],
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
        self.change(Side.PARTNER_CENTER, row, held, person=person)
        return row

    def new_opportunity(self, **fields: Value) -> Row:
        """A seller's opportunity with everything that a private deal needs, to be shared."""
        row = Row(f"O{len(self.opportunities) + 1}", dict.fromkeys(sorted(self.kind.shape.fields)), version=0)
        held: dict[str, Value] = {
            "name": "ERP move",
            "value": Decimal("84000.00"),
            "currency": "USD",
            "close_date": date(2026, 11, 30),
            "customer": Customer("Harbor Mills", "Kai 7", None, "Bremen", None, None, "DE"),
            "team": (Member("ida@p.example", "Ida", "Kern", "+49"),),
            "contacts": (Member("greta@c.example", "Greta", "Oz", "+49"),),
            "solutions": (Solution("SOL-1", "Planner"),),
            "stage": "Qualification",
            "sync": True,
            "consent": True,
            "visible": False,
            "favorite": False,
            **fields,
        }
        assert held["stage"] in FLAGS
        self.opportunities[row.id] = row
        self.change(Side.CRM, row, held, person=True)
        return row

    def people(self, side: Side, record: str, fields: Fields, late: timedelta = timedelta()) -> bool:
        """Somebody edits a record; False where that system would not let him.

        ``late``: for so long the edit stood stamped, but not committed, and no pull could see it.
        """
        row = self.rows(side).get(record)
        if row is None or row.gone:
            return False
        if side is Side.PARTNER_CENTER:
            if State(str(row.fields["state"])) in TERMINAL:
                return False
        else:
            if not fields.keys() <= self.kind.shape.fields:
                return False
            if self.closed(row) and self.kind.locks and not fields.keys() <= {*AROUND, "stage"}:
                return False
            fields = self.held(row, fields)
            self._wait_for_the_next_second(row, fields)
        before = row.stamp
        self.change(side, row, fields, person=True)
        if row.stamp != before:
            row.stamp = max(row.stamp - late, min(before + SECOND, row.stamp))
        return True

    def saves(self, record: str) -> None:
        """Somebody saves an opportunity, and changes nothing of it that we read."""
        row = self.opportunities[record]
        self._touch(row)
        row.by_us = False

    def _wait_for_the_next_second(self, row: Row, fields: Fields) -> None:
        """Two saves of one field within a second look like one where versions are seconds: that is not promised."""
        this = self.now.replace(microsecond=0)
        if not self.kind.exact and any(row.saved.get(name, START) >= this for name in fields):
            self.now = this + SECOND

    def closed(self, row: Row) -> bool:
        return FLAGS[str(row.fields["stage"])].closed

    def held(self, row: Row, fields: Fields) -> dict[str, Value]:
        """What the CRM holds when it is given this."""
        shape = self.kind.shape.of_currency(str(fields.get("currency") or row.fields.get("currency") or ""))
        return {name: for_crm(name, value, shape) for name, value in fields.items()}

    def merge_accounts(self, loser: str, winner: Customer) -> None:
        """Two accounts become one: every opportunity of the one is the other's now."""
        for row in self.opportunities.values():
            customer = row.fields["customer"]
            if isinstance(customer, Customer) and customer.name == loser:
                self.people(Side.CRM, row.id, {"customer": winner})

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
            {"state": state.value, "status_text": STATUS_TEXT[state], "status_reason": "in the portal"},
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
            self._touch(row)


def _back(watermark: str | None, overlap: timedelta) -> datetime | None:
    return datetime.fromisoformat(watermark) - overlap if watermark else None


def _trouble(kind: str, system: str) -> RecordError:
    match kind:
        case "locked":
            return Locked("the entity is locked for editing", code="ENTITY_IS_LOCKED", status=400)
        case "rejected":
            return Rejected(f"{system} does not like it", code="not_liked", status=400, cure=Cure.SELLER)
        case "lost":
            return Unclear("no answer", code="timeout")
        case _:
            return Flaky("not now", code="busy", status=503)


def refused_of(
    refuses: Mapping[str, Callable[[Value], bool]], fields: Fields, cure: Cure
) -> dict[str, RecordError]:
    """What a system does not take of these fields. An amount and its currency go together, as in the adapters."""
    bad = [name for name, value in fields.items() if refuses.get(name, _never)(value)]
    refused: dict[str, RecordError] = {}
    for unit in inseparable(fields):
        if wrong := sorted(unit & set(bad)):
            error = Rejected(f"not so: {', '.join(wrong)}", code="not_so", status=400, cure=cure)
            refused |= dict.fromkeys(sorted(unit), error)
    return refused


class MemoryReferrals:
    """``ports.Referrals``."""

    def __init__(self, outside: Outside) -> None:
        self.outside = outside
        self.calls = 0
        self.outage: OutsideError | None = None

    def identity(self) -> Identity:
        return self.outside.identities[Side.PARTNER_CENTER]

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
        self.outage = None
        return [self._carry(item) for item in batch]

    def _carry(self, write: ReferralWrite) -> Outcome:
        snapshot, steps, version = None, 0, int(write.before.version)
        error: RecordError | None = None
        row, state = self.outside.referrals[write.before.id], str(write.before["state"])
        refused: dict[str, RecordError] = {}
        for asked in write.steps:
            found = refused_of(self.outside.refuses_there, asked.fields, self.outside.cure)
            refused |= found
            left = {name: each for name, each in asked.fields.items() if name not in found}
            step = Step(left, asked.state, asked.trial)
            if found and not step.fields.keys() - {"external_reference"} and step.state is None:
                return Outcome(row.id, next(iter(found.values())), snapshot, steps, refused=refused)
            kind = self.outside.fault(Side.PARTNER_CENTER)
            if kind == "away":
                self.outage = Unavailable("partner_center", "away")
            if self.outage is not None:
                return Outcome(row.id, Flaky("not now", code="unavailable"), snapshot, steps)
            self._call("write")
            error = self._take(row, step, (version, state), kind)
            state = step.state.value if step.state else state
            if step.trial and isinstance(error, Rejected):
                refused |= dict.fromkeys(step.fields, error)
                steps, snapshot, error = steps + 1, snapshot or write.before, None
            elif error is None:
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
        return Outcome(row.id, error, snapshot, steps, refused=refused)

    def _take(self, row: Row, step: Step, known: tuple[int, str], kind: str | None) -> RecordError | None:
        """``known``: version and state, as far as the caller knows."""
        if row.gone:
            return Gone("404", code="not_found", status=404)
        if kind in {"rejected", "flaky"}:
            return _trouble(kind, "Partner Center")
        if (row.version, row.fields["state"]) != known:
            return Stale("412", code="modified", status=412)
        worlds = {self.outside.doubtful.get(name) for name in step.fields}
        if "refused" in worlds:
            return Rejected("cannot be changed", code="invalidRequest", status=400)
        fields = self._judged(row, step)
        fields = {name: value for name, value in fields.items() if name not in self.outside.doubtful}
        fields = {name: self.outside.flow_there(name, value) for name, value in fields.items()}
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
            outbound = row.fields["direction"] == Direction.OUTBOUND
            if frozen(name, DealType(str(row.fields["deal_type"])), outbound=outbound):
                wrong.append(f"{row.id}: {name} is frozen")
            if name in {"team", "solutions", "value", "close_date", "name"} and value in {(), None}:
                wrong.append(f"{row.id}: {name} emptied")
            held, now = row.fields.get(name), {**row.fields, **fields}
            # an amount that is cut in one currency may be whole, and so another amount, in the next one
            shapes = [
                self.outside.kind.shape.of_currency(str(each["currency"])) for each in (row.fields, now)
            ]
            alike = all(agree(name, held, value, shape) for shape in shapes)
            if name in {"name", "value"} and held != value and alike:
                wrong.append(f"{row.id}: {name} cut down to what the CRM holds of it")
        after = {**row.fields, **fields}
        if step.state is not None:
            move = next((each for each in MOVES if (each.source, each.target) == (state, step.state)), None)
            if move is None or Actor.SELLER not in move.actors:
                wrong.append(f"{row.id}: from {state} to {step.state}")
            elif missing := [
                need for need in move.needs if after.get({"reason": "status_reason"}.get(need, need)) is None
            ]:
                wrong.append(f"{row.id}: to {step.state} without {missing}")
            fields |= {"state": step.state.value, "status_text": STATUS_TEXT[step.state]}
        return fields

    def create(self, draft: ReferralDraft) -> Outcome:
        raise NotImplementedError

    def find_created(self, external_reference: str) -> Snapshot | None:
        return None

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        return ()

    def _call(self, what: str) -> None:
        self.calls += 1
        self.outside.now += CALL
        self.outside.at(f"partner_center.{what}")

    def _snapshot(self, row: Row) -> Snapshot:
        return Snapshot(row.id, str(row.version), {**row.fields, "updated_at": row.stamp})


class MemoryCrm:
    """``ports.Crm``."""

    def __init__(self, outside: Outside, lookalikes: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.outside = outside
        self.lookalikes = lookalikes or {}
        self.calls = 0
        self.outage: OutsideError | None = None
        self._shape: CrmShape | None = None

    def identity(self) -> Identity:
        return self.outside.identities[Side.CRM]

    def shape(self) -> CrmShape:
        """As it was read at the first use: both adapters keep it until they are told to forget it (``crm.adapter``)."""
        if self._shape is None:
            now = self.outside.shape or self.outside.kind.shape
            self._shape = replace(now, stages=dict(now.stages))
        return self._shape

    def forget_shape(self) -> None:
        self._shape = None

    def stages(self) -> Mapping[str, StageFlags]:
        self._call("stages")
        return (self.outside.shape or self.outside.kind.shape).stages

    def changed_since(self, watermark: str | None, overlap: timedelta, seen: KnownRecords) -> Iterator[Page]:
        since = _back(watermark, overlap)
        rows = [row for row in self._ours() if since is None or row.stamp >= since.replace(microsecond=0)]
        rows.sort(key=lambda row: row.stamp)
        for start in range(0, max(len(rows), 1), PAGE):
            chunk = rows[start : start + PAGE]
            self._call("pull")
            known = seen.versions([row.id for row in chunk])
            fresh = [row for row in chunk if not row.gone and not self._seen(row, known.get(row.id))]
            yield Page(
                [self._snapshot(row) for row in fresh],
                [row.id for row in chunk if row.gone],
                chunk[-1].stamp.isoformat() if chunk else None,
            )

    def _ours(self) -> Sequence[Row]:
        rows = self.outside.opportunities.values()
        concerned = ("referral_id", "sync", "sync_state")
        return [row for row in rows if any(row.fields.get(name) for name in concerned)]

    def _seen(self, row: Row, known: str | None) -> bool:
        version = self.outside.version(row)
        return version == known and not version.endswith(TOO_SOON)

    def foreign_accounts(self, account_ids: Sequence[str]) -> frozenset[str]:
        raise NotImplementedError  # its customers are values without an account

    def index(self) -> Iterator[Mapping[str, str]]:
        self._call("index")
        yield {row.id: self.outside.version(row) for row in self._ours() if not row.gone}

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        self._call("fetch")
        rows = {each: self.outside.opportunities.get(each) for each in ids}
        return {each: None if row is None or row.gone else self._snapshot(row) for each, row in rows.items()}

    def find(self, sought: Sequence[MatchQuery]) -> Mapping[str, Matches]:
        self._call("find")
        here = {id_: row for id_, row in self.outside.opportunities.items() if not row.gone}
        held = {
            str(row.fields["referral_id"]): id_ for id_, row in here.items() if row.fields.get("referral_id")
        }
        return {
            each.referral_id: Matches(
                held.get(each.referral_id),
                each.external_reference if each.external_reference in here else None,
                self.lookalikes.get(each.referral_id, ()),
            )
            for each in sought
        }

    def write(self, batch: Sequence[OpportunityWrite]) -> Sequence[Outcome]:
        self.outage = None
        return [self._carry(item) for item in batch]

    def _carry(self, write: OpportunityWrite) -> Outcome:
        row = self.outside.opportunities[write.before.id]
        kind = self.outside.fault(Side.CRM)
        if kind == "away":
            self.outage = Unavailable("salesforce", "away")
        if self.outage is not None:
            return Outcome(row.id, Flaky("not now", code="unavailable"))
        self._call("write")
        if error := self._turned_down(row, write, kind):
            return Outcome(row.id, error)
        locked = self._locked(row) & {**write.fields, **write.words}.keys()
        reopened = "stage" in write.fields and write.fields["stage"] != row.fields["stage"]
        if locked and not reopened:
            self.outside.violations.append(f"{row.id}: {sorted(locked)} written though it does not take them")
        self._check_demands(row.id, write.fields)
        refused = refused_of(self.outside.refuses, write.fields, self.outside.cure)
        unfinished = kind == "partly" and AROUND & write.fields.keys()
        left_out = {*refused, *(unfinished or ())}
        fields = {name: value for name, value in write.fields.items() if name not in left_out}
        if not refused.keys() - AROUND:  # the rows around it follow once its own row is written
            fields |= write.words
        if refused and fields.keys() <= STATUS_FIELDS.keys() - {"referral_id"}:
            fields = {}
        if refused and not fields:
            error = next(iter(refused.values()))
            return Outcome(row.id, error, self._snapshot(row), refused=refused)
        self.outside.writes += 1
        self._put(row, fields)
        self.outside.at("landed")
        if kind == "lost":
            return Outcome(row.id, _trouble(kind, "The CRM"))
        failed = _trouble("rejected", "The CRM") if unfinished else None
        after = None if kind == "unread" else self._snapshot(row)
        return Outcome(row.id, failed, after, int(failed is None), refused=refused)

    def _turned_down(self, row: Row, write: OpportunityWrite, kind: str | None) -> RecordError | None:
        """Why nothing of this write lands, whatever its fields are."""
        if row.gone:
            return Gone("deleted", code="NOT_FOUND")
        if write.fields.get("name") in self.outside.bad_names:
            kind = "rejected"
        if kind in {"rejected", "flaky", "locked"}:
            return _trouble(kind, "The CRM")
        if self.outside.shut_when_closed and self.outside.closed(row) and "stage" not in write.fields:
            text = "A closed opportunity cannot be changed."
            return Rejected(text, code="FIELD_CUSTOM_VALIDATION_EXCEPTION")
        if not same_version(self.outside.version(row), write.before.version):
            return Stale("changed", code="stale")
        return None

    def create(self, batch: Sequence[OpportunityDraft]) -> Sequence[Outcome]:
        self.outage = None
        return [self._make(item) for item in batch]

    def _make(self, draft: OpportunityDraft) -> Outcome:
        kind = self.outside.fault(Side.CRM)
        if kind == "away":
            self.outage = Unavailable("salesforce", "away")
        if self.outage is not None:
            return Outcome(None, Flaky("not now", code="unavailable"))
        self._call("create")
        if draft.fields.get("name") in self.outside.bad_names:
            kind = "rejected"
        if kind in {"rejected", "flaky"}:
            return Outcome(None, _trouble(kind, "The CRM"))
        self._check_demands(draft.referral_id, {"name": None, "close_date": None, **draft.fields})
        self.outside.writes += 1
        row = self._holder(draft.referral_id)
        if row is None:
            row = Row(
                f"O{len(self.outside.opportunities) + 1}",
                dict.fromkeys(sorted(self.outside.kind.shape.fields)),
                version=0,
            )
            row.fields |= {
                "sync": False,
                "referral_id": draft.referral_id,
                "team": (),
                "contacts": (),
                "solutions": (),
            }
            self.outside.opportunities[row.id] = row
        fresh = row.version == 0
        filled = {
            name: value for name, value in self.outside.defaults.items() if draft.fields.get(name) is None
        }
        refused = refused_of(self.outside.refuses, draft.fields, self.outside.cure)
        taken = {name: value for name, value in draft.fields.items() if name not in refused}
        given = {**taken, **(filled if fresh else {}), "referral_id": draft.referral_id}
        self._put(row, given, made=fresh)
        if fresh:
            asked = self.outside.held(row, taken)
            self.outside.born[row.id] = {
                name: row.fields[name] for name in SHARED if name in asked and row.fields[name] != asked[name]
            }
        self.outside.at("landed")
        if kind == "lost":
            return Outcome(None, _trouble(kind, "The CRM"))
        return Outcome(row.id, None, None if kind == "unread" else self._snapshot(row), 1, refused=refused)

    def _check_demands(self, record: str, fields: Fields) -> None:
        """What both CRMs refuse: no name, no close date, an amount or a currency that they do not hold."""
        shape = self.outside.shape or self.outside.kind.shape
        wrong = [name for name in ("name", "close_date") if name in fields and not fields[name]]
        value, currency = fields.get("value"), fields.get("currency")
        if isinstance(value, Decimal) and not shape.minimum <= value <= shape.maximum:
            wrong.append("value")
        if currency and currency not in shape.currencies:
            wrong.append("currency")
        if wrong:
            self.outside.violations.append(f"{record}: {wrong} written though the CRM does not take them")

    def _holder(self, referral_id: str) -> Row | None:
        """The opportunity that has this referral id; the CRM lets no second one have it."""
        alive = (row for row in self.outside.opportunities.values() if not row.gone)
        return next((row for row in alive if row.fields.get("referral_id") == referral_id), None)

    def _put(self, row: Row, fields: Fields, *, made: bool = False) -> None:
        """``made``: the record is new: what flows make of it is how it came into the world, and nobody's edit."""
        self.outside.change(Side.CRM, row, self.outside.held(row, fields), person=False)
        rewritten = {name: self.outside.flow(name, row.fields[name]) for name in fields if name in SHARED}
        self.outside.change(Side.CRM, row, rewritten, person=not made)
        row.by_us = True

    def _call(self, what: str) -> None:
        self.calls += 1
        self.outside.now += CALL
        self.outside.at(f"crm.{what}")

    def _snapshot(self, row: Row) -> Snapshot:
        flags = FLAGS[str(row.fields["stage"])]
        return Snapshot(
            row.id,
            self.outside.version(row),
            {**row.fields, "is_closed": flags.closed, "is_won": flags.won},
            self._locked(row),
            last_by_us=row.by_us,
        )

    def _locked(self, row: Row) -> frozenset[str]:
        """Fields that the row does not take just now."""
        kind = self.outside.kind
        if not kind.locks:
            return frozenset()
        currency = frozenset({"currency"} if row.fields["currency"] else ())
        if not self.outside.closed(row):
            return currency
        return currency | STOCK | (frozenset() if kind.own else kind.shape.fields - {*AROUND, "stage"})
