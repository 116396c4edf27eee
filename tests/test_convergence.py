"""People, crashes, lost answers and races played against the real cycle, and the promises checked after quiet cycles.

What is random is data: edits people make, and what happens at which boundary of a cycle (a crash, a fault, a second
daemon, an edit in the very moment between reading and writing). It is played against a CRM like Salesforce and against
one like Dynamics. ``HYPOTHESIS_PROFILE=nightly`` plays for long.

A failure prints a script, from ``state = `` to ``state.teardown()``. It is Python: save it to a file and play it again by

    .venv/bin/python tests/test_convergence.py FILE

``test_rules_bite`` holds such prints.
"""

from __future__ import annotations

import datetime as dt
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

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

from cosell_sync.core import memory
from cosell_sync.core.capabilities import FIELDS, Capability, found_of
from cosell_sync.core.deal import (
    ABSENT,
    Customer,
    Member,
    Side,
    Snapshot,
    Solution,
    State,
    Value,
    same_version,
    state_of,
)
from cosell_sync.core.decision import Decision, HoldKind
from cosell_sync.core.fields import KINDS, SHARED, Kind, partners
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import INTERNAL_ERROR, FinalKind, JournalEntry, Link, OperatorCommand, Verb
from cosell_sync.core.normalize import agree, same
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import RetryPolicy, freed
from cosell_sync.core.rules import CrmShape, Standing
from cosell_sync.core.status import conflict_text, status_report
from cosell_sync.cycle.commands import obey
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Fenced, OutsideError
from cosell_sync.ports import Transaction
from memory_sharing import HELP, Crash, Posts
from memory_systems import (
    LIKE_DYNAMICS,
    LIKE_SALESFORCE,
    SHAPE,
    Change,
    CountingStore,
    CrmKind,
    Fault,
    MemoryCrm,
    Outside,
    elements,
    rules,
)

PC = Side.PARTNER_CENTER

settings.register_profile(
    "ci",
    max_examples=100,  # for each kind of CRM
    stateful_step_count=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=False,
)
settings.register_profile("nightly", settings.get_profile("ci"), max_examples=5_000, derandomize=False)
PROFILE = settings.get_profile("nightly" if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else "ci")

QUIET_CYCLES = 3
# What the CRM may hold its own way: an account that was there before, members that it cannot hold. What it reads back
# right after a write is taken for that, so a colleague's edit of these in that very moment is not known as one.
OWN_WAY = {"customer", "team", "contacts", "solutions"}
DEALS = 3
OVERLAP = timedelta(minutes=5)
SIDES = ("partner_center", "crm")  # as words, like all that a script is made of
OPEN_STATES = ("Received", "Accepted")
LATE = (timedelta(), timedelta(seconds=40), timedelta(minutes=4))  # how long edits take to be committed
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Thousands of cycles are played; nobody reads their events."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


