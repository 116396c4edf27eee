"""The types of configuration values, and how each is read from text and written back as text.

Every value arrives as text, from YAML or from a variable. A parser raises ``ValueError`` with a message that completes
the sentence "KEY …": "sync.interval: is no duration; write 90s, 5m, 2h or 14d". No message quotes the value, because a
URL may carry a password.
"""

from __future__ import annotations

import re
import string
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cache
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, SecretStr, WithJsonSchema

from cosell_sync.catalogues import languages

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"(\d+)([smhd])")
_NO_HTTPS: Final = "must be an https:// address"
WEBHOOK_PATH: Final = "/webhooks/partner-center"
_NO_DURATION: Final = "is no duration; write 90s, 5m, 2h or 14d"
DEFAULT_STORE: Final = "sqlite:///cosell-sync.db"
DEFAULT_CONNECTION: Final = "default"
CONNECTION_NAME: Final = "[a-z0-9]+(-[a-z0-9]+)*"
LONGEST_NAME: Final = 40
_STARS: Final = "**********"


def is_connection_name(text: str) -> bool:
    """Whether a connection may be called that: the name becomes a label of metrics, a key of the log and a file's name."""
    return len(text) <= LONGEST_NAME and re.fullmatch(CONNECTION_NAME, text) is not None


def parse_duration(text: str) -> timedelta:
    """The duration written as ``90s``, ``5m``, ``2h`` or ``14d``; raises ``ValueError`` for any other text."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(_NO_DURATION)
    try:
        return timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    except OverflowError:
        raise ValueError("is longer than this program can count") from None


def format_duration(duration: timedelta) -> str:
    """The duration as a person writes it: 60s, 5m, 24h, 14d.

    The unit is the largest that divides it evenly and is needed at least twice, so 60 seconds stay ``60s``.
    """
    seconds = int(duration.total_seconds())
    unit = next((u for u in "dhm" if seconds > _UNITS[u] and seconds % _UNITS[u] == 0), "s")
    return f"{seconds // _UNITS[unit]}{unit}"


def _duration(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError(_NO_DURATION)  # noqa: TRY004 - pydantic collects ValueError
    return parse_duration(value)


def _share(value: object) -> object:
    """``30%`` or ``0.3`` as a decimal between 0 and 1; the bounds are checked by the type."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    try:
        return Decimal(text[:-1]) / 100 if text.endswith("%") else Decimal(text)
    except InvalidOperation:
        raise ValueError("is no share; write 30%") from None


def _percent(share: Decimal) -> str:
    return f"{format((share * 100).normalize(), 'f')}%"


def _https(value: str) -> str:
    try:
        parts = urlsplit(value.strip())
        _ = parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError(_NO_HTTPS)
    if "@" in parts.netloc:
        raise ValueError("must not carry a user name or password")
    if parts.query or parts.fragment:
        raise ValueError("must not carry a query or fragment")
    return value.strip().rstrip("/")


def _https_or_local(value: str) -> str:
    """https, or plain http to this machine, as a sandbox sends it."""
    if re.match(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)", value):
        _https("https" + value[4:])
        return value.rstrip("/")
    try:
        return _https(value)
    except ValueError as error:
        http = " (http only to this machine)" if str(error) == _NO_HTTPS else ""
        raise ValueError(f"{error}{http}") from None


def _public_url(value: str) -> str:
    url = _https_or_local(value)
    if url.endswith(WEBHOOK_PATH):
        raise ValueError(f"is given without {WEBHOOK_PATH}, which is added to it")
    return url


def _notice_url(value: object) -> object:
    """An https address with its query, which is part of the secret, or plain http to this machine."""
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if isinstance(text, str):
        text = text.strip()
        _https_or_local(re.sub(r"\?.*", "", text, flags=re.DOTALL))
        if " " in text or not text.isascii() or not text.isprintable():
            raise ValueError("must be one address, in ASCII and without blanks")
    return text


def _portal_url(value: str) -> str:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(value) if name is not None}
    except ValueError:
        names = {"?"}
    if not names or not names <= {"referral_id", "engagement_id"}:
        raise ValueError("must hold {referral_id} or {engagement_id}, and no other braces")
    _https(re.sub(r"\?.*", "", value).replace("{", "").replace("}", ""))
    return value


def _store_url(value: str) -> str:
    if re.match(r"sqlite(\+pysqlite)?://", value) or value.startswith("postgresql+psycopg://"):
        return value
    raise ValueError("must start with sqlite:/// or postgresql+psycopg://")


