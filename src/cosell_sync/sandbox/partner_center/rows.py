"""The stored referrals: every write puts a new document with a new time and eTag, and leaves the old one as it was."""

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from cosell_sync.sandbox.partner_center.query import ticks
from cosell_sync.sandbox.partner_center.schema import Document

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Referrals:
    """Every referral of every side by id. The caller holds the lock."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.documents: dict[str, Document] = {}
        self.removed: dict[str, Document] = {}
        self._engagements: dict[str, list[str]] = {}  # ids of all sides, removed ones included
        self._writes = 0
        self._last_tick = 0
        self.changed: Callable[..., None] = lambda *_, **__: (
            None
        )  # called with each document that was written

    def load(self, documents: list[Document]) -> None:
        """Stores documents as they are, times included."""
        for document in documents:
            self.documents[document["id"]] = self._linked({**copy.deepcopy(document), "eTag": self._etag()})

    def now(self) -> str:
        """The service's time; two writes never share a time, even when the clock stands still."""
        tick = max(
            ticks(f"{self.clock().astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z") + 3,
            self._last_tick + 1,
        )
        self._last_tick = tick
        moment = EPOCH + timedelta(microseconds=tick // 10)
        return f"{moment:%Y-%m-%dT%H:%M:%S.%f}{tick % 10}Z"

    def _etag(self) -> str:
        self._writes += 1
        return f'"{self._writes:08x}-0000-0100-0000-{int(self.clock().timestamp()):08x}0000"'

    def put(self, document: Document, stamp: str | None = None) -> Document:
        """Stores a document with a new eTag and time (or that stamp)."""
        stored = self._linked({**document, "updatedDateTime": stamp or self.now(), "eTag": self._etag()})
        return self._keep(stored)

    def _keep(self, stored: Document) -> Document:
        sides = self._engagements.setdefault(stored["engagementId"], [])
        if stored["id"] not in sides:
            sides.append(stored["id"])
        created = stored["id"] not in self.documents
        self.documents[stored["id"]] = stored
        self.changed(stored, created=created)
        return stored

    def sides(self, engagement_id: str) -> list[Document]:
        """The referrals of an engagement that are not removed."""
        ids = self._engagements.get(engagement_id, [])
        return [self.documents[one] for one in ids if one in self.documents]

    def _linked(self, document: Document) -> Document:
        # As on the real service, these addresses are not the ones to call: misspelt, and the GUID without quotes.
        base = "https://api.partner.microsoft.com/v1.0/engagments/referrals"
        return {
            **document,
            "links": {
                "relatedReferrals": {
                    "uri": f"{base}?$filter=engagementId eq {document['engagementId']}",
                    "method": "GET",
                },
                "self": {"uri": f"{base}/{document['id']}", "method": "GET"},
            },
        }


def with_status(document: Document, status: str, substatus: str, stamp: str) -> Document:
    """A copy with that status and the times that go with it."""
    changed = {**document, "status": status, "substatus": substatus}
    if status == "Active":
        changed["acceptedDateTime"] = stamp
        changed["expirationDateTime"] = None
    if status == "Closed":
        changed["closedDateTime"] = stamp
    return changed


def assign(document: Document, path: str, value: Any) -> None:
    """Sets the value at a path; `-` appends to a list."""
    *parents, last = path.strip("/").split("/")
    holder: Any = document
    for step in parents:
        holder = holder[int(step)] if isinstance(holder, list) else holder[step]
    if isinstance(holder, list):
        if last == "-":
            holder.append(copy.deepcopy(value))
        else:
            holder[int(last)] = copy.deepcopy(value)
    else:
        holder[last] = copy.deepcopy(value)
