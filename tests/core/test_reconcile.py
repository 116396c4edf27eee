"""What follows for one deal: each row of the table at the head of ``reconcile``, and everything that is held back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from deals import HOLD, NOW, SHAPE, at_rest, here, remembering, rules, there

from cosell_sync.core.deal import (
    ABSENT,
    HIDDEN,
    Customer,
    Fields,
    Member,
    Side,
    Solution,
    State,
    SyncState,
    Value,
)
from cosell_sync.core.decision import Decision, HoldKind
from cosell_sync.core.memory import Closing, Failure, FinalKind, Link, Withheld, WithheldBy, reported_state
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import content_digest
from cosell_sync.core.rules import AccountUpdates, CrmShape, Flow, Policy, Rules, Stages
from cosell_sync.core.stage_table import ENDS as KNOWN_ENDS
from cosell_sync.core.status import status_report

PC, CRM = Side.PARTNER_CENTER, Side.CRM


def decided(
    link: Link, rule: Rules | None = None, shape: CrmShape = SHAPE, later: timedelta = timedelta()
) -> Decision:
    return decide(link, rule or rules(), shape, NOW + later)


def moves(decision: Decision) -> list[State | None]:
    return [step.state for step in decision.steps]


def held(decision: Decision) -> list[tuple[HoldKind, str]]:
    return [(hold.kind, hold.field) for hold in decision.holds]


def sent(decision: Decision) -> Fields:
    return {name: value for step in decision.steps for name, value in step.fields.items()}


def given_reason(link: Link) -> Link:
    return here(link, reason="Other", reason_note="moved away")


# --- a deal at rest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_at_rest_nothing_follows(state: State) -> None:
    decision = decided(at_rest(state))
    assert (decision.steps, decision.crm, decision.effects, decision.conflicts) == ((), {}, (), ())
    assert held(decision) == ([(HoldKind.UNKNOWN_STATE, "status")] if state is State.UNKNOWN else [])
    assert decided(decision.link).link == decision.link


@pytest.mark.parametrize("side", Side)
def test_half_a_deal_or_a_vanished_one_is_left_alone(side: Side) -> None:
    link = here(at_rest(), value=Decimal(5))
    assert decided(remembering(link, gone=side)) == Decision(remembering(link, gone=side))
    half = replace(link, referral=None) if side is PC else replace(link, opportunity=None)
    assert decided(half) == Decision(half)


# --- fields ------------------------------------------------------------------------------------------------------


def test_an_edit_goes_over() -> None:
    decision = decided(here(at_rest(), value=Decimal(5)))
    assert [(step.fields, step.state) for step in decision.steps] == [({"value": Decimal(5)}, None)]
    (effect,) = decision.effects
    assert (effect.side, effect.action, effect.field, effect.old, effect.new, effect.rule) == (
        PC, "update", "value", Decimal("100.00"), Decimal(5), "changed in the CRM",
    )  # fmt: skip
    decision = decided(there(at_rest(), value=Decimal(5)))
    assert (decision.steps, decision.crm) == ((), {"value": Decimal("5.00")})


def test_a_number_that_one_side_hides_is_not_agreed_to_be_gone() -> None:
    """Both sides look alike, one because it does not show the number, the other because somebody took it out there."""
    seen, gone = Member("a@x.example", "A", "Ek", "1"), Member("a@x.example", "A", "Ek")
    link = at_rest()
    link = replace(
        link,
        base_referral={**link.base_referral, "contacts": (seen,)},
        base_opportunity={**link.base_opportunity, "contacts": (seen,)},
    )
    hidden = decided(
        here(there(link, contacts=(gone,)), contacts=(replace(gone, extra={HIDDEN: ["phone"]}),))
    )
    assert (hidden.crm, hidden.steps) == ({}, ())
    shown = decided(here(hidden.link, contacts=(seen,)))
    assert (shown.crm, shown.steps) == ({"contacts": (gone,)}, ())


def test_fields_that_go_together_are_agreed_on_together() -> None:
    link = there(here(at_rest(), value=Decimal(7), currency="CHF"), value=Decimal(7), currency="CHF")
    decision = decided(link)
    assert (decision.crm, decision.steps, held(decision)) == ({}, (), [])
    for base in (decision.link.base_referral, decision.link.base_opportunity):
        assert (base["value"], base["currency"]) == (Decimal(7), "CHF")


def test_edits_of_different_fields_merge() -> None:
    decision = decided(there(here(at_rest(), value=Decimal(5)), campaign_id="C1"))
    assert (sent(decision), decision.crm) == ({"value": Decimal(5)}, {"campaign_id": "C1"})


def test_our_reference_goes_along_but_never_alone() -> None:
    link = there(at_rest(), external_reference=None)
    assert not decided(link).steps
    assert sent(decided(here(link, value=Decimal(5)))) == {"value": Decimal(5), "external_reference": "O1"}


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("name", "Other", HoldKind.FROZEN),
        ("favorite", True, HoldKind.FROZEN),
        ("value", None, HoldKind.NEED),
        ("close_date", None, HoldKind.NEED),
        ("team", (), HoldKind.NEED),
        ("solutions", (), HoldKind.NEED),
    ],
)
def test_what_partner_center_does_not_take_is_held(field: str, value: Value, kind: HoldKind) -> None:
    """Kept with its reason, neither sent nor written over."""
    decision = decided(here(at_rest(), **{field: value}))
    assert (decision.steps, decision.crm, held(decision)) == ((), {}, [(kind, field)])
    assert decision.holds[0].text
    assert decision.link.base_opportunity[field] != value


def test_the_customer_is_frozen_under_either_policy() -> None:
    other = Customer(name="Fabrikam")
    kept_equal = rules(account_updates=AccountUpdates.ALL)
    decision = decided(here(at_rest(), customer=other), kept_equal)
    assert (decision.steps, held(decision)) == ((), [(HoldKind.FROZEN, "customer")])


def test_contacts_freeze_on_our_own_cosell_deals_only() -> None:
    new = (Member("c@x", phone="1"), Member("d@x"))
    assert sent(decided(here(at_rest(), contacts=new)))["contacts"] == new
    outbound = there(at_rest(), direction="Outbound")
    assert held(decided(here(outbound, contacts=new))) == [(HoldKind.FROZEN, "contacts")]


def test_the_switches_send_names_and_hearts() -> None:
    link = here(at_rest(), name="Other", favorite=True)
    assert sent(decided(link, rules(write_name=True, write_favorite=True))) == {
        "name": "Other",
        "favorite": True,
    }


@pytest.mark.parametrize(
    ("field", "value", "shape"),
    [
        ("name", None, SHAPE),
        ("close_date", None, SHAPE),
        ("value", Decimal(10) ** 12, replace(SHAPE, maximum=Decimal(1000))),
        ("currency", "XTS", replace(SHAPE, currencies=frozenset({"USD"}))),
    ],
)
def test_what_the_crm_cannot_hold_is_held(field: str, value: Value, shape: CrmShape) -> None:
    decision = decided(there(at_rest(), **{field: value}), shape=shape)
    assert (decision.crm, held(decision)) == ({}, [(HoldKind.CRM_CANNOT, field)])


@pytest.mark.parametrize("edit", [here, there])
def test_no_amount_crosses_between_two_currencies(edit: Callable[..., Link]) -> None:
    """Where the CRM has one currency only, five of another are not five of its own."""
    single = replace(SHAPE, fields=SHAPE.fields - {"currency"})
    decision = decided(edit(there(at_rest(), currency="EUR"), value=Decimal(5)), shape=single)
    assert (decision.steps, decision.crm) == ((), {})
    assert held(decision) == [(HoldKind.CRM_CANNOT, "currency"), (HoldKind.CRM_CANNOT, "value")]
    assert len({hold.text for hold in decision.holds}) == 1  # told once
    assert decision.link == decided(decision.link, shape=single).link
    assert decided(edit(at_rest(), value=Decimal(5)), shape=single).holds == ()


def test_a_computed_amount_is_not_written() -> None:
    link = there(at_rest(), value=Decimal(5))
    assert link.opportunity is not None
    link = replace(link, opportunity=replace(link.opportunity, readonly=frozenset({"value"})))
    decision = decided(link)
    assert (decision.crm, held(decision)) == ({}, [(HoldKind.READ_ONLY, "value")])


@pytest.mark.parametrize(
    ("field", "closed", "why"),
    [
        ("value", False, "computes it"),
        ("currency", False, "stays once it is set"),
        ("name", False, "may not change it"),
        ("value", True, "reopen it"),
        ("currency", True, "stays once it is set"),
    ],
)
def test_why_the_crm_does_not_take_a_value(field: str, closed: bool, why: str) -> None:
    link = there(here(at_rest(), is_closed=closed), **{field: Decimal(5) if field == "value" else "EUR"})
    assert link.opportunity is not None
    link = replace(link, opportunity=replace(link.opportunity, readonly=frozenset({field})))
    assert why in decided(link).holds[0].text


def test_a_closed_record_is_not_to_be_reopened_for_what_it_could_not_hold_either() -> None:
    link = there(here(at_rest(), is_closed=True), value=Decimal("1e17"))
    assert link.opportunity is not None
    link = replace(link, opportunity=replace(link.opportunity, readonly=frozenset({"value", "currency"})))
    assert "the largest amount" in decided(link).holds[0].text


def test_a_locked_record_is_not_written_whatever_it_should_say() -> None:
    """What the CRM does not take is not asked for again and again; the stage may always move."""
    link = there(here(at_rest(), action="Decline"), state="Won")
    assert link.opportunity is not None
    assert decided(link).crm == {"action": None, "stage": "Closed Won"}
    locked = replace(link, opportunity=replace(link.opportunity, readonly=frozenset({"action"})))
    assert decided(locked).crm == {"stage": "Closed Won"}


def test_both_changed_asks() -> None:
    link = there(here(at_rest(), value=Decimal(5)), value=Decimal(6))
    asking = rules({"value": Policy.ASK})
    decision = decided(link, asking)
    assert (decision.steps, decision.crm) == ((), {})
    assert [conflict.kept for conflict in decision.conflicts] == [None]
    assert sent(decided(remembering(link, resolved={"value": CRM}), asking)) == {"value": Decimal(5)}
    assert decided(remembering(link, resolved={"value": PC}), asking).crm == {"value": Decimal("6.00")}


def test_a_flow_that_rewrote_our_write_is_an_edit_once() -> None:
    """Then it is the CRM's word and goes to Partner Center, though the CRM stands at its base."""
    link = there(at_rest(), value=Decimal(7))
    link = replace(link, base_referral={**link.base_referral, "value": Decimal(7)})
    assert not decided(link).steps
    assert sent(decided(remembering(link, rewritten={"value": True}))) == {"value": Decimal("100.00")}


