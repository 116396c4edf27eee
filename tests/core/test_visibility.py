"""How a deal is opened further, and what cannot be taken back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deals import SHAPE, rules
from sharing import HELP, NOW, RULES, TODAY, opportunity, pair

from cosell_sync.core import microsoft, publishing, visibility
from cosell_sync.core.deal import ABSENT, DealType, Member, Side, State, Value
from cosell_sync.core.decision import HoldKind
from cosell_sync.core.memory import Invitation, Link, Memory, Phase
from cosell_sync.core.reconcile import decide


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
        edited = replace(
            link, opportunity=opportunity(referral_id="R1", help=HELP, help_note="Pilot", favorite=False)
        )
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


GRETA = Member("greta@c.example", "Greta", "Oz", "+49")


@pytest.mark.parametrize(
    "here",
    [(GRETA, Member("new@c.example")), (replace(GRETA, phone="+49 1"),)],
    ids=["a person more", "another number"],
)
@pytest.mark.parametrize("consent", [False, None, ABSENT, True])
@pytest.mark.parametrize("seen", ["at first sight", "held since", "agreed once"])
def test_whom_the_opportunity_had_at_first_sight_is_told_of_with_consent_only(
    here: tuple[Member, ...], consent: Value, seen: str
) -> None:
    """It was there already, or the store was lost: nobody was asked then. What a seller adds later is meant for this deal."""
    link = pair({"consent": consent, "contacts": here}, contacts=(GRETA,), direction="Inbound")
    known = (
        {"contacts": (GRETA,)} if seen == "agreed once" else {"contacts": ()} if seen == "held since" else {}
    )
    bases = {
        side: {name: each for name, each in base.items() if name not in {"consent", "contacts"}} | known
        for side, base in (("base_opportunity", link.base_opportunity), ("base_referral", link.base_referral))
    }
    link = replace(link, **bases, memory=replace(link.memory, unconsented=seen == "held since"))
    decision = decide(link, RULES, SHAPE, NOW)
    sent = seen == "agreed once" or consent is True
    assert ("contacts" in {name for step in decision.steps for name in step.fields}) is sent
    told = [hold.text for hold in decision.holds if hold.field == "contacts"]
    assert [" tick " in text for text in told] == ([] if sent else [True])
    assert decision.link.memory.unconsented is (seen != "agreed once")  # with consent, until it has landed


def test_contacts_of_first_sight_are_a_sellers_word_once_both_sides_agree() -> None:
    """In whatever order they stand. What one tick allowed and did not land needs the tick still."""
    new = Member("new@c.example")
    link = pair({"consent": True, "contacts": (GRETA, new)}, contacts=(GRETA,), direction="Inbound")
    bases = {
        side: {name: each for name, each in base.items() if name not in {"consent", "contacts"}}
        for side, base in (("base_opportunity", link.base_opportunity), ("base_referral", link.base_referral))
    }
    ticked = decide(replace(link, **bases), RULES, SHAPE, NOW).link
    assert ticked.opportunity is not None
    assert ticked.referral is not None

    def seen(consent: bool, here: tuple[Member, ...], there: tuple[Member, ...]) -> Link:
        given = {"consent": consent, "contacts": here}
        return replace(
            ticked,
            opportunity=replace(ticked.opportunity, fields={**ticked.opportunity.fields, **given}),
            referral=replace(ticked.referral, fields={**ticked.referral.fields, "contacts": there}),
        )

    unticked = decide(seen(False, (GRETA, new), (GRETA,)), RULES, SHAPE, NOW)
    assert not any("contacts" in step.fields for step in unticked.steps)
    assert unticked.link.memory.unconsented
    agreed = decide(seen(False, (new, GRETA), (GRETA, new)), RULES, SHAPE, NOW)
    assert not agreed.link.memory.unconsented


def test_contacts_are_not_sent_once_consent_is_taken_back() -> None:
    decision = decide(pair({"consent": False, "contacts": ()}), RULES, SHAPE, NOW)
    assert not decision.steps
    assert "contacts" in {hold.field for hold in decision.holds}


def test_a_deal_that_microsoft_started_needs_no_invitation() -> None:
    inbound = pair({"help": HELP}, visible=True, direction="Inbound", deal_type="Co-sell")
    assert visibility.invitation(inbound, RULES, SHAPE, TODAY) is None
    (hold,) = [hold for hold in decide(inbound, RULES, SHAPE, NOW).holds if hold.field == "help"]
    assert "already" in hold.text
