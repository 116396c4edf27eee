"""Which existing opportunities may belong to a referral: what is the same of the answer in every CRM; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cosell_sync.core.deal import Customer
from cosell_sync.core.keys import referral_key
from cosell_sync.crm.related import customer_key
from cosell_sync.crm.values import folded
from cosell_sync.ports import Matches, MatchQuery


def lookalike_key(name: object, customer: Customer, match: Sequence[str]) -> tuple[str, ...]:
    """What two deals have in common that look alike: the name and what makes two customers one, without case and blanks."""
    return (folded(name), *customer_key(customer, match))


def searchable_names(sought: Sequence[MatchQuery]) -> list[str]:
    """Names by which look-alikes can be searched, each once; a deal without a customer's name has none."""
    return list(dict.fromkeys(each.name for each in sought if each.name.strip() and each.customer.name))


def matches(
    sought: Sequence[MatchQuery],
    match: Sequence[str],
    *,
    by_referral: Mapping[str, str],
    referenced: Mapping[str, tuple[str, object]],
    lookalikes: Mapping[tuple[str, ...], Sequence[str]],
) -> Mapping[str, Matches]:
    """By referral id, what exists for it.

    ``by_referral``: folded referral id → opportunity id. ``referenced``: external reference of a referral → id of that
    opportunity, and the referral id that it carries. ``lookalikes``: by `lookalike_key`, open opportunities without a referral.
    """
    return {each.referral_id: _matches(each, match, by_referral, referenced, lookalikes) for each in sought}


def _matches(
    sought: MatchQuery,
    match: Sequence[str],
    by_referral: Mapping[str, str],
    referenced: Mapping[str, tuple[str, object]],
    lookalikes: Mapping[tuple[str, ...], Sequence[str]],
) -> Matches:
    """An opportunity that carries another referral belongs to that one."""
    opportunity_id, carried = referenced.get(sought.external_reference or "", (None, None))
    ours = folded(referral_key(carried)) in {"", folded(referral_key(sought.referral_id))}
    return Matches(
        by_referral=by_referral.get(folded(sought.referral_id)),
        by_reference=opportunity_id if ours else None,
        lookalikes=tuple(lookalikes.get(lookalike_key(sought.name, sought.customer, match), ())),
        claimed=None if ours else opportunity_id,
    )
