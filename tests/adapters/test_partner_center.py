"""Partner Center's client at its edges: odd lists, lost answers, versions, the sign-in. Nothing leaves this process."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import respx
import structlog

from cosell_sync.core.deal import Customer, Member, Snapshot, Solution, State, Step
from cosell_sync.errors import (
    AuthFailed,
    CosellError,
    Flaky,
    Gone,
    Rejected,
    Stale,
    Unavailable,
    Unclear,
)
from cosell_sync.partner_center import read
from cosell_sync.partner_center.client import ID_HEADERS, PartnerCenter
from cosell_sync.partner_center.paging import REFERRALS
from cosell_sync.partner_center.signin import Application, Lent, SignIn
from cosell_sync.partner_center.values import WireOptions
from cosell_sync.ports import Outcome, ReferralDraft, Referrals, ReferralWrite
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import TokenSource

HOST = "https://api.partner.example"
LOGIN = "https://login.example"
LIST = HOST + REFERRALS
START = datetime(2026, 5, 4, 10, 0, tzinfo=UTC)
OVERLAP = timedelta(minutes=5)
US = "5c0e1f00-0000-4000-8000-0000000000aa"


def guid(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def referral(number: int = 1, **changes: Any) -> dict[str, Any]:
    """An accepted deal of ours."""
    stamp = f"2026-05-04T09:{number % 60:02d}:00.1234567Z"
    return {
        "id": guid(number),
        "engagementId": guid(900 + number),
        "organizationId": US,
        "name": f"Deal {number}",
        "status": "Active",
        "substatus": "Accepted",
        "type": "Independent",
        "qualification": "SalesQualified",
        "createdDateTime": stamp,
        "updatedDateTime": stamp,
        "eTag": f'"{number}-a"',
        "team": [],
        "details": {"dealValue": 10.5, "currency": "EUR", "notes": "old"},
        **changes,
    }


class Memory:
    """Tokens in a dict, with the order of what was saved."""

    def __init__(self, **tokens: str) -> None:
        self.tokens = dict(tokens)
        self.events: list[str] = []

    def load(self, name: str) -> str | None:
        return self.tokens.get(name)

    def save(self, name: str, token: str) -> None:
        self.tokens[name] = token
        self.events.append(f"saved {token}")


class Stand:
    """Partner Center over mocked answers, with a clock that only moves when somebody sleeps."""

    def __init__(self, mock: respx.MockRouter) -> None:
        self.mock = mock
        self.passed = 0.0
        self.slept: list[float] = []
        self.tokens = Memory(partner_center="refresh-0")
        self.application = Application("tenant", "client", None, LOGIN)
        self.granted = 0
        self.mock.post(f"{LOGIN}/tenant/oauth2/v2.0/token").mock(side_effect=self.grant)
        governor = self.governor()
        self.login = self.caller(LOGIN, self.governor(), None)
        self.source = TokenSource(
            SignIn(self.application, self.tokens, self.login, clock=self.clock), clock=self.clock
        )
        self.api = self.caller(HOST, governor, self.source)
        self.center = PartnerCenter(self.api)

    def clock(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.passed += seconds

    def governor(self) -> Governor:
        return Governor("partner_center", clock=self.clock, monotonic=lambda: self.passed, sleep=self.sleep)

    def caller(self, host: str, governor: Governor, tokens: TokenSource | None) -> HttpCaller:
        return HttpCaller(
            "partner_center",
            host,
            governor=governor,
            tokens=tokens,
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # trusts nobody, which is quick
            id_headers=ID_HEADERS,
            clock=self.clock,
            monotonic=lambda: self.passed,
            chance=lambda: 1.0,
        )

    def grant(self, request: httpx.Request) -> httpx.Response:
        form = parse_qs(request.content.decode())
        assert form["refresh_token"] == [self.tokens.tokens["partner_center"]]
        assert form["scope"] == ["https://api.partner.microsoft.com/.default offline_access"]
        self.granted += 1
        self.tokens.events.append("granted")
        answer = {"access_token": f"access-{self.granted}", "expires_in": 3600}
        return httpx.Response(200, json={**answer, "refresh_token": f"refresh-{self.granted}"})

    def answers(self, *answers: httpx.Response | Exception | Callable[..., httpx.Response]) -> respx.Route:
        return self.mock.route(url__startswith=LIST).mock(
            side_effect=answers[0] if len(answers) == 1 and callable(answers[0]) else list(answers)
        )

    def before(self, number: int = 1, **changes: Any) -> Snapshot:
        snapshot = read.snapshot(referral(number, **changes), WireOptions())
        assert snapshot is not None
        return snapshot

    def write(self, *steps: Step, number: int = 1) -> Outcome:
        (outcome,) = self.center.write([ReferralWrite(self.before(number), steps)])
        return outcome


@pytest.fixture
def stand() -> Iterator[Stand]:
    with respx.mock(assert_all_called=False) as mock:
        stand = Stand(mock)
        yield stand
        stand.api.close()
        stand.login.close()


def page(*rows: object, following: object = None) -> httpx.Response:
    body: dict[str, Any] = {"value": list(rows)}
    return httpx.Response(200, json={**body, "@odata.nextLink": following} if following else body)


def refused(status: int = 400, code: str = "invalidRequest", text: str = "No.") -> httpx.Response:
    return httpx.Response(status, json={"error": {"code": code, "message": text, "target": "$filter"}})


def queries(route: respx.Route) -> list[Mapping[str, list[str]]]:
    return [parse_qs(call.request.url.query.decode()) for call in route.calls]


NOTE = Step({"notes": "new"})


# --- lists ------------------------------------------------------------------------------------------------------


def test_it_is_the_port(stand: Stand) -> None:
    center: Referrals = stand.center
    assert center.calls == 0


def test_a_pull_asks_for_what_changed_and_moves_the_watermark(stand: Stand) -> None:
    route = stand.answers(page(referral(1), referral(2)))
    (found,) = stand.center.changed_since("2026-05-04T09:00:00.5Z", OVERLAP)
    assert queries(route) == [
        {"$filter": ["updatedDateTime ge 2026-05-04T08:55:00Z"], "$orderby": ["createdDateTime asc"]}
    ]
    assert "+" not in str(route.calls[0].request.url), "not every OData service reads a plus as a blank"
    assert [snapshot.id for snapshot in found.snapshots] == [guid(1), guid(2)]
    assert found.watermark == "2026-05-04T09:02:00.123456Z"


def test_an_idle_pull_is_one_call_and_keeps_the_watermark(stand: Stand) -> None:
    stand.answers(page())
    (found,) = stand.center.changed_since("2026-05-04T09:00:00Z", OVERLAP)
    assert (found.snapshots, found.watermark, stand.center.calls) == ([], None, 1)


def test_the_first_pull_has_no_filter(stand: Stand) -> None:
    route = stand.answers(page())
    list(stand.center.changed_since(None, OVERLAP))
    assert queries(route) == [{"$orderby": ["createdDateTime asc"]}]


def test_of_a_next_link_only_the_query_is_used(stand: Stand) -> None:
    """Printed samples say http and leave out /engagements; the token goes to our own address only."""
    link = "http://api.partner.example/v1.0/referrals?$skiptoken=abc%2Fdef"
    route = stand.answers(page(referral(1), following=link), page(referral(2)))
    pages = list(stand.center.changed_since(None, OVERLAP))
    assert [found.watermark for found in pages] == [None, "2026-05-04T09:02:00.123456Z"]
    assert str(route.calls[1].request.url) == f"{LIST}?$skiptoken=abc%2Fdef"
    assert route.calls[1].request.headers["authorization"] == "Bearer access-1"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/v1.0/engagements/referrals?$skiptoken=a",
        "https://api.partner.example@evil.example/?$skiptoken=a",
        "//evil.example/?$skiptoken=a",
        "https://api.partner.example/v1.0/engagements/referrals",
        "https://[evil/?$skiptoken=a",
        7,
        {"href": "x"},
    ],
    ids=repr,
)
def test_a_tricky_next_link_ends_the_pull(stand: Stand, link: object) -> None:
    evil = stand.mock.route(host="evil.example").respond(200)
    stand.answers(page(referral(1), following=link))
    with pytest.raises(Unavailable) as caught:
        list(stand.center.changed_since(None, OVERLAP))
    assert caught.value.code == "foreign_link"
    assert not evil.called


def test_a_list_that_goes_in_a_circle_is_noticed(stand: Stand) -> None:
    links = [f"{LIST}?$skiptoken={token}" for token in "aba"]
    stand.answers(*(page(referral(number), following=link) for number, link in enumerate(links, 1)))
    with pytest.raises(Unavailable) as caught:
        list(stand.center.index())
    assert caught.value.code == "paging_circle"


def test_a_list_of_ever_new_empty_pages_is_noticed(stand: Stand) -> None:
    numbers = iter(range(10_000))
    stand.answers(lambda _: page(following=f"{LIST}?$skiptoken={next(numbers)}"))
    with pytest.raises(Unavailable) as caught:
        list(stand.center.index())
    assert caught.value.code == "paging_circle"
    assert stand.center.calls < 50


def test_a_refused_filter_falls_back_to_newest_first(stand: Stand) -> None:
    rows = [referral(number) for number in (30, 20, 10, 5)]
    link = f"{LIST}?$skiptoken=2"
    route = stand.answers(
        refused(),
        refused(),
        page(*rows[:2], following=link),
        page(*rows[2:], following=f"{link}3"),
        page(rows[0]),
    )
    (found,) = stand.center.changed_since("2026-05-04T09:20:00Z", OVERLAP)
    assert [snapshot.id for snapshot in found.snapshots] == [guid(20), guid(30)], "oldest first"
    assert found.watermark == "2026-05-04T09:30:00.123456Z"
    asked = [query["$filter"][0].partition(" ge ")[2] for query in queries(route)[:2]]
    assert asked == ["2026-05-04T09:15:00Z", "'2026-05-04T09:15:00Z'"], "plain first, then in quotes"
    assert route.call_count == 4, "it stops at the watermark"
    (found,) = stand.center.changed_since(found.watermark, OVERLAP)
    assert queries(route)[4] == {"$orderby": ["updatedDateTime desc"]}, "and does not ask that again"


def test_a_list_promises_nothing_before_its_end(stand: Stand) -> None:
    stand.answers(page(referral(9), referral(3), following=f"{LIST}?$skiptoken=2"), page(referral(5)))
    pages = list(stand.center.changed_since(None, OVERLAP))
    assert [found.watermark for found in pages] == [None, "2026-05-04T09:09:00.123456Z"]


def dated(rows: httpx.Response, minute: int) -> httpx.Response:
    rows.headers["date"] = f"Mon, 04 May 2026 10:{minute:02}:00 GMT"
    return rows


def test_a_pull_without_news_moves_with_the_clock_of_the_service(stand: Stand) -> None:
    """Once a row is older than the overlap, no idle pull brings it again."""
    stand.answers(dated(page(referral(59)), 4), dated(page(referral(59)), 5), dated(page(), 11))
    mark = "2026-05-04T09:59:00.123456Z"
    assert [found.watermark for found in stand.center.changed_since(mark, OVERLAP)] == [None]
    (found,) = stand.center.changed_since(mark, OVERLAP)
    assert found.watermark == "2026-05-04T10:05:00Z"
    (found,) = stand.center.changed_since(found.watermark, OVERLAP)
    assert found.watermark == "2026-05-04T10:11:00Z"


def test_a_long_pull_holds_no_further_than_when_it_began(stand: Stand) -> None:
    """A row that was read on page one may have been edited while page two was."""
    edited = {**referral(1), "updatedDateTime": "2026-05-04T10:03:00Z"}
    pages = [dated(page(referral(1), following=f"{LIST}?$skiptoken=2"), 1), dated(page(edited), 3)]
    stand.answers(*pages)
    found = list(stand.center.changed_since(None, OVERLAP))
    assert [each.watermark for each in found] == [None, "2026-05-04T10:01:00Z"]


def test_a_clock_that_cannot_be_right_moves_nothing(stand: Stand) -> None:
    rows = page()
    rows.headers["date"] = "Fri, 31 Dec 9999 23:59:59 GMT"
    stand.answers(rows)
    (found,) = stand.center.changed_since("2026-05-04T09:00:00Z", OVERLAP)
    assert found.watermark is None


def test_a_continuation_that_is_refused_is_no_refused_filter(stand: Stand) -> None:
    stand.answers(page(referral(1), following=f"{LIST}?$skiptoken=old"), refused())
    pages = stand.center.changed_since("2026-05-04T09:00:00Z", OVERLAP)
    with pytest.raises(Unavailable):
        list(pages)
    assert stand.center.calls == 2


def test_rows_of_others_are_left_out_and_nonsense_harms_no_neighbour(stand: Stand) -> None:
    stand.answers(
        page(
            referral(1),
            referral(2, organizationId="msft"),
            None,
            7,
            {"name": "no id"},
            {"id": "../../evil"},
            referral(3, details={"dealValue": "lots"}, updatedDateTime="yesterday"),
            referral(4),
        )
    )
    with structlog.testing.capture_logs() as events:
        (found,) = stand.center.changed_since(None, OVERLAP)
    assert [snapshot.id for snapshot in found.snapshots] == [guid(1), guid(3), guid(4)]
    assert found.snapshots[1].text("problem")
    assert [event["count"] for event in events if event["event"] == "referrals.unreadable"] == [4]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, json={"value": None}),
        httpx.Response(200, json=[1]),
        httpx.Response(200),
        httpx.Response(200, text="<html>Please wait</html>"),
        httpx.Response(200, text='{"value": [{"id'),
        httpx.Response(302, headers={"location": "https://evil.example"}),
        httpx.Response(404),
        httpx.Response(500),
        httpx.ReadTimeout("slow"),
    ],
    ids=repr,
)
def test_a_list_that_cannot_be_had_is_the_systems_trouble(
    stand: Stand, answer: httpx.Response | Exception
) -> None:
    stand.answers(*[answer] * 9)
    with pytest.raises(Unavailable):
        list(stand.center.changed_since(None, OVERLAP))


def test_a_list_that_is_forbidden_is_a_failed_sign_in(stand: Stand) -> None:
    stand.answers(refused(403, "accessDenied"))
    with pytest.raises(AuthFailed) as caught:
        list(stand.center.changed_since(None, OVERLAP))
    assert (caught.value.code, caught.value.status) == ("accessDenied", 403)


def test_an_engagement_is_asked_for_quoted_then_unquoted(stand: Stand) -> None:
    both = page(referral(1), referral(2, organizationId="msft", organizationName="Microsoft"))
    route = stand.answers(refused(), both, both)
    sides = stand.center.engagement(guid(901))
    assert [side.text("category") for side in sides] == ["cosell", "foreign"]
    stand.center.engagement(guid(901))
    assert [query["$filter"][0] for query in queries(route)] == [
        f"engagementId eq '{guid(901)}'",
        f"engagementId eq {guid(901)}",
        f"engagementId eq {guid(901)}",
    ]
    assert stand.center.engagement("x' or 1 eq 1") == ()


def test_another_partners_side_is_foreign_once_we_know_who_we_are(stand: Stand) -> None:
    stand.answers(page(referral(1)), page(referral(1), referral(2, organizationId="another")))
    list(stand.center.changed_since(None, OVERLAP))
    assert [side.text("category") for side in stand.center.engagement(guid(901))] == ["cosell", "foreign"]


def test_a_created_referral_is_found_among_the_newest(stand: Stand) -> None:
    route = stand.answers(
        page(referral(1), following=f"{LIST}?$skiptoken=2"), page(referral(2, externalReferenceId="006"))
    )
    found = stand.center.find_created("006")
    assert found is not None
    assert found.id == guid(2)
    assert queries(route)[0] == {"$orderby": ["createdDateTime desc"]}


# --- single referrals -------------------------------------------------------------------------------------------


def test_each_fetched_referral_stands_for_itself(stand: Stand) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.path[-1])
        return {
            1: httpx.Response(200, json=referral(1)),
            2: refused(404, "itemNotFound"),
            3: refused(403, "accessDenied"),
            4: httpx.Response(500),
        }[number]

    stand.answers(answer)
    found = stand.center.fetch([guid(number) for number in (4, 3, 2, 1, 1)])
    assert list(found) == [guid(number) for number in (4, 3, 2, 1)]
    assert found[guid(2)] is None
    assert [bool(side and side.text("problem")) for side in found.values()] == [True, True, False, False]


def test_fetching_from_a_system_that_is_away_raises(stand: Stand) -> None:
    stand.answers(lambda _: httpx.Response(503))
    with pytest.raises(Unavailable):
        stand.center.fetch([guid(number) for number in range(1, 9)])


# --- writes -----------------------------------------------------------------------------------------------------


def test_a_patch_carries_the_etag_byte_for_byte(stand: Stand) -> None:
    route = stand.answers(httpx.Response(200, json=referral(1, eTag='"1-b"', details={"notes": "new"})))
    outcome = stand.write(NOTE)
    request = route.calls[0].request
    assert request.headers["if-match"] == '"1-a"'
    assert request.headers["prefer"] == "return=representation"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["client-request-id"] == request.headers["ms-correlationid"]
    assert json.loads(request.content) == [{"op": "replace", "path": "/details/notes", "value": "new"}]
    assert (outcome.error, outcome.steps) == (None, 1)
    assert outcome.snapshot is not None
    assert (outcome.snapshot.version, outcome.snapshot["notes"]) == ('"1-b"', "new")
    assert stand.center.calls == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(204),
        httpx.Response(200, json={}),
        httpx.Response(200, json=referral(2)),
        httpx.Response(200, json={**referral(1), "eTag": None}),
    ],
    ids=["204", "empty", "another", "no eTag"],
)
def test_without_a_usable_body_the_referral_is_read_back(stand: Stand, answer: httpx.Response) -> None:
    route = stand.answers(answer, httpx.Response(200, json=referral(1, eTag='"1-b"')))
    outcome = stand.write(NOTE)
    assert [call.request.method for call in route.calls] == ["PATCH", "GET"]
    assert outcome.error is None
    assert outcome.snapshot is not None
    assert outcome.snapshot.version == '"1-b"'


def test_a_read_back_that_fails_leaves_a_write_that_landed(stand: Stand) -> None:
    stand.answers(httpx.Response(204), *[httpx.Response(500)] * 5)
    assert stand.write(NOTE) == Outcome(guid(1), None, None, 1)


def test_steps_walk_in_order_each_with_the_new_etag(stand: Stand) -> None:
    route = stand.answers(
        httpx.Response(200, json=referral(1, eTag='"1-b"')),
        httpx.Response(204),
        httpx.Response(200, json=referral(1, eTag='"1-c"')),
        httpx.Response(200, json=referral(1, eTag='"1-d"', status="Closed", substatus="Won")),
    )
    outcome = stand.write(Step({}, State.ACCEPTED), NOTE, Step({}, State.WON))
    sent = [call.request.headers.get("if-match") for call in route.calls]
    assert sent == ['"1-a"', '"1-b"', None, '"1-c"']
    assert (outcome.error, outcome.steps) == (None, 3)
    assert outcome.snapshot is not None
    assert outcome.snapshot["state"] is State.WON


def test_a_walk_stops_where_somebody_else_has_moved_the_deal(stand: Stand) -> None:
    """Read after a step, it is closed: nothing more is sent to it, though its version is known."""
    route = stand.answers(
        httpx.Response(204),
        httpx.Response(200, json=referral(1, eTag='"1-c"', status="Closed", substatus="Lost")),
    )
    outcome = stand.write(Step({}, State.ACCEPTED), Step({}, State.WON))
    assert isinstance(outcome.error, Stale)
    assert (outcome.steps, route.call_count) == (1, 2)
    assert outcome.snapshot is not None
    assert outcome.snapshot["state"] is State.LOST


def test_a_walk_that_stops_says_how_far_it_came(stand: Stand) -> None:
    stand.answers(httpx.Response(200, json=referral(1, eTag='"1-b"')), refused(400, text="No, thanks."))
    outcome = stand.write(Step({}, State.ACCEPTED), Step({}, State.WON))
    assert isinstance(outcome.error, Rejected)
    assert (outcome.error.text, outcome.error.fields, outcome.steps) == ("No, thanks.", ("$filter",), 1)
    assert outcome.snapshot is not None
    assert outcome.snapshot.version == '"1-b"'


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refused(412, "preconditionFailed"), Stale),
        (refused(409, "resourceModified"), Stale),
        (refused(400, "resourceModified"), Stale),
        (refused(404, "itemNotFound"), Gone),
        (refused(403, "accessDenied"), Rejected),
        (refused(422), Rejected),
        (httpx.Response(418), Rejected),
        (httpx.ReadTimeout("slow"), Unclear),
        (httpx.ReadError("reset"), Unclear),
        (httpx.RemoteProtocolError("truncated"), Unclear),
        (httpx.Response(200, text="<html>Please wait</html>"), Unclear),
        (httpx.Response(200, text='{"id": "trunc'), Unclear),
        (httpx.Response(504), Unclear),
    ],
    ids=repr,
)
def test_what_becomes_of_a_write(
    stand: Stand, answer: httpx.Response | Exception, kind: type[CosellError]
) -> None:
    route = stand.answers(answer)
    outcome = stand.write(NOTE)
    assert type(outcome.error) is kind
    assert (outcome.steps, route.call_count) == (0, 1)
    assert stand.center.outage is None, "one record's trouble is not the system's"


TRIAL = Step({"name": "Ours"}, trial=True)


def hopeful(stand: Stand, **wire: Any) -> None:
    stand.center = PartnerCenter(stand.api, WireOptions(write_name=True, **wire))


def landed(letter: str, **changes: Any) -> httpx.Response:
    return httpx.Response(200, json=referral(1, eTag=f'"1-{letter}"', **changes))


def about_field(target: str | None) -> httpx.Response:
    error = {"code": "invalidRequest", "message": "No.", "target": target}
    return httpx.Response(400, json={"error": error})


def test_a_refusal_of_a_trial_that_names_something_else_is_no_answer(stand: Stand) -> None:
    """Then the deal fails like any other: the refusal is about the deal, not about whether names are taken."""
    hopeful(stand)
    stand.answers(about_field("status"))
    outcome = stand.write(TRIAL)
    assert isinstance(outcome.error, Rejected)
    assert (outcome.steps, outcome.refused) == (0, {})
    stand.answers(httpx.Response(403, json={"error": {"code": "accessDenied"}}))
    assert stand.write(TRIAL).error is not None


def test_a_trial_that_is_answered_500_again_and_again_holds_nothing(stand: Stand) -> None:
    """Each time the referral is seen unchanged; the step after the trial is guarded by the version before it."""
    hopeful(stand)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=referral(1))
        return httpx.Response(500) if b"/name" in request.content else landed("b")

    route = stand.answers(answer)
    outcome = stand.write(TRIAL, NOTE)
    assert (outcome.error, outcome.steps) == (None, 2)
    assert isinstance(outcome.refused["name"], Flaky)
    assert route.calls.last.request.headers["if-match"] == '"1-a"'


STAGE = Step({"sales_stage": "Propose", "notes": "x"})


def stages_sent(route: respx.Route) -> list[str]:
    bodies = [json.loads(call.request.content) for call in route.calls if call.request.content]
    return [each["value"] for body in bodies for each in body if each["path"] == "/salesStage"]


def test_a_refused_sales_stage_is_sent_in_its_other_form_once(stand: Stand) -> None:
    hopeful(stand, sales_stage="auto")
    route = stand.answers(about_field("salesStage"), landed("b", salesStage="Propose"), landed("c"))
    assert stand.write(STAGE).error is None
    assert stages_sent(route) == ["60", "Propose"]
    stand.write(STAGE)
    assert stages_sent(route)[2:] == ["Propose"], "from then on at once"


@pytest.mark.parametrize("target", ["details.notes", "salesStage"])
def test_a_refusal_that_the_other_form_does_not_cure_is_the_first_one(stand: Stand, target: str) -> None:
    """One that names another property is not about the form; what both forms are refused for settles nothing."""
    hopeful(stand, sales_stage="auto")
    route = stand.answers(*[about_field(target)] * 4)
    error = stand.write(Step({"sales_stage": "Propose"})).error
    assert isinstance(error, Rejected)
    assert error.fields == (target,)
    assert stages_sent(route) == (["60", "Propose"] if target == "salesStage" else ["60"])


def test_a_configured_form_is_never_changed(stand: Stand) -> None:
    hopeful(stand)
    route = stand.answers(about_field("salesStage"))
    assert isinstance(stand.write(Step({"sales_stage": "Propose"})).error, Rejected)
    assert stages_sent(route) == ["60"]


def test_a_sales_stage_ignored_in_both_forms_is_not_sent_twice_again(stand: Stand) -> None:
    hopeful(stand, sales_stage="auto")
    route = stand.answers(landed("b"), landed("c"), landed("d"))
    assert stand.write(STAGE).error is None
    assert stages_sent(route) == ["60", "Propose"]
    stand.write(STAGE)
    assert stages_sent(route)[2:] == ["60"]


def test_a_post_refused_for_its_sales_stage_is_posted_in_the_other_form(stand: Stand) -> None:
    """A 400 made nothing. A refusal that does not name the stage is not repeated."""
    hopeful(stand, sales_stage="auto")
    draft = replace(DRAFT, fields={**DRAFT.fields, "sales_stage": "Propose"})
    route = stand.answers(about_field("salesStage"), landed("a", salesStage="Propose"), about_field(None))
    assert stand.center.create(draft).error is None
    posted = [json.loads(call.request.content)["salesStage"] for call in route.calls]
    assert posted == ["60", "Propose"]
    assert isinstance(stand.center.create(draft).error, Rejected)
    assert route.call_count == 3


def test_an_answer_500_is_settled_by_looking(stand: Stand) -> None:
    """The same eTag proves that nothing happened: it may be tried again."""
    landed = httpx.Response(200, json=referral(1, eTag='"1-b"'))
    route = stand.answers(httpx.Response(500), httpx.Response(200, json=referral(1)), landed)
    assert stand.write(NOTE).error is None
    assert [call.request.method for call in route.calls] == ["PATCH", "GET", "PATCH"]


def test_an_answer_500_to_a_write_that_landed_is_unclear(stand: Stand) -> None:
    route = stand.answers(httpx.Response(500), httpx.Response(200, json=referral(1, eTag='"1-b"')))
    outcome = stand.write(NOTE)
    assert isinstance(outcome.error, Unclear)
    assert outcome.snapshot is not None
    assert outcome.snapshot.version == '"1-b"'
    assert route.call_count == 2


def test_one_record_that_always_fails_is_flaky_and_harms_no_other(stand: Stand) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        number = int(request.url.path[-1])
        if number == 2 and request.method == "PATCH":
            return httpx.Response(500)
        return httpx.Response(200, json=referral(number))

    stand.answers(answer)
    batch = [ReferralWrite(stand.before(number), (NOTE,)) for number in range(1, 7)]
    outcomes = stand.center.write(batch)
    assert [outcome.id for outcome in outcomes] == [write.before.id for write in batch]
    assert [type(outcome.error) for outcome in outcomes if outcome.error] == [Flaky]
    assert stand.center.outage is None


@pytest.mark.parametrize("headers", [{"retry-after": "7"}, {}])
def test_a_throttled_write_is_sent_again(stand: Stand, headers: dict[str, str]) -> None:
    stand.answers(
        httpx.Response(429, headers=headers, json={"statusCode": 429, "message": "slow"}),
        httpx.Response(200, json=referral(1)),
    )
    assert stand.write(NOTE).error is None
    assert sum(stand.slept) == float(headers.get("retry-after", 1))


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (httpx.Response(503), Unavailable, "unavailable"),
        (httpx.ConnectError("refused"), Unavailable, "unavailable"),
        (httpx.Response(429, headers={"retry-after": "999"}), Unavailable, "unavailable"),
        (httpx.Response(401), AuthFailed, "unauthenticated"),
    ],
    ids=repr,
)
def test_when_the_system_goes_away_nothing_further_is_started(
    stand: Stand, answer: httpx.Response | Exception, kind: type[CosellError], code: str
) -> None:
    route = stand.mock.route(url__startswith=LIST)

    def play(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("1"):
            return httpx.Response(200, json=referral(1))
        if isinstance(answer, Exception):
            raise answer
        return answer

    route.mock(side_effect=play)
    stand.center = PartnerCenter(stand.api, workers=1)
    outcomes = stand.center.write([ReferralWrite(stand.before(n), (NOTE,)) for n in range(1, 10)])
    assert outcomes[0].error is None
    assert {type(outcome.error) for outcome in outcomes[1:]} == {Flaky}
    assert {outcome.error.code for outcome in outcomes[1:] if outcome.error} == {code}
    assert type(stand.center.outage) is kind
    asked = {call.request.url.path[-1] for call in route.calls}
    assert asked == {"1", "2"}
    stand.passed += 1000
    route.mock(side_effect=[page()])
    list(stand.center.changed_since(None, OVERLAP))
    assert stand.center.outage is None


def test_several_lost_answers_in_a_row_are_the_systems_trouble(stand: Stand) -> None:
    """Else a hanging system would cost half a minute for each of a thousand deals."""
    stand.center = PartnerCenter(stand.api, workers=1)

    def play(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    stand.answers(play)
    outcomes = stand.center.write([ReferralWrite(stand.before(n), (NOTE,)) for n in range(1, 10)])
    assert [type(outcome.error) for outcome in outcomes] == [Unclear] * 3 + [Flaky] * 6
    assert isinstance(stand.center.outage, Unavailable)


def test_what_may_not_be_written_is_refused_before_it_is_sent(stand: Stand) -> None:
    route = stand.answers(httpx.Response(200))
    assert isinstance(stand.write(Step({"name": "x"})).error, Rejected)
    assert isinstance(stand.write(Step({}, State.EXPIRED)).error, Rejected)
    unguarded = replace(stand.before(), version="")
    (outcome,) = stand.center.write([ReferralWrite(unguarded, (NOTE,))])
    assert isinstance(outcome.error, Stale), "without a version there would be no check at all"
    assert not route.called


def test_an_unchanged_close_date_costs_no_write(stand: Stand) -> None:
    held = {"closingDateTime": "2026-11-30T17:45:00Z"}
    route = stand.answers(httpx.Response(200, json=referral(1, details=held)))
    before = stand.before(details=held)
    (outcome,) = stand.center.write([ReferralWrite(before, (Step({"close_date": date(2026, 11, 30)}),))])
    assert (outcome.error, outcome.steps) == (None, 1)
    assert [call.request.method for call in route.calls] == ["GET"]


def test_eight_threads_share_one_new_token_and_keep_their_headers(stand: Stand) -> None:
    seen: list[Mapping[str, str]] = []

    def play(request: httpx.Request) -> httpx.Response:
        seen.append(dict(request.headers))
        if request.headers["authorization"] == "Bearer access-1":
            return httpx.Response(401, json={"error": {"code": "unAuthorized", "message": "no"}})
        return httpx.Response(200, json=referral(int(request.url.path[-1]), eTag='"new"'))

    stand.answers(play)
    stand.source.token()
    stand.center = PartnerCenter(stand.api, workers=8)
    outcomes = stand.center.write([ReferralWrite(stand.before(n), (NOTE,)) for n in range(1, 9)])
    assert [outcome.error for outcome in outcomes] == [None] * 8
    assert stand.granted == 2
    again = [headers for headers in seen if headers["authorization"] == "Bearer access-2"]
    assert sorted(headers["if-match"] for headers in again) == [f'"{n}-a"' for n in range(1, 9)]
    assert {headers["prefer"] for headers in again} == {"return=representation"}
    assert len({headers["client-request-id"] for headers in seen}) == len(seen)
    assert stand.center.calls == len(seen), "sign-ins are not counted"


def test_a_plan_borrows_the_token_that_the_last_sign_in_left(stand: Stand) -> None:
    """So it stores nothing; one that is refused, or about to expire, is not borrowed again."""
    sign_in = SignIn(stand.application, stand.tokens, stand.login, clock=stand.clock)
    assert Lent(sign_in, stand.tokens, clock=stand.clock)().value == "access-1"
    saved = list(stand.tokens.events)
    borrowing = Lent(sign_in, stand.tokens, borrow=True, clock=stand.clock)
    assert borrowing().value == "access-1"
    assert stand.tokens.events == saved
    assert borrowing().value == "access-2"
    stand.passed += 3590
    assert Lent(sign_in, stand.tokens, borrow=True, clock=stand.clock)().value == "access-3"


# --- creating ---------------------------------------------------------------------------------------------------

DRAFT = ReferralDraft(
    "006Ab00000XyZ12",
    {
        "name": "Harbor Mills",
        "value": Decimal("84000.10"),
        "currency": "EUR",
        "close_date": date(2026, 11, 30),
        "customer": Customer("Harbor Mills GmbH", "Kai 7", None, "Bremen", None, "28195", "DE"),
        "team": (Member("ida.kern@partner.example", "Ida", "Kern", "+49421000001"),),
        "solutions": (Solution("SOL-10001-ABC", "Mill Planner"),),
        "consent": True,
    },
)


@pytest.mark.parametrize("status", [200, 201])
def test_a_create_is_one_post(stand: Stand, status: int) -> None:
    route = stand.answers(httpx.Response(status, json=referral(1)))
    outcome = stand.center.create(DRAFT)
    assert (outcome.id, outcome.error, route.call_count) == (guid(1), None, 1)
    assert b'"dealValue":84000.10' in route.calls[0].request.content, "no float noise"


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.Response(500),
        httpx.Response(503),
        httpx.Response(200),
        httpx.Response(200, json={"id": None}),
        httpx.Response(200, text="<html>"),
    ],
    ids=repr,
)
def test_a_create_without_a_clear_answer_is_never_repeated(
    stand: Stand, answer: httpx.Response | Exception
) -> None:
    route = stand.answers(answer)
    outcome = stand.center.create(DRAFT)
    assert isinstance(outcome.error, Unclear)
    assert (outcome.id, route.call_count) == (None, 1)


def test_a_refused_create_says_why(stand: Stand) -> None:
    stand.answers(refused(400, text="Country must have two letters."))
    outcome = stand.center.create(DRAFT)
    assert isinstance(outcome.error, Rejected)
    assert outcome.error.text == "Country must have two letters."


def test_a_create_that_did_not_reach_the_system_raises(stand: Stand) -> None:
    stand.answers(httpx.ConnectError("refused"))
    with pytest.raises(Unavailable):
        stand.center.create(DRAFT)


def test_an_invitation_without_a_kind_of_help_is_a_bug_told_as_a_refusal(stand: Stand) -> None:
    outcome = stand.center.create(replace(DRAFT, engagement_id=guid(1)))
    assert isinstance(outcome.error, Rejected)
    assert stand.center.calls == 0


# --- the sign-in ------------------------------------------------------------------------------------------------


def test_a_rotated_refresh_token_is_stored_before_its_access_token_is_used(stand: Stand) -> None:
    def play(_: httpx.Request) -> httpx.Response:
        stand.tokens.events.append("called")
        return page()

    stand.answers(play)
    list(stand.center.index())
    assert stand.tokens.events == ["granted", "saved refresh-1", "called"]
    stand.passed = 3600
    list(stand.center.index())
    assert stand.tokens.events[3:] == ["granted", "saved refresh-2", "called"]


def test_a_token_is_renewed_some_minutes_before_it_expires(stand: Stand) -> None:
    stand.answers(page(), page(), page())
    list(stand.center.index())
    stand.passed = 54 * 60
    list(stand.center.index())
    assert stand.granted == 1
    stand.passed = 56 * 60
    list(stand.center.index())
    assert stand.granted == 2


def sign_in_answer(stand: Stand, *answers: httpx.Response) -> None:
    stand.mock.post(f"{LOGIN}/tenant/oauth2/v2.0/token").mock(side_effect=list(answers))


@pytest.mark.parametrize(
    ("status", "error", "number", "hint"),
    [
        (400, "invalid_grant", 70008, "cosell-sync login"),
        (400, "interaction_required", 50076, "user with MFA: run cosell-sync login"),
        (401, "invalid_client", 7000222, "partner_center.client_secret has expired"),
        (401, "invalid_client", 1234567, "check partner_center.client_id and partner_center.client_secret"),
        (403, "access_denied", 1234567, "cosell-sync login"),
    ],
)
def test_a_refused_sign_in_names_the_code_and_the_next_step(
    stand: Stand, status: int, error: str, number: int, hint: str
) -> None:
    text = f"AADSTS{number}: The refresh token of ida.kern@partner.example has expired."
    sign_in_answer(stand, httpx.Response(status, json={"error": error, "error_description": text}))
    with pytest.raises(AuthFailed) as caught:
        stand.source.token()
    assert caught.value.code == error
    assert f"AADSTS{number}" in str(caught.value)
    assert "ida.kern" not in str(caught.value)
    assert hint in caught.value.hint
    assert stand.tokens.tokens == {"partner_center": "refresh-0"}, "a stored token is never discarded"


def test_without_a_token_nothing_is_called(stand: Stand) -> None:
    stand.tokens.tokens.clear()
    with pytest.raises(AuthFailed) as caught:
        list(stand.center.index())
    assert "cosell-sync login" in caught.value.hint
    assert stand.granted == stand.center.calls == 0


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(503),
        httpx.Response(400, json={"error": "temporarily_unavailable"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={"token_type": "Bearer"}),
        httpx.Response(200, json=[]),
    ],
    ids=repr,
)
def test_a_sign_in_that_stumbles_is_no_refusal(stand: Stand, answer: httpx.Response) -> None:
    sign_in_answer(stand, *[answer] * 9)
    with pytest.raises(Unavailable):
        stand.source.token()


def test_a_confidential_client_sends_its_secret(stand: Stand) -> None:
    forms: list[Mapping[str, list[str]]] = []

    def grant(request: httpx.Request) -> httpx.Response:
        forms.append(parse_qs(request.content.decode()))
        return httpx.Response(200, json={"access_token": "a", "expires_in": "nonsense"})

    stand.mock.post(f"{LOGIN}/tenant/oauth2/v2.0/token").mock(side_effect=grant)
    application = replace(stand.application, client_secret="s3cret&+")
    token = SignIn(application, stand.tokens, stand.login, clock=stand.clock)()
    assert forms[0]["client_secret"] == ["s3cret&+"]
    assert token.expires_at == START + timedelta(hours=1)
    assert "s3cret" not in repr(application)
    assert "'a'" not in repr(token)
    assert stand.tokens.events == [], "an answer without a refresh token leaves the stored one"


# --- MFA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["900421", 900421])
@pytest.mark.parametrize("act", ["list", "read", "create"])
def test_a_user_without_mfa_is_told_to_sign_in_again_with_it(stand: Stand, act: str, code: object) -> None:
    """Another token is tried first, for somebody may have signed in since."""
    body = {
        "code": code,
        "description": "ida.kern@partner.example has no MFA.",
        "data": [],
        "source": "PartnerFD",
    }
    stand.answers(*[httpx.Response(401, json=body)] * 2)
    acts: dict[str, Callable[[], object]] = {
        "list": lambda: list(stand.center.index()),
        "read": lambda: stand.center.fetch([guid(1)]),
        "create": lambda: stand.center.create(DRAFT),
    }
    with pytest.raises(AuthFailed) as caught:
        acts[act]()
    assert caught.value.code == "900421"
    assert "multifactor authentication (MFA)" in str(caught.value)
    assert caught.value.hint == "sign in again as a user with MFA: run cosell-sync login"
    assert "ida.kern" not in str(caught.value)
    assert (stand.granted, stand.center.calls) == (2, 2)


def test_a_sign_in_with_mfa_counts_with_the_next_call(stand: Stand) -> None:
    stand.answers(httpx.Response(401, json={"code": "900421", "description": "No MFA."}), page())
    list(stand.center.index())
    assert stand.granted == 2


# --- what the sign-in shows -------------------------------------------------------------------------------------


def test_one_page_tells_of_which_locations_referrals_are_seen(stand: Stand) -> None:
    rows = [referral(number, mpnId=place) for number, place in enumerate(["1", "2", "2", None, 5])]
    rows.append(referral(9, organizationId="msft", organizationName="Microsoft"))
    answer = {"value": rows, "@odata.nextLink": "http://x/?$skiptoken=1"}
    stand.answers(httpx.Response(200, json=answer, headers={"isMfaCompliant": "false"}))
    seen = stand.center.sight()
    assert (seen.referrals, seen.more, seen.mfa) == (5, True, False)
    assert seen.locations == {"2": 2, "": 2, "1": 1}
    assert seen.organizations == {US: ""}
    assert stand.center.calls == 1


@pytest.mark.parametrize(("said", "mfa"), [("True", True), ("false", False), ("maybe", None)])
def test_the_reply_tells_of_mfa_where_the_token_cannot_be_read(
    stand: Stand, said: str, mfa: bool | None
) -> None:
    stand.answers(httpx.Response(200, json={"value": []}, headers={"isMfaCompliant": said}))
    assert stand.center.sight().mfa is mfa
