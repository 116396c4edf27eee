"""Acting in the console: only who is signed in, only from its own forms, and only what the commands would do."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from console_world import World, deal, in_conflict, urgent
from structlog.testing import capture_logs
from werkzeug.test import Client, TestResponse

from cosell_sync.core.memory import FinalKind, Link, Memory, OperatorCommand, Verb, Withheld, WithheldBy
from cosell_sync.cycle.commands import Refused, obey
from cosell_sync.errors import Unavailable
from cosell_sync.web import forms, sessions

TOKEN = "correct horse battery staple"
HOME = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
WITHHELD = Memory(withheld=(Withheld(FinalKind.ACCEPT, "Qualification", WithheldBy.COUNT),))


def page_of(link: Link) -> str:
    return f"/deals/{link.referral_id}"


class Desk(World):
    """A console with a token file, and a browser that signs in and presses buttons."""

    def __init__(self, folder: Path, *links: Link, **options: Any) -> None:
        self.file = folder / "console-token"
        self.file.write_text(f"{TOKEN}\n")
        self.file.chmod(0o600)
        super().__init__(list(links), token=self.file, **options)

    def sign_in(self, token: str = TOKEN, *, web: Client | None = None, **changes: Any) -> TestResponse:
        form = {"token": token, "next": "/deals?state=parked"}
        return (web or self.web).post("/sign-in", data=form, headers={**HOME, **changes})

    def form(self, link: Link, button: str) -> dict[str, str]:
        """What a browser sends when this button of the deal's page is pressed."""
        for form in re.findall(r"<form class=\"card\".*?</form>", self.page(page_of(link)), re.DOTALL):
            for attributes, label in re.findall(r"<button([^>]*)>([^<]*)</button>", form):
                if label.startswith(button):
                    pressed = re.findall(r'name="(\w+)" value="([^"]*)"', attributes)
                    return dict([*re.findall(r'name="(\w+)" value="([^"]*)"', form), *pressed])
        raise AssertionError(f"there is no button {button}")

    def press(self, link: Link, button: str) -> TestResponse:
        return self.send(link, self.form(link, button))

    def send(self, link: Link, form: dict[str, str], **changes: Any) -> TestResponse:
        return self.web.post(page_of(link), data=form, headers={**HOME, **changes})

    def asked(self) -> list[tuple[str, str, str, str]]:
        return [(order.verb, order.target, order.field, order.side) for order in self.store.orders()]


def words(answer: TestResponse) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", answer.text.partition("<body>")[2]).split())


PARKED = deal(1, "Lakehouse", memory=urgent("No.", parked=True))