# --- what people do, as data -------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Edit:
    """Somebody does ``what`` to the deal number ``deal`` on one side; where that system would not let him, nothing.

    ``late``: for so long nobody could see it, though it was stamped already.
    """

    side: str
    deal: int
    what: str
    value: object = None
    late: timedelta = timedelta()

    def __repr__(self) -> str:
        late = f", late={self.late!r}" if self.late else ""
        return f"Edit({self.side!r}, {self.deal}, {self.what!r}, {self.value!r}{late})"

    def __call__(self, outside: Outside) -> None:
        side, record = Side(self.side), self._record(outside)
        if record is None:
            return
        row = outside.rows(side)[record]
        match self.what:
            case "add" | "remove":
                assert isinstance(self.value, tuple)
                name, item = self.value
                held = {each.key: each for each in row.fields[name] or ()}  # type: ignore[union-attr]
                if self.what == "add":
                    held[item.key] = item
                else:
                    held.pop(item.key, None)
                if not held and name != "contacts" and side is Side.PARTNER_CENTER:
                    return
                outside.people(side, record, {name: tuple(held.values())}, self.late)
            case "line":
                text = str(row.fields["notes"] or "")
                lines = text.split("\n") if text else []
                (lines.remove if self.value in lines else lines.append)(str(self.value))
                outside.people(side, record, {"notes": "\n".join(lines) or None}, self.late)
            case "move":
                outside.portal_moves(record, State(str(self.value)))
            case "vanish" | "return":
                outside.vanish(side, record, gone=self.what == "vanish")
            case field:
                outside.people(side, record, {field: self.value}, self.late)  # type: ignore[dict-item]

    def _record(self, outside: Outside) -> str | None:
        """The record of this deal on this side; the deals are the referrals, then what was not shared yet."""
        rows = outside.opportunities
        deals = [*outside.referrals, *(id_ for id_, row in rows.items() if not row.fields["referral_id"])]
        deal = deals[self.deal % len(deals)]
        if self.side == "partner_center" or deal in rows:
            return deal if deal in outside.rows(Side(self.side)) else None
        of_referral = [id_ for id_, row in rows.items() if row.fields["referral_id"] == deal]
        return of_referral[-1] if of_referral else None


@dataclass(frozen=True)
class Rival:
    """A second daemon takes the lease from us and plays a whole cycle; then we go on, until the store refuses us."""


VALUES: Mapping[str, tuple[Value, ...]] = {
    "value": (Decimal(100), Decimal("200.005"), Decimal(300)),
    "currency": ("USD", "JPY"),
    "close_date": (date(2026, 4, 5), date(2026, 5, 1), date(2026, 6, 1)),
    "campaign_id": (None, "C1", "C2"),
    "solution_area": (None, "Security", "Data & AI"),  # Partner Center fixes it once a deal exists
    "name": ("Deal 1", "Beta", "A name too long for the CRM"),
    "customer": (Customer(name="Contoso", country="US"), Customer(name="Fabrikam", country="US")),
    "favorite": (False, True),
}
SETS: Mapping[str, tuple[Member | Solution, ...]] = {
    "contacts": (
        Member("a@x.example"),
        Member("a@x.example", phone="1"),
        Member("a@x.example", phone="2"),
        Member("b@x.example"),
    ),
    "team": (Member("t@x.example"), Member("u@x.example")),
    "solutions": (Solution("S1", "One"), Solution("S2", "Two")),
}
GAPS: Mapping[str, Mapping[str, Value]] = {
    "no date": {"close_date": None},
    "date not told": {"close_date": ABSENT},
    "no name": {"name": None},
    "too much": {"value": Decimal("1e17")},
    "foreign": {"currency": "PLN"},
}
Thing = tuple[str, object]
PORTAL: list[Thing] = [
    *(("sales_stage", each) for each in ("Qualify", "Develop", "Propose")),
    *(("move", each) for each in ("Accepted", "Declined", "Won", "Lost")),
]
SELLER: list[Thing] = [
    *(("stage", each) for each in ("Prospecting", "Qualification", "Proposal", "Closed Won", "Closed Lost")),
    *(("action", each) for each in ("Accept", "Decline", None)),
    *(("reason", each) for each in ("Other", None)),
    ("sync", False),
    ("sync", True),
    ("visible", True),
    ("help", HELP),
    *(("sales_stage", each) for each in ("Qualify", "Propose")),  # where the CRM has such a field
]
FIELD: list[Thing] = [
    *((name, each) for name, values in VALUES.items() for each in values),
    *((what, (name, each)) for what in ("add", "remove") for name in SETS for each in SETS[name]),
    *(("line", each) for each in ("one", "two", "three")),
]


def _edits(side: str, things: list[Thing]) -> st.SearchStrategy[Edit]:
    each = [Edit(side, number, *thing) for thing in things for number in range(DEALS)]
    return st.builds(replace, st.sampled_from(each), late=st.sampled_from(LATE))


