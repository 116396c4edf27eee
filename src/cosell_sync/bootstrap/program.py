"""The wired program: everything that a command may need, over one connection's store and its two systems."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.bootstrap.partner_center import partner_center_client
from cosell_sync.bootstrap.rules import cycle_settings_from, rules_from
from cosell_sync.bootstrap.store import open_tokens, store_of
from cosell_sync.catalogues import language
from cosell_sync.checks import CrmPreconditions
from cosell_sync.core.deal import Side, State
from cosell_sync.core.rules import Rules
from cosell_sync.cycle.binding import configured, refuse_others
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.partner_center.client import PartnerCenter
from cosell_sync.ports import Clock, Crm, Findings, Referrals, Store
from cosell_sync.settings import Settings
from cosell_sync.store.notices import SqlOutbox
from cosell_sync.store.open import Databases
from cosell_sync.store.quota import StoredLedger
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens
from cosell_sync.transport.permit import Permit
from cosell_sync.transport.quota import Meter

if TYPE_CHECKING:
    from cosell_sync.crm.dynamics.client import DynamicsCrm
    from cosell_sync.crm.salesforce.client import SalesforceCrm


@dataclass
class Program:
    """Everything a command may need, wired. ``stop`` ends every wait and hanging call at once."""

    settings: Settings
    store: SqlStore
    tokens: StoredTokens
    referrals: PartnerCenter
    crm: SalesforceCrm | DynamicsCrm
    rules: Rules
    cycle_settings: CycleSettings
    clock: Clock
    stop: threading.Event
    meters: Mapping[Side, Meter]
    findings: Findings

    def cycle_services(
        self,
        *,
        store: Store | None = None,
        referrals: Referrals | None = None,
        crm: Crm | None = None,
        rehearsal: bool = False,
    ) -> Services:
        """What a cycle needs, over the program's own store and systems unless others are given, as `plan` does.

        ``rehearsal``: the systems given only pretend to write.
        """
        return Services(
            referrals=referrals or self.referrals,
            crm=crm or self.crm,
            store=store or self.store,
            clock=self.clock,
            rules=self.rules,
            settings=self.cycle_settings,
            meters=self.meters,
            preconditions=self.preconditions,
            language=language(self.settings.mapping.language),
            findings=self.findings,
            rehearsal=rehearsal,
        )

    def purge_journal(self) -> None:
        """Delete history older than ``store.journal_keep``; needs the lease."""
        self.store.purge_journal(self.clock() - self.settings.store.journal_keep)

    @property
    def outbox(self) -> SqlOutbox:
        """The notices that wait in the store."""
        return SqlOutbox(self.store.engine, self.store.connection)

    @cached_property
    def preconditions(self) -> CrmPreconditions:
        """One for all cycles, for it remembers what it checked."""
        return CrmPreconditions(self.settings.crm, self.crm, self.stages)

    @property
    def stages(self) -> Sequence[str]:
        """The stages that the mapping names, each once."""
        named = [
            self.rules.stages.for_state(state)
            for state in State
            if state not in {State.CLOSED, State.UNKNOWN}
        ]
        return list(dict.fromkeys([*named, *self.rules.stages.sales]))


def _crm_client(
    settings: Settings,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    *,
    permit: Permit,
) -> SalesforceCrm | DynamicsCrm:
    """The client of the CRM that is chosen; the other one's libraries stay unread."""
    if settings.crm == "salesforce":
        from cosell_sync.bootstrap.salesforce import salesforce_client  # noqa: PLC0415 - the CRM that is chosen

        return salesforce_client(settings, stop, clock, closing, meter, permit=permit)
    from cosell_sync.bootstrap.dynamics import dynamics_client  # noqa: PLC0415

    return dynamics_client(settings, stop, clock, closing, meter, permit=permit)


@contextmanager
def program(
    settings: Settings,
    *,
    clock: Clock = utc_now,
    rehearsal: bool = False,
    rebinding: bool = False,
    databases: Databases | None = None,
) -> Iterator[Program]:
    """The wired program over the opened store; no outside system is contacted by wiring.

    ``databases``: those of a process that serves several connections. ``rehearsal``: leave the store as it is where possible,
    and begin with the stored access token. ``rebinding``: the store may be another org's. Raises ``ConfigError`` where a system
    is not configured, ``ForeignSystem`` where the store is another's.
    """
    stop = threading.Event()
    with ExitStack() as closing:
        store = (
            databases.store(settings.store.url, clock, sleep=stop.wait, connection=settings.connection)
            if databases
            else store_of(settings, clock, stop.wait)
        )
        closing.callback(store.close)
        known = {} if rebinding else store.bindings()
        ours = configured(settings.crm, settings.partner_center.tenant_id)
        refuse_others(known, ours, settings.connection)
        tokens = open_tokens(settings, store)
        ledger = StoredLedger(store.engine, connection=store.connection)
        meters = {
            side: Meter(system, clock=clock, ceiling=ceiling, ledger=ledger)
            for side, system, ceiling in (
                (Side.PARTNER_CENTER, "partner_center", settings.budget.partner_center),
                (Side.CRM, settings.crm, settings.budget.crm),
            )
        }
        for meter in meters.values():
            closing.callback(meter.close)
        findings = Findings()
        yield Program(
            settings=settings,
            store=store,
            tokens=tokens,
            referrals=partner_center_client(
                settings,
                tokens,
                stop,
                clock,
                closing,
                meters[Side.PARTNER_CENTER],
                findings,
                permit=store.check_deadline,
                rehearsal=rehearsal,
            ),
            findings=findings,
            crm=_crm_client(settings, stop, clock, closing, meters[Side.CRM], permit=store.check_deadline),
            rules=rules_from(settings),
            cycle_settings=cycle_settings_from(settings),
            clock=clock,
            stop=stop,
            meters=meters,
        )
