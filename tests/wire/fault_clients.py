"""What the fault matrix runs against: each system served over TLS, the product's client of it, one operation an endpoint.

An operation is one call of the product's own client and what proves that it was done once. Clocks only move when somebody
sleeps, so nothing waits; the deadline that must really pass is cut short for the struck call alone, and begins when the
server has it: until then a busy machine takes as long as it needs.
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

from simple_salesforce.exceptions import SalesforceError

from cosell_sync.core.deal import Customer, Fields, Member, Snapshot, Solution, Step
from cosell_sync.crm.dynamics import changes, describe, odata, versions
from cosell_sync.crm.dynamics import org as dynamics_org
from cosell_sync.crm.dynamics import rest as dynamics_rest
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.questions import Question
from cosell_sync.crm.dynamics.signin import Application as DynamicsApplication
from cosell_sync.crm.dynamics.signin import SignIn as DynamicsSignIn
from cosell_sync.crm.salesforce import bulk, composite, errors, read
from cosell_sync.crm.salesforce import describe as salesforce_describe
from cosell_sync.crm.salesforce import org as salesforce_org
from cosell_sync.crm.salesforce.bulk import Change
from cosell_sync.crm.salesforce.bulk import Operation as BulkOperation
from cosell_sync.crm.salesforce.client import SalesforceCrm
from cosell_sync.crm.salesforce.install import package, setup
from cosell_sync.crm.salesforce.install.deploy import provision
from cosell_sync.crm.salesforce.install.permissions import assign
from cosell_sync.crm.salesforce.install.schema import components
from cosell_sync.crm.salesforce.rest import Rest as SalesforceRest
from cosell_sync.crm.salesforce.signin import ClientCredentials
from cosell_sync.crm.salesforce.signin import SignIn as SalesforceSignIn
from cosell_sync.crm.salesforce.write import Guard
from cosell_sync.errors import Flaky, Gone, Rejected
from cosell_sync.partner_center.client import ID_HEADERS, PartnerCenter
from cosell_sync.partner_center.login import Terminal, sign_in
from cosell_sync.partner_center.signin import TOKEN_NAME, Application, SignIn
from cosell_sync.ports import OpportunityWrite, ReferralDraft, ReferralWrite
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.dataverse import service as dataverse
from cosell_sync.sandbox.exchange import Call, Calls, Headers, Request, Response
from cosell_sync.sandbox.faults import Fault
from cosell_sync.sandbox.partner_center import service as fake
from cosell_sync.sandbox.salesforce import service as salesforce
from cosell_sync.sandbox.server import Server
from cosell_sync.transport import client, deadline
from cosell_sync.transport.aadsts import Way
from cosell_sync.transport.client import HttpCaller, Limits
from cosell_sync.transport.errors import Scope
from cosell_sync.transport.retry import RetryStrategy
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

OVERLAP = timedelta(minutes=5)
SHORT = 0.25  # seconds: the patience with an answer that does not come
TRIES = 5
TEXT = "Greta Öz, greta@customer.example, told us a secret"  # what error bodies say and no log may repeat
ENDED = (type(None), list, tuple)


class Clock:
    """Moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return self.now.timestamp()

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class StopWatch:
    """The time by which a call is given up: it stands until a request is struck."""

    def __init__(self) -> None:
        self.began: float | None = None

    def monotonic(self) -> float:
        return 0.0 if self.began is None else time.monotonic() - self.began


