"""What is sent for a new referral, and the link after the post landed."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from deals import SHAPE, rules
from sharing import COMPLETE, HELP, NOW, RULES, opportunity, pair, referral

from cosell_sync.core import messages, publishing
from cosell_sync.core.deal import ABSENT, Customer, DealType, Member, Snapshot, Solution, Value
from cosell_sync.core.decision import ConflictKind
from cosell_sync.core.memory import Invitation, Link, Memory, Phase
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import Flow

OPTIONAL = {"campaign_id", "notes", "sales_stage", "contacts"}


def test_the_three_kinds_of_deal_differ_in_exactly_their_own_fields() -> None:
    private = publishing.new_referral_fields(opportunity(), RULES, SHAPE)
    led = publishing.new_referral_fields(opportunity(visible=True), RULES, SHAPE)
    cosell = publishing.new_referral_fields(opportunity(help=HELP, help_note="Pilot"), RULES, SHAPE)
    assert (private["deal_type"], private["visible"]) == (DealType.PRIVATE, False)
    assert led == {**private, "deal_type": "Partner-led", "visible": True}
    assert cosell == {**led, "deal_type": "Co-sell", "help": HELP, "help_note": "Pilot"}
    posted = ("name", "value", "currency", "close_date", "customer", "team", "solutions", "contacts")
    assert private == {
        **{name: COMPLETE[name] for name in posted},
        "sales_stage": "Qualify",
        "consent": True,
        "visible": False,
        "deal_type": "Private",
    }, "nothing is invented"


def test_what_is_optional_goes_where_it_may() -> None:
    told = opportunity(campaign_id=" C1 ", notes="one\r\n")
    assert {"campaign_id": "C1", "notes": "one"}.items() <= publishing.new_referral_fields(
        told, RULES, SHAPE
    ).items()
    closed = rules(flows={"campaign_id": Flow.TO_CRM, "notes": Flow.OFF, "contacts": Flow.TO_PARTNER_CENTER})
    assert publishing.new_referral_fields(told, closed, SHAPE).keys() & OPTIONAL == {
        "sales_stage",
        "contacts",
    }
    unmapped = replace(RULES, fields={})
    assert not publishing.new_referral_fields(told, unmapped, SHAPE).keys() & OPTIONAL


def test_the_base_is_what_the_crm_held() -> None:
    """Also of the stage and the seller's words, which nobody posts like this; what is not known is left out."""
    sent = publishing.new_referral_fields(opportunity(visible=True), RULES, SHAPE)
    held = opportunity(visible=True, name="Edited", notes=ABSENT, help_note=ABSENT, deal_type="Private")
    assert publishing.source_values(held, {**sent, "notes": "x"}, RULES) == {
        **{name: held[name] for name in sent if name not in {"deal_type", "sales_stage"}},
        "sales_stage": "Qualify",
        "stage": "Qualification",
    }


def test_what_partner_center_fills_in_for_a_post_does_not_travel() -> None:
    decision = decide(pair(campaign_id="C0"), RULES, SHAPE, NOW)
    assert (decision.steps, dict(decision.crm), decision.conflicts) == ((), {}, ())
    later = decide(pair({"campaign_id": "C1"}, campaign_id="C0"), RULES, SHAPE, NOW)
    assert [step.fields for step in later.steps] == [{"campaign_id": "C1"}]


def test_a_new_pair_agrees_on_what_was_posted() -> None:
    decision = decide(pair(), RULES, SHAPE, NOW)
    assert (decision.steps, dict(decision.crm), decision.holds, decision.conflicts) == ((), {}, (), ())
    assert decision.link.phase is Phase.LINKED


KNOWN = {"stage": "Qualification", "visible": True, "consent": True, "help": HELP, "help_note": None}


