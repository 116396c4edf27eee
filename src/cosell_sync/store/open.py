"""Opens a store from its URL: file made owner-only, tables brought up to date, every obstacle said with its way out."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.ports import Clock
from cosell_sync.store.engine import file_of, make_engine, parse
from cosell_sync.store.files import access_hint, close_store
from cosell_sync.store.lease import DEADLINE, Sleep
from cosell_sync.store.migrate import upgrade
from cosell_sync.store.sql import SqlStore


def open_store(
    url: str, clock: Clock, *, sleep: Sleep = time.sleep, deadline: timedelta = DEADLINE
) -> SqlStore:
    """The store at this URL, made if it is a SQLite one that is not there yet. ``deadline`` is PostgreSQL's lease's.

    ConfigError where the URL or the place is no good, Unavailable where a PostgreSQL does not answer.
    """
    parsed = parse(url)
    path = file_of(parsed)
    if path is not None:
        _make_owner_only(path)
    engine = make_engine(parsed)
    try:
        upgrade(engine)
    except Unavailable as error:
        engine.dispose()
        if path is None:
            raise
        # Nobody but this machine is between us and a file: waiting will not cure it.
        raise ConfigError(
            f"{path} cannot be used as the store: {error}",
            hint="check that store.url names a cosell-sync store on a local disk that this user may write",
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return SqlStore(engine, clock, sleep=sleep, deadline=deadline)


def _make_owner_only(path: Path) -> None:
    """SQLite gives the helper files that it makes the permissions of the store; those that lie there are closed as well."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except FileNotFoundError as error:
        raise ConfigError(
            f"the directory {path.parent} does not exist", hint="create it, or change store.url"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"the store {path} cannot be opened: {error.strerror}",
            hint=f"{access_hint(path, error)}; or change store.url",
        ) from error
    close_store(path)
