"""Several requests in one call, which is also how every query travels.

A query in a URL of its own is cut off at 16 KB; as a part of a composite its URL is text in a POST body. A composite
takes 25 parts, at most five of them queries or collections, and counts as one call.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-composite-composite-post.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

from cosell_sync.crm.salesforce import errors
from cosell_sync.crm.salesforce.rest import Answer, Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Surprise, Unavailable, Unclear
from cosell_sync.transport.exact_json import encoded
from cosell_sync.transport.safety import Safety

PARTS: Final = 25
QUERIES: Final = 5  # of the parts, or collections

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One request inside a composite; ``url`` below ``/services/data/vXX.X/``."""

    method: str
    url: str
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any

    @property
    def fine(self) -> bool:
        return self.status < 300


@dataclass(frozen=True)
class Rows:
    """The rows of one query that came with the call, and where the others are."""

    rows: Sequence[Row]
    at: datetime
    more: str | None = None
    total: object = None  # how many rows the query has, where the answer says so


def query(text: str, *, deleted: bool = False, page: int | None = None) -> Part:
    """``deleted``: also rows in the Recycle Bin. ``page``: about so many rows are wanted at once, 200 to 2,000; the platform takes
    it as a hint. https://developer.salesforce.com/docs/platform/api-rest/guide/headers-queryoptions.html
    """
    headers = {} if page is None else {"Sforce-Query-Options": f"batchSize={page}"}
    return Part("GET", f"{'queryAll' if deleted else 'query'}/?q={quote(text, safe='')}", headers=headers)


def takes_literally(body: object) -> bool:
    """Whether a composite takes every text of this body as it is. `@{…}` in it would be a reference to the reply of another part, and
    there is no way to write it otherwise: such a body is sent in a call of its own.
    https://developer.salesforce.com/docs/platform/api-rest/guide/using-composite-resources.html
    """
    return "@{" not in encoded(body)


def send(rest: Rest, parts: Sequence[Part], *, repeat: bool) -> tuple[Sequence[Reply], datetime]:
    """The reply to each part, in order, and the server's time. They are carried out in their order, each for itself.

    ``repeat``: they are questions.
    """
    try:
        return exchange(rest, parts, safety=Safety.READ if repeat else Safety.UNGUARDED)
    except Unclear:
        if not repeat:
            raise
        raise strange() from None
    except errors.refusals() as error:
        raise refused(errors.faults(error.content), error.status) from None


def exchange(rest: Rest, parts: Sequence[Part], *, safety: Safety) -> tuple[Sequence[Reply], datetime]:
    """As ``send``. Raises simple-salesforce's exceptions for what the org refuses as a whole, ``Unclear`` for a strange answer."""
    requests = [
        {
            "method": part.method,
            "url": f"{rest.root}/{part.url}",
            "referenceId": f"part{at}",
            **({} if part.body is None else {"body": part.body}),
            **({"httpHeaders": dict(part.headers)} if part.headers else {}),
        }
        for at, part in enumerate(parts)
    ]
    body = {"allOrNone": False, "collateSubrequests": False, "compositeRequest": requests}
    answer = rest.call("POST", "composite", body, safety=safety)
    try:
        by_name = {each["referenceId"]: each for each in answer.data["compositeResponse"]}
        replies = [Reply(int(by_name[f"part{at}"]["httpStatusCode"]), by_name[f"part{at}"].get("body"))
                   for at in range(len(parts))]  # fmt: skip
    except (TypeError, KeyError, ValueError):
        raise Unclear(str(strange()), code="unknown_shape") from None
    return replies, answer.at


def read(rest: Rest, parts: Sequence[Part]) -> list[Rows]:
    """The first rows of each query, five queries a call. A query that fails fails the whole reading."""
    found: list[Rows] = []
    for start in range(0, len(parts), QUERIES):
        replies, at = send(rest, parts[start : start + QUERIES], repeat=True)
        found += [rows(reply, at) for reply in replies]
    return found


def call(rest: Rest, method: str, path: str, body: object = None) -> Answer:
    """A call about no single record: a refusal is trouble with the whole org."""
    try:
        return rest.call(method, path, body)
    except errors.refusals() as error:
        raise refused(errors.faults(error.content), error.status) from None


def rows(reply: Reply, at: datetime) -> Rows:
    if not reply.fine:
        raise refused(errors.faults(reply.body), reply.status)
    return _rows(reply.body, at)


def rows_if_fine(reply: Reply, at: datetime) -> Rows | None:
    """The rows of a query that stood behind writes; None where it cannot be used, for the writes count, and it can be repeated."""
    try:
        return rows(reply, at)
    except (Surprise, Unavailable):
        return None


def _rows(body: Any, at: datetime) -> Rows:
    if not isinstance(body, Mapping) or not isinstance(body.get("records"), list):
        raise strange()
    more, done = body.get("nextRecordsUrl"), body.get("done")
    if not done and not more:  # half an answer: there are more rows, and no way to them
        raise half()
    if any(not isinstance(row, Mapping) for row in body["records"]):
        raise strange()
    return Rows(body["records"], at, None if done else str(more), body.get("totalSize"))


def pages(rest: Rest, first: Rows) -> Iterator[Rows]:
    """The rows that came, then page after page of the rest. A cursor that repeats itself is a fault, not a page."""
    page, seen = first, set[str]()
    if first.more is None and isinstance(first.total, int) and len(first.rows) < first.total:
        raise half()
    while True:
        yield page
        if page.more is None:
            return
        if page.more in seen:
            raise strange()
        seen.add(page.more)
        answer = call(rest, "GET", page.more)
        page = _rows(answer.data, answer.at)


def everything(rest: Rest, parts: Sequence[Part]) -> Sequence[Sequence[Row]]:
    """All rows of each query, for results that are small by nature."""
    return [[row for page in pages(rest, first) for row in page.rows] for first in read(rest, parts)]


def refused(found: Sequence[errors.Fault], status: int) -> Exception:
    """A query that the org does not take concerns no single record."""
    code = found[0].code if found else f"http_{status}"
    if code in errors.SHAPE:
        return Surprise(
            "the CRM's fields are not what they were: a field or object is missing, or hidden from the "
            "integration user; run `cosell-sync doctor`",
            system=SYSTEM,
            code=code,
        )
    return Unavailable(
        SYSTEM,
        f"Salesforce refused a query ({code})",
        code=code,
        status=status,
        hint=errors.HINTS.get(code, ""),
    )


def half() -> Unavailable:
    """A list that ends before its end: taken for the whole, what is missing would look deleted."""
    return Unavailable(SYSTEM, "Salesforce answered with a part of a list only", code="incomplete_list")


def strange() -> Unavailable:
    return Unavailable(SYSTEM, "Salesforce answered in an unknown shape", code="unknown_shape")
