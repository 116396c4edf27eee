"""The states of an org with address picklists; pure.

With "State and Country/Territory Picklists" the text fields only show the code fields, and the org refuses the whole record
for a state that is not one of the country's. So codes are written, and a state that is not in the org's list is left out.
Without these picklists both are free text.
https://help.salesforce.com/s/articleView?id=xcloud.admin_state_country_picklists_integ_values.htm
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One value of a state picklist. ``countries``: those it belongs to; empty where the org does not say."""

    code: str
    label: str
    countries: frozenset[str] = frozenset()


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