def test_a_flow_that_rewrites_again_is_a_conflict() -> None:
    link = there(at_rest(), value=Decimal(7))
    link = replace(link, base_referral={**link.base_referral, "value": Decimal(7)})
    stuck = remembering(link, reported=("automation:value",))
    decision = decided(stuck)
    assert (decision.steps, decision.crm) == ((), {})
    assert [(conflict.field, conflict.kept) for conflict in decision.conflicts] == [("value", None)]
    assert (
        decided(there(stuck, value=Decimal(8))).link.memory.reported == ()
    )  # somebody changed it: a new story


def test_a_field_the_crm_lacks_is_left_alone() -> None:
    shape = replace(SHAPE, fields=SHAPE.fields - {"campaign_id"})
    assert not decided(there(at_rest(), campaign_id="C1"), shape=shape).crm


# --- the sales stage ---------------------------------------------------------------------------------------------


def test_the_sales_stage_goes_both_ways() -> None:
    assert sent(decided(here(at_rest(), stage="Proposal"))) == {"sales_stage": "Propose"}
    assert decided(there(at_rest(), sales_stage="Propose")).crm == {"stage": "Proposal"}


def test_a_side_without_a_claim_contradicts_nobody() -> None:
    link = at_rest(stage="Open but not listed")
    assert decided(there(link, sales_stage="Propose")).crm == {"stage": "Proposal"}
    known = there(link, sales_stage="Propose")
    known = replace(known, base_referral={**known.base_referral, "sales_stage": "Propose"})
    assert decided(known).crm == {}
    quiet = replace(
        at_rest(), base_referral={"state": "Accepted"}, base_opportunity={"stage": "Qualification"}
    )
    assert sent(decided(there(quiet, sales_stage=ABSENT)))["sales_stage"] == "Qualify"


