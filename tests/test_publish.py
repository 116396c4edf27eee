"""Deals born in the CRM through the real cycle: replies lost, processes killed, and never a second referral."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest
import structlog

from cosell_sync.core.deal import Customer, Member, Side, State, Value
from cosell_sync.core.memory import Failure, Phase
from cosell_sync.core.retry import freed
from cosell_sync.cycle import engagements
from cosell_sync.cycle.engagements import READS
from cosell_sync.ports import Transaction
from memory_sharing import HELP, Crash, Stage
from memory_systems import Row

KINDS = {
    "private": ({}, "Private", 1, 0),
    "partner-led": ({"visible": True}, "Partner-led", 1, 0),
    "co-sell": ({"help": HELP, "help_note": "Pilot"}, "Co-sell", 2, 1),
}


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize(("asked", "deal_type", "posts", "sides"), KINDS.values(), ids=list(KINDS))
def test_an_opportunity_is_shared_and_told_in_one_cycle(
    asked: dict, deal_type: str, posts: int, sides: int
) -> None:  # type: ignore[type-arg]
    stage = Stage()
    stage.opportunity(**asked)
    summary = stage.cycle()
    assert summary is not None
    assert (summary.created.partner_center, summary.exit_code) == (1, 0)
    record = stage.record()
    assert (record["referral_id"], record["status"], record["direction"]) == ("R1", "Accepted", "Outbound")
    assert (record["deal_type"], record["sync_state"]) == (deal_type, "In sync")
    assert record["referral_link"]
    assert record["last_sync"]
    assert stage.outside.referrals["R1"].fields["external_reference"] == "O1"
    assert record["microsoft_status"] == ("New / Pending" if sides else None)
    stage.settled(1)
    assert (len(stage.posts.bodies), len(stage.posts.sides)) == (posts, sides)
    assert stage.link().key == "o:O1"


def test_one_post_invites_at_once_where_that_is_configured() -> None:
    stage = Stage(recipe="one_post")
    stage.opportunity(help=HELP)
    stage.cycle()
    stage.settled(1)
    assert (len(stage.posts.bodies), len(stage.posts.sides)) == (1, 1)
    assert stage.record()["microsoft_status"] == "New / Pending"


def test_edits_go_both_ways_from_then_on() -> None:
    stage = Stage()
    stage.opportunity()
    stage.cycle()
    stage.seller("O1", value=Decimal(90000))
    stage.outside.people(Side.PARTNER_CENTER, "R1", {"notes": "from the portal"})
    stage.settled()
    assert stage.outside.referrals["R1"].fields["value"] == Decimal(90000)
    assert stage.record()["notes"] == "from the portal"


# --- before anything is sent -------------------------------------------------------------------------------------


def test_all_that_is_missing_stands_in_one_message_and_nothing_is_sent() -> None:
    stage = Stage()
    stage.opportunity(
        name=None,
        value=None,
        close_date=date(2020, 1, 1),
        customer=Customer(),
        team=(),
        solutions=(),
        consent=False,
        contacts=(),
        help=HELP,
    )
    summary = stage.cycle()
    assert summary is not None
    assert (summary.exit_code, summary.rejected) == (1, 1)
    message = str(stage.record()["message"])
    for label in (
        "Name",
        "Amount",
        "Close Date",
        "Account Name",
        "Billing Street",
        "Billing City",
        "Billing Country",
    ):
        assert label in message
    for label in ("Solutions", "Opportunity Team", "Consent", "Contact Roles"):
        assert label in message
    assert "\n" not in message
    assert stage.record()["sync_state"] == "Needs attention"
    assert not stage.posts.bodies
    stage.settled(1)
    assert not stage.posts.bodies


def test_filling_it_in_shares_it() -> None:
    stage = Stage()
    stage.opportunity(consent=False)
    stage.cycle()
    stage.seller("O1", consent=True)
    summary = stage.cycle()
    assert summary is not None
    assert summary.exit_code == 0
    assert stage.record()["sync_state"] == "In sync"
    assert "Consent" not in str(stage.record()["message"])


def test_switching_sync_off_before_sharing_takes_our_words_back() -> None:
    stage = Stage()
    stage.opportunity(consent=False)
    stage.cycle()
    stage.seller("O1", sync=False)
    summary = stage.cycle()
    assert summary is not None
    assert (summary.exit_code, summary.rejected) == (0, 0)
    assert (stage.record()["sync_state"], stage.record()["message"]) == (None, None)
    stage.settled(1)
    stage.seller("O1", sync=True, consent=True)
    stage.cycle()
    assert stage.record()["referral_id"] == "R1"


def test_a_deleted_wish_is_nobodys_concern() -> None:
    stage = Stage()
    stage.opportunity(consent=False)
    stage.cycle()
    stage.outside.vanish(Side.CRM, "O1", gone=True)
    summary = stage.cycle()
    assert summary is not None
    assert (summary.exit_code, summary.rejected) == (0, 0)


def test_a_closed_opportunity_is_not_shared_and_told() -> None:
    stage = Stage()
    stage.opportunity(stage="Closed Won")
    summary = stage.cycle()
    assert summary is not None
    assert summary.exit_code == 0
    assert (stage.record()["sync_state"], stage.posts.bodies) == ("Closed", [])
    assert "closed" in str(stage.record()["message"])
    stage.settled(1)


def test_without_sync_nothing_happens() -> None:
    stage = Stage()
    stage.opportunity(sync=False)
    stage.settled(1)
    assert (stage.posts.bodies, stage.record()["message"]) == ([], None)


def test_a_parted_pair_is_never_shared_again() -> None:
    from dataclasses import replace

    stage = Stage()
    stage.opportunity()
    stage.cycle()
    stage.store = stage.store.another()
    with stage.store.lease(timedelta()):
        stage.store.commit(Transaction(links=[replace(stage.link(), phase=Phase.PARTED, dirty=False)]))
    stage.seller("O1", value=Decimal(1), referral_id=None)
    stage.settled(1)
    assert len(stage.posts.bodies) == 1


def test_what_partner_center_refuses_is_told_in_its_words_and_tried_with_pauses() -> None:
    stage = Stage()
    stage.opportunity()
    stage.posts.refuse = "name is not to our taste"
    summary = stage.cycle()
    assert summary is not None
    assert (summary.exit_code, summary.failed) == (1, 1)
    assert "not to our taste" in str(stage.record()["message"])
    for _ in range(20):
        stage.cycle()
    assert len(stage.posts.bodies) == 4
    assert stage.link().memory.parked
    stage.posts.refuse = ""
    stage.seller("O1", name="Other")
    summary = stage.cycle()
    assert summary is not None
    assert summary.exit_code == 0
    assert stage.record()["referral_id"] == "R1"


def test_a_rehearsal_lists_one_create_a_field() -> None:
    stage = Stage()
    stage.opportunity()
    stage.cycle()
    created = [effect for finding in stage.found for effect in finding.effects if effect.action == "create"]
    assert {effect.side for effect in created} == {Side.PARTNER_CENTER}
    assert {"name", "value", "customer", "team", "solutions", "visible"} <= {
        effect.field for effect in created
    }


# --- nothing is made twice ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["two_posts", "one_post"])
@pytest.mark.parametrize("lost", [{1}, {2}, {1, 2}])
def test_a_lost_reply_is_settled_by_looking(recipe: str, lost: set[int]) -> None:
    stage = Stage(recipe=recipe)
    stage.opportunity(help=HELP)
    stage.posts.lose = lost
    stage.settled(4)
    assert (len(stage.outside.referrals), len(stage.posts.sides)) == (1, 1)
    assert stage.record()["microsoft_status"] == "New / Pending"
    assert stage.record()["sync_state"] == "In sync"
    assert len(stage.posts.bodies) == (2 if recipe == "two_posts" else 1)
    assert [link.phase for link in stage.store.links() if link.referral_id] == [Phase.LINKED]


def test_an_edit_between_a_lost_reply_and_the_next_look_is_carried() -> None:
    stage = Stage()
    stage.opportunity()
    stage.posts.lose = {1}
    stage.cycle()
    stage.seller("O1", value=Decimal(1))
    stage.outside.people(Side.PARTNER_CENTER, "R1", {"close_date": date(2027, 1, 1), "contacts": ()})
    stage.settled()
    assert stage.outside.referrals["R1"].fields["value"] == Decimal(1)
    assert stage.record()["close_date"] == date(2027, 1, 1)
    assert stage.record()["contacts"] == ()


def _boundaries(stage: Stage) -> list[str]:
    passed: list[str] = []
    for _ in range(2):
        stage.cycle(passed.append)
    return passed


def _counted(recipe: str) -> int:
    stage = Stage(recipe=recipe)
    stage.opportunity(help=HELP)
    return len(_boundaries(stage))


@pytest.mark.parametrize("recipe", ["two_posts", "one_post"])
def test_killed_at_any_boundary_it_never_makes_a_second_referral(recipe: str) -> None:
    for boundary in range(1, _counted(recipe) + 1):
        stage = Stage(recipe=recipe)
        stage.opportunity(help=HELP)
        passed = 0

        def at(_where: str, boundary: int = boundary) -> None:
            nonlocal passed
            passed += 1
            if passed == boundary:
                raise Crash

        stage.cycle(at, crash=True)
        stage.cycle(at, crash=True)
        stage.settled(3)
        assert (len(stage.outside.referrals), len(stage.posts.sides)) == (1, 1), f"boundary {boundary}"
        assert stage.record()["referral_id"] == "R1"
        assert (stage.record()["microsoft_status"], stage.record()["sync_state"]) == (
            "New / Pending",
            "In sync",
        )


def test_a_lost_store_finds_its_deals_again() -> None:
    from memory_systems import CountingStore

    stage = Stage()
    stage.opportunity()
    stage.cycle()
    stage.seller("O1", referral_id=None, status=None)  # not even the record knows
    stage.store = CountingStore()
    stage.settled(2)
    assert len(stage.posts.bodies) == 1
    assert stage.record()["referral_id"] == "R1"


# --- widening ----------------------------------------------------------------------------------------------------


def test_private_to_partner_led_to_cosell() -> None:
    stage = Stage()
    stage.opportunity(contacts=())
    stage.cycle()
    stage.seller("O1", visible=True)
    stage.cycle()
    assert stage.outside.referrals["R1"].fields["visible"] is True
    assert "can see this deal" in str(stage.record()["message"])
    stage.outside.people(Side.PARTNER_CENTER, "R1", {"deal_type": "Partner-led"})
    stage.seller("O1", help=HELP)
    summary = stage.cycle()
    assert summary is not None
    assert summary.exit_code == 1
    assert "Contact Roles" in str(stage.record()["message"])
    assert len(stage.posts.bodies) == 1
    stage.seller("O1", contacts=(Member("greta@c.example", "Greta", "Oz", "+49"),))
    summary = stage.cycle()
    assert summary is not None
    assert (summary.exit_code, summary.written.partner_center) == (0, 1)
    assert stage.record()["microsoft_status"] == "New / Pending"
    assert stage.record()["deal_type"] == "Co-sell"
    stage.settled(1)
    assert (len(stage.posts.bodies), len(stage.posts.sides)) == (2, 1)


@pytest.mark.parametrize("follows", [True, False])
def test_private_to_cosell_at_once(follows: bool) -> None:
    """Whether our row's type follows is a doubt (D2); the record says co-sell either way."""
    stage = Stage()
    stage.posts.type_follows = follows
    stage.opportunity()
    stage.cycle()
    stage.seller("O1", help=HELP)
    stage.cycle()
    assert stage.outside.referrals["R1"].fields["visible"] is True
    assert (len(stage.posts.sides), stage.record()["deal_type"]) == (1, "Co-sell")
    stage.settled(1)


