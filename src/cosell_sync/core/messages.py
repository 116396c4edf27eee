"""What the seller reads on the record: what happened and what to do, in plain words.

Rules for these texts: one or two sentences, the urgent one first, at most 255 characters with typical values. They name
something that this seller can do, or who can (an admin, Microsoft, nobody: wait). No setting, API name or command. They speak
of the seller's fields by the CRM's own labels, and give dates, never remaining time or counts (a text that changes by itself
would be written again and again). Texts of other systems are quoted as they came.

Every text is a ``Text``, whose template the catalogues translate (docs/languages.md); after a change: ``make messages``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal

from cosell_sync.core.deal import Customer, DealType, Member, Solution, State, Value
from cosell_sync.core.fields import NO_NAME
from cosell_sync.core.memory import FinalKind, Withheld, WithheldBy
from cosell_sync.core.texts import Day, Text, sentences
from cosell_sync.errors import Cure


def day(moment: datetime | date) -> str:
    return Text("%(day)s", day=Day(moment) if isinstance(moment, datetime) else moment)


def minute(moment: datetime) -> str:
    return Text("%(moment)s", moment=moment)


def listed(labels: Iterable[str]) -> str:
    """One, two or more of them: ``A``, ``A and B``, ``A, B and C``."""
    return Text("%(list)s", list=tuple(labels))


def shown(value: Value) -> str:
    """A value as a person would write it."""
    match value:
        case bool():
            return Text("yes") if value else Text("no")
        case Decimal():
            return Text("%(number)s", number=value)
        case datetime():
            return minute(value)
        case date():
            return day(value)
        case tuple() if value:
            return listed(
                item.name or item.id if isinstance(item, Solution) else person(item) for item in value
            )
        case tuple():
            return Text("nobody")
        case Customer():
            parts = (value.name, value.address_line1, value.address_line2, value.city)
            return ", ".join(part for part in (*parts, value.state, value.postal_code, value.country) if part)
        case str():
            return value if len(value) <= 200 else value[:197] + "..."
        case _:
            return Text("nothing")


def person(member: Member) -> str:
    """By name, else by e-mail address."""
    return " ".join(part for part in (member.first_name, member.last_name) if part) or member.email


def named(names: str) -> Text:
    """Names as a snapshot lists them; those who have none are said to."""
    parts = (NO_NAME if name == NO_NAME else name for name in names.split(", "))
    return sentences(*parts, between=", ")


_STATES = {
    State.RECEIVED: Text("not answered"),
    State.ACCEPTED: Text("accepted"),
    State.WON: Text("won"),
    State.LOST: Text("lost"),
    State.DECLINED: Text("declined"),
    State.EXPIRED: Text("expired"),
}


def _state(state: State) -> str:
    """The state inside a sentence about a deal."""
    return _STATES.get(state, state.lower())


def took(labels: Iterable[str]) -> Text:
    """Fields that were written to the CRM."""
    return Text("Taken over from Partner Center: %(fields)s.", fields=tuple(labels))


def sent(labels: Iterable[str]) -> Text:
    """Fields that were written to Partner Center."""
    return Text("Sent to Partner Center: %(fields)s.", fields=tuple(labels))


def imported(direction: str) -> Text:
    return (
        Text("New deal from Microsoft.")
        if direction == "Inbound"
        else Text("Taken over from Partner Center.")
    )


def blocked_account(new: str, alike: Iterable[str]) -> Text:
    """A duplicate rule of the CRM does not let the customer be made beside these accounts."""
    others = tuple(alike)
    if not others:
        return _out_of_sight(new)
    return Text(
        "The CRM refuses the new account %(new)s because it resembles %(others)s. If it is the same company, correct its name, "
        "postal code and country there; if not, ask your administrator to allow both.",
        new=new,
        others=others,
    )


def blocked_contact(new: str, alike: Iterable[str]) -> Text:
    """A duplicate rule of the CRM does not let the person be made beside these contacts."""
    others = tuple(alike)
    if not others:
        return _out_of_sight(new)
    return Text(
        "The CRM refuses the new contact %(new)s because it resembles %(others)s. If it is the same person, correct the e-mail "
        "address there; if not, ask your administrator to allow both.",
        new=new,
        others=others,
    )


def _out_of_sight(new: str) -> Text:
    return Text(
        "The CRM takes %(new)s for a duplicate of a record that the sync cannot read. Ask your administrator to allow both.",
        new=new,
    )


def shared_emails(emails: Iterable[str]) -> Text:
    """Several users of the CRM have one e-mail address, so it does not say who is meant."""
    return Text(
        "Several users of the CRM have the e-mail address %(emails)s, so nobody was added to the team for it. "
        "Ask your administrator to give each user an address of their own.",
        emails=tuple(sorted(emails)),
    )


def nobody_may_own() -> Text:
    return Text(
        "The CRM let none of the colleagues own this opportunity, so it belongs to the sync user. "
        "Take it over yourself, or ask your administrator to give the team the right to see opportunities."
    )


def account_differs(pairs: Iterable[tuple[str, str, str]]) -> Text:
    """What an account says otherwise than Partner Center: label, here, there."""
    apart = (
        Text(
            "%(field)s is %(here)s here and %(there)s in Partner Center.", field=label, here=here, there=there
        )
        for label, here, there in pairs
    )
    return sentences(*apart, Text("Both stay as they are, because other records may use this account."))


def linked() -> Text:
    return Text("This opportunity is now linked to its referral in Partner Center.")


MOVED = {
    State.RECEIVED: Text("Partner Center shows this deal as not answered."),
    State.ACCEPTED: Text("This deal was accepted."),
    State.WON: Text("This deal was won."),
    State.LOST: Text("This deal was lost."),
    State.DECLINED: Text("This deal was declined."),
    State.EXPIRED: Text("This deal expired because nobody answered it in time."),
    State.CLOSED: Text("This deal was closed."),
}


def moved(state: State, reason: str = "") -> Text:
    """The deal moved in Partner Center."""
    return (
        sentences(MOVED[state], Text("Reason given: %(reason)s", reason=reason)) if reason else MOVED[state]
    )


def done(state: State) -> str:
    """The seller's own move was taken; empty where there is nothing to say."""
    return {
        State.ACCEPTED: Text("You accepted this deal; Microsoft knows."),
        State.WON: Text("Partner Center now shows this deal as won."),
        State.LOST: Text("Partner Center now shows this deal as lost."),
        State.DECLINED: Text("You declined this deal; Microsoft knows."),
    }.get(state, "")


