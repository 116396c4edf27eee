"""What must be there before a deal is shared, what is sent, and how it is opened further. Values in, values out."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from deals import SHAPE, rules

from cosell_sync.core import messages, microsoft, publishing, requirements, visibility
from cosell_sync.core.deal import ABSENT, Customer, DealType, Member, Side, Snapshot, Solution, State, Value
from cosell_sync.core.decision import HoldKind
from cosell_sync.core.fields import KINDS
from cosell_sync.core.memory import Invitation, Link, Memory, Phase
from cosell_sync.core.reconcile import decide
from cosell_sync.core.requirements import Gap
from cosell_sync.core.rules import CrmShape, Flow
from cosell_sync.core.status import status_report

TODAY = date(2026, 3, 2)
NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
RULES = rules()
COMPLETE: dict[str, Value] = {
    "name": "ERP move",
    "value": Decimal("84000.00"),
    "currency": "EUR",
    "close_date": date(2026, 11, 30),
    "customer": Customer("Harbor Mills GmbH", "Kai 7", None, "Bremen", None, "28195", "DE"),
    "team": (Member("ida@p.example", "Ida", "Kern", "+49"),),
    "contacts": (Member("greta@c.example", "Greta", "Öz", "+49"),),
    "solutions": (Solution("SOL-1", "Planner", "Own"),),
    "campaign_id": None,
    "notes": None,
    "stage": "Qualification",
    "sync": True,
    "consent": True,
    "visible": False,
    "help": None,
    "help_note": None,
    "referral_id": None,
}
HELP = "Proof of concept or demo"
OPTIONAL = {"campaign_id", "notes", "sales_stage", "contacts"}


def opportunity(**changes: Value) -> Snapshot:
    return Snapshot("006", "1", {**COMPLETE, **changes})


def gaps(cosell: bool = False, shape: CrmShape = SHAPE, **changes: Value) -> list[str]:
    found = requirements.missing(opportunity(**changes), RULES, shape, TODAY, cosell=cosell)
    return [gap.words for gap in found]


def customer(**changes: str | None) -> Customer:
    return replace(COMPLETE["customer"], **changes)  # type: ignore[type-var,arg-type,return-value]


LABELLED = replace(
    SHAPE,
    default_currency=None,
    labels={name: f"<{name}>" for name in [*KINDS, *(f"customer.{part.name}" for part in fields(Customer))]},
)
PERSON = "with first name, last name, phone and e-mail"


def test_every_gap_is_named_by_the_crms_own_labels() -> None:
    nothing = Snapshot("006", "1", {})
    assert requirements.missing(nothing, RULES, LABELLED, TODAY, cosell=True) == (
        Gap("name", "<name>"),
        Gap("value", "<value>"),
        Gap("currency", "<currency>"),
        Gap("close_date", "<close_date>"),
        Gap("customer", "<customer.name>"),
        Gap("customer", "<customer.address_line1>"),
        Gap("customer", "<customer.city>"),
        Gap("customer", "<customer.country>"),
        Gap("solutions", "<solutions> (at least one)"),
        Gap("team", f"<team> (a colleague {PERSON})"),
        Gap("consent", "<consent>"),
        Gap("contacts", f"<contacts> (a customer contact {PERSON})"),
        Gap("help", "<help> (one of the six kinds)"),
    )


def test_every_wrong_value_is_named_with_what_is_wrong() -> None:
    wrong = opportunity(
        value=Decimal("-0.01"),
        currency="EURO",
        close_date=TODAY - timedelta(days=1),
        customer=customer(country="Freedonia"),
        solutions=tuple(Solution(f"SOL-{n}") for n in range(51)),
        team=(*(Member(f"{n}@x") for n in range(50)), Member("ida@p.example", "Ida", "Kern")),
        contacts=(Member("greta@c.example"),),
        help="Something else",
        consent=None,
    )
    assert requirements.missing(wrong, RULES, LABELLED, TODAY, cosell=True) == (
        Gap("value", "<value> (must not be negative)"),
        Gap("currency", "<currency>"),
        Gap("close_date", "<close_date> (must not be in the past)"),
        Gap("customer", '<customer.country> ("Freedonia" is no country known here)'),
        Gap("solutions", "<solutions> (at most 50)"),
        Gap("team", "<team> (at most 50)"),
        Gap("team", f"<team> (a colleague {PERSON}; Ida Kern has no phone)"),
        Gap("consent", "<consent>"),
        Gap(
            "contacts",
            f"<contacts> (a customer contact {PERSON}; greta@c.example has no first name, last name and phone)",
        ),
        Gap("help", "<help> (one of the six kinds)"),
    )


@pytest.mark.parametrize("country", ["de", "DEU", "D1", "D ", "ÄÖ", "D"])
def test_a_country_is_two_capital_letters(country: str) -> None:
    assert gaps(customer=customer(country=country)) == [
        f'Billing Country ("{country}" is no country known here)'
    ]


@pytest.mark.parametrize("currency", ["EU", "EURO", "E1R", "ÄUR", "EU "])
def test_a_currency_is_three_letters(currency: str) -> None:
    assert gaps(currency=currency) == ["Currency"]


def test_what_just_suffices() -> None:
    assert (
        gaps(
            value=Decimal(0),
            solutions=tuple(Solution(f"SOL-{n}") for n in range(50)),
            team=(*(Member(f"{n}@x") for n in range(49)), Member("ida@p.example", "Ida", "Kern", "+49")),
        )
        == []
    )


LACKS: list[tuple[str, dict[str, Value]]] = [
    ("Name", {"name": None}),
    ("Amount", {"value": None}),
    ("Amount", {"value": Decimal(-1)}),
    ("Close Date", {"close_date": None}),
    ("Close Date (must not be in the past)", {"close_date": date(2026, 3, 1)}),
    ("Account Name", {"customer": customer(name=None)}),
    ("Billing Street", {"customer": customer(address_line1=None)}),
    ("Billing City", {"customer": customer(city=None)}),
    ("Billing Country", {"customer": customer(country=None)}),
    ('Billing Country ("Freedonia"', {"customer": customer(country="Freedonia")}),
    ("Solutions (at least one)", {"solutions": ()}),
    ("Solutions (at most 50)", {"solutions": tuple(Solution(f"SOL-{n}") for n in range(51))}),
    ("Opportunity Team", {"team": ()}),
    ("Opportunity Team", {"team": (Member("ida@p.example", "Ida", "Kern"),)}),
    ("Opportunity Team", {"team": (Member("ida@p.example", None, "Kern", "+49"),)}),
    ("Consent", {"consent": False}),
    ("Consent", {"consent": ABSENT}),
]


def test_a_complete_opportunity_lacks_nothing() -> None:
    assert gaps() == []
    assert gaps(cosell=True, help=HELP) == []
    assert gaps(close_date=TODAY) == []


@pytest.mark.parametrize(("label", "changes"), LACKS)
def test_each_missing_field_alone_is_named_by_its_label(label: str, changes: dict[str, Value]) -> None:
    (words,) = gaps(**changes)
    assert words.startswith(label)


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("Contact Roles", {"contacts": ()}),
        ("Contact Roles", {"contacts": (Member("greta@c.example", "Greta", "Öz"),)}),
        ("Help", {"help": "Something else"}),
    ],
)
def test_a_request_for_help_needs_a_contact_and_one_of_the_six_kinds(
    label: str, changes: dict[str, Value]
) -> None:
    (words,) = gaps(cosell=True, **{"help": HELP, **changes})
    assert words.startswith(label)
    assert label == "Help" or gaps(**changes) == [], "other deals need no contact"


def test_a_currency_is_the_deals_or_the_only_one_there_is() -> None:
    assert gaps(currency=None) == []  # the org's own
    assert publishing.new_referral_fields(opportunity(currency=None), RULES, SHAPE)["currency"] == "USD"
    theirs = rules(default_currency="CHF")
    assert publishing.new_referral_fields(opportunity(currency=None), theirs, SHAPE)["currency"] == "CHF"
    assert publishing.new_referral_fields(opportunity(), theirs, SHAPE)["currency"] == "EUR"
    (words,) = gaps(shape=replace(SHAPE, default_currency=None), currency=None)
    assert words == "Currency"


def test_all_that_is_missing_is_told_in_one_message() -> None:
    nothing = Snapshot("006", "1", {"stage": "Qualification", "sync": True, "help": HELP})
    found = requirements.missing(nothing, RULES, SHAPE, TODAY, cosell=True)
    text = messages.cannot_share(gap.words for gap in found)
    assert "\n" not in text
    assert all(gap.words in text for gap in found)


def test_who_comes_closest_is_named() -> None:
    (words,) = gaps(team=(Member("x@p.example"), Member("ida@p.example", "Ida", "Kern")))
    assert "Ida Kern has no phone" in words


def test_the_three_kinds_of_deal_differ_in_exactly_their_own_fields() -> None:
    private = publishing.new_referral_fields(opportunity(), RULES, SHAPE)
    led = publishing.new_referral_fields(opportunity(visible=True), RULES, SHAPE)
    cosell = publishing.new_referral_fields(opportunity(help=HELP, help_note="Pilot"), RULES, SHAPE)
    assert (private["deal_type"], private["visible"]) == (DealType.PRIVATE, False)
    assert led == {**private, "deal_type": "Partner-led", "visible": True}
    assert cosell == {**led, "deal_type": "Co-sell", "help": HELP, "help_note": "Pilot"}
    posted = ("name", "value", "currency", "close_date", "customer", "team", "solutions", "contacts")
    assert private == {
        **{name: COMPLETE[name] for name in posted},
        "sales_stage": "Qualify",
        "consent": True,
        "visible": False,
        "deal_type": "Private",
    }, "nothing is invented"


def test_what_is_optional_goes_where_it_may() -> None:
    told = opportunity(campaign_id=" C1 ", notes="one\r\n")
    assert {"campaign_id": "C1", "notes": "one"}.items() <= publishing.new_referral_fields(
        told, RULES, SHAPE
    ).items()
    closed = rules(flows={"campaign_id": Flow.TO_CRM, "notes": Flow.OFF, "contacts": Flow.TO_PARTNER_CENTER})
    assert publishing.new_referral_fields(told, closed, SHAPE).keys() & OPTIONAL == {
        "sales_stage",
        "contacts",
    }
    unmapped = replace(RULES, fields={})
    assert not publishing.new_referral_fields(told, unmapped, SHAPE).keys() & OPTIONAL


def test_the_base_is_what_the_crm_held() -> None:
    """Also of the stage and the seller's words, which nobody posts like this; what is not known is left out."""
    sent = publishing.new_referral_fields(opportunity(visible=True), RULES, SHAPE)
    held = opportunity(visible=True, name="Edited", notes=ABSENT, help_note=ABSENT, deal_type="Private")
    assert publishing.source_values(held, {**sent, "notes": "x"}, RULES) == {
        **{name: held[name] for name in sent if name not in {"deal_type", "sales_stage"}},
        "sales_stage": "Qualify",
        "stage": "Qualification",
    }