def test_what_was_shared_is_not_taken_back_and_that_is_told_once() -> None:
    stage = Stage()
    stage.opportunity(visible=True, help=HELP)
    stage.cycle()
    stage.seller("O1", visible=False, help=None)
    summary = stage.cycle()
    assert summary is not None
    assert summary.exit_code == 0
    assert "cannot be taken back" in str(stage.record()["message"])
    assert "cannot be changed" in str(stage.record()["message"])
    stage.settled(1)
    assert stage.outside.referrals["R1"].fields["visible"] is True


def test_an_invitation_that_cannot_be_looked_for_is_not_sent() -> None:
    stage = Stage()
    stage.posts.unsearchable = True
    stage.opportunity(help=HELP)
    summary = stage.cycle()
    assert summary is not None
    assert summary.exit_code == 1
    assert (len(stage.posts.bodies), len(stage.posts.sides)) == (1, 0)
    stage.posts.unsearchable = False
    stage.settled(3)
    assert len(stage.posts.sides) == 1
    assert stage.record()["sync_state"] == "In sync"


def test_a_refused_invitation_is_told_and_parked() -> None:
    stage = Stage()
    stage.opportunity(help=HELP, consent=True)
    stage.cycle(
        lambda where: setattr(stage.posts, "refuse", "no seller for you") if where == "posted" else None
    )
    assert "no seller for you" in str(stage.record()["message"])
    assert stage.record()["sync_state"] == "Needs attention"
    for _ in range(20):
        stage.cycle()
    assert len(stage.posts.bodies) == 1 + 4
    assert stage.link().memory.parked


