"""One cycle over two systems in memory, by example: sequences that once went wrong, or whose outcome people rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import structlog

from cosell_sync.core import publishing, reconcile
from cosell_sync.core.deal import Member, Side, Solution, State, Value
from cosell_sync.core.memory import Action, Link, OperatorCommand
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.cycle import decide as deciding
from cosell_sync.cycle.context import CycleSettings, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Unavailable
from cosell_sync.ports import ErasureResult, Transaction
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, CycleSummary
from memory_systems import (
    LIKE_DYNAMICS,
    LIKE_SALESFORCE,
    CountingStore,
    CrmKind,
    Fault,
    MemoryCrm,
    MemoryReferrals,
    Outside,
    Row,
    rules,
)

PC, CRM = Side.PARTNER_CENTER, Side.CRM
MINUTE = timedelta(minutes=1)


class Play:
    """A world with one deal ``R1``, and its cycles."""

    def __init__(self) -> None:
        self.outside = Outside()
        self.store = CountingStore()
        self.crm = MemoryCrm(self.outside)
        self.number = 0
        self.world = Services(
            MemoryReferrals(self.outside),
            self.crm,
            self.store,
            self.outside.clock,
            rules(write_name=True, terminal_hold=timedelta()),
            CycleSettings(retry_policy=RetryPolicy(MINUTE, 3)),
        )

    def begin(self, state: State = State.ACCEPTED, **fields: Value) -> None:
        self.outside.new_referral(state, **fields)
        self.cycle()
        self.cycle()

    def cycle(self, **at: Callable[[], object]) -> CycleSummary:
        """``at``: what happens when a boundary of that name (dots as underscores) is passed for the first time."""
        happening = dict(at)

        def pass_by(where: str) -> None:
            happening.pop(where.replace(".", "_"), lambda: None)()

        self.number += 1
        self.outside.now += MINUTE
        self.outside.at = pass_by
        with self.store.lease(timedelta()):
            summary = run_cycle(self.world, f"c{self.number}")
        assert not self.outside.violations
        return summary

    @property
    def referral(self) -> dict[str, Value]:
        return self.outside.referrals["R1"].fields

    @property
    def opportunity(self) -> dict[str, Value]:
        return self.outside.opportunities["O1"].fields

    @property
    def link(self) -> Link:
        link = self.store.by_keys(["r:R1"]).get("r:R1")
        assert link is not None
        return link

    def seller(self, **fields: Value) -> None:
        assert self.outside.people(CRM, "O1", fields)

    def colleague(self, **fields: Value) -> None:
        assert self.outside.people(PC, "R1", fields)

    def rests(self) -> None:
        """Nothing is written, and nothing even looked at."""
        before = self.outside.writes
        summary = self.cycle()
        assert self.outside.writes == before
        assert (summary.unchanged, summary.failed) == (0, 0)


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def play() -> Play:
    return Play()


def test_a_new_referral_becomes_an_opportunity(play: Play) -> None:
    play.begin(State.RECEIVED)
    assert (play.opportunity["stage"], play.opportunity["status"]) == ("Prospecting", "Received")
    assert play.opportunity["sync_state"] == "In sync"
    play.rests()


@pytest.mark.parametrize("kind", [LIKE_SALESFORCE, LIKE_DYNAMICS], ids=["salesforce", "dynamics"])
@pytest.mark.parametrize("state", [State.RECEIVED, State.ACCEPTED])
@pytest.mark.parametrize("fault", ["flaky", "away", "rejected", "lost", "unread"])
def test_a_referral_whose_create_failed_is_imported_once_the_crm_is_back(
    play: Play, kind: CrmKind, state: State, fault: str
) -> None:
    """Neither a change of it nor a reminder of its deadline is waited for."""
    play.outside.kind = kind
    play.world = replace(play.world, rules=replace(play.world.rules, stages=kind.stages))
    play.outside.new_referral(state)
    play.outside.faults.append(Fault(CRM, fault))
    with suppress(Unavailable):
        play.cycle()
    play.cycle()
    play.cycle()
    assert play.link.opportunity_id == "O1"
    assert play.opportunity["status"] == state.value


def test_a_larger_field_frees_what_was_held(play: Play) -> None:
    """Nobody touches the deal: that the CRM can hold more is reason enough to decide it anew."""
    play.outside.shape = replace(play.outside.kind.shape, maximum=Decimal(500))
    play.begin()
    play.colleague(value=Decimal(700))
    play.cycle()
    assert play.opportunity["sync_state"] == "Needs attention"
    play.rests()
    play.outside.shape = None
    play.crm.forget_shape()  # as once a day
    play.cycle()
    assert (play.opportunity["value"], play.opportunity["sync_state"]) == (Decimal(700), "In sync")


def test_a_new_choice_frees_what_was_held() -> None:
    """Likewise a choice that an admin adds to the column of the sales stage."""
    play = Play()
    play.outside.kind = LIKE_DYNAMICS
    play.world = replace(play.world, rules=rules(LIKE_DYNAMICS.stages, terminal_hold=timedelta()))
    few = {"sales_stage": frozenset({"Qualify"})}
    play.outside.shape = replace(LIKE_DYNAMICS.shape, picklists=few)
    play.begin(sales_stage="Qualify")
    play.colleague(sales_stage="Propose")
    play.cycle()
    assert (play.opportunity["sales_stage"], play.opportunity["sync_state"]) == ("Qualify", "Needs attention")
    play.outside.shape = replace(
        LIKE_DYNAMICS.shape, picklists={"sales_stage": frozenset({"Qualify", "Propose"})}
    )
    play.crm.forget_shape()
    play.cycle()
    assert (play.opportunity["sales_stage"], play.opportunity["sync_state"]) == ("Propose", "In sync")


def test_what_the_crm_cut_is_told_once_and_never_travels(play: Play) -> None:
    """The CRM's name holds eight code units; an edit beside it takes nothing of the cut to Partner Center."""
    play.begin(name="Fabric \N{ROCKET}\N{ROCKET} rollout")
    assert play.opportunity["name"] == "Fabric"
    assert "Shortened to what the CRM can hold: Name." in str(play.opportunity["message"])
    play.rests()
    play.seller(notes="one")
    play.cycle()
    play.cycle()
    assert play.referral["name"] == "Fabric \N{ROCKET}\N{ROCKET} rollout"
    assert "Shortened" not in str(play.opportunity["message"])
    play.colleague(name="Another name")
    play.cycle()
    assert play.opportunity["name"] == "Another"
    assert "Shortened to what the CRM can hold: Name." in str(play.opportunity["message"])
    play.rests()


