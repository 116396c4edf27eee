"""Every sentence that a seller may read stands in docs/messages.md, word for word, so that admins can teach and review it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from cosell_sync.catalogues import language, languages
from cosell_sync.core import messages
from cosell_sync.core.deal import ABSENT, Customer, DealType, Member, Solution, State, Value
from cosell_sync.core.memory import FinalKind, Withheld, WithheldBy
from cosell_sync.core.messages import shown
from cosell_sync.core.texts import Text
from cosell_sync.errors import Cure, Rejected
from cosell_sync.transport.codes import CODES

PAGE = Path(__file__).parents[2] / "docs" / "messages.md"
UNTIL = datetime(2026, 3, 9, 17, 5, 59, tzinfo=UTC)
ACTION = "Co-sell action"
FIVE, SIX = Decimal(5), Decimal("1234567.60")


WITHHELD_KINDS = [Withheld(kind, "", WithheldBy.COUNT) for kind in FinalKind]
WITHHELD_REASONS = [
    Withheld(FinalKind.WIN, "", reason, "Signed") for reason in WithheldBy if reason is not WithheldBy.COUNT
]


def refused_fields() -> Iterator[tuple[str, str]]:
    """One field of several was refused, by who ends it."""
    for cure in (Cure.ADMIN, Cure.MICROSOFT, Cure.TIME):
        yield (
            f"the CRM refuses one field; ended by: {cure}",
            messages.crm_refused("Currency", "USD", "", cure),
        )
        yield (
            f"Partner Center refuses one field; ended by: {cure}",
            messages.partner_center_refused("Amount", FIVE, SIX, "", cure),
        )


def said() -> Iterator[tuple[str, str]]:
    """When, and the sentence; every function of `messages` with every way it can go."""
    yield "a change of Microsoft's was taken over", messages.took(["Amount", "Close Date", "Amount"])
    yield "a change of the seller's was sent", messages.sent(["Amount"])
    yield "a deal came from Microsoft", messages.imported("Inbound")
    yield "a deal of ours made in Partner Center came in", messages.imported("Outbound")
    yield "no colleague may own what was imported", messages.nobody_may_own()
    yield (
        "a duplicate rule does not let the account be made",
        messages.blocked_account("Fabrikam, Berlin, DE", ["FABRIKAM, Lyon, FR"]),
    )
    yield (
        "a duplicate rule does not let the contact be made",
        messages.blocked_contact("Greta Oz (greta@x.example)", ["Greta Oz (g.oz@y.example)"]),
    )
    yield (
        "a duplicate rule refuses because of a record out of sight",
        messages.blocked_contact("Greta Oz (greta@x.example)", []),
    )
    yield "several CRM users have one e-mail address", messages.shared_emails(["desk@x.example"])
    yield (
        "the account says otherwise than Partner Center",
        messages.account_differs(
            [("Account Name", "Contoso AG", "Contoso"), ("Address", "Bern, CH", "Chur, CH")]
        ),
    )
    yield "an opportunity that existed was linked", messages.linked()
    for state in messages.MOVED:
        yield f"Partner Center says {state.lower()}", messages.moved(state)
    yield "declined there, with a reason", messages.moved(State.DECLINED, "Other")
    for state in State:
        if text := messages.done(state):
            yield f"our own move to {state.lower()} landed", text
    for reminder, when in enumerate(("unanswered", "7 days left", "3 days left", "1 day left")):
        yield when, messages.answer_by(UNTIL, reminder, ACTION)
    yield "unanswered, without a date", messages.answer_by(None, 0, ACTION)
    for kept, rule in ((None, "ask"), ("crm", "crm"), ("partner_center", "partner_center")):
        yield f"changed on both sides, policy {rule}", messages.conflict("Amount", FIVE, SIX, kept)
    yield "both ended, differently", messages.both_over(State.LOST, "Closed Won")
    yield "a flow in the CRM rewrites what is written", messages.automation("Amount", FIVE, SIX)
    yield "Partner Center kept something else than was sent", messages.not_taken("Amount", FIVE, SIX)
    for state in (State.ACCEPTED, State.WON, State.LOST, State.DECLINED, State.RECEIVED):
        yield f"something is missing for {state.lower()}", messages.needs(["Reason", "Amount"], state)
    yield "closed by its stage before it was accepted", messages.declines_by_stage("Co-sell reason")
    yield "emptied, but needed there", messages.cannot_be_empty("Amount", FIVE)
    yield (
        "Partner Center takes no change of it any more",
        messages.frozen("Amount", Text("Partner Center takes no new name")),
    )
    yield "changed before the answer", messages.unanswered([("Amount", SIX, FIVE)])
    yield (
        "several changed before the answer",
        messages.unanswered([("Amount", SIX, FIVE), ("Close Date", None, None)]),
    )
    yield "a long text changed before the answer", messages.unanswered_text("Notes")
    yield "an end waits out its hold", messages.holding(State.WON, UNTIL)
    yield "won before it was answered", messages.holding(State.WON, UNTIL, with_accept=True)
    yield "accepted, lest it expire before the win", messages.accepted_in_time()
    yield "a win was taken back in time", messages.taken_back(State.WON)
    yield "a refusal was taken back in time", messages.taken_back(State.DECLINED)
    yield "won within 72 hours", messages.hurried(UNTIL)
    yield "the referral is over", messages.over(State.EXPIRED)
    yield (
        "the referral is over, nobody knows how",
        messages.closed_otherwise("Closed / Withdrawn", "Stage"),
    )
    yield "changed after the end", messages.late(["Amount", "Notes"])
    yield "Sync is off", messages.paused("Co-sell sync")
    yield "a held deal expired (in deals list)", messages.expired_unseen("Fabric rollout")
    yield "Sync is off, unanswered", messages.paused_unanswered(UNTIL, "Co-sell sync", ACTION)
    yield "an action on an accepted deal", messages.refused_action("Decline", State.ACCEPTED)
    yield "an action on a deal that is over", messages.refused_action("Accept", State.LOST)
    yield "a status that is not known here", messages.unknown_state("On ice")
    yield (
        "the CRM has no room for a value",
        messages.crm_cannot("Currency", "XYZ", Text("it must not be empty")),
    )
    yield "made without a close date of Microsoft's", messages.stand_in("Close Date", date(2026, 12, 28))
    yield "made without a name of Microsoft's", messages.stand_in("Name", "Contoso - Fabric")
    yield "made without a customer of Microsoft's", messages.no_customer("Account")
    money = "84,000.00 PLN"
    yield "its currency is none of the CRM's", messages.amount_in_foreign_currency("Amount", None, money)
    yield (
        "its currency is not the CRM's only one",
        messages.amount_in_foreign_currency("Amount", "USD", money),
    )
    yield "the same, once the seller has entered one", messages.amounts_apart("Amount", "USD", money)
    yield (
        "made with an amount in no currency",
        messages.amount_without_currency(["Amount", "Currency"], "84,000.00"),
    )
    yield (
        "made with an amount that does not fit",
        messages.amount_does_not_fit("Amount", "100,000,000,000,000,000 EUR"),
    )
    yield "made with an amount that cannot be read", messages.amount_unreadable("Amount")
    yield "Microsoft emptied what the CRM needs", messages.cannot_be_cleared("Close Date", date(2026, 6, 1))
    yield "a choice that the CRM does not offer", messages.no_choice("Solution area", "Security")
    yield "the CRM has no room for all of a text", messages.shortened(["Name", "Notes"])
    yield (
        "the CRM refuses one field",
        messages.crm_refused("Currency", "USD", Text("a currency stays once it is set"), Cure.SELLER),
    )
    yield (
        "Partner Center refuses one field",
        messages.partner_center_refused(
            "Close Date", UNTIL.date(), None, Text("it takes no date in the past"), Cure.SELLER
        ),
    )
    yield from refused_fields()
    yield "the CRM locks a value", messages.read_only("Amount", FIVE, Text("the CRM computes it"))
    yield from (
        (f"withheld until a person approves: {item.kind}, {item.reason}", messages.withheld(item))
        for item in (*WITHHELD_KINDS, *WITHHELD_REASONS)
    )
    yield (
        "a value that means nothing without one that is not kept in step",
        messages.frozen("Amount", messages.not_kept_in_step("Currency")),
    )
    yield "the CRM does not show a value", messages.unseen("Contact Roles")
    yield "a deal became co-sell elsewhere", messages.joined()
    yield (
        "a contact in the CRM has no e-mail",
        messages.without_key_here("contacts", "Contact Roles", "Greta Oz"),
    )
    yield "a solution in the CRM has no id", messages.without_key_here("solutions", "Solutions", "Planner")
    yield "solutions, one of which has no id", messages.frozen("Solutions", messages.WITHOUT_ID_THERE)
    yield "a contact there has no e-mail", messages.without_key_there("contacts", "Contact Roles", "Greta Oz")
    yield "a solution there has no id", messages.without_key_there("solutions", "Solutions", "Planner")
    yield "the referral is not to be found", messages.referral_gone()
    yield (
        "refused, and tried again",
        messages.refused_by("Partner Center", " Too small. ", cure=Cure.SELLER, parked=False),
    )
    yield (
        "one field is all there was, and it is refused",
        messages.refused_by(
            "Partner Center", "Too small.", cure=Cure.SELLER, parked=False, labels=["Amount"]
        ),
    )
    yield (
        "refused too often",
        messages.refused_by(messages.THE_CRM, "Too small.", cure=Cure.SELLER, parked=True),
    )
    yield (
        "refused, and only an administrator can end it",
        messages.refused_by(messages.THE_CRM, "", cure=Cure.ADMIN, parked=True),
    )
    yield (
        "refused because the other system is at fault",
        messages.refused_by(messages.THE_CRM, "", cure=Cure.MICROSOFT, parked=True),
    )
    yield "refused for now", messages.refused_by(messages.THE_CRM, "", cure=Cure.TIME, parked=False)
    yield "refused for now, too often", messages.refused_by(messages.THE_CRM, "", cure=Cure.TIME, parked=True)
    yield "the record is locked", messages.waits_for_lock(UNTIL, long=False)
    yield "the CRM has no room", messages.waits_for_admin(UNTIL)
    yield "the record is locked for more than a day", messages.waits_for_lock(UNTIL, long=True)
    yield "out of reach for long", messages.away(messages.THE_CRM, UNTIL)
    yield "cosell-sync had an unexpected exception", messages.broken()
    yield "a look-alike came in", messages.looks_alike("Fabric rollout")
    yield (
        "its opportunity belongs to another (in deals list)",
        messages.claimed("Fabric rollout", "0065g00000AbCdEFAA"),
    )
    yield "cannot be shared yet", messages.cannot_share(["Amount", "Country", "Amount"])
    yield (
        "cannot be shared yet: no account, no consent",
        messages.cannot_share(
            ["Amount"], [messages.choose_account("Account"), messages.ask_consent("Customer consent")]
        ),
    )
    yield "cannot be widened yet", messages.cannot_widen(["Help"], [messages.ask_consent("Customer consent")])
    yield "closed before it was shared", messages.closed_before_sharing("Co-sell sync")
    for kind in (DealType.PRIVATE, DealType.PARTNER_LED, DealType.COSELL):
        yield f"shared as {kind}", messages.shared(kind)
    yield "made visible to Microsoft", messages.widened()
    yield (
        "a one-way field was turned back",
        messages.one_way(
            "Visible To Microsoft",
            Text("Microsoft's sellers can see this deal, and that cannot be taken back"),
        ),
    )
    yield "Microsoft was asked", messages.invited()
    for status in (
        "New / Pending",
        "Active / Accepted",
        "Closed / Declined",
        "Closed / Expired",
        "Closed / Lost",
        "closed / withdrawn",
    ):
        yield f"Microsoft's side: {status}", messages.microsoft_side(status, "", UNTIL)
    yield "Microsoft's side is new, no date known", messages.microsoft_side("New / Pending", "", None)
    yield (
        "Microsoft declined and said why",
        messages.microsoft_side("Closed / Declined", " not managed ", None),
    )
    yield "Microsoft's side stands at something new", messages.microsoft_side("On ice / Maybe", "", None)
    for status in (
        "Review Pending", "Action Required", "Review Passed", "Passed", "Approved", "Review Failed", "Failed", "Rejected", "Odd",
    ):  # fmt: skip
        yield f"deal registration: {status}", messages.registration(status)


def page() -> str:
    """The head of the page as it is, and every sentence in every language that there is a catalogue for."""
    codes = languages()
    rows = "\n".join(
        f"| {' | '.join([when, *(language(code).say(text) for code in codes)])} |" for when, text in said()
    )
    head = PAGE.read_text(encoding="utf-8").split("| when |")[0]
    return f"{head}| when | {' | '.join(codes)} |\n{'|---' * (len(codes) + 1)}|\n{rows}\n"


def test_the_page_says_what_the_records_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run `make messages`, then read docs/messages.md as a seller would"
    )


def test_every_sentence_is_on_the_page() -> None:
    ours = {
        name for name, each in inspect.getmembers(messages, inspect.isfunction) if not name.startswith("_")
    }
    helpers = {"day", "minute", "listed", "shown", "person", "sentences", "named"}
    assert {name for name in ours - helpers if f"messages.{name}(" not in inspect.getsource(said)} == set()


def test_a_state_without_words_says_nothing() -> None:
    assert messages.done(State.UNKNOWN) == ""
    assert messages.microsoft_side("", "", UNTIL) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (True, "yes"),
        (False, "no"),
        (SIX, "1,234,567.60"),
        (UNTIL, "9 Mar 2026, 17:05 UTC"),
        (date(2026, 3, 9), "9 Mar 2026"),
        (None, "nothing"),
        (ABSENT, "nothing"),
        ((), "nobody"),
        ((Member("a@x", "Ann", "Lee"), Member("b@x"), Member("a@x", "Ann", "Lee"), Member("c@x", "Cy")), "Ann Lee, b@x and Cy"),
        ((Solution("S1", "One"), Solution("S2", "")), "One and S2"),
        (Customer("Contoso", "Allee 1", "Hof", "Berlin", "BE", "10115", "DE"), "Contoso, Allee 1, Hof, Berlin, BE, 10115, DE"),
        (Customer(name="Contoso", country="DE"), "Contoso, DE"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
    ],
)  # fmt: skip
def test_values_as_a_person_would_write_them(value: Value, words: str) -> None:
    assert shown(value) == words


def test_a_person_by_name_else_by_address() -> None:
    assert [messages.person(each) for each in (Member("a@x", "Ann", "Lee"), Member("a@x"))] == [
        "Ann Lee",
        "a@x",
    ]


TO_CORRECT = re.compile(r"correct (it|the)|fill in|fill it in|change the record|give both", re.IGNORECASE)
TECHNICAL = re.compile(
    r"0x[0-9A-F]{6,}|\b[A-Z]{3,}_[A-Z_]+\b|\bHTTP\b|\bAPI\b|\b[45]\d\d\b|mapping\.|salesforce\."
)


@pytest.mark.parametrize("parked", [False, True])
@pytest.mark.parametrize(
    ("system", "code"), [(system, code) for system, rows in CODES.items() for code in rows]
)
def test_no_seller_is_told_to_correct_what_others_or_time_cure(
    system: str, code: str, *, parked: bool
) -> None:
    """Each code of the table: what the record says names something this seller can do, or who can."""
    known = CODES[system][code]
    words = f"{code}: no privilege (mapping.stages) at HTTP 403"
    texts = (
        messages.refused_by(messages.THE_CRM, words, cure=known.cure, parked=parked, labels=["Amount"]),
        messages.crm_refused("Amount", FIVE, words, known.cure),
        messages.partner_center_refused("Amount", FIVE, None, words, known.cure),
    )
    assert known.ends
    for text in texts:
        assert "Amount" in text
        if known.cure is Cure.SELLER:
            assert words in text
            continue
        assert not TO_CORRECT.search(text)
        assert not TECHNICAL.search(text)
        assert "administrator" in text or "nothing for you to do" in text
        assert "no privilege" not in text


@pytest.mark.parametrize("why", [Text("it takes no dates"), "it takes no dates", "it takes no dates. "])
def test_a_reason_ends_with_one_full_stop_whoever_gave_it(why: str) -> None:
    here, there = (
        messages.crm_refused("Close Date", FIVE, why, Cure.SELLER),
        messages.partner_center_refused("Close Date", FIVE, None, why, Cure.SELLER),
    )
    assert ": it takes no dates. It is tried again" in here
    assert ": it takes no dates. Please correct" in there


@pytest.mark.parametrize("long", [False, True])
def test_a_lock_names_who_lifts_it(*, long: bool) -> None:
    text = messages.waits_for_lock(UNTIL, long=long)
    assert not TO_CORRECT.search(text)
    assert not TECHNICAL.search(text)
    assert ("administrator" in text) is long


def test_an_unknown_code_is_the_administrators() -> None:
    assert Rejected("Odd.", code="NEVER_HEARD_OF").cure is Cure.ADMIN
    assert "administrator" in messages.refused_by(messages.THE_CRM, "Odd.", cure=Cure.ADMIN, parked=False)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
