"""Prometheus metrics, in a registry of their own: nothing global, so every test and every daemon has its own.

They are fed by frozen values (a ``CycleSummary`` after each cycle, gauges in between); nothing here reads the store. Names
and their meaning are a promise: docs/metrics.md lists them, config/prometheus/ has alert rules over them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from cosell_sync.core.deal import Side, SyncState
from cosell_sync.core.memory import Outlook
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY, OUT_OF_REACH, Counts, CycleSummary

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody asks for

_BUCKETS: Final = (0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 900)
_SIDES: Final = ("partner_center", "crm")
_BY_SIDE: Final = {
    "pulled": "Records read that had changed.",
    "written": "Deals changed on that side.",
    "created": "Deals newly made on that side.",
    "api_calls": "HTTP requests, retries included, sign-ins not.",
}
_PLAIN: Final = {
    "unchanged": "Deals looked at and found equal.",
    "conflicts": "Fields that both sides changed to different values.",
}
# These stand for deals as they are after the cycle, so they rise and fall.
_STANDING: Final = {
    "rejected": "Deals standing refused by our own checks.",
    "failed": "Deals whose write failed in the last cycle and will be retried.",
    "parked": "Deals now parked.",
    "locked": "Deals whose record is locked, for example by an approval; tried every hour.",
    "withheld": "Deals of which a step that cannot be undone waits for a person's word.",
}


class Metrics:
    """Everything that /metrics shows."""

    def __init__(self, version: str, crm: str) -> None:
        self.registry = CollectorRegistry()
        self._counted: dict[tuple[str, str], int] = {}  # failed requests by system and code, as last told
        build = Gauge("cosell_build_info", "Version and CRM.", ["version", "crm"], registry=self.registry)
        build.labels(version, crm).set(1)
        self._cycles = Counter(
            "cosell_cycles", "Cycles by outcome (exit code).", ["exit_code"], registry=self.registry
        )
        self._duration = Histogram(
            "cosell_cycle_duration_seconds",
            "How long a cycle took.",
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._by_side = {
            name: Counter(f"cosell_{name}", text, ["side"], registry=self.registry)
            for name, text in _BY_SIDE.items()
        }
        self._plain = {
            name: Counter(f"cosell_{name}", text, registry=self.registry) for name, text in _PLAIN.items()
        }
        self._standing = {
            name: Gauge(f"cosell_deals_{name}", text, registry=self.registry)
            for name, text in _STANDING.items()
        }
        self._broken = Gauge(
            "cosell_preconditions_broken", "Preconditions that doctor calls a fault.", registry=self.registry
        )
        self._deals = Gauge("cosell_deals", "Deals by sync state.", ["sync_state"], registry=self.registry)
        self._last = Gauge(
            "cosell_last_cycle_timestamp_seconds",
            "When a cycle last ended.",
            ["outcome"],
            registry=self.registry,
        )
        self._budget = Gauge(
            "cosell_budget_used_ratio",
            "Share of the daily API budget that is used.",
            ["side"],
            registry=self.registry,
        )
        self._sign_in = Gauge(
            "cosell_sign_in_age_seconds",
            "Age of the newest token of that system.",
            ["system"],
            registry=self.registry,
        )
        self._errors = Counter(
            "cosell_http_errors",
            "Requests that were refused or not answered, each try counted. code: the system's own, the HTTP status, or why "
            "no answer came.",
            ["system", "code"],
            registry=self.registry,
        )
        self._lag = Gauge(
            "cosell_lag_seconds",
            "Age of the oldest edit made on that side that is not carried to the other; 0: all are.",
            ["side"],
            registry=self.registry,
        )
        self._unanswered = Gauge(
            "cosell_deals_unanswered", "Deals that wait for accept or decline.", registry=self.registry
        )
        self._expires = Gauge(
            "cosell_next_expiry_timestamp_seconds",
            "When the first unanswered deal expires; 0: none is unanswered.",
            registry=self.registry,
        )
        self._held_until = Gauge(
            "cosell_held_deal_expires_timestamp_seconds",
            "When the first unanswered deal expires that is held back from the CRM; 0: none is held.",
            registry=self.registry,
        )
        self._intents = Gauge(
            "cosell_open_intents",
            "Writes whose fate is not known; the next cycle looks.",
            registry=self.registry,
        )
        self._lease = Gauge(
            "cosell_lease_held",
            "1: this process is the one that writes; 0: it stands by.",
            registry=self.registry,
        )
        self._console = Counter(
            "cosell_console_events",
            "In the console: signed_in, refused (a wrong token, a foreign form), ordered.",
            ["event"],
            registry=self.registry,
        )
        for event in ("signed_in", "refused", "ordered"):
            self._console.labels(event)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        for side in _SIDES:
            self._lag.labels(side)
            for counter in self._by_side.values():
                counter.labels(side)
        for exit_code in (NEEDS_NOBODY, NEEDS_A_PERSON, OUT_OF_REACH):
            self._cycles.labels(str(exit_code))  # a series that begins at its first failure shows no increase
        for state in SyncState:
            self._deals.labels(state.value)

    def console(self, event: str) -> None:
        """Count an event of the console; safe from any thread."""
        self._console.labels(event).inc()

    def cycle(self, summary: CycleSummary, at: datetime) -> None:
        """Count a cycle that ended at ``at``."""
        self._cycles.labels(str(summary.exit_code)).inc()
        self._duration.observe(summary.duration_s)
        for name, counter in self._by_side.items():
            counts: Counts = getattr(summary, name)
            for side in _SIDES:
                counter.labels(side).inc(getattr(counts, side))
        for name, plain in self._plain.items():
            plain.inc(getattr(summary, name))
        for name, gauge in self._standing.items():
            gauge.set(getattr(summary, name))
        self._broken.set(summary.broken)
        self._last.labels("success" if summary.exit_code in {0, 1} else "failure").set(at.timestamp())

    def deals(self, by_state: Mapping[str, int]) -> None:
        """Set how many deals stand in each sync state; a state that is not named has none."""
        for state in SyncState:
            self._deals.labels(state.value).set(by_state.get(state.value, 0))

    def outlook(self, outlook: Outlook, now: datetime, *, carried_at: datetime | None, failing: bool) -> None:
        """Set what has a clock running. ``carried_at``: end of the last good cycle; while cycles are ``failing`` nothing
        made since is carried.
        """
        self._unanswered.set(outlook.unanswered)
        self._expires.set(_seconds(outlook.expires))
        self._held_until.set(_seconds(outlook.held_expires))
        self._intents.set(outlook.intents)
        for side in _SIDES:
            waits = [outlook.refused[other] for other in Side if other != side and other in outlook.refused]
            waits += [carried_at] if failing and carried_at else []
            self._lag.labels(side).set(max(((now - since).total_seconds() for since in waits), default=0))

    def errors(self, system: str, by_code: Mapping[str, int]) -> None:
        """Set how many requests to a system failed with each code since this process began."""
        for code, count in by_code.items():
            counted = self._counted.get((system, code), 0)
            self._errors.labels(system, code).inc(count - counted)
            self._counted[(system, code)] = count

    def lease(self, *, held: bool) -> None:
        """Set whether this process holds the lease."""
        self._lease.set(held)

    def budget(self, side: str, used: int, ceiling: int) -> None:
        """Set how much of the daily ceiling of API calls is used; a ceiling of 0 counts as unused."""
        self._budget.labels(side).set(used / ceiling if ceiling else 0)

    def sign_in(self, system: str, age_s: float) -> None:
        """Set the age in seconds of the newest token of this system."""
        self._sign_in.labels(system).set(age_s)

    def render(self) -> bytes:
        """The text of /metrics, in the Prometheus text format 0.0.4."""
        return generate_latest(self.registry)


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0
