"""Every endpoint with every fault, on the wire: what comes of it, how often it is tried, and that nothing sticks.

Each cell is played with the fault striking once and striking every time. In every cell: ``Retry-After`` is never undercut,
a write of unknown fate is not sent again, what was to be made exists at most once, no token reaches another host, no log
line shows a token or another system's words, and after the fault the next attempt works.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import structlog
from fault_clients import (
    TEXT,
    DynamicsHarness,
    Harness,
    PartnerCenterHarness,
    SalesforceHarness,
    TimedCalls,
    outcome,
)
from fault_table import ENDPOINTS, FAULTS, KINDS, Endpoint, Fault, expected, page

from cosell_sync.sandbox.certificates import Certificates

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "cosell_sync"
UNANSWERED = ("hang", "slow")


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


def opened(kind: type[Harness], certificates: Certificates, home: Path) -> Iterator[Harness]:
    harness = kind(certificates, certificates.write(home / "ca.pem"))
    with harness.server, harness.elsewhere:
        yield harness
    harness.close()
    assert harness.server.errors == []


def cells(system: str) -> list[object]:
    return [
        pytest.param(endpoint, fault, id=f"{endpoint}-{number}-{fault.name}")
        for number, endpoint in enumerate(ENDPOINTS)
        if endpoint.system == system
        for fault in FAULTS
    ]


@pytest.fixture(scope="class")
def harness(
    request: pytest.FixtureRequest, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Harness]:
    yield from opened(request.cls.kind, certificates, tmp_path_factory.mktemp("faults"))


class TestPartnerCenter:
    kind = PartnerCenterHarness

    @pytest.mark.parametrize(("endpoint", "fault"), cells("partner_center"))
    def test_cell(self, harness: Harness, endpoint: Endpoint, fault: Fault) -> None:
        played(harness, endpoint, fault)


class TestSalesforce:
    kind = SalesforceHarness

    @pytest.mark.parametrize(("endpoint", "fault"), cells("salesforce"))
    def test_cell(self, harness: Harness, endpoint: Endpoint, fault: Fault) -> None:
        played(harness, endpoint, fault)


class TestDynamics:
    kind = DynamicsHarness

    @pytest.mark.parametrize(("endpoint", "fault"), cells("dynamics"))
    def test_cell(self, harness: Harness, endpoint: Endpoint, fault: Fault) -> None:
        played(harness, endpoint, fault)


def played(harness: Harness, endpoint: Endpoint, fault: Fault) -> None:
    wanted = expected(endpoint, fault)
    if wanted.tries > 1 or wanted.once != wanted.lasting:
        play(harness, endpoint, fault, wanted.once, {1})
    # An answer that does not come is waited for twice only; a busy machine may not even get there the second time.
    tries = set(range(1, wanted.tries + 1)) if fault.kind in UNANSWERED else {wanted.tries}
    play(harness, endpoint, fault, wanted.lasting, tries, lasting=True)


def play(
    harness: Harness, endpoint: Endpoint, fault: Fault, wanted: str, tries: set[int], *, lasting: bool = False
) -> None:
    harness.renew()
    operation = getattr(harness, endpoint.operation)()
    calls = harness.server.calls
    assert isinstance(calls, TimedCalls)
    calls.clear()
    harness.caught.clear()
    began = harness.clock()
    details = fault.details(endpoint, began, harness.elsewhere.url, TEXT)
    harness.server.faults.add(fault.kind, times=None if lasting else 1, **{**endpoint.match, **details})
    given_up = fault.kind in UNANSWERED
    with structlog.testing.capture_logs() as logs:
        with harness.impatient() if given_up else nullcontext():
            found = outcome(operation.act)
        struck = [number for number, call in enumerate(calls) if call.fault]
        harness.server.faults.clear()
        assert found == wanted
        assert len(struck) in tries, f"tried {len(struck)} times"
        assert operation.done is None or operation.done() in {0, 1}, "done more than once"
        again = outcome(operation.again)
        if fault.after > 120:
            assert again == "Unavailable", "left alone until then"
            harness.clock.sleep(fault.after)
            again = outcome(operation.again)
    assert again == "fine", "the next attempt works"
    assert operation.done is None or operation.done() == 1, "done once in the end"
    not_undercut(calls, struck, fault, began)
    assert harness.caught == [], "nothing goes to another host"
    silent(harness, repr(logs))
    harness.hang_up(given_up=given_up)


def not_undercut(calls: TimedCalls, struck: list[int], fault: Fault, began: datetime) -> None:
    """No call to that host before the moment it named: seconds count from each answer, a date has whole seconds."""
    for number in struck:
        since = began.replace(microsecond=0) if fault.as_date else calls.moments[number]
        asked = since + timedelta(seconds=fault.after)
        assert all(moment >= asked for moment in calls.moments[number + 1 :])


def silent(harness: Harness, logged: str) -> None:
    assert TEXT not in logged
    assert not [secret for secret in harness.secrets() if secret in logged]


# --- the table, the code and the page say the same ---------------------------------------------------------------


def test_the_page_is_the_tables() -> None:
    """``python tests/wire/fault_table.py > docs/faults.md`` writes it anew."""
    assert (ROOT / "docs" / "faults.md").read_text() == page()


def test_every_kind_knows_every_fault() -> None:
    names = {fault.name for fault in FAULTS}
    for kind, outcomes in KINDS.items():
        assert set(outcomes) == names, kind
    assert {name for endpoint in ENDPOINTS for name in endpoint.but} <= names


# What a call to the outside looks like in each package, where its kind of request is chosen.
CALLS = {
    "partner_center": r"caller\.call$|^msal\.\w+Application$|\.acquire_token_by_(device|auth_code)_flow$",
    "crm/salesforce": r"rest\.(call|send|salesforce)$|composite\.(send|exchange)$|caller\.call$",
    "crm/dynamics": r"rest\.(get|sheets|rows|all_rows|together)$|caller\.call$|^msal\.\w+(Application|Client)$|^Op$",
}
# Each place in the code, and the operations that put it to every fault. A new place needs an endpoint in the table.
PLACES = {
    "partner_center/lookup.py": {"read": "one"},
    "partner_center/write.py": {"_post": "create invite", "_send": "patch"},
    # Asked by a person's command, with the same caller and its rules as a list.
    "partner_center/registration.py": {"_call": "listing"},
    "partner_center/login.py": {
        "_client": "login login_by_code", "_device_flow": "login", "_code_flow": "login_by_code",
    },
    "partner_center/paging.py": {"list_page": "listing engagement"},
    "partner_center/signin.py": {"__call__": "sign_in"},
    "crm/salesforce/bulk.py": {
        "_exchanged": "rows_made rows_changed rows_together opportunities_made opportunities_asked solutions_made rows_removed",
    },
    "crm/salesforce/composite.py": {"call": "query_more", "exchange": "query update"},
    "crm/salesforce/describe.py": {"read": "query", "_described": "describe"},
    "crm/salesforce/install/checks.py": {"_describe": "describe", "_cycle": "query"},
    "crm/salesforce/install/permissions.py": {"assign": "assignment", "_grant": "rows_made"},
    "crm/salesforce/install/setup.py": {"_get": "tooling deploy", "has_field": "describe", "_send": "deploy"},
    "crm/salesforce/read.py": {"_deletions": "query", "_removed_members": "deleted"},
    "crm/salesforce/rest.py": {"send": "query describe", "_check_version": "describe"},
    "crm/salesforce/signin.py": {"__call__": "sign_in"},
    "crm/salesforce/write.py": {"_sent": "update update_alone"},
    "crm/dynamics/changes.py": {
        "is_narrow": "tracked", "newest_stamp": "table", "_current_positions": "tracked together", "_follow": "delta together",
    },
    "crm/dynamics/closing.py": {"close": "win lose", "status_writes": "update"},
    "crm/dynamics/create.py": {"_upsert": "create_by_key", "_look_up": "together", "_find_existing": "together"},
    "crm/dynamics/customers.py": {
        "accounts": "row_made", "contacts": "row_made together", "_accounts_by_name": "together", "_of_refused_contacts": "table",
    },
    "crm/dynamics/describe.py": {
        "table_flags": "metadata", "tables_columns": "together", "read": "together", "_roles": "optional",
    },
    "crm/dynamics/install/checks.py": {"_checks": "who", "_tables": "table optional", "_key": "metadata", "_cycle": "together"},
    # The steps of provision go out like any row that is made, and are not played one by one.
    "crm/dynamics/install/deploy.py": {
        **dict.fromkeys(
            ("_solution", "_publisher", "_column", "_table", "_relationship", "_tracked", "_publish",
             "_missing_key", "_known_key"), "row_made",
        ),
        "_await_columns": "metadata",
    },
    "crm/dynamics/install/pages.py": dict.fromkeys(
        ("_view", "_solution_view", "_form", "_solution_form", "_send"), "row_made"
    ),
    "crm/dynamics/install/permissions.py": dict.fromkeys(("_make_role", "_grant", "_assign"), "row_made"),
    "crm/dynamics/install/setup.py": {"get": "metadata"},
    "crm/dynamics/secured.py": {"_opened": "optional"},
    "crm/dynamics/lookups.py": dict.fromkeys(("accounts_by_id", "find", "foreign_accounts", "users"), "together"),
    "crm/dynamics/questions.py": {"_get": "table", "_firsts": "together", "op": "together"},
    "crm/dynamics/read.py": {
        "all_in_scope": "table table_more",
        "_rows": "together",
    },
    "crm/dynamics/related.py": {"_solutions": "row_made", "connection": "row_made"},
    "crm/dynamics/rest.py": {
        "updated": "update", "removed": "row_removed", "_written": "update row_made row_removed win lose", "_batch": "batch_guarded batch_plain",
    },
    "crm/dynamics/signin.py": {"_acquire": "sign_in identity"},
    "crm/dynamics/write.py": {"_send_related": "update row_made row_removed"},
}  # fmt: skip


def test_every_place_that_calls_the_outside_is_in_the_table() -> None:
    found: dict[str, set[str]] = {}
    for package, pattern in CALLS.items():
        for file in (SOURCE / package).rglob("*.py"):
            for function, call in calls_in(ast.parse(file.read_text())):
                if re.search(pattern, call):
                    found.setdefault(file.relative_to(SOURCE).as_posix(), set()).add(function)
    assert {name: set(places) for name, places in PLACES.items()} == found
    operations = {(each.system, each.operation) for each in ENDPOINTS}
    named = {
        (name.removeprefix("crm/").split("/")[0], operation)
        for name, places in PLACES.items()
        for each in places.values()
        for operation in each.split()
    }
    assert named == operations


def calls_in(tree: ast.AST, inside: str = "") -> Iterator[tuple[str, str]]:
    """The outermost function and the text of each call."""
    for node in ast.iter_child_nodes(tree):
        name = inside or (node.name if isinstance(node, ast.FunctionDef) else "")
        if isinstance(node, ast.Call):
            yield name, ast.unparse(node.func)
        yield from calls_in(node, name)
