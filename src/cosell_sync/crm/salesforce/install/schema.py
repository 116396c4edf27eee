"""What cosell-sync adds to a Salesforce org, as data: the one source of the files in ``config/`` and of `provision`.

A `Component` is one piece of metadata; its ``body`` has the names of Salesforce's Metadata API. `components` makes all of them
for the field names in use, so that a renamed field is renamed in rules, list views and permission sets alike.
The columns with their texts and the views, which every CRM gets, are in `crm.columns`.

Beside fields and rights there is what a seller works with on the page: two buttons that answer a deal, and a compact layout. An
admin places them; a deployed page layout would replace the customer's.

Two permission sets: one for the integration user, who reads and writes what is synchronised; one for sellers, who read every
field and edit their own. Neither names a required or master-detail field, because Salesforce refuses that, and neither gives
Modify All or a right on an object that is not needed.
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/customfield.htm
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_quickaction.htm
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_compactlayout.htm
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cosell_sync.crm.columns import (
    DUNS_COLUMN,
    PANEL_WORDS,
    PARENT_DESCRIPTION,
    SOLUTION_COLUMNS,
    SOLUTION_DESCRIPTION,
    SOLUTION_LABEL,
    VIEWS,
    Column,
    ColumnKind,
    opportunity_columns,
)
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, DEFAULT_NAMES, DUNS, KEY, OPPORTUNITY, SOLUTION
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.settings import value_lists

Body = Mapping[str, Any]

INTEGRATION_SET: Final = "Cosell_Sync"
SELLER_SET: Final = "Cosell_Seller"
DECLINE_RULE: Final = "Cosell_Decline_Needs_Reason"
PANEL: Final = "cosellPanel"
MASTER: Final = "Opportunity__c"  # the master-detail field of a solution row
TYPES: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.FLAG: "Checkbox",
    ColumnKind.TEXT: "Text",
    ColumnKind.LINK: "Url",
    ColumnKind.CHOICE: "Picklist",
    ColumnKind.LONG: "LongTextArea",
    ColumnKind.MOMENT: "DateTime",
}
SOLUTION_NAMES: Final[Mapping[str, str]] = {
    "code": "Solution_Id__c",
    "name": "Solution_Name__c",
    "type": "Solution_Type__c",
    "key": KEY,
}
# Standard columns have names of their own in list views.
LISTED: Final[Mapping[str, str]] = {
    "value": "OPPORTUNITY.AMOUNT",
    "close_date": "OPPORTUNITY.CLOSE_DATE",
    "stage": "OPPORTUNITY.STAGE_NAME",
}
HIGHLIGHTS: Final = "Cosell_Highlights"
HIGHLIGHTED: Final = (  # ten at most; no long text may be among them, so the message stays on the page
    "sync_state", "status", "respond_by", "value", "stage", "deal_type", "microsoft_status",
)  # fmt: skip
# Answer to a deal → the button's label, and the fields that it asks for: our name and whether it is needed.
ANSWERS: Final[Mapping[str, tuple[str, Mapping[str, bool]]]] = {
    "Accept": ("Accept co-sell deal", {}),
    "Decline": ("Decline co-sell deal", {"reason": True, "reason_note": False}),
}
BUTTON_WORDS: Final = tuple(label for label, _ in ANSWERS.values())


@dataclass(frozen=True)
class Component:
    """One piece of metadata; ``name`` as package.xml lists it: `Opportunity.Cosell_Sync__c`, `Cosell_Sync`.

    ``renewed``, ``note``: see `crm.columns.Column`.
    """

    type: str
    name: str
    body: Body
    renewed: bool = False
    note: str = ""

    @property
    def own_name(self) -> str:
        """The name without its object."""
        return self.name.rpartition(".")[2]

    @property
    def object(self) -> str:
        """The object that the component belongs to; empty for one that belongs to none."""
        return self.name.rpartition(".")[0]

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


# Rights on objects: what each permission set needs there, and no more. Salesforce grants no read on opportunities, or on a
# detail row, without read on its parent; in orgs with person accounts, none on accounts without contacts.
READ: Final = frozenset({"allowRead"})
WRITE: Final = READ | {"allowCreate", "allowEdit"}
OBJECT_RIGHTS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    INTEGRATION_SET: {
        # With private sharing an account given to a seller would be out of sight, and its contacts with it.
        ACCOUNT: WRITE | {"viewAllRecords"},
        CONTACT: WRITE | {"viewAllRecords"},
        OPPORTUNITY: WRITE | {"viewAllRecords"},
        SOLUTION: WRITE | {"allowDelete"},
    },
    SELLER_SET: {
        ACCOUNT: READ,
        CONTACT: READ,
        OPPORTUNITY: READ,
        SOLUTION: WRITE | {"allowDelete"},
    },
}
RIGHTS: Final = (
    "allowCreate", "allowDelete", "allowEdit", "allowRead", "modifyAllRecords", "viewAllRecords",
)  # fmt: skip


# Standard fields that are read and written, by the names under which a permission set grants them. The minimum-access profile
# gives none. Parts of an address go by the whole address. Names, required and system fields cannot be granted, and need not be.
# https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_permissionset.htm
STANDARD_FIELDS: Final = (
    f"{ACCOUNT}.BillingAddress",
    f"{CONTACT}.AccountId",
    f"{CONTACT}.Email",
    f"{CONTACT}.Phone",
    f"{OPPORTUNITY}.AccountId",
)
NOT_GRANTABLE: Final = frozenset({"Name", "StageName", "CloseDate", "CurrencyIsoCode", "OwnerId"})


def standard_fields(named: Mapping[str, str]) -> frozenset[str]:
    """The standard fields to grant: those of related objects, and those of Opportunity that the mapping names."""
    mapped = {crm for crm in named.values() if "__" not in crm} - NOT_GRANTABLE
    return frozenset(STANDARD_FIELDS) | {f"{OPPORTUNITY}.{crm}" for crm in mapped}


def creatable(name: str) -> bool:
    """Whether this is a custom field that we can make: neither a standard one nor one of an installed package."""
    return name.endswith("__c") and name.count("__") == 1


def components(
    names: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    *,
    own_duns: bool = False,
    words: Words = ENGLISH_WORDS,
) -> tuple[Component, ...]:
    """Everything an org needs.

    ``names``: our name → field of Opportunity; defaults where not given. ``choices``: the values of the lists that Microsoft
    renews; those that cosell-sync brings where not given. ``own_duns``: whether accounts have the platform's own field for the
    D-U-N-S number (`DunsNumber`), which is then granted, and ours is not made. ``words``: in which language sellers read; names,
    and the values of choices, are the same in every one.
    """
    named = {**DEFAULT_NAMES, **(names or {})}
    listed = value_lists.choices(value_lists.shipped()) if choices is None else choices
    return tuple(_components(named, opportunity_columns(listed), words, own_duns=own_duns))


def _components(
    named: Mapping[str, str], wanted: Mapping[str, Column], words: Words, *, own_duns: bool
) -> Iterator[Component]:
    columns = {named[ours]: column for ours, column in wanted.items() if creatable(named[ours])}
    for name, column in columns.items():
        yield Component(
            "CustomField", f"{OPPORTUNITY}.{name}", _field(column, words), column.renewed, column.note
        )
    platform, ours = (f"{ACCOUNT}.{name}" for name in DUNS)
    if not own_duns:
        yield Component("CustomField", ours, _field(DUNS_COLUMN, words))
    yield Component("CustomObject", SOLUTION, _solution(words))
    yield Component("CustomField", f"{SOLUTION}.{MASTER}", _master(words))
    solution_columns = {SOLUTION_NAMES[ours]: column for ours, column in SOLUTION_COLUMNS.items()}
    for name, column in solution_columns.items():
        yield Component("CustomField", f"{SOLUTION}.{name}", _field(column, words))
    yield Component("ValidationRule", f"{OPPORTUNITY}.{DECLINE_RULE}", _decline_rule(named, words))
    for name, body in _list_views(named, words):
        yield Component("ListView", f"{OPPORTUNITY}.{name}", body)
    yield Component("CompactLayout", f"{OPPORTUNITY}.{HIGHLIGHTS}", _highlights(named, words))
    for answer in ANSWERS:
        yield Component("QuickAction", f"{OPPORTUNITY}.Cosell_{answer}", _button(answer, named, words))
    access = {f"{OPPORTUNITY}.{name}": column for name, column in columns.items()}
    access |= {f"{SOLUTION}.{name}": column for name, column in solution_columns.items()}
    access |= {} if own_duns else {ours: DUNS_COLUMN}
    granted = {*access, *standard_fields(named), *([platform] if own_duns else [])}
    yield Component("PermissionSet", INTEGRATION_SET, _integration_set(granted))
    yield Component("PermissionSet", SELLER_SET, _seller_set(access))
    yield Component("LightningComponentBundle", PANEL, {})


def _field(column: Column, words: Words) -> Body:
    body: dict[str, Any] = {
        "label": words(column.label),
        "type": TYPES[column.kind],
        "inlineHelpText": words(column.help),
        "description": column.description,
    }
    if column.kind is ColumnKind.FLAG:
        body["defaultValue"] = "false"
    else:
        body["required"] = False
    if column.length:
        body["length"] = column.length
    if column.kind is ColumnKind.LONG:
        body["visibleLines"] = 4
        del body["required"]  # long texts have no such property
    if column.kind is ColumnKind.TEXT:
        body |= {"externalId": column.key, "unique": column.key}
        if column.key:
            body["caseSensitive"] = False
    if column.values:
        body["valueSet"] = {
            "restricted": not column.renewed,  # Microsoft's answers are shown, whatever the list here says
            "valueSetDefinition": {
                "sorted": False,
                "value": [
                    {"fullName": value, "default": False, "label": words(value)} for value in column.values
                ],
            },
        }
    return body


def _master(words: Words) -> Body:
    return {
        "label": words("Opportunity"),
        "type": "MasterDetail",
        "description": PARENT_DESCRIPTION,
        "referenceTo": OPPORTUNITY,
        "relationshipLabel": words("Co-sell Solutions"),
        "relationshipName": "Cosell_Solutions",
        "relationshipOrder": 0,
        "reparentableMasterDetail": False,
        "writeRequiresMasterRead": False,
    }


def _solution(words: Words) -> Body:
    return {
        "label": words(SOLUTION_LABEL),
        "pluralLabel": words(f"{SOLUTION_LABEL}s"),
        "description": SOLUTION_DESCRIPTION,
        "deploymentStatus": "Deployed",
        "nameField": {"displayFormat": "CS-{000000}", "label": words(SOLUTION_LABEL), "type": "AutoNumber"},
        "sharingModel": "ControlledByParent",
    }


def _decline_rule(named: Mapping[str, str], words: Words) -> Body:
    return {
        "active": True,
        "description": "Microsoft is told why a deal is declined.",
        "errorConditionFormula": f'AND(ISPICKVAL({named["action"]}, "Decline"), ISBLANK(TEXT({named["reason"]})))',
        "errorDisplayField": named["reason"],
        "errorMessage": words("Choose a co-sell reason before you decline."),
    }


def _list_views(named: Mapping[str, str], words: Words) -> Iterator[tuple[str, Body]]:
    for each in VIEWS:
        filters = [
            {
                "field": named[ours],
                "operation": "equals",
                "value": "1" if wanted is True else ",".join(wanted or ()),
            }
            for ours, wanted in each.where
        ]
        if each.days:
            ours, days = each.days
            for operation, value in (("greaterOrEqual", "TODAY"), ("lessOrEqual", f"NEXT_N_DAYS:{days}")):
                filters.append({"field": named[ours], "operation": operation, "value": value})
        columns = [LISTED.get(ours) or named[ours] for ours in each.columns]
        yield (
            f"Cosell_{each.name}",
            {
                "label": words(each.label),
                "filterScope": "Everything",
                "columns": ["OPPORTUNITY.NAME", "ACCOUNT.NAME", *columns],
                "filters": filters,
            },
        )


def _highlights(named: Mapping[str, str], words: Words) -> Body:
    fields = ["Name", "AccountId", *(named[ours] for ours in HIGHLIGHTED)]
    return {"label": words(PANEL_WORDS[0]), "fields": fields}


def _button(answer: str, named: Mapping[str, str], words: Words) -> Body:
    """Sets the answer on the record and asks for what belongs to it. The answer is shown too, so that a seller sees what is saved,
    and because a layout has at least one field.
    """
    label, asked = ANSWERS[answer]
    items = [
        {"field": named[ours], "emptySpace": False, "uiBehavior": "Required" if needed else "Edit"}
        for ours, needed in {"action": True, **asked}.items()
    ]
    return {
        "label": words(label),
        "description": f"Answers a deal from Microsoft: {named['action']} becomes {answer}.",
        "type": "Update",
        "targetObject": OPPORTUNITY,
        "optionsCreateFeedItem": False,
        "successMessage": words(PANEL_WORDS[2]),
        "fieldOverrides": {
            "field": named["action"],
            "literalValue": answer,
        },  # a picklist's value, no formula
        "quickActionLayout": {
            "layoutSectionStyle": "TwoColumnsLeftToRight",
            "quickActionLayoutColumns": [{"quickActionLayoutItems": items}, {}],
        },
    }


def _integration_set(access: Iterable[str]) -> Body:
    return {
        "label": "Cosell Sync",
        "description": "For the user cosell-sync signs in as: reads and writes what is carried between the two systems.",
        "hasActivationRequired": False,
        "objectPermissions": _object_rights(INTEGRATION_SET),
        "fieldPermissions": [{"editable": True, "field": name, "readable": True} for name in sorted(access)],
    }


def _seller_set(access: Mapping[str, Column]) -> Body:
    return {
        "label": "Cosell Seller",
        "description": "For sellers: sees every co-sell field, edits those that are the seller's.",
        "hasActivationRequired": False,
        "objectPermissions": _object_rights(SELLER_SET),
        "fieldPermissions": [
            {"editable": access[name].editable, "field": name, "readable": True} for name in sorted(access)
        ],
    }


def _object_rights(permission_set: str) -> list[Body]:
    return [
        {**{right: right in rights for right in RIGHTS}, "object": name}
        for name, rights in sorted(OBJECT_RIGHTS[permission_set].items())
    ]
