"""What an environment has and can hold: names of tables and columns, and `Org`, as `describe` reads it; pure.

Environments differ: our columns installed or not, change tracking on or off, status reasons added or renamed by an admin,
several currencies. Every query and every write is built from `Org`, so that nothing asks for a column that does not exist.
A choice goes by its English label where it has one, else by its label in the application user's language; any of its labels
is understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from decimal import Decimal
from typing import Final

from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS
from cosell_sync.crm.dynamics.security import Security
from cosell_sync.crm.dynamics.stock_columns import ACCOUNT, ADDRESS, CONTACT_LENGTHS, CUSTOMER_LENGTHS, LABELS
from cosell_sync.crm.fields import read_only_fields, readable_fields
from cosell_sync.crm.values import folded
from cosell_sync.crm.words import ENGLISH_WORDS, Words, region_of_lcid
from cosell_sync.ports import CrmShape, StageFlags

# Entity sets, and the logical names of their tables.
OPPORTUNITIES: Final = "opportunities"
ACCOUNTS: Final = "accounts"
CONTACTS: Final = "contacts"
CONNECTIONS: Final = "connections"
SOLUTIONS: Final = "cosell_solutions"
USERS: Final = "systemusers"
TABLES: Final[Mapping[str, str]] = {
    OPPORTUNITIES: "opportunity",
    ACCOUNTS: "account",
    CONTACTS: "contact",
    CONNECTIONS: "connection",
    SOLUTIONS: "cosell_solution",
    USERS: "systemuser",
}
OPEN: Final = 0
WON: Final = 1
LOST: Final = 2
ENGLISH: Final = 1033

# Our names → default columns of opportunity. `customer`, `team`, `contacts`, `solutions` are rows of their own.
DEFAULT_NAMES: Final[Mapping[str, str]] = {
    "name": "name",
    "value": "estimatedvalue",
    "currency": "transactioncurrencyid",
    "close_date": "estimatedclosedate",
    "stage": "statuscode",
    "sales_stage": "salesstage",
    "campaign_id": "cosell_campaignid",
    "marketplace_intent": "cosell_marketplaceintent",
    "partner_role": "cosell_partnerrole",
    "solution_area": "cosell_solutionarea",
    "solution_play": "cosell_solutionplay",
    "location": "cosell_location",
    "notes": "cosell_notes",
    "favorite": "cosell_favorite",
    "sync": "cosell_sync",
    "action": "cosell_action",
    "reason": "cosell_reason",
    "reason_note": "cosell_reasonnote",
    "visible": "cosell_visibletomicrosoft",
    "help": "cosell_help",
    "help_note": "cosell_helpnote",
    "consent": "cosell_consent",
    "referral_id": "cosell_referralid",
    "referral_link": "cosell_referrallink",
    "status": "cosell_status",
    "direction": "cosell_direction",
    "deal_type": "cosell_dealtype",
    "respond_by": "cosell_respondby",
    "microsoft_status": "cosell_microsoftstatus",
    "microsoft_id": "cosell_microsoftid",
    "sync_state": "cosell_syncstate",
    "message": "cosell_message",
    "last_sync": "cosell_lastsync",
}
# Our names of Sales' own columns. The other columns are ours, and may be written to a closed row too.
STOCK: Final = frozenset({"name", "value", "currency", "close_date", "sales_stage"})
_SOLUTION: Final = {"id": "cosell_solutioncode", "name": "cosell_solutionname"}
REFERRAL_ID: Final = 64  # what our own column for it holds
DUNS: Final = "cosell_duns"  # ours on account, which has no column of its own for it
BY_ORGANIZATION: Final = 1
BY_CURRENCY: Final = 2
COMPUTED: Final = "isrevenuesystemcalculated"
# The largest amount of a money column that states no maximum.
MONEY_LIMIT: Final = Decimal(922_337_203_685_477)
# Fields that are read only where they are configured.
OPTIONAL: Final = frozenset({"loss_reason"})


def field_names(given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Our name → column: the defaults, replaced by those of the configuration. Names that have no column are left out."""
    taken = {name: crm.lower() for name, crm in (given or {}).items() if name in {*DEFAULT_NAMES, *OPTIONAL}}
    return {**DEFAULT_NAMES, **taken}


@dataclass(frozen=True)
class Choice:
    """One value of a choice. ``label``: the name it goes by here, no two of a column alike; ``labels``: all of them, folded.

    Only the value identifies. Two status reasons may have one label, under one state or two, so such a label is followed by
    its value: `Closed (3)`. https://learn.microsoft.com/power-apps/developer/data-platform/define-custom-state-model-transitions
    """

    value: int
    label: str
    labels: frozenset[str] = frozenset()
    state: int = OPEN  # of a status reason
    words: Mapping[int, str] = field(default_factory=dict)  # language of Windows → label


