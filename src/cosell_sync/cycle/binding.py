"""A store belongs to one org and one tenant: that is learned at first contact, checked before anything is read, and moved by hand.

Ids mean something in one org only. Behind the same store another org would get every deal anew, and a full copy of ours, whose
records have the same ids, would send its test data to Microsoft. So the store keeps whose records its deals are
(``ports.Identity`` of either side), and a cycle that meets anybody else ends with ``ForeignSystem``. ``connection rebind``
moves the store, after it has looked whether the records that it knows are there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Final

import structlog

from cosell_sync.core.deal import Side
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.retry import freed
from cosell_sync.cycle.context import CHUNK, Cycle
from cosell_sync.cycle.record import Record, commit
from cosell_sync.errors import ForeignSystem
from cosell_sync.ports import Crm, Identity, Referrals, Store

SAMPLE: Final = 25  # deals whose records are looked up on both sides before a store is moved
STRAY: Final = 0.1  # of them may be missing: people delete records
LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)  # so the next cycle compares all ids
HOW_TO_GO_ON: Final = (
    "another org or tenant needs a store of its own (store.url). If it is the same one under a new address, or a sandbox "
    "that was refreshed, run: cosell-sync connection rebind {}"
)
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NAMES: Final = {
    "partner_center": "Partner Center tenant",
    "salesforce": "Salesforce org",
    "dynamics": "Dynamics 365 environment",
}

log = structlog.get_logger("cosell_sync.cycle")


# --- the check of every cycle ----------------------------------------------------------------------------------------


def check_binding(cycle: Cycle) -> Mapping[Side, Identity]:
    """What the store is to be bound to, which it is not yet; raise ForeignSystem where somebody else answers.

    Nothing was read until here, and an address that has only been configured may be a wrong one: the caller binds the store
    with the first records that either side gives.
    """
    known, found = cycle.store.bindings(), identities(cycle.crm, cycle.referrals)
    try:
        refuse_others(known, found, cycle.settings.connection)
    except ForeignSystem as foreign:
        log.error("store.foreign", **foreign.facts)  # noqa: TRY400 - where it was raised says nothing
        raise
    learned = {side: _more(known.get(side), whose) for side, whose in found.items()}
    return {side: whose for side, whose in learned.items() if known.get(side) != whose}


def tell_binding(new: Mapping[Side, Identity]) -> None:
    """Log to whom the store belongs from now on."""
    for whose in new.values():
        log.info("store.bound", system=whose.system, account=whose.account, host=whose.host)


def identities(crm: Crm, referrals: Referrals) -> dict[Side, Identity]:
    """Who answers on either side. Raises AuthFailed and Unavailable."""
    return {Side.CRM: crm.identity(), Side.PARTNER_CENTER: referrals.identity()}


def configured(crm: str, tenant: str | None) -> dict[Side, Identity]:
    """What the configuration says of whose records they are, without asking anybody: the kind of CRM, and the tenant where
    it is given by its id. A store that is another's then keeps its sign-in, which a configured token would replace.
    """
    named = (tenant or "").strip().lower()
    by_id = named if _GUID.fullmatch(named) else ""
    return {Side.CRM: Identity(crm, "", ""), Side.PARTNER_CENTER: Identity("partner_center", by_id, "")}


def refuse_others(known: Mapping[Side, Identity], found: Mapping[Side, Identity], connection: str) -> None:
    """Raise ForeignSystem, naming both, where a side that is known is not the one that was found. ``connection``: whose store
    it is.
    """
    others = [
        (known[side], found[side]) for side in found if side in known and not same(known[side], found[side])
    ]
    if not others:
        return
    told = "; ".join(f"{words(ours)}, and {words(other)} answers" for ours, other in others)
    ours, other = others[0]
    raise ForeignSystem(
        f"this store belongs to {told}; nothing was read or written",
        hint=HOW_TO_GO_ON.format(connection),
        stored=f"{ours.system} {ours.account} {ours.host}",
        found=f"{other.system} {other.account} {other.host}",
    )


def same(ours: Identity, other: Identity) -> bool:
    """Whether both hold the same records. What one of them does not say is no difference."""
    if ours.system != other.system:
        return False
    pairs = ((ours.account, other.account), (ours.host, other.host))
    return all(mine == theirs or not mine or not theirs for mine, theirs in pairs)


def _more(ours: Identity | None, found: Identity) -> Identity:
    """The same one, with what either says of it."""
    if ours is None:
        return found
    return replace(found, account=found.account or ours.account, host=found.host or ours.host)


def words(whose: Identity) -> str:
    """An identity for people."""
    where = f" at {whose.host}" if whose.host else ""
    unknown = "of unknown id" if whose.host else "of the configuration"
    return f"{_NAMES.get(whose.system, whose.system)} {whose.account or unknown}{where}"


# --- moving a store --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lookup:
    """How many records of a sample of the store's deals a side has: ``there`` of ``asked``."""

    asked: int
    there: int

    @property
    def convinces(self) -> bool:
        """Whether these are the records that the store knows; a store without deals has nothing to compare."""
        return self.asked - self.there <= STRAY * self.asked