def answer_by(
    moment: datetime | None, reminder: int, action: str, accept: str = "", decline: str = ""
) -> Text:
    """``reminder``: 0 none yet, then 1, 2, 3 as 7, 3 and 1 days are left. ``action``: what the field is called; ``accept``,
    ``decline``: its choices by the CRM's labels.
    """
    choices = {
        "accept": accept or Text("Accept"),
        "decline": decline or Text("Decline"),
        "action": action,
    }
    if moment is None:
        return Text(
            "Microsoft waits for your answer: choose %(accept)s or %(decline)s under %(action)s.", **choices
        )
    due = Text(
        "Answer by %(day)s: choose %(accept)s or %(decline)s under %(action)s.", day=Day(moment), **choices
    )
    opening = ("", Text("Reminder:"), Text("Second reminder:"), Text("Last reminder:"))[reminder]
    return sentences(opening, due)


def conflict(label: str, referral: Value, opportunity: Value, kept: str | None) -> Text:
    """``kept``: partner_center, crm, or None where a person must decide."""
    both = Text(
        "%(field)s was changed on both sides: Partner Center has %(there)s, the CRM has %(here)s.",
        field=label,
        there=shown(referral),
        here=shown(opportunity),
    )
    if kept is None:
        return sentences(both, _DECIDE)
    return sentences(
        both, Text("Kept: Partner Center.") if kept == "partner_center" else Text("Kept: the CRM.")
    )


_DECIDE = Text("Give both the same value, or ask your administrator to decide.")