def referral(**changes: Value) -> Snapshot:
    fields = {
        **COMPLETE,
        "state": "Accepted",
        "direction": "Outbound",
        "deal_type": "Private",
        "engagement_id": "E1",
    }
    own = {
        name: value
        for name, value in fields.items()
        if name not in {"stage", "sync", "consent", "help", "help_note"}
    }
    own |= {"sales_stage": "Qualify", "external_reference": "006", "visible": False, "favorite": False}
    return Snapshot("R1", "r1", {**own, **changes})


def pair(here: dict[str, Value] | None = None, **there: Value) -> Link:
    sent = publishing.new_referral_fields(opportunity(), RULES, SHAPE)
    link = Link("o:006", opportunity_id="006", opportunity=opportunity())
    made = publishing.after_post(
        link,
        sent,
        publishing.source_values(opportunity(), sent, RULES),
        referral(**there),
        RULES,
        answered=True,
    )
    return replace(
        made, opportunity=opportunity(referral_id="R1", favorite=False, status="Accepted", **(here or {}))
    )


def test_a_new_pair_agrees_on_what_was_posted() -> None:
    decision = decide(pair(), RULES, SHAPE, NOW)
    assert (decision.steps, dict(decision.crm), decision.holds, decision.conflicts) == ((), {}, (), ())
    assert decision.link.phase is Phase.LINKED


