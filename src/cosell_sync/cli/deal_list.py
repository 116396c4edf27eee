"""``deals list``: which deals there are, how they stand, and what a person is to do; filtered by what operators ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.cli.common import ConfigOption, JsonOption, console, show, show_json
from cosell_sync.cli.deal_lookup import customer_of, deal_row, name_of, opened, since
from cosell_sync.cli.deal_todo import URGENT
from cosell_sync.core.deal import Side, State, SyncState
from cosell_sync.core.memory import Link, Phase
from cosell_sync.core.rules import Rules
from cosell_sync.core.waiting import waiting
from cosell_sync.cycle.safety import shape_of
from cosell_sync.errors import ConfigError
from cosell_sync.settings.values import parse_duration
from cosell_sync.store.sql import SqlStore

WORDS: Final = (
    *(each.value for each in SyncState),
    *(each.value for each in State if each is not State.UNKNOWN),
)
_CHUNK: Final = 200  # deals of which the open writes are asked for together
_WIDE: Final = 200  # columns from which both ids stand side by side


def list_deals(
    config: ConfigOption = None,
    attention: Annotated[bool, typer.Option("--attention", help="Only deals that need a person.")] = False,
    withheld: Annotated[
        bool, typer.Option("--withheld", help="Only deals of which a step waits to be approved.")
    ] = False,
    states: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            metavar="WORD",
            help="Only deals with this sync state or status, such as Waiting or Received; may be repeated.",
            show_default=False,
        ),
    ] = None,
    expiring: Annotated[
        str | None,
        typer.Option(
            "--expiring",
            metavar="DURATION",
            help="Only unanswered deals that expire within this time (3d, 12h), the first to expire first.",
        ),
    ] = None,
    older: Annotated[
        str | None,
        typer.Option(
            "--older",
            metavar="DURATION",
            help="Only deals that have failed, been refused or held back a close for longer than this (7d).",
        ),
    ] = None,
    side: Annotated[
        str | None,
        typer.Option(
            "--side", help="Only deals of which something waits to be written there: crm or partner_center."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", help="Only deals with this in their name, customer or ids; case does not count."
        ),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those skipped and unlinked.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List deals with their state and, where a person must act, what to do.

    Filters add up: a deal is listed that passes all of them.

    Example: cosell-sync deals list --state "Needs attention" --older 7d --config my.yaml
    """
    wanted, where = _words(states or []), _side(side)
    within, longer = _duration("--expiring", expiring), _duration("--older", older)
    phases = tuple(Phase) if every else (Phase.LINKED, Phase.WAITING)
    now = utc_now()
    with opened(config) as (store, rules):
        links: Iterable[Link] = (
            store.links(phases, URGENT if attention else SyncState)
            if within is None
            else (each for each in store.expiring(now + within) if each.phase in phases)
        )
        passes: list[tuple[bool, Callable[[Link], bool]]] = [
            (attention, lambda each: each.memory.sync_state in URGENT),
            (withheld, lambda each: bool(each.memory.withheld)),
            (bool(wanted), lambda each: bool(wanted & _standing(each))),
            (text is not None, lambda each: _holds(each, text or "")),
            (
                longer is not None,
                lambda each: _began_before(since(store, each), now - (longer or timedelta())),
            ),
        ]
        asked = [check for is_asked, check in passes if is_asked]
        links = (each for each in links if all(check(each) for check in asked))
        if where is not None:
            links = _waiting_for(where, links, store, rules, now)
        rows = [deal_row(store, each) for each in links]
    if as_json:
        show_json(rows)
    elif rows:
        _print(rows, deadlines=within is not None)
    else:
        show("No deals.")


def _words(given: Sequence[str]) -> frozenset[str]:
    """The words of ``--state`` as they are stored. Raises ConfigError for one that nothing is called."""
    known = {_plain(word): word for word in WORDS}
    for word in given:
        if _plain(word) not in known:
            raise ConfigError(
                f"--state {word}: no deal is called that", hint=f"one of: {', '.join(dict.fromkeys(WORDS))}"
            )
    return frozenset(known[_plain(word)] for word in given)


def _plain(word: str) -> str:
    """So that ``needs-attention`` and ``in_sync`` are understood, which need no quotes in a shell."""
    return " ".join(word.replace("-", " ").replace("_", " ").casefold().split())


def _side(given: str | None) -> Side | None:
    if given is not None and given not in set(Side):
        raise ConfigError(f"--side {given}: must be crm or partner_center")
    return Side(given) if given else None


def _duration(option: str, given: str | None) -> timedelta | None:
    if given is None:
        return None
    try:
        return parse_duration(given)
    except ValueError as error:
        raise ConfigError(f"{option} {given}: {error}") from error


def _standing(link: Link) -> set[str]:
    status = link.referral.text("state") if link.referral else ""
    return {link.memory.sync_state.value, status}


def _holds(link: Link, text: str) -> bool:
    looked_in = (name_of(link), customer_of(link), link.referral_id, link.opportunity_id)
    return any(text.casefold() in each.casefold() for each in looked_in if each)


def _began_before(began: datetime | None, moment: datetime) -> bool:
    return began is not None and began <= moment


def _waiting_for(
    side: Side, links: Iterable[Link], store: SqlStore, rules: Rules, now: datetime
) -> Iterator[Link]:
    """Those of which something waits to be written on this side."""
    shape, rest = shape_of(store.cycle_state().shape), iter(links)
    while chunk := list(islice(rest, _CHUNK)):
        opened_writes = store.intents([link.key for link in chunk])
        for link in chunk:
            intents = [intent for intent in opened_writes if intent.link == link.key]
            if any(item.side is side for item in waiting(link, intents, rules, shape, now)):
                yield link


def _print(rows: Sequence[dict[str, Any]], *, deadlines: bool) -> None:
    """``deadlines``: of linked deals as well, whose record shows theirs."""
    out = console()
    wide = out.width >= _WIDE
    table = Table(box=None, header_style="bold")
    for column in ("referral", "opportunity") if wide else ("referral\nopportunity",):
        table.add_column(column, no_wrap=True)
    table.add_column("name", no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column("customer", no_wrap=True, overflow="ellipsis", max_width=20)
    waits = any(each["withheld"] for each in rows)
    for column in ("status", "state", *(("withheld",) if waits else ())):
        table.add_column(column, overflow="fold")
    table.add_column("what to do", overflow="fold", min_width=24)
    for each in rows:
        told = each["respond_by"] and (deadlines or not each["opportunity_id"])
        until = f"Answer by {each['respond_by']}. " if told else ""
        ids = [each["referral_id"] or "", each["opportunity_id"] or ""]
        table.add_row(
            *(ids if wide else ["\n".join(filter(None, ids))]),
            *(each[name] or "" for name in ("name", "customer", "status", "sync_state")),
            *((", ".join(item["kind"] for item in each["withheld"]),) if waits else ()),
            f"{until}{each['todo'] or ''}".strip(),
        )
    out.print(table)