def both_over(referral: State, stage: str) -> Text:
    return Text(
        "Partner Center says this deal is %(state)s, the CRM says %(stage)s. Partner Center cannot be changed "
        "any more: set the stage that fits, or leave it as it is and tell your administrator.",
        state=_state(referral),
        stage=stage,
    )


def automation(label: str, referral: Value, opportunity: Value) -> Text:
    """An automation in the CRM rewrote our write, twice."""
    return Text(
        "Something in the CRM keeps changing %(field)s to %(here)s after Partner Center's %(there)s was written. "
        "Ask your administrator which automation changes this field.",
        field=label,
        here=shown(opportunity),
        there=shown(referral),
    )


def not_taken(label: str, referral: Value, opportunity: Value) -> Text:
    """A write landed, and Partner Center has something else than was sent."""
    held = Text(
        "Partner Center holds %(there)s for %(field)s although %(here)s was sent.",
        there=shown(referral),
        field=label,
        here=shown(opportunity),
    )
    return sentences(held, _DECIDE)


def needs(labels: Iterable[str], target: State) -> Text:
    """What must be filled in before this move."""
    fields = tuple(labels)
    match target:
        case State.ACCEPTED:
            return Text("To accept this deal, fill in %(fields)s.", fields=fields)
        case State.WON:
            return Text("To report this deal as won, fill in %(fields)s.", fields=fields)
        case State.LOST:
            return Text("To report this deal as lost, fill in %(fields)s.", fields=fields)
        case State.DECLINED:
            return Text("To decline this deal, fill in %(fields)s.", fields=fields)
        case _:
            return Text("To go on, fill in %(fields)s.", fields=fields)


def declines_by_stage(reason: str) -> Text:
    """A deal that is not accepted was closed by its stage, without a reason."""
    return Text(
        "Closing a deal you have not accepted declines it at Microsoft for good. To go on, choose a reason under %(reason)s. "
        "To keep the deal, move the stage back.",
        reason=reason,
    )


def cannot_be_empty(label: str, kept: Value) -> Text:
    return Text(
        "Partner Center needs %(field)s; it keeps %(kept)s. Please fill it in again.",
        field=label,
        kept=shown(kept),
    )


def frozen(label: str, why: str) -> Text:
    """Partner Center does not take this field; ``why`` ends the sentence."""
    return Text("%(field)s stays as you wrote it in the CRM but was not sent: %(why)s.", field=label, why=why)


def not_kept_in_step(label: str) -> Text:
    """Why a value that means something only with another one does not go over."""
    return Text("%(field)s differs and is not exchanged; your administrator can switch that on", field=label)


def unanswered(changes: Iterable[tuple[str, Value, Value]]) -> Text:
    """Edits that go along with the accept: label, here, there."""
    changed = list(changes)
    if len(changed) != 1:
        return Text("Accepting also sends your %(fields)s.", fields=tuple(label for label, *_ in changed))
    ((label, here, there),) = changed
    return Text(
        "Accepting also sends your %(field)s %(here)s (Microsoft's was %(there)s).",
        field=label,
        here=shown(here),
        there=shown(there),
    )


def unanswered_text(label: str) -> Text:
    """The same of one long text, which is not repeated."""
    return Text("Accepting also sends your %(fields)s.", fields=(label,))


def holding(target: State, until: datetime, *, with_accept: bool = False) -> Text:
    """An end waits out ``sync.terminal_hold``. ``with_accept``: and with it the answer to a deal that has none yet."""
    name = {State.WON: Text("Won"), State.LOST: Text("Lost"), State.DECLINED: Text("Declined")}
    end = name.get(target, target.value)
    if with_accept:
        return Text(
            "Accepted and %(end)s go to Partner Center together at %(until)s and cannot be undone there. "
            "Until then you can take both back by changing the stage.",
            end=end,
            until=until,
        )
    return Text(
        "%(end)s goes to Partner Center at %(until)s and cannot be undone there. "
        "Until then you can take it back by changing the stage or the action.",
        end=end,
        until=until,
    )