APART = replace(
    SHAPE,
    fields=SHAPE.fields | {"sales_stage"},
    picklists={"sales_stage": frozenset({"Qualify", "Develop", "Propose"})},
)


def apart(link: Link) -> Link:
    """The same deal in a CRM that has a field for the sales stage."""
    link = there(here(link, sales_stage="Qualify"), sales_stage="Qualify")
    based = {"sales_stage": "Qualify"}
    return replace(
        link,
        base_referral={**link.base_referral, **based},
        base_opportunity={**link.base_opportunity, **based},
    )


def test_a_sales_stage_of_its_own_field_moves_no_stage() -> None:
    by_field = rules(stages=Stages())
    assert sent(decided(here(apart(at_rest()), sales_stage="Propose"), by_field, APART)) == {
        "sales_stage": "Propose"
    }
    assert decided(there(apart(at_rest()), sales_stage="Propose"), by_field, APART).crm == {
        "sales_stage": "Propose"
    }
    assert decided(here(apart(at_rest()), sales_stage=None), by_field, APART).steps == ()
    unknown = decided(there(apart(at_rest()), sales_stage="Close"), by_field, APART)
    assert (unknown.crm, held(unknown)) == ({}, [(HoldKind.CRM_CANNOT, "sales_stage")])


def test_an_accept_takes_the_sales_stage_along_that_was_set_meanwhile() -> None:
    link = here(apart(at_rest(State.RECEIVED)), sales_stage="Propose", action="Accept")
    assert sent(decided(link, rules(stages=Stages()), APART)) == {"sales_stage": "Propose"}
    quicker = there(link, sales_stage="Close")
    assert sent(decided(quicker, rules(stages=Stages()), APART)) == {}


