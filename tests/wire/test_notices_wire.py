"""Notices end to end: what a seller's channel gets of a deal's life, once each, whatever becomes of the receiver."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from acceptance import Done, Stage, hidden, staged, waited
from test_acceptance_daemon import running
from test_acceptance_moves import move_in_portal

pytestmark = pytest.mark.wire
SECRET = "hush-hush"
TOKEN = r"/oauth2/v2.0/token"


class Receiver:
    """Takes what is posted to /teams, /slack and /json; ``status`` is its answer, ``gate`` holds every answer back."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.got: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.status = 202
        self.gate = threading.Event()
        self.gate.set()

    def take(self, form: str) -> list[dict[str, Any]]:
        """The bodies that came to this path since the last look."""
        found = [body for path, body, _ in self.got if path.startswith(f"/{form}/")]
        self.got = [each for each in self.got if not each[0].startswith(f"/{form}/")]
        return found

    def titles(self) -> list[tuple[str, str, str]]:
        """Of each message its title, its deals and its text, which are the same in every format."""
        teams = [_of_card(each) for each in self.take("teams")]
        assert teams == [_of_blocks(each) for each in self.take("slack")]
        assert [title for title, *_ in teams] == [each["title"] for each in self.take("json")]
        return teams

    def settings(self, *forms: str, **more: Any) -> str:
        return json.dumps(
            [
                {"url": f"{self.url}/{form}/{SECRET}?sig={SECRET}", "format": form, **more}
                for form in forms or ("teams", "slack", "json")
            ]
        )


