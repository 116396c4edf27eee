"""What the seller reads on the record: what happened and what to do, in plain words.

Rules for these texts: they speak of the seller's fields by the CRM's own labels, give dates and never remaining time
or counts (a text that changes by itself would be written again and again), and end with the next step where there is
one. Texts of other systems are quoted as they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal

from cosell_sync.core.deal import Customer, DealType, Member, Solution, State, Value
from cosell_sync.core.memory import FinalKind, Withheld, WithheldBy
from cosell_sync.errors import Cure


def day(moment: datetime | date) -> str:
    return moment.strftime("%Y-%m-%d")


def minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def listed(labels: Iterable[str]) -> str:
    """One, two or more of them: ``A``, ``A and B``, ``A, B and C``."""
    *others, last = list(dict.fromkeys(labels)) or [""]
    return f"{', '.join(others)} and {last}" if others else last


def shown(value: Value) -> str:
    """A value as a person would write it."""
    match value:
        case bool():
            return "yes" if value else "no"
        case Decimal():
            return f"{value:,f}"
        case datetime():
            return minute(value)
        case date():
            return day(value)
        case tuple():
            return (
                listed(item.name or item.id if isinstance(item, Solution) else person(item) for item in value)
                or "nobody"
            )
        case Customer():
            parts = (value.name, value.address_line1, value.address_line2, value.city)
            return ", ".join(part for part in (*parts, value.state, value.postal_code, value.country) if part)
        case str():
            return value if len(value) <= 200 else value[:197] + "..."
        case _:
            return "nothing"


def person(member: Member) -> str:
    """By name, else by e-mail address."""
    return " ".join(part for part in (member.first_name, member.last_name) if part) or member.email


def took(labels: Iterable[str]) -> str:
    """Fields that were written to the CRM."""
    return f"Taken over from Partner Center: {listed(labels)}."


def sent(labels: Iterable[str]) -> str:
    """Fields that were written to Partner Center."""
    return f"Sent to Partner Center: {listed(labels)}."


def imported(direction: str) -> str:
    return "New deal from Microsoft." if direction == "Inbound" else "Taken over from Partner Center."


def blocked_account(new: str, alike: Iterable[str]) -> str:
    """A duplicate rule of the CRM does not let the customer be made beside these accounts."""
    return _blocked(
        f"the new account {new}",
        alike,
        "If it is the same company, correct the name, postal code and country there; otherwise ask your administrator to allow both.",
    )


def blocked_contact(new: str, alike: Iterable[str]) -> str:
    """A duplicate rule of the CRM does not let the person be made beside these contacts."""
    return _blocked(
        f"the new contact {new}",
        alike,
        "If it is the same person, correct the e-mail address there; otherwise ask your administrator to allow both.",
    )


def _blocked(new: str, alike: Iterable[str], cure: str) -> str:
    others = listed(alike)
    if not others:
        return f"The CRM takes {new} for a duplicate of a record that the sync cannot read. Ask your administrator to allow both."
    return f"The CRM does not allow {new} because it resembles {others}. {cure}"


def shared_emails(emails: Iterable[str]) -> str:
    """Several users of the CRM have one e-mail address, so it does not say who is meant."""
    return (
        f"Several users of the CRM have the e-mail address {listed(sorted(emails))}, so nobody was added to the team for it. "
        "Ask your administrator to give each user an address of their own."
    )


def nobody_may_own() -> str:
    return (
        "The CRM let none of the colleagues own this opportunity, so it belongs to the sync user. "
        "Take it over yourself, or ask your admin to give the team the right to see opportunities."
    )


def account_differs(pairs: Iterable[tuple[str, str, str]]) -> str:
    """What an account says otherwise than Partner Center: label, here, there."""
    apart = "; ".join(f"{label} is {here} here and {there} in Partner Center" for label, here, there in pairs)
    return f"{apart}. Both stay as they are, because other records may use this account."


def linked() -> str:
    return "This opportunity is now linked to its referral in Partner Center."


MOVED = {
    State.RECEIVED: "Partner Center shows this deal as not answered.",
    State.ACCEPTED: "This deal was accepted.",
    State.WON: "This deal was won.",
    State.LOST: "This deal was lost.",
    State.DECLINED: "This deal was declined.",
    State.EXPIRED: "This deal expired because nobody answered it in time.",
    State.CLOSED: "This deal was closed.",
}


def moved(state: State, reason: str = "") -> str:
    """The deal moved in Partner Center."""
    return MOVED[state] + (f" Reason given: {reason}" if reason else "")


def done(state: State) -> str:
    """The seller's own move was taken."""
    return {
        State.ACCEPTED: "You accepted this deal; Microsoft knows.",
        State.WON: "Partner Center now shows this deal as won.",
        State.LOST: "Partner Center now shows this deal as lost.",
        State.DECLINED: "You declined this deal; Microsoft knows.",
    }.get(state, "")