def _masked_store_url(value: str) -> str:
    """The URL without its passwords, in the user part as well as in the query."""
    value = re.sub(r"(?<=://)([^:/@]*):.*@", rf"\1:{_STARS}@", value)
    return re.sub(r"(?i)(password|passfile|sslpassword)=[^&]*", rf"\1={_STARS}", value)


def _listen_address(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT, for example 127.0.0.1:8080")
    if ":" in host.strip("[]") and not (host.startswith("[") and host.endswith("]")):
        raise ValueError("an IPv6 address needs brackets, for example [::1]:8080")
    return value


def _language(value: str) -> str:
    known, wanted = languages(), value.strip().lower()
    if wanted in known:
        return wanted
    nearest = get_close_matches(wanted, [*known, *_LANGUAGE_NAMES], 1, 0.6) or [wanted[:2]]
    code = _LANGUAGE_NAMES.get(nearest[0], nearest[0])
    meant = f". Did you mean {code}?" if code in known else ""
    raise ValueError(f"must be one of {', '.join(known)}{meant}")


# What people write for a code.
_LANGUAGE_NAMES: Final = {
    "english": "en",
    "spanish": "es",
    "español": "es",
    "espanol": "es",
    "castellano": "es",
}


@cache
def _time_zones() -> frozenset[str]:
    """Those of this machine; finding out opens some six hundred files."""
    return frozenset(available_timezones())


def _time_zone(value: str) -> str:
    known = _time_zones()
    if value in known:
        return value
    cities = {name.rpartition("/")[2].casefold(): name for name in sorted(known, reverse=True)}
    whole = {name.casefold(): name for name in known}
    wanted = value.strip().replace(" ", "_").casefold()
    near = [
        names[found]
        for names in (whole, cities)
        for found in get_close_matches(wanted, names, n=1, cutoff=0.75)
    ]
    meant = next((f". Did you mean {name}?" for name in near if "/" in name), ", such as Europe/Berlin")
    raise ValueError(f"is no time zone of the IANA database{meant}")


def split_list(value: object) -> object:
    """The parts of ``a, b``, because a variable holds one text; anything but a text is returned as it is."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+[smhd]$", "examples": ["90s", "5m", "2h", "14d"]}),
]
PositiveDuration = Annotated[Duration, Field(gt=timedelta(0))]
Share = Annotated[
    Decimal,
    BeforeValidator(_share),
    Field(gt=0, le=1),
    PlainSerializer(_percent, return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?%$", "examples": ["30%"]}),
]
HttpsUrl = Annotated[str, AfterValidator(_https), WithJsonSchema({"type": "string", "pattern": "^https://"})]
HttpsOrLocalUrl = Annotated[str, AfterValidator(_https_or_local)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
NoticeWord = Literal["received", "expiring", "attention", "conflict", "sign_in", "outage", "won"]
NoticeUrl = Annotated[SecretStr, BeforeValidator(_notice_url)]
PortalUrl = Annotated[str, AfterValidator(_portal_url)]
StoreUrl = Annotated[
    str,
    AfterValidator(_store_url),
    PlainSerializer(_masked_store_url),
    Field(json_schema_extra={"x-secret": True}),
]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
LanguageCode = Annotated[str, AfterValidator(_language)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Text = Annotated[str, Field(min_length=1)]
CallCount = Annotated[int, Field(ge=1)]
MpnId = Annotated[
    str, Field(pattern=r"^[0-9]{1,20}$")
]  # of a partner location; Partner Center writes digits as a text

CrmName = Literal["salesforce", "dynamics"]
FieldDirection = Literal["both", "to_crm", "to_partner_center", "off"]
FieldConflict = Literal["partner_center", "crm", "ask", "merge"]
SalesStage = Literal["Qualify", "Develop", "Propose", "Close"]
AccountMatch = Annotated[
    tuple[Literal["name", "postal_code", "country", "city", "state", "address_line1"], ...],
    BeforeValidator(split_list),
    Field(min_length=1),
]


def _switch(value: object) -> object:
    """YAML reads a plain on or off as true or false, and earlier versions asked for true or false."""
    text = str(value).strip().lower()
    return {"true": "on", "yes": "on", "false": "off", "no": "off"}.get(text, text)


def _auto(value: object) -> object:
    """``auto`` in any case; everything else is read as a truth value."""
    text = value.strip().lower() if isinstance(value, str) else value
    return text if text in {"auto", "true", "false", "yes", "no", "on", "off"} else value


AutoFlag = Annotated[Literal["auto"] | bool, BeforeValidator(_auto)]
ClosedRows = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
ClosedReason = Literal[
    "Budget insufficient",
    "Customer did not respond",
    "Other vendor chosen",
    "Requirement not met",
    "Not a customer",
    "Timeline too short",
    "Abuse, spam or phishing",
    "Other",
]
