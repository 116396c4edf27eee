"""People, crashes, lost answers and races played against the real cycle, and the promises checked after quiet cycles.

What is random is data: edits people make, and what happens at which boundary of a cycle (a crash, a fault, an edit in
the very moment between reading and writing). ``HYPOTHESIS_PROFILE=nightly`` plays for long.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cosell_sync.core import deal, settle
from cosell_sync.core.attempts import Patience, freed
from cosell_sync.core.deal import (
    ABSENT,
    KINDS,
    SHARED,
    Customer,
    Entry,
    Intent,
    Kind,
    Link,
    Member,
    Side,
    Snapshot,
    Solution,
    State,
    Step,
    Value,
)
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.mapping import Standing, agree, same
from cosell_sync.core.reconcile import Decision, decide, state_of
from cosell_sync.core.tell import conflict_text, tell
from cosell_sync.cycle import exchange, look
from cosell_sync.cycle.context import Habits, Run, World
from cosell_sync.cycle.run import run_cycle
from cosell_sync.errors import OutsideError, RecordError
from cosell_sync.ports import Memo, OpportunityWrite, Outcome
from memory_world import (
    SHAPE,
    STAGES,
    Change,
    CountingStore,
    Fault,
    MemoryCrm,
    MemoryReferrals,
    Outside,
    Row,
    elements,
    rules,
)

settings.register_profile(
    "ci",
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
settings.register_profile("nightly", settings.get_profile("ci"), max_examples=10_000, derandomize=False)
PROFILE = settings.get_profile("nightly" if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else "ci")

QUIET_CYCLES = 3
# What the CRM may hold its own way: an account that was there before, members that it cannot hold. What it reads back
# right after a write is taken for that, so a colleague's edit of these in that very moment is not known as one.
OWN_WAY = {"customer", "team", "contacts", "solutions"}
DEALS = 3
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Thousands of cycles are played; nobody reads their events."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


class Crash(BaseException):
    """The process is killed."""


# --- what people do, as data -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Edit:
    """Somebody does ``what`` to the deal number ``deal`` on one side; where that system would not let him, nothing."""

    side: Side
    deal: int
    what: str
    value: object = None

    def __repr__(self) -> str:
        return f"{self.side}.{self.deal}.{self.what}={self.value!r}"

    def __call__(self, outside: Outside) -> None:
        record = self._record(outside)
        if record is None:
            return
        row = outside.rows(self.side)[record]
        match self.what:
            case "add" | "remove":
                assert isinstance(self.value, tuple)
                name, item = self.value
                held = {each.key: each for each in row.fields[name] or ()}  # type: ignore[union-attr]
                if self.what == "add":
                    held[item.key] = item
                else:
                    held.pop(item.key, None)
                if not held and name != "contacts" and self.side is Side.PARTNER_CENTER:
                    return
                outside.people(self.side, record, {name: tuple(held.values())})
            case "line":
                text = str(row.fields["notes"] or "")
                lines = text.split("\n") if text else []
                (lines.remove if self.value in lines else lines.append)(str(self.value))
                outside.people(self.side, record, {"notes": "\n".join(lines) or None})
            case "move":
                outside.portal_moves(record, State(str(self.value)))
            case "vanish" | "return":
                outside.vanish(self.side, record, gone=self.what == "vanish")
            case field:
                outside.people(self.side, record, {field: self.value})  # type: ignore[dict-item]

    def _record(self, outside: Outside) -> str | None:
        if not outside.referrals:
            return None
        referral = f"R{self.deal % len(outside.referrals) + 1}"
        if self.side is Side.PARTNER_CENTER:
            return referral if referral in outside.referrals else None
        rows = outside.opportunities.items()
        alive = [id_ for id_, row in rows if row.fields.get("referral_id") == referral]
        return alive[-1] if alive else None


VALUES: Mapping[str, tuple[Value, ...]] = {
    "value": (Decimal(100), Decimal("200.005"), Decimal(300)),
    "close_date": (date(2026, 4, 5), date(2026, 5, 1), date(2026, 6, 1)),
    "campaign_id": (None, "C1", "C2"),
    "name": ("Deal 1", "Beta", "A name too long for the CRM"),
    "customer": (Customer(name="Contoso", country="US"), Customer(name="Fabrikam", country="US")),
    "favorite": (False, True),
}
SETS: Mapping[str, tuple[Member | Solution, ...]] = {
    "contacts": (Member("a@x"), Member("a@x", phone="1"), Member("a@x", phone="2"), Member("b@x")),
    "team": (Member("t@x"), Member("u@x")),
    "solutions": (Solution("S1", "One"), Solution("S2", "Two")),
}
Thing = tuple[str, object]
PORTAL: list[Thing] = [
    *(("sales_stage", each) for each in ("Qualify", "Develop", "Propose")),
    *(("move", each) for each in (State.ACCEPTED, State.DECLINED, State.WON, State.LOST)),
]
SELLER: list[Thing] = [
    *(("stage", each) for each in ("Prospecting", "Qualification", "Proposal", "Closed Won", "Closed Lost")),
    *(("action", each) for each in ("Accept", "Decline", None)),
    *(("reason", each) for each in ("Other", None)),
    ("sync", False),
    ("sync", True),
]
FIELD: list[Thing] = [
    *((name, each) for name, values in VALUES.items() for each in values),
    *((what, (name, each)) for what in ("add", "remove") for name in SETS for each in SETS[name]),
    *(("line", each) for each in ("one", "two", "three")),
]


def _edits(side: Side, things: list[Thing]) -> st.SearchStrategy[Edit]:
    return st.sampled_from([Edit(side, number, *thing) for thing in things for number in range(DEALS)])


EDITS = st.one_of(
    _edits(Side.PARTNER_CENTER, FIELD),
    _edits(Side.CRM, FIELD),
    _edits(Side.CRM, SELLER),
    _edits(Side.PARTNER_CENTER, PORTAL),
)
EVENTS = st.one_of(
    st.just(None),  # a crash
    st.builds(Fault, st.sampled_from(Side), st.sampled_from(("rejected", "flaky", "away", "lost", "unread"))),
    EDITS,
)
Event = None | Fault | Edit


# --- the machine -------------------------------------------------------------------------------------------------


class Convergence(RuleBasedStateMachine):
    """Two fixed sides, at most three deals, few values."""

    def __init__(self) -> None:
        super().__init__()
        self.outside = Outside(base=self._base)
        self.store = CountingStore()
        self.past: list[Entry] = []  # journals of stores that were lost
        self.number = 0
        self.own: set[tuple[str, str]] = set()
        self.marked_at: dict[str, datetime] = {}
        self.marks: dict[str, int] = {}  # per deal: changes up to here were found carried

    @initialize(
        write_name=st.booleans(),
        hold=st.sampled_from((0, 15)),
        rounds=st.booleans(),
        states=st.lists(st.sampled_from((State.RECEIVED, State.ACCEPTED)), max_size=DEALS),
    )
    def start(self, write_name: bool, hold: int, rounds: bool, states: list[State]) -> None:
        self.rules = rules(write_name=write_name, write_favorite=True, terminal_hold=hold * MINUTE)
        if rounds:  # a flow in the CRM that knows amounts better than anybody
            self.outside.flow = lambda name, value: (
                Decimal(250) if (name, value) == ("value", Decimal(300)) else value
            )
        for state in states:
            self.outside.new_referral(state, solutions=SETS["solutions"][:1])
        self._cycle({})

    # --- people ---

    @precondition(lambda self: len(self.outside.referrals) < DEALS)
    @rule(state=st.sampled_from((State.RECEIVED, State.ACCEPTED)), solution=st.booleans())
    def new_referral(self, state: State, solution: bool) -> None:
        self.outside.new_referral(state, solutions=SETS["solutions"][:1] if solution else ())

    @precondition(lambda self: self.outside.referrals)
    @rule(edits=st.lists(EDITS, min_size=1, max_size=3))
    def people(self, edits: list[Edit]) -> None:
        for edit in edits:
            edit(self.outside)

    @precondition(lambda self: self.outside.referrals)
    @rule(side=st.sampled_from(Side), number=st.integers(0, DEALS - 1), gone=st.booleans())
    def vanish_or_return(self, side: Side, number: int, gone: bool) -> None:
        Edit(side, number, "vanish" if gone else "return")(self.outside)

    @rule(span=st.sampled_from((MINUTE, 20 * MINUTE, timedelta(days=4), timedelta(days=8))))
    def time_passes(self, span: timedelta) -> None:
        self.outside.pass_time(span)

    def _base(self, side: Side, record: str) -> Mapping[str, Value]:
        """What the sync takes for agreed on this side, or has just sent there without hearing of it."""
        find = self.store.by_referral if side is Side.PARTNER_CENTER else self.store.by_opportunity
        link = find([record]).get(record)
        if link is None:
            return {}
        sent = [intent.fields for intent in self.store.intents([link.key]) if intent.side is side]
        base = link.base_referral if side is Side.PARTNER_CENTER else link.base_opportunity
        return {**base, **(sent[0] if sent else {})}

    # --- cycles ---

    @rule()
    def cycle(self) -> None:
        self._cycle({})

    @precondition(lambda self: self.outside.referrals)
    @rule(events=st.lists(st.tuples(st.integers(1, 40), EVENTS), min_size=1, max_size=4))
    def troubled_cycle(self, events: list[tuple[int, Event]]) -> None:
        """Things happen in the middle of a cycle, counted in boundaries passed."""
        self._cycle(dict(events))
        self.outside.faults.clear()

    @precondition(lambda self: self.outside.referrals)
    @rule(
        side=st.sampled_from(Side),
        number=st.integers(0, DEALS - 1),
        name=st.sampled_from(sorted(VALUES)),
        values=st.permutations(range(3)),
        kind=st.sampled_from(("lost", "unread")),
    )
    def contested(self, side: Side, number: int, name: str, values: list[int], kind: str) -> None:
        """Nobody heard whether an edit arrived, and somebody over there edits the same field."""
        other = Side.CRM if side is Side.PARTNER_CENTER else Side.PARTNER_CENTER
        mine, theirs = (VALUES[name][index % len(VALUES[name])] for index in values[:2])
        Edit(side, number, name, mine)(self.outside)
        self.outside.faults.append(Fault(other, kind))
        self._cycle({})
        self.outside.faults.clear()
        Edit(other, number, name, theirs)(self.outside)

    @precondition(lambda self: self.outside.referrals)
    @rule(
        side=st.sampled_from(Side),
        number=st.integers(0, DEALS - 1),
        name=st.sampled_from(sorted(VALUES)),
        values=st.permutations(range(3)),
        boundary=st.integers(1, 12),
    )
    def raced(self, side: Side, number: int, name: str, values: list[int], boundary: int) -> None:
        """An edit is on its way, and somebody over there edits the same field in that moment."""
        other = Side.CRM if side is Side.PARTNER_CENTER else Side.PARTNER_CENTER
        mine, theirs = (VALUES[name][index % len(VALUES[name])] for index in values[:2])
        Edit(side, number, name, mine)(self.outside)
        self._cycle({boundary: Edit(other, number, name, theirs)})

    @precondition(lambda self: not any(row.gone for side in Side for row in self.outside.rows(side).values()))
    @rule()
    def lose_store(self) -> None:
        """The base is lost: nothing may be deleted for lack of it, so what took something away and was not carried is
        void. The next cycle makes a new one.
        """
        self.past += self._journal()
        self.store = CountingStore()
        taken = {(item.deal, item.element) for item in self._since_marks() if item.value is None}
        self.outside.changes[:] = [
            item if (item.deal, item.element) not in taken else replace(item, person=False)
            for item in self.outside.changes
        ]
        self._cycle({})

    @rule()
    def quiet(self) -> None:
        """When edits stop, both sides agree, and nothing more is written."""
        for _ in range(QUIET_CYCLES):
            self._cycle({})
        self._wait_out_attempts()
        before = self.outside.writes
        versions = self._versions()
        self._cycle({}, pause=timedelta())  # no deadline passes
        assert (self.outside.writes, self._versions()) == (before, versions), "a quiet cycle wrote"
        self._check()

    def teardown(self) -> None:
        if hasattr(self, "rules"):
            self.quiet()

    def _cycle(self, events: Mapping[int, Event], pause: timedelta = MINUTE) -> None:
        self.number += 1
        self.outside.now += pause
        passed = 0

        def at(_where: object) -> None:
            nonlocal passed
            passed += 1
            match events.get(passed, False):
                case None:
                    raise Crash
                case Fault() as fault:
                    self.outside.faults.append(fault)
                case Edit() as edit:
                    edit(self.outside)

        store = self.store = self.store.another()
        self.outside.at = store.before_remember = store.after_remember = at
        world = World(
            MemoryReferrals(self.outside),
            MemoryCrm(self.outside),
            store,
            self.outside.clock,
            self.rules,
            Habits(surprise_min=DEALS, patience=Patience(MINUTE, 4)),
        )
        try:
            with store.lease(timedelta()):
                run_cycle(world, f"c{self.number}")
        except (Crash, OutsideError):
            pass
        finally:
            self.outside.at = lambda _where: None
            store.before_remember = store.after_remember = None
        assert not self.outside.violations

    def _wait_out_attempts(self) -> None:
        """Refused deals rest between tries; a person frees the parked ones."""
        for _ in range(8):
            waiting = [link for link in self.store.links() if link.memory.next_attempt or link.memory.parked]
            if not waiting:
                return
            self.store = self.store.another()
            with self.store.lease(timedelta()):
                self.store.remember(
                    Memo(
                        links=[
                            replace(link, memory=freed(link.memory), dirty=True)
                            for link in waiting
                            if link.memory.parked
                        ]
                    )
                )
            self.outside.pass_time(10 * MINUTE)
            self._cycle({})
            self._cycle({})

    # --- the promises ---

    def _check(self) -> None:
        for referral_id, referral in self.outside.referrals.items():
            alive = [
                row
                for row in self.outside.opportunities.values()
                if row.fields["referral_id"] == referral_id and not row.gone
            ]
            assert len(alive) <= 1, f"{referral_id} has {len(alive)} opportunities"
            link = self.store.by_referral([referral_id]).get(referral_id)
            if link is None:
                assert referral.gone
                continue
            if link.phase is not deal.Phase.LINKED:
                assert referral.gone or State(str(referral.fields["state"])) in TERMINAL, (
                    f"{referral_id} was not imported"
                )
                continue
            if referral.gone:
                continue  # a pull cannot show it; a write, or the full compare, does
            assert (link.memory.gone is Side.CRM) is (not alive)
            if alive:
                self._check_deal(link, alive[0].fields)

    def _check_deal(self, link: Link, record: Mapping[str, Value]) -> None:
        world = MemoryReferrals(self.outside), MemoryCrm(self.outside)
        referral, opportunity = (
            port.fetch([id_ or ""])[id_ or ""]
            for port, id_ in zip(world, (link.referral_id, link.opportunity_id), strict=True)
        )
        assert referral is not None
        assert opportunity is not None
        assert (link.referral, link.opportunity) == (referral, opportunity), "a change was not seen"
        assert link.memory.trouble is None, link.memory.trouble
        decision = decide(link, self.rules, SHAPE, self.outside.now)
        assert not decision.steps
        assert not decision.crm
        told = tell(decision, (), SHAPE, self.outside.now)
        assert not told.fields
        message = str(record["message"] or "")
        for hold in decision.holds:
            assert hold.text
            assert hold.text in message
        for conflict in decision.conflicts:
            if conflict.kept is None:
                assert conflict_text(conflict, SHAPE) in message
        if any(hold.field == "sync" for hold in decision.holds):
            return
        named = {hold.field for hold in decision.holds} | {each.field for each in decision.conflicts}
        for name in SHARED.keys() - named - {"sales_stage"}:
            if name in OWN_WAY and same(
                KINDS[name], link.base_opportunity.get(name, ABSENT), opportunity[name]
            ):
                self.own.add((link.key, name))
                continue
            assert agree(name, referral[name], opportunity[name], SHAPE), f"{name} differs and nobody says so"
        self._check_stage(referral, opportunity, named)
        self._check_edits(link, decision, referral, opportunity, named)

    def _check_stage(self, referral: Snapshot, opportunity: Snapshot, named: set[str]) -> None:
        state, standing = state_of(referral), STAGES.standing(opportunity)
        if named & {"stage", "status", "reason", "value", "close_date"}:
            return
        match state:
            case State.ACCEPTED:
                assert standing in {Standing.OPEN, Standing.STANDBY}
                there, here = referral["sales_stage"], STAGES.sales_stage(opportunity.text("stage"))
                if there not in {ABSENT, None} and here is not ABSENT and "sales_stage" not in named:
                    assert there == here
            case State.RECEIVED:
                assert not opportunity.text("action")
            case _:
                assert standing is (Standing.WON if state is State.WON else Standing.LOST)

    def _since_marks(self) -> list[Change]:
        return [item for item in self.outside.changes if item.at >= self.marks.get(item.deal, 0)]

    def _check_edits(
        self, link: Link, decision: Decision, referral: Snapshot, opportunity: Snapshot, named: set[str]
    ) -> None:
        """The last edit of an element on each side reached the other one, or a conflict names it."""
        deal = referral.id
        conflicts = {
            item.field
            for item in [*self.past, *self._journal()]
            if item.link == link.key
            and item.action == "conflict"
            and item.at >= self.marked_at.get(deal, item.at)
        }
        now = {Side.PARTNER_CENTER: elements(referral.fields), Side.CRM: elements(opportunity.fields)}
        records = {referral.id, opportunity.id}  # one that was deleted took its edits along
        changes = [item for item in self._since_marks() if item.deal == deal and item.record in records]
        for element in {item.element for item in changes if item.person} - {(name, "") for name in named}:
            name = element[0]
            if name in named or name in conflicts or (link.key, name) in self.own:
                continue
            last = {
                side: edits[-1]
                for side in Side
                if (
                    edits := [
                        each
                        for each in changes
                        if each.person and each.side is side and each.element == element
                    ]
                )
            }
            for side, edit in last.items():
                other = Side.CRM if side is Side.PARTNER_CENTER else Side.PARTNER_CENTER
                if self._equal(name, side, edit.value, edit.base):
                    continue  # put back: no change at all
                if edit.base is ABSENT and edit.value is None:
                    continue  # nothing is taken away for lack of a base
                over_there = [
                    each
                    for each in self.outside.changes
                    if (each.deal, each.side, each.element) == (deal, other, element)
                ]
                before = [each.value for each in over_there if each.at < edit.at]
                reached = [
                    before[-1] if before else None,
                    *(each.value for each in over_there if each.at >= edit.at),
                ]
                reached.append(now[other].get(element))
                if len(last) == 1:
                    reached = reached[-1:]
                assert any(self._equal(name, side, edit.value, value) for value in reached), (
                    f"{element}: {edit.value!r} of {side} was lost; {other} holds {now[other].get(element)!r}"
                )
        if not named:
            self.marks[deal] = len(self.outside.changes)
            self.marked_at[deal] = self.outside.now

    @staticmethod
    def _equal(name: str, side: Side, value: object, other: object) -> bool:
        if KINDS[name] in {Kind.MEMBERS, Kind.SOLUTIONS, Kind.NOTES} or other is ABSENT:
            return value == other
        pair = (value, other) if side is Side.PARTNER_CENTER else (other, value)
        return agree(name, *pair, SHAPE)  # type: ignore[arg-type]

    def _journal(self) -> list[Entry]:
        return [entry for link in self.store.links() for entry in self.store.journal(link.key, 10_000)]

    def _versions(self) -> dict[str, int]:
        return {id_: row.version for side in Side for id_, row in self.outside.rows(side).items()}


def play(examples: int | None = None) -> None:
    """``examples``: so many at most and without shrinking, to see whether the machine notices something at all."""
    chosen = PROFILE
    if examples is not None:
        chosen = settings(PROFILE, max_examples=examples, phases=[Phase.generate], report_multiple_bugs=False)
    run_state_machine_as_test(Convergence, settings=chosen)


def test_two_systems_and_their_people_agree_in_the_end() -> None:
    play()


# --- the rules bite: with one of them switched off, the machine must notice ----------------------------------------


def _base_moves_before_the_write(patch: pytest.MonkeyPatch) -> None:
    """Rule 1."""
    announce = exchange.__dict__["_announce"]

    def early(run: Run, decision: Decision) -> Intent:
        intent: Intent = announce(run, decision)
        bases = (
            {**decision.link.base_referral, **intent.fields},
            {**decision.link.base_opportunity, **intent.source},
        )
        for base in bases:
            base.pop("state", None)
        moved = replace(decision.link, base_referral=bases[0], base_opportunity=bases[1])
        object.__setattr__(decision, "link", moved)
        return intent

    patch.setattr(exchange, "_announce", early)


def _base_takes_in_what_was_sent(patch: pytest.MonkeyPatch) -> None:
    """Rule 2: what the side held before the write and what was sent, not what it holds after."""
    patch.setattr(settle, "learn", lambda name, written, source, fact: (fact.before, fact.source))


def _intents_are_never_settled(patch: pytest.MonkeyPatch) -> None:
    """Rule 4."""
    patch.setattr(look, "settle", lambda link, _intent: link)


def _writes_are_not_guarded(patch: pytest.MonkeyPatch) -> None:
    """Rule 5: whatever version a write was planned on, it lands."""
    take, carry = MemoryReferrals._take, MemoryCrm._carry

    def taken(
        port: MemoryReferrals, row: Row, step: Step, _version: int, kind: str | None
    ) -> RecordError | None:
        return take(port, row, step, row.version, kind)

    def carried(port: MemoryCrm, write: OpportunityWrite) -> Outcome:
        version = str(port.outside.opportunities[write.before.id].version)
        return carry(port, replace(write, before=replace(write.before, version=version)))

    patch.setattr(MemoryReferrals, "_take", taken)
    patch.setattr(MemoryCrm, "_carry", carried)


@pytest.mark.parametrize(
    "rule_off",
    [
        _base_moves_before_the_write,
        _base_takes_in_what_was_sent,
        _intents_are_never_settled,
        _writes_are_not_guarded,
    ],
)
def test_the_rules_bite(
    rule_off: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the rules that keep two systems equal is missed when it is left out."""
    rule_off(monkeypatch)
    with pytest.raises(AssertionError):
        play(400)
