"""What an environment can hold, read once from the environment itself.

Environments differ: our columns installed or not, change tracking on or off, status reasons added or renamed by an
administrator, several currencies. Every question and every write is built from what was found here, so nothing asks for
a column that is not there. Choices are known by label: a choice's English label where it has one, else the label in the
application user's language, is the name it goes by; any of its labels is understood.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from cosell_sync.core.deal import KINDS, Kind
from cosell_sync.crm.dynamics import odata
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.rest import Rest, strange
from cosell_sync.crm.fields import read_only_fields, readable_fields
from cosell_sync.crm.values import folded
from cosell_sync.errors import RecordError, Surprise
from cosell_sync.ports import CrmShape, StageFlags
from cosell_sync.transport.errors import Scope

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
# Columns of the row that are Sales' own; the rest is ours, and may be written to a closed row too.
STOCK: Final = frozenset({"name", "value", "currency", "close_date", "sales_stage"})
# https://learn.microsoft.com/power-apps/developer/data-platform/reference/entities/account
LENGTHS: Final[Mapping[str, int]] = {
    "name": 160,
    "address1_line1": 250,
    "address1_line2": 250,
    "address1_city": 80,
    "address1_stateorprovince": 50,
    "address1_postalcode": 20,
    "address1_country": 80,
    "firstname": 50,
    "lastname": 50,
    "telephone1": 50,
}
# Parts of the customer, beside the name → columns of account.
ADDRESS: Final[Mapping[str, str]] = {
    "address_line1": "address1_line1",
    "address_line2": "address1_line2",
    "city": "address1_city",
    "state": "address1_stateorprovince",
    "postal_code": "address1_postalcode",
    "country": "address1_country",
}
COMPUTED: Final = "isrevenuesystemcalculated"
LABELS: Final[Mapping[str, str]] = {
    "customer": "Account",
    "team": "Sales Team (connections)",
    "contacts": "Contacts (connections)",
    "solutions": "Co-sell Solutions",
    "customer.name": "Account Name",
    "customer.address_line1": "Address 1: Street 1",
    "customer.city": "Address 1: City",
    "customer.country": "Address 1: Country/Region",
}


@dataclass
class ClosedRows:
    """Whether our own columns are written to closed rows, and whether the environment was seen to refuse that."""

    write: bool = False
    refused: bool = False

    @property
    def writable(self) -> bool:
        return self.write and not self.refused


def field_names(given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The default names with those of the configuration laid over them; names of no column are left out."""
    taken = {name: crm.lower() for name, crm in (given or {}).items() if name in DEFAULT_NAMES}
    return {**DEFAULT_NAMES, **taken}


@dataclass(frozen=True)
class Choice:
    """One value of a choice. ``label``: the name it goes by; ``labels``: all of them, folded."""

    value: int
    label: str
    labels: frozenset[str] = frozenset()
    state: int = OPEN  # of a status reason


@dataclass(frozen=True)
class Column:
    """A column as the metadata describes it."""

    name: str
    type: str
    label: str = ""
    length: int | None = None
    scale: int | None = None
    maximum: Decimal | None = None
    creatable: bool = True
    updatable: bool = True
    choices: tuple[Choice, ...] = ()

    def labelled(self, text: object) -> Choice | None:
        wanted = folded(text)
        return next((each for each in self.choices if wanted in each.labels), None)

    def valued(self, number: object) -> Choice | None:
        return next((each for each in self.choices if each.value == number), None)


@dataclass(frozen=True)
class Currency:
    id: str
    code: str
    scale: int = 2