def test_a_deal_that_no_colleague_may_own_says_so(play: Play) -> None:
    """It is imported all the same; the record's words follow, once it is known who could not be its owner."""
    create = play.crm.create
    play.crm.create = lambda batch: [
        replace(each, unheld={"owner": frozenset({"U1"})}) for each in create(batch)
    ]  # type: ignore[method-assign]
    play.begin()
    assert "belongs to the sync user" in str(play.opportunity["message"])
    play.rests()


def test_a_vertical_tab_in_a_note_is_a_line_break_and_no_edit(play: Play) -> None:
    play.begin(notes="one\x0btwo\x07")
    assert play.opportunity["notes"] == "one\ntwo"
    play.rests()
    assert play.referral["notes"] == "one\x0btwo\x07"


def test_the_sales_stage_follows_the_accept(play: Play) -> None:
    """Accepted by moving straight to Proposal: Partner Center hears both."""
    play.begin(State.RECEIVED)
    play.seller(stage="Proposal")
    play.cycle()
    play.cycle()
    assert (play.referral["state"], play.referral["sales_stage"]) == ("Accepted", "Propose")
    play.rests()


def test_what_partner_center_took_stays_learned_though_the_record_was_stale(play: Play) -> None:
    """The seller goes on while his first edit is on its way: that is an edit, no conflict."""
    play.begin()
    play.seller(value=Decimal(200))
    play.cycle(landed=lambda: play.seller(value=Decimal(300)))
    play.cycle()
    assert play.referral["value"] == play.opportunity["value"] == Decimal(300)
    assert not any(entry.action == "conflict" for entry in play.store.journal("r:R1"))
    play.rests()


