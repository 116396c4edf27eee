"""A linked deal at rest, to be changed by the tests of the core: values in, values out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from cosell_sync.core.deal import Customer, Member, Snapshot, Solution, State, Value
from cosell_sync.core.fields import KINDS, NEWER, SHARED
from cosell_sync.core.memory import Link, Memory, Phase
from cosell_sync.core.rules import CrmShape, FieldRule, Flow, Policy, Rules, StageFlags, Stages

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
FRESH = Memory()
HOLD = timedelta(minutes=15)
STAGES = Stages(sales={"Qualification": "Qualify", "Proposal": "Propose", "Negotiation": "Close"})
SHAPE = CrmShape(
    fields=frozenset(KINDS) - {"sales_stage"},
    stages={
        **dict.fromkeys(("Prospecting", "Qualification", "Proposal", "Negotiation"), StageFlags()),
        "Closed Won": StageFlags(closed=True, won=True),
        "Closed Lost": StageFlags(closed=True),
    },
    lengths={"name": 8, "notes": 40},
    default_currency="USD",
)
POLICIES = {"customer": Policy.PARTNER_CENTER, "notes": Policy.MERGE}
STAGE_OF = {State.RECEIVED: "Prospecting", State.ACCEPTED: "Qualification", State.WON: "Closed Won"}


def rules(
    policies: dict[str, Policy] | None = None, flows: dict[str, Flow] | None = None, **changes: object
) -> Rules:
    chosen = {**POLICIES, **(policies or {})}
    fields = {
        name: FieldRule(name, name, (flows or {}).get(name, Flow.BOTH), chosen.get(name, Policy.CRM))
        for name in SHARED
    }
    return Rules(fields=fields, **{"stages": STAGES, "terminal_hold": HOLD, **changes})  # type: ignore[arg-type]


def shared() -> dict[str, Value]:
    return {
        "name": "Fabric",
        "value": Decimal("100.00"),
        "currency": "USD",
        "close_date": date(2026, 6, 1),
        "campaign_id": None,
        **dict.fromkeys(NEWER),
        "notes": "one",
        "favorite": False,
        "customer": Customer(name="Contoso", country="US"),
        "team": (Member("t@x"),),
        "contacts": (Member("c@x", phone="1"),),
        "solutions": (Solution("S1", "One"),),
    }


def at_rest(state: State = State.ACCEPTED, *, stage: str | None = None, memory: Memory = FRESH) -> Link:
    """Both sides agree, and were told so."""
    stage = stage or STAGE_OF.get(state, "Closed Lost")
    referral: dict[str, Value] = {
        **shared(),
        "state": state.value,
        "status_text": "As Partner Center words it",
        "category": "cosell",
        "direction": "Inbound",
        "deal_type": "Co-sell",
        "external_reference": "O1",
        "created_at": NOW - timedelta(days=10),
        "respond_by": NOW + timedelta(days=4, hours=1),
    }
    opportunity: dict[str, Value] = {
        **shared(),
        "stage": stage,
        "sync": True,
        "consent": True,
        "action": None,
        "reason": None,
        "reason_note": None,
        "status": state.value,
        "referral_id": "R1",
    }
    base_opportunity = {**shared(), "stage": stage}
    if stage in STAGES.sales and state is State.ACCEPTED:
        referral["sales_stage"] = base_opportunity["sales_stage"] = STAGES.sales[stage]
    return Link(
        "r:R1",
        "R1",
        "O1",
        Phase.LINKED,
        Snapshot("R1", "1", referral),
        Snapshot("O1", "1", opportunity),
        {
            **shared(),
            "state": state.value,
            **({"sales_stage": referral["sales_stage"]} if "sales_stage" in referral else {}),
        },
        base_opportunity,
        memory,
        dirty=False,
    )


def there(link: Link, **changes: Value) -> Link:
    """A colleague changed the referral."""
    assert link.referral is not None
    fields = {**link.referral.fields, **changes}
    return replace(link, referral=replace(link.referral, version=link.referral.version + "'", fields=fields))


def here(link: Link, **changes: Value) -> Link:
    """The seller changed the opportunity."""
    assert link.opportunity is not None
    fields = {**link.opportunity.fields, **changes}
    return replace(
        link, opportunity=replace(link.opportunity, version=link.opportunity.version + "'", fields=fields)
    )


def remembering(link: Link, **changes: object) -> Link:
    return replace(link, memory=replace(link.memory, **changes))  # type: ignore[arg-type]
