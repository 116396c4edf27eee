"""Partner Center in memory that takes posts: bodies checked by the sandbox's strict rules, Microsoft's sides kept.

Like the real service it protects nobody from posting twice: a second post makes a second referral, a second invitation a
second side of Microsoft. The tests count them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cosell_sync.core.deal import DealType, Direction, Side, Snapshot, State, Value
from cosell_sync.core.fields import SHARED
from cosell_sync.core.memory import Link
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.cycle.context import CycleSettings, DealPlan, Services
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.errors import Cure, Flaky, OutsideError, Rejected, Unavailable, Unclear
from cosell_sync.partner_center import create, patch
from cosell_sync.partner_center.values import WireOptions
from cosell_sync.ports import Outcome, Page, ReferralDraft
from cosell_sync.sandbox.partner_center.rules import Switches, check_create, check_invitation
from cosell_sync.summary import CycleSummary
from cosell_sync.transport.exact_json import encode
from memory_systems import CountingStore, MemoryCrm, MemoryReferrals, Outside, Row, rules

HELP = "Proof of concept or demo"
MINUTE = timedelta(minutes=1)


class Crash(BaseException):
    """The process is killed."""


@dataclass
class Posts(MemoryReferrals):
    """``ports.Referrals`` that can create. ``lose``: numbers of posts whose answer is lost; ``at``: every boundary."""

    outside: Outside
    recipe: str = "two_posts"
    type_follows: bool = True
    refuse: str = ""
    lose: set[int] = field(default_factory=set)
    sides: list[Row] = field(default_factory=list)
    bodies: list[dict[str, object]] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)  # referral → opportunity that it was posted for
    looks: int = 0
    unsearchable: bool = False
    late: timedelta = timedelta()  # so much later a post shows whose answer did not come in time
    shown: dict[str, datetime] = field(default_factory=dict)  # id → from when on

    def __post_init__(self) -> None:
        super().__init__(self.outside)

    def create(self, draft: ReferralDraft) -> Outcome:
        kind = self.outside.fault(Side.PARTNER_CENTER)
        if kind == "away":
            self.outage = Unavailable("partner_center", "away")
            return Outcome(None, Flaky("not now", code="unavailable"))
        self._call("post")
        body = create.body(draft, WireOptions(recipe=self.recipe))
        self.bodies.append(json.loads(encode(body)))
        switches = Switches(one_post=self.recipe == "one_post")
        faults = check_create(json.loads(encode(body)), switches)
        ours = next(
            (
                row
                for row in self.outside.referrals.values()
                if row.fields.get("engagement_id") == draft.engagement_id
            ),
            None,
        )
        if draft.engagement_id:
            seen = {
                "consent": {
                    patch.PATHS["visible"].rsplit("/", 1)[1]: ours is not None and ours.fields["visible"]
                }
            }
            faults += check_invitation(self.bodies[-1], seen, switches)
        if faults:
            self.outside.violations.append(
                f"a post for {draft.external_reference} that is not legal: {faults}"
            )
        if self.refuse or kind in {"rejected", "flaky"}:
            return Outcome(
                None, Rejected(self.refuse or "no", code="invalidRequest", status=400, cure=Cure.SELLER)
            )
        invites = draft.engagement_id is not None or "inviteContext" in body
        row = ours if draft.engagement_id else self._stored(draft)
        assert row is not None
        if invites:
            self._invited(row)
        # the reply is of the moment in which it was made; what a person does next is seen by the next read
        reply = self._foreign(self.sides[-1]) if draft.engagement_id else self._snapshot(row)
        self.outside.at("posted")
        if kind == "lost" or len(self.bodies) in self.lose:
            self.shown[reply.id] = self.outside.now + self.late
            return Outcome(None, Unclear("no answer", code="read_timeout"))
        return Outcome(reply.id, snapshot=reply, steps=1)

    def _stored(self, draft: ReferralDraft) -> Row:
        sent = {
            name: value
            for name, value in draft.fields.items()
            if name in SHARED or name in {"visible", "deal_type"}
        }
        empty: dict[str, Value] = {"campaign_id": None, "notes": None, "sales_stage": None, "contacts": ()}
        number = len(self.outside.referrals) + 1
        more: dict[str, Value] = {
            "direction": Direction.OUTBOUND.value,
            "engagement_id": f"E{number}",
            "external_reference": draft.external_reference,
            "respond_by": None,
        }
        made = self.outside.new_referral(State.ACCEPTED, person=False, **{**empty, **sent, **more})
        self.origins[made.id] = draft.external_reference
        return made

    def _invited(self, ours: Row) -> None:
        fields: dict[str, Value] = {
            "category": "foreign",
            "organization": "Microsoft",
            "engagement_id": ours.fields["engagement_id"],
            "status_text": "New / Pending",
            "created_at": self.outside.now,
            "respond_by": self.outside.now + timedelta(days=14),
        }
        self.sides.append(Row(f"M{len(self.sides) + 1}", fields))
        if self.type_follows:
            self.outside.change(Side.PARTNER_CENTER, ours, {"deal_type": DealType.COSELL.value}, person=False)

    def _shows(self, row: Row) -> bool:
        return self.outside.now >= self.shown.get(row.id, self.outside.now)

    def _pages(self, rows: Sequence[Row]) -> Iterator[Page]:
        return super()._pages([row for row in rows if self._shows(row)])

    def find_created(self, external_reference: str) -> Snapshot | None:
        self._call("search")
        rows = [
            row
            for row in self.outside.referrals.values()
            if row.fields["external_reference"] == external_reference and not row.gone and self._shows(row)
        ]
        return self._snapshot(rows[-1]) if rows else None

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        self._call("engagement")
        self.looks += 1
        if self.unsearchable:
            raise Unavailable("partner_center", "refused", code="invalidRequest", status=400)
        ours = [
            row for row in self.outside.referrals.values() if row.fields.get("engagement_id") == engagement_id
        ]
        theirs = [
            row for row in self.sides if row.fields["engagement_id"] == engagement_id and self._shows(row)
        ]
        return [*map(self._snapshot, ours), *map(self._foreign, theirs)]

    def _foreign(self, row: Row) -> Snapshot:
        return Snapshot(row.id, str(row.version), dict(row.fields))

    def answers(self, status: str, number: int = -1, **fields: Value) -> None:
        """Microsoft changes its side."""
        self.sides[number].fields |= {"status_text": status, "respond_by": None, **fields}


@dataclass
class Stage:
    """Both systems, the store, and cycles over them."""

    outside: Outside = field(default_factory=Outside)
    store: CountingStore = field(default_factory=CountingStore)
    recipe: str = "two_posts"
    moves: int = 10_000  # ``sync.surprise_moves``: most tests are not about it
    patience: timedelta = (
        timedelta()
    )  # ``sync.post_patience``; a post lands at once or never, but for ``Posts.late``
    number: int = 0
    found: list[DealPlan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.posts = Posts(self.outside, self.recipe)
        self.rules = rules(cosell_recipe=self.recipe)

    def opportunity(self, **fields: Value) -> str:
        """A seller's opportunity with everything a private deal needs."""
        return self.outside.new_opportunity(**fields).id

    def seller(self, opportunity: str, **fields: Value) -> None:
        self.outside.people(Side.CRM, opportunity, fields)

    def cycle(self, at: Callable[[str], None] | None = None, *, crash: bool = False) -> CycleSummary | None:
        self.number += 1
        self.outside.now += MINUTE
        self.store = self.store.another()
        store, passed = self.store, at or (lambda _where: None)
        self.outside.at = passed
        store.before_remember = lambda _memo: passed("before_remember")
        store.after_commit = lambda _memo: passed("after_commit")
        world = Services(
            self.posts,
            MemoryCrm(self.outside),
            store,
            self.outside.clock,
            self.rules,
            CycleSettings(
                retry_policy=RetryPolicy(MINUTE, 4), surprise_moves=self.moves, post_patience=self.patience
            ),
        )
        self.found = []
        try:
            with store.lease(timedelta()):
                return run_cycle(world, f"c{self.number}", collect=self.found.append)
        except Crash:
            assert crash
        except OutsideError:
            assert crash
        finally:
            self.outside.at = lambda _where: None
            store.before_remember = store.after_commit = None
        return None

    def settled(self, cycles: int = 3) -> None:
        """After some cycles nothing is written any more."""
        for _ in range(cycles):
            self.cycle()
        writes, posts = self.outside.writes, len(self.posts.bodies)
        self.cycle()
        assert (self.outside.writes, len(self.posts.bodies)) == (writes, posts)
        assert not self.outside.violations

    def record(self, opportunity: str = "O1") -> dict[str, Value]:
        return self.outside.opportunities[opportunity].fields

    def link(self, opportunity: str = "O1") -> Link:
        return self.store.by_opportunity([opportunity])[opportunity]
