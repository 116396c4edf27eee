"""What the core and the cycle decide by, from the settings: rules, and the bounds of a cycle."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Literal

from cosell_sync.bootstrap.mapping import close_date_zone
from cosell_sync.core.capabilities import Capability, found_of, stands
from cosell_sync.core.retry import RetryPolicy
from cosell_sync.core.rules import AccountUpdates, FieldRule, Flow, Policy, Rules, Stages
from cosell_sync.cycle.context import CycleSettings
from cosell_sync.partner_center.paging import REFERRALS
from cosell_sync.ports import Store
from cosell_sync.settings import Settings


def rules_from(settings: Settings) -> Rules:
    """The configured part of what the core decides by."""
    mapping = settings.mapping
    stages = mapping.stages
    return Rules(
        fields={
            name: FieldRule(name, rule.crm, Flow(rule.direction), Policy(rule.conflict))
            for name, rule in mapping.fields.items()
        },
        stages=Stages(
            received=stages.received,
            accepted=stages.accepted,
            won=stages.won,
            lost=stages.lost,
            declined=stages.declined,
            expired=stages.expired,
            sales=dict(mapping.sales_stages),
        ),
        terminal_hold=settings.sync.terminal_hold,
        write_name=_flag(mapping.write_name),
        write_favorite=_flag(mapping.write_favorite),
        import_closed=settings.sync.import_closed,
        import_leads=mapping.leads == "import",
        match=mapping.match,
        account_updates=AccountUpdates(mapping.account_updates),
        default_currency=mapping.default_currency,
        cosell_recipe=mapping.cosell_recipe,
        reasons=dict(mapping.reasons),
        default_close=mapping.default_close,
        close_date_zone=close_date_zone(settings),
    )


def rules_found(settings: Settings, store: Store, now: datetime) -> Rules:
    """The rules as a cycle of this moment would have them: with what was found out and still counts."""
    basis = cycle_settings_from(settings).basis
    known = [each for each in store.verdicts() if stands(each, basis.get(each.capability), now)]
    return replace(rules_from(settings), found=found_of(known))


def cycle_settings_from(settings: Settings) -> CycleSettings:
    """The configured bounds of a cycle: overlap, full comparison, surprises, retries."""
    sync = settings.sync
    return CycleSettings(
        overlap=sync.overlap,
        full_every=sync.full_every,
        surprise_share=float(sync.surprise_share),
        surprise_min=sync.surprise_min,
        surprise_moves=sync.surprise_moves,
        surprise_window=sync.surprise_window,
        post_patience=sync.post_patience,
        retry_policy=RetryPolicy(sync.interval, sync.max_attempts, sync.full_every),
        closed_rows=(settings.dynamics if settings.crm == "dynamics" else settings.salesforce).closed_rows,
        basis=_basis(settings),
        connection=settings.connection,
    )


def _basis(settings: Settings) -> dict[Capability, str]:
    """The questions about Partner Center that are left to ``auto``, and what an answer depends on: host and API version."""
    mapping, api = settings.mapping, f"{settings.partner_center.base_url}{REFERRALS}"
    left_open = {
        Capability.WRITE_NAME: mapping.write_name == "auto",
        Capability.WRITE_FAVORITE: mapping.write_favorite == "auto",
        Capability.SALES_STAGE: mapping.sales_stage_wire == "auto",
        Capability.CHANGES_FILTER: True,
        Capability.ENGAGEMENT_FILTER: True,
    }
    return {capability: api for capability, is_open in left_open.items() if is_open}


def _flag(configured: Literal["auto"] | bool) -> bool | None:
    """A switch for the core; None: it is to be found out."""
    return None if configured == "auto" else configured