def look_up(store: Store, crm: Crm, referrals: Referrals) -> dict[Side, Lookup]:
    """Ask both sides for the records of some deals. An opportunity counts if it carries the id of its referral."""
    links = list(islice(_spread(store), SAMPLE))
    opportunities = crm.fetch([link.opportunity_id for link in links if link.opportunity_id])
    documents = referrals.fetch([link.referral_id for link in links if link.referral_id])
    there = [opportunities.get(link.opportunity_id or "") for link in links]
    ours = [
        found is not None and found.text("referral_id") == link.referral_id
        for found, link in zip(there, links, strict=True)
    ]
    return {
        Side.CRM: Lookup(len(links), sum(ours)),
        Side.PARTNER_CENTER: Lookup(
            len(links), sum(documents.get(link.referral_id or "") is not None for link in links)
        ),
    }


def _spread(store: Store) -> Iterator[Link]:
    """Linked deals of which both records were there, from all over the store."""
    linked = sum(count.deals for count in store.counts() if count.phase is Phase.LINKED)
    every = max(1, linked // SAMPLE)
    whole = (link for link in store.links([Phase.LINKED]) if link.memory.gone is None)
    return islice(whole, 0, None, every)


def rebind(store: Store, found: Mapping[Side, Identity]) -> None:
    """The store belongs to these from now on; needs the lease. May be repeated.

    Both sides are read from the start, for what was noted of reading belongs to the old address. Where the account itself is
    another one, what both sides agreed on is not true there: each deal is merged as at first sight, which deletes nothing.
    """
    known = store.bindings()
    moved = [side for side, whose in found.items() if side in known and known[side].account != whose.account]
    if moved:
        links = iter(store.links([Phase.LINKED, Phase.WAITING]))
        while chunk := list(islice(links, CHUNK)):
            record = Record()
            record.put(*(_at_first_sight(link, moved) for link in chunk))
            opened = store.intents([link.key for link in chunk])
            record.settled += [(intent.link, intent.side) for intent in opened if intent.side in moved]
            commit(store, record)
    state = store.cycle_state()
    again = replace(state, shape=None, compared_at=state.compared_at and LONG_AGO)
    commit(store, Record(bindings=dict(found), unread=list(found), state=again))
    for whose in found.values():
        log.info("store.bound", system=whose.system, account=whose.account, host=whose.host)


def _at_first_sight(link: Link, moved: list[Side]) -> Link:
    memory = replace(freed(link.memory), gone=None, closing=None, disputed=(), resolved={}, rewritten={})
    if link.phase is not Phase.LINKED:
        return replace(link, memory=memory, dirty=True)
    return replace(
        link,
        referral=None if Side.PARTNER_CENTER in moved else link.referral,
        opportunity=None if Side.CRM in moved else link.opportunity,
        base_referral={},
        base_opportunity={},
        memory=memory,
        dirty=True,
    )
