"""One behaviour suite for Partner Center: the one in memory that cycles are played against, and the real client over the
served sandbox. What the fake may do, the real one must do.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest

from adapters.served_dynamics import OVERLAP, Clock
from cosell_sync.core.deal import Customer, Member, Side, Snapshot, Solution, State, Step
from cosell_sync.errors import Gone, Stale, Unclear
from cosell_sync.partner_center.client import ID_HEADERS, PartnerCenter
from cosell_sync.partner_center.values import WireOptions
from cosell_sync.ports import Outcome, ReferralDraft, Referrals, ReferralWrite
from cosell_sync.sandbox.certificates import Certificates
from cosell_sync.sandbox.partner_center import service as sandbox
from cosell_sync.sandbox.server import Server
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.throttle import Governor
from cosell_sync.transport.tokens import AccessToken, TokenSource
from memory_sharing import Posts
from memory_systems import Fault, Outside


class Place(Protocol):
    """Partner Center with colleagues in it."""

    port: Referrals

    def tick(self, seconds: float = 10) -> None: ...
    def deal(self, state: State = State.ACCEPTED) -> str: ...
    def edit(self, referral: str, notes: str) -> None: ...
    def win(self, referral: str) -> None: ...
    def remove(self, referral: str) -> None: ...
    def restore(self, referral: str) -> None: ...
    def doubt(self, world: str) -> None:
        """What becomes of a new name: ``ignored`` or ``refused``."""

    def lost(self) -> None:
        """The next write lands, and its answer is lost."""


class InMemory:
    def __init__(self) -> None:
        self.outside = Outside()
        self.port: Referrals = Posts(self.outside)

    def tick(self, seconds: float = 10) -> None:
        self.outside.now += timedelta(seconds=seconds)

    def deal(self, state: State = State.ACCEPTED) -> str:
        made = self.outside.new_referral(state, engagement_id=f"E{len(self.outside.referrals) + 1}").id
        self.tick()
        return made

    def edit(self, referral: str, notes: str) -> None:
        assert self.outside.people(Side.PARTNER_CENTER, referral, {"notes": notes})

    def win(self, referral: str) -> None:
        assert self.outside.portal_moves(referral, State.WON)

    def remove(self, referral: str) -> None:
        self.outside.vanish(Side.PARTNER_CENTER, referral, gone=True)

    def restore(self, referral: str) -> None:
        self.outside.vanish(Side.PARTNER_CENTER, referral, gone=False)

    def doubt(self, world: str) -> None:
        self.outside.doubtful["name"] = world

    def lost(self) -> None:
        self.outside.faults.append(Fault("partner_center", "lost"))


class Served:
    def __init__(self, certificates: Certificates, bundle: Path) -> None:
        self.clock = Clock()
        self.center = sandbox.PartnerCenter(self.clock)
        self.server = Server(self.center, certificates.server_context())
        self.server.start()
        governor = Governor(
            "partner_center", clock=self.clock, monotonic=self.clock.monotonic, sleep=self.clock.sleep
        )
        self.caller = HttpCaller(
            "partner_center",
            self.server.url,
            governor=governor,
            tokens=TokenSource(self._token, clock=self.clock),
            verify=ssl.create_default_context(cafile=str(bundle)),
            id_headers=ID_HEADERS,
            clock=self.clock,
            monotonic=self.clock.monotonic,
            chance=lambda: 0.5,
        )
        self.port: Referrals = PartnerCenter(self.caller, WireOptions(write_name=True))

    def _token(self) -> AccessToken:
        return AccessToken(self.center.entra.issue_access_token(), self.clock() + timedelta(hours=1))

    def close(self) -> None:
        self.caller.close()
        self.server.stop()
        assert self.server.errors == []

    def tick(self, seconds: float = 10) -> None:
        self.clock.tick(seconds)

    def deal(self, state: State = State.ACCEPTED) -> str:
        made = str(self.center.add(f"inbound_{state.lower()}")["id"])
        self.tick()
        return made

    def edit(self, referral: str, notes: str) -> None:
        self.center.edit(referral, "details/notes", notes)

    def win(self, referral: str) -> None:
        self.center.win(referral)

    def remove(self, referral: str) -> None:
        self.center.remove(referral)

    def restore(self, referral: str) -> None:
        self.center.restore(referral)

    def doubt(self, world: str) -> None:
        self.center.switches.accept_name = "ignored" if world == "ignored" else False

    def lost(self) -> None:
        self.server.faults.reset_after(body=".")


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(params=["memory", "served"])
def place(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        yield InMemory()
        return
    made = Served(certificates, certificates.write(tmp_path / "ca.pem"))
    yield made
    made.close()


def pull(place: Place, mark: str | None = None) -> tuple[dict[str, Snapshot], str | None]:
    found: dict[str, Snapshot] = {}
    for page in place.port.changed_since(mark, OVERLAP):
        found |= {each.id: each for each in page.snapshots}
        mark = page.watermark or mark
    return found, mark


def read(place: Place, referral: str) -> Snapshot:
    found = place.port.fetch([referral])[referral]
    assert found is not None
    return found


def write(place: Place, before: Snapshot, *steps: Step) -> Outcome:
    (outcome,) = place.port.write([ReferralWrite(before, steps)])
    return outcome


def draft(reference: str) -> ReferralDraft:
    fields: dict[str, Any] = {
        "name": "ERP move", "value": Decimal("84000.00"), "currency": "USD", "close_date": date(2027, 11, 30),
        "customer": Customer("Harbor Mills", "Kai 7", None, "Bremen", None, "28195", "DE"),
        "team": (Member("ida@p.example", "Ida", "Kern", "+49421"),),
        "contacts": (Member("greta@c.example", "Greta", "Oz", "+49421"),),
        "solutions": (Solution("SOL-1", "Planner"),), "deal_type": "Private", "visible": False, "consent": True,
    }  # fmt: skip
    return ReferralDraft(reference, fields)


def test_a_pull_shows_what_changed_since_the_watermark(place: Place) -> None:
    first, second = place.deal(), place.deal(State.RECEIVED)
    found, mark = pull(place)
    assert {first, second} <= found.keys()
    assert (found[first]["state"], found[second]["state"]) == ("Accepted", "Received")
    place.tick(3600)
    place.edit(first, "new")
    place.tick()
    later, _ = pull(place, mark)
    assert later[first]["notes"] == "new"
    assert later[first].version != found[first].version
    assert later.get(second, found[second]).version == found[second].version


def test_fetching_answers_for_every_id(place: Place) -> None:
    first, second = place.deal(), place.deal()
    place.remove(second)
    unknown = "00000000-0000-4000-8000-000000000000"
    found = place.port.fetch([second, unknown, first])
    assert (found[second], found[unknown]) == (None, None)
    assert found[first] is not None
    place.restore(second)
    assert read(place, second).id == second


def test_the_index_has_every_one_that_is_there(place: Place) -> None:
    first, second = place.deal(), place.deal()
    place.remove(second)
    listed = {each.id for page in place.port.index() for each in page.snapshots}
    assert first in listed
    assert second not in listed


def test_a_write_is_guarded_and_shows_what_is_held(place: Place) -> None:
    before = read(place, place.deal())
    place.tick()
    done = write(place, before, Step({"notes": "ours", "value": Decimal("12.50")}))
    assert (done.error, done.steps) == (None, 1)
    assert done.snapshot is not None
    assert (done.snapshot["notes"], done.snapshot["value"]) == ("ours", Decimal("12.50"))
    assert done.snapshot.version != before.version
    stale = write(place, before, Step({"notes": "late"}))
    assert isinstance(stale.error, Stale)
    assert read(place, before.id)["notes"] == "ours"


def test_a_walk_takes_its_steps_in_order(place: Place) -> None:
    before = read(place, place.deal(State.RECEIVED))
    place.tick()
    edits = Step({"value": Decimal("10.00"), "close_date": date(2027, 11, 30)}, State.ACCEPTED)
    done = write(place, before, edits, Step({}, State.WON))
    assert (done.error, done.steps) == (None, 2)
    assert done.snapshot is not None
    assert done.snapshot["state"] == "Won"


@pytest.mark.parametrize("world", ["ignored", "refused"])
def test_a_trial_that_is_not_taken_stops_no_step_after_it(place: Place, world: str) -> None:
    place.doubt(world)
    before = read(place, place.deal(State.RECEIVED))
    place.tick()
    edits = Step({"value": Decimal("10.00"), "close_date": date(2027, 11, 30)}, State.ACCEPTED)
    done = write(place, before, edits, Step({"name": "Ours"}, trial=True), Step({}, State.WON))
    assert (done.error, done.steps) == (None, 3)
    assert done.snapshot is not None
    assert (done.snapshot["state"], done.snapshot["name"]) == ("Won", before["name"])
    assert done.refused.keys() == ({"name"} if world == "refused" else set())


def test_a_trial_alone_that_is_refused_is_no_failure(place: Place) -> None:
    place.doubt("refused")
    before = read(place, place.deal())
    done = write(place, before, Step({"name": "Ours"}, trial=True))
    assert (done.error, done.steps, done.refused.keys()) == (None, 1, {"name"})
    assert done.snapshot == before


def test_one_that_fails_harms_no_other(place: Place) -> None:
    ids = [place.deal() for _ in range(3)]
    before = [read(place, each) for each in ids]
    place.tick()
    place.edit(ids[0], "theirs")
    place.remove(ids[1])
    outcomes = place.port.write([ReferralWrite(each, (Step({"notes": "ours"}),)) for each in before])
    assert [type(each.error) for each in outcomes] == [Stale, Gone, type(None)]
    assert [each.id for each in outcomes] == ids
    assert place.port.outage is None


def test_a_write_whose_answer_is_lost_is_unclear(place: Place) -> None:
    before = read(place, place.deal())
    place.tick()
    place.lost()
    done = write(place, before, Step({"notes": "ours"}))
    assert isinstance(done.error, Unclear)
    assert read(place, before.id)["notes"] == "ours"


@pytest.mark.parametrize("lost", [False, True])
def test_a_new_referral_is_found_by_the_opportunity_it_was_made_for(place: Place, *, lost: bool) -> None:
    assert place.port.find_created("006A") is None
    if lost:
        place.lost()
    made = place.port.create(draft("006A"))
    place.tick()
    found = place.port.find_created("006A")
    assert found is not None
    assert (found["external_reference"], found["direction"], found["state"]) == (
        "006A",
        "Outbound",
        "Accepted",
    )
    if lost:
        assert isinstance(made.error, Unclear)
    else:
        assert made.error is None
        assert made.snapshot is not None
        assert made.id == found.id
    assert place.port.find_created("006B") is None


def test_the_sides_of_a_deal_are_read_by_its_engagement(place: Place) -> None:
    ours = read(place, place.deal())
    sides = place.port.engagement(ours.text("engagement_id"))
    assert ours.id in {each.id for each in sides}
    assert {each["category"] for each in sides if each.id != ours.id} <= {"foreign"}


def test_calls_are_counted(place: Place) -> None:
    deal = place.deal()
    before = place.port.calls
    read(place, deal)
    assert place.port.calls == before + 1


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("paging", ["position", "keyset"])
@pytest.mark.parametrize("date_filter", ["unquoted", "refused"])
def test_a_referral_that_is_touched_between_pages_is_not_missed(
    certificates: Certificates, tmp_path: Path, whole: bool, paging: str, date_filter: str
) -> None:
    """25 referrals, ten a page; one of the first page is edited before each further page is read."""
    place = Served(certificates, certificates.write(tmp_path / "ca.pem"))
    try:
        place.center.switches.page_size = 10
        place.center.switches.paging = paging  # type: ignore[assignment]
        place.center.switches.date_filter = date_filter  # type: ignore[assignment]
        old = place.deal()
        _, mark = pull(place)
        place.tick(3600)
        deals = [old, *(place.deal() for _ in range(24))]
        place.edit(old, "first")
        found: dict[str, Snapshot] = {}
        start = None if whole else mark
        for number, page in enumerate(place.port.changed_since(start, OVERLAP)):
            found |= {each.id: each for each in page.snapshots}
            mark = page.watermark or mark
            place.tick(400)
            place.edit(deals[number + 1], f"touched {number}")
        assert set(deals) == set(found)
        place.tick(400)
        later, _ = pull(place, mark)
        seen = {**found, **later}
        assert all(seen[each].version == read(place, each).version for each in deals)
    finally:
        place.close()
