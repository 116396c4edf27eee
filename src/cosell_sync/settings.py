"""The configuration: one YAML file, overridden by the environment, checked as a whole before anything is contacted.

Three layers make one tree: built-in defaults, the file, variables ``COSELL_<SECTION>__<KEY>``. Each layer is read into
plain nested dicts in which every leaf remembers where it came from (file and line, or the variable), so that a mistake
is told with its place; all mistakes are told at once. Both layers carry text only and the models below turn it into
values: YAML's own guesses are not used, because they read ``off`` as false and ``66.0`` as a number.

A secret may be named instead of given: ``client_secret_file`` in YAML, ``COSELL_…__CLIENT_SECRET_FILE`` in the
environment. Paths in YAML are relative to the YAML file, those of variables to the working directory. Empty variables
and empty YAML values count as not given.

Defaults that depend on the CRM (stage names, field names) are filled in by ``Settings`` itself, so that
``Settings()`` is a complete, valid configuration, and hermetic: only ``load`` looks at files and variables.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cosell_sync.core.fields import SELLER, SHARED, STATUS_FIELDS, Kind
from cosell_sync.errors import ConfigError

PREFIX: Final = "COSELL_"
CONFIG_VARIABLE: Final = "COSELL_CONFIG"

# --- kinds of values --------------------------------------------------------------------------------------------

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+)([smhd])")


def duration(text: str) -> timedelta:
    """``90s``, ``5m``, ``2h``, ``14d``; raises ``ValueError``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("is no duration; write 90s, 5m, 2h or 14d")
    try:
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError("is longer than this program can count") from None


def written(span: timedelta) -> str:
    """As a person writes it: 60s, 5m, 24h, 14d; the largest unit that holds it whole, at least twice."""
    seconds = int(span.total_seconds())
    unit = next((u for u in "dhm" if seconds > _UNITS[u] and seconds % _UNITS[u] == 0), "s")
    return f"{seconds // _UNITS[unit]}{unit}"


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError("is no duration; write 90s, 5m, 2h or 14d")  # noqa: TRY004 - pydantic collects ValueError
    return duration(value)


def _share(value: object) -> object:
    if isinstance(value, str):
        text = value.strip()
        try:
            return Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)
        except InvalidOperation:
            raise ValueError("is no share; write 30%") from None
    return value


def _percent(share: Decimal) -> str:
    return f"{format((share * 100).normalize(), 'f')}%"


def _https(value: str) -> str:
    """Nothing of the value is quoted: a URL may carry a password."""
    try:
        parts = urlsplit(value.strip())
        _ = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be an https:// address")
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password")
    if parts.query or parts.fragment:
        raise ValueError("must not carry a query or fragment")
    return value.strip().rstrip("/")


def _portal(value: str) -> str:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(value) if name is not None}
    except ValueError:
        names = {"?"}
    if not names or not names <= {"referral_id", "engagement_id"}:
        raise ValueError("must hold {referral_id} or {engagement_id}, and no other braces")
    _https(re.sub(r"\?.*", "", value).replace("{", "").replace("}", ""))
    return value


def _store_url(value: str) -> str:
    if re.match(r"sqlite(\+pysqlite)?://", value) or value.startswith("postgresql+psycopg://"):
        return value
    raise ValueError("must start with sqlite:/// or postgresql+psycopg://")


def _store_url_masked(value: str) -> str:
    value = re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:**********@", value)
    return re.sub(r"(?i)(password|passfile|sslpassword)=[^&]*", r"\1=**********", value)


def _listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:8080")
    if ":" in host.strip("[]") and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address needs brackets, for example [::1]:8080")
    return value


