"""The configuration: every mistake is told at once, with its place, and nothing secret is ever shown."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args

import jsonschema
import pytest
import yaml

from cosell_sync.core.fields import CLOSED_REASONS, NEWER, SALES_STAGES, SELLER, SHARED, STATUS_FIELDS
from cosell_sync.errors import ConfigError
from cosell_sync.settings import (
    InvalidSettings,
    Settings,
    format_duration,
    json_schema,
    known_keys,
    load,
    parse_duration,
    required,
)
from cosell_sync.settings.values import ClosedReason, SalesStage

CONFIG = Path(__file__).parents[2] / "config"


def given(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | None = None, env: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        load(path, env or {})
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_defaults_need_no_file_and_no_variable() -> None:
    """Built-in defaults are a complete configuration."""
    settings = load(None, {})
    assert settings == Settings()
    assert settings.sync.interval == timedelta(seconds=60)
    assert settings.sync.surprise_share == Decimal("0.3")
    assert settings.mapping.stages.accepted == "Qualification"
    assert settings.http.address == ("127.0.0.1", 8080)


def test_settings_do_not_read_the_environment_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSELL_SYNC__INTERVAL", "5s")
    monkeypatch.setenv("SYNC", '{"interval": "7s"}')
    assert Settings().sync.interval == timedelta(seconds=60)
    assert load(None).sync.interval == timedelta(seconds=5)


@pytest.mark.parametrize("name", ["salesforce", "dynamics"])
def test_the_examples_load_and_state_the_defaults(name: str) -> None:
    """An example that drifts from the defaults would teach something wrong."""
    settings = load(CONFIG / f"{name}.yaml", {})
    plain = Settings(crm=name)
    assert settings.crm == name
    assert settings.mapping == plain.mapping
    assert settings.sync == plain.sync
    beside = f"sqlite:///{CONFIG / 'cosell-sync.db'}"
    assert settings.store == plain.store.model_copy(update={"url": beside})
    jsonschema.validate(
        {k: v for k, v in yaml.safe_load((CONFIG / f"{name}.yaml").read_text("utf-8")).items() if v},
        json_schema(),
    )


def test_the_salesforce_example_names_every_key() -> None:
    text = (CONFIG / "salesforce.yaml").read_text("utf-8")
    for key in known_keys():
        section, _, name = key.rpartition(".")
        if not section.startswith("dynamics"):
            assert f"{name}:" in text or f"{name}_file:" in text, key


@pytest.mark.parametrize(
    ("given_text", "meant"), [("spanish", "es"), ("Español", "es"), ("eng", "en"), ("ess", "es")]
)
def test_an_unknown_language_is_named_with_the_nearest(given_text: str, meant: str) -> None:
    found = problems(env={"COSELL_MAPPING__LANGUAGE": given_text})["mapping.language"]
    assert "must be one of en, es" in found
    assert f"Did you mean {meant}?" in found


def test_a_language_is_one_that_there_is_a_catalogue_for() -> None:
    assert load(None, {}).mapping.language == "en"
    assert load(None, {"COSELL_MAPPING__LANGUAGE": "ES"}).mapping.language == "es"
    assert "Did you mean" not in problems(env={"COSELL_MAPPING__LANGUAGE": "klingon"})["mapping.language"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("2h", 7200), ("14d", 1209600), ("0s", 0)]
)
def test_durations_are_read_and_written(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)
    assert parse_duration(format_duration(parse_duration(text))) == parse_duration(text)


@pytest.mark.parametrize("text", ["", "5", "m", "-5m", "5 m", "5w", "1.5h", "999999999999999d"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Pacific/Auckland", "Asia/Kolkata", "Etc/GMT+5"])
def test_a_time_zone_is_one_of_iana(tmp_path: Path, zone: str) -> None:
    settings = load(given(tmp_path, f"mapping:\n  close_date_zone: {zone}\n"), {})
    assert settings.mapping.close_date_zone == zone


@pytest.mark.parametrize(
    ("zone", "meant"),
    [
        ("Europe/Berlni", "Europe/Berlin"),
        ("europe/berlin", "Europe/Berlin"),
        ("Auckland", "Pacific/Auckland"),
        ("new york", "America/New_York"),
        ("Honolul", "Pacific/Honolulu"),
        ("../../etc/passwd", ""),
        ("Europe", ""),
        ("''", ""),
        ("CEST", ""),  # EST is one, and another
    ],
)
def test_another_time_zone_is_refused_with_the_nearest(tmp_path: Path, zone: str, meant: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        load(given(tmp_path, f"mapping:\n  close_date_zone: {zone}\n"), {})
    text = str(refused.value)
    assert "mapping.close_date_zone" in text
    assert "is no time zone of the IANA database" in text
    assert (f"Did you mean {meant}?" in text) if meant else ("Did you mean" not in text or zone == "Europe")


@pytest.mark.parametrize("given_", ["0s", "4000d", "soon"])
def test_a_close_date_lies_ahead_and_within_ten_years(tmp_path: Path, given_: str) -> None:
    with pytest.raises(InvalidSettings):
        load(given(tmp_path, f"mapping:\n  default_close: {given_}\n"), {})


def test_every_field_has_a_rule_and_a_name_per_crm() -> None:
    salesforce, dynamics = Settings().mapping.fields, Settings(crm="dynamics").mapping.fields
    assert set(salesforce) == set(dynamics) == {*SHARED, *SELLER, *STATUS_FIELDS, "stage"}
    assert salesforce["visible"].crm == "Cosell_Visible_To_Microsoft__c"
    assert dynamics["visible"].crm == "cosell_visibletomicrosoft"
    assert salesforce["respond_by"].crm == "Cosell_Respond_By__c"
    assert dynamics["referral_id"].crm == "cosell_referralid"
    policies = {name: rule.conflict for name, rule in salesforce.items() if name in SHARED}
    assert policies == {
        **dict.fromkeys(("name", "value", "close_date", "campaign_id", "favorite", "sales_stage"), "crm"),
        **dict.fromkeys(("currency", "customer", *NEWER), "partner_center"),
        **dict.fromkeys(("notes", "team", "contacts", "solutions"), "merge"),
    }


def test_rules_are_overridden_in_part(tmp_path: Path) -> None:
    path = given(
        tmp_path, "mapping:\n  fields:\n    value: Betrag__c\n    name: {direction: off}\n  match: off\n"
    )
    fields = load(path, {"COSELL_MAPPING__FIELDS__VALUE__CONFLICT": "ask"}).mapping.fields
    assert (fields["value"].crm, fields["value"].direction, fields["value"].conflict) == (
        "Betrag__c",
        "both",
        "ask",
    )
    assert (fields["name"].crm, fields["name"].direction) == ("Name", "off")
    assert load(path, {}).mapping.match == "off"


def test_stages_are_overridden_in_part_and_leave_the_sales_stages() -> None:
    mapping = load(None, {"COSELL_MAPPING__STAGES__ACCEPTED": "Needs Analysis"}).mapping
    assert mapping.stages.accepted == "Needs Analysis"
    assert mapping.stages.won == "Closed Won"
    assert "Needs Analysis" not in mapping.sales_stages
    assert mapping.sales_stages["Value Proposition"] == "Develop"


def test_whole_maps_come_as_json() -> None:
    env = {
        "COSELL_MAPPING__SALES_STAGES": '{"Foo": "Close"}',
        "COSELL_MAPPING__STAGES": '{"won": "Yes", "lost": "No"}',
        "COSELL_MAPPING__STAGES__WON": "Hurra",
        "COSELL_MAPPING__ACCOUNT_MATCH": "name, city",
    }
    mapping = load(None, env).mapping
    assert mapping.sales_stages == {"Foo": "Close"}
    assert (mapping.stages.won, mapping.stages.lost, mapping.stages.declined) == (
        "Hurra",
        "No",
        "Closed Lost",
    )
    assert mapping.account_match == ("name", "city")


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    path = given(tmp_path, "sync: {interval: 5m, overlap: 1m}\nsalesforce: {api_version: 66.0}\nstore:\n")
    settings = load(
        None, {"COSELL_CONFIG": str(path), "COSELL_SYNC__INTERVAL": "30s", "COSELL_SYNC__OVERLAP": ""}
    )
    assert settings.sync.interval == timedelta(seconds=30)
    assert settings.sync.overlap == timedelta(minutes=1)
    assert settings.salesforce.api_version == "66.0"


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    """Relative to the YAML file; a variable beats the file; only the trailing newline goes."""
    (tmp_path / "one").write_text(" first \n")
    (tmp_path / "two").write_text("second\n")
    path = given(tmp_path, "partner_center: {client_secret_file: one}\nstore: {key_file: one}\n")
    settings = load(path, {"COSELL_STORE__KEY_FILE": str(tmp_path / "two")})
    assert settings.partner_center.client_secret is not None
    assert settings.partner_center.client_secret.get_secret_value() == " first "
    assert settings.store.key is not None
    assert settings.store.key.get_secret_value() == "second"


def test_a_missing_secret_file_names_key_and_file(tmp_path: Path) -> None:
    told = problems(
        given(tmp_path, "store:\n  key_file: nowhere\n"), {"COSELL_DYNAMICS__CERTIFICATE_FILE": "/no/pem"}
    )
    assert f"{tmp_path / 'config.yaml'}:2" in told["store.key_file"]
    assert str(tmp_path / "nowhere") in told["store.key_file"]
    assert "COSELL_DYNAMICS__CERTIFICATE_FILE" in told["dynamics.certificate_file"]
    assert "/no/pem" in told["dynamics.certificate_file"]


@pytest.mark.parametrize(
    ("text", "key", "hint"),
    [
        ("snyc: {interval: 5m}", "snyc", "sync"),
        ("interval: 5m", "interval", "sync.interval"),
        ("sync: {intervall: 5m}", "sync.intervall", "sync.interval"),
        ("mapping: {stages: {one: X}}", "mapping.stages.one", "mapping.stages.won"),
        ("mapping: {fields: {amount: X}}", "mapping.fields.amount", "mapping.fields.contacts"),
        (
            "mapping: {fields: {value: {dir: off}}}",
            "mapping.fields.value.dir",
            "mapping.fields.value.direction",
        ),
        ("partner_center: {client_secret_fil: x}", "partner_center.client_secret_fil", "client_secret_file"),
        ("sync: {key_file: x}", "sync.key_file", "sync."),
    ],
)
def test_unknown_keys_name_the_nearest_known_one(tmp_path: Path, text: str, key: str, hint: str) -> None:
    told = problems(given(tmp_path, f"# first line\n{text}\n"))
    assert list(told) == [key]
    assert "config.yaml:2" in told[key]
    assert "unknown key" in told[key]
    if "amount" not in text:
        assert hint in told[key]


def test_unknown_variables_name_the_nearest_known_one() -> None:
    told = problems(None, {"COSELL_SYNC__INTERVALL": "5m", "COSELL_SNYC__INTERVAL": "5m"})
    assert all("Did you mean COSELL_SYNC" in text for text in told.values())
    assert len(told) == 2


def test_other_variables_are_not_ours() -> None:
    env = {
        "COSELL_TEST_POSTGRES__URL": "x",
        "COSELL_CONTRACT": "x",
        "COSELL_HOME": "x",
        "SYNC__INTERVAL": "x",
    }
    assert load(None, env) == Settings()


def test_everything_wrong_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    path = given(
        tmp_path,
        "crm: hubspot\nsync:\n  interval: 5\n  surprise_share: 130%\npartner_center:\n  base_url: http://x.test\n"
        "http: {listen: 8080}\nmapping:\n  stages: {received: A, accepted: A}\n",
    )
    told = problems(
        path, {"COSELL_LOG__LEVEL": "loud", "COSELL_BUDGET__CRM": "many", "COSELL_SYNC__MAX_ATTEMPTS": "0"}
    )
    assert set(told) == {
        "crm", "sync.interval", "sync.surprise_share", "partner_center.base_url", "http.listen", "mapping.stages",
        "log.level", "budget.crm", "sync.max_attempts",
    }  # fmt: skip
    assert "config.yaml:3" in told["sync.interval"]
    assert "(COSELL_LOG__LEVEL)" in told["log.level"]
    assert "https" in told["partner_center.base_url"]


@pytest.mark.parametrize(
    "text",
    [
        "mapping: {fields: {value: {conflict: merge}}}",
        "mapping: {fields: {status: {direction: both}}}",
        "mapping: {fields: {referral_id: {direction: off}}}",
        "mapping: {fields: {notes: Name}}",
        "mapping: {stages: {won: Closed Lost}}",
        "mapping: {sales_stages: {Closed Won: Close}}",
        "mapping: {sales_stages: {Foo: Bar}}",
        "mapping: 7",
        "sync: {interval: {a: b}}",
        "sync: {interval: 0s}",
        "sync: {call_timeout: 5m}",
        "sync: {interval: 5m, interval: 6m}",
        "store: {url: mysql://x}",
        "partner_center: {base_url: 'https://user:pw@x.test'}",
        "partner_center: {portal_url: 'https://x.test/{name}'}",
        "salesforce: {api_version: v66.0}",
        "http: {listen: '::1:8080'}",
        "- a\n- b",
        "a: [",
        "a: *b",
    ],
)
def test_nonsense_is_refused(tmp_path: Path, text: str) -> None:
    assert len(problems(given(tmp_path, text))) == 1


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    assert "nope.yaml" in str(problems(tmp_path / "nope.yaml"))


def test_no_secret_is_shown_anywhere(tmp_path: Path) -> None:
    """Neither when printed, nor when masked, nor in an error."""
    env = {
        "COSELL_STORE__URL": "postgresql+psycopg://me:hunter2@db/x?password=hunter2",
        "COSELL_PARTNER_CENTER__CLIENT_SECRET": "hunter2",
        "COSELL_SALESFORCE__PRIVATE_KEY": "hunter2",
    }
    settings = load(None, env)
    assert "hunter2" not in json.dumps(settings.masked())
    assert "hunter2" not in str(problems(None, {**env, "COSELL_STORE__URL": "mysql://me:hunter2@db"}))
    assert "hunter2" not in str(
        problems(None, {**env, "COSELL_SALESFORCE__LOGIN_URL": "https://a:hunter2@x.test"})
    )
    assert settings.masked()["sync"]["full_every"] == "24h"
    assert settings.masked()["sync"]["surprise_share"] == "30%"


def test_values_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().sync.interval = timedelta(seconds=1)


def missing(command: str, **sections: object) -> set[str]:
    try:
        required(Settings(**sections), command)
    except InvalidSettings as error:
        return {problem.key for problem in error.problems}
    return set()


def test_a_command_names_what_it_cannot_do_without() -> None:
    microsoft = {"tenant_id": "t", "client_id": "c"}
    salesforce = {"login_url": "https://x.test", "consumer_key": "k"}
    assert missing("sync") == {
        "partner_center.tenant_id", "partner_center.client_id",
        "salesforce.login_url", "salesforce.consumer_key", "salesforce.consumer_secret",
    }  # fmt: skip
    assert missing("login") == {"partner_center.tenant_id", "partner_center.client_id"}
    assert missing("deals") == set()
    assert (
        missing("sync", partner_center=microsoft, salesforce={**salesforce, "consumer_secret": "s"}) == set()
    )
    assert missing("plan", partner_center=microsoft, salesforce={**salesforce, "username": "u"}) == {
        "salesforce.private_key"
    }
    assert (
        missing("provision", crm="dynamics", dynamics={"url": "https://x.test", "managed_identity": "system"})
        == set()
    )
    assert missing("provision", crm="dynamics", dynamics={"url": "https://x.test"}) == {
        "dynamics.tenant_id", "dynamics.client_id", "dynamics.client_secret",
    }  # fmt: skip
    assert missing("deals", store={"url": "postgresql+psycopg://x/y"}) == {"store.key"}


def test_a_missing_secret_is_told_with_all_its_names() -> None:
    with pytest.raises(ConfigError) as caught:
        required(Settings(), "run")
    for name in (
        "salesforce.consumer_secret",
        "COSELL_SALESFORCE__CONSUMER_SECRET_FILE",
        "consumer_secret_file",
    ):
        assert name in str(caught.value)


def test_the_schema_knows_the_file_forms() -> None:
    definitions = json_schema()["$defs"]
    assert "client_secret_file" in definitions["PartnerCenterSettings"]["properties"]
    assert "url_file" in definitions["StoreSettings"]["properties"]


@pytest.mark.parametrize(
    ("written", "read"),
    [("auto", "auto"), ("AUTO", "auto"), ("true", True), ("no", False), ("off", False), ("False", False)],
)
def test_a_switch_may_be_left_to_be_found_out(written: str, read: object) -> None:
    """The default; true and false are read as ever, from the file and from a variable."""
    assert Settings().mapping.write_name == "auto"
    mapping = load(None, {"COSELL_MAPPING__WRITE_NAME": written}).mapping
    assert (mapping.write_name, mapping.write_favorite) == (read, "auto")
    assert Settings(mapping={"write_name": read}).mapping.write_name == read


def test_an_invitation_is_never_tried_out() -> None:
    """It cannot be taken back, so the recipe has no auto."""
    with pytest.raises(ConfigError, match="cosell_recipe"):
        load(None, {"COSELL_MAPPING__COSELL_RECIPE": "auto"})


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (None, 0, "cannot read"),
        ("", 0o600, "is empty"),
        ("fifteen letters\n", 0o600, "fewer than 16"),
        ("x" * 1025, 0o600, "more than 1024"),
        ("\xff" * 20, 0o600, "not UTF-8"),
        ("sixteen letters!", 0o604, "by everybody"),
        ("sixteen letters!", 0o602, "by everybody"),
    ],
)
def test_a_token_file_that_may_not_be_used_is_told_with_its_place(
    tmp_path: Path, content: str | None, mode: int, said: str
) -> None:
    file = tmp_path / "console-token"
    if content is not None:
        file.write_bytes(content.encode("latin-1"))
        file.chmod(mode)
    found = problems(given(tmp_path, "console:\n  token_file: console-token\n"))["console.token_file"]
    assert said in found
    assert f"{tmp_path / 'config.yaml'}:2" in found
    assert "letters" not in found.replace("fewer than 16 letters", "")


def test_the_token_file_lies_beside_the_configuration_and_is_not_read_into_it(tmp_path: Path) -> None:
    file = tmp_path / "console-token"
    file.write_text("sixteen letters!\n")
    file.chmod(0o640)
    path = given(tmp_path, "console: {token_file: console-token, hosts: 'a.example, b.example'}\n")
    settings = load(path, {})
    assert settings.console.token_file == str(file)
    assert settings.console.hosts == ("a.example", "b.example")
    assert "sixteen" not in json.dumps(settings.masked())
    env = {"COSELL_CONSOLE__TOKEN_FILE": str(file), "COSELL_CONSOLE__HOSTS": '["a.example"]'}
    assert load(None, env).console.hosts == ("a.example",)
    assert "console.token:" not in str(problems(None, {"COSELL_CONSOLE__TOKEN": "sixteen letters!"}))


def test_a_mapping_may_name_just_what_microsoft_knows() -> None:
    """The types of the settings are literal, so that an editor offers the words; the words themselves are the core's."""
    assert get_args(ClosedReason) == CLOSED_REASONS
    assert get_args(SalesStage) == SALES_STAGES