# --- Microsoft's side --------------------------------------------------------------------------------------------


def test_microsoft_accepts_and_declines() -> None:
    stage = Stage()
    stage.opportunity(help=HELP)
    stage.opportunity(help=HELP, name="Other")
    stage.cycle()
    assert "19 Jan 2026" in str(stage.record()["message"]), "when the fourteen days end"
    stage.posts.answers("Active / Accepted", 0, microsoft_id="7-123")
    stage.posts.answers("Closed / Declined", 1, status_reason="customer not managed by a seller")
    stage.cycle()
    assert (stage.record()["microsoft_status"], stage.record()["microsoft_id"]) == (
        "Active / Accepted",
        "7-123",
    )
    assert stage.record("O2")["microsoft_status"] == "Closed / Declined"
    assert "customer not managed" in str(stage.record("O2")["message"])
    stage.settled(1)
    looks = stage.posts.looks
    stage.cycle()
    assert stage.posts.looks == looks + 1, "what Microsoft closed is read no more"


def test_microsofts_side_survives_our_own_referrals_changes() -> None:
    stage = Stage()
    stage.opportunity(help=HELP)
    stage.cycle()
    stage.outside.people(Side.PARTNER_CENTER, "R1", {"notes": "new"})
    stage.settled(1)
    assert (stage.record()["microsoft_status"], stage.record()["notes"]) == ("New / Pending", "new")


