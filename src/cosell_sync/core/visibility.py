"""How a linked deal is opened further to Microsoft: private, partner-led, co-sell, in this order only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from cosell_sync.core import messages
from cosell_sync.core.builder import DecisionBuilder
from cosell_sync.core.deal import ABSENT, Fields, Snapshot, State, Value
from cosell_sync.core.decision import Hold, HoldKind
from cosell_sync.core.frozen import replace
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.core.memory import FinalKind, Invitation, Link, Phase
from cosell_sync.core.microsoft import ONE_WAY, fix_help_request, joined_elsewhere, takes_part
from cosell_sync.core.publishing import new_referral_fields
from cosell_sync.core.requirements import Gap, asks_for_help, missing, told
from cosell_sync.core.rules import CrmShape, Rules
from cosell_sync.core.stand_ins import standing
from cosell_sync.core.texts import Text


@dataclass(frozen=True)
class Refusal:
    """A change that the seller made and that is no longer possible."""

    field: str
    referral: Value
    opportunity: Value
    why: str


@dataclass(frozen=True)
class Widening:
    """How a linked deal is to be opened further. ``link``: with a visibility that both sides agree on as base."""

    link: Link
    visible: bool = False  # patch the visibility
    invites: bool = False  # help is asked for that Microsoft does not know of yet
    gaps: tuple[Gap, ...] = ()
    refused: tuple[Refusal, ...] = ()


def widening(link: Link, state: State, rules: Rules, shape: CrmShape, today: date) -> Widening:
    """Private → partner-led → co-sell, in this direction only, and only where the seller asks for it."""
    referral, opportunity = link.referral, link.opportunity
    if referral is None or opportunity is None or state is State.UNKNOWN or opportunity["sync"] is False:
        return Widening(link)
    link = _agree_on_visibility(link, opportunity, referral)
    refused = tuple(_refusals(link, opportunity, referral, shape))
    asked = _asks_for_invitation(link, opportunity)
    if asked and takes_part(link) and link.memory.invite is not Invitation.PENDING:
        refused += (
            Refusal("help", None, opportunity["help"], Text("Microsoft takes part in this deal already")),
        )
        asked = False
    invites = asked and state is not State.RECEIVED
    gaps = _invitation_gaps(link, opportunity, state, rules, shape, today) if invites else ()
    wanted = opportunity.flag("visible") or (invites and not gaps)
    if referral["visible"] is not False or not wanted:
        return Widening(link, invites=invites, gaps=gaps, refused=refused)
    if opportunity["consent"] is True:
        return Widening(link, visible=True, invites=invites, gaps=gaps, refused=refused)
    consent = Gap("consent", messages.ask_consent(shape.label("consent")), asks=True)
    return Widening(link, invites=invites, gaps=gaps or (consent,), refused=refused)


def _invitation_gaps(
    link: Link, opportunity: Snapshot, state: State, rules: Rules, shape: CrmShape, today: date
) -> tuple[Gap, ...]:
    """What is missing before Microsoft is invited. Nothing can be filled in after the end: then it is the help itself.

    What only stands in for a value is missing: the invitation would send it as if a person had written it.
    """
    if state in TERMINAL:
        return (Gap("help", shape.label("help")),)
    gaps = missing(opportunity, rules, shape, today, cosell=True)
    filled = {gap.field for gap in gaps}
    return (
        *gaps,
        *(Gap(name, shape.label(name)) for name in standing(link, rules, shape) if name not in filled),
    )


def _asks_for_invitation(link: Link, opportunity: Snapshot) -> bool:
    """Help is asked for that Microsoft was not asked for yet."""
    return (
        asks_for_help(opportunity)
        and link.memory.invite != Invitation.DONE
        and "help" not in link.base_opportunity
    )


def _agree_on_visibility(link: Link, opportunity: Snapshot, referral: Snapshot) -> Link:
    """A visibility that both sides have said is agreed, and cannot be taken back from then on."""
    if not (referral.flag("visible") and opportunity.flag("visible")):
        return link
    return replace(link, base_opportunity={**link.base_opportunity, "visible": True})


def _refusals(link: Link, opportunity: Snapshot, referral: Snapshot, shape: CrmShape) -> Iterable[Refusal]:
    base = link.base_opportunity
    if referral.flag("visible") and base.get("visible") is True and opportunity["visible"] is False:
        why = Text("Microsoft's sellers can see this deal, and that cannot be taken back")
        yield Refusal("visible", True, False, why)
    if base.get("consent") is True and opportunity["consent"] is False:
        why = Text("what was shared cannot be taken back; nothing more about customer contacts is sent")
        yield Refusal("consent", True, False, why)
    for name in ONE_WAY:
        if (
            name in base
            and opportunity[name] is not ABSENT
            and (base[name] or None) != (opportunity[name] or None)
        ):
            why = Text(
                "Microsoft was asked with %(field)s %(value)s, and that cannot be changed",
                field=shape.label(name),
                value=messages.shown(base[name]),
            )
            yield Refusal(name, base[name], opportunity[name], why)


def invitation(link: Link, rules: Rules, shape: CrmShape, today: date) -> dict[str, Value] | None:
    """The fields of the post that invites Microsoft; None where it is not wanted, or not yet possible."""
    referral, opportunity = link.referral, link.opportunity
    if (
        link.phase is not Phase.LINKED
        or link.memory.gone is not None
        or referral is None
        or opportunity is None
    ):
        return None
    if referral.text("state") != State.ACCEPTED or not referral.text("engagement_id"):
        return None
    wider = widening(link, State.ACCEPTED, rules, shape, today)
    if not wider.invites or wider.gaps or referral["visible"] is False:
        return None
    return new_referral_fields(opportunity, rules, shape)


def invited(link: Link, side: Mapping[str, str], known: Fields) -> Link:
    """Microsoft has its side of this deal now."""
    memory = replace(link.memory, invite=Invitation.DONE, microsoft=side or link.memory.microsoft)
    return fix_help_request(replace(link, memory=memory, dirty=True), known)


def open_to_microsoft(builder: DecisionBuilder) -> None:
    """One-way, and only where the seller asks for it; what is missing or no longer possible is held with its reason."""
    wider = widening(
        builder.link, builder.state, builder.rules, builder.shape, builder.rules.today(builder.now)
    )
    builder.link = wider.link
    if builder.state not in TERMINAL and joined_elsewhere(builder.link):
        builder.notices.append(messages.joined())
    builder.invites = wider.invites and not wider.gaps
    if builder.invites and builder.referral["visible"] is not False:
        builder.withholds(FinalKind.INVITE, "help", builder.referral["help"], builder.opportunity["help"])
    if wider.visible and not builder.withholds(FinalKind.VISIBILITY, "visible", False, True):
        builder.to_referral["visible"] = True
        builder.reasons["visible"] = "the seller opens this deal to Microsoft"
    text = told(wider.gaps, messages.cannot_widen)
    for gap in wider.gaps:
        builder.holds.append(
            Hold(HoldKind.NEED, gap.field, builder.referral[gap.field], builder.opportunity[gap.field], text)
        )
    for refusal in wider.refused:
        text = messages.one_way(builder.shape.label(refusal.field), refusal.why)
        builder.holds.append(
            Hold(HoldKind.FROZEN, refusal.field, refusal.referral, refusal.opportunity, text)
        )