def accepted_in_time() -> Text:
    """A deal won before it was answered was accepted at once."""
    return Text(
        "The deal was accepted at once, because it would have expired before; only Won can be taken back."
    )


def taken_back(state: State) -> Text:
    """The seller took an end back while it waited out its hold."""
    match state:
        case State.WON:
            return Text("Your Won was taken back in time; Microsoft was not told of it.")
        case State.LOST:
            return Text("Your Lost was taken back in time; Microsoft was not told of it.")
        case _:
            return Text("Your refusal of this deal was taken back in time; Microsoft was not told of it.")


_WITHHELD = {
    FinalKind.ACCEPT: Text("Your acceptance"),
    FinalKind.DECLINE: Text("Your refusal of this deal"),
    FinalKind.WIN: Text("Won"),
    FinalKind.LOSE: Text("Lost"),
    FinalKind.POST: Text("Sharing this opportunity"),
    FinalKind.INVITE: Text("Your request for Microsoft's help"),
    FinalKind.VISIBILITY: Text("Showing this deal to Microsoft's sellers"),
}


def withheld(item: Withheld) -> Text:
    """A step that cannot be undone waits for a person's word: what, why, and who can release it."""
    why = {
        WithheldBy.COUNT: Text("many deals changed like this at once"),
        WithheldBy.STAGE: Text('the CRM has no stage "%(stage)s" any more', stage=item.stage),
        WithheldBy.UNMOVED: Text(
            "nobody moved this record to another stage (the stage itself means something else now)"
        ),
        WithheldBy.PRECONDITION: Text("the sync found a fault in its setup"),
    }[item.reason]
    return Text(
        "%(step)s has not gone to Partner Center, because %(why)s and it could not be undone there. "
        "Your administrator can release it.",
        step=_WITHHELD[item.kind],
        why=why,
    )


def hurried(until: datetime) -> Text:
    """Won so early that the deal registration may be refused."""
    return Text(
        "This deal is younger than 72 hours. Microsoft may refuse its deal registration when it is won before %(until)s.",
        until=until,
    )


def over(state: State) -> Text:
    return Text(
        "This deal is over in Partner Center (%(state)s); it cannot be changed there any more.",
        state=_state(state),
    )


def closed_otherwise(status: str, label: str) -> Text:
    """Closed with a second word that says neither won nor lost. ``label``: of the stage."""
    return Text(
        'Microsoft closed this deal as "%(status)s"; it cannot be changed there any more. '
        "Set the %(stage)s that fits, for the CRM was not told whether it is won or lost.",
        status=status,
        stage=label,
    )


def late(labels: Iterable[str]) -> Text:
    """Changed in the CRM after the end."""
    return Text("Changed after the end and not sent: %(fields)s.", fields=tuple(labels))


def paused(sync: str) -> Text:
    return Text(
        "Paused: nothing is exchanged with Partner Center until %(sync)s is switched on again.", sync=sync
    )


def paused_unanswered(until: datetime | None, sync: str, action: str) -> Text:
    """Sync is off on a deal that waits for an answer."""
    if until is None:
        return Text(
            "Microsoft waits for your answer: switch %(sync)s on, and what you chose under %(action)s is sent.",
            sync=sync,
            action=action,
        )
    return Text(
        "Microsoft waits for your answer by %(day)s: switch %(sync)s on, and what you chose under %(action)s is sent.",
        day=Day(until),
        sync=sync,
        action=action,
    )


def refused_action(action: str, state: State) -> Text:
    refused = Text(
        "%(action)s is not possible: this deal is already %(state)s.",
        action={"Accept": Text("Accept"), "Decline": Text("Decline")}.get(action, action),
        state=_state(state),
    )
    if state is State.ACCEPTED:
        return sentences(refused, Text("To end it, close it as won or lost."))
    return sentences(refused, Text("Nothing can be changed any more."))


def unknown_state(status: str) -> Text:
    return Text(
        'Partner Center shows the status "%(status)s", which is not known here; nothing is sent until that changes.',
        status=status,
    )


