"""What becomes of a referral that has no opportunity yet: it is skipped, linked, held or an opportunity is made.

Nothing is created twice: an opportunity that carries the referral's id, or whose id the referral names, is always linked;
one that merely looks like it (``mapping.match``) or belongs to another referral is held for a person. What the CRM demands
and the referral lacks, or holds in a form that the CRM cannot store, has a stand-in (``stand_ins``): no deal is kept out for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Category, Fields, Snapshot, State, Value, state_of
from cosell_sync.core.fields import SHARED
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.limits import no_choice_for, why_crm_cannot_store
from cosell_sync.core.memory import Link
from cosell_sync.core.normalize import for_crm
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.core.stand_ins import with_stand_ins


class IntakeAction(StrEnum):
    """What to do with a referral that has no opportunity."""

    SKIP = "skip"
    LINK = "link"
    HOLD = "hold"
    CREATE = "create"


class IntakeCode(StrEnum):
    """Why, for logs and the journal."""

    FOREIGN = "foreign"
    LEAD = "lead"
    CLOSED = "closed"
    EXPIRED = "expired"
    REFERRAL_ID = "referral_id"
    EXTERNAL_REFERENCE = "external_reference"
    LOOKALIKE = "lookalike"
    CLAIMED = "claimed"
    UNREADABLE = "unreadable"
    UNMAPPABLE = "unmappable"
    NEW = "new"


@dataclass(frozen=True)
class IntakeDecision:
    """What to do with a referral. ``reason`` says why, for people; ``code`` for logs."""

    action: IntakeAction
    code: IntakeCode
    reason: str = ""
    opportunity_id: str | None = None
    lookalikes: tuple[str, ...] = ()
    fields: Fields = field(default_factory=dict)
    stand_ins: tuple[str, ...] = ()  # of ``fields``, see ``stand_ins``


@dataclass(frozen=True)
class Matches:
    """What the CRM has for a referral: one that carries its id, one whose id the referral names, and look-alikes.

    ``claimed``: the one whose id the referral names, where that belongs to another referral.
    """

    by_referral: str | None = None
    by_reference: str | None = None
    lookalikes: tuple[str, ...] = ()
    claimed: str | None = None


def skipped_by_category(referral: Snapshot, rules: Rules) -> IntakeDecision | None:
    """A decision to skip that needs no question to the CRM; None: the CRM must be asked."""
    category = referral.text("category")
    if category == Category.FOREIGN:
        return IntakeDecision(IntakeAction.SKIP, IntakeCode.FOREIGN, "another organization's side of a deal")
    if category == Category.LEAD and not rules.import_leads:
        return IntakeDecision(IntakeAction.SKIP, IntakeCode.LEAD, "a lead; mapping.leads is skip")
    return None


def decide_intake(link: Link, found: Matches, rules: Rules, shape: CrmShape, now: datetime) -> IntakeDecision:
    """What becomes of ``link.referral``, given what the CRM has for it already. The link must have a referral."""
    referral = link.referral
    assert referral is not None  # noqa: S101 - only links with a referral come here
    if existing := found.by_referral or found.by_reference:
        code = IntakeCode.REFERRAL_ID if found.by_referral else IntakeCode.EXTERNAL_REFERENCE
        return IntakeDecision(
            IntakeAction.LINK, code, "its id is known on the other side", opportunity_id=existing
        )
    if state_of(referral) is State.EXPIRED and link.memory.failure is not None and not rules.import_closed:
        # It was held until nobody could answer any more; it stays in sight until somebody says so (`deals unlink`).
        return IntakeDecision(
            IntakeAction.HOLD, IntakeCode.EXPIRED, messages.expired_unseen(referral.text("name"))
        )
    if state_of(referral) in TERMINAL and not rules.import_closed:
        return IntakeDecision(
            IntakeAction.SKIP, IntakeCode.CLOSED, "closed before it was first seen; sync.import_closed is off"
        )
    if problem := referral.text("problem"):
        return IntakeDecision(
            IntakeAction.HOLD, IntakeCode.UNREADABLE, f"Partner Center sent something unreadable: {problem}"
        )
    if found.claimed and not link.memory.create_anyway:
        reason = messages.claimed(referral.text("name"), found.claimed)
        return IntakeDecision(IntakeAction.HOLD, IntakeCode.CLAIMED, reason, opportunity_id=found.claimed)
    lookalikes = found.lookalikes
    if lookalikes and rules.match != "off" and not link.memory.create_anyway:
        if rules.match == "link" and len(lookalikes) == 1:
            return IntakeDecision(
                IntakeAction.LINK, IntakeCode.LOOKALIKE, "same account and name", opportunity_id=lookalikes[0]
            )
        reason = messages.looks_alike(referral.text("name"))
        return IntakeDecision(IntakeAction.HOLD, IntakeCode.LOOKALIKE, reason, lookalikes=lookalikes)
    fields = new_opportunity_fields(referral, rules, shape)
    if problem := _without_stage(fields, shape):
        return IntakeDecision(IntakeAction.HOLD, IntakeCode.UNMAPPABLE, problem)
    fields, names = with_stand_ins(fields, referral, rules, shape, rules.today(now))
    return IntakeDecision(IntakeAction.CREATE, IntakeCode.NEW, fields=fields, stand_ins=names)


def new_opportunity_fields(referral: Snapshot, rules: Rules, shape: CrmShape) -> dict[str, Value]:
    """The shared fields and the stage of a new opportunity, as the CRM can store them."""
    shape = shape.of_currency(referral.text("currency"))
    fields: dict[str, Value] = {}
    for name in SHARED:
        rule = rules.fields.get(name)
        if rule is None or name not in shape.fields:
            continue
        value = referral[name]
        if name == "sales_stage" and (
            not rules.stages.have_own_field(shape.fields)
            or value is None
            or why_crm_cannot_store(name, value, shape)
        ):
            continue
        if no_choice_for(name, value, shape):
            continue  # told on the record once it is there
        if value is not ABSENT and rule.goes_to_crm:
            fields[name] = for_crm(name, value, shape)
    fields["stage"] = rules.stages.for_state(state_of(referral), referral["sales_stage"])
    if "sync" in shape.fields:
        fields["sync"] = True
    return fields


def _without_stage(fields: Fields, shape: CrmShape) -> str:
    """Why there is no stage to make this deal in; empty where there is one. No other will do: it says where a deal stands."""
    stage = fields.get("stage")
    if shape.stages and stage not in shape.stages:
        return f'The CRM has no stage "{stage}"; correct mapping.stages.'
    return ""
