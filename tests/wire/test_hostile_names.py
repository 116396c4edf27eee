"""Names that are code somewhere: they arrive as the letters they are, on either side, in either CRM, and nothing breaks out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from crash_player import CrashPlayer, ProcessRun
from crm_sellers import SELLERS
from test_crash_points import Play

HOSTILE = {
    "SQL": "x'; DROP TABLE link; --",
    "SOQL": "' OR Name != '' OR Name LIKE '%",
    "OData": "x' or name ne 'y') and ('1' eq '1",
    "backslashes": "a\\' \\\\ \\n \\u0041 b",
    "HTML": "<script>alert(1)</script>&amp;\"'>",
    "spreadsheet": '=HYPERLINK("https://x.example";"y")',
    "JSON": '{"a": [1, "b\\"]}',
    "batch": "--changeset_x HTTP/1.1 200 OK",
    "reference": "@{refOpportunity.id} $1",
    "markup": "[bold red]x[/bold red] %s {0} ${HOME} $(id)",
    "other scripts": "Ł\u0323ódź 東雲 😀 e\u0301",
}


@pytest.fixture(autouse=True)
def _quiet_logs() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("crm", SELLERS)
def test_a_hostile_name_is_only_a_name(crm: str, tmp_path: Path) -> None:
    """From Partner Center as the deal's and the customer's name and in the notes, made and edited; from the CRM in the notes."""
    player = CrashPlayer(crm, tmp_path)
    play = Play(player, SELLERS[crm](player.crm))
    words = play.sellers.WORDS
    for text in HOSTILE.values():
        notes = {"currency": "EUR", "dealValue": 5, "notes": f"one\n{text}"}
        play.add(text, "inbound_accepted", customerProfile={"name": f"{text} AG"}, details=notes)
    assert player.run_program(ProcessRun(), 5)
    assert sorted(row[words["name"]] for row in play.deals()) == sorted(HOSTILE.values())
    for text in HOSTILE.values():
        row = play.sellers.row(text)
        assert row[words["notes"]].splitlines() == ["one", text]
        play.sellers.edit(text, notes=f"one\n{text}\nseller: {text}")
    assert player.run_program(ProcessRun(), 5)
    for text in HOSTILE.values():
        assert play.there(text)["details"]["notes"].splitlines() == ["one", text, f"seller: {text}"]
        assert play.there(text)["customerProfile"]["name"] == f"{text} AG"
        player.pc.edit(play.there(text)["id"], {"details/notes": f"again {text}"})
    assert player.run_program(ProcessRun(), 5)
    for text in HOSTILE.values():
        assert play.sellers.row(text)[words["notes"]] == f"again {text}"
    assert len(play.deals()) == len(player.pc.ours()) == len(HOSTILE)
    run = ProcessRun()
    assert player.run_program(run)
    assert not [point for point in run.points if point.startswith("PATCH")]