def crm_cannot(label: str, value: Value, why: str) -> Text:
    return Text(
        "Partner Center has %(there)s for %(field)s, which the CRM cannot hold: %(why)s.",
        there=shown(value),
        field=label,
        why=why,
    )


def stand_in(label: str, value: Value) -> Text:
    """The CRM needs a value, and Partner Center has none: ours stands there until somebody enters one."""
    return Text(
        "Enter the %(field)s: Microsoft gave none, and %(here)s only stands in for it.",
        field=label,
        here=shown(value),
    )


def no_customer(label: str) -> Text:
    """``label``: what the CRM calls the customer."""
    return Text("Choose the %(account)s: Microsoft named no customer.", account=label)


def amount_in_foreign_currency(label: str, own: str | None, money: str) -> Text:
    """``own``: the only currency of the CRM; None where it has several. ``money``: Microsoft's amount and currency."""
    return Text(
        "Enter the %(field)s in %(currency)s: Microsoft's is %(money)s, a currency that the CRM does not have.",
        field=label,
        currency=own or Text("one of the CRM's currencies"),
        money=money,
    )


def amount_without_currency(labels: Iterable[str], money: str) -> Text:
    return Text(
        "Enter the %(fields)s: Microsoft gave %(money)s without a currency.",
        fields=tuple(labels),
        money=money,
    )


def amount_does_not_fit(label: str, money: str) -> Text:
    return Text(
        "Enter the %(field)s: Microsoft's %(money)s does not fit here, so it was left empty.",
        field=label,
        money=money,
    )


def amount_unreadable(label: str) -> Text:
    return Text("Enter the %(field)s: what Microsoft gave is no amount.", field=label)


def amounts_apart(label: str, own: str, money: str) -> Text:
    """A CRM of one currency holds an amount of the seller's beside one of Microsoft's in another."""
    return Text(
        "%(field)s is in %(currency)s here and %(money)s at Microsoft; the two are not compared.",
        field=label,
        currency=own,
        money=money,
    )


def cannot_be_cleared(label: str, kept: Value) -> Text:
    """Partner Center emptied a field that the CRM needs."""
    return Text(
        "Enter the %(field)s you expect: Microsoft has none any more, and %(kept)s stays here meanwhile.",
        field=label,
        kept=shown(kept),
    )


def no_choice(label: str, value: Value) -> Text:
    """What Microsoft answered for a deal is none of the values that the CRM's list offers."""
    return Text(
        "Partner Center has %(there)s for %(field)s, which the list here does not offer. Ask your administrator to add it.",
        there=shown(value),
        field=label,
    )


def unseen(label: str) -> Text:
    """A field whose value the CRM does not show to the sync user: out of sight is not empty."""
    return Text(
        "%(field)s: the sync user is not allowed to see all of it here, so it is neither sent nor changed. "
        "Ask your administrator to share it.",
        field=label,
    )


NOT_SHOWN = Text("the sync user is not allowed to see it; ask your administrator")


def without_key_here(field: str, label: str, names: str) -> Text:
    """Who or what of a set in the CRM cannot be sent. ``names``: as they are listed there."""
    if field == "solutions":
        return Text(
            "Not sent to Microsoft, because the solution's id is missing: %(names)s (%(field)s). Please fill it in.",
            names=named(names),
            field=label,
        )
    return Text(
        "Not sent to Microsoft, because there is no e-mail address: %(names)s (%(field)s). Please add it.",
        names=named(names),
        field=label,
    )


def without_key_there(field: str, label: str, names: str) -> Text:
    """Who or what of a set in Partner Center cannot be shown in the CRM."""
    if field == "solutions":
        return Text(
            "Not shown here, because Partner Center has no id for it: %(names)s (%(field)s). "
            "A colleague can choose the solution again in Partner Center.",
            names=named(names),
            field=label,
        )
    return Text(
        "Not shown here, because Partner Center has no e-mail address: %(names)s (%(field)s). "
        "A colleague can add it in Partner Center.",
        names=named(names),
        field=label,
    )