KNOWN = {"stage": "Qualification", "visible": True, "consent": True, "help": HELP, "help_note": None}


@pytest.mark.parametrize(
    ("kind", "recipe", "invite", "words"),
    [
        (DealType.PRIVATE, "two_posts", "", {}),
        (DealType.PARTNER_LED, "one_post", "", {}),
        (DealType.COSELL, "two_posts", Invitation.PENDING, {}),
        (DealType.COSELL, "one_post", Invitation.DONE, {"help": HELP, "help_note": None}),
    ],
)
def test_a_deal_just_posted(kind: DealType, recipe: str, invite: str, words: dict[str, Value]) -> None:
    """The request for help is fixed once Microsoft was asked, which one post does and two posts do later."""
    waiting = Link("o:006", opportunity_id="006", opportunity=opportunity(), dirty=False, due=NOW)
    sent: dict[str, Value] = {"name": "Posted", "value": Decimal(1), "notes": "x", "deal_type": kind.value}
    made = referral(name="Made", notes=ABSENT)
    known: dict[str, Value] = {**KNOWN, "name": "Held", "notes": "x"}
    assert publishing.after_post(
        waiting, sent, known, made, rules(cosell_recipe=recipe), answered=True
    ) == replace(
        waiting,
        referral_id="R1",
        referral=made,
        phase=Phase.LINKED,
        base_referral={"state": "Accepted", "name": "Made"},
        base_opportunity={
            "stage": "Qualification",
            "visible": True,
            "consent": True,
            "name": "Held",
            **words,
        },
        memory=Memory(notices=(messages.shared(kind),), invite=invite),
        dirty=True,
        due=None,
    )


