"""The only file that names every adapter: settings in, a wired program out.

An adapter is imported where it is chosen: its libraries are half of a command's start, and nobody uses both CRMs at once.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

from cosell_sync.catalogues import catalogue, language, languages
from cosell_sync.checks import CrmPreconditions
from cosell_sync.core.capabilities import Capability, found_of, stands
from cosell_sync.core.deal import Side, State
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.core.rules import AccountUpdates, FieldRule, Flow, Policy, Rules, Stages
from cosell_sync.crm.report import Finding
from cosell_sync.crm.words import Words
from cosell_sync.crm.writes import Ownership
from cosell_sync.cycle.binding import configured, refuse_others
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.errors import ConfigError
from cosell_sync.notices.sender import Target, wanted
from cosell_sync.partner_center.client import ID_HEADERS, PartnerCenter
from cosell_sync.partner_center.paging import REFERRALS
from cosell_sync.partner_center.signin import TOKEN_NAME, UNREACHABLE, Application, Lent, SignIn
from cosell_sync.partner_center.values import Attribute, WireOptions
from cosell_sync.ports import Clock, Crm, Findings, Referrals, Store
from cosell_sync.settings import Settings, value_lists
from cosell_sync.store.copy import open_copy
from cosell_sync.store.engine import parse
from cosell_sync.store.notices import SqlOutbox
from cosell_sync.store.open import Databases, open_store
from cosell_sync.store.quota import StoredLedger
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens, find_key
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.permit import Permit, anyway
from cosell_sync.transport.quota import Meter
from cosell_sync.transport.retry import RetryStrategy
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

if TYPE_CHECKING:
    from cosell_sync.crm.dynamics.client import DynamicsCrm
    from cosell_sync.crm.salesforce.client import SalesforceCrm
    from cosell_sync.partner_center.registration import Registration


def utc_now() -> datetime:
    """The clock of every command except the demo and the tests: the current time in UTC."""
    return datetime.now(UTC)


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


def close_date_zone(settings: Settings) -> tzinfo:
    """The zone in which a close date is a day."""
    name = settings.mapping.close_date_zone
    return UTC if name == "UTC" else ZoneInfo(name)


def rules_from(settings: Settings) -> Rules:
    """The configured part of what the core decides by."""
    mapping = settings.mapping
    stages = mapping.stages
    return Rules(
        fields={
            name: FieldRule(name, rule.crm, Flow(rule.direction), Policy(rule.conflict))
            for name, rule in mapping.fields.items()
        },
        stages=Stages(
            received=stages.received,
            accepted=stages.accepted,
            won=stages.won,
            lost=stages.lost,
            declined=stages.declined,
            expired=stages.expired,
            sales=dict(mapping.sales_stages),
        ),
        terminal_hold=settings.sync.terminal_hold,
        write_name=_flag(mapping.write_name),
        write_favorite=_flag(mapping.write_favorite),
        import_closed=settings.sync.import_closed,
        import_leads=mapping.leads == "import",
        match=mapping.match,
        account_updates=AccountUpdates(mapping.account_updates),
        default_currency=mapping.default_currency,
        cosell_recipe=mapping.cosell_recipe,
        reasons=dict(mapping.reasons),
        default_close=mapping.default_close,
        close_date_zone=close_date_zone(settings),
    )


def rules_found(settings: Settings, store: SqlStore, now: datetime) -> Rules:
    """The rules as a cycle of this moment would have them: with what was found out and still counts."""
    basis = cycle_settings_from(settings).basis
    known = [each for each in store.verdicts() if stands(each, basis.get(each.capability), now)]
    return replace(rules_from(settings), found=found_of(known))


def cycle_settings_from(settings: Settings) -> CycleSettings:
    """The configured bounds of a cycle: overlap, full comparison, surprises, retries."""
    sync = settings.sync
    return CycleSettings(
        overlap=sync.overlap,
        full_every=sync.full_every,
        surprise_share=float(sync.surprise_share),
        surprise_min=sync.surprise_min,
        surprise_moves=sync.surprise_moves,
        surprise_window=sync.surprise_window,
        post_patience=sync.post_patience,
        retry_policy=RetryPolicy(sync.interval, sync.max_attempts, sync.full_every),
        closed_rows=(settings.dynamics if settings.crm == "dynamics" else settings.salesforce).closed_rows,
        basis=_basis(settings),
        connection=settings.connection,
    )


def words(settings: Settings) -> Words:
    """The languages of labels and choices; catalogues and lists are read when they are needed."""

    @cache
    def lists() -> Mapping[str, Sequence[str]]:
        return value_lists.choices(value_lists.lists(settings.mapping.value_lists))

    return Words(settings.mapping.language, languages(), catalogue, lists)


def _basis(settings: Settings) -> dict[Capability, str]:
    """The questions about Partner Center that are left to ``auto``, and what an answer depends on: host and API version."""
    mapping, api = settings.mapping, f"{settings.partner_center.base_url}{REFERRALS}"
    left_open = {
        Capability.WRITE_NAME: mapping.write_name == "auto",
        Capability.WRITE_FAVORITE: mapping.write_favorite == "auto",
        Capability.SALES_STAGE: mapping.sales_stage_wire == "auto",
        Capability.CHANGES_FILTER: True,
        Capability.ENGAGEMENT_FILTER: True,
    }
    return {capability: api for capability, is_open in left_open.items() if is_open}


def _flag(configured: Literal["auto"] | bool) -> bool | None:
    """A switch for the core; None: it is to be found out."""
    return None if configured == "auto" else configured


def application(settings: Settings) -> Application:
    """The Partner Center app registration. Raises ``ConfigError`` where it is not configured."""
    ours = settings.partner_center
    if not ours.tenant_id or not ours.client_id:
        raise ConfigError("partner_center.tenant_id and partner_center.client_id are needed")
    return Application(
        tenant_id=ours.tenant_id,
        client_id=ours.client_id,
        client_secret=ours.client_secret.get_secret_value() if ours.client_secret else None,
        authority=ours.authority,
    )


def open_tokens(settings: Settings, store: SqlStore) -> StoredTokens:
    """The refresh tokens in this store, and the key they are encrypted with."""
    configured = settings.store.key.get_secret_value() if settings.store.key else None
    return StoredTokens(
        store.engine, find_key(parse(settings.store.url), configured), connection=store.connection
    )


def store_of(
    settings: Settings, clock: Clock = utc_now, sleep: Callable[[float], object] = time.sleep
) -> SqlStore:
    """The store of this connection, opened for this one use; what is raised as of ``open_store``."""
    return open_store(settings.store.url, clock, sleep=sleep, connection=settings.connection)


def limits(settings: Settings) -> Limits:
    return Limits(read=settings.sync.call_timeout.total_seconds())


def login_caller(settings: Settings) -> HttpCaller:
    """For the sign-in of a person to Partner Center; MSAL finds the hosts."""
    return HttpCaller(
        "partner_center", "", limits=limits(settings), name="the sign-in of Partner Center", hint=UNREACHABLE
    )


class Asked(Mapping[str, Attribute]):
    """What Partner Center asks per deal, by the lists in force. Read at the first use: a cycle without news needs none."""

    def __init__(self, named: str | None) -> None:
        self._named = named

    @cached_property
    def _lists(self) -> Mapping[str, Attribute]:
        found = value_lists.lists(self._named)
        return {name: Attribute(each.type, each.labels) for name, each in found.items()}

    def __getitem__(self, name: str) -> Attribute:
        return self._lists[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._lists)

    def __len__(self) -> int:
        return len(self._lists)


def partner_center(
    settings: Settings,
    tokens: StoredTokens,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    findings: Findings,
    *,
    permit: Permit,
    rehearsal: bool = False,
) -> PartnerCenter:
    ours = settings.partner_center
    if ours.refresh_token:
        tokens.seed(TOKEN_NAME, ours.refresh_token.get_secret_value())
    authority = HttpCaller(
        "partner_center",
        ours.authority,
        governor=Governor("partner_center", stop=stop),
        limits=limits(settings),
    )
    sign_in = SignIn(application(settings), tokens, authority, clock=clock)
    source = TokenSource(Lent(sign_in, tokens, borrow=rehearsal, clock=clock), signed_in=meter.signed_in)
    governor = Governor("partner_center", stop=stop, meter=meter)
    caller = HttpCaller(
        "partner_center",
        ours.base_url,
        permit=permit,
        governor=governor,
        tokens=source,
        limits=limits(settings),
        id_headers=ID_HEADERS,
        name="Partner Center",
        hint="check partner_center.base_url and the network",
        clock=clock,
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    mapping = settings.mapping
    wire = WireOptions(
        sales_stage=mapping.sales_stage_wire,
        write_name=mapping.write_name is not False,
        write_favorite=mapping.write_favorite is not False,
        recipe=mapping.cosell_recipe,
        marketplace_intent=mapping.marketplace_intent,
        attributes=mapping.deal_attributes,
        asked=Asked(mapping.value_lists),
        location=mapping.location,
        link=ours.portal_url,
        close_date_zone=close_date_zone(settings),
        publishers=ours.publisher_names,
    )
    return PartnerCenter(caller, wire, tenant=ours.tenant_id or "", findings=findings)


def webhook_registration(settings: Settings, clock: Clock, closing: ExitStack) -> Registration:
    """The registration API, which has a host and an audience of its own; the sign-in is that of referrals."""
    from cosell_sync.partner_center.registration import SCOPE, Registration  # noqa: PLC0415 - see above

    ours = settings.partner_center
    store = store_of(settings, clock)
    closing.callback(store.close)
    tokens = open_tokens(settings, store)
    if ours.refresh_token:
        tokens.seed(TOKEN_NAME, ours.refresh_token.get_secret_value())
    authority = HttpCaller("partner_center", ours.authority, limits=limits(settings))
    sign_in = SignIn(replace(application(settings), scope=SCOPE), tokens, authority, clock=clock)
    caller = HttpCaller(
        "partner_center",
        ours.webhook_base_url,
        tokens=TokenSource(sign_in, clock=clock),
        limits=limits(settings),
        id_headers=ID_HEADERS,
        name="the webhook registration of Partner Center",
        hint="check partner_center.webhook_base_url and the network",
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    return Registration(caller)


def salesforce(
    settings: Settings,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    *,
    permit: Permit = anyway,
) -> SalesforceCrm:
    from cosell_sync.crm.salesforce import errors  # noqa: PLC0415 - see above
    from cosell_sync.crm.salesforce.client import SalesforceCrm  # noqa: PLC0415
    from cosell_sync.crm.salesforce.rest import HINT, NAME, Rest  # noqa: PLC0415
    from cosell_sync.crm.salesforce.signin import ClientCredentials, JwtBearer  # noqa: PLC0415
    from cosell_sync.crm.salesforce.signin import SignIn as SalesforceSignIn  # noqa: PLC0415
    from cosell_sync.crm.salesforce.write import Guard  # noqa: PLC0415

    ours, mapping = settings.salesforce, settings.mapping
    if not ours.login_url or not ours.consumer_key:
        raise ConfigError("salesforce.login_url and salesforce.consumer_key are needed")
    credentials: ClientCredentials | JwtBearer
    if ours.username and ours.private_key:
        credentials = JwtBearer(
            ours.consumer_key, ours.username, ours.private_key.get_secret_value(), ours.jwt_audience
        )
    elif ours.consumer_secret:
        credentials = ClientCredentials(ours.consumer_key, ours.consumer_secret.get_secret_value())
    else:
        raise ConfigError(
            "salesforce.consumer_secret, or salesforce.username with salesforce.private_key, is needed"
        )
    patience = replace(limits(settings), grace=SALESFORCE_GRACE)
    authority = HttpCaller(
        "salesforce",
        ours.login_url,
        governor=Governor("salesforce", stop=stop),
        limits=patience,
        id_headers=(),
        name=NAME,
        hint=HINT,
    )
    tokens = TokenSource(
        SalesforceSignIn(ours.login_url, credentials, authority, clock=clock),
        system="salesforce",
        signed_in=meter.signed_in,
    )
    caller = HttpCaller(
        "salesforce",
        ours.login_url,
        permit=permit,
        governor=Governor("salesforce", stop=stop, meter=meter),
        tokens=tokens,
        limits=patience,
        id_headers=(),
        name=NAME,
        hint=HINT,
        hints=errors.HINTS,
        clock=clock,
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    return SalesforceCrm(
        Rest(caller, tokens, clock=clock, api_version=ours.api_version),
        names={name: rule.crm for name, rule in mapping.fields.items() if rule.direction != "off"},
        match=mapping.account_match,
        ownership=_ownership(settings),
        guard=Guard(last_modified=ours.guard_stamp == "last_modified", parts=ours.guard_parts),
    )


def dynamics(
    settings: Settings,
    stop: threading.Event,
    clock: Clock,
    closing: ExitStack,
    meter: Meter,
    patience: Limits | None = None,
    *,
    permit: Permit = anyway,
) -> DynamicsCrm:
    from cosell_sync.crm.dynamics import signin  # noqa: PLC0415 - see above
    from cosell_sync.crm.dynamics.client import DynamicsCrm  # noqa: PLC0415
    from cosell_sync.crm.dynamics.rest import ID_HEADERS as DYNAMICS_ID_HEADERS  # noqa: PLC0415
    from cosell_sync.crm.dynamics.rest import Rest  # noqa: PLC0415

    ours, mapping = settings.dynamics, settings.mapping
    if not ours.url:
        raise ConfigError("dynamics.url is needed")
    signing = signin.Application(
        url=ours.url,
        tenant_id=ours.tenant_id or "",
        client_id=ours.client_id or "",
        client_secret=ours.client_secret.get_secret_value() if ours.client_secret else None,
        certificate=ours.certificate.get_secret_value() if ours.certificate else None,
        managed_identity=ours.managed_identity,
        authority=ours.authority,
    )
    authority = HttpCaller(
        "dynamics",
        "",  # MSAL finds the hosts
        governor=Governor("dynamics", stop=stop),
        limits=limits(settings),
        name="the sign-in of Dynamics 365",
        hint=signin.UNREACHABLE,
        proxies=ours.managed_identity is None,  # a machine's identity is asked for on the machine
    )
    caller = HttpCaller(
        "dynamics",
        ours.url,
        permit=permit,
        governor=Governor("dynamics", stop=stop, meter=meter),
        tokens=TokenSource(signin.SignIn(signing, authority, clock=clock), signed_in=meter.signed_in),
        limits=patience or limits(settings),
        id_headers=DYNAMICS_ID_HEADERS,
        clock=clock,
    )
    closing.callback(authority.close)
    closing.callback(caller.close)
    return DynamicsCrm(
        Rest(caller, clock=clock),
        names={name: rule.crm for name, rule in mapping.fields.items() if rule.direction != "off"},
        match=mapping.account_match,
        ownership=_ownership(settings),
        words=words(settings),
        close_date_zone=close_date_zone(settings),
    )


def _ownership(settings: Settings) -> Ownership:
    mapping = settings.mapping
    return Ownership(
        team=mapping.owner == "team", default=mapping.default_owner, by_location=mapping.owner_by_location
    )


# Dataverse makes a column within seconds or within a minute.
CUSTOMIZING = Limits(read=120.0, retry=RetryStrategy(total=300.0))
SALESFORCE_GRACE = 5.0  # seconds that a call to Salesforce may still take when we are asked to stop


def provision(
    settings: Settings, *, dry_run: bool, assign: str | None, progress: Callable[[str], None]
) -> Sequence[Finding]:
    """Make what the CRM lacks, or with ``dry_run`` only find it; one finding for each component.

    ``assign``: who receives the rights; None: the signed-in user. ``progress`` is called with each slow step.
    """
    names = {name: rule.crm for name, rule in settings.mapping.fields.items() if rule.direction != "off"}
    choices = value_lists.choices(value_lists.lists(settings.mapping.value_lists))
    stop = threading.Event()
    with ExitStack() as closing:
        if settings.crm == "salesforce":
            from cosell_sync.crm.salesforce.install.deploy import provision as provision_salesforce  # noqa: PLC0415

            rest = salesforce(settings, stop, utc_now, closing, Meter("salesforce", clock=utc_now)).rest
            return provision_salesforce(
                rest, names, dry_run=dry_run, assign=assign, choices=choices, words=words(settings)
            )
        from cosell_sync.crm.dynamics.install.deploy import provision as provision_dynamics  # noqa: PLC0415

        uncounted = Meter("dynamics", clock=utc_now)
        web = dynamics(settings, stop, utc_now, closing, uncounted, patience=CUSTOMIZING).rest
        return provision_dynamics(
            web,
            names,
            dry_run=dry_run,
            assign=assign,
            progress=progress,
            choices=choices,
            words=words(settings),
        )


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

    ``databases``: those of a process that serves several connections. ``rehearsal``: leave the store as it is where possible, and begin with the stored access token. ``rebinding``: the store
    may be another org's. Raises ``ConfigError`` where a system is not configured, ``ForeignSystem`` where the store is another's.
    """
    crm = salesforce if settings.crm == "salesforce" else dynamics
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
            referrals=partner_center(
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
            crm=crm(settings, stop, clock, closing, meters[Side.CRM], permit=store.check_deadline),
            rules=rules_from(settings),
            cycle_settings=cycle_settings_from(settings),
            clock=clock,
            stop=stop,
            meters=meters,
        )