WITHOUT_ID_THERE = Text(
    "one that has no id in Partner Center would be lost there; a colleague can correct that there"
)


def crm_refused(label: str, value: Value, why: str, cure: Cure) -> Text:
    """The CRM refused one field, and the rest landed; ``why``: its own words, quoted where the seller can end it."""
    what = {"value": shown(value), "field": label}
    match cure:
        case Cure.SELLER:
            return Text(
                "The CRM did not take %(value)s for %(field)s from Partner Center: %(words)s. It is tried again when you save "
                "this record.",
                words=_unended(why),
                **what,
            )
        case Cure.MICROSOFT:
            return Text(
                "The CRM did not take %(value)s for %(field)s from Partner Center, because of a fault of its own. "
                "There is nothing for you to do; it is tried again.",
                **what,
            )
        case Cure.TIME:
            return Text(
                "The CRM has not taken %(value)s for %(field)s from Partner Center yet. "
                "There is nothing for you to do; it is tried again.",
                **what,
            )
        case _:
            return Text(
                "The CRM did not take %(value)s for %(field)s from Partner Center, and the reason is not in what you entered. "
                "Please tell your administrator, who can see it; it is tried again.",
                **what,
            )


def partner_center_refused(label: str, value: Value, kept: Value, why: str, cure: Cure) -> Text:
    """Partner Center refused one field, and the rest landed; ``why``: as above."""
    what = {"value": shown(value), "field": label, "kept": shown(kept)}
    match cure:
        case Cure.SELLER:
            return Text(
                "Partner Center did not take %(value)s for %(field)s and keeps %(kept)s: %(words)s. Please correct it here.",
                words=_unended(why),
                **what,
            )
        case Cure.MICROSOFT:
            return Text(
                "Partner Center did not take %(value)s for %(field)s and keeps %(kept)s, because of a fault of its own. "
                "There is nothing for you to do; it is tried again.",
                **what,
            )
        case Cure.TIME:
            return Text(
                "Partner Center has not taken %(value)s for %(field)s yet and keeps %(kept)s. "
                "There is nothing for you to do; it is tried again.",
                **what,
            )
        case _:
            return Text(
                "Partner Center did not take %(value)s for %(field)s and keeps %(kept)s, and the reason is not in what you "
                "entered. Please tell your administrator, who can see it; it is tried again.",
                **what,
            )


def _unended(words: str) -> str:
    """Another system's words without the full stop that ends them; our own have none."""
    return words if isinstance(words, Text) else words.strip().rstrip(".")


def shortened(labels: Iterable[str]) -> Text:
    return Text(
        "Shortened to what the CRM can hold: %(fields)s. Partner Center keeps the whole.",
        fields=tuple(labels),
    )


def read_only(label: str, value: Value, why: str) -> Text:
    return Text(
        "Partner Center has %(there)s for %(field)s; it cannot be set in the CRM: %(why)s.",
        there=shown(value),
        field=label,
        why=why,
    )


def referral_gone() -> Text:
    return Text(
        "This deal cannot be found in Partner Center any more, or the sync user may not see it. Nothing was changed here. "
        "Ask your administrator to check its rights, or to unlink it."
    )


def refused_by(system: str, text: str, *, cure: Cure, parked: bool, labels: Sequence[str] = ()) -> Text:
    """A refusal, told by who ends it. Only what the seller can correct is quoted: other texts name codes and rights.

    ``labels``: of the fields that were refused, where that is known.
    """
    change = (
        Text("the last change of %(fields)s", fields=tuple(labels)) if labels else Text("the last change")
    )
    match cure:
        case Cure.SELLER:
            opening = Text(
                "%(system)s refused %(change)s: %(words)s",
                system=system,
                change=change,
                words=text if isinstance(text, Text) else _ended(text.strip()),
            )
            if parked:
                return sentences(opening, Text("Change the record to try again, or ask your administrator."))
            return sentences(opening, Text("Please correct it; it is tried again."))
        case Cure.MICROSOFT:
            return Text(
                "%(system)s could not process %(change)s because of a fault of its own. "
                "There is nothing for you to do; your administrator can report it.",
                system=system,
                change=change,
            )
        case Cure.TIME if parked:
            return Text(
                "%(system)s could not take %(change)s yet. There is nothing for you to do; your administrator can have it "
                "tried again.",
                system=system,
                change=change,
            )
        case Cure.TIME:
            return Text(
                "%(system)s could not take %(change)s yet. There is nothing for you to do; it is tried again.",
                system=system,
                change=change,
            )
        case _:
            return Text(
                "%(system)s does not take %(change)s, and the reason is not in what you entered. "
                "Please tell your administrator, who can see it; there is nothing for you to correct.",
                system=system,
                change=change,
            )


