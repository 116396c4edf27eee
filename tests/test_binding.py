"""A store and its org, in memory: what is bound, what is refused, and what a store that was moved forgets."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from cosell_sync.core.deal import Side
from cosell_sync.core.memory import Link, Phase
from cosell_sync.cycle import binding
from cosell_sync.cycle.context import Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import ForeignSystem
from cosell_sync.ports import Identity, Transaction
from memory_systems import IDENTITIES, CountingStore, MemoryCrm, MemoryReferrals, Outside, rules


def world(outside: Outside, store: CountingStore) -> Services:
    return Services(MemoryReferrals(outside), MemoryCrm(outside), store, outside.clock, rules())


def run(outside: Outside, store: CountingStore, *, accept: bool = False) -> None:
    with store.lease(timedelta()):
        run_cycle(world(outside, store), "c", accept=accept)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("change", [{"account": "other"}, {"host": "other.example"}, {"system": "dynamics"}])
def test_whoever_else_answers_is_not_read(side: Side, change: dict[str, str]) -> None:
    outside, store = Outside(), CountingStore()
    run(outside, store)
    assert store.bindings() == IDENTITIES
    outside.identities[side] = replace(IDENTITIES[side], **change)
    services = world(outside, store)
    for accept in (False, True):
        with store.lease(timedelta()), pytest.raises(ForeignSystem) as caught:
            run_cycle(services, "c", accept=accept)
        assert binding.words(IDENTITIES[side]) in str(caught.value)
        assert binding.words(outside.identities[side]) in str(caught.value)
    assert services.crm.calls == services.referrals.calls == 0
    assert store.bindings() == IDENTITIES


def test_a_store_of_the_released_version_is_bound_at_its_next_contact() -> None:
    outside, store = Outside(), CountingStore()
    with store.lease(timedelta()):
        store.commit(Transaction(links=[Link("r:1", "1", phase=Phase.SKIPPED, dirty=False)]))
    run(outside, store)
    assert store.bindings() == IDENTITIES


def test_what_a_sign_in_does_not_say_is_no_difference_and_is_learned_later() -> None:
    outside, store = Outside(), CountingStore()
    outside.identities[Side.CRM] = replace(IDENTITIES[Side.CRM], account="")
    run(outside, store)
    outside.identities[Side.CRM] = IDENTITIES[Side.CRM]
    run(outside, store)
    assert store.bindings() == IDENTITIES
    outside.identities[Side.CRM] = replace(IDENTITIES[Side.CRM], account="")
    run(outside, store)
    assert store.bindings() == IDENTITIES


def test_a_store_that_is_moved_reads_from_the_start_and_keeps_what_was_agreed_only_with_the_same_account() -> (
    None
):
    store = CountingStore()
    link = Link(
        "r:1",
        "1",
        "o1",
        Phase.LINKED,
        base_referral={"name": "x"},
        base_opportunity={"name": "x"},
        dirty=False,
    )
    elsewhere = {**IDENTITIES, Side.CRM: replace(IDENTITIES[Side.CRM], host="new.my.salesforce.com")}
    copy = {**IDENTITIES, Side.CRM: Identity("salesforce", "00D000000000002AAA", "new.my.salesforce.com")}
    with store.lease(timedelta()):
        store.commit(
            Transaction(links=[link], bindings=IDENTITIES, watermarks={"crm": "1", "partner_center": "2"})
        )
        binding.rebind(store, elsewhere)
        assert store.bindings() == elsewhere
        assert [store.watermark(side) for side in Side] == [None, None]
        assert store.by_keys(["r:1"])["r:1"] == link
        binding.rebind(store, copy)
        moved = store.by_keys(["r:1"])["r:1"]
    assert (moved.base_referral, moved.base_opportunity, moved.dirty) == ({}, {}, True)


@pytest.mark.parametrize(
    ("asked", "there", "convinces"), [(0, 0, True), (1, 0, False), (20, 18, True), (20, 17, False)]
)
def test_how_many_deals_must_be_there(asked: int, there: int, convinces: bool) -> None:
    assert binding.Lookup(asked, there).convinces is convinces