EDITS = st.one_of(
    _edits("partner_center", FIELD),
    _edits("crm", FIELD),
    _edits("crm", SELLER),
    _edits("partner_center", PORTAL),
)
EVENTS = st.one_of(
    st.just(None),  # a crash
    st.builds(
        Fault,
        st.sampled_from(SIDES),
        st.sampled_from(("rejected", "flaky", "away", "lost", "unread", "partly")),
    ),
    EDITS,
    st.just(Rival()),
)
Event = None | Fault | Edit | Rival


# --- the machine -------------------------------------------------------------------------------------------------


FLOWS: Mapping[str, Callable[[str, Value], Value]] = {  # automations in the CRM
    "none": lambda _name, value: value,
    "rounds": lambda name, value: Decimal(250) if (name, value) == ("value", Decimal(300)) else value,
    "stubborn": lambda name, value: "C0" if name == "campaign_id" else value,
    "adds": lambda name, value: value + 1 if name == "value" and isinstance(value, Decimal) else value,
}


def _whatever_it_is(_value: Value) -> bool:
    return True


class Convergence(RuleBasedStateMachine):
    """Two fixed sides, at most three deals, few values."""

    kind = CrmKind()
    consent = True  # whether the CRM ticks it on what is imported; else contacts of such deals stay there

    def __init__(self) -> None:
        super().__init__()
        self.outside = Outside(self.kind, base=self._base, defaults={"consent": self.consent})
        self.posts = Posts(self.outside)
        self.store = CountingStore()
        self.past: list[JournalEntry] = []  # journals of stores that were lost
        self.number = 0
        self.sent: dict[tuple[str, Side], Mapping[str, Value]] = {}  # announced, and nothing heard of it
        self.own: set[tuple[str, str]] = set()
        self.marked_at: dict[str, datetime] = {}
        self.gaps: dict[str, list[str]] = {}  # by referral: fields that it came without
        self.marks: dict[str, int] = {}  # per deal: changes up to here were found carried

    @initialize(
        write_name=st.booleans(),
        hold=st.sampled_from((0, 15)),
        flow=st.sampled_from(sorted(FLOWS)),
        own=st.booleans(),
        states=st.lists(st.sampled_from(OPEN_STATES), max_size=DEALS),
        moves=st.sampled_from((DEALS, 1, 0)),
    )
    def start(
        self,
        write_name: bool | None,
        hold: int,
        flow: str,
        own: bool,
        states: list[str],
        moves: int = DEALS,
        doubtful: str = "taken",
    ) -> None:
        """``doubtful``: what Partner Center does with a new name, where that is to be found out (``write_name`` None)."""
        if doubtful != "taken":
            self.outside.doubtful["name"] = doubtful
        self.moves = moves
        self.outside.kind = replace(self.kind, own=own)
        self.rules = rules(
            self.kind.stages, write_name=write_name, write_favorite=True, terminal_hold=hold * MINUTE
        )
        self.outside.flow = FLOWS[flow]
        for state in states:
            self.outside.new_referral(State(state), solutions=SETS["solutions"][:1])
        self._cycle({})

    # --- people ---

    def _deals(self) -> int:
        unshared = [row for row in self.outside.opportunities.values() if not row.fields["referral_id"]]
        return len(self.outside.referrals) + len(unshared)

    @precondition(lambda self: self._deals() < DEALS)
    @rule(
        state=st.sampled_from(OPEN_STATES),
        solution=st.booleans(),
        currency=st.sampled_from(("USD", "JPY")),
    )
    def new_referral(self, state: str, solution: bool, currency: str) -> None:
        self.outside.new_referral(
            State(state), solutions=SETS["solutions"][:1] if solution else (), currency=currency
        )

    @precondition(lambda self: self._deals() < DEALS)
    @rule(state=st.sampled_from(OPEN_STATES), gap=st.sampled_from(sorted(GAPS)))
    def new_referral_with_a_gap(self, state: str, gap: str) -> None:
        """What the CRM demands, or can hold, is not there; that it is not is nobody's edit."""
        row = self.outside.new_referral(State(state), person=False, **GAPS[gap])
        self.gaps[row.id] = [*GAPS[gap]]

    @precondition(lambda self: self._deals() < DEALS)
    @rule(consent=st.booleans(), help_wanted=st.booleans())
    def new_opportunity(self, consent: bool, help_wanted: bool) -> None:
        """A seller's own deal, that he wants to share."""
        self.outside.new_opportunity(consent=consent, help=HELP if help_wanted else None)

    @precondition(lambda self: self.outside.opportunities)
    @rule(loser=st.integers(0, 1))
    def merge_accounts(self, loser: int) -> None:
        names = ("Contoso", "Fabrikam")
        self.outside.merge_accounts(names[loser], Customer(name=names[1 - loser], country="US"))

    @precondition(lambda self: self._deals())
    @rule(edits=st.lists(EDITS, min_size=1, max_size=3))
    def people(self, edits: list[Edit]) -> None:
        for edit in edits:
            edit(self.outside)

    @precondition(lambda self: self._deals())
    @rule(side=st.sampled_from(SIDES), number=st.integers(0, DEALS - 1), gone=st.booleans())
    def vanish_or_return(self, side: str, number: int, gone: bool) -> None:
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
        base = link.base_referral if side is PC else link.base_opportunity
        return {**base, **self.sent.get((link.key, side), {})}

    def _announced(self, transaction: Transaction) -> None:
        for settled in transaction.settled:
            self.sent.pop(settled, None)
        self.sent |= {(intent.link, intent.side): intent.fields for intent in transaction.intents}

    # --- cycles ---

    @rule()
    def cycle(self) -> None:
        self._cycle({})

    @precondition(lambda self: self._deals())
    @rule(events=st.lists(st.tuples(st.integers(1, 40), EVENTS), min_size=1, max_size=4))
    def troubled_cycle(self, events: list[tuple[int, Event]]) -> None:
        """Things happen in the middle of a cycle, counted in boundaries passed."""
        self._cycle(dict(events))
        self.outside.faults.clear()

    @precondition(lambda self: self._deals())
    @rule(
        side=st.sampled_from(SIDES),
        number=st.integers(0, DEALS - 1),
        name=st.sampled_from(sorted(VALUES)),
        values=st.permutations(range(3)),
        kind=st.sampled_from(("lost", "unread")),
    )
    def contested(self, side: str, number: int, name: str, values: list[int], kind: str) -> None:
        """Nobody heard whether an edit arrived, and somebody over there edits the same field."""
        other = "crm" if side == "partner_center" else "partner_center"
        mine, theirs = (VALUES[name][index % len(VALUES[name])] for index in values[:2])
        Edit(side, number, name, mine)(self.outside)
        self.outside.faults.append(Fault(other, kind))
        self._cycle({})
        self.outside.faults.clear()
        Edit(other, number, name, theirs)(self.outside)

    @precondition(lambda self: self._deals())
    @rule(
        side=st.sampled_from(SIDES),
        number=st.integers(0, DEALS - 1),
        name=st.sampled_from(sorted(VALUES)),
        values=st.permutations(range(3)),
        boundary=st.integers(1, 12),
    )
    def raced(self, side: str, number: int, name: str, values: list[int], boundary: int) -> None:
        """An edit is on its way, and somebody over there edits the same field in that moment."""
        other = "crm" if side == "partner_center" else "partner_center"
        mine, theirs = (VALUES[name][index % len(VALUES[name])] for index in values[:2])
        Edit(side, number, name, mine)(self.outside)
        self._cycle({boundary: Edit(other, number, name, theirs)})

    @precondition(lambda self: not any(row.gone for side in Side for row in self.outside.rows(side).values()))
    @rule()
    def lose_store(self) -> None:
        """The base is lost: nothing may be deleted for lack of it, so what took something away and was not carried is
        void (a heart as well, for one that is not set says nothing). The next cycle makes a new one.
        """
        self.past += self._journal()
        self.store = CountingStore()
        self.sent.clear()
        taken = {
            (item.deal, item.element)
            for item in self._since_marks()
            if item.value is None or item.value is False
        }
        self.outside.changes[:] = [
            item if (item.deal, item.element) not in taken else replace(item, person=False)
            for item in self.outside.changes
        ]
        self._cycle({})

    @rule()
    def approve(self) -> None:
        """The administrator lets every withheld step through."""
        for link in list(self.store.withheld()):
            target = str(link.referral_id or link.opportunity_id)
            self.store = self.store.another()
            with self.store.lease(timedelta()):
                command = OperatorCommand(f"approve {target}", Verb.APPROVE, target)
                obey(self.store, command, cycle_id=f"c{self.number}", now=self.outside.now)

    @rule()
    def quiet(self) -> None:
        """When edits stop, what is withheld was approved and what was refused is taken again, both sides agree, and nothing
        more is written.
        """
        self.outside.refuses = self.outside.refuses_there = {}
        for _ in range(QUIET_CYCLES):
            self._cycle({})
        self._cycle({}, pause=self.rules.terminal_hold)  # an end that waited is asked for, or withheld, now
        for _ in FinalKind:
            self.approve()
            self._cycle({})
        assert not list(self.store.withheld()), "what was approved is withheld for ever"
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
        self.outside.now += pause
        passed, rivals = 0, 0

        def at(where: object) -> None:
            nonlocal passed, rivals
            passed += 1
            match events.get(passed, False):
                case None:
                    raise Crash
                case Fault() as fault:
                    self.outside.faults.append(fault)
                case Edit() as edit:
                    edit(self.outside)
                case Rival():
                    rivals += 1
            # Partner Center takes a post from anybody and knows no key, so a process that sleeps between announcing a
            # post and sending it, for longer than its lease, does post again. That is not promised.
            posting = where == "partner_center.post" or (
                isinstance(where, Transaction)
                and any(each.create and each.side is PC for each in where.intents)
            )
            if rivals and not posting:
                rivals -= 1
                rival = self.store.another()
                rival.usurp()
                self._turn(rival, lambda _where: None)
                rival.leave()
                self.outside.at = at

        self.store = self.store.another()
        with self.store.lease(timedelta()):
            self._turn(self.store, at)
        assert not self.outside.violations, self.outside.violations
        troubles = [link.memory.failure for link in self.store.links()]
        assert not [each for each in troubles if each and each.code == INTERNAL_ERROR], "the program stumbled"

    def _turn(self, store: CountingStore, at: Callable[[object], None]) -> None:
        """One process plays one cycle, as far as it comes."""
        self.number += 1
        self.outside.at = store.before_remember = at

        def committed(transaction: Transaction) -> None:
            self._announced(transaction)
            at(transaction)

        store.after_commit = committed
        self.posts.outage = None
        world = Services(
            self.posts,
            MemoryCrm(self.outside),
            store,
            self.outside.clock,
            self.rules,
            CycleSettings(
                overlap=OVERLAP,
                surprise_min=DEALS,
                surprise_moves=self.moves,
                post_patience=timedelta(),  # a post lands at once or never
                retry_policy=RetryPolicy(MINUTE, 4),
                basis={Capability.WRITE_NAME: "v1.0"} if self.rules.write_name is None else {},
            ),
        )
        try:
            run_cycle(world, f"c{self.number}")
        except (Crash, OutsideError, Fenced):
            pass
        finally:
            self.outside.at = lambda _where: None
            store.before_remember = store.after_commit = None

    def _wait_out_attempts(self) -> None:
        """Refused deals rest between tries; a person frees the parked ones. Refused fields are tried again by themselves."""
        for _ in range(8):
            waiting = [link for link in self.store.links() if link.memory.next_attempt or link.memory.parked]
            held = any(link.memory.refused for link in self.store.links())
            if not waiting and not held:
                return
            self.store = self.store.another()
            with self.store.lease(timedelta()):
                self.store.commit(
                    Transaction(
                        links=[
                            replace(link, memory=freed(link.memory), dirty=True)
                            for link in waiting
                            if link.memory.parked
                        ]
                    )
                )
            self.outside.pass_time(timedelta(hours=25) if held else 10 * MINUTE)
            self._cycle({})
            self._cycle({})

    # --- the promises ---

    def _check(self) -> None:
        posted = Counter(self.posts.origins.values())
        assert not posted or max(posted.values()) == 1, "a deal was posted twice"
        for number, row in self.outside.opportunities.items():
            kind = self.outside.kind
            mute = kind.locks and not kind.own and self.outside.closed(row)  # such a record takes no words
            if row.fields["sync"] and not row.fields["referral_id"] and not row.gone and not mute:
                assert row.fields["message"], f"{number} is not shared and nobody says why"
        invited = Counter(row.fields["engagement_id"] for row in self.posts.sides)
        assert not invited or max(invited.values()) == 1, "Microsoft was invited twice"
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
            if link.phase is not memory.Phase.LINKED:
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
        world = self.posts, MemoryCrm(self.outside)
        referral, opportunity = (
            port.fetch([id_ or ""])[id_ or ""]
            for port, id_ in zip(world, (link.referral_id, link.opportunity_id), strict=True)
        )
        assert referral is not None
        assert opportunity is not None
        assert link.opportunity is not None
        known = (
            link.opportunity.version if same_version(link.opportunity.version, opportunity.version) else ""
        )
        opportunity = replace(opportunity, version=known)
        assert (link.referral, link.opportunity) == (referral, opportunity), "a change was not seen"
        assert link.memory.failure is None, link.memory.failure
        self._check_stand_ins(referral)
        # a closed record that refused what it was sent is left alone until it changes
        assert not link.memory.refused or link.memory.shut, "a field is held though it would be taken"
        kind, locked = self.outside.kind, self.kind.locks and opportunity.flag("is_closed")
        found = found_of(self.store.verdicts())
        decision = decide(link, replace(self.rules, found=found), self.kind.shape, self.outside.now)
        assert not decision.steps
        assert not decision.crm
        assert all(hold.text for hold in decision.holds)
        if kind.own or not locked:  # else the words wait in ``deals list``
            assert not status_report(decision, (), kind.shape, self.outside.now).fields
            message = str(record["message"] or "")
            said = [hold.text for hold in decision.holds]
            said += [conflict_text(each, kind.shape) for each in decision.conflicts if each.kept is None]
            assert all(text in message for text in said), "the record does not say why"
        if any(hold.field == "sync" for hold in decision.holds):
            return
        named = {hold.field for hold in decision.holds} | {each.field for each in decision.conflicts}
        # An amount that cannot be held is told with its currency. Nobody is asked to fill in a deal that is over.
        alone = {hold.field for hold in decision.holds if hold.kind is HoldKind.STAND_IN}
        over = link.memory.stand_ins if state_of(referral) in TERMINAL else ()
        named |= set(partners([*alone, *over]))
        for name in SHARED.keys() - named - {"sales_stage"}:
            if name in OWN_WAY and same(
                KINDS[name], link.base_opportunity.get(name, ABSENT), opportunity[name]
            ):
                self.own.add((referral.id, name))
                continue
            if self._as_born(link, name):
                continue
            assert agree(name, referral[name], opportunity[name], self._shape(referral)), (
                f"{name} differs and nobody says so"
            )
        self._check_stage(referral, opportunity, named)
        self._check_edits(link, decision, referral, opportunity, named)

    def _check_stand_ins(self, referral: Snapshot) -> None:
        """What came without a value has one by now only if a person has entered it; a lost store cannot tell (`past`)."""
        for name in self.gaps.get(referral.id, ()) if not self.past else ():
            entered = [
                each.value
                for each in self.outside.changes
                if (each.deal, each.element, each.person) == (referral.id, (name, ""), True)
            ]
            unusable = (None, ABSENT, *(values.get(name) for values in GAPS.values()))
            assert referral[name] in unusable or any(
                self._equal(name, Side.PARTNER_CENTER, referral[name], value, self._shape(referral))
                for value in entered
            ), f"{name}: nobody has entered {referral[name]!r}"

    def _as_born(self, link: Link, name: str) -> bool:
        """What a flow made of our create is the CRM's own way, until somebody edits it on either side."""
        opportunity, referral = link.opportunity, link.referral
        assert opportunity is not None
        assert referral is not None
        born = self.outside.born.get(opportunity.id, {}).get(name, ABSENT)
        bases = link.base_referral.get(name, ABSENT), link.base_opportunity.get(name, ABSENT)
        return opportunity[name] == born and bases == (referral[name], born)

    def _check_stage(self, referral: Snapshot, opportunity: Snapshot, named: set[str]) -> None:
        state, standing = state_of(referral), self.kind.stages.standing(opportunity)
        if named & {"stage", "status", "reason", "value", "close_date"}:
            return
        match state:
            case State.ACCEPTED:
                assert standing in {Standing.OPEN, Standing.STANDBY}
                there, here = referral["sales_stage"], self.kind.stages.sales_stage(opportunity)
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
        deal, shape = referral.id, self._shape(referral)
        conflicts = {
            item.field
            for item in [*self.past, *self._journal()]
            if item.link == deal
            and item.action == "conflict"
            and item.at >= self.marked_at.get(deal, item.at)
        }
        now = {Side.PARTNER_CENTER: elements(referral.fields), Side.CRM: elements(opportunity.fields)}
        records = {referral.id, opportunity.id}  # one that was deleted took its edits along
        changes = [item for item in self._since_marks() if item.deal == deal and item.record in records]
        for element in {item.element for item in changes if item.person} - {(name, "") for name in named}:
            name = element[0]
            if name in named or name in conflicts or (deal, name) in self.own:
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
                if self._equal(name, side, edit.value, edit.base, shape):
                    continue  # put back: no change at all
                if edit.base is ABSENT and edit.value is None:
                    continue  # nothing is taken away for lack of a base
                if edit.base is ABSENT and name == "currency" and self._without_amount(edit):
                    continue  # a currency alone says nothing
                if edit.base is ABSENT and name in self.outside.born.get(opportunity.id, {}):
                    continue  # a flow had the first word
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
                assert any(self._equal(name, side, edit.value, value, shape) for value in reached), (
                    f"{element}: {edit.value!r} of {side} was lost; {other} holds {now[other].get(element)!r}"
                )
        if not named:
            self.marks[deal] = len(self.outside.changes)
            self.marked_at[deal] = self.outside.now

    def _without_amount(self, edit: Change) -> bool:
        amounts = [
            each.value
            for each in self.outside.changes[: edit.at]
            if (each.record, each.element) == (edit.record, ("value", ""))
        ]
        return not amounts or amounts[-1] is None

    def _shape(self, referral: Snapshot) -> CrmShape:
        return self.kind.shape.of_currency(referral.text("currency"))

    @staticmethod
    def _equal(name: str, side: Side, value: object, other: object, shape: CrmShape) -> bool:
        if KINDS[name] in {Kind.MEMBERS, Kind.SOLUTIONS, Kind.NOTES} or other is ABSENT:
            return value == other
        pair = (value, other) if side is Side.PARTNER_CENTER else (other, value)
        # an amount may have been carried while the deal was in a currency with other decimals
        shapes = [replace(shape, scale=scale) for scale in (SHAPE.scale, *shape.scales.values())]
        return any(agree(name, *pair, each) for each in shapes)  # type: ignore[arg-type]

    def _journal(self) -> list[JournalEntry]:
        """By referral: a lost store may come back with other keys."""
        return [
            replace(entry, link=link.referral_id or link.key)
            for link in self.store.links()
            for entry in self.store.journal(link.key, 10_000)
        ]

    def _versions(self) -> dict[str, int]:
        return {id_: row.version for side in Side for id_, row in self.outside.rows(side).items()}


