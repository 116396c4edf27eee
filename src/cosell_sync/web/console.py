"""The status page: is it running, how many deals stand where, which need a person.

Plain HTML without scripts; every value is escaped, and only ids, states, counts and times are shown, so that the
page may be open to anyone who reaches the port. Names and messages are read with ``deals show``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from html import escape
from typing import Final

from cosell_sync.core.deal import SyncState
from cosell_sync.summary import CycleSummary
from cosell_sync.web.health import Attention, Facts, readiness

MOST_DEALS: Final = 200  # listed one by one

STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--good:#1a7f37;--bad:#c0392b}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.4rem;margin-bottom:.2rem}h2{font-size:1.05rem;margin:2rem 0 .5rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line)}
th{font-weight:600;background:var(--soft)}td.n{text-align:right;font-variant-numeric:tabular-nums}
.state{font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}
code{font-size:.9em}.soft{opacity:.7}
"""
# The one style that the page may use, named by its hash; nothing else may load or run.
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)


def render(facts: Facts) -> str:
    """The page."""
    ready, reasons = readiness(facts)
    state = '<p class="state good">Ready</p>' if ready else '<p class="state bad">Not ready</p>'
    parts = [
        f"<h1>cosell-sync</h1>{_soft(f'version {facts.version} · {facts.crm}')}<p>{_moment(facts.now)}</p>",
        state,
        "".join(f"<p>{escape(reason)}</p>" for reason in reasons),
        "<h2>Deals</h2>",
        _table(("State", "Deals"), ((escape(name), _number(count)) for name, count in _states(facts))),
        "<h2>Last cycle</h2>",
        _cycle(facts.last_cycle, facts.carried_at),
        "<h2>Needs attention</h2>",
        _attention(facts.attention),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>cosell-sync</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )


def _states(facts: Facts) -> list[tuple[str, int]]:
    known = [state.value for state in SyncState]
    others = sorted(set(facts.states) - set(known))
    return [(name, facts.states.get(name, 0)) for name in (*known, *others)]


def _cycle(summary: CycleSummary | None, carried_at: datetime | None) -> str:
    if summary is None:
        return _soft("None yet.")
    both = ("pulled", "written", "created", "api_calls")
    rows = [
        (
            escape(name.replace("_", " ")),
            _number(getattr(summary, name).partner_center),
            _number(getattr(summary, name).crm),
        )
        for name in both
    ]
    counts = " · ".join(
        f"{name} {getattr(summary, name)}"
        for name in ("unchanged", "conflicts", "rejected", "failed", "parked", "withheld")
    )
    return (
        f"<p><code>{escape(summary.cycle_id)}</code> took {summary.duration_s:.1f} s; both systems last reached "
        f"{_moment(carried_at)}</p>{_table(('', 'Partner Center', 'CRM'), rows)}<p>{escape(counts)}</p>"
    )


def _attention(deals: Sequence[Attention]) -> str:
    if not deals:
        return _soft("Nothing.")
    rows = (
        (_id(deal.referral_id), _id(deal.opportunity_id), escape(deal.sync_state), _moment(deal.since))
        for deal in deals[:MOST_DEALS]
    )
    more = _soft(f"and {len(deals) - MOST_DEALS} more: see deals list") if len(deals) > MOST_DEALS else ""
    return _table(("Referral", "Opportunity", "State", "Since"), rows) + more


def _soft(text: str) -> str:
    return f'<p class="soft">{escape(text)}</p>'


def _id(text: str | None) -> str:
    return f"<code>{escape(text)}</code>" if text else "-"


def _moment(at: datetime | None) -> str:
    return f"<time>{at:%Y-%m-%d %H:%M:%S} UTC</time>" if at else "never"


def _number(count: int) -> str:
    return f'<td class="n">{count}</td>'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already; one that brings its own ``td`` keeps it."""
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f"<tr>{''.join(cell if cell.startswith('<td') else f'<td>{cell}</td>' for cell in row)}</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
