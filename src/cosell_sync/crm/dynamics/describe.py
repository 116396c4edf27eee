"""Reads an environment's shape: tables, columns, choices, currencies, connection roles.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query-metadata-web-api
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS, SOLUTION_COLUMNS
from cosell_sync.crm.dynamics import odata
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.org import (
    ACCOUNTS,
    CONNECTIONS,
    CONTACTS,
    DUNS,
    ENGLISH,
    OPEN,
    OPPORTUNITIES,
    SOLUTIONS,
    TABLES,
    Choice,
    Column,
    Currency,
    Org,
    stage_flags,
)
from cosell_sync.crm.dynamics.questions import Question, strange
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.secured import OUR_TABLES, SECURED, security
from cosell_sync.crm.values import folded
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.errors import RecordError, Surprise
from cosell_sync.ports import Identity, StageFlags
from cosell_sync.transport.errors import Scope

SOLUTION_TYPE: Final = "cosell_solutiontype"


def read(rest: Rest, names: Mapping[str, str], words: Words = ENGLISH_WORDS) -> Org:
    """The environment, in six calls or seven. ``words``: by which choices are understood and labels chosen.

    Raises `Surprise` where a table or the referral id's column is missing.
    """
    tables = table_flags(rest)
    for collection in (OPPORTUNITIES, ACCOUNTS, CONTACTS, CONNECTIONS):
        if collection not in tables:
            raise Surprise(
                f"the environment has no table {TABLES[collection]}; dynamics.url must name one with Dynamics 365 Sales",
                system=SYSTEM,
                object=TABLES[collection],
            )
    existing = (OPPORTUNITIES, *([SOLUTIONS] if SOLUTIONS in tables else []))
    described = tables_columns(rest, existing)
    columns = {each: understood(each, described[each], names, words) for each in existing}
    key = names["referral_id"]
    if key not in columns[OPPORTUNITIES]:
        raise Surprise(
            f"opportunity has no column {key}; run `cosell-sync provision` against this environment",
            system=SYSTEM,
            field=key,
        )
    who = rest.who()
    organizations, currencies, secured = rest.all_rows([_ORGANIZATION, _CURRENCIES, SECURED])
    base_currency, pricing_decimals, locale = _organization(organizations)
    return Org(
        names={name: crm for name, crm in names.items() if crm in columns[OPPORTUNITIES]},
        columns=columns,
        currencies=_currencies(currencies),
        base_currency=base_currency,
        pricing_decimals=pricing_decimals,
        words=words,
        locale=locale,
        tracked=frozenset(name for name, flags in tables.items() if flags.get("ChangeTrackingEnabled")),
        guarded=frozenset(
            name for name, flags in tables.items() if flags.get("IsOptimisticConcurrencyEnabled")
        ),
        roles=_roles(rest),
        user_id=str(who.get("UserId") or "").lower(),
        has_duns=has_duns(tables),
        security=security(rest, secured, str(who.get("UserId") or "")),
    )


def read_stages(rest: Rest, column: str) -> Mapping[str, StageFlags]:
    """The status reasons of opportunity as they are now, in one call, past the caches of the metadata."""
    path = f"{attributes(OPPORTUNITIES, 'Status')}?{_DETAILS['Status']}"
    rows = [row for row in rest.consistent().rows(path, size=None) if row.get("LogicalName") == column]
    return stage_flags(choice for row in rows for choice in _column(column, row).choices)


def identity(rest: Rest) -> Identity:
    """Whose rows these are."""
    return Identity(SYSTEM, str(rest.who().get("OrganizationId") or "").lower(), rest.host)


def table_flags(rest: Rest) -> Mapping[str, Mapping[str, Any]]:
    """Entity set → what its table says of itself, and our column of account (``has_duns``) where it has it."""
    path = odata.query(
        "EntityDefinitions",
        select=("LogicalName", "EntitySetName", "ChangeTrackingEnabled", "IsOptimisticConcurrencyEnabled"),
        where=OUR_TABLES,
    )
    path += f"&$expand=Attributes($select=LogicalName;$filter=LogicalName%20eq%20{odata.literal(DUNS)})"
    sets = {logical: collection for collection, logical in TABLES.items()}
    return {
        sets[str(row["LogicalName"])]: row
        for row in rest.rows(path, size=None)
        if str(row.get("LogicalName")) in sets
    }


def has_duns(tables: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether account has our column for the D-U-N-S number. ``tables``: as ``table_flags`` reads them."""
    return bool(tables.get(ACCOUNTS, {}).get("Attributes"))


