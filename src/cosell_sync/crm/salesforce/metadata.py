"""What cosell-sync adds to a Salesforce org, as data: the one place from which files are written and orgs provisioned.

A `Component` is one piece of metadata, its ``body`` in the words of Salesforce's Metadata API. `components` makes all of
them for the field names in use, so that a renamed field is renamed in rules, list views and permission sets alike.
Help texts are written for the seller who hovers over the field, descriptions for the admin who finds it in Setup.

Two permission sets: one for the integration user, who reads and writes what is carried; one for sellers, who read
everything and edit what is theirs. Neither names a required or master-detail field (Salesforce refuses that) and neither
gives Modify All or a right on an object beyond its use.
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/customfield.htm
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cosell_sync.core.deal import DealType, Direction, State, SyncState
from cosell_sync.crm.salesforce.org import ACCOUNT, CONTACT, DEFAULT_NAMES, KEY, OPPORTUNITY, SOLUTION

Body = Mapping[str, Any]

CLOSED_REASONS: Final = (
    "Budget insufficient",
    "Customer did not respond",
    "Other vendor chosen",
    "Requirement not met",
    "Not a customer",
    "Timeline too short",
    "Abuse, spam or phishing",
    "Other",
)
HELP_KINDS: Final = (
    "Workload-specific value proposition",
    "Customer technical architecture",
    "Proof of concept or demo",
    "Quotes or licensing",
    "Post-sales customer success",
    "General or other",
)
SOLUTION_TYPES: Final = ("Own", "Microsoft", "Third party")

INTEGRATION_SET: Final = "Cosell_Sync"
SELLER_SET: Final = "Cosell_Seller"
DECLINE_RULE: Final = "Cosell_Decline_Needs_Reason"
PANEL: Final = "cosellPanel"
MASTER: Final = "Opportunity__c"  # the master-detail field of a solution row
LONG: Final = 32_000


@dataclass(frozen=True)
class Column:
    """One field. ``seller``: what the sellers' permission set gives, ``read`` or ``edit``."""

    label: str
    type: str
    help: str
    description: str
    length: int = 0
    values: tuple[str, ...] = ()
    key: bool = False  # external id, unique
    seller: str = "read"
    default: str = ""


