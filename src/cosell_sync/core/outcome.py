"""What a write teaches: bases, snapshots and memory after its outcome, or after a lost answer.

A write that landed moves the base (``merge.learn``) to what the written side has now. Of one that landed in part the
refused fields keep their base (``refusals`` remembers them); a refused move is a failure all the same. One that was
refused is a failure with a next attempt. One without an answer leaves its intent open; ``settle`` closes it in the next cycle, by
comparing what the side has then with what was sent: the same, it landed; the version unchanged, it did not; anything
else, the field is *disputed*: it counts as changed on both sides, so that neither edit can get lost silently.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Fields, Side, Snapshot, State, Step, Value, same_version
from cosell_sync.core.decision import ConflictKind
from cosell_sync.core.fields import KINDS, NEWER, SHARED, TOGETHER, Kind, inseparable, partners
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Failure, Intent, Link, Memory, Phase, set_known
from cosell_sync.core.merge import Written, landed, learn, settle_notes, settle_set
from cosell_sync.core.normalize import by_key, empty, not_taken, same, took_lines
from cosell_sync.core.refusals import learn_landed, with_bases_of_unmade, without
from cosell_sync.core.retry import RetryPolicy, after_failure, freed_from, seen_at_failure
from cosell_sync.core.rules import AccountUpdates, CrmShape, Rules
from cosell_sync.core.stand_ins import as_base, from_source
from cosell_sync.errors import Flaky, Gone, Locked, RecordError, Unclear

_SETS = frozenset({Kind.MEMBERS, Kind.SOLUTIONS})


@dataclass(frozen=True)
class Learned:
    """The link after some steps landed, and what the seller may read of it."""

    link: Link
    notices: tuple[str, ...] = ()
    state: State | None = None  # the state that our own write brought about


def after_referral(
    link: Link,
    steps: tuple[Step, ...],
    after: Snapshot,
    rules: Rules,
    shape: CrmShape,
    refused: Container[str] = frozenset(),
) -> Learned:
    """The link after Partner Center took these steps, but for the ``refused`` fields and move; it has ``after`` now."""
    before, opportunity = link.referral, link.opportunity
    if before is None or opportunity is None:
        return Learned(replace(link, referral=after))
    base_referral, base_opportunity = dict(link.base_referral), dict(link.base_opportunity)
    sent: dict[str, Value] = {}
    state: State | None = None
    for step in steps:
        sent |= step.fields
        state = step.state or state
    if "status" in refused:
        state = None
    for name in sent.keys() & SHARED.keys():
        written = Written(before[name], sent[name], after[name], rules.crm_value(name, opportunity))
        _set_bases(name, base_referral, base_opportunity, written, landed=name not in refused)
    sent = dict(without(sent, [name for name in sent if name in refused]))
    _set_bases_along(sent, base_referral, base_opportunity, after, opportunity)
    done = {*sent, *partners(sent)}
    names = not_taken(before.fields, sent, after, opportunity.fields, shape)
    unequal = [ConflictKind.NOT_TAKEN.key(name) for name in names]
    freed = link.memory if "status" in refused else freed_from(link.memory, Side.PARTNER_CENTER)
    memory = _forget_fields(freed, sent)
    memory = replace(
        memory,
        rewritten={name: pending and name not in done for name, pending in memory.rewritten.items()},
        reported=(*(key for key in memory.reported if key not in unequal), *unequal),
    )
    changed = replace(
        link, referral=after, base_referral=base_referral, base_opportunity=base_opportunity, memory=memory
    )
    return Learned(changed, tuple(_notices(sent, state, shape)), state)


def _notices(sent: Fields, state: State | None, shape: CrmShape) -> Iterator[str]:
    """What the seller reads of these steps."""
    if sent.keys() & SHARED.keys():
        yield messages.sent(shape.label(name) for name in SHARED if name in sent)
    if sent.get("visible") is True:
        yield messages.widened()
    if state is not None:
        yield messages.done(state)


def after_opportunity(
    link: Link,
    sent: Fields,
    after: Snapshot,
    rules: Rules,
    state: State,
    refused: Container[str] = frozenset(),
) -> Link:
    """The link after the CRM took these fields, but for the ``refused`` ones; it has ``after`` now."""
    referral, before = link.referral, link.opportunity
    if referral is None or before is None:
        return replace(link, opportunity=after)
    bases = dict(link.base_opportunity), dict(link.base_referral)
    freed = link.memory if "stage" in refused else freed_from(link.memory, Side.CRM)
    taken = without(sent, [name for name in sent if name in refused])
    memory = _forget_fields(freed, taken)
    rewritten, reported = dict(memory.rewritten), list(memory.reported)
    for name in sent.keys() & SHARED.keys():
        now = after[name]
        written = Written(before[name], sent[name], now, referral[name])
        _set_bases(name, bases[0], bases[1], written, landed=name in taken)
        if name not in taken:
            continue
        if KINDS[name] in _SETS or now is ABSENT or landed(name, sent[name], now):
            rewritten.pop(name, None)
        elif rewritten.get(name) is False or (
            KINDS[name] is Kind.NOTES and not took_lines(before[name], sent[name], now)
        ):  # a line that an automation took away is never taken away from Microsoft
            rewritten.pop(name, None)
            reported.append(ConflictKind.AUTOMATION.key(name))
        else:
            rewritten[name] = True
    _set_bases_along(taken, bases[0], bases[1], after, referral)
    if "stage" in taken:
        _agree_on_stage(bases[1], bases[0], referral, after, rules, state)
    return replace(
        link,
        opportunity=after,
        base_opportunity=bases[0],
        base_referral=bases[1],
        memory=replace(
            memory,
            rewritten=rewritten,
            reported=tuple(dict.fromkeys(reported)),
            stand_ins=tuple(name for name in memory.stand_ins if name not in sent),
        ),
    )


def after_create(
    link: Link,
    sent: Fields,
    after: Snapshot,
    rules: Rules,
    state: State,
    refused: Container[str] = frozenset(),
    *,
    account_made: str | None = None,
) -> Link:
    """The link after the CRM made the opportunity, without the ``refused`` fields; what it has beside these is its own.

    What reads back differently is how the CRM took our create: a default, a flow, an account that was there before.
    That is nobody's edit: it is base on that side and does not travel. Only where the CRM says that somebody else has
    changed the record since, it counts as an edit of theirs.

    ``account_made``: id of the account that was made for it; None where one was there.
    """
    nothing = Snapshot(after.id, "")
    started = replace(link, phase=Phase.LINKED, opportunity_id=after.id, opportunity=nothing)
    made = after_opportunity(started, sent, after, rules, state, refused)
    made = replace(made, memory=replace(made.memory, account_made=account_made))
    if after.last_by_us is False:
        rewritten = {name: pending for name, pending in made.memory.rewritten.items() if name != "customer"}
        known = replace(made, memory=replace(made.memory, rewritten=rewritten))
    else:
        known = _took_defaults(replace(made, memory=replace(made.memory, rewritten={})), rules)
    known = as_base(replace(known, memory=replace(known.memory, stand_ins=link.memory.stand_ins)), sent)
    # What was left out because the CRM offers no such choice is looked at like any other value: told, and taken over once it does.
    anew = {*NEWER} - sent.keys()
    if account_made is None and rules.account_updates is not AccountUpdates.ALL:
        # The account was there: it is looked at like any other, so that what it leaves blank is filled.
        anew.add("customer")
    known = replace(
        known,
        base_referral=_without(known.base_referral, anew),
        base_opportunity=_without(known.base_opportunity, anew),
    )
    return with_bases_of_unmade(known, made, [name for name in sent if name in refused])


def _without(base: Fields, names: Container[str]) -> Fields:
    return {name: value for name, value in base.items() if name not in names}


def after_shared_write(link: Link, before: Value, after: Value) -> Link:
    """The link of another deal on an account that this cycle has written: that change is nobody's edit.

    Only a base that is what the account held before moves, so an edit that is still to be looked at stays one.
    """
    base = link.base_opportunity.get("customer", ABSENT)
    if base is ABSENT or not same(Kind.CUSTOMER, base, before):
        return link
    return replace(link, base_opportunity={**link.base_opportunity, "customer": after})


def _took_defaults(link: Link, rules: Rules) -> Link:
    """The link of a new record that nobody has touched yet: both sides as they are now are base."""
    referral, opportunity = link.referral, link.opportunity
    if referral is None or opportunity is None:
        return link
    base_referral, base_opportunity = dict(link.base_referral), dict(link.base_opportunity)
    for name in SHARED:
        here = rules.crm_value(name, opportunity)
        if here is not ABSENT:
            base_opportunity[name] = here
            set_known(base_referral, name, referral[name])
    return replace(link, base_referral=base_referral, base_opportunity=base_opportunity)


def _agree_on_stage(
    base_referral: dict[str, Value],
    base_opportunity: dict[str, Value],
    referral: Snapshot,
    after: Snapshot,
    rules: Rules,
    state: State,
) -> None:
    base_referral["state"] = state.value
    base_opportunity["stage"] = after["stage"]
    if rules.stages.have_own_field(after.fields):
        return  # it is written, and agreed on, by itself
    set_known(base_referral, "sales_stage", referral["sales_stage"])
    set_known(base_opportunity, "sales_stage", rules.stages.sales_stage(after))


def _set_bases(
    name: str, written: dict[str, Value], source: dict[str, Value], fact: Written, *, landed: bool
) -> None:
    """``landed``: whether the side took the field; of a refused set its members may have landed."""
    if fact.after is ABSENT or fact.source is ABSENT:
        return  # what cannot be read after the write teaches nothing
    if not landed and KINDS[name] not in _SETS:
        return
    teach = learn if landed else learn_landed
    new_written, new_source = teach(name, written.get(name), source.get(name), fact)
    set_known(written, name, new_written)
    set_known(source, name, new_source)


def _set_bases_along(
    sent: Fields, written: dict[str, Value], source: dict[str, Value], after: Snapshot, other: Snapshot
) -> None:
    """Fields that were not sent, because both sides hold the same, and yet were part of what was: agreed with it."""
    for name in partners(sent):
        if name not in sent and after[name] is not ABSENT and after[name] == other[name]:
            written[name], source[name] = after[name], other[name]


def _forget_fields(memory: Memory, sent: Mapping[str, Value]) -> Memory:
    """A field that was just written is neither disputed nor waiting for a person's answer any more."""
    written = {*sent, *partners(sent)}
    return replace(
        memory,
        disputed=tuple(name for name in memory.disputed if name not in written),
        resolved={name: side for name, side in memory.resolved.items() if name not in written},
    )