@dataclass(frozen=True)
class Org:
    """``names``: our name → column of opportunity, those that exist. ``columns``: table → column → its description."""

    names: Mapping[str, str]
    columns: Mapping[str, Mapping[str, Column]]
    currencies: tuple[Currency, ...] = ()
    base_currency: str | None = None  # its id
    tracked: frozenset[str] = frozenset()  # sets with change tracking
    guarded: frozenset[str] = frozenset()  # sets whose rows take an ETag in If-Match
    roles: Mapping[str, str] = field(default_factory=dict)  # our field → id of the connection role to give
    user_id: str = ""  # the application user
    closed: ClosedRows = field(default_factory=ClosedRows)

    def column(self, name: str) -> Column | None:
        """The opportunity's column for one of our names."""
        return self.columns[OPPORTUNITIES].get(self.names.get(name, ""))

    @property
    def read_only(self) -> frozenset[str]:
        """Our fields whose column nobody may change through the API."""
        return read_only_fields(
            {name: self.columns[OPPORTUNITIES][crm].updatable for name, crm in self.names.items()}
        )

    def has(self, collection: str, column: str | None = None) -> bool:
        found = self.columns.get(collection)
        return found is not None and (column is None or column in found)

    @property
    def key(self) -> str:
        return self.names["referral_id"]

    def stamps(self, collection: str) -> tuple[str, ...]:
        """What to ask for where rows carry no ETag: their row version, which can at least be compared."""
        return () if collection in self.guarded else ("versionnumber",)

    @property
    def solutions(self) -> bool:
        return self.has(SOLUTIONS, "cosell_solutioncode") and self.has(SOLUTIONS, "cosell_opportunity")

    @property
    def statuses(self) -> tuple[Choice, ...]:
        column = self.column("stage")
        return column.choices if column else ()

    def status(self, label: object) -> Choice | None:
        column = self.column("stage")
        return column.labelled(label) if column else None

    def opening(self) -> Choice | None:
        """The first status reason of an open row."""
        return next((each for each in self.statuses if each.state == OPEN), None)

    def currency(self, code: object) -> Currency | None:
        return next((each for each in self.currencies if each.code == code), None)

    def currency_code(self, currency_id: object) -> str | None:
        return next((each.code for each in self.currencies if each.id == currency_id), None)

    def label(self, name: str) -> str:
        column = self.column(name)
        return (column.label if column else "") or LABELS.get(name, name)

    def tag(self, collection: str, etag: str) -> str:
        """What ``If-Match`` may carry on this table: without optimistic concurrency only "must exist"."""
        return etag if collection in self.guarded and etag else "*"

    def shape(self) -> CrmShape:
        described = {name: self.columns[OPPORTUNITIES][crm] for name, crm in self.names.items()}
        amount = described.get("value")
        base = next((each for each in self.currencies if each.id == self.base_currency), None)
        scale = amount.scale if amount and amount.scale is not None else base.scale if base else 2
        maximum = amount.maximum if amount and amount.maximum else Decimal(922337203685477)
        return CrmShape(
            fields=readable_fields(described, solutions=self.solutions),
            stages={
                each.label: StageFlags(closed=each.state != OPEN, won=each.state == WON)
                for each in self.statuses
            },
            labels={**LABELS, **{name: each.label or name for name, each in described.items()}},
            lengths={
                **{
                    f"customer.{part}": LENGTHS[column]
                    for part, column in {"name": "name", **ADDRESS}.items()
                },
                **{
                    name: each.length
                    for name, each in described.items()
                    if KINDS[name] in {Kind.TEXT, Kind.NOTES} and each.length
                },
            },
            digits=len(str(int(maximum))) + scale,
            scale=scale,
            scales={each.code: each.scale for each in self.currencies},
            default_currency=base.code if base else None,
            currencies=frozenset(each.code for each in self.currencies)
            if "currency" in self.names
            else frozenset(),
            picklists={
                name: frozenset(choice.label for choice in each.choices)
                for name, each in described.items()
                if each.choices and name != "stage"
            },
            maximum=maximum,
        )


# --- reading it -------------------------------------------------------------------------------------------------