def _listed(value: object) -> object:
    """``a, b`` for a list, since a variable holds one text."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(written, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+[smhd]$", "examples": ["90s", "5m", "2h", "14d"]}),
]
Span = Annotated[Duration, Field(gt=timedelta(0))]
Share = Annotated[
    Decimal,
    BeforeValidator(_share),
    Field(gt=0, le=1),
    PlainSerializer(_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?%$", "examples": ["30%"]}),
]
Https = Annotated[str, AfterValidator(_https), WithJsonSchema({"type": "string", "pattern": "^https://"})]
Text = Annotated[str, Field(min_length=1)]
Calls = Annotated[int, Field(ge=1)]
CrmName = Literal["salesforce", "dynamics"]
FieldDirection = Literal["both", "to_crm", "to_partner_center", "off"]
FieldConflict = Literal["partner_center", "crm", "ask", "merge"]
SalesStage = Literal["Qualify", "Develop", "Propose", "Close"]
Match = Literal["name", "postal_code", "country", "city", "state", "address_line1"]


# --- sections ---------------------------------------------------------------------------------------------------


def _name_files(schema: dict[str, Any]) -> None:
    """Lets the schema know the ``_file`` form of each secret, which ``load`` resolves before the models see it."""
    properties = schema["properties"]
    for name in [name for name, one in properties.items() if _is_secret(one) or one.get("x-secret")]:
        properties[f"{name}_file"] = {"type": "string", "description": f"A file that holds {name}."}


def _is_secret(schema: Mapping[str, Any]) -> bool:
    options = [schema, *schema.get("anyOf", [])]
    return any(option.get("format") == "password" for option in options)


class Section(BaseModel):
    """One block of the file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
        json_schema_extra=_name_files,
    )


class PartnerCenterSettings(Section):
    base_url: Https = "https://api.partner.microsoft.com"
    """Referrals host."""
    webhook_base_url: Https = "https://api.partnercenter.microsoft.com"
    """Webhook registration host."""
    authority: Https = "https://login.microsoftonline.com"
    """Token host."""
    tenant_id: Text | None = None
    """Tenant of the App+User sign-in."""
    client_id: Text | None = None
    """Application (client) id of the sign-in."""
    client_secret: SecretStr | None = None
    """Only for a confidential client."""
    refresh_token: SecretStr | None = None
    """Seeds the store; later tokens rotate there. A seed that differs from the last one replaces what is stored."""
    portal_url: Annotated[str, AfterValidator(_portal)] = (
        "https://partner.microsoft.com/dashboard/referrals/v2/leads/{referral_id}"
    )
    """The deal's page in the portal, with {referral_id} or {engagement_id}."""


class SalesforceSettings(Section):
    login_url: Https | None = None
    """My Domain URL."""
    consumer_key: Text | None = None
    """Of the External Client App; with consumer_secret the client-credentials flow."""
    consumer_secret: SecretStr | None = None
    """Client-credentials flow."""
    username: Text | None = None
    """With private_key: the JWT bearer flow instead."""
    private_key: SecretStr | None = None
    """PEM text of the JWT bearer flow."""
    jwt_audience: Https | None = None
    """Audience of the JWT; else login.salesforce.com, or test.salesforce.com for a sandbox host."""
    api_version: Annotated[str, Field(pattern=r"^\d{2,3}\.0$")] = "66.0"
    """REST version, without a v."""
    guard_stamp: Literal["system_modstamp", "last_modified"] = "system_modstamp"
    """The stamp that If-Unmodified-Since carries. SystemModstamp is never the earlier one, so it is safe with either."""
    guard_parts: bool = True
    """Whether the parts of a composite honour If-Unmodified-Since; false sends guarded writes one by one."""


class DynamicsSettings(Section):
    url: Https | None = None
    """https://org.crm.dynamics.com"""
    authority: Https = "https://login.microsoftonline.com"
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
    closed_rows: bool = False
    """Whether our own columns are written to a closed opportunity: state, message, status. Not every environment lets them."""


class StoreSettings(Section):
    url: Annotated[
        str,
        AfterValidator(_store_url),
        PlainSerializer(_store_url_masked),
        Field(json_schema_extra={"x-secret": True}),
    ] = "sqlite:///cosell-sync.db"
    """SQLAlchemy URL; postgresql+psycopg://… for several workers."""
    key: SecretStr | None = None
    """Encrypts the stored refresh token; else a key file beside a SQLite store."""
    journal_keep: Span = timedelta(days=400)
    """How long history is kept."""

    @property
    def on_sqlite(self) -> bool:
        return self.url.startswith("sqlite")