# --- failure ---------------------------------------------------------------------------------------------------


def after_failed_write(
    link: Link,
    side: Side,
    error: RecordError,
    now: datetime,
    retry_policy: RetryPolicy,
    refused: Collection[str] = (),
) -> Link:
    """The link after a failed write. A transient fault of a system counts as no attempt (a 500 on one record does).

    ``refused``: our names of the fields that it is about, where the side said so or they were found.
    A record that is gone is no failure: the link remembers the side.
    """
    if isinstance(error, Gone):
        return replace(link, memory=replace(link.memory, gone=side))
    locked = isinstance(error, Locked)
    transient = isinstance(error, Unclear) or (isinstance(error, Flaky) and error.status != 500)
    failure = Failure(
        side=side,
        code=error.code or type(error).__name__.lower(),
        text=error.text,
        since=now,
        seen=seen_at_failure(link, locked=locked),
        transient=transient,
        cure=error.cure,
        locked=locked,
        fields=tuple(name for name in SHARED if name in refused),
    )
    return replace(link, memory=after_failure(link.memory, failure, now, retry_policy), dirty=True)


# --- intents ---------------------------------------------------------------------------------------------------


class _Fate(Enum):
    """What became of one field of a write whose answer is not known."""

    STANDS = "stands"  # the side holds what was sent
    CHANGED_SINCE = "changed since"  # it landed, and somebody has changed it since
    NOT_LANDED = "not landed"  # whatever changed on the record, somebody else did
    UNKNOWN = "unknown"