def test_both_moved_the_sales_stage() -> None:
    decision = decided(there(here(at_rest(), stage="Proposal"), sales_stage="Close"))
    assert sent(decision) == {"sales_stage": "Propose"}
    assert [conflict.field for conflict in decision.conflicts] == ["sales_stage"]


def test_both_moved_the_sales_stage_alike_and_one_goes_on() -> None:
    """They agree on it from then on, so what either changes next is his edit, and what one takes back is not undone."""
    alike = decided(there(here(at_rest(), stage="Proposal"), sales_stage="Propose")).link
    assert alike.base_referral["sales_stage"] == alike.base_opportunity["sales_stage"] == "Propose"
    further = decided(here(alike, stage="Negotiation"), rules({"sales_stage": Policy.PARTNER_CENTER}))
    assert (sent(further), further.crm, further.conflicts) == ({"sales_stage": "Close"}, {}, ())
    back = decided(there(alike, sales_stage="Qualify"))
    assert (back.steps, back.crm, back.conflicts) == ((), {"stage": "Qualification"}, ())


@pytest.mark.parametrize("flow", [Flow.OFF, Flow.TO_CRM])
def test_a_sales_stage_that_may_not_go(flow: Flow) -> None:
    assert not decided(here(at_rest(), stage="Proposal"), rules(flows={"sales_stage": flow})).steps


# --- who and what has no key ---


def test_who_has_no_key_is_named_and_nothing_waits_for_it() -> None:
    link = there(here(at_rest(), contacts_unkeyed="Sil Ent"), solutions_unkeyed="Suite")
    decision = decided(link)
    assert (decision.steps, decision.crm) == ((), {})
    assert held(decision) == [(HoldKind.UNKEYED, "contacts"), (HoldKind.UNKEYED, "solutions")]
    told = status_report(decision, (), SHAPE, NOW)
    assert told.state is SyncState.IN_SYNC
    assert "Sil Ent" in told.message
    assert "Suite" in told.message
    off = rules(flows={"contacts": Flow.OFF, "solutions": Flow.TO_PARTNER_CENTER})
    assert held(decided(link, off)) == []
    assert HoldKind.UNKEYED not in {kind for kind, _ in held(decided(there(link, state="Won")))}


def test_a_list_is_not_written_over_a_solution_without_an_id() -> None:
    link = there(at_rest(), solutions_unkeyed="Suite")
    more = decided(here(link, solutions=(Solution("S1", "One"), Solution("S2", "Two"))))
    assert len(more.steps) == 1, "another one is appended"
    fewer = decided(here(link, solutions=(Solution("S2", "Two"),)))
    assert (fewer.steps, held(fewer)[0]) == ((), (HoldKind.FROZEN, "solutions"))


def test_whose_solution_it_is_partner_center_says() -> None:
    link = there(at_rest(), solutions=(Solution("S1", "One", "Third party"),))
    chosen = decided(here(link, solutions=(Solution("S1", "One", "Own"),)))
    assert (chosen.steps, chosen.crm["solutions"]) == ((), (Solution("S1", "One", "Third party"),))
    assert not chosen.conflicts


# --- received ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("edit", [{"stage": "Qualification"}, {"action": "Accept"}])
def test_received_and_accepted(edit: dict[str, Value]) -> None:
    """Left standby since both agreed, or Action = Accept; the edits made meanwhile go along, the sales stage too."""
    decision = decided(here(at_rest(State.RECEIVED), value=Decimal(5), **edit))
    assert moves(decision) == [State.ACCEPTED]
    assert sent(decision) == {"value": Decimal(5), **({"sales_stage": "Qualify"} if "stage" in edit else {})}
    assert (decision.effects[-1].action, decision.effects[-1].new) == ("move", "Accepted")