def answer_by(moment: datetime | None, reminder: int) -> str:
    """``reminder``: 0 none yet, then 1, 2, 3 as 7, 3 and 1 days are left."""
    opening = ("", "Reminder: ", "Second reminder: ", "Last reminder: ")[reminder]
    until = f" by {minute(moment)}, or it expires" if moment else ""
    return f"{opening}Microsoft waits for your answer: choose Accept or Decline under Action{until}."


def conflict(label: str, referral: Value, opportunity: Value, kept: str | None) -> str:
    """``kept``: partner_center, crm, or None where a person must decide."""
    both = f"{label} was changed on both sides: Partner Center has {shown(referral)}, the CRM has {shown(opportunity)}."
    if kept is None:
        return f"{both} Give both the same value, or ask your admin to decide (deals resolve)."
    return f"{both} Kept: {'Partner Center' if kept == 'partner_center' else 'the CRM'}."


def both_over(referral: State, stage: str) -> str:
    return (
        f"Partner Center says this deal is {referral.lower()}, the CRM says {stage}. Partner Center cannot be changed "
        "any more: set the stage that fits, or leave it as it is and tell your admin."
    )


def automation(label: str, referral: Value, opportunity: Value) -> str:
    """An automation in the CRM rewrote our write, twice."""
    return (
        f"Something in the CRM keeps changing {label} to {shown(opportunity)} after Partner Center's "
        f"{shown(referral)} was written. Ask your admin to look at the flows on this field."
    )


def not_taken(label: str, referral: Value, opportunity: Value) -> str:
    """A write landed, and Partner Center has something else than was sent."""
    return (
        f"Partner Center holds {shown(referral)} for {label} although {shown(opportunity)} was sent. Give both the same "
        "value, or ask your admin to decide (deals resolve)."
    )


def needs(labels: Iterable[str], target: State) -> str:
    """What must be filled in before this move."""
    verb = {
        State.ACCEPTED: "accept this deal",
        State.WON: "report this deal as won",
        State.LOST: "report this deal as lost",
        State.DECLINED: "decline this deal",
    }.get(target, "go on")
    return f"To {verb}, fill in {listed(labels)}."


def cannot_be_empty(label: str, kept: Value) -> str:
    return f"Partner Center needs {label}; it keeps {shown(kept)}. Please fill it in again."


def frozen(label: str, why: str) -> str:
    """Partner Center does not take this field; ``why`` ends the sentence."""
    return f"{label} stays as you wrote it in the CRM but was not sent: {why}."


def not_kept_in_step(label: str) -> str:
    """Why a value that means something only with another one does not go over."""
    return f"{label} differs and is not kept in step (mapping.fields)"


def unanswered(labels: Iterable[str]) -> str:
    return f"{listed(labels)}: your changes go to Partner Center together with your Accept."