def test_a_write_that_landed_unread_stays_open_until_it_is_looked_at(play: Play) -> None:
    """The seller's 200 landed, then a colleague puts 100 back: his edit must not be overwritten unseen."""
    play.begin()
    play.seller(value=Decimal(200))
    play.outside.faults.append(Fault(PC.value, "unread"))
    play.cycle()
    assert play.referral["value"] == Decimal(200)
    play.colleague(value=Decimal(100))
    play.cycle()
    assert any(entry.action == "conflict" for entry in play.store.journal("r:R1"))


@pytest.mark.parametrize("kind", ["lost", "unread"])
def test_a_lost_create_is_found_and_then_rests(play: Play, kind: str) -> None:
    """No second opportunity, and no retry that stays due for ever."""
    play.outside.new_referral()
    play.outside.faults.append(Fault(CRM.value, kind))
    play.cycle()
    play.cycle()
    play.cycle()
    assert list(play.outside.opportunities) == ["O1"]
    assert (play.link.memory.failure, play.link.memory.next_attempt) == (None, None)
    play.rests()


def test_what_somebody_did_while_the_opportunity_was_made(play: Play) -> None:
    play.outside.new_referral(State.ACCEPTED)
    play.cycle(landed=lambda: play.seller(contacts=(Member("a@x"),)))
    play.cycle()
    assert play.referral["contacts"] == (Member("a@x"),)


def test_what_somebody_added_while_the_set_was_written(play: Play) -> None:
    play.begin(solutions=(Solution("S1"),))
    play.colleague(contacts=(Member("a@x"),))
    play.cycle(landed=lambda: play.seller(contacts=(Member("a@x"), Member("b@x"))))
    play.cycle()
    assert play.referral["contacts"] == play.opportunity["contacts"] == (Member("a@x"), Member("b@x"))


def test_a_refusal_of_our_own_words_is_over_once_they_are_taken(play: Play) -> None:
    play.begin(State.RECEIVED)
    play.outside.pass_time(timedelta(days=8))
    play.outside.faults.append(Fault(CRM.value, "rejected"))
    assert play.cycle().exit_code == NEEDS_A_PERSON
    assert play.cycle().exit_code == NEEDS_NOBODY
    assert "Reminder" in str(play.opportunity["message"])
    play.rests()


def test_refused_again_and_again_it_is_parked_and_says_so(play: Play) -> None:
    play.begin()
    play.seller(value=Decimal(200))
    for _ in range(3):
        play.outside.faults.append(Fault(PC.value, "rejected"))
        play.cycle()
        play.outside.now += timedelta(hours=1)
    assert play.link.memory.parked
    assert "ask your administrator" in str(play.opportunity["message"])
    play.rests()
    play.seller(value=Decimal(300))
    play.cycle()
    assert (play.link.memory.parked, play.referral["value"]) == (False, Decimal(300))


def test_both_over_is_told_and_left_alone(play: Play) -> None:
    """Also when the store is lost before anybody saw it."""
    play.begin()
    play.seller(stage="Closed Won")
    play.outside.portal_moves("R1", State.LOST)
    play.store = CountingStore()
    play.world = Services(play.world.referrals, play.crm, play.store, play.outside.clock, play.world.rules)
    play.cycle()
    play.cycle()
    assert (play.referral["state"], play.opportunity["stage"]) == ("Lost", "Closed Won")
    assert play.opportunity["sync_state"] == "Conflict"
    play.rests()


def test_a_write_that_landed_in_part_leaves_no_claim_on_the_record(play: Play) -> None:
    """The contact was refused, the words beside it landed: they must not say that it was taken over."""
    play.begin()
    play.colleague(contacts=(Member("a@x"),))
    play.outside.faults.append(Fault("crm", "partly"))
    play.cycle()
    message = str(play.opportunity["message"])
    assert "does not like it" in message
    assert "Taken over" not in message
    assert play.opportunity["sync_state"] == "Needs attention"
    play.cycle()
    assert play.opportunity["contacts"] == (Member("a@x"),)
    assert play.opportunity["sync_state"] == "In sync"
    play.rests()


