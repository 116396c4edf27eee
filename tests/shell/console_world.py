"""A store of deals in every state, and the console over it; for the tests of its pages and for the browser."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from werkzeug.test import Client

from cosell_sync.bootstrap.rules import rules_from
from cosell_sync.cli.console_pages import console
from cosell_sync.core.deal import Customer, Member, Side, Snapshot, SyncState, Value
from cosell_sync.core.fields import SHARED, Kind
from cosell_sync.core.memory import (
    Action,
    Failure,
    FinalKind,
    JournalEntry,
    Link,
    Memory,
    Phase,
    Withheld,
    WithheldBy,
)
from cosell_sync.ports import Transaction
from cosell_sync.settings import Settings
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from cosell_sync.summary import Counts, CycleSummary
from cosell_sync.transport.quota import Meter
from cosell_sync.web.health import Facts
from cosell_sync.web.server import Application

_EMPTY: dict[Kind, Value] = {Kind.FLAG: False, Kind.MEMBERS: (), Kind.SOLUTIONS: ()}
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ANNA = Member("anna.berg@customer.example", "Anna", "Berg", "+31 20 555 0103")
NOTES = "Anna wants a discount, keep it quiet"
URL = "https://corp.my.salesforce.com"


def deal(number: int, name: str = "", *, state: str = "Accepted", **changes: Any) -> Link:
    """A linked deal at rest with a contact and notes."""
    referral_id = f"{number:08}-aaaa-4bbb-8ccc-000000000000"
    name = name or f"Cloud move {number}"
    shared: dict[str, Value] = {
        **{field: _EMPTY.get(kind) for field, kind in SHARED.items() if field != "sales_stage"},
        "name": name,
        "value": Decimal(250_000),
        "currency": "EUR",
        "close_date": date(2027, 3, 31),
        "customer": Customer(name="Contoso Nederland B.V.", city="Delft", country="NL"),
        "contacts": (ANNA,),
        "notes": NOTES,
    }
    respond_by = NOW + timedelta(hours=number) if state == "Received" else None
    link = f"https://partner.microsoft.com/dashboard/referrals/v2/leads/{referral_id}"
    referral = {**shared, "state": state, "respond_by": respond_by, "referral_link": link}
    opportunity = {**shared, "stage": "Qualification", "sync": True, "status": state}
    made = Link(
        f"r:{referral_id}",
        referral_id,
        f"006{number:012}AAA",
        Phase.LINKED,
        Snapshot(referral_id, "1", referral),
        Snapshot(f"006{number:012}AAA", "1", opportunity),
        base_referral=referral,
        base_opportunity=opportunity,
        dirty=False,
    )
    return replace(made, **changes)


def urgent(text: str, **changes: Any) -> Memory:
    failure = Failure(Side.CRM, "FIELD_CUSTOM_VALIDATION_EXCEPTION", text, NOW - timedelta(hours=5))
    return Memory(sync_state=SyncState.NEEDS_ATTENTION, failure=failure, **changes)


def line(link: Link, field: str | None, old: Any, new: Any, rule: str, **changes: Any) -> JournalEntry:
    made = JournalEntry(
        link.key, "c-41", NOW - timedelta(hours=2), Side.CRM, Action.UPDATE, field, old, new, rule
    )
    return replace(made, **changes)


def cycle(number: int, exit_code: int = 0, **changes: Any) -> CycleSummary:
    return CycleSummary(
        f"c-{number}",
        1.25,
        Counts(3, 4),
        Counts(1, 2),
        api_calls=Counts(5, 9),
        exit_code=exit_code,
        **changes,
    )


class World:
    """``web``: a client of the console over ``store``; ``facts`` and ``settings`` may be replaced before a request.

    ``token``: the file of the console's token. ``seconds``: what its sessions take for the time; ``woken``: how often an order
    woke the daemon; ``told``: the events that were counted.
    """

    def __init__(
        self,
        links: list[Link],
        *,
        names: bool = True,
        crm: str = "salesforce",
        token: Path | None = None,
        hosts: tuple[str, ...] = (),
    ) -> None:
        self.now = NOW
        self.seconds, self.woken = 0.0, 0
        self.told: list[str] = []
        self.store: SqlStore = open_store("sqlite://", lambda: self.now)
        self.facts = Facts(NOW, "1.0", crm, timedelta(minutes=5), carried_at=NOW - timedelta(seconds=40))
        settings = Settings.model_validate(
            {
                "crm": crm,
                "console": {"names": names, "token_file": str(token) if token else None, "hosts": hosts},
                "mapping": {"fields": {"close_date": {"conflict": "ask"}, "value": {"conflict": "ask"}}},
                "salesforce": {"login_url": URL},
                "dynamics": {"url": "https://corp.crm4.dynamics.com"},
            }
        )
        self.meter = Meter("salesforce", clock=lambda: NOW)
        self.wired: Any = SimpleNamespace(
            store=self.store,
            settings=settings,
            rules=rules_from(settings),
            clock=lambda: NOW,
            meters={Side.PARTNER_CENTER: Meter("partner_center", clock=lambda: NOW), Side.CRM: self.meter},
        )
        self.put(links)
        self.application = Application(
            lambda: self.facts,
            lambda: b"",
            console=console(
                self.wired,
                lambda: self.facts,
                lambda: timedelta(minutes=1),
                wake=self.wake,
                tell=self.told.append,
                monotonic=lambda: self.seconds,
            ),
        )
        self.web = Client(self.application)

    def wake(self) -> None:
        self.woken += 1

    def put(self, links: list[Link], journal: list[JournalEntry] | None = None) -> None:
        with self.store.lease(timedelta()):
            self.store.commit(Transaction(links=links, journal=journal or []))

    def page(self, path: str) -> str:
        answer = self.web.get(path)
        assert answer.status_code == 200, path
        return answer.text


def in_conflict(number: int, **changes: Any) -> Link:
    """A deal of which both sides changed the amount and the close date, by different people to different values."""
    link = deal(number, **changes)
    assert link.referral is not None
    assert link.opportunity is not None
    theirs = {"value": Decimal(310_000), "close_date": date(2027, 4, 30)}
    ours = {"value": Decimal(275_000), "close_date": date(2027, 6, 30)}
    return replace(
        link,
        referral=replace(link.referral, version="2", fields={**link.referral.fields, **theirs}),
        opportunity=replace(link.opportunity, version="2", fields={**link.opportunity.fields, **ours}),
        memory=Memory(sync_state=SyncState.CONFLICT),
    )


def busy_world(**options: Any) -> World:
    """As an afternoon looks: most deals at rest, some of every kind that needs somebody, cycles good and bad."""
    refusal = (
        'The CRM says: "A director must approve discounts above 20 %." Change the amount, or ask a director.'
    )
    withheld = (Withheld(FinalKind.ACCEPT, "Qualification", WithheldBy.COUNT),)
    links = [deal(number) for number in range(100, 190)]
    links += [deal(number, f"New referral {number}", state="Received") for number in (2, 30, 80, 200)]
    links += [
        deal(301, "Fabric for the mill", memory=urgent(refusal)),
        deal(302, "Data estate", memory=urgent(refusal, parked=True)),
        deal(303, "Sentinel roll-out", memory=Memory(sync_state=SyncState.WAITING, withheld=withheld)),
        deal(304, "Won last week", memory=Memory(sync_state=SyncState.CLOSED)),
        deal(305, "Parted for good", phase=Phase.PARTED),
    ]
    waits = deal(306, "Analytics for Noord-Holland")
    assert waits.opportunity is not None
    edited = replace(
        waits.opportunity, version="2", fields={**waits.opportunity.fields, "value": Decimal(310_000)}
    )
    links.append(replace(waits, opportunity=edited, dirty=True, memory=Memory(sync_state=SyncState.WAITING)))
    world = World(links, **options)
    one = links[-6]
    if world.wired.settings.console.token_file:
        world.put([in_conflict(307, name="Landing zone for the port")])
    world.put(
        [],
        [
            line(one, "value", Decimal(200_000), Decimal(250_000), "changed in Partner Center"),
            line(one, "contacts", (), (ANNA,), "changed in Partner Center"),
            line(one, "notes", None, NOTES, "changed in Partner Center"),
            line(one, "stage", "Prospecting", "Qualification", "accepted", action=Action.MOVE),
        ],
    )
    for number in range(1, 13):
        world.now = NOW - timedelta(minutes=13 - number)
        world.store.remember_cycle(cycle(number, 3 if number in {5, 6} else 1 if number == 9 else 0))
    world.now = NOW
    world.meter.observe(18_250, 100_000)
    world.meter.signed_in(NOW - timedelta(minutes=47))
    return world
