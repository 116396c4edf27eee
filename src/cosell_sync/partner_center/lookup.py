"""Reads one referral by its id, as it is now."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

import structlog

from cosell_sync.core.deal import Snapshot
from cosell_sync.errors import Flaky, Gone, OutsideError, RecordError
from cosell_sync.partner_center import read
from cosell_sync.partner_center.organizations import Organizations
from cosell_sync.partner_center.outage import Outage
from cosell_sync.partner_center.paging import REFERRALS, SYSTEM
from cosell_sync.partner_center.values import ID, WireOptions
from cosell_sync.transport.answers import Answer
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.safety import Safety

log = structlog.get_logger()

ONE: Final = REFERRALS + "/{id}"


class Lookup:
    """Reads over this caller; what it reads counts for these organizations and this outage."""

    def __init__(
        self, caller: HttpCaller, wire: WireOptions, organizations: Organizations, outage: Outage
    ) -> None:
        self._caller = caller
        self._wire = wire
        self._organizations = organizations
        self._outage = outage

    def find(self, referral_id: str) -> Snapshot | None:
        """The referral; None where it is gone; with a ``problem`` where it cannot be read for reasons of its own."""
        try:
            return self.read(referral_id)
        except Gone:
            return None
        except RecordError as cause:
            text = f"This referral cannot be read: {cause.text}"
            return Snapshot(referral_id, "", {"problem": text})

    def read(self, referral_id: str) -> Snapshot:
        """The referral by its id. Raises RecordError or OutsideError."""
        check_id(referral_id)
        answer = self._caller.call(
            "GET",
            address(referral_id),
            template=ONE,
            safety=Safety.READ,
            headers={"content-type": "application/json"},
        )
        self._outage.answered()
        snapshot = self.own(answer, referral_id)
        if snapshot is None:
            raise Flaky(
                "Partner Center answered with something else", code="unreadable", status=answer.status
            )
        return snapshot

    def look_again(self, referral_id: str) -> Snapshot | None:
        """The referral after an answer that proved nothing; None where it cannot be read just now."""
        try:
            return self.read(referral_id)
        except RecordError as cause:
            log.info("read_back.failed", system=SYSTEM, referral_id=referral_id, code=cause.code)
        except OutsideError as cause:
            self._outage.begin(cause)
        return None

    def own(self, answer: Answer, referral_id: str) -> Snapshot | None:
        """What an answer holds of this referral; None where it holds something else."""
        snapshot = read.snapshot(answer.data, self._wire, own=self._organizations.known)
        return snapshot if snapshot and snapshot.id.lower() == referral_id.lower() else None


def address(referral_id: str) -> str:
    """Where this referral is read and changed."""
    return f"{REFERRALS}/{quote(referral_id, safe='')}"


def check_id(referral_id: str) -> None:
    """Raise ``Gone`` where this can be no referral's id, so that it never becomes a part of an address."""
    if not ID.fullmatch(referral_id):
        raise Gone("this is no referral id", code="malformed_id")