def test_without_a_token_file_there_is_nothing_to_post_to() -> None:
    world = World([PARKED])
    for path, status in (("/sign-in", 404), ("/sign-out", 404), (page_of(PARKED), 405), ("/", 405)):
        assert world.web.post(path, data={"verb": "retry"}, headers=HOME).status_code == status
    assert world.web.get("/sign-in").status_code == 404
    for path in ("/", page_of(PARKED)):
        assert "<form" not in world.page(path)
        assert "Sign in" not in world.page(path)
    assert world.web.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_who_is_not_signed_in_reads_and_finds_the_way_in(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    page = desk.page(page_of(PARKED))
    assert 'method="post"' not in page
    assert f'href="/sign-in?next={page_of(PARKED)}"' in page
    assert "Sign in to act on this deal" in page
    assert desk.send(PARKED, {"verb": "retry"}).status_code == 403
    assert desk.asked() == []


def test_signing_in_and_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    with capture_logs() as log:
        answer = desk.sign_in()
    assert (answer.status_code, answer.location) == (303, "/deals?state=parked")
    cookie = answer.headers["Set-Cookie"]
    for part in ("cosell_session=", "HttpOnly", "SameSite=Strict", "Path=/"):
        assert part in cookie
    assert "Secure" not in cookie
    assert "Domain" not in cookie
    assert [line["event"] for line in log] == ["console.signed_in"]
    assert TOKEN not in str(log)
    assert "Sign out" in desk.page("/")
    assert desk.web.get("/sign-in?next=/deals").location == "/deals"
    key = re.search(r'name="form_key" value="([^"]+)"', desk.page("/"))
    assert key
    assert desk.web.post("/sign-out", data={"form_key": "x"}, headers=HOME).status_code == 403
    assert "Sign out" in desk.page("/")
    assert desk.web.post("/sign-out", data={"form_key": key[1]}, headers=HOME).location == "/"
    assert "Sign out" not in desk.page("/")
    desk.web.set_cookie(
        "cosell_session", cookie.partition("=")[2].partition(";")[0]
    )  # an old cookie is worth nothing
    assert "Sign out" not in desk.page("/")


def test_over_https_the_cookie_stays_there(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED, hosts=("cosell.example.com",))
    outside = {"Host": "cosell.example.com", "X-Forwarded-Proto": "https"}
    cookie = desk.sign_in(**outside, Origin="https://cosell.example.com").headers["Set-Cookie"]
    assert cookie.startswith("__Host-cosell_session=")
    assert "Secure" in cookie


@pytest.mark.parametrize("token", ["", "wrong", TOKEN.upper(), f"{TOKEN}x", "ä" * 1000, "\x00"])
def test_a_wrong_token_opens_nothing(tmp_path: Path, token: str) -> None:
    desk = Desk(tmp_path, PARKED)
    with capture_logs() as log:
        answer = desk.sign_in(token)
    assert answer.status_code == 403
    assert "This is not the token." in words(answer)
    assert "Set-Cookie" not in answer.headers
    assert [(line["event"], line["reason"]) for line in log] == [("console.refused", "token")]
    assert desk.told == ["refused"]
    assert not token or token not in str(log)


def test_guessing_is_bounded_by_address_and_harms_nobody_else(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    stranger, colleague = Client(desk.application), Client(desk.application)

    def guess(address: str, token: str = "wrong", web: Client = stranger) -> int:
        form = {"token": token}
        return web.post(
            "/sign-in", data=form, headers=HOME, environ_base={"REMOTE_ADDR": address}
        ).status_code

    assert [guess("10.0.0.9") for _ in range(7)] == [403] * 5 + [429] * 2
    assert guess("10.0.0.9", TOKEN) == 429  # not even looked at
    assert guess("10.0.0.8", TOKEN, colleague) == 303
    assert "Sign out" in desk.page("/")  # who is signed in stays so
    assert [guess(f"2001:db8::{number}") for number in range(6)] == [403] * 5 + [
        429
    ]  # one host owns them all
    assert guess("2001:db8:0:1::1") == 403
    desk.seconds += sessions.PENALTY
    assert guess("10.0.0.9", TOKEN) == 303
    assert [guess("10.0.0.9") for _ in range(5)] == [403] * 5  # a right one forgave what was before


def test_addresses_are_not_remembered_without_end() -> None:
    guesses = sessions.Guesses(lambda: 0.0)
    for number in range(2 * sessions.ADDRESSES):
        assert guesses.take(f"10.0.{number // 256}.{number % 256}")
    assert len(guesses._known) == sessions.ADDRESSES


def test_sessions_end_by_themselves(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    form = desk.form(PARKED, "Try again")
    desk.seconds += sessions.IDLE
    assert "not signed in any more" in words(desk.send(PARKED, form))
    desk.sign_in()
    for _ in range(int(sessions.LONGEST / sessions.IDLE * 2)):
        assert "Sign out" in desk.page("/")
        desk.seconds += sessions.IDLE / 2
    assert "Sign out" not in desk.page("/")
    assert desk.asked() == []


def test_there_are_never_many_sessions(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    first = Client(desk.application)
    desk.sign_in(web=first)
    for _ in range(sessions.MOST):
        assert "Sign out" in first.get("/").text
        desk.sign_in(web=Client(desk.application))
    assert "Sign out" not in first.get("/").text


def test_another_token_signs_everybody_out(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    desk.file.write_text("a new token of the operators")
    assert "Sign out" not in desk.page("/")
    assert desk.sign_in().status_code == 403
    assert desk.sign_in("a new token of the operators").status_code == 303
    desk.file.unlink()
    assert "Sign out" not in desk.page("/")


@pytest.mark.parametrize(
    ("content", "mode"),
    [(None, 0), ("", 0o600), ("\n", 0o600), ("short", 0o600), (TOKEN, 0o604), ("x" * 2000, 0o600)],
)
def test_a_file_that_may_not_be_used_lets_nobody_in(tmp_path: Path, content: str | None, mode: int) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.file.unlink()
    if content is not None:
        desk.file.write_text(content)
        desk.file.chmod(mode)
    with capture_logs() as log:
        answer = desk.sign_in(content or "")
    assert answer.status_code == 503
    assert "cannot be read at the moment" in words(answer)
    assert str(desk.file) not in answer.text
    assert [line["event"] for line in log] == ["console.token_unusable"]
    assert not content or len(content) < 5 or content.strip() not in str(log) or content == "\n"


FOREIGN: list[tuple[dict[str, str], int]] = [
    ({"Origin": "http://evil.example"}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": ""}, 403),
    ({"Origin": "http://localhost:81"}, 403),
    ({"Origin": "http://[", "Sec-Fetch-Site": "same-origin"}, 403),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "none"}, 403),
    ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    ({"Host": "localhost.evil.example", "Origin": "http://localhost.evil.example"}, 421),
    ({"Host": "", "Origin": ""}, 421),
    ({"Content-Type": "text/plain"}, 415),
    ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ({"Content-Type": "application/json"}, 415),
]


@pytest.mark.parametrize(("changes", "status"), FOREIGN)
def test_a_form_from_elsewhere_does_nothing(tmp_path: Path, changes: dict[str, str], status: int) -> None:
    """Though it carries the cookie and even the key."""
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    form = desk.form(PARKED, "Try again")
    with capture_logs() as log:
        assert desk.send(PARKED, form, **changes).status_code == status
        assert desk.sign_in(**changes).status_code == status
    assert {line["event"] for line in log} == {"console.refused"}
    assert desk.asked() == []
    assert desk.press(PARKED, "Try again").status_code == 303


@pytest.mark.parametrize("key", [None, "", "x", "ü", "of another session"])
def test_a_form_without_the_key_of_this_session_does_nothing(tmp_path: Path, key: str | None) -> None:
    desk = Desk(tmp_path, PARKED)
    other = Client(desk.application)
    desk.sign_in(web=other)
    foreign = re.search(r'name="form_key" value="([^"]+)"', other.get("/").text)
    desk.sign_in()
    form = desk.form(PARKED, "Try again")
    assert foreign
    assert foreign[1] != form["form_key"]
    if key is None:
        del form["form_key"]
    else:
        form["form_key"] = foreign[1] if key.startswith("of") else key
    assert desk.send(PARKED, form).status_code == 403
    assert desk.asked() == []


def test_forms_are_small_and_tell_their_length(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    assert desk.send(PARKED, {"verb": "x" * forms.BODY_CAP}).status_code == 413
    answer = desk.web.post(
        page_of(PARKED),
        data={"verb": "retry"},
        headers=HOME,
        environ_overrides={"HTTP_TRANSFER_ENCODING": "chunked"},
    )
    assert answer.status_code == 411


def test_under_a_name_of_a_stranger_nothing_is_shown(tmp_path: Path) -> None:
    """A name that a stranger pointed here would make the stranger's page one of ours. An address or a listed name is fine."""
    desk = Desk(tmp_path, PARKED, hosts=("Cosell.example.com",))
    for host, status in (
        ("evil.example", 421),
        ("cosell.example.com:8443", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("LOCALHOST:8080", 200),
        ("[", 421),
    ):
        for path in ("/", "/deals", page_of(PARKED), "/sign-in"):
            assert desk.web.get(path, headers={"Host": host}).status_code == status, (host, path)
        assert desk.web.get("/livez", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("/deals?state=parked&text=a%20b", "/deals?state=parked&text=a%20b"),
        ("//evil.example/deals", "/"),
        ("https://evil.example/deals/1", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/deals/1\r\nSet-Cookie: x=y", "/deals/1Set-Cookie%3A%20x%3Dy"),
        ("/metrics", "/"),
        ("http://[", "/"),
    ],
)
def test_it_leads_back_to_its_own_pages_only(tmp_path: Path, asked: str, found: str) -> None:
    desk = Desk(tmp_path, PARKED)
    answer = desk.web.post("/sign-in", data={"token": TOKEN, "next": asked}, headers=HOME)
    assert answer.location == found
    assert len(answer.headers.getlist("Set-Cookie")) == 1


def test_a_retry_waits_for_the_next_cycle_once(tmp_path: Path) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    form = desk.form(PARKED, "Try again")
    with capture_logs() as log:
        answer = desk.send(PARKED, form)
    assert (answer.status_code, answer.location) == (303, f"{page_of(PARKED)}#orders")
    assert [(line["event"], line["verb"], line["target"]) for line in log] == [
        ("console.ordered", "retry", PARKED.referral_id)
    ]
    assert desk.send(PARKED, form).status_code == 303  # sent twice, ordered once
    assert desk.asked() == [("retry", PARKED.referral_id, "", "")]
    assert desk.woken == 1
    said = words(desk.web.get(page_of(PARKED)))
    assert "Waits for the next cycle Try again" in said
    assert "Try it again" not in said  # no button for what is ordered
    carried(desk)
    assert "Waits for the next cycle" not in words(desk.web.get(page_of(PARKED)))
    # the same form once more, of a deal that is due already: refused as the command does
    again = desk.send(PARKED, form)
    assert again.status_code == 409
    assert f"Nothing of the deal {PARKED.referral_id} failed or was refused: it is due" in words(again)
    assert desk.asked() == []


def carried(desk: Desk) -> None:
    """What the next cycle does first."""
    from datetime import timedelta

    with desk.store.lease(timedelta()):
        for order in desk.store.orders():
            obey(desk.store, order, cycle_id="c-1", now=desk.now)


def test_an_approval_is_for_what_the_page_showed(tmp_path: Path) -> None:
    one = deal(2, memory=WITHHELD)
    desk = Desk(tmp_path, one)
    desk.sign_in()
    form = desk.form(one, "Approve")
    later = Withheld(FinalKind.WIN, "Closed Won", WithheldBy.COUNT)
    desk.put([replace(one, memory=replace(WITHHELD, withheld=(later,)))])
    answer = desk.send(one, form)
    assert answer.status_code == 409
    assert "is not what was approved any more" in words(answer)
    assert desk.send(one, {**form, "seen": ""}).status_code == 409
    assert desk.asked() == []
    assert desk.press(one, "Approve").status_code == 303
    # and where it changes before the cycle comes, the cycle refuses it
    desk.put([one])
    with pytest.raises(Refused, match="not what was approved"):
        carried(desk)
    desk.put([replace(one, memory=replace(WITHHELD, withheld=(later,)))])
    carried(desk)
    found = desk.store.by_referral([one.referral_id or ""])[one.referral_id or ""]
    assert [(each.kind, each.mark) for each in found.memory.approved] == [(FinalKind.WIN, "Closed Won")]


def test_a_conflict_is_answered_by_the_side_whose_value_stays(tmp_path: Path) -> None:
    one = in_conflict(3)
    desk = Desk(tmp_path, one)
    desk.sign_in()
    said = words(desk.web.get(page_of(one)))
    for part in (
        "Answer the conflict: Amount",
        "Keep what the CRM has: 275,000",
        "Keep what Partner Center has: 310,000",
        "Answer the conflict: Close Date",
    ):
        assert part in said
    old = desk.form(one, "Keep what the CRM has: 275,000")
    assert desk.press(one, "Keep what Partner Center has: 310,000").status_code == 303
    assert desk.asked() == [("resolve", one.referral_id, "value", "partner_center")]
    page = words(desk.web.get(page_of(one)))
    assert "Waits for the next cycle Amount: keep the value of Partner Center" in page
    assert "Answer the conflict: Amount" not in page
    assert "Answer the conflict: Close Date" in page
    carried(desk)
    # a page from before the amount changed once more
    assert one.opportunity is not None
    fields = {**one.opportunity.fields, "value": 1}
    desk.put([replace(one, opportunity=replace(one.opportunity, fields=fields))])
    answer = desk.send(one, old)
    assert answer.status_code == 409
    assert "not those any more that the page showed" in words(answer)
    assert desk.asked() == []


def _private(word: str) -> dict[str, str]:
    return {"name": f"Secret {word}", "notes": f"Anna {word}"}


def test_hidden_names_and_people_stay_hidden_on_buttons(tmp_path: Path) -> None:
    one = in_conflict(3)
    assert one.referral is not None
    assert one.opportunity is not None
    one = replace(
        one,
        referral=replace(one.referral, fields={**one.referral.fields, **_private("Lake")}),
        opportunity=replace(one.opportunity, fields={**one.opportunity.fields, **_private("Sea")}),
    )
    desk = Desk(tmp_path, one, names=False)
    desk.wired.rules = replace(
        desk.wired.rules,
        fields={
            name: replace(rule, policy=desk.wired.rules.fields["value"].policy)
            if name in {"name", "notes"}
            else rule
            for name, rule in desk.wired.rules.fields.items()
        },
    )
    desk.sign_in()
    page = desk.page(page_of(one))
    assert "Answer the conflict: Name" in page
    for private in ("secret", "anna"):
        assert private not in page.lower()


@pytest.mark.parametrize(
    "form",
    [
        {"verb": "unlink"},
        {"verb": "forget"},
        {"verb": ""},
        {},
        {"verb": "resolve", "field": "value", "side": "nobody"},
        {"verb": "resolve", "field": "<b>", "side": "crm"},
        {"verb": "resolve", "field": "value", "side": "crm"},
        {"verb": "approve"},
        {"verb": "retry"},
    ],
)
def test_what_does_not_fit_is_refused_and_said(tmp_path: Path, form: dict[str, str]) -> None:
    quiet = deal(4)
    desk = Desk(tmp_path, quiet)
    desk.sign_in()
    assert 'class="card"' not in desk.page(page_of(quiet))
    key = re.search(r'name="form_key" value="([^"]+)"', desk.page("/"))
    assert key
    answer = desk.send(quiet, {**form, "form_key": key[1]})
    assert answer.status_code == 409
    assert "Nothing was done" in words(answer)
    assert "<b>" not in answer.text
    assert desk.asked() == []
    assert desk.woken == 0
    assert desk.web.post("/deals/nobody", data={"form_key": key[1]}, headers=HOME).status_code == 404


def test_orders_of_the_command_line_are_shown_as_well() -> None:
    world = World([PARKED])
    world.store.submit(OperatorCommand("1", Verb.UNLINK, PARKED.opportunity_id or ""))
    world.store.submit(OperatorCommand("2", Verb.FORGET, "anna@customer.example"))
    page = world.page(page_of(PARKED))
    assert "Unlink" in page
    assert "anna@" not in page


def test_a_store_that_is_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk(tmp_path, PARKED)
    desk.sign_in()
    form = desk.form(PARKED, "Try again")

    def away(*_: Any) -> None:
        raise Unavailable("store", "secret-host refused", hint="x")

    monkeypatch.setattr(desk.store, "submit", away)
    answer = desk.send(PARKED, form)
    assert answer.status_code == 503
    assert "secret-host" not in answer.text
    assert desk.woken == 0
