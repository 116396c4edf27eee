"""What a person is to do about a deal, and until when; pure."""

from __future__ import annotations

from cosell_sync.core import messages
from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.intake import IntakeCode
from cosell_sync.core.memory import Failure, Link
from cosell_sync.errors import Cure

URGENT = {SyncState.NEEDS_ATTENTION, SyncState.CONFLICT}


def todo(link: Link) -> str | None:
    """In words for an operator, with the command; None where nothing is to be done."""
    memory = link.memory
    if memory.gone is Side.CRM:
        return "The opportunity was deleted: undelete it, or run: cosell-sync deals unlink " + (
            link.referral_id or ""
        )
    if memory.gone is Side.PARTNER_CENTER:
        return messages.referral_gone()
    if memory.failure:
        return _of_failure(link, memory.failure)
    if memory.withheld:
        target = link.referral_id or link.opportunity_id
        texts = " ".join(dict.fromkeys(messages.withheld(item) for item in memory.withheld))
        return f"{texts} Release it: cosell-sync deals approve {target}"
    if memory.untold:
        return _untold(link)
    if memory.sync_state in URGENT and link.opportunity:
        return "\n".join(filter(None, [link.opportunity.text("message"), *_refusals(link)])) or None
    return None


def _refusals(link: Link) -> list[str]:
    """The other system's words about fields that it refused, where the record does not quote them to the seller."""
    others = [each for each in link.memory.refused.values() if each.cure is not Cure.SELLER]
    quoted = list(dict.fromkeys(each.text for each in others))
    return (
        [*quoted, f"Tried again by itself; at once: cosell-sync deals retry {link.referral_id}"]
        if quoted
        else []
    )


def _of_failure(link: Link, failure: Failure) -> str:
    """What failed, and the command that helps."""
    memory = link.memory
    if memory.lookalikes:
        other = memory.lookalikes[0]
        return (
            f"Looks like {', '.join(memory.lookalikes)}. The same: cosell-sync deals link {link.referral_id} {other}. "
            f"Another: cosell-sync deals create {link.referral_id}"
        )
    if failure.code == IntakeCode.EXPIRED and link.opportunity_id is None:
        return f"{failure.text} To take it off this list: cosell-sync deals unlink {link.referral_id}"
    if failure.code == IntakeCode.CLAIMED and link.opportunity_id is None:
        return (
            f"{failure.text} The same: cosell-sync deals link {link.referral_id} {memory.claimed or 'OPPORTUNITY'}. "
            f"Its own: cosell-sync deals create {link.referral_id}"
        )
    if failure.locked:
        return (
            f"{failure.text} (locked since {messages.minute(failure.since)}, for example by an approval; "
            "tried every hour until that ends)"
        )
    return (
        f"{failure.text} (parked; cosell-sync deals retry {link.referral_id})"
        if memory.parked
        else failure.text
    )


def _untold(link: Link) -> str:
    """What the closed record does not show, and that it does not."""
    closed = "The closed record takes no writes, so it does not show this"
    if link.memory.sync_state in URGENT:
        return f"{link.memory.untold}\n{closed}."
    return f"{closed}; nothing is to be done."
