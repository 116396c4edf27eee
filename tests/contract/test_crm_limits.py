"""What the other side's columns cannot hold, on both CRMs: imported all the same, cut once, told once, quiet from then on.

Each case takes a referral in as a cycle does (decide, create, learn, decide again) against the served sandbox, which counts
lengths, refuses characters, picklist values and owners as the platforms do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from adapters import served_dynamics, served_salesforce
from core.deals import NOW, rules
from cosell_sync.core.deal import Customer, Member, Snapshot, Solution, State, Value
from cosell_sync.core.decision import Decision
from cosell_sync.core.fields import SHARED
from cosell_sync.core.intake import IntakeAction, Matches, decide_intake
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.outcome import after_create, after_opportunity
from cosell_sync.core.reconcile import decide
from cosell_sync.core.rules import AccountUpdates, Rules, Stages
from cosell_sync.crm.writes import Ownership
from cosell_sync.ports import Crm, OpportunityDraft, OpportunityWrite, Outcome
from cosell_sync.sandbox.certificates import Certificates

EMOJI = "\N{MAN}\N{ZERO WIDTH JOINER}\N{ROCKET}\N{VARIATION SELECTOR-16}"
WHO = Customer("Fabrikam", "Main St 1", None, "Berlin", None, "10115", "DE")
LONG = "Maximiliane-" * 40
PHONE = "+49 30 " + "1234567890" * 9
RULES = {
    "salesforce": rules(stages=Stages()),
    "codes": rules(stages=Stages()),
    "dynamics": rules(
        stages=Stages(received="On Hold", accepted="In Progress", won="Won", lost="Canceled", declined="Canceled", expired="Canceled")
    ),
}  # fmt: skip


@dataclass
class Place:
    """One served CRM: plain Salesforce, Salesforce with address picklists (``codes``), Dynamics."""

    kind: str
    world: served_salesforce.World | served_dynamics.World
    crm: Crm
    rules: Rules

    def client(self, ownership: Ownership) -> Crm:
        return self.world.client(ownership=ownership)

    def colleague(self, first: str, *, may_own: bool = True) -> Member:
        """A user of the CRM."""
        email = f"{first.lower()}@contoso.example"
        org = self.world.org
        user = org.add_user(first, "Seller", email)
        if not may_own:
            org.take_read(user) if isinstance(self.world, served_salesforce.World) else org.take_roles(user)
        return Member(email, first, "Seller")


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


@pytest.fixture(params=["salesforce", "codes", "dynamics"])
def place(request: pytest.FixtureRequest, certificates: Certificates, tmp_path: Path) -> Iterator[Place]:
    bundle = certificates.write(tmp_path / "ca.pem")
    world: served_salesforce.World | served_dynamics.World
    if request.param == "dynamics":
        world = served_dynamics.World(certificates, bundle)
    else:
        world = served_salesforce.World(
            certificates, bundle, state_country_picklists=request.param == "codes"
        )
    world.server.start()
    yield Place(request.param, world, world.client(), RULES[request.param])
    world.close()
    assert world.server.errors == []


def referral(**fields: Value) -> Link:
    given: dict[str, Value] = {
        "name": "Deal", "value": Decimal("100.00"), "currency": "USD", "close_date": date(2027, 1, 31),
        "notes": "one", "customer": WHO, "team": (), "contacts": (), "solutions": (),
        "state": State.ACCEPTED.value, "status_text": "Active / Accepted", "category": "cosell",
        "direction": "Inbound", "deal_type": "Private", "external_reference": "O", "created_at": NOW,
    }  # fmt: skip
    return Link("r:R1", "R1", None, Phase.WAITING, Snapshot("R1", "1", {**given, **fields}))


def take(place: Place, link: Link, crm: Crm | None = None) -> tuple[Outcome, Link, Decision]:
    """The outcome, the pair after it, and what follows from that."""
    crm = crm or place.crm
    verdict = decide_intake(link, Matches(), place.rules, crm.shape(), NOW)
    assert verdict.action is IntakeAction.CREATE, verdict.reason
    (outcome,) = crm.create([OpportunityDraft("R1", verdict.fields)])
    assert outcome.error is None
    assert outcome.snapshot is not None
    made = after_create(link, verdict.fields, outcome.snapshot, place.rules, State.ACCEPTED)
    return outcome, made, decide(made, place.rules, crm.shape(), NOW)


def at_rest(decision: Decision) -> None:
    """Nothing travels, nothing is held."""
    assert decision.steps == ()
    assert {name: decision.crm[name] for name in decision.crm.keys() & SHARED.keys()} == {}
    assert decision.conflicts == ()
    assert [hold.text for hold in decision.holds] == []


CASES: dict[str, dict[str, Value]] = {
    "118 letters and three emoji": {"name": "n" * 118 + "\N{ROCKET}" * 3},
    "a family of emoji across the end": {"name": "n" * 298 + EMOJI * 3},
    "a name of two lines": {"name": "Deal\x0bof the year\nnow"},
    "a vertical tab in a note": {"notes": "pasted\x0bfrom a word processor\x1f\x07 end"},
    "a form feed and a NUL": {"notes": "one\x0ctwo\x00three\ufffe"},
    "notes beyond the column": {"notes": "\N{ROCKET}" * 40_000},
    "a campaign beyond the column": {"campaign_id": "c" * 254 + "\N{ROCKET}"},
    "a long customer": {"customer": Customer(LONG, LONG, LONG, LONG, "S" * 90, "1" * 30, "DE")},
    "a customer of emoji": {"customer": replace(WHO, name="\N{ROCKET}" * 200, city="\N{ROCKET}" * 60)},
    "a control character in a customer": {"customer": replace(WHO, name="Fabri\x0bkam\x07", city="Ber\x1blin")},
    "two street lines of 200": {"customer": replace(WHO, address_line1="a" * 200, address_line2="b" * 200)},
    "a second street line alone": {"customer": replace(WHO, address_line1=None, address_line2="Rear house")},
    "a blank second line": {"customer": replace(WHO, address_line2="  ", state=" ")},
    "long first names": {"contacts": (Member("ann@x.example", LONG, "Ek", None),)},
    "long last names": {"contacts": (Member("ann@x.example", "Ann", LONG, None),)},
    "a long phone": {"contacts": (Member("ann@x.example", "Ann", "Ek", PHONE),)},
    "control characters in a contact": {"contacts": (Member("ann@x.example", "An\x0bn", "Ek\x07", "+49\x0b1"),)},
    "a contact of blanks": {"contacts": (Member("ann@x.example", " ", "\u00a0", " "),)},
    "a long solution": {"solutions": (Solution("SOL-1", "\N{ROCKET}" * 300, "Own"),)},
    "a control character in a solution": {"solutions": (Solution("SOL-1", "So\x0blution", "Own"),)},
    "an e-mail beyond the column": {"contacts": (Member("a" * 60 + "@" + "x" * 60 + ".example", "Ann", "Ek"),)},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_the_columns_cannot_hold_is_cut_once_and_quiet_from_then_on(place: Place, case: str) -> None:
    _, made, decision = take(place, referral(**CASES[case]))
    at_rest(decision)
    # a second look at the CRM says the same
    (found,) = place.crm.fetch([made.opportunity_id or ""]).values()
    assert found is not None
    at_rest(decide(replace(made, opportunity=found), place.rules, place.crm.shape(), NOW))


@pytest.mark.parametrize("case", CASES)
def test_an_update_from_partner_center_is_cut_the_same_way(place: Place, case: str) -> None:
    start = referral(
        contacts=(Member("ann@x.example", "Ann", "Ek"),), solutions=(Solution("SOL-1", "One", "Own"),)
    )
    _, made, _ = take(place, start)
    assert made.referral is not None
    assert made.opportunity is not None
    changed = replace(made, referral=replace(made.referral, version="2", fields={**made.referral.fields, **CASES[case]}))  # fmt: skip
    rules = replace(place.rules, account_updates=AccountUpdates.ALL)
    decision = decide(changed, rules, place.crm.shape(), NOW)
    assert decision.steps == ()
    place.world.clock.tick()
    if decision.crm:
        (done,) = place.crm.write([OpportunityWrite(made.opportunity, decision.crm)])
        assert done.error is None
        assert done.snapshot is not None
        changed = after_opportunity(decision.link, decision.crm, done.snapshot, rules, State.ACCEPTED)
    at_rest(decide(changed, rules, place.crm.shape(), NOW))


@pytest.mark.parametrize("blank", [" ", "\u00a0\u2003", "\t\n", "\u200b", "\x0b"])
def test_a_name_of_blanks_is_missing(place: Place, blank: str) -> None:
    link = referral(name=blank)
    verdict = decide_intake(link, Matches(), place.rules, place.crm.shape(), NOW)
    assert verdict.action is IntakeAction.CREATE
    assert "name" in verdict.stand_ins
    assert str(verdict.fields["name"]).strip()
    nameless = referral(customer=replace(WHO, name=blank))
    verdict = decide_intake(nameless, Matches(), place.rules, place.crm.shape(), NOW)
    assert verdict.action is IntakeAction.CREATE
    assert "customer" in verdict.stand_ins


@pytest.mark.parametrize("country", ["XK", "HK", "CW", "Freedonia", "EL"])
def test_a_country_that_the_org_does_not_list_costs_the_country_and_no_more(
    place: Place, country: str
) -> None:
    """Kosovo, Hong Kong and Curaçao are countries of Partner Center; the org's picklist has none of them."""
    _, made, decision = take(place, referral(customer=replace(WHO, state="Somewhere", country=country)))
    at_rest(decision)
    assert made.opportunity is not None
    held = made.opportunity["customer"]
    assert isinstance(held, Customer)
    assert held.country == (None if place.kind == "codes" else {"EL": "EL"}.get(country, country))
    assert (held.name, held.city) == ("Fabrikam", "Berlin")


def test_the_next_colleague_owns_a_deal_that_the_first_may_not(place: Place) -> None:
    first, second = place.colleague("Ann", may_own=False), place.colleague("Bob")
    crm = place.client(Ownership())
    outcome, _, _ = take(place, referral(team=(first, second)), crm)
    assert outcome.snapshot is not None
    assert outcome.snapshot["owner_email"] == second.email


def test_the_default_owns_a_deal_that_no_colleague_may(place: Place) -> None:
    first, other = place.colleague("Ann", may_own=False), place.colleague("Cleo")
    crm = place.client(Ownership(default=other.email))
    outcome, _, _ = take(place, referral(team=(first,)), crm)
    assert outcome.snapshot is not None
    assert outcome.snapshot["owner_email"] == other.email


def test_a_deal_that_nobody_may_own_is_imported_all_the_same(place: Place) -> None:
    first, other = place.colleague("Ann", may_own=False), place.colleague("Cleo", may_own=False)
    crm = place.client(Ownership(default=other.email))
    outcome, _, _ = take(place, referral(team=(first,)), crm)
    assert outcome.error is None
    assert len(outcome.unheld["owner"]) == 2