class TimedCalls(Calls):
    """The log of a server, with the moment of each call."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.moments: list[datetime] = []

    def append(self, call: Call) -> None:
        self.moments.append(self.clock())
        super().append(call)

    def clear(self) -> None:
        self.moments.clear()
        super().clear()


class Tokens:
    def __init__(self, **tokens: str) -> None:
        self.tokens = dict(tokens)

    def load(self, name: str) -> str | None:
        return self.tokens.get(name)

    def save(self, name: str, token: str) -> None:
        self.tokens[name] = token


class Memory:
    """A store that knows nothing yet."""

    def versions(self, opportunity_ids: Sequence[str]) -> dict[str, str]:
        del opportunity_ids
        return {}

    def holding(self, row_ids: Sequence[str]) -> frozenset[str]:
        del row_ids
        return frozenset()


@dataclass
class Operation:
    """``act``: the attempt, whose answer is None, an error, or an exception. ``again``: the next attempt, which looks
    before it acts. ``done``: how often it is done, 0 or 1 if all is well; None for what only reads.
    """

    act: Callable[[], object]
    again: Callable[[], object]
    done: Callable[[], int] | None = None


def reading_operation(act: Callable[[], object]) -> Operation:
    return Operation(act, act)


def writing_operation(act: Callable[[], object], done: Callable[[], int]) -> Operation:
    """Done already? Then the next attempt finds it so."""
    return Operation(act, lambda: None if done() else act(), done)


class Harness:
    """One system: its fake, its server, and a client that is made anew for each play."""

    system = ""

    def __init__(self, certificates: Certificates, bundle: Path) -> None:
        self.clock = Clock()
        self.bundle = bundle
        self.trust = ssl.create_default_context(cafile=str(bundle))
        self.server = Server(self._dated, certificates.server_context())
        self.server.calls = TimedCalls(self.clock)
        self.elsewhere = Server(self._caught, certificates.server_context(), name="elsewhere")
        self.caught: list[Request] = []
        self.number = 0
        self.callers: list[HttpCaller] = []
        self.left: list[Callable[[], None]] = []

    def _caught(self, request: Request) -> Response:
        self.caught.append(request)
        return Response(200, {"access_token": "elsewhere", "value": []})

    def _dated(self, request: Request) -> Response:
        response = self.answer(request)
        response.headers.setdefault("Date", format_datetime(self.clock(), usegmt=True))
        return response

    def answer(self, request: Request) -> Response:
        raise NotImplementedError

    def renew(self) -> None:
        """A client that has just started."""
        raise NotImplementedError

    def secrets(self) -> Iterator[str]:
        raise NotImplementedError

    def governor(self) -> Governor:
        clock = self.clock
        return Governor(self.system, clock=clock, monotonic=clock.monotonic, sleep=clock.sleep)

    def caller(self, governor: Governor, tokens: TokenSource | None, **more: Any) -> HttpCaller:
        made = HttpCaller(
            self.system,
            self.server.url,
            governor=governor,
            tokens=tokens,
            verify=self.trust,
            clock=self.clock,
            monotonic=self.clock.monotonic,
            chance=lambda: 0.5,
            **more,
        )
        self.callers.append(made)
        return made

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Answers that do not come are given up soon after the request did, and tried twice only."""
        before = [each._limits for each in self.callers]
        for each in self.callers:
            each._limits = Limits(retry=RetryStrategy(tries=2))
        take, watch = self.server.faults.take, StopWatch()

        def taken(request: Request) -> Fault | None:
            fault = take(request)
            if fault is not None:
                watch.began = time.monotonic()
            return fault

        def within(*call: Any, limit: float, **more: Any) -> Any:
            watch.began = None
            return deadline.within_deadline(*call, limit=min(limit, SHORT), **more)

        try:
            with (
                patch.object(self.server.faults, "take", taken),
                patch.object(deadline, "time", watch),
                patch.object(client, "within_deadline", within),
            ):
                yield
        finally:
            for each, limits in zip(self.callers, before, strict=True):
                each._limits = limits

    def next(self) -> int:
        self.number += 1
        return self.number

    def hang_up(self, *, given_up: bool) -> None:
        """After a play. A call that was given up still reads its answer on a thread of its own: its client stays, for
        another connection might take the place of the one that is closed under it.
        """
        for each in self.closers():
            if given_up:
                self.left.append(each)
            else:
                each()
        self.callers.clear()

    def closers(self) -> list[Callable[[], None]]:
        return [each.close for each in self.callers]

    def close(self) -> None:
        for each in self.left:
            each()
        self.left.clear()


# --- Partner Center -----------------------------------------------------------------------------------------------


