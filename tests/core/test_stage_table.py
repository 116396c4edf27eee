"""Every situation has exactly one row of the stage table; the docs show this table."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pytest
from deals import at_rest, here, rules, there
from test_lifecycle import diagram

from cosell_sync.core.deal import SellerAction, State
from cosell_sync.core.lifecycle import MOVES, TERMINAL, Actor, walk
from cosell_sync.core.memory import Link
from cosell_sync.core.rules import Standing
from cosell_sync.core.stage_table import (
    ANY_ACTION,
    ANY_BEFORE,
    ANY_STANDING,
    ANY_TOLD,
    CLOSED_AS_LOST,
    ENDS,
    NOT_OVER,
    REQUESTS,
    ROWS,
    Before,
    Consequence,
    Situation,
    consequence,
    situation_of,
)

DOCS = Path(__file__).parents[2] / "docs" / "lifecycle.md"
SITUATIONS = [
    Situation(*facts) for facts in product(State, [*State, None], Standing, Before, [*SellerAction, None])
]


def test_every_situation_has_exactly_one_row() -> None:
    rows = {situation: [row for row in ROWS if row.fits(situation)] for situation in SITUATIONS}
    assert {situation: found for situation, found in rows.items() if len(found) != 1} == {}


def test_no_row_is_idle() -> None:
    assert [row for row in ROWS if not any(row.fits(situation) for situation in SITUATIONS)] == []


def test_a_seller_asks_only_for_what_the_lifecycle_allows() -> None:
    """A request that no legal walk carries would be dropped without a word."""
    for situation in SITUATIONS:
        target = REQUESTS.get(consequence(situation))
        if target is not None:
            assert walk(Actor.SELLER, situation.state, target), situation
    asked = {REQUESTS[row.follows] for row in ROWS if row.follows in REQUESTS}
    assert asked == {move.target for move in MOVES if Actor.SELLER in move.actors}


def test_nothing_is_asked_of_a_closed_or_unknown_deal() -> None:
    over = [situation for situation in SITUATIONS if situation.state in {*TERMINAL, State.UNKNOWN}]
    assert not {consequence(situation) for situation in over} & REQUESTS.keys()


NEW, OPEN = at_rest(State.RECEIVED), at_rest()


@pytest.mark.parametrize(
    ("link", "follows"),
    [
        (NEW, Consequence.AGREE),
        (here(NEW, stage="Proposal"), Consequence.ACCEPT),
        (here(NEW, action="Accept"), Consequence.ACCEPT),
        (here(NEW, action="Decline"), Consequence.DECLINE),
        (here(NEW, action="Wave"), Consequence.AGREE),
        (here(NEW, stage="Closed Lost"), Consequence.DECLINE),
        (here(NEW, stage="Closed Won"), Consequence.ACCEPT_AND_WIN),
        (here(OPEN, stage="Closed Won"), Consequence.WIN),
        (here(OPEN, stage="Closed Lost"), Consequence.LOSE),
        (there(NEW, state="Accepted"), Consequence.FOLLOW),
        (there(OPEN, state="Won"), Consequence.FOLLOW),
        (there(here(OPEN, stage="Closed Won"), state="Lost"), Consequence.CONFLICT),
        (here(at_rest(State.WON), stage="Proposal"), Consequence.TOO_LATE),
        (there(OPEN, state="Unknown"), Consequence.WAIT),
    ],
)
def test_what_follows_for_a_deal(link: Link, follows: Consequence) -> None:
    """The five facts are read from the link as they should be."""
    assert link.referral is not None
    assert link.opportunity is not None
    state = State(link.referral.text("state"))
    assert consequence(situation_of(link, state, link.opportunity, rules().stages)) is follows


def table() -> str:
    """The rows as a Markdown table."""
    lines = [
        "| Partner Center | the CRM was last told | stage in the CRM | stage before | Action | what follows |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        cells = [
            {ENDS: "any known end", CLOSED_AS_LOST: "any known end but Won"}.get(row.states)
            or _words(row.states, frozenset(State)),
            "no end yet" if row.told == NOT_OVER else _words(row.told, ANY_TOLD),
            _words(row.standings, ANY_STANDING),
            _words(row.before, ANY_BEFORE),
            _words(row.actions, ANY_ACTION),
            row.follows.value,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _words(values: frozenset[object], everything: frozenset[object]) -> str:
    if values == everything:
        return "any"
    if values == TERMINAL:
        return "any end"
    missing = everything - values
    return _listed(values) if len(values) <= len(missing) else f"not {_listed(missing)}"


def _listed(values: Iterable[object]) -> str:
    return ", ".join(sorted("none" if value is None else str(value) for value in values))


def page() -> str:
    """docs/lifecycle.md with the moves and the stage table as they are."""
    text = DOCS.read_text(encoding="utf-8")
    for name, printed in (("diagram", f"```text\n{diagram()}\n```"), ("stages", table())):
        before, rest = text.split(f"<!-- {name} -->\n")
        text = f"{before}<!-- {name} -->\n{printed}\n<!-- /{name} -->" + rest.split(f"<!-- /{name} -->")[1]
    return text


def test_the_docs_show_this_table() -> None:
    """`.venv/bin/python tests/core/test_stage_table.py` writes it anew."""
    assert DOCS.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    DOCS.write_text(page(), encoding="utf-8")
