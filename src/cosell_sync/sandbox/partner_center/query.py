"""The query options of the referral list, exactly as the referral service documents them.

Anything undocumented is refused, although the real service may accept more.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from cosell_sync.sandbox.partner_center.schema import Document, blank

PROPERTIES = frozenset(blank())
ENUMS: Mapping[str, tuple[str, ...]] = {
    "status": ("None", "New", "Active", "Closed"),
    "substatus": ("None", "Pending", "Received", "Accepted", "Won", "Lost", "Declined", "Expired"),
    "direction": ("Incoming", "Outgoing"),
    "type": ("Independent", "Shared"),
    "qualification": ("None", "Direct", "MarketingQualified", "SalesQualified"),
}
OPTIONS = {"$filter", "$orderby", "$top", "$select", "$skiptoken"}

GUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
TEXT = r"'((?:[^']|'')*)'"
DATE_TIME = r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,7})?(?:Z|[+-]\d{2}:\d{2})"

Test = Callable[[Document], bool]


class BadQuery(Exception):
    """A query the service refuses; `target` names the option."""

    def __init__(self, target: str, sentence: str) -> None:
        super().__init__(sentence)
        self.target = target


@dataclass(frozen=True)
class Query:
    """A checked query."""

    tests: tuple[Test, ...] = ()
    engagement: bool = False  # asks for one engagement: then Microsoft's side is shown as well
    order: str | None = None
    descending: bool = False
    top: int | None = None
    select: tuple[str, ...] = ()
    start: int = 0
    after: tuple[int, str] | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def keeps(self, document: Document) -> bool:
        """Whether the referral matches the filter."""
        return all(test(document) for test in self.tests)

    def sorted(self, documents: Iterable[Document]) -> list[Document]:
        """In the order asked for; otherwise by id, which is no documented order."""
        return sorted(documents, key=self.key, reverse=self.descending)

    def key(self, document: Document) -> tuple[int, str]:
        """The sort key of a referral."""
        return (ticks(document[self.order]) if self.order else 0, document["id"])

    def shown(self, document: Document) -> Document:
        """The properties that $select asks for."""
        return {name: document.get(name) for name in self.select} if self.select else document


@lru_cache(maxsize=65536)
def ticks(text: str) -> int:
    """A timestamp in tenths of a microsecond, as the service counts."""
    match = re.fullmatch(r"(.{19})(?:\.(\d{1,7}))?(Z|[+-]\d{2}:\d{2})", text)
    if match is None:
        raise ValueError(f"not a date-time: {text}")
    seconds, fraction, zone = match.groups()
    moment = datetime.fromisoformat(seconds + zone)
    whole = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (whole.days * 86400 + whole.seconds) * 10_000_000 + int((fraction or "0").ljust(7, "0"))


def parse(options: Mapping[str, str], *, date_filter: str = "unquoted") -> Query:
    """The query, or BadQuery. `date_filter` is how updatedDateTime may be compared: unquoted, quoted, or refused."""
    options = dict(options)
    if unknown := set(options) - OPTIONS:
        raise BadQuery(min(unknown), f"The query option {min(unknown)} is not supported.")
    start, after = 0, None
    if token := options.pop("$skiptoken", None):
        stored, start, after = _untoken(token)
        if any(stored.get(name) != value for name, value in options.items()):
            raise BadQuery("$skiptoken", "The token belongs to another query.")
        options = stored
    tests, engagement = _filter(options["$filter"], date_filter) if "$filter" in options else ((), False)
    order, descending = _order(options.get("$orderby"))
    return Query(
        tests=tests,
        engagement=engagement,
        order=order,
        descending=descending,
        top=_top(options.get("$top")),
        select=_select(options.get("$select")),
        start=start,
        after=after,
        options=options,
    )


def token(query: Query, start: int, after: tuple[int, str] | None) -> str:
    """Where the next page begins: a position, or the row it follows."""
    content = {"options": dict(query.options), "start": start, "after": after}
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _untoken(text: str) -> tuple[dict[str, str], int, tuple[int, str] | None]:
    try:
        content = json.loads(base64.urlsafe_b64decode(text.encode()))
        after = content["after"]
        return content["options"], content["start"], (after[0], after[1]) if after else None
    except (ValueError, KeyError, TypeError) as fault:
        raise BadQuery("$skiptoken", "The skip token is not valid.") from fault


def _filter(text: str, date_filter: str) -> tuple[tuple[Test, ...], bool]:
    tests: list[Test] = []
    engagement = False
    position = 0
    while True:
        for pattern, build in _CLAUSES:
            if match := pattern.match(text, position):
                tests.append(build(match, date_filter))
                engagement = engagement or match[0].startswith("engagementId")
                position = match.end()
                break
        else:
            raise BadQuery("$filter", f"Syntax error at position {position} in '{text}'.")
        if position == len(text):
            return tuple(tests), engagement
        joint = re.compile(r" +and +").match(text, position)
        if joint is None:
            raise BadQuery("$filter", f"Syntax error at position {position} in '{text}'.")
        position = joint.end()


def _updated(match: re.Match[str], date_filter: str) -> Test:
    quoted = match["quote"] == "'"
    if date_filter == "refused" or quoted != (date_filter == "quoted"):
        raise BadQuery("$filter", "The filter on updatedDateTime is not supported in this form.")
    try:
        bound = ticks(match["when"])
    except ValueError as fault:
        raise BadQuery("$filter", str(fault)) from fault
    if match["operator"] == "gt":
        return lambda document: ticks(document["updatedDateTime"]) > bound
    return lambda document: ticks(document["updatedDateTime"]) >= bound


def _engagement(match: re.Match[str], _: str) -> Test:
    wanted = match["id"].lower()
    return lambda document: document["engagementId"].lower() == wanted


def _enum(match: re.Match[str], _: str) -> Test:
    name, value = match["name"], match["value"]
    if value not in ENUMS[name]:
        raise BadQuery("$filter", f"'{value}' is no value of {name}.")
    return lambda document: bool(document[name] == value)


def _country(match: re.Match[str], _: str) -> Test:
    value = match["value"].replace("''", "'")
    return lambda document: ((document["customerProfile"] or {}).get("address") or {}).get("country") == value


def _member(match: re.Match[str], _: str) -> Test:
    value = match["value"].replace("''", "'").lower()
    return lambda document: any((one.get("email") or "").lower() == value for one in document["team"] or [])


_CLAUSES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], str], Test]], ...] = (
    (
        re.compile(
            rf"updatedDateTime (?P<operator>ge|gt) (?P<quote>'?)(?P<when>{DATE_TIME})(?P=quote)(?=$| )"
        ),
        _updated,
    ),
    (re.compile(rf"engagementId eq (?P<quote>'?)(?P<id>{GUID})(?P=quote)(?=$| )"), _engagement),
    (
        re.compile(rf"(?P<name>{'|'.join(ENUMS)}) eq {TEXT.replace('(', '(?P<value>', 1)}(?=$| )"),
        _enum,
    ),
    (
        re.compile(rf"customerProfile/address/country eq {TEXT.replace('(', '(?P<value>', 1)}(?=$| )"),
        _country,
    ),
    (re.compile(rf"team/any\(t:t/email eq {TEXT.replace('(', '(?P<value>', 1)}\)(?=$| )"), _member),
)


def _order(text: str | None) -> tuple[str | None, bool]:
    if text is None:
        return None, False
    match = re.fullmatch(r"(createdDateTime|updatedDateTime)(?: +(asc|desc))?", text)
    if match is None:
        raise BadQuery("$orderby", f"Cannot order by '{text}'.")
    return match[1], match[2] == "desc"


def _top(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[1-9]\d{0,5}", text):
        raise BadQuery("$top", "The value of $top must be a positive whole number.")
    return int(text)


def _select(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in PROPERTIES:
            raise BadQuery("$select", f"Could not find a property named '{name}'.")
    return names


def page(
    query: Query, documents: Iterable[Document], size: int, *, keyset: bool
) -> tuple[list[Document], str | None]:
    """One page and the token of the next. By position, rows move between pages while others are edited."""
    rows = query.sorted(document for document in documents if query.keeps(document))
    if query.top is not None and not keyset:
        rows = rows[: query.top]
    start = query.start
    if keyset and query.after is not None:
        last = query.after
        rows = [row for row in rows if (query.key(row) < last if query.descending else query.key(row) > last)]
        start = 0
    limit = size if query.top is None or not keyset else min(size, query.top - query.start)
    shown = rows[start : start + limit]
    seen = query.start + len(shown)
    more = start + limit < len(rows) and (query.top is None or seen < query.top)
    if not shown or not more:
        return shown, None
    return shown, token(query, seen, query.key(shown[-1]) if keyset else None)


def is_date_time(value: Any) -> bool:
    """Whether a value is an ISO date-time with its zone, as the contract's format date-time requires."""
    if not isinstance(value, str) or not re.fullmatch(DATE_TIME, value):
        return False
    try:
        ticks(value)
    except ValueError:
        return False
    return True
