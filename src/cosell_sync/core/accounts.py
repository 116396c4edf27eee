"""An existing account and the customer that Partner Center brings: what is filled, what is left as it is; pure.

An account is no field of the deal. Other opportunities, contacts and invoices use it, and two referrals of one account may
call the customer differently. So `mapping.account_updates` says what a referral may do to an account that is there:

fill   what the account leaves blank is filled; all else stays on both sides and is named to the seller once
own    an account that was made for this very deal, and that no opportunity outside the sync uses, is kept equal
all    every account is kept equal

The name is never filled or changed under `fill`: it is what the account was found by. An address is one thing: where a part
of it that both sides have differs, filling the blank parts would make up an address that nobody has, so nothing is filled.
A D-U-N-S number is that of one site of one company: it is filled only where the name is the same and no part of the address
contradicts, for the account may be the customer's parent.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from cosell_sync.core import messages
from cosell_sync.core.deal import Customer, Side, Value
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Link
from cosell_sync.core.merge import Merged, Sides
from cosell_sync.core.normalize import agree, for_crm
from cosell_sync.core.rules import AccountUpdates, CrmShape, FieldRule
from cosell_sync.core.texts import Text

ADDRESS: Final = tuple(
    each.name for each in fields(Customer) if each.compare and each.name not in {"name", "duns"}
)
_BLANK: Final = Customer()


def account_id(customer: Value) -> str | None:
    """The id of the account that the customer was read from; None where there is none."""
    found = customer.extra.get("account") if isinstance(customer, Customer) else None
    return found if isinstance(found, str) else None


def keeps_equal(link: Link, updates: AccountUpdates) -> bool:
    """Whether the account of this deal follows Partner Center in everything."""
    if updates is AccountUpdates.OWN:
        account = account_id(link.opportunity["customer"]) if link.opportunity else None
        return account is not None and account == link.memory.account_made
    return updates is AccountUpdates.ALL


def filled(account: Customer, brought: Customer) -> Customer:
    """The account with its blank parts filled from what Partner Center brings; the name stays."""
    both = [part for part in ADDRESS if getattr(account, part) and getattr(brought, part)]
    if any(not _alike(getattr(account, part), getattr(brought, part)) for part in both):
        return account
    blank = {part: getattr(brought, part) for part in ADDRESS if not getattr(account, part)}
    same_company = _alike(account.name, brought.name)
    duns = account.duns or (brought.duns if same_company else None)
    return replace(account, duns=duns, **blank)


def _alike(one: str | None, other: str | None) -> bool:
    return " ".join((one or "").split()).casefold() == " ".join((other or "").split()).casefold()


def merge_account(rule: FieldRule, sides: Sides, shape: CrmShape) -> Merged:
    """The customer of a deal whose account is there and is not kept equal: blanks are filled, nothing else crosses.

    What differs besides is agreed on by policy, so it becomes base and counts as nobody's edit. Blanks are filled at first
    sight and when Partner Center's customer changes; one that a seller clears later stays clear.
    """
    account = sides.opportunity if isinstance(sides.opportunity, Customer) else _BLANK
    brought = for_crm(rule.name, sides.referral, shape)
    agreed = Merged(sides.referral, sides.opportunity)
    if not isinstance(brought, Customer) or agree(rule.name, sides.referral, sides.opportunity, shape):
        return agreed
    news = sides.first or Side.PARTNER_CENTER in sides.forced or sides.referral != sides.base_referral
    wanted = filled(account, brought)
    if not news or not rule.goes_to_crm or wanted == account:
        return agreed
    rule_text = "blanks of the account are filled"
    return Merged(sides.base_referral, sides.base_opportunity, to_crm=wanted, rule=rule_text)


def difference(there: Value, here: Value, shape: CrmShape) -> str | None:
    """What stays different between Partner Center's customer and the account, in the seller's words; None where nothing does.

    A part that one side leaves blank contradicts nothing.
    """
    brought = for_crm("customer", there, shape)
    if not isinstance(brought, Customer) or not isinstance(here, Customer):
        return None
    apart = [
        part
        for part in ("name", *ADDRESS, "duns")
        if getattr(brought, part)
        and getattr(here, part)
        and not _alike(getattr(brought, part), getattr(here, part))
    ]
    pairs: list[tuple[str, str, str]] = []
    if "name" in apart:
        pairs.append((shape.label("customer.name"), here.name or "", brought.name or ""))
    if "duns" in apart:
        pairs.append((shape.label("customer.duns"), here.duns or "", brought.duns or ""))
    if {*apart} - {"name", "duns"}:
        ours, theirs = (messages.shown(replace(each, name=None)) for each in (here, brought))
        pairs.append((Text("Address"), ours, theirs))
    return messages.account_differs(pairs) if pairs else None
