"""One POST to one receiver: its address is a secret and is named nowhere, redirects are not followed, nothing else is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

import httpx

from cosell_sync.core.notices import NoticeKind
from cosell_sync.errors import CosellError
from cosell_sync.notices.formats import FORMATS
from cosell_sync.notices.message import Message
from cosell_sync.transport.deadline import DeadlineExceeded, within_deadline
from cosell_sync.transport.trust import trust
from cosell_sync.transport.unreachable import make_client

PATIENCE: Final = httpx.Timeout(10.0, connect=5.0)
LIMIT: Final = 15.0  # seconds for one exchange, however slowly it drips
LONGEST_WAIT: Final = 3600  # seconds of a Retry-After that are believed


@dataclass(frozen=True)
class Target:
    """A receiver. ``url`` is a secret; ``name`` (its host) is what people and logs may see."""

    url: str
    format: str
    kinds: frozenset[NoticeKind]

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def digest(self) -> str:
        """What the store knows it by."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"Target({self.name}, {self.format})"


class NotSent(CosellError):
    """``code``: a word for what went wrong. ``status``: the answer's, if one came. ``retry_after``: seconds it asked for."""

    def __init__(self, code: str, *, status: int | None = None, retry_after: int = 0) -> None:
        super().__init__(f"the notice was not taken ({status or code})")
        self.code = code
        self.status = status
        self.retry_after = retry_after


class Sender:
    """Sends messages; the client is made for the first one, since most cycles have none."""

    def __init__(self) -> None:
        self._client: httpx.Client | None = None

    def send(self, target: Target, message: Message, stopping: Callable[[], bool] = lambda: False) -> int:
        """The status of the answer, a 2xx. Raises NotSent for anything else, ``deadline.Stopped`` where ``stopping`` says so."""
        self._client = self._client or make_client(trust(), PATIENCE, proxies=True)
        exchange = partial(_exchange, self._client)
        try:
            request = self._client.build_request("POST", target.url, json=FORMATS[target.format](message))
            status, asked = within_deadline(exchange, request, name="notice", limit=LIMIT, stopping=stopping)
        except (httpx.TimeoutException, DeadlineExceeded):
            raise NotSent("timeout") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise NotSent(type(error).__name__) from None  # its text holds the address
        if 200 <= status < 300:
            return status
        wait = min(int(asked), LONGEST_WAIT) if asked.isascii() and asked.isdigit() else 0
        raise NotSent("redirect" if 300 <= status < 400 else "refused", status=status, retry_after=wait)

    def close(self) -> None:
        """No further message is sent."""
        if self._client is not None:
            self._client.close()


_HOSTS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "slack": (".slack.com", ".slack-gov.com"),
        "teams": (".logic.azure.com", ".powerplatform.com", ".powerautomate.com", ".azure-apihub.us"),
    }
)
RETIRED: Final = "webhook.office.com"  # connectors of Microsoft 365, closed in 2026


def suspicious(target: Target) -> str:
    """What looks like a mistake in format or address; empty where nothing does. A proxy of one's own may be any host."""
    host = f".{target.name}"
    if host.endswith(RETIRED):
        return "Microsoft has retired these connectors; make a workflow in Teams instead"
    kind = next((kind for kind, hosts in _HOSTS.items() if host.endswith(hosts)), None)
    return f"that is an address of {kind}" if kind not in {None, target.format} else ""


def _exchange(client: httpx.Client, request: httpx.Request) -> tuple[int, str]:
    """Status and Retry-After of the answer, whose body is not read."""
    answer = client.send(request, stream=True)
    answer.close()
    return answer.status_code, answer.headers.get("retry-after", "")


def wanted(kinds: Collection[str]) -> frozenset[NoticeKind]:
    """The kinds by the words of the configuration."""
    return frozenset(NoticeKind(kind) for kind in kinds)
