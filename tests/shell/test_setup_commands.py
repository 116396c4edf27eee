"""From nothing to a configuration that may be right: ``init``, ``config check``, ``health``, with the command itself."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from cosell_sync.cli.main import app
from cosell_sync.errors import ConfigError
from cosell_sync.ports import CycleState, Transaction
from cosell_sync.settings import InvalidSettings, load, required
from cosell_sync.store.open import open_store
from cosell_sync.web.health import Facts
from cosell_sync.web.server import Application, Listener
from shell.test_web import CYCLE, GOOD

TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
SALESFORCE = {
    "partner_center.tenant_id": TENANT,
    "partner_center.client_id": "d3590ed6-52b3-4102-aeff-aad2292ab01c",
    "salesforce.login_url": "https://acme.my.salesforce.com",
    "salesforce.consumer_key": "3MVG9",
}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("COSELL_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*words: str) -> str:
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def assignments(values: dict[str, str]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


@pytest.mark.parametrize("crm", ["salesforce", "dynamics"])
def test_init_writes_an_example_that_loads_and_names_what_is_missing(crm: str) -> None:
    said = run("init", "my.yaml", "--crm", crm)
    assert "tenant_id: 00000000-0000-0000-0000-000000000000" in said
    assert load(Path("my.yaml"), {}).crm == crm
    assert stat.S_IMODE(Path("my.yaml").stat().st_mode) == 0o600
    with pytest.raises(InvalidSettings, match="still holds the example's value"):
        run("config", "check", "--config", "my.yaml")


def test_init_sets_what_it_is_told_and_keeps_the_comments() -> None:
    Path("consumer").write_text("s3cret")
    more = {
        "salesforce.consumer_secret_file": "consumer",
        "sync.interval": "30s",
        "mapping.sales_stages.Id. Decision Makers": "Close",
        "budget.crm": "5000",
    }
    said = run("init", "my.yaml", *assignments({**SALESFORCE, **more}))
    assert "filled in" not in said
    assert "is valid" in run("config", "check", "--config", "my.yaml")
    told = json.loads(run("config", "check", "--json", "--config", "my.yaml"))
    assert told == {"valid": True, "connections": ["default"], "warnings": []}
    made = load(Path("my.yaml"), {})
    assert (made.sync.interval.total_seconds(), made.budget.crm) == (30, 5000)
    assert made.mapping.sales_stages["Id. Decision Makers"] == "Close"
    text = Path("my.yaml").read_text()
    assert "# time to take back a Won, Lost or Declined" in text
    assert (
        "credentials:\n  consumer_secret_file: consumer\n" in text
    )  # in the place where the example has it as a comment


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("sync.intervall=3s", r"sync\.intervall.*no key"),
        ("sync.interval=3x", r"is no duration; write 90s"),
        ("partner_center.client_secret=abc", r"is a secret"),
        ("interval", r"takes KEY=VALUE"),
        ("mapping.fields.name.direction=sideways", r"must be both"),
    ],
)
def test_init_writes_nothing_that_cannot_be_right(assignment: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        run("init", "my.yaml", "--set", assignment)
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("partner_center.client_id", "https://my-app", r"my\.yaml:\d+\): is no application id"),
        ("partner_center.tenant_id", "contoso", r"my\.yaml:\d+\): is neither a directory id nor a domain"),
        (
            "salesforce.login_url",
            "https://acme.lightning.force.com/lightning/page/home",
            r"address of Salesforce's pages.*Give the My Domain address: https://acme\.my\.salesforce\.com",
        ),
        (
            "salesforce.login_url",
            "https://acme.my.salesforce.com/home",
            r"Give https://acme\.my\.salesforce\.com alone",
        ),
    ],
)
def test_config_check_finds_what_can_only_be_a_mistake(key: str, value: str, told: str) -> None:
    Path("consumer").write_text("s3cret")
    run(
        "init",
        "my.yaml",
        *assignments({**SALESFORCE, "salesforce.consumer_secret_file": "consumer", key: value}),
    )
    with pytest.raises(InvalidSettings, match=told) as refused:
        run("config", "check", "--config", "my.yaml")
    assert refused.value.hint == "correct that, then: cosell-sync config check --config my.yaml"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sync:\n\tinterval: 60s\n", r"my\.yaml:2\): has a tab where spaces belong"),
        (
            "salesforce:\n  sync:\n    interval: 60s\n",
            r"sync is a section of its own: indent it as far as salesforce",
        ),
        ("crm: salesforce\ncrm: dynamics\n", r"stands here twice\. Keep one"),
        ("[" * 5000, "is nested too deep"),
        (
            "webhooks: {public_url: 'https://a.example/webhooks/partner-center'}\n",
            r"is given without /webhooks/partner-center",
        ),
        ("partner_center: {client_secret_file: two-lines}\n", r"two-lines holds more than one line"),
    ],
)
def test_what_is_written_wrong_is_named_with_what_to_do(text: str, told: str) -> None:
    Path("two-lines").write_text("half\nof-it\n")
    Path("my.yaml").write_text(text)
    with pytest.raises(InvalidSettings, match=told):
        load(Path("my.yaml"), {})


def test_init_overwrites_nothing_unasked_and_puts_it_back_after_a_mistake() -> None:
    Path("my.yaml").write_text("crm: dynamics\n")
    with pytest.raises(ConfigError, match="exists"):
        run("init", "my.yaml")
    with pytest.raises(ConfigError, match="no duration"):
        run("init", "my.yaml", "--force", "--set", "sync.interval=3x")
    assert Path("my.yaml").read_text() == "crm: dynamics\n"


# --- config check -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("COSELL_PARTNER_CENTER__TENANT_ID", "my tenant", "neither a directory id nor a domain"),
        (
            "COSELL_SALESFORCE__LOGIN_URL",
            "https://acme.lightning.force.com",
            "https://acme.my.salesforce.com",
        ),
        ("COSELL_SYNC_INTERVAL", "30s", "Did you mean COSELL_SYNC__INTERVAL?"),
        ("COSELL_PARTNER_CENTER_CLIENT_ID", "x", "Did you mean COSELL_PARTNER_CENTER__CLIENT_ID?"),
        ("COSELL_SYNC__INTERVAL", "0s", "must be more than 0s"),
        ("COSELL_SYNC__CALL_TIMEOUT", "15m", "must be at most 2m"),
        ("COSELL_SYNC__SURPRISE_SHARE", "300%", "write 30%"),
        ("COSELL_SYNC__MAX_ATTEMPTS", "many", "must be a whole number"),
        ("COSELL_MAPPING__MATCH", "always", "must be propose, link or off"),
        ("COSELL_MAPPING__DEFAULT_CURRENCY", "euro", "for example EUR"),
    ],
)
def test_what_can_only_be_a_mistake_is_told_in_plain_words(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    run("init", "my.yaml", *assignments(SALESFORCE))
    monkeypatch.setenv("COSELL_SALESFORCE__CONSUMER_SECRET", "s")
    assert "is valid" in run("config", "check", "--config", "my.yaml")
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        run("config", "check", "--config", "my.yaml")
    assert told in str(caught.value)
    assert len(caught.value.problems) == 1
    assert caught.value.hint not in str(caught.value)


def test_a_store_that_is_a_file_lies_beside_the_configuration(tmp_path: Path) -> None:
    """Else a start from another folder would find an empty store."""
    folder = tmp_path / "etc"
    folder.mkdir()
    file = folder / "my.yaml"
    for text, place in (
        ("crm: dynamics\n", folder / "cosell-sync.db"),
        ("store: {url: sqlite:///deep/other.db}\n", folder / "deep/other.db"),
        ("store: {url: sqlite:////var/x.db}\n", Path("/var/x.db")),
    ):
        file.write_text(text)
        assert load(file, {}).store.url == f"sqlite:///{place}"
    file.write_text("crm: dynamics\n")
    assert load(file, {"COSELL_STORE__URL": "sqlite:///x.db"}).store.url == "sqlite:///x.db"
    (tmp_path / "cosell-sync.db").touch()  # left by an earlier version, which began at the working directory
    assert load(file, {}).store.url == "sqlite:///cosell-sync.db"


def test_what_an_image_suggests_is_weaker_than_anything_an_admin_says(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    image = {
        "COSELL_DEFAULT_STORE__URL": "sqlite:////data/x.db",
        "COSELL_DEFAULT_HTTP__LISTEN": "0.0.0.0:8080",
    }
    file.write_text("crm: dynamics\n")
    assert load(file, image).store.url == "sqlite:////data/x.db"
    assert load(None, image).http.listen == "0.0.0.0:8080"
    file.write_text("store: {url: 'postgresql+psycopg://db/x'}\n")
    assert load(file, image).store.url == "postgresql+psycopg://db/x"
    assert load(file, {**image, "COSELL_STORE__URL": "sqlite://"}).store.url == "sqlite://"


def test_without_the_file_that_the_image_looks_for_variables_alone_are_a_configuration(
    tmp_path: Path,
) -> None:
    """A file that is there is read, also where reading fails; one that a person names must be there."""
    file = tmp_path / "config" / "my.yaml"
    image = {"COSELL_DEFAULT_CONFIG": str(file), "COSELL_SYNC__INTERVAL": "30s"}
    assert load(None, image).sync.interval.total_seconds() == 30
    with pytest.raises(InvalidSettings, match=r"my\.yaml\): there is no such file") as told:
        required(load(None, image), "login")
    assert "partner_center.client_id: is not given" in str(told.value)
    with pytest.raises(InvalidSettings, match="cannot be read: No such file"):
        load(None, {**image, "COSELL_CONFIG": str(file)})
    file.mkdir(parents=True)  # what a container engine makes of a mount whose source is missing
    with pytest.raises(InvalidSettings, match=r"Is a directory.*made by the mount"):
        load(None, image)
    file.rmdir()
    with pytest.raises(InvalidSettings, match="cannot be read"):  # not known to be missing
        load(None, {"COSELL_DEFAULT_CONFIG": str(tmp_path / ("x" * 300))})
    file.write_text("crm: dynamics\n")
    assert load(None, image).crm == "dynamics"
    assert load(None, image).sync.interval.total_seconds() == 30


# --- health -------------------------------------------------------------------------------------------------------


def asked(*words: str) -> tuple[int, dict[str, object]]:
    done = CliRunner().invoke(app, ["health", "--json", *words], catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


def test_health_asks_the_listener_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = [GOOD]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")

    def told() -> Facts:
        return facts[0]

    with Listener(("127.0.0.1", 0), Application(told, lambda: b"")) as listener:
        port = listener.url.rpartition(":")[2]
        Path("my.yaml").write_text(yaml.safe_dump({"http": {"listen": f"0.0.0.0:{port}"}}))
        assert asked("--config", "my.yaml") == (0, {"ready": True, "reasons": []})
        facts[0] = Facts(GOOD.now, "1", "salesforce", GOOD.fresh_within, holder="another")
        code, said = asked("--config", "my.yaml")
        assert (code, said["ready"]) == (1, False)
        assert "another" in str(said["reasons"])
        assert asked("--alive", "--config", "my.yaml") == (0, {"ready": True, "reasons": []})
    code, said = asked("--config", "my.yaml")
    assert (code, said["ready"]) == (1, False)
    assert f"nothing answers at 127.0.0.1:{port}" in str(said["reasons"])


def test_health_names_the_connections_that_are_not_ready_of_a_process_that_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reasons = ["beta: the last cycle failed: partner_center"]
    monkeypatch.setattr("cosell_sync.cli.health._asked", lambda *_: (True, reasons))
    assert run("health") == "ready\n- beta: the last cycle failed: partner_center\n"


# --- what an operator keeps ---------------------------------------------------------------------------------------


def test_backup_and_restore_by_the_command(tmp_path: Path) -> None:
    run("init", "my.yaml", *assignments(SALESFORCE))
    store = open_store(load(Path("my.yaml"), {}).store.url, lambda: GOOD.now)
    with store.lease(timedelta()):
        store.commit(Transaction(state=CycleState(clock=datetime.now(UTC) - timedelta(hours=1))))
    said = run("backup", "b.tar", "--config", "my.yaml")
    assert "0 deals" in said
    with pytest.raises(ConfigError, match="exists"):
        run("backup", "b.tar", "--config", "my.yaml")
    assert "Restored" in run("restore", "b.tar", "--config", "my.yaml")
    with store.lease(timedelta()):
        store.commit(Transaction(state=CycleState(clock=datetime.now(UTC) + timedelta(hours=1))))
    store.close()
    with pytest.raises(ConfigError, match="has gone on since") as refused:
        run("restore", "b.tar", "--config", "my.yaml")
    assert "--force" in refused.value.hint
    assert "Restored" in run("restore", "b.tar", "--config", "my.yaml", "--force")


def test_a_support_bundle_holds_nothing_of_people_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    run("init", "my.yaml", *assignments({**SALESFORCE, "mapping.default_owner": "ann.lee@acme.example"}))
    monkeypatch.setenv("COSELL_SALESFORCE__CONSUMER_SECRET", "Tr0ub4dor")
    store = open_store(load(Path("my.yaml"), {}).store.url, lambda: GOOD.now)
    store.remember_cycle(CYCLE)
    store.close()
    run("support-bundle", "x.zip", "--no-doctor", "--config", "my.yaml")
    with zipfile.ZipFile("x.zip") as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(parts) == {"about.json", "settings.json", "counts.json", "cycles.json"}
    assert json.loads(parts["cycles.json"])[0]["cycle_id"] == CYCLE.cycle_id
    assert "COSELL_SALESFORCE__CONSUMER_SECRET" in parts["about.json"]
    for secret in ("Tr0ub4dor", "ann.lee"):
        assert secret not in "".join(parts.values())
