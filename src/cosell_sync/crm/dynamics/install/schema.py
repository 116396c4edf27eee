"""What cosell-sync adds to a Dataverse environment, as Dataverse's metadata; pure.

The columns with their texts and the views are in `crm.columns`. Here is how Dataverse describes them, and what only
Dataverse has: publisher, solution, alternate keys, security roles. All names are lower case, so that a column, its schema
name and its navigation property are the same word. Labels are written in the environment's base language, and also in
English where English is provisioned, because choices are known by their English label first.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/create-update-column-definitions-using-web-api
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5
from xml.etree.ElementTree import Element, SubElement, tostring

from cosell_sync.crm.columns import (
    PARENT_DESCRIPTION,
    SOLUTION_DESCRIPTION,
    SOLUTION_LABEL,
    Column,
    ColumnKind,
    View,
)
from cosell_sync.crm.dynamics.org import CONNECTIONS, OPPORTUNITIES, SOLUTIONS, TABLES
from cosell_sync.crm.words import ENGLISH_WORDS, Words

Body = Mapping[str, Any]
Numbers = Mapping[tuple[str, str], int]  # our name and a label → the value of that choice

PREFIX: Final = "cosell"
UNIQUE_NAME: Final = "cosellsync"  # of the publisher, and of the solution
DISPLAY_NAME: Final = "cosell-sync"
OPTION_PREFIX: Final = 72_700
FIRST_OPTION: Final = 10_000  # an option's number is the prefix and four digits
IN_SOLUTION: Final[Mapping[str, str]] = {"MSCRM.SolutionUniqueName": UNIQUE_NAME}
KEEP_LABELS: Final[Mapping[str, str]] = {"MSCRM.MergeLabels": "true"}  # or a PUT drops translations

OPPORTUNITY: Final = TABLES[OPPORTUNITIES]
SOLUTION: Final = TABLES[SOLUTIONS]
RELATIONSHIP: Final = "cosell_opportunity_cosell_solution"
PARENT: Final = "cosell_opportunity"  # the lookup of a solution row
SOLUTION_NAMES: Final[Mapping[str, str]] = {
    "code": "cosell_solutioncode",
    "name": "cosell_solutionname",
    "type": "cosell_solutiontype",
    "key": "cosell_key",
}
KEY_NAMES: Final[Mapping[str, str]] = {
    OPPORTUNITIES: "cosell_referralkey",
    SOLUTIONS: "cosell_solutionkey",
}
TRACKED: Final = (OPPORTUNITIES, CONNECTIONS, SOLUTIONS)  # tables whose deletions a cycle reads
TYPES: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.FLAG: "Boolean",
    ColumnKind.TEXT: "String",
    ColumnKind.LINK: "String",
    ColumnKind.CHOICE: "Picklist",
    ColumnKind.LONG: "Memo",
    ColumnKind.MOMENT: "DateTime",
}
LINK_LENGTH: Final = 500

# Security roles: privileges by table, each with its depth, and no more than the daemon, or a seller, needs there.
# A seller already has a sales role; this one adds the solutions. The owner of an opportunity reaches its solutions through
# the cascade of the relationship.
SYNC_ROLE: Final = "Co-sell Sync Service"
SELLER_ROLE: Final = "Co-sell Seller"
EVERYWHERE: Final = "Global"
OWN: Final = "Basic"
DEPTHS: Final = ("Basic", "Local", "Deep", "Global")


def _all(*verbs: str) -> Mapping[str, str]:
    return dict.fromkeys(verbs, EVERYWHERE)


RIGHTS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    SYNC_ROLE: {
        "opportunity": _all("Create", "Read", "Write", "Assign", "Append", "AppendTo"),
        # Of activities only its own, the closings. All other activities are mails and calls.
        "opportunityclose": dict.fromkeys(("Create", "Read", "Append"), OWN),
        "account": _all("Create", "Read", "Write", "AppendTo"),
        "contact": _all("Create", "Read", "Write", "Append", "AppendTo"),
        "connection": _all("Create", "Read", "Delete", "Append"),
        SOLUTION: _all("Create", "Read", "Write", "Delete", "Append"),
        "systemuser": _all("Read", "AppendTo"),
        "transactioncurrency": _all("Read", "AppendTo"),
        "connectionrole": _all("Read", "AppendTo"),
        "organization": _all("Read"),
    },
    SELLER_ROLE: {
        SOLUTION: {"Read": EVERYWHERE, **dict.fromkeys(("Create", "Write", "Delete", "Append"), OWN)},
    },
}
# Reading the metadata takes privileges of its own; not every version has all of them.
NAMED_RIGHTS: Final[Mapping[str, Sequence[str]]] = {
    SYNC_ROLE: ("prvReadEntity", "prvReadAttribute", "prvReadRelationship", "prvReadOptionSet"),
    SELLER_ROLE: (),
}


def identity(what: str) -> str:
    """The id of a view or form of that name: worked out, so that it is the same in every environment and in the solution file."""
    return str(uuid5(NAMESPACE_URL, f"https://cosell-sync/dynamics/{what}"))


def creatable(name: str) -> bool:
    """Whether this column has our prefix; only such columns are made here."""
    return name.startswith(f"{PREFIX}_")


@dataclass(frozen=True)
class Labels:
    """Texts in each of these languages, the base language first; ``words`` has them."""

    languages: Sequence[int]
    words: Words = ENGLISH_WORDS

    def __call__(self, text: str) -> Body:
        return {
            "@odata.type": "Microsoft.Dynamics.CRM.Label",
            "LocalizedLabels": [
                {
                    "@odata.type": "Microsoft.Dynamics.CRM.LocalizedLabel",
                    "Label": self.words.in_language(text, language),
                    "LanguageCode": language,
                }
                for language in self.languages
            ],
        }


def label_languages(base: int, provisioned: Sequence[int], words: Words) -> Sequence[int]:
    """The languages of our labels: the base language, and of those that are provisioned English and what has a catalogue."""
    return (base, *(each for each in provisioned if each != base and words.speaks(each)))


# --- rows ----------------------------------------------------------------------------------------------------------


def publisher() -> Body:
    """The row of our publisher."""
    return {
        "uniquename": UNIQUE_NAME,
        "friendlyname": DISPLAY_NAME,
        "customizationprefix": PREFIX,
        "customizationoptionvalueprefix": OPTION_PREFIX,
    }


def solution(publisher_id: str) -> Body:
    """The row of our solution, to which every component belongs."""
    return {
        "uniquename": UNIQUE_NAME,
        "friendlyname": DISPLAY_NAME,
        "version": "1.0.0.0",
        "description": "Keeps Microsoft Partner Center referrals and opportunities telling the same story.",
        "publisherid@odata.bind": f"/publishers({publisher_id})",
    }


# --- definitions ---------------------------------------------------------------------------------------------------


def _attribute(name: str, kind: str, label: str, help_text: str, labels: Labels, level: str = "None") -> dict[str, Any]:  # fmt: skip
    return {
        "@odata.type": f"Microsoft.Dynamics.CRM.{kind}AttributeMetadata",
        "AttributeType": kind,
        "AttributeTypeName": {"Value": f"{kind}Type"},
        "SchemaName": name,
        "DisplayName": labels(label),
        "Description": labels(help_text),
        "RequiredLevel": {"Value": level, "CanBeChanged": True},
    }


def column(name: str, wanted: Column, labels: Labels, option_prefix: int = OPTION_PREFIX) -> Body:
    """The definition of a column."""
    body = _attribute(name, TYPES[wanted.kind], wanted.label, wanted.help, labels)
    if wanted.kind is ColumnKind.FLAG:
        sides = {"TrueOption": {"Value": 1, "Label": labels("Yes")}, "FalseOption": {"Value": 0, "Label": labels("No")}}  # fmt: skip
        body |= {"DefaultValue": False, "OptionSet": {**sides, "OptionSetType": "Boolean"}}
    elif wanted.kind is ColumnKind.MOMENT:
        body |= {"Format": "DateAndTime", "DateTimeBehavior": {"Value": "UserLocal"}}
    elif wanted.kind is ColumnKind.LONG:
        body |= {"Format": "TextArea", "MaxLength": wanted.length}
    elif wanted.kind is ColumnKind.CHOICE:
        first = option_prefix * FIRST_OPTION
        options = [
            {"Value": value, "Label": labels(text)} for value, text in enumerate(wanted.values, start=first)
        ]
        body["OptionSet"] = {
            "@odata.type": "Microsoft.Dynamics.CRM.OptionSetMetadata",
            "IsGlobal": False,
            "OptionSetType": "Picklist",
            "Options": options,
        }
    else:
        link = wanted.kind is ColumnKind.LINK
        body |= {
            "FormatName": {"Value": "Url" if link else "Text"},
            "MaxLength": wanted.length or LINK_LENGTH,
        }
    return body


def table(labels: Labels) -> Body:
    """The table of solutions, with its primary column alone; the others follow one by one."""
    primary = _attribute(
        "cosell_name", "String", "Name", "The solution, in a few words.", labels, "ApplicationRequired"
    )
    primary |= {"IsPrimaryName": True, "FormatName": {"Value": "Text"}, "MaxLength": 255}
    return {
        "@odata.type": "Microsoft.Dynamics.CRM.EntityMetadata",
        "SchemaName": SOLUTION,
        "DisplayName": labels(SOLUTION_LABEL),
        "DisplayCollectionName": labels(f"{SOLUTION_LABEL}s"),
        "Description": labels(SOLUTION_DESCRIPTION),
        "OwnershipType": "UserOwned",
        "HasActivities": False,
        "HasNotes": False,
        "IsActivity": False,
        "ChangeTrackingEnabled": True,
        "Attributes": [primary],
    }


def relationship(labels: Labels) -> Body:
    """Master and detail: what happens to the opportunity happens to its solutions. Opportunities are never merged."""
    cascade = dict.fromkeys(("Assign", "Delete", "Reparent", "Share", "Unshare"), "Cascade")
    return {
        "@odata.type": "Microsoft.Dynamics.CRM.OneToManyRelationshipMetadata",
        "SchemaName": RELATIONSHIP,
        "ReferencedEntity": OPPORTUNITY,
        "ReferencedAttribute": f"{OPPORTUNITY}id",
        "ReferencingEntity": SOLUTION,
        "CascadeConfiguration": {**cascade, "Merge": "NoCascade"},
        "AssociatedMenuConfiguration": {
            "Behavior": "UseCollectionName",
            "Group": "Details",
            "Order": 10_000,
        },
        "Lookup": _attribute(
            PARENT, "Lookup", "Opportunity", PARENT_DESCRIPTION, labels, "ApplicationRequired"
        ),
    }


def key(collection: str, column: str, labels: Labels) -> Body:
    """The definition of our alternate key of that table, on that column."""
    label = f"Co-sell key on {column}"
    return {"SchemaName": KEY_NAMES[collection], "DisplayName": labels(label), "KeyAttributes": [column]}


# --- views ---------------------------------------------------------------------------------------------------------

TITLE: Final = ("name", "parentaccountid")


def view(wanted: View, names: Mapping[str, str], numbers: Numbers, code: int, labels: Labels) -> Body:
    """The row of a view; its name is in the base language. ``code``: the opportunity's number in this environment. Raises KeyError for a choice without a number."""
    listed = [*TITLE, *(names[ours] for ours in wanted.columns)]
    where = Element("filter", type="and")
    for ours, values in wanted.where:
        given = ["1"] if isinstance(values, bool) else [str(numbers[ours, value]) for value in values]
        _condition(where, names[ours], given)
    if wanted.days:
        ours, days = wanted.days
        SubElement(where, "condition", attribute=names[ours], operator="next-x-days", value=str(days))
    return {
        "savedqueryid": identity(f"view/{wanted.label}"),
        "name": labels.words.in_language(wanted.label, labels.languages[0]),
        "returnedtypecode": OPPORTUNITY,
        "querytype": 0,
        "fetchxml": fetch(OPPORTUNITY, listed, names[wanted.order], where),
        "layoutxml": grid(OPPORTUNITY, code, listed, "name"),
    }


