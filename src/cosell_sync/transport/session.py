"""The ``requests`` session for libraries that make their own calls (simple-salesforce, MSAL), over ``HttpCaller``.

Left alone, each library has timeouts, retries and throttling of its own, or none: simple-salesforce drops the headers of
a request that it repeats after an expired session, and MSAL takes a 500 or a web page for a programming error and
forgets ``Retry-After`` from one sign-in to the next. Here a library only words the request and reads the answer.

Imported where a library is used, for it imports ``requests``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import requests
from requests.structures import CaseInsensitiveDict

from cosell_sync.errors import Unavailable
from cosell_sync.transport import errors
from cosell_sync.transport.answers import Answer
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.safety import Safety

# Ours to set, or about a connection that the library does not have.
_DROPPED: Final = frozenset({"authorization", "connection", "content-length", "x-prettyprint"})

Send = Callable[[str, str, Mapping[str, str], bytes | None], Answer]


class LibrarySession(requests.Session):
    """``send_by``: method, URL, headers and body of a request → its answer; what it raises, the library's caller gets."""

    def __init__(self, send_by: Send) -> None:
        super().__init__()
        self.trust_env = False  # no .netrc: it would add credentials to requests that have none
        self.headers.clear()
        self._send_by = send_by

    def send(self, request: requests.PreparedRequest, **_options: Any) -> requests.Response:
        """The answer; timeouts, proxies and redirects are not the library's."""
        headers = {
            name: value if isinstance(value, str) else value.decode("latin-1")
            for name, value in request.headers.items()
            if name.lower() not in _DROPPED
        }
        body = request.body.encode() if isinstance(request.body, str) else request.body
        answer = self._send_by(str(request.method), str(request.url), headers, body)
        return to_response(answer, str(request.url))


def to_response(answer: Answer, url: str) -> requests.Response:
    """The answer in the form that the libraries read."""
    response = requests.Response()
    response.status_code = answer.status
    response.headers = CaseInsensitiveDict(answer.headers)
    response.url = url
    response.encoding = "utf-8"
    response.raw = io.BytesIO(answer.body)
    return response


def sign_in_session(caller: HttpCaller) -> LibrarySession:
    """For MSAL. Each answer that the library sees is JSON that says yes or no; everything else is tried again, or
    raises ``Unavailable``. Asking for a token twice is harmless.
    """

    def send(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        answer = caller.call(
            method,
            url,
            template="sign-in",
            safety=Safety.READ,
            scope=Scope.SYSTEM,
            headers=headers,
            body=body,
            accept=errors.VERDICTS | {HTTPStatus.UNAUTHORIZED},
            parse=_json_object,
        )
        if answer.status >= HTTPStatus.BAD_REQUEST:
            try:
                _json_object(answer.body)
            except ValueError:
                raise Unavailable(
                    caller.system,
                    f"{caller.name} gave an unreadable answer",
                    code="unreadable",
                    status=answer.status,
                    hint=caller.hint,
                ) from None
        return answer

    return LibrarySession(send)


def _json_object(body: bytes) -> Mapping[str, Any]:
    """Raises ValueError for anything else."""
    try:
        data = json.loads(body)
    except RecursionError as cause:
        raise ValueError("nested too deeply") from cause
    if not isinstance(data, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of JSON, not of Python
    return data
