"""What an org has and can hold: names of objects and fields, and `Org`, as `describe` reads it; pure.

Orgs differ: several currencies or one, team selling or not, address picklists or free text, our fields installed or not, or
hidden from the integration user (which describe cannot tell apart). Every query and every write is built from `Org`, so that
nothing asks for a field that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

from cosell_sync.core.fields import ASKED_PER_DEAL, KINDS, Kind
from cosell_sync.core.texts import Text
from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS
from cosell_sync.crm.fields import read_only_fields, readable_fields
from cosell_sync.crm.salesforce import states
from cosell_sync.crm.words import region_of
from cosell_sync.ports import CrmShape, StageFlags

OPPORTUNITY: Final = "Opportunity"
ACCOUNT: Final = "Account"
CONTACT: Final = "Contact"
ROLE: Final = "OpportunityContactRole"
TEAM: Final = "OpportunityTeamMember"
SOLUTION: Final = "Cosell_Solution__c"
USER: Final = "User"
PERSON_PARTS: Final[Mapping[str, str]] = {
    "FirstName": "first_name",
    "LastName": "last_name",
    "Phone": "phone",
}  # column of contacts and users → part of a member
# The account's field for the D-U-N-S number: the platform's own where the org has Data.com, else ours.
# https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_account.htm
DUNS: Final = ("DunsNumber", "Cosell_Duns__c")
KEY: Final = "Cosell_Key__c"  # external id of a solution row, `referral:solution`

# Our names → default CRM fields of Opportunity. `customer`, `team`, `contacts`, `solutions` are rows of their own.
DEFAULT_NAMES: Final[Mapping[str, str]] = {
    "name": "Name",
    "value": "Amount",
    "currency": "CurrencyIsoCode",
    "close_date": "CloseDate",
    "stage": "StageName",
    "campaign_id": "Cosell_Campaign_Id__c",
    "marketplace_intent": "Cosell_Marketplace_Intent__c",
    "partner_role": "Cosell_Partner_Role__c",
    "solution_area": "Cosell_Solution_Area__c",
    "solution_play": "Cosell_Solution_Play__c",
    "location": "Cosell_Location__c",
    "notes": "Cosell_Notes__c",
    "favorite": "Cosell_Favorite__c",
    "sync": "Cosell_Sync__c",
    "action": "Cosell_Action__c",
    "reason": "Cosell_Reason__c",
    "reason_note": "Cosell_Reason_Note__c",
    "visible": "Cosell_Visible_To_Microsoft__c",
    "help": "Cosell_Help__c",
    "help_note": "Cosell_Help_Note__c",
    "consent": "Cosell_Consent__c",
    "referral_id": "Cosell_Referral_Id__c",
    "referral_link": "Cosell_Referral_Link__c",
    "status": "Cosell_Status__c",
    "direction": "Cosell_Direction__c",
    "deal_type": "Cosell_Deal_Type__c",
    "respond_by": "Cosell_Respond_By__c",
    "microsoft_status": "Cosell_Microsoft_Status__c",
    "microsoft_id": "Cosell_Microsoft_Id__c",
    "sync_state": "Cosell_Sync_State__c",
    "message": "Cosell_Message__c",
    "last_sync": "Cosell_Last_Sync__c",
}
REFERRAL_ID: Final = 64  # what our own column for it holds
# Where describe does not say: as shipped. Street: both lines in one column.
# https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_contact.htm
LENGTHS: Final[Mapping[str, int]] = {
    "Name": 255,
    "BillingStreet": 255,
    "BillingCity": 40,
    "BillingState": 80,
    "BillingPostalCode": 20,
    "BillingCountry": 80,
    "FirstName": 40,
    "LastName": 80,
    "Phone": 40,
    "Email": 80,
}
# Our field, the object that holds it, our part → its column.
_PARTS: Final[tuple[tuple[str, str, Mapping[str, str]], ...]] = (
    (
        "customer",
        ACCOUNT,
        {
            "name": "Name",
            "street": "BillingStreet",
            "city": "BillingCity",
            "postal_code": "BillingPostalCode",
        },
    ),
    (
        "contacts",
        CONTACT,
        {"email": "Email", "first_name": "FirstName", "last_name": "LastName", "phone": "Phone"},
    ),
    ("solutions", SOLUTION, {"id": "Solution_Id__c", "name": "Solution_Name__c"}),
)
LABELS: Final[Mapping[str, str]] = {
    "customer": Text("Account"),
    "team": Text("Opportunity Team"),
    "contacts": Text("Contact Roles"),
    "solutions": Text("Co-sell Solutions"),
}


# Fields that are read only where they are configured.
OPTIONAL: Final = frozenset({"loss_reason"})


def field_names(given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Our name → field: the defaults, replaced by those of the configuration. Names that have no field are left out."""
    taken = {name: crm for name, crm in (given or {}).items() if name in {*DEFAULT_NAMES, *OPTIONAL}}
    return {**DEFAULT_NAMES, **taken}