class SyncSettings(Section):
    interval: Span = timedelta(seconds=60)
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
    full_every: Span = timedelta(hours=24)
    """How often all ids and versions of both sides are compared."""
    import_closed: bool = False
    """Whether referrals already closed at first sight become opportunities."""
    call_timeout: Annotated[Span, Field(le=timedelta(seconds=120))] = timedelta(seconds=30)
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
    def _distinct(self) -> Self:
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


class MappingSettings(Section):
    stages: Stages = Field(default_factory=lambda: Stages(**_STAGES["salesforce"]))
    """CRM stage names of our states."""
    sales_stages: dict[str, SalesStage] = Field(default_factory=dict)
    """Other open CRM stages. Giving any replaces the default map; open stages not listed count as accepted."""
    default_currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] | None = None
    """ISO code where the CRM has no currency field; else the org's own."""
    leads: Literal["skip", "import"] = "skip"
    """Marketplace and qualified leads."""
    match: Literal["propose", "link", "off"] = "propose"
    """What to do with an opportunity that looks like an incoming referral."""
    account_match: Annotated[tuple[Match, ...], BeforeValidator(_listed), Field(min_length=1)] = (
        "name",
        "postal_code",
        "country",
    )
    """What must agree for an existing account to be taken as the customer."""
    owner: Literal["team", "default"] = "team"
    """Owner of imported opportunities: the first CRM user of the referral's team, or always default_owner."""
    default_owner: Text | None = None
    """CRM user who owns what the team cannot."""
    cosell_recipe: Literal["two_posts", "one_post"] = "two_posts"
    """How Microsoft is invited."""
    marketplace_intent: Text = "HaveNotDecided"
    """CustomerMarketplaceIntent of new deals; values in config/value-lists-fy26.yaml."""
    deal_attributes: dict[Text, Text] = Field(default_factory=dict)
    """More attributes of new deals, type to id: PartnerRole, SolutionArea and SolutionPlay of services partners."""
    sales_stage_wire: Literal["percent", "name"] = "percent"
    """Wire form of the sales stage."""
    write_name: bool = False
    """Try to send renames."""
    write_favorite: bool = False
    """Try to send hearts."""
    fields: dict[str, FieldRule] = Field(default_factory=lambda: _rules("salesforce", {}))
    """Per field of ours: its CRM name, direction and conflict policy. A plain text is the CRM name."""

    @field_validator("fields")
    @classmethod
    def _allowed(cls, rules: dict[str, FieldRule]) -> dict[str, FieldRule]:
        problems = [problem for name, rule in rules.items() for problem in _objections(name, rule)]
        owner: dict[str, str] = {}
        for name in (name for name in rules if name not in _SPREAD):
            other = owner.setdefault(rules[name].crm.lower(), name)
            if other != name:
                problems.append(f"{name} and {other} are both kept in {rules[name].crm}")
        if problems:
            raise ValueError("; ".join(problems))
        return rules

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        taken = {name for role, name in self.stages.model_dump().items() if role != "accepted"}
        if both := sorted(taken & set(self.sales_stages)):
            raise ValueError(f"sales_stages lists {', '.join(both)}, which stages gives another meaning")
        return self


class BudgetSettings(Section):
    partner_center: Calls | None = None
    """Ceiling of API calls a day."""
    crm: Calls | None = None
    """Ceiling of API calls a day; the CRM's own limit is respected anyway."""


class HttpSettings(Section):
    listen: Annotated[str, AfterValidator(_listen)] = "127.0.0.1:8080"
    """Health, metrics, webhooks, console; port 0 takes any free one."""

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


# --- defaults per CRM -------------------------------------------------------------------------------------------