def _ended(words: str) -> str:
    """Somebody's words as a sentence, since another one follows."""
    return words if not words or words.endswith((".", "!", "?")) else f"{words}."


THE_CRM = Text("The CRM")


def waits_for_lock(since: datetime, *, long: bool) -> Text:
    """An approval, or an admin, holds the record. ``long``: for more than a day."""
    if long:
        return Text(
            "This record has been locked in the CRM since %(since)s, for example by an approval; the last change cannot be "
            "written. Ask whoever approves it, or your administrator, to release it.",
            since=since,
        )
    return Text(
        "This record has been locked in the CRM since %(since)s, for example by an approval; the last change is written "
        "once it is free. There is nothing for you to do.",
        since=since,
    )


def waits_for_admin(since: datetime) -> Text:
    """The CRM takes nothing until its administrator has acted: its storage is full."""
    return Text(
        "The CRM has stored nothing new since %(since)s; its administrator has to make room. "
        "The last change is written then; there is nothing for you to do.",
        since=since,
    )


def away(system: str, since: datetime) -> Text:
    """A transient failure that lasts."""
    return Text(
        "%(system)s has not taken the last change since %(since)s. It is tried again until it works; there is nothing for "
        "you to do.",
        system=system,
        since=since,
    )


def broken() -> Text:
    """An unexpected exception of ours; what and where stands in the log and in ``deals show``."""
    return Text(
        "The sync had an internal error with this deal and left it as it is. "
        "Your administrator has the details; there is nothing you need to do."
    )


def looks_alike(name: str) -> Text:
    """A referral may be the same deal as an opportunity that exists."""
    return Text(
        'Microsoft sent a deal that looks like this opportunity ("%(name)s"). Tell your administrator whether it is the same deal, '
        "to be linked, or a new one.",
        name=name,
    )


def expired_unseen(name: str) -> Text:
    """A referral expired while it was held, so no record ever told a seller of it."""
    return Text(
        'Microsoft\'s deal "%(name)s" expired unanswered: it was held back and never reached the CRM.',
        name=name,
    )


def claimed(name: str, opportunity_id: str) -> Text:
    """A referral names an opportunity that belongs to another referral."""
    return Text(
        'Microsoft\'s deal "%(name)s" names the opportunity %(opportunity)s, which belongs to another deal. Is it the same deal '
        "made again, or one of its own?",
        name=name,
        opportunity=opportunity_id,
    )


# --- deals made in the CRM ---------------------------------------------------------------------------------------


def choose_account(label: str) -> Text:
    """The opportunity has no account, so there is no customer to speak of."""
    if label[:1] in "AEIOU":
        return Text("Choose an %(account)s.", account=label)
    return Text("Choose a %(account)s.", account=label)


def ask_consent(label: str) -> Text:
    return Text(
        "Ask the customer whether their contact details may be shared, then tick %(consent)s.", consent=label
    )


def cannot_share(missing: Iterable[str], asked: Iterable[str] = ()) -> Text:
    """``missing``: what is to be filled in, beginning with its label; ``asked``: what else is to be done, in sentences."""
    return sentences(Text("Not shared with Partner Center yet."), *_to_do(missing, asked))


def cannot_widen(missing: Iterable[str], asked: Iterable[str] = ()) -> Text:
    return sentences(Text("Microsoft was not asked or told yet."), *_to_do(missing, asked))


