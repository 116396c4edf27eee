"""What the pages of the console show, gathered from the store and from this process; each asks for little.

A list reads the deals of its page, their open writes and the CRM's shape: four questions, whatever the store holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cosell_sync.bootstrap.program import Program
from cosell_sync.cli.deal_orders import deal_id, offers, order_of, said
from cosell_sync.cli.deal_todo import todo
from cosell_sync.cli.deals import DECIDED, LANDED, newest
from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.fields import LABELS
from cosell_sync.core.memory import Intent, JournalEntry, Link, OperatorCommand, Phase, respond_by
from cosell_sync.core.messages import listed
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.core.waiting import Waiting, WaitKind, waiting
from cosell_sync.cycle.commands import find
from cosell_sync.cycle.safety import shape_of
from cosell_sync.errors import SYSTEMS
from cosell_sync.log import get_logger
from cosell_sync.ports import Clock, DealCount
from cosell_sync.settings import Settings, token_file
from cosell_sync.store.listing import Query, Which
from cosell_sync.store.sql import SqlStore
from cosell_sync.transport.quota import Meter
from cosell_sync.web.actions import Actions
from cosell_sync.web.console import Console, ConsoleOfSeveral
from cosell_sync.web.health import Facts
from cosell_sync.web.pages import Deal, DealList, Explained, Line, Order, Overview, Story, System
from cosell_sync.web.privacy import Discreet
from cosell_sync.web.sessions import Sessions

_FIRST: Final = 5  # deals of a list on the overview
_CYCLES: Final = 20
_LINES: Final = 200  # of a deal's history
_WAITS: Final = 3  # reasons of a deal in a list
_FIELDS: Final = 4  # named together
_ANSWER: Final = "A seller accepts or declines it in the CRM."
_PRESSING: Final = (
    WaitKind.CONFLICT,
    WaitKind.PARKED,
    WaitKind.REFUSED,
    WaitKind.FAILED,
    WaitKind.PAUSED,
    WaitKind.UNKNOWN,
    WaitKind.NEXT,
    WaitKind.HELD,
)
_SIDES: Final = {Side.PARTNER_CENTER: "Partner Center", Side.CRM: "CRM"}
_WHICH: Final = {
    SyncState.IN_SYNC: Which.IN_SYNC,
    SyncState.WAITING: Which.WAITING,
    SyncState.NEEDS_ATTENTION: Which.ATTENTION,
    SyncState.CONFLICT: Which.CONFLICT,
    SyncState.CLOSED: Which.CLOSED,
}


@dataclass(frozen=True)
class Subject:
    """What the pages of one connection are about. ``health``: what readiness is judged by; ``pace``: from cycle to cycle;
    ``lease``: who writes, in words; ``wake``: called after each order.
    """

    settings: Settings
    store: SqlStore
    rules: Callable[[], Rules]
    clock: Clock
    meters: Mapping[Side, Meter]
    health: Callable[[], Facts]
    pace: Callable[[], timedelta]
    lease: Callable[[Facts], str]
    wake: Callable[[], None] = lambda: None


def console(
    wired: Program,
    health: Callable[[], Facts],
    pace: Callable[[], timedelta],
    *,
    wake: Callable[[], None] = lambda: None,
    tell: Callable[[str], None] = lambda _: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Console:
    """The console over a wired program, the only one. ``tell``: called with the name of each event, for the metrics; the other
    arguments as of ``Subject``.
    """
    pages = ConsolePages(
        Subject(
            wired.settings,
            wired.store,
            lambda: wired.rules,
            wired.clock,
            wired.meters,
            health,
            pace,
            lambda facts: _lease(facts, held=wired.store.holds_lease),
            wake,
        )
    )
    ours = wired.settings.console
    sessions = _sessions(wired.settings, monotonic)
    actions = Actions(pages, health, sessions, hosts=ours.hosts, tell=tell) if sessions else None
    return Console(pages, health, names=ours.names, actions=actions, hosts=ours.hosts)


def console_of_several(
    shared: Settings,
    subject: Callable[[str], Subject | None],
    several: Callable[[], Mapping[str, Facts]],
    tell: Callable[[str], None],
) -> ConsoleOfSeveral:
    """The console over several connections, with one sign-in for all. ``subject``: of the connection of that name; None where none
    of that name can be served. ``several``: what readiness is judged by, by name. ``tell``: as of ``console``.
    """
    sessions, hosts = _sessions(shared, time.monotonic), shared.console.hosts

    def chosen(name: str) -> Console | None:
        found = subject(name)
        if found is None:
            return None
        pages, query = ConsolePages(found), f"?connection={name}"
        actions = (
            Actions(pages, found.health, sessions, hosts=hosts, tell=tell, besides=query)
            if sessions
            else None
        )
        return Console(pages, found.health, names=found.settings.console.names, actions=actions)

    entrance = Actions(None, lambda: None, sessions, hosts=hosts, tell=tell) if sessions else None
    return ConsoleOfSeveral(chosen, several, entrance, hosts)


def _sessions(settings: Settings, monotonic: Callable[[], float]) -> Sessions | None:
    """Who is signed in; None where nobody can be."""
    named = settings.console.token_file
    return None if named is None else Sessions(lambda: token_file.read(Path(named)), monotonic)


class ConsolePages:
    """``web.pages.Source`` over one connection."""

    def __init__(self, subject: Subject) -> None:
        self._wired = subject

    def overview(self) -> Overview:
        store, facts = self._wired.store, self._wired.health()
        return Overview(
            facts=facts,
            counts=tallied(store.counts(), store.outlook().unanswered),
            urgent=self.deals(Query(Which.PERSON, limit=_FIRST)),
            unanswered=self.deals(Query(Which.UNANSWERED, limit=_FIRST)),
            cycles=store.last_cycles(_CYCLES),
            systems=[
                System(
                    SYSTEMS.get(meter.system, meter.system),
                    meter.signed_in_at,
                    facts.sign_ins.get(meter.system, ""),
                    meter.allowances(),
                )
                for meter in self._wired.meters.values()
            ],
            lease=self._wired.lease(facts),
            pause=self._wired.pace(),
        )

    def deals(self, query: Query) -> DealList:
        store = self._wired.store
        found = store.page(query)
        opened: dict[str, list[Intent]] = {}
        for intent in store.intents([link.key for link in found.links]):
            opened.setdefault(intent.link, []).append(intent)
        shape = shape_of(store.cycle_state().shape)
        rows = [
            self._deal(link, self._waiting(link, opened.get(link.key, ()), shape)) for link in found.links
        ]
        return DealList(rows, found.next)

    def story(self, target: str) -> Story | None:
        store = self._wired.store
        link = find(store, target)
        if link is None:
            return None
        waits = self._all_waiting(link)
        lines = store.journal(link.key, limit=_LINES + 1)
        discreet = self._discreet(link)
        orders = self._orders(link)
        may_act = self._wired.settings.console.token_file is not None
        return Story(
            self._deal(link, waits),
            [*self._past(lines, discreet), *(self._ahead(item, discreet) for item in waits)],
            [self._line(line, discreet) for line in lines[:_LINES]],
            len(lines) > _LINES,
            list(offers(link, waits, store, orders, discreet)) if may_act else (),
            [said(order, self._wired.rules()) for order in orders],
        )

    def order(self, target: str, order: Order) -> str | None:
        store = self._wired.store
        link = find(store, target)
        if link is None:
            return None
        made = order_of(link, self._all_waiting(link), self._wired.rules(), store, order)
        if (made.verb, made.field) not in {(each.verb, each.field) for each in self._orders(link)}:
            store.submit(made)
            self._wired.wake()
        return deal_id(link)

    def _orders(self, link: Link) -> list[OperatorCommand]:
        """What was ordered of this deal and waits for the next cycle, the oldest first."""
        targets = {link.referral_id, link.opportunity_id} - {None}
        return [order for order in self._wired.store.orders() if order.target in targets]

    def _all_waiting(self, link: Link) -> list[Waiting]:
        store = self._wired.store
        return self._waiting(link, store.intents([link.key]), shape_of(store.cycle_state().shape))

    def _deal(self, link: Link, waits: Sequence[Waiting]) -> Deal:
        discreet, memory = self._discreet(link), link.memory
        until = respond_by(link)
        step = todo(link) or (_ANSWER if until else "")
        return Deal(
            id=deal_id(link),
            name=discreet.name,
            customer=discreet.customer,
            referral_id=link.referral_id,
            opportunity_id=link.opportunity_id,
            status=link.referral.text("state") if link.referral else "",
            sync_state=memory.sync_state.value,
            marks=list(_marks(link)),
            respond_by=until,
            waits=[discreet.text(line) for line in self._in_short(waits, step)],
            todo=discreet.text(step),
            portal=_portal(link),
            record=record_address(self._wired.settings, link.opportunity_id),
        )

    def _waiting(self, link: Link, intents: Sequence[Intent], shape: CrmShape) -> list[Waiting]:
        wired = self._wired
        try:
            return waiting(link, intents, wired.rules(), shape, wired.clock())
        except Exception:  # noqa: BLE001 - a deal that cannot be decided is told, and hides no other
            get_logger().warning("http.deal_unreadable", referral_id=link.referral_id, exc_info=True)
            return []

    def _in_short(self, waits: Sequence[Waiting], step: str) -> Iterator[str]:
        """One line for each reason, those first that a person may end, with the fields that have it unless it names them.

        ``step``: the next step; a reason that it tells is not told twice.
        """
        grouped: dict[tuple[WaitKind, str], list[str]] = {}
        for item in sorted(waits, key=lambda item: _PRESSING.index(item.kind)):
            grouped.setdefault((item.kind, item.reason), []).append(self._label(item.field))
        for (kind, reason), fields in list(grouped.items())[:_WAITS]:
            unnamed = [field for field in fields if field and not reason.startswith(field)]
            about = listed(unnamed) if len(unnamed) <= _FIELDS else f"{len(unnamed)} fields"
            said = (about or "the deal", "") if reason in step else (about, reason)
            yield ": ".join(filter(None, (kind.value.capitalize(), *said)))
        if len(grouped) > _WAITS:
            yield f"and {len(grouped) - _WAITS} more"

    def _past(self, lines: Iterable[JournalEntry], discreet: Discreet) -> Iterator[Explained]:
        for status, actions in (("landed", LANDED), ("decided", DECIDED)):
            of_fields = (line for line in lines if line.field is not None and line.action in actions)
            for line in newest(of_fields):
                yield Explained(
                    field=self._label(line.field),
                    side=_SIDES[line.side],
                    status=status,
                    value=discreet.value(line.field or "", line.new),
                    before=discreet.value(line.field or "", line.old),
                    reason=discreet.text(f"{line.action}: {line.rule}"),
                    at=line.at,
                    cycle=line.cycle,
                )

    def _ahead(self, item: Waiting, discreet: Discreet) -> Explained:
        return Explained(
            field=self._label(item.field),
            side=_SIDES[item.side],
            status=item.kind.value,
            value=discreet.value(item.field or "", item.value),
            before=discreet.value(item.field or "", item.before),
            reason=discreet.text(item.reason),
            until=item.until,
        )

    def _line(self, line: JournalEntry, discreet: Discreet) -> Line:
        field = line.field or ""
        return Line(
            at=line.at,
            side=_SIDES[line.side],
            action=line.action,
            field=self._label(line.field),
            old=discreet.value(field, line.old),
            new=discreet.value(field, line.new),
            rule=discreet.text(line.rule),
            cycle=line.cycle,
        )

    def _label(self, field: str | None) -> str:
        return LABELS.get(field, self._wired.rules().crm_name(field)) if field else ""

    def _discreet(self, link: Link) -> Discreet:
        return Discreet(link, names=self._wired.settings.console.names)


def tallied(counts: Iterable[DealCount], unanswered: int) -> Mapping[Which, int]:
    """How many deals the filters have that the overview leads to."""
    found = dict.fromkeys((Which.ALL, *_WHICH.values(), Which.UNANSWERED, Which.WITHHELD, Which.PARKED), 0)
    for count in counts:
        if count.phase in {Phase.LINKED, Phase.WAITING}:
            found[Which.ALL] += count.deals
            found[_WHICH[count.sync_state]] += count.deals
            found[Which.WITHHELD] += count.deals * count.withheld
            found[Which.PARKED] += count.deals * count.parked
    found[Which.UNANSWERED] = unanswered
    return found


def record_address(settings: Settings, opportunity_id: str | None) -> str | None:
    """Where the CRM shows this opportunity; None where there is none.

    Salesforce: standard__recordPage in "pageReference Types"; Dynamics: "Open apps, forms, views, dialogs, and reports with a URL".
    """
    if not opportunity_id:
        return None
    record = quote(opportunity_id, safe="")
    if settings.crm == "dynamics":
        base, path = settings.dynamics.url, f"main.aspx?pagetype=entityrecord&etn=opportunity&id={record}"
    else:
        base, path = settings.salesforce.login_url, f"lightning/r/Opportunity/{record}/view"
    return f"{base.rstrip('/')}/{path}" if base else None


def _portal(link: Link) -> str | None:
    """The address that we made of the referral's id; what a seller may have written on the record is no link of ours."""
    address = link.referral.text("referral_link") if link.referral else ""
    return address if address.startswith("https://") else None


def _marks(link: Link) -> Iterator[str]:
    memory = link.memory
    if link.phase is Phase.WAITING:
        yield "not linked yet"
    if link.phase is Phase.SKIPPED:
        yield "skipped"
    if link.phase is Phase.PARTED:
        yield "unlinked"
    if memory.parked:
        yield "parked"
    if memory.withheld:
        yield f"withheld: {listed(item.kind.value for item in memory.withheld)}"
    if memory.failure is not None and memory.failure.locked:
        yield "record locked"


def _lease(facts: Facts, *, held: bool) -> str:
    if held:
        return "This process holds the lease."
    return (
        f"The lease is held by {facts.holder}." if facts.holder else "This process does not hold the lease."
    )
