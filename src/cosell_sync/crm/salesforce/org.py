"""What an org can hold, read once from the org itself: one composite of describes and three small queries.

Orgs differ: several currencies or one, team selling or not, address picklists or free text, our fields installed or
not, hidden from the integration user or not (which describe cannot tell apart). Every query and every write is built
from what was found here, so that nothing asks for a column that is not there.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-sobject-describe.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from simple_salesforce.exceptions import SalesforceError, SalesforceResourceNotFound

from cosell_sync.core.deal import KINDS, Kind
from cosell_sync.crm.fields import locked, shown
from cosell_sync.crm.salesforce import composite, errors, states
from cosell_sync.crm.salesforce.composite import Part, Reply
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Surprise
from cosell_sync.ports import CrmShape, StageFlags

OPPORTUNITY: Final = "Opportunity"
ACCOUNT: Final = "Account"
CONTACT: Final = "Contact"
ROLE: Final = "OpportunityContactRole"
TEAM: Final = "OpportunityTeamMember"
SOLUTION: Final = "Cosell_Solution__c"
KEY: Final = "Cosell_Key__c"  # external id of a solution row, `referral:solution`

# Our names → default CRM fields of Opportunity. `customer`, `team`, `contacts`, `solutions` are rows of their own.
DEFAULT_NAMES: Final[Mapping[str, str]] = {
    "name": "Name",
    "value": "Amount",
    "currency": "CurrencyIsoCode",
    "close_date": "CloseDate",
    "stage": "StageName",
    "campaign_id": "Cosell_Campaign_Id__c",
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
LABELS: Final[Mapping[str, str]] = {
    "customer": "Account",
    "team": "Opportunity Team",
    "contacts": "Contact Roles",
    "solutions": "Co-sell Solutions",
}


def field_names(given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The default names with those of the configuration laid over them; names of no column are left out."""
    taken = {name: crm for name, crm in (given or {}).items() if name in DEFAULT_NAMES}
    return {**DEFAULT_NAMES, **taken}


Field = Mapping[str, Any]


@dataclass(frozen=True)
class Org:
    """``names``: our name → field of Opportunity, those that exist. ``fields``: object → field → its describe."""

    names: Mapping[str, str]
    fields: Mapping[str, Mapping[str, Field]]
    stages: Mapping[str, StageFlags] = field(default_factory=dict)
    states: tuple[states.Choice, ...] = ()
    currencies: Mapping[str, bool] = field(default_factory=dict)  # ISO code → corporate
    user_id: str = ""  # the integration user

    def has(self, name: str, column: str | None = None) -> bool:
        """Whether the object is there (and has that field)."""
        columns = self.fields.get(name)
        return columns is not None and (column is None or column in columns)

    def may(self, name: str, column: str, right: str) -> bool:
        """Whether the integration user may write it: ``createable`` or ``updateable``."""
        return bool((self.fields.get(name) or {}).get(column, {}).get(right))

    @property
    def locked(self) -> frozenset[str]:
        """Our fields whose column the integration user may not change."""
        columns = self.fields[OPPORTUNITY]
        return locked({name: columns[crm].get("updateable") is not False for name, crm in self.names.items()})

    def makes(self, column: str) -> bool:
        """Whether a new opportunity may be given that column."""
        return self.fields[OPPORTUNITY][column].get("createable") is not False

    @property
    def codes(self) -> bool:
        return self.has(ACCOUNT, "BillingCountryCode")

    @property
    def country(self) -> str:
        return "BillingCountryCode" if self.codes else "BillingCountry"

    @property
    def state(self) -> str:
        return "BillingStateCode" if self.codes else "BillingState"

    @property
    def team(self) -> bool:
        return self.has(TEAM)

    @property
    def solutions(self) -> bool:
        return self.has(SOLUTION, "Solution_Id__c") and self.has(SOLUTION, "Opportunity__c")

    @property
    def labels(self) -> Mapping[str, str]:
        """CRM field → label, over all objects we write; Opportunity's win."""
        order = (SOLUTION, TEAM, ROLE, CONTACT, ACCOUNT, OPPORTUNITY)
        return {
            column: str(each.get("label") or column)
            for name in order
            for column, each in (self.fields.get(name) or {}).items()
        }

    @property
    def ours(self) -> Mapping[str, str]:
        """CRM field → our name."""
        return {crm: name for name, crm in self.names.items()}

    def _address_labels(self) -> dict[str, str]:
        """What the seller calls the parts of the customer, which stand on the account."""
        parts = {
            "name": "Name",
            "address_line1": "BillingStreet",
            "city": "BillingCity",
            "country": self.country,
        }
        columns = self.fields.get(ACCOUNT) or {}
        return {
            f"customer.{part}": str(columns[column]["label"])
            for part, column in parts.items()
            if columns.get(column, {}).get("label")
        }

    def _customer_lengths(self) -> dict[str, int]:
        """What the account's own columns hold; street lines share one, and codes never outgrow theirs."""
        parts = {"name": "Name", "city": "BillingCity", "postal_code": "BillingPostalCode"}
        columns = self.fields.get(ACCOUNT) or {}
        return {
            f"customer.{part}": int(columns[column]["length"])
            for part, column in parts.items()
            if columns.get(column, {}).get("length")
        }

    def shape(self) -> CrmShape:
        columns = self.fields[OPPORTUNITY]
        described = {name: columns[crm] for name, crm in self.names.items()}
        amount = described.get("value", {})
        digits = int(amount.get("precision") or 18)
        scale = int(amount.get("scale") or 0) if amount else 2
        corporate = next((code for code, is_own in self.currencies.items() if is_own), None)
        return CrmShape(
            fields=shown(described, solutions=self.solutions),
            stages=self.stages,
            labels={
                **LABELS,
                **self._address_labels(),
                **{name: str(each.get("label") or name) for name, each in described.items()},
            },
            lengths={
                **self._customer_lengths(),
                **{
                    name: int(each["length"])
                    for name, each in described.items()
                    if KINDS[name] in {Kind.TEXT, Kind.NOTES} and each.get("length")
                },
            },
            digits=digits,
            scale=scale,
            default_currency=corporate,
            currencies=frozenset(self.currencies) if "currency" in self.names else frozenset(),
            picklists={
                name: frozenset(
                    str(value["value"]) for value in each["picklistValues"] if value.get("active", True)
                )
                for name, each in described.items()
                if each.get("type") == "picklist" and each.get("picklistValues")
            },
            maximum=(Decimal(10) ** digits - 1).scaleb(-scale),
        )