def holding(target: State, until: datetime, *, with_accept: bool = False) -> str:
    """An end waits out ``sync.terminal_hold``. ``with_accept``: and with it the answer to a deal that has none yet."""
    if with_accept:
        return (
            f"Accepted and {target.value} go to Partner Center together at {minute(until)} and cannot be undone there. "
            "Until then you can take both back by changing the stage."
        )
    return (
        f"{target.value} goes to Partner Center at {minute(until)} and cannot be undone there. "
        "Until then you can take it back by changing the stage or the action."
    )


def accepted_in_time() -> str:
    """A deal won before it was answered was accepted at once."""
    return "The deal was accepted at once, because it would have expired before; only Won can be taken back."


def taken_back(state: State) -> str:
    """The seller took an end back while it waited out its hold."""
    what = "Your refusal of this deal" if state is State.DECLINED else f"Your {state.value}"
    return f"{what} was taken back in time; Microsoft was not told of it."


_WITHHELD = {
    FinalKind.ACCEPT: "Your acceptance",
    FinalKind.DECLINE: "Your refusal of this deal",
    FinalKind.WIN: "Won",
    FinalKind.LOSE: "Lost",
    FinalKind.POST: "Sharing this opportunity",
    FinalKind.INVITE: "Your request for Microsoft's help",
    FinalKind.VISIBILITY: "Showing this deal to Microsoft's sellers",
}


def withheld(item: Withheld) -> str:
    """A step that cannot be undone waits for a person's word: what, why, and who can release it."""
    why = {
        WithheldBy.COUNT: "many deals changed like this at once",
        WithheldBy.STAGE: f'the CRM has no stage "{item.stage}" any more',
        WithheldBy.UNMOVED: "nobody moved this record to another stage (the stage itself means something else now)",
        WithheldBy.PRECONDITION: "cosell-sync found a fault in its setup",
    }[item.reason]
    return (
        f"{_WITHHELD[item.kind]} has not gone to Partner Center, because {why} and it could not be undone there. "
        "cosell-sync's administrator can release it."
    )


def hurried(until: datetime) -> str:
    """Won so early that the deal registration may be refused."""
    return f"This deal is younger than 72 hours. Microsoft may refuse its deal registration when it is won before {minute(until)}."


def over(state: State) -> str:
    return f"This deal is over in Partner Center ({state.lower()}); it cannot be changed there any more."


def closed_otherwise(status: str, label: str) -> str:
    """Closed with a second word that says neither won nor lost. ``label``: of the stage."""
    return (
        f'Microsoft closed this deal as "{status}"; it cannot be changed there any more. '
        f"Set the {label} that fits, for the CRM was not told whether it is won or lost."
    )


def late(labels: Iterable[str]) -> str:
    """Changed in the CRM after the end."""
    return f"Changed after the end and not sent: {listed(labels)}."


def paused() -> str:
    return "Paused: nothing is exchanged with Partner Center until Sync is switched on again."


def paused_unanswered(until: datetime | None) -> str:
    """Sync is off on a deal that waits for an answer."""
    deadline = f" by {minute(until)}" if until else ""
    return (
        f"Microsoft waits for your answer{deadline}: switch Sync on, and what you chose under Action is sent."
    )


def refused_action(action: str, state: State) -> str:
    advice = (
        "To end it, close it as won or lost."
        if state is State.ACCEPTED
        else "Nothing can be changed any more."
    )
    return f"{action} is not possible: this deal is already {state.lower()}. {advice}"


def unknown_state(status: str) -> str:
    return f'Partner Center shows the status "{status}", which is not known here; nothing is sent until that changes.'


def crm_cannot(label: str, value: Value, why: str) -> str:
    return f"Partner Center has {shown(value)} for {label}, which the CRM cannot hold: {why}."


def stand_in(label: str, value: Value) -> str:
    """The CRM needs a value, and Partner Center has none: ours stands there until somebody enters one."""
    return f"Enter the {label}: Microsoft gave none, and {shown(value)} only stands in for it."


