"""The configuration as values: one frozen section for each block of the file, checked as a whole.

``Settings()`` is a complete, valid configuration, and hermetic: ``load`` alone looks at files and variables. The
docstring below a key is its description in ``config schema``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_validator,
    model_validator,
)

from cosell_sync.settings.defaults import (
    FIELDS,
    MAY_SHARE_A_NAME,
    MERGEABLE,
    OPTIONAL_FIELDS,
    REASONS,
    SALES_STAGES,
    STAGES,
    direction,
    field_rules,
    with_default_rules,
)
from cosell_sync.settings.notices import NoticeSettings
from cosell_sync.settings.origin import Origin
from cosell_sync.settings.section import Section
from cosell_sync.settings.tracing import TracingSettings
from cosell_sync.settings.values import (
    DEFAULT_CONNECTION,
    DEFAULT_STORE,
    AccountMatch,
    AutoFlag,
    CallCount,
    ClosedReason,
    ClosedRows,
    CrmName,
    Duration,
    FieldConflict,
    FieldDirection,
    HttpsUrl,
    LanguageCode,
    ListenAddress,
    MpnId,
    PortalUrl,
    PositiveDuration,
    PublicUrl,
    SalesStage,
    Share,
    StoreUrl,
    Text,
    TimeZone,
    split_list,
)


class PartnerCenterSettings(Section):
    base_url: HttpsUrl = "https://api.partner.microsoft.com"
    """Referrals host."""
    webhook_base_url: HttpsUrl = "https://api.partnercenter.microsoft.com"
    """Webhook registration host."""
    authority: HttpsUrl = "https://login.microsoftonline.com"
    """Token host."""
    tenant_id: Text | None = None
    """Tenant of the App+User sign-in."""
    client_id: Text | None = None
    """Application (client) id of the sign-in."""
    client_secret: SecretStr | None = None
    """Only for a confidential client."""
    refresh_token: SecretStr | None = None
    """Seeds the store; later tokens rotate there. A seed that differs from the last one replaces what is stored."""
    portal_url: PortalUrl = "https://partner.microsoft.com/dashboard/referrals/v2/leads/{referral_id}"
    """The deal's page in the portal, with {referral_id} or {engagement_id}."""
    publisher_names: Annotated[tuple[Text, ...], BeforeValidator(split_list)] = ()
    """Names under which your solutions are published, where they differ from your organization's name in Partner Center."""


class SalesforceSettings(Section):
    login_url: HttpsUrl | None = None
    """My Domain URL."""
    consumer_key: Text | None = None
    """Of the External Client App; with consumer_secret the client-credentials flow."""
    consumer_secret: SecretStr | None = None
    """Client-credentials flow."""
    username: Text | None = None
    """With private_key: the JWT bearer flow instead."""
    private_key: SecretStr | None = None
    """PEM text of the JWT bearer flow."""
    jwt_audience: HttpsUrl | None = None
    """Audience of the JWT; else login.salesforce.com, or test.salesforce.com for a sandbox host."""
    api_version: Annotated[str, Field(pattern=r"^\d{2,3}\.0$")] = "66.0"
    """REST version, without a v."""
    guard_stamp: Literal["system_modstamp", "last_modified"] = "system_modstamp"
    """The stamp that If-Unmodified-Since carries. SystemModstamp is never the earlier one, so it is safe with either."""
    guard_parts: bool = True
    """Whether the parts of a composite honour If-Unmodified-Since; false sends guarded writes one by one."""
    closed_rows: ClosedRows = "auto"
    """Whether status, state and message are written to a closed opportunity; auto tries once and remembers the answer."""


class DynamicsSettings(Section):
    url: HttpsUrl | None = None
    """https://org.crm.dynamics.com"""
    authority: HttpsUrl = "https://login.microsoftonline.com"
    """Token host."""
    tenant_id: Text | None = None
    """Tenant of the application user."""
    client_id: Text | None = None
    """Application (client) id."""
    client_secret: SecretStr | None = None
    """Sign-in by secret."""
    certificate: SecretStr | None = None
    """Sign-in by certificate: PEM text with the private key and the certificate."""
    managed_identity: Text | None = None
    """Sign-in without secrets on Azure: the identity's client id, or ``system`` for the machine's own."""
    closed_rows: ClosedRows = "auto"
    """Whether status, state and message are written to a closed opportunity; auto tries once and remembers the answer."""


