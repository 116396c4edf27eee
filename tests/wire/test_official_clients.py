"""Checked against what is not ours: Microsoft's own client drives the served Dataverse; an OData server judges our client.

Both come with the dependency group `judges` (see `odata_validator` for what the judge can see and what not). Where they are
not installed the tests are skipped, but never in CI.
"""
# ruff: noqa: E402  (whether the imports can be made is looked at first)

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pytest

MISSING = [each for each in ("odatapy", "PowerPlatform", "azure") if importlib.util.find_spec(each) is None]
if MISSING and not os.environ.get("CI"):
    pytest.skip("needs the dependency group `judges`: uv sync --group judges", allow_module_level=True)

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import ClientSecretCredential
from odata_validator import Judge
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError
from PowerPlatform.Dataverse.models.upsert import UpsertItem

from cosell_sync import settings
from cosell_sync.bootstrap.program import program
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.sandbox.clock import Clock
from cosell_sync.sandbox.dataverse.auth import CLIENT_ID, CLIENT_SECRET
from cosell_sync.sandbox.dataverse.service import ROOT, Dataverse
from cosell_sync.sandbox.demo.story import Story
from cosell_sync.sandbox.exchange import Call
from cosell_sync.sandbox.systems import Sandbox

pytestmark = pytest.mark.judges
REFERRAL = "7d1c9f30-0000-4000-8000-000000000001"

# --- Microsoft's client against what we serve ---------------------------------------------------------------------


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    with Sandbox(crm="dynamics") as served:
        trusted = served.environment(tmp_path)["REQUESTS_CA_BUNDLE"]
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", trusted)
        yield served


@pytest.fixture
def org(sandbox: Sandbox) -> Dataverse:
    return sandbox.dynamics


def credential(sandbox: Sandbox, secret: str = CLIENT_SECRET) -> ClientSecretCredential:
    return ClientSecretCredential(
        sandbox.dynamics.entra.tenant,
        CLIENT_ID,
        secret,
        authority=sandbox.dynamics_server.url,
        disable_instance_discovery=True,
    )


@pytest.fixture
def sdk(sandbox: Sandbox) -> Iterator[DataverseClient]:
    with DataverseClient(sandbox.dynamics_server.url, credential(sandbox)) as client:
        yield client


def deals(org: Dataverse, number: int) -> list[str]:
    return [org.create("opportunity", name=f"Deal {at}", estimatedvalue=at * 1000) for at in range(number)]


def test_a_row_is_made_read_changed_and_removed(sdk: DataverseClient, org: Dataverse) -> None:
    account = sdk.records.create("account", {"name": "Fjord AS"})
    deal = sdk.records.create(
        "opportunity",
        {"name": "Deal", "estimatedvalue": 90000, "parentaccountid@odata.bind": f"/accounts({account})"},
    )
    read = sdk.records.retrieve(
        "opportunity", deal, select=["name", "estimatedvalue", "_parentaccountid_value"]
    )
    assert read is not None
    assert (read["name"], read["estimatedvalue"], read["_parentaccountid_value"]) == ("Deal", 90000, account)
    sdk.records.update("opportunity", deal, {"name": "Another"})
    assert org.get("opportunity", deal)["name"] == "Another"
    sdk.records.delete("opportunity", deal)
    assert sdk.records.retrieve("opportunity", deal) is None
    assert org.rows("opportunity") == []


def test_a_choice_is_written_by_its_label(sdk: DataverseClient, org: Dataverse) -> None:
    """The client looks the label up in the column's metadata."""
    (deal,) = deals(org, 1)
    sdk.records.update("opportunity", deal, {"cosell_action": "Decline", "salesstage": "Propose"})
    row = org.get("opportunity", deal)
    assert (row["cosell_action"], row["salesstage"]) == ("Decline", "Propose")


def test_an_upsert_by_alternate_key_makes_one_row_and_then_changes_it(
    sdk: DataverseClient, org: Dataverse
) -> None:
    for name in ("First", "Second"):
        sdk.records.upsert("opportunity", [UpsertItem({"cosell_referralid": REFERRAL}, {"name": name})])
    assert [(row["name"], row["cosell_referralid"]) for row in org.rows("opportunity")] == [
        ("Second", REFERRAL)
    ]


def test_a_query_is_filtered_ordered_and_paged(sdk: DataverseClient, sandbox: Sandbox) -> None:
    deals(sandbox.dynamics, 7)
    pages = list(
        sdk.records.list_pages(
            "opportunity",
            filter="estimatedvalue ge 1000 and statecode eq 0",
            select=["name", "estimatedvalue"],
            orderby=["estimatedvalue desc"],
            page_size=4,
        )
    )
    assert [[row["name"] for row in page] for page in pages] == [
        ["Deal 6", "Deal 5", "Deal 4", "Deal 3"],
        ["Deal 2", "Deal 1"],
    ]
    assert len(sandbox.dynamics_server.calls.matching("GET", "/opportunities$")) == 2


