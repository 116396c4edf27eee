"""Who is forgotten is gone from memory, and nothing happens to them on either side because of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deals import NOW, SHAPE, at_rest, here, remembering, rules, there

from cosell_sync.core.as_json import fields_to_json, snapshot_to_json
from cosell_sync.core.deal import Member, Side, Snapshot, Value
from cosell_sync.core.erasure import BLOT, Person, from_entry, from_intent, from_link, values
from cosell_sync.core.memory import Failure, Intent, JournalEntry, Link, Phase, RefusedField
from cosell_sync.core.normalize import by_key
from cosell_sync.core.reconcile import decide

ADA = Member("ada@x.example", "Ada", "Byron", "+44 20 123456")
BOB = Member("bob@x.example", "Bob", "Ross", "+44 20 654321")
WHO = Person(ADA.email, frozenset({"Ada Byron"}), frozenset({"+44 20 123456"}))
BOTH, ONE = (ADA, BOB), (BOB,)


def agreed(contacts: tuple[Member, ...] = BOTH) -> Link:
    link = there(here(at_rest(), contacts=contacts), contacts=contacts)
    base = {"contacts": contacts}
    return replace(
        link,
        base_referral={**link.base_referral, **base},
        base_opportunity={**link.base_opportunity, **base},
    )


def read_again(link: Link, before: Link) -> Link:
    """The next cycle reads what was dropped: the systems still hold what they held."""
    return replace(link, referral=before.referral, opportunity=before.opportunity)


def everything(link: Link) -> str:
    snapshots = [snapshot_to_json(side) for side in (link.referral, link.opportunity) if side]
    return str(
        [snapshots, fields_to_json(link.base_referral), fields_to_json(link.base_opportunity), link.memory]
    )


def told(text: str) -> Link:
    trouble = Failure(Side.CRM, "x", text, NOW)
    refused = {"team": RefusedField(Side.CRM, "x", text, "wanted", "around")}
    return remembering(agreed(), notices=(text,), failure=trouble, refused=refused)


def test_nothing_readable_of_the_person_stays_in_a_link() -> None:
    link = from_link(told("Ask Ada Byron (ada@x.example, +44 20 123456)."), WHO)
    for trace in ("ada@", "Ada", "Byron", "123456"):
        assert trace not in everything(link)
    assert BOB.email in everything(link)
    assert link.memory.notices == (f"Ask {BLOT} ({BLOT}, {BLOT}).",)
    assert (link.referral, link.opportunity, link.dirty) == (None, None, True)


def test_forgetting_twice_finds_nothing() -> None:
    """And a link that never knew the person is left alone, snapshots and all."""
    once = from_link(agreed(), WHO)
    assert from_link(once, WHO) is once
    other = agreed(ONE)
    assert from_link(other, WHO) is other


@pytest.mark.parametrize("gone_from", [Side.CRM, Side.PARTNER_CENTER])
def test_a_removal_under_way_is_carried_out_all_the_same(gone_from: Side) -> None:
    """Taken out on one side, then forgotten: the other side loses the person too, and nobody puts them back."""
    change = here if gone_from is Side.CRM else there
    before = change(agreed(), contacts=ONE)
    decision = decide(read_again(from_link(before, WHO), before), rules(), SHAPE, NOW)
    written = decision.steps[0].fields if gone_from is Side.CRM else decision.crm
    other = decision.crm if gone_from is Side.CRM else {}
    assert written["contacts"] == ONE
    assert "contacts" not in other


def test_who_still_stands_on_both_sides_stays_there() -> None:
    """Nothing is written, and the base knows the person again: the systems do."""
    before = agreed()
    decision = decide(read_again(from_link(before, WHO), before), rules(), SHAPE, NOW)
    assert not decision.steps
    assert "contacts" not in decision.crm
    assert by_key(decision.link.base_referral["contacts"]) == by_key(BOTH)


def test_who_stands_nowhere_leaves_no_mark() -> None:
    before = there(here(agreed(), contacts=ONE), contacts=ONE)
    decision = decide(read_again(from_link(before, WHO), before), rules(), SHAPE, NOW)
    assert not decision.steps
    assert decision.link.base_referral["contacts"] == decision.link.base_opportunity["contacts"] == ONE


def test_other_edits_under_way_are_not_disturbed() -> None:
    """Somebody else was added on one side at that moment, and a colleague's number changed."""
    new, moved = Member("eve@x.example"), replace(BOB, phone="7")
    before = there(here(agreed(), contacts=(ADA, BOB, new)), contacts=(ADA, moved))
    decision = decide(read_again(from_link(before, WHO), before), rules(), SHAPE, NOW)
    assert {each.email for each in decision.steps[0].fields["contacts"]} == {ADA.email, BOB.email, new.email}  # type: ignore[union-attr]
    assert moved in decision.crm["contacts"]  # type: ignore[operator]


def test_a_pair_that_nobody_reads_keeps_its_snapshot_without_the_person() -> None:
    parted = from_link(replace(agreed(), phase=Phase.PARTED, dirty=False), WHO)
    assert isinstance(parted.referral, Snapshot)
    assert parted.referral["contacts"] == ONE
    assert parted.referral.version != agreed().referral.version  # type: ignore[union-attr]
    assert not parted.dirty


def test_intents_lose_the_fields_and_the_journal_keeps_its_lines() -> None:
    fields: dict[str, Value] = {"contacts": BOTH, "notes": "call ada@x.example", "value": None}
    intent = Intent("r:1", Side.CRM, False, "7", fields, {"contacts": BOTH, "name": "Deal"}, "c", NOW)
    left = from_intent(intent, WHO)
    assert (left.fields, left.source) == ({"value": None}, {"name": "Deal"})
    line = JournalEntry("r:1", "c", NOW, Side.CRM, "update", "contacts", BOTH, ONE, "why")
    assert from_entry(line, WHO) == replace(line, old=ONE)
    assert from_entry(replace(line, old="for ADA@X.example", new=None), WHO).old == f"for {BLOT}"


def test_names_and_numbers_are_learned_from_wherever_the_address_stands() -> None:
    person = Person(ADA.email).with_traces(values(agreed()))
    assert person == WHO
    assert Person(BOB.email).with_traces([(ADA,)]) == Person(BOB.email)


def test_only_whole_words_are_blotted_out() -> None:
    """Another address that contains this one is another person."""
    line = JournalEntry(
        "r:1", "c", NOW, Side.CRM, "update", "notes", "canada@x.example, Ada Byronson", None, "why"
    )
    assert from_entry(line, WHO) == line
