"""One behaviour suite for every CRM: the one in memory that cycles are played against, Salesforce, Dynamics.

The real adapters speak to the served sandbox. What the fake may do, the real ones must do; where they differ, a trait in
``crm_implementations`` says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.served_dynamics import OVERLAP, Memory
from contract.crm_implementations import (
    BAD,
    COLLEAGUE,
    FABRIKAM,
    STRANGER,
    InMemory,
    OnDynamics,
    OnSalesforce,
    Place,
)
from cosell_sync.core.deal import Customer, Member, Snapshot, Solution, same_version
from cosell_sync.core.normalize import agree, for_crm
from cosell_sync.errors import Flaky, Gone, Rejected, Stale, Unclear
from cosell_sync.ports import MatchQuery, OpportunityDraft, OpportunityWrite, Outcome
from cosell_sync.sandbox.certificates import Certificates
from memory_systems import LIKE_DYNAMICS, LIKE_SALESFORCE

SPAN = timedelta(minutes=4)  # within the overlap


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(
    params=["memory like Salesforce", "memory like Dynamics", "Salesforce", "Dynamics", "Dynamics, polled"]
)
def place(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> Iterator[Place]:
    match request.param:
        case "memory like Salesforce":
            yield InMemory(LIKE_SALESFORCE)
        case "memory like Dynamics":
            yield InMemory(LIKE_DYNAMICS)
        case served:
            bundle = certificates.write(tmp_path / "ca.pem")
            made: OnSalesforce | OnDynamics
            if served == "Salesforce":
                made = OnSalesforce(certificates, bundle)
            else:
                made = OnDynamics(certificates, bundle, tracking=served == "Dynamics")
            yield made
            made.close()


class Puller:
    """What the store would remember, and pulls against it."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.memory = Memory()

    def __call__(self, overlap: timedelta = OVERLAP) -> tuple[set[str], set[str]]:
        """Ids that came with a new content, ids that went."""
        came, went = set(), set()
        for page in self.place.crm.changed_since(self.memory.watermark, overlap, self.memory):
            came |= {each.id for each in page.snapshots}
            went |= set(page.gone) & self.memory.snapshots.keys()
            self.memory.snapshots |= {each.id: each for each in page.snapshots}
            for each in page.gone:
                self.memory.snapshots.pop(each, None)
            self.memory.watermark = page.watermark or self.memory.watermark
        return came, went


@pytest.fixture
def pull(place: Place) -> Puller:
    return Puller(place)


def read(place: Place, deal: str) -> Snapshot:
    found = place.crm.fetch([deal])[deal]
    assert found is not None
    return found


