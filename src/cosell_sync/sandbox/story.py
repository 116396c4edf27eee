"""A day in two systems, for the demo: what a seller does in Salesforce and what Microsoft does in Partner Center.

Only the people's part is played here, on the raw records of the fakes; what follows from it is the product's business.
Each scene says what was done, by whom and to which deal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cosell_sync.sandbox import pipeline
from cosell_sync.sandbox.world import Clock, Sandbox

PAST_THE_HOLD = timedelta(minutes=16)


@dataclass(frozen=True)
class Act:
    """Somebody did something to one deal. ``who``: Seller or Microsoft."""

    who: str
    deal: str  # the opportunity's id
    what: str


@dataclass(frozen=True)
class Scene:
    """Some acts that happen between two cycles. ``cycles``: how many follow."""

    title: str
    play: Callable[[], list[Act]]
    cycles: int = 2


class Story:
    """Casts the deals of a synchronised sandbox in roles, and plays the scenes one after the other."""

    def __init__(self, sandbox: Sandbox, clock: Clock) -> None:
        self.sandbox = sandbox
        self.clock = clock
        self._free: dict[str, list[dict[str, Any]]] = {}
        self._expiring: dict[str, Any] | None = None
        self._own: list[dict[str, Any]] = []
        self._typed: dict[str, Any] = {}
        self._twin = ""

    def cast(self) -> None:
        """Sort the opportunities there are by where they stand."""
        for row in self.sandbox.salesforce.rows("Opportunity"):
            key = f"{row.get('Cosell_Status__c')}/{row.get('Cosell_Direction__c')}"
            self._free.setdefault(key, []).append(row)

    def scenes(self) -> list[Scene]:
        return [
            Scene("The seller and Microsoft work on their deals", self.edits),
            Scene("Deals are answered: accepted, declined, accepted in the portal", self.answers),
            Scene(
                "Deals end: the seller wins and loses, Microsoft loses one; a hold protects what cannot be undone",
                self.ends,
                1,
            ),
            Scene("The hold is over; one deal ran out of time", self.time_passes),
            Scene("The seller shares deals of her own; one lacks something, and says so", self.shares),
            Scene("She mends it, makes one visible to Microsoft and asks for help with both", self.widens),
            Scene("Microsoft answers: accepts one, declines the other", self.microsoft_answers),
            Scene("Microsoft sends a deal that she has already", self.known_already, 1),
            Scene("She says that it is the same, and accepts it; people leave and join", self.same_deal),
        ]

    def _take(self, status: str, direction: str = "Inbound") -> dict[str, Any]:
        return self._free[f"{status}/{direction}"].pop(0)

    def _seller(self, row: dict[str, Any], what: str, **fields: Any) -> Act:
        self.sandbox.salesforce.edit("Opportunity", row["Id"], **fields)
        return Act("Seller", row["Id"], what)

    def _microsoft(self, row: dict[str, Any], what: str, changes: dict[str, Any]) -> Act:
        self.sandbox.partner_center.edit(row["Cosell_Referral_Id__c"], changes)
        return Act("Microsoft", row["Id"], what)

    def edits(self) -> list[Act]:
        partner, crm = self.sandbox.partner_center, self.sandbox.salesforce
        one, two, three, four, five = (self._take("Accepted") for _ in range(5))
        referral = partner.get(three["Cosell_Referral_Id__c"])
        notes = referral["details"].get("notes") or ""
        amount = float(two.get("Amount") or 0) + 25_000
        acts = [
            self._seller(
                one, "raises the amount and moves the close date", Amount=125_000, CloseDate="2027-06-30"
            ),
            self._seller(one, "moves on to the proposal", StageName="Proposal/Price Quote"),
            self._microsoft(two, "corrects the deal value", {"details/dealValue": amount}),
            self._microsoft(
                three,
                "adds a line to the notes",
                {"details/notes": f"{notes}\nMicrosoft: the workshop is in May."},
            ),
            self._seller(
                three,
                "adds another line to the same notes",
                Cosell_Notes__c=f"We: the budget is approved.\n{notes}",
            ),
            self._microsoft(
                four,
                "changes the close date to 2027-03-31",
                {"details/closingDateTime": "2027-03-31T00:00:00Z"},
            ),
            self._seller(four, "changes the same date to 2027-04-15: a conflict", CloseDate="2027-04-15"),
        ]
        crm.create(
            "Cosell_Solution__c",
            Opportunity__c=five["Id"],
            Solution_Id__c="SOL-20002-XYZ",
            Solution_Name__c="Harbor Planner",
            Solution_Type__c="Own",
        )
        acts.append(Act("Seller", five["Id"], "adds a solution"))
        colleague = {
            "firstName": "Ida",
            "lastName": "Kern",
            "email": "new.colleague@nordlicht.example",
            "phoneNumber": "+49 421 000099",
        }
        acts.append(self._microsoft(five, "adds a colleague in the portal", {"team/-": colleague}))
        return acts

    def answers(self) -> list[Act]:
        accept_by_stage, accept_by_action, decline, portal, self._expiring = (
            self._take("Received") for _ in range(5)
        )
        acts = [
            self._seller(
                accept_by_stage, "moves it out of the standby stage: accepts", StageName="Qualification"
            ),
            self._seller(
                accept_by_action,
                "chooses Action = Accept, and corrects the amount",
                Cosell_Action__c="Accept",
                Amount=64_000,
            ),
            self._seller(
                decline,
                "chooses Action = Decline, with a reason",
                Cosell_Action__c="Decline",
                Cosell_Reason__c="Timeline too short",
            ),
        ]
        self.sandbox.partner_center.accept(portal["Cosell_Referral_Id__c"])
        acts.append(Act("Microsoft", portal["Id"], "a colleague accepts it in the portal"))
        return acts

    def ends(self) -> list[Act]:
        won, lost, lost_there = (self._take("Accepted") for _ in range(3))
        acts = [
            self._seller(won, "wins", StageName="Closed Won"),
            self._seller(
                lost, "loses, with a reason", StageName="Closed Lost", Cosell_Reason__c="Other vendor chosen"
            ),
        ]
        self.sandbox.partner_center.lose(lost_there["Cosell_Referral_Id__c"], "Budget insufficient")
        acts.append(Act("Microsoft", lost_there["Id"], "closes it as lost in the portal"))
        return acts

    def shares(self) -> list[Act]:
        """Two deals born in the CRM: one complete, one without the customer's consent."""
        self._own = [
            self._deal_of_her_own(name) for name in ("Warehouse in the cloud", "Quality data platform")
        ]
        complete, lacking = self._own
        return [
            self._seller(complete, "fills everything in and switches Sync on", Cosell_Sync__c=True),
            self._seller(
                lacking,
                "switches Sync on, but forgets the consent",
                Cosell_Sync__c=True,
                Cosell_Consent__c=False,
            ),
        ]

    def _deal_of_her_own(self, name: str) -> dict[str, Any]:
        crm = self.sandbox.salesforce
        seller = next(row for row in crm.rows("User") if row["Email"] == pipeline.USERS[0])
        account = crm.create(
            "Account",
            Name=f"Fjord Seafood AS ({name})",
            BillingStreet="Bryggen 12",
            BillingCity="Bergen",
            BillingPostalCode="5003",
            BillingCountry="Norway",
        )
        deal = crm.create(
            "Opportunity",
            by=seller["Id"],
            Name=name,
            AccountId=account,
            StageName="Qualification",
            Amount=90_000,
            CurrencyIsoCode="EUR",
            CloseDate=(self.clock() + timedelta(days=120)).date().isoformat(),
            Cosell_Consent__c=True,
        )
        contact = crm.create(
            "Contact",
            AccountId=account,
            FirstName="Sigrid",
            LastName="Lie",
            Email=f"s.lie@{deal.lower()}.example",
            Phone="+47 55 000001",
        )
        crm.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact, IsPrimary=True)
        crm.create(
            "Cosell_Solution__c",
            Opportunity__c=deal,
            Solution_Id__c="SOL-10001-ABC",
            Solution_Name__c="Mill Planner",
            Solution_Type__c="Own",
        )
        return crm.get("Opportunity", deal)

    def widens(self) -> list[Act]:
        first, second = self._own
        acts = [self._seller(second, "ticks the consent", Cosell_Consent__c=True)]
        acts.append(self._seller(first, "makes it visible to Microsoft", Cosell_Visible_To_Microsoft__c=True))
        acts += [
            self._seller(
                row,
                "asks Microsoft for help",
                Cosell_Help__c="Proof of concept or demo",
                Cosell_Help_Note__c="A pilot in spring",
            )
            for row in self._own
        ]
        return acts

    def microsoft_answers(self) -> list[Act]:
        partner, crm = self.sandbox.partner_center, self.sandbox.salesforce
        engagements = [
            partner.get(crm.get("Opportunity", row["Id"])["Cosell_Referral_Id__c"])["engagementId"]
            for row in self._own
        ]
        partner.microsoft_answers(engagements[0], "Active", "Accepted", msx_id="7-1ABCDEF2")
        partner.microsoft_answers(engagements[1], "Closed", "Declined", reason="No matching customer record")
        return [
            Act("Microsoft", self._own[0]["Id"], "accepts to help"),
            Act("Microsoft", self._own[1]["Id"], "declines to help"),
        ]

    def known_already(self) -> list[Act]:
        """An inbound deal for the same customer, with the same name, as one that the seller typed in before."""
        self._typed = self._deal_of_her_own("Fleet telemetry")
        customer = {
            "name": "Fjord Seafood AS (Fleet telemetry)",
            "address": {
                "addressLine1": "Bryggen 12",
                "city": "Bergen",
                "postalCode": "5003",
                "country": "NO",
            },
        }
        referral = self.sandbox.partner_center.add(
            "inbound_pending",
            name="fleet  Telemetry",
            customerProfile=customer,
            details={"currency": "EUR", "dealValue": 90_000},
            externalReferenceId=None,
        )
        self._twin = referral["id"]
        return [Act("Microsoft", self._typed["Id"], "sends a deal with the same customer and name")]

    def same_deal(self) -> list[Act]:
        partner, crm = self.sandbox.partner_center, self.sandbox.salesforce
        acts = [
            self._seller(
                self._typed,
                "puts the referral's id on her own opportunity, and chooses Accept",
                Cosell_Referral_Id__c=self._twin,
                Cosell_Sync__c=True,
                Cosell_Action__c="Accept",
            )
        ]
        deal = self._take("Accepted")
        rows = [row for row in crm.rows("Cosell_Solution__c") if row["Opportunity__c"] == deal["Id"]]
        crm.create(
            "Cosell_Solution__c",
            Opportunity__c=deal["Id"],
            Solution_Id__c="SOL-20003-NEW",
            Solution_Name__c="Tide Tables",
            Solution_Type__c="Own",
        )
        for row in rows[:1]:
            crm.delete("Cosell_Solution__c", row["Id"])
        acts.append(Act("Seller", deal["Id"], "replaces a solution by another"))
        referral = partner.get(deal["Cosell_Referral_Id__c"])
        newcomer = {
            "firstName": "Mara",
            "lastName": "Quist",
            "email": "mara.quist@customer.example",
            "phoneNumber": "+45 33 000002",
        }
        acts.append(
            self._microsoft(
                deal,
                "exchanges the customer's contact and a colleague",
                {
                    "customerProfile/team": [newcomer],
                    "team": [*referral["team"][:1], {**newcomer, "email": pipeline.USERS[1]}],
                },
            )
        )
        return acts

    def time_passes(self) -> list[Act]:
        acts = []
        if self._expiring is not None:
            soon = (self.clock() + PAST_THE_HOLD / 2).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")
            self.sandbox.partner_center.edit(
                self._expiring["Cosell_Referral_Id__c"], {"expirationDateTime": soon}
            )
        self.clock.advance(PAST_THE_HOLD)
        if self._expiring is not None:
            self.sandbox.partner_center.expire_due()
            acts.append(
                Act("Microsoft", self._expiring["Id"], "nobody answered: Partner Center lets it expire")
            )
        return acts