def _of_card(body: dict[str, Any]) -> tuple[str, str, str]:
    assert body["type"] == "message"
    (attachment,) = body["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    title, text, *deals = attachment["content"]["body"]
    return title["text"], "\n".join(each["inlines"][0]["text"] for each in deals), text["text"]


def _of_blocks(body: dict[str, Any]) -> tuple[str, str, str]:
    header, text, *deals = body["blocks"]
    assert body["text"] == header["text"]["text"]
    lines = [line for each in deals for line in each["text"]["text"].splitlines() if not line.startswith("<")]
    plain = "\n".join(lines).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return header["text"]["text"], plain, text["text"]["text"]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            receiver.got.append((self.path, body, {k.lower(): v for k, v in self.headers.items()}))
            receiver.gate.wait(60)
            self.send_response(receiver.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver = Receiver(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            receiver.gate.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
def stage(tmp_path: Path, crm: str, receiver: Receiver) -> Iterator[Stage]:
    for stage in staged(tmp_path, crm):
        stage.env.update(COSELL_SYNC__TERMINAL_HOLD="0s", COSELL_NOTICES=receiver.settings())
        yield stage


def unspoilt(stage: Stage, receiver: Receiver, *commands: Done) -> None:
    """No address of a receiver in any log or answer, nothing of ours but the message at the receiver."""
    for done in commands:
        assert SECRET not in done.err + done.out
    for _, body, headers in receiver.got:
        assert {"authorization", "cookie"}.isdisjoint(headers)
        text = json.dumps(body, ensure_ascii=False)
        assert not [kind for value, kind in hidden(stage).items() if value in text]


def test_a_deals_life_is_told_once_in_every_format(stage: Stage, receiver: Receiver) -> None:
    new = stage.add("inbound_pending", name="Fabric <for> all")
    won = stage.add("inbound_accepted", name="Half won")
    portal = stage.add("inbound_accepted", name="Won there")
    torn = stage.add("inbound_accepted", name="Torn")
    done = stage.sync()
    unspoilt(stage, receiver, done)
    assert [line["kind"] for line in done.named("notice.sent")] == ["received"] * 3
    assert {line["target"] for line in done.named("notice.sent")} == {"127.0.0.1"}
    ((title, deals, text),) = receiver.titles()
    assert title == "A new co-sell deal waits for an answer"
    assert deals.startswith(f"{new['name']} · {new['customerProfile']['name']}")
    assert re.match(r"Accept or decline it in the CRM by \d+ \w{3} 20\d\d, ", text)
    # Nothing new, nothing told: each command is a process of its own.
    assert stage.sync().named("notice.sent") == []
    stage.seller(won, stage="Won")
    move_in_portal(stage, "win", portal["id"])
    stage.seller(torn, stage="Lost", reason="Other")
    move_in_portal(stage, "win", torn["id"])
    done = stage.sync(expect=1)
    unspoilt(stage, receiver, done)
    told = [(title, deals.split(" · ")[0]) for title, deals, _ in receiver.titles()]
    assert told[0] == ("A co-sell deal was changed differently on both sides", "Torn")
    assert sorted(told[1:]) == [("A co-sell deal is won", "Half won"), ("A co-sell deal is won", "Won there")]
    assert stage.sync(expect=1).named("notice.sent") == []


def test_an_outage_is_told_when_it_begins_and_ends_and_a_refused_sign_in_as_well(
    stage: Stage, receiver: Receiver
) -> None:
    stage.sync()
    faults = stage.servers[0].faults
    faults.answer(503, headers={"Retry-After": "0"}, times=None, path="/engagements/")
    assert [stage.sync(expect=3).finished["failed"] for _ in range(2)] == [0, 0]
    assert [title for title, *_ in receiver.titles()] == ["Partner Center cannot be reached"]
    faults.clear()
    stage.sync()
    assert [title for title, *_ in receiver.titles()] == ["Partner Center works again"]
    faults.answer(400, {"error": "invalid_grant", "error_codes": [70008]}, times=None, path=TOKEN)
    stage.sync(expect=3)
    assert [title for title, *_ in receiver.titles()] == ["Partner Center refuses the sign-in"]
    faults.clear()
    stage.sync()
    assert [title for title, *_ in receiver.titles()] == ["Partner Center accepts the sign-in again"]


def test_a_receiver_that_fails_changes_no_outcome_and_is_named_by_doctor(
    stage: Stage, receiver: Receiver
) -> None:
    receiver.status = 302
    stage.env["COSELL_NOTICES"] = receiver.settings("slack", on=["received"])
    stage.add("inbound_pending")
    done = stage.sync()
    (failed,) = done.named("notice.failed")
    assert (failed["code"], failed["status"], failed["given_up"]) == ("redirect", 302, False)
    assert len(receiver.got) == 1
    unspoilt(stage, receiver, done)
    rows = {row["name"]: row for row in stage.cosell("doctor", "--json").json()["checks"]}
    assert rows["notices.0"]["message"] == "slack to 127.0.0.1: received; 1 to be sent"
    assert len(receiver.got) == 1
    test = stage.cosell("notices", "test", "--json", expect=3)
    assert test.json()["targets"] == [
        {"target": "127.0.0.1", "format": "slack", "status": 302, "code": "redirect"}
    ]
    receiver.status = 200
    assert stage.cosell("notices", "test").out == "sent: 127.0.0.1 (slack) answered 200\n"
    assert SECRET not in test.err + test.out


def test_a_receiver_that_hangs_holds_up_neither_the_cycles_nor_the_end_of_the_daemon(
    stage: Stage, receiver: Receiver
) -> None:
    receiver.gate.clear()
    stage.env.update(COSELL_SYNC__INTERVAL="1s", COSELL_NOTICES=receiver.settings("teams"))
    deal = stage.add("inbound_pending")
    with running(stage) as daemon:
        waited(lambda: receiver.got, "a notice", process=daemon.process)
        stage.pc.edit(deal["id"], "campaignId", "MEANWHILE")
        waited(
            lambda: stage.deal(deal)["campaign_id"] == "MEANWHILE", "a later cycle", process=daemon.process
        )
        assert len(receiver.got) == 1
        daemon.stop()
    assert SECRET not in daemon.log.read_text()
    # It never answered, so it is told once more.
    receiver.gate.set()
    assert [line["kind"] for line in stage.sync().named("notice.sent")] == ["received"]
