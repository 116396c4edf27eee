"""One call to the org; everything else in this package goes through `Rest.call`.

`transport.client` brings timeouts, retries, the sign-in, the throttle and the log. Here stands what is Salesforce's own:
the path below the API version, which answers the caller judges itself, and simple-salesforce on top of the same calls.
That library describes, formats SOQL and names the errors; its session is ours, because left alone it has no timeouts,
drops request headers when it repeats a call after an expired session (so a guarded write would lose its guard exactly
then) and signs in once per thread. It is imported where one of its functions is called: that costs half a second.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar
from urllib.parse import urlsplit

from cosell_sync.crm.pace import Pace
from cosell_sync.crm.salesforce import errors
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Unavailable
from cosell_sync.ports import Clock
from cosell_sync.transport import answers
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import VERDICTS, Scope
from cosell_sync.transport.exact_json import encode, parse
from cosell_sync.transport.retry import RetryableError, RetryStrategy
from cosell_sync.transport.safety import Safety
from cosell_sync.transport.tokens import AccessToken, TokenSource

if TYPE_CHECKING:
    from simple_salesforce.api import Salesforce

NAME: Final = "Salesforce"
HINT: Final = "check salesforce.login_url, and whether a proxy or captive portal answers instead"
LOCKS: Final = RetryStrategy(
    tries=5
)  # of rows that met a lock: the platform itself has waited ten seconds by then
# Answers about the request itself; 300: several rows have that external id.
JUDGED_HERE: Final = VERDICTS | {HTTPStatus.MULTIPLE_CHOICES}

ROWS: Final = 200  # written in the first call: one collection
MOST_ROWS: Final = 1000  # that a composite takes, in five collections
RETIRED: Final = "UNSUPPORTED_API_VERSION"
VERSIONS: Final = "/services/data"
# Below the version, what every org has: a 404 there means that it does not serve the version.
ALWAYS_THERE: Final = ("composite", "sobjects/Opportunity/describe")

_WORD: Final = re.compile(r"oauth2|[A-Za-z_]+|v\d+\.\d")

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Answer:
    """``data``: the parsed body, None where there is none; ``at``: the server's time when it answered."""

    status: int
    data: Any
    at: datetime