def settle(link: Link, intent: Intent, rules: Rules | None = None) -> Link:
    """The link with an open intent closed, now that both sides have been read again."""
    if intent.create:
        return _settle_create(link, intent, rules)
    if link.memory.gone is intent.side:
        return _settle_gone(link, intent)
    to_referral = intent.side is Side.PARTNER_CENTER
    written = link.referral if to_referral else link.opportunity
    if written is None or same_version(written.version, intent.version):
        return link
    base_referral, base_opportunity = dict(link.base_referral), dict(link.base_opportunity)
    own, other = (base_referral, base_opportunity) if to_referral else (base_opportunity, base_referral)
    disputed = list(link.memory.disputed)
    shows_it = _shows_our_write(intent, written)
    fates = {
        name: _fate(name, intent.fields[name], written[name], shows_it)
        for name in SHARED
        if name in intent.fields
    }
    for name, fate in _one_fate_together(fates).items():
        if fate is _Fate.UNKNOWN:
            disputed.append(name)
        bases = own.get(name, ABSENT), other.get(name, ABSENT)
        new_own, new_other = _settled_bases(name, fate, intent, written[name], bases)
        set_known(own, name, new_own)
        set_known(other, name, new_other)
    return replace(
        link,
        base_referral=base_referral,
        base_opportunity=base_opportunity,
        memory=replace(link.memory, disputed=tuple(dict.fromkeys(disputed))),
    )