@pytest.mark.parametrize("edit", [{"stage": "Closed Lost"}, {"action": "Decline"}])
def test_received_and_declined(edit: dict[str, Value]) -> None:
    """Closed as lost, or Action = Decline; after the hold, with the reason in one text."""
    link = given_reason(here(at_rest(State.RECEIVED), **edit))
    first = decided(link)
    assert (first.steps, held(first)) == ((), [(HoldKind.TERMINAL, "status")])
    assert first.holds[0].until == NOW + HOLD
    second = decided(first.link, later=HOLD)
    assert moves(second) == [State.DECLINED]
    assert sent(second)["status_reason"] == "Other: moved away"


def test_received_and_won_is_accepted_and_won_after_the_hold() -> None:
    """Nothing that cannot be undone goes before the seller could take it back."""
    first = decided(here(at_rest(State.RECEIVED), stage="Closed Won"))
    assert (first.steps, held(first)) == ((), [(HoldKind.TERMINAL, "status")])
    assert "Accepted and Won" in first.holds[0].text
    assert not decided(first.link, later=HOLD - timedelta(seconds=1)).steps
    assert moves(decided(first.link, later=HOLD)) == [State.ACCEPTED, State.WON]
    back = decided(here(first.link, stage="Prospecting"), later=timedelta(minutes=5))
    assert (back.steps, back.taken_back, back.link.memory.closing) == ((), State.WON, None)
    assert moves(decided(first.link, rules(terminal_hold=timedelta()))) == [State.ACCEPTED, State.WON]


def test_received_won_and_accepted_by_action_is_accepted_now() -> None:
    """The Action is the seller's word for the accept."""
    first = decided(here(at_rest(State.RECEIVED), stage="Closed Won", action="Accept"))
    assert (moves(first), held(first)) == ([State.ACCEPTED], [(HoldKind.TERMINAL, "status")])


@pytest.mark.parametrize(("left", "at_once"), [(14, True), (19, True), (20, False), (None, False)])
def test_the_accept_does_not_wait_until_the_referral_has_expired(left: int | None, *, at_once: bool) -> None:
    respond_by = None if left is None else NOW + timedelta(minutes=left)
    link = there(here(at_rest(State.RECEIVED), stage="Closed Won"), respond_by=respond_by)
    first = decided(link)
    assert moves(first) == ([State.ACCEPTED] if at_once else [])
    assert [hold.until for hold in first.holds] == [NOW + HOLD]
    accepted = decided(there(first.link, state="Accepted", respond_by=None))
    assert ("accepted at once" in accepted.holds[0].text) is at_once
    assert moves(decided(accepted.link, later=HOLD)) == [State.WON]


@pytest.mark.parametrize("kind", [FinalKind.ACCEPT, FinalKind.WIN])
def test_an_accept_that_is_there_for_a_win_is_withheld_with_it(kind: FinalKind) -> None:
    link = here(at_rest(State.RECEIVED), stage="Closed Won")
    item = Withheld(kind, "Closed Won|", WithheldBy.COUNT)
    decision = decide(link, rules(terminal_hold=timedelta()), SHAPE, NOW, None, {kind: item})
    assert (decision.steps, held(decision)) == ((), [(HoldKind.WITHHELD, "status")])


def test_received_and_never_in_standby_takes_an_explicit_act() -> None:
    """An opportunity of old that was linked by hand: answering is left to the seller."""
    link = replace(at_rest(State.RECEIVED, stage="Proposal"), base_referral={}, base_opportunity={})
    fresh = here(link, status=None)
    assert not decided(fresh).steps
    assert moves(decided(here(fresh, action="Accept"))) == [State.ACCEPTED]


def test_the_record_stands_in_for_a_lost_base() -> None:
    """``Cosell_Status__c`` is what the CRM was last told."""
    link = replace(
        here(at_rest(State.RECEIVED), stage="Qualification"), base_referral={}, base_opportunity={}
    )
    assert reported_state(link) is State.RECEIVED
    assert moves(decided(link)) == [State.ACCEPTED]


def test_while_received_ordinary_edits_wait() -> None:
    decision = decided(here(at_rest(State.RECEIVED), value=Decimal(5), campaign_id="C1"))
    assert (decision.steps, decision.crm) == ((), {})
    assert held(decision) == [(HoldKind.UNANSWERED, "value"), (HoldKind.UNANSWERED, "campaign_id")]


