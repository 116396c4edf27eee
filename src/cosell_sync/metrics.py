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

CONNECTION: Final = "connection"  # the label that every series of ours carries
ACTIVE: Final = "active"
PAUSED: Final = "paused"
MISCONFIGURED: Final = "misconfigured"
STATES: Final = (ACTIVE, PAUSED, MISCONFIGURED)
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
    """Everything that /metrics shows, of all connections that one process serves."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._version = version
        self.build = self._gauge("cosell_build_info", "Version and CRM.", "version", "crm")
        self.state = self._gauge(
            "cosell_connection_state",
            "1 for the state that the connection is in: active, paused, or misconfigured, which needs a person.",
            "state",
        )
        self.cycles = self._counter("cosell_cycles", "Cycles by outcome (exit code).", "exit_code")
        self.duration = Histogram(
            "cosell_cycle_duration_seconds",
            "How long a cycle took.",
            [CONNECTION],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self.by_side = {
            name: self._counter(f"cosell_{name}", text, "side") for name, text in _BY_SIDE.items()
        }
        self.plain = {name: self._counter(f"cosell_{name}", text) for name, text in _PLAIN.items()}
        self.standing = {name: self._gauge(f"cosell_deals_{name}", text) for name, text in _STANDING.items()}
        self.broken = self._gauge("cosell_preconditions_broken", "Preconditions that doctor calls a fault.")
        self.deals = self._gauge("cosell_deals", "Deals by sync state.", "sync_state")
        self.last = self._gauge("cosell_last_cycle_timestamp_seconds", "When a cycle last ended.", "outcome")
        self.budget = self._gauge(
            "cosell_budget_used_ratio", "Share of the daily API budget that is used.", "side"
        )
        self.sign_in = self._gauge(
            "cosell_sign_in_age_seconds", "Age of the newest token of that system.", "system"
        )
        self.errors = self._counter(
            "cosell_http_errors",
            "Requests that were refused or not answered, each try counted. code: the system's own, the HTTP status, or why "
            "no answer came.",
            "system",
            "code",
        )
        self.lag = self._gauge(
            "cosell_lag_seconds",
            "Age of the oldest edit made on that side that is not carried to the other; 0: all are.",
            "side",
        )
        self.unanswered = self._gauge("cosell_deals_unanswered", "Deals that wait for accept or decline.")
        self.expires = self._gauge(
            "cosell_next_expiry_timestamp_seconds",
            "When the first unanswered deal expires; 0: none is unanswered.",
        )
        self.held_until = self._gauge(
            "cosell_held_deal_expires_timestamp_seconds",
            "When the first unanswered deal expires that is held back from the CRM; 0: none is held.",
        )
        self.intents = self._gauge(
            "cosell_open_intents", "Writes whose fate is not known; the next cycle looks."
        )
        self.lease = self._gauge(
            "cosell_lease_held", "1: this process is the one that writes; 0: it stands by."
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

    def console(self, event: str) -> None:
        """Count an event of the console, which is one for all connections; safe from any thread."""
        self._console.labels(event).inc()

    def of(self, connection: str, crm: str) -> ConnectionMetrics:
        """The part that one connection feeds."""
        self.build.labels(connection, self._version, crm).set(1)
        return ConnectionMetrics(self, connection)

    def stands(self, connection: str, state: str) -> None:
        """Set the state of a connection: one of ``STATES``."""
        for each in STATES:
            self.state.labels(connection, each).set(each == state)

    def render(self) -> bytes:
        """The text of /metrics, in the Prometheus text format 0.0.4."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, [CONNECTION, *labels], registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, [CONNECTION, *labels], registry=self.registry)


class ConnectionMetrics:
    """The metrics of one connection."""

    def __init__(self, metrics: Metrics, connection: str) -> None:
        self._all = metrics
        self._name = connection
        self._counted: dict[tuple[str, str], int] = {}  # failed requests by system and code, as last told
        begun = (metrics.broken, metrics.unanswered, metrics.expires, metrics.held_until, metrics.intents)
        for each in (
            *begun,
            metrics.lease,
            metrics.duration,
            *metrics.plain.values(),
            *metrics.standing.values(),
        ):
            each.labels(connection)
        for side in _SIDES:
            metrics.lag.labels(connection, side)
            for counter in metrics.by_side.values():
                counter.labels(connection, side)
        for exit_code in (NEEDS_NOBODY, NEEDS_A_PERSON, OUT_OF_REACH):
            metrics.cycles.labels(
                connection, str(exit_code)
            )  # a series that begins at its first failure shows no increase
        for state in SyncState:
            metrics.deals.labels(connection, state.value)

    def cycle(self, summary: CycleSummary, at: datetime) -> None:
        """Count a cycle that ended at ``at``."""
        self._all.cycles.labels(self._name, str(summary.exit_code)).inc()
        self._all.duration.labels(self._name).observe(summary.duration_s)
        for name, counter in self._all.by_side.items():
            counts: Counts = getattr(summary, name)
            for side in _SIDES:
                counter.labels(self._name, side).inc(getattr(counts, side))
        for name, plain in self._all.plain.items():
            plain.labels(self._name).inc(getattr(summary, name))
        for name, gauge in self._all.standing.items():
            gauge.labels(self._name).set(getattr(summary, name))
        self._all.broken.labels(self._name).set(summary.broken)
        self._all.last.labels(self._name, "success" if summary.exit_code in {0, 1} else "failure").set(
            at.timestamp()
        )

    def deals(self, by_state: Mapping[str, int]) -> None:
        """Set how many deals stand in each sync state; a state that is not named has none."""
        for state in SyncState:
            self._all.deals.labels(self._name, state.value).set(by_state.get(state.value, 0))

    def outlook(self, outlook: Outlook, now: datetime, *, carried_at: datetime | None, failing: bool) -> None:
        """Set what has a clock running. ``carried_at``: end of the last good cycle; while cycles are ``failing`` nothing
        made since is carried.
        """
        self._all.unanswered.labels(self._name).set(outlook.unanswered)
        self._all.expires.labels(self._name).set(_seconds(outlook.expires))
        self._all.held_until.labels(self._name).set(_seconds(outlook.held_expires))
        self._all.intents.labels(self._name).set(outlook.intents)
        for side in _SIDES:
            waits = [outlook.refused[other] for other in Side if other != side and other in outlook.refused]
            waits += [carried_at] if failing and carried_at else []
            self._all.lag.labels(self._name, side).set(
                max(((now - since).total_seconds() for since in waits), default=0)
            )

    def errors(self, system: str, by_code: Mapping[str, int]) -> None:
        """Set how many requests to a system failed with each code since its meter began; a new one begins at nothing."""
        for code, count in by_code.items():
            counted = self._counted.get((system, code), 0)
            fresh = count - counted if count >= counted else count
            self._all.errors.labels(self._name, system, code).inc(fresh)
            self._counted[(system, code)] = count

    def lease(self, *, held: bool) -> None:
        """Set whether this process holds the lease."""
        self._all.lease.labels(self._name).set(held)

    def budget(self, side: str, used: int, ceiling: int) -> None:
        """Set how much of the daily ceiling of API calls is used; a ceiling of 0 counts as unused."""
        self._all.budget.labels(self._name, side).set(used / ceiling if ceiling else 0)

    def sign_in(self, system: str, age_s: float) -> None:
        """Set the age in seconds of the newest token of this system."""
        self._all.sign_in.labels(self._name, system).set(age_s)


def _seconds(moment: datetime | None) -> float:
    return moment.timestamp() if moment else 0
