"""How long one call to another system may take, from the settings."""

from __future__ import annotations

from cosell_sync.settings import Settings
from cosell_sync.transport.client import Limits


def limits(settings: Settings) -> Limits:
    return Limits(read=settings.sync.call_timeout.total_seconds())
