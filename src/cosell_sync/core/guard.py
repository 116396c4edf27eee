"""Decides which steps that cannot be undone may go, and why the others are withheld.

Such a step is an accept, a decline, a win or a loss (by the stage or by an Action of the seller), a post, an invitation,
or a deal made visible to Microsoft (by a tick). It is withheld, whatever path it comes by, when

stage         the stage that was left, or the one that was entered, is not among the org's stages as read in this cycle,
unmoved       the record stands in the stage that both sides agreed on: an admin gave that stage another meaning,
precondition  something that ``doctor`` calls a fault is broken,
count         it would bring the steps of its kind within ``sync.surprise_window`` above ``sync.surprise_moves``.

Where the count withholds one step it withholds all of that kind in the cycle, for a mass update is right or wrong as a
whole. A withheld step stays so until a person approves it, the seller takes it back, or, for every reason but the count,
the cause is gone. A seller's Action is a person's word for that one deal, so the count leaves it alone; an approved step
passes for every reason. Both are not counted.

Everything here is pure. ``cycle.guard`` gathers the evidence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cosell_sync.core.deal import ABSENT, SellerAction, Side, Snapshot, State, state_of
from cosell_sync.core.decision import Decision
from cosell_sync.core.memory import Action, Approval, FinalKind, Invitation, Link, Withheld, WithheldBy

KIND_OF_MOVE: Final[Mapping[State, FinalKind]] = {
    State.ACCEPTED: FinalKind.ACCEPT,
    State.DECLINED: FinalKind.DECLINE,
    State.WON: FinalKind.WIN,
    State.LOST: FinalKind.LOSE,
}
_BY_ACTION: Final = {FinalKind.ACCEPT: SellerAction.ACCEPT, FinalKind.DECLINE: SellerAction.DECLINE}
# The states of a referral in which a step of this kind can still be ahead of it.
_AHEAD: Final[Mapping[FinalKind, frozenset[State]]] = {
    FinalKind.ACCEPT: frozenset({State.RECEIVED}),
    FinalKind.DECLINE: frozenset({State.RECEIVED}),
    FinalKind.WIN: frozenset({State.RECEIVED, State.ACCEPTED}),
    FinalKind.LOSE: frozenset({State.RECEIVED, State.ACCEPTED}),
    FinalKind.INVITE: frozenset({State.RECEIVED, State.ACCEPTED}),
    FinalKind.VISIBILITY: frozenset({State.RECEIVED, State.ACCEPTED}),
}


@dataclass(frozen=True)
class Candidate:
    """A step that would be taken now.

    ``link``: its key. ``mark``: the stage or tick that asks for it. ``stages``: those whose meaning it rests on, the one that
    was left and the one that was entered; empty where none. ``explicit``: the seller chose it as Action on this very record.
    ``approved``: a person let it through.
    """

    link: str
    kind: FinalKind
    mark: str
    stages: tuple[str, ...] = ()
    explicit: bool = False
    approved: bool = False


@dataclass(frozen=True)
class Evidence:
    """What is known when steps are judged.

    ``limit``: of steps of a kind within the window. ``recent``: by kind the links of which such a step was announced within
    the window, those not counted left out. ``stages``: of the org, as read in this cycle; None where no step rests on one.
    ``broken``: some precondition is. ``closed``: kinds of which the count has withheld a step in this cycle.
    """

    limit: int
    recent: Mapping[FinalKind, frozenset[str]] = field(default_factory=dict)
    stages: frozenset[str] | None = None
    broken: bool = False
    closed: frozenset[FinalKind] = frozenset()


@dataclass(frozen=True)
class Verdict:
    """``passed``: with whether the step counts. ``withheld``: by key of the link. ``closed``: as in ``Evidence``, from now on."""

    passed: Mapping[Candidate, bool]
    withheld: Mapping[str, Mapping[FinalKind, Withheld]]
    closed: frozenset[FinalKind]


def judge(candidates: Iterable[Candidate], evidence: Evidence) -> Verdict:
    """Which of these steps may go. At most ``limit`` of a kind are ever announced within a window without a person's word."""
    passed: dict[Candidate, bool] = {}
    withheld: dict[str, dict[FinalKind, Withheld]] = {}
    counted: defaultdict[FinalKind, list[Candidate]] = defaultdict(list)
    for each in candidates:
        if found := _withheld_for_itself(each, evidence):
            withheld.setdefault(each.link, {})[each.kind] = found
        elif each.approved or each.explicit:
            passed[each] = False
        elif each.link in evidence.recent.get(each.kind, ()):
            passed[each] = True  # announced before, and tried again: it is counted already
        else:
            counted[each.kind].append(each)
    closed = set(evidence.closed)
    for kind, some in counted.items():
        if _room(kind, evidence) < len({each.link for each in some}):
            closed.add(kind)
        for each in some:
            if kind in closed:
                item = Withheld(kind, each.mark, WithheldBy.COUNT)
                withheld.setdefault(each.link, {})[kind] = item
            else:
                passed[each] = True
    return Verdict(passed, withheld, frozenset(closed))


