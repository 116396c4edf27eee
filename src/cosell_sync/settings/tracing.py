"""Where spans are sent."""

from __future__ import annotations

from cosell_sync.settings.section import Section
from cosell_sync.settings.values import HttpsOrLocalUrl


class TracingSettings(Section):
    otlp_endpoint: HttpsOrLocalUrl | None = None
    """Where OpenTelemetry spans are sent over OTLP/HTTP, e.g. http://localhost:4318; needs the extra ``tracing``."""