@pytest.mark.parametrize(
    ("missing", "edit"),
    [
        ({"value": None}, {"action": "Accept"}),
        ({"close_date": None}, {"action": "Accept"}),
        ({}, {"action": "Decline"}),
        ({}, {"stage": "Closed Lost"}),
    ],
)
def test_needs_come_before_the_move(missing: dict[str, Value], edit: dict[str, Value]) -> None:
    link = there(here(at_rest(State.RECEIVED), **missing, **edit), **missing)
    link = replace(
        link,
        base_referral={**link.base_referral, **missing},
        base_opportunity={**link.base_opportunity, **missing},
    )
    decision = decided(link)
    need = next(iter(missing), "reason")
    assert decision.steps == ()
    assert held(decision) == [(HoldKind.NEED, need)]


def test_a_need_filled_in_the_crm_goes_along() -> None:
    link = there(at_rest(State.RECEIVED), value=None)
    link = replace(
        link,
        base_referral={**link.base_referral, "value": None},
        base_opportunity={**link.base_opportunity, "value": None},
    )
    decision = decided(here(link, action="Accept"))
    assert moves(decision) == [State.ACCEPTED]
    assert sent(decision)["value"] == Decimal("100.00")


# --- accepted ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stage", "state"), [("Closed Won", State.WON), ("Closed Lost", State.LOST)])
def test_accepted_and_ended_after_the_hold(stage: str, state: State) -> None:
    first = decided(given_reason(here(at_rest(), stage=stage)))
    assert (first.steps, held(first)) == ((), [(HoldKind.TERMINAL, "status")])
    assert not decided(first.link, later=HOLD - timedelta(seconds=1)).steps
    assert moves(decided(first.link, later=HOLD)) == [state]


def test_edits_do_not_wait_for_the_hold() -> None:
    decision = decided(here(at_rest(), stage="Closed Won", value=Decimal(5)))
    assert [(step.fields, step.state) for step in decision.steps] == [({"value": Decimal(5)}, None)]


def test_the_hold_does_not_begin_before_the_accept_can_go() -> None:
    """Received, won, and the accept lacks an amount: the end waits for the accept, and its hold begins then."""
    link = here(there(at_rest(State.RECEIVED), value=None), stage="Closed Won", value=None)
    decision = decided(link)
    assert [hold.kind for hold in decision.holds] == [HoldKind.NEED]
    assert decision.link.memory.closing is None


def test_taking_it_back_ends_the_hold_and_again_starts_it_anew() -> None:
    first = decided(here(at_rest(), stage="Closed Won"))
    back = decided(here(first.link, stage="Qualification"), later=timedelta(minutes=5))
    assert back.link.memory.closing is None
    again = decided(here(back.link, stage="Closed Won"), later=timedelta(minutes=10))
    assert again.holds[0].until == NOW + timedelta(minutes=10) + HOLD


def test_any_change_of_stage_starts_the_hold_anew() -> None:
    first = decided(given_reason(here(at_rest(), stage="Closed Won")))
    lost = decided(here(first.link, stage="Closed Lost"), later=timedelta(minutes=10))
    assert lost.holds[0].until == NOW + timedelta(minutes=10) + HOLD
    assert lost.link.memory.closing == Closing(
        State.LOST, "Closed Lost|Closed Lost", NOW + timedelta(minutes=10)
    )


def test_a_stage_that_means_something_else_now_starts_the_hold_anew() -> None:
    """The admin mapped it differently meanwhile."""
    was = Closing(State.LOST, "Closed Won|Closed Won", NOW - HOLD)
    decision = decided(remembering(here(at_rest(), stage="Closed Won"), closing=was))
    assert decision.link.memory.closing == replace(was, state=State.WON, since=NOW)


def test_a_young_win_is_warned_about() -> None:
    """Partner Center may refuse the deal registration within 72 hours of the creation."""
    young = there(here(at_rest(), stage="Closed Won"), created_at=NOW - timedelta(hours=1))
    assert "72 hours" in decided(young).holds[0].text
    assert "72 hours" not in decided(here(at_rest(), stage="Closed Won")).holds[0].text


def test_the_portal_accepts_and_the_crm_follows() -> None:
    decision = decided(there(at_rest(State.RECEIVED), state="Accepted", sales_stage="Propose"))
    assert decision.crm == {"stage": "Proposal"}
    assert decision.notices == ("This deal was accepted.",)
    assert [(effect.action, effect.old, effect.new) for effect in decision.effects] == [
        ("move", "Received", "Accepted")
    ]


