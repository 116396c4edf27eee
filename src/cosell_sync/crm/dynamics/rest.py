"""One call to Dataverse, with the headers it wants; everything else in this package goes through here.

`transport.client` brings timeouts, retries, the sign-in and the pause that a 429 means for everybody. Here stands what is
Dataverse's own: version headers, questions (`questions`), and writes that travel alone or, several at once, as a `$batch`.

Reads may be repeated. A write is repeated only if it surely did not land; one whose answer is lost is `Unclear`.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/compose-http-requests-handle-errors
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Final

from cosell_sync.crm.dynamics import batch, errors, odata
from cosell_sync.crm.dynamics.batch import JSON, Group, Op, Reply
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.questions import HEADERS, ROOT, Questions, Row, template
from cosell_sync.crm.pace import Pace
from cosell_sync.errors import CosellError, Flaky, OutsideError, RecordError, Unavailable, Unclear
from cosell_sync.transport.answers import Answer, error_body
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Refusal, Scope, disposition, to_error
from cosell_sync.transport.retry import RetryableError, RetryStrategy
from cosell_sync.transport.safety import Safety
from cosell_sync.transport.throttle import utc_now
from cosell_sync.transport.tokens import AccessToken

ID_HEADERS: Final = ("x-ms-client-request-id",)
PARTS: Final = (
    50  # writes in the first batch: with the customer's plug-ins they must fit into one call's time
)
MOST_PARTS: Final = 1000  # that the platform takes
BODY: Final = 8_000_000  # bytes of a batch; the platform takes 16 MB
PARTS_AGAIN: Final = RetryStrategy(tries=4)  # of parts that met a throttle or a lock
UNGUARDED_TRIES: Final = 4  # of a write without a guard that is refused at the door


@dataclass(frozen=True)
class Result:
    """What became of a group of writes. ``ids``: of the rows written, one per write, where the answer names them."""

    error: RecordError | None = None
    ids: tuple[str | None, ...] = ()
    outage: OutsideError | None = None  # not sent: the system as a whole is not there
    refused: Reply | None = None  # the last answer, where it is the refusal

    @property
    def landed(self) -> bool:
        return self.error is None and self.outage is None


class Rest(Questions):
    """``caller`` calls the org's host."""

    def __init__(
        self,
        caller: HttpCaller,
        *,
        clock: Callable[[], datetime] = utc_now,
        headers: Mapping[str, str] = HEADERS,
    ) -> None:
        super().__init__(caller, headers)
        self.clock = clock
        self._pace = Pace(PARTS, MOST_PARTS)
        self._who: tuple[AccessToken | None, Row] | None = None

    def consistent(self) -> Rest:
        """The same org, read past its caches, which know a change of the metadata only after half a minute."""
        headers = {**self._headers, "consistency": "Strong"}
        return Rest(self._caller, clock=self.clock, headers=headers)

    def wait(self, seconds: float) -> None:
        """Sleep, unless the program is stopping: then it raises ``Unavailable``."""
        self._caller.governor.wait(seconds)

    @property
    def host(self) -> str:
        """Where this environment is, with the port where it is not the usual one."""
        return self._caller.address

    def who(self) -> Row:
        """What the environment says of itself and of our user (WhoAmI); asked once for each access token."""
        token = self._caller.sign_in()
        if self._who is None or self._who[0] != token:
            self._who = (token, self.get("WhoAmI"))
        return self._who[1]

    def forget_who(self) -> None:
        """The next ``who`` asks again."""
        self._who = None

    def address(self, path: str) -> str:
        """The absolute address of a row, as a reference to it wants it."""
        return str(self._caller.url(f"{ROOT}/{path}"))

    @property
    def calls(self) -> int:
        return self._caller.calls

    # --- writing ------------------------------------------------------------------------------------------------

    def send(self, groups: Sequence[Group]) -> Sequence[Result]:
        """What became of each group, in order. Never raises: once the org is away, the rest is not sent.

        Many single writes share a batch because a call costs its round trip and counts against ``budget.crm``; the
        platform itself counts each of them, and gives no speed for it.
        """
        results: list[Result] = []
        outage: OutsideError | None = None
        silent = 0
        while len(results) < len(groups):
            some = next(_packed(groups[len(results) :], self._pace.rows))
            if outage is not None:
                results += [Result(outage=outage)] * len(some)
                continue
            found = self._send_some(some)
            results += found
            outage = next((each.outage for each in found if each.outage), None)
            silent = silent + 1 if all(isinstance(each.error, Unclear) for each in found) else 0
            if silent == 2 and outage is None:
                outage = Unavailable(SYSTEM, "Dataverse stopped answering", code="no_answer")
        return results

    def _send_some(self, groups: Sequence[Group]) -> Sequence[Result]:
        """One call, and again for the groups that met a throttle or a lock."""
        return self._caller.retrier.resend(PARTS_AGAIN, self._send_once, groups, self._retryable)

    def _send_once(self, groups: Sequence[Group]) -> Sequence[Result]:
        try:
            with self._pace.call(sum(map(len, groups))):
                return self._alone(groups[0][0]) if _single(groups) else self._batch(groups)
        except OutsideError as error:
            return [Result(outage=error)] * len(groups)
        except RecordError as error:
            return [Result(error=errors.with_advice(error))] * len(groups)

    def _retryable(self, result: Result) -> RetryableError | None:
        """A part that was answered so may be sent again; one that is throttled stops every thread."""
        reply = result.refused
        if reply is None or result.error is None or not errors.passes(reply.status, reply.body):
            return None
        wait = self._caller.governor.asked_wait(reply.headers)
        if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
            self._caller.throttled(wait)
        return RetryableError(result.error, wait)

    def change(self, op: Op) -> Answer:
        """One change of the setup, alone. A refusal is an answer too, for the caller knows its codes."""
        return self._written(op, accept=(400, 403, 404, 405, 409, 412, 500))

    def _alone(self, op: Op) -> Sequence[Result]:
        answer = self._written(op, accept=(400, 403, 404, 412))
        return [_result([Reply(answer.status, answer.headers, answer.body)], 1)]

    def _written(self, op: Op, accept: Sequence[int]) -> Answer:
        headers = {**HEADERS, **({"content-type": JSON} if op.body is not None else {})}
        if any(name.lower() == "if-none-match" for name in op.headers):
            del headers["if-none-match"]
        answer = self._caller.call(
            op.method,
            f"{ROOT}/{op.path}",
            template=template(op.path),
            headers={**headers, **op.headers},
            body=None if op.body is None else op.json.encode(),
            accept=accept,
            safety=Safety.GUARDED if op.guarded else Safety.UNGUARDED,
            tries=None if op.guarded else UNGUARDED_TRIES,
        )
        if answer.status < 300 and answer.body.strip():  # no write of ours is answered with a body
            raise Unclear("Dataverse gave an unreadable answer", code="unreadable")
        return answer

    def _batch(self, groups: Sequence[Group]) -> Sequence[Result]:
        boundary = f"batch_{uuid.uuid4()}"
        guarded = _guarded(groups)
        answer = self._caller.call(
            "POST",
            f"{ROOT}/$batch",
            template="$batch",
            headers={
                **HEADERS,
                "content-type": f'multipart/mixed; boundary="{boundary}"',
                "prefer": "odata.continue-on-error",
            },
            body=batch.framed(groups, ROOT, boundary),
            accept=(200, 400, 403, 404, 409, 412, 500),
            safety=Safety.GUARDED if guarded else Safety.UNGUARDED,
            tries=None if guarded else UNGUARDED_TRIES,
        )
        kind = answer.headers.get("content-type", "")
        if not batch.is_multipart(kind):
            if answer.status < 300:
                raise Unclear("Dataverse gave an unreadable answer", code="unreadable", status=answer.status)
            raise _refused_batch(answer)
        try:
            found: list[list[Reply]] = batch.replies(answer.body, kind)
        except ValueError:
            raise Unclear("Dataverse gave an unreadable answer", code="unreadable") from None
        if not found or len(found) > len(groups) or not all(found):
            raise Unclear("Dataverse gave an unreadable answer", code="unreadable")
        results = [_result(replies, len(group)) for replies, group in zip(found, groups, strict=False)]
        # A server that stops at the first failure answers no further part: those were not carried out. Behind one that
        # landed it would have gone on, so the answer was cut.
        missing: RecordError = Flaky("not carried out, since another write failed", code="not_reached")
        if results[-1].landed:
            missing = Unclear("Dataverse answered only part of a batch", code="unreadable")
        return [*results, *[Result(error=missing)] * (len(groups) - len(found))]


