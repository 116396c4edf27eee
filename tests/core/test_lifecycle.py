"""Every state x move x actor is in the table or refused; walks are legal and shortest; the docs show this table."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from cosell_sync.core.deal import DealType, State
from cosell_sync.core.fields import NEWER
from cosell_sync.core.lifecycle import MOVES, OPEN, TERMINAL, Actor, frozen, legal_moves, walk

DOCS = Path(__file__).parents[2] / "docs" / "lifecycle.md"

# design, section 4, written out once more by hand: the table must say exactly this
SELLER, PORTAL = Actor.SELLER, Actor.PORTAL
ALLOWED = {
    ("accept", State.RECEIVED, State.ACCEPTED, SELLER),
    ("accept", State.RECEIVED, State.ACCEPTED, PORTAL),
    ("decline", State.RECEIVED, State.DECLINED, SELLER),
    ("decline", State.RECEIVED, State.DECLINED, PORTAL),
    ("expire", State.RECEIVED, State.EXPIRED, PORTAL),
    ("edit", State.ACCEPTED, State.ACCEPTED, SELLER),
    ("edit", State.ACCEPTED, State.ACCEPTED, PORTAL),
    ("win", State.ACCEPTED, State.WON, SELLER),
    ("win", State.ACCEPTED, State.WON, PORTAL),
    ("lose", State.ACCEPTED, State.LOST, SELLER),
    ("lose", State.ACCEPTED, State.LOST, PORTAL),
}
NAMES = sorted({name for name, *_ in ALLOWED})


@pytest.mark.parametrize(("name", "source", "target", "actor"), list(product(NAMES, State, State, Actor)))
def test_in_the_table_or_refused(name: str, source: State, target: State, actor: Actor) -> None:
    """Nothing but the rows of the design is possible."""
    stands = any(
        (move.name, move.source, move.target) == (name, source, target) and actor in move.actors
        for move in MOVES
    )
    assert stands is ((name, source, target, actor) in ALLOWED)


@pytest.mark.parametrize(("source", "target", "actor"), list(product(State, State, Actor)))
def test_walks_are_legal_and_shortest(source: State, target: State, actor: Actor) -> None:
    """A walk is a chain of legal moves that no shorter chain replaces; where there is none, it is refused."""
    shortest = _distance(source, target, actor)
    path = walk(actor, source, target)
    if shortest is None:
        assert path is None
        return
    assert path is not None
    assert len(path) == shortest
    here = source
    for move in path:
        assert move in set(legal_moves(here, actor))
        here = move.target
    assert here is target


def _distance(source: State, target: State, actor: Actor) -> int | None:
    """By brute force over the hand-written table."""
    reached, steps = {source}, 0
    while target not in reached:
        further = reached | {end for _, start, end, who in ALLOWED if who is actor and start in reached}
        if further == reached:
            return None
        reached, steps = further, steps + 1
    return steps


@pytest.mark.parametrize("state", sorted(TERMINAL))
@pytest.mark.parametrize("actor", Actor)
def test_over_is_over(state: State, actor: Actor) -> None:
    """Nothing leads out of the four ends."""
    assert not list(legal_moves(state, actor))


def test_every_known_state_is_open_or_over() -> None:
    assert set(State) == OPEN | TERMINAL | {State.UNKNOWN}


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("accept", ("value", "close_date")),
        ("decline", ("reason",)),
        ("expire", ()),
        ("edit", ()),
        ("win", ("value",)),
        ("lose", ("reason",)),
    ],
)
def test_needs(name: str, needs: tuple[str, ...]) -> None:
    assert [move.needs for move in MOVES if move.name == name] == [needs]


@pytest.mark.parametrize("deal_type", [*DealType, None])
@pytest.mark.parametrize("outbound", [True, False])
def test_freezes(deal_type: DealType | None, *, outbound: bool) -> None:
    """The customer is fixed once a deal exists; contacts only on co-sell deals that we made ourselves."""
    assert all(frozen(name, deal_type, outbound=outbound) for name in ("customer", *NEWER))
    assert bool(frozen("contacts", deal_type, outbound=outbound)) is (
        outbound and deal_type is DealType.COSELL
    )
    assert frozen("value", deal_type, outbound=outbound) is None


def diagram() -> str:
    """The table of moves as a text diagram, for the documentation."""
    width = max(len(state) for state in OPEN)
    lines = []
    for source in (State.RECEIVED, State.ACCEPTED):
        for move in (move for move in MOVES if move.source is source):
            who = " or ".join(sorted(move.actors))
            needs = f"  needs {', '.join(move.needs)}" if move.needs else ""
            lines.append(
                f"{source:<{width}} --{move.name:-<9}> {move.target:<9} by {who:<16}{needs}".rstrip()
            )
    ends = ", ".join(sorted(TERMINAL))
    return "\n".join([*lines, f"{ends}: the end, nothing leads out"])


def test_the_docs_show_this_table() -> None:
    """`.venv/bin/python tests/core/test_stage_table.py` writes it anew."""
    shown = DOCS.read_text().split("<!-- diagram -->\n```text\n")[1].split("\n```\n<!-- /diagram -->")[0]
    assert shown == diagram()