def test_both_accepted_and_the_stage_stays() -> None:
    """A stage that fits already is never changed."""
    decision = decided(
        there(here(at_rest(State.RECEIVED), stage="Negotiation", action="Accept"), state="Accepted")
    )
    assert "stage" not in decision.crm
    assert decision.link.base_referral["state"] == "Accepted"


@pytest.mark.parametrize(("action", "told"), [("Accept", False), ("Decline", True)])
def test_actions_are_cleared_and_the_impossible_refused(action: str, *, told: bool) -> None:
    """An Accept that just became true is done; a Decline of an accepted deal is refused."""
    link = there(here(at_rest(State.RECEIVED), action=action), state="Accepted")
    decision = decided(link)
    assert decision.crm["action"] is None
    assert any("not possible" in notice for notice in decision.notices) is told
    late = decided(here(at_rest(), action=action))
    assert late.crm == {"action": None}
    assert any("not possible" in notice for notice in late.notices)


# --- over --------------------------------------------------------------------------------------------------------

ENDS = [
    (State.ACCEPTED, State.WON, "Closed Won"),
    (State.ACCEPTED, State.LOST, "Closed Lost"),
    (State.RECEIVED, State.DECLINED, "Closed Lost"),
    (State.RECEIVED, State.EXPIRED, "Closed Lost"),
]


@pytest.mark.parametrize(("before", "state", "stage"), ENDS)
def test_the_crm_follows_to_the_end(before: State, state: State, stage: str) -> None:
    decision = decided(there(at_rest(before), state=state.value, status_reason="so"))
    assert (decision.steps, decision.crm) == ((), {"stage": stage})
    assert decision.notices[0].endswith("Reason given: so")


@pytest.mark.parametrize(("before", "state", "stage"), ENDS)
def test_our_own_end_is_no_news(before: State, state: State, stage: str) -> None:
    link = there(here(at_rest(before), stage=stage, action="Decline"), state=state.value)
    decision = decide(link, rules(), SHAPE, NOW, own_move=state)
    assert (decision.crm, decision.notices) == ({"action": None}, ())
    assert decision.link.base_referral["state"] == state.value


@pytest.mark.parametrize("state", sorted(KNOWN_ENDS))
def test_after_the_end_nothing_is_written(state: State) -> None:
    """What the seller changes then stays where it is and is named."""
    fits = "Closed Won" if state is State.WON else "Closed Lost"
    link = here(at_rest(state, stage=fits), value=Decimal(5), stage="Qualification")
    decision = decided(link)
    assert (decision.steps, decision.crm) == ((), {})
    assert held(decision) == [(HoldKind.LATE, "value"), (HoldKind.LATE, "stage")]
    assert "Amount and Stage" in decision.holds[0].text


@pytest.mark.parametrize("state", sorted(KNOWN_ENDS))
def test_both_over_and_different_overwrites_nobody(state: State) -> None:
    stage = "Closed Lost" if state is State.WON else "Closed Won"
    decision = decided(there(here(at_rest(), stage=stage), state=state.value))
    assert (decision.steps, decision.crm) == ((), {})
    assert [(conflict.field, conflict.kept) for conflict in decision.conflicts] == [("stage", None)]


@pytest.mark.parametrize("stage", ["Qualification", "Prospecting", "Closed Won", "Closed Lost"])
@pytest.mark.parametrize("before", [State.RECEIVED, State.ACCEPTED])
def test_closed_in_a_way_that_is_not_known_leaves_the_stage_to_the_seller(before: State, stage: str) -> None:
    """Over is over: nothing is sent. Whether it is a win or a loss, nobody has said."""
    link = here(at_rest(before), stage=stage, value=Decimal(5), is_closed=stage.startswith("Closed"), is_won=stage.endswith("Won"))  # fmt: skip
    decision = decided(there(link, state="Closed", status_text="Closed / Withdrawn"))
    assert (decision.steps, decision.crm, decision.conflicts) == ((), {}, ())
    assert held(decision) == [(HoldKind.LATE, "value")]
    report = status_report(decision, (), SHAPE, NOW)
    assert report.state == "Closed"
    assert 'closed this deal as "Closed / Withdrawn"' in report.message
    assert "Set the Stage that fits" in report.message
    assert "status" not in report.fields
    later = decided(there(report.link, state="Won"), later=timedelta(days=1))
    assert later.crm.get("stage") == (None if stage.startswith("Closed") else "Closed Won")