def counting(candidates: Iterable[Candidate], evidence: Evidence) -> Mapping[FinalKind, int]:
    """How many of these the count would judge, by kind: those that nothing else withholds or lets pass, and not counted yet."""
    unlimited = Evidence(limit=2**62, recent=evidence.recent, stages=evidence.stages, broken=evidence.broken)
    found: defaultdict[FinalKind, set[str]] = defaultdict(set)
    for each, counts in judge(candidates, unlimited).passed.items():
        if counts and each.link not in evidence.recent.get(each.kind, ()):
            found[each.kind].add(each.link)
    return {kind: len(links) for kind, links in found.items()}


def over(totals: Mapping[FinalKind, int], evidence: Evidence) -> frozenset[FinalKind]:
    """The kinds of which so many steps in a cycle are too many."""
    return frozenset(kind for kind, number in totals.items() if number > _room(kind, evidence))


def _room(kind: FinalKind, evidence: Evidence) -> int:
    return evidence.limit - len(evidence.recent.get(kind, ()))


def _withheld_for_itself(each: Candidate, evidence: Evidence) -> Withheld | None:
    """For a reason that lies in this very step, however many others there are."""
    if each.approved:
        return None
    known = evidence.stages
    gone = [stage for stage in each.stages if known is not None and stage not in known]
    if gone:
        return Withheld(each.kind, each.mark, WithheldBy.STAGE, gone[0])
    if len(each.stages) > 1 and len({*each.stages}) == 1:
        return Withheld(each.kind, each.mark, WithheldBy.UNMOVED)
    return Withheld(each.kind, each.mark, WithheldBy.PRECONDITION) if evidence.broken else None


# --- what asks for a step --------------------------------------------------------------------------------------------


def mark_of(kind: FinalKind, opportunity: Snapshot) -> str:
    """What on the record asks for a step of this kind; another mark is another step."""
    names = {
        FinalKind.POST: ("visible", "help"),
        FinalKind.INVITE: ("help",),
        FinalKind.VISIBILITY: ("visible", "help"),
    }.get(kind, ("stage", "action"))
    values = (opportunity[name] for name in names)
    return "|".join("" if value in {ABSENT, None, False} else str(value) for value in values)


def candidate(kind: FinalKind, link: Link) -> Candidate:
    """The step of this kind that the record of this link asks for. Only for a link with an opportunity."""
    opportunity = link.opportunity
    assert opportunity is not None  # noqa: S101 - a step follows from what stands on a record
    mark = mark_of(kind, opportunity)
    explicit = kind in _BY_ACTION and opportunity.text("action") == _BY_ACTION[kind]
    left = link.base_opportunity.get("stage")
    by_stage = kind in KIND_OF_MOVE.values() and not explicit
    return Candidate(
        link=link.key,
        kind=kind,
        mark=mark,
        stages=tuple(str(each) for each in (left, opportunity["stage"]) if each) if by_stage else (),
        explicit=explicit,
        approved=Approval(kind, mark) in link.memory.approved,
    )


def candidates(decision: Decision) -> tuple[Candidate, ...]:
    """The steps of a linked deal that this decision would take at Partner Center."""
    return tuple(candidate(kind, decision.link) for kind, _ in final_effects(decision))


def final_effects(decision: Decision) -> Iterable[tuple[FinalKind, str]]:
    """What of this decision's writes to Partner Center cannot be undone, each with the rule by which it follows."""
    for effect in decision.effects:
        if effect.side is not Side.PARTNER_CENTER:
            continue
        if effect.action == Action.MOVE:
            yield KIND_OF_MOVE[State(str(effect.new))], effect.rule
        elif effect.field == "visible":
            yield FinalKind.VISIBILITY, effect.rule


def kept_withheld(link: Link) -> dict[FinalKind, Withheld]:
    """What the count withheld and nobody approved stays withheld, for as long as the record asks for that very step."""
    found = standing_withheld(link)
    return {kind: item for kind, item in found.items() if item.reason is WithheldBy.COUNT}


def standing_withheld(link: Link) -> dict[FinalKind, Withheld]:
    """What was withheld when the deal was last decided, for whatever reason, that the record still asks for and nobody approved."""
    opportunity = link.opportunity
    if opportunity is None:
        return {}
    return {
        item.kind: item
        for item in link.memory.withheld
        if item.mark == mark_of(item.kind, opportunity)
        and Approval(item.kind, item.mark) not in link.memory.approved
    }


def standing_approvals(link: Link) -> tuple[Approval, ...]:
    """The approvals of steps that are still ahead, as they were asked for; one that was taken or taken back is over."""
    opportunity = link.opportunity
    if opportunity is None:
        return ()
    return tuple(
        each
        for each in link.memory.approved
        if each.mark == mark_of(each.kind, opportunity) and _ahead(each.kind, link)
    )


def _ahead(kind: FinalKind, link: Link) -> bool:
    if link.referral is None:
        return kind is FinalKind.POST
    if kind is FinalKind.INVITE and link.memory.invite == Invitation.DONE:
        return False
    if kind is FinalKind.VISIBILITY and link.referral.flag("visible"):
        return False
    return state_of(link.referral) in _AHEAD.get(kind, ())
