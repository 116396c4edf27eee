"""Killed anywhere, started again: both sides tell the very story that they would have told anyhow.

One play of deals that are made, changed and closed from both sides. First it is given undisturbed: that says which points
there are (see ``crash_player``) and how each act ends. Then every act is given again, once for each of its points, with a program
that dies there and a fresh one that takes over. However it went, the end must be the same, row by row: nothing twice,
no edit lost, nothing written to a closed referral, and nothing left to write.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from crash_player import CrashPlayer, ProcessRun, SavedState, traces, writes
from crm_sellers import IDA, JONAS, MARA, SELLERS, SalesforceSellers

from cosell_sync.sandbox.partner_center.samples import own_member

HELP = "Proof of concept or demo"
PATIENCE = 5  # cycles until nothing is written any more

BOTH = {  # kinds of points that leave a trace, and how many points there are in all at least
    "commit",
    "file",
    "POST partner center /ID/oauth2/v2.0/token",
    "POST partner center /v1.0/engagements/referrals",
    "PATCH partner center /v1.0/engagements/referrals/ID",
    "GET partner center /v1.0/engagements/referrals",
    "GET partner center /v1.0/engagements/referrals/ID",
}
SALESFORCE = "salesforce /services/data/v66.0/composite"
KINDS = {
    "salesforce": BOTH | {
        "POST salesforce /services/oauth2/token",
        f"POST {SALESFORCE} GET",
        f"POST {SALESFORCE} GET+PATCH",
        f"POST {SALESFORCE} GET+PATCH+POST",
        f"POST {SALESFORCE} DELETE+GET+PATCH+POST",
        f"POST {SALESFORCE}/sobjects",
    },
    "dynamics": BOTH | {
        "POST dynamics /ID/oauth2/v2.0/token",
        "GET dynamics /api/data/v9.2/opportunities",
        "PATCH dynamics /api/data/v9.2/opportunities()",
        "POST dynamics /api/data/v9.2/contacts",
        "POST dynamics /api/data/v9.2/$batch GET",
        "POST dynamics /api/data/v9.2/$batch POST",
        "POST dynamics /api/data/v9.2/$batch PATCH",
        "POST dynamics /api/data/v9.2/$batch PATCH+POST",
        "POST dynamics /api/data/v9.2/$batch DELETE+POST",
    },
}  # fmt: skip
LEAST = {"salesforce": 270, "dynamics": 500}


def solution(code: str) -> dict[str, Any]:
    return {
        "id": code,
        "name": f"Product {code}",
        "type": "Name",
        "solutionType": "3P",
        "price": 5,
        "quantity": 1,
    }


def person(first: str) -> dict[str, Any]:
    return {
        "firstName": first,
        "lastName": "Oz",
        "email": f"{first.lower()}@c.example",
        "phoneNumber": "+49 1",
    }


@dataclass
class Play:
    """The acts, in order; each is followed by cycles until it is quiet."""

    player: CrashPlayer
    sellers: SalesforceSellers
    ids: dict[str, str] = field(default_factory=dict)

    ACTS = ("imports", "edits", "answers", "hold", "shares", "microsoft", "ends", "last hold")

    @property
    def acts(self) -> dict[str, Callable[[], None]]:
        play = (
            self.imports, self.edits, self.answers, self.wait, self.shares, self.microsoft_answers, self.ends, self.wait,
        )  # fmt: skip
        return dict(zip(self.ACTS, play, strict=True))

    def add(self, name: str, kind: str, **overrides: Any) -> None:
        plain = {
            "name": name,
            "campaignId": None,
            "favorite": False,
            "customerProfile": {"name": f"{name} AG", "team": [person("Ann"), person("Bob")]},
            "team": [own_member(IDA), own_member(JONAS)],
            "details": {
                "currency": "EUR",
                "dealValue": 84000,
                "notes": "one\ntwo",
                "requirements": {"solutions": [solution("SOL-1"), solution("SOL-2")]},
            },
        }
        self.player.pc.add(kind, **{**plain, **overrides})

    def there(self, name: str) -> dict[str, Any]:
        (found,) = [each for each in self.player.pc.ours() if each["name"] == name]
        return found

    def portal(self, name: str, changes: dict[str, Any]) -> None:
        self.player.pc.edit(self.there(name)["id"], changes)

    def imports(self) -> None:
        self.add("Merging", "inbound_accepted")
        self.add("Outgoing", "partner_led")
        for name in ("Accepted", "Declined", "Jumping", "Taken"):
            self.add(name, "inbound_pending")
        self.add("Lost", "inbound_accepted")

    def edits(self) -> None:
        """On one deal edits of both sides that merge, line by line and member by member."""
        sellers = self.sellers
        sellers.edit("Merging", value=4321, notes="one\ntwo\nthe seller's")
        sellers.person("Merging", first="Cyd", last="Oz", email="cyd@c.example", phone="+49 2")
        sellers.drop_solution("Merging", "SOL-2")
        sellers.colleague("Merging", MARA)
        sellers.edit("Outgoing", close_date="2029-09-09")
        self.portal(
            "Merging",
            {
                "details/notes": "the portal's\none\ntwo",
                "campaignId": "CRASH",
                "customerProfile/team": [person("Ann"), person("Dee")],
                "details/requirements/solutions": [solution("SOL-1"), solution("SOL-2"), solution("SOL-3")],
                "team": [own_member(IDA)],
            },
        )

    def answers(self) -> None:
        sellers, pc = self.sellers, self.player.pc
        sellers.edit("Accepted", action="Accept", value=64000)
        sellers.edit("Declined", action="Decline", reason="Timeline too short", reason_note="Too soon")
        sellers.edit("Jumping", value=99)
        sellers.win("Jumping")
        pc.accept(self.there("Taken")["id"])

    def wait(self) -> None:
        self.player.clock.advance(timedelta(minutes=16))

    def shares(self) -> None:
        details = {"value": 90000, "close_date": f"{self.player.clock().year + 1}-05-31"}
        self.sellers.born("Own", help=HELP, help_note="Pilot in Q3", **details)
        self.sellers.born("Private", **details)

    def microsoft_answers(self) -> None:
        self.player.pc.microsoft_answers(
            self.there("Own")["engagementId"], "Active", "Accepted", msx_id="7-1"
        )
        self.sellers.edit("Private", help=HELP)

    def ends(self) -> None:
        sellers, pc = self.sellers, self.player.pc
        sellers.edit("Lost", value=1)
        sellers.lose("Lost", "Other vendor chosen")
        sellers.win("Own")
        pc.win(self.there("Taken")["id"])
        pc.lose(self.there("Merging")["id"], "Budget insufficient")
        sellers.edit("Merging", value=5)

    # -- what came of it --------------------------------------------------------------------------------------------

    def end(self) -> Counter[str]:
        """Both systems in words, free of ids and times."""
        documents = self.player.pc.all()
        names = {each["id"]: f"{each['name']} of {each['organizationName']}" for each in documents}
        names |= {row[self.sellers.KEY]: row[self.sellers.WORDS["name"]] for row in self.deals()}
        told = Counter(f"referral {spoken(document)}" for document in documents) + self.sellers.story()
        return Counter({replaced(line, names): number for line, number in told.items()})

    def deals(self) -> list[dict[str, Any]]:
        return list(self.sellers.world.snapshot()[self.sellers.DEALS].values())


def spoken(document: dict[str, Any]) -> str:
    ours = {name: value for name, value in document.items() if name not in {"eTag", "links", "engagementId"}}
    details = {**document["details"], "requirements": {**document["details"]["requirements"]}}
    ours["details"] = details
    return str({name: value for name, value in ours.items() if not name.endswith("DateTime")})


def replaced(line: str, names: dict[str, str]) -> str:
    for row_id, name in names.items():
        line = line.replace(row_id, f"<{name}>")
    return line


@dataclass(frozen=True)
class Cycle:
    """One cycle of an act: the world before it, and its points undisturbed."""

    saved: SavedState
    points: list[str]


@dataclass(frozen=True)
class Act:
    """What people did, as it was carried: the cycles until one wrote nothing, and the story that both sides tell then."""

    cycles: list[Cycle]
    end: Counter[str]

    @property
    def points(self) -> list[str]:
        return [point for cycle in self.cycles for point in cycle.points]


@dataclass(frozen=True)
class Given:
    """The play as it was given undisturbed."""

    play: Play
    acts: dict[str, Act]

    @property
    def points(self) -> list[str]:
        return [point for act in self.acts.values() for point in act.points]


def give(crm: str, home: Path) -> Given:
    player = CrashPlayer(crm, home)
    play = Play(player, SELLERS[crm](player.crm))
    acts = {}
    for name, act in play.acts.items():
        act()
        cycles: list[Cycle] = []
        while not cycles or any(map(writes, cycles[-1].points)):
            assert len(cycles) < PATIENCE, f"{name} does not come to rest: {cycles[-1].points}"
            saved, run = player.saved(f"{name}-{len(cycles)}"), ProcessRun()
            assert player.run_program(run)
            cycles.append(Cycle(saved, run.points))
        acts[name] = Act(cycles, play.end())
    return Given(play, acts)


@pytest.fixture(autouse=True, scope="module")
def _quiet_logs() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Given]:
    made: dict[str, Given] = {}

    def once(crm: str) -> Given:
        if crm not in made:
            made[crm] = give(crm, tmp_path_factory.mktemp(crm))
        return made[crm]

    return once


@pytest.mark.parametrize("crm", SELLERS)
def test_the_play_touches_everything_that_the_product_does(given: Callable[[str], Given], crm: str) -> None:
    """Else the walk below would prove less than it says."""
    played = given(crm)
    missing = KINDS[crm] - set(played.points)
    assert not missing, missing
    assert len(played.points) >= LEAST[crm]
    assert played.play.player.pc.violations == []


@pytest.mark.parametrize("act", Play.ACTS)
@pytest.mark.parametrize("crm", SELLERS)
def test_dead_at_any_point_and_started_again_it_all_ends_the_same(
    given: Callable[[str], Given], crm: str, act: str
) -> None:
    played = given(crm)
    player, wanted = played.play.player, played.acts[act].end
    wrong: list[str] = []
    deaths = 0
    for cycle in played.acts[act].cycles:
        for number, point in enumerate(["the start", *cycle.points[:-1]]):
            if number and not traces(point):
                continue
            deaths += 1
            where = f"dead after {point} ({number} of {len(cycle.points)})"
            cycle.saved.set()
            assert not player.run_program(ProcessRun(number)), where
            run = ProcessRun()
            assert player.run_program(run, PATIENCE)
            wrong += [f"{where}: {each}" for each in judged(played.play, wanted, run)]
    print(f"{crm}, {act}: {deaths} deaths at {len(played.acts[act].points)} points")
    assert not wrong, "\n".join(wrong)


def judged(play: Play, wanted: Counter[str], run: ProcessRun) -> Iterator[str]:
    end = play.end()
    yield from (f"lost or otherwise: {line}" for line in wanted - end)
    yield from (f"too much or otherwise: {line}" for line in end - wanted)
    if play.player.pc.violations:
        yield f"wrote to a closed referral: {play.player.pc.violations}"
