"""Several connections in one configuration: what each inherits, what is its own, and whose a mistake is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from cosell_sync.errors import ConfigError
from cosell_sync.settings import (
    Configuration,
    InvalidSettings,
    Settings,
    check_all,
    json_schema,
    load,
    shared_organizations,
)
from cosell_sync.settings.required import plausible

CONFIG = Path(__file__).parents[2] / "config"
ACME = "salesforce: {login_url: 'https://acme.my.salesforce.com', consumer_key: k, consumer_secret: s}"
BETA = "salesforce: {login_url: 'https://beta.my.salesforce.com', consumer_key: k, consumer_secret: s}"
PARTNER = "partner_center: {tenant_id: tenant, client_id: client}"


def given(tmp_path: Path, text: str, env: dict[str, str] | None = None) -> Configuration:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return Configuration(path, env or {})


def mistakes(configuration: Configuration, name: str) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        configuration.settings(name)
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_without_connections_there_is_one_and_all_is_as_it_was(tmp_path: Path) -> None:
    configuration = given(tmp_path, "sync: {interval: 5m}")
    assert configuration.names == ("default",)
    assert not configuration.named
    assert configuration.settings() is configuration.shared
    assert configuration.settings("default") == load(tmp_path / "config.yaml", {})
    assert configuration.shared.connection == "default"
    with pytest.raises(ConfigError) as caught:
        configuration.settings("acme")
    assert "there is one: default" in caught.value.hint


def test_the_top_level_is_each_ones_default(tmp_path: Path) -> None:
    """Maps are merged key by key; lists and maps of the user's own keys are replaced as a whole, as by a variable."""
    configuration = given(
        tmp_path,
        "sync: {interval: 5m, overlap: 1m}\n"
        "mapping:\n  sales_stages: {A: Close, B: Develop}\n  stages: {won: Hurra}\n"
        "  fields: {value: {crm: Betrag__c, conflict: ask}}\n"
        "notices: [{url: 'https://one.example', format: json}]\n"
        "connections:\n"
        "  acme:\n    sync: {overlap: 2m}\n    mapping:\n      sales_stages: {C: Qualify}\n      stages: {lost: Oje}\n"
        "      fields: {value: {conflict: crm}}\n"
        "    notices: [{url: 'https://two.example', format: slack}]\n"
        "  beta:\n",
    )
    assert configuration.names == ("acme", "beta")
    acme, beta = configuration.settings("acme"), configuration.settings("beta")
    assert (acme.connection, beta.connection) == ("acme", "beta")
    assert (acme.sync.interval, acme.sync.overlap.seconds) == (configuration.shared.sync.interval, 120)
    assert acme.mapping.sales_stages == {"C": "Qualify"}
    assert beta.mapping.sales_stages == {"A": "Close", "B": "Develop"}
    assert (acme.mapping.stages.won, acme.mapping.stages.lost) == ("Hurra", "Oje")
    assert (acme.mapping.fields["value"].crm, acme.mapping.fields["value"].conflict) == ("Betrag__c", "crm")
    assert [each.url.get_secret_value() for each in acme.notices] == ["https://two.example"]
    assert beta.mapping == configuration.shared.mapping
    assert beta.notices == configuration.shared.notices


def test_the_sign_in_of_the_console_is_one_for_all(tmp_path: Path) -> None:
    configuration = given(tmp_path, "connections:\n  a:\n    console: {names: false, hosts: [x.example]}\n")
    assert (
        "one sign-in opens the console of all" in mistakes(configuration, "a")["connections.a.console.hosts"]
    )
    configuration = given(
        tmp_path, "console: {names: true}\nconnections:\n  a:\n    console: {names: false}\n"
    )
    assert not configuration.settings("a").console.names


def test_defaults_follow_the_connections_own_crm(tmp_path: Path) -> None:
    configuration = given(tmp_path, "connections: {d: {crm: dynamics}, s: }")
    assert configuration.settings("d").mapping == Settings(crm="dynamics").mapping
    assert configuration.settings("s").mapping == Settings().mapping


