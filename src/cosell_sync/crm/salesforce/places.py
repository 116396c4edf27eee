"""Countries and states as Salesforce holds them: codes where the org has address picklists, free text elsewhere.

With "State and Country/Territory Picklists" the text columns are mere views of the code columns, and a state that is
not one of the country's is refused with the whole record; so codes are written, and a state that the org's list does
not know is left out. Without them a country is whatever somebody typed: two letters or a name.
https://help.salesforce.com/s/articleView?id=xcloud.admin_state_country_picklists_integ_values.htm
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

# ISO 3166-1, English short names as CRMs spell them.
_NAMES: Final = """
AD Andorra|AE United Arab Emirates|AE UAE|AF Afghanistan|AG Antigua and Barbuda|AL Albania|AM Armenia|AO Angola
AR Argentina|AT Austria|AT Österreich|AU Australia|AZ Azerbaijan|BA Bosnia and Herzegovina|BB Barbados|BD Bangladesh
BE Belgium|BF Burkina Faso|BG Bulgaria|BH Bahrain|BI Burundi|BJ Benin|BM Bermuda|BN Brunei Darussalam|BN Brunei
BO Bolivia|BO Bolivia, Plurinational State of|BR Brazil|BR Brasil|BS Bahamas|BT Bhutan|BW Botswana|BY Belarus
BZ Belize|CA Canada|CD Congo, the Democratic Republic of the|CF Central African Republic|CG Congo|CH Switzerland
CH Schweiz|CI Cote d'Ivoire|CI Côte d'Ivoire|CL Chile|CM Cameroon|CN China|CO Colombia|CR Costa Rica|CU Cuba
CV Cape Verde|CY Cyprus|CZ Czech Republic|CZ Czechia|DE Germany|DE Deutschland|DJ Djibouti|DK Denmark|DM Dominica
DO Dominican Republic|DZ Algeria|EC Ecuador|EE Estonia|EG Egypt|ER Eritrea|ES Spain|ES España|ET Ethiopia|FI Finland
FJ Fiji|FR France|GA Gabon|GB United Kingdom|GB UK|GB Great Britain|GB England|GD Grenada|GE Georgia|GG Guernsey
GH Ghana|GI Gibraltar|GL Greenland|GM Gambia|GN Guinea|GQ Equatorial Guinea|GR Greece|GT Guatemala|GW Guinea-Bissau
GY Guyana|HK Hong Kong|HN Honduras|HR Croatia|HT Haiti|HU Hungary|ID Indonesia|IE Ireland|IL Israel|IM Isle of Man
IN India|IQ Iraq|IR Iran|IR Iran, Islamic Republic of|IS Iceland|IT Italy|IT Italia|JE Jersey|JM Jamaica|JO Jordan
JP Japan|KE Kenya|KG Kyrgyzstan|KH Cambodia|KM Comoros|KN Saint Kitts and Nevis|KP Korea, Democratic People's Republic of
KR South Korea|KR Korea, Republic of|KR Korea|KW Kuwait|KY Cayman Islands|KZ Kazakhstan|LA Laos
LA Lao People's Democratic Republic|LB Lebanon|LC Saint Lucia|LI Liechtenstein|LK Sri Lanka|LR Liberia|LS Lesotho
LT Lithuania|LU Luxembourg|LV Latvia|LY Libya|LY Libyan Arab Jamahiriya|MA Morocco|MC Monaco|MD Moldova
MD Moldova, Republic of|ME Montenegro|MG Madagascar|MK North Macedonia|MK Macedonia, the former Yugoslav Republic of
ML Mali|MM Myanmar|MN Mongolia|MO Macao|MR Mauritania|MT Malta|MU Mauritius|MV Maldives|MW Malawi|MX Mexico|MX México
MY Malaysia|MZ Mozambique|NA Namibia|NE Niger|NG Nigeria|NI Nicaragua|NL Netherlands|NL The Netherlands|NO Norway
NP Nepal|NR Nauru|NZ New Zealand|OM Oman|PA Panama|PE Peru|PG Papua New Guinea|PH Philippines|PK Pakistan|PL Poland
PR Puerto Rico|PS Palestine|PT Portugal|PY Paraguay|QA Qatar|RO Romania|RS Serbia|RU Russia|RU Russian Federation
RW Rwanda|SA Saudi Arabia|SB Solomon Islands|SC Seychelles|SD Sudan|SE Sweden|SG Singapore|SI Slovenia|SK Slovakia
SL Sierra Leone|SM San Marino|SN Senegal|SO Somalia|SR Suriname|SS South Sudan|SV El Salvador|SY Syria|SZ Eswatini
TD Chad|TG Togo|TH Thailand|TJ Tajikistan|TL Timor-Leste|TM Turkmenistan|TN Tunisia|TO Tonga|TR Turkey|TR Türkiye
TT Trinidad and Tobago|TW Taiwan|TZ Tanzania|TZ Tanzania, United Republic of|UA Ukraine|UG Uganda|US United States
US USA|US United States of America|US U.S.A.|UY Uruguay|UZ Uzbekistan|VA Holy See (Vatican City State)
VC Saint Vincent and the Grenadines|VE Venezuela|VE Venezuela, Bolivarian Republic of|VN Vietnam|VN Viet Nam
VU Vanuatu|WS Samoa|XK Kosovo|YE Yemen|ZA South Africa|ZM Zambia|ZW Zimbabwe
"""
CODES: Final[Mapping[str, str]] = {
    entry[3:].casefold(): entry[:2] for line in _NAMES.strip().splitlines() for entry in line.split("|")
}


def country_code(text: object) -> str | None:
    """Two letters for a code or a known name; an unknown name as it stands, so that nobody takes it for empty."""
    if not isinstance(text, str) or not (bare := " ".join(text.split())):
        return None
    if len(bare) == 2 and bare.isascii() and bare.isalpha() and bare.casefold() not in CODES:
        return bare.upper()
    return CODES.get(bare.casefold(), bare)


@dataclass(frozen=True)
class Choice:
    """One value of a state picklist; ``countries`` empty where it is not said whose it is."""

    code: str
    label: str
    countries: frozenset[str] = frozenset()


def states(describe: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    """The states that this org knows, from the describe of ``Account``.

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
    """The code of a state of that country, by code or by name; None where the org's list does not know it."""
    if not country or not text:
        return None
    wanted = " ".join(text.split()).casefold()
    fitting = [each for each in choices if not each.countries or country in each.countries]
    by_code = [each.code for each in fitting if each.code.casefold() == wanted]
    by_label = [each.code for each in fitting if each.label.casefold() == wanted]
    return next(iter(by_code + by_label), None)