def test_a_query_built_by_the_client_keeps_quotes(sdk: DataverseClient, org: Dataverse) -> None:
    org.create("opportunity", name="O'Hara & Söhne")
    found = sdk.records.list("opportunity", filter="name eq 'O''Hara & Söhne'", select=["name"])
    assert [row["name"] for row in found] == ["O'Hara & Söhne"]


def test_a_change_set_lands_as_a_whole_or_not_at_all(sdk: DataverseClient, org: Dataverse) -> None:
    def batch(second: dict[str, Any]) -> Any:
        request = sdk.batch.new()
        with request.changeset() as changes:
            changes.records.create("opportunity", {"name": "One"})
            changes.records.create("opportunity", second)
        return request.execute()

    assert batch({"name": "x" * 301}).has_errors
    assert org.rows("opportunity") == []
    assert not batch({"name": "Two"}).has_errors
    assert [row["name"] for row in org.rows("opportunity")] == ["One", "Two"]


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda sdk, deal: sdk.records.list("opportunity", filter="name eq"), 400),
        (lambda sdk, deal: sdk.records.list("opportunity", filter="nme eq 'a'"), 400),
        (lambda sdk, deal: sdk.records.update("opportunity", deal, {"nme": "a"}), 400),
        (lambda sdk, deal: sdk.records.update("opportunity", deal, {"statecode": 1}), 400),
        (lambda sdk, deal: sdk.records.update("opportunity", str(uuid4()), {"name": "a"}), 404),
        (lambda sdk, deal: sdk.records.delete("opportunity", str(uuid4())), 404),
    ],
)
def test_what_is_wrong_is_refused_in_the_shape_that_the_client_knows(
    sdk: DataverseClient, org: Dataverse, ask: Callable[[DataverseClient, str], object], status: int
) -> None:
    (deal,) = deals(org, 1)
    before = org.snapshot()["opportunity"]
    with pytest.raises(HttpError) as refused:
        ask(sdk, deal)
    assert refused.value.status_code == status
    assert str(refused.value.details["service_error_code"]).startswith("0x")
    assert org.snapshot()["opportunity"] == before


def test_a_limit_is_told_with_its_code_and_its_pause(sdk: DataverseClient, org: Dataverse) -> None:
    (deal,) = deals(org, 1)
    sdk.records.retrieve("opportunity", deal)
    org.throttle("time", retry_after=7)
    with pytest.raises(HttpError) as refused:
        sdk.records.retrieve("opportunity", deal)
    told = refused.value
    assert (told.status_code, told.is_transient) == (429, True)
    assert (told.details["service_error_code"], told.details["retry_after"]) == ("0x80072321", 7)