@pytest.mark.parametrize(
    ("kind", "recipe", "invite", "words"),
    [
        (DealType.PRIVATE, "two_posts", "", {}),
        (DealType.PARTNER_LED, "one_post", "", {}),
        (DealType.COSELL, "two_posts", Invitation.PENDING, {}),
        (DealType.COSELL, "one_post", Invitation.DONE, {"help": HELP, "help_note": None}),
    ],
)
def test_a_deal_just_posted(kind: DealType, recipe: str, invite: str, words: dict[str, Value]) -> None:
    """The request for help is fixed once Microsoft was asked, which one post does and two posts do later."""
    waiting = Link("o:006", opportunity_id="006", opportunity=opportunity(), dirty=False, due=NOW)
    sent: dict[str, Value] = {"name": "Posted", "value": Decimal(1), "notes": "x", "deal_type": kind.value}
    made = referral(name="Made", notes=ABSENT)
    known: dict[str, Value] = {**KNOWN, "name": "Held", "notes": "x"}
    assert publishing.after_post(
        waiting, sent, known, made, rules(cosell_recipe=recipe), SHAPE, answered=True
    ) == replace(
        waiting,
        referral_id="R1",
        referral=made,
        phase=Phase.LINKED,
        base_referral={"state": "Accepted", "name": "Made"},
        base_opportunity={
            "stage": "Qualification",
            "visible": True,
            "consent": True,
            "name": "Held",
            **words,
        },
        memory=Memory(notices=(messages.shared(kind),), invite=invite, reported=("kept:name",)),
        dirty=True,
        due=None,
    )


def test_what_partner_center_made_otherwise_than_it_was_sent_is_told_and_settled_by_the_next_edit() -> None:
    """But for the customer, which nobody can change there."""
    link = pair(name="Made", customer=Customer("Harbor Mills"))
    decision = decide(link, RULES, SHAPE, NOW)
    assert decision.steps == ()
    assert [(each.field, each.kept, each.kind) for each in decision.conflicts] == [
        ("name", None, ConflictKind.NOT_TAKEN)
    ]
    assert link.opportunity is not None
    agreed = replace(link, opportunity=opportunity(referral_id="R1", status="Accepted", name="Made"))
    assert decide(agreed, RULES, SHAPE, NOW).conflicts == ()


def test_a_post_whose_reply_was_lost_landed_whole() -> None:
    """Of what differs now only the customer is Partner Center's own doing, and what it calls a solution."""
    sold = (Solution("SOL-1", "Planner"), Solution("SOL-2", "Maker"))
    sent: dict[str, Value] = {
        "name": "Posted",
        "customer": Customer("Harbor"),
        "solutions": sold,
        "team": (Member("a@x"),),
        "notes": "x",
        "deal_type": "Private",
    }
    made = referral(
        name="Edited since",
        customer=Customer("Harbor Mills"),
        solutions=(Solution("SOL-1", "Planner 365", "Own"), Solution("SOL-3")),
        team=(Member("b@x"),),
        notes=ABSENT,
    )
    waiting = Link("o:006", opportunity_id="006", opportunity=opportunity())
    link = publishing.after_post(waiting, sent, sent, made, RULES, SHAPE, answered=False)
    assert link.base_referral == {
        "state": "Accepted",
        "name": "Posted",
        "customer": Customer("Harbor Mills"),
        "solutions": (Solution("SOL-1", "Planner 365", "Own"), Solution("SOL-2", "Maker")),
        "team": (Member("a@x"),),
    }


def test_a_lost_reply_leaves_what_was_sent_as_base() -> None:
    """Whatever differs when the referral is found was written by a person since."""
    sent = publishing.new_referral_fields(opportunity(), RULES, SHAPE)
    link = Link("o:006", opportunity_id="006", opportunity=opportunity(value=Decimal(1)))
    later = referral(close_date=date(2027, 1, 1), team=())
    known = publishing.source_values(opportunity(), sent, RULES)
    decision = decide(
        publishing.after_post(link, sent, known, later, RULES, SHAPE, answered=False), RULES, SHAPE, NOW
    )
    assert decision.crm["close_date"] == date(2027, 1, 1)
    assert decision.crm["team"] == ()
    assert decision.steps[0].fields["value"] == Decimal(1)


@pytest.mark.parametrize(
    ("changes", "there", "wants"),
    [
        ({}, {}, True),
        ({"phase": Phase.SKIPPED}, {}, False),
        ({"referral": Snapshot("R1", "1")}, {}, False),
        ({"opportunity": None}, {}, False),
        ({}, {"sync": False}, False),
        ({}, {"referral_id": "R1"}, False),
    ],
)
def test_an_opportunity_wants_to_be_shared(
    changes: dict[str, object], there: dict[str, Value], *, wants: bool
) -> None:
    waiting = Link("o:006", opportunity_id="006", opportunity=opportunity(**there))
    assert publishing.wants_sharing(replace(waiting, **changes)) is wants  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "closed"), [("Qualification", False), ("Closed Won", True), ("Closed Lost", True)]
)
def test_closed_is_won_or_lost(stage: str, *, closed: bool) -> None:
    assert publishing.is_closed(opportunity(stage=stage), RULES) is closed