def no_customer(label: str) -> str:
    """``label``: what the CRM calls the customer."""
    return f"Choose the {label}: Microsoft named no customer."


def amount_in_foreign_currency(label: str, own: str | None, money: str) -> str:
    """``own``: the only currency of the CRM; None where it has several. ``money``: Microsoft's amount and currency."""
    where = own or "one of the CRM's currencies"
    return f"Enter the {label} in {where}: Microsoft's is {money}, a currency that the CRM does not have."


def amount_without_currency(labels: Iterable[str], money: str) -> str:
    return f"Enter the {listed(labels)}: Microsoft gave {money} without a currency."


def amount_does_not_fit(label: str, money: str) -> str:
    return f"Enter the {label}: Microsoft's {money} does not fit here, so it was left empty."


def amount_unreadable(label: str) -> str:
    return f"Enter the {label}: what Microsoft gave is no amount."


def amounts_apart(label: str, own: str, money: str) -> str:
    """A CRM of one currency holds an amount of the seller's beside one of Microsoft's in another."""
    return f"{label} is in {own} here and {money} at Microsoft; the two are not compared."


def cannot_be_cleared(label: str, kept: Value) -> str:
    """Partner Center emptied a field that the CRM needs."""
    return (
        f"Enter the {label} you expect: Microsoft has none any more, and {shown(kept)} stays here meanwhile."
    )


def no_choice(label: str, value: Value) -> str:
    """What Microsoft answered for a deal is none of the values that the CRM's list offers."""
    return f"Partner Center has {shown(value)} for {label}, which the list here does not offer. Ask your admin to add it."


def unseen(label: str) -> str:
    """A field whose value the CRM does not show to the sync user: out of sight is not empty."""
    return (
        f"{label}: the sync user is not allowed to see all of it here, so it is neither sent nor changed. "
        "Ask your admin to share it (doctor names what is missing)."
    )


NOT_SHOWN = "the sync user is not allowed to see it; ask your admin"


def without_key_here(field: str, label: str, names: str) -> str:
    """Who or what of a set in the CRM cannot be sent. ``names``: as they are listed there."""
    if field == "solutions":
        return f"Not sent to Microsoft, because the solution's id is missing: {names} ({label}). Please fill it in."
    return f"Not sent to Microsoft, because there is no e-mail address: {names} ({label}). Please add it."


def without_key_there(field: str, label: str, names: str) -> str:
    """Who or what of a set in Partner Center cannot be shown in the CRM."""
    if field == "solutions":
        return (
            f"Not shown here, because Partner Center has no id for it: {names} ({label}). "
            "A colleague can choose the solution again in Partner Center."
        )
    return (
        f"Not shown here, because Partner Center has no e-mail address: {names} ({label}). "
        "A colleague can add it in Partner Center."
    )


WITHOUT_ID_THERE = (
    "one that has no id in Partner Center would be lost there; a colleague can correct that there"
)


def crm_refused(label: str, value: Value, why: str, cure: Cure) -> str:
    """The CRM refused one field, and the rest landed; ``why``: its own words, quoted where the seller can end it."""
    what = f"The CRM did not take {shown(value)} for {label} from Partner Center"
    if cure is Cure.SELLER:
        return f"{what}: {_sentence(why)} It is tried again when you save this record."
    return f"{what}{_ended_by(cure)}"


def partner_center_refused(label: str, value: Value, kept: Value, why: str, cure: Cure) -> str:
    """Partner Center refused one field, and the rest landed; ``why``: as above."""
    what = f"Partner Center did not take {shown(value)} for {label} and keeps {shown(kept)}"
    if cure is Cure.SELLER:
        return f"{what}: {_sentence(why)} Please correct it here."
    return f"{what}{_ended_by(cure)}"