def test_a_post_whose_reply_was_lost_landed_whole() -> None:
    """Of what differs now only the customer is Partner Center's own doing, and what it calls a solution."""
    sold = (Solution("SOL-1", "Planner"), Solution("SOL-2", "Maker"))
    sent: dict[str, Value] = {
        "name": "Posted",
        "customer": Customer("Harbor"),
        "solutions": sold,
        "team": (Member("a@x"),),
        "notes": "x",
        "deal_type": "Private",
    }
    made = referral(
        name="Edited since",
        customer=Customer("Harbor Mills"),
        solutions=(Solution("SOL-1", "Planner 365", "Own"), Solution("SOL-3")),
        team=(Member("b@x"),),
        notes=ABSENT,
    )
    waiting = Link("o:006", opportunity_id="006", opportunity=opportunity())
    link = publishing.after_post(waiting, sent, sent, made, RULES, answered=False)
    assert link.base_referral == {
        "state": "Accepted",
        "name": "Posted",
        "customer": Customer("Harbor Mills"),
        "solutions": (Solution("SOL-1", "Planner 365", "Own"), Solution("SOL-2", "Maker")),
        "team": (Member("a@x"),),
    }


def test_a_lost_reply_leaves_what_was_sent_as_base() -> None:
    """Whatever differs when the referral is found was written by a person since."""
    sent = publishing.new_referral_fields(opportunity(), RULES, SHAPE)
    link = Link("o:006", opportunity_id="006", opportunity=opportunity(value=Decimal(1)))
    later = referral(close_date=date(2027, 1, 1), team=())
    known = publishing.source_values(opportunity(), sent, RULES)
    decision = decide(
        publishing.after_post(link, sent, known, later, RULES, answered=False), RULES, SHAPE, NOW
    )
    assert decision.crm["close_date"] == date(2027, 1, 1)
    assert decision.crm["team"] == ()
    assert decision.steps[0].fields["value"] == Decimal(1)


def test_visibility_is_patched_by_the_sellers_word_and_never_without_consent() -> None:
    (step,) = decide(pair({"visible": True}), RULES, SHAPE, NOW).steps
    assert step.fields["visible"] is True
    refused = decide(pair({"visible": True, "consent": False}), RULES, SHAPE, NOW)
    assert not refused.steps
    assert {hold.kind for hold in refused.holds if hold.field == "consent"} == {
        HoldKind.NEED,
        HoldKind.FROZEN,
    }


