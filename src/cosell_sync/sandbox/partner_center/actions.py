"""What colleagues and Microsoft do in the portal, without HTTP: deals are added, edited, answered, removed and restored.

Colleagues are bound to the legal moves of a deal, but to no other rule of the API.
"""

import copy
import random
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from cosell_sync.sandbox.entra import Entra
from cosell_sync.sandbox.partner_center import query, rules, samples, schema
from cosell_sync.sandbox.partner_center.rest import Rest, Violation
from cosell_sync.sandbox.partner_center.rows import Referrals, assign, with_status
from cosell_sync.sandbox.partner_center.rules import Switches
from cosell_sync.sandbox.partner_center.schema import HELP, Document
from cosell_sync.sandbox.partner_center.webhooks import Webhooks


class Actions:
    """The referrals of one partner. `clock` gives the service's time; `switches` choose readings of the documentation."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        entra: Entra | None = None,
        switches: Switches | None = None,
        seed: int = 1,
    ) -> None:
        self.clock = clock
        self.entra = entra or Entra(clock)
        self.switches = switches or Switches()
        self.violations: list[Violation] = []
        self._lock = threading.RLock()
        self._random = random.Random(seed)  # noqa: S311  (repeatable on purpose)
        self._referrals = Referrals(clock)
        self.webhooks = Webhooks(clock)
        self._referrals.changed = self.webhooks.changed
        self._rest = Rest(clock, self.entra, self.switches, self._referrals, self._random, self.violations)

    def load(self, documents: list[Document]) -> None:
        """Stores documents as they are, times included."""
        with self._lock:
            self._referrals.load(documents)

    def add(self, kind: str = "inbound_pending", **overrides: Any) -> Document:
        """A new deal of that kind (a key of `demo.seed.KINDS`); nested overrides are merged.

        Deals from a Microsoft seller and co-sell deals come with Microsoft's side.
        """
        with self._lock:
            now = self.clock()
            ours = samples.deal(kind, now, self._random)
            stamp = self._referrals.now()
            times = {
                name: stamp
                for name in ("createdDateTime", "updatedDateTime", "acceptedDateTime", "closedDateTime")
                if ours[name]
            }
            ours = schema.merged(schema.merged(ours, times), overrides)
            self._referrals.put(ours, stamp=ours["updatedDateTime"])
            if kind == "cosell":
                invitation = {
                    "invitedBy": schema.US,
                    "assistanceRequestCode": HELP[2],
                    "notes": "Pilot in Q3",
                }
                self._referrals.put(samples.microsoft_side(ours, now, self._random, inviteContext=invitation))
            elif kind.startswith("inbound"):
                accepted = {"status": "Active", "substatus": "Accepted"}
                msx_id = {"microsoftMsxId": f"7-{self._random.randrange(10**9):09d}"}
                self._referrals.put(
                    samples.microsoft_side(ours, now, self._random, trackingInfo=msx_id, **accepted)
                )
            return self.get(ours["id"])

    def get(self, referral_id: str) -> Document:
        """A copy of the referral; KeyError when there is none."""
        with self._lock:
            return copy.deepcopy(self._referrals.documents[referral_id])

    def all(self) -> list[Document]:
        """Every referral, Microsoft's sides included."""
        with self._lock:
            return copy.deepcopy(list(self._referrals.documents.values()))

    def ours(self) -> list[Document]:
        """The partner's own referrals."""
        return [document for document in self.all() if document["organizationId"] == schema.ORGANIZATION_ID]

    def microsoft_sides(self, engagement_id: str) -> list[Document]:
        """Microsoft's referrals of an engagement: none, one, or (after a second invitation) more."""
        with self._lock:
            return [
                copy.deepcopy(side)
                for side in self._referrals.sides(engagement_id)
                if side["organizationId"] == "msft"
            ]

    def edit(self, referral_id: str, changes: str | Mapping[str, Any], value: Any = None) -> Document:
        """A colleague changes the deal in the portal; no rule of the API applies.

        Takes one path and its value (`"details/dealValue", 5`; `"team/-"` appends, `"team/0/title"` reaches in), or a
        mapping of paths or nested objects.
        """
        with self._lock:
            document = self.get(referral_id)
            for path, new in ({changes: value} if isinstance(changes, str) else changes).items():
                if "/" not in path and isinstance(new, Mapping) and isinstance(document.get(path), dict):
                    document[path] = schema.merged(document[path], new)
                else:
                    assign(document, path, new)
            self._referrals.put(document)
            return self.get(referral_id)

    def accept(self, referral_id: str, **changes: Any) -> Document:
        """A colleague accepts the referral, with further changes by path."""
        return self._move(referral_id, "Active", "Accepted", changes)

    def decline(self, referral_id: str, reason: str = "Not a customer", **changes: Any) -> Document:
        """A colleague declines the referral."""
        return self._move(referral_id, "Closed", "Declined", {"statusReason": reason, **changes})

    def win(self, referral_id: str, **changes: Any) -> Document:
        """A colleague closes the deal as won."""
        return self._move(referral_id, "Closed", "Won", changes)

    def lose(self, referral_id: str, reason: str = "Other vendor chosen", **changes: Any) -> Document:
        """A colleague closes the deal as lost."""
        return self._move(referral_id, "Closed", "Lost", {"statusReason": reason, **changes})

    def expire_due(self) -> list[str]:
        """Closes the referrals that were not answered within fourteen days; returns their ids."""
        with self._lock:
            now = query.ticks(schema.timestamp(self.clock()))
            due = []
            for document in list(self._referrals.documents.values()):
                deadline = document["expirationDateTime"]
                limit = (
                    query.ticks(deadline)
                    if deadline
                    else query.ticks(document["createdDateTime"]) + 14 * 86_400 * 10_000_000
                )
                if document["status"] == "New" and limit <= now:
                    self._referrals.put(with_status(document, "Closed", "Expired", self._referrals.now()))
                    due.append(document["id"])
            return due

    def microsoft_answers(
        self,
        engagement_id: str,
        status: str,
        substatus: str,
        reason: str | None = None,
        msx_id: str | None = None,
    ) -> Document:
        """Microsoft's newest side of an engagement takes that status; an acceptance brings a seller and a CRM id."""
        with self._lock:
            side = max(
                self.microsoft_sides(engagement_id),
                key=lambda one: query.ticks(one["createdDateTime"]),
            )
            side = with_status(side, status, substatus, self._referrals.now()) | {"statusReason": reason}
            if status == "Active":
                side["team"] = side["team"] or [schema.member(*self._random.choice(samples.SELLERS))]
                made_up = f"7-{self._random.randrange(10**9):09d}"
                known = side["trackingInfo"]["microsoftMsxId"]
                side["trackingInfo"] = {**side["trackingInfo"], "microsoftMsxId": msx_id or known or made_up}
            self._referrals.put(side)
            return self.get(side["id"])

    def microsoft_joins(self, referral_id: str, *, flips: bool = True) -> Document:
        """Microsoft gets a side of a deal of ours, unasked by the API: a colleague asked in the portal, or a claim did.

        ``flips``: our own row becomes ``Shared``; whether it does is not documented, but it gets another tag either way.
        """
        with self._lock:
            ours = self.get(referral_id)
            ours |= {"type": "Shared"} if flips else {}
            self._referrals.put(ours)
            invitation = {"invitedBy": schema.US, "assistanceRequestCode": HELP[5], "notes": None}
            side = samples.microsoft_side(ours, self.clock(), self._random, inviteContext=invitation)
            self._referrals.put(side)
            return self.get(side["id"])

    def remove(self, referral_id: str) -> None:
        """Hides the referral from the API: 404 and in no list."""
        with self._lock:
            self._referrals.removed[referral_id] = self._referrals.documents.pop(referral_id)

    def restore(self, referral_id: str) -> None:
        """Undoes `remove`."""
        with self._lock:
            self._referrals.documents[referral_id] = self._referrals.removed.pop(referral_id)

    def approve(self, user_code: str | None = None) -> int:
        return self.entra.approve(user_code)

    def expire_tokens(self) -> None:
        self.entra.expire_tokens()

    def revoke_refresh_tokens(self) -> None:
        self.entra.revoke_refresh_tokens()

    def _move(self, referral_id: str, status: str, substatus: str, changes: Mapping[str, Any]) -> Document:
        with self._lock:
            document = self.get(referral_id)
            before = (document["status"], document["substatus"])
            if (status, substatus) not in rules.MOVES.get(before, frozenset()):
                raise ValueError(f"{'/'.join(before)} cannot become {status}/{substatus}")
            for path, value in changes.items():
                assign(document, path, value)
            self._referrals.put(with_status(document, status, substatus, self._referrals.now()))
            return self.get(referral_id)
