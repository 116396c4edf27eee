"""Microsoft's side of a deal: when it takes part, when it is awaited, what the seller reads of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations

import pytest
from deals import SHAPE
from sharing import NOW, RULES, pair

from cosell_sync.core import messages, microsoft
from cosell_sync.core.deal import ABSENT, Side, Snapshot, Value
from cosell_sync.core.memory import Invitation, Memory, Phase
from cosell_sync.core.reconcile import decide
from cosell_sync.core.status import status_report

INBOUND = {"direction": "Inbound", "deal_type": "Co-sell"}


@pytest.mark.parametrize(
    ("there", "memory", "takes_part"),
    [
        (INBOUND, Memory(), True),
        ({**INBOUND, "deal_type": "Partner-led"}, Memory(), False),
        ({**INBOUND, "direction": "Outbound"}, Memory(), False),
        ({}, Memory(microsoft={"status": "New / Pending"}), True),
        ({}, Memory(invite=Invitation.DONE), False),
    ],
)
def test_microsoft_takes_part(there: dict[str, Value], memory: Memory, *, takes_part: bool) -> None:
    assert microsoft.takes_part(replace(pair(**there), memory=memory)) is takes_part


def test_without_a_referral_nobody_takes_part() -> None:
    alone = replace(pair(), referral=None)
    assert (microsoft.deal_type(alone), microsoft.takes_part(alone)) == (ABSENT, False)
    assert microsoft.deal_type(replace(alone, memory=Memory(invite=Invitation.DONE))) == "Co-sell"


@pytest.mark.parametrize(
    ("changes", "there", "awaited"),
    [
        ({}, {}, True),
        ({"memory": Memory(invite=Invitation.DONE, microsoft={"status": "Active / Accepted"})}, {}, True),
        ({"memory": Memory(invite=Invitation.DONE, microsoft={"status": "Closed / Won"})}, {}, False),
        ({"memory": Memory(invite=Invitation.DONE, microsoft={"id": "7-1"})}, {}, True),
        ({"memory": Memory(invite=Invitation.DONE, gone=Side.CRM)}, {}, False),
        ({"memory": Memory(invite=Invitation.PENDING)}, {}, False),
        ({"phase": Phase.PARTED}, {}, False),
        ({"referral": None}, {}, False),
        ({}, {"state": "Won"}, False),
        ({}, {"direction": "Inbound"}, False),
        ({}, {"direction": ABSENT}, True),
        ({}, {"engagement_id": None}, False),
    ],
)
def test_microsofts_side_is_awaited_while_it_may_change(
    changes: dict[str, object], there: dict[str, Value], *, awaited: bool
) -> None:
    asked = replace(pair(**there), memory=Memory(invite=Invitation.DONE))
    assert microsoft.awaited(replace(asked, **changes)) is awaited  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "little"),
    [
        ({}, True),
        ({"updated_at": NOW, "deal_type": "Co-sell", "contacts": ()}, True),
        ({"notes": "new"}, False),
        ({"contacts": (), "value": None}, False),
        ({"state": "Won"}, False),
    ],
)
def test_a_change_tells_too_little_where_no_field_of_ours_explains_it(
    change: dict[str, Value], *, little: bool
) -> None:
    before = pair().referral
    assert before is not None
    after = replace(before, version="r2", fields={**before.fields, **change})
    assert microsoft.tells_too_little(before, after) is little


@pytest.mark.parametrize(
    ("there", "changes", "may"),
    [
        ({"visible": True}, {}, True),
        ({"visible": True, **INBOUND}, {}, True),
        ({"visible": False}, {}, False),
        ({"visible": True, "state": "Received"}, {}, False),
        ({"visible": True, "engagement_id": None}, {}, False),
        ({"visible": True}, {"phase": Phase.PARTED}, False),
        ({"visible": True}, {"referral": None}, False),
    ],
)
def test_microsoft_may_have_joined_an_open_deal_that_it_sees(
    there: dict[str, Value], changes: dict[str, object], *, may: bool
) -> None:
    assert microsoft.may_have_joined(replace(pair(**there), **changes)) is may  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("told", "memory", "joined"),
    [
        ("Partner-led", Memory(microsoft={"status": "New / Pending"}), True),
        ("Private", Memory(microsoft={"status": "New / Pending"}), True),
        ("Co-sell", Memory(microsoft={"status": "New / Pending"}), False),
        (None, Memory(microsoft={"status": "New / Pending"}), False),
        ("Partner-led", Memory(), False),
        ("Partner-led", Memory(invite=Invitation.DONE), False),
    ],
)
def test_a_deal_that_became_cosell_elsewhere_is_told_once(
    told: str | None, memory: Memory, *, joined: bool
) -> None:
    link = replace(pair({"deal_type": told}, deal_type="Partner-led"), memory=memory)
    decision = decide(link, RULES, SHAPE, NOW)
    assert microsoft.joined_elsewhere(link) is joined
    assert (messages.joined() in decision.notices) is joined


def side(status: str, number: int = 1, **fields: Value) -> Snapshot:
    held: dict[str, Value] = {"category": "foreign", "organization": "Microsoft", "status_text": status}
    return Snapshot(
        f"M{number}", "1", {**held, "created_at": datetime(2026, 3, number, tzinfo=UTC), **fields}
    )


def test_microsofts_newest_side_is_the_one_that_counts() -> None:
    partner = side("Active / Accepted", 9, organization="other")
    found = microsoft.microsoft_side(
        [side("New / Pending", 2, respond_by=NOW), partner, side("Closed / Declined", 1)]
    )
    assert found == {"status": "New / Pending", "until": "2026-03-02T10:00:00+00:00", "referral": "m2"}
    assert microsoft.microsoft_side([partner]) == {}
    ours = side("Active / Accepted", 8, category="cosell")
    newest = side("Closed / Lost", 3, microsoft_id="7-1", status_reason="gone")
    undated = side("New / Pending", 4, created_at=None)
    told = {"status": "Closed / Lost", "id": "7-1", "reason": "gone", "referral": "m3"}
    for sides in permutations([newest, ours, undated, side("Closed / Declined", 1)]):
        assert microsoft.microsoft_side(sides) == told


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"status": "New / Pending", "until": "2026-03-16T10:00:00+00:00"}, "16 Mar 2026"),
        ({"status": "Active / Accepted", "id": "7-1"}, "accepted"),
        ({"status": "Closed / Declined", "reason": "customer not managed"}, "customer not managed"),
        ({"status": "Closed / Declined"}, "USD 25,000"),
        ({"status": "Closed / Expired"}, "in time"),
        ({"status": "Closed / Won"}, "won"),
        ({"status": "Engaged / Odd"}, "Engaged / Odd"),
    ],
)
def test_microsofts_side_is_told_with_what_follows(known: dict[str, str], words: str) -> None:
    link = replace(pair(), memory=Memory(invite=Invitation.DONE, microsoft=known))
    told = status_report(decide(link, RULES, SHAPE, NOW), (), SHAPE, NOW)
    assert words in told.message
    assert told.fields["microsoft_status"] == known["status"]
    assert told.fields.get("microsoft_id") == known.get("id")


@pytest.mark.parametrize(
    ("status", "words"),
    [("ReviewPending", "reviewed"), ("ActionRequired", "open the deal"), ("Odd", '"Odd"')],
)
def test_the_registration_of_a_won_deal_says_what_to_do(status: str, words: str) -> None:
    won = pair({"stage": "Closed Won"}, state="Won", registration_status=status)
    assert words in status_report(decide(won, RULES, SHAPE, NOW), (), SHAPE, NOW).message
    silent = pair({"stage": "Closed Won"}, state="Won", registration_status="None")
    assert "egistration" not in status_report(decide(silent, RULES, SHAPE, NOW), (), SHAPE, NOW).message