def test_visibility_cannot_be_taken_back() -> None:
    link = decide(pair({"visible": True}, visible=True), RULES, SHAPE, NOW).link
    back = replace(link, opportunity=opportunity(referral_id="R1", visible=False))
    decision = decide(back, RULES, SHAPE, NOW)
    assert not decision.steps
    (hold,) = [hold for hold in decision.holds if hold.field == "visible"]
    assert hold.kind is HoldKind.FROZEN
    assert "cannot be taken back" in hold.text


def test_help_makes_the_deal_visible_first_and_invites_then() -> None:
    asked = pair({"help": HELP})
    (step,) = decide(asked, RULES, SHAPE, NOW).steps
    assert step.fields["visible"] is True
    assert visibility.invitation(asked, RULES, SHAPE, TODAY) is None
    seen = pair({"help": HELP}, visible=True)
    fields = visibility.invitation(seen, RULES, SHAPE, TODAY)
    assert fields is not None
    assert fields["help"] == HELP


def test_what_is_missing_for_help_is_told_and_nothing_is_opened() -> None:
    decision = decide(pair({"help": HELP, "contacts": ()}), RULES, SHAPE, NOW)
    assert "visible" not in {name for step in decision.steps for name in step.fields}
    assert [hold.field for hold in decision.holds if hold.kind is HoldKind.NEED] == ["contacts"]
    assert (
        visibility.invitation(pair({"help": HELP, "contacts": ()}, visible=True), RULES, SHAPE, TODAY) is None
    )


@pytest.mark.parametrize(
    "changes",
    [{"phase": Phase.PARTED}, {"referral": None}, {"opportunity": None}, {"memory": Memory(gone=Side.CRM)}],
)
def test_half_a_deal_gets_no_invitation(changes: dict[str, object]) -> None:
    asked = pair({"help": HELP}, visible=True)
    assert visibility.invitation(asked, RULES, SHAPE, TODAY) == publishing.new_referral_fields(
        opportunity(help=HELP), RULES, SHAPE
    )
    assert visibility.invitation(replace(asked, **changes), RULES, SHAPE, TODAY) is None  # type: ignore[arg-type]


def test_an_invitation_needs_no_currency_where_the_crm_has_one() -> None:
    asked = pair({"help": HELP, "currency": None}, visible=True)
    bare = replace(SHAPE, default_currency=None)
    assert visibility.invitation(asked, RULES, bare, TODAY) is None
    found = visibility.invitation(asked, rules(default_currency="CHF"), bare, TODAY)
    assert found is not None
    assert found["currency"] == "CHF"


@pytest.mark.parametrize("known", [{}, {"help": HELP, "help_note": None}])
@pytest.mark.parametrize("side", [{}, {"status": "Active / Accepted"}])
def test_an_invitation_is_remembered_with_what_was_asked(
    known: dict[str, Value], side: dict[str, str]
) -> None:
    """An empty answer takes nothing away of what is known of Microsoft's side."""
    was = replace(pair(), memory=Memory(microsoft={"status": "New / Pending"}), dirty=False)
    assert visibility.invited(was, side, {**known, "name": "x"}) == replace(
        was,
        memory=Memory(invite=Invitation.DONE, microsoft=side or {"status": "New / Pending"}),
        base_opportunity={**was.base_opportunity, **known},
        dirty=True,
    )


@pytest.mark.parametrize("state", [State.RECEIVED, State.WON, State.LOST, State.EXPIRED, State.UNKNOWN])
def test_only_open_and_accepted_deals_get_an_invitation(state: State) -> None:
    asked = pair({"help": HELP}, visible=True, state=state.value)
    assert visibility.invitation(asked, RULES, SHAPE, TODAY) is None


def test_a_request_for_help_after_the_end_is_named() -> None:
    decision = decide(pair({"help": HELP, "stage": "Closed Won"}, state="Won"), RULES, SHAPE, NOW)
    assert ("help", HoldKind.LATE) in {(hold.field, hold.kind) for hold in decision.holds}
    assert not decision.steps