class StoreSettings(Section):
    url: StoreUrl = DEFAULT_STORE
    """SQLAlchemy URL; postgresql+psycopg://… for several workers. A relative path in a file begins at that file."""
    key: SecretStr | None = None
    """Encrypts the stored refresh token; else a key file beside a SQLite store."""
    journal_keep: PositiveDuration = timedelta(days=400)
    """How long history is kept."""

    @property
    def on_sqlite(self) -> bool:
        """Whether the store is a file of this machine, for which no key needs to be given."""
        return self.url.startswith("sqlite")


class SyncSettings(Section):
    interval: PositiveDuration = timedelta(seconds=60)
    """Pause between the cycles of ``run``."""
    overlap: Duration = timedelta(minutes=5)
    """How far each pull reaches back behind its watermark."""
    terminal_hold: Duration = timedelta(minutes=15)
    """How long a Won, Lost or Declined made in the CRM waits before it goes out; 0s sends at once."""
    max_attempts: Annotated[int, Field(ge=1)] = 8
    """Tries of one deal before it is parked."""
    surprise_share: Share = Decimal("0.3")
    """A cycle stops before writing when more than this share, and surprise_min, would close, vanish or be rewritten."""
    surprise_min: Annotated[int, Field(ge=0)] = 20
    """See surprise_share."""
    surprise_moves: Annotated[int, Field(ge=0)] = 10
    """Accepts, declines, wins, losses, posts, invitations: so many of a kind go out in surprise_window unapproved, no more."""
    surprise_window: PositiveDuration = timedelta(hours=1)
    """See surprise_moves."""
    post_patience: Duration = timedelta(minutes=10)
    """How long a post or invitation that took too long to answer is looked for before it is sent again."""
    full_every: PositiveDuration = timedelta(hours=24)
    """How often all ids and versions of both sides are compared."""
    interval_with_webhooks: PositiveDuration = timedelta(minutes=5)
    """How often Partner Center is asked for what changed while its webhooks arrive; the CRM is asked every interval."""
    import_closed: bool = False
    """Whether referrals already closed at first sight become opportunities."""
    call_timeout: Annotated[PositiveDuration, Field(le=timedelta(seconds=120))] = timedelta(seconds=30)
    """Read timeout of one call; with its retries a call takes at most 120 s."""


class Stages(Section):
    """CRM stage names. Won, lost, declined and expired may share one."""

    received: Text
    """Standby: not accepted yet."""
    accepted: Text
    """Where an accept lands."""
    won: Text
    lost: Text
    declined: Text
    expired: Text

    @model_validator(mode="after")
    def _ends_and_starts_differ(self) -> Self:
        ends = {self.lost, self.declined, self.expired}
        if self.received == self.accepted:
            raise ValueError("received and accepted must be two stages: leaving the first is the accept")
        if self.won in ends:
            raise ValueError("won must not be the stage of lost, declined or expired")
        if {self.received, self.accepted} & {self.won, *ends}:
            raise ValueError(
                "received and accepted must be open stages, not those of won, lost, declined, expired"
            )
        return self


class FieldRule(Section):
    """How one of our fields is carried."""

    crm: Text
    """The CRM's own name of it."""
    direction: FieldDirection
    """Which way it travels."""
    conflict: FieldConflict
    """Who wins when both sides changed it to different values."""


def _default_rules(crm: CrmName) -> dict[str, FieldRule]:
    return {name: FieldRule.model_validate(rule) for name, rule in field_rules(crm).items()}


def _rule_problems(name: str, rule: FieldRule) -> Iterator[str]:
    """What is impossible in the rule of this field."""
    if name not in {*FIELDS, *OPTIONAL_FIELDS}:
        yield f"{name} is no field"
        return
    default = direction(name)
    if rule.direction not in {"off", default} and default != "both":
        yield f"{name}.direction can only be {default} or off"
    if name == "referral_id" and rule.direction == "off":
        yield "referral_id cannot be off: it keeps a deal from being made twice"
    if rule.conflict == "merge" and name not in MERGEABLE:
        yield f"{name}.conflict cannot be merge; only {', '.join(sorted(MERGEABLE))} can"


