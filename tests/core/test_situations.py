"""What follows in each situation, whole, compared with ``situations.txt``: a change of behaviour shows as a diff of that file.

``.venv/bin/python tests/core/test_situations.py`` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from deals import HOLD, NOW, SHAPE, at_rest, here, remembering, rules, there

from cosell_sync.core.deal import ABSENT, Customer, Fields, Member, Side, State
from cosell_sync.core.memory import Closing, Failure, Link
from cosell_sync.core.messages import minute, shown
from cosell_sync.core.reconcile import decide
from cosell_sync.core.retry import content_digest
from cosell_sync.core.rules import CrmShape, Flow, Policy, Rules, Stages
from cosell_sync.core.status import status_report

PAGE = Path(__file__).with_name("situations.txt")
SYSTEM = {Side.PARTNER_CENTER: "Partner Center", Side.CRM: "the CRM"}
FIVE, SIX = Decimal(5), Decimal(6)


@dataclass(frozen=True)
class Case:
    link: Link
    rules: Rules = rules()  # noqa: RUF009  # frozen itself
    shape: CrmShape = SHAPE
    at: datetime = NOW
    own_move: State | None = None


def locked(link: Link, *names: str) -> Link:
    assert link.opportunity is not None
    return replace(link, opportunity=replace(link.opportunity, readonly=frozenset(names)))


def without(link: Link, name: str) -> Link:
    """In a CRM that has no such column."""
    assert link.opportunity is not None
    fields = {each: value for each, value in link.opportunity.fields.items() if each != name}
    return replace(link, opportunity=replace(link.opportunity, fields=fields))


def based(link: Link, there: Fields, here: Fields) -> Link:
    return replace(
        link,
        base_referral={**link.base_referral, **there},
        base_opportunity={**link.base_opportunity, **here},
    )


def based_alike(link: Link, **values: object) -> Link:
    return based(there(here(link, **values), **values), values, values)  # type: ignore[arg-type]


def stuck(link: Link, side: Side, seen: str = "", **memory: object) -> Link:
    trouble = Failure(side, "too_small", "The value is too small.", NOW - timedelta(minutes=20), seen)
    return remembering(link, **{"failure": trouble, "attempts": 2, "next_attempt": NOW + HOLD, **memory})


def away(link: Link, side: Side) -> Link:
    link = stuck(link, side)
    assert link.memory.failure is not None
    return remembering(link, failure=replace(link.memory.failure, transient=True), attempts=0)


ASK, NOTHING_WAITS = rules({"value": Policy.ASK, "sales_stage": Policy.ASK}), rules(terminal_hold=timedelta())
APART = replace(
    SHAPE, fields=SHAPE.fields | {"sales_stage"}, picklists={"sales_stage": frozenset({"Qualify", "Propose"})}
)
BY_FIELD = rules(stages=Stages())
ONE_CURRENCY = replace(SHAPE, fields=SHAPE.fields - {"currency"})
SMALL = replace(SHAPE, maximum=FIVE, currencies=frozenset({"USD"}))
REASON = {"reason": "Price", "reason_note": " Too dear. "}
NEW, OPEN, WON = at_rest(State.RECEIVED), at_rest(), at_rest(State.WON)
BOTH = there(here(OPEN, value=FIVE), value=SIX)
OURS = there(OPEN, direction="Outbound")
SHARED = here(there(OURS, deal_type="Private", visible=False), visible=False, consent=True)
SHARED = based(SHARED, {}, {"visible": False, "consent": True})
HELP = "Proof of concept or demo"
READY = based_alike(
    SHARED,
    customer=Customer("Contoso", "Kai 7", None, "Bremen", None, None, "DE"),
    team=(Member("t@x", "Tim", "Roth", "1"),),
    contacts=(Member("c@x", "Cy", "Lund", "1"),),
    close_date=NOW.date() + timedelta(days=9),
)
MORE = (Member("c@x", phone="1"), Member("d@x", "Dee", "Moe"))

CASES: Mapping[str, Mapping[str, Case]] = {
    "Fields": {
        "Nothing has changed": Case(OPEN),
        "The seller changes an amount": Case(here(OPEN, value=FIVE)),
        "Microsoft's side changes an amount": Case(there(OPEN, value=FIVE)),
        "Each changes another field": Case(there(here(OPEN, value=FIVE), campaign_id="C1")),
        "Both change it to the same": Case(there(here(OPEN, value=FIVE), value=FIVE)),
        "Both change it, policy crm": Case(BOTH),
        "Both change it, policy partner_center": Case(BOTH, rules({"value": Policy.PARTNER_CENTER})),
        "Both change it, policy ask": Case(BOTH, ASK),
        "Both change it, policy ask, answered for the CRM": Case(remembering(BOTH, resolved={"value": Side.CRM}), ASK),
        "Both change it, policy ask, answered for Partner Center": Case(remembering(BOTH, resolved={"value": Side.PARTNER_CENTER}), ASK),
        "Our reference is missing there; it goes along with the next edit": Case(there(here(OPEN, value=FIVE), external_reference=None)),
        "Nothing that has changed may go there": Case(here(OPEN, campaign_id="C1"), rules(flows={"campaign_id": Flow.TO_CRM})),
        "A name, which Partner Center is not known to take": Case(here(OPEN, name="Other")),
        "A name that both change": Case(there(here(OPEN, name="Ours"), name="Theirs")),
        "A heart, likewise": Case(here(OPEN, favorite=True)),
        "The customer, on either side": Case(there(here(OPEN, customer=Customer("Ours")), customer=Customer("Theirs", country="US"))),
        "Contacts of a co-sell deal of our own": Case(here(OURS, contacts=MORE)),
        "Contacts after the consent was taken back": Case(here(SHARED, contacts=MORE, consent=False)),
        "Contacts of a private deal of our own": Case(here(SHARED, contacts=MORE)),
        "Something else, after the consent was taken back": Case(here(SHARED, value=FIVE, consent=False)),
        "A deal of no known type": Case(there(here(OPEN, value=FIVE), deal_type=ABSENT)),
        "Something emptied that Partner Center needs": Case(here(OPEN, close_date=None)),
        "Something emptied that the CRM needs": Case(there(OPEN, close_date=None)),
        "As much as the CRM can hold": Case(there(OPEN, value=FIVE), shape=SMALL),
        "More than the CRM can hold": Case(there(OPEN, value=SIX), shape=SMALL),
        "A currency that is not active in the CRM": Case(there(OPEN, currency="EUR"), shape=SMALL),
        "Another currency than the only one of the CRM": Case(there(OPEN, currency="EUR", value=FIVE), shape=ONE_CURRENCY),
        "An amount that the CRM computes": Case(locked(there(OPEN, value=FIVE), "value")),
        "A currency that the CRM has fixed": Case(locked(there(OPEN, currency="EUR"), "currency")),
        "A column that we may not change": Case(locked(there(OPEN, campaign_id="C1"), "campaign_id")),
        "An amount, on a closed record": Case(locked(there(here(WON, is_closed=True, is_won=True), value=FIVE), "value")),
        "A flow in the CRM rewrote our write": Case(remembering(based(there(OPEN, value=FIVE), {"value": FIVE}, {}), rewritten={"value": True})),
        "A flow in the CRM rewrites it again and again": Case(
            remembering(based(there(OPEN, value=FIVE), {"value": FIVE}, {}), reported=("automation:value",))
        ),
        "Partner Center left it as it was": Case(remembering(based(here(OPEN, value=FIVE), {}, {"value": FIVE}), reported=("kept:value",))),
        "A write of unknown fate, with another value there now": Case(remembering(here(OPEN, value=FIVE), disputed=("value",))),
        "A write of unknown fate that has settled itself": Case(remembering(OPEN, disputed=("value",))),
    },
    "The sales stage": {
        "The seller moves it": Case(here(OPEN, stage="Proposal")),
        "Microsoft's side moves it": Case(there(OPEN, sales_stage="Propose")),
        "Both move it alike": Case(there(here(OPEN, stage="Proposal"), sales_stage="Propose")),
        "Both move it, policy crm": Case(there(here(OPEN, stage="Proposal"), sales_stage="Close")),
        "Both move it, policy ask": Case(there(here(OPEN, stage="Proposal"), sales_stage="Close"), ASK),
        "Both move it, policy ask, answered for Partner Center": Case(
            remembering(there(here(OPEN, stage="Proposal"), sales_stage="Close"), resolved={"sales_stage": Side.PARTNER_CENTER}), ASK
        ),
        "Microsoft's side clears it": Case(there(OPEN, sales_stage=None)),
        "Microsoft's side makes no claim any more, and the seller moves": Case(there(here(OPEN, stage="Proposal"), sales_stage=None)),
        "It may not go to Partner Center": Case(here(OPEN, stage="Proposal"), rules(flows={"sales_stage": Flow.TO_CRM})),
        "It may not go to the CRM": Case(there(OPEN, sales_stage="Propose"), rules(flows={"sales_stage": Flow.TO_PARTNER_CENTER})),
        "The stage is one that claims nothing": Case(there(at_rest(stage="Somewhere"), sales_stage="Propose")),
        "It has a field of its own in the CRM": Case(
            based(there(here(OPEN, sales_stage="Qualify"), sales_stage="Propose"), {}, {"sales_stage": "Qualify"}), BY_FIELD, APART
        ),
        "It has a field of its own, whose choices are not known": Case(
            based(there(here(OPEN, sales_stage="Qualify"), sales_stage="Develop"), {}, {"sales_stage": "Qualify"}), BY_FIELD, replace(APART, picklists={})
        ),
        "Each has one at first sight": Case(there(here(at_rest(stage="Somewhere"), stage="Qualification"), sales_stage="Propose")),
        "That field lacks the choice": Case(
            based(there(here(OPEN, sales_stage="Qualify"), sales_stage="Close"), {}, {"sales_stage": "Qualify"}), BY_FIELD, APART
        ),
        "The deal is closed in the CRM": Case(there(here(OPEN, stage="Closed Won"), sales_stage="Propose")),
    },
    "Answering": {
        "Accepted by Action": Case(here(NEW, action="Accept")),
        "Accepted by moving the stage, with an edit": Case(here(NEW, stage="Qualification", value=FIVE)),
        "Accepted by moving the stage, after Microsoft's side moved its sales stage": Case(there(here(NEW, stage="Proposal"), sales_stage="Close")),
        "Accepted, with the sales stage going one way only": Case(here(NEW, stage="Proposal"), rules(flows={"sales_stage": Flow.TO_CRM})),
        "Accepted, with something missing": Case(based_alike(here(NEW, action="Accept"), value=None, close_date=None)),
        "Accepted, though the amount that is missing may not go there": Case(
            based(there(here(NEW, action="Accept"), value=None), {"value": None}, {}), rules(flows={"value": Flow.TO_CRM})
        ),
        "Accepted, filling in what was missing": Case(based(there(here(NEW, action="Accept"), value=None), {"value": None}, {"value": None})),
        "Edited while it is not answered": Case(here(NEW, value=FIVE, campaign_id="C1")),
        "Declined without a reason": Case(here(NEW, action="Decline")),
        "Declined by Action": Case(here(NEW, action="Decline", **REASON)),
        "Declined by closing it as lost, the hold is over": Case(here(NEW, stage="Closed Lost", reason="Price"), NOTHING_WAITS),
        "Declined with a note only": Case(without(here(NEW, action="Decline", reason_note="Too dear."), "reason"), NOTHING_WAITS),
        "Won before it was answered": Case(here(NEW, stage="Closed Won")),
        "Won before it was answered, and the accept did not arrive": Case(
            remembering(here(NEW, stage="Closed Won"), closing=Closing(State.WON, "Closed Won|Closed Won", NOW))
        ),
        "Won before it was answered, no hold": Case(here(NEW, stage="Closed Won", value=FIVE), NOTHING_WAITS),
        "An old opportunity, linked by hand": Case(based(here(at_rest(State.RECEIVED, stage="Proposal"), status=None), {"state": ABSENT}, {"stage": "Proposal"})),
        "An old opportunity, linked by hand, closed since as lost": Case(
            based(here(at_rest(State.RECEIVED, stage="Closed Lost"), status=None, **REASON), {"state": ABSENT}, {"stage": "Proposal"})
        ),
        "An old opportunity, linked by hand, closed since as won": Case(
            based(here(at_rest(State.RECEIVED, stage="Closed Won"), status=None), {"state": ABSENT}, {"stage": "Proposal"})
        ),
        "An old opportunity, won long ago, and Action = Accept": Case(
            replace(here(at_rest(State.RECEIVED, stage="Closed Won"), status=None, action="Accept"), base_referral={}, base_opportunity={})
        ),
        "Accepted in Partner Center": Case(there(NEW, state="Accepted")),
        "Accepted in Partner Center, at a sales stage": Case(there(NEW, state="Accepted", sales_stage="Propose")),
        "Accepted in Partner Center, by our own move": Case(there(here(NEW, action="Accept"), state="Accepted"), own_move=State.ACCEPTED),
        "Accepted on both sides": Case(there(here(NEW, stage="Negotiation"), state="Accepted")),
        "Accepted in Partner Center, Declined by Action": Case(there(here(NEW, action="Decline", **REASON), state="Accepted")),
        "Expired": Case(there(NEW, state="Expired")),
        "Declined in Partner Center": Case(there(NEW, state="Declined", status_reason="Duplicate")),
        "Declined on both sides": Case(there(here(NEW, action="Decline", **REASON), state="Declined")),
        "Declined there, accepted here": Case(there(here(NEW, action="Accept"), state="Declined")),
        "Expired, and declined too late": Case(there(here(NEW, action="Decline", **REASON), state="Expired")),
        "Declined, by our own move": Case(there(here(NEW, action="Decline", **REASON), state="Declined"), own_move=State.DECLINED),
    },
    "Ending": {
        "Won in the CRM": Case(here(OPEN, stage="Closed Won")),
        "Won in the CRM, 71 hours after it was made": Case(there(here(OPEN, stage="Closed Won"), created_at=NOW - timedelta(hours=71))),
        "Won in the CRM, 72 hours after it was made": Case(there(here(OPEN, stage="Closed Won"), created_at=NOW - timedelta(hours=72))),
        "Won in the CRM, no hold": Case(here(OPEN, stage="Closed Won"), NOTHING_WAITS),
        "Won in the CRM, with a reason that nobody needs": Case(here(OPEN, stage="Closed Won", **REASON), NOTHING_WAITS),
        "Won in the CRM, with an edit": Case(here(OPEN, stage="Closed Won", value=FIVE)),
        "Won in the CRM without an amount": Case(based_alike(here(OPEN, stage="Closed Won"), value=None)),
        "Lost in the CRM without a reason": Case(here(OPEN, stage="Closed Lost")),
        "Lost in the CRM with a reason, no hold": Case(here(OPEN, stage="Closed Lost", **REASON), NOTHING_WAITS),
        "Won in Partner Center": Case(there(OPEN, state="Won", registration_status="Review Pending")),
        "Lost in Partner Center, with an edit in the CRM": Case(there(here(OPEN, value=FIVE), state="Lost", status_reason="Price")),
        "Won on both sides": Case(there(here(OPEN, stage="Closed Won"), state="Won")),
        "Ended differently": Case(there(here(OPEN, stage="Closed Won"), state="Lost")),
        "Over, and the seller goes on": Case(here(WON, value=FIVE, stage="Qualification", action="Decline")),
        "Over, and the seller goes on, in a CRM with labels of its own": Case(
            here(WON, value=FIVE, stage="Qualification"), shape=replace(SHAPE, labels={"value": "Betrag", "stage": "Phase"})
        ),
        "Over, while the CRM is away": Case(away(there(OPEN, state="Lost", registration_status="Odd"), Side.CRM)),
        "Over, and the referral is gone": Case(remembering(WON, gone=Side.PARTNER_CENTER)),
        "Over, and emptied": Case(here(WON, value=None)),
        "Over, and Microsoft's side writes still": Case(there(WON, campaign_id="C1")),
        "Over, and both change a field, policy ask": Case(there(here(WON, value=FIVE), value=SIX), ASK),
        "Over, and both change a field, policy partner_center": Case(there(here(WON, value=FIVE), value=SIX), rules({"value": Policy.PARTNER_CENTER})),
    },
    "Opening to Microsoft": {
        "Made visible": Case(here(SHARED, visible=True)),
        "Made visible without consent": Case(based(here(SHARED, visible=True, consent=None), {}, {"consent": None})),
        "Made visible by both": Case(there(here(SHARED, visible=True), visible=True)),
        "Visibility taken back": Case(based(there(SHARED, visible=True), {}, {"visible": True})),
        "Consent taken back": Case(here(SHARED, consent=False)),
        "Help asked for, with much missing": Case(here(SHARED, help=HELP)),
        "Help asked for, all is there, not visible yet": Case(here(READY, help=HELP)),
        "Help asked for, all is there": Case(here(there(READY, visible=True), help=HELP)),
        "Help asked for, though Microsoft started the deal": Case(here(there(READY, direction="Inbound", deal_type="Co-sell"), help=HELP)),
        "Help asked for, after the end": Case(here(there(READY, state="Won"), help=HELP, stage="Closed Won")),
        "The request changed once Microsoft was asked": Case(
            based(here(remembering(READY, invite="done"), help="General or other", help_note="More"), {}, {"help": HELP, "help_note": None})
        ),
    },
    "Not now": {
        "Sync is off": Case(there(here(OPEN, sync=False, value=FIVE), campaign_id="C1")),
        "Sync is off on a record that was never told": Case(here(OPEN, sync=False, status=None)),
        "A status that is not known here": Case(there(here(OPEN, value=FIVE), state="Unknown", campaign_id="C1")),
        "The referral is gone": Case(remembering(OPEN, gone=Side.PARTNER_CENTER)),
        "Refused by Partner Center, it rests": Case(stuck(here(OPEN, value=FIVE), Side.PARTNER_CENTER)),
        "Refused by the CRM, it rests": Case(stuck(there(OPEN, value=FIVE), Side.CRM)),
        "Refused, and tried again": Case(stuck(here(OPEN, value=FIVE), Side.PARTNER_CENTER), at=NOW + HOLD),
        "Refused, and parked": Case(stuck(here(OPEN, value=FIVE), Side.PARTNER_CENTER, parked=True, next_attempt=None)),
        "Refused, and nothing has changed since": Case(stuck(here(OPEN, value=FIVE), Side.PARTNER_CENTER, content_digest(here(OPEN, value=FIVE)))),
        "Refused, and the record has changed since": Case(stuck(here(OPEN, value=FIVE), Side.PARTNER_CENTER, content_digest(OPEN))),
        "Refused, and nothing is left to send": Case(stuck(OPEN, Side.PARTNER_CENTER), at=NOW + HOLD),
        "Refused, and only the invitation is left to send": Case(
            stuck(here(there(READY, visible=True), help=HELP), Side.PARTNER_CENTER), at=NOW + HOLD
        ),
        "Partner Center is away": Case(away(here(OPEN, value=FIVE), Side.PARTNER_CENTER)),
        "The CRM is away": Case(away(there(OPEN, value=FIVE), Side.CRM)),
    },
}  # fmt: skip


def lines(case: Case) -> Iterator[str]:
    """Everything about a decision that can be seen from outside."""
    decision = decide(case.link, case.rules, case.shape, case.at, case.own_move)
    for step in decision.steps:
        written = ", ".join(f"{name} = {shown(value)}" for name, value in step.fields.items())
        yield f"write to Partner Center: {written or 'no field'}" + (f"; {step.state}" if step.state else "")
    if decision.crm:
        yield "write to the CRM: " + ", ".join(
            f"{name} = {shown(value)}" for name, value in decision.crm.items()
        )
    for each in decision.effects:
        side = SYSTEM[each.side]
        yield f"  {each.action} in {side}, {each.field}: {shown(each.old)} -> {shown(each.new)} ({each.rule})"
    for clash in decision.conflicts:
        kept = SYSTEM[clash.kept] if clash.kept else "nobody's"
        yield (
            f"conflict, {clash.field}: {shown(clash.referral)} there, {shown(clash.opportunity)} here; "
            f"kept: {kept} ({clash.rule})"
        )
    for hold in decision.holds:
        until = f", until {minute(hold.until)}" if hold.until else ""
        yield f"held ({hold.kind}{until}), {hold.field}: {shown(hold.referral)} there, {shown(hold.opportunity)} here"
    for side, was, now in (
        ("Partner Center", case.link.base_referral, decision.link.base_referral),
        ("the CRM", case.link.base_opportunity, decision.link.base_opportunity),
    ):
        for name in now:
            if now[name] != was.get(name, ABSENT):
                yield f"agreed, {side}: {name} = {shown(now[name])}"
    told = status_report(decision, decision.notices, case.shape, case.at)
    due = f"; looked at again {minute(told.link.due)}" if told.link.due else ""
    yield f"the record says ({told.state}{due})" + (":" if told.message else "")
    yield from (f"  {line}" for line in told.message.splitlines())


def page() -> str:
    head = PAGE.read_text(encoding="utf-8").split("## ")[0]
    parts = [head.rstrip()]
    for chapter, cases in CASES.items():
        parts.append(f"## {chapter}")
        for title, case in cases.items():
            parts.append(f"**{title}**\n\n```text\n" + "\n".join(lines(case)) + "\n```")
    return "\n\n".join(parts) + "\n"


def test_the_file_says_what_follows() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), (
        "run .venv/bin/python tests/core/test_situations.py, then read the diff of situations.txt as an admin would"
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
