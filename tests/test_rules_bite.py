"""Each rule that keeps two systems equal, switched off: the convergence machine must notice.

A script is what Hypothesis printed when it found the rule missing (``test_convergence.replay`` plays it). With the rule in
place the same script passes, so it is the rule that is missed and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

import pytest

import test_convergence as machine
from cosell_sync.core import merge, normalize, outcome, reconcile, together
from cosell_sync.core.deal import Step, Value
from cosell_sync.core.decision import Decision
from cosell_sync.core.rules import CrmShape
from cosell_sync.cycle import apply, recover
from cosell_sync.cycle.apply import Announcement
from cosell_sync.cycle.context import Cycle
from cosell_sync.errors import RecordError
from cosell_sync.ports import OpportunityWrite, Outcome, ReferralDraft
from memory_sharing import Posts
from memory_systems import CountingStore, MemoryCrm, MemoryReferrals, Row

Patch = pytest.MonkeyPatch


def base_moves_before_the_write(patch: Patch) -> None:
    """Rule 1."""
    announce = apply.__dict__["_of_steps"]

    def early(cycle: Cycle, decision: Decision) -> Announcement:
        announcement: Announcement = announce(cycle, decision)
        intent = announcement.intent
        bases = (
            {**decision.link.base_referral, **intent.fields},
            {**decision.link.base_opportunity, **intent.source},
        )
        for base in bases:
            base.pop("state", None)
        moved = replace(decision.link, base_referral=bases[0], base_opportunity=bases[1])
        object.__setattr__(decision, "link", moved)
        return announcement

    patch.setattr(apply, "_of_steps", early)


def base_takes_in_what_was_sent(patch: Patch) -> None:
    """Rule 2: what the side held before the write and what was sent, not what it holds after."""
    patch.setattr(outcome, "learn", lambda name, written, source, fact: (fact.before, fact.source))


def creates_carry_no_key_in_the_crm(patch: Patch) -> None:
    """Rule 3: the CRM lets a second opportunity have the same referral id."""
    patch.setattr(MemoryCrm, "_holder", lambda port, referral_id: None)


def posts_carry_no_key(patch: Patch) -> None:
    """Rule 3 in Partner Center: a referral does not say which opportunity it was posted for."""
    stored = Posts._stored

    def nameless(port: Posts, draft: ReferralDraft) -> Row:
        made = stored(port, draft)
        made.fields["external_reference"] = None
        return made

    patch.setattr(Posts, "_stored", nameless)


def intents_are_not_recorded(patch: Patch) -> None:
    """Rule 4: nothing is known of a write whose answer was lost."""
    keep = CountingStore._keep
    patch.setattr(CountingStore, "_keep", lambda store, memo: keep(store, replace(memo, intents=())))


def intents_are_never_settled(patch: Patch) -> None:
    """Rule 4: they are recorded, but nobody looks what became of the write."""
    patch.setattr(recover, "settle", lambda link, _intent, _rules: link)


def writes_are_not_guarded(patch: Patch) -> None:
    """Rule 5: whatever version a write was planned on, it lands."""
    take, carry = MemoryReferrals._take, MemoryCrm._carry

    def taken(
        port: MemoryReferrals, row: Row, step: Step, _version: int, kind: str | None
    ) -> RecordError | None:
        return take(port, row, step, row.version, kind)

    def carried(port: MemoryCrm, write: OpportunityWrite) -> Outcome:
        version = port.outside.version(port.outside.opportunities[write.before.id])
        return carry(port, replace(write, before=replace(write.before, version=version)))

    patch.setattr(MemoryReferrals, "_take", taken)
    patch.setattr(MemoryCrm, "_carry", carried)


def echoes_are_taken_for_edits(patch: Patch) -> None:
    """What one side cannot hold (a long name, a fraction of a cent) counts as a difference."""

    def equal(_name: str, referral: Value, opportunity: Value, _shape: CrmShape) -> bool:
        return referral == opportunity

    for module in (merge, normalize, together):
        patch.setattr(module, "agree", equal)


def over_is_not_over(patch: Patch) -> None:
    """Nothing keeps closed referrals from being written to."""
    patch.setattr(reconcile, "TERMINAL", frozenset())


def pulls_do_not_overlap(patch: Patch) -> None:
    """What is committed late, under a stamp that was passed already, is not seen."""
    patch.setattr(machine, "OVERLAP", timedelta())


START = """
state = {machine}()
state.start(flow='none', hold=0, own=True, states=['Accepted'], write_name=True)
state.cycle()
"""
SCRIPTS: Mapping[Callable[[Patch], None], str] = {
    base_moves_before_the_write: """
state.people(edits=[Edit('crm', 0, 'value', Decimal('300'))])
state.troubled_cycle(events=[(3, Edit('partner_center', 0, 'value', Decimal('200.005')))])
""",
    base_takes_in_what_was_sent: """
state.people(edits=[Edit('partner_center', 0, 'value', Decimal('300'))])
state.troubled_cycle(events=[(11, Edit('crm', 0, 'value', Decimal('100')))])
""",
    creates_carry_no_key_in_the_crm: """
state.new_referral(currency='USD', solution=False, state='Accepted')
state.troubled_cycle(events=[(9, Rival())])
""",
    posts_carry_no_key: """
state.new_opportunity(consent=True, help_wanted=False)
state.troubled_cycle(events=[(2, Fault('partner_center', 'lost'))])
""",
    intents_are_not_recorded: """
state.contested(kind='lost', name='value', number=0, side='crm', values=[1, 0, 2])
""",
    intents_are_never_settled: """
state.contested(kind='unread', name='value', number=0, side='crm', values=[2, 0, 1])
""",
    writes_are_not_guarded: """
state.people(edits=[Edit('crm', 0, 'value', Decimal('300'))])
state.troubled_cycle(events=[(3, Edit('partner_center', 0, 'value', Decimal('200.005')))])
""",
    echoes_are_taken_for_edits: """
state.people(edits=[Edit('partner_center', 0, 'value', Decimal('200.005'))])
state.cycle()
state.lose_store()
""",
    over_is_not_over: """
state.people(edits=[Edit('crm', 0, 'line', 'one'), Edit('partner_center', 0, 'move', 'Won')])
""",
    pulls_do_not_overlap: """
state.new_referral(currency='USD', solution=False, state='Accepted')
state.cycle()
state.time_passes(span=datetime.timedelta(seconds=1200))
state.people(edits=[Edit('crm', 1, 'campaign_id', 'C1')])
state.cycle()
state.people(edits=[Edit('crm', 0, 'value', Decimal('300'), late=datetime.timedelta(seconds=240))])
""",
}


quiet_logs = machine._quiet_logs


@pytest.mark.parametrize("kind", machine.KINDS_OF_CRM)
@pytest.mark.parametrize("rule_off", SCRIPTS)
def test_the_rules_bite(
    rule_off: Callable[[Patch], None], kind: type[machine.Convergence], monkeypatch: Patch
) -> None:
    """The script passes with the rule, and fails without."""
    script = START.format(machine=kind.__name__) + SCRIPTS[rule_off].strip() + "\nstate.teardown()"
    machine.replay(script)
    rule_off(monkeypatch)
    with pytest.raises(AssertionError):
        machine.replay(script)


def test_the_machine_finds_a_missing_rule_by_itself(monkeypatch: Patch) -> None:
    """It needs no script: this one is missed within a few random sequences."""
    over_is_not_over(monkeypatch)
    with pytest.raises(AssertionError):
        machine.play(machine.LikeDynamics, 100)