class MappingSettings(Section):
    stages: Stages = Field(default_factory=lambda: Stages(**STAGES["salesforce"]))
    """CRM stage names of our states."""
    sales_stages: dict[str, SalesStage] = Field(default_factory=dict)
    """Other open CRM stages. Giving any replaces the default map; open stages not listed count as accepted."""
    reasons: dict[Text, ClosedReason] = Field(default_factory=dict)
    """The CRM's own loss reasons (status reason, stage, loss_reason) to closed reasons, for deals lost without our Reason."""
    default_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    """ISO code where the CRM has no currency field; else the org's own."""
    default_close: Annotated[PositiveDuration, Field(le=timedelta(days=3650))] = timedelta(days=30)
    """From today to the close date of an inbound deal that brings none."""
    close_date_zone: TimeZone = "UTC"
    """IANA time zone in which a close date is a day, for example Europe/Berlin."""
    leads: Literal["skip", "import"] = "skip"
    """Marketplace and qualified leads."""
    match: Literal["propose", "link", "off"] = "propose"
    """What to do with an opportunity that looks like an incoming referral."""
    account_match: AccountMatch = ("name", "postal_code", "country")
    """What must agree for an existing account to be taken as the customer."""
    account_updates: Literal["fill", "own", "all"] = "fill"
    """What a referral changes of an account that exists: fill blanks only, own keeps those made for the deal equal, all keeps all."""
    owner: Literal["team", "default"] = "team"
    """Owner of imported opportunities: the first CRM user of the referral's team, or always default_owner."""
    default_owner: Text | None = None
    """CRM user who owns what the team cannot."""
    owner_by_location: dict[MpnId, Text] = Field(default_factory=dict)
    """Partner location (MPN id) to CRM user, who then owns its imported opportunities before anybody of the team."""
    location: MpnId | None = None
    """Partner location (MPN id) of new deals whose seller gives none."""
    cosell_recipe: Literal["two_posts", "one_post"] = "two_posts"
    """How Microsoft is invited; never tried out, for an invitation cannot be taken back."""
    marketplace_intent: Text = "HaveNotDecided"
    """CustomerMarketplaceIntent of new deals whose seller chose none; an id of the value list."""
    deal_attributes: dict[Text, Text] = Field(default_factory=dict)
    """More attributes of new deals, type to id. Of PartnerRole, SolutionArea and SolutionPlay: where the seller chose none."""
    value_lists: Text | None = None
    """A file like config/value-lists.yaml with this fiscal year's values; else the one that cosell-sync brings."""
    sales_stage_wire: Literal["auto", "percent", "name"] = "auto"
    """Wire form of the sales stage; auto finds it out and remembers the answer."""
    write_name: AutoFlag = "auto"
    """Whether renames are sent; auto tries one and remembers the answer."""
    write_favorite: AutoFlag = "auto"
    """Whether hearts are sent; auto tries one and remembers the answer."""
    language: LanguageCode = "en"
    """Language of everything that sellers read: en, es, or any other that there is a catalogue for (docs/languages.md)."""
    fields: dict[str, FieldRule] = Field(default_factory=lambda: _default_rules("salesforce"))
    """Per field of ours: its CRM name, direction and conflict policy. A plain text is the CRM name."""

    @field_validator("fields")
    @classmethod
    def _rules_are_possible(cls, rules: dict[str, FieldRule]) -> dict[str, FieldRule]:
        problems = [problem for name, rule in rules.items() for problem in _rule_problems(name, rule)]
        first_with_name: dict[str, str] = {}
        for name in (name for name in rules if name not in MAY_SHARE_A_NAME):
            other = first_with_name.setdefault(rules[name].crm.lower(), name)
            if other != name:
                problems.append(f"{name} and {other} are both kept in {rules[name].crm}")
        if problems:
            raise ValueError("; ".join(problems))
        return rules

    @model_validator(mode="after")
    def _each_stage_has_one_meaning(self) -> Self:
        taken = {name for role, name in self.stages.model_dump().items() if role != "accepted"}
        if both := sorted(taken & set(self.sales_stages)):
            raise ValueError(f"sales_stages lists {', '.join(both)}, which stages gives another meaning")
        return self


class BudgetSettings(Section):
    partner_center: CallCount | None = None
    """Ceiling of API calls a day."""
    crm: CallCount | None = None
    """Ceiling of API calls a day; the CRM's own limit is respected anyway."""