_STAGES: Final[Mapping[str, Mapping[str, str]]] = {
    "salesforce": {
        "received": "Prospecting",
        "accepted": "Qualification",
        "won": "Closed Won",
        "lost": "Closed Lost",
        "declined": "Closed Lost",
        "expired": "Closed Lost",
    },
    "dynamics": {
        "received": "On Hold",
        "accepted": "In Progress",
        "won": "Won",
        "lost": "Canceled",
        "declined": "Canceled",
        "expired": "Canceled",
    },
}
# Dynamics keeps the sales stage in a column of its own, so its status reasons map to none.
_SALES_STAGES: Final[Mapping[str, Mapping[str, SalesStage]]] = {
    "salesforce": {
        "Needs Analysis": "Qualify",
        "Value Proposition": "Develop",
        "Id. Decision Makers": "Develop",
        "Perception Analysis": "Develop",
        "Proposal/Price Quote": "Propose",
        "Negotiation/Review": "Close",
    },
    "dynamics": {},
}
FIELDS: Final = (*SHARED, "stage", *SELLER, *STATUS_FIELDS)
_STANDARD: Final[Mapping[str, Mapping[str, str]]] = {
    "salesforce": {
        "name": "Name",
        "value": "Amount",
        "currency": "CurrencyIsoCode",
        "close_date": "CloseDate",
        "stage": "StageName",
        "sales_stage": "StageName",
        "customer": "AccountId",
        "team": "OpportunityTeamMember",
        "contacts": "OpportunityContactRole",
        "solutions": "Cosell_Solution__c",
    },
    "dynamics": {
        "name": "name",
        "value": "estimatedvalue",
        "currency": "transactioncurrencyid",
        "close_date": "estimatedclosedate",
        "stage": "statuscode",
        "sales_stage": "salesstage",
        "customer": "parentaccountid",
        "team": "connection",
        "contacts": "parentcontactid",
        "solutions": "cosell_solution",
    },
}
# Fields that live in rows of their own or share a column on purpose, so that one name may serve twice.
_SPREAD: Final = frozenset({"stage", "sales_stage", "customer", "team", "contacts", "solutions"})
_MERGED: Final = frozenset(
    name for name, kind in SHARED.items() if kind in {Kind.NOTES, Kind.MEMBERS, Kind.SOLUTIONS}
)
_FROM_MICROSOFT: Final = frozenset({"currency", "customer"})


def _crm_name(crm: CrmName, name: str) -> str:
    """Salesforce ``Cosell_Help_Note__c``; Dynamics the same words, lower case, without underscores after the prefix."""
    if name in _STANDARD[crm]:
        return _STANDARD[crm][name]
    words = {"visible": "visible_to_microsoft"}.get(name, name)
    return f"cosell_{words.replace('_', '')}" if crm == "dynamics" else f"Cosell_{words.title()}__c"


def _direction(name: str) -> FieldDirection:
    return "to_partner_center" if name in SELLER else "to_crm" if name in STATUS_FIELDS else "both"


def _conflict(name: str) -> FieldConflict:
    if name == "stage":
        return (
            "ask"  # two different ends are never overwritten; the lifecycle decides everything short of that
        )
    return (
        "merge"
        if name in _MERGED
        else "partner_center"
        if name in _FROM_MICROSOFT or name in STATUS_FIELDS
        else "crm"
    )


def _objections(name: str, rule: FieldRule) -> Iterator[str]:
    """What this field cannot be told to do."""
    if name not in FIELDS:
        yield f"{name} is no field"
        return
    if rule.direction not in {"off", _direction(name)} and _direction(name) != "both":
        yield f"{name}.direction can only be {_direction(name)} or off"
    if name == "referral_id" and rule.direction == "off":
        yield "referral_id cannot be off: it keeps a deal from being made twice"
    if rule.conflict == "merge" and name not in _MERGED:
        yield f"{name}.conflict cannot be merge; only {', '.join(sorted(_MERGED))} can"


