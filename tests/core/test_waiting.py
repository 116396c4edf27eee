"""What of a deal waits, told from what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from deals import SHAPE as SHARED_SHAPE
from deals import rules
from sharing import HELP, opportunity, pair
from sharing import NOW as NOW_SHARED

from cosell_sync.core import messages
from cosell_sync.core.deal import Side, Snapshot, Value
from cosell_sync.core.fields import KINDS
from cosell_sync.core.guard import mark_of
from cosell_sync.core.memory import (
    Approval,
    Failure,
    FinalKind,
    Intent,
    Link,
    Memory,
    Phase,
    Withheld,
    WithheldBy,
)
from cosell_sync.core.rules import CrmShape, FieldRule, Flow, Policy, Rules
from cosell_sync.core.waiting import Waiting, WaitKind, waiting

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
RULES = Rules({name: FieldRule(name, name, Flow.BOTH, Policy.CRM) for name in ("name", "value")})
SHAPE = CrmShape(frozenset(KINDS), {})
REFERRAL = Snapshot("R", "1", {"state": "Accepted", "name": "Deal", "value": Decimal(2)})
OPPORTUNITY = Snapshot(
    "O",
    "1",
    {"stage": "Qualification", "name": "Deal", "value": Decimal(1), "sync": True, "status": "Accepted"},
)
REFUSAL = Failure(Side.CRM, "VALIDATION", "A director must agree.", NOW)
PAIR = Link(
    "r:R",
    "R",
    "O",
    Phase.LINKED,
    REFERRAL,
    OPPORTUNITY,
    base_referral={"state": "Accepted", "name": "Deal", "value": Decimal(1)},
    base_opportunity={"stage": "Qualification", "name": "Deal", "value": Decimal(1)},
)


def told(link: Link, *intents: Intent) -> list[Waiting]:
    return waiting(link, intents, RULES, SHAPE, NOW)


@pytest.mark.parametrize(
    ("memory", "kind", "reason", "until"),
    [
        (Memory(), WaitKind.NEXT, None, None),
        (Memory(failure=REFUSAL, next_attempt=LATER), WaitKind.REFUSED, REFUSAL.text, LATER),
        (Memory(failure=replace(REFUSAL, transient=True)), WaitKind.FAILED, REFUSAL.text, None),
        (Memory(failure=REFUSAL, parked=True), WaitKind.PARKED, REFUSAL.text, None),
    ],
)
def test_an_edit_that_has_not_landed(
    memory: Memory, kind: WaitKind, reason: str | None, until: datetime | None
) -> None:
    (item,) = told(replace(PAIR, memory=memory))
    assert (item.field, item.side, item.value, item.before) == ("value", Side.CRM, Decimal(2), Decimal(1))
    assert (item.kind, item.until) == (kind, until)
    assert reason is None or item.reason == reason


def test_a_write_without_an_answer_is_neither_landed_nor_refused() -> None:
    sent = Intent("r:R", Side.CRM, False, "1", {"value": Decimal(2)}, {}, "c", NOW)
    assert [item.kind for item in told(PAIR, sent)] == [WaitKind.UNKNOWN]


def test_what_agrees_waits_for_nothing() -> None:
    agreed = replace(PAIR, referral=replace(REFERRAL, fields={**REFERRAL.fields, "value": Decimal(1)}))
    assert told(agreed) == []
    assert told(replace(agreed, dirty=False)) == []


def test_a_failure_that_concerns_no_value_is_told_of_the_deal() -> None:
    agreed = replace(PAIR, referral=replace(REFERRAL, fields={**REFERRAL.fields, "value": Decimal(1)}))
    failing = replace(agreed, memory=Memory(failure=REFUSAL))
    assert [(item.field, item.kind, item.reason) for item in told(failing)] == [
        (None, WaitKind.REFUSED, REFUSAL.text)
    ]


def test_half_a_deal_tells_every_value_that_is_to_be_made() -> None:
    half = Link("r:R", "R", referral=REFERRAL, memory=Memory(failure=REFUSAL))
    assert {(item.field, item.value, item.kind, item.reason) for item in told(half)} == {
        ("name", "Deal", WaitKind.REFUSED, REFUSAL.text),
        ("value", Decimal(2), WaitKind.REFUSED, REFUSAL.text),
    }
    assert told(replace(half, memory=Memory(), dirty=False)) == []


@pytest.mark.parametrize(
    "link", [replace(PAIR, phase=Phase.PARTED), replace(PAIR, memory=Memory(gone=Side.CRM))]
)
def test_a_pair_that_is_parted_or_lost_a_record_is_paused(link: Link) -> None:
    assert [item.kind for item in told(link)] == [WaitKind.PAUSED]


@pytest.mark.parametrize("reason", WithheldBy)
@pytest.mark.parametrize("kind", [FinalKind.WIN, FinalKind.INVITE, FinalKind.VISIBILITY])
def test_a_step_that_the_guard_withholds_is_told_with_its_reason(kind: FinalKind, reason: WithheldBy) -> None:
    """Whatever withholds it, and though nothing is due."""
    asks: dict[FinalKind, dict[str, Value]] = {
        FinalKind.WIN: {"stage": "Closed Won"},
        FinalKind.INVITE: {"help": HELP},
        FinalKind.VISIBILITY: {"visible": True},
    }
    link = pair(asks[kind], visible=kind is FinalKind.INVITE)
    assert link.opportunity is not None
    item = Withheld(kind, mark_of(kind, link.opportunity), reason, "Signed")
    memory = replace(link.memory, withheld=(item,))
    now = NOW_SHARED
    found = waiting(
        replace(link, memory=memory, dirty=False), (), rules(terminal_hold=timedelta()), SHARED_SHAPE, now
    )
    (told_of,) = [each for each in found if each.kind is WaitKind.WITHHELD]
    assert (told_of.side, told_of.reason) == (Side.PARTNER_CENTER, messages.withheld(item))
    let_through = replace(memory, approved=(Approval(kind, item.mark),))
    again = waiting(
        replace(link, memory=let_through), (), rules(terminal_hold=timedelta()), SHARED_SHAPE, now
    )
    assert WaitKind.WITHHELD not in {each.kind for each in again}


def test_an_opportunity_that_is_not_shared_says_what_withholds_it() -> None:
    asking = opportunity(visible=True)
    item = Withheld(FinalKind.POST, mark_of(FinalKind.POST, asking), WithheldBy.COUNT)
    link = Link(
        "o:006", opportunity_id="006", opportunity=asking, memory=Memory(withheld=(item,)), dirty=False
    )
    assert [(each.field, each.kind, each.reason) for each in told(link)] == [
        ("sync", WaitKind.WITHHELD, messages.withheld(item))
    ]