def test_lookalikes_are_marked_and_cleared(play: Play) -> None:
    """Held until a person says that it is a deal of its own; then the mark goes."""
    play.outside.new_referral(State.ACCEPTED)
    play.outside.opportunities["O9"] = Row(
        "O9", {"stage": "Qualification", "message": None, "sync_state": None}
    )
    play.crm.lookalikes = {"R1": ("O9",)}
    play.cycle()
    other = play.outside.opportunities["O9"].fields
    assert (other["sync_state"], play.link.opportunity_id) == ("Needs attention", None)
    with play.store.lease(timedelta()):
        link = play.link
        memory = link.memory.__class__(lookalikes=link.memory.lookalikes, create_anyway=True)
        play.store.commit(
            Transaction(links=[Link(link.key, link.referral_id, referral=link.referral, memory=memory)])
        )
    play.cycle()
    assert play.link.opportunity_id is not None
    assert (other["sync_state"], other["message"]) == (None, None)


def test_sync_off_on_an_unanswered_deal_asks_and_sends_the_answer_once_it_is_on(play: Play) -> None:
    play.begin(State.RECEIVED)
    play.seller(sync=False)
    play.cycle()
    assert play.opportunity["sync_state"] == "Needs attention"
    assert "switch Sync on" in str(play.opportunity["message"])
    assert "choose Accept" not in str(play.opportunity["message"])
    play.seller(action="Accept")
    play.cycle()
    assert (play.referral["state"], play.opportunity["sync_state"]) == ("Received", "Needs attention")
    play.seller(sync=True)
    play.cycle()
    assert play.referral["state"] == "Accepted"


@pytest.mark.parametrize(("left", "given"), [(13, [1, 2, 3]), (5, [1, 2, 3]), (2, [2, 3]), (0.5, [3])])
def test_a_hold_has_a_clock(play: Play, left: float, given: list[int]) -> None:
    """It is named at 7, 3 and 1 days, also when first seen with less left; expired, it stays in sight until acknowledged."""
    start = play.outside.now
    until = start + timedelta(days=left)
    play.outside.new_referral(State.RECEIVED, problem="no status", respond_by=until)
    with structlog.testing.capture_logs() as logs:
        while play.outside.now < until + timedelta(days=1):
            play.cycle()
            play.outside.pass_time(timedelta(hours=6))
        play.cycle()
    told = [each["reminder"] for each in logs if each["event"] == "deal.reminder"]
    assert told == given
    link = play.link
    assert (link.phase, link.memory.failure and link.memory.failure.code) == ("waiting", "expired")
    assert link.memory.sync_state == "Needs attention"
    play.rests()
    play.store.submit(OperatorCommand("1", "unlink", "R1"))
    play.cycle()
    assert play.link.phase == "parted"


def test_contacts_of_an_opportunity_that_was_there_stay_in_the_crm_without_consent(play: Play) -> None:
    """A deal of Microsoft's is joined to an opportunity with contacts of its own: nobody has agreed to tell Microsoft of them."""
    vera = Member("vera@c.example", "Vera", "Lund", "+46 1")
    play.outside.new_opportunity(sync=False, consent=False, contacts=(vera,))
    play.outside.new_referral(State.ACCEPTED, external_reference="O1")
    play.cycle()
    play.cycle()
    assert (play.link.phase, play.referral["contacts"], play.opportunity["contacts"]) == (
        "linked",
        (),
        (vera,),
    )
    assert "was not sent: tick Consent" in str(play.opportunity["message"])
    play.rests()
    play.seller(consent=True)
    play.cycle()
    assert play.referral["contacts"] == (vera,)
    assert "tick Consent" not in str(play.opportunity["message"])


