"""`deals forget`: the store knows the person no more, and neither system learns of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from acceptance import staged

from cosell_sync.sandbox.partner_center.schema import member

pytestmark = pytest.mark.wire
GRETA = member("Greta", "Öztürk", "greta@customer.example", "+49 421 100001", title="Head of IT")
LIAM = member("Liam", "O'Hara", "liam@customer.example", "+353 1 100002")


def test_a_person_is_forgotten_and_no_system_is_told(tmp_path: Path, crm: str) -> None:
    for stage in staged(tmp_path, crm):
        deal = stage.add(customerProfile={"name": "Harbor Mills", "team": [GRETA, LIAM]})
        stage.sync()
        stage.quiet()
        assert {"greta@customer.example", "liam@customer.example"} <= stage.contacts(deal).keys()
        stage.forget_calls()
        told = stage.cosell("deals", "forget", "Greta@Customer.example", process=True)
        assert told.out.startswith("Forgotten: 1 deals")
        held = b"".join(path.read_bytes() for path in tmp_path.glob("cosell-sync.db*"))
        assert (b"greta@customer" in held, "ztürk".encode() in held, b"liam@customer" in held) == (
            False,
            False,
            True,
        )
        assert stage.cosell("deals", "forget", "greta@customer.example").out.startswith("Forgotten: 0 deals")
        stage.sync()
        assert stage.mutations() == []
        assert {"greta@customer.example", "liam@customer.example"} <= stage.contacts(deal).keys()
