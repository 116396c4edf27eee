"""What follows for one linked deal: two snapshots, two bases and the rules go in, a decision comes out.

A decision lists what to write on either side and why, what is held back and why, and what both sides already agree on.
It is made twice in a cycle. The first one is about Partner Center. When its writes have landed, or failed, the second one,
made from what Partner Center has then, is about the CRM, so that the record shows what was really taken. Nothing of the
first decision needs to survive a crash: made again, it comes out the same.

The steps run in this order: merge the fields that both sides have (``shared_fields``), open the deal to Microsoft where the
seller asks for it (``visibility``), carry the seller's moves to Partner Center (``moves``) and Partner Center's to the CRM
(``stage``). What the stage in the CRM means for the deal is looked up in ``stage_table``. Every step adds to one
``DecisionBuilder``.

``Cosell_Status__c`` on the record is the state that the CRM was last told; it stands in for the base where the store was lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from cosell_sync.core import messages, stand_ins
from cosell_sync.core.builder import DecisionBuilder, build_decision
from cosell_sync.core.deal import ABSENT, State, state_of
from cosell_sync.core.decision import Decision, Hold, HoldKind
from cosell_sync.core.frozen import replace
from cosell_sync.core.guard import standing_approvals
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import FinalKind, Link, Withheld
from cosell_sync.core.moves import seller_moves
from cosell_sync.core.refusals import hold_refused
from cosell_sync.core.retry import changed_since_failure, freed
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.core.shared_fields import merge_shared_fields
from cosell_sync.core.stage import follow_in_crm, reconcile_closed
from cosell_sync.core.stage_table import Consequence, consequence, situation_of
from cosell_sync.core.visibility import open_to_microsoft


def decide(
    link: Link,
    rules: Rules,
    shape: CrmShape,
    now: datetime,
    own_move: State | None = None,
    withheld: Mapping[FinalKind, Withheld] | None = None,
) -> Decision:
    """The decision for a linked deal; one that changes nothing where a side is unknown or gone.

    ``own_move``: the state that our own write brought about in this cycle, so that it is not reported as news.
    ``withheld``: steps that the guard withholds (``guard``); they are held with its reason.
    """
    link = stand_ins.as_base(stand_ins.adopted(link, rules, shape))
    referral, opportunity = stand_ins.told(link), link.opportunity
    if referral is None or opportunity is None or link.memory.gone is not None:
        return Decision(link)
    shape = shape.of_currency(referral.text("currency"))
    state = state_of(referral)
    follows = consequence(situation_of(link, state, opportunity, rules.stages))
    builder = DecisionBuilder(
        link, state, referral, opportunity, rules, shape, now, follows, own_move, withheld or {}
    )
    if changed_since_failure(link):
        builder.link = replace(link, memory=freed(link.memory))
    builder.update_memory(rejected=False, withheld=(), approved=standing_approvals(builder.link))
    if _paused(builder):
        return build_decision(builder)
    if opportunity["sync"] is False:
        builder.to_crm["sync"] = True
    merge_shared_fields(builder)
    hold_refused(builder)
    if follows is Consequence.WAIT:
        text = messages.unknown_state(referral.text("status_text"))
        builder.holds.append(
            Hold(HoldKind.UNKNOWN_STATE, "status", referral["status_text"], opportunity["stage"], text)
        )
        builder.to_referral.clear()
        return build_decision(builder)
    open_to_microsoft(builder)
    if builder.state in TERMINAL:
        reconcile_closed(builder)
        return build_decision(builder)
    steps = seller_moves(builder)
    follow_in_crm(builder)
    return build_decision(builder, steps)


def _paused(builder: DecisionBuilder) -> bool:
    """Whether the seller switched Sync off; on a record that was never reported on it is switched on instead."""
    if builder.opportunity["sync"] is not False or not builder.opportunity.text("status"):
        return False
    sync = builder.shape.label("sync")
    if builder.state is State.RECEIVED:  # the clock runs on
        text = messages.paused_unanswered(
            builder.referral.moment("respond_by"), sync, builder.shape.label("action")
        )
        builder.holds.append(Hold(HoldKind.NEED, "sync", ABSENT, False, text))
        return True
    builder.holds.append(Hold(HoldKind.PAUSED, "sync", ABSENT, False, messages.paused(sync)))
    return True
