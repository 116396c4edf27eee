"""Notices as Teams, Slack and other programs document them, sent with care: no secret shown, nothing repeated in haste."""

from __future__ import annotations

import json
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import respx
import structlog

from cosell_sync.catalogues import language
from cosell_sync.core.deal import Customer, Member, Snapshot, SyncState
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.notices import (
    MOST_TRIES,
    Backlog,
    Due,
    Notice,
    NoticeKind,
    StandingDeal,
    Told,
    Waiting,
)
from cosell_sync.errors import AuthFailed, Broken, ConfigError, Fenced, Surprise, Unavailable
from cosell_sync.notices import notifier
from cosell_sync.notices.formats import FORMATS, plain, slack, teams
from cosell_sync.notices.message import Message, compose, sample
from cosell_sync.notices.notifier import Notifier
from cosell_sync.notices.sender import NotSent, Sender, Target, suspicious
from cosell_sync.transport.deadline import Stopped

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
UNTIL = datetime(2026, 3, 14, 9, 30, tzinfo=UTC)
URL = "https://hooks.example/services/T1/very-secret?sig=also-secret"
LINK = Link(
    "r:1",
    "ref-1",
    "006A",
    Phase.LINKED,
    Snapshot(
        "ref-1",
        "v1",
        {
            "name": "Fabric",
            "state": "Received",
            "respond_by": UNTIL,
            "customer": Customer("Contoso & <!channel>", city="Berlin", address_line1="Street 1"),
            "contacts": (Member("ann@contoso.example", "Ann", "Lee", phone="+49 30 1234567"),),
            "notes": "Ann's note",
            "referral_link": "https://partner.microsoft.com/deal?a=1&b=2",
        },
    ),
)
RECEIVED = Notice("received:r:1", NoticeKind.RECEIVED, ("r:1",), days=11)
TITLE = "A new co-sell deal waits for an answer"
TEXT = "Accept or decline it in the CRM by 14 Mar 2026, 09:30 UTC; after that it expires."


def message(notice: Notice = RECEIVED, *links: Link) -> Message:
    return compose(notice, {link.key: link for link in links or (LINK,)}, NOW)


def test_teams_gets_a_message_with_one_adaptive_card() -> None:
    """As the Workflows template takes it; names in text runs, which know no Markdown."""
    assert teams(message()) == {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "fallbackText": TITLE,
                    "body": [
                        {
                            "type": "TextBlock",
                            "text": TITLE,
                            "size": "Medium",
                            "weight": "Bolder",
                            "wrap": True,
                        },
                        {"type": "TextBlock", "text": TEXT, "wrap": True},
                        {
                            "type": "RichTextBlock",
                            "inlines": [{"type": "TextRun", "text": "Fabric · Contoso & <!channel>"}],
                        },
                    ],
                    "actions": [
                        {
                            "type": "Action.OpenUrl",
                            "title": "Open in Partner Center",
                            "url": "https://partner.microsoft.com/deal?a=1&b=2",
                        }
                    ],
                },
            }
        ],
    }


def test_slack_gets_blocks_in_which_no_name_mentions_a_channel() -> None:
    lines = (
        "Fabric · Contoso &amp; &lt;!channel&gt;\n"
        "<https://partner.microsoft.com/deal?a=1&amp;b=2|Open in Partner Center>"
    )
    assert slack(message()) == {
        "text": TITLE,
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": TITLE, "emoji": False}},
            {"type": "section", "text": {"type": "mrkdwn", "text": TEXT, "verbatim": True}},
            {"type": "section", "text": {"type": "mrkdwn", "text": lines, "verbatim": True}},
        ],
    }


def test_json_has_the_same_keys_in_every_notice() -> None:
    assert plain(message()) == {
        "id": "received:r:1@2026-03-02T10:00:00+00:00",
        "connection": "default",
        "kind": "received",
        "over": False,
        "title": TITLE,
        "text": TEXT,
        "deals": [
            {
                "referral_id": "ref-1",
                "opportunity_id": "006A",
                "name": "Fabric",
                "customer": "Contoso & <!channel>",
                "respond_by": "2026-03-14T09:30:00+00:00",
                "url": "https://partner.microsoft.com/deal?a=1&b=2",
            }
        ],
        "more": 0,
    }
    assert plain(sample()).keys() == plain(message()).keys()


