"""What cannot be undone, over both systems in memory: too many at once, a stage that is gone, a setup that is broken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import structlog

from cosell_sync.core.deal import Side, State
from cosell_sync.core.memory import FinalKind, OperatorCommand, Verb, WithheldBy
from cosell_sync.core.preconditions import Fault
from cosell_sync.core.rules import FieldRule, StageFlags
from cosell_sync.cycle import apply
from cosell_sync.cycle.apply import Announcement, FinalStep
from cosell_sync.cycle.commands import Refused, obey
from cosell_sync.cycle.context import Cycle, CycleSettings, DealPlan, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.cycle.guard import NotAdmitted
from cosell_sync.cycle.record import Record
from cosell_sync.errors import Surprise
from cosell_sync.ports import Crm
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, CycleSummary
from memory_sharing import HELP, Posts
from memory_systems import FLAGS, CountingStore, MemoryCrm, Outside, rules
from memory_systems import Fault as Trouble

MINUTE = timedelta(minutes=1)
LIMIT = 10


class Asked(MemoryCrm):
    """``asked``: how often it was asked for its stages alone."""

    asked = 0

    def stages(self) -> Mapping[str, StageFlags]:
        self.asked += 1
        return super().stages()


class Office:
    """Both systems, one running process, and its store."""

    def __init__(self, **changes: Any) -> None:
        self.outside = Outside()
        self.store = CountingStore()
        self.posts = Posts(self.outside)
        self.crm = Asked(self.outside)
        self.faults: list[Fault] = []
        made = rules(terminal_hold=timedelta(), **changes)
        self.rules = replace(made, fields={**made.fields, "stage": FieldRule("stage", "stage")})
        self.settings = CycleSettings(surprise_min=1000)
        self.found: list[DealPlan] = []

    def cycle(self, *, accept: bool = False, approve: bool | None = None) -> CycleSummary:
        self.outside.now += MINUTE
        self.found = []
        world = Services(
            self.posts, self.crm, self.store, self.outside.clock, self.rules, self.settings,
            preconditions=lambda _whole: self.faults,
        )  # fmt: skip
        with self.store.lease(timedelta()):
            return run_cycle(world, "c", accept=accept, approve=approve, collect=self.found.append)

    def deals(self, number: int, state: State = State.RECEIVED, **fields: Any) -> list[str]:
        """Linked deals at rest; ids of their opportunities."""
        made = [self.outside.new_referral(state, **fields).id for _ in range(number)]
        self.cycle()
        self.cycle()
        return [str(link.opportunity_id) for link in self.store.by_referral(made).values()]

    def seller(self, opportunities: list[str], **fields: Any) -> None:
        for each in opportunities:
            assert self.outside.people(Side.CRM, each, fields)

    def states(self) -> set[str]:
        return {str(row.fields["state"]) for row in self.outside.referrals.values()}

    def having(self, state: State) -> int:
        return sum(row.fields["state"] == state.value for row in self.outside.referrals.values())

    def withheld(self) -> list[tuple[FinalKind, WithheldBy]]:
        return [(item.kind, item.reason) for link in self.store.withheld() for item in link.memory.withheld]

    def message(self, opportunity: str) -> str:
        return str(self.outside.opportunities[opportunity].fields["message"])

    def approve(self, *opportunities: str) -> None:
        found = list(self.store.withheld())
        targets = opportunities or [str(link.opportunity_id) for link in found]
        for each in targets:
            with self.store.lease(timedelta()):
                obey(
                    self.store, OperatorCommand(each, Verb.APPROVE, each), cycle_id="p", now=self.outside.now
                )

    def rename(self, monkeypatch: pytest.MonkeyPatch, old: str, new: str, *, touched: bool = True) -> None:
        """An admin renames a stage; the opportunities in it show the new name. ``touched``: and have another version."""
        monkeypatch.setitem(FLAGS, new, FLAGS[old])
        shape = MemoryCrm(self.outside).shape()
        stages = {new if name == old else name: flags for name, flags in shape.stages.items()}
        self.outside.shape = replace(shape, stages=stages)
        for row in self.outside.opportunities.values():
            if row.fields["stage"] == old and touched:
                self.outside.change(Side.CRM, row, {"stage": new}, person=True)
            elif row.fields["stage"] == old:
                row.fields["stage"] = new


@pytest.fixture
def logs() -> Iterator[list[dict[str, Any]]]:
    with structlog.testing.capture_logs() as captured:
        yield captured  # type: ignore[misc]


@pytest.fixture(autouse=True)
def office(logs: list[dict[str, Any]]) -> Office:
    return Office()


def events(logs: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [entry for entry in logs if entry["event"] == name]


# --- stages ----------------------------------------------------------------------------------------------------------


def test_a_stage_renamed_under_a_running_program_accepts_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch, logs: list[dict[str, Any]]
) -> None:
    """Six unanswered deals in the standby stage: leaving it would be the accept, but nobody left it."""
    deals = office.deals(6)
    office.rename(monkeypatch, "Prospecting", "New lead")
    summary = office.cycle()
    assert office.states() == {"Received"}
    assert (summary.exit_code, summary.withheld) == (NEEDS_A_PERSON, 6)
    assert set(office.withheld()) == {(FinalKind.ACCEPT, WithheldBy.STAGE)}
    assert 'the CRM has no stage "Prospecting" any more' in office.message(deals[0])
    assert len(events(logs, "deal.withheld")) == 6
    assert [entry["check"] for entry in events(logs, "precondition.broken")] == ["mapping.stages.received"]
    for _ in range(3):
        with pytest.raises(Surprise, match="stage Prospecting"):
            office.cycle()  # the org is seen as it is now
    assert office.states() == {"Received"}
    stages = replace(office.rules.stages, received="New lead")  # the admin corrects the mapping
    office.rules = replace(office.rules, stages=stages)
    assert office.cycle(accept=True).exit_code == NEEDS_NOBODY
    assert (office.states(), office.withheld()) == ({"Received"}, [])
    assert office.cycle().exit_code == NEEDS_NOBODY
    assert "any more" not in office.message(deals[0])
    office.seller(deals[:1], stage="Qualification")
    office.cycle()
    assert office.having(State.ACCEPTED) == 1, "and an accept is one again"


@pytest.mark.parametrize("touched", [True, False])
def test_a_stage_that_is_renamed_with_its_mapping_is_left_as_ever(
    office: Office, monkeypatch: pytest.MonkeyPatch, touched: bool
) -> None:
    """Nobody left it when it got its name, and who leaves it then accepts. Dataverse's rows hold a number, so none of them
    is touched by the new name; the other rows keep what their sellers asked for before.
    """
    first, _ = office.deals(2)
    (ending,) = office.deals(1, State.ACCEPTED)
    office.rules = replace(office.rules, terminal_hold=timedelta(hours=1))
    office.seller([ending], stage="Closed Won")
    office.cycle()
    office.rename(monkeypatch, "Prospecting", "New lead", touched=touched)
    stages = replace(office.rules.stages, received="New lead")
    office.rules = replace(office.rules, stages=stages)
    office.cycle(accept=True)
    assert (office.having(State.RECEIVED), office.withheld()) == (2, [])
    office.seller([first], stage="Qualification")
    office.cycle()
    assert (office.having(State.RECEIVED), office.having(State.ACCEPTED)) == (1, 2)
    office.outside.now += timedelta(hours=1)
    office.cycle()
    assert (office.having(State.WON), office.withheld()) == (1, [])


def test_a_stage_that_was_entered_and_is_none_wins_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    (deal,) = office.deals(1, State.ACCEPTED)
    office.outside.shape = replace(office.outside.kind.shape, stages=dict(FLAGS))
    monkeypatch.setitem(FLAGS, "Signed", FLAGS["Closed Won"])
    office.seller([deal], stage="Signed")
    assert office.cycle().exit_code == NEEDS_A_PERSON
    assert (office.states(), office.withheld()) == ({"Accepted"}, [(FinalKind.WIN, WithheldBy.STAGE)])
    office.seller([deal], stage="Closed Won")
    office.cycle()
    assert (office.states(), office.withheld()) == ({"Won"}, [])


def test_a_stage_that_is_a_won_one_now_wins_no_deal_that_stood_in_it(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An admin gives the stage of running deals another type, and any edit brings their records along."""
    deals = office.deals(2, State.ACCEPTED)
    stage = str(office.outside.opportunities[deals[0]].fields["stage"])
    monkeypatch.setitem(FLAGS, stage, FLAGS["Closed Won"])
    office.outside.shape = replace(office.outside.kind.shape, stages=dict(FLAGS))
    stages = replace(office.rules.stages, accepted="Development", sales={})
    office.rules = replace(office.rules, stages=stages)
    office.crm.forget_shape()
    office.seller(deals, campaign_id="C7")
    for _ in range(2):
        assert office.cycle().exit_code == NEEDS_A_PERSON
    assert office.states() == {"Accepted"}
    assert office.withheld() == [(FinalKind.WIN, WithheldBy.UNMOVED)] * 2
    assert "nobody moved this record" in office.message(deals[0])
    office.approve(deals[0])
    office.cycle()
    assert (office.having(State.WON), len(office.withheld())) == (1, 1)
    office.seller(deals[1:], stage="Development")
    office.cycle()
    office.seller(deals[1:], stage=stage)
    office.cycle()
    assert (office.having(State.WON), office.withheld()) == (2, []), "and a move is one again"


