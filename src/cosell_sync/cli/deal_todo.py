"""What a person is to do about a deal, and until when; pure."""

from __future__ import annotations

from datetime import datetime

from cosell_sync.core import messages
from cosell_sync.core.deal import Side, State, SyncState, state_of
from cosell_sync.core.intake import IntakeCode
from cosell_sync.core.memory import Link

URGENT = {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}


def deadline(link: Link) -> datetime | None:
    """Until when an unanswered deal must be answered."""
    unanswered = link.referral is not None and state_of(link.referral) is State.RECEIVED
    return link.referral.moment("respond_by") if link.referral and unanswered else None


def todo(link: Link) -> str | None:
    """In words for an operator, with the command; None where nothing is to be done."""
    memory = link.memory
    if memory.gone is Side.CRM:
        return "The opportunity was deleted: undelete it, or run: cosell-sync deals unlink " + (
            link.referral_id or ""
        )
    if memory.gone is Side.PARTNER_CENTER:
        return messages.referral_gone()
    if memory.lookalikes and memory.failure:
        other = memory.lookalikes[0]
        return (
            f"Looks like {', '.join(memory.lookalikes)}. The same: cosell-sync deals link {link.referral_id} {other}. "
            f"Another: cosell-sync deals create {link.referral_id}"
        )
    if memory.failure and memory.failure.code == IntakeCode.EXPIRED and link.opportunity_id is None:
        return f"{memory.failure.text} To take it off this list: cosell-sync deals unlink {link.referral_id}"
    if memory.failure and memory.failure.code == IntakeCode.CLAIMED and link.opportunity_id is None:
        return (
            f"{memory.failure.text} The same: cosell-sync deals link {link.referral_id} OPPORTUNITY. "
            f"Its own: cosell-sync deals create {link.referral_id}"
        )
    if memory.failure:
        text = memory.failure.text
        return f"{text} (parked; cosell-sync deals retry {link.referral_id})" if memory.parked else text
    if memory.withheld:
        target = link.referral_id or link.opportunity_id
        return f"{messages.withheld(memory.withheld[0])} Release it: cosell-sync deals approve {target}"
    if memory.sync_state in URGENT and link.opportunity:
        return link.opportunity.text("message") or None
    return None