class Rest:
    """The org behind one sign-in. Safe to share between threads. ``caller`` signs in with ``tokens``."""

    def __init__(
        self, caller: HttpCaller, tokens: TokenSource, *, clock: Clock, api_version: str = "66.0"
    ) -> None:
        self.version = api_version
        self.clock = clock
        self._caller = caller
        self._tokens = tokens
        self._lock = threading.Lock()
        self._served = False  # whether the org is known to serve this version
        self._library: tuple[AccessToken, Salesforce] | None = None
        self._answer: tuple[AccessToken, str] | None = None
        self.pace = Pace(ROWS, MOST_ROWS)

    @property
    def calls(self) -> int:
        """HTTP requests made so far, retries included, sign-ins not."""
        return self._caller.calls

    @property
    def usage(self) -> tuple[int, int] | None:
        """API calls of the org used and allowed, as of its last answer; None before the first."""
        return self._caller.governor.meter.usage

    @property
    def root(self) -> str:
        return f"/services/data/v{self.version}"

    @property
    def user_id(self) -> str:
        """The signed-in user's id, empty where the sign-in did not say. Signs in if need be."""
        return self.sign_in().user_id

    def sign_in(self) -> AccessToken:
        """The current token, signing in first if there is none. Raises AuthFailed or Unavailable."""
        return self._tokens.token()

    def known_of(self, token: AccessToken, ask: Callable[[], str]) -> str:
        """What was answered once with this token; ``ask`` where nothing was yet."""
        if self._answer is None or self._answer[0] != token:
            self._answer = (token, ask())
        return self._answer[1]

    def whose(self) -> AccessToken:
        """As ``sign_in``, at the begin of a cycle; until then a token for another org than before is not used."""
        return self._tokens.whose()

    def wait(self, seconds: float) -> None:
        """Sleep, unless the program is stopping: then it raises ``Unavailable``."""
        self._caller.governor.wait(seconds)

    # --- the calls ----------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: Mapping[str, str] | None = None,
        safety: Safety | None = None,
    ) -> Answer:
        """One call under ``/services/data/vXX.X/`` (or at that host, where the path starts with a slash).

        ``safety``: whether it may be sent again; None: as a GET reads, and everything else has no guard. Raises
        simple-salesforce's exceptions for what the org refuses, ``Unavailable``, ``Unclear`` and ``AuthFailed`` for the rest.
        """
        place = path if path.startswith("/") else f"{self.root}/{path}"
        encoded = None if body is None else encode(body)
        answer = self.send(method, place, encoded, headers or {}, safety=safety or _usual(method))
        if answer.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise_refused(answer, place, name=path.partition("?")[0])
        return Answer(answer.status, answer.data, self._moment(answer))

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        safety: Safety,
    ) -> answers.Answer:
        """The answer to a request whose body is encoded already, whatever the org said about the request. Raises ``Unavailable``,
        ``Unclear`` and ``AuthFailed``.
        """
        kind = {} if body is None else {"content-type": "application/json"}
        try:
            answer = self._caller.call(
                method,
                path,
                template=template(path),
                safety=safety,
                scope=Scope.SYSTEM,
                headers={**kind, **{name.lower(): value for name, value in headers.items()}},
                body=body,
                accept=JUDGED_HERE,
            )
        except Unavailable as error:
            if error.code == RETIRED:
                self._check_version()
            raise
        if answer.status == HTTPStatus.NOT_FOUND and path in {f"{self.root}/{each}" for each in ALWAYS_THERE}:
            self._check_version()
        if answer.status >= HTTPStatus.BAD_REQUEST and not errors.faults(_parsed(answer.body)):
            raise Unavailable(
                SYSTEM,
                "what answers at Salesforce's address is not Salesforce",
                code=f"http_{answer.status}",
                status=answer.status,
                hint="check salesforce.login_url and the proxy",
            )
        return answer

    def _check_version(self) -> None:
        """A version that the org does not serve makes every address unknown: 410 where it is retired, else 404. Raises
        ``Unavailable`` then; asks once, and never again once the version is known to be served.
        https://developer.salesforce.com/docs/platform/api-rest/guide/dome-versions.html
        """
        if self._served:
            return
        answer = self._caller.call(
            "GET",
            VERSIONS,
            template=template(VERSIONS),
            safety=Safety.READ,
            scope=Scope.SYSTEM,
            accept=JUDGED_HERE,
        )
        listed = answer.data if isinstance(answer.data, list) else []
        known = [str(each["version"]) for each in listed if isinstance(each, Mapping) and "version" in each]
        if not known:
            return
        if self.version not in known:
            newest = max(known, key=lambda text: float(text) if text.replace(".", "", 1).isdigit() else 0.0)
            raise Unavailable(
                SYSTEM,
                f"the org does not serve version {self.version} of Salesforce's API",
                code="api_version",
                hint=f"set salesforce.api_version to a version that it serves, for example {newest}",
            )
        self._served = True

    def resend_locked(
        self, send: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T], locked: Callable[[R], bool]
    ) -> list[R]:
        """Send several at once, and again those that met a lock; the last result of each, in order.

        Raises what the first ``send`` raises.
        """

        def retryable(result: R) -> RetryableError | None:
            return RetryableError(errors.locked_row()) if locked(result) else None

        return self._caller.retrier.resend(LOCKS, send, items, retryable)

    def _moment(self, answer: answers.Answer) -> datetime:
        return answer.at or self.clock()

    # --- simple-salesforce --------------------------------------------------------------------------------------

    def salesforce(self) -> Salesforce:
        """simple-salesforce over these calls, for what it does well: describe."""
        from simple_salesforce.api import Salesforce  # noqa: PLC0415 - half a second, see above

        from cosell_sync.transport.session import LibrarySession  # noqa: PLC0415 - imports requests

        token = self.sign_in()
        with self._lock:
            if self._library is None or self._library[0] != token:
                made = Salesforce(
                    session_id=token.value,
                    instance_url=token.base_url,
                    version=self.version,
                    session=LibrarySession(self._send_for_library),
                )
                self._library = (token, made)
            return self._library[1]

    def _send_for_library(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None
    ) -> answers.Answer:
        """Only the path counts: the host is the one that the token belongs to."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return self.send(method, path, body, headers, safety=_usual(method))


def _usual(method: str) -> Safety:
    return Safety.READ if method == "GET" else Safety.UNGUARDED


def raise_refused(answer: answers.Answer, url: str, *, name: str) -> NoReturn:
    """Raise the exception that simple-salesforce has for this answer; ``name``: of what was asked for."""
    from simple_salesforce.util import exception_handler  # noqa: PLC0415 - half a second, see above

    from cosell_sync.transport.session import to_response  # noqa: PLC0415 - imports requests

    exception_handler(to_response(answer, url), name=name)


def template(path: str) -> str:
    """A path for the log: no query, and of its parts only words that are Salesforce's or ours, no id and no key's value."""
    parts = urlsplit(path).path.removeprefix("/services/data/").split("/")
    known = [
        _WORD.fullmatch(part) and not before.endswith("__c")
        for before, part in zip(["", *parts], parts, strict=False)
    ]
    return "/".join(part if each else "…" for part, each in zip(parts, known, strict=True))


def _parsed(body: bytes) -> Any:
    try:
        return parse(body)
    except ValueError:
        return None