def test_a_closed_deal_is_read_no_more() -> None:
    stage = Stage()
    stage.opportunity(help=HELP)
    stage.cycle()
    stage.outside.portal_moves("R1", State.WON)
    stage.settled(2)
    looks = stage.posts.looks
    stage.cycle()
    assert stage.posts.looks == looks


def test_twenty_are_read_a_cycle_the_oldest_first() -> None:
    stage = Stage()
    for _ in range(READS + 5):
        stage.opportunity(help=HELP)
    stage.cycle()
    for number in range(READS + 5):
        stage.posts.answers("Active / Accepted", number)
    shown = []
    for _ in range(2):
        looks = stage.posts.looks
        stage.cycle()
        assert stage.posts.looks - looks == READS
        shown.append(
            sum(
                row.fields["microsoft_status"] == "Active / Accepted"
                for row in stage.outside.opportunities.values()
            )
        )
    assert shown[-1] == READS + 5


def test_a_deal_of_which_a_webhook_named_microsofts_side_is_read_before_all_others() -> None:
    """An event names Microsoft's referral, not ours; its id is known from the read before."""
    stage = Stage()
    for _ in range(2 * READS + 5):
        stage.opportunity(help=HELP)
    stage.settled(4)
    turn = stage.store.cycle_state().engagements
    assert turn is not None
    last = stage.store.by_keys(turn.asked[-1:])[turn.asked[-1]]  # was read just now, so it would come last
    side = last.memory.microsoft["referral"]
    number = next(number for number, row in enumerate(stage.posts.sides) if row.id.lower() == side)
    stage.posts.answers("Active / Accepted", number)
    stage.store.hint([(side, "related-referral-updated", "t1"), ("nobody", "related-referral-created", "t1")])
    looks = stage.posts.looks
    stage.cycle()
    record = stage.outside.opportunities[last.opportunity_id or ""]
    assert (record.fields["microsoft_status"], stage.posts.looks) == ("Active / Accepted", looks + READS)
    assert stage.store.hints(9, related=True) == []