def claims(play: Play, *states: State) -> list[Link]:
    """Referrals R1, R2 … that all name the one opportunity O1, after two cycles."""
    row = play.outside.new_opportunity(sync=False)
    for state in states:
        play.outside.new_referral(state, external_reference=row.id)
    play.cycle()
    play.cycle()
    return [play.store.by_keys([f"r:R{at}"])[f"r:R{at}"] for at in range(1, len(states) + 1)]


def test_two_referrals_that_name_one_opportunity(play: Play) -> None:
    """One gets it; the other is held and told, not dropped, and not doubled later either."""
    won, held = claims(play, State.ACCEPTED, State.RECEIVED)
    assert (won.opportunity_id, held.opportunity_id) == ("O1", None)
    assert (held.memory.failure and held.memory.failure.code, held.phase) == ("claimed", "waiting")
    assert held.memory.sync_state == "Needs attention"
    play.outside.people(PC, "R2", {"value": Decimal(7)})
    play.cycle()
    assert list(play.outside.opportunities) == ["O1"]
    play.rests()


def test_an_open_referral_claims_before_one_that_is_over(play: Play) -> None:
    over, open_ = claims(play, State.LOST, State.ACCEPTED)
    assert (over.phase, open_.opportunity_id) == ("skipped", "O1")


def test_a_deal_made_again_takes_over_the_opportunity_of_the_one_that_is_over(play: Play) -> None:
    claims(play, State.ACCEPTED, State.ACCEPTED)
    order = OperatorCommand("1", "link", "R2", other="O1")
    play.store.submit(order)
    play.cycle()
    assert play.store.by_keys(["r:R2"])["r:R2"].opportunity_id is None  # the first one is still open
    play.outside.portal_moves("R1", State.LOST)
    play.cycle()
    play.store.submit(replace(order, id="2"))
    play.cycle()
    play.cycle()
    old, new = (play.store.by_keys([f"r:R{at}"])[f"r:R{at}"] for at in (1, 2))
    assert (old.phase, old.referral_id, old.opportunity_id) == ("parted", "R1", None)
    assert (new.opportunity_id, play.opportunity["referral_id"]) == ("O1", "R2")
    play.rests()


@pytest.mark.parametrize(
    "typed", ["{0F8FAD5B-D9CB-469F-A165-70867728950E}", " 0f8fad5b-d9cb-469f-a165-70867728950e "]
)
@pytest.mark.parametrize("late", [False, True])
def test_a_referrals_id_typed_in_the_crm_joins_and_is_written_as_it_is(
    play: Play, typed: str, late: bool
) -> None:
    key = "0f8fad5b-d9cb-469f-a165-70867728950e"
    play.outside.new_opportunity(referral_id=typed)
    if late:
        play.cycle()
    row = play.outside.new_referral(State.ACCEPTED)
    play.outside.referrals[key] = play.outside.referrals.pop(row.id)
    row.id = key
    for _ in range(4):
        play.cycle()
    assert list(play.outside.opportunities) == ["O1"]
    assert str(play.opportunity["referral_id"]).strip() == key  # the CRMs strip blanks themselves


def test_a_changed_rule_concerns_deals_that_nobody_touched(play: Play) -> None:
    """A hold is held until the rule changes, and no longer; then again nothing is looked at."""
    play.world = replace(play.world, rules=replace(play.world.rules, terminal_hold=timedelta(hours=9)))
    play.begin()
    play.seller(stage="Closed Won")
    play.cycle()
    assert play.referral["state"] == "Accepted"
    play.rests()
    play.world = replace(play.world, rules=replace(play.world.rules, terminal_hold=timedelta()))
    play.cycle()
    assert play.referral["state"] == "Won"
    play.rests()


