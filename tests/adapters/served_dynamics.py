"""A served Dataverse with the product's client and what it remembers, for the tests of the Dynamics adapter."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from cosell_sync.core.deal import Customer, Snapshot
from cosell_sync.crm.dynamics.client import DynamicsCrm
from cosell_sync.crm.dynamics.install import checks
from cosell_sync.crm.dynamics.rest import ID_HEADERS, Rest
from cosell_sync.crm.dynamics.signin import Application, SignIn
from cosell_sync.crm.report import Check
from cosell_sync.ports import OpportunityDraft, Outcome
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.dataverse.auth import CLIENT_ID, CLIENT_SECRET
from cosell_sync.sandbox.dataverse.service import Dataverse
from cosell_sync.sandbox.exchange import Call, Request, Response
from cosell_sync.sandbox.server import Server
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

OVERLAP = timedelta(minutes=5)
SAM = "sam.seller@contoso.example"


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
        self.slept: list[float] = []

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def tick(self, seconds: float = 10) -> None:
        self.now += timedelta(seconds=seconds)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.tick(seconds)


class Memory:
    """What the store would remember."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.watermark: str | None = None

    def versions(self, opportunity_ids: Sequence[str]) -> Mapping[str, str]:
        return {each: self.snapshots[each].version for each in opportunity_ids if each in self.snapshots}

    def holding(self, row_ids: Sequence[str]) -> frozenset[str]:
        return frozenset(key for key, each in self.snapshots.items() if each.rows & set(row_ids))


class World:
    def __init__(self, certificates: Certificates, bundle: Path, **switches: Any) -> None:
        self.clock = Clock()
        self.org = Dataverse(self.clock, **switches)
        self.org.strict_spaces = True
        self.server = Server(self.dated, certificates.server_context())
        self.memory = Memory()
        self.bundle = bundle
        self.callers: list[HttpCaller] = []

    def signin(self, **given: Any) -> SignIn:
        options = {
            "tenant_id": self.org.entra.tenant,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "authority": self.server.url,
            **given,
        }
        return SignIn(Application(url=self.server.url, **options), self.authority(), clock=self.clock)

    def authority(self, verify: ssl.SSLContext | None = None, **limits: Any) -> HttpCaller:
        """A caller for sign-ins, which goes to whatever host MSAL names."""
        caller = HttpCaller(
            "dynamics",
            "",
            governor=self.governor(),
            verify=verify or ssl.create_default_context(cafile=str(self.bundle)),
            limits=Limits(**limits),
            clock=self.clock,
            monotonic=self.clock.monotonic,
            chance=lambda: 0.5,
        )
        self.callers.append(caller)
        return caller

    def dated(self, request: Request) -> Response:
        """The answer with the time of the stopped clock, as ``sandbox.systems`` serves it."""
        response = self.org(request)
        response.headers.setdefault("Date", format_datetime(self.clock(), usegmt=True))
        return response

    def governor(self) -> Governor:
        return Governor("dynamics", clock=self.clock, monotonic=self.clock.monotonic, sleep=self.clock.sleep)

    def rest(self, **limits: Any) -> Rest:
        caller = HttpCaller(
            "dynamics",
            self.server.url,
            governor=self.governor(),
            tokens=TokenSource(self.signin(), clock=self.clock),
            verify=ssl.create_default_context(cafile=str(self.bundle)),
            id_headers=ID_HEADERS,
            limits=Limits(**limits),
            clock=self.clock,
            monotonic=self.clock.monotonic,
            chance=lambda: 0.5,
        )
        self.callers.append(caller)
        return Rest(caller, clock=self.clock)

    def client(self, **options: Any) -> DynamicsCrm:
        return DynamicsCrm(self.rest(), **options)

    def close(self) -> None:
        for caller in self.callers:
            caller.close()
        self.server.stop()

    def pull(self, crm: DynamicsCrm) -> tuple[set[str], set[str], int]:
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

    def account(self, name: str = "Fabrikam", **columns: Any) -> str:
        given = {"address1_city": "Berlin", "address1_postalcode": "10115", "address1_country": "Germany"}
        return self.org.create("account", name=name, **{**given, **columns})

    def contact(self, email: str, account: str | None = None, **columns: Any) -> str:
        given = {"lastname": email.partition("@")[0].title(), "emailaddress1": email}
        return self.org.create("contact", parentcustomerid=account, **{**given, **columns})

    def deal(self, **columns: Any) -> str:
        given = {
            "name": "Deal",
            "estimatedclosedate": "2027-01-31",
            "cosell_sync": True,
            "transactioncurrencyid": self.org.currencies["EUR"],
        }
        made = self.org.create("opportunity", **{**given, **columns})
        self.clock.tick()
        return made

    def solution(self, deal: str, code: str, **columns: Any) -> str:
        given = {"cosell_name": code, "cosell_solutioncode": code, "cosell_opportunity": deal}
        return self.org.create("cosell_solution", **{**given, **columns})

    def read(self, crm: DynamicsCrm, opportunity_id: str) -> Snapshot:
        found = crm.fetch([opportunity_id])[opportunity_id]
        assert found is not None
        return found

    def batches(self) -> int:
        """How many were sent that write; questions travel in batches too."""
        return sum(not asks_only(call) for call in self.server.calls.matching("POST", r"/\$batch$"))


def asks_only(call: Call) -> bool:
    """Whether the request is a batch of questions."""
    writes = re.search(rb"^(POST|PATCH|PUT|DELETE) /", call.body, re.MULTILINE)
    return call.path.endswith("/$batch") and writes is None


def draft(referral_id: str, **fields: Any) -> OpportunityDraft:
    given = {
        "name": f"Deal {referral_id}", "stage": "On Hold", "close_date": date(2027, 1, 31), "sync": True,
        "currency": "EUR",
        "customer": Customer("Fabrikam", "Main St 1", None, "Berlin", None, "10115", "DE"),
    }  # fmt: skip
    return OpportunityDraft(referral_id, {**given, **fields})


def only(outcomes: Sequence[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def check(crm: DynamicsCrm, stages: Sequence[str] = ()) -> Sequence[Check]:
    """What `doctor` finds through this client."""
    return checks.check(crm.rest, crm.names, stages)