class LikeSalesforce(Convergence):
    kind = LIKE_SALESFORCE


class LikeDynamics(Convergence):
    kind = LIKE_DYNAMICS
    consent = False


class Unsettled(Convergence):
    """Whether Partner Center takes a new name is found out by the first deal that has one, in whatever trouble it is."""

    kind = LIKE_SALESFORCE

    @initialize(
        doubtful=st.sampled_from(("taken", "ignored", "refused")),
        states=st.lists(st.sampled_from(OPEN_STATES), min_size=1, max_size=DEALS),
    )
    def start(self, doubtful: str, states: list[str]) -> None:  # type: ignore[override]  # its own draws
        super().start(write_name=None, hold=0, flow="none", own=True, states=states, doubtful=doubtful)

    @precondition(lambda self: self._deals())
    @rule(number=st.integers(0, DEALS - 1), name=st.sampled_from(VALUES["name"]), action=st.booleans())
    def renamed(self, number: int, name: str, action: bool) -> None:
        """A seller's new name, with or without the accept."""
        Edit("crm", number, "name", name)(self.outside)
        if action:
            Edit("crm", number, "action", "Accept")(self.outside)

    def _check(self) -> None:
        super()._check()
        taken = {verdict.answer for verdict in self.store.verdicts() if verdict.capability in FIELDS.values()}
        assert taken <= {"no" if self.outside.doubtful else "yes"}, "the answer is not what the world does"


