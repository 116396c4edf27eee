"""Doubt: before anything is written, would an unusual share of the deals be closed, vanish or be rewritten?"""

from __future__ import annotations

from collections.abc import Iterable

from cosell_sync.core.deal import Link, Phase
from cosell_sync.core.reconcile import decide
from cosell_sync.cycle.context import Run
from cosell_sync.errors import Surprise

CHUNK = 200


def due(run: Run) -> Iterable[list[Link]]:
    after = ""
    while chunk := list(run.world.store.due(run.now, after, CHUNK)):
        yield chunk
        after = chunk[-1].key


def doubt(run: Run) -> None:
    """Before anything is written: would an unusual share of the deals be closed, vanish or be rewritten?"""
    if run.accept:
        return
    unusual = 0
    for chunk in due(run):
        for link in chunk:
            if link.phase is not Phase.LINKED or not link.base_referral:
                continue
            decision = decide(link, run.world.rules, run.shape, run.now)
            changed = any(effect.action in {"update", "move"} for effect in decision.effects)
            unusual += bool(link.memory.gone is not None or changed)
    if unusual > run.world.habits.surprise_min:
        linked = sum(tally.deals for tally in run.world.store.counts() if tally.phase is Phase.LINKED)
        doubt_numbers(run, "changed", unusual, linked)


def doubt_numbers(run: Run, what: str, unusual: int, linked: int) -> None:
    habits = run.world.habits
    if run.accept:
        return
    if unusual > habits.surprise_min and unusual > habits.surprise_share * linked:
        raise Surprise(
            f"{unusual} of {linked} linked deals would be closed, rewritten or have vanished in one cycle; nothing was "
            "written. If that is right, run: cosell-sync sync --accept",
            what=what,
            deals=unusual,
            linked=linked,
        )
