"""``deals``: the store's view of deals, and the commands that change what is remembered of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.table import Table

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.cli.common import ConfigOption, JsonOption, console, show, show_json
from cosell_sync.cli.deal_list import list_deals
from cosell_sync.cli.deal_lookup import deal_row, known, opened, two_ids, whole
from cosell_sync.cli.deal_orders import check_conflict, ordered
from cosell_sync.cli.deal_todo import todo
from cosell_sync.core.as_json import fields_to_json, to_json
from cosell_sync.core.deal import Side
from cosell_sync.core.fields import SHARED
from cosell_sync.core.memory import Action, JournalEntry, Link, OperatorCommand, Phase, Verb
from cosell_sync.core.retry import may_be_retried
from cosell_sync.core.rules import Rules
from cosell_sync.core.waiting import Waiting, waiting
from cosell_sync.cycle.commands import Refused, links_after, obey
from cosell_sync.cycle.safety import shape_of
from cosell_sync.errors import Busy, ConfigError
from cosell_sync.ports import ErasureResult
from cosell_sync.store.sql import SqlStore

app = typer.Typer(
    help="See deals and free what is stuck. Deals go by referral id or opportunity id.", no_args_is_help=True
)

Target = Annotated[str, typer.Argument(metavar="ID", help="A referral id or an opportunity id.")]
LANDED = frozenset({Action.CREATE, Action.UPDATE, Action.MOVE, Action.REPORT})
AT_WORK = (Phase.LINKED, Phase.WAITING)
DECIDED = frozenset({Action.CONFLICT, Action.RESOLVE})


app.command(name="list")(list_deals)


@app.command(name="show")
def show_deal(target: Target, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show one deal: both sides, what is remembered of it, and its history.

    Example: cosell-sync deals show 0065g00000Xk3ZQAAZ --config my.yaml
    """
    with opened(config) as (store, rules):
        link = known(store, target)
        history = [
            {
                "at": whole(entry.at),
                "cycle_id": entry.cycle,
                "side": entry.side.value,
                "action": entry.action,
                "field": rules.crm_name(entry.field) if entry.field else None,
                "old": to_json(entry.old, extras=False),
                "new": to_json(entry.new, extras=False),
                "rule": entry.rule,
            }
            for entry in store.journal(link.key)
        ]
        waits = [_waiting_row(item, rules) for item in _waiting(store, link, rules)]
    fields = [
        {
            "field": rules.crm_name(name),
            "partner_center": to_json(link.referral[name], extras=False) if link.referral else None,
            "crm": to_json(link.opportunity[name], extras=False) if link.opportunity else None,
        }
        for name in SHARED
    ]
    data = {**deal_row(store, link), "fields": fields, "waiting": waits, "history": history}
    if as_json:
        data["base"] = {
            "partner_center": fields_to_json(link.base_referral),
            "crm": fields_to_json(link.base_opportunity),
        }
        show_json(data)
        return
    out = console()
    out.print(f"referral {link.referral_id}, opportunity {link.opportunity_id}")
    out.print(f"{data['status']}, {data['sync_state']}. {data['todo'] or ''}")
    both = Table("field", "Partner Center", "CRM", box=None, header_style="bold")
    for row in fields:
        both.add_row(row["field"], _cell(row["partner_center"]), _cell(row["crm"]))
    out.print(both)
    for row in waits:
        out.print(_sentence(row))
    past = Table("when", "side", "what", "field", "old", "new", "why", box=None, header_style="bold")
    for line in history:
        past.add_row(
            line["at"],
            line["side"],
            line["action"],
            line["field"],
            _cell(line["old"]),
            _cell(line["new"]),
            line["rule"],
        )
    out.print(past)