def attributes(collection: str, kind: str = "") -> str:
    """The address of a table's columns; ``kind``: of those of one type, with what only that type has."""
    cast = f"/Microsoft.Dynamics.CRM.{kind}AttributeMetadata" if kind else ""
    return f"EntityDefinitions(LogicalName={odata.literal(TABLES[collection])})/Attributes{cast}"


def table_columns(rest: Rest, collection: str) -> Mapping[str, Column]:
    """Column → description, of one table."""
    return tables_columns(rest, [collection])[collection]


def tables_columns(rest: Rest, collections: Sequence[str]) -> Mapping[str, Mapping[str, Column]]:
    """Table → column → description, in two calls: what all columns have, and what each type has of its own."""
    basics = ("LogicalName", "AttributeType", "DisplayName", "IsValidForCreate", "IsValidForUpdate")
    answers = rest.all_rows(
        [Question(f"{attributes(each)}?$select={','.join(basics)}", size=None) for each in collections]
    )
    found = {
        collection: {str(row["LogicalName"]): row for row in rows if row.get("LogicalName")}
        for collection, rows in zip(collections, answers, strict=True)
    }
    kinds = [
        (collection, kind)
        for collection, columns in found.items()
        for kind in _DETAILS
        if any(row.get("AttributeType") == kind for row in columns.values())
    ]
    details = rest.all_rows(
        [
            Question(f"{attributes(collection, kind)}?{_DETAILS[kind]}", size=None)
            for collection, kind in kinds
        ]
    )
    more: dict[tuple[str, str], Mapping[str, Any]] = {
        (collection, str(row.get("LogicalName"))): row
        for (collection, _), rows in zip(kinds, details, strict=True)
        for row in rows
    }
    return {
        collection: {
            name: _column(name, {**row, **more.get((collection, name), {})}) for name, row in columns.items()
        }
        for collection, columns in found.items()
    }


# Type → query for the properties that only this type has. GlobalOptionSet has the values of a choice that several tables
# share; then OptionSet is null.
_DETAILS: Final[Mapping[str, str]] = {
    "String": "$select=LogicalName,MaxLength",
    "Memo": "$select=LogicalName,MaxLength",
    "Money": "$select=LogicalName,Precision,PrecisionSource,MaxValue,MinValue",
    "DateTime": "$select=LogicalName,DateTimeBehavior",
    "Picklist": "$select=LogicalName&$expand=OptionSet,GlobalOptionSet",
    "Status": "$select=LogicalName&$expand=OptionSet",
}


def _column(name: str, row: Mapping[str, Any]) -> Column:
    choices = row.get("OptionSet") or row.get("GlobalOptionSet") or {}
    most, least = (
        Decimal(str(bound)) if isinstance(bound, (int, float, Decimal)) else None
        for bound in (row.get("MaxValue"), row.get("MinValue"))
    )
    source = row.get("PrecisionSource")
    behavior = row.get("DateTimeBehavior")
    return Column(
        name=name,
        type=str(row.get("AttributeType") or ""),
        label=_label(row.get("DisplayName")),
        words=_by_language(row.get("DisplayName")),
        length=row.get("MaxLength") if isinstance(row.get("MaxLength"), int) else None,
        scale=row["Precision"] if isinstance(row.get("Precision"), int) else None,
        maximum=most,
        minimum=least,
        creatable=row.get("IsValidForCreate") is not False,
        updatable=row.get("IsValidForUpdate") is not False,
        precision_source=source if isinstance(source, int) else 0,
        behavior=str(behavior.get("Value") or "") if isinstance(behavior, Mapping) else "",
        choices=_told_apart(
            [_choice(each) for each in choices.get("Options") or () if isinstance(each, Mapping)]
        ),
    )


