"""Questions to Dataverse: one alone, page by page, or the first pages of several in one call.

Several questions travel as a `$batch`, for a call costs its round trip and counts against ``budget.crm``; the platform
itself counts each of them. One that the batch could not answer (refused, throttled, unreadable) is asked again alone. So
whatever an answer means, it is judged in one place, and an environment that takes a question only alone is served as well.
Links go out exactly as they came, and never to another host.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/execute-batch-operations-using-web-api
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from cosell_sync.crm.dynamics import batch, errors
from cosell_sync.crm.dynamics.batch import Op, Reply
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.values import pieces
from cosell_sync.errors import Flaky, RecordError, Rejected, Surprise, Unavailable, Unclear
from cosell_sync.transport.answers import Answer
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.exact_json import parse
from cosell_sync.transport.safety import Safety

ROOT: Final = "/api/data/v9.2"
HEADERS: Final[Mapping[str, str]] = {
    "odata-version": "4.0",
    "odata-maxversion": "4.0",  # without it the server may answer in the shapes of 4.01
    "if-none-match": "null",  # or an expanded answer may come from a cache
}
PAGE: Final = 5000
QUESTIONS: Final = (
    100  # in one batch; the platform takes 1,000, but all of them must be answered within one call's time
)

_IDS: Final = re.compile(r"\([^()]*\)")

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Sheet:
    """One page of rows; ``delta``: the link to what changes from here on, on the last page of a tracked reading.

    ``at``: when the server answered, by its own clock; None where it does not say.
    """

    rows: Sequence[Row]
    delta: str | None = None
    at: datetime | None = None


@dataclass(frozen=True)
class Question:
    """A query that may travel with others. ``path``: below the service root, or a link. ``prefer``: wishes of this question.
    ``size``: rows of a page, None where there are no pages. ``scope``: what a refusal is about.
    """

    path: str
    prefer: str = ""
    size: int | None = PAGE
    scope: Scope = Scope.SYSTEM

    @property
    def op(self) -> Op:
        """The request as a part of a batch."""
        wanted = ", ".join(filter(None, [self.prefer, f"odata.maxpagesize={self.size}" if self.size else ""]))
        return Op("GET", self.path, headers={"Prefer": wanted} if wanted else {})


class Questions:
    """``caller`` calls the org's host; ``headers``: of every question."""

    def __init__(self, caller: HttpCaller, headers: Mapping[str, str]) -> None:
        self._caller = caller
        self._headers = headers

    def get(self, path: str, *, prefer: str = "", scope: Scope = Scope.SYSTEM) -> Row:
        """The answer to a question about the org. Raises ``Surprise`` for what the org refuses to answer."""
        try:
            data = self._get(f"{ROOT}/{path}", prefer, scope).data
        except RecordError as error:
            if scope is Scope.RECORD:
                raise
            raise refused(error) from None
        if not isinstance(data, Mapping):
            raise strange()
        return data

    def rows(self, path: str, *, size: int | None = PAGE, prefer: str = "") -> Iterator[Row]:
        """The rows of all pages; ``prefer``: wishes of this question."""
        for sheet in self.sheets(path, size=size, prefer=prefer):
            yield from sheet.rows

    def sheets(
        self,
        path: str,
        *,
        size: int | None = PAGE,
        prefer: str = "",
        scope: Scope = Scope.SYSTEM,
        first: Answer | None = None,
    ) -> Iterator[Sheet]:
        """Pages of a question, or of a link that an earlier answer gave. ``first``: the first one, where it is there already."""
        wanted = Question(path, prefer, size).op.headers.get("Prefer", "")
        place = path if path.startswith(("https://", "/")) else f"{ROOT}/{path}"
        seen: set[str] = set()
        while True:
            try:
                answer = first or self._get(place, wanted, scope)
            except RecordError as error:
                if scope is Scope.RECORD:
                    raise
                raise refused(error) from None
            first, data = None, answer.data
            found = data.get("value") if isinstance(data, Mapping) else None
            if not isinstance(found, list) or any(not isinstance(row, Mapping) for row in found):
                raise strange()  # a row that is dropped would look deleted
            delta = data.get("@odata.deltaLink")
            yield Sheet(found, delta and str(delta), answer.at)
            link = data.get("@odata.nextLink")
            if not link:
                return
            place = self.followed(str(link))
            if place in seen:
                raise Unavailable(SYSTEM, "Dataverse's pages go in a circle", code="circle")
            seen.add(place)

    def ours(self, link: str) -> bool:
        """Whether a link leads to the configured host."""
        try:
            self._caller.url(link if "://" in link or link.startswith("/") else f"{ROOT}/{link}")
        except Rejected:
            return False
        return True

    def followed(self, link: str) -> str:
        """A link as it came, if it may be followed: the token goes to the configured host only."""
        if "://" not in link and not link.startswith("/"):
            link = f"{ROOT}/{link}"
        try:
            self._caller.url(link)
        except Rejected as error:
            raise Unavailable(
                SYSTEM,
                "Dataverse named another host than the configured one for the next page",
                code=error.code,
                hint="dynamics.url must be the address that the environment itself uses",
            ) from None
        return link

    def together(self, questions: Sequence[Question]) -> Sequence[Iterator[Sheet]]:
        """The pages of each question. The first ones come in one call; one that is refused there is asked alone, and so
        answered, repeated and judged as any other.
        """
        firsts = self._firsts(questions) if len(questions) > 1 else [None] * len(questions)
        return [
            self.sheets(each.path, size=each.size, prefer=each.prefer, scope=each.scope, first=first)
            for each, first in zip(questions, firsts, strict=True)
        ]

    def all_rows(self, questions: Sequence[Question]) -> Sequence[Sequence[Row]]:
        """The rows of all pages of each question."""
        return [
            [row for sheet in sheets for row in sheet.rows]
            for some in pieces(questions, QUESTIONS)
            for sheets in self.together(some)
        ]

    def _firsts(self, questions: Sequence[Question]) -> Sequence[Answer | None]:
        """The answers that came with one ``$batch``; None for a question to be asked alone."""
        boundary = f"batch_{uuid.uuid4()}"
        try:
            answer = self._caller.call(
                "POST",
                f"{ROOT}/$batch",
                template="$batch GET",
                headers={
                    **self._headers,
                    "content-type": f'multipart/mixed; boundary="{boundary}"',
                    "prefer": "odata.continue-on-error",
                },
                body=batch.framed([(self._part(each),) for each in questions], ROOT, boundary),
                safety=Safety.READ,
                scope=Scope.SYSTEM,
                parse=batch.text,
            )
        except RecordError as error:
            raise refused(error) from None
        try:
            found = batch.replies(answer.body, answer.headers.get("content-type", ""))
        except ValueError:
            raise strange() from None
        if len(found) != len(questions) or any(len(replies) != 1 for replies in found):
            raise strange()
        return [self._first(replies[0], answer.at) for replies in found]

    def _part(self, question: Question) -> Op:
        op = question.op
        return replace(op, headers={**self._headers, **op.headers})

    def _first(self, reply: Reply, at: datetime | None) -> Answer | None:
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._caller.throttled(self._caller.governor.asked_wait(reply.headers))
        try:
            data = parse(reply.body) if reply.status == HTTPStatus.OK else None
        except ValueError:
            return None
        return None if data is None else Answer(reply.status, reply.headers, reply.body, data, at=at)

    def _get(self, place: str, prefer: str, scope: Scope) -> Answer:
        return self._caller.call(
            "GET",
            place,
            template=template(place),
            safety=Safety.READ,
            scope=scope,
            headers={**self._headers, **({"prefer": prefer} if prefer else {})},
        )


def template(place: str) -> str:
    """A path for the log: no query, no ids and no keys."""
    path = place.partition("?")[0].partition("/api/data/")[2] or place.partition("?")[0]
    return _IDS.sub("(…)", path.partition("/")[2] if path.startswith("v9") else path)


def refused(error: RecordError) -> Surprise | Unavailable:
    """A question that the org refuses: something of its shape has changed, or a right was taken away."""
    if isinstance(error, Flaky | Unclear):
        text = f"Dataverse failed at a basic question ({error.code})"
        return Unavailable(SYSTEM, text, code=error.code, status=error.status)
    return Surprise(
        f"Dataverse refuses a question that it used to answer: {error.code or error.status}",
        system=SYSTEM,
        code=errors.code_of(error),
        request_id=error.request_id,
    )


def strange() -> Unavailable:
    return Unavailable(
        SYSTEM,
        "what answers at Dataverse's address is not Dataverse",
        code="unknown_shape",
        hint="check dynamics.url and the proxy",
    )