class HttpSettings(Section):
    listen: ListenAddress = "127.0.0.1:8080"
    """Health, metrics, webhooks, console; port 0 takes any free one."""

    @property
    def address(self) -> tuple[str, int]:
        """Host, without the brackets of an IPv6 address, and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class ConsoleSettings(Section):
    names: bool = True
    """Whether the console shows the names of deals and customers; false leaves ids, states and times."""
    token_file: Text | None = None
    """File with the token that people sign in with to retry, approve and resolve; without it the console is read-only."""
    hosts: Annotated[tuple[Text, ...], BeforeValidator(split_list)] = ()
    """Names under which browsers reach the console, besides IP addresses, localhost and, without token_file, local names."""


class WebhooksSettings(Section):
    enabled: bool = False
    """Receive Partner Center's events on http.listen; polling goes on, only less often while events arrive."""
    public_url: PublicUrl | None = None
    """Base address under which Partner Center reaches /webhooks/partner-center, usually a proxy in front of http.listen."""
    header: Literal["authorization", "x-ms-signature"] = "authorization"
    """Which header carries the signature; x-ms-signature where a proxy keeps Authorization for itself."""
    certificate_hosts: Annotated[tuple[Text, ...], BeforeValidator(split_list), Field(min_length=1)] = (
        "3psostorageacct.blob.core.windows.net",
    )
    """Hosts (host or host:port) that signing certificates may be fetched from."""
    trusted_roots: Text | None = None
    """PEM file of the roots and intermediates of the signing chain; else the roots that this machine trusts."""
    organization: Text = "Microsoft Corporation"
    """Organization of subject and issuer of the signing certificate."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.enabled and not self.public_url:
            raise ValueError(
                "enabled needs public_url, the address under which Partner Center reaches this program"
            )
        return self


class RunSettings(Section):
    parallel: Annotated[int, Field(ge=1, le=64)] = 4
    """Connections that one process serves at a time."""


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Changed while the daemon runs: edit the file, then send SIGHUP."""
    format: Literal["auto", "json", "console"] = "auto"
    """auto: for people on a terminal, one JSON object a line elsewhere."""


class Settings(BaseModel):
    """The whole configuration of one connection. Nothing is read from the environment here: ``load`` does that, with places."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
        title="cosell-sync",
    )

    crm: CrmName = "salesforce"
    """Which CRM."""
    partner_center: PartnerCenterSettings = PartnerCenterSettings()
    salesforce: SalesforceSettings = SalesforceSettings()
    dynamics: DynamicsSettings = DynamicsSettings()
    store: StoreSettings = StoreSettings()
    sync: SyncSettings = SyncSettings()
    mapping: MappingSettings = Field(default_factory=MappingSettings)
    budget: BudgetSettings = BudgetSettings()
    http: HttpSettings = HttpSettings()
    console: ConsoleSettings = ConsoleSettings()
    webhooks: WebhooksSettings = WebhooksSettings()
    notices: tuple[NoticeSettings, ...] = ()
    """Who is told in Teams, Slack or by JSON of new deals, deadlines, problems and wins."""
    tracing: TracingSettings = TracingSettings()
    run: RunSettings = RunSettings()
    log: LogSettings = LogSettings()
    _name: str | None = PrivateAttr(default=None)
    _origin: Origin = PrivateAttr(default=Origin())

    @property
    def connection(self) -> str:
        """The name of the connection that these are the settings of."""
        return self._name or DEFAULT_CONNECTION

    @property
    def key_prefix(self) -> tuple[str, ...]:
        """Where its keys stand in the file: at the top, or below ``connections.NAME``."""
        return ("connections", self._name) if self._name else ()

    @property
    def origin(self) -> Origin:
        """Which file they were read from."""
        return self._origin

    def read_from(self, origin: Origin) -> Settings:
        """The same, which knows where it was read."""
        self._origin = origin
        return self

    def of_connection(self, name: str) -> Settings:
        """The same, as the settings of the connection that stands under this name."""
        copy = self.model_copy()
        copy._name = name  # noqa: SLF001 - a copy of its own
        return copy

    @model_validator(mode="before")
    @classmethod
    def _fill_in_defaults_of_the_crm(cls, data: Any) -> Any:
        mapping = data.get("mapping", {})
        if not isinstance(mapping, Mapping):
            return data
        # An unknown CRM is reported by the check of `crm` itself.
        crm: CrmName = "dynamics" if data.get("crm") == "dynamics" else "salesforce"
        filled = dict(mapping)
        stages = mapping.get("stages", {})
        if isinstance(stages, Mapping):
            filled["stages"] = {**STAGES[crm], **stages}
            if "sales_stages" not in mapping:
                taken = set(filled["stages"].values())
                filled["sales_stages"] = {k: v for k, v in SALES_STAGES[crm].items() if k not in taken}
        if "reasons" not in mapping:
            filled["reasons"] = dict(REASONS[crm])
        rules = mapping.get("fields", {})
        if isinstance(rules, Mapping):
            filled["fields"] = with_default_rules(crm, rules)
        return {**data, "mapping": filled}

    def masked(self) -> dict[str, Any]:
        """Effective values as plain data, durations and shares as they are written, secrets as stars: what ``config show`` prints."""
        return self.model_dump(mode="json")