def _rules(crm: CrmName, given: Mapping[str, Any]) -> Any:
    """The default rules with what was given laid over them, field by field."""
    rules: dict[str, Any] = {
        name: {"crm": _crm_name(crm, name), "direction": _direction(name), "conflict": _conflict(name)}
        for name in FIELDS
    }
    for name, rule in given.items():
        if isinstance(rule, str):
            rule = {"crm": rule}  # noqa: PLW2901 - the short form
        rules[name] = {**rules.get(name, {}), **rule} if isinstance(rule, Mapping) else rule
    return rules if given else {name: FieldRule(**rule) for name, rule in rules.items()}


class Settings(BaseSettings):
    """The whole configuration. Nothing is read from the environment here: ``load`` does that, with places."""

    model_config = SettingsConfigDict(
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
    log: LogSettings = LogSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The library's own environment source passes over unknown variables and forgets places."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_crm(cls, data: Any) -> Any:
        mapping = data.get("mapping", {})
        if not isinstance(mapping, Mapping):
            return data
        crm: CrmName = (
            "dynamics" if data.get("crm") == "dynamics" else "salesforce"
        )  # a wrong one is told by itself
        filled = dict(mapping)
        stages = mapping.get("stages", {})
        if isinstance(stages, Mapping):
            filled["stages"] = {**_STAGES[crm], **stages}
            if "sales_stages" not in mapping:
                taken = set(filled["stages"].values())
                filled["sales_stages"] = {k: v for k, v in _SALES_STAGES[crm].items() if k not in taken}
        rules = mapping.get("fields", {})
        if isinstance(rules, Mapping):
            filled["fields"] = _rules(crm, rules)
        return {**data, "mapping": filled}

    def masked(self) -> dict[str, Any]:
        """Effective values as plain data, durations and shares as they are written, secrets as stars."""
        return self.model_dump(mode="json")


def json_schema() -> dict[str, Any]:
    """JSON Schema of the file, ``_file`` forms included, for ``config schema`` and editors."""
    schema = Settings.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    # A file gives rules and stages in part; the rest comes from the defaults.
    for name in ("FieldRule", "Stages"):
        definitions[name].pop("required", None)
    fields = definitions["MappingSettings"]["properties"]["fields"]
    rule = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/FieldRule"}]}
    fields.pop("default", None)
    fields |= {"properties": dict.fromkeys(FIELDS, rule), "additionalProperties": False}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


# --- problems ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """One mistake: the key, where it stands (``config.yaml:12`` or a variable), what is wrong, what to do."""

    key: str
    where: str
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.key}{place}: {self.what}{'. ' + self.hint if self.hint else ''}"


