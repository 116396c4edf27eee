"""Countries in free text, as CRMs have them: two letters or a name; pure.

An address is written with two letters where the referral has them, and read as two letters where the name is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

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
    """Two letters for a code or a known name, an unknown name unchanged, None for blank."""
    if not isinstance(text, str) or not (bare := " ".join(text.split())):
        return None
    if len(bare) == 2 and bare.isascii() and bare.isalpha() and bare.casefold() not in CODES:
        return bare.upper()
    return CODES.get(bare.casefold(), bare)
