"""A store and its key in one file, from any database into any: what ``backup`` writes and ``restore`` reads.

The file is a tar with ``backup.json`` (what it is and of when), ``store.db`` (a SQLite store) and ``store.key``. Whoever has it
can sign in to Partner Center, so it is for its owner alone.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, select, update

from cosell_sync.errors import ConfigError, Unavailable
from cosell_sync.store import schema
from cosell_sync.store.copy import copy_into_file, replace_rows
from cosell_sync.store.engine import make_engine, reading, writing
from cosell_sync.store.migrate import upgrade
from cosell_sync.store.sql import SqlStore
from cosell_sync.store.tokens import sealed_again

FORMAT: Final = 1
_ABOUT: Final = "backup.json"
_STORE: Final = "store.db"
_KEY: Final = "store.key"
_NO_BACKUP: Final = "is no backup of a cosell-sync store"
_FULL: Final = "database or disk is full"  # SQLITE_FULL in words (sqlite.org/rescode.html#full): only the copy is written
_LARGEST_TEXT: Final = 100_000  # bytes of what is not the store


@dataclass(frozen=True)
class About:
    """What a backup says of itself. ``at``: when it was made, UTC; ``deals``: links in it."""

    at: datetime
    version: str
    deals: int


def write(store: SqlStore, key: str, file: Path, version: str) -> About:
    """Make the file, whole or not at all; the daemon may go on meanwhile. Raises ConfigError where it cannot be written."""
    try:
        with tempfile.TemporaryDirectory(dir=file.parent, prefix=".cosell-backup-") as folder:
            copy = Path(folder) / _STORE
            copy_into_file(store, copy)
            about = About(store.clock().astimezone(UTC), version, _deals(copy))
            packed = Path(folder) / "packed"
            with tarfile.open(packed, "w") as tar:
                _add(tar, _ABOUT, json.dumps({"format": FORMAT, **asdict(about)}, default=str).encode())
                tar.add(copy, _STORE)
                _add(tar, _KEY, key.encode())
            packed.chmod(0o600)
            packed.replace(file)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}",
            hint="give a FILE in a directory that you may write",
        ) from error
    except Unavailable as error:
        if _FULL not in str(error):
            raise
        raise ConfigError(
            f"{file} cannot be written: there is no room for it",
            hint="make room on its disk, or give a FILE on another one",
        ) from error
    return about


def about(file: Path) -> About:
    """What the backup says of itself. Raises ConfigError where it is none, or of a newer version."""
    with _opened(file) as tar:
        said = _said(tar, file)
    if said.get("format") != FORMAT:
        raise ConfigError(
            f"{file} was made by a newer version", hint="restore it with that version or a newer one"
        )
    return About(datetime.fromisoformat(said["at"]), str(said["version"]), int(said["deals"]))


def restore(file: Path, store: SqlStore, key: str) -> None:
    """Put what the backup holds in the place of what the store holds. ``key``: what the store encrypts with.

    The caller holds the lease. A backup of an older version is brought up to date. Everything is compared with both sides in
    the next cycle. Raises ConfigError where the file is no backup; then nothing is changed.
    """
    with tempfile.TemporaryDirectory(prefix="cosell-restore-") as folder:
        copy = Path(folder) / _STORE
        with _opened(file) as tar:
            try:
                part = tar.extractfile(_STORE)
                old_key = _text(tar, _KEY)
            except KeyError:
                raise ConfigError(f"{file} {_NO_BACKUP}") from None
            if part is None:
                raise ConfigError(f"{file} {_NO_BACKUP}")
            with copy.open("wb") as out:
                while block := part.read(1 << 20):
                    out.write(block)
        engine = make_engine(URL.create("sqlite", database=str(copy)))
        try:
            upgrade(engine)
            with writing(engine) as connection:
                for row in connection.execute(select(schema.token)).all():
                    mine = (schema.token.c.connection == row.connection, schema.token.c.name == row.name)
                    secret = sealed_again(row.secret, old_key, key)
                    connection.execute(update(schema.token).where(*mine).values(secret=secret))
                connection.execute(update(schema.cycle_state).values(compared_at=None))
            with reading(engine) as source:
                replace_rows(source, store.engine)
        finally:
            engine.dispose()


def _opened(file: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(file, "r:")
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}", hint="check the path and who may read it"
        ) from error
    except tarfile.TarError:
        raise ConfigError(f"{file} {_NO_BACKUP}", hint="`cosell-sync backup FILE` makes one") from None


def _said(tar: tarfile.TarFile, file: Path) -> dict[str, Any]:
    said: Any = None
    with suppress(KeyError, ValueError):
        said = json.loads(_text(tar, _ABOUT))
    if not isinstance(said, dict) or not {"format", "at", "version", "deals"} <= said.keys():
        raise ConfigError(f"{file} {_NO_BACKUP}", hint="`cosell-sync backup FILE` makes one")
    return said


def _text(tar: tarfile.TarFile, name: str) -> str:
    """A small part. Raises KeyError where there is none."""
    part = tar.extractfile(name)
    if part is None:
        raise KeyError(name)
    return part.read(_LARGEST_TEXT).decode("utf-8", "replace").strip()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o600
    tar.addfile(entry, io.BytesIO(content))


def _deals(copy: Path) -> int:
    engine = make_engine(URL.create("sqlite", database=os.fspath(copy)))
    try:
        with reading(engine) as connection:
            return len(connection.execute(select(schema.link.c.key)).all())
    finally:
        engine.dispose()
