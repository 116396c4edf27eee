"""What a write teaches: after it landed, after it was refused, and when nobody knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from deals import NOW, SHAPE, at_rest, here, remembering, rules, there

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Customer, Fields, Member, Side, Snapshot, State, Step, Value
from cosell_sync.core.decision import Decision
from cosell_sync.core.memory import Failure, Intent, Link, Memory, Phase
from cosell_sync.core.outcome import (
    Learned,
    after_create,
    after_failed_write,
    after_opportunity,
    after_referral,
    settle,
)
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import RetryPolicy, content_digest
from cosell_sync.core.rules import Stages
from cosell_sync.core.status import conflict_text
from cosell_sync.errors import Flaky, Gone, RecordError, Rejected, Unclear

PC, CRM = Side.PARTNER_CENTER, Side.CRM
FIVE, SIX, SEVEN = Decimal(5), Decimal(6), Decimal(7)
TROUBLE = Failure(PC, "not_liked", "no", NOW)


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


@pytest.mark.parametrize("half", [replace(at_rest(), opportunity=None), replace(at_rest(), referral=None)])
def test_an_unlinked_snapshot_is_simply_kept(half: Link) -> None:
    there_after = referral_after(at_rest(), value=FIVE)
    learned = after_referral(half, (Step({"value": FIVE}),), there_after, rules(), SHAPE)
    assert learned == Learned(replace(half, referral=there_after))
    here_after = opportunity_after(at_rest(), value=FIVE)
    made = after_opportunity(half, {"value": FIVE}, here_after, rules(), State.ACCEPTED)
    assert made == replace(half, opportunity=here_after)


def test_two_steps_are_learned_as_one() -> None:
    link = here(at_rest(State.RECEIVED), value=FIVE, campaign_id="C1")
    steps = (
        Step({"value": FIVE}, State.ACCEPTED),
        Step({"campaign_id": "C1", "visible": True}, State.WON),
        Step({}),
    )
    after = referral_after(link, value=FIVE, campaign_id="C1", state="Won")
    learned = after_referral(link, steps, after, rules(), SHAPE)
    assert learned == Learned(
        replace(
            link,
            referral=after,
            base_referral={**link.base_referral, "value": FIVE, "campaign_id": "C1"},
            base_opportunity={**link.base_opportunity, "value": FIVE, "campaign_id": "C1"},
        ),
        ("Sent to Partner Center: Amount and Campaign Id.", messages.widened(), messages.done(State.WON)),
        State.WON,
    )


OLD, ANN, BEN = Member("c@x", phone="1"), Member("a@x"), Member("b@x")
OTHER = replace(OLD, phone="2")


@pytest.mark.parametrize("side", Side)
def test_members_and_lines_that_were_not_written_keep_their_base(side: Side) -> None:
    """Ben and the other phone came while Ann was written: they still have to go over."""
    sent: Fields = {"contacts": (OLD, ANN), "notes": "one\nmine"}
    after: Fields = {"contacts": (OTHER, ANN, BEN), "notes": "one\nmine\ntheirs"}
    if side is PC:
        link = here(at_rest(), **sent)
        learned = after_referral(link, (Step(sent),), referral_after(link, **after), rules(), SHAPE).link
    else:
        link = there(at_rest(), **sent)
        learned = after_opportunity(link, sent, opportunity_after(link, **after), rules(), State.ACCEPTED)
    assert learned.base_referral == {**link.base_referral, **sent}
    assert learned.base_opportunity == {**link.base_opportunity, **sent}
    assert learned.memory.reported == ()
    assert "contacts" not in learned.memory.rewritten, "no flow did this"


def test_what_each_side_made_of_it_is_its_base() -> None:
    """The CRM cuts a name: that is no change of anybody."""
    link = there(at_rest(), name="A name too long")
    learned = after_opportunity(
        link, {"name": "A name t"}, opportunity_after(link, name="A name t"), rules(), State.ACCEPTED
    )
    assert (learned.base_referral["name"], learned.base_opportunity["name"]) == (
        "A name too long",
        "A name t",
    )


def test_what_was_left_as_it_was_is_remembered_once_and_last() -> None:
    """A sales stage that moves on by itself is no refusal."""
    link = remembering(
        here(at_rest(), value=FIVE, team=(ANN,), notes="two", stage="Proposal"),
        reported=("kept:value", "automation:name", "kept:close_date"),
    )
    steps = (
        Step({"value": FIVE, "team": (ANN,), "notes": "two", "sales_stage": "Propose", "campaign_id": "C1"}),
    )
    learned = after_referral(link, steps, referral_after(link, campaign_id=ABSENT), rules(), SHAPE)
    kept = ("kept:value", "kept:notes", "kept:team")
    assert learned.link.memory.reported == ("automation:name", "kept:close_date", *kept)


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


def test_a_sales_stage_in_a_field_of_its_own_is_agreed_by_itself() -> None:
    """The stage says nothing about it then; only what was written is learned."""
    link = there(
        here(at_rest(State.RECEIVED), sales_stage="Develop"), state="Accepted", sales_stage="Propose"
    )
    after = opportunity_after(link, stage="Qualification")
    learned = after_opportunity(
        link, {"stage": "Qualification"}, after, rules(stages=Stages()), State.ACCEPTED
    )
    assert learned.base_referral == {**link.base_referral, "state": "Accepted"}
    assert learned.base_opportunity == {**link.base_opportunity, "stage": "Qualification"}


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
    assert second.memory.reported == ("automation:value",)
    decision = decided(second)
    assert (decision.steps, decision.crm, [each.kept for each in decision.conflicts]) == ((), {}, [None])


def test_a_flow_that_gave_in_is_forgotten() -> None:
    link = remembering(there(at_rest(), value=FIVE), rewritten={"value": False})
    learned = after_opportunity(
        link, {"value": FIVE}, opportunity_after(link, value=FIVE), rules(), State.ACCEPTED
    )
    assert learned.memory.rewritten == {}


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("stuck", Side)
def test_a_landed_write_ends_the_trouble_of_its_side_only(side: Side, stuck: Side) -> None:
    trouble = replace(TROUBLE, side=stuck)
    link = there(here(at_rest(), value=FIVE), value=FIVE)
    link = remembering(link, failure=trouble, attempts=3, disputed=("value",), resolved={"value": CRM})
    if side is PC:
        steps = (Step({"value": FIVE}),)
        memory = after_referral(link, steps, referral_after(link, value=FIVE), rules(), SHAPE).link.memory
    else:
        after = opportunity_after(link, value=FIVE)
        memory = after_opportunity(link, {"value": FIVE}, after, rules(), State.ACCEPTED).memory
    assert memory == (Memory() if side is stuck else Memory(failure=trouble, attempts=3))


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
    link = after_failed_write(at_rest(), CRM, error, NOW, RetryPolicy())
    code = error.code or {Flaky: "flaky", Unclear: "unclear"}[type(error)]
    seen = content_digest(at_rest())
    assert link.memory.failure == Failure(CRM, code, error.text, NOW, seen, transient, error.cure)
    assert (link.memory.attempts, link.dirty) == (attempts, True)


def test_a_vanished_record_is_no_trouble() -> None:
    link = after_failed_write(at_rest(), CRM, Gone("deleted"), NOW, RetryPolicy())
    assert (link.memory.gone, link.memory.failure) == (CRM, None)


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


def test_a_line_that_was_taken_away_unseen_is_gone_from_both_bases() -> None:
    was: Fields = {"notes": "one\ntwo"}
    link = there(here(replace(at_rest(), base_referral=was, base_opportunity=was), notes="one"), notes="one")
    settled = settle(link, intent(PC, {"notes": "one"}, {"notes": "one"}))
    assert (settled.base_referral, settled.base_opportunity) == ({"notes": "one"}, {"notes": "one"})


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


def test_what_a_lost_create_did_not_take_is_written_now() -> None:
    """Nobody has touched the record, so what it lacks was refused: it is no edit, and does not empty the other side."""
    link = there(at_rest(), notes="from there")
    assert link.referral is not None
    sent = {**link.base_opportunity, "notes": "from there"}
    source = {**link.base_referral, "notes": "from there", "state": "Accepted"}
    found = replace(here(link, notes=None), base_referral={}, base_opportunity={})
    assert found.opportunity is not None
    found = replace(found, opportunity=replace(found.opportunity, last_by_us=True))
    decision = decided(settle(found, intent(CRM, sent, source, create=True)))
    assert decision.crm["notes"] == "from there"
    assert not decision.steps
    assert not decision.conflicts


def test_a_settled_create_says_what_each_side_held() -> None:
    """Of rows those that were made; of the account what the CRM holds, since it may have been there before."""
    sent: Fields = {
        "name": "A name t",
        "stage": "Proposal",
        "sync": True,
        "customer": Customer("Contoso"),
        "contacts": (OLD, ANN),
    }
    source: Fields = {"name": "A name too long", "state": "Accepted", "contacts": (OTHER, ANN)}
    found = replace(
        here(at_rest(), name="Edited", contacts=(OLD, BEN), customer=Customer("CONTOSO")),
        base_referral={},
        base_opportunity={},
    )
    settled = settle(found, intent(CRM, sent, source, create=True))
    assert settled.base_referral == {**source, "contacts": (OTHER,)}
    assert settled.base_opportunity == {
        "name": "A name t",
        "stage": "Proposal",
        "customer": Customer("CONTOSO"),
        "contacts": (OLD, BEN),
    }


@pytest.mark.parametrize("side", Side)
def test_every_field_of_a_write_is_settled_for_itself(side: Side) -> None:
    """Each by what stands there now, into the base of each side what that side held."""
    sent: Fields = {
        "name": "A name t",
        "value": FIVE,
        "campaign_id": "C1",
        "close_date": None,
        "notes": "one\nmine",
        "favorite": True,
        "customer": Customer("Ours"),
        "team": (ANN, BEN),
        "solutions": (),
    }
    source: Fields = {**sent, "name": "A name too long", "team": (ANN, BEN, OLD)}
    del source["favorite"]  # type: ignore[attr-defined]
    now: Fields = {
        **sent,
        "value": SIX,
        "campaign_id": "C2",
        "customer": Customer("Theirs"),
        "team": (ANN, OLD),
    }
    link = there(at_rest(), **now) if side is PC else here(at_rest(), **now)
    link = replace(
        link,
        base_referral={**link.base_referral, "team": (OLD,), "notes": "old\none"},
        base_opportunity={**link.base_opportunity, "team": (), "notes": "one"},
    )
    settled = settle(link, intent(side, sent, source))
    landed: Fields = {"name": "A name t", "close_date": None, "favorite": True}
    written, read = (
        (link.base_referral, link.base_opportunity)
        if side is PC
        else (link.base_opportunity, link.base_referral)
    )
    written, read = {**written, **landed}, {**read, **landed, "name": "A name too long", "notes": "one\nmine"}
    read["favorite"] = False
    written["notes"] = "old\none\nmine" if side is PC else "one\nmine"
    written["team"] = (OLD, ANN) if side is PC else (ANN,)
    read["team"] = (ANN,) if side is PC else (OLD, ANN)
    assert (settled.base_referral, settled.base_opportunity) == (
        (written, read) if side is PC else (read, written)
    )
    assert settled.memory.disputed == ("value", "campaign_id", "customer")


@pytest.mark.parametrize("landed", [True, False])
def test_where_the_moment_tells_only_the_account_is_disputed(*, landed: bool) -> None:
    """It is written apart; lines merge; whatever stands as it was sent has landed either way."""
    sent: Fields = {
        "value": FIVE,
        "campaign_id": "C1",
        "notes": "one\nmine",
        "customer": Customer("Ours"),
        "solutions": (),
        "last_sync": NOW,
    }
    link = here(
        at_rest(),
        value=SIX,
        campaign_id="C2",
        notes="theirs",
        customer=Customer("Theirs"),
        solutions=(),
        last_sync=NOW if landed else None,
    )
    settled = settle(link, intent(CRM, sent, {**sent, "value": SEVEN}))
    taken: Fields = {"value": FIVE, "campaign_id": "C1"} if landed else {}
    assert settled.base_opportunity == {**link.base_opportunity, **taken}
    assert settled.base_referral == {**link.base_referral, **taken, **({"value": SEVEN} if landed else {})}
    assert settled.memory.disputed == ("customer",)


@pytest.mark.parametrize(
    ("moment", "stands"), [(NOW, ABSENT), (None, NOW), (ABSENT, NOW), (None, None), ("soon", "soon")]
)
def test_without_a_moment_on_both_nothing_is_told_by_it(moment: Value, stands: Value) -> None:
    link = here(at_rest(), value=SIX, last_sync=stands)
    settled = settle(link, intent(CRM, {"value": FIVE, "last_sync": moment}, {"value": FIVE}))
    assert settled.memory.disputed == ("value",)


def test_partner_center_shows_no_moment() -> None:
    link = there(at_rest(), value=SIX, last_sync=NOW)
    settled = settle(link, intent(PC, {"value": FIVE, "last_sync": NOW}, {"value": FIVE}))
    assert settled.memory.disputed == ("value",)


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
    assert decided(there(asked, value=SIX)).link.memory.reported == ()