def test_variables_reach_a_connection_and_may_make_one(tmp_path: Path) -> None:
    """A hyphen of a name is an underscore there; what is said of one connection beats the top level, wherever either stands."""
    (tmp_path / "secret").write_text("of acme\n")
    configuration = given(
        tmp_path,
        "connections:\n  acme-eu: {sync: {overlap: 2m}}\n",
        {
            "COSELL_CONNECTIONS__ACME_EU__SYNC__INTERVAL": "30s",
            "COSELL_CONNECTIONS__ACME_EU__SALESFORCE__CONSUMER_SECRET_FILE": str(tmp_path / "secret"),
            "COSELL_CONNECTIONS__ACME_EU__MAPPING__SALES_STAGES": '{"X": "Close"}',
            "COSELL_CONNECTIONS__BETA": '{"crm": "dynamics"}',
            "COSELL_SYNC__INTERVAL": "9m",
            "COSELL_SYNC__OVERLAP": "9m",
        },
    )
    acme = configuration.settings("acme-eu")
    assert (acme.sync.interval.seconds, acme.sync.overlap.seconds) == (30, 120)
    assert acme.salesforce.consumer_secret is not None
    assert acme.salesforce.consumer_secret.get_secret_value() == "of acme"
    assert acme.mapping.sales_stages == {"X": "Close"}
    beta = configuration.settings("beta")
    assert (beta.crm, beta.sync.interval.seconds) == ("dynamics", 540)


def test_paths_below_a_connection_begin_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    configuration = given(
        tmp_path,
        "connections:\n  a: {store: {url: 'sqlite:///own.db', key_file: one}}\n  b:\n",
    )
    own, common = configuration.settings("a").store, configuration.settings("b").store
    assert own.url == f"sqlite:///{tmp_path / 'own.db'}"
    assert common.url == f"sqlite:///{tmp_path / 'cosell-sync.db'}"
    assert own.key is not None


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("http: {listen: '127.0.0.1:1'}", "one listener"),
        ("log: {level: debug}", "one log"),
        ("run: {parallel: 2}", "one process"),
        ("tracing: {otlp_endpoint: 'http://localhost:1'}", "one place"),
        ("connections: {b: }", "no others"),
    ],
)
def test_what_a_process_has_once_is_refused_with_place_and_reason(
    tmp_path: Path, section: str, why: str
) -> None:
    configuration = given(tmp_path, f"connections:\n  a:\n    {section}\n  b:\n")
    ((key, text),) = mistakes(configuration, "a").items()
    assert key == f"connections.a.{section.partition(':')[0]}"
    assert "config.yaml:3" in text
    assert why in text
    assert configuration.settings("b")


@pytest.mark.parametrize(
    "name", ["Acme", "acme_eu", "acme--eu", "-acme", "a.b", "a" * 41, "ä", "../x", "a b"]
)
def test_a_name_that_could_not_be_a_label_and_a_file_is_refused(tmp_path: Path, name: str) -> None:
    configuration = given(tmp_path, f"connections:\n  '{name}': {{sync: {{interval: 5m}}}}\n  good:\n")
    _, refused = check_all(configuration, "run", lambda _settings, _command: None)
    assert list(refused) == [name]
    assert "is no name of a connection" in str(refused[name])
    assert "config.yaml:2" in str(refused[name])


def test_a_mistake_is_its_connections_own(tmp_path: Path) -> None:
    """Each names connection, section and key with file and line; the others are served."""
    configuration = given(
        tmp_path,
        f"{PARTNER}\nconnections:\n"
        "  a:\n    sync: {interval: soon}\n    snyc: {interval: 5m}\n"
        f"  b:\n    {BETA}\n"
        "  c: 7\n"
        "  d:\n    store: {key_file: nowhere}\n",
        {"COSELL_CONNECTIONS__E__SYNC__MAX_ATTEMPTS": "0", "COSELL_CONNECTIONS__E__MAPPING__REASONS__X": "y"},
    )
    first = mistakes(configuration, "a")
    assert "config.yaml:4" in first["connections.a.sync.interval"]
    assert "Did you mean connections.a.sync?" in first["connections.a.snyc"]
    assert "config.yaml:8" in mistakes(configuration, "c")["connections.c"]
    assert str(tmp_path / "nowhere") in mistakes(configuration, "d")["connections.d.store.key_file"]
    last = mistakes(configuration, "e")
    assert "COSELL_CONNECTIONS__E__SYNC__MAX_ATTEMPTS" in last["connections.e.sync.max_attempts"]
    assert "COSELL_CONNECTIONS__E__MAPPING__REASONS" in last["connections.e.mapping.reasons.x"]
    valid, refused = check_all(configuration, "run")
    assert list(valid) == ["b"]
    assert list(refused) == ["a", "c", "d", "e"]