def read(rest: Rest, names: Mapping[str, str]) -> Org:
    """A dozen small calls. Raises ``Surprise`` where the column that joins the two systems is missing."""
    tables = table_flags(rest)
    for collection in (OPPORTUNITIES, ACCOUNTS, CONTACTS, CONNECTIONS):
        if collection not in tables:
            raise Surprise(
                f"the environment has no table {TABLES[collection]}; dynamics.url must name one with Dynamics 365 Sales",
                system=SYSTEM,
                object=TABLES[collection],
            )
    columns = {OPPORTUNITIES: table_columns(rest, OPPORTUNITIES)}
    if SOLUTIONS in tables:
        columns[SOLUTIONS] = table_columns(rest, SOLUTIONS)
    key = names["referral_id"]
    if key not in columns[OPPORTUNITIES]:
        raise Surprise(
            f"opportunity has no column {key}; run `cosell-sync provision` against this environment",
            system=SYSTEM,
            field=key,
        )
    who = rest.get("WhoAmI")
    return Org(
        names={name: crm for name, crm in names.items() if crm in columns[OPPORTUNITIES]},
        columns=columns,
        currencies=_currencies(rest),
        base_currency=_base_currency(rest),
        tracked=frozenset(name for name, flags in tables.items() if flags.get("ChangeTrackingEnabled")),
        guarded=frozenset(
            name for name, flags in tables.items() if flags.get("IsOptimisticConcurrencyEnabled")
        ),
        roles=_roles(rest),
        user_id=str(who.get("UserId") or "").lower(),
    )


def table_flags(rest: Rest) -> Mapping[str, Mapping[str, Any]]:
    """Entity set → what its table says of itself."""
    wanted = " or ".join(f"LogicalName eq {odata.literal(name)}" for name in TABLES.values())
    path = odata.query(
        "EntityDefinitions",
        select=("LogicalName", "EntitySetName", "ChangeTrackingEnabled", "IsOptimisticConcurrencyEnabled"),
        where=wanted,
    )
    sets = {logical: collection for collection, logical in TABLES.items()}
    return {
        sets[str(row["LogicalName"])]: row
        for row in _metadata(rest, path)
        if str(row.get("LogicalName")) in sets
    }


def _metadata(rest: Rest, path: str) -> Sequence[Mapping[str, Any]]:
    """Metadata comes whole: it knows no pages."""
    rows = rest.get(path).get("value")
    if not isinstance(rows, list):
        raise strange()
    return [row for row in rows if isinstance(row, Mapping)]


def attributes(collection: str, kind: str = "") -> str:
    cast = f"/Microsoft.Dynamics.CRM.{kind}AttributeMetadata" if kind else ""
    return f"EntityDefinitions(LogicalName={odata.literal(TABLES[collection])})/Attributes{cast}"


def table_columns(rest: Rest, collection: str) -> Mapping[str, Column]:
    """One question for what all columns have, and one for each kind that has something of its own."""
    basics = ("LogicalName", "AttributeType", "DisplayName", "IsValidForCreate", "IsValidForUpdate")
    found = {
        str(row["LogicalName"]): row
        for row in _metadata(rest, f"{attributes(collection)}?$select={','.join(basics)}")
        if row.get("LogicalName")
    }
    types = {str(row.get("AttributeType")) for row in found.values()}
    more: dict[str, Mapping[str, Any]] = {}
    for kind, wanted in (
        ("String", ("MaxLength",)),
        ("Memo", ("MaxLength",)),
        ("Money", ("Precision", "PrecisionSource", "MaxValue")),
    ):
        if kind in types:
            path = f"{attributes(collection, kind)}?$select={','.join(('LogicalName', *wanted))}"
            more |= {str(row.get("LogicalName")): row for row in _metadata(rest, path)}
    for kind in ("Picklist", "Status"):
        if kind in types:
            # GlobalOptionSet holds the values of a choice that several tables share; then OptionSet is null.
            expand = "OptionSet,GlobalOptionSet" if kind == "Picklist" else "OptionSet"
            path = f"{attributes(collection, kind)}?$select=LogicalName&$expand={expand}"
            more |= {str(row.get("LogicalName")): row for row in _metadata(rest, path)}
    return {name: _column(name, {**row, **more.get(name, {})}) for name, row in found.items()}


