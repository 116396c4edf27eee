"""Whether a posted form comes from a page of ours: asked of what browsers tell of it, before any of it is believed.

A page of another site can make a browser post anything here, with the cookie of this host even. Each of these keeps it out: the
cookie (SameSite=Strict), what the browser says of where the form stood (``Sec-Fetch-Site``, ``Origin``), and the key that each
form carries. ``Host`` is looked at as well: a name of a stranger that was made to point here makes its page one of "our" site.

https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Sec-Fetch-Site
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from werkzeug.wrappers import Request

BODY_CAP: Final = 8 * 1024
_FORM: Final = "application/x-www-form-urlencoded"


class Foreign(Exception):
    """This request is not answered as asked. The text is the reason for the log; ``status`` and ``words`` for the answer."""

    def __init__(self, status: int, reason: str, words: str) -> None:
        super().__init__(reason)
        self.status = status
        self.words = words


def check_host(request: Request, hosts: Collection[str]) -> None:
    """Raises ``Foreign`` where the console is asked for under a name that is not its own."""
    host = _name(f"//{request.headers.get('Host', '')}")
    if not (_is_address(host) or host == "localhost" or host.endswith(".localhost") or host in hosts):
        raise Foreign(
            421,
            "host",
            "The console was asked for under a name that it does not know. Whoever runs cosell-sync can add the name to console.hosts.",
        )


def posted(request: Request, hosts: Collection[str]) -> Mapping[str, str]:
    """The fields of a form of ours; the first of each name. Raises ``Foreign`` where it is none or came from elsewhere."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin", "")
    here = origin.lower().partition("://")[2] == request.headers.get("Host", "").lower()
    if site not in {None, "same-origin"} or not (here or _name(origin) in hosts):
        raise Foreign(
            403,
            "origin",
            "This form was not sent by a page of the console, so nothing was done. Open the console itself, and send it from there.",
        )
    if request.mimetype != _FORM:
        raise Foreign(415, "content type", "Only forms of the console are taken.")
    length = request.content_length
    if length is None:
        raise Foreign(411, "no length", "Only forms of the console are taken.")
    if length > BODY_CAP:
        raise Foreign(413, "too large", "Only forms of the console are taken.")
    return request.form.to_dict()


def _name(address: str) -> str:
    """The host of an address, in lower case and without its port; empty where there is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
