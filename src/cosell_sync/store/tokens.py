"""Refresh tokens, encrypted at rest. A rotated token is written at once, whoever holds the lease: it cannot be fetched again.

Several keys may be given, separated by commas: the first encrypts, all decrypt, so a key is changed by putting the new
one in front. A key is a Fernet key or any text of sixteen characters or more, from which one is derived.
"""

from __future__ import annotations

import base64
import hmac
import os
import secrets
from contextlib import suppress
from functools import lru_cache
from hashlib import scrypt
from pathlib import Path
from typing import Any, Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import URL, Connection, Engine, select

from cosell_sync.errors import ConfigError
from cosell_sync.store import schema
from cosell_sync.store.engine import file_of, reading, writing
from cosell_sync.store.files import access_hint, close_file
from cosell_sync.store.statements import upsert

_SHORTEST: Final = 16
_MAKE_KEY: Final = "openssl rand -base64 32"


class StoredTokens:
    """Implements ``ports.Tokens`` over the store's database."""

    def __init__(self, engine: Engine, key: str, *, connection: str = schema.DEFAULT) -> None:
        self._engine = engine
        self._connection = connection
        self._keys = _keys(key)
        self._fernet = MultiFernet([Fernet(one) for one in self._keys])

    def load(self, name: str) -> str | None:
        """ConfigError where the key is not the one it was stored with."""
        with reading(self._engine) as connection:
            row = self._row(connection, name)
        return None if row is None else self._opened(row.secret)

    def save(self, name: str, token: str) -> None:
        """Also where what is stored cannot be read any more: this is the way out of a lost key."""
        with writing(self._engine) as connection:
            row = self._row(connection, name)
            self._put(connection, name, token, None if row is None else row.seed)

    def seed(self, name: str, token: str) -> bool:
        """Take in a configured token unless it is the one last taken in; True where it replaced what was stored."""
        digests = [self._digest(key, name, token) for key in self._keys]
        with writing(self._engine) as connection:
            row = self._row(connection, name)
            if row is not None:
                stored = self._opened(row.secret)
                if row.seed in digests:
                    if row.seed != digests[0]:
                        self._put(connection, name, stored, digests[0])
                    return False
            self._put(connection, name, token, digests[0])
            return True

    def _row(self, connection: Connection, name: str) -> Any:
        column = schema.token.c
        return connection.execute(
            select(column.secret, column.seed).where(
                column.connection == self._connection, column.name == name
            )
        ).one_or_none()

    def _put(self, connection: Connection, name: str, token: str, seed: str | None) -> None:
        secret = self._fernet.encrypt(token.encode())
        row = {"connection": self._connection, "name": name, "secret": secret, "seed": seed}
        connection.execute(upsert(connection, schema.token), row)

    def _opened(self, secret: bytes) -> str:
        try:
            return self._fernet.decrypt(secret).decode()
        except InvalidToken:
            raise ConfigError(
                "the stored sign-in cannot be read with this key",
                hint="add the key it was stored with to store.key, behind a comma (or put its key file back);"
                " if it is lost, run `cosell-sync login`",
            ) from None

    @staticmethod
    def _digest(key: bytes, name: str, token: str) -> str:
        return hmac.digest(key, f"seed:{name}:{token}".encode(), "sha256").hex()


def sealed_again(secret: bytes, old: str, new: str) -> bytes:
    """What was encrypted with one of the old keys, encrypted with the first of the new ones.

    Raises ConfigError where none of the old keys opens it.
    """
    try:
        opened = MultiFernet([Fernet(one) for one in _keys(old)]).decrypt(secret)
    except InvalidToken:
        raise ConfigError("the sign-in in the backup cannot be read with the key in the backup") from None
    return Fernet(_keys(new)[0]).encrypt(opened)


def find_key(url: URL, configured: str | None) -> str:
    """The configured key; else, for a SQLite store, the one in the file beside it, made if there is none."""
    if configured and configured.strip():
        return configured
    if url.get_backend_name() != "sqlite":
        raise ConfigError(
            "a store on PostgreSQL needs a key for the stored sign-in",
            hint=f"set store.key (or COSELL_STORE__KEY_FILE); `{_MAKE_KEY}` makes one",
        )
    store = file_of(url)
    if store is None:
        return _new_key()
    path = store.with_name(store.name + ".key")
    try:
        if not path.exists():
            _make(path)
        return _read(path)
    except OSError as error:
        raise ConfigError(
            f"the key file {path} cannot be used: {error.strerror}",
            hint=f"{access_hint(path, error)}; or set store.key",
        ) from error


def _read(path: Path) -> str:
    close_file(path)
    return path.read_text(encoding="ascii", errors="replace").strip()


def _make(path: Path) -> None:
    """Written aside and linked into place, so that nobody ever sees half a key and the first one stays."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(_new_key() + "\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        aside.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _new_key() -> str:
    return Fernet.generate_key().decode()


def _keys(text: str) -> list[bytes]:
    keys = [_derived(part.strip()) for part in text.split(",") if part.strip()]
    if not keys:
        raise ConfigError("store.key is empty", hint=f"`{_MAKE_KEY}` makes one")
    return keys


@lru_cache(maxsize=16)  # deriving takes a twentieth of a second, and many connections may have one key
def _derived(text: str) -> bytes:
    try:
        Fernet(text.encode())
    except ValueError:
        if len(text) < _SHORTEST:
            raise ConfigError(
                f"store.key is too short: {_SHORTEST} characters at least", hint=f"`{_MAKE_KEY}` makes one"
            ) from None
        raw = scrypt(text.encode(), salt=b"cosell-sync store.key", n=2**14, r=8, p=1, dklen=32)
        return base64.urlsafe_b64encode(raw)
    return text.encode()
