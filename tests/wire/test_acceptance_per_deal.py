"""What Partner Center asks of every deal, the partner's location and the customer's D-U-N-S number, both ways."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage, staged
from test_acceptance_people import known_customer
from test_acceptance_sharing import opportunity

from cosell_sync.sandbox.systems import Sandbox
from cosell_sync.settings.value_lists import fiscal_year_began

pytestmark = pytest.mark.wire
NUMBER = "315000001"
ASKED = {
    "CustomerMarketplaceIntent": "marketplace_intent",
    "PartnerRole": "partner_role",
    "SolutionArea": "solution_area",
    "SolutionPlay": "solution_play",
}


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path, crm)


def attributes(document: dict[str, Any]) -> dict[str, str]:
    listed = document["details"]["requirements"]["additionalRequirements"]["attributes"]
    return {each["type"]: each["id"] for each in listed}


def inbound(stage: Stage, said: dict[str, str], **more: Any) -> dict[str, Any]:
    pairs = [{"type": name, "id": id_} for name, id_ in said.items()]
    details = {"requirements": {"additionalRequirements": {"attributes": pairs}}}
    made: dict[str, Any] = stage.add(details=details, **more)
    return made


def shared(stage: Stage, deal: str) -> dict[str, Any]:
    """The referral of an opportunity."""
    made: dict[str, Any] = stage.referral(stage.crm.get("opportunity", deal)["referral_id"])
    return made


def test_an_inbound_deal_shows_what_was_said(stage: Stage) -> None:
    said = {"CustomerMarketplaceIntent": "HaveNotDecided", "PartnerRole": "Reseller", "SolutionArea": "Security", "SolutionPlay": "P 7"}  # fmt: skip
    deal = inbound(stage, said, mpnId="4100001", customerProfile={"name": "Numbered AG", "ids": [{"profileType": "Duns", "id": "31-500-0001"}]})  # fmt: skip
    stage.sync()
    row = stage.deal(deal)
    assert {name: row[word] for name, word in ASKED.items()} == {
        **said,
        "CustomerMarketplaceIntent": "Have not decided",
    }
    assert row["location"] == "4100001"
    assert stage.crm.get("account", row["account"])["duns"] == NUMBER
    stage.quiet()
    stage.pc.edit(deal["id"], "details/requirements/additionalRequirements/attributes", [{"type": "SolutionArea", "id": "Data"}])  # fmt: skip
    stage.sync()
    assert {stage.deal(deal)[word] for word in ASKED.values()} == {"Data", None}
    stage.quiet()


def test_an_answer_that_no_list_knows_sinks_no_deal(stage: Stage) -> None:
    """Salesforce shows it; Dynamics holds choices as numbers, so the record tells it."""
    deal = inbound(stage, {"CustomerMarketplaceIntent": "MaybeLater", "SolutionArea": "Security"})
    stage.sync()
    stage.sync()
    row = stage.deal(deal)
    assert row["solution_area"] == "Security"
    if stage.crm.name == "salesforce" or stage.sandbox.crm == "salesforce":
        assert row["marketplace_intent"] == "MaybeLater"
    else:
        assert row["marketplace_intent"] is None
        assert "MaybeLater" in row["message"]
        assert "Ask your administrator to add it." in row["message"]
    assert row["sync_state"] == "In sync"
    stage.seller(deal, value=85000)
    stage.sync()
    assert stage.referral(deal)["details"]["dealValue"] == 85000
    stage.quiet()


def test_a_deal_of_ones_own_carries_what_the_seller_chose(stage: Stage) -> None:
    deal = opportunity(
        stage, marketplace_intent="Yes", partner_role="Reseller", solution_area="Security", location="4100007"
    )
    stage.crm.edit("account", stage.crm.get("opportunity", deal)["account"], duns="31 500-0001")
    stage.sync(COSELL_MAPPING__DEAL_ATTRIBUTES='{"SolutionArea": "Data", "SolutionPlay": "P 7"}')
    made = shared(stage, deal)
    assert attributes(made) == {
        "CustomerMarketplaceIntent": "Yes",
        "PartnerRole": "Reseller",
        "SolutionArea": "Security",
        "SolutionPlay": "P 7",
    }
    assert made["mpnId"] == "4100007"
    assert made["customerProfile"]["ids"] == [{"profileType": "Duns", "id": NUMBER}]
    stage.sync()
    assert stage.crm.get("opportunity", deal)["solution_play"] == "P 7", (
        "the record shows what Microsoft was told"
    )
    stage.quiet()
    stage.crm.edit("opportunity", deal, solution_area="Data", value=85000)
    stage.sync()
    record = stage.crm.get("opportunity", deal)
    assert "once a deal exists" in record["message"]
    assert (record["solution_area"], record["sync_state"]) == ("Data", "In sync")
    assert (attributes(shared(stage, deal))["SolutionArea"], shared(stage, deal)["details"]["dealValue"]) == ("Security", 85000)  # fmt: skip
    stage.quiet()


def test_the_configuration_answers_where_the_seller_left_it_empty(stage: Stage) -> None:
    deal = opportunity(stage)
    settings = {"COSELL_MAPPING__LOCATION": "4100009", "COSELL_MAPPING__MARKETPLACE_INTENT": "No"}
    stage.sync(**settings)
    stage.sync(**settings)
    assert (attributes(shared(stage, deal)), shared(stage, deal)["mpnId"]) == ({"CustomerMarketplaceIntent": "No"}, "4100009")  # fmt: skip
    record = stage.crm.get("opportunity", deal)
    assert (record["marketplace_intent"], record["location"], record["partner_role"]) == (
        "No",
        "4100009",
        None,
    )
    stage.quiet(**settings)


def test_what_is_no_duns_number_is_told_and_never_sent(stage: Stage) -> None:
    deal = opportunity(stage)
    account = stage.crm.get("opportunity", deal)["account"]
    stage.crm.edit("account", account, duns="31500001")
    stage.sync(expect=1)
    record = stage.crm.get("opportunity", deal)
    assert (record["referral_id"], record["sync_state"]) == (None, "Needs attention")
    assert "(nine digits, or empty)" in record["message"]
    stage.crm.edit("account", account, duns="31500 0001")
    stage.sync()
    assert shared(stage, deal)["customerProfile"]["ids"] == [{"profileType": "Duns", "id": NUMBER}]


def test_a_shared_account_keeps_its_own_number(stage: Stage) -> None:
    account, customer = known_customer(stage, "Contoso AG")
    stage.crm.edit("account", account, duns="079000002")
    deal = stage.add(customerProfile={**customer, "ids": [{"profileType": "Duns", "id": NUMBER}]})
    stage.sync()
    stage.sync()
    row = stage.deal(deal)
    assert (row["account"], stage.crm.get("account", account)["duns"]) == (account, "079000002")
    assert NUMBER in row["message"]
    assert "079000002" in row["message"]
    stage.quiet()


def test_a_blank_number_of_an_account_is_filled(stage: Stage) -> None:
    account, customer = known_customer(stage, "Contoso AG")
    deal = stage.add(customerProfile={**customer, "ids": [{"profileType": "Duns", "id": NUMBER}]})
    stage.sync()
    stage.sync()
    assert (stage.deal(deal)["account"], stage.crm.get("account", account)["duns"]) == (account, NUMBER)
    stage.quiet()


def test_the_location_decides_on_the_owner(stage: Stage) -> None:
    ida = "ida.kern@nordlicht.example"
    settings = {
        "COSELL_MAPPING__OWNER_BY_LOCATION": f'{{"4100001": "{ida}"}}',
        "COSELL_MAPPING__OWNER": "default",
    }
    here, there = stage.add(mpnId="4100001"), stage.add(mpnId="4100002")
    stage.sync(**settings)
    assert stage.deal(here)["owner"] == stage.user(ida)
    assert stage.deal(there)["owner"] != stage.user(ida)


def earlier(tmp_path: Path, crm: str) -> Iterator[Stage]:
    """A CRM that an earlier version of the product set up."""
    with Sandbox(crm=crm, of_earlier_version=True) as sandbox:
        sandbox.dynamics.closed_rows_writable = True
        yield Stage(sandbox, tmp_path, {"COSELL_DYNAMICS__CLOSED_ROWS": "true"} if crm == "dynamics" else {})


def test_without_the_columns_everything_goes_on_until_they_are_made(tmp_path: Path, crm: str) -> None:
    """And then what was said already is shown."""
    for stage in earlier(tmp_path, crm):
        said = {"CustomerMarketplaceIntent": "Yes", "SolutionArea": "Security"}
        deal = inbound(stage, said, mpnId="4100001", customerProfile={"name": "Numbered AG", "ids": [{"profileType": "Duns", "id": NUMBER}]})  # fmt: skip
        mine = opportunity(stage)
        stage.sync()
        stage.seller(deal, value=85000)
        stage.sync()
        assert stage.referral(deal)["details"]["dealValue"] == 85000
        assert attributes(shared(stage, mine)) == {"CustomerMarketplaceIntent": "HaveNotDecided"}
        stage.quiet()
        checks = stage.cosell("doctor", "--json").json()["checks"]
        lacking = [each for each in checks if each["status"] == "warning" and "provision" in each["todo"]]
        assert len(lacking) == 6
        assert stage.cosell("provision", "--json").json()["changed"]
        stage.sync()
        row = stage.deal(deal)
        assert (row["marketplace_intent"], row["solution_area"], row["location"]) == (
            "Yes",
            "Security",
            "4100001",
        )
        assert stage.crm.get("account", row["account"])["duns"] == NUMBER
        assert stage.crm.get("opportunity", mine)["marketplace_intent"] == "Have not decided"
        stage.quiet()


def test_doctor_names_lists_of_last_year(stage: Stage) -> None:
    began = fiscal_year_began(stage.sandbox.clock().date())
    lists = stage.home / "lists.yaml"
    text = "marketplace_intent: {{type: CustomerMarketplaceIntent, valid_from: {day}, values: [{{id: 'Yes', label: 'Ja'}}]}}\n"

    def row(name: str, **env: str) -> dict[str, str]:
        checks = stage.cosell("doctor", "--json", **env).json()["checks"]
        return next(each for each in checks if each["name"] == f"value_lists.{name}")

    for day, status in ((began, "warning"), (began - timedelta(days=1), "warning")):
        lists.write_text(text.format(day=day))
        found = row("marketplace_intent", COSELL_MAPPING__VALUE_LISTS=str(lists))
        assert found["status"] == status
        assert str(lists) in found["todo"]
        words = "none of its ids" if day == began else f"fiscal year began on {began}"
        assert words in found["message"]
    lists.write_text(text.format(day=began))
    env = {"COSELL_MAPPING__VALUE_LISTS": str(lists), "COSELL_MAPPING__MARKETPLACE_INTENT": "Yes"}
    assert row("marketplace_intent", **env)["status"] == "ok"
    assert "could not be obtained" in row("solution_play", **env)["message"]
    wrong = stage.cosell("doctor", expect=2, COSELL_MAPPING__VALUE_LISTS=str(stage.home / "none.yaml"))
    assert "mapping.value_lists" in wrong.sentences
    assert "cannot read" in wrong.sentences