class InvalidSettings(ConfigError):
    """Everything that is wrong, at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        many = len(problems) > 1
        text = "\n".join(f"- {problem}" if many else str(problem) for problem in problems)
        super().__init__(
            f"{len(problems)} problems in the configuration:\n{text}" if many else text,
            hint=next((problem.hint for problem in problems if problem.hint), ""),
        )
        self.problems = tuple(problems)


# --- what may be written ----------------------------------------------------------------------------------------

Path_ = tuple[str, ...]
_SECTIONS: Final[Mapping[str, type[Section]]] = {
    name: info.annotation
    for name, info in Settings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}
_FREE: Final = (("mapping", "sales_stages"), ("mapping", "deal_attributes"))  # maps of the user's own keys
_FIELDS: Final = ("mapping", "fields")
_RULE_KEYS: Final = tuple(FieldRule.model_fields)


def _secrets(section: str) -> frozenset[str]:
    """Keys of the section that may be named by a file."""
    fields = _SECTIONS[section].model_fields if section in _SECTIONS else {}
    return frozenset(
        name
        for name, info in fields.items()
        if SecretStr in (info.annotation, *get_args(info.annotation)) or (section, name) == ("store", "url")
    )


def _below(path: Path_) -> tuple[str, ...] | None:
    """Keys that may stand below ``path``; None where it is a value, empty where any may."""
    match path:
        case ():
            return tuple(Settings.model_fields)
        case (section,) if section in _SECTIONS:
            secret = _secrets(section)
            names = _SECTIONS[section].model_fields
            return (*names, *(f"{name}_file" for name in names if name in secret))
        case ("mapping", "stages"):
            return tuple(Stages.model_fields)
        case ("mapping", "sales_stages" | "deal_attributes"):
            return ()
        case ("mapping", "fields"):
            return FIELDS
        case ("mapping", "fields", _):
            return _RULE_KEYS
    return None


def known_keys() -> tuple[str, ...]:
    """Every key as it is written, ``sync.interval``, ``_file`` forms left out."""
    keys = ["crm"]
    for section, model in _SECTIONS.items():
        for name in model.model_fields:
            below = _below((section, name)) or ()
            keys += (
                [f"{section}.{name}.{key}" for key in below] if name == "stages" else [f"{section}.{name}"]
            )
    return tuple(keys)


def _nearest(path: Path_) -> str:
    """The known key most like this one: among its neighbours, then by its last word anywhere."""
    *above, last = path
    for cutoff, words in ((0.6, _below(tuple(above)) or ()), (0.75, None), (0.0, _below(tuple(above)) or ())):
        if words is None:
            leaves = {key.rpartition(".")[2]: key for key in reversed(known_keys())}
            if found := get_close_matches(last, list(leaves), 1, cutoff):
                return leaves[found[0]]
        elif found := get_close_matches(last, words, 1, cutoff):
            return ".".join((*above, found[0]))
    return known_keys()[0]


def _variable(path: Iterable[str]) -> str:
    return PREFIX + "__".join(part.upper() for part in path)


# --- layers -----------------------------------------------------------------------------------------------------


@dataclass
class _Layer:
    """One source as a tree of texts, with the place of each part, what is wrong with it, and where its paths begin."""

    name: str
    folder: Path
    tree: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path_) -> str:
        return next((self.places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.places), "")

    def blame(self, path: Path_, what: str, hint: str = "") -> None:
        self.problems.append(Problem(".".join(path) or self.name, self.place(path), what, hint))


def _from_yaml(path: Path) -> _Layer:
    layer = _Layer(str(path), path.parent)
    layer.places[()] = str(path)
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        layer.problems.append(
            Problem(
                "--config", str(path), f"cannot be read: {reason}", f"Check the path, or {CONFIG_VARIABLE}"
            )
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        layer.problems.append(Problem("YAML", where, error.problem or "cannot be read"))
    except yaml.YAMLError:
        layer.problems.append(Problem("YAML", str(path), "holds characters that YAML does not allow"))
    else:
        if isinstance(node, yaml.MappingNode):
            layer.tree = _branch(layer, (), node)
        elif node is not None:
            layer.problems.append(Problem("YAML", str(path), "must be a map of sections at the top"))
    return layer


def _branch(layer: _Layer, path: Path_, node: yaml.MappingNode) -> dict[str, Any]:
    branch: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        below = (*path, key)
        layer.places.setdefault(below, f"{layer.name}:{key_node.start_mark.line + 1}")
        if key in branch:
            layer.problems.append(
                Problem(".".join(below), f"{layer.name}:{key_node.start_mark.line + 1}", "stands here twice")
            )
        elif len(below) > 8:
            layer.blame(path, "is nested too deep")
        else:
            branch[key] = _value(layer, below, value_node)
    return {key: value for key, value in branch.items() if value is not None or not _known((*path, key))}


def _value(layer: _Layer, path: Path_, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _branch(layer, path, node)
    if isinstance(node, yaml.SequenceNode):
        return [item.value if isinstance(item, yaml.ScalarNode) else None for item in node.value]
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _known(path: Path_) -> bool:
    below = _below(path[:-1])
    return below is not None and (not below or path[-1] in below)


def _from_environment(env: Mapping[str, str]) -> _Layer:
    layer = _Layer("environment", Path())
    # Shorter names first, so that a whole map given as JSON is refined by variables for its parts.
    for variable in sorted(env, key=lambda name: (name.count("__"), name)):
        path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        ours = variable.startswith(PREFIX) and (len(path) > 1 or path[0] in Settings.model_fields)
        if not ours or variable.startswith(f"{PREFIX}TEST_") or not env[variable].strip():
            continue
        layer.places[path] = variable
        if path[:2] in _FREE and len(path) > 2:
            layer.blame(
                path, "cannot be given name by name", f"Give the whole map as JSON in {_variable(path[:2])}"
            )
            continue
        bad = next((path[: n + 1] for n in range(len(path)) if not _known(path[: n + 1])), None)
        if bad is not None:
            layer.places[bad] = variable
            layer.blame(bad, "unknown key", f"Did you mean {_variable(_nearest(bad).split('.'))}?")
            continue
        branch = layer.tree
        for part in path[:-1]:
            if isinstance(branch.get(part), str):
                branch[part] = {"crm": branch[part]}
            elif not isinstance(branch.get(part), dict):
                branch[part] = {}
            branch = branch[part]
        branch[path[-1]] = _decoded(layer, path, env[variable])
    return layer


def _decoded(layer: _Layer, path: Path_, text: str) -> Any:
    """Maps and lists are JSON in a variable; everything else is its text."""
    whole = _below(path) is not None
    rule = path[:-1] == _FIELDS  # a plain text is the CRM's field name
    if not text.lstrip().startswith(("{", "[") if whole or path[-1] == "account_match" else "\0"):
        if whole and not rule:
            layer.blame(path, "must be a map", "Give it as JSON, for example {…}")
            return {}
        return text
    try:
        return json.loads(text)
    except ValueError:
        layer.blame(path, "is no valid JSON")
        return {} if whole else ()


def _check(layer: _Layer, tree: Any, path: Path_ = ()) -> Any:
    """The tree without what is unknown or of the wrong shape, each of these told once."""
    below = _below(path)
    if below is None:
        if isinstance(tree, dict):
            layer.blame(path, "takes one value, not a map")
            return None
        return tree
    if not isinstance(tree, dict):
        if path[:-1] == _FIELDS and isinstance(tree, str):
            return {"crm": tree}
        layer.blame(path, "must be a map of keys")
        return None
    checked = {}
    for key, value in tree.items():
        if below and key not in below:
            layer.blame((*path, key), "unknown key", f"Did you mean {_nearest((*path, key))}?")
        elif (good := _check(layer, value, (*path, key))) is not None:
            checked[key] = good
    return checked


def _resolve_files(layer: _Layer) -> None:
    """Put the content of each file named by ``<secret>_file`` in the secret's place."""
    for section, keys in layer.tree.items():
        for secret in _secrets(section):
            named = keys.pop(f"{secret}_file", None)
            if named is None:
                continue
            key = (section, f"{secret}_file")
            if secret in keys:
                layer.blame(key, f"and {section}.{secret} are both given", "Keep one")
                continue
            if not isinstance(named, str):
                layer.blame(key, "must be a path")
                continue
            file = layer.folder / Path(named).expanduser()
            try:
                text = file.read_text(encoding="utf-8-sig").rstrip("\r\n")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8 text"
                layer.blame(key, f"cannot read {file}: {reason}", "Check the path and who may read it")
                continue
            if not text:
                layer.blame(key, f"{file} is empty")
                continue
            keys[secret] = text
            layer.places[section, secret] = layer.place(key)


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any], path: Path_ = ()) -> dict[str, Any]:
    """``upper`` laid over ``lower``, map by map; maps of the user's own keys are replaced as a whole."""
    merged = dict(lower)
    for key, value in upper.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping) and (*path, key) not in _FREE:
            value = _over(old, value, (*path, key))  # noqa: PLW2901 - merged below
        merged[key] = value
    return merged