class PartnerCenterHarness(Harness):
    system = "partner_center"

    def __init__(self, certificates: Certificates, bundle: Path) -> None:
        super().__init__(certificates, bundle)
        self.world = fake.PartnerCenter(self.clock)

    def answer(self, request: Request) -> Response:
        return self.world(request)

    def renew(self) -> None:
        self.world = fake.PartnerCenter(self.clock)  # with few deals, for each look for a lost one reads all
        self.world.add("inbound_accepted")
        entra = self.world.entra
        tokens = Tokens(partner_center=entra.issue_refresh_token())
        self.application = Application(entra.tenant, entra.client_id, entra.client_secret, self.server.url)
        door = self.caller(self.governor(), None)
        self.source = TokenSource(SignIn(self.application, tokens, door, clock=self.clock), clock=self.clock)
        caller = self.caller(self.governor(), self.source, id_headers=ID_HEADERS)
        self.center = PartnerCenter(caller)

    def secrets(self) -> Iterator[str]:
        entra = self.world.entra
        yield from (*entra._access, *entra._refresh, entra.client_secret or TEXT)

    def login(self) -> Operation:
        terminal = Terminal(lambda _: void(self.world.entra.approve()))
        return self._signing_in(Way.DEVICE_CODE, terminal)

    def login_by_code(self) -> Operation:
        shown: list[str] = []

        def ask() -> str:
            self.world.entra.approve_at_once = True
            address = next(line for line in shown[-1].splitlines() if line.startswith("https://"))
            asked = urlsplit(address)
            page = self.world(
                Request("GET", asked.path, dict(parse_qsl(asked.query)), asked.query, Headers({}), b"")
            )
            return page.headers["Location"]

        return self._signing_in(Way.PASTE, Terminal(shown.append, ask))

    def _signing_in(self, way: Way, terminal: Terminal) -> Operation:
        tokens = Tokens()
        authority = self.caller(self.governor(), None)

        def act() -> None:
            tokens.save(TOKEN_NAME, sign_in(self.application, authority, way, terminal).refresh_token)

        return Operation(act, act, lambda: len(tokens.tokens))

    def sign_in(self) -> Operation:
        return reading_operation(lambda: void(self.source.token()))

    def listing(self) -> Operation:
        self.source.token()
        return reading_operation(lambda: list(self.center.changed_since(None, OVERLAP)))

    def engagement(self) -> Operation:
        deal = self.world.add("cosell")
        return reading_operation(lambda: list(self.center.engagement(deal["engagementId"])))

    def one(self) -> Operation:
        self.source.token()
        deal = self.world.add("private")

        def act() -> object:
            found = self.center.fetch([deal["id"]])[deal["id"]]
            if found is None:
                return Gone("")
            return Flaky("") if found.text("problem") else None

        return reading_operation(act)

    def patch(self) -> Operation:
        deal = self.world.add("inbound_accepted")
        value = Decimal(1000 + self.next())

        def snapshot() -> Snapshot:
            found = self.center.fetch([deal["id"]])[deal["id"]]
            assert found is not None
            return found

        before = snapshot()

        def act(before: Snapshot | None = None) -> object:
            write = ReferralWrite(before or snapshot(), (Step({"value": value}),))
            (outcome,) = self.center.write([write])
            return outcome.error and (self.center.outage or outcome.error)

        def done() -> int:
            return int(self.world.get(deal["id"])["details"]["dealValue"] == float(value))

        return Operation(lambda: act(before), lambda: None if done() else act(), done)

    def create(self) -> Operation:
        self.source.token()
        reference = f"006{self.next():015d}"
        draft = ReferralDraft(reference, DRAFT)

        def again() -> object:
            return None if self.center.find_created(reference) else self.center.create(draft).error

        def done() -> int:
            return sum(each["externalReferenceId"] == reference for each in self.world.all())

        return Operation(lambda: self.center.create(draft).error, again, done)

    def invite(self) -> Operation:
        self.source.token()
        reference = f"006{self.next():015d}"
        made = self.center.create(ReferralDraft(reference, {**DRAFT, "visible": True})).snapshot
        assert made is not None
        engagement = made.text("engagement_id")
        draft = ReferralDraft(reference, ASKING, engagement)

        def done() -> int:
            sides = [each for each in self.world.all() if each["engagementId"] == engagement]
            return len(sides) - 1

        def again() -> object:
            theirs = [
                each for each in self.center.engagement(engagement) if each.text("category") == "foreign"
            ]
            return None if theirs else self.center.create(draft).error

        return Operation(lambda: self.center.create(draft).error, again, done)


