"""``plan``: what the next ``sync`` would write, and why, decided by the same cycle over a copy of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.table import Table

from cosell_sync import log
from cosell_sync.bootstrap.program import program
from cosell_sync.bootstrap.store import rehearsal_store
from cosell_sync.cli.common import ConfigOption, JsonOption, console, load, show, show_json
from cosell_sync.cli.deal_lookup import known
from cosell_sync.cli.progress import progress
from cosell_sync.core import messages
from cosell_sync.core.as_json import to_json
from cosell_sync.core.deal import Side, Value
from cosell_sync.core.memory import Link
from cosell_sync.core.rules import Rules
from cosell_sync.cycle.context import DealPlan
from cosell_sync.cycle.cycle import run_cycle
from cosell_sync.cycle.dry_run import DRY_ID, DryCrm, DryReferrals


def plan(
    config: ConfigOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Every field with its old and new value, and why.")
    ] = False,
    deal: Annotated[
        str | None,
        typer.Option(
            "--deal", metavar="ID", help="Only this deal, by referral id or opportunity id; with every field."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what the next sync would write, old and new, and why, a line for each deal. Writes nothing anywhere.

    Example: cosell-sync plan --deal 0065g00000Xk3ZQAAZ --config my.yaml
    """
    findings: list[DealPlan] = []
    loaded = load(config, "plan")
    log.configure("error", loaded.log.format)  # what a dry run does is no event
    with program(loaded, rehearsal=True) as wired:
        store = rehearsal_store(loaded, wired.clock)
        try:
            with store.lease(wired.settings.sync.interval), progress() as step:
                world = wired.cycle_services(
                    store=store,
                    referrals=DryReferrals(wired.referrals),
                    crm=DryCrm(wired.crm),
                    rehearsal=True,
                )
                run_cycle(
                    replace(world, progress=step),
                    f"plan-{uuid4().hex[:8]}",
                    accept=True,
                    approve=False,
                    collect=findings.append,
                )
                if deal is not None:
                    known(store, deal)
        finally:
            store.close()
        data = as_data([each for each in findings if deal is None or deal in _ids(each)], wired.rules)
    if as_json:
        show_json(data)
    elif not any(data.values()):
        show(f"Nothing to write for {deal}." if deal else "Nothing to write: both sides agree.")
    elif verbose or deal:
        _print(data)
    else:
        _print_deals(data, {_shown_id(each): each.link for each in findings})


def as_data(findings: list[DealPlan], rules: Rules) -> dict[str, list[dict[str, Any]]]:
    """The shape of ``plan --json``. Fields go by the CRM's names; moves use the words of ``Cosell_Status__c``."""
    effects, conflicts, holds = [], [], []
    for finding in findings:
        link = finding.link
        ids = {
            "referral_id": _real_id(link.referral_id),
            "opportunity_id": _real_id(link.opportunity_id),
        }
        effects += [
            {
                "side": effect.side.value,
                **(ids if effect.action != "create" else {**ids, _id_field(effect.side): None}),
                "action": effect.action,
                "field": rules.crm_name(effect.field),
                "old": _shown(effect.old),
                "new": _shown(effect.new),
                "rule": effect.rule,
            }
            for effect in finding.effects
        ]
        conflicts += [
            {
                **ids,
                "field": rules.crm_name(item.field),
                "partner_center": _shown(item.referral),
                "crm": _shown(item.opportunity),
                "rule": item.rule,
                "until": None,
            }
            for item in finding.conflicts
        ]
        holds += [
            {
                **ids,
                "field": rules.crm_name(item.field),
                "partner_center": _shown(item.referral),
                "crm": _shown(item.opportunity),
                "rule": f"{item.kind}: {item.text}",
                "until": _shown(item.until) if item.until else None,
            }
            for item in finding.holds
        ]
    return {"effects": effects, "conflicts": conflicts, "holds": holds}


def _id_field(side: Side) -> str:
    return "opportunity_id" if side is Side.CRM else "referral_id"


def _real_id(id: str | None) -> str | None:  # noqa: A002 - the domain's word
    """The id, unless only the dry run made that record."""
    return None if id is None or id.startswith(DRY_ID) else id


def _shown(value: Value) -> Any:
    return _real_id(value) if isinstance(value, str) else to_json(value, extras=False)


def _ids(finding: DealPlan) -> set[str | None]:
    return {finding.link.referral_id, finding.link.opportunity_id}


def _shown_id(finding: DealPlan) -> str | None:
    """The id by which the tables name a deal."""
    return _real_id(finding.link.opportunity_id) or _real_id(finding.link.referral_id)


def _print_deals(data: dict[str, list[dict[str, Any]]], links: Mapping[str | None, Link]) -> None:
    """A line for each deal: what would be done on which side, and how much of it waits."""
    deals: dict[str, dict[str, list[Any]]] = {}
    for title, rows in data.items():
        for row in rows:
            deal = str(row["opportunity_id"] or row["referral_id"])
            deals.setdefault(deal, {name: [] for name in data})[title].append(row)
    table = Table(
        title=f"{len(deals)} deals: {len(data['effects'])} values would be written", title_justify="left"
    )
    for column in ("deal", "name", "in the CRM", "in Partner Center", "conflicts", "held"):
        table.add_column(column, overflow="fold")
    for deal, found in deals.items():
        sides = [
            _summary([row for row in found["effects"] if row["side"] == side.value])
            for side in (Side.CRM, Side.PARTNER_CENTER)
        ]
        waits = [
            ", ".join(dict.fromkeys(row["field"] or row["rule"] for row in found[title]))
            for title in ("conflicts", "holds")
        ]
        table.add_row(deal, _name(links.get(deal)), *sides, *waits)
    console().print(table)
    show("Every value, and why: cosell-sync plan --verbose, or --deal ID")


def _summary(effects: Sequence[Mapping[str, Any]]) -> str:
    """``create``, ``move to Accepted``, ``update Amount, Name``; what the record is told is not listed."""
    parts = ["create"] if any(each["action"] == "create" for each in effects) else []
    parts += [f"move to {each['new']}" for each in effects if each["action"] == "move"]
    if updated := [each["field"] for each in effects if each["action"] == "update"]:
        parts.append(f"update {', '.join(updated)}")
    return "; ".join(parts) or ("tell" if effects else "")


def _name(link: Link | None) -> str:
    """The deal's name, as either side has it."""
    sides = (link.opportunity, link.referral) if link is not None else ()
    return _short(next((side.text("name") for side in sides if side is not None and side.text("name")), ""))


def _print(data: dict[str, list[dict[str, Any]]]) -> None:
    out = console()
    table = Table(title=f"{len(data['effects'])} values would be written", title_justify="left")
    for column in ("deal", "side", "action", "field", "old", "new", "why"):
        table.add_column(column, overflow="fold")
    for effect in data["effects"]:
        deal = effect["opportunity_id"] or effect["referral_id"]
        table.add_row(
            deal,
            effect["side"],
            effect["action"],
            effect["field"],
            _short(effect["old"]),
            _short(effect["new"]),
            effect["rule"],
        )
    out.print(table)
    for title in ("conflicts", "holds"):
        for item in data[title]:
            deal = item["opportunity_id"] or item["referral_id"]
            until = f" (until {item['until']})" if item["until"] else ""
            out.print(f"{title[:-1]}: {deal} {item['field']}: {item['rule']}{until}")


def _short(value: Any) -> str:
    if isinstance(value, list):
        return messages.listed(str(item.get("email") or item.get("id")) for item in value)
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