def read(rest: Rest, names: Mapping[str, str]) -> Org:
    """One call. Raises ``Surprise`` where the field that joins the two systems is missing."""
    objects = (OPPORTUNITY, ACCOUNT, CONTACT, ROLE, TEAM, SOLUTION)
    parts = [Part("GET", f"sobjects/{name}/describe") for name in objects]
    parts.append(composite.query("SELECT ApiName, IsClosed, IsWon, IsActive FROM OpportunityStage"))
    parts.append(composite.query("SELECT IsoCode, IsCorporate FROM CurrencyType WHERE IsActive = true"))
    replies, at = composite.send(rest, parts, repeat=True)
    described = {name: _described(rest, name, reply) for name, reply in zip(objects, replies, strict=False)}
    fields = {name: found for name, found in described.items() if found is not None}
    for name in (OPPORTUNITY, ACCOUNT, CONTACT, ROLE):
        if name not in fields:
            raise Surprise(
                f"the integration user cannot see {name}; grant it in the permission set `Cosell Sync`",
                system=SYSTEM,
                object=name,
            )
    columns = fields[OPPORTUNITY]
    key = names["referral_id"]
    if key not in columns:
        raise Surprise(
            f"Opportunity has no field {key} that the integration user can read; run `cosell-sync provision`, then "
            "assign the permission set `Cosell Sync` to the integration user",
            system=SYSTEM,
            field=key,
        )
    stages, currencies = replies[len(objects) :]
    return Org(
        names={name: crm for name, crm in names.items() if crm in columns},
        fields=fields,
        stages={
            str(row["ApiName"]): StageFlags(closed=bool(row["IsClosed"]), won=bool(row["IsWon"]))
            for row in composite.rows(stages, at).rows
            if row.get("IsActive", True)
        },
        states=states.known(list(fields[ACCOUNT].values())),
        currencies=_currencies(currencies, columns, at),
        user_id=rest.user_id,
    )


def _currencies(reply: Reply, columns: Mapping[str, Field], at: Any) -> Mapping[str, bool]:
    """Only orgs with several currencies have CurrencyType; others say INVALID_TYPE, which is an answer."""
    if not reply.fine:
        codes = {fault.code for fault in errors.faults(reply.body)}
        if "CurrencyIsoCode" in columns or not codes & {"INVALID_TYPE", "NOT_FOUND"}:
            raise composite.refused(errors.faults(reply.body), reply.status)
        return {}
    return {str(row["IsoCode"]): bool(row["IsCorporate"]) for row in composite.rows(reply, at).rows}


def _described(rest: Rest, name: str, reply: Reply) -> Mapping[str, Field] | None:
    """None where the object is not there, or hidden. Should the org not describe inside a composite, ask it alone."""
    body = reply.body
    if reply.status == 404:
        return None
    if not reply.fine:
        try:
            body = getattr(rest.salesforce(), name).describe()
        except SalesforceResourceNotFound:
            return None
        except SalesforceError as error:
            raise composite.refused(errors.faults(error.content), error.status) from None
    found = body.get("fields") if isinstance(body, Mapping) else None
    if not isinstance(found, list):
        raise composite.strange()
    return {str(each["name"]): each for each in found}
