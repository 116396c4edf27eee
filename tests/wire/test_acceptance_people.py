"""What people decide: pausing, deleting, linking, resolving; and what an org forbids or does by itself.

Each story is a generator that gives way to one cycle at every ``yield``; all are told side by side on one stage, so that
every cycle meets all of them at once and none may harm another. At the end nothing may be left to write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from acceptance import Done, Stage, staged
from comparison import disagreements, doubles

from cosell_sync.sandbox.partner_center.schema import Document

pytestmark = pytest.mark.wire

ASK = "mapping:\n  fields:\n    close_date: {conflict: ask}\n"


@dataclass
class StoryRun:
    """Plays the cycles of a story, and keeps what the last one left."""

    stage: Stage
    last: Done | None = None
    besides: list[tuple[str, str]] = field(
        default_factory=list
    )  # what a story leaves different, told on the record
    held: list[str] = field(default_factory=list)
    _attention: dict[str, str] | None = None

    def cycle(self) -> None:
        self.stage.forget_calls()
        self.last = self.stage.sync(expect=None)
        self._attention = None
        assert self.last.code in {0, 1}, str(self.last)

    @property
    def attention(self) -> dict[str, str]:
        """Deals that need a person, with what they are told."""
        if self._attention is None:
            rows = self.stage.cosell("deals", "list", "--attention", "--json").json()
            self._attention = {row["referral_id"]: row["todo"] for row in rows}
        return self._attention

    def conflicts(self, *deals: Document) -> int:
        """How many the last cycle named of these deals."""
        ids = {deal["id"] for deal in deals}
        named = self.last.named("deal.conflict") if self.last else []
        return sum(event["referral_id"] in ids for event in named)

    def touched(self, deal: Document, opportunity: str = "") -> list[str]:
        """What the last cycle tried to change about it."""
        names = {deal["id"], opportunity} - {""}
        return [line for line in self.stage.mutations() if any(name in line for name in names)]


Story = Callable[[StoryRun], Iterator[None]]


def paused(run: StoryRun) -> Iterator[None]:
    """Left alone while Sync is off, state and message aside; merged when it is on again."""
    stage = run.stage
    deal = stage.add()
    yield
    stage.seller(deal, sync=False, value=11)
    stage.pc.edit(deal["id"], "campaignId", "MEANWHILE")
    yield
    row = stage.deal(deal)
    assert (row["sync_state"], row["value"], row["campaign_id"]) == ("Waiting", 11, None)
    assert "aused" in row["message"]
    assert stage.patches(deal["id"]) == []
    stage.seller(deal, stage="Lost")
    yield
    assert stage.patches(deal["id"]) == []
    assert stage.status(deal) == ("Active", "Accepted")
    stage.seller(deal, sync=True, stage=row["stage"])
    yield
    row = stage.deal(deal)
    assert (row["sync_state"], row["value"], row["campaign_id"]) == (
        "In sync",
        11,
        "MEANWHILE",
    )
    assert stage.referral(deal)["details"]["dealValue"] == 11


def deleted(run: StoryRun) -> Iterator[None]:
    """The referral stays as it is, nothing is made again; undeleting resumes."""
    stage = run.stage
    deal = stage.add()
    yield
    opportunity = stage.deal(deal)["id"]
    stage.crm.delete("opportunity", opportunity)
    yield
    assert stage.deals(deal) == []
    assert "deleted" in run.attention[deal["id"]]
    stage.pc.edit(deal["id"], "details/dealValue", 4711)
    yield
    assert run.touched(deal, opportunity) == []
    assert deal["id"] in run.attention
    stage.crm.undelete("opportunity", opportunity)
    yield
    yield
    assert stage.deal(deal)["id"] == opportunity
    assert stage.deal(deal)["value"] == 4711
    assert deal["id"] not in run.attention


def vanished(run: StoryRun) -> Iterator[None]:
    """The opportunity stays as it is and says so; the referral is not made again; its return resumes."""
    stage = run.stage
    deal = stage.add()
    yield
    kept = ("stage", "referral_id", "status", "name")
    before = {name: stage.deal(deal)[name] for name in kept}
    number = len(stage.pc.ours())
    stage.pc.remove(deal["id"])
    stage.seller(deal, value=31)
    yield
    row = stage.deal(deal)
    assert row["sync_state"] == "Needs attention"
    assert "cannot be found in Partner Center" in row["message"]
    assert {name: row[name] for name in kept} == before
    assert row["value"] == 31
    assert len(stage.pc.ours()) <= number
    yield
    assert run.touched(deal, row["id"]) == []
    stage.pc.restore(deal["id"])
    stage.pc.edit(deal["id"], "campaignId", "BACK")
    yield
    yield
    assert stage.referral(deal)["details"]["dealValue"] == 31
    row = stage.deal(deal)
    assert (row["campaign_id"], row["sync_state"]) == ("BACK", "In sync")


def known_customer(stage: Stage, name: str) -> tuple[str, Document]:
    """An account of the org, and the customer of a referral that is the same."""
    account = stage.crm.create(
        "account",
        name=name,
        street="Weg 1",
        city="Bern",
        postal_code="3000",
        country="CH",
    )
    address = {"addressLine1": "Weg 1", "addressLine2": None, "city": "Bern", "state": None, "postalCode": "3000", "country": "CH"}  # fmt: skip
    return account, {"name": name, "address": address}


def own(stage: Stage, account: str, name: str) -> str:
    return stage.crm.create(  # type: ignore[no-any-return]
        "opportunity", name=name, account=account, stage="Qualify", close_date="2028-08-08", value=5, currency="EUR"
    )  # fmt: skip


def look_alikes(run: StoryRun) -> Iterator[None]:
    """Held until a person links or creates; one whose id stands in the referral is always linked."""
    stage = run.stage
    account, customer = known_customer(stage, "Lookalike AG")
    first, second, third = (
        own(stage, account, name) for name in ("the  first DEAL", "Second deal", "Unrelated")
    )
    details = {"closingDateTime": "2028-08-08T00:00:00Z"}
    same = stage.add(name="The first deal", customerProfile=customer, details=details)
    other = stage.add(name="Second Deal", customerProfile=customer, details=details)
    named = stage.add(name="Named", customerProfile=customer, details=details, externalReferenceId=third)
    run.besides += [(same["id"], "name"), (named["id"], "name")]  # the CRM's names stay, and are told
    yield
    assert stage.deals(same) == stage.deals(other) == []
    assert stage.deal(named)["id"] == third, "its id stands in the referral"
    assert first in run.attention[same["id"]]
    assert "deals link" in run.attention[same["id"]]
    assert other["id"] in run.attention
    for opportunity in (first, second):
        row = stage.crm.get("opportunity", opportunity)
        assert row["sync_state"] == "Needs attention"
        assert "looks like" in row["message"]
    yield
    assert run.touched(same, first) == run.touched(other, second) == [], "said once"
    for words in (("x", first), (same["id"], "y")):
        told = stage.cosell("deals", "link", *words, expect=2)
        assert "is no id of" in told.err, "a typo would join a deal to nothing"
    stage.cosell("deals", "link", f"{same['id'].upper()} ", first, process=True)
    stage.cosell("deals", "create", other["id"], process=True)
    yield
    yield
    assert stage.deal(same)["id"] == first
    assert stage.deal(other)["id"] != second
    assert stage.crm.get("opportunity", second)["sync_state"] is None, "nothing is asked of it any more"
    assert len(stage.crm.rows("opportunity", account=account)) == 4


def parted(run: StoryRun) -> Iterator[None]:
    """Both ids are remembered: nothing is written, imported or shared again until ``deals link``."""
    stage = run.stage
    deal = stage.add()
    yield
    opportunity = stage.deal(deal)["id"]
    stage.cosell("deals", "unlink", opportunity)
    stage.pc.edit(deal["id"], "details/dealValue", 1)
    stage.crm.edit("opportunity", opportunity, value=2)
    yield
    assert run.touched(deal, opportunity) == []
    yield
    assert run.touched(deal, opportunity) == []
    assert [row["id"] for row in stage.deals(deal)] == [opportunity]
    stage.cosell("deals", "link", deal["id"], opportunity)
    yield
    yield
    assert stage.deal(deal)["id"] == opportunity
    assert stage.deal(deal)["value"] == stage.referral(deal)["details"]["dealValue"] == 2


def asked(run: StoryRun) -> Iterator[None]:
    """Both values on the record, nothing overwritten; over by the same value on both sides or ``deals resolve``."""
    stage = run.stage
    deal, other = stage.add(), stage.add()
    yield
    for one in (deal, other):
        stage.pc.edit(one["id"], "details/closingDateTime", "2028-01-01T00:00:00Z")
        stage.seller(one, close_date="2028-02-02")
    yield
    for one in (deal, other):
        row = stage.deal(one)
        assert row["sync_state"] == "Conflict"
        assert "1 Jan 2028" in row["message"]
        assert "2 Feb 2028" in row["message"]
        assert row["close_date"] == "2028-02-02"
        assert stage.referral(one)["details"]["closingDateTime"].startswith("2028-01-01")
    assert run.conflicts(deal, other) == 2
    yield
    assert run.touched(deal, stage.deal(deal)["id"]) == []
    assert run.conflicts(deal, other) == 0, "named once"
    assert {deal["id"], other["id"]} <= run.attention.keys()
    stage.cosell(
        "deals",
        "resolve",
        deal["id"],
        stage.crm.column("close_date"),
        "--keep",
        "partner_center",
        process=True,
    )
    stage.seller(other, close_date="2028-01-01")
    yield
    for one in (deal, other):
        row = stage.deal(one)
        assert (row["close_date"], row["sync_state"]) == ("2028-01-01", "In sync"), row["message"]


def forbidden(run: StoryRun) -> Iterator[None]:
    """A validation rule's words: verbatim on the record; where the rule refuses that too, in ``deals list``."""
    stage = run.stage
    deal, shut = stage.add(), stage.add(name="Deal two")
    yield
    words, harsh = 'Deals above 1\'000 need a "Next Step" (ask Lena Söderberg).', "Nobody touches deal two."
    active = [True]
    stage.crm.add_validation_rule(lambda row: row["value"] == 9001 and not row["aside"], words)
    stage.crm.add_validation_rule(lambda row: active[0] and row["name"] == "Deal two", harsh)
    stage.pc.edit(deal["id"], "details/dealValue", 9001)
    stage.pc.edit(shut["id"], "campaignId", "SHUT")
    yield
    row = stage.deal(deal)
    assert row["sync_state"] == "Needs attention"
    assert words in row["message"]
    assert row["value"] == 84000
    assert words in run.attention[deal["id"]]
    assert harsh in run.attention[shut["id"]]
    assert run.last is not None
    assert words not in run.last.err
    assert harsh not in run.last.err
    active[0] = False
    stage.seller(deal, aside="call")
    stage.cosell("deals", "retry", shut["id"], process=True)
    yield
    yield
    assert stage.deal(deal)["value"] == 9001
    assert stage.deal(shut)["campaign_id"] == "SHUT"
    assert not {deal["id"], shut["id"]} & run.attention.keys()