def test_a_person_is_forgotten_while_the_deal_goes_on(play: Play) -> None:
    """An order of that kind, given while the daemon runs: the seller has taken her out, and out she stays."""
    ada, bob = Member("ada@x.example", "Ada", "Byron"), Member("bob@x.example")
    play.begin(contacts=(ada, bob))
    play.seller(contacts=(bob,))
    play.colleague(notes="from the portal")
    play.store.submit(OperatorCommand("1", "forget", "Ada@x.example"))
    with structlog.testing.capture_logs() as logs:
        play.cycle()
    assert not play.store.orders()
    assert play.referral["contacts"] == play.opportunity["contacts"] == (bob,)
    assert play.opportunity["notes"] == "from the portal"
    play.rests()
    with play.store.lease(timedelta()):
        play.store.forget(ada.email)  # the removal itself has made history since
        assert play.store.forget(ada.email) == ErasureResult()
    play.rests()
    (said,) = [line for line in logs if line["event"] == "person.forgotten"]
    assert said["deals"] == 1
    assert "ada" not in str(logs).casefold()


def test_who_is_forgotten_but_still_stands_on_both_sides_is_not_touched(play: Play) -> None:
    ada = Member("ada@x.example", "Ada", "Byron")
    play.begin(contacts=(ada,))
    play.store.submit(OperatorCommand("1", "forget", ada.email))
    before = play.outside.writes
    play.cycle()
    assert (play.outside.writes, play.opportunity["contacts"]) == (before, (ada,))
    play.rests()


@pytest.mark.parametrize("side", list(Side))
def test_a_record_of_a_deal_that_is_over_may_vanish_without_asking_anybody(play: Play, side: Side) -> None:
    """People tidy up: of an open deal somebody must be asked, of a closed one nobody."""
    play.begin()
    record = "O1" if side is CRM else "R1"
    play.outside.vanish(side, record, gone=True)
    play.outside.now += timedelta(hours=25)
    assert play.cycle().exit_code == NEEDS_A_PERSON
    play.outside.vanish(side, record, gone=False)
    play.outside.now += timedelta(hours=25)
    play.cycle()
    play.seller(stage="Closed Won")
    assert play.cycle().exit_code == NEEDS_NOBODY
    play.outside.vanish(side, record, gone=True)
    play.outside.now += timedelta(hours=25)
    for _ in range(2):
        assert play.cycle().exit_code == NEEDS_NOBODY
    other = play.outside.rows(PC if side is CRM else CRM)
    assert not any(row.gone for row in other.values())
    assert play.link.memory.gone is side