def _told_apart(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices, with the value behind a label that several of them have."""
    count = Counter(folded(each.label) for each in choices)
    return tuple(
        replace(each, label=f"{each.label} ({each.value})") if count[folded(each.label)] > 1 else each
        for each in choices
    )


def _choice(option: Mapping[str, Any]) -> Choice:
    label = option.get("Label") or {}
    return Choice(
        value=int(option.get("Value") or 0),
        label=_label(label, ENGLISH),
        labels=frozenset(folded(each) for each in _labels(label)) - {""},
        state=int(option.get("State") or OPEN),
        words=_by_language(label),
    )


def understood(
    collection: str, columns: Mapping[str, Column], names: Mapping[str, str], words: Words
) -> dict[str, Column]:
    """The columns with our values as the names of their choices, in whatever language these are labelled.

    A choice that stands for none of them, or for the same one as another choice, keeps its own label. ``names``: our name →
    column of opportunity.
    """
    if collection == SOLUTIONS:
        ours = {"type": (SOLUTION_TYPE, SOLUTION_COLUMNS["type"])}
    elif collection == OPPORTUNITIES:
        ours = {name: (names[name], each) for name, each in OPPORTUNITY_COLUMNS.items() if name in names}
    else:
        ours = {}
    found = dict(columns)
    for ours_name, (name, wanted) in ours.items():
        column = columns.get(name)
        if column is None or not column.choices:
            continue
        values = words.lists().get(ours_name, ()) if wanted.renewed else wanted.values
        meant = [words.english(values, each.labels) for each in column.choices]
        choices = tuple(
            replace(each, label=value, labels=each.labels | {folded(value)})
            if value is not None and meant.count(value) == 1
            else each
            for each, value in zip(column.choices, meant, strict=True)
        )
        found[name] = replace(column, choices=choices)
    return found


def _by_language(label: object) -> dict[int, str]:
    """Language of Windows → label."""
    listed = label.get("LocalizedLabels") if isinstance(label, Mapping) else None
    return {
        each["LanguageCode"]: each["Label"]
        for each in listed or ()
        if isinstance(each, Mapping) and isinstance(each.get("LanguageCode"), int) and each.get("Label")
    }


def _labels(label: Mapping[str, Any]) -> Iterable[str]:
    for each in (*(label.get("LocalizedLabels") or ()), label.get("UserLocalizedLabel") or {}):
        if isinstance(each, Mapping) and isinstance(each.get("Label"), str):
            yield each["Label"]


def _label(label: object, language: int | None = None) -> str:
    """The label in that language, else in the application user's, else any; empty where there is none."""
    if not isinstance(label, Mapping):
        return ""
    listed = [each for each in label.get("LocalizedLabels") or () if isinstance(each, Mapping)]
    wanted = [each for each in listed if each.get("LanguageCode") == language]
    own = label.get("UserLocalizedLabel")
    for each in (*wanted, *([own] if isinstance(own, Mapping) else []), *listed):
        if each.get("Label"):
            return str(each["Label"])
    return ""


_CURRENCIES: Final = Question(
    odata.query(
        "transactioncurrencies",
        select=("transactioncurrencyid", "isocurrencycode", "currencyprecision", "statecode"),
    )
)
_ORGANIZATION: Final = Question(
    odata.query(
        "organizations",
        select=("organizationid", "_basecurrencyid_value", "pricingdecimalprecision", "localeid"),
    )
)


def _currencies(rows: Iterable[Mapping[str, Any]]) -> tuple[Currency, ...]:
    """All of them: a currency that is deactivated stays on the rows that have it."""
    return tuple(
        Currency(
            str(row["transactioncurrencyid"]).lower(),
            str(row["isocurrencycode"]).upper(),
            int(row.get("currencyprecision") or 0),
            active=row.get("statecode") in {None, OPEN},
        )
        for row in rows
        if row.get("transactioncurrencyid") and row.get("isocurrencycode")
    )


def _organization(rows: Sequence[Mapping[str, Any]]) -> tuple[str | None, int, int]:
    """Id of the base currency, the decimals of prices where a column follows the organization, and how it writes dates."""
    found: Mapping[str, Any] = rows[0] if rows else {}
    known, decimals = found.get("_basecurrencyid_value"), found.get("pricingdecimalprecision")
    locale = found.get("localeid")
    return (
        str(known).lower() if known else None,
        decimals if isinstance(decimals, int) else 2,
        locale if isinstance(locale, int) else 0,
    )


# Categories of connection roles: the forms show people with such a role under Stakeholders and Sales Team.
# https://learn.microsoft.com/power-apps/developer/data-platform/connection-entities
_CATEGORIES: Final = {"contacts": (1000, "stakeholder"), "team": (1001, "sales professional")}


def _roles(rest: Rest) -> Mapping[str, str]:
    """Our field → id of the connection role for contacts and colleagues. Missing where the environment has or shows none."""
    path = odata.query(
        "connectionroles", select=("connectionroleid", "name", "category"), where="statecode eq 0"
    )
    try:
        listed = rest.get(path, scope=Scope.RECORD).get("value")
    except RecordError:
        return {}
    if not isinstance(listed, list):
        raise strange()
    found = {}
    for name, (category, preferred) in _CATEGORIES.items():
        fitting = [row for row in listed if row.get("category") == category]
        fitting.sort(key=lambda row: str(row.get("connectionroleid")))
        preferred_roles = [row for row in fitting if folded(row.get("name")) == preferred]
        if fitting:
            found[name] = str((preferred_roles or fitting)[0]["connectionroleid"]).lower()
    return found
