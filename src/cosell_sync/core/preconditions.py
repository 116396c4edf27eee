"""What must be so in the CRM before anything is done that cannot be undone, as far as rules and shape tell.

``doctor`` shows these checks and a writing cycle asks them, so that neither knows of a fault that the other does not. What
only the CRM's own description can tell (types, rights, keys) is checked by ``crm.*.install.checks``, for both as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cosell_sync.core.rules import Rules, StageFlags


@dataclass(frozen=True)
class Fault:
    """A precondition that is broken. ``name``: of the check. ``todo``: the one next step. ``stage``: which one it is about."""

    name: str
    text: str
    todo: str
    stage: str = ""


@dataclass(frozen=True)
class StageCheck:
    """What the stage under this key of ``mapping.stages`` must be in the CRM; ``words`` name it."""

    key: str
    means: Callable[[StageFlags], bool]
    words: str


def _is_open(flags: StageFlags) -> bool:
    return not flags.closed


def _is_won(flags: StageFlags) -> bool:
    return flags.closed and flags.won


def _is_lost(flags: StageFlags) -> bool:
    return flags.closed and not flags.won


STAGE_CHECKS: Final = (
    StageCheck("received", _is_open, "an open stage"),
    StageCheck("accepted", _is_open, "an open stage"),
    StageCheck("won", _is_won, "a won stage"),
    StageCheck("lost", _is_lost, "a closed stage that is not won"),
    StageCheck("declined", _is_lost, "a closed stage that is not won"),
    StageCheck("expired", _is_lost, "a closed stage that is not won"),
)


def stage_faults(rules: Rules, stages: Mapping[str, StageFlags]) -> Iterable[Fault]:
    """The configured stages that the CRM does not have, or that mean something else there. ``stages``: the CRM's own."""
    known = ", ".join(sorted(stages))
    for check in STAGE_CHECKS:
        name = getattr(rules.stages, check.key)
        label = f"mapping.stages.{check.key}"
        if name not in stages:
            yield Fault(label, f"the CRM has no stage {name}", f"name one of these: {known}", name)
        elif not check.means(stages[name]):
            yield Fault(label, f"{name} is not {check.words} in the CRM", f"name {check.words} there", name)
    for name in rules.stages.sales:
        if name not in stages:
            label = f"mapping.sales_stages.{name}"
            yield Fault(label, f"the CRM has no stage {name}", f"name one of these: {known}", name)