# --- ways in ----------------------------------------------------------------------------------------------------


def load(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """The configuration of this run; raises ``InvalidSettings`` (a ``ConfigError``) with every mistake there is."""
    env = os.environ if env is None else env
    if path is None and env.get(CONFIG_VARIABLE, "").strip():
        path = Path(env[CONFIG_VARIABLE].strip())
    layers = [_from_environment(env)]
    if path is not None:
        layers.append(_from_yaml(path))
    tree: dict[str, Any] = {}
    for layer in reversed(layers):
        layer.tree = dict(_check(layer, layer.tree))
        _resolve_files(layer)
        tree = _over(tree, layer.tree)
    problems = [problem for layer in layers for problem in layer.problems]
    try:
        settings = Settings(**tree)
    except ValidationError as error:
        problems += [_told(one, layers) for one in error.errors(include_url=False, include_input=False)]
    if problems:
        raise InvalidSettings(list(dict.fromkeys(problems)))
    return settings


def _told(error: Any, layers: Sequence[_Layer]) -> Problem:
    """One of pydantic's errors as a problem, with the place of the layer that gave the value."""
    location = tuple(
        str(part) for part in error["loc"] if not str(part).startswith(("function-", "constrained-"))
    )
    path = location[:-1] if location and location[-1].isdigit() else location
    given = [(layer, at) for layer in layers for at in layer.places if at]
    exact = [
        (layer, path[:n]) for layer in layers for n in range(len(path), 1, -1) if path[:n] in layer.places
    ]
    below = [(layer, at) for layer, at in given if at[: len(path)] == path]
    where = next((layer.places[at] for layer, at in (*exact, *below)), "")
    what = error["msg"].removeprefix("Value error, ")
    return Problem(".".join(path) or "configuration", where, what[:1].lower() + what[1:])


# --- what a command cannot do without ---------------------------------------------------------------------------

_PARTNER_CENTER: Final = (("partner_center", "tenant_id"), ("partner_center", "client_id"))
_SYSTEMS: Final[Mapping[str, tuple[str, ...]]] = {
    "sync": ("partner_center", "crm", "store"),
    "run": ("partner_center", "crm", "store"),
    "plan": ("partner_center", "crm", "store"),
    "doctor": ("partner_center", "crm", "store"),
    "login": ("partner_center", "store"),
    "provision": ("crm",),
    "deals": ("store",),
}
Command = Literal["sync", "run", "plan", "doctor", "login", "provision", "deals"]


def required(settings: Settings, for_: Command) -> None:
    """Refuse to begin while credentials are missing; nothing is contacted. Raises ``InvalidSettings``."""
    missing = [path for system in _SYSTEMS[for_] for path in _missing(settings, system)]
    if missing:
        raise InvalidSettings([_absent(path, for_) for path in missing])


def _missing(settings: Settings, system: str) -> Iterator[Path_]:
    wanted: list[Path_] = []
    if system == "partner_center":
        wanted += _PARTNER_CENTER
    elif system == "store":
        wanted += [] if settings.store.on_sqlite else [("store", "key")]
    elif settings.crm == "salesforce":
        jwt = settings.salesforce.private_key or settings.salesforce.username
        wanted += [("salesforce", "login_url"), ("salesforce", "consumer_key")]
        wanted += (
            [("salesforce", "username"), ("salesforce", "private_key")]
            if jwt and not settings.salesforce.consumer_secret
            else [("salesforce", "consumer_secret")]
        )
    else:
        wanted += [("dynamics", "url")]
        if not settings.dynamics.managed_identity:
            wanted += [("dynamics", "tenant_id"), ("dynamics", "client_id")]
            wanted += [] if settings.dynamics.certificate else [("dynamics", "client_secret")]
    for section, key in wanted:
        if not getattr(getattr(settings, section), key):
            yield (section, key)


_OTHERWISE: Final[Mapping[Path_, str]] = {
    ("salesforce", "consumer_secret"): ", or salesforce.username and salesforce.private_key for the JWT flow",
    ("dynamics", "client_secret"): ", or dynamics.certificate, or dynamics.managed_identity",
}


def _absent(path: Path_, command: str) -> Problem:
    section, key = path
    secret = key in _secrets(section)
    ways = [".".join(path), *([f"{section}.{key}_file"] if secret else []), _variable(path)]
    ways += [f"{_variable(path)}_FILE"] if secret else []
    return Problem(
        ".".join(path),
        "",
        f"is not given, and {command} needs it",
        f"Give one of {', '.join(ways)}{_OTHERWISE.get(path, '')}",
    )
