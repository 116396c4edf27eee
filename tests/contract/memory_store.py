"""The store as dictionaries: what the cycle is played against thousands of times. Held to ``test_store`` like the real one.

``another()`` is a second process looking at the same store. ``before_remember`` and ``after_commit`` are called with
each transaction, while nothing of it is kept yet and when all of it is; a crash is an exception raised there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cosell_sync.core import erasure as forgetting
from cosell_sync.core.capabilities import Capability, Verdict
from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.erasure import ErasureResult, Person
from cosell_sync.core.memory import (
    FinalKind,
    FinalStepTaken,
    Intent,
    JournalEntry,
    Link,
    OperatorCommand,
    Outlook,
    Phase,
    respond_by,
)
from cosell_sync.errors import Busy, Fenced
from cosell_sync.ports import CycleState, Identity, Transaction

Hook = Callable[[Transaction], None]


@dataclass
class _Held:
    """What all processes share."""

    links: dict[str, Link] = field(default_factory=dict)
    referrals: dict[str, str] = field(default_factory=dict)  # referral id → key
    opportunities: dict[str, str] = field(default_factory=dict)
    intents: dict[tuple[str, Side], Intent] = field(default_factory=dict)
    journal: defaultdict[str, list[JournalEntry]] = field(default_factory=lambda: defaultdict(list))
    watermarks: dict[str, str] = field(default_factory=dict)
    state: CycleState = field(default_factory=CycleState)
    bindings: dict[Side, Identity] = field(default_factory=dict)
    orders: dict[str, OperatorCommand] = field(default_factory=dict)
    final: dict[tuple[str, FinalKind], FinalStepTaken] = field(default_factory=dict)
    verdicts: dict[Capability, Verdict] = field(default_factory=dict)
    hints: dict[tuple[str, str, str], bool] = field(default_factory=dict)  # → whether a cycle has looked
    holder: MemoryStore | None = None


class MemoryStore:
    def __init__(
        self,
        *,
        name: str = "memory",
        before_remember: Hook | None = None,
        after_commit: Hook | None = None,
        shared: _Held | None = None,
    ) -> None:
        self.name = name
        self.before_remember = before_remember
        self.after_commit = after_commit
        self._held = shared or _Held()

    def another(self, name: str = "another") -> MemoryStore:
        return MemoryStore(name=name, shared=self._held)

    def usurp(self) -> None:
        """Take the lease from whoever has it, as happens on PostgreSQL to a process that was away too long."""
        self._held.holder = self

    def leave(self) -> None:
        """Give back a lease that was usurped."""
        self._held.holder = None

    def versions(self, opportunity_ids: Sequence[str]) -> Mapping[str, str]:
        found = self.by_opportunity(opportunity_ids)
        return {id_: link.opportunity.version for id_, link in found.items() if link.opportunity is not None}

    def holding(self, row_ids: Sequence[str]) -> frozenset[str]:
        rows = frozenset(row_ids)
        snapshots = (link.opportunity for link in self._held.links.values())
        return frozenset(one.id for one in snapshots if one is not None and one.rows & rows)

    def by_keys(self, keys: Sequence[str]) -> Mapping[str, Link]:
        return {key: self._held.links[key] for key in keys if key in self._held.links}

    def by_referral(self, ids: Sequence[str]) -> Mapping[str, Link]:
        held = self._held
        return {id_: held.links[held.referrals[id_]] for id_ in ids if id_ in held.referrals}

    def by_opportunity(self, ids: Sequence[str]) -> Mapping[str, Link]:
        held = self._held
        return {id_: held.links[held.opportunities[id_]] for id_ in ids if id_ in held.opportunities}

    def due(self, now: datetime, after: str, limit: int) -> Sequence[Link]:
        opened = {key for key, _ in self._held.intents}
        return [
            link
            for key, link in sorted(self._held.links.items())
            if key > after
            and link.phase is not Phase.PARTED
            and (link.dirty or key in opened or (link.due is not None and link.due <= now))
        ][:limit]

    def links(
        self, phases: Iterable[Phase] = tuple(Phase), states: Iterable[SyncState] = tuple(SyncState)
    ) -> Iterator[Link]:
        wanted, standing = set(phases), set(states)
        links = [link for _, link in sorted(self._held.links.items())]
        return iter([link for link in links if link.phase in wanted and link.memory.sync_state in standing])

    def intents(self, keys: Sequence[str]) -> Sequence[Intent]:
        wanted = set(keys)
        return [intent for (key, _), intent in sorted(self._held.intents.items()) if key in wanted]

    def journal(self, key: str, limit: int = 200) -> Sequence[JournalEntry]:
        return self._held.journal.get(key, [])[::-1][:limit]

    def watermark(self, side: str) -> str | None:
        return self._held.watermarks.get(side)

    def bindings(self) -> Mapping[Side, Identity]:
        return dict(self._held.bindings)

    def cycle_state(self) -> CycleState:
        return self._held.state

    def withheld(self) -> Iterator[Link]:
        return iter([link for link in self.links() if link.memory.withheld])

    def final_steps(self, since: datetime) -> Mapping[FinalKind, frozenset[str]]:
        found: defaultdict[FinalKind, set[str]] = defaultdict(set)
        for (key, kind), step in self._held.final.items():
            if step.at > since:
                found[kind].add(key)
        return {kind: frozenset(keys) for kind, keys in found.items()}

    def verdicts(self) -> Sequence[Verdict]:
        return [verdict for _, verdict in sorted(self._held.verdicts.items())]

    def hint(self, hints: Sequence[tuple[str, str, str]]) -> int:
        """As the real store's; the listener of a daemon calls it."""
        fresh = [each for each in dict.fromkeys(hints) if each not in self._held.hints]
        self._held.hints.update({each: not each[0] for each in fresh})
        return len(fresh)

    def hints(self, limit: int, *, related: bool = False) -> Sequence[str]:
        waiting = [
            referral_id
            for (referral_id, event, _), taken in self._held.hints.items()
            if not taken and event.startswith("related-") == related
        ]
        return list(dict.fromkeys(waiting))[:limit]

    def outlook(self) -> Outlook:
        at_work = list(self.links((Phase.LINKED, Phase.WAITING)))
        urgent = (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT)
        until = [moment for link in at_work if (moment := respond_by(link))]
        held = [
            moment
            for link in at_work
            if link.phase is Phase.WAITING
            and link.memory.sync_state in urgent
            and (moment := respond_by(link))
        ]
        refused: dict[Side, datetime] = {}
        for link in at_work:
            failure = link.memory.failure
            if failure is not None and (link.due is not None or link.memory.parked):
                refused[failure.side] = min(refused.get(failure.side, failure.since), failure.since)
        return Outlook(
            len(until), min(until, default=None), min(held, default=None), refused, len(self._held.intents)
        )

    def submit(self, order: OperatorCommand) -> None:
        self._held.orders[order.id] = order

    def orders(self) -> Sequence[OperatorCommand]:
        return [order for _, order in sorted(self._held.orders.items())]

    def commit(self, transaction: Transaction) -> None:
        if self.before_remember is not None:
            self.before_remember(transaction)
        if self._held.holder is not self:
            raise Fenced("the lease is not held")
        self._keep(transaction)
        if self.after_commit is not None:
            self.after_commit(transaction)

    def forget(self, email: str) -> ErasureResult:
        if self._held.holder is not self:
            raise Fenced("the lease is not held")
        held, person = self._held, Person(email.strip().lower())
        for link in held.links.values():
            person = person.with_traces(forgetting.values(link))
        entries = [entry for lines in held.journal.values() for entry in lines]
        person = person.with_traces(value for entry in entries for value in (entry.old, entry.new))
        links = {key: forgetting.from_link(link, person) for key, link in held.links.items()}
        intents = {key: forgetting.from_intent(intent, person) for key, intent in held.intents.items()}
        journal = {
            key: [forgetting.from_entry(entry, person) for entry in lines]
            for key, lines in held.journal.items()
        }
        done = ErasureResult(
            deals=sum(held.links[key] is not link for key, link in links.items()),
            intents=sum(held.intents[key] is not intent for key, intent in intents.items()),
            journal=sum(
                old != new
                for key, lines in journal.items()
                for old, new in zip(held.journal[key], lines, strict=True)
            ),
        )
        held.links.update(links)
        held.intents.update(intents)
        held.journal.update(journal)
        return done

    def _keep(self, transaction: Transaction) -> None:
        """Everything that may be refused comes first, on copies of what it touches; then it is taken over whole."""
        held = self._held
        changed = {link.key: link for link in transaction.links}
        referrals, opportunities = dict(held.referrals), dict(held.opportunities)
        for old in (held.links[key] for key in changed if key in held.links):
            referrals.pop(old.referral_id or "", None)
            opportunities.pop(old.opportunity_id or "", None)
        for link in changed.values():
            for id_, owners in ((link.referral_id, referrals), (link.opportunity_id, opportunities)):
                if id_ is not None and owners.setdefault(id_, link.key) != link.key:
                    raise ValueError(f"{id_} belongs to {owners[id_]} already")
        for intent in transaction.intents:
            if intent.link not in held.links and intent.link not in changed:
                raise ValueError(f"an intent for {intent.link}, which is not known")
        held.links.update(changed)
        held.hints |= {each: True for each in held.hints if each[0] in transaction.looked_at}
        for completed in transaction.completed:
            held.orders.pop(completed, None)
        held.referrals, held.opportunities = referrals, opportunities
        for settled in transaction.settled:
            held.intents.pop(settled, None)
        held.intents.update({(intent.link, intent.side): intent for intent in transaction.intents})
        for entry in transaction.journal:
            held.journal[entry.link].append(entry)
        unread = {side.value for side in transaction.unread}
        marks = {**held.watermarks, **transaction.watermarks}
        held.watermarks = {name: value for name, value in marks.items() if name not in unread}
        held.bindings.update(transaction.bindings)
        held.state = transaction.state or held.state
        kept = {name: each for name, each in held.verdicts.items() if name not in transaction.forgotten}
        held.verdicts = {**kept, **{each.capability: each for each in transaction.verdicts}}
        held.final.update({(step.link, step.kind): step for step in transaction.final})

    @contextmanager
    def lease(self, wait: timedelta) -> Iterator[None]:
        """Never waits: in memory nobody leaves meanwhile."""
        if self._held.holder is not None:
            raise Busy(self._held.holder.name)
        self._held.holder = self
        try:
            yield
        finally:
            if self._held.holder is self:
                self._held.holder = None

    @property
    def holds_lease(self) -> bool:
        return self._held.holder is self

    def holder(self) -> str | None:
        return None if self._held.holder is None else self._held.holder.name