@pytest.mark.parametrize("where", ["merge_shared_fields", "build_decision"])
def test_a_deal_over_which_the_program_stumbles_harms_no_other(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log and journal get its type and place, the record says it; it waits longer each time, is parked, a change frees it."""
    play = Play()
    play.begin()
    play.outside.new_referral(State.ACCEPTED)
    play.cycle()
    play.cycle()
    sound = getattr(reconcile, where)

    def stumbling(draft: Any, *rest: Any) -> Any:
        if draft.referral.id == "R1":
            raise ZeroDivisionError("Contoso's private note")
        return sound(draft, *rest)

    monkeypatch.setattr(reconcile, where, stumbling)
    for each in ("R1", "R2"):
        play.outside.people(PC, each, {"campaign_id": "new"})
    with structlog.testing.capture_logs() as logs:
        summary = play.cycle()
    (told,) = [line for line in logs if line["event"] == "deal.broken"]
    assert (told["referral_id"], told["kind"], "private" in str(logs)) == ("R1", "ZeroDivisionError", False)
    assert (summary.exit_code, summary.failed) == (NEEDS_A_PERSON, 1)
    rows = play.outside.opportunities
    assert (rows["O1"].fields["campaign_id"], rows["O2"].fields["campaign_id"]) == (None, "new")
    assert rows["O1"].fields["sync_state"] == "Needs attention"
    assert "internal error" in str(rows["O1"].fields["message"])
    assert "ZeroDivisionError" not in str(rows["O1"].fields["message"]), "a seller reads no exception"
    (details,) = [line for line in play.store.journal("r:R1") if line.action is Action.FAILURE]
    assert details.rule.startswith("internal error: ZeroDivisionError, "), "deals show has the details"
    for _ in range(4):
        summary = play.cycle()
    assert (play.link.memory.parked, summary.parked, summary.exit_code) == (True, 1, NEEDS_A_PERSON)
    attempts = play.link.memory.attempts
    play.cycle()
    assert play.link.memory.attempts == attempts, "a parked deal is left alone"
    monkeypatch.setattr(reconcile, where, sound)
    play.outside.people(PC, "R1", {"campaign_id": "newer"})
    play.cycle()
    summary = play.cycle()
    assert (rows["O1"].fields["campaign_id"], summary.exit_code) == ("newer", NEEDS_NOBODY)
    assert "internal error" not in str(rows["O1"].fields["message"])


def test_a_wish_to_share_over_which_the_program_stumbles_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    play = Play()
    play.world = replace(play.world, settings=replace(play.world.settings, post_patience=timedelta()))
    sound = publishing.wants_sharing
    play.outside.new_opportunity(name="Odd", sync=True)
    play.begin()

    def stumbling(link: Link) -> bool:
        if link.opportunity is not None and link.opportunity["name"] == "Odd":
            raise ZeroDivisionError
        return sound(link)

    monkeypatch.setattr(publishing, "wants_sharing", stumbling)
    play.outside.people(PC, "R1", {"campaign_id": "new"})
    play.outside.people(CRM, "O1", {"notes": "Odd again"})
    assert play.cycle().failed == 1
    assert play.outside.opportunities["O2"].fields["campaign_id"] == "new"


def test_a_deal_is_decided_and_stored_no_more_often_than_needed(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/decisions/0002: twice where something goes to Partner Center, else once; and a new deal rests at once."""
    made: list[str] = []
    sound = deciding.decide

    def counted(link: Link, *rest: Any) -> Any:
        made.append(link.key)
        return sound(link, *rest)

    def commits_of_a_cycle() -> tuple[int, int]:
        made.clear()
        stored: list[Transaction] = []
        play.store.after_commit = stored.append
        play.cycle()
        play.store.after_commit = None
        return len(made), len(stored)

    play.begin()
    monkeypatch.setattr(deciding, "decide", counted)
    play.outside.new_referral(State.ACCEPTED)
    assert commits_of_a_cycle() == (1, 4)  # staged; clock; announced; recorded
    play.cycle()
    assert commits_of_a_cycle() == (0, 1)
    play.seller(value=Decimal(200))
    assert commits_of_a_cycle() == (2, 5)  # staged; clock; announced; recorded and announced; recorded
    assert play.referral["value"] == Decimal(200)
    commits_of_a_cycle()
    play.colleague(value=Decimal(300))
    assert commits_of_a_cycle() == (1, 4)
    assert play.opportunity["value"] == Decimal(300)


# --- hints of webhooks ------------------------------------------------------------------------------------------------


def test_a_hinted_referral_is_read_by_id_where_the_list_is_not_asked_and_the_list_comes_again() -> None:
    """The poll stays the truth: what no event told is carried as soon as the list is asked again."""
    play = Play()
    play.begin(value=Decimal(1))
    play.world = replace(play.world, lists_referrals=lambda: False)
    play.outside.people(PC, "R1", {"notes": "told"})
    play.outside.new_referral(State.ACCEPTED)
    before = play.world.referrals.calls
    play.cycle()
    assert play.world.referrals.calls == before
    play.store.hint([("R1", "referral-updated", "t1"), ("R404", "referral-updated", "t1")])
    play.cycle()
    assert play.opportunity["notes"] == "told"
    assert play.world.referrals.calls == before + 2
    assert play.store.hints(10) == []
    play.cycle()
    assert play.world.referrals.calls == before + 2
    assert len(play.outside.opportunities) == 1
    play.world = replace(play.world, lists_referrals=lambda: True)
    play.cycle()
    assert len(play.outside.opportunities) == 2


def test_a_hint_of_what_the_list_shows_costs_nothing() -> None:
    play = Play()
    play.begin()
    play.outside.people(PC, "R1", {"notes": "told"})
    play.store.hint([("R1", "referral-updated", "t1")])
    before = play.world.referrals.calls
    play.cycle()
    assert play.world.referrals.calls == before + 1
    assert play.opportunity["notes"] == "told"
    assert play.store.hints(10) == []
