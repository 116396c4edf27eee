"""The list of receivers: in YAML and in one variable, each mistake with its place, no address ever shown."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from cosell_sync.settings import InvalidSettings, Settings, json_schema, load

URL = "https://hooks.slack.com/services/T0/B0/hush?sig=hush"
EVERYTHING = ("received", "expiring", "attention", "conflict", "sign_in", "outage", "won")


def given(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path: Path | None, env: dict[str, str] | None = None) -> dict[str, str]:
    with pytest.raises(InvalidSettings) as caught:
        load(path, env or {})
    assert "hush" not in str(caught.value)
    return {problem.key: str(problem) for problem in caught.value.problems}


def told(settings: Settings) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(each.url.get_secret_value(), each.format, each.on) for each in settings.notices]


def test_receivers_come_from_yaml_with_their_secret_in_a_file_or_in_place(tmp_path: Path) -> None:
    (tmp_path / "channel").write_text(f"{URL}\n")
    text = f"notices:\n  - url_file: channel\n    format: slack\n    on: [won, outage]\n  - {{url: '{URL}', format: json}}\n"
    settings = load(given(tmp_path, text), {})
    assert told(settings) == [(URL, "slack", ("won", "outage")), (URL, "json", EVERYTHING)]
    assert "hush" not in f"{settings!r}{settings.masked()}"
    jsonschema.validate(yaml.load(text, yaml.BaseLoader), json_schema())


def test_receivers_come_as_json_in_one_variable_which_replaces_the_files_list(tmp_path: Path) -> None:
    (tmp_path / "channel").write_text(URL)
    listed = [{"url_file": str(tmp_path / "channel"), "format": "teams", "on": "won, received"}]
    path = given(tmp_path, "notices: [{url: 'https://a.test', format: json}]\n")
    settings = load(path, {"COSELL_NOTICES": json.dumps(listed)})
    assert told(settings) == [(URL, "teams", ("won", "received"))]


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:80"])
def test_http_is_for_this_machine_alone(tmp_path: Path, host: str) -> None:
    assert load(given(tmp_path, f"notices: [{{url: 'http://{host}/x?y', format: json}}]"), {}).notices
    far = problems(given(tmp_path, f"notices: [{{url: 'http://{host}.hush.test/', format: json}}]"))
    assert list(far) == ["notices.0.url"]


@pytest.mark.parametrize(
    ("item", "key", "what"),
    [
        ("url: ftp://hush", "notices.1.url", "https://"),
        ("url: https://user:hush@x.test/", "notices.1.url", "user name"),
        ("url: https://x.test/hush hush", "notices.1.url", "blanks"),
        ("url: ''", "notices.1.url", "https://"),
        ("uri: https://hush.test", "notices.1.uri", "Did you mean notices.1.url?"),
        ("on: [receivd]", "notices.1.on", "received, expiring"),
        ("on: []", "notices.1.on", "must not be empty"),
        ("url_file: nowhere", "notices.1.url_file", "cannot read"),
        ("format: discord", "notices.1.format", "teams, slack or json"),
    ],
)
def test_each_mistake_is_told_with_item_and_line(tmp_path: Path, item: str, key: str, what: str) -> None:
    fields = {"url": URL, "format": "json"}
    fields = {name: value for name, value in fields.items() if not item.startswith((f"{name}:", f"{name}_"))}
    lines = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    text = f"notices:\n  - url: {URL}\n    format: json\n  - {item}\n{lines}"
    found = problems(given(tmp_path, text))
    assert "config.yaml:4" in found[key]
    assert what in found[key]


@pytest.mark.parametrize(
    ("text", "key", "what"),
    [
        ("notices: hush", "notices", "must be a list"),
        ("notices: {url: hush}", "notices", "must be a list"),
        ("notices: [hush]", "notices.0", "must be a map"),
        ("notices: [[hush]]", "notices.0", "must be a map"),
        ("notice: []", "notice", "Did you mean notices?"),
    ],
)
def test_what_is_no_list_of_receivers_is_refused(tmp_path: Path, text: str, key: str, what: str) -> None:
    assert what in problems(given(tmp_path, text))[key]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("COSELL_NOTICES", URL, "must be a list"),
        ("COSELL_NOTICES", "[hush", "is no valid JSON"),
        ("COSELL_NOTICES", '{"url": "hush"}', "must be a list"),
        ("COSELL_NOTICES__0__URL", URL, "Give the whole list as JSON in COSELL_NOTICES"),
    ],
)
def test_a_variable_that_is_no_list_is_refused(name: str, value: str, what: str) -> None:
    (found,) = problems(None, {name: value}).values()
    assert name in found
    assert what in found
