"""The demo's story: what a seller does in the CRM and what Microsoft does in Partner Center, scene by scene.

A scene changes the rows of the fakes only; the product has to do the rest. Each act names the person, the deal and what was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from cosell_sync.sandbox.clock import Clock
from cosell_sync.sandbox.demo.comparison import importable
from cosell_sync.sandbox.partner_center import samples
from cosell_sync.sandbox.partner_center.schema import member, timestamp
from cosell_sync.sandbox.partner_center.service import PartnerCenter
from cosell_sync.sandbox.seller import DealFields, Seller

PAST_THE_HOLD = timedelta(minutes=16)
ROLES = {"inbound_accepted": ("Active", 9), "inbound_pending": ("New", 5)}
"""How many deals from Microsoft the story needs, by kind and status."""
NEWCOMER = ("Mara", "Quist", "mara.quist@customer.example", "+45 33 000002")
SOLUTION = ("SOL-20002-XYZ", "Harbor Planner")


@dataclass(frozen=True)
class Act:
    """One change that a person made to one deal."""

    who: str
    deal: str  # the opportunity's id
    what: str


@dataclass(frozen=True)
class Scene:
    """The acts between two cycles. ``cycles``: how many cycles follow."""

    title: str
    play: Callable[[], list[Act]]
    cycles: int = 2


class Systems(Protocol):
    """What the story needs of a sandbox."""

    @property
    def seller(self) -> Seller: ...
    @property
    def partner_center(self) -> PartnerCenter: ...


class Story:
    """Picks deals of a synchronised sandbox for each scene, and plays the scenes in order."""

    def __init__(self, sandbox: Systems, clock: Clock) -> None:
        self.seller = sandbox.seller
        self.partner = sandbox.partner_center
        self.clock = clock
        self._free: dict[str, list[DealFields]] = {}
        self._team_deals: list[DealFields] = []
        self._joined: list[str] = []
        self._expiring: DealFields = {}
        self._own: list[DealFields] = []
        self._same_deal: DealFields = {}
        self._duplicate = ""

    def add_missing_deals(self) -> None:
        """Before the first cycle: adds the deals that the scenes need and a small pipeline lacks."""
        there = Counter(
            (each["direction"], each["status"])
            for each in self.partner.ours()
            if importable(each) and each["details"]["currency"] in self.seller.currencies
        )
        for kind, (status, wanted) in ROLES.items():
            for number in range(wanted - there["Incoming", status]):
                self.partner.add(kind, name=f"Branch {kind[8:]} {number + 1}", details={"currency": "EUR"})

    def assign_deals(self) -> None:
        """Sorts the deals by status and direction; one in a currency that the CRM lacks has no amount that people could change."""
        for deal in (each for each in self.seller.deals() if each["amount"] is not None):
            self._free.setdefault(f"{deal['status']}/{deal['direction']}", []).append(deal)

    def scenes(self) -> list[Scene]:
        """All scenes in order."""
        return [
            Scene("The seller and Microsoft work on their deals", self.edits),
            Scene("Colleagues, contacts and solutions join, on either side", self.join),
            Scene("And leave again", self.leave),
            Scene("Deals are answered: accepted, declined, accepted in the portal", self.answers),
            Scene(
                "Deals end: the seller wins and loses, Microsoft loses one; a hold protects what cannot be undone",
                self.ends,
                1,
            ),
            Scene("The hold is over; one deal ran out of time", self.time_passes),
            Scene("The seller shares deals of her own; one lacks something, and says so", self.shares),
            Scene("She mends it, and makes one visible to Microsoft", self.widens),
            Scene("She asks Microsoft for help with both", self.asks),
            Scene("Microsoft answers: accepts one, declines the other", self.microsoft_answers),
            Scene("Microsoft sends a deal that she has already", self.known_already, 1),
            Scene("She says that it is the same, and accepts it", self.same_deal),
        ]

    def _take(self, status: str) -> DealFields:
        """An inbound deal of that status that no scene has used yet."""
        return self._free[f"{status}/Inbound"].pop(0)

    def _seller(self, deal: DealFields, what: str, **words: Any) -> Act:
        if words:
            self.seller.write(deal["id"], **words)
        return Act("Seller", deal["id"], what)

    def _microsoft(self, deal: DealFields, what: str, changes: dict[str, Any]) -> Act:
        self.partner.edit(deal["referral_id"], changes)
        return Act("Microsoft", deal["id"], what)

    def edits(self) -> list[Act]:
        """Both sides edit different deals, and one deal at once."""
        one, two, three, four = (self._take("Accepted") for _ in range(4))
        notes = three["notes"] or ""
        self.seller.move(one["id"], "Propose")
        return [
            self._seller(
                one, "raises the amount and moves the close date", amount=125_000, close_date="2027-06-30"
            ),
            self._seller(one, "moves on to the proposal"),
            self._microsoft(
                two, "corrects the deal value", {"details/dealValue": float(two["amount"]) + 25_000}
            ),
            self._microsoft(
                three,
                "adds a line to the notes",
                {"details/notes": f"{notes}\nMicrosoft: the workshop is in May."},
            ),
            self._seller(
                three, "adds another line to the same notes", notes=f"We: the budget is approved.\n{notes}"
            ),
            self._microsoft(
                four,
                "changes the close date to 2027-03-31",
                {"details/closingDateTime": "2027-03-31T00:00:00Z"},
            ),
            self._seller(four, "changes the same date to 2027-04-15: a conflict", close_date="2027-04-15"),
        ]

    def join(self) -> list[Act]:
        """People and solutions are added to the first deal in the CRM, to the second in the portal."""
        here, there = self._team_deals = [self._take("Accepted") for _ in range(2)]
        first, last, email, phone = NEWCOMER
        code, name = SOLUTION
        self.seller.add_colleague(here["id"], self._free_colleague(here))
        self.seller.add_contact(here["id"], first=first, last=last, email=email, phone=phone)
        self.seller.add_solution(here["id"], code, name)
        changes = {
            "team/-": samples.own_member(self._free_colleague(there)),
            "customerProfile/team/-": member(*NEWCOMER),
            "details/requirements/solutions/-": {**samples.SOLUTIONS[0], "id": code, "name": name},
        }
        what = "adds a colleague, a contact and a solution"
        return [self._seller(here, what), self._microsoft(there, f"{what} in the portal", changes)]

    def _free_colleague(self, deal: DealFields) -> str:
        """A user who is not on the deal's team yet."""
        team = {each["email"] for each in self.partner.get(deal["referral_id"])["team"]}
        found = next(email for email in samples.USERS if email not in team)
        self._joined.append(found)
        return found

    def leave(self) -> list[Act]:
        """What was added on one side is removed on the other."""
        here, there = self._team_deals
        email, code = NEWCOMER[2], SOLUTION[0]
        before = self.partner.get(here["referral_id"])
        people, solutions = before["customerProfile"]["team"], before["details"]["requirements"]["solutions"]
        changes = {
            "team": [each for each in before["team"] if each["email"] != self._joined[0]],
            "customerProfile/team": [each for each in people if each["email"] != email],
            "details/requirements/solutions": [each for each in solutions if each["id"] != code],
        }
        self.seller.drop_colleague(there["id"], self._joined[1])
        self.seller.drop_contact(there["id"], email)
        self.seller.drop_solution(there["id"], code)
        return [
            self._microsoft(here, "removes all three in the portal", changes),
            self._seller(there, "removes all three in the CRM"),
        ]

    def answers(self) -> list[Act]:
        """Received deals are accepted and declined, in the CRM and in the portal."""
        by_stage, by_action, decline, portal, self._expiring = (self._take("Received") for _ in range(5))
        self.seller.move(by_stage["id"], "open")
        self.partner.accept(portal["referral_id"])
        return [
            self._seller(by_stage, "moves it out of the standby stage: accepts"),
            self._seller(
                by_action, "chooses Action = Accept, and corrects the amount", action="Accept", amount=64_000
            ),
            self._seller(
                decline,
                "chooses Action = Decline, with a reason",
                action="Decline",
                reason="Timeline too short",
            ),
            Act("A colleague", portal["id"], "accepts it in the portal"),
        ]

    def ends(self) -> list[Act]:
        """Deals are won and lost, in the CRM and in the portal."""
        won, lost, lost_there = (self._take("Accepted") for _ in range(3))
        acts = [
            self._seller(won, "wins"),
            self._seller(lost, "loses, with a reason", reason="Other vendor chosen"),
            Act("Microsoft", lost_there["id"], "closes it as lost in the portal"),
        ]
        self.seller.move(won["id"], "won")
        self.seller.move(lost["id"], "lost")
        self.partner.lose(lost_there["referral_id"], "Budget insufficient")
        return acts

    def time_passes(self) -> list[Act]:
        """The clock moves past the hold; one referral expires."""
        soon = timestamp(self.clock() + PAST_THE_HOLD / 2)
        self.partner.edit(self._expiring["referral_id"], {"expirationDateTime": soon})
        self.clock.advance(PAST_THE_HOLD)
        self.partner.expire_due()
        return [Act("Partner Center", self._expiring["id"], "lets it expire: nobody answered")]

    def shares(self) -> list[Act]:
        """Two deals made in the CRM: one complete, one without the customer's consent."""
        self._own = [self._new_own_deal(name) for name in ("Warehouse in the cloud", "Quality data platform")]
        complete, lacking = self._own
        return [
            self._seller(
                complete,
                "answers what Partner Center asks and switches Sync on",
                sync=True,
                marketplace_intent="Yes",
                location="4100001",
            ),
            self._seller(lacking, "switches Sync on, but forgets the consent", sync=True, consent=False),
        ]

    def _new_own_deal(self, name: str) -> DealFields:
        customer = {
            "name": f"Fjord Seafood AS ({name})",
            "street": "Bryggen 12",
            "city": "Bergen",
            "postal_code": "5003",
            "country": "Norway",
        }
        deal = self.seller.new_deal(
            by=self.seller.logins[samples.USERS[0]],
            customer=customer,
            name=name,
            amount=90_000,
            currency="EUR",
            close_date=(self.clock() + timedelta(days=120)).date().isoformat(),
            consent=True,
        )
        self.seller.add_contact(
            deal, first="Sigrid", last="Lie", email=f"s.lie@{deal.lower()}.example", phone="+47 55 000001"
        )
        self.seller.add_solution(deal, "SOL-10001-ABC", "Mill Planner")
        return self.seller.deal(deal)

    def widens(self) -> list[Act]:
        """The seller adds the consent, and makes a deal visible to Microsoft."""
        first, second = self._own
        return [
            self._seller(second, "ticks the consent", consent=True),
            self._seller(first, "makes it visible to Microsoft", visible_to_microsoft=True),
        ]

    def asks(self) -> list[Act]:
        """The seller asks Microsoft for help."""
        wish = {"help": "Proof of concept or demo", "help_note": "A pilot in spring"}
        return [self._seller(deal, "asks Microsoft for help", **wish) for deal in self._own]

    def microsoft_answers(self) -> list[Act]:
        """Microsoft accepts one request and declines the other."""
        helped, alone = self._own
        self._answer(helped, "Active", "Accepted", msx_id="7-1ABCDEF2")
        self._answer(alone, "Closed", "Declined", reason="No matching customer record")
        return [
            Act("Microsoft", helped["id"], "accepts to help"),
            Act("Microsoft", alone["id"], "declines to help"),
        ]

    def _answer(self, deal: DealFields, status: str, substatus: str, **more: str) -> None:
        referral = self.partner.get(self.seller.deal(deal["id"])["referral_id"])
        self.partner.microsoft_answers(referral["engagementId"], status, substatus, **more)

    def known_already(self) -> list[Act]:
        """An inbound deal for the same customer, with the same name, as one that the seller entered before."""
        self._same_deal = self._new_own_deal("Fleet telemetry")
        address = {
            "addressLine1": "Bryggen 12",
            "city": "Bergen",
            "state": None,
            "postalCode": "5003",
            "country": "NO",
        }
        referral = self.partner.add(
            "inbound_pending",
            name="fleet  Telemetry",
            customerProfile={"name": self._same_deal["account"], "address": address, "ids": []},
            details={"currency": "EUR", "dealValue": 90_000},
            externalReferenceId=None,
        )
        self._duplicate = referral["id"]
        return [Act("Microsoft", self._same_deal["id"], "sends a deal with the same customer and name")]

    def same_deal(self) -> list[Act]:
        """The seller links her own deal to the referral and accepts it."""
        return [
            self._seller(
                self._same_deal,
                "puts the referral's id on her own deal, and chooses Accept",
                referral_id=self._duplicate,
                sync=True,
                action="Accept",
            )
        ]