def _ended_by(cure: Cure) -> str:
    """The end of a sentence about a refused field that the seller cannot mend, and who can."""
    match cure:
        case Cure.MICROSOFT:
            return ", because of a fault of its own. There is nothing for you to do; it is tried again."
        case Cure.TIME:
            return " yet. There is nothing for you to do; it is tried again."
        case _:
            return (
                ", and the reason is not in what you entered. Please tell cosell-sync's administrator, who can see it; "
                "it is tried again."
            )


def _sentence(text: str) -> str:
    """Another system's words, ended by one full stop."""
    return f"{text.strip().rstrip('.')}."


def shortened(labels: Iterable[str]) -> str:
    return f"Shortened to what the CRM can hold: {listed(labels)}. Partner Center keeps the whole."


def read_only(label: str, value: Value, why: str) -> str:
    return f"Partner Center has {shown(value)} for {label}; it cannot be set in the CRM: {why}."


def referral_gone() -> str:
    return (
        "This deal cannot be found in Partner Center any more, or the sync user may not see it. Nothing was changed here. "
        "Ask your admin to check its rights, or to unlink it."
    )


def refused_by(system: str, text: str, *, cure: Cure, parked: bool, labels: Sequence[str] = ()) -> str:
    """A refusal, told by who ends it. Only what the seller can correct is quoted: other texts name codes and rights.

    ``labels``: of the fields that were refused, where that is known.
    """
    change = f"the last change of {listed(labels)}" if labels else "the last change"
    match cure:
        case Cure.SELLER:
            opening = f"{system} refused {change}: {text.strip()}"
            return (
                f"{opening} Change the record to try again, or ask your admin (deals retry)."
                if parked
                else f"{opening} Please correct it; it is tried again."
            )
        case Cure.MICROSOFT:
            return (
                f"{system} could not process {change} because of a fault of its own. "
                "There is nothing for you to do; cosell-sync's administrator can report it."
            )
        case Cure.TIME:
            again = "cosell-sync's administrator can have it tried again" if parked else "it is tried again"
            return f"{system} could not take {change} yet. There is nothing for you to do; {again}."
        case _:
            return (
                f"{system} does not take {change}, and the reason is not in what you entered. "
                "Please tell cosell-sync's administrator, who can see it; there is nothing for you to correct."
            )


def waits_for_lock(since: datetime, *, long: bool) -> str:
    """An approval, or an admin, holds the record. ``long``: for more than a day."""
    text = f"This record has been locked in the CRM since {minute(since)}, for example by an approval; "
    return (
        f"{text}the last change cannot be written. Ask whoever approves it, or your CRM's administrator, to release it."
        if long
        else f"{text}the last change is written once it is free. There is nothing for you to do."
    )


def waits_for_admin(since: datetime) -> str:
    """The CRM takes nothing until its administrator has acted: its storage is full."""
    return (
        f"The CRM has stored nothing new since {minute(since)}; its administrator has to make room. "
        "The last change is written then; there is nothing for you to do."
    )


def away(system: str, since: datetime) -> str:
    """A transient failure that lasts."""
    return f"{system} has not taken the last change since {minute(since)}. It is tried again until it works."


def broken() -> str:
    """An unexpected exception of ours; what and where stands in the log and in ``deals show``."""
    return (
        "cosell-sync had an internal error with this deal and left it as it is. "
        "Your admin has the details; there is nothing you need to do."
    )


def looks_alike(name: str) -> str:
    """A referral may be the same deal as an opportunity that exists."""
    return (
        f'Microsoft sent a deal that looks like this opportunity ("{name}"). If it is the same, ask your admin to link it '
        "(deals link); if not, to make it a new one (deals create)."
    )


def expired_unseen(name: str) -> str:
    """A referral expired while it was held, so no record ever told a seller of it."""
    return f'Microsoft\'s deal "{name}" expired unanswered: it was held back and never reached the CRM.'


def claimed(name: str, opportunity_id: str) -> str:
    """A referral names an opportunity that belongs to another referral."""
    return (
        f'Microsoft\'s deal "{name}" names the opportunity {opportunity_id}, which belongs to another deal. Is it the same deal '
        "made again, or one of its own?"
    )


