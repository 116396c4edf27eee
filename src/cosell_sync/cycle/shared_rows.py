"""What a write to an account means for the other deals that read it: for them it is nobody's edit.

An account belongs to many opportunities. When this cycle changes it for one deal, every other deal on it would find a change
that no seller made, and tell its seller so. Their bases move with the write.
"""

from __future__ import annotations

from collections.abc import Iterable

from cosell_sync.core.accounts import account_id
from cosell_sync.core.deal import ABSENT, Side, Snapshot, Value
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Intent, Link
from cosell_sync.core.merge import landed
from cosell_sync.core.outcome import after_shared_write
from cosell_sync.core.rules import AccountUpdates
from cosell_sync.cycle.context import Cycle
from cosell_sync.cycle.record import Record

Change = tuple[Value, Value]  # the customer as the account held it before, and holds it now


def changed_account(before: Snapshot | None, after: Snapshot | None) -> tuple[str, Change] | None:
    """The account that a write changed, with what it held and holds; None where it changed none."""
    if before is None or after is None or before["customer"] == after["customer"]:
        return None
    account = account_id(after["customer"])
    return (account, (before["customer"], after["customer"])) if account else None


def account_that_landed(link: Link, intent: Intent) -> tuple[str, Change] | None:
    """The account that a write of unknown fate changed, as `changed_account`; None where it did not, or nobody can say.

    ``link``: before its intent is settled, with the opportunity as it is now. What the account held before is its base.
    """
    if (
        intent.side is not Side.CRM
        or intent.create
        or "customer" not in intent.fields
        or link.opportunity is None
    ):
        return None
    before, after = link.base_opportunity.get("customer", ABSENT), link.opportunity["customer"]
    account = account_id(after)
    if account is None or before is ABSENT or not landed("customer", intent.fields["customer"], after):
        return None
    return account, (before, after)


def follow_account_writes(cycle: Cycle, record: Record, changes: Iterable[tuple[str, str, Change]]) -> None:
    """Move the bases of the other deals on these accounts, in the record where it has them.

    ``changes``: key of the deal that was written, account, and its change; in the order of the writes.
    """
    for key, account, change in changes:
        stored = cycle.store.by_opportunity(list(cycle.store.holding([account])))
        others = {link.key: record.links.get(link.key, link) for link in stored.values()}
        others |= {link.key: link for link in record.links.values() if _is_on(link, account)}
        record.put(
            *(
                moved
                for other, link in others.items()
                if other != key and (moved := after_shared_write(link, *change)) is not link
            )
        )


def _is_on(link: Link, account: str) -> bool:
    return link.opportunity is not None and account_id(link.opportunity["customer"]) == account


def still_own(cycle: Cycle, links: Iterable[Link]) -> list[Link]:
    """The links; an account made for one of them that an opportunity outside the sync uses by now is its own no longer.

    Asked only where Partner Center's customer differs from such an account, so that an idle cycle asks nothing.
    """
    given = list(links)
    if cycle.rules.account_updates is not AccountUpdates.OWN:
        return given
    asked = {link.memory.account_made for link in given if _differs_from_own(link)} - {None}
    foreign = cycle.crm.foreign_accounts(sorted(filter(None, asked))) if asked else frozenset()
    return [
        replace(link, memory=replace(link.memory, account_made=None))
        if link.memory.account_made in foreign
        else link
        for link in given
    ]


def _differs_from_own(link: Link) -> bool:
    if link.referral is None or link.opportunity is None:
        return False
    customer = link.opportunity["customer"]
    return account_id(customer) == link.memory.account_made and customer != link.referral["customer"]
