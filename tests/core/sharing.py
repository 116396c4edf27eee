"""An opportunity that can be shared as it is, and the pair it becomes, to be changed by tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

from deals import SHAPE, rules

from cosell_sync.core import publishing
from cosell_sync.core.deal import Customer, Member, Snapshot, Solution, Value
from cosell_sync.core.fields import NEWER
from cosell_sync.core.memory import Link

TODAY = date(2026, 3, 2)


NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)


RULES = rules()


COMPLETE: dict[str, Value] = {
    "name": "ERP move",
    "value": Decimal("84000.00"),
    "currency": "EUR",
    "close_date": date(2026, 11, 30),
    "customer": Customer("Harbor Mills GmbH", "Kai 7", None, "Bremen", None, "28195", "DE"),
    "team": (Member("ida@p.example", "Ida", "Kern", "+49"),),
    "contacts": (Member("greta@c.example", "Greta", "Öz", "+49"),),
    "solutions": (Solution("SOL-1", "Planner", "Own"),),
    "campaign_id": None,
    **dict.fromkeys(NEWER),
    "notes": None,
    "stage": "Qualification",
    "sync": True,
    "consent": True,
    "visible": False,
    "help": None,
    "help_note": None,
    "referral_id": None,
}


HELP = "Proof of concept or demo"


def opportunity(**changes: Value) -> Snapshot:
    return Snapshot("006", "1", {**COMPLETE, **changes})


def referral(**changes: Value) -> Snapshot:
    fields = {
        **COMPLETE,
        "state": "Accepted",
        "direction": "Outbound",
        "deal_type": "Private",
        "engagement_id": "E1",
    }
    own = {
        name: value
        for name, value in fields.items()
        if name not in {"stage", "sync", "consent", "help", "help_note"}
    }
    own |= {"sales_stage": "Qualify", "external_reference": "006", "visible": False, "favorite": False}
    return Snapshot("R1", "r1", {**own, **changes})


def pair(here: dict[str, Value] | None = None, **there: Value) -> Link:
    sent = publishing.new_referral_fields(opportunity(), RULES, SHAPE)
    link = Link("o:006", opportunity_id="006", opportunity=opportunity())
    made = publishing.after_post(
        link,
        sent,
        publishing.source_values(opportunity(), sent, RULES),
        referral(**there),
        RULES,
        SHAPE,
        answered=True,
    )
    return replace(
        made, opportunity=opportunity(referral_id="R1", favorite=False, status="Accepted", **(here or {}))
    )