@dataclass(frozen=True)
class Component:
    """``name`` as package.xml lists it: `Opportunity.Cosell_Sync__c`, `Cosell_Sync`."""

    type: str
    name: str
    body: Body

    @property
    def own_name(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def object(self) -> str:
        return self.name.rpartition(".")[0]

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


def _checkbox(label: str, help_text: str, description: str) -> Column:
    return Column(label, "Checkbox", help_text, description, seller="edit", default="false")


def _picklist(
    label: str, values: Sequence[str], help_text: str, description: str, *, seller: str = "read"
) -> Column:
    return Column(label, "Picklist", help_text, description, values=tuple(values), seller=seller)


def _long(label: str, help_text: str, description: str, *, seller: str = "edit") -> Column:
    return Column(label, "LongTextArea", help_text, description, length=LONG, seller=seller)


_SYNC_WRITES = "Written by cosell-sync; do not edit."

# Our name → field of Opportunity; what it is called in the org stands in `DEFAULT_NAMES` or in `mapping.fields`.
OPPORTUNITY_COLUMNS: Final[Mapping[str, Column]] = {
    "sync": _checkbox(
        "Co-sell sync",
        "Tick to share this opportunity with Microsoft Partner Center. Untick to pause: only the status and messages "
        "are updated then. What is shared already is not withdrawn.",
        "The seller's switch. Deals that Microsoft sends arrive with it on; off on a linked deal pauses it, on again merges.",
    ),
    "referral_id": Column(
        "Co-sell referral ID",
        "Text",
        "The deal's number in Partner Center.",
        "Joins the opportunity to its referral. A unique external id, so that no referral becomes two opportunities. "
        "Whoever may edit it can link an opportunity by hand, by putting a referral's id here.",
        length=64,
        key=True,
    ),
    "referral_link": Column(
        "Co-sell referral link", "Url", "Opens this deal in Partner Center.", _SYNC_WRITES
    ),
    "status": _picklist(
        "Co-sell status",
        [state.value for state in State if state is not State.UNKNOWN],
        "Where the deal stands in Partner Center. Received means that Microsoft waits for your answer.",
        _SYNC_WRITES,
    ),
    "direction": _picklist(
        "Co-sell direction",
        [each.value for each in Direction],
        "Inbound: Microsoft sent this deal to us. Outbound: we shared it with Microsoft.",
        _SYNC_WRITES,
    ),
    "deal_type": _picklist(
        "Co-sell deal type",
        [each.value for each in DealType],
        "Private: only we see it. Partner-led: Microsoft's sellers can see it. Co-sell: Microsoft was asked to help.",
        _SYNC_WRITES,
    ),
    "action": _picklist(
        "Co-sell action",
        ("Accept", "Decline"),
        "Your answer to a deal from Microsoft. Choose one and save; to decline, also choose a reason. "
        "The field empties itself when the answer has arrived.",
        "The seller's answer to a received deal; cleared once carried out. What the status does not allow is refused "
        "and told in the message.",
        seller="edit",
    ),
    "reason": _picklist(
        "Co-sell reason",
        CLOSED_REASONS,
        "Why the deal is declined or lost. Microsoft sees it.",
        "The eight reasons that Partner Center knows for closing a deal. A decline needs one.",
        seller="edit",
    ),
    "reason_note": _long(
        "Co-sell reason note",
        "A few words beside the reason. Microsoft sees them.",
        "Free text beside the reason.",
    ),
    "visible": _checkbox(
        "Visible to Microsoft",
        "Tick to let Microsoft's sellers see this private deal. This cannot be undone.",
        "One-way: makes a private deal partner-led.",
    ),
    "help": _picklist(
        "Help from Microsoft",
        HELP_KINDS,
        "What Microsoft shall help with. Choosing one invites Microsoft to co-sell; this cannot be undone, and the kind "
        "of help cannot be changed afterwards.",
        "Setting it makes the deal co-sell and sends the invitation.",
        seller="edit",
    ),
    "help_note": _long(
        "Note to Microsoft",
        "Travels with your request for help: what you need, by when, from whom. It cannot be changed once sent.",
        "Note to Microsoft that goes with the request for help.",
    ),
    "consent": _checkbox(
        "Customer consent",
        "Tick when the customer has agreed that contact details are shared with Microsoft. Without it nothing is shared.",
        "The customer agreed to share contact details; asked for before a deal is shared.",
    ),
    "campaign_id": Column(
        "Co-sell campaign ID",
        "Text",
        "The marketing campaign this deal belongs to, as Partner Center knows it.",
        "Marketing campaign id, carried both ways.",
        length=255,
        seller="edit",
    ),
    "notes": _long(
        "Co-sell notes",
        "The deal's notes. Everyone who takes part in the deal reads them, at Microsoft too.",
        "The deal's notes, carried both ways and merged line by line.",
    ),
    "favorite": _checkbox(
        "Co-sell favorite",
        "The heart in Partner Center: puts the deal on your list of favorites.",
        "The heart, carried both ways where mapping.write_favorite allows.",
    ),
    "respond_by": Column(
        "Co-sell respond by",
        "DateTime",
        "Answer before this moment, or the deal expires.",
        _SYNC_WRITES,
    ),
    "microsoft_status": Column(
        "Microsoft status",
        "Text",
        "Where Microsoft's side of a shared deal stands, for example New / Pending or Active / Accepted.",
        _SYNC_WRITES,
        length=255,
    ),
    "microsoft_id": Column(
        "Microsoft ID",
        "Text",
        "The deal's number in Microsoft's own CRM. Quote it when you talk to Microsoft's seller.",
        _SYNC_WRITES,
        length=255,
    ),
    "sync_state": _picklist(
        "Co-sell sync state",
        [each.value for each in SyncState],
        "In sync: all is well. Waiting: goes on by itself. Needs attention or Conflict: read the message and act. "
        "Closed: the deal is over.",
        _SYNC_WRITES,
    ),
    "message": _long(
        "Co-sell message",
        "What happened last, and what you can do about it.",
        _SYNC_WRITES,
        seller="read",
    ),
    "last_sync": Column(
        "Co-sell last sync",
        "DateTime",
        "When a change of this deal was last carried, in either direction.",
        _SYNC_WRITES,
    ),
}
SOLUTION_COLUMNS: Final[Mapping[str, Column]] = {
    "Solution_Id__c": Column(
        "Solution ID",
        "Text",
        "The solution's id in Partner Center, for example SOL-12345-ABC, or the id of a Microsoft product.",
        "Known to Partner Center by this id. Rows that a seller made are matched by it.",
        length=255,
        seller="edit",
    ),
    "Solution_Name__c": Column(
        "Solution name",
        "Text",
        "The solution's name as customers know it.",
        "The solution's name, carried both ways.",
        length=255,
        seller="edit",
    ),
    "Solution_Type__c": _picklist(
        "Solution type",
        SOLUTION_TYPES,
        "Own: ours. Microsoft: a Microsoft product. Third party: another partner's.",
        "Whose solution it is.",
        seller="edit",
    ),
    KEY: Column(
        "Co-sell key",
        "Text",
        "Filled by cosell-sync.",
        "Referral and solution, joined: a unique external id, so that no solution is added twice to a deal.",
        length=255,
        key=True,
    ),
}

# Rights on objects: what each permission set needs there, and no more. Salesforce grants no read on opportunities, or
# on a detail row, without read on what stands above it; in orgs with person accounts, none on accounts without contacts.
READ: Final = frozenset({"allowRead"})
WRITE: Final = READ | {"allowCreate", "allowEdit"}
OBJECT_RIGHTS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    INTEGRATION_SET: {
        ACCOUNT: WRITE,
        CONTACT: WRITE,
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


def creatable(name: str) -> bool:
    """Whether this is a custom field that we can make: neither a standard one nor one of an installed package."""
    return name.endswith("__c") and name.count("__") == 1


def components(names: Mapping[str, str] | None = None) -> tuple[Component, ...]:
    """Everything an org needs. ``names``: our name → field of Opportunity; defaults where not given."""
    named = {**DEFAULT_NAMES, **(names or {})}
    return tuple(_components(named))


def _components(named: Mapping[str, str]) -> Iterator[Component]:
    columns = {named[ours]: column for ours, column in OPPORTUNITY_COLUMNS.items() if creatable(named[ours])}
    for name, column in columns.items():
        yield Component("CustomField", f"{OPPORTUNITY}.{name}", _field(column))
    yield Component("CustomObject", SOLUTION, _solution())
    yield Component("CustomField", f"{SOLUTION}.{MASTER}", _master())
    for name, column in SOLUTION_COLUMNS.items():
        yield Component("CustomField", f"{SOLUTION}.{name}", _field(column))
    yield Component("ValidationRule", f"{OPPORTUNITY}.{DECLINE_RULE}", _decline_rule(named))
    for name, body in _list_views(named):
        yield Component("ListView", f"{OPPORTUNITY}.{name}", body)
    access = {f"{OPPORTUNITY}.{name}": column for name, column in columns.items()}
    access |= {f"{SOLUTION}.{name}": column for name, column in SOLUTION_COLUMNS.items()}
    yield Component("PermissionSet", INTEGRATION_SET, _integration_set(access))
    yield Component("PermissionSet", SELLER_SET, _seller_set(access))
    yield Component("LightningComponentBundle", PANEL, {})


def _field(column: Column) -> Body:
    body: dict[str, Any] = {
        "label": column.label,
        "type": column.type,
        "inlineHelpText": column.help,
        "description": column.description,
    }
    if column.default:
        body["defaultValue"] = column.default
    else:
        body["required"] = False
    if column.length:
        body["length"] = column.length
    if column.type == "LongTextArea":
        body["visibleLines"] = 4
        del body["required"]  # long texts know no such thing
    if column.type == "Text":
        body |= {"externalId": column.key, "unique": column.key}
        if column.key:
            body["caseSensitive"] = False
    if column.values:
        body["valueSet"] = {
            "restricted": True,
            "valueSetDefinition": {
                "sorted": False,
                "value": [{"fullName": value, "default": False, "label": value} for value in column.values],
            },
        }
    return body


def _master() -> Body:
    return {
        "label": "Opportunity",
        "type": "MasterDetail",
        "description": "The opportunity that this solution is sold with.",
        "referenceTo": OPPORTUNITY,
        "relationshipLabel": "Co-sell Solutions",
        "relationshipName": "Cosell_Solutions",
        "relationshipOrder": 0,
        "reparentableMasterDetail": False,
        "writeRequiresMasterRead": False,
    }


def _solution() -> Body:
    return {
        "label": "Co-sell Solution",
        "pluralLabel": "Co-sell Solutions",
        "description": "A solution of a co-sell deal, one row each. Partner Center asks for at least one before a deal is shared.",
        "deploymentStatus": "Deployed",
        "nameField": {"displayFormat": "CS-{000000}", "label": "Co-sell Solution", "type": "AutoNumber"},
        "sharingModel": "ControlledByParent",
    }


def _decline_rule(named: Mapping[str, str]) -> Body:
    return {
        "active": True,
        "description": "Microsoft is told why a deal is declined.",
        "errorConditionFormula": f'AND(ISPICKVAL({named["action"]}, "Decline"), ISBLANK(TEXT({named["reason"]})))',
        "errorDisplayField": named["reason"],
        "errorMessage": "Choose a co-sell reason before you decline.",
    }


def _list_views(named: Mapping[str, str]) -> Iterator[tuple[str, Body]]:
    def view(label: str, columns: Sequence[str], *filters: tuple[str, str, str]) -> Body:
        return {
            "label": f"Co-sell: {label}",
            "filterScope": "Everything",
            "columns": ["OPPORTUNITY.NAME", "ACCOUNT.NAME", *columns],
            "filters": [
                {"field": name, "operation": operation, "value": value} for name, operation, value in filters
            ],
        }

    amount, closes, stage = "OPPORTUNITY.AMOUNT", "OPPORTUNITY.CLOSE_DATE", "OPPORTUNITY.STAGE_NAME"
    status, direction, respond_by = named["status"], named["direction"], named["respond_by"]
    state, microsoft = named["sync_state"], named["microsoft_status"]
    yield (
        "Cosell_Inbound",
        view("Inbound", (amount, closes, stage, status, respond_by, state), (direction, "equals", "Inbound")),
    )
    yield (
        "Cosell_Outbound",
        view(
            "Outbound", (amount, closes, stage, status, microsoft, state), (direction, "equals", "Outbound")
        ),
    )
    yield (
        "Cosell_Favorites",
        view(
            "Favorites", (amount, closes, stage, direction, status, state), (named["favorite"], "equals", "1")
        ),
    )
    yield (
        "Cosell_Needs_Attention",
        view(
            "Needs attention",
            (stage, direction, status, state, named["last_sync"]),
            (state, "equals", f"{SyncState.NEEDS_ATTENTION},{SyncState.CONFLICT}"),
        ),
    )
    yield (
        "Cosell_Expiring",
        view(
            "Expiring",
            (amount, respond_by, stage, direction, state),
            (status, "equals", State.RECEIVED.value),
            (respond_by, "greaterOrEqual", "TODAY"),
            (respond_by, "lessOrEqual", "NEXT_N_DAYS:7"),
        ),
    )


def _integration_set(access: Mapping[str, Column]) -> Body:
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
            {"editable": access[name].seller == "edit", "field": name, "readable": True}
            for name in sorted(access)
        ],
    }


def _object_rights(permission_set: str) -> list[Body]:
    return [
        {**{right: right in rights for right in RIGHTS}, "object": name}
        for name, rights in sorted(OBJECT_RIGHTS[permission_set].items())
    ]
