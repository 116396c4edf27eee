"""``doctor``: every precondition checked, each with the one thing to do about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Final

import typer
from rich.table import Table
from rich.text import Text

from cosell_sync.bootstrap.notices import notice_targets
from cosell_sync.bootstrap.program import Program, program
from cosell_sync.bootstrap.store import store_of
from cosell_sync.checks import check_crm
from cosell_sync.cli.common import ConfigOption, JsonOption, console, load_all, of_connection, show_json
from cosell_sync.cli.lazy import CONNECTION
from cosell_sync.core.capabilities import (
    FAILED,
    IGNORED,
    READ,
    TAKEN,
    Capability,
    Verdict,
    again_at,
    stands,
)
from cosell_sync.core.deal import Side
from cosell_sync.core.notices import MOST_TRIES
from cosell_sync.core.preconditions import stage_faults
from cosell_sync.cycle import binding
from cosell_sync.errors import AuthFailed, ConfigError, ForeignSystem, OutsideError, Surprise
from cosell_sync.notices.sender import suspicious
from cosell_sync.partner_center.sight import Sight
from cosell_sync.settings import Configuration, Settings, check_all, shared_organizations, value_lists
from cosell_sync.settings.connections import organization
from cosell_sync.store.binding import others
from cosell_sync.store.connections import turn
from cosell_sync.store.removal import left_over
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, OUT_OF_REACH

PARTNER_CENTER = "Partner Center"
VISIBLE = "referrals visible"
LOCATIONS = 8  # that are named, the most frequent first
MISSING = (
    "if a referral that Microsoft announced is missing: it belongs to another tenant of the same account, or to a location that "
    "the role of the signed-in user does not cover"
)
_COLOURS = {"ok": "green", "warning": "yellow", "fault": "red"}


@dataclass(frozen=True)
class Row:
    """One check. ``status``: ok, warning or fault. ``todo``: the one next step."""

    name: str
    status: str
    message: str
    todo: str = ""


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check settings, reachability, sign-ins, fields, stages and rights; each fault with its remedy.

    Example: cosell-sync doctor --config my.yaml
    """
    configuration = load_all(config)
    loaded = of_connection(configuration, CONNECTION.get(), "doctor")
    rows, code = checked(loaded)
    rows = [*rows, *_neighbours(configuration, loaded)]
    if as_json:
        show_json({"checks": [asdict(row) for row in rows], "ok": code == NEEDS_NOBODY})
    else:
        table = Table("", "check", "found", "what to do", box=None, header_style="bold")
        for row in _condensed(rows):
            table.add_row(Text(row.status, _COLOURS[row.status]), row.name, row.message, row.todo)
        console().print(table)
    raise typer.Exit(code)


def _neighbours(configuration: Configuration, loaded: Settings) -> Iterator[Row]:
    """Whether another connection writes to the same CRM, and whether the store keeps the data of one that is configured no more."""
    valid, _ = check_all(configuration, "deals")
    mine = organization(loaded)
    for warning in shared_organizations(each for each in valid.values() if organization(each) == mine):
        yield Row("connections", "warning", warning, "give each connection a CRM of its own")
    with closing(store_of(loaded)) as store:
        for name in left_over(store.engine, configuration.names):
            told = f"the store keeps the data of a connection that is not configured: {name}"
            yield Row("connections", "warning", told, f"cosell-sync connection forget {name}")


def checked(loaded: Settings) -> tuple[Sequence[Row], int]:
    """Every check, and the exit code that follows."""
    rows = [Row("settings", "ok", f"the configuration is valid{loaded.origin.words()}")]
    with program(loaded, rebinding=True) as wired:
        rows.append(Row("store", "ok", "open and up to date"))
        if (since := turn(wired.store.engine, loaded.connection).paused_at) is not None:
            todo = f"cosell-sync connection resume {loaded.connection}"
            rows.append(Row("paused", "warning", f"a person paused it on {since:%Y-%m-%d %H:%M} UTC", todo))
        rows += _value_lists(wired)
        rows.append(_connection(wired))
        rows += _same_org(wired)
        found, out_of_reach = _partner_center(wired)
        rows += found
        rows += _found_out(wired)
        rows += _notices(wired)
        unreachable = False
        for check in check_crm(wired.settings.crm, wired.crm, wired.stages):
            rows.append(Row(check.name, check.status, check.message, check.todo))
            unreachable = unreachable or check.error is not None
        if not unreachable:
            rows += _meanings(wired)
            rows += _ambiguous(wired, rows)
            rows += _owners(wired)
    if out_of_reach or unreachable:
        return rows, OUT_OF_REACH
    faulty = any(row.status == "fault" for row in rows)
    return rows, NEEDS_A_PERSON if faulty else NEEDS_NOBODY


def _meanings(wired: Program) -> list[Row]:
    """What the configured stages mean in the CRM; the cycle asks the same before a step that cannot be undone."""
    try:
        stages = wired.crm.stages()
    except OutsideError as error:
        return [Row("mapping.stages", "fault", str(error), error.hint)]
    faults = [fault for fault in stage_faults(wired.rules, stages) if fault.stage in stages]
    return [Row(fault.name, "fault", fault.text, fault.todo) for fault in faults] or [
        Row("mapping.stages", "ok", "each stage is open, won or lost in the CRM as it is used here")
    ]


def _ambiguous(wired: Program, rows: Sequence[Row]) -> Iterator[Row]:
    """Names of stages in the mapping that several stages of the CRM have; those with a fault already are left out."""
    try:
        shape = wired.crm.shape()
    except (OutsideError, Surprise):
        return  # another check names it
    faulty = {row.name.rpartition(".")[2] for row in rows if row.status == "fault"}
    for name, text, todo in wired.rules.stages.problems(shape):
        if name not in shape.stages and name not in faulty:
            yield Row(f"stages.{name}", "fault", text, todo)


def _owners(wired: Program) -> Iterator[Row]:
    """Configured owners whom the CRM does not know; their deals would go to the next in line, at last to the sync user."""
    mapping = wired.settings.mapping
    asked = {f"mapping.owner_by_location.{place}": name for place, name in mapping.owner_by_location.items()}
    if mapping.default_owner:
        asked["mapping.default_owner"] = mapping.default_owner
    for key, name in asked.items():
        try:
            known = wired.crm.names_user(name)
        except OutsideError:
            return  # another check names it
        if not known:
            text = "no active user has this name or address, or several have the address; the deals go to another owner"
            yield Row(
                key, "warning", text, "give the user name, or an e-mail address that one active user has"
            )


def _found_out(wired: Program) -> Iterator[Row]:
    """What is left to ``auto``: what was found out, how and when, and how to ask again; or what will find it out."""
    now, settings = wired.clock(), wired.cycle_settings
    known = {verdict.capability: verdict for verdict in wired.store.verdicts()}
    under: dict[Capability, str | None] = {**settings.basis}
    if settings.closed_rows == "auto":
        under[Capability.CLOSED_ROWS] = wired.store.cycle_state().rules or ""
    for capability in (each for each in Capability if each in under):
        verdict = known.get(capability)
        name = (
            f"{wired.settings.crm}.{capability}" if capability is Capability.CLOSED_ROWS else capability.value
        )
        if verdict is None or not stands(verdict, under[capability], now):
            yield Row(name, "ok", f"not known yet; found out {_TRIED_BY[capability]}")
        else:
            yield Row(name, "ok", _answer(verdict), _AGAIN if name.startswith("mapping.") else "")


_AGAIN: Final = "to have it asked again, set it to a value of its own for one cycle, then to auto"
# When it is found out, where nothing is known yet.
_TRIED_BY: Final[Mapping[Capability, str]] = MappingProxyType(
    {
        Capability.WRITE_NAME: "with the first rename in the CRM",
        Capability.WRITE_FAVORITE: "with the first heart set in the CRM",
        Capability.SALES_STAGE: "with the first sales stage that is read or sent",
        Capability.CLOSED_ROWS: "with the first closed opportunity that is to be told something",
        Capability.CHANGES_FILTER: "in the next cycle",
        Capability.ENGAGEMENT_FILTER: "with the first deal shared with Microsoft",
    }
)
_HOW: Final[Mapping[str, str]] = MappingProxyType(
    {
        TAKEN: "a call was answered so",
        READ: "read in Microsoft's own values",
        IGNORED: "answered with success, and the old value stayed",
        FAILED: "answered with an error of the system",
    }
)


def _answer(verdict: Verdict) -> str:
    how, on = _HOW.get(verdict.code, f"refused with {verdict.code or 'no code'}"), f"{verdict.at:%Y-%m-%d}"
    again = again_at(verdict)
    text = f"auto found out: {verdict.answer} ({how}, {on})"
    return f"{text}; may be tried once more from {again:%Y-%m-%d} on" if again else text


def _notices(wired: Program) -> Iterator[Row]:
    """Each receiver of notices by its host, and what waits for it. Nothing is sent there."""
    for number, target in enumerate(notice_targets(wired.settings)):
        name, backlog = f"notices.{number}", wired.outbox.backlog(target.digest)
        told = f"{target.format} to {target.name}: {', '.join(sorted(target.kinds))}"
        if backlog.waiting:
            told = f"{told}; {backlog.waiting} to be sent"
        if wrong := suspicious(target):
            yield Row(name, "warning", f"{told}; {wrong}", "correct its url or its format")
        elif backlog.given_up:
            text = f"{told}; {backlog.given_up} were not taken in {MOST_TRIES} tries"
            yield Row(name, "warning", text, "run cosell-sync notices test, and give it a url that works")
        else:
            yield Row(name, "ok", told)


def _value_lists(wired: Program) -> Iterator[Row]:
    """Whether the lists of what Partner Center asks per deal are of this fiscal year of Microsoft's, and hold what is configured."""
    mapping = wired.settings.mapping
    began = value_lists.fiscal_year_began(wired.clock().date())
    renew = (
        f"compare it with Partner Center's form, enter the values and valid_from in {mapping.value_lists}"
        if mapping.value_lists
        else "copy config/value-lists.yaml, enter what Partner Center's form offers and valid_from, name it in mapping.value_lists"
    )
    for name, each in value_lists.lists(mapping.value_lists).items():
        label, default = f"value_lists.{name}", mapping.deal_attributes.get(each.type)
        if name == "marketplace_intent":
            default = default or mapping.marketplace_intent
        known = {id.casefold() for id in each.labels}  # noqa: A001 - Partner Center's word
        if not each.labels:
            text = "empty: Microsoft's list could not be obtained, so its column takes any text"
            yield Row(label, "ok", text)
        elif each.valid_from is not None and each.valid_from < began:
            text = f"of {each.valid_from}; Microsoft's fiscal year began on {began}"
            yield Row(label, "warning", text, renew)
        elif default is not None and default.casefold() not in known:
            yield Row(label, "warning", f"the configured default {default} is none of its ids", renew)
        else:
            yield Row(label, "ok", f"of {each.valid_from}, {len(each.labels)} values")


def _condensed(rows: Sequence[Row]) -> Iterator[Row]:
    """The rows, with neighbours of one kind that are fine in the same way joined to one line, so that faults stand out."""
    for (kind, status, told), group in itertools.groupby(
        rows, lambda row: (_kind(row.name), row.status, row.message)
    ):
        found = list(group)
        if status == "ok" and kind and len(found) > 1:
            yield Row(kind, status, f"{len(found)} checked: {told}")
        else:
            yield from found


def _kind(name: str) -> str:
    """``salesforce.stage`` of ``salesforce.stage.Id. Decision Makers``; empty of a name without a dot."""
    return ".".join(name.split(".", 2)[:-1])


def _connection(wired: Program) -> Row:
    """To which org and tenant the store belongs, and whether those answer."""
    known = wired.store.bindings()
    try:
        found = binding.identities(wired.crm, wired.referrals)
        binding.refuse_others(known, found, wired.settings.connection)
    except ForeignSystem as foreign:
        return Row("connection", "fault", str(foreign), foreign.hint)
    except (OutsideError, ConfigError, Surprise):
        found = {}  # the checks of both systems say what is wrong
    told = " and ".join(binding.words(whose) for whose in (known or found).values())
    if known:
        return Row("connection", "ok", f"the store belongs to {told}")
    return Row("connection", "ok", f"the first cycle binds the store to {told or 'whoever answers then'}")


def _same_org(wired: Program) -> Iterator[Row]:
    """Whether the deals of another connection of this store, unless it is paused, are in the same CRM, whatever its address is
    called.
    """
    found = wired.store.bindings()
    with suppress(OutsideError, ConfigError, Surprise):  # the checks of both systems say what is wrong
        found = found or binding.identities(wired.crm, wired.referrals)
    mine = {side: (whose.system, whose.account) for side, whose in found.items() if whose.account}
    for name, known in others(wired.store.engine, wired.settings.connection).items():
        if turn(wired.store.engine, name).paused_at is not None:
            continue
        same = {side for side, whose in known.items() if mine.get(side) == (whose.system, whose.account)}
        if Side.CRM in same:
            both = Side.PARTNER_CENTER in same
            told = f"the connection {name} of this store writes to the same CRM{' for the same tenant' if both else ''}"
            todo = f"give each its own, or pause one: cosell-sync connection pause {name}"
            yield Row("same_org", "fault" if both else "warning", told, todo)


def _partner_center(wired: Program) -> tuple[list[Row], bool]:
    """Sign in and list the newest referrals: one call; the rows, and whether the system is out of reach."""
    signed_in = ""
    try:
        tenant = wired.referrals.identity().account
        signed_in = f"signed in to tenant {tenant}" if tenant else "signed in"
        seen = wired.referrals.sight()
    except AuthFailed as error:
        told = f"{signed_in}, but: {error}" if signed_in else str(error)
        code = f" ({error.code})" if error.code not in told else ""
        return [Row(PARTNER_CENTER, "fault", f"{told}{code}", error.hint)], True
    except OutsideError as error:
        hint = error.hint or "check partner_center.base_url and the network"
        return [Row(PARTNER_CENTER, "fault", f"not reachable: {error}", hint)], True
    except ConfigError as error:
        return [Row(PARTNER_CENTER, "fault", str(error), error.hint)], False
    whose = " and ".join(f"{name or 'organization'} ({key})" for key, name in seen.organizations.items())
    first = Row(PARTNER_CENTER, "ok", f"{signed_in}{f', as {whose}' if whose else ''}")
    return [first, *_mfa(seen), _visible(seen)], False


def _mfa(seen: Sight) -> Iterator[Row]:
    """Whether the user passed MFA, where that can be told."""
    if seen.mfa is None:
        return
    yield (
        Row("MFA", "ok", "the signed-in user passed multifactor authentication")
        if seen.mfa
        else Row(
            "MFA",
            "warning",
            "signed in without multifactor authentication (MFA); Partner Center refuses such calls (900421)",
            "sign in again as a user with MFA: run cosell-sync login",
        )
    )


def _visible(seen: Sight) -> Row:
    """Which referrals the sign-in shows."""
    if not seen.referrals:
        return Row(
            VISIBLE,
            "warning",
            "no referral is visible",
            "if there are some: give the sync user the role Referrals admin for all locations, and check that the tenant is "
            "that of the Partner Center account",
        )
    places = [
        f"{count} of location {name}" if name else f"{count} without a location"
        for name, count in seen.locations.items()
    ]
    shown = [
        *places[:LOCATIONS],
        *([f"{len(places) - LOCATIONS} more locations"] if len(places) > LOCATIONS else []),
    ]
    newest = (
        f"among the {seen.referrals} newest (there are more)" if seen.more else f"{seen.referrals} in all"
    )
    return Row(VISIBLE, "ok", f"{newest}: {', '.join(shown)}", MISSING)
