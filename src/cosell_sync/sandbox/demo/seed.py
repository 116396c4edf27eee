"""Seed data: a partner's whole sales pipeline, the same for the same seed, dated relative to a given moment."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta

from cosell_sync.sandbox.partner_center.samples import CUSTOMERS, deal, microsoft_side
from cosell_sync.sandbox.partner_center.schema import HELP, STATES, US, Document, timestamp

# How often each kind occurs in a pipeline; the sum is one hundred.
KINDS: Mapping[str, int] = {
    "inbound_pending": 14,
    "inbound_received": 10,
    "inbound_accepted": 18,
    "inbound_won": 5,
    "inbound_lost": 4,
    "inbound_declined": 4,
    "inbound_expired": 4,
    "private": 12,
    "partner_led": 10,
    "cosell": 13,
    "marketplace_lead": 3,
    "qualified_lead": 3,
}


def sales_pipeline(n: int, seed: int, now: datetime) -> list[Document]:
    """`n` referrals of the partner, and Microsoft's side of each shared deal."""
    rng = random.Random(seed)  # noqa: S311  (repeatable on purpose)
    kinds = list(KINDS)
    # Every kind once first, so that even a small pipeline is mixed.
    chosen = (kinds + rng.choices(kinds, weights=list(KINDS.values()), k=max(0, n - len(kinds))))[:n]
    documents: list[Document] = []
    for index, kind in enumerate(chosen):
        customer = CUSTOMERS[index % len(CUSTOMERS)] if index < len(CUSTOMERS) else rng.choice(CUSTOMERS)
        unanswered = kind.endswith(("pending", "received", "lead"))
        oldest = {"inbound_expired": 60, "inbound_pending": 12, "inbound_received": 12}.get(
            kind, 12 if unanswered else 90
        )
        youngest = 15 if kind == "inbound_expired" else 0
        age = timedelta(days=rng.uniform(youngest, oldest))
        ours = deal(kind, now - age, rng, customer)
        # Answered deals were updated later; closed ones end some time after they were created.
        if not unanswered:
            touched = timestamp(now - age * rng.uniform(0, 0.9), rng.randrange(9))
            if kind == "inbound_expired":
                touched = ours["expirationDateTime"]
            ours["updatedDateTime"] = touched
            if ours["closedDateTime"]:
                ours["closedDateTime"] = touched
        documents.append(ours)
        if kind == "cosell":
            status, substatus = rng.choice((STATES["pending"], STATES["accepted"], STATES["declined"]))
            msx_id = f"7-{rng.randrange(10**9):09d}" if status == "Active" else None
            invitation = {"invitedBy": US, "assistanceRequestCode": rng.choice(HELP), "notes": "Pilot in Q3"}
            documents.append(
                microsoft_side(
                    ours,
                    now - age,
                    rng,
                    status=status,
                    substatus=substatus,
                    inviteContext=invitation,
                    trackingInfo={"microsoftMsxId": msx_id},
                )
            )
        elif kind.startswith("inbound"):
            documents.append(
                microsoft_side(
                    ours,
                    now - age,
                    rng,
                    status="Active",
                    substatus="Accepted",
                    trackingInfo={"microsoftMsxId": f"7-{rng.randrange(10**9):09d}"},
                )
            )
    return documents