def fetch(table: str, columns: Sequence[str], order: str, where: Element | None = None) -> str:
    """A query for these columns of a table, sorted by one of them."""
    root = Element("fetch", {"version": "1.0", "mapping": "logical", "output-format": "xml-platform"})
    entity = SubElement(root, "entity", name=table)
    for each in (f"{table}id", *columns):
        SubElement(entity, "attribute", name=each)
    SubElement(entity, "order", attribute=order)
    if where is not None:
        entity.append(where)
    return tostring(root, encoding="unicode")


def grid(table: str, code: int, columns: Sequence[str], title: str) -> str:
    """How a view shows these columns. ``code``: the table's number in this environment; ``title``: the wide one."""
    root = Element("grid", {"name": "resultset", "object": str(code), "jump": title, "select": "1", "icon": "1", "preview": "1"})  # fmt: skip
    line = SubElement(root, "row", name="result", id=f"{table}id")
    for each in columns:
        SubElement(line, "cell", name=each, width="250" if each == title else "150")
    return tostring(root, encoding="unicode")


def _condition(parent: Element, name: str, values: Sequence[str]) -> None:
    if len(values) == 1:
        SubElement(parent, "condition", attribute=name, operator="eq", value=values[0])
        return
    made = SubElement(parent, "condition", attribute=name, operator="in")
    for each in values:
        SubElement(made, "value").text = each


def publication(tables: Sequence[str]) -> Body:
    """The body of ``PublishXml``: these tables only, so that nobody's unfinished customization is published."""
    root = Element("importexportxml")
    entities = SubElement(root, "entities")
    for each in tables:
        SubElement(entities, "entity").text = each
    return {"ParameterXml": tostring(root, encoding="unicode")}


def rights(role: str) -> Iterator[tuple[str, str, str]]:
    """Table, verb, depth of each privilege that belongs to a table."""
    for name, verbs in RIGHTS[role].items():
        for verb, depth in verbs.items():
            yield name, verb, depth