@dataclass(frozen=True)
class Column:
    """A column as the metadata describes it."""

    name: str
    type: str
    label: str = ""
    length: int | None = None
    scale: int | None = None
    maximum: Decimal | None = None
    minimum: Decimal | None = None
    creatable: bool = True
    updatable: bool = True
    choices: tuple[Choice, ...] = ()
    precision_source: int = (
        0  # of money: 0 the column's own decimals, 1 the organization's, 2 the row's currency's
    )
    behavior: str = ""  # of a date: DateOnly, UserLocal or TimeZoneIndependent
    words: Mapping[int, str] = field(default_factory=dict)  # language of Windows → label

    def labelled(self, text: object) -> Choice | None:
        """The choice that goes by this label, else the only one that has it in any language; without case."""
        wanted = folded(text)
        named = [each for each in self.choices if folded(each.label) == wanted]
        found = named or self.alike(text)
        return found[0] if len(found) == 1 else None

    def alike(self, text: object) -> list[Choice]:
        """The choices that have this label in any language, without case."""
        wanted = folded(text)
        return [each for each in self.choices if wanted in each.labels]

    def valued(self, number: object) -> Choice | None:
        """The choice with this number."""
        return next((each for each in self.choices if each.value == number), None)


@dataclass(frozen=True)
class Currency:
    """A currency of the environment. ``scale``: decimals of its amounts. ``active``: whether a row may still be given it."""

    id: str
    code: str
    scale: int = 2
    active: bool = True


