"""What the commands on deals share: the opened store, a deal by its id, and a deal in a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.bootstrap.rules import rules_found
from cosell_sync.bootstrap.store import store_of
from cosell_sync.cli.common import load
from cosell_sync.cli.deal_todo import todo
from cosell_sync.core.as_json import to_json
from cosell_sync.core.deal import Customer, Snapshot, Value
from cosell_sync.core.keys import GUID, referral_key
from cosell_sync.core.memory import Action, JournalEntry, Link, RefusedField, respond_by
from cosell_sync.core.rules import Rules
from cosell_sync.cycle.commands import find
from cosell_sync.errors import ConfigError
from cosell_sync.store.sql import SqlStore


@contextmanager
def opened(config: Path | None) -> Iterator[tuple[SqlStore, Rules]]:
    """The store that is configured, and the rules as a cycle of this moment would have them. Contacts nobody."""
    loaded = load(config)
    store = store_of(loaded)
    try:
        yield store, rules_found(loaded, store, utc_now())
    finally:
        store.close()


def known(store: SqlStore, target: str) -> Link:
    """The deal with this referral id or opportunity id. Raises ConfigError where there is none."""
    link = find(store, target)
    if link is None:
        raise ConfigError(
            f"no deal with the id {target} is known", hint="cosell-sync deals list --all shows them"
        )
    return link


def two_ids(config: Path | None, referral: str, opportunity: str) -> tuple[str, str]:
    """Both ids as the systems write them, be they typed or pasted with their addresses. Raises ConfigError for what is none, and
    names no deal that is known.
    """
    crm = load(config).crm
    with opened(config) as (store, _):
        mine = referral if store.by_referral([referral]) else _referral_id(referral)
        other = opportunity if store.by_opportunity([opportunity]) else _opportunity_id(crm, opportunity)
    return mine, other


def _referral_id(text: str) -> str:
    found = referral_key(text)
    if not GUID.fullmatch(found):
        raise ConfigError(f"{text} is no id of a referral", hint="cosell-sync deals list --all shows it")
    return found


def _opportunity_id(crm: str, text: str) -> str:
    if crm == "salesforce":
        from cosell_sync.crm.salesforce import ids  # noqa: PLC0415 - of one CRM only

        found = ids.opportunity_id(text)
        found, form = found and ids.long_id(found), "18 characters that begin with 006"
    else:
        from cosell_sync.crm.dynamics import ids as rows  # noqa: PLC0415

        found, form = rows.opportunity_id(text), "36 characters with four hyphens"
    if found is None:
        raise ConfigError(
            f"{text} is no id of an opportunity", hint=f"the address of its page has it: {form}"
        )
    return found


def whole(moment: datetime | None) -> str | None:
    """The moment in UTC to the second, as ISO 8601."""
    said = to_json(moment.replace(microsecond=0)) if moment is not None else None
    return None if said is None else str(said)


def name_of(link: Link) -> str | None:
    """What the deal is called, as the CRM has it, else Partner Center."""
    return next((text for side in _sides(link) if (text := side.text("name"))), None)


def customer_of(link: Link) -> str | None:
    """What the customer is called, as the CRM has it, else Partner Center."""
    found: Iterator[Value] = (side["customer"] for side in _sides(link))
    return next((item.name for item in found if isinstance(item, Customer) and item.name), None)


def since(store: SqlStore, link: Link) -> datetime | None:
    """Since when the deal fails, holds back a close, or has a field that was refused; None where it does none of these."""
    memory = link.memory
    moments = [each.since for each in (memory.failure, memory.closing) if each is not None]
    if memory.refused:
        moments += _refused_since(store.journal(link.key, limit=10_000), memory.refused)
    return min(moments, default=None)


def _refused_since(lines: Iterable[JournalEntry], refused: Mapping[str, RefusedField]) -> list[datetime]:
    """Since when each of these fields has been refused without a break; the lines come newest first."""
    first: dict[str, datetime] = {}
    landed: set[str] = set()
    for line in lines:
        known = refused.get(line.field or "")
        if line.field is None or known is None or line.side is not known.side or line.field in landed:
            continue
        if line.action in {Action.CREATE, Action.UPDATE}:
            landed.add(line.field)
        elif line.action is Action.HOLD:
            first[line.field] = line.at
    return list(first.values())


def deal_row(store: SqlStore, link: Link) -> dict[str, Any]:
    """A deal as ``deals list --json`` and ``deals show --json`` give it."""
    memory = link.memory
    return {
        "referral_id": link.referral_id,
        "opportunity_id": link.opportunity_id,
        "name": name_of(link),
        "customer": customer_of(link),
        "phase": link.phase.value,
        "status": link.referral.text("state") if link.referral else None,
        "sync_state": memory.sync_state.value,
        "parked": memory.parked,
        "locked": memory.failure is not None and memory.failure.locked,
        "untold": bool(memory.untold),
        "attempts": memory.attempts,
        "since": whole(since(store, link)),
        "next_attempt": whole(memory.next_attempt),
        "respond_by": whole(respond_by(link)),
        "gone": memory.gone.value if memory.gone else None,
        "lookalikes": list(memory.lookalikes),
        "withheld": [{"kind": item.kind.value, "reason": item.reason.value} for item in memory.withheld],
        "todo": todo(link),
    }


def _sides(link: Link) -> Iterator[Snapshot]:
    return (side for side in (link.opportunity, link.referral) if side is not None)