@app.command()
def explain(
    target: Target,
    field: Annotated[str | None, typer.Argument(help="A field, by its CRM name; else all.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say of each field what landed (when, from what, by which rule) and what waits (why, until when).

    Example: cosell-sync deals explain 0065g00000Xk3ZQAAZ Amount --config my.yaml
    """
    with opened(config) as (store, rules):
        link = known(store, target)
        names = _names(field, rules) if field else None
        lines = [
            line
            for line in store.journal(link.key, limit=10_000)
            if line.field is not None and (names is None or line.field in names)
        ]
        pending = [
            item for item in _waiting(store, link, rules) if names is None or item.field in {None, *names}
        ]
    rows = [_landed_row(line, rules) for line in newest(line for line in lines if line.action in LANDED)]
    rows += [_decided_row(line, rules) for line in newest(line for line in lines if line.action in DECIDED)]
    rows += [_waiting_row(item, rules) for item in pending]
    if as_json:
        show_json(rows)
        return
    if not rows:
        show(_nothing(link))
    for row in rows:
        show(_sentence(row))


def _nothing(link: Link) -> str:
    """Where nothing landed and nothing waits: what is to be done about the deal, else that all is as people left it."""
    if link.phase is Phase.SKIPPED:
        return "cosell-sync leaves this deal alone: a lead, another organization's, or closed before the first cycle."
    return todo(link) or "cosell-sync has written nothing there: both sides hold what people put there."


def _waiting(store: SqlStore, link: Link, rules: Rules) -> list[Waiting]:
    shape = shape_of(store.cycle_state().shape)
    return waiting(link, store.intents([link.key]), rules, shape, utc_now())


def newest(lines: Iterable[JournalEntry]) -> Iterator[JournalEntry]:
    """The newest line of each field and side; the lines come newest first."""
    seen: set[tuple[str | None, Side]] = set()
    for line in lines:
        if (line.field, line.side) not in seen:
            seen.add((line.field, line.side))
            yield line


def _landed_row(line: JournalEntry, rules: Rules) -> dict[str, Any]:
    return {
        "field": rules.crm_name(line.field or ""),
        "side": line.side.value,
        "value": to_json(line.new, extras=False),
        "before": to_json(line.old, extras=False),
        "at": whole(line.at),
        "cycle_id": line.cycle,
        "rule": f"{line.action}: {line.rule}",
        "status": "landed",
        "reason": line.rule,
        "until": None,
    }


def _decided_row(line: JournalEntry, rules: Rules) -> dict[str, Any]:
    """A conflict that was named, or a person's answer: by itself it wrote nothing."""
    return {**_landed_row(line, rules), "status": "decided"}


def _waiting_row(item: Waiting, rules: Rules) -> dict[str, Any]:
    return {
        "field": rules.crm_name(item.field) if item.field else None,
        "side": item.side.value,
        "value": to_json(item.value, extras=False),
        "before": to_json(item.before, extras=False),
        "at": None,
        "cycle_id": None,
        "rule": f"{item.kind}: {item.reason}",
        "status": item.kind.value,
        "reason": item.reason,
        "until": whole(item.until),
    }


def _sentence(row: dict[str, Any]) -> str:
    """One row of ``explain`` for people."""
    about = f"{row['field'] or 'The deal'} on the {row['side']} side"
    value, before = _cell(row["value"]) or "empty", _cell(row["before"]) or "empty"
    match row["status"]:
        case "landed":
            said = f": {value} (before: {before})\n  written {row['at']} in cycle {row['cycle_id']}: {row['rule']}"
        case "decided":
            said = f": decided {row['at']} in cycle {row['cycle_id']}, which wrote nothing by itself: {row['rule']}"
        case kind:
            values = f": {value} is not written (there: {before})" if row["field"] else ""
            until = f" (until {row['until']})" if row["until"] else ""
            said = f"{values}\n  {kind}{until}: {row['reason']}"
    return about + said


def _names(field: str, rules: Rules) -> list[str]:
    """Our names of a field that was given by its CRM name or ours. Raises ConfigError for one nobody knows."""
    names = [name for name in rules.fields if field in {name, rules.crm_name(name)}]
    if not names:
        known = sorted({rules.crm_name(name) for name in rules.fields})
        raise ConfigError(f"{field} is no field of a deal", hint=f"one of: {', '.join(known)}")
    return names


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item.get("email") or item.get("id")) for item in value)
    if isinstance(value, dict):
        return ", ".join(str(item) for item in value.values() if item)
    return "" if value is None else str(value)


def _carry_out(config: Any, command: OperatorCommand, done: str, queued: str) -> None:
    """Do it now and say ``done``, or leave it for the process that holds the store and say ``queued``."""
    with opened(config) as (store, _):
        if command.verb != Verb.LINK:
            known(store, command.target)
        try:
            links_after(command, store)  # what cannot be done is refused at once, whoever would do it
            holder, _ = _obey_or_submit(store, command)
        except Refused as refusal:
            raise ConfigError(str(refusal)) from refusal
    show(done if holder is None else f"{queued} {holder} does it in its next cycle.")


def _obey_or_submit(store: SqlStore, command: OperatorCommand) -> tuple[str | None, ErasureResult | None]:
    """Carry the command out. Where another process holds the store it is left there, and that process is named."""
    try:
        with store.lease(timedelta()):
            return None, obey(store, command, cycle_id=uuid4().hex[:12], now=utc_now())
    except Busy as busy:
        store.submit(command)
        return busy.holder, None


@app.command()
def retry(
    target: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="A referral id or an opportunity id.", show_default=False),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every deal that failed, is parked or holds a refused field.")
    ] = False,
    config: ConfigOption = None,
) -> None:
    """Try a deal again in the next cycle that failed, is parked or holds a refused field.

    Example: cosell-sync deals retry 0065g00000Xk3ZQAAZ --config my.yaml
    """
    later = "It will be tried again."
    if every == (target is not None):
        raise ConfigError("name the deal to try again, or give --all")
    if target is not None:
        _carry_out(config, ordered(Verb.RETRY, target), f"{later} The next sync tries it.", later)
        return
    with opened(config) as (store, _):
        found = [each for each in store.links(AT_WORK) if may_be_retried(each.memory)]
        ids = [each.referral_id or each.opportunity_id or "" for each in found]
        holders = [_obey_or_submit(store, ordered(Verb.RETRY, each))[0] for each in ids]
    if not ids:
        show("Nothing failed, is parked or was refused.")
        return
    holder = next((each for each in holders if each is not None), None)
    deals = "1 deal" if len(ids) == 1 else f"{len(ids)} deals"
    who = "The next sync tries" if holder is None else f"{holder} tries"
    show(f"{deals} will be tried again: {', '.join(ids)}. {who} them.")


