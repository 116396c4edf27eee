"""Brings a store to the tables of this version, from code: an upgrade never asks for a manual step.

The whole way up is one transaction on both databases, and only one process walks it: SQLite lets one writer in at a
time, on PostgreSQL an advisory lock does the same.

Every command looks at the store's revision, which is nearly always the newest. That costs one query: the revisions are
known here, and Alembic, whose import is a quarter of a command's start, is imported only for the way up.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import URL, Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from cosell_sync.errors import ConfigError
from cosell_sync.store.engine import make_engine, parse, reading, writing

if TYPE_CHECKING:
    from alembic.config import Config

REVISIONS: Final = (
    "0011",
    "0010",
    "0009",
    "0008",
    "0007",
    "0006",
    "0005",
    "0004",
    "0003",
    "0002",
    "0001",
)  # newest first, as in migrations/versions; a test holds it against them
NEWEST: Final = REVISIONS[0]
_SCRIPTS: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 0x636F73656C6C  # any number, as long as every version uses the same


def migrate(url: str | URL) -> None:
    """Upgrade the store at this URL to the newest revision."""
    engine = make_engine(url if isinstance(url, URL) else parse(url))
    try:
        upgrade(engine)
    finally:
        engine.dispose()


def upgrade(engine: Engine) -> None:
    """As ``migrate``, over an engine that exists. ConfigError where a newer version has been here."""
    if not pending(engine):
        return
    from alembic import command  # noqa: PLC0415 - see above

    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def pending(engine: Engine) -> bool:
    """Whether the store is older than this program. ConfigError where it is newer."""
    with reading(engine) as connection:
        found = revision(connection)
    if found == NEWEST:
        return False
    if found is not None and found not in REVISIONS:
        raise ConfigError(
            f"the store was written by a newer cosell-sync: it stands at revision {found},"
            f" this program knows up to {NEWEST}",
            hint="install that newer version again, or restore a copy of the store made before the upgrade",
        )
    return True


def revision(connection: Connection) -> str | None:
    """Where the store stands; None for an empty database."""
    try:
        found = _noted(connection)
    except (OperationalError, ProgrammingError):
        if not inspect(connection).has_table("alembic_version"):
            return None
        found = _noted(connection)  # another process has just made the table; any other error comes again
    return None if found is None else str(found)


def _noted(connection: Connection) -> object:
    with connection.begin_nested():
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _configuration() -> Config:
    from alembic.config import Config  # noqa: PLC0415 - see above

    configuration = Config()
    configuration.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration
