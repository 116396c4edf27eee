"""``doctor``: every precondition checked, each with the one thing to do about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import typer
from rich.table import Table
from rich.text import Text

from cosell_sync.bootstrap import Program, check_crm, program
from cosell_sync.cli.common import ConfigOption, JsonOption, console, load, show_json
from cosell_sync.core.deal import State
from cosell_sync.cycle import binding
from cosell_sync.errors import AuthFailed, ConfigError, ForeignSystem, OutsideError
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, OUT_OF_REACH

_COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


@dataclass(frozen=True)
class Row:
    """One check. ``status``: ok, warning or fault. ``todo``: the one next step."""

    name: str
    status: str
    message: str
    todo: str = ""


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check settings, reachability, sign-ins, fields, stages and rights; each fault with its remedy."""
    loaded = load(config, "doctor")
    rows = [Row("settings", "ok", "the configuration is valid")]
    code = NEEDS_NOBODY
    with program(loaded, rebinding=True) as wired:
        rows.append(Row("store", "ok", "open and up to date"))
        rows.append(_connection(wired))
        outcome, out_of_reach = _partner_center(wired)
        rows.append(outcome)
        stages = [wired.rules.stages.for_state(state) for state in State if state is not State.UNKNOWN]
        stages += list(wired.rules.stages.sales)
        for check in check_crm(wired, list(dict.fromkeys(stages))):
            rows.append(Row(check.name, check.status, check.message, check.todo))
            out_of_reach = out_of_reach or check.error is not None
    if out_of_reach:
        code = OUT_OF_REACH
    elif any(row.status == "fault" for row in rows):
        code = NEEDS_A_PERSON
    if as_json:
        show_json({"checks": [asdict(row) for row in rows], "ok": code == NEEDS_NOBODY})
    else:
        table = Table("", "check", "found", "what to do", box=None, header_style="bold")
        for row in _condensed(rows):
            table.add_row(Text(row.status, _COLOURS[row.status]), row.name, row.message, row.todo)
        console().print(table)
    raise typer.Exit(code)


def _condensed(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows, with neighbours of one kind that are fine joined to one line, so that faults stand out."""
    for (kind, status), group in itertools.groupby(
        rows, lambda row: (row.name.rsplit(".", 1)[0], row.status)
    ):
        found = list(group)
        if status == "ok" and len(found) > 1:
            yield Row(kind, status, f"{len(found)} checked: {found[0].message}")
        else:
            yield from found


def _connection(wired: Program) -> Row:
    """To which org and tenant the store belongs, and whether those answer."""
    known = wired.store.bindings()
    try:
        found = binding.identities(wired.crm, wired.referrals)
        binding.refuse_others(known, found)
    except ForeignSystem as foreign:
        return Row("connection", "fault", str(foreign), foreign.hint)
    except (OutsideError, ConfigError):
        found = {}  # the checks of both systems say what is wrong
    told = " and ".join(binding.words(whose) for whose in (known or found).values())
    if known:
        return Row("connection", "ok", f"the store belongs to {told}")
    return Row("connection", "ok", f"the first cycle binds the store to {told or 'whoever answers then'}")


def _partner_center(wired: Program) -> tuple[Row, bool]:
    """Sign in and list referrals, as every cycle does; the row, and whether the system is out of reach."""
    try:
        page = next(iter(wired.referrals.changed_since(None, wired.cycle_settings.overlap)), None)
    except AuthFailed as error:
        return Row("Partner Center", "fault", f"sign-in refused ({error.code}): {error}", error.hint), True
    except OutsideError as error:
        hint = error.hint or "check partner_center.base_url and the network"
        return Row("Partner Center", "fault", f"not reachable: {error}", hint), True
    except ConfigError as error:
        return Row("Partner Center", "fault", str(error), error.hint), False
    seen = len(page.snapshots) if page else 0
    if not seen:
        return Row(
            "Partner Center",
            "warning",
            "signed in, but no referral is visible",
            "if there are some: give the sync user the role Referrals admin for all locations",
        ), False
    return Row("Partner Center", "ok", "signed in, referrals can be read"), False