DRAFT: Fields = {
    "name": "Harbor Mills",
    "value": Decimal("84000.10"),
    "currency": "EUR",
    "close_date": date(2027, 11, 30),
    "customer": Customer("Harbor Mills GmbH", "Kai 7", None, "Bremen", None, "28195", "DE"),
    "contacts": (Member("greta@customer.example", "Greta", "Öz", "+49"),),
    "team": (Member("ida.kern@partner.example", "Ida", "Kern", "+49421000001"),),
    "solutions": (Solution("SOL-10001-ABC", "Mill Planner"),),
    "consent": True,
}
ASKING: Fields = {**DRAFT, "help": "Quotes or licensing", "help_note": "In Q3", "visible": True}


def void(_: object) -> None:
    """Makes a call with a result into one without."""


# --- Salesforce ---------------------------------------------------------------------------------------------------


class SalesforceHarness(Harness):
    system = "salesforce"

    def __init__(self, certificates: Certificates, bundle: Path) -> None:
        super().__init__(certificates, bundle)
        self.world = salesforce.Salesforce(self.clock)
        self.deal()

    def answer(self, request: Request) -> Response:
        return self.world(request)

    def renew(self) -> None:
        credentials = ClientCredentials(salesforce.CONSUMER_KEY, salesforce.CONSUMER_SECRET)
        authority = self.caller(self.governor(), None, id_headers=())
        login = SalesforceSignIn(self.server.url, credentials, authority, clock=self.clock)
        source = TokenSource(login, clock=self.clock)
        caller = self.caller(self.governor(), source, id_headers=(), hints=errors.HINTS)
        self.rest = SalesforceRest(caller, source, clock=self.clock)

    def secrets(self) -> Iterator[str]:
        yield from (*self.world._sign_in.sessions, salesforce.CONSUMER_SECRET)

    def deal(self, **fields: Any) -> str:
        given = {
            "Name": "Deal",
            "StageName": "Prospecting",
            "CloseDate": "2027-01-31",
            "Cosell_Sync__c": True,
        }
        made = self.world.create("Opportunity", **{**given, **fields})
        self.clock.sleep(10)
        return made

    def account(self) -> str:
        return self.world.create("Account", Name=f"Fabrikam {self.next()}")

    def sign_in(self) -> Operation:
        return reading_operation(lambda: void(self.rest.sign_in()))

    def signed(self, act: Callable[[], object]) -> Operation:
        self.rest.sign_in()
        return reading_operation(act)

    def describe(self) -> Operation:
        refused = composite.Reply(400, [])
        return self.signed(lambda: void(salesforce_describe._described(self.rest, "Opportunity", refused)))

    def query(self) -> Operation:
        part = composite.query("SELECT Id FROM Opportunity")
        return self.signed(lambda: list(composite.read(self.rest, [part])))

    def query_more(self) -> Operation:
        for _ in range(2):
            self.deal()
        self.world.page_size = 1
        (first,) = composite.read(self.rest, [composite.query("SELECT Id FROM Opportunity LIMIT 2")])
        return reading_operation(lambda: list(composite.pages(self.rest, first)))

    def deleted(self) -> Operation:
        stamp = (self.clock() - timedelta(hours=1)).isoformat()
        url = read._deleted_log_path(stamp, self.clock(), self.clock())
        refused = composite.Reply(400, [])
        return self.signed(lambda: list(read._removed_members(self.rest, url, refused, Memory())))

    def _update(self, *, parts: bool) -> Operation:
        crm = SalesforceCrm(self.rest, guard=Guard(parts=parts))
        row_id, amount = self.deal(), 1000 + self.next()
        crm.shape()
        before = crm.fetch([row_id])[row_id]

        def act(before: Snapshot | None) -> object:
            assert before is not None
            (outcome,) = crm.write([OpportunityWrite(before, {"value": Decimal(amount)})])
            return outcome.error and (crm.outage or outcome.error)

        def done() -> int:
            return int(self.world.get("Opportunity", row_id)["Amount"] == amount)

        return Operation(
            lambda: act(before), lambda: None if done() else act(crm.fetch([row_id])[row_id]), done
        )

    def update(self) -> Operation:
        return self._update(parts=True)

    def update_alone(self) -> Operation:
        return self._update(parts=False)

    def _sent(self, *changes: Change, afterwards: composite.Part | None = None) -> object:
        result, *_ = bulk.send_and_ask(self.rest, changes, afterwards)[0]
        if result.outage or result.unclear or result.fine:
            return result.outage or result.unclear
        return errors.outcome(result.faults, result.status)

    def rows_made(self) -> Operation:
        address = f"new{self.next()}@customer.example"
        change = Change(BulkOperation.CREATE, "Contact", {"LastName": "New", "Email": address})
        self.rest.sign_in()
        return writing_operation(
            lambda: self._sent(change), lambda: len(self.world.rows("Contact", Email=address))
        )

    def rows_changed(self) -> Operation:
        row_id = self.world.create("Contact", LastName="Known")
        change = Change(BulkOperation.UPDATE, "Contact", {"Phone": "+49 1"}, id=row_id)
        self.rest.sign_in()
        return writing_operation(
            lambda: self._sent(change), lambda: len(self.world.rows("Contact", Id=row_id, Phone="+49 1"))
        )

    def rows_together(self) -> Operation:
        address = f"new{self.next()}@customer.example"
        row_id = self.world.create("Contact", LastName="Known")
        changes = [
            Change(BulkOperation.CREATE, "Contact", {"LastName": "New", "Email": address}),
            Change(BulkOperation.UPDATE, "Contact", {"Phone": "+49 1"}, id=row_id),
        ]
        self.rest.sign_in()
        return writing_operation(
            lambda: self._sent(*changes),
            lambda: len(self.world.rows("Contact", Email=address)),
        )

    def opportunities_asked(self) -> Operation:
        change, made = self._opportunity()
        part = composite.query("SELECT Id FROM Opportunity")
        self.rest.sign_in()
        return writing_operation(lambda: self._sent(change, afterwards=part), made)

    def _opportunity(self) -> tuple[Change, Callable[[], int]]:
        referral = f"00000000-0000-4000-8000-{self.next():012d}"
        columns = {"Name": "Deal", "StageName": "Prospecting", "CloseDate": "2027-01-31"}
        columns["Cosell_Referral_Id__c"] = referral
        change = Change(BulkOperation.UPSERT, "Opportunity", columns, key="Cosell_Referral_Id__c")
        return change, lambda: len(self.world.rows("Opportunity", Cosell_Referral_Id__c=referral))

    def opportunities_made(self) -> Operation:
        change, made = self._opportunity()
        self.rest.sign_in()
        return writing_operation(lambda: self._sent(change), made)

    def solutions_made(self) -> Operation:
        key = f"r:{self.next()}"
        columns = {"Opportunity__c": self.deal(), "Solution_Id__c": "SOL", "Cosell_Key__c": key}
        change = Change(BulkOperation.UPSERT, "Cosell_Solution__c", columns, key="Cosell_Key__c")
        self.rest.sign_in()
        return writing_operation(
            lambda: self._sent(change), lambda: len(self.world.rows("Cosell_Solution__c", Cosell_Key__c=key))
        )

    def rows_removed(self) -> Operation:
        row_id = self.world.create("Cosell_Solution__c", Opportunity__c=self.deal(), Solution_Id__c="SOL")
        change = Change(BulkOperation.DELETE, "Cosell_Solution__c", id=row_id)
        self.rest.sign_in()
        return writing_operation(
            lambda: self._sent(change), lambda: 1 - len(self.world.rows("Cosell_Solution__c", Id=row_id))
        )

    def tooling(self) -> Operation:
        text = "SELECT Id FROM CustomField WHERE TableEnumOrId = 'Opportunity'"
        return self.signed(lambda: list(setup._rows(self.rest, text)))

    def _zipped(self) -> bytes:
        names = salesforce_org.field_names(None)
        return package.bundle(components(names), names, self.rest.version)

    def deploy(self) -> Operation:
        zipped = self._zipped()
        return self.signed(lambda: void(setup.deploy(self.rest, zipped, check_only=True)))

    def assignment(self) -> Operation:
        if not self.world.rows("PermissionSet", Name="Cosell_Sync"):
            provision(self.rest)
        (found,) = self.world.rows("PermissionSet", Name="Cosell_Sync")
        user = self.world.add_user("New", f"User{self.next()}", f"new{self.number}@contoso.example", "+1")
        body = {"PermissionSetId": found["Id"], "AssigneeId": user}
        self.rest.sign_in()
        return writing_operation(
            lambda: void(assign(self.rest, body)),
            lambda: len(self.world.rows("PermissionSetAssignment", AssigneeId=user)),
        )