def test_what_is_missing_is_named_with_its_connection(tmp_path: Path) -> None:
    _, refused = check_all(given(tmp_path, f"{PARTNER}\nconnections:\n  acme-eu:\n"), "run")
    text = str(refused["acme-eu"])
    assert "connections.acme-eu.salesforce.consumer_secret_file" in text
    assert "COSELL_CONNECTIONS__ACME_EU__SALESFORCE__CONSUMER_SECRET_FILE" in text
    _, refused = check_all(given(tmp_path, f"{PARTNER}\nconnections:\n  a:\n    {ACME}\n"), "run", plausible)
    assert "connections.a.partner_center.tenant_id" in str(refused["a"])


def test_a_wrong_top_level_is_everyones_and_all_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings) as caught:
        given(tmp_path, "sync: {interval: soon}\nconnections:\n  a: {sync: {overlap: soon}}\n  b:\n")
    assert [problem.key for problem in caught.value.problems] == [
        "sync.interval",
        "connections.a.sync.overlap",
    ]


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    configuration = given(tmp_path, "connections: {" + ", ".join(f"c{n}: " for n in range(30)) + "}")
    for name in (None, "nobody"):
        with pytest.raises(ConfigError) as caught:
            configuration.settings(name)
        assert "c0, c1, " in caught.value.hint
        assert "and 10 more" in caught.value.hint


@pytest.mark.parametrize("text", ["connections: 7", "connections: [a, b]"])
def test_connections_are_a_map(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"config.yaml:1.*must be a map of names"):
        given(tmp_path, text)


def test_one_pair_is_served_once_and_one_store_has_one_key(tmp_path: Path) -> None:
    configuration = given(
        tmp_path,
        f"{PARTNER}\nconnections:\n  a:\n    {ACME}\n  again:\n    {ACME.replace('acme.my', 'ACME.my')}\n"
        f"  other-key:\n    {BETA}\n    store: {{key: 'another key than theirs'}}\n"
        f"  same-org:\n    {ACME}\n    partner_center: {{tenant_id: another}}\n",
    )
    valid, refused = check_all(configuration, "run")
    assert list(valid) == ["a", "same-org"]
    assert "same tenant and the same CRM as connections.a" in str(refused["again"])
    assert "config.yaml:5" in str(refused["again"])
    assert "connections.other-key.store.key" in str(refused["other-key"])
    (warning,) = shared_organizations(valid.values())
    assert "connections.a and connections.same-org" in warning
    assert "acme.my.salesforce.com" in warning


def test_the_schema_knows_connections() -> None:
    schema = json_schema()
    good: dict[str, Any] = {
        "connections": {"acme-eu": {"sync": {"interval": "5m"}, "store": {"key_file": "x"}}, "b": None}
    }
    jsonschema.validate(good, schema)
    for wrong in ({"Acme": {}}, {"a": {"http": {}}}, {"a": {"snyc": {}}}, {"a": {"connections": {}}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"connections": wrong}, schema)
    assert json.loads(json.dumps(schema))


def test_the_example_of_several_is_valid(tmp_path: Path) -> None:
    """With a secret in each file that it names, all of its connections can be served."""
    text = (CONFIG / "connections.yaml").read_text(encoding="utf-8")
    jsonschema.validate(yaml.safe_load(text), json_schema())
    (tmp_path / "secrets").mkdir()
    for name in re.findall(r"_file: (\S+)", text):
        (tmp_path / name).write_text("https://hooks.example/teams" if "teams" in name else "a secret text")
    valid, refused = check_all(given(tmp_path, text), "run")
    assert refused == {}
    assert list(valid) == ["acme-eu", "beta", "gamma"]
    assert list(shared_organizations(valid.values())) == []