def test_a_hint_waits_while_microsofts_side_cannot_be_read() -> None:
    stage = Stage()
    stage.opportunity(help=HELP)
    stage.settled(2)
    stage.posts.unsearchable = True
    stage.store.hint([("m1", "related-referral-updated", "t1")])
    stage.cycle()
    assert stage.store.hints(9, related=True) == ["m1"]
    stage.posts.unsearchable = False
    stage.cycle()
    assert stage.store.hints(9, related=True) == []


def test_the_id_of_microsofts_referral_alone_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of an earlier version does not know it: it is noted, and nothing else happens."""
    stage = Stage()
    stage.opportunity(help=HELP)
    stage.settled(2)
    (link,) = stage.store.links([Phase.LINKED])
    older = {name: text for name, text in link.memory.microsoft.items() if name != "referral"}
    with stage.store.lease(timedelta()):
        stage.store.commit(Transaction(links=[replace(link, memory=replace(link.memory, microsoft=older))]))
    before = len(stage.store.journal(link.key))
    said: list[str] = []
    monkeypatch.setattr(engagements, "log", SimpleNamespace(info=lambda event, **_: said.append(event)))
    stage.cycle()
    (after,) = stage.store.links([Phase.LINKED])
    assert after.memory.microsoft == link.memory.microsoft
    assert after.dirty is False
    assert said == []
    assert len(stage.store.journal(link.key)) == before


def test_up_to_twenty_an_idle_cycle_stores_nothing() -> None:
    stage = Stage()
    for _ in range(3):
        stage.opportunity(help=HELP)
    stage.settled(2)
    passed: list[str] = []
    stage.cycle(passed.append)
    assert passed.count("partner_center.engagement") == 3
    assert not [
        where
        for where in passed
        if where.startswith(("crm.write", "partner_center.write", "partner_center.post"))
    ]


def made_in_the_portal(stage: Stage, **fields: Value) -> Row:
    """A deal of ours that a colleague made in Partner Center, accepted as such deals are."""
    known: dict[str, Value] = {
        "direction": "Outbound",
        "respond_by": None,
        "engagement_id": f"P{len(stage.outside.referrals)}",
    }
    return stage.outside.new_referral(State.ACCEPTED, **{**known, **fields})


def test_microsofts_side_of_a_deal_made_in_the_portal_is_fresh_within_two_cycles() -> None:
    stage = Stage()
    stage.posts._invited(made_in_the_portal(stage))
    stage.cycle()
    assert stage.record()["microsoft_status"] == "New / Pending"
    stage.posts.answers("Active / Accepted", microsoft_id="7-9")
    stage.cycle()
    assert (stage.record()["microsoft_status"], stage.record()["microsoft_id"]) == (
        "Active / Accepted",
        "7-9",
    )
    stage.posts.answers("Closed / Declined", status_reason="not managed")
    stage.settled(2)
    looks = stage.posts.looks
    stage.cycle()
    assert (stage.posts.looks, stage.record()["microsoft_status"]) == (looks, "Closed / Declined")


def test_twenty_deals_wherever_they_were_made_are_read_in_each_cycle() -> None:
    stage = Stage()
    for number in range(READS):
        if number % 2:
            stage.opportunity(help=HELP)
        else:
            stage.posts._invited(made_in_the_portal(stage))
    stage.settled(2)
    for number in range(READS):
        stage.posts.answers("Active / Accepted", number)
    looks = stage.posts.looks
    stage.cycle()
    assert stage.posts.looks == looks + READS
    shown = [each.fields["microsoft_status"] for each in stage.outside.opportunities.values()]
    assert shown == ["Active / Accepted"] * READS


def test_many_deals_made_in_the_portal_are_read_once_an_hour_and_after_a_change() -> None:
    stage = Stage()
    for _ in range(READS + 5):
        stage.posts._invited(made_in_the_portal(stage))
    stage.settled(2)
    assert stage.posts.looks == 0, "an import of many costs no reads"
    stage.outside.people(Side.PARTNER_CENTER, "R1", {"notes": "new"})
    stage.settled(1)
    assert (stage.posts.looks, stage.record()["microsoft_status"]) == (1, "New / Pending")
    stage.outside.now += timedelta(hours=1)
    stage.cycle()
    assert stage.posts.looks == 1 + READS, "at most twenty a cycle"
    stage.settled(1)
    assert stage.posts.looks == 1 + READS + 5
    shown = [each.fields["microsoft_status"] for each in stage.outside.opportunities.values()]
    assert shown == ["New / Pending"] * (READS + 5)
    for number in range(READS + 5):
        stage.posts.answers("Closed / Declined", number)
    stage.outside.now += timedelta(hours=1)
    stage.settled(2)
    looks = stage.posts.looks
    stage.outside.now += timedelta(hours=1)
    stage.cycle()
    assert stage.posts.looks == looks, "what Microsoft closed is read no more"


@pytest.mark.parametrize("type_follows", [True, False])
@pytest.mark.parametrize("direction", ["Outbound", "Inbound"])
def test_a_partner_led_deal_that_becomes_cosell_elsewhere_is_noticed(
    direction: str, *, type_follows: bool
) -> None:
    """Whether or not our own row says so; by a change that tells nothing but another tag."""
    stage = Stage()
    stage.posts.type_follows = type_follows
    row = made_in_the_portal(stage, deal_type="Partner-led", visible=True, direction=direction)
    stage.settled(1)
    assert (stage.posts.looks, stage.record()["deal_type"]) == (0, "Partner-led")
    stage.posts._invited(row)
    stage.outside._touch(row)
    stage.cycle()
    assert (stage.record()["deal_type"], stage.record()["sync_state"]) == ("Co-sell", "In sync")
    assert "co-sell deal now" in str(stage.record()["message"])
    assert stage.record()["microsoft_status"] == "New / Pending"
    stage.settled(1)


def test_an_edit_of_a_visible_deal_costs_no_read() -> None:
    stage = Stage()
    made_in_the_portal(stage, deal_type="Partner-led", visible=True)
    made_in_the_portal(stage, deal_type="Private", visible=False)
    stage.settled(1)
    stage.outside.people(Side.PARTNER_CENTER, "R1", {"notes": "new"})
    stage.outside._touch(stage.outside.referrals["R2"])
    stage.settled(1)
    assert stage.posts.looks == 0
    stage.outside._touch(stage.outside.referrals["R1"])
    stage.settled(1)
    assert (stage.posts.looks, stage.record()["deal_type"]) == (1, "Partner-led"), "nobody joined"


def test_many_awaited_deals_do_not_keep_out_the_others() -> None:
    stage = Stage()
    for _ in range(READS):
        stage.opportunity(help=HELP)
    row = stage.outside.new_referral(
        State.ACCEPTED, direction="Outbound", engagement_id="E0", respond_by=None
    )
    stage.cycle()
    stage.posts._invited(row)
    stage.outside.people(Side.PARTNER_CENTER, row.id, {"notes": "new"})
    looks = stage.posts.looks
    stage.cycle()
    stage.cycle()
    assert stage.posts.looks <= looks + 2 * READS
    shown = [each.fields["microsoft_status"] for each in stage.outside.opportunities.values()]
    assert shown == ["New / Pending"] * (READS + 1)


@pytest.mark.parametrize("lost", [1, 2], ids=["the deal", "the invitation"])
@pytest.mark.parametrize("late", [0, 1, 4, 9])
def test_a_post_that_lands_after_we_gave_up_is_not_sent_again(lost: int, late: int) -> None:
    """The answer does not come in time, and the service goes on with the request: nothing is there when we look first."""
    stage = Stage(patience=timedelta(minutes=10))
    stage.posts.late = timedelta(minutes=late)
    stage.posts.lose = {lost}
    stage.opportunity(help=HELP)
    for _ in range(15):
        stage.cycle()
    assert (len(stage.posts.bodies), len(stage.outside.referrals), len(stage.posts.sides)) == (2, 1, 1)
    assert (stage.record()["referral_id"], stage.record()["sync_state"]) == ("R1", "In sync")
    assert (stage.link().memory.invite, stage.link().memory.hung_up) == ("done", None)
    assert "Help was changed" not in str(stage.record()["message"])
    stage.settled(1)


def test_a_post_that_never_landed_is_sent_once_its_time_is_over() -> None:
    stage = Stage(patience=timedelta(minutes=10))
    stage.posts.late = timedelta(days=1)
    stage.posts.lose = {1}
    stage.opportunity()
    for minute in range(13):
        stage.cycle()
        assert len(stage.posts.bodies) == 1 + (minute >= 10), minute


def test_neither_an_earlier_refusal_nor_a_retry_lets_a_late_post_be_sent_again() -> None:
    stage = Stage(patience=timedelta(minutes=10))
    stage.posts.late = timedelta(minutes=5)
    stage.posts.lose = {1}
    stage.opportunity()
    stage.cycle()
    link = stage.link()
    refused = Failure(Side.PARTNER_CENTER, "refused", "no", stage.outside.now)
    for memory in (replace(link.memory, failure=refused), freed(link.memory)):
        with stage.store.lease(timedelta()):
            stage.store.commit(Transaction(links=[replace(link, memory=memory)]))
        stage.cycle()
    assert len(stage.posts.bodies) == 1
    for _ in range(5):
        stage.cycle()
    assert (len(stage.posts.bodies), stage.link().memory.hung_up) == (1, None)
    stage.settled(1)


def test_a_killed_process_posts_again_as_soon_as_it_has_looked() -> None:
    """Nobody waits for the answer of a process that is gone: what is not there after its start did not leave, or was refused."""
    stage = Stage(patience=timedelta(minutes=10))
    stage.opportunity()

    def crash(now: str) -> None:
        if now == "partner_center.post":
            raise Crash

    stage.cycle(crash, crash=True)
    stage.cycle()
    assert (len(stage.posts.bodies), stage.record()["referral_id"]) == (1, "R1")
    stage.settled(1)