def test_stages_are_read_once_a_cycle_and_only_for_a_step_that_rests_on_one(office: Office) -> None:
    deals = office.deals(4)
    office.crm.asked = 0
    office.cycle()
    office.seller(deals[:1], action="Accept")
    office.seller(deals[1:2], value=None)
    office.cycle()
    assert (office.crm.asked, office.having(State.ACCEPTED)) == (0, 1)
    office.seller(deals[2:], stage="Qualification")
    office.cycle()
    assert (office.crm.asked, office.having(State.ACCEPTED)) == (1, 3)


@pytest.mark.parametrize("stage", ["Prospectng", "Closed Won"])
def test_a_stage_that_is_misspelt_or_means_something_else_accepts_nothing_from_a_fresh_store(
    office: Office, stage: str, logs: list[dict[str, Any]]
) -> None:
    """What ``doctor`` calls a fault: the records say Received, and no stage is the standby one."""
    deals = office.deals(6)
    office.seller(deals[5:], value=4711)
    right = office.rules
    office.store = CountingStore()
    office.rules = replace(right, stages=replace(right.stages, received=stage))
    for _ in range(3):
        summary = office.cycle()
        assert (summary.exit_code, summary.broken, office.states()) == (NEEDS_A_PERSON, 1, {"Received"})
    assert [entry["check"] for entry in events(logs, "precondition.broken")] == ["mapping.stages.received"]
    assert {reason for _, reason in office.withheld()} <= {WithheldBy.PRECONDITION}
    office.rules = right
    assert office.cycle().exit_code == NEEDS_NOBODY
    assert (office.states(), office.withheld()) == ({"Received"}, [])
    assert len(events(logs, "precondition.mended")) == 1