def test_a_wrong_secret_is_refused_as_entra_does(sandbox: Sandbox) -> None:
    with (
        DataverseClient(sandbox.dynamics_server.url, credential(sandbox, "wrong")) as client,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        client.records.list("opportunity")


# --- an OData server over what our client sends -------------------------------------------------------------------


def played(home: Path, monkeypatch: pytest.MonkeyPatch, *, tracking: bool) -> list[Call]:
    """Everything that our adapter asked of Dataverse while the demo's story was played, and a full compare after it."""
    clock = Clock()
    with Sandbox(deals=30, clock=clock, crm="dynamics") as sandbox:
        org = sandbox.dynamics
        org.strict_spaces = True
        org.page_size = 9
        org.closed_rows_writable = tracking
        for table in ("opportunity", "account", "contact", "connection", "cosell_solution", "systemuser"):
            org.set_change_tracking(table, tracking)
        environment = sandbox.environment(home)
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(name, environment[name])
        configured = settings.load(None, environment)
        with program(configured, clock=clock) as wired, wired.store.lease(configured.sync.interval):
            story = Story(sandbox, clock)
            story.add_missing_deals()
            run_cycle(wired.cycle_services(), "import")
            story.assign_deals()
            for scene in story.scenes():
                scene.play()
                for _ in range(scene.cycles):
                    run_cycle(wired.cycle_services(), uuid4().hex[:8])
            org.expire_delta_tokens()
            clock.advance(configured.sync.full_every * 2)
            run_cycle(wired.cycle_services(), "compare")
        assert sandbox.dynamics_server.errors == []
        return [call for call in sandbox.dynamics_server.calls if call.path.startswith(ROOT)]


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.mark.wire
@pytest.mark.parametrize("tracking", [True, False], ids=["delta links", "polling"])
def test_every_request_of_our_client_is_odata(
    judge: Judge, tracking: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = played(tmp_path, monkeypatch, tracking=tracking)
    objections = [line for call in calls for line in judge.objections(call)]
    assert objections == []
    asked = {
        what: sum(1 for each in judge.seen if test(*each[:3], each[4]))
        for what, test in {
            "filters": lambda method, path, query, tag: "$filter=" in query,
            "expands": lambda method, path, query, tag: "$expand=" in query,
            "orders": lambda method, path, query, tag: "$orderby=" in query,
            "next pages": lambda method, path, query, tag: "$skiptoken=" in query,
            "delta links": lambda method, path, query, tag: "$deltatoken=" in query,
            "guarded writes": lambda method, path, query, tag: bool(tag) and method == "PATCH",
            "rows made": lambda method, path, query, tag: method == "POST",
            "rows removed": lambda method, path, query, tag: method == "DELETE",
            "by alternate key": lambda method, path, query, tag: "(cosell_referralid=" in path,
            "actions": lambda method, path, query, tag: path.endswith("Opportunity"),
        }.items()
    }
    print(f"{len(judge.seen)} distinct requests: {asked}")
    # A judge who was shown nothing has nothing to object to.
    assert {what for what, number in asked.items() if not number} == (set() if tracking else {"delta links"})
    # Names with quotes were among them.
    assert any("O''Hara" in unquote(each[2]) for each in judge.seen)


ROW = "opportunities(7d1c9f30-0000-4000-8000-000000000001)"


@pytest.mark.parametrize(
    ("request_", "objection"),
    [
        (("GET", "opportunities", "$filter=name%20eq"), "Unexpected end"),
        (("GET", "opportunities", "$filter=name eq 'O'Hara'"), "Unterminated string"),
        (("GET", "opportunities", "$filter=nme eq 'a'"), "'nme'"),
        (("GET", "opportunities", "$filter=estimatedvalue eq 'a'"), "cannot compare"),
        (("GET", "opportunities", "$filter=modifiedon ge 2026-11-22"), "cannot compare"),
        (("GET", "opportunities", "$select=nme"), "'nme'"),
        (("GET", "opportunities", "$expand=nme"), "nme"),
        (("GET", "opportunities", "$orderby=name upwards"), ""),
        (("GET", "opportunities", "$skiptoken="), "$skiptoken"),
        (("GET", "opportunity", ""), "opportunity"),
        (("GET", "opportunities(nme='a')", ""), "'nme'"),
        (("GET", "opportunities('a')", ""), "Edm.Guid"),
        (("PATCH", "opportunities", "", {}, b'{"name":"a"}'), "not allowed"),
        (("PATCH", ROW, "", {"If-Match": "1000"}, b'{"name":"a"}'), "no entity tag"),
        (("GET", "opportunities", "", {"Prefer": "odata.pagesize=5"}), "no such preference"),
        (("GET", "opportunities", "", {"Prefer": "odata.maxpagesize=five"}), "no number"),
        (("PATCH", ROW, "", {}, b'{"nme":"a"}'), "'nme'"),
        (("PATCH", ROW, "", {}, b'{"name":1}'), "name"),
        (("PATCH", ROW, "", {}, b'{"parentaccountid@odata.bind":"/accounts"}'), "not allowed"),
        (("PATCH", ROW, "", {}, f'{{"parentaccountid@odata.bind":"/{ROW}"}}'.encode()), "leads to"),
        (("PATCH", ROW, "", {}, f'{{"accountid_@odata.bind":"/{ROW}"}}'.encode()), "no navigation property"),
        (("POST", "WinOpportunity", "", {}, b'{"OpportunityClose":{"subject":"a"}}'), "Status"),
        (("POST", "WinOpportunity", "", {}, b'{"Status":3,"OpportunityClose":{"sbject":"a"}}'), "'sbject'"),
    ],
)  # fmt: skip
def test_the_judge_objects_to_what_is_no_odata(
    judge: Judge, request_: tuple[Any, ...], objection: str
) -> None:
    (found,) = judge.request(*request_)
    assert objection in found


@pytest.mark.parametrize(
    ("body", "objection"),
    [
        (b"--b\r\nContent-Type: application/http\r\n\r\nGET opportunities HTTP/1.1\r\n\r\n\r\n", "closing boundary"),
        (b"--b\r\nContent-Type: text/plain\r\n\r\nGET opportunities HTTP/1.1\r\n\r\n\r\n--b--", "application/http"),
        (b"--b\r\nContent-Type: application/http\r\n\r\nGET opportunities?$select=nme HTTP/1.1\r\n\r\n\r\n--b--", "'nme'"),
    ],
)  # fmt: skip
def test_the_judge_objects_to_a_broken_batch(judge: Judge, body: bytes, objection: str) -> None:
    call = Call("POST", f"{ROOT}$batch", "", 200, {"content-type": "multipart/mixed; boundary=b"}, body)
    (found,) = judge.objections(call)
    assert objection in found