EVERY = [
    *(Notice(f"{kind}:r:1", kind, ("r:1",)) for kind in NoticeKind if kind.value not in {"outage", "sign_in"}),
    *(Notice(f"sum:c:{kind}", kind, ("r:1",) * 10, 90) for kind in NoticeKind if kind.value not in {"outage", "sign_in"}),
    *(
        Notice(f"{kind}:{system}", kind, system=system, over=over)
        for kind in (NoticeKind.OUTAGE, NoticeKind.SIGN_IN)
        for system in ("partner_center", "salesforce", "dynamics", "store", "cosell-sync")
        for over in (False, True)
    ),
    Notice("attention:cycle", NoticeKind.ATTENTION),
]  # fmt: skip


@pytest.mark.parametrize("notice", EVERY, ids=lambda each: f"{each.key}-{each.over}")
def test_every_notice_fits_every_receiver_and_names_no_person(notice: Notice) -> None:
    """Slack: header 150 characters, text 3000, 50 blocks (docs.slack.dev/reference/block-kit). Teams: 28 KB a message."""
    long = replace(LINK, referral=replace(LINK.referral, fields={**LINK.referral.fields, "name": "N" * 9000}))  # type: ignore[arg-type, union-attr]
    for link in (LINK, long):
        made = message(notice, link)
        assert made.title
        assert made.text
        assert "{" not in made.title + made.text
        texts = {name: json.dumps(form(made), ensure_ascii=False) for name, form in FORMATS.items()}
        for text in texts.values():
            for private in ("Ann", "Lee", "ann@", "1234567", "Street", "Berlin"):
                assert private not in text
        assert len(texts["teams"].encode()) < 28_000
        blocks = slack(made)["blocks"]
        assert len(blocks) <= 50
        assert len(blocks[0]["text"]["text"]) <= 150
        assert all(0 < len(block["text"]["text"]) <= 3000 for block in blocks[1:])


def test_outages_say_whose_and_when_they_are_over() -> None:
    told = [
        compose(Notice("k", NoticeKind.OUTAGE, system="dynamics", over=over), {}, NOW).title
        for over in (False, True)
    ]
    assert told == ["Dynamics 365 cannot be reached", "Dynamics 365 works again"]


def test_where_there_are_several_connections_each_title_says_which() -> None:
    """A provider may send the notices of all customers to one channel; the header of Slack takes 150 characters."""
    name = "a" * 40
    for kind in NoticeKind:
        deals = () if kind in {NoticeKind.OUTAGE, NoticeKind.SIGN_IN} else ("r:1", "r:2")
        made = compose(
            Notice("k", kind, deals, more=98 if deals else 0, system="dynamics"), {}, NOW, connection=name
        )
        assert made.title.startswith(f"{name}: ")
        assert len(slack(made)["blocks"][0]["text"]["text"]) <= 150
        assert plain(made)["connection"] == name


def test_people_are_told_in_the_language_of_sellers() -> None:
    """Title, text, what a format adds and dates; names stay as they are."""
    spanish = language("es")
    made = compose(RECEIVED, {LINK.key: LINK}, NOW, spanish)
    assert made.title == "Una nueva oportunidad de venta conjunta espera respuesta"
    assert "14 mar 2026, 9:30 UTC" in made.text
    assert "Abrir en Partner Center" in json.dumps(teams(made))
    many = compose(
        Notice("sum:c:received", NoticeKind.RECEIVED, ("r:1", "r:2"), 3), {LINK.key: LINK}, NOW, spanish
    )
    assert many.title.startswith("5 oportunidades")
    assert "y 3 más" in json.dumps(slack(many), ensure_ascii=False)
    for notice in EVERY:
        english, told = (
            compose(notice, {LINK.key: LINK}, NOW),
            compose(notice, {LINK.key: LINK}, NOW, spanish),
        )
        assert (told.title != english.title, told.text != english.text) == (True, True)
        assert [deal.name for deal in told.deals] == [deal.name for deal in english.deals]
    assert sample(spanish).title == "cosell-sync puede escribir en este canal"


def test_a_deal_that_is_gone_is_left_out_and_one_on_one_side_is_named() -> None:
    opportunity = Link("o:2", None, "006B", opportunity=Snapshot("006B", "1", {"name": "Own\nname"}))
    made = message(Notice("sum:c:attention", NoticeKind.ATTENTION, ("r:9", "o:2"), 3), opportunity)
    assert [(deal.name, deal.customer) for deal in made.deals] == [("Own name", "")]
    assert made.title == "5 more co-sell deals need attention"