# --- preconditions ---------------------------------------------------------------------------------------------------


def test_while_a_precondition_is_broken_nothing_goes_that_cannot_be_undone_and_all_else_goes_on(
    office: Office, logs: list[dict[str, Any]]
) -> None:
    """An Action as well; once it is mended what was withheld goes by itself."""
    deals = office.deals(2)
    (open_deal,) = office.deals(1, State.ACCEPTED)
    office.faults = [Fault("salesforce.Opportunity.Cosell_Message__c", "is missing", "run provision")]
    office.seller(deals[:1], action="Accept")
    office.seller([open_deal], campaign_id="C7")
    shared = office.outside.new_opportunity().id
    made = office.outside.new_referral(State.ACCEPTED)
    for _ in range(2):
        summary = office.cycle()
        assert (summary.exit_code, summary.broken, summary.withheld) == (NEEDS_A_PERSON, 1, 2)
    assert office.outside.referrals["R1"].fields["state"] == "Received"
    assert office.outside.referrals["R3"].fields["campaign_id"] == "C7"
    assert office.store.by_referral([made.id])[made.id].opportunity_id
    assert (office.posts.bodies, len(events(logs, "precondition.broken"))) == ([], 1)
    assert "found a fault in its setup" in office.message(shared)
    office.faults = []
    office.cycle()
    office.cycle()
    assert office.outside.referrals["R1"].fields["state"] == "Accepted"
    assert (len(office.posts.bodies), office.withheld()) == (1, [])
    assert office.cycle().exit_code == NEEDS_NOBODY


def test_a_fault_is_an_exit_of_one_though_nothing_is_to_be_done(office: Office) -> None:
    office.deals(1)
    office.faults = [Fault("salesforce.Opportunity.Cosell_Message__c", "is missing", "run provision")]
    assert office.cycle().exit_code == NEEDS_A_PERSON
    office.faults = []
    assert office.cycle().exit_code == NEEDS_NOBODY


# --- too many --------------------------------------------------------------------------------------------------------


def ticked(office: Office, number: int) -> list[str]:
    return [office.outside.new_opportunity().id for _ in range(number)]