def test_both_over_stays_a_conflict_though_the_record_was_told() -> None:
    """The base may be lost, and the record says Lost by now: still nobody agreed to that."""
    link = there(here(at_rest(), stage="Closed Won"), state="Lost")
    lost = replace(link, base_referral={}, base_opportunity={})
    told = here(decided(lost).link, status="Lost")
    assert [conflict.field for conflict in decided(told).conflicts] == ["stage"]


@pytest.mark.parametrize("field", ["solutions", "value"])
def test_after_the_end_nobody_needs_to_fill_in_anything(field: str) -> None:
    link = here(at_rest(State.WON), **{field: () if field == "solutions" else None})
    assert held(decided(link)) == [(HoldKind.LATE, field)]


def test_after_the_end_nobody_needs_to_decide() -> None:
    link = there(here(at_rest(State.WON), value=Decimal(5)), value=Decimal(6))
    decision = decided(link, rules({"value": Policy.ASK}))
    assert (decision.conflicts, held(decision)) == ((), [(HoldKind.LATE, "value")])


def test_after_the_end_actions_are_refused() -> None:
    decision = decided(here(at_rest(State.WON), action="Decline"))
    assert decision.crm == {"action": None}
    assert "not possible" in decision.notices[0]


# --- not now -----------------------------------------------------------------------------------------------------


def test_paused_exchanges_nothing() -> None:
    decision = decided(there(here(at_rest(), sync=False, value=Decimal(5)), campaign_id="C1"))
    assert (decision.steps, decision.crm, held(decision)) == ((), {}, [(HoldKind.PAUSED, "sync")])


def test_a_fresh_link_is_switched_on() -> None:
    assert decided(here(at_rest(), sync=False, status=None)).crm == {"sync": True}


def test_an_unknown_state_is_read_only() -> None:
    """Shown and warned about; what Partner Center changed still comes."""
    link = there(here(at_rest(), value=Decimal(5), stage="Closed Won"), state="Unknown", campaign_id="C1")
    decision = decided(link)
    assert (decision.steps, decision.crm) == ((), {"campaign_id": "C1"})
    assert (HoldKind.UNKNOWN_STATE, "status") in held(decision)
    assert decided(there(at_rest(), state="Martian")).holds[0].kind is HoldKind.UNKNOWN_STATE


def refused(link: Link, side: Side, seen: str) -> Link:
    trouble = Failure(side, "not_liked", "no", NOW, seen)
    return remembering(link, failure=trouble, attempts=2, next_attempt=NOW + timedelta(hours=1))


def test_a_resting_deal_is_not_tried() -> None:
    link = there(here(at_rest(), value=Decimal(5)), campaign_id="C1")
    to_partner_center = decided(refused(link, PC, content_digest(link)))
    assert (to_partner_center.steps, to_partner_center.crm) == ((), {"campaign_id": "C1"})
    to_crm = decided(refused(link, CRM, content_digest(link)))
    assert (sent(to_crm), to_crm.crm) == ({"value": Decimal(5)}, {})


def test_a_change_of_the_record_frees_it() -> None:
    link = here(at_rest(), value=Decimal(5))
    changed = refused(here(link, value=Decimal(6)), PC, content_digest(link))
    decision = decided(changed)
    assert sent(decision) == {"value": Decimal(6)}
    assert decision.link.memory.failure is None


def test_a_refusal_is_over_when_nothing_is_left_to_send() -> None:
    link = refused(at_rest(), PC, "")
    assert decided(link).link.memory.failure is not None
    assert decided(link, later=timedelta(hours=1)).link.memory.failure is None


def test_what_we_write_ourselves_is_no_change_of_the_record() -> None:
    link = at_rest()
    assert (
        content_digest(here(link, message="told", last_sync=NOW))
        == content_digest(there(link, updated_at=NOW))
        == content_digest(link)
    )
    assert content_digest(here(link, reason="Other")) != content_digest(link)
    halves = (
        replace(link, referral=None),
        replace(link, opportunity=None),
        replace(link, referral=None, opportunity=None),
    )
    assert len({content_digest(link), *map(content_digest, halves)}) == 4
    assert link.referral is not None
    turned = replace(link.referral, fields=dict(reversed(link.referral.fields.items())))  # type: ignore[call-overload]
    assert content_digest(replace(link, referral=turned)) == content_digest(link)
