"""The guard: what may go of what cannot be undone, whatever the steps, the limit and their split over cycles."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from deals import at_rest, here
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import Snapshot, State
from cosell_sync.core.guard import (
    KIND_OF_MOVE,
    Candidate,
    Evidence,
    candidate,
    counting,
    judge,
    kept_withheld,
    mark_of,
    over,
    standing_approvals,
)
from cosell_sync.core.memory import Approval, FinalKind, Link, Memory, Withheld, WithheldBy
from cosell_sync.core.preconditions import stage_faults
from cosell_sync.core.rules import Rules, StageFlags, Stages

WIN = FinalKind.WIN
WINDOW = timedelta(hours=1)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)


def step(number: int, kind: FinalKind = WIN, **more: object) -> Candidate:
    return Candidate(f"r:{number}", kind, "Closed Won", **more)  # type: ignore[arg-type]


def wins(number: int) -> list[Candidate]:
    return [step(each) for each in range(number)]


def reasons(steps: list[Candidate], evidence: Evidence) -> set[WithheldBy]:
    verdict = judge(steps, evidence)
    return {item.reason for items in verdict.withheld.values() for item in items.values()}


def test_as_many_as_the_limit_go_and_one_more_withholds_all_of_that_kind() -> None:
    assert len(judge(wins(10), Evidence(limit=10)).passed) == 10
    others = [step(99, FinalKind.ACCEPT)]
    verdict = judge([*wins(11), *others], Evidence(limit=10))
    assert [each.kind for each in verdict.passed] == [FinalKind.ACCEPT]
    assert (len(verdict.withheld), verdict.closed) == (11, {WIN})


def test_a_stage_that_nobody_left_ends_no_deal_whatever_it_means_now() -> None:
    """An admin turned the stage of running deals into a won one. A move is a seller's act; an Action and an approval are too."""
    stays = {"stages": ("Signed", "Signed")}
    assert reasons([step(1, **stays)], Evidence(limit=10)) == {WithheldBy.UNMOVED}
    assert reasons([step(1, stages=("Proposal", "Signed"))], Evidence(limit=10)) == set()
    assert reasons([step(1, stages=("Signed",))], Evidence(limit=10)) == set(), (
        "never agreed on: at first sight"
    )
    assert reasons([step(1, approved=True, **stays)], Evidence(limit=10)) == set()


def test_what_went_before_within_the_window_counts() -> None:
    recent = {WIN: frozenset(f"r:{number}" for number in range(100, 108))}
    assert len(judge(wins(2), Evidence(limit=10, recent=recent)).passed) == 2
    assert judge(wins(3), Evidence(limit=10, recent=recent)).passed == {}


def test_a_step_that_is_tried_again_is_counted_once() -> None:
    recent = {WIN: frozenset(f"r:{number}" for number in range(10))}
    assert len(judge(wins(10), Evidence(limit=10, recent=recent)).passed) == 10


def test_a_closed_kind_stays_closed_in_the_cycle() -> None:
    assert reasons(wins(1), Evidence(limit=10, closed=frozenset({WIN}))) == {WithheldBy.COUNT}


@pytest.mark.parametrize("stages", [("gone", "there"), ("there", "gone"), ("gone",)])
def test_a_stage_that_the_org_does_not_have_withholds_the_step(stages: tuple[str, ...]) -> None:
    found = judge([step(1, stages=stages)], Evidence(limit=10, stages=frozenset({"there"})))
    assert found.withheld["r:1"][WIN] == Withheld(WIN, "Closed Won", WithheldBy.STAGE, "gone")


def test_a_broken_precondition_withholds_an_action_as_well_and_an_approval_passes() -> None:
    evidence = Evidence(limit=10, stages=frozenset(), broken=True)
    assert reasons([step(1), step(2, explicit=True)], evidence) == {WithheldBy.PRECONDITION}
    assert judge([step(1, approved=True, stages=("gone",))], evidence).withheld == {}


STEPS = st.builds(
    Candidate,
    st.sampled_from([f"r:{number}" for number in range(12)]),
    st.sampled_from([WIN, FinalKind.POST]),
    st.just("m"),
    st.just(()),
    st.booleans(),
    st.booleans(),
)