def rehearsal_store(settings: Settings, clock: Clock = utc_now) -> SqlStore:
    """An in-memory copy of the store, for a cycle that must leave no trace."""
    return open_copy(settings.store.url, clock, settings.connection)


@contextmanager
def noticing(
    wired: Program, *, background: bool = False
) -> Iterator[Callable[[str], AbstractContextManager[None]]]:
    """What a cycle of this id is to run within, so that people are told of its outcome; nothing where ``notices`` is empty.

    ``background``: no receiver holds up the next cycle.
    """
    targets = notice_targets(wired.settings)
    if not targets:
        yield lambda _cycle: nullcontext()
        return
    from cosell_sync.notices.notifier import Notifier  # noqa: PLC0415 - only where somebody is to be told

    spoken = language(wired.settings.mapping.language)
    name = wired.settings.connection if wired.settings.key_prefix else ""
    notifier = Notifier(
        targets,
        wired.outbox,
        wired.store,
        wired.clock,
        background=background,
        language=spoken,
        connection=name,
    )
    try:
        yield notifier.watching
    finally:
        notifier.close()


def notice_targets(settings: Settings) -> Sequence[Target]:
    """The configured receivers of notices."""
    return [Target(each.url.get_secret_value(), each.format, wanted(each.on)) for each in settings.notices]


LEASE_WAIT = timedelta(seconds=35)  # a little longer than the lease of a PostgreSQL holder that was killed