def _column(name: str, row: Mapping[str, Any]) -> Column:
    choices = row.get("OptionSet") or row.get("GlobalOptionSet") or {}
    maximum = row.get("MaxValue")
    own_scale = row.get("PrecisionSource", 0) == 0  # else the currency's, or the organization's
    return Column(
        name=name,
        type=str(row.get("AttributeType") or ""),
        label=_label(row.get("DisplayName")),
        length=row.get("MaxLength") if isinstance(row.get("MaxLength"), int) else None,
        scale=row["Precision"] if own_scale and isinstance(row.get("Precision"), int) else None,
        maximum=Decimal(str(maximum)) if isinstance(maximum, (int, float, Decimal)) else None,
        creatable=row.get("IsValidForCreate") is not False,
        updatable=row.get("IsValidForUpdate") is not False,
        choices=tuple(_choice(each) for each in choices.get("Options") or () if isinstance(each, Mapping)),
    )


def _choice(option: Mapping[str, Any]) -> Choice:
    label = option.get("Label") or {}
    return Choice(
        value=int(option.get("Value") or 0),
        label=_label(label, ENGLISH),
        labels=frozenset(folded(each) for each in _labels(label)) - {""},
        state=int(option.get("State") or OPEN),
    )


def _labels(label: Mapping[str, Any]) -> Iterable[str]:
    for each in (*(label.get("LocalizedLabels") or ()), label.get("UserLocalizedLabel") or {}):
        if isinstance(each, Mapping) and isinstance(each.get("Label"), str):
            yield each["Label"]


def _label(label: object, language: int | None = None) -> str:
    """The label in that language, else in the application user's, else any."""
    if not isinstance(label, Mapping):
        return ""
    listed = [each for each in label.get("LocalizedLabels") or () if isinstance(each, Mapping)]
    wanted = [each for each in listed if each.get("LanguageCode") == language]
    own = label.get("UserLocalizedLabel")
    for each in (*wanted, *([own] if isinstance(own, Mapping) else []), *listed):
        if each.get("Label"):
            return str(each["Label"])
    return ""


def _currencies(rest: Rest) -> tuple[Currency, ...]:
    path = odata.query(
        "transactioncurrencies",
        select=("transactioncurrencyid", "isocurrencycode", "currencyprecision"),
        where="statecode eq 0",
    )
    return tuple(
        Currency(
            str(row["transactioncurrencyid"]).lower(),
            str(row["isocurrencycode"]).upper(),
            int(row.get("currencyprecision") or 0),
        )
        for row in rest.rows(path)
        if row.get("transactioncurrencyid") and row.get("isocurrencycode")
    )


def _base_currency(rest: Rest) -> str | None:
    found = next(
        iter(rest.rows(odata.query("organizations", select=("organizationid", "_basecurrencyid_value")))),
        {},
    )
    known = found.get("_basecurrencyid_value")
    return str(known).lower() if known else None


# Categories of connection roles: in the forms, people with such a role stand under Stakeholders and Sales Team.
# https://learn.microsoft.com/power-apps/developer/data-platform/connection-entities
_CATEGORIES: Final = {"contacts": (1000, "stakeholder"), "team": (1001, "sales professional")}


def _roles(rest: Rest) -> Mapping[str, str]:
    """The role to give a contact and a colleague; none where the organization has none, or hides them."""
    path = odata.query(
        "connectionroles", select=("connectionroleid", "name", "category"), where="statecode eq 0"
    )
    try:
        listed = rest.get(path, scope=Scope.RECORD).get("value") or []
    except RecordError:
        return {}
    found = {}
    for name, (category, favourite) in _CATEGORIES.items():
        fitting = [row for row in listed if row.get("category") == category]
        fitting.sort(key=lambda row: str(row.get("connectionroleid")))
        favourites = [row for row in fitting if folded(row.get("name")) == favourite]
        if fitting:
            found[name] = str((favourites or fitting)[0]["connectionroleid"]).lower()
    return found