def test_ticking_sync_on_thirty_posts_none_until_somebody_approves(
    office: Office, logs: list[dict[str, Any]]
) -> None:
    records = ticked(office, 30)
    (deal,) = office.deals(1, State.ACCEPTED)
    office.seller([deal], campaign_id="C7")
    summary = office.cycle()
    assert (summary.exit_code, summary.withheld, office.posts.bodies) == (NEEDS_A_PERSON, 30, [])
    assert office.outside.referrals["R1"].fields["campaign_id"] == "C7", "the rest goes on"
    assert "many deals changed like this at once" in office.message(records[0])
    assert "administrator" in office.message(records[0])
    writes = office.outside.writes
    assert office.cycle().exit_code == NEEDS_A_PERSON
    assert (office.outside.writes, len(events(logs, "deal.withheld"))) == (writes, 30), "told once"
    office.approve(*records[:3])
    office.cycle()
    assert len(office.posts.bodies) == 3
    office.approve()
    assert len(events(logs, "deal.approved")) == 30
    office.cycle()
    assert (len(office.posts.bodies), office.withheld()) == (30, [])
    assert office.cycle().exit_code == NEEDS_NOBODY


def test_accept_lets_the_whole_cycle_through(office: Office) -> None:
    ticked(office, 30)
    office.cycle()
    assert office.posts.bodies == []
    office.cycle(accept=True)
    assert (len(office.posts.bodies), office.withheld()) == (30, [])
    assert office.cycle().exit_code == NEEDS_NOBODY


def test_asking_microsoft_for_help_on_twelve_invites_nobody(office: Office) -> None:
    office.settings = replace(office.settings, surprise_moves=12)
    records = ticked(office, 12)
    office.cycle()
    office.settings = replace(office.settings, surprise_moves=LIMIT)
    office.seller(records, help=HELP, help_note="Pilot", visible=True)
    for _ in range(4):
        assert office.cycle().exit_code == NEEDS_A_PERSON
    assert (office.posts.sides, {kind for kind, _ in office.withheld()}) == ([], {FinalKind.VISIBILITY})
    office.approve()
    office.cycle()
    assert (office.posts.sides, {kind for kind, _ in office.withheld()}) == ([], {FinalKind.INVITE})
    office.approve()
    office.cycle()
    assert (len(office.posts.sides), office.withheld()) == (12, [])


@pytest.mark.parametrize("each", [1, 3, 7])
def test_spread_over_cycles_the_window_sums_them(office: Office, each: int) -> None:
    """Whatever the share a cycle has of it; after the window new ones go, and what was withheld still waits."""
    records = ticked(office, 30)
    for number in records:
        office.outside.opportunities[number].fields["sync"] = False
    for start in range(0, 30, each):
        office.seller(records[start : start + each], sync=True)
        office.cycle()
    done = len(office.posts.bodies)
    assert LIMIT - each < done <= LIMIT
    office.outside.now += timedelta(hours=1)
    office.cycle()
    assert len(office.posts.bodies) == done
    ticked(office, 1)
    office.cycle()
    assert len(office.posts.bodies) == done + 1
    assert len(office.withheld()) == 30 - done


def test_the_window_outlives_the_process(office: Office) -> None:
    ticked(office, LIMIT)
    office.cycle()
    office.store = office.store.another()
    ticked(office, 1)
    office.cycle()
    assert len(office.posts.bodies) == LIMIT


def test_a_mass_update_of_the_stage_accepts_none_and_an_action_accepts(office: Office) -> None:
    """Eleven by the stage are too many; twenty by an Action on each record are what a person said twenty times."""
    deals = office.deals(31)
    office.seller(deals[:11], stage="Qualification")
    office.seller(deals[11:], action="Accept")
    assert office.cycle().exit_code == NEEDS_A_PERSON
    assert office.having(State.ACCEPTED) == 20
    assert office.withheld() == [(FinalKind.ACCEPT, WithheldBy.COUNT)] * 11
    office.seller(deals[:11], stage="Prospecting")  # taken back
    assert office.cycle().exit_code == NEEDS_NOBODY
    assert (office.having(State.ACCEPTED), office.withheld()) == (20, [])
    office.seller(deals[:1], stage="Qualification")
    office.cycle()
    assert office.having(State.ACCEPTED) == 21


def test_edits_go_on_while_the_end_of_their_deal_is_withheld(office: Office) -> None:
    deals = office.deals(11, State.ACCEPTED)
    office.seller(deals, stage="Closed Won", campaign_id="C7", value=4711)
    office.cycle()
    assert {row.fields["campaign_id"] for row in office.outside.referrals.values()} == {"C7"}
    assert (office.having(State.ACCEPTED), len(office.withheld())) == (11, 11)


