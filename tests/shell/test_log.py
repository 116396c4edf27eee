"""Whatever slips into a log call, nothing secret or personal reaches the stream."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cosell_sync import log as logs
from cosell_sync.errors import Rejected, Unavailable

SEEDS = (
    "anna.schmidt@contoso.example",
    "Anna%40contoso.example",
    "+49 89 123-456 78",
    "(425) 555-0100",
    "425.555.0100",
    "4255550100",
    "089/1234567",
    "Bearer abcdefgh12345678",
    "eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl",
    "00D5g000000abcd!AQEAQ.secretsession",
    "hunter2-top-secret",
)


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root, level = logging.getLogger(), logging.getLogger().level
    handlers = list(root.handlers)
    yield
    root.handlers[:], _ = handlers, root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(params=["json", "console"])
def stream(request: pytest.FixtureRequest) -> io.StringIO:
    out = io.StringIO()
    logs.configure("debug", request.param, out)
    return out


@pytest.fixture
def lines() -> io.StringIO:
    out = io.StringIO()
    logs.configure("info", "json", out)
    return out


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def boom(text: str) -> None:
    secret = text
    raise Rejected(f"FIELD_CUSTOM_VALIDATION: {secret}", code="FIELD_CUSTOM_VALIDATION", status=400)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_seed_survives(stream: io.StringIO, seed: str) -> None:
    """Values, nested values, secret keys, exceptions with causes and locals, library lines: none lets it through."""
    log = logs.get_logger()
    log.info("deal.held", token=seed, client_secret=seed, Authorization=seed, note=seed, first_name=seed)
    log.info(
        "deal.held",
        headers={"x": seed},
        deep={"list": [{"password": seed}]},
        odd=Rejected(seed),
        raw=seed.encode(),
    )
    if "hunter2" not in seed:
        log.info(
            seed,
            note_of=seed,
            deep=[{"a": (seed,)}],
            text_with=f"call {seed} now",
            url=f"https://x/?q={seed}",
        )
    try:
        try:
            boom(seed)
        except Rejected as first:
            raise ValueError(seed) from first
    except ValueError:
        log.exception("deal.failed")
        log.warning("deal.failed", exc_info=True)
        logging.getLogger("httpx").exception("GET %s", seed)
    logging.getLogger("msal").warning("token for %s", seed)
    logging.getLogger("somebody.else").critical(seed)
    assert seed not in stream.getvalue()
    assert seed.lower() not in stream.getvalue().lower()
    assert len(stream.getvalue().splitlines()) >= 7


def test_one_json_object_a_line_with_bound_ids(lines: io.StringIO) -> None:
    bound = structlog.contextvars.bound_contextvars
    with bound(cycle_id="c1"), bound(referral_id="r1", opportunity_id="0065g00000abcde"):
        logs.get_logger().info("deal.held", field="value", count=3)
    logs.get_logger().info("later")
    first, second = events(lines)
    assert first.pop("timestamp").endswith("Z")
    assert first == {
        "level": "info", "event": "deal.held", "field": "value", "count": 3,
        "cycle_id": "c1", "referral_id": "r1", "opportunity_id": "0065g00000abcde",
    }  # fmt: skip
    assert set(second) == {"level", "event", "timestamp"}


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22", "2026-11-22T18:41:57.123Z", "127.0.0.1:8080", "1234567.89", "12", "66.0", "closed 30 of 100",
        "0f8fad5b-d9cb-469f-a165-70867728950e", "12345678-1234-1234-1234-123456789012", "0065g00000abcdeAAA",
        "COSELL_SYNC__INTERVAL", "https://api.partner.microsoft.com/v1.0/engagements", "New / Pending",
    ],
)  # fmt: skip
def test_ordinary_values_stay_readable(text: str) -> None:
    assert logs.redact_text(text) == text


def test_ids_may_be_long_numbers(lines: io.StringIO) -> None:
    logs.get_logger().info("x", request_id="1234567890", microsoft_id="7-123456789012")
    assert events(lines)[0]["request_id"] == "1234567890"
    assert events(lines)[0]["microsoft_id"] == "7-123456789012"


def test_an_exception_is_told_by_type_and_safe_facts(lines: io.StringIO) -> None:
    error = Unavailable("salesforce", "words of theirs", code="REQUEST_LIMIT_EXCEEDED", status=503)
    error.__cause__ = OSError(5, "x")
    logs.get_logger().warning("outage.began", exc_info=error)
    (event,) = events(lines)
    assert event["error"] == "Unavailable"
    assert (event["system"], event["code"], event["status"]) == ("salesforce", "REQUEST_LIMIT_EXCEEDED", 503)
    assert event["causes"] == ["OSError"]
    assert "trace" not in event
    assert "words" not in lines.getvalue()


def test_tracebacks_only_at_debug(stream: io.StringIO) -> None:
    try:
        boom("x")
    except Rejected as error:
        logs.get_logger().error("deal.failed", exc_info=error)
    assert "test_log.py:" in stream.getvalue()


def test_libraries_speak_from_warning_on_and_without_words(stream: io.StringIO) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://x")
    logging.getLogger("unknown.library").info("chatter")
    assert stream.getvalue() == ""
    logging.getLogger("urllib3.connectionpool").warning("Retrying: %s", "/secret/path")
    assert "urllib3.connectionpool" in stream.getvalue()
    assert "secret" not in stream.getvalue()


def test_levels_and_reconfiguring(lines: io.StringIO) -> None:
    logs.get_logger().debug("quiet")
    again = io.StringIO()
    logs.configure("error", "json", again)
    logs.get_logger().warning("quiet")
    logs.get_logger().error("loud")
    assert lines.getvalue() == ""
    assert [event["event"] for event in events(again)] == ["loud"]


def test_a_closed_stream_harms_nobody(lines: io.StringIO) -> None:
    lines.close()
    logs.get_logger().info("unheard")
    logs.flush()
