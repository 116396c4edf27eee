"""Half an answer is no whole one: a list that ends before its end is an outage, never a list with fewer rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters import served_dynamics, served_salesforce
from cosell_sync.crm.dynamics import odata, rest
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.salesforce import bulk, queries
from cosell_sync.crm.salesforce.bulk import Change, Operation
from cosell_sync.crm.values import packed
from cosell_sync.errors import Unavailable
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.exchange import Request, Response


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


class Cut(served_salesforce.World):
    """An org whose answers are changed on the way by ``change``."""

    change: Any = staticmethod(lambda data: data)

    def _serve(self, request: Request) -> Response:
        response = super()._serve(request)
        if isinstance(response.body, (dict, list)) and "/services/data" in request.path:
            response.body = self.change(json.loads(json.dumps(response.body, default=str)))
        return response


@pytest.fixture
def salesforce(certificates: Certificates, tmp_path: Path) -> Iterator[Cut]:
    made = Cut(certificates, certificates.write(tmp_path / "ca.pem"))
    made.server.start()
    yield made
    made.close()


def in_query(**changes: object) -> Any:
    """Changes every result of a query for opportunities inside a composite."""

    def change(data: Any) -> Any:
        for part in data.get("compositeResponse", ()) if isinstance(data, dict) else ():
            body = part["body"]
            rows = body.get("records") if isinstance(body, dict) else None
            if rows and rows[0]["attributes"]["type"] == "Opportunity":
                body.update(changes)
        return data

    return change


def in_roles(**changes: object) -> Any:
    """Changes the sub-select of contact roles in every opportunity."""

    def change(data: Any) -> Any:
        for part in data.get("compositeResponse", ()) if isinstance(data, dict) else ():
            body = part["body"]
            for row in (body.get("records") or ()) if isinstance(body, dict) else ():
                if row.get("OpportunityContactRoles"):
                    row["OpportunityContactRoles"].update(changes)
        return data

    return change


@pytest.mark.parametrize(
    "change",
    [
        in_query(done=False), in_query(done=None), in_query(totalSize=2), in_query(records=None), in_query(records=[None]),
        in_roles(done=False), in_roles(totalSize=2, done=False), in_roles(records=None),
    ],
)  # fmt: skip
def test_a_query_that_ends_before_its_end_is_refused(salesforce: Cut, change: Any) -> None:
    org = salesforce.org
    contact = org.create("Contact", LastName="Lee", Email="ann@x.example")
    deal = salesforce.deal()
    org.create("OpportunityContactRole", OpportunityId=deal, ContactId=contact)
    salesforce.clock.tick()
    crm = salesforce.client()
    assert salesforce.read(crm, deal)["contacts"]
    salesforce.change = change
    with pytest.raises(Unavailable) as caught:
        crm.fetch([deal])
    assert caught.value.code in {"incomplete_list", "unknown_shape"}


def test_a_composite_with_fewer_parts_is_refused(salesforce: Cut) -> None:
    crm = salesforce.client()
    crm.shape()
    salesforce.change = lambda data: (
        {"compositeResponse": data["compositeResponse"][:-1]} if "compositeResponse" in data else data
    )
    with pytest.raises(Unavailable):
        crm.fetch([salesforce.deal()])


def test_a_log_of_deletions_without_its_list_is_refused(salesforce: Cut) -> None:
    crm = salesforce.client()
    salesforce.deal()
    salesforce.pull(crm)

    def without_list(data: Any) -> Any:
        for part in data.get("compositeResponse", ()) if isinstance(data, dict) else ():
            if isinstance(part["body"], dict):
                part["body"].pop("deletedRecords", None)
        return data

    salesforce.change = without_list
    with pytest.raises(Unavailable):
        salesforce.pull(crm)


# --- how much goes into one call ------------------------------------------------------------------------------------


def test_parts_are_cut_by_weight_and_by_number() -> None:
    assert [list(some) for some in packed([5, 5, 1, 9, 1, 1], 3, int, 10)] == [[5, 5], [1, 9], [1, 1]]
    assert [list(some) for some in packed([99], 3, int, 10)] == [[99]]
    assert [list(some) for some in packed([1] * 4, 3, int, 10)] == [[1, 1, 1], [1]]


def test_heavy_rows_make_more_calls(salesforce: Cut) -> None:
    text = "x" * 30_000
    heavy = [
        Change(
            Operation.CREATE, "Opportunity", {"Name": "D", "Cosell_Notes__c": text, "Cosell_Message__c": text}
        )
        for _ in range(100)
    ]
    assert len(bulk.send(salesforce.client().rest, heavy)) == 100
    sizes = [len(each.body) for each in salesforce.org.requests if each.path.endswith("/composite/sobjects")]
    assert len(sizes) == 2
    assert max(sizes) < bulk.BODY * 1.1


def test_a_batch_is_cut_by_its_size() -> None:
    heavy = [(Op("PATCH", "opportunities(1)", {"cosell_notes": "x" * 1_000_000}),) for _ in range(20)]
    assert [len(some) for some in rest._packed(heavy, rest.MOST_PARTS)] == [7, 7, 6]


def test_names_of_any_alphabet_fit_into_an_address() -> None:
    names = [f"{at:03} {'語' * 290}" for at in range(20)] + ["x" * 301]
    parts = list(odata.name_pieces(names))
    assert sum(map(len, parts)) == 20
    for some in parts:
        path = odata.query("accounts", select=("accountid",), where=odata.named("name", some))
        assert len(path) < 30_000
    assert queries.within_limits(["x" * 255, "x" * 256]) == ["x" * 255]


# --- facts of the row, not of the org --------------------------------------------------------------------------------


@pytest.fixture
def environment(certificates: Certificates, tmp_path: Path) -> Iterator[Any]:
    made: list[served_dynamics.World] = []

    def build(**switches: Any) -> served_dynamics.World:
        each = served_dynamics.World(certificates, certificates.write(tmp_path / "ca.pem"), **switches)
        each.server.start()
        made.append(each)
        return each

    yield build
    for each in made:
        each.close()


def test_an_amount_has_the_decimals_of_its_own_currency(environment: Any) -> None:
    shape = environment(base_currency="JPY").client().shape()
    assert [shape.of_currency(code).scale for code in ("USD", "EUR", "JPY")] == [2, 2, 0]


def test_an_amount_has_the_decimals_that_its_column_says(environment: Any) -> None:
    world = environment(base_currency="JPY")
    world.org.change_column("opportunity", "estimatedvalue", precision_source=0, precision=1)
    assert [world.client().shape().of_currency(code).scale for code in ("USD", "JPY")] == [1, 1]
    world.org.change_column("opportunity", "estimatedvalue", precision_source=1)
    assert [world.client().shape().of_currency(code).scale for code in ("USD", "JPY")] == [2, 2]


def test_an_amount_of_dollars_keeps_its_cents_where_the_base_currency_has_none(environment: Any) -> None:
    world = environment(base_currency="JPY")
    crm = world.client()
    draft = served_dynamics.draft("ref-1", value=Decimal("1234.56"), currency="USD")
    (outcome,) = crm.create([draft])
    assert outcome.snapshot is not None
    assert outcome.snapshot["value"] == Decimal("1234.56")


@pytest.mark.parametrize("behavior", ["UserLocal", "TimeZoneIndependent"])
def test_a_close_date_of_another_behavior_is_the_same_day(environment: Any, behavior: str) -> None:
    world = environment()
    world.org.change_column(
        "opportunity", "estimatedclosedate", kind="datetime", behavior=behavior, format="DateOnly"
    )
    crm = world.client()
    (outcome,) = crm.create([served_dynamics.draft("ref-1")])
    assert outcome.error is None
    assert outcome.snapshot is not None
    assert str(outcome.snapshot["close_date"]) == "2027-01-31"
    if behavior == "UserLocal":
        for midnight in ("2027-01-30T11:00:00Z", "2027-01-30T23:00:00Z", "2027-01-31T08:00:00Z"):
            world.org.edit("opportunity", outcome.id, estimatedclosedate=midnight)
            assert str(world.read(crm, str(outcome.id))["close_date"]) == "2027-01-31"
        found = {each.name: each for each in served_dynamics.check(crm)}
        assert found["dynamics.opportunity.estimatedclosedate.behavior"].status == "warning"


def test_a_link_of_the_environments_old_address_is_an_expired_one(environment: Any) -> None:
    """Else the sync would stop for ever after an admin changed the environment's URL."""
    world = environment()
    deal = world.deal()
    crm = world.client()
    world.pull(crm)
    host = world.server.url.partition("//")[2]
    assert host in world.memory.watermark
    world.memory.watermark = world.memory.watermark.replace(host, "old.crm4.dynamics.com")
    world.memory.snapshots.clear()
    assert world.pull(crm)[0] == {deal}
    assert "old.crm4" not in world.memory.watermark