KINDS_OF_CRM = (LikeSalesforce, LikeDynamics)


class Refusing(Convergence):
    """Systems that take no change of some fields for a while."""

    @rule(
        side=st.sampled_from(SIDES),
        names=st.sets(
            st.sampled_from(("notes", "value", "campaign_id", "solutions", "contacts")), max_size=3
        ),
    )
    def refuse(self, side: str, names: set[str]) -> None:
        """From now on one side takes no change of these fields; the rest of a deal goes on. ``quiet`` mends it."""
        refuses = dict.fromkeys(sorted(names), _whatever_it_is)
        if side == "crm":
            self.outside.refuses = refuses
        else:
            self.outside.refuses_there = refuses


class RefusingLikeSalesforce(Refusing):
    kind = LIKE_SALESFORCE


class RefusingLikeDynamics(Refusing):
    kind = LIKE_DYNAMICS


def play(machine: type[Convergence], examples: int | None = None) -> None:
    """``examples``: so many at most and without shrinking, to see whether the machine notices something at all."""
    chosen = PROFILE
    if examples is not None:
        chosen = settings(PROFILE, max_examples=examples, phases=[Phase.generate], report_multiple_bugs=False)
    run_state_machine_as_test(machine, settings=chosen)


@pytest.mark.parametrize("machine", KINDS_OF_CRM)
def test_two_systems_and_their_people_agree_in_the_end(machine: type[Convergence]) -> None:
    play(machine)


def test_what_is_found_out_is_true_and_holds_nothing_up() -> None:
    play(Unsettled, examples=60)


@pytest.mark.parametrize("machine", [RefusingLikeSalesforce, RefusingLikeDynamics])
def test_what_was_refused_holds_nothing_else_and_lands_in_the_end(machine: type[Convergence]) -> None:
    play(machine, 40)


# --- scripts ------------------------------------------------------------------------------------------------------


def replay(script: str) -> None:
    """Play a script as Hypothesis prints it."""
    start = script.index("state = ")
    end = script.index("state.teardown()", start) + len("state.teardown()")
    exec(script[start:end], {**globals(), "datetime": dt})


if __name__ == "__main__":
    replay(Path(sys.argv[1]).read_text())