# --- deals made in the CRM ---------------------------------------------------------------------------------------


def cannot_share(missing: Iterable[str], unchosen: Iterable[str] = ()) -> str:
    """``missing``: fields to fill in. ``unchosen``: records to choose, without which their fields need not be spoken of."""
    return f"Not shared with Partner Center yet. {_wanted(missing, unchosen)}"


def cannot_widen(missing: Iterable[str], unchosen: Iterable[str] = ()) -> str:
    return f"Microsoft was not asked or told yet. {_wanted(missing, unchosen)}"


def _wanted(missing: Iterable[str], unchosen: Iterable[str]) -> str:
    chosen = [f"Choose {'an' if label[:1] in 'AEIOU' else 'a'} {label}." for label in unchosen]
    labels = "; ".join(dict.fromkeys(missing))
    return " ".join([*chosen, *([f"Please fill in: {labels}."] if labels else [])])


def closed_before_sharing() -> str:
    return "Not shared with Partner Center: this opportunity is closed. Reopen it to share it, or switch Sync off."


def shared(kind: DealType) -> str:
    return {
        DealType.PRIVATE: "Shared with Partner Center as a private deal; Microsoft does not see it.",
        DealType.PARTNER_LED: "Shared with Partner Center; Microsoft's sellers can see it.",
    }.get(kind, "Shared with Partner Center as a co-sell deal; Microsoft's sellers can see it.")


def widened() -> str:
    return "Microsoft's sellers can see this deal now. That cannot be taken back."


def one_way(label: str, why: str) -> str:
    return f"{label} was changed here, but not in Partner Center: {why}."


def invited() -> str:
    return "Microsoft was asked for help."


def joined() -> str:
    """A deal became co-sell in Partner Center, or by Microsoft."""
    return "This deal is a co-sell deal now: Microsoft was brought in through Partner Center. There is nothing for you to do."


def microsoft_side(status: str, reason: str, until: datetime | None) -> str:
    """Microsoft's side of the deal, as last read. Declining without a reason: referrals FAQ."""
    word, _, end = (part.strip() for part in status.partition("/"))
    match word.capitalize(), end.capitalize():
        case "New", _:
            by = f" until {minute(until)}" if until else ""
            return f"Microsoft has{by} to answer your request; an answer is not certain."
        case "Active", _:
            return "Microsoft accepted and works on this deal."
        case "Closed", "Declined":
            why = (
                f"Microsoft declined your request: {reason.strip()}."
                if reason.strip()
                else "Microsoft declined your request without a reason, which happens when the invitation ran out or "
                "the value is below USD 25,000."
            )
            return f"{why} The deal goes on without Microsoft; to ask again, share it as a new opportunity."
        case "Closed", "Expired":
            return (
                "Microsoft did not answer your request in time. The deal goes on without Microsoft; to ask again, "
                "share it as a new opportunity."
            )
        case "Closed", _:
            return f"Microsoft closed its side of this deal: {end.lower() or 'without saying how'}."
        case _:
            return f"Microsoft's side of this deal: {status}." if status else ""


def registration(status: str) -> str:
    """The deal registration of a won deal, and what the seller must do (register deals; other words are shown as they come)."""
    known = {
        "reviewpending": "is being reviewed; nothing is to be done now",
        "actionrequired": "needs something from you: open the deal by its link and complete the registration",
        "reviewpassed": "passed the review",
        "passed": "passed the review",
        "approved": "was approved; nothing is to be done",
        "reviewfailed": "failed the review: open the deal by its link to see why",
        "failed": "failed: open the deal by its link to see why",
        "rejected": "was rejected: open the deal by its link to see why",
    }.get("".join(status.split()).casefold())
    return (
        f"Deal registration {known}."
        if known
        else f'Deal registration stands at "{status}"; the deal\'s link shows what that asks of you.'
    )
