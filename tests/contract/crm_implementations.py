"""The three implementations of the CRM that ``test_crm`` compares (memory, Salesforce, Dynamics), with edits of their people.

What differs is written down as a trait, with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

from adapters import served_dynamics, served_salesforce
from adapters.served_dynamics import SAM
from cosell_sync.core.deal import Customer, Member, Side, Value
from cosell_sync.ports import Crm
from cosell_sync.sandbox.certificates import Certificates
from memory_systems import CrmKind, Fault, MemoryCrm, Outside

COLLEAGUE = Member(SAM)
STRANGER = Member("nobody@elsewhere.example")
FABRIKAM = Customer("Fabrikam", "Main St 1", None, "Berlin", None, "10115", "DE")
BAD = "Bad"  # a name that the CRM does not take


@dataclass(frozen=True)
class Traits:
    """How one CRM differs from the others."""

    pulls_deletions: bool = True
    undeletes: bool = True
    locks: bool = False  # a closed row takes no columns
    holds_strangers: bool = False  # a team member who is no user
    sees_lookalikes: bool = True
    answers_unread: bool = True  # what landed is read back in the same call


class Place(Protocol):
    """A CRM with people in it. Fields are ours: name, value, close_date, notes, stage, contacts, solutions, customer."""

    crm: Crm
    traits: Traits
    stages: Mapping[str, str]  # open, other, won

    def tick(self, seconds: float = 10) -> None: ...
    def deal(self, **fields: Any) -> str: ...
    def edit(self, deal: str, **fields: Any) -> None:
        """Solutions are added."""

    def late(self, deal: str, by: timedelta, **fields: Any) -> None:
        """An edit that was stamped earlier than it could be seen."""

    def call(self, deal: str, email: str, phone: str) -> None:
        """Somebody corrects a contact of the deal."""

    def delete(self, deal: str) -> None: ...
    def undelete(self, deal: str) -> None: ...
    def merge(self, winner: str, deal: str) -> None:
        """The account of the deal is merged into one of this name."""

    def picky(self) -> None:
        """From now on nobody may be called ``BAD``."""

    def refuse_notes(self, *, named: bool) -> None:
        """From now on notes may not read ``BAD``. ``named``: whether the refusal says that it is about the notes."""

    def refuse_account(self, deal: str) -> None:
        """The account of the deal cannot be changed by us."""

    def refuse_member(self) -> None:
        """The colleague can be on no team."""

    def rewriting(self, old: str, new: str) -> None:
        """An automation puts one name in the place of another."""

    def lost(self) -> None:
        """The next write lands, and its answer is lost."""

    def away(self) -> None: ...
    def back(self) -> None: ...


class InMemory:
    def __init__(self, kind: CrmKind) -> None:
        self.outside = Outside(kind)
        self.crm: Crm = MemoryCrm(self.outside)
        # Its rows hold any member; look-alikes are told to it.
        self.traits = Traits(locks=kind.locks, holds_strangers=True, sees_lookalikes=False)
        self.stages = {"open": "Qualification", "other": "Prospecting", "won": "Closed Won"}

    def tick(self, seconds: float = 10) -> None:
        self.outside.now += timedelta(seconds=seconds)

    def deal(self, **fields: Any) -> str:
        given = {"team": (), "contacts": (), "solutions": (), "customer": FABRIKAM, "sync": True}
        made = self.outside.new_opportunity(**{"stage": self.stages["open"], **given, **fields}).id
        self.tick()
        return made

    def edit(self, deal: str, **fields: Any) -> None:
        if "solutions" in fields:
            held = self.outside.opportunities[deal].fields["solutions"]
            fields["solutions"] = (*held, *fields["solutions"])  # type: ignore[misc]
        assert self.outside.people(Side.CRM, deal, fields)

    def late(self, deal: str, by: timedelta, **fields: Any) -> None:
        assert self.outside.people(Side.CRM, deal, fields, by)

    def call(self, deal: str, email: str, phone: str) -> None:
        held = self.outside.opportunities[deal].fields["contacts"]
        assert isinstance(held, tuple)
        others = tuple(each for each in held if each.key != email)
        self.edit(deal, contacts=(*others, Member(email, phone=phone)))

    def delete(self, deal: str) -> None:
        self.outside.vanish(Side.CRM, deal, gone=True)

    def undelete(self, deal: str) -> None:
        self.outside.vanish(Side.CRM, deal, gone=False)

    def merge(self, winner: str, deal: str) -> None:
        self.edit(deal, customer=Customer(winner))

    def picky(self) -> None:
        self.outside.bad_names.add(BAD)

    def refuse_notes(self, *, named: bool) -> None:
        self.outside.refuses["notes"] = lambda value: value == BAD

    def refuse_account(self, deal: str) -> None:
        self.outside.refuses["customer"] = lambda value: True

    def refuse_member(self) -> None:
        self.outside.refuses["team"] = lambda value: COLLEAGUE in value  # type: ignore[operator]

    def rewriting(self, old: str, new: str) -> None:
        self.outside.flow = lambda name, value: new if (name, value) == ("name", old) else value

    def lost(self) -> None:
        self.outside.faults.append(Fault("crm", "lost"))

    def away(self) -> None:
        self.outside.faults.append(Fault("crm", "away"))

    def back(self) -> None:
        self.outside.faults.clear()


class OnSalesforce:
    def __init__(self, certificates: Certificates, bundle: Path) -> None:
        self.world = served_salesforce.World(certificates, bundle)
        self.world.server.start()
        self.crm: Crm = self.world.client()
        self.traits = Traits()
        self.stages = {"open": "Qualification", "other": "Prospecting", "won": "Closed Won"}

    def close(self) -> None:
        self.world.close()
        assert self.world.server.errors == []

    def tick(self, seconds: float = 10) -> None:
        self.world.clock.tick(seconds)

    def deal(self, **fields: Any) -> str:
        org = self.world.org
        customer: Customer = fields.pop("customer", FABRIKAM)
        accounts = org.rows("Account", Name=customer.name)
        account = accounts[0]["Id"] if accounts else org.create(
            "Account", Name=customer.name, BillingStreet=customer.address_line1, BillingCity=customer.city,
            BillingPostalCode=customer.postal_code, BillingCountry="Germany",
        )  # fmt: skip
        around = {name: fields.pop(name, ()) for name in ("contacts", "solutions")}
        made = self.world.deal(AccountId=account, **self._columns({"stage": self.stages["open"], **fields}))
        for each in around["contacts"]:
            contact = org.create("Contact", LastName="Some", Email=each.email, AccountId=account)
            org.create("OpportunityContactRole", OpportunityId=made, ContactId=contact)
        for each in around["solutions"]:
            org.create("Cosell_Solution__c", Opportunity__c=made, Solution_Id__c=each.id)
        self.tick()
        return made

    def _columns(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        names = {
            "name": "Name", "value": "Amount", "close_date": "CloseDate", "notes": "Cosell_Notes__c",
            "stage": "StageName", "sync": "Cosell_Sync__c", "referral_id": "Cosell_Referral_Id__c",
        }  # fmt: skip
        return {names[name]: _plain(value) for name, value in fields.items()}

    def edit(self, deal: str, **fields: Any) -> None:
        for each in fields.pop("solutions", ()):
            self.world.org.create("Cosell_Solution__c", Opportunity__c=deal, Solution_Id__c=each.id)
        if fields:
            self.world.org.edit("Opportunity", deal, **self._columns(fields))

    def late(self, deal: str, by: timedelta, **fields: Any) -> None:
        self.world.clock.now -= by
        self.edit(deal, **fields)
        self.world.clock.now += by

    def call(self, deal: str, email: str, phone: str) -> None:
        (contact,) = self.world.org.rows("Contact", Email=email)
        self.world.org.edit("Contact", contact["Id"], Phone=phone)

    def delete(self, deal: str) -> None:
        self.world.org.delete("Opportunity", deal)

    def undelete(self, deal: str) -> None:
        self.world.org.undelete("Opportunity", deal)

    def merge(self, winner: str, deal: str) -> None:
        org = self.world.org
        org.merge_accounts(org.create("Account", Name=winner), str(org.get("Opportunity", deal)["AccountId"]))

    def picky(self) -> None:
        self.world.org.add_validation_rule("Opportunity", lambda row: row["Name"] == BAD, "Not so.")

    def refuse_notes(self, *, named: bool) -> None:
        place = ("Cosell_Notes__c",) if named else ()
        self.world.org.add_validation_rule(
            "Opportunity", lambda row: row["Cosell_Notes__c"] == BAD, "Not so.", place
        )

    def refuse_account(self, deal: str) -> None:
        self.world.org.make_read_only(str(self.world.org.get("Opportunity", deal)["AccountId"]))

    def refuse_member(self) -> None:
        (user,) = self.world.org.rows("User", Email=SAM)
        self.world.org.take_membership(str(user["Id"]))

    def rewriting(self, old: str, new: str) -> None:
        def flow(_before: Any, changes: Any) -> Any:
            return {"Name": new} if changes.get("Name") == old else {}

        self.world.org.add_automation("Opportunity", flow)

    def lost(self) -> None:
        self.world.server.faults.reset_after(
            method="POST", path=r"/composite(/sobjects.*)?$", body='PATCH|"records"'
        )

    def away(self) -> None:
        self.world.server.faults.answer(503, [{"errorCode": "SERVER_UNAVAILABLE"}], times=None)

    def back(self) -> None:
        self.world.server.faults.clear()


class OnDynamics:
    def __init__(self, certificates: Certificates, bundle: Path, *, tracking: bool) -> None:
        self.world = served_dynamics.World(certificates, bundle)
        self.world.server.start()
        if not tracking:
            for table in ("opportunity", "connection", "cosell_solution"):
                self.world.org.set_change_tracking(table, False)
        self.crm: Crm = self.world.client()
        # Polled by `modifiedon`, a row that is gone shows nowhere; the full compare misses it. Dataverse keeps no bin.
        self.traits = Traits(pulls_deletions=tracking, undeletes=False, locks=True)
        self.stages = {"open": "In Progress", "other": "On Hold", "won": "Won"}

    def close(self) -> None:
        self.world.close()
        assert self.world.server.errors == []

    def tick(self, seconds: float = 10) -> None:
        self.world.clock.tick(seconds)

    def deal(self, **fields: Any) -> str:
        customer: Customer = fields.pop("customer", FABRIKAM)
        accounts = self.world.org.rows("account", name=customer.name)
        account = accounts[0]["accountid"] if accounts else self.world.account(
            str(customer.name), address1_line1=customer.address_line1
        )  # fmt: skip
        around = {name: fields.pop(name, ()) for name in ("contacts", "solutions")}
        stage = fields.pop("stage", self.stages["open"])
        columns = self._columns(fields) | ({} if stage == "Won" else {"statuscode": stage})
        made = self.world.deal(parentaccountid=account, customerid=account, **columns)
        for each in around["contacts"]:
            self.world.org.connect(made, self.world.contact(each.email, account))
        for each in around["solutions"]:
            self.world.solution(made, each.id)
        if stage == "Won":
            self.world.org.close(made, won=True)
        self.tick()
        return made

    def _columns(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        names = {
            "name": "name", "value": "estimatedvalue", "close_date": "estimatedclosedate", "notes": "cosell_notes",
            "stage": "statuscode", "sync": "cosell_sync", "referral_id": "cosell_referralid",
        }  # fmt: skip
        return {names[name]: _plain(value) for name, value in fields.items()}

    def edit(self, deal: str, **fields: Any) -> None:
        for each in fields.pop("solutions", ()):
            self.world.solution(deal, each.id)
        if fields:
            self.world.org.edit("opportunity", deal, **self._columns(fields))

    def late(self, deal: str, by: timedelta, **fields: Any) -> None:
        self.world.clock.now -= by
        self.edit(deal, **fields)
        self.world.clock.now += by

    def call(self, deal: str, email: str, phone: str) -> None:
        (contact,) = self.world.org.rows("contact", emailaddress1=email)
        self.world.org.edit("contact", contact["contactid"], telephone1=phone)

    def delete(self, deal: str) -> None:
        self.world.org.delete("opportunity", deal)

    def undelete(self, deal: str) -> None:
        raise NotImplementedError

    def merge(self, winner: str, deal: str) -> None:
        org = self.world.org
        org.merge_accounts(self.world.account(winner), str(org.get("opportunity", deal)["parentaccountid"]))

    def picky(self) -> None:
        self.world.org.add_validation_rule("opportunity", lambda row: row.get("name") == BAD, "Not so.")

    def refuse_notes(self, *, named: bool) -> None:
        text = "The value of 'cosell_notes' is not so." if named else "Not so."
        self.world.org.add_validation_rule("opportunity", lambda row: row.get("cosell_notes") == BAD, text)

    def refuse_account(self, deal: str) -> None:
        self.world.org.make_read_only(str(self.world.org.get("opportunity", deal)["parentaccountid"]))

    def refuse_member(self) -> None:
        (user,) = self.world.org.rows("systemuser", internalemailaddress=SAM)
        self.world.org.take_roles(str(user["systemuserid"]))

    def rewriting(self, old: str, new: str) -> None:
        def flow(_before: Any, changes: Any) -> Any:
            return {"name": new} if changes.get("name") == old else {}

        self.world.org.add_automation("opportunity", flow)

    def lost(self) -> None:
        self.world.server.faults.reset_after(method="PATCH")

    def away(self) -> None:
        self.world.server.faults.answer(503, {}, path="/api/data/", times=None)

    def back(self) -> None:
        self.world.server.faults.clear()


def _plain(value: Value) -> object:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value