def test_the_hold_before_the_end_counts_on_while_it_is_withheld(office: Office) -> None:
    office.rules = replace(office.rules, terminal_hold=timedelta(minutes=15))
    deals = office.deals(11, State.ACCEPTED)
    office.seller(deals, stage="Closed Won")
    office.cycle()
    assert office.withheld() == [], "it waits anyway"
    office.outside.now += timedelta(minutes=15)
    office.cycle()
    assert (office.having(State.WON), len(office.withheld())) == (0, 11)
    office.approve()
    office.cycle()
    assert office.having(State.WON) == 11


def test_an_approval_is_for_the_step_as_it_stood(office: Office) -> None:
    deals = office.deals(11, State.ACCEPTED)
    office.seller(deals, stage="Closed Won")
    office.cycle()
    office.approve()
    office.seller(deals, stage="Closed Lost", reason="Other")
    office.cycle()
    assert (office.states(), {kind for kind, _ in office.withheld()}) == ({"Accepted"}, {FinalKind.LOSE})
    with office.store.lease(timedelta()), pytest.raises(Refused):
        obey(
            office.store, OperatorCommand("1", Verb.APPROVE, "nowhere"), cycle_id="p", now=office.outside.now
        )


def test_an_approval_does_not_expire(office: Office) -> None:
    """Partner Center is away for a day: the step goes when it is back."""
    deals = office.deals(11, State.ACCEPTED)
    office.seller(deals, stage="Closed Won")
    office.cycle()
    office.approve()
    office.outside.faults = [Trouble(Side.PARTNER_CENTER, "flaky")] * 11
    office.cycle()
    assert office.having(State.WON) == 0
    office.outside.now += timedelta(days=1)
    office.cycle()
    assert office.having(State.WON) == 11


def test_what_was_approved_is_withheld_no_longer_though_its_record_is_gone(office: Office) -> None:
    """Nobody is asked twice for a step that cannot be taken; if the record comes back, it goes."""
    deals = office.deals(11, State.ACCEPTED)
    office.seller(deals, stage="Closed Won")
    office.cycle()
    office.outside.vanish(Side.CRM, deals[0], gone=True)
    office.cycle()
    office.approve()
    assert office.withheld() == []
    office.cycle()
    assert (office.having(State.WON), office.withheld()) == (10, [])
    office.outside.vanish(Side.CRM, deals[0], gone=False)
    office.cycle()
    assert office.having(State.WON) == 11


def test_a_deal_at_rest_cannot_be_approved(office: Office) -> None:
    (deal,) = office.deals(1)
    with office.store.lease(timedelta()), pytest.raises(Refused, match="nothing of the deal"):
        obey(office.store, OperatorCommand("1", Verb.APPROVE, deal), cycle_id="p", now=office.outside.now)


def test_a_plan_shows_what_is_withheld_as_a_hold(office: Office) -> None:
    deals = office.deals(11, State.ACCEPTED)
    office.seller(deals, stage="Closed Won")
    ticked(office, 11)
    office.cycle(accept=True, approve=False)
    holds = [hold.kind for plan in office.found for hold in plan.holds]
    assert holds.count("withheld") == 22  # type: ignore[comparison-overlap]
    assert not [
        effect for plan in office.found for effect in plan.effects if effect.side is Side.PARTNER_CENTER
    ]


def test_a_first_import_makes_no_step_that_cannot_be_undone(office: Office) -> None:
    for number in range(40):
        office.outside.new_referral(State.RECEIVED if number % 2 else State.ACCEPTED)
    assert office.cycle().exit_code == NEEDS_NOBODY
    assert (office.cycle().withheld, office.states()) == (0, {"Received", "Accepted"})


def test_a_step_that_was_not_admitted_is_not_written(office: Office) -> None:
    """Whatever path it comes by: the last line of defence is in front of the call."""
    (deal,) = office.deals(1)
    link = office.store.by_opportunity([deal])[deal]
    world = Services(office.posts, office.crm, office.store, office.outside.clock, office.rules)
    cycle = Cycle(world, "c", office.outside.now, lambda _plan: None)
    step = FinalStep(FinalKind.WIN, link, "somebody forgot the guard")
    with pytest.raises(NotAdmitted):
        apply.announce(cycle, Record(), [Announcement(None, (step,))])  # type: ignore[arg-type]
    with pytest.raises(NotAdmitted):
        apply.post_invitation(cycle, link, {}, {}, "somebody forgot the guard", "E1")
    crm: Crm = office.crm
    assert (office.posts.bodies, list(office.store.intents([link.key])), crm.outage) == ([], [], None)