# --- one POST ------------------------------------------------------------------------------------------------


def target(url: str = URL, form: str = "json", *kinds: NoticeKind) -> Target:
    return Target(url, form, frozenset(kinds or NoticeKind))


@pytest.fixture
def sender() -> Iterator[Sender]:
    made = Sender()
    yield made
    made.close()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_2xx_is_taken_and_nothing_but_the_message_is_sent(sender: Sender, status: int) -> None:
    with respx.mock() as web:
        route = web.post(URL).respond(status)
        assert sender.send(target(), sample()) == status
    request = route.calls[0].request
    assert json.loads(request.content)["kind"] == "test"
    assert {"authorization", "cookie", "traceparent"}.isdisjoint(request.headers)


@pytest.mark.parametrize(
    ("answer", "code", "wait"),
    [
        (httpx.Response(302, headers={"location": "https://elsewhere.example/"}), "redirect", 0),
        (httpx.Response(404), "refused", 0),
        (httpx.Response(429, headers={"retry-after": "30"}), "refused", 30),
        (httpx.Response(503, headers={"retry-after": "999999999"}), "refused", 3600),
        (httpx.Response(503, headers={"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}), "refused", 0),
    ],
)
def test_any_other_answer_is_a_failure_and_no_redirect_is_followed(
    sender: Sender, answer: httpx.Response, code: str, wait: int
) -> None:
    with respx.mock() as web:  # another address would be a failure of the mock
        web.post(URL).mock(return_value=answer)
        with pytest.raises(NotSent) as caught:
            sender.send(target(), sample())
    assert (caught.value.code, caught.value.status, caught.value.retry_after) == (
        code,
        answer.status_code,
        wait,
    )


@pytest.mark.parametrize(
    ("failure", "code"),
    [(httpx.ConnectError(URL), "ConnectError"), (httpx.ReadTimeout(URL), "timeout")],
)
def test_no_failure_tells_the_address(sender: Sender, failure: Exception, code: str) -> None:
    with respx.mock() as web:
        web.post(URL).mock(side_effect=failure)
        with pytest.raises(NotSent) as caught:
            sender.send(target(), sample())
    assert caught.value.code == code
    assert caught.value.__cause__ is None
    assert "secret" not in f"{caught.value!r}{caught.value}{target()!r}"


@pytest.mark.parametrize(
    ("url", "form", "word"),
    [
        ("https://hooks.slack.com/services/x", "slack", ""),
        ("https://hooks.slack.com/services/x", "teams", "slack"),
        ("https://prod-1.westeurope.logic.azure.com/x", "teams", ""),
        ("https://a.b.environment.api.powerplatform.com/x", "slack", "teams"),
        ("https://contoso.webhook.office.com/x", "teams", "retired"),
        ("https://proxy.contoso.example/x", "teams", ""),
        ("https://proxy.contoso.example/x", "json", ""),
    ],
)
def test_a_receiver_of_the_wrong_kind_is_suspicious(url: str, form: str, word: str) -> None:
    found = suspicious(target(url, form))
    assert word in found
    assert bool(word) == bool(found)


# --- after a cycle ---------------------------------------------------------------------------------------------


class Held:
    """An outbox in dictionaries, and how deals stand."""

    def __init__(self) -> None:
        self.deals: list[StandingDeal] = []
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}
        self.broken: Exception | None = None

    def standing(self) -> Sequence[StandingDeal]:
        if self.broken:
            raise self.broken
        return self.deals

    def won(self, since: datetime) -> Collection[str]:
        return ()

    def known(self, target: str) -> Mapping[str, Told]:
        return {
            key: Told(row["at"], row["told"]) for (whose, key), row in self.rows.items() if whose == target
        }

    def keep(self, target: str, due: Due, now: datetime) -> None:
        for key in due.ended:
            self.rows.pop((target, key), None)
        for notice in due.new:
            row = {"notice": notice, "at": now, "due": None if notice.silent else now, "told": notice.silent}
            self.rows[target, notice.key] = {**row, "tries": 0}

    def waiting(self, targets: Collection[str], now: datetime, limit: int) -> Sequence[Waiting]:
        due = [(key, row) for key, row in self.rows.items() if row["due"] is not None and row["due"] <= now]
        return [
            Waiting(whose, row["notice"], row["tries"], row["at"])
            for (whose, _), row in due
            if whose in targets
        ][:limit]

    def sent(self, target: str, key: str) -> None:
        self.rows[target, key].update(due=None, told=True)

    def put_off(self, target: str, key: str, again: datetime | None) -> None:
        row = self.rows[target, key]
        row.update(due=again, tries=row["tries"] + 1)

    def drop_others(self, targets: Collection[str]) -> None:
        self.rows = {key: row for key, row in self.rows.items() if key[0] in targets}

    def backlog(self, target: str) -> Backlog:
        return Backlog()

    def by_keys(self, keys: Sequence[str]) -> Mapping[str, Link]:
        return dict.fromkeys(keys, LINK)


class Bench:
    """A notifier over that outbox, with a clock that is set by hand."""

    def __init__(self, *targets: Target, **options: Any) -> None:
        self.held = Held()
        self.now = NOW
        self.notifier = Notifier(targets or [target()], self.held, self.held, lambda: self.now, **options)

    def cycle(self, error: Exception | None = None) -> list[dict[str, Any]]:
        """What is logged by the notices of a cycle that ends like this."""
        with structlog.testing.capture_logs() as logged, nullcontext() if error is None else pytest.raises(type(error)), self.notifier.watching("c1"):  # fmt: skip
            if error is not None:
                raise error
        return [line for line in logged if line["event"].startswith("notice.")]


@pytest.fixture
def web() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


def test_a_notice_that_fails_is_tried_with_growing_pauses_and_then_given_up(web: respx.MockRouter) -> None:
    bench = Bench()
    route = web.post(URL).respond(500)
    bench.held.deals = [StandingDeal("r:1", SyncState.CONFLICT)]
    pauses, failed, last = [], 0, NOW
    for minute in range(400):
        bench.now = NOW + timedelta(minutes=minute)
        logged = bench.cycle()
        if logged:
            pauses.append(round((bench.now - last).total_seconds() / 60))
            last, failed = bench.now, failed + 1
            assert logged[0]["event"] == "notice.failed"
            assert logged[0]["given_up"] is (failed == MOST_TRIES)
    assert pauses == [0, 1, 2, 4, 8, 16, 32, 60]
    assert len(route.calls) == MOST_TRIES
    assert "secret" not in json.dumps(logged)


def test_an_id_is_of_one_notice_and_the_same_in_each_repetition(web: respx.MockRouter) -> None:
    """A receiver that drops what it had by its id must not drop the next outage, or another connection's."""
    seen: dict[str, list[str]] = {"acme": [], "beta": []}
    route = web.post(URL)
    for name, ids in seen.items():
        bench = Bench(target(form="json"), connection=name)
        for hour, status, error in ((0, 500, True), (1, 200, True), (2, 200, False), (3, 200, True)):
            route.respond(status)
            bench.now, before = NOW + timedelta(hours=hour), len(route.calls)
            bench.cycle(Unavailable("salesforce", "away") if error else None)
            ids += [json.loads(call.request.content)["id"] for call in [*route.calls][before:]]
    first, again, over, second = seen["acme"]
    assert first == again
    assert len({first, over, second, *seen["beta"]}) == 6


def test_one_receiver_away_neither_stops_the_others_nor_is_asked_again_and_again(
    web: respx.MockRouter,
) -> None:
    bench = Bench(target("https://away.example/x"), target("https://up.example/x"))
    away = web.post("https://away.example/x").mock(side_effect=httpx.ConnectTimeout("x"))
    up = web.post("https://up.example/x").respond(200)
    bench.held.deals = [StandingDeal(f"r:{each}", SyncState.CONFLICT) for each in range(3)]
    bench.cycle()
    assert (len(away.calls), len(up.calls)) == (1, 3)
    away.mock(side_effect=[httpx.Response(200)] * 3)
    bench.now += timedelta(minutes=2)
    bench.cycle()
    assert (len(away.calls), len(up.calls)) == (4, 3)
    bench.now += timedelta(hours=2)
    bench.cycle()
    assert (len(away.calls), len(up.calls)) == (4, 3)


def test_retry_after_is_honoured(web: respx.MockRouter) -> None:
    bench = Bench()
    route = web.post(URL).respond(429, headers={"retry-after": "600"})
    bench.held.deals = [StandingDeal("r:1", SyncState.CONFLICT)]
    for minutes, calls in ((0, 1), (9, 1), (10, 2)):
        bench.now = NOW + timedelta(minutes=minutes)
        bench.cycle()
        assert len(route.calls) == calls


@pytest.mark.parametrize(
    ("error", "kind", "title"),
    [
        (Unavailable("partner_center", "x"), "outage", "Partner Center cannot be reached"),
        (AuthFailed("partner_center", "x"), "sign_in", "Partner Center refuses the sign-in"),
        (Broken("KeyError", "x.py:1"), "outage", "cosell-sync had an internal error"),
        (KeyError("x"), "outage", "cosell-sync had an internal error"),
        (Surprise("x"), "attention", "The sync has stopped before changing anything"),
    ],
)
def test_how_a_cycle_ended_is_told_and_stays_what_it_is(
    web: respx.MockRouter, error: Exception, kind: str, title: str
) -> None:
    bench = Bench()
    route = web.post(URL).respond(202)
    assert [line["kind"] for line in bench.cycle(error)] == [kind]
    assert json.loads(route.calls[0].request.content)["title"] == title
    assert bench.cycle(error) == []


@pytest.mark.parametrize("error", [ConfigError("x"), Fenced()])
def test_a_cycle_that_another_process_or_person_must_go_on_from_tells_nobody(
    web: respx.MockRouter, error: Exception
) -> None:
    assert Bench().cycle(error) == []


@pytest.mark.parametrize("failure", [Unavailable("store", "x"), RuntimeError("x")])
def test_an_outbox_that_fails_fails_no_cycle(web: respx.MockRouter, failure: Exception) -> None:
    bench = Bench()
    bench.held.broken = failure
    assert [line["event"] for line in bench.cycle()] == ["notice.failed"]


def test_in_the_background_a_receiver_that_hangs_holds_up_no_cycle() -> None:
    taken, may_go_on, sent = threading.Event(), threading.Event(), threading.Event()

    class Slow(Sender):
        def send(self, *_: Any) -> int:
            taken.set()
            assert may_go_on.wait(20)
            sent.set()
            return 200

    bench = Bench(background=True, sender=Slow())
    bench.held.deals = [StandingDeal("r:1", SyncState.CONFLICT)]
    bench.cycle()
    assert taken.wait(20)
    bench.cycle()  # ends, though the receiver has not answered
    assert not sent.is_set()
    may_go_on.set()
    bench.notifier.close()
    assert sent.is_set()
    assert [row["told"] for row in bench.held.rows.values()] == [True]


def test_what_is_logged_in_the_background_names_the_connection() -> None:
    """A thread begins with nothing that was bound; of several connections nobody could tell whose receiver fails."""
    bound: list[Any] = []

    class Asking(Sender):
        def send(self, *_: Any) -> int:
            bound.append(structlog.contextvars.get_contextvars().get("connection"))
            return 200

    bench = Bench(background=True, sender=Asking())
    bench.held.deals = [StandingDeal("r:1", SyncState.CONFLICT)]
    with structlog.contextvars.bound_contextvars(connection="acme"):
        bench.cycle()
    bench.notifier.close()
    assert bound == ["acme"]


def test_a_stop_ends_a_message_under_way_which_is_sent_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopping(Sender):
        def send(self, *_: Any) -> int:
            raise Stopped

    bench = Bench(sender=Stopping())
    bench.held.deals = [StandingDeal("r:1", SyncState.CONFLICT)]
    assert bench.cycle() == []
    assert [(row["told"], row["tries"], row["due"]) for row in bench.held.rows.values()] == [(False, 0, NOW)]


def test_sync_sends_for_a_few_seconds_at_most_and_the_rest_later(web: respx.MockRouter) -> None:
    seconds = iter(range(0, 1000, 4))
    bench = Bench(monotonic=lambda: float(next(seconds)))
    route = web.post(URL).respond(200)
    bench.held.deals = [StandingDeal(f"r:{each}", SyncState.CONFLICT) for each in range(5)]
    bench.cycle()
    assert len(route.calls) == notifier.BUDGET // 4
    bench.cycle()
    bench.cycle()
    assert len(route.calls) == 5
