"""Under which names the console shows deals to readers who need no sign-in.

A web page can let its own name point to this machine ("DNS rebinding"): its script then reads our pages as if they were its own, but
the browser still sends that name as ``Host``. A stranger cannot make a browser send an address, nor a name that exists only in
the network here; any other name has to be in ``console.hosts``. Probes, metrics and events are answered under every name.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from werkzeug.routing import Rule
from werkzeug.wrappers import Request, Response

from cosell_sync.log import get_logger

# RFC 9110, 7.2: a name or an address, and perhaps a port. Names of containers may have an underscore.
_NAMED: Final = re.compile(r"(?=.{1,253}(?::|$))([a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*)\.?(?::[0-9]{0,5})?")
_IPV6: Final = re.compile(r"\[([0-9a-f:.]{2,45})(?:%[a-z0-9_.~%-]{1,64})?\](?::[0-9]{0,5})?")
# Names that the internet's DNS does not give to strangers: RFC 6761, 6762, 8375, ICANN's .internal, Kubernetes, many routers.
_LOCAL: Final = (
    ".localhost",
    ".svc",
    ".cluster.local",
    ".internal",
    ".local",
    ".home.arpa",
    ".lan",
)
_TOLD: Final = 50  # names that are logged


class Hosts:
    """``listed``: as of `console.hosts`. Safe from any thread."""

    def __init__(self, listed: Iterable[str]) -> None:
        self._listed = frozenset(host_of(each) for each in listed) - {""}
        self._lock = threading.Lock()
        self._told: set[str] = set()

    def guarded(self, rules: Iterable[Rule]) -> list[Rule]:
        """The same routes, each of which answers under known names only."""
        return [
            Rule(rule.rule, endpoint=self._guarded(rule.endpoint), methods=rule.methods) for rule in rules
        ]

    def _guarded(self, endpoint: Callable[..., Response]) -> Callable[..., Response]:
        def answer(request: Request, **given: str) -> Response:
            host = host_of(request.headers.get("Host", ""))
            return endpoint(request, **given) if self.knows(host) else self._refused(host)

        return answer

    def knows(self, host: str) -> bool:
        """Whether deals are shown under this name, which is as of ``host_of``."""
        address = ":" in host or _is_ipv4(host)
        return bool(host) and (address or "." not in host or host.endswith(_LOCAL) or host in self._listed)

    def _refused(self, host: str) -> Response:
        with self._lock:
            fresh = host not in self._told and len(self._told) < _TOLD
            if fresh:
                self._told.add(host)
        if fresh:
            get_logger().warning("console.refused", status=421, reason="host", host=host)
        words = (
            f"cosell-sync shows deals only under names that it knows, so that no other web page can read them. If {host} is a name of "
            f"its own, add it to the configuration, console.hosts: [{host}] (as a variable, COSELL_CONSOLE__HOSTS={host}), and restart."
            if host
            else "cosell-sync shows deals only under names that it knows (console.hosts), and the header Host of this request holds none."
        )
        return Response(f"{words}\n", 421, content_type="text/plain; charset=utf-8")


def host_of(header: str) -> str:
    """The name or address in a ``Host`` header, in lower case, without port, brackets and the dot at the end; empty where the header
    is missing, malformed or names several.
    """
    text = header.strip().lower()
    if named := _NAMED.fullmatch(text):
        return named[1]
    if (address := _IPV6.fullmatch(text)) and _is_ipv6(address[1]):
        return address[1]
    return ""


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except ValueError:
        return False
    return True