def rewritten(run: StoryRun) -> Iterator[None]:
    """A flow of the org has its say: what reads back goes to Partner Center once, and there is no loop."""
    stage = run.stage
    deal = stage.add(name="Rounded")
    yield
    stage.crm.add_automation(
        lambda before, changes: (
            {**changes, "value": round(changes["value"] / 1000) * 1000}
            if changes.get("value") and before.get("name") == "Rounded"
            else changes
        ),
    )
    stage.pc.edit(deal["id"], "details/dealValue", 12345)
    yield
    yield
    assert stage.deal(deal)["value"] == stage.referral(deal)["details"]["dealValue"] == 12000
    yield
    assert run.touched(deal, stage.deal(deal)["id"]) == []


def summed(run: StoryRun) -> Iterator[None]:
    """An amount that products make up is read-only: told, kept, no fault."""
    stage = run.stage
    deal = stage.add()
    yield
    stage.crm.world.add_products(stage.deal(deal)["id"], 2500)
    yield
    assert stage.referral(deal)["details"]["dealValue"] == 2500
    stage.pc.edit(deal["id"], "details/dealValue", 7777)
    yield
    row = stage.deal(deal)
    assert (row["value"], row["sync_state"]) == (2500, "In sync")
    assert stage.crm.spoken("{value}") in row["message"]
    assert "7,777" in row["message"]
    assert stage.referral(deal)["details"]["dealValue"] == 7777
    run.besides.append((deal["id"], "value"))
    yield
    assert run.touched(deal, row["id"]) == []