Field = Mapping[str, Any]


@dataclass(frozen=True)
class Org:
    """One org. ``names``: our name → field of Opportunity, those that exist. ``fields``: object → field → its describe."""

    names: Mapping[str, str]
    fields: Mapping[str, Mapping[str, Field]]
    stages: Mapping[str, StageFlags] = field(default_factory=dict)
    countries: tuple[states.Choice, ...] = ()
    states: tuple[states.Choice, ...] = ()
    currencies: Mapping[str, bool] = field(default_factory=dict)  # ISO code → corporate
    user_id: str = ""  # the integration user
    locale: str = ""  # of the organization, as es_MX; empty where it does not say
    zone: str = ""  # of the organization, as America/Mexico_City

    def has(self, name: str, column: str | None = None) -> bool:
        """Whether the object exists (and has that field)."""
        columns = self.fields.get(name)
        return columns is not None and (column is None or column in columns)

    def may(self, name: str, column: str, right: str) -> bool:
        """Whether the integration user may write it: ``createable`` or ``updateable``."""
        return bool((self.fields.get(name) or {}).get(column, {}).get(right))

    def sees(self, name: str, column: str) -> bool:
        """Whether the integration user may read that field, by describe; field-level security leaves a hidden one out."""
        columns = self.fields.get(name)
        return columns is not None and column in columns

    def seen(self, name: str, columns: Iterable[str]) -> tuple[str, ...]:
        """Those of the fields that the integration user may read."""
        return tuple(column for column in columns if self.sees(name, column))

    @cached_property
    def address(self) -> tuple[str, ...]:
        """The fields of an account that make a customer."""
        return ("Name", "BillingStreet", "BillingCity", self.state, "BillingPostalCode", self.country)

    @cached_property
    def duns(self) -> str | None:
        """The account's field for the D-U-N-S number; None where the integration user sees none."""
        return next(iter(self.seen(ACCOUNT, DUNS)), None)

    @property
    def customer_columns(self) -> tuple[str, ...]:
        """The fields of an account that are read of a customer."""
        return self.seen(ACCOUNT, (*self.address, *([self.duns] if self.duns else [])))

    @property
    def reads_account(self) -> bool:
        """Whether an opportunity's account can be reached: without its lookup no path leads there."""
        return self.sees(OPPORTUNITY, "AccountId")

    @property
    def identifies_accounts(self) -> bool:
        """Whether accounts can be told apart: by name, postal code and country. Without one of them none is looked up or made."""
        return (
            self.reads_account and len(self.seen(ACCOUNT, ("Name", "BillingPostalCode", self.country))) == 3
        )

    @cached_property
    def hidden(self) -> Mapping[str, tuple[str, ...]]:
        """Our field → the hidden fields for which it is not read at all: what is out of sight must never look empty."""
        account = () if self.reads_account else (f"{OPPORTUNITY}.AccountId",)
        found = {
            "customer": account or self._hidden(ACCOUNT, self.address),
            "contacts": self._hidden(CONTACT, ("Email", "AccountId")) + self._hidden(ROLE, ("ContactId",)),
            "team": self._hidden(USER, ("Email", "IsActive")),
            "owner_email": self._hidden(USER, ("Email",)),
        }
        return {name: columns for name, columns in found.items() if columns}

    @property
    def hidden_parts(self) -> Mapping[str, tuple[str, ...]]:
        """Our field → the hidden fields of its members: the members are synchronised without these."""
        optional = ("Solution_Name__c", "Solution_Type__c")
        found = {
            "contacts": self._hidden(CONTACT, PERSON_PARTS),
            "team": self._hidden(USER, PERSON_PARTS),
            "solutions": self._hidden(SOLUTION, optional) if self.solutions else (),
        }
        return {name: columns for name, columns in found.items() if columns}

    def _hidden(self, name: str, columns: Iterable[str]) -> tuple[str, ...]:
        return tuple(f"{name}.{column}" for column in columns if not self.sees(name, column))

    def unknown_parts(self, name: str) -> tuple[str, ...]:
        """The parts of a contact or user that cannot be read."""
        return self._unknown_parts[name]

    @cached_property
    def _unknown_parts(self) -> Mapping[str, tuple[str, ...]]:
        return {
            name: tuple(part for column, part in PERSON_PARTS.items() if not self.sees(name, column))
            for name in (CONTACT, USER)
        }

    @cached_property
    def read_only(self) -> frozenset[str]:
        """Our fields whose column the integration user may not change."""
        columns = self.fields[OPPORTUNITY]
        return read_only_fields(
            {name: columns[crm].get("updateable") is not False for name, crm in self.names.items()}
        )

    def makes(self, column: str) -> bool:
        """Whether a new opportunity may be given that column."""
        return self.fields[OPPORTUNITY][column].get("createable") is not False

    @cached_property
    def codes(self) -> bool:
        """Whether the org has State and Country/Territory Picklists, so that addresses are written as codes."""
        return self.has(ACCOUNT, "BillingCountryCode")

    @cached_property
    def country(self) -> str:
        """The account's field for the country: the code where the org has codes."""
        return "BillingCountryCode" if self.codes else "BillingCountry"

    @cached_property
    def state(self) -> str:
        """The account's field for the state: the code where the org has codes."""
        return "BillingStateCode" if self.codes else "BillingState"

    @property
    def team(self) -> bool:
        """Whether team selling is on."""
        return self.has(TEAM)

    @cached_property
    def solutions(self) -> bool:
        """Whether the object of solutions can be used."""
        return self.has(SOLUTION, "Solution_Id__c") and self.has(SOLUTION, "Opportunity__c")

    @property
    def labels(self) -> Mapping[str, str]:
        """CRM field → label, over all objects we write. Where several have the field, Opportunity's label counts."""
        order = (SOLUTION, TEAM, ROLE, CONTACT, ACCOUNT, OPPORTUNITY)
        return {
            column: str(each.get("label") or column)
            for name in order
            for column, each in (self.fields.get(name) or {}).items()
        }

    @cached_property
    def columns(self) -> tuple[tuple[str, str, Kind, bool], ...]:
        """Our name, its field of Opportunity, the kind of its values, and whether the field is encrypted."""
        types = {crm: each.get("type") for crm, each in self.fields[OPPORTUNITY].items()}
        return tuple(
            (name, crm, KINDS[name], types.get(crm) == "encryptedstring") for name, crm in self.names.items()
        )

    @cached_property
    def ours(self) -> Mapping[str, str]:
        """CRM field → our name."""
        return {crm: name for name, crm in self.names.items()}

    def _address_labels(self) -> dict[str, str]:
        """What the seller calls the parts of the customer, which are fields of the account."""
        parts = {
            "name": "Name",
            "address_line1": "BillingStreet",
            "address_line2": "BillingStreet",
            "city": "BillingCity",
            "state": self.state,
            "postal_code": "BillingPostalCode",
            "country": self.country,
            "duns": self.duns or "",
        }
        columns = self.fields.get(ACCOUNT) or {}
        return {
            f"customer.{part}": str(columns[column]["label"])
            for part, column in parts.items()
            if columns.get(column, {}).get("label")
        }

    def _customer_lengths(self) -> dict[str, int]:
        """What the columns of the account, of contacts and solutions hold; codes never outgrow theirs."""
        lengths = {
            f"{kind}.{part}": self.length(name, column)
            for kind, name, parts in _PARTS
            for part, column in parts.items()
        }
        if not self.codes:
            lengths |= {
                "customer.state": self.length(ACCOUNT, "BillingState"),
                "customer.country": self.length(ACCOUNT, "BillingCountry"),
            }
        if KEY in (self.fields.get(SOLUTION) or {}) and (whole := self.length(SOLUTION, KEY)):
            code = self.length(SOLUTION, "Solution_Id__c") or whole
            lengths["solutions.id"] = min(code, whole - REFERRAL_ID - len(":"))
        return {name: length for name, length in lengths.items() if length}

    def length(self, name: str, column: str) -> int | None:
        """Code units that a text column holds: as described, else as the platform ships it; None: not known."""
        told = (self.fields.get(name) or {}).get(column, {}).get("length")
        return int(told) if told else LENGTHS.get(column) if name in {ACCOUNT, CONTACT} else None

    def _listed_countries(self) -> dict[str, frozenset[str]]:
        listed = {
            states.country(self.countries, each.code) or each.code for each in self.countries if each.active
        }
        return {"customer.country": frozenset(listed)} if self.countries else {}

    def shape(self) -> CrmShape:
        """What the org can hold, in our names."""
        columns = self.fields[OPPORTUNITY]
        described = {name: columns[crm] for name, crm in self.names.items()}
        amount = described.get("value", {})
        digits = int(amount.get("precision") or 18)
        scale = int(amount.get("scale") or 0) if amount else 2
        labels = {name: str(each.get("label") or name) for name, each in described.items()}
        return CrmShape(
            fields=readable_fields(described, solutions=self.solutions),
            stages=self.stages,
            labels={**LABELS, **self._address_labels(), **labels},
            lengths={**self._customer_lengths(), **_text_lengths(described)},
            digits=digits,
            scale=scale,
            default_currency=next((code for code, is_own in self.currencies.items() if is_own), None),
            currencies=frozenset(self.currencies) if "currency" in self.names else frozenset(),
            picklists={**_picklists(described), **self._listed_countries()},
            states=states.by_name(self.states, self.countries) if self.countries else None,
            choices=_choices(described),
            region=region_of(self.locale),
            zone=self.zone,
            maximum=(most := (Decimal(10) ** digits - 1).scaleb(-scale)),
            minimum=-most,
            duns=self.duns is not None and self.may(ACCOUNT, self.duns, "updateable"),
        )


def _text_lengths(described: Mapping[str, Field]) -> dict[str, int]:
    texts = {name: each for name, each in described.items() if KINDS[name] in {Kind.TEXT, Kind.NOTES}}
    return {name: int(each["length"]) for name, each in texts.items() if each.get("length")}


def _choices(described: Mapping[str, Field]) -> dict[str, dict[str, str]]:
    """Our name → value of its picklist → its label in the integration user's language."""
    return {
        name: {
            str(value["value"]): str(value.get("label") or value["value"]) for value in each["picklistValues"]
        }
        for name, each in described.items()
        if name in OPPORTUNITY_COLUMNS and each.get("type") == "picklist" and each.get("picklistValues")
    }


def _picklists(described: Mapping[str, Field]) -> dict[str, frozenset[str]]:
    """Our name → active values of its picklist. One that is not restricted takes other values from us, too: what Partner
    Center asks per deal is written there as it is.
    https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/field_types.htm
    """
    return {
        name: frozenset(
            str(value["value"]) for value in each.get("picklistValues") or () if value.get("active", True)
        )
        for name, each in described.items()
        if each.get("type") == "picklist"
        and (each.get("restrictedPicklist") if name in ASKED_PER_DEAL else each.get("picklistValues"))
    }
