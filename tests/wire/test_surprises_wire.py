"""What is taken away from a running program, on the real wire and in both CRMs: it stops, says what, and goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from wired_program import CRMS, WiredProgram, cycle, wired_program

from cosell_sync.core.deal import Side
from cosell_sync.core.memory import Link, Phase
from cosell_sync.errors import AuthFailed, OutsideError, Surprise, Unavailable
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY

pytestmark = pytest.mark.wire

VALUE = {"salesforce": "Amount", "dynamics": "estimatedvalue"}
MESSAGE = {"salesforce": "Cosell_Message__c", "dynamics": "cosell_message"}
KEY = {"salesforce": "Cosell_Referral_Id__c", "dynamics": "cosell_referralid"}


def hide(play: WiredProgram, column: str) -> None:
    if play.sandbox.crm == "salesforce":
        play.org.hide_field("Opportunity", column)
    else:
        play.org.remove_column("opportunity", column)


@pytest.mark.parametrize("crm", CRMS)
@pytest.mark.parametrize("columns", [VALUE, MESSAGE, KEY], ids=["mapped", "ours", "key"])
def test_a_field_that_is_taken_away_stops_the_running_program(
    tmp_path: Path, crm: str, columns: dict[str, str]
) -> None:
    """Deleted, or hidden from the integration user, which is the same to see. Once it is back, all goes on."""
    with wired_program(tmp_path, crm, deals=6) as play, play.process() as wired:
        cycle(wired)
        cycle(wired)
        whole = play.org._org.schema
        hide(play, columns[crm])
        if (
            crm == "dynamics"
        ):  # a delta link names no columns, so nothing is refused: the daily look at the org finds it
            wired.crm.forget_shape()
        edited = play.sandbox.partner_center.ours()[0]
        for server in play.servers:
            server.calls.clear()
        lost: list[object] = []
        for _ in range(3):
            with pytest.raises(Surprise) as caught:
                cycle(wired)
            lost.append(caught.value.facts.get("lost") or caught.value.facts.get("field"))
        assert lost[-1], "it says what is missing"
        assert play.mutations() == 0
        play.org._org.schema = whole
        for _ in range(2):  # one refused query may have been asked with the old idea of the org
            try:
                ended = cycle(wired)
            except Surprise:
                continue
        assert ended.exit_code in {NEEDS_NOBODY, NEEDS_A_PERSON}
        assert edited["id"] in {link.referral_id for link in wired.store.links()}


@pytest.mark.parametrize("crm", CRMS)
def test_a_field_that_is_gone_for_good_is_accepted_once(tmp_path: Path, crm: str) -> None:
    with wired_program(tmp_path, crm, deals=6) as play:
        with play.process() as wired:
            cycle(wired)
        hide(play, VALUE[crm])
        with play.process() as wired:
            with pytest.raises(Surprise, match="field"):
                cycle(wired)
            cycle(wired, accept=True)
            cycle(wired)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("crm", CRMS)
def test_without_its_role_in_partner_center_nothing_is_written(tmp_path: Path, crm: str, status: int) -> None:
    with wired_program(tmp_path, crm, deals=6) as play, play.process() as wired:
        cycle(wired)
        cycle(wired)
        for server in play.servers:
            server.calls.clear()
        play.servers[0].faults.answer(
            status, {"code": "accessDenied", "message": "no"}, path="/v1.0/engagements/referrals", times=None
        )
        for _ in range(2):
            with pytest.raises(OutsideError) as caught:
                cycle(wired)
            assert isinstance(caught.value, Unavailable | AuthFailed)
        assert play.mutations() == 0
        assert not any(link.memory.gone for link in wired.store.links())
        play.servers[0].faults.clear()
        cycle(wired)


def linked(wired: object) -> list[Link]:
    return list(wired.store.links([Phase.LINKED]))  # type: ignore[attr-defined]


@pytest.mark.parametrize("crm", CRMS)
def test_a_deleted_opportunity_asks_while_its_deal_is_open_and_touches_nothing(
    tmp_path: Path, crm: str
) -> None:
    """The referral stays as it is; when the deal ends in Partner Center, nobody need be asked any more."""
    with wired_program(tmp_path, crm) as play, play.process() as wired:
        deal = play.sandbox.partner_center.add(
            "inbound_accepted", details={"currency": "EUR", "dealValue": 84000}
        )
        cycle(wired)
        cycle(wired)
        (link,) = linked(wired)
        before = play.sandbox.partner_center.get(deal["id"])
        play.org.delete(play.opportunity, link.opportunity_id)
        assert [cycle(wired).exit_code for _ in range(3)][1:] == [NEEDS_A_PERSON] * 2
        assert linked(wired)[0].memory.gone is Side.CRM
        assert play.sandbox.partner_center.get(deal["id"]) == before
        if crm == "salesforce":  # Dataverse has no bin that people could restore from
            play.org.undelete(play.opportunity, link.opportunity_id)
            assert [cycle(wired).exit_code for _ in range(2)][1] == NEEDS_NOBODY
            play.org.delete(play.opportunity, link.opportunity_id)
            cycle(wired)
            play.org.purge(play.opportunity, link.opportunity_id)
            assert [cycle(wired).exit_code for _ in range(2)][1] == NEEDS_A_PERSON
        play.sandbox.partner_center.lose(deal["id"])
        assert [cycle(wired).exit_code for _ in range(2)][1] == NEEDS_NOBODY
        assert len(play.org.rows(play.opportunity)) == 0, "nothing is made anew"
