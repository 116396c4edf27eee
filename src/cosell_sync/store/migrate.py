"""Brings a store to the tables of this version, from code: an upgrade never asks for a manual step.

The whole way up is one transaction on both databases, and only one process walks it: SQLite lets one writer in at a
time, on PostgreSQL an advisory lock does the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, text

from cosell_sync.errors import ConfigError
from cosell_sync.store.engine import make_engine, parse, reading, writing

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
    with writing(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        configuration = _configuration()
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def pending(engine: Engine) -> bool:
    """Whether the store is older than this program. ConfigError where it is newer."""
    scripts = ScriptDirectory.from_config(_configuration())
    head = scripts.get_current_head()
    with reading(engine) as connection:
        found = revision(connection)
    if found is not None and found not in {script.revision for script in scripts.walk_revisions()}:
        raise ConfigError(
            f"the store was written by a newer cosell-sync: it stands at revision {found},"
            f" this program knows up to {head}",
            hint="install that newer version again, or restore a copy of the store made before the upgrade",
        )
    return found != head


def revision(connection: Connection) -> str | None:
    """Where the store stands; None for an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def _configuration() -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    configuration.set_main_option("path_separator", "os")
    return configuration