def _refused_batch(answer: Answer) -> CosellError:
    """A batch that was refused as a whole."""
    said = error_body(answer.body)
    found = disposition(SYSTEM, answer.status, said.code)
    refusal = Refusal(SYSTEM, found, said, answer.status, request_id=answer.request_id, may_have_landed=True)
    return to_error(refusal, Scope.RECORD)


def _result(replies: Sequence[Reply], size: int) -> Result:
    bad = next((each for each in replies if not each.fine), None)
    if bad is not None:
        error = errors.record_error(bad.status, bad.body, _request_id(bad))
        return Result(error=error, refused=None if replies[-1].fine else replies[-1])
    if len(replies) < size:
        return Result(error=Unclear("Dataverse answered only part of a change set", code="unreadable"))
    return Result(ids=tuple(each.entity_id for each in replies))


def _request_id(reply: Reply) -> str:
    return reply.headers.get("x-ms-service-request-id") or reply.headers.get("req_id") or ""


def _single(groups: Sequence[Group]) -> bool:
    return len(groups) == 1 and len(groups[0]) == 1


def _guarded(groups: Sequence[Group]) -> bool:
    """A change set stands or falls with its first write."""
    return all(group[0].guarded for group in groups)


def _packed(groups: Sequence[Group], parts: int) -> Iterator[Sequence[Group]]:
    """Groups together as long as they are few and small enough; a group is never split."""
    some: list[Group] = []
    size = weight = 0
    for group in groups:
        own = sum(len(op.path) + len(op.json) for op in group)
        if some and (size + len(group) > parts or weight + own > BODY):
            yield some
            some, size, weight = [], 0, 0
        some.append(group)
        size += len(group)
        weight += own
    if some:
        yield some


def updated(collection: str, row_id: str, columns: Mapping[str, object], etag: str) -> Op:
    """A guarded PATCH, which never creates."""
    return Op("PATCH", odata.row(collection, row_id), columns, {"If-Match": etag or "*"})


def removed(collection: str, row_id: str, etag: str = "") -> Op:
    return Op("DELETE", odata.row(collection, row_id), headers={"If-Match": etag} if etag else {})
