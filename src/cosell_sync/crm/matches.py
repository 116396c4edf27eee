"""Which existing opportunities may belong to a referral: what is the same of the answer in every CRM; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cosell_sync.core.deal import Customer
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
    return {
        each.referral_id: Matches(
            by_referral=by_referral.get(folded(each.referral_id)),
            by_reference=_referenced(each, referenced),
            lookalikes=tuple(lookalikes.get(lookalike_key(each.name, each.customer, match), ())),
        )
        for each in sought
    }


def _referenced(query: MatchQuery, referenced: Mapping[str, tuple[str, object]]) -> str | None:
    """The opportunity that the referral names, unless it carries another referral and so belongs to that one."""
    opportunity_id, carried = referenced.get(query.external_reference or "", (None, None))
    return opportunity_id if folded(carried) in {"", folded(query.referral_id)} else None
