"""The console's pages: what they show, whom they do not show, and what they answer when there is nothing to show."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Any

import pytest
from console_world import ANNA, NOTES, NOW, URL, World, busy_world, cycle, deal, line, urgent
from structlog.testing import capture_logs

from cosell_sync.core.deal import Customer, Member, Side, SyncState
from cosell_sync.core.memory import Action, Memory, Phase
from cosell_sync.errors import Unavailable
from cosell_sync.web.pages import span

HOSTILE = "<script>alert('\"&{{7*7}}')</script>\u202e"


def words(page: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<head>.*</head>", "", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def rows(page: str) -> list[str]:
    """The ids of the deals on a page, in its order."""
    return re.findall(r'<th scope="row"[^>]*><a href="/deals/0*(\d+)-', page)


@pytest.fixture(scope="module")
def busy() -> World:
    return busy_world()


def test_the_overview_tells_how_it_stands(busy: World) -> None:
    said = words(busy.page("/"))
    for part in (
        "Ready Both systems were last reached 40 s ago.",
        "99 All",
        "2 Needs attention",
        "4 Unanswered",
        "1 Withheld",
        "1 Parked",
        "A seller accepts or declines it in the CRM.",
        "A director must approve discounts",
        "Salesforce Signed in 47 min ago 18,250 of 100,000 in 24 hours",
        "Partner Center not yet no limit known",
        "every 1 min.",
    ):
        assert part in said
    assert rows(busy.page("/")) == ["2", "30", "80", "200", "301", "302"]


def test_a_failed_cycle_is_shown_as_failed() -> None:
    world = World([])
    for number, (code, told) in enumerate(((0, "Done"), (3, "Failed"), (1, "Done; a person is needed"))):
        world.now = NOW + timedelta(minutes=number)
        world.store.remember_cycle(cycle(number, code))
        newest = words(
            world.page("/").partition('id="cycles"')[2].partition("<tbody>")[2].partition("</tr>")[0]
        )
        assert f"UTC {told} 1.2 s 3 / 4 1 / 2 0 / 0 0 5 / 9 c-{number}" in newest


def test_what_keeps_it_from_working_comes_first() -> None:
    world = World([])
    world.facts = replace(
        world.facts, holder="process 7 on <b>", carried_at=None, sign_ins={"salesforce": "invalid_grant"}
    )
    said = words(world.page("/"))
    assert "Not ready No cycle has reached both systems yet." in said
    assert "The lease is held by process 7 on &lt;b&gt;" in said
    assert "Salesforce Refused invalid_grant" in said
    assert "No deal waits for an answer." in said
    assert "No cycle has ended yet." in said


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("state=unanswered", ["2", "30", "80", "200"]),
        ("state=needs-attention", ["301", "302"]),
        ("state=parked", ["302"]),
        ("state=withheld", ["303"]),
        ("state=closed", ["304"]),
        ("state=unlinked", ["305"]),
        ("state=conflict", []),
        ("text=MILL", ["301"]),
        ("text=006000000000120AAA", ["120"]),
        ("state=waiting&text=noord", ["306"]),
        ("text=%25", []),
        ("text=%00mill", ["301"]),
    ],
)
def test_filters_by_address(busy: World, asked: str, found: list[str]) -> None:
    page = busy.page(f"/deals?{asked}")
    assert rows(page) == found
    assert ("No deals" in words(page)) == (not found)


def test_all_deals_come_in_pages_of_fifty(busy: World) -> None:
    seen, path = [], "/deals?text=contoso"
    while path:
        page = busy.page(path)
        assert len(rows(page)) <= 50
        seen += rows(page)
        onward = re.search(r'href="([^"]*)" rel="next"', page)
        path = onward[1].replace("&amp;", "&") if onward else ""
        assert "text=contoso" in path or not path
    assert len(seen) == len(set(seen)) == 99
    assert "First page" in page


def test_what_is_asked_wrongly_is_answered_with_a_page(busy: World) -> None:
    for path, status, said in (
        ("/deals?state=%3Cb%3E", 400, "needs-a-person"),
        ("/deals/nobody", 404, "No deal with this id is known"),
        ("/deals/%3Cscript%3E/..%2f%00", 404, "No deal with this id is known"),
        ("/deals?after=%00zz&state=unanswered", 200, "New referral 2"),
        ("/deals?after=9999-99-99+x&state=unanswered", 200, "New referral 2"),
    ):
        answer = busy.web.get(path)
        assert (answer.status_code, answer.content_type) == (status, "text/html; charset=utf-8")
        assert said in words(answer.text)
        assert "<script" not in answer.text
    assert busy.web.post("/deals").status_code == 405


def test_a_deal_tells_what_landed_what_waits_and_its_history(busy: World) -> None:
    page = busy.page("/deals/00000301-aaaa-4bbb-8ccc-000000000000")
    said = words(page)
    assert (
        "Amount CRM landed 2026-11-22 10:00:00 UTC 250,000 200,000 update: changed in Partner Center" in said
    )
    assert "Contact Roles CRM landed 2026-11-22 10:00:00 UTC 1 person 0 people" in said
    assert "The deal CRM refused" in said
    assert "update Notes empty a text" in said
    assert f"{URL}/lightning/r/Opportunity/006000000000301AAA/view" in page
    assert "https://partner.microsoft.com/dashboard/referrals/v2/leads/00000301" in page
    assert busy.page("/deals/006000000000301AAA") == page
    waits = words(busy.page("/deals?text=noord"))
    assert "Next cycle: Amount: " in waits
    assert "Refused: the deal The CRM says:" in words(busy.page("/deals?text=mill"))


def test_the_crm_link_of_dynamics() -> None:
    page = World([deal(1)], crm="dynamics").page("/deals")
    assert (
        "https://corp.crm4.dynamics.com/main.aspx?pagetype=entityrecord&amp;etn=opportunity&amp;id=006"
        in page
    )


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def everything(world: World, target: str) -> list[str]:
    return [world.page(path) for path in ("/", "/deals", "/deals?state=needs-a-person", f"/deals/{target}")]


def test_hostile_names_stay_text() -> None:
    """In every place that a name, a customer, a refusal, a rule or a link of another system reaches."""
    hostile = deal(1, HOSTILE, memory=urgent(HOSTILE))
    assert hostile.referral is not None
    fields = {
        **hostile.referral.fields,
        "customer": Customer(name=HOSTILE),
        "referral_link": "javascript:alert(1)",
    }
    hostile = replace(
        hostile,
        opportunity=None,
        opportunity_id='"><img src=x>',
        referral=replace(hostile.referral, fields=fields),
    )
    world = World([hostile])
    world.put(
        [], [line(hostile, "name", HOSTILE, HOSTILE, HOSTILE), line(hostile, HOSTILE[:-1], None, "x", "y")]
    )
    for page in [*everything(world, hostile.referral_id or ""), world.page(f"/deals?text={HOSTILE}")]:
        tags = _Tags()
        tags.feed(page)
        assert not {"script", "img", "b"} & {tag for tag, _ in tags.found}
        assert not any(name.startswith("on") or name == "style" for _, given in tags.found for name in given)
        assert all((given.get("href") or "/").startswith(("/", "#", "https://")) for _, given in tags.found)
        assert "\u202e" not in page
        assert "49" not in words(page).replace("alert", "")


PRIVATE = ("anna", "berg", "0103", "customer.example", "discount", "quiet", "olga", "petrova", "+49")


@pytest.mark.parametrize("names", [True, False])
def test_no_person_is_shown(names: bool) -> None:
    """Neither in values nor in what other systems say; nor by looking for them."""
    olga = Member("olga@corp.example", "Olga", "Petrova", "+49 171 2345678")
    said = f"Berg Anna ({ANNA.email}, {ANNA.phone}) and Olga Petrova refused: {NOTES}"
    one = deal(1, "Lakehouse for olga@corp.example", memory=urgent(said, parked=True, untold=said))
    world = World([replace(one, base_referral={**one.base_referral, "team": (olga,)})], names=names)
    world.put(
        [],
        [
            line(one, "contacts", (ANNA,), (ANNA, olga), said),
            line(one, "notes", NOTES, said, "r"),
            line(one, "help_note", NOTES, said, "r"),
            line(one, "owner_email", "olga@corp.example", ANNA.email, "r"),
            line(one, "campaign_id", "Olga Petrova", "anna", "r", side=Side.PARTNER_CENTER),
            line(one, "message", said, said, "r", action=Action.REPORT),
            line(one, "customer", Customer(name="Contoso", address_line1="c/o Anna Berg"), None, "r"),
            line(one, "value", None, Decimal(5), said, action=Action.CONFLICT),
            line(one, None, None, None, said, action=Action.FAILURE),
        ],
    )
    for page in everything(world, one.referral_id or ""):
        for private in PRIVATE:
            assert private not in page.lower(), private
    assert ("Lakehouse for [masked]" in world.page("/deals")) == names
    for private in PRIVATE[:-1]:
        assert rows(world.page(f"/deals?text={private}")) == (["1"] if names and private == "olga" else [])


def test_names_are_hidden_where_they_are_to_be() -> None:
    """Whatever quotes them; and nobody can find a deal by guessing its name."""
    text = 'The account "Contoso Nederland B.V." of Secret Lake is closed.'
    one = deal(1, "Secret Lake", memory=urgent(text))
    world = World([one], names=False)
    world.put(
        [],
        [
            line(one, "name", "Secret Lake", "Secret Lake", text),
            line(one, "customer", Customer(name="Contoso Nederland B.V."), None, text),
        ],
    )
    for page in everything(world, one.referral_id or ""):
        assert "secret" not in page.lower()
        assert "contoso" not in page.lower()
    assert "of [hidden] is closed" in words(world.page("/deals"))
    assert rows(world.page("/deals?text=secret")) == []
    assert rows(world.page(f"/deals?text={one.opportunity_id}")) == ["1"]
    assert "A whole id" in words(world.page("/deals"))


@pytest.mark.parametrize("path", ["/", "/deals", "/deals/x"])
def test_a_store_that_is_away_gives_a_page(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([])

    def away(*_: Any, **__: Any) -> None:
        raise Unavailable("store", "secret-host refused", hint="x")

    for name in ("page", "counts", "by_referral", "journal"):
        monkeypatch.setattr(world.store, name, away)
    answer = world.web.get(path)
    assert answer.status_code == 503
    assert "The store does not answer" in words(answer.text)
    assert "secret-host" not in answer.text
    assert "Traceback" not in answer.text
    assert world.web.get("/readyz").status_code == 200


def test_a_deal_that_cannot_be_decided_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World([deal(1), deal(2)])
    monkeypatch.setattr("cosell_sync.cli.console_pages.waiting", lambda *_: 1 / 0)
    assert rows(world.page("/deals")) == ["1", "2"]


def test_every_page_can_be_read_by_ear_and_driven_by_keys(busy: World) -> None:
    """Landmarks, one first heading and no level left out, names of tables, heads and inputs; no script, no style of its own."""
    for page in everything(busy, "00000301-aaaa-4bbb-8ccc-000000000000"):
        tags = _Tags()
        tags.feed(page)
        names = [tag for tag, _ in tags.found]
        assert dict(tags.found)["html"] == {"lang": "en"}
        assert {"header", "nav", "main", "footer", "title"} <= set(names)
        levels = [int(tag[1]) for tag in names if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1
        assert set(levels[1:]) <= {2}
        assert names.count("table") == names.count("caption")
        assert all(given.get("scope") in {"col", "row"} for tag, given in tags.found if tag == "th")
        assert next(given for tag, given in tags.found if tag == "a") == {"class": "skip", "href": "#main"}
        labelled = {given.get("for") for tag, given in tags.found if tag == "label"}
        assert all(given["id"] in labelled for tag, given in tags.found if tag in {"input", "select"})
        ids = [given["id"] for _, given in tags.found if "id" in given]
        assert len(ids) == len(set(ids))
        assert names.count("script") == 0


def test_the_first_page_of_a_fresh_store() -> None:
    said = words(World([]).page("/"))
    assert "0 All" in said
    assert words(World([]).page("/deals")).count("No deals") == 1


def test_marks_of_a_deal() -> None:
    half = deal(
        1,
        phase=Phase.WAITING,
        opportunity=None,
        opportunity_id=None,
        memory=Memory(sync_state=SyncState.WAITING),
    )
    page = World([half]).page("/deals")
    assert "not linked yet" in page
    assert "lightning" not in page


def test_lengths_of_time() -> None:
    for length, told in (
        (timedelta(), "0 s"),
        (timedelta(seconds=61), "1 min 1 s"),
        (timedelta(minutes=5), "5 min"),
        (timedelta(days=1, minutes=3), "1 d"),
        (timedelta(hours=30), "1 d 6 h"),
        (timedelta(seconds=-3), "0 s"),
    ):
        assert span(length) == told


@pytest.mark.parametrize("path", ["/", "/deals", "/deals/1", "/sign-in"])
def test_a_query_in_another_encoding_is_a_bad_request(path: str) -> None:
    """As some clients write a letter with an accent. It is no fault of ours, so the log has none."""
    world = World([deal(1)])
    with capture_logs() as logged:
        answer = world.web.get(path, environ_overrides={"QUERY_STRING": "text=caf\xe9"})
    assert (answer.status_code, logged) == (400, [])
