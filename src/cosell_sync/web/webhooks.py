"""Partner Center's change events, judged before anything is believed.

A webhook is a hint, the poll is the truth: a good event only wakes the next cycle. OperatorCommand of the checks, cheapest
first and nothing of a stranger's body read before it must be: size, presence of the signature headers (Microsoft
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
    """No signature can be verified, so none is believed."""
    del headers, body
    return False


def is_signed(headers: Headers) -> bool:
    """Whether the headers carry a signature at all; says nothing of its worth. Names are looked up as given by WSGI."""
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