def merged(run: StoryRun) -> Iterator[None]:
    """Two accounts become one: the deal follows, and the customer is not made again."""
    stage = run.stage
    account, customer = known_customer(stage, "Doppelt AG")
    deal = stage.add(customerProfile=customer)
    yield
    twin = stage.crm.create("account", name="Doppelt AG (old)", country="CH")
    stage.crm.world.merge_accounts(twin, account)
    yield
    row = stage.deal(deal)
    assert (row["account"], row["sync_state"]) == (twin, "In sync")
    yield
    assert [each["name"] for each in stage.crm.rows("account") if "Doppelt" in each["name"]] == [
        "Doppelt AG (old)"
    ]
    fields = ("customer name", "street", "city", "postal code")
    run.besides += [(deal["id"], name) for name in fields]  # fixed in Partner Center, told on the record


STORIES: tuple[Story, ...] = (
    paused, deleted, vanished, look_alikes, parted, asked, forbidden, rewritten, summed, merged,
)  # fmt: skip


@dataclass
class Evening:
    run: StoryRun
    failed: dict[str, AssertionError]


@pytest.fixture(scope="module")
def evening(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Iterator[Evening]:
    """All stories, cycle by cycle, until the last has ended."""
    for stage in staged(tmp_path_factory.mktemp("people"), crm):
        stage.env.update(COSELL_SYNC__TERMINAL_HOLD="0s", COSELL_CONFIG=str(stage.home / "ask.yaml"))
        (stage.home / "ask.yaml").write_text(ASK)
        run = StoryRun(stage)
        playing = {story.__name__: story(run) for story in STORIES}
        failed: dict[str, AssertionError] = {}
        while playing:
            for name, story in list(playing.items()):
                try:
                    next(story)
                except StopIteration:
                    del playing[name]
                except AssertionError as wrong:
                    failed[name] = wrong
                    del playing[name]
            if playing:
                run.cycle()
        yield Evening(run, failed)


@pytest.mark.parametrize("story", [story.__name__ for story in STORIES])
def test_a_story_ends_as_it_should(evening: Evening, story: str) -> None:
    if story in evening.failed:
        raise evening.failed[story]


def test_after_all_stories_both_sides_agree_and_nothing_is_left_to_write(evening: Evening) -> None:
    run = evening.run
    assert run.attention == {}
    assert disagreements(run.stage, besides=run.besides) == []
    assert doubles(run.stage) == []
    run.stage.sync()
    run.stage.quiet()
