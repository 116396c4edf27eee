"""``plan`` for people: a line for each deal, every value on demand."""

from __future__ import annotations

import pytest

from cosell_sync.cli.plan import _print_deals
from cosell_sync.core.deal import Snapshot
from cosell_sync.core.memory import Link


def test_a_deal_is_a_line_with_what_is_done_and_what_waits(capsys: pytest.CaptureFixture[str]) -> None:
    ids = {"referral_id": "r-1", "opportunity_id": "006A"}
    new = {"referral_id": "r-2", "opportunity_id": None}

    def effect(
        of: dict[str, str | None], side: str, action: str, field: str, value: object
    ) -> dict[str, object]:
        return {**of, "side": side, "action": action, "field": field, "old": None, "new": value, "rule": "x"}

    waiting = {**ids, "partner_center": 1, "crm": 2, "until": None}
    _print_deals(
        {
            "effects": [
                effect(ids, "crm", "update", "Amount", 5),
                effect(ids, "crm", "tell", "Cosell_Message__c", "…"),
                effect(ids, "partner_center", "move", "Cosell_Status__c", "Won"),
                effect(new, "crm", "create", "Name", "New"),
                effect(new, "crm", "create", "Amount", 1),
            ],
            "conflicts": [{**waiting, "field": "CloseDate", "rule": "both changed"}],
            "holds": [{**waiting, "field": "", "rule": "held: looks like another"}],
        },
        {"006A": Link("r:r-1", "r-1", "006A", opportunity=Snapshot("006A", "1", {"name": "Fabric\x1b[2J"}))},
    )
    said = capsys.readouterr().out
    first, second = (next(line for line in said.splitlines() if key in line) for key in ("006A", "r-2"))
    for word in ("Fabric\\u001b", "update Amount", "move to Won", "CloseDate", "held: looks like another"):
        assert word in first
    assert second.count("create") == 1
    assert "2 deals: 5 values" in said
    assert "--deal ID" in said
