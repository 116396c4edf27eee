"""What becomes of a referral that has no opportunity yet: it is skipped, linked, held or an opportunity is made.

Nothing is created twice: an opportunity that carries the referral's id, or whose id the referral names, is always linked;
one that merely looks like it (``mapping.match``) or belongs to another referral is held for a person. Nothing is invented: a referral that the CRM cannot
store as it is (a currency it does not know, no customer) is held with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Category, Customer, Fields, Snapshot, State, Value, state_of
from cosell_sync.core.fields import SHARED, STATUS_FIELDS
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.limits import CRM_REQUIRES, no_choice_for, why_crm_cannot_store
from cosell_sync.core.memory import Link
from cosell_sync.core.normalize import empty, for_crm
from cosell_sync.core.rules import CrmShape, Rules


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


def decide_intake(link: Link, found: Matches, rules: Rules, shape: CrmShape) -> IntakeDecision:
    """What becomes of ``link.referral``, given what the CRM has for it already. The link must have a referral."""
    referral = link.referral
    assert referral is not None  # noqa: S101 - only links with a referral come here
    if existing := found.by_referral or found.by_reference:
        code = IntakeCode.REFERRAL_ID if found.by_referral else IntakeCode.EXTERNAL_REFERENCE
        return IntakeDecision(
            IntakeAction.LINK, code, "its id is known on the other side", opportunity_id=existing
        )
    if problem := referral.text("problem"):
        return IntakeDecision(
            IntakeAction.HOLD, IntakeCode.UNREADABLE, f"Partner Center sent something unreadable: {problem}"
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
    if problems := unmappable(referral, fields, rules, shape):
        return IntakeDecision(IntakeAction.HOLD, IntakeCode.UNMAPPABLE, " ".join(problems))
    return IntakeDecision(IntakeAction.CREATE, IntakeCode.NEW, fields=fields)


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


def unmappable(referral: Snapshot, fields: Fields, rules: Rules, shape: CrmShape) -> list[str]:
    """Every reason why the CRM cannot store this referral, in words for people; empty where it can."""
    return [*_missing(referral, fields, shape), *_does_not_fit(referral, fields, rules, shape)]


def _missing(referral: Snapshot, fields: Fields, shape: CrmShape) -> Iterator[str]:
    for name in CRM_REQUIRES:
        if empty(fields.get(name, ABSENT)):
            yield f"{shape.label(name)} is missing in Partner Center."
    customer = referral["customer"]
    if not isinstance(customer, Customer) or empty(customer.name):
        yield "The customer has no name in Partner Center."


def _does_not_fit(referral: Snapshot, fields: Fields, rules: Rules, shape: CrmShape) -> Iterator[str]:
    for name, value in fields.items():
        if (
            name not in CRM_REQUIRES
            and name not in STATUS_FIELDS
            and (why := why_crm_cannot_store(name, value, shape))
        ):
            yield messages.crm_cannot(shape.label(name), value, why)
    currency = referral.text("currency")
    own = rules.default_currency or shape.default_currency
    if not shape.currencies and currency and own and currency != own:
        yield messages.crm_cannot("Currency", currency, f"it has one currency only, {own}")
    stage = fields.get("stage")
    if shape.stages and stage not in shape.stages:
        yield f'The CRM has no stage "{stage}"; correct mapping.stages.'