def test_the_request_cannot_be_changed_or_withdrawn() -> None:
    asked = pair({"help": HELP, "help_note": "Pilot"}, visible=True)
    link = visibility.invited(asked, {"status": "New / Pending"}, {"help": HELP, "help_note": "Pilot"})
    assert not decide(link, RULES, SHAPE, NOW).holds
    for changes in ({"help": None}, {"help": "General or other"}, {"help_note": "Other"}):
        edited = replace(link, opportunity=opportunity(referral_id="R1", help=HELP, help_note="Pilot"))
        edited = replace(
            edited, opportunity=replace(edited.opportunity, fields={**edited.opportunity.fields, **changes})
        )  # type: ignore[union-attr,type-var]
        decision = decide(edited, RULES, SHAPE, NOW)
        assert [hold.kind for hold in decision.holds] == [HoldKind.FROZEN]
        assert visibility.invitation(edited, RULES, SHAPE, TODAY) is None


def test_contacts_are_fixed_once_microsoft_is_invited_even_if_our_row_stays_independent() -> None:
    link = visibility.invited(pair({"help": HELP}, visible=True, deal_type="Partner-led"), {}, {"help": HELP})
    assert microsoft.deal_type(link) == DealType.COSELL
    more = (Member("new@c.example", "N", "N", "1"),)
    edited = replace(link, opportunity=opportunity(referral_id="R1", help=HELP, contacts=more))
    decision = decide(edited, RULES, SHAPE, NOW)
    assert not decision.steps
    assert ("contacts", HoldKind.FROZEN) in {(hold.field, hold.kind) for hold in decision.holds}


def test_contacts_are_not_sent_once_consent_is_taken_back() -> None:
    decision = decide(pair({"consent": False, "contacts": ()}), RULES, SHAPE, NOW)
    assert not decision.steps
    assert "contacts" in {hold.field for hold in decision.holds}


def test_a_deal_that_microsoft_started_needs_no_invitation() -> None:
    inbound = pair({"help": HELP}, visible=True, direction="Inbound", deal_type="Co-sell")
    assert visibility.invitation(inbound, RULES, SHAPE, TODAY) is None
    (hold,) = [hold for hold in decide(inbound, RULES, SHAPE, NOW).holds if hold.field == "help"]
    assert "already" in hold.text


INBOUND = {"direction": "Inbound", "deal_type": "Co-sell"}


@pytest.mark.parametrize(
    ("there", "memory", "takes_part"),
    [
        (INBOUND, Memory(), True),
        ({**INBOUND, "deal_type": "Partner-led"}, Memory(), False),
        ({**INBOUND, "direction": "Outbound"}, Memory(), False),
        ({}, Memory(microsoft={"status": "New / Pending"}), True),
        ({}, Memory(invite=Invitation.DONE), False),
    ],
)
def test_microsoft_takes_part(there: dict[str, Value], memory: Memory, *, takes_part: bool) -> None:
    assert microsoft.takes_part(replace(pair(**there), memory=memory)) is takes_part


def test_without_a_referral_nobody_takes_part() -> None:
    alone = replace(pair(), referral=None)
    assert (microsoft.deal_type(alone), microsoft.takes_part(alone)) == (ABSENT, False)
    assert microsoft.deal_type(replace(alone, memory=Memory(invite=Invitation.DONE))) == "Co-sell"


