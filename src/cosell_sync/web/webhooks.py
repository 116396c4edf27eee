"""Partner Center's change events, checked before any of it is used.

A webhook is a hint, the poll is the truth: a good event only wakes the next cycle. The checks run
cheapest first, and the body of an unknown sender is read only when it must be: size, presence of the signature headers (Microsoft
sends ``Authorization: Signature …``, or ``x-ms-signature`` behind proxies, with ``x-ms-certificate-url`` and
``x-ms-signature-algorithm``), shape of the body, the signature itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

BODY_CAP: Final = 64 * 1024

ACCEPTED: Final = 202
MALFORMED: Final = 400
UNSIGNED: Final = 401
TOO_LARGE: Final = 413

Headers = Mapping[str, str]
Verify = Callable[[Headers, bytes], bool]


def refuse_all(headers: Headers, body: bytes) -> bool:
    """Refuse every event: without a way to verify signatures none is accepted."""
    del headers, body
    return False


def is_signed(headers: Headers) -> bool:
    """Whether the headers carry a signature at all, valid or not. Names are looked up as WSGI gives them."""
    signatures = (headers.get("Authorization", ""), headers.get("X-Ms-Signature", ""))
    return (
        any(text.lower().startswith("signature ") and text[10:].strip() for text in signatures)
        and bool(headers.get("X-Ms-Certificate-Url"))
        and bool(headers.get("X-Ms-Signature-Algorithm"))
    )


def judge(
    headers: Headers, length: int | None, read: Callable[[], bytes], verify: Verify = refuse_all
) -> int:
    """The status to answer with. ``read`` gives at most ``BODY_CAP`` + 1 bytes and is called only when it must be."""
    if length is not None and length > BODY_CAP:
        return TOO_LARGE
    if not is_signed(headers):
        return UNSIGNED
    body = read()
    if len(body) > BODY_CAP:
        return TOO_LARGE
    if not _is_event(body):
        return MALFORMED
    return ACCEPTED if verify(headers, body) else UNSIGNED


def _is_event(body: bytes) -> bool:
    """One JSON object, or a list of them."""
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return False
    events = event if isinstance(event, list) else [event]
    return bool(events) and all(isinstance(one, dict) for one in events)