def only(outcomes: Sequence[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def write(place: Place, before: Snapshot, **fields: Any) -> Outcome:
    return only(place.crm.write([OpportunityWrite(before, fields)]))


def draft(place: Place, referral: str, **fields: Any) -> OpportunityDraft:
    given = {
        "name": "Deal", "stage": place.stages["open"], "close_date": date(2027, 1, 31), "sync": True,
        "currency": "USD", "value": Decimal("100.00"), "customer": FABRIKAM,
    }  # fmt: skip
    return OpportunityDraft(referral, {**given, **fields})


def keys(snapshot: Snapshot | None, name: str) -> set[str]:
    held = snapshot[name] if snapshot else ()
    assert isinstance(held, tuple)
    return {each.key for each in held}


# --- changes ------------------------------------------------------------------------------------------------------


def test_the_first_pull_shows_everything_that_concerns_us_and_the_next_nothing(
    place: Place, pull: Puller
) -> None:
    shared, linked = place.deal(), place.deal(sync=False, referral_id="ref-1")
    place.deal(sync=False)
    assert pull() == ({shared, linked}, set())
    assert pull.memory.watermark is not None
    assert pull() == (set(), set())
    place.tick(3600)
    assert pull() == (set(), set())


def test_an_empty_crm_has_no_pages_of_snapshots(place: Place, pull: Puller) -> None:
    assert pull() == (set(), set())
    made = place.deal()
    assert pull() == ({made}, set())


def test_an_edit_is_shown_once_under_a_new_version(place: Place, pull: Puller) -> None:
    deal, _other = place.deal(), place.deal()
    pull()
    before = pull.memory.snapshots[deal]
    place.tick(600)
    place.edit(deal, name="New")
    place.tick()
    assert pull() == ({deal}, set())
    after = pull.memory.snapshots[deal]
    assert after["name"] == "New"
    assert not same_version(before.version, after.version)
    assert pull() == (set(), set())


def test_two_edits_within_the_second_of_a_pull_are_both_shown(place: Place, pull: Puller) -> None:
    """Where stamps have seconds only, what was read too soon is read again."""
    deal = place.deal()
    pull()
    place.tick(600)
    place.edit(deal, name="First")
    pull()
    place.edit(deal, notes="Second")
    place.tick()
    assert pull()[0] == {deal}
    assert pull.memory.snapshots[deal]["notes"] == "Second"


def test_an_edit_committed_late_is_caught_by_the_overlap(place: Place, pull: Puller) -> None:
    """It was stamped before the last pull looked, and could be seen only after."""
    deal, other = place.deal(), place.deal()
    place.tick(3600)
    place.edit(other, name="Newer")
    place.tick()
    pull()
    place.late(deal, SPAN, name="Late")
    assert pull()[0] == {deal}
    assert pull.memory.snapshots[deal]["name"] == "Late"


@pytest.mark.parametrize("what", ["phone", "solution", "account"])
def test_an_edit_of_a_row_around_the_deal_is_an_edit_of_the_deal(
    place: Place, pull: Puller, what: str
) -> None:
    deal = place.deal(contacts=(Member("ann@x.example"),), solutions=(Solution("SOL-1"),))
    pull()
    place.tick(600)
    match what:
        case "phone":
            place.call(deal, "ann@x.example", "+49 1")
        case "solution":
            place.edit(deal, solutions=(Solution("SOL-2"),))
        case "account":
            place.merge("Winner", deal)
    place.tick()
    assert pull() == ({deal}, set())
    after = pull.memory.snapshots[deal]
    assert keys(after, "solutions") == {"SOL-1"} | ({"SOL-2"} if what == "solution" else set())
    if what == "phone":
        assert [each.phone for each in after["contacts"]] == ["+49 1"]  # type: ignore[union-attr]
    if what == "account":  # merged accounts are followed
        assert isinstance(after["customer"], Customer)
        assert after["customer"].name == "Winner"


def test_a_deal_that_is_not_to_be_shared_any_more_is_shown_once_more(place: Place, pull: Puller) -> None:
    deal = place.deal()
    done = write(place, read(place, deal), message="Something is missing.", sync_state="Needs attention")
    assert done.error is None
    pull()
    place.tick(600)
    place.edit(deal, sync=False)
    place.tick()
    assert pull()[0] == {deal}


def test_our_own_write_is_no_news(place: Place, pull: Puller) -> None:
    deal = place.deal()
    pull()
    place.tick(600)
    done = write(place, pull.memory.snapshots[deal], message="m")
    assert done.snapshot is not None
    place.tick()
    pull.memory.snapshots[deal] = done.snapshot
    pull()  # at most once more, where the version was read too soon
    assert pull.memory.snapshots[deal].fields == done.snapshot.fields
    assert pull() == (set(), set())


def test_deleted_and_undeleted(place: Place, pull: Puller) -> None:
    deal, other = place.deal(), place.deal()
    pull()
    place.tick(600)
    place.delete(deal)
    place.tick()
    assert pull() == (set(), {deal} if place.traits.pulls_deletions else set())
    assert place.crm.fetch([deal])[deal] is None
    assert {each for page in place.crm.index() for each in page} == {other}
    if place.traits.undeletes:
        place.undelete(deal)
        place.tick()
        assert pull() == ({deal}, set())


# --- reading ------------------------------------------------------------------------------------------------------


def test_fetching_answers_for_every_id_that_was_asked(place: Place) -> None:
    first, second = place.deal(name="A"), place.deal(name="B")
    found = place.crm.fetch([second, "nonsense", first])
    assert set(found) == {first, second, "nonsense"}
    assert found["nonsense"] is None
    assert {found[first]["name"], found[second]["name"]} == {"A", "B"}  # type: ignore[index]
    assert dict(place.crm.fetch([])) == {}


def test_a_snapshot_speaks_of_the_fields_that_the_shape_names(place: Place) -> None:
    shape = place.crm.shape()
    got = read(place, place.deal(value=Decimal("12.50"), close_date=date(2027, 2, 1), notes="one\ntwo"))
    assert shape == place.crm.shape()
    assert got.fields.keys() - {"is_closed", "is_won", "owner_email", "stage"} <= shape.fields
    assert (got["value"], got["close_date"], got["notes"]) == (
        Decimal("12.50"), date(2027, 2, 1), "one\ntwo",
    )  # fmt: skip
    assert (got["stage"], got["is_closed"], got["is_won"]) == (place.stages["open"], False, False)
    assert got["customer"].name == "Fabrikam"  # type: ignore[union-attr]
    assert shape.stages[place.stages["won"]].won


def test_the_index_speaks_the_versions_of_a_reading(place: Place) -> None:
    ids = {place.deal(), place.deal(referral_id="ref-1")}
    place.deal(sync=False)
    place.tick(600)
    index = {each: version for page in place.crm.index() for each, version in page.items()}
    assert index == {each.id: each.version for each in place.crm.fetch(sorted(ids)).values() if each}


def test_finding_by_the_ids_that_join_two_records(place: Place) -> None:
    linked, named = place.deal(referral_id="ref-1"), place.deal()
    found = place.crm.find(
        [
            MatchQuery("ref-1", None, "x", Customer()),
            MatchQuery("ref-2", named, "x", Customer()),
            MatchQuery("ref-3", "PO 4711", "O'Neil' OR 100%", Customer()),
        ]
    )
    assert (found["ref-1"].by_referral, found["ref-1"].by_reference) == (linked, None)
    assert (found["ref-2"].by_referral, found["ref-2"].by_reference) == (None, named)
    assert (found["ref-3"].by_referral, found["ref-3"].by_reference) == (None, None)


@pytest.mark.parametrize("typed", ["  {} ", "{{{}}}", "https://crm.example/x/{}?a=1", "short"])
def test_the_id_of_an_opportunity_is_understood_as_people_type_it(place: Place, typed: str) -> None:
    if not place.traits.sees_lookalikes:
        pytest.skip("the memory CRM takes ids as they are")
    linked, free = place.deal(referral_id="ref-1"), place.deal()
    guid = "-" in free
    forms = {
        "short": "{}".format,
        "https://crm.example/x/{}?a=1": (
            "https://crm.example/main.aspx?etn=opportunity&id={}" if guid else "https://crm.example/r/{}/view"
        ).format,
    }
    form = forms.get(typed, typed.format)
    texts = [form(each if guid or typed != "short" else each[:15]) for each in (free, linked)]
    found = place.crm.find(
        [MatchQuery(f"ref-{at}", text, "x", Customer()) for at, text in enumerate(texts, 5)]
    )
    assert (found["ref-5"].by_reference, found["ref-5"].claimed) == (free, None)
    assert (found["ref-6"].by_reference, found["ref-6"].claimed) == (None, linked)


def test_lookalikes_are_open_unlinked_and_of_the_same_account_and_name(place: Place) -> None:
    if not place.traits.sees_lookalikes:
        pytest.skip("the memory CRM is told who looks alike")
    alike = place.deal(name="Big Deal", sync=False)
    place.deal(name="Big Deal", referral_id="ref-9")
    place.deal(name="Big Deal", stage=place.stages["won"])
    place.deal(name="Big Deal", customer=Customer("Contoso", "Elsewhere 1"))
    place.deal(name="Small deal")
    (found,) = place.crm.find([MatchQuery("ref-1", None, "big  deal", FABRIKAM)]).values()
    assert set(found.lookalikes) == {alike}


# --- creating -----------------------------------------------------------------------------------------------------


def test_a_new_opportunity_is_read_back_as_it_was_drafted(place: Place) -> None:
    given = draft(
        place, "ref-1", notes="one\ntwo", contacts=(Member("ann@x.example", "Ann", "Ek", "+49 1"),), solutions=(Solution("SOL-1", "One"),),
        status="Received", sync_state="In sync", message="New.", campaign_id="C1",
        respond_by=datetime(2026, 12, 6, 10, 0, 5, tzinfo=UTC), referral_id="ref-1",
    )  # fmt: skip
    made = only(place.crm.create([given]))
    assert made.error is None
    assert made.snapshot is not None
    assert made.id == made.snapshot.id
    for name, value in given.fields.items():
        assert agree(name, value, made.snapshot[name], place.crm.shape()), name
    place.tick()
    assert read(place, made.id).fields == made.snapshot.fields


def test_creating_twice_makes_one_of_everything(place: Place) -> None:
    """The referral id is the key; asked again, the one that exists is found."""
    given = draft(place, "ref-1", contacts=(Member("ann@x.example"),), solutions=(Solution("SOL-1"),))
    first = only(place.crm.create([given]))
    place.tick()
    second = only(place.crm.create([given]))
    assert (first.error, second.error) == (None, None)
    assert first.id == second.id
    assert keys(second.snapshot, "contacts") == {"ann@x.example"}
    assert keys(second.snapshot, "solutions") == {"SOL-1"}
    assert [each for page in place.crm.index() for each in page] == [first.id]


def test_the_customer_of_a_second_deal_is_the_same_account(place: Place) -> None:
    first, second = place.crm.create([draft(place, "ref-1"), draft(place, "ref-2")])
    third = only(place.crm.create([draft(place, "ref-3")]))
    customers = [each.snapshot["customer"] for each in (first, second, third) if each.snapshot]
    assert len({str(each.extra.get("account")) for each in customers}) == 1  # type: ignore[union-attr]


def test_a_new_record_says_whether_somebody_else_has_touched_it(place: Place) -> None:
    made = only(place.crm.create([draft(place, "ref-1")])).snapshot
    assert made is not None
    assert made.last_by_us is True
    place.tick()
    place.edit(made.id, name="New")
    assert read(place, made.id).last_by_us is False
    assert write(place, read(place, made.id), name="Newer").snapshot.last_by_us is True  # type: ignore[union-attr]


def test_one_draft_that_is_refused_harms_no_other(place: Place) -> None:
    place.picky()
    outcomes = place.crm.create(
        [draft(place, "ref-1", name=BAD), draft(place, "ref-2"), draft(place, "ref-3")]
    )
    assert [type(each.error) for each in outcomes] == [Rejected, type(None), type(None)]
    assert outcomes[0].id is None
    assert place.crm.outage is None
    assert len([each for page in place.crm.index() for each in page]) == 2


def test_a_create_whose_answer_is_lost_is_found_by_its_key(place: Place) -> None:
    place.lost()
    first = only(place.crm.create([draft(place, "ref-1")]))
    place.back()
    found = place.crm.find([MatchQuery("ref-1", None, "Deal", FABRIKAM)])["ref-1"].by_referral
    again = only(place.crm.create([draft(place, "ref-1")]))
    assert first.error is None or isinstance(first.error, Unclear)
    assert again.error is None
    assert found in {None, again.id}
    assert [each for page in place.crm.index() for each in page] == [again.id]


# --- writing ------------------------------------------------------------------------------------------------------


def test_a_write_changes_what_it_names_and_shows_what_is_held(place: Place) -> None:
    before = read(place, place.deal(name="Old", notes="keep", value=Decimal("1.00")))
    place.tick()
    done = write(place, before, name="New", value=Decimal("99.90"), close_date=date(2027, 2, 1))
    assert done.error is None
    assert done.snapshot is not None
    wanted = {**before.fields, "name": "New", "value": Decimal("99.90"), "close_date": date(2027, 2, 1)}
    assert done.snapshot.fields == wanted
    assert not same_version(done.snapshot.version, before.version)
    place.tick()
    assert read(place, before.id).fields == wanted


def test_what_we_tell_reads_back_as_it_was_told(place: Place) -> None:
    before = read(place, place.deal())
    words = {
        "message": "Two lines:\nall is well.", "sync_state": "Waiting", "status": "Accepted", "direction": "Inbound",
        "deal_type": "Co-sell", "referral_id": "ref-1", "microsoft_status": "New / Pending", "microsoft_id": "M1",
        "referral_link": "https://example.test/ref-1", "last_sync": datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC),
        "respond_by": datetime(2026, 12, 6, 10, 0, tzinfo=UTC), "action": None, "campaign_id": None,
    }  # fmt: skip
    done = write(place, before, **words)
    assert done.error is None
    assert done.snapshot is not None
    assert {name: done.snapshot[name] for name in words} == words
    assert write(place, done.snapshot, message=None).snapshot["message"] is None  # type: ignore[index]


def test_a_write_that_was_planned_on_another_version_is_refused(place: Place) -> None:
    before = read(place, place.deal(name="Old"))
    place.tick()
    place.edit(before.id, name="Theirs")
    done = write(place, before, name="Ours")
    assert isinstance(done.error, Stale)
    assert read(place, before.id)["name"] == "Theirs"


def test_a_set_that_was_planned_on_other_rows_is_refused(place: Place) -> None:
    """An edit of a contact moves no stamp of the opportunity, yet it is an edit of the set."""
    before = read(place, place.deal(contacts=(Member("ann@x.example"),)))
    place.tick()
    place.call(before.id, "ann@x.example", "+49 1")
    done = write(place, before, contacts=(*before["contacts"], Member("bob@x.example")))  # type: ignore[misc]
    assert isinstance(done.error, Stale)
    assert keys(read(place, before.id), "contacts") == {"ann@x.example"}


def test_one_write_that_fails_harms_no_other(place: Place) -> None:
    place.picky()
    ids = [place.deal() for _ in range(4)]
    before = [each for each in place.crm.fetch(ids).values() if each]
    place.tick()
    place.edit(ids[1], name="Theirs")
    place.delete(ids[2])
    names = [BAD, "b", "c", "d"]
    outcomes = place.crm.write(
        [OpportunityWrite(each, {"name": name}) for each, name in zip(before, names, strict=True)]
    )
    assert [type(each.error) for each in outcomes] == [Rejected, Stale, Gone, type(None)]
    assert [each.id for each in outcomes] == ids
    assert read(place, ids[3])["name"] == "d"
    assert place.crm.outage is None


def test_what_an_automation_made_of_it_is_read_back(place: Place) -> None:
    before = read(place, place.deal(name="Old"))
    place.rewriting("loud", "quiet")
    done = write(place, before, name="loud")
    assert done.error is None
    assert done.snapshot is not None
    assert done.snapshot["name"] == "quiet"


def test_sets_are_given_whole(place: Place) -> None:
    deal = place.deal(
        contacts=(Member("ann@x.example"), Member("bob@x.example")),
        solutions=(Solution("SOL-1"), Solution("SOL-2")),
    )
    before = read(place, deal)
    assert keys(before, "contacts") == {"ann@x.example", "bob@x.example"}
    place.tick()
    done = write(
        place, before, contacts=(Member("bob@x.example"), Member("cid@x.example", "Cid", "Cop", "+49 3")),
        solutions=(Solution("SOL-2"), Solution("SOL-3", "Three", "Microsoft")), team=(COLLEAGUE,),
    )  # fmt: skip
    assert done.error is None
    assert keys(done.snapshot, "contacts") == {"bob@x.example", "cid@x.example"}
    assert keys(done.snapshot, "solutions") == {"SOL-2", "SOL-3"}
    assert keys(done.snapshot, "team") == {COLLEAGUE.key}
    assert done.snapshot is not None
    place.tick()
    emptied = write(place, read(place, deal), contacts=(), solutions=())
    assert emptied.error is None
    assert (keys(emptied.snapshot, "contacts"), keys(emptied.snapshot, "solutions")) == (set(), set())


def test_a_member_that_cannot_be_held_is_named_and_is_no_fault(place: Place) -> None:
    before = read(place, place.deal())
    done = write(place, before, team=(COLLEAGUE, STRANGER))
    assert done.error is None
    if place.traits.holds_strangers:
        assert keys(done.snapshot, "team") == {COLLEAGUE.key, STRANGER.key}
    else:
        assert keys(done.snapshot, "team") == {COLLEAGUE.key}
        assert done.unheld == {"team": {STRANGER.key}}


def test_a_text_that_is_cut_to_what_the_crm_holds_reads_back_as_agreed(place: Place) -> None:
    shape = place.crm.shape()
    long = " ".join(["word"] * 200)
    before = read(place, place.deal())
    done = write(place, before, name=for_crm("name", long, shape), notes=for_crm("notes", long, shape))
    assert done.error is None
    assert done.snapshot is not None
    assert agree("name", long, done.snapshot["name"], shape)
    assert agree("notes", long, done.snapshot["notes"], shape)


def test_closing_and_reopening(place: Place) -> None:
    before = read(place, place.deal(value=Decimal("5.00")))
    place.tick()
    won = write(place, before, stage=place.stages["won"], value=Decimal("7.00"))
    assert won.error is None
    assert won.snapshot is not None
    assert (won.snapshot["stage"], won.snapshot["is_closed"], won.snapshot["is_won"]) == (
        place.stages["won"], True, True,
    )  # fmt: skip
    assert won.snapshot["value"] == Decimal("7.00")
    place.tick()
    opened = write(place, read(place, before.id), stage=place.stages["open"])
    assert opened.error is None
    assert opened.snapshot is not None
    assert (opened.snapshot["stage"], opened.snapshot["is_closed"]) == (place.stages["open"], False)


def test_a_closed_record_says_what_it_does_not_take(place: Place) -> None:
    """The cycle holds such a field instead of writing it."""
    before = read(place, place.deal(stage=place.stages["won"], value=Decimal("5.00")))
    assert ("value" in before.readonly) is place.traits.locks
    assert "stage" not in before.readonly
    if not place.traits.locks:
        done = write(place, before, value=Decimal("7.00"), message="m")
        assert done.error is None
        assert done.snapshot is not None
        assert (done.snapshot["value"], done.snapshot["message"]) == (Decimal("7.00"), "m")


def test_a_write_whose_answer_is_lost_is_unclear(place: Place) -> None:
    before = read(place, place.deal(name="Old"))
    place.lost()
    done = write(place, before, name="New")
    place.back()
    assert isinstance(done.error, Unclear)
    assert done.snapshot is None
    assert read(place, before.id)["name"] == "New"


def test_a_crm_that_is_away_is_trouble_and_no_exception(place: Place, pull: Puller) -> None:
    ids = [place.deal(), place.deal()]
    pull()
    before = [each for each in place.crm.fetch(ids).values() if each]
    place.away()
    outcomes = place.crm.write([OpportunityWrite(each, {"message": "m"}) for each in before])
    assert {type(each.error) for each in outcomes} <= {Flaky, Unclear}
    # A single call without an answer may be that call's own bad luck; nothing was cut short then.
    assert place.crm.outage is not None or {type(each.error) for each in outcomes} == {Unclear}
    place.back()
    pull()
    again = [OpportunityWrite(each, {"message": "m"}) for each in place.crm.fetch(ids).values() if each]
    assert {each.error for each in place.crm.write(again)} == {None}
    assert place.crm.outage is None


@pytest.mark.parametrize("verb", ["write", "create"])
def test_nothing_to_do_costs_nothing(place: Place, verb: str) -> None:
    place.crm.shape()
    calls = place.crm.calls
    do: Callable[[Sequence[Any]], Sequence[Outcome]] = getattr(place.crm, verb)
    assert list(do([])) == []
    assert place.crm.calls == calls


def test_an_idle_pull_after_a_burst_costs_what_an_idle_pull_costs(place: Place, pull: Puller) -> None:
    """The watermark moves with the CRM's clock, so what came in a burst is not read for ever."""
    if not place.traits.sees_lookalikes:
        pytest.skip("the memory CRM makes no calls worth counting")

    span = timedelta(hours=2)  # the whole burst lies in the overlap

    def idle() -> int:
        before = place.crm.calls
        assert pull(span) == (set(), set())
        return place.crm.calls - before

    place.world.org.page_size = 200  # type: ignore[attr-defined]
    place.deal()
    pull()
    place.tick(3600)
    idle()
    usual = idle()
    for number in range(300):
        place.deal(name=f"Deal {number}", customer=Customer(f"Customer {number}", "Main Street 1"))
    pull(span)
    for _ in range(2):
        place.tick(60)
        idle()
    place.tick(60)
    assert idle() == usual, "the whole burst lies in the overlap, and is not listed again"
    for _ in range(3):
        place.tick(8000)
        idle()
    assert idle() == usual
    late = place.deal()
    assert pull(span) == ({late}, set())