@pytest.mark.parametrize(
    ("changes", "there", "awaited"),
    [
        ({}, {}, True),
        ({"memory": Memory(invite=Invitation.DONE, microsoft={"status": "Active / Accepted"})}, {}, True),
        ({"memory": Memory(invite=Invitation.DONE, microsoft={"status": "Closed / Won"})}, {}, False),
        ({"memory": Memory(invite=Invitation.DONE, microsoft={"id": "7-1"})}, {}, True),
        ({"memory": Memory(invite=Invitation.DONE, gone=Side.CRM)}, {}, False),
        ({"memory": Memory(invite=Invitation.PENDING)}, {}, False),
        ({"phase": Phase.PARTED}, {}, False),
        ({"referral": None}, {}, False),
        ({}, {"state": "Won"}, False),
        ({}, {"direction": "Inbound"}, False),
        ({}, {"direction": ABSENT}, True),
        ({}, {"engagement_id": None}, False),
    ],
)
def test_microsofts_side_is_awaited_while_it_may_change(
    changes: dict[str, object], there: dict[str, Value], *, awaited: bool
) -> None:
    asked = replace(pair(**there), memory=Memory(invite=Invitation.DONE))
    assert microsoft.awaited(replace(asked, **changes)) is awaited  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "there", "wants"),
    [
        ({}, {}, True),
        ({"phase": Phase.SKIPPED}, {}, False),
        ({"referral": Snapshot("R1", "1")}, {}, False),
        ({"opportunity": None}, {}, False),
        ({}, {"sync": False}, False),
        ({}, {"referral_id": "R1"}, False),
    ],
)
def test_an_opportunity_wants_to_be_shared(
    changes: dict[str, object], there: dict[str, Value], *, wants: bool
) -> None:
    waiting = Link("o:006", opportunity_id="006", opportunity=opportunity(**there))
    assert publishing.wants_sharing(replace(waiting, **changes)) is wants  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stage", "closed"), [("Qualification", False), ("Closed Won", True), ("Closed Lost", True)]
)
def test_closed_is_won_or_lost(stage: str, *, closed: bool) -> None:
    assert publishing.is_closed(opportunity(stage=stage), RULES) is closed


def side(status: str, number: int = 1, **fields: Value) -> Snapshot:
    held: dict[str, Value] = {"category": "foreign", "organization": "Microsoft", "status_text": status}
    return Snapshot(
        f"M{number}", "1", {**held, "created_at": datetime(2026, 3, number, tzinfo=UTC), **fields}
    )


def test_microsofts_newest_side_is_the_one_that_counts() -> None:
    partner = side("Active / Accepted", 9, organization="other")
    found = microsoft.microsoft_side(
        [side("New / Pending", 2, respond_by=NOW), partner, side("Closed / Declined", 1)]
    )
    assert found == {"status": "New / Pending", "until": "2026-03-02T10:00:00+00:00"}
    assert microsoft.microsoft_side([partner]) == {}
    ours = side("Active / Accepted", 8, category="cosell")
    newest = side("Closed / Lost", 3, microsoft_id="7-1", status_reason="gone")
    undated = side("New / Pending", 4, created_at=None)
    told = {"status": "Closed / Lost", "id": "7-1", "reason": "gone"}
    for sides in permutations([newest, ours, undated, side("Closed / Declined", 1)]):
        assert microsoft.microsoft_side(sides) == told


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({"status": "New / Pending", "until": "2026-03-16T10:00:00+00:00"}, "2026-03-16"),
        ({"status": "Active / Accepted", "id": "7-1"}, "accepted"),
        ({"status": "Closed / Declined", "reason": "customer not managed"}, "customer not managed"),
        ({"status": "Closed / Declined"}, "USD 25,000"),
        ({"status": "Closed / Expired"}, "in time"),
        ({"status": "Closed / Won"}, "won"),
        ({"status": "Engaged / Odd"}, "Engaged / Odd"),
    ],
)
def test_microsofts_side_is_told_with_what_follows(known: dict[str, str], words: str) -> None:
    link = replace(pair(), memory=Memory(invite=Invitation.DONE, microsoft=known))
    told = status_report(decide(link, RULES, SHAPE, NOW), (), SHAPE, NOW)
    assert words in told.message
    assert told.fields["microsoft_status"] == known["status"]
    assert told.fields.get("microsoft_id") == known.get("id")


@pytest.mark.parametrize(
    ("status", "words"),
    [("ReviewPending", "reviewed"), ("ActionRequired", "open the deal"), ("Odd", '"Odd"')],
)
def test_the_registration_of_a_won_deal_says_what_to_do(status: str, words: str) -> None:
    won = pair({"stage": "Closed Won"}, state="Won", registration_status=status)
    assert words in status_report(decide(won, RULES, SHAPE, NOW), (), SHAPE, NOW).message
    silent = pair({"stage": "Closed Won"}, state="Won", registration_status="None")
    assert "egistration" not in status_report(decide(silent, RULES, SHAPE, NOW), (), SHAPE, NOW).message