@dataclass(frozen=True)
class Org:
    """One environment. ``names``: our name → column of opportunity, those that exist. ``columns``: set → column → description."""

    names: Mapping[str, str]
    columns: Mapping[str, Mapping[str, Column]]
    currencies: tuple[Currency, ...] = ()
    base_currency: str | None = None  # its id
    pricing_decimals: int = 2  # of the organization
    tracked: frozenset[str] = frozenset()  # sets with change tracking
    guarded: frozenset[str] = frozenset()  # sets whose rows take an ETag in If-Match
    roles: Mapping[str, str] = field(default_factory=dict)  # our field → id of the connection role to give
    user_id: str = ""  # the application user
    has_duns: bool = False  # whether account has our column for the D-U-N-S number
    security: Security = field(default_factory=Security)
    words: Words = ENGLISH_WORDS
    locale: int = 0  # of the organization, a number of Windows; 0 where it is not known
    close_date_zone: tzinfo = UTC  # configured: in which a close date is a day

    def column(self, name: str) -> Column | None:
        """The opportunity's column for one of our names."""
        return self.columns[OPPORTUNITIES].get(self.names.get(name, ""))

    @property
    def read_only(self) -> frozenset[str]:
        """Our fields whose column cannot be changed through the API."""
        return read_only_fields(
            {
                name: self.columns[OPPORTUNITIES][crm].updatable
                and not self.security.closed(OPPORTUNITIES, crm)
                for name, crm in self.names.items()
            }
        )

    def has(self, collection: str, column: str | None = None) -> bool:
        """Whether the table exists (and has that column)."""
        found = self.columns.get(collection)
        return found is not None and (column is None or column in found)

    @property
    def key(self) -> str:
        """The column that holds the referral id."""
        return self.names["referral_id"]

    def stamps(self, collection: str) -> tuple[str, ...]:
        """The column to read where rows carry no ETag: the row version, which can be compared."""
        return () if collection in self.guarded else ("versionnumber",)

    @property
    def solutions(self) -> bool:
        """Whether the table of solutions can be used."""
        return self.has(SOLUTIONS, "cosell_solutioncode") and self.has(SOLUTIONS, "cosell_opportunity")

    @property
    def statuses(self) -> tuple[Choice, ...]:
        """The status reasons of opportunity."""
        column = self.column("stage")
        return column.choices if column else ()

    def status(self, label: object) -> Choice | None:
        """The status reason of this label; None where there is none."""
        column = self.column("stage")
        return column.labelled(label) if column else None

    def opening(self) -> Choice | None:
        """The first status reason of an open row."""
        return next((each for each in self.statuses if each.state == OPEN), None)

    def currency(self, code: object) -> Currency | None:
        """The active currency of this ISO code; None where the environment does not have it."""
        return next((each for each in self.currencies if each.code == code and each.active), None)

    def currency_code(self, currency_id: object) -> str | None:
        """The ISO code of this currency id; None where it is not known."""
        return next((each.code for each in self.currencies if each.id == currency_id), None)

    def label(self, name: str) -> str:
        """What a seller calls one of our fields."""
        column = self.column(name)
        return (self._spoken(column) if column else "") or LABELS.get(name, name)

    def _spoken(self, each: Column | Choice) -> str:
        """Its label in the language that sellers read, else as it goes by here."""
        return next((text for lcid, text in each.words.items() if self.words.reads(lcid)), each.label)

    def _choices(self, described: Mapping[str, Column]) -> dict[str, dict[str, str]]:
        """Our name → value of its choice → what the seller sees."""
        return {
            name: {choice.label: self._spoken(choice) for choice in each.choices}
            for name, each in described.items()
            if name in OPPORTUNITY_COLUMNS and each.choices
        }

    @property
    def account_columns(self) -> tuple[str, ...]:
        """The columns of an account that are read of a customer."""
        return (*ACCOUNT, DUNS) if self.has_duns else ACCOUNT

    def tag(self, collection: str, etag: str) -> str:
        """What ``If-Match`` may carry on this table: the ETag, or without optimistic concurrency ``*`` (must exist)."""
        return etag if collection in self.guarded and etag else "*"

    @property
    def _by_currency(self) -> bool:
        """Whether an amount has the decimals of its row's currency, which are not those of the base currency."""
        amount = self.column("value")
        return amount is None or amount.precision_source == BY_CURRENCY

    def _amount_bounds(self, amount: Column | None) -> tuple[int, Decimal]:
        """Most decimals and largest amount of the value column; Dataverse's own limit where it says none.
        https://learn.microsoft.com/power-apps/developer/data-platform/transaction-currency-currency-entity
        """
        most = max((each.scale for each in self.currencies), default=2)
        if amount is None or amount.precision_source == BY_CURRENCY:
            scale = most
        elif amount.precision_source == BY_ORGANIZATION or amount.scale is None:
            scale = self.pricing_decimals
        else:
            scale = amount.scale
        return scale, (amount.maximum if amount else None) or MONEY_LIMIT

    @property
    def identifies_accounts(self) -> bool:
        """Whether accounts can be told apart: by name, postal code and country. Without one of them none is looked up or made."""
        needed = ("name", ADDRESS["postal_code"], ADDRESS["country"])
        return not any(self.security.closed(ACCOUNTS, column) for column in needed)

    @property
    def identifies_solutions(self) -> bool:
        """Whether solution rows can be told apart: by the solution's id. Without it none is made, changed or removed."""
        return not self.security.closed(SOLUTIONS, "cosell_solutioncode")

    def opened(self, collection: str, columns: Mapping[str, object]) -> dict[str, object]:
        """The columns without those that column security keeps from the application user: a write of one is refused whole."""
        return {name: item for name, item in columns.items() if not self.security.closed(collection, name)}

    def _solution_lengths(self) -> dict[str, int]:
        columns = self.columns.get(SOLUTIONS, {})
        found = {part: columns[column].length for part, column in _SOLUTION.items() if column in columns}
        if "cosell_key" in columns and (whole := columns["cosell_key"].length):
            found["id"] = min(found.get("id") or whole, whole - REFERRAL_ID - len(":"))
        return {f"solutions.{part}": length for part, length in found.items() if length}

    def shape(self) -> CrmShape:
        """What the environment can hold, in our names."""
        described = {name: self.columns[OPPORTUNITIES][crm] for name, crm in self.names.items()}
        base = next((each for each in self.currencies if each.id == self.base_currency), None)
        amount = described.get("value")
        scale, maximum = self._amount_bounds(amount)
        least = amount.minimum if amount else None
        codes = {each.code for each in self.currencies if each.active} if "currency" in self.names else set()
        return CrmShape(
            fields=readable_fields(described, solutions=self.solutions),
            stages=stage_flags(self.statuses),
            ambiguous_stages=_ambiguous(self.statuses),
            labels={**LABELS, **{name: self._spoken(each) or name for name, each in described.items()}},
            choices=self._choices(described),
            region=region_of_lcid(self.locale),
            lengths={
                **CUSTOMER_LENGTHS,
                **CONTACT_LENGTHS,
                **self._solution_lengths(),
                **_text_lengths(described),
            },
            digits=len(str(int(maximum))) + scale,
            scale=scale,
            scales={each.code: each.scale for each in self.currencies} if self._by_currency else {},
            default_currency=base.code if base else None,
            currencies=frozenset(codes),
            picklists=_picklists(described),
            maximum=maximum,
            minimum=-MONEY_LIMIT if least is None else least,
            duns=self.has_duns and not self.security.closed(ACCOUNTS, DUNS),
        )


def stage_flags(choices: Iterable[Choice]) -> dict[str, StageFlags]:
    """What each status reason means, by its label."""
    return {each.label: StageFlags(closed=each.state != OPEN, won=each.state == WON) for each in choices}


def _ambiguous(statuses: Sequence[Choice]) -> dict[str, tuple[str, ...]]:
    """A label that several status reasons have, folded → the names they go by."""
    found: dict[str, list[str]] = {}
    for each in statuses:
        for label in each.labels - {folded(one.label) for one in statuses}:
            found.setdefault(label, []).append(each.label)
    return {label: tuple(names) for label, names in found.items() if len(names) > 1}


def _text_lengths(described: Mapping[str, Column]) -> dict[str, int]:
    texts = {name: each for name, each in described.items() if KINDS[name] in {Kind.TEXT, Kind.NOTES}}
    return {name: each.length for name, each in texts.items() if each.length}


def _picklists(described: Mapping[str, Column]) -> dict[str, frozenset[str]]:
    """Our name → labels of its choices; stages are not among them."""
    return {
        name: frozenset(choice.label for choice in each.choices)
        for name, each in described.items()
        if each.choices and name != "stage"
    }
