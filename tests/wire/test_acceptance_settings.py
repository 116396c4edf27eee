"""Before anything is contacted, and when nothing can be: exit codes, what people are told, what a log may hold."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from acceptance import Stage, hidden, staged
from comparison import disagreements

pytestmark = pytest.mark.wire


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Iterator[Stage]:
    yield from staged(tmp_path_factory.mktemp("settings"), crm)


def contacted(stage: Stage) -> bool:
    return any(server.calls for server in stage.servers)


MISTAKES = """
sync: {intervall: 30s, overlap: 5 parsecs}
mapping: {stages: {one: Won}, leads: maybe}
salesforc: {login_url: https://x.example}
partner_center: {webhook_base_url: http://plain.example}
"""


def test_a_wrong_configuration_is_named_at_once_and_nothing_is_contacted(
    stage: Stage, tmp_path: Path
) -> None:
    """Every mistake with its place; an unknown key with the nearest known one."""
    config = tmp_path / "cosell.yaml"
    config.write_text(MISTAKES)
    stage.forget_calls()
    done = stage.cosell("sync", "--config", str(config), expect=2, COSELL_SYNC__FULL_EVRY="1h")
    told = done.sentences
    for key, nearest in (
        ("sync.intervall", "sync.interval"),
        ("mapping.stages.one", "mapping.stages"),
        ("salesforc", "salesforce"),
        ("sync.overlap", "90s"),
        ("mapping.leads", "import"),
        ("partner_center.webhook_base_url", "https"),
        ("sync.full_evry", "COSELL_SYNC__FULL_EVERY"),
    ):
        assert key in told, key
        assert nearest in told, key
    config.write_text("sync: [1, 2\n")
    assert "cosell.yaml" in stage.cosell("sync", "--config", str(config), expect=2).sentences
    assert not contacted(stage)


def test_a_missing_key_is_named_too(stage: Stage) -> None:
    stage.forget_calls()
    address = {"salesforce": "login_url", "dynamics": "url"}[stage.crm.name]
    without = {f"COSELL_{stage.crm.name}__{address}".upper(): ""}
    done = stage.sync(expect=2, COSELL_PARTNER_CENTER__TENANT_ID="", **without)
    assert f"{stage.crm.name}.{address}" in done.sentences
    assert "partner_center.tenant_id" in done.sentences
    assert done.named("cycle.finished") == []
    stage.cosell("sync", "--nonsense", expect=2)
    assert not contacted(stage)


def refused(stage: Stage, which: str) -> tuple[str, str, str]:
    """A sign-in that is refused; the system, the code and what must be checked."""
    if which == "partner center":
        stage.pc.revoke_refresh_tokens()
        return "partner_center", "invalid_grant", "cosell-sync login"
    if which == "client":
        stage.env["COSELL_PARTNER_CENTER__CLIENT_ID"] = "00000000-0000-4000-8000-000000000000"
        return "partner_center", "unauthorized_client", "partner_center.client_id"
    check = {"salesforce": "consumer_key", "dynamics": "client_secret"}[stage.crm.name]
    return stage.crm.name, stage.crm.refuse_sign_in(), check


@pytest.mark.parametrize("which", ["partner center", "client", "crm"])
def test_a_refused_sign_in_names_the_system_the_code_and_what_to_check(
    tmp_path: Path, crm: str, which: str
) -> None:
    for stage in staged(tmp_path, crm):
        deal = stage.add()
        system, code, check = refused(stage, which)
        done = stage.sync(expect=3)
        assert done.finished["created"] == {"partner_center": 0, "crm": 0}
        for word in (system, code, check):
            assert word in done.sentences, done.sentences
        assert stage.mutations() == []
        assert stage.deals(deal) == []


def test_nobody_has_signed_in_yet(tmp_path: Path, crm: str) -> None:
    for stage in staged(tmp_path, crm):
        done = stage.sync(expect=3, COSELL_PARTNER_CENTER__REFRESH_TOKEN="")
        assert "cosell-sync login" in done.sentences
        assert done.named("cycle.finished")


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def test_a_system_out_of_reach_ends_with_three_and_the_next_cycle_goes_on(tmp_path: Path, crm: str) -> None:
    """Both at once, each on a stage of its own, for every try waits a little longer."""
    homes = {name: tmp_path / name for name in ("partner_center", crm)}
    for home in homes.values():
        home.mkdir()
    for one in staged(homes["partner_center"], crm):
        for other in staged(homes[crm], crm):
            for stage in (one, other):
                stage.add()
                stage.sync()
                stage.add()
            one.servers[0].stop()
            other.servers[1].stop()
            processes = [(stage, stage.start("sync")) for stage in (one, other)]
            for stage, process in processes:
                done = stage.finish(process, ("sync",))
                system = "partner_center" if stage is one else crm
                assert done.code == 3, str(done)
                assert system in done.sentences
                assert done.finished["created"]["crm"] == 0
            one.servers[0].start()
            other.servers[1].start()
            for stage in (one, other):
                stage.sync()
                assert disagreements(stage) == []


def test_no_log_at_any_level_holds_what_is_nobodys_business(tmp_path: Path, crm: str) -> None:
    """Debug level through an import, edits of people and notes, a refusal with other systems' words, a lost token."""
    for stage in staged(tmp_path, crm, deals=24):
        stage.env.update(COSELL_LOG__LEVEL="debug", COSELL_SYNC__TERMINAL_HOLD="0s")
        outputs = [stage.sync(expect=1)]
        deal = stage.add(details={"notes": "Ihr Passwort lautet hunter2-geheim"}, name="Visible Secretname")
        bad = stage.add(name="Bad one")
        outputs.append(stage.sync(expect=1))
        person = next(iter(stage.contacts(deal).values()))
        stage.crm.edit("contact", person["id"], phone="+49 30 7654321", last_name="Geheimnisträger")
        stage.seller(deal, notes="Rufen Sie Frau Geheimnisträger unter +49 30 7654321 an", consent=True)
        stage.pc.expire_tokens()
        refusal = {
            "error": {
                "code": "invalidRequest",
                "message": "Frau Geheimnisträger, +49 30 7654321",
                "target": "team",
            }
        }
        stage.servers[0].faults.answer(400, refusal, path=bad["id"], times=None)
        stage.seller(bad, value=3)
        outputs += [stage.sync(expect=1), stage.cosell("plan", "--json"), stage.cosell("doctor", expect=None)]
        log = "\n".join(line for done in outputs for line in done.err.splitlines())
        assert '"level": "debug"' in log
        secrets = {
            **hidden(stage),
            "+49 30 7654321": "phone",
            "Geheimnisträger": "name",
            "hunter2-geheim": "note",
        }
        for text, kind in secrets.items():
            found = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", log)
            assert not found, f"a {kind} in the log: …{log[max(0, found.start() - 200) : found.end() + 50]}…"
        for done in outputs:
            for event in done.events:
                assert {"timestamp", "level", "event"} <= event.keys()
                assert event["timestamp"].endswith("Z")
            if done.args == ("sync",):
                assert {event.get("cycle_id") for event in done.named("cycle.finished")} <= {
                    event.get("cycle_id") for event in done.events
                }
