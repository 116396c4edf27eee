"""The store of a connection, opened as the settings say, and the refresh tokens in it."""

from __future__ import annotations

import time
from collections.abc import Callable

from cosell_sync.bootstrap.clock import utc_now
from cosell_sync.ports import Clock
from cosell_sync.settings import Settings
from cosell_sync.store.copy import open_copy
from cosell_sync.store.engine import parse
from cosell_sync.store.open import open_store
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import StoredTokens, find_key


def store_of(
    settings: Settings, clock: Clock = utc_now, sleep: Callable[[float], object] = time.sleep
) -> SqlStore:
    """The store of this connection, opened for this one use; what is raised as of ``open_store``."""
    return open_store(settings.store.url, clock, sleep=sleep, connection=settings.connection)


def rehearsal_store(settings: Settings, clock: Clock = utc_now) -> SqlStore:
    """An in-memory copy of the store, for a cycle that must leave no trace."""
    return open_copy(settings.store.url, clock, settings.connection)


def open_tokens(settings: Settings, store: SqlStore) -> StoredTokens:
    """The refresh tokens in this store, and the key they are encrypted with."""
    configured = settings.store.key.get_secret_value() if settings.store.key else None
    return StoredTokens(
        store.engine, find_key(parse(settings.store.url), configured), connection=store.connection
    )