@given(
    limit=st.integers(0, 4),
    cycles=st.lists(
        st.tuples(st.integers(0, 90), st.lists(st.lists(STEPS, max_size=6), max_size=3)), max_size=12
    ),
)
def test_never_more_than_the_limit_in_any_window_without_a_persons_word(
    limit: int, cycles: list[tuple[int, list[list[Candidate]]]]
) -> None:
    """However the steps are split over cycles, and within one over chunks."""
    now, done = START, {}
    for minutes, chunks in cycles:
        now += timedelta(minutes=minutes)
        closed: frozenset[FinalKind] = frozenset()
        for chunk in chunks:
            recent = {
                kind: frozenset(key for (key, each), at in done.items() if each is kind and at > now - WINDOW)
                for kind in FinalKind
            }
            verdict = judge(chunk, Evidence(limit, recent, closed=closed))
            closed = verdict.closed
            for each, counts in verdict.passed.items():
                assert counts is not (each.explicit or each.approved)
                if counts:
                    done[each.link, each.kind] = now
            withheld = {(key, kind) for key, items in verdict.withheld.items() for kind in items}
            for each in chunk:
                if each.explicit or each.approved:
                    assert each in verdict.passed, (
                        "an Action, or an approved step, is never withheld by the count"
                    )
                else:
                    assert (each in verdict.passed) is not ((each.link, each.kind) in withheld)
        for kind in FinalKind:
            assert sum(each is kind and at > now - WINDOW for (_, each), at in done.items()) <= limit


@given(st.lists(STEPS, max_size=12), st.integers(0, 4), st.booleans())
def test_what_was_foreseen_is_what_is_judged(steps: list[Candidate], limit: int, broken: bool) -> None:
    evidence = Evidence(limit, broken=broken)
    assert over(counting(steps, evidence), evidence) == judge(steps, evidence).closed


def paired(state: State = State.ACCEPTED, *, memory: Memory | None = None, **fields: object) -> Link:
    link = here(at_rest(state), stage="Closed Won", **fields)  # type: ignore[arg-type]
    return replace(link, base_opportunity={"stage": "Qualification"}, memory=memory or Memory())


def record(**fields: str) -> Snapshot:
    return Snapshot("O1", "1", {"stage": "Closed Won", **fields})


def test_a_move_rests_on_both_stages_and_an_action_on_none() -> None:
    assert candidate(WIN, paired()).stages == ("Qualification", "Closed Won")
    chosen = candidate(FinalKind.ACCEPT, paired(State.RECEIVED, action="Accept"))
    assert (chosen.explicit, chosen.stages) == (True, ())
    assert not candidate(FinalKind.ACCEPT, paired(State.RECEIVED, action="Decline")).explicit
    assert candidate(FinalKind.VISIBILITY, paired(visible=True)).stages == ()


def test_what_the_count_withheld_stays_so_until_it_is_approved_or_taken_back() -> None:
    mark = mark_of(WIN, record())
    item = Withheld(WIN, mark, WithheldBy.COUNT)
    assert kept_withheld(paired(memory=Memory(withheld=(item,)))) == {WIN: item}
    assert kept_withheld(paired(memory=Memory(withheld=(item,), approved=(Approval(WIN, mark),)))) == {}
    assert kept_withheld(paired(memory=Memory(withheld=(replace(item, mark="Won by Ada|"),)))) == {}
    assert kept_withheld(paired(memory=Memory(withheld=(replace(item, reason=WithheldBy.STAGE),)))) == {}
    assert kept_withheld(replace(paired(), opportunity=None)) == {}


def test_an_approval_is_of_the_step_as_it_stood() -> None:
    mark = mark_of(WIN, record())
    memory = Memory(approved=(Approval(WIN, mark),))
    assert standing_approvals(paired(memory=memory)) == memory.approved
    assert candidate(WIN, paired(memory=memory)).approved
    assert not candidate(FinalKind.LOSE, paired(memory=memory)).approved
    assert standing_approvals(paired(State.WON, memory=memory)) == (), "it was taken"
    other = paired(memory=Memory(approved=(Approval(WIN, "Negotiation|"),)))
    assert standing_approvals(other) == (), "it was taken back"


@pytest.mark.parametrize("kind", [FinalKind.VISIBILITY, FinalKind.INVITE, FinalKind.POST])
def test_the_mark_of_a_tick_is_the_tick(kind: FinalKind) -> None:
    assert mark_of(kind, record(help="Pilot")) != mark_of(kind, record(help="Other"))
    assert mark_of(kind, record(help="Pilot", stage="A")) == mark_of(kind, record(help="Pilot", stage="B"))


def test_every_move_of_a_seller_has_a_kind() -> None:
    assert set(KIND_OF_MOVE) == {State.ACCEPTED, State.DECLINED, State.WON, State.LOST}


def test_configured_stages_must_exist_and_mean_what_they_should() -> None:
    there = {
        "Prospecting": StageFlags(), "Qualification": StageFlags(),
        "Closed Won": StageFlags(closed=True, won=True), "Closed Lost": StageFlags(closed=True),
    }  # fmt: skip
    rules = Rules({}, Stages())
    assert list(stage_faults(rules, there)) == []
    odd = replace(
        rules, stages=Stages(received="Prospectng", lost="Closed Won", sales={"Nowhere": "Develop"})
    )
    assert [fault.name for fault in stage_faults(odd, there)] == [
        "mapping.stages.received", "mapping.stages.lost", "mapping.sales_stages.Nowhere",
    ]  # fmt: skip
