"""What a write teaches: after it landed, after it was refused, and when nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from deals import NOW, SHAPE, at_rest, here, remembering, rules, there

from cosell_sync.core.attempts import Patience
from cosell_sync.core.deal import (
    ABSENT,
    Customer,
    Fields,
    Intent,
    Link,
    Member,
    Phase,
    Side,
    Snapshot,
    State,
    Step,
    Trouble,
    Value,
)
from cosell_sync.core.reconcile import Decision, content, decide
from cosell_sync.core.settle import after_create, after_opportunity, after_referral, after_trouble, settle
from cosell_sync.core.tell import conflict_text
from cosell_sync.errors import Flaky, Gone, RecordError, Rejected, Unclear

PC, CRM = Side.PARTNER_CENTER, Side.CRM
FIVE, SIX, SEVEN = Decimal(5), Decimal(6), Decimal(7)
TROUBLE = Trouble(PC, "not_liked", "no", NOW)


def decided(link: Link) -> Decision:
    return decide(link, rules(), SHAPE, NOW)


def quiet(link: Link) -> bool:
    decision = decided(link)
    return not (decision.steps or decision.crm or decision.conflicts)


def opportunity_after(link: Link, **changes: Value) -> Snapshot:
    after = here(link, **changes).opportunity
    assert after is not None
    return after


def referral_after(link: Link, **changes: Value) -> Snapshot:
    after = there(link, **changes).referral
    assert after is not None
    return after


# --- it landed ---------------------------------------------------------------------------------------------------


def test_partner_center_took_it() -> None:
    link = here(at_rest(), value=FIVE)
    learned = after_referral(link, decided(link).steps, referral_after(link, value=FIVE), rules(), SHAPE)
    assert learned.link.base_referral["value"] == learned.link.base_opportunity["value"] == FIVE
    assert learned.notices == ("Sent to Partner Center: Amount.",)
    assert quiet(learned.link)


def test_partner_center_took_a_move() -> None:
    link = here(at_rest(State.RECEIVED), action="Accept")
    learned = after_referral(
        link, decided(link).steps, referral_after(link, state="Accepted"), rules(), SHAPE
    )
    assert learned.state is State.ACCEPTED
    assert learned.notices == ("You accepted this deal; Microsoft knows.",)


def test_an_edit_that_came_meanwhile_still_shows() -> None:
    """The base takes in what was written, and nothing else."""
    link = here(at_rest(), value=FIVE)
    after = referral_after(link, value=FIVE, campaign_id="C1")
    learned = after_referral(link, decided(link).steps, after, rules(), SHAPE)
    assert decided(learned.link).crm == {"campaign_id": "C1"}


def test_an_unlinked_snapshot_is_simply_kept() -> None:
    half = replace(at_rest(), opportunity=None)
    after = referral_after(at_rest(), value=FIVE)
    assert after_referral(half, (Step({}),), after, rules(), SHAPE).link.referral == after
    other = replace(at_rest(), referral=None)
    here_after = opportunity_after(at_rest(), value=FIVE)
    assert after_opportunity(other, {}, here_after, rules(), State.ACCEPTED).opportunity == here_after


def test_the_crm_took_it() -> None:
    link = there(at_rest(), value=FIVE, campaign_id="C1")
    sent = decided(link).crm
    assert quiet(after_opportunity(link, sent, opportunity_after(link, **sent), rules(), State.ACCEPTED))


def test_the_crm_took_a_stage() -> None:
    link = there(at_rest(State.RECEIVED), state="Accepted", sales_stage="Propose")
    sent = decided(link).crm
    learned = after_opportunity(link, sent, opportunity_after(link, **sent), rules(), State.ACCEPTED)
    assert (learned.base_referral["state"], learned.base_opportunity["stage"]) == ("Accepted", "Proposal")
    assert (learned.base_referral["sales_stage"], learned.base_opportunity["sales_stage"]) == (
        "Propose",
        "Propose",
    )


def test_a_flow_that_rewrites_twice_is_a_conflict_not_a_loop() -> None:
    """First its word goes to Partner Center as an edit; after our next write was rewritten too, it is told."""
    link = there(at_rest(), value=FIVE)
    first = after_opportunity(
        link, {"value": FIVE}, opportunity_after(link, value=SIX), rules(), State.ACCEPTED
    )
    assert first.memory.rewritten == {"value": True}
    steps = decided(first).steps
    assert steps[0].fields == {"value": SIX}
    carried = after_referral(first, steps, referral_after(first, value=SIX), rules(), SHAPE).link
    assert quiet(carried)
    again = there(carried, value=SEVEN)
    second = after_opportunity(
        again, {"value": SEVEN}, opportunity_after(again, value=SIX), rules(), State.ACCEPTED
    )
    assert second.memory.told == ("automation:value",)
    decision = decided(second)
    assert (decision.steps, decision.crm, [each.kept for each in decision.conflicts]) == ((), {}, [None])


def test_a_flow_that_gave_in_is_forgotten() -> None:
    link = remembering(there(at_rest(), value=FIVE), rewritten={"value": False})
    learned = after_opportunity(
        link, {"value": FIVE}, opportunity_after(link, value=FIVE), rules(), State.ACCEPTED
    )
    assert learned.memory.rewritten == {}


@pytest.mark.parametrize("side", Side)
def test_a_landed_write_ends_the_trouble_of_its_side_only(side: Side) -> None:
    link = remembering(at_rest(), trouble=TROUBLE, attempts=3, disputed=("value",), resolved={"value": CRM})
    if side is PC:
        steps = (Step({"value": FIVE}),)
        memory = after_referral(link, steps, referral_after(link, value=FIVE), rules(), SHAPE).link.memory
    else:
        after = opportunity_after(link, value=FIVE)
        memory = after_opportunity(link, {"value": FIVE}, after, rules(), State.ACCEPTED).memory
    assert (memory.trouble is None) is (side is PC)
    assert (memory.disputed, memory.resolved) == ((), {})


def test_an_account_that_was_there_before_may_say_it_its_own_way() -> None:
    """Found again by name, postal code and country: no automation changed it, and nothing is sent."""
    link = at_rest()
    assert link.opportunity is not None
    fresh = replace(link, opportunity=None, opportunity_id=None, base_referral={}, base_opportunity={})
    after = opportunity_after(link, customer=Customer(name="CONTOSO", country="US", city="Redmond"))
    made = after_create(fresh, dict(link.opportunity.fields), after, rules(), State.ACCEPTED)
    assert quiet(made)
    assert decided(made).holds == ()


def test_a_new_opportunity_agrees() -> None:
    link = at_rest()
    assert link.referral is not None
    assert link.opportunity is not None
    start = Link("r:R1", "R1", referral=link.referral)
    sent = {name: value for name, value in link.opportunity.fields.items() if name != "reason"}
    made = after_create(start, sent, link.opportunity, rules(), State.ACCEPTED)
    assert (made.phase, made.opportunity_id) == (Phase.LINKED, "O1")
    assert quiet(made)


# --- it did not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "transient", "attempts"),
    [
        (Rejected("no", code="not_liked", status=400), False, 1),
        (Flaky("busy", status=503), True, 0),
        (Flaky("broken", status=500), False, 1),  # on one record, again and again: that one is stuck
        (Unclear("no answer"), True, 0),
    ],
)
def test_trouble(error: RecordError, *, transient: bool, attempts: int) -> None:
    link = after_trouble(at_rest(), PC, error, NOW, Patience())
    assert link.memory.trouble is not None
    assert (link.memory.trouble.transient, link.memory.attempts, link.dirty) == (transient, attempts, True)
    assert link.memory.trouble.seen == content(at_rest())
    assert link.memory.trouble.code


def test_a_vanished_record_is_no_trouble() -> None:
    link = after_trouble(at_rest(), CRM, Gone("deleted"), NOW, Patience())
    assert (link.memory.gone, link.memory.trouble) == (CRM, None)


# --- nobody knows ------------------------------------------------------------------------------------------------


def intent(side: Side, fields: Fields, source: Fields, *, version: str = "1", create: bool = False) -> Intent:
    return Intent("r:R1", side, create, version, fields, source, "c1", NOW - timedelta(minutes=1))


def test_the_version_stands_so_it_did_not_land() -> None:
    link = here(at_rest(), value=FIVE)
    assert settle(link, intent(PC, {"value": FIVE}, {"value": FIVE})) == link
    assert decided(link).steps


def test_it_holds_what_was_sent_so_it_landed() -> None:
    link = there(here(at_rest(), value=FIVE), value=FIVE)
    settled = settle(link, intent(PC, {"value": FIVE}, {"value": FIVE}))
    assert settled.base_referral["value"] == settled.base_opportunity["value"] == FIVE
    assert quiet(settled)


def test_it_landed_and_the_seller_went_on() -> None:
    """The source values of the intent are the base of the other side, so his newer edit is one."""
    link = there(here(at_rest(), value=SIX), value=FIVE)
    settled = settle(link, intent(PC, {"value": FIVE}, {"value": FIVE}))
    assert decided(settled).steps[0].fields == {"value": SIX}
    assert not decided(settled).conflicts


def test_it_holds_something_else_so_it_is_disputed() -> None:
    """Our write may have landed under his; neither may get lost silently."""
    link = there(here(at_rest(), value=FIVE), value=Decimal("100.00"))
    settled = settle(link, intent(PC, {"value": FIVE}, {"value": FIVE}))
    assert settled.memory.disputed == ("value",)
    assert [conflict.field for conflict in decided(settled).conflicts] == ["value"]


def test_what_is_out_of_sight_cannot_be_settled_by_looking() -> None:
    """It landed, a colleague put the old value back, and only then the record came into sight again: both edits count."""
    link = here(at_rest(), value=FIVE)
    unseen = settle(remembering(link, gone=PC), intent(PC, {"value": FIVE, "notes": "x"}, {"value": FIVE}))
    assert unseen.memory.disputed == ("value",)
    assert unseen.base_referral == link.base_referral
    back = there(remembering(unseen, gone=None), value=link.base_referral["value"])
    assert [conflict.field for conflict in decided(back).conflicts] == ["value"]


def test_the_same_towards_the_crm() -> None:
    link = here(there(at_rest(), value=FIVE, campaign_id="C1"), value=FIVE)
    settled = settle(
        link, intent(CRM, {"value": FIVE, "campaign_id": "C1"}, {"value": FIVE, "campaign_id": "C1"})
    )
    assert settled.base_opportunity["value"] == FIVE
    assert settled.memory.disputed == ("campaign_id",)


def test_a_version_read_too_soon_is_the_same_version() -> None:
    """Another reading of the same state may only be surer of it."""
    link = here(at_rest(), value=FIVE)
    assert settle(link, intent(PC, {"value": FIVE}, {"value": FIVE}, version="1?")) == link


@pytest.mark.parametrize("landed", [True, False])
def test_the_moment_on_the_record_tells_whether_our_write_landed(*, landed: bool) -> None:
    """It came along with the write, and nobody else writes it: so there is nothing to dispute."""
    link = there(at_rest(), value=FIVE)
    link = here(link, name="Other", last_sync=NOW if landed else NOW - timedelta(hours=1))
    settled = settle(link, intent(CRM, {"value": FIVE, "last_sync": NOW}, {"value": FIVE}))
    assert settled.memory.disputed == ()
    decision = decided(settled)
    assert not decision.conflicts
    if landed:
        assert decision.steps[0].fields == {"value": Decimal("100.00")}, "the seller took it back"
    else:
        assert decision.crm["value"] == FIVE


def test_rows_that_a_lost_create_never_made_are_made_now() -> None:
    """They come after the opportunity, so one that is missing was not taken away by anybody."""
    link = at_rest()
    sent = dict(link.base_opportunity)
    source = {**link.base_referral, "state": "Accepted"}
    found = replace(here(link, contacts=(), solutions=()), base_referral={}, base_opportunity={})
    decision = decided(settle(found, intent(CRM, sent, source, create=True)))
    assert decision.crm["contacts"] == link.base_referral["contacts"]
    assert decision.crm["solutions"] == link.base_referral["solutions"]
    assert not decision.steps


def test_landed_notes_carry_only_what_their_source_wrote() -> None:
    """What the written side had added itself stands there too, and still has to go the other way."""
    link = there(here(at_rest(), notes="one\nhere"), notes="there\none\nhere")
    settled = settle(link, intent(PC, {"notes": "there\none\nhere"}, {"notes": "one\nhere"}))
    assert decided(settled).crm["notes"] == "there\none\nhere"
    assert not decided(settled).steps


def test_members_settle_one_by_one() -> None:
    ann, ben, old = Member("a@x"), Member("b@x"), Member("c@x", phone="1")
    link = there(here(at_rest(), contacts=(old, ann, ben)), contacts=(old, ann))
    settled = settle(link, intent(PC, {"contacts": (old, ann, ben)}, {"contacts": (old, ann, ben)}))
    assert settled.base_referral["contacts"] == (old, ann)
    assert decided(settled).steps[0].fields == {"contacts": (old, ann, ben)}


def test_lines_of_notes_are_never_disputed() -> None:
    link = there(here(at_rest(), notes="one\nhere"), notes="one\nthere")
    settled = settle(link, intent(PC, {"notes": "one\nhere"}, {"notes": "one\nhere"}))
    assert settled.memory.disputed == ()
    assert decided(settled).steps[0].fields == {"notes": "one\nthere\nhere"}


def test_our_lost_create_holds_what_was_sent() -> None:
    """Whatever differs from that, a person wrote since: an edit, not a first sight."""
    link = at_rest()
    assert link.referral is not None
    sent = dict(link.base_opportunity)
    source = {**link.base_referral, "state": "Accepted"}
    found = replace(here(link, value=FIVE), base_referral={}, base_opportunity={})
    settled = settle(found, intent(CRM, sent, source, create=True))
    assert decided(settled).steps[0].fields["value"] == FIVE
    assert not decided(settled).conflicts


def test_a_create_is_settled_once() -> None:
    link = at_rest()
    assert settle(link, intent(CRM, {"value": FIVE}, {}, create=True)) == link
    nothing = replace(link, opportunity=None, base_opportunity={})
    assert settle(nothing, intent(CRM, {"value": FIVE}, {}, create=True)) == nothing


def test_a_side_that_was_not_read_settles_nothing() -> None:
    half = replace(at_rest(), referral=None)
    assert settle(half, intent(PC, {"value": FIVE}, {"value": ABSENT})) == half


def test_partner_center_left_it_as_it_was() -> None:
    """Or a colleague was quicker than the read-back: both values are told, nothing is written again and again."""
    link = here(at_rest(), value=FIVE)
    asked = after_referral(link, decided(link).steps, referral_after(link), rules(), SHAPE).link
    decision = decided(asked)
    assert (decision.steps, decision.crm) == ((), {})
    (conflict,) = decision.conflicts
    assert (conflict.field, conflict.referral, conflict.opportunity, conflict.kept) == (
        "value",
        Decimal("100.00"),
        FIVE,
        None,
    )
    assert "although 5 was sent" in conflict_text(conflict, SHAPE)
    assert decided(remembering(asked, resolved={"value": PC})).crm == {"value": Decimal("100.00")}
    assert decided(remembering(asked, resolved={"value": CRM})).steps[0].fields == {"value": FIVE}
    assert quiet(there(asked, value=FIVE))
    assert decided(there(asked, value=SIX)).link.memory.told == ()