@app.command()
def link(
    referral: Annotated[str, typer.Argument(help="The referral's id.")],
    opportunity: Annotated[str, typer.Argument(help="The opportunity's id.")],
    config: ConfigOption = None,
) -> None:
    """Join a referral and an opportunity that exist already; their fields are merged, nothing is deleted.

    Example: cosell-sync deals link 2cd2cd50-3a3f-4a6b-9d0e-0f5f2a1c7d11 0065g00000Xk3ZQAAZ --config my.yaml
    """
    mine, other = two_ids(config, referral, opportunity)
    done = "They are linked. The next sync merges their fields."
    _carry_out(config, ordered(Verb.LINK, mine, other=other), done, "They will be linked.")


@app.command()
def create(
    referral: Annotated[str, typer.Argument(help="The referral's id.")], config: ConfigOption = None
) -> None:
    """Make the opportunity of a referral that was held because another one looks like it.

    Example: cosell-sync deals create 2cd2cd50-3a3f-4a6b-9d0e-0f5f2a1c7d11 --config my.yaml
    """
    later = "Its opportunity will be made."
    _carry_out(config, ordered(Verb.CREATE, referral), f"{later} The next sync makes it.", later)


@app.command()
def unlink(target: Target, config: ConfigOption = None) -> None:
    """Part a pair for good: nothing is written, imported or shared again until `deals link`.

    Example: cosell-sync deals unlink 0065g00000Xk3ZQAAZ --config my.yaml
    """
    _carry_out(config, ordered(Verb.UNLINK, target), "They are parted.", "They will be parted.")


@app.command()
def approve(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="ID…", help="Referral ids or opportunity ids.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every deal of which a step is withheld now.")] = False,
    config: ConfigOption = None,
) -> None:
    """Let withheld steps through that cannot be undone: each as the record asks for it now, and no later one.

    Example: cosell-sync deals approve --all --config my.yaml
    """
    if every == bool(targets):
        raise ConfigError("name the deals to approve, or give --all")
    with opened(config) as (store, _):
        found = [known(store, target) for target in targets or ()] or list(store.withheld())
    if not found:
        show("Nothing is withheld.")
    for each in found:
        target = each.referral_id or each.opportunity_id or ""
        later = f"{target} is approved."
        _carry_out(config, ordered(Verb.APPROVE, target), f"{later} The next sync carries it out.", later)


@app.command()
def forget(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="The person's e-mail address.")],
    config: ConfigOption = None,
) -> None:
    """Remove a person's data from history, snapshots and open writes. May be repeated.

    Both systems stay as they are: take the person out there first, else the next reading brings the data back.

    Example: cosell-sync deals forget lena@customer.example --config my.yaml
    """
    if email.count("@") != 1:
        raise ConfigError("that is no e-mail address")
    with opened(config) as (store, _):
        holder, forgotten = _obey_or_submit(store, ordered(Verb.FORGET, email))
    if forgotten is None:
        show(f"{holder} forgets this person in its next cycle.")
        return
    show(
        f"Forgotten: {forgotten.deals} deals, {forgotten.intents} open writes and {forgotten.journal} lines of history"
        " held something of this person."
    )


@app.command()
def resolve(
    target: Target,
    field: Annotated[str, typer.Argument(help="The field in conflict, by its CRM name.")],
    keep: Annotated[str, typer.Option("--keep", help="Whose value wins: crm or partner_center.")],
    config: ConfigOption = None,
) -> None:
    """Decide a conflict: whose value of this field wins.

    Example: cosell-sync deals resolve 0065g00000Xk3ZQAAZ CloseDate --keep crm --config my.yaml
    """
    if keep not in set(Side):
        raise ConfigError(f"--keep {keep}: must be crm or partner_center")
    with opened(config) as (store, rules):
        name = next((name for name in _names(field, rules) if name in SHARED), None)
        if name is None:
            raise ConfigError(f"{field} is no field that both sides hold")
        deal = known(store, target)
        waits = _waiting(store, deal, rules)
    try:
        check_conflict(deal, waits, rules, name, said=(field, target))
    except Refused as refusal:
        raise ConfigError(str(refusal)) from refusal
    command = ordered(Verb.RESOLVE, target, field=name, side=keep)
    done = "It is decided. The next sync writes it."
    _carry_out(config, command, done, "It will be decided like that.")