# --- Dynamics 365 -------------------------------------------------------------------------------------------------


class DynamicsHarness(Harness):
    system = "dynamics"

    def __init__(self, certificates: Certificates, bundle: Path) -> None:
        super().__init__(certificates, bundle)
        self.world = dataverse.Dataverse(self.clock)
        self.shape: dynamics_org.Org | None = None
        for _ in range(3):
            self.deal()

    def answer(self, request: Request) -> Response:
        return self.world(request)

    def renew(self) -> None:
        self.signing = DynamicsSignIn(
            DynamicsApplication(
                url=self.server.url,
                tenant_id=self.world.entra.tenant,
                client_id=dataverse.CLIENT_ID,
                client_secret=dataverse.CLIENT_SECRET,
                authority=self.server.url,
            ),
            self.caller(self.governor(), None),
            clock=self.clock,
        )
        self.source = TokenSource(self.signing, clock=self.clock)
        self.rest = dynamics_rest.Rest(
            self.caller(self.governor(), self.source, id_headers=dynamics_rest.ID_HEADERS),
            clock=self.clock,
        )

    def secrets(self) -> Iterator[str]:
        yield from (*self.world.entra._access, dataverse.CLIENT_SECRET)

    def deal(self, **columns: Any) -> str:
        given = {"name": "Deal", "estimatedclosedate": "2027-01-31", "cosell_sync": True}
        made = self.world.create("opportunity", **{**given, **columns})
        self.clock.sleep(10)
        return made

    def contact(self, **columns: Any) -> str:
        return self.world.create("contact", lastname="Known", **columns)

    def signed(self, act: Callable[[], object]) -> Operation:
        self.source.token()
        return reading_operation(act)

    def sign_in(self) -> Operation:
        return reading_operation(lambda: void(self.source.token()))

    def identity(self) -> Operation:
        """As the managed identity of a machine in Azure."""
        entra = self.world.entra
        place = {
            "IDENTITY_ENDPOINT": f"{self.server.url}/msi/token",
            "IDENTITY_HEADER": entra.identity_header,
        }
        self.signing._application = DynamicsApplication(
            url=self.server.url, managed_identity=dataverse.CLIENT_ID, authority=self.server.url
        )

        def act() -> None:
            with patch.dict(os.environ, place):
                self.source.token()

        return reading_operation(act)

    def who(self) -> Operation:
        return self.signed(lambda: void(self.rest.get("WhoAmI")))

    def metadata(self) -> Operation:
        return self.signed(lambda: void(describe.table_flags(self.rest)))

    def optional(self) -> Operation:
        return self.signed(lambda: void(describe._roles(self.rest)))

    def table(self) -> Operation:
        path = odata.query("opportunities", select=("name",))
        return self.signed(lambda: list(self.rest.rows(path)))

    def table_more(self) -> Operation:
        path = odata.query("opportunities", select=("name",), top=None)
        return self.signed(lambda: list(self.rest.rows(path, size=2)))

    def _org(self) -> dynamics_org.Org:
        self.source.token()
        if self.shape is None:
            self.shape = describe.read(self.rest, dynamics_org.field_names(None))
        return self.shape

    def tracked(self) -> Operation:
        org = self._org()
        return reading_operation(lambda: void(self._started(org)))

    def _started(self, org: dynamics_org.Org) -> str | None:
        asked = changes._tracking(org, dynamics_org.OPPORTUNITIES)
        sheets = self.rest.sheets(asked.path, prefer=asked.prefer, scope=asked.scope)
        return changes._start_tracking(self.rest, sheets)

    def delta(self) -> Operation:
        org = self._org()
        name = dynamics_org.OPPORTUNITIES
        link = self._started(org)
        assert link is not None
        found = changes._Suspects(org, Memory())

        def follow() -> None:
            sheets = self.rest.sheets(link, scope=Scope.RECORD)
            changes._follow_link(self.rest, name, sheets, found, void)

        return reading_operation(follow)

    def together(self) -> Operation:
        paths = [odata.query("opportunities", select=("name",)), odata.query("accounts", select=("name",))]
        return self.signed(lambda: list(self.rest.all_rows([Question(each) for each in paths])))

    def etag(self, collection: str, row_id: str) -> str:
        return versions.etag(self.rest.get(odata.row(collection, row_id)))

    def _sent(self, *groups: tuple[Op, ...]) -> object:
        results = self.rest.send(groups)
        return next((each.outage or each.error for each in results if each.outage or each.error), None)

    def update(self) -> Operation:
        row_id, amount = self.deal(), 1000 + self.next()
        tag = self.etag("opportunities", row_id)

        def act(tag: str) -> object:
            op = dynamics_rest.updated("opportunities", row_id, {"estimatedvalue": Decimal(amount)}, tag)
            return self._sent((op,))

        def done() -> int:
            return int(self.world.get("opportunity", row_id)["estimatedvalue"] == amount)

        return Operation(
            lambda: act(tag), lambda: None if done() else act(self.etag("opportunities", row_id)), done
        )

    def create_by_key(self) -> Operation:
        referral = f"00000000-0000-4000-8000-{self.next():012d}"
        place = odata.keyed("opportunities", "cosell_referralid", referral)
        op = Op("PATCH", place, {"name": "Deal"}, {"If-None-Match": "*"})
        self.source.token()
        return writing_operation(
            lambda: self._sent((op,)),
            lambda: len(self.world.rows("opportunity", cosell_referralid=referral)),
        )

    def row_made(self) -> Operation:
        address = f"new{self.next()}@customer.example"
        op = Op("POST", "contacts", {"lastname": "New", "emailaddress1": address})
        self.source.token()
        return writing_operation(
            lambda: self._sent((op,)), lambda: len(self.world.rows("contact", emailaddress1=address))
        )

    def row_removed(self) -> Operation:
        row_id = self.contact()
        op = dynamics_rest.removed("contacts", row_id)
        self.source.token()

        def done() -> int:
            return 1 - len(self.world.rows("contact", contactid=row_id))

        def again() -> object:
            found = self._sent((op,))
            return None if isinstance(found, Gone) else found

        return Operation(lambda: self._sent((op,)), again, done)

    def closing(self, action: str, reason: int) -> Operation:
        row_id = self.deal()
        activity = {
            "subject": "Co-sell",
            "opportunityid@odata.bind": odata.bind("opportunities", row_id),
        }
        op = Op("POST", action, {"Status": reason, "OpportunityClose": activity})
        self.source.token()
        return writing_operation(
            lambda: self._sent((op,)),
            lambda: len(
                [
                    each
                    for each in self.world.rows("opportunityclose")
                    if str(each.get("opportunityid", "")).find(row_id) >= 0
                ]
            ),
        )

    def win(self) -> Operation:
        return self.closing("WinOpportunity", 3)

    def lose(self) -> Operation:
        return self.closing("LoseOpportunity", 4)

    def _batch(self, *, guarded: bool) -> Operation:
        number = self.next()
        if not guarded:
            addresses = [f"batch{number}{at}@customer.example" for at in "ab"]
            groups = [
                (Op("POST", "contacts", {"lastname": "B", "emailaddress1": each}),) for each in addresses
            ]
            self.source.token()

            def made() -> int:
                counts = [len(self.world.rows("contact", emailaddress1=each)) for each in addresses]
                return max(counts) if counts[0] == counts[1] else -1

            return writing_operation(lambda: self._sent(*groups), made)
        ids = [self.contact(), self.contact()]
        phone = f"+49 {number}"

        def act(tags: Sequence[str]) -> object:
            return self._sent(
                *(
                    (dynamics_rest.updated("contacts", row_id, {"telephone1": phone}, tag),)
                    for row_id, tag in zip(ids, tags, strict=True)
                )
            )

        def tags() -> list[str]:
            return [self.etag("contacts", row_id) for row_id in ids]

        def done() -> int:
            return int(all(self.world.get("contact", row_id)["telephone1"] == phone for row_id in ids))

        first = tags()
        return Operation(lambda: act(first), lambda: None if done() else act(tags()), done)

    def batch_guarded(self) -> Operation:
        return self._batch(guarded=True)

    def batch_plain(self) -> Operation:
        return self._batch(guarded=False)


def outcome(operation: Callable[[], object]) -> str:
    """``fine``, or the name of what went wrong."""
    try:
        found = operation()
    except (SalesforceError, Rejected):
        return "Rejected"  # of any kind
    except Exception as error:  # noqa: BLE001 - whatever comes out is the outcome
        return type(error).__name__
    return "fine" if isinstance(found, ENDED) else type(found).__name__
