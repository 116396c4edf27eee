"""A served Salesforce org with the product's client and what it remembers, for the tests of the Salesforce adapter."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from adapters.served_dynamics import OVERLAP, Clock, Memory
from cosell_sync.core.deal import Customer, Snapshot
from cosell_sync.crm.report import Check
from cosell_sync.crm.salesforce import errors
from cosell_sync.crm.salesforce.client import SalesforceCrm
from cosell_sync.crm.salesforce.install import checks
from cosell_sync.crm.salesforce.rest import HINT, NAME, Rest
from cosell_sync.crm.salesforce.signin import ClientCredentials, Credentials, SignIn
from cosell_sync.ports import OpportunityDraft
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.exchange import Request, Response
from cosell_sync.sandbox.salesforce.auth import CONSUMER_KEY, CONSUMER_SECRET
from cosell_sync.sandbox.salesforce.service import Salesforce
from cosell_sync.sandbox.server import Server
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

COMPOSITE = r"/composite$"


class Connection:
    """A client of one org and what it stands on. Without ``monotonic`` the throttle goes by ``clock``."""

    def __init__(
        self,
        url: str,
        credentials: Credentials | None = None,
        *,
        clock: Callable[[], datetime],
        sleep: Callable[[float], object],
        verify: ssl.SSLContext | None = None,
        stop: threading.Event | None = None,
        limits: Limits | None = None,
    ) -> None:
        given: dict[str, Any] = {"clock": clock, "monotonic": lambda: clock().timestamp()}
        options: dict[str, Any] = {
            "verify": verify, "limits": limits, "id_headers": (), "name": NAME, "hint": HINT, **given,
        }  # fmt: skip
        governors = [Governor("salesforce", stop=stop, sleep=sleep, **given) for _ in range(2)]
        self.authority = HttpCaller("salesforce", url, governor=governors[0], **options)
        login = credentials or ClientCredentials(CONSUMER_KEY, CONSUMER_SECRET)
        tokens = TokenSource(SignIn(url, login, self.authority, clock=clock))
        self.caller = HttpCaller(
            "salesforce", url, governor=governors[1], tokens=tokens, hints=errors.HINTS, **options
        )
        self.rest = Rest(self.caller, tokens, clock=clock)

    def close(self) -> None:
        self.authority.close()
        self.caller.close()


class World:
    """One org, one client, one memory."""

    def __init__(self, certificates: Certificates, bundle: Path, **switches: bool) -> None:
        self.clock = Clock()
        self.org = Salesforce(self.clock, **switches)
        self.server = Server(self._serve, certificates.server_context())
        self.memory = Memory()
        self.bundle = bundle
        self.connections: list[Connection] = []

    def _serve(self, request: Request) -> Response:
        response = self.org(request)
        response.headers["Date"] = format_datetime(self.clock(), usegmt=True)
        return response

    def rest(self, credentials: Credentials | None = None, **options: Any) -> Rest:
        trusted = ssl.create_default_context(cafile=str(self.bundle))
        given = {"clock": self.clock, "sleep": self.clock.sleep, "verify": trusted, **options}
        made = Connection(self.server.url, credentials, **given)
        self.connections.append(made)
        return made.rest

    def close(self) -> None:
        for each in self.connections:
            each.close()
        self.server.stop()

    def client(self, **options: Any) -> SalesforceCrm:
        return SalesforceCrm(self.rest(), **options)

    def pull(self, crm: SalesforceCrm) -> tuple[set[str], set[str], int]:
        """Ids that came, ids that went, calls made."""
        before, came, went = crm.calls, set(), set()
        for page in crm.changed_since(self.memory.watermark, OVERLAP, self.memory):
            self.memory.snapshots |= {each.id: each for each in page.snapshots}
            came |= {each.id for each in page.snapshots}
            went |= set(page.gone)
            for each in page.gone:
                self.memory.snapshots.pop(each, None)
            self.memory.watermark = page.watermark or self.memory.watermark
        return came, went, crm.calls - before

    def deal(self, **fields: Any) -> str:
        given = {
            "Name": "Deal",
            "StageName": "Prospecting",
            "CloseDate": "2027-01-31",
            "Cosell_Sync__c": True,
        }
        made = self.org.create("Opportunity", **{**given, **fields})
        self.clock.tick()
        return made

    def read(self, crm: SalesforceCrm, opportunity_id: str) -> Snapshot:
        found = crm.fetch([opportunity_id])[opportunity_id]
        assert found is not None
        return found

    def composites(self) -> int:
        return len(self.server.calls.matching("POST", COMPOSITE))


def draft(referral_id: str, **fields: Any) -> OpportunityDraft:
    given = {
        "name": f"Deal {referral_id}", "stage": "Prospecting", "close_date": date(2027, 1, 31), "sync": True,
        "customer": Customer("Fabrikam", "Main St 1", None, "Berlin", None, "10115", "DE"),
    }  # fmt: skip
    return OpportunityDraft(referral_id, {**given, **fields})


def check(crm: SalesforceCrm, stages: Sequence[str] = ()) -> Sequence[Check]:
    """What `doctor` finds through this client."""
    return checks.check(crm.rest, crm.names, stages)
