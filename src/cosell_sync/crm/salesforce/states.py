"""The countries and states of an org with address picklists; pure.

With "State and Country/Territory Picklists" the text fields only show the code fields, and the org refuses the whole record
for a state that is not one of the country's. So codes are written, and a state that is not in the org's list is left out.
The admin names them: a country may stand there under another code than ISO's, and its label then says which it is.
Without these picklists both are free text.
https://help.salesforce.com/s/articleView?id=xcloud.admin_state_country_picklists_integ_values.htm
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cosell_sync.core.countries import country_code, is_country


@dataclass(frozen=True)
class Choice:
    """One value of a picklist. ``countries``: the org's codes of those that a state belongs to, empty where it is not said.

    ``active``: whether it may be chosen for a record.
    """

    code: str
    label: str
    countries: frozenset[str] = frozenset()
    active: bool = True


def countries(describe: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    """The countries that this org knows, from the describe of ``Account``."""
    fields = {field["name"]: field for field in describe}
    return tuple(
        Choice(str(each["value"]), str(each.get("label") or ""), active=each.get("active") is not False)
        for each in _values(fields.get("BillingCountryCode"))
    )


def country(choices: Sequence[Choice], code: str | None) -> str | None:
    """ISO's code for one of the org's: the same, else what its label says; else the org's as it stands."""
    if not code or is_country(code):
        return code
    label = next((each.label for each in choices if each.code == code), "")
    named = country_code(label)
    return named if is_country(named) else code


def own_code(choices: Sequence[Choice], iso: str | None) -> str | None:
    """The org's code for one of ISO's; None where the org does not list that country, the code itself where it lists none."""
    active = [each.code for each in choices if each.active]
    if not choices or iso in active:
        return iso
    return next((each for each in active if country(choices, each) == iso), None)


def by_name(choices: Sequence[Choice], listed: Sequence[Choice]) -> dict[str, dict[str, str]]:
    """ISO's code of each country that may be chosen → a state's code or name, without case → its code."""
    found: dict[str, dict[str, str]] = {}
    for own in (each.code for each in listed if each.active):
        fitting = [each for each in choices if not each.countries or own in each.countries]
        names = {each.label.casefold(): each.code for each in fitting if each.label}
        found[country(listed, own) or own] = names | {each.code.casefold(): each.code for each in fitting}
    return found


def known(describe: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    """The states in this org's picklist, from the describe of ``Account``.

    ``validFor`` is a bit set over the positions of the controlling picklist, the countries.
    https://developer.salesforce.com/docs/platform/api/guide/sforce-api-calls-describesobjects-describesobjectresult.html
    """
    fields = {field["name"]: field for field in describe}
    countries = [str(each["value"]) for each in _values(fields.get("BillingCountryCode"))]
    return tuple(
        Choice(str(each["value"]), str(each.get("label") or ""), _valid_for(each.get("validFor"), countries))
        for each in _values(fields.get("BillingStateCode"))
    )


def _values(field: Mapping[str, Any] | None) -> Sequence[Mapping[str, Any]]:
    return (field or {}).get("picklistValues") or ()


def _valid_for(bits: object, countries: Sequence[str]) -> frozenset[str]:
    if not isinstance(bits, str) or not bits:
        return frozenset()
    try:
        raw = base64.b64decode(bits, validate=True)
    except (binascii.Error, ValueError):
        return frozenset()
    return frozenset(
        country
        for at, country in enumerate(countries)
        if at // 8 < len(raw) and raw[at // 8] & (0x80 >> at % 8)
    )


def state_code(choices: Sequence[Choice], country: str | None, text: str | None) -> str | None:
    """The code of a state of that country, by code or by name; None where it is not in the org's list."""
    if not country or not text:
        return None
    wanted = " ".join(text.split()).casefold()
    fitting = [each for each in choices if not each.countries or country in each.countries]
    by_code = [each.code for each in fitting if each.code.casefold() == wanted]
    by_label = [each.code for each in fitting if each.label.casefold() == wanted]
    return next(iter(by_code + by_label), None)
