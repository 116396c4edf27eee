"""Webhooks end to end: registered by the command, signed and sent by the sandbox, carried into the CRM within seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, staged, waited
from test_acceptance_daemon import Daemon, running

pytestmark = pytest.mark.wire


@pytest.fixture
def stage(tmp_path: Path, crm: str) -> Iterator[Stage]:
    for stage in staged(tmp_path, crm):
        # So seldom does it poll that whatever arrives was told by an event.
        stage.env.update(COSELL_SYNC__INTERVAL="1h", COSELL_WEBHOOKS__ENABLED="true")
        stage.env["COSELL_WEBHOOKS__PUBLIC_URL"] = "http://127.0.0.1:9"
        yield stage


def listening(stage: Stage, daemon: Daemon) -> None:
    """Register the daemon's address, as an admin does once it is reached."""
    waited(lambda: daemon.get("/livez"), "the listener", process=daemon.process)
    daemon.wait_ready()
    stage.env["COSELL_WEBHOOKS__PUBLIC_URL"] = daemon.url
    stage.cosell("webhooks", "register", process=True)


def answered(stage: Stage) -> list[int]:
    return [each.status for each in stage.pc.webhooks.deliveries]


def test_an_edit_at_microsoft_is_carried_within_seconds_and_mischief_harms_nothing(stage: Stage) -> None:
    with running(stage) as daemon:
        listening(stage, daemon)
        deal = stage.add()
        waited(lambda: stage.deals(deal), "the new deal", process=daemon.process)
        stage.pc.edit(deal["id"], "campaignId", "HINTED")
        waited(
            lambda: stage.deal(deal)["campaign_id"] == "HINTED", "the portal's edit", process=daemon.process
        )
        # Microsoft's answer is told of its own referral; the deal is found by it.
        cosell = stage.add("cosell")
        waited(lambda: stage.deals(cosell), "the co-sell deal", process=daemon.process)
        waited(
            lambda: stage.deal(cosell)["microsoft_status"] == "New / Pending",
            "Microsoft's side",
            process=daemon.process,
        )
        stage.pc.microsoft_answers(cosell["engagementId"], "Active", "Accepted")
        waited(
            lambda: stage.deal(cosell)["microsoft_status"] == "Active / Accepted",
            "Microsoft's answer",
            process=daemon.process,
        )
        hooks = stage.pc.webhooks
        waited(hooks.idle, "the answers", process=daemon.process)
        assert set(answered(stage)) == {202}
        # A forged or changed event is refused, ten times, and wakes nobody.
        before = daemon.log.read_text().count('"webhook.received"')
        for mischief in ("forged", "tampered"):
            setattr(hooks.mischief, mischief, True)
            stage.pc.edit(deal["id"], "campaignId", mischief)
            waited(hooks.idle, mischief, process=daemon.process)
            assert answered(stage)[-10:] == [401] * 10
            setattr(hooks.mischief, mischief, False)
            hooks.deliveries.clear()
        assert daemon.log.read_text().count('"webhook.received"') == before
        # Doubled, in the wrong order, said again: the last state is carried once.
        hooks.mischief.copies, hooks.mischief.backwards = 3, True
        for value in ("A", "B", "C"):
            stage.pc.edit(deal["id"], "campaignId", value)
        assert hooks.release() == 3
        waited(lambda: stage.deal(deal)["campaign_id"] == "C", "the last edit", process=daemon.process)
        daemon.stop()
    log = [json.loads(line) for line in daemon.log.read_text().splitlines() if line.startswith("{")]
    assert {line["status"] for line in log if line["event"] == "webhook.refused"} == {401}
    kinds = {line["kind"] for line in log if line["event"] == "webhook.received"}
    assert kinds >= {"referral-updated", "related-referral-updated"}
    assert stage.pc.violations == []


@pytest.mark.parametrize("crm", ["salesforce"], indirect=True)
def test_the_registration_is_made_tested_and_never_taken_from_another(stage: Stage) -> None:
    assert stage.cosell("webhooks", "status", expect=1).out.startswith("Nothing is registered")
    assert "Next: cosell-sync webhooks register" in stage.cosell("webhooks", "test", expect=2).sentences
    with running(stage) as daemon:
        listening(stage, daemon)
        found = stage.cosell("webhooks", "status", "--json", process=True).json()
        assert (found["ours"], found["registered"]["url"]) == (True, f"{daemon.url}/webhooks/partner-center")
        assert json.loads(stage.cosell("webhooks", "test", "--json", process=True).out)["accepted"] is True
        daemon.stop()
    registration = stage.pc.webhooks.registration
    stage.env["COSELL_WEBHOOKS__PUBLIC_URL"] = "https://other.example"
    refused = stage.cosell("webhooks", "register", expect=2)
    assert "--force" in refused.sentences
    assert daemon.url in refused.sentences
    assert stage.pc.webhooks.registration == registration
    assert "--force" in stage.cosell("webhooks", "unregister", expect=2).sentences
    stage.cosell("webhooks", "register", "--force")
    stage.cosell("webhooks", "unregister")
    assert stage.pc.webhooks.registration["WebhookEvents"] == []
    assert stage.cosell("webhooks", "status", expect=1).out
    assert "gets no test events" in stage.cosell("webhooks", "test", expect=2).sentences