def _fate(name: str, sent: Value, now: Value, shows_it: bool | None) -> _Fate:
    """``shows_it``: see ``_shows_our_write``. Members of a set are judged one by one, in ``settle_set``."""
    kind = KINDS[name]
    if kind in _SETS or landed(name, sent, now):
        return _Fate.STANDS
    if kind is Kind.NOTES:
        return _Fate.NOT_LANDED  # lines merge; nothing of either text is dropped
    if kind is Kind.CUSTOMER or shows_it is None:
        return _Fate.UNKNOWN
    return _Fate.CHANGED_SINCE if shows_it else _Fate.NOT_LANDED


def _one_fate_together(fates: Mapping[str, _Fate]) -> dict[str, _Fate]:
    """Fields that mean something only together were written together: what is not sure of one is not of any."""
    result = dict(fates)
    for group in TOGETHER.values():
        found = [fates[name] for name in group if name in fates]
        for doubt in (_Fate.UNKNOWN, _Fate.CHANGED_SINCE, _Fate.NOT_LANDED):
            if doubt in found:
                result |= {name: doubt for name in group if name in fates}
                break
    return result


def _settled_bases(
    name: str, fate: _Fate, intent: Intent, now: Value, bases: tuple[Value, Value]
) -> tuple[Value, Value]:
    """The bases of the written side and of the other one, given those before; as they are where it did not land."""
    sent, source = intent.fields[name], intent.source.get(name, ABSENT)
    if KINDS[name] in _SETS:
        return settle_set(*bases, sent, source, now)
    match fate:
        case _Fate.STANDS:
            return settle_notes(*bases, source) if KINDS[name] is Kind.NOTES else (now, source)
        case _Fate.CHANGED_SINCE:
            return sent, source
        case _:
            return bases


def _settle_gone(link: Link, intent: Intent) -> Link:
    """It cannot be read whether the write landed. If the record comes back, its values may be ours or anybody's."""
    scalar = [name for name in intent.fields if name in SHARED and KINDS[name] not in {*_SETS, Kind.NOTES}]
    disputed = tuple(dict.fromkeys([*link.memory.disputed, *scalar]))
    return replace(link, memory=replace(link.memory, disputed=disputed))


def _shows_our_write(intent: Intent, written: Snapshot) -> bool | None:
    """Whether the record itself shows that this very write landed; None: it does not show.

    A carried change brings its own moment along, in a field that nobody else writes. An account is written apart.
    """
    moment = intent.fields.get("last_sync")
    if intent.side is not Side.CRM or not isinstance(moment, datetime) or written["last_sync"] is ABSENT:
        return None
    return written["last_sync"] == moment


def _settle_create(link: Link, intent: Intent, rules: Rules | None) -> Link:
    """The opportunity that our lost create made holds what was sent; whatever differs, a person wrote since.

    Unless the CRM says that nobody but us has touched it: then it is as it was made, defaults and all. What is empty there
    though it was sent was refused: it is still to be written.
    """
    opportunity = link.opportunity
    if opportunity is None or link.base_opportunity:
        return link
    base_opportunity = {name: intent.fields[name] for name in intent.fields.keys() & {*SHARED, "stage"}}
    base_referral, stand_ins = from_source(intent.source)
    untouched = opportunity.last_by_us is True
    for name in intent.fields.keys() & SHARED.keys():
        if KINDS[name] in _SETS:
            # Rows are made after the opportunity: one that is not there was never made, rather than taken away since.
            made = by_key(opportunity[name])
            base_opportunity[name] = opportunity[name]
            base_referral[name] = tuple(  # type: ignore[assignment]  # all of one kind
                item for key, item in by_key(intent.source.get(name)).items() if key in made
            )
        elif untouched or KINDS[name] is Kind.CUSTOMER:
            set_known(base_opportunity, name, opportunity[name])
    if untouched:
        for name in (*SHARED, "stage"):
            here = opportunity[name] if rules is None else rules.crm_value(name, opportunity)
            if (name not in intent.fields or name == "stage") and here is not ABSENT:
                base_opportunity[name] = here
    memory = replace(link.memory, stand_ins=stand_ins)
    settled = replace(link, base_opportunity=base_opportunity, base_referral=base_referral, memory=memory)
    return with_bases_of_unmade(settled, settled, _refused_at_birth(intent, opportunity) if untouched else [])


def _refused_at_birth(intent: Intent, opportunity: Snapshot) -> list[str]:
    """The fields that a new record does not have though they were sent, with those that they mean nothing without."""
    sent = {
        name: value for name, value in intent.fields.items() if name in SHARED and KINDS[name] not in _SETS
    }
    empty_there = {name for name, value in sent.items() if not empty(value) and opportunity[name] is None}
    return [name for unit in inseparable(sent) if unit & empty_there for name in sorted(unit)]