def _to_do(missing: Iterable[str], asked: Iterable[str]) -> Iterable[Text]:
    labels = tuple(dict.fromkeys(missing))
    fill = [Text("Please fill in: %(fields)s.", fields=sentences(*labels, between="; "))] if labels else []
    return [*dict.fromkeys(each for each in asked if isinstance(each, Text)), *fill]


def closed_before_sharing(sync: str) -> Text:
    return Text(
        "Not shared with Partner Center: this opportunity is closed. Reopen it to share it, or switch %(sync)s off.",
        sync=sync,
    )


def shared(kind: DealType) -> Text:
    match kind:
        case DealType.PRIVATE:
            return Text("Shared with Partner Center as a private deal; Microsoft does not see it.")
        case DealType.PARTNER_LED:
            return Text("Shared with Partner Center; Microsoft's sellers can see it.")
        case _:
            return Text("Shared with Partner Center as a co-sell deal; Microsoft's sellers can see it.")


def widened() -> Text:
    return Text("Microsoft's sellers can see this deal now. That cannot be taken back.")


def one_way(label: str, why: str) -> Text:
    return Text("%(field)s was changed here, but not in Partner Center: %(why)s.", field=label, why=why)


def invited() -> Text:
    return Text("Microsoft was asked for help.")


_TO_ASK_AGAIN = Text("The deal goes on without Microsoft; to ask again, share it as a new opportunity.")


def joined() -> Text:
    """A deal became co-sell in Partner Center, or by Microsoft."""
    return Text(
        "This deal is a co-sell deal now: Microsoft was brought in through Partner Center. There is nothing for you to do."
    )


def microsoft_side(status: str, reason: str, until: datetime | None) -> str:
    """Microsoft's side of the deal, as last read. Declining without a reason: referrals FAQ."""
    word, _, end = (part.strip() for part in status.partition("/"))
    match word.capitalize(), end.capitalize():
        case "New", _ if until:
            return Text(
                "Microsoft has until %(day)s to answer your request; an answer is not certain.",
                day=Day(until),
            )
        case "New", _:
            return Text("Microsoft has to answer your request; an answer is not certain.")
        case "Active", _:
            return Text("Microsoft accepted and works on this deal.")
        case "Closed", "Declined" if reason.strip():
            why = Text("Microsoft declined your request: %(reason)s.", reason=reason.strip())
            return sentences(why, _TO_ASK_AGAIN)
        case "Closed", "Declined":
            why = Text(
                "Microsoft declined your request without a reason, as it does when the invitation ran out or "
                "the value is below USD 25,000."
            )
            return sentences(why, _TO_ASK_AGAIN)
        case "Closed", "Expired":
            return sentences(Text("Microsoft did not answer your request in time."), _TO_ASK_AGAIN)
        case "Closed", _:
            known = {state.value.casefold(): text for state, text in _STATES.items()}
            how = known.get(end.casefold()) or end.lower() or Text("without saying how")
            return Text("Microsoft closed its side of this deal: %(end)s.", end=how)
        case _:
            return Text("Microsoft's side of this deal: %(status)s.", status=status) if status else ""


_REGISTRATION = {
    "reviewpending": Text("Deal registration is being reviewed; nothing is to be done now."),
    "actionrequired": Text(
        "Deal registration needs something from you: open the deal by its link and complete the registration."
    ),
    "reviewpassed": Text("Deal registration passed the review."),
    "passed": Text("Deal registration passed the review."),
    "approved": Text("Deal registration was approved; nothing is to be done."),
    "reviewfailed": Text("Deal registration failed the review: open the deal by its link to see why."),
    "failed": Text("Deal registration failed: open the deal by its link to see why."),
    "rejected": Text("Deal registration was rejected: open the deal by its link to see why."),
}


def registration(status: str) -> Text:
    """The deal registration of a won deal, and what the seller must do (register deals; other words are shown as they come)."""
    return _REGISTRATION.get("".join(status.split()).casefold()) or Text(
        'Deal registration stands at "%(status)s"; the deal\'s link shows what that asks of you.',
        status=status,
    )
