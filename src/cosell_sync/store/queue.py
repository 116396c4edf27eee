"""The tables of the queue that wakes workers: those of procrastinate, in the schema in which the store has its own.

The queue holds nothing worth keeping, since every job is made anew by the next look at what is due. So there is no migration:
where the installed procrastinate has other tables than those that are there, they are dropped and made again. A comment on one
of them says whose they are and which.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Final

from procrastinate import PsycopgConnector, __version__
from procrastinate.schema import SchemaManager
from psycopg import AsyncConnection
from sqlalchemy import Connection, Engine, text

from cosell_sync.errors import ConfigError
from cosell_sync.store.engine import writing

_LOCK: Final = 0x636F73656C6D  # any number, as long as every version uses the same
_OURS: Final = re.compile(
    r"The queue of cosell-sync, by procrastinate (?P<version>[\d.]+)\S*, schema (?P<digest>\w+)"
)
_FOUND: Final = (
    "SELECT to_regclass('procrastinate_jobs') IS NOT NULL, obj_description(to_regclass('procrastinate_jobs'))"
)
_DROP: Final = r"""
DO $$
DECLARE one text;
BEGIN
    FOR one IN SELECT oid::regclass FROM pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r' AND relname LIKE 'procrastinate\_%'
    LOOP EXECUTE 'DROP TABLE ' || one || ' CASCADE'; END LOOP;
    FOR one IN SELECT oid::regprocedure FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'procrastinate\_%'
    LOOP EXECUTE 'DROP FUNCTION ' || one || ' CASCADE'; END LOOP;
    FOR one IN SELECT kind.oid::regtype FROM pg_type kind LEFT JOIN pg_class ON pg_class.oid = typrelid
        WHERE typnamespace = current_schema()::regnamespace AND typname LIKE 'procrastinate\_%'
        AND (typtype = 'e' OR relkind = 'c')
    LOOP EXECUTE 'DROP TYPE ' || one || ' CASCADE'; END LOOP;
END $$
"""


def connector(engine: Engine) -> PsycopgConnector:
    """The queue's own access to the database of this engine: a few connections beside those of the store.

    Each statement is a transaction of its own: a worker that stands still between a statement and its commit would keep the key
    of a waiting job locked, and with it every look of the fleet.
    """
    address = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    return PsycopgConnector(conninfo=address, configure=_each_by_itself, min_size=1, max_size=4)


async def _each_by_itself(connection: AsyncConnection[Any]) -> None:
    await connection.set_autocommit(True)
    connection.prepare_threshold = None  # behind a pooler the next statement may meet another session


def prepare(engine: Engine) -> None:
    """See that the tables are there and fit; one process at a time does it, in one transaction.

    Raises ConfigError where they belong to another program, or a newer version made them.
    """
    schema = SchemaManager.get_schema()
    digest = hashlib.sha256(schema.encode()).hexdigest()[:12]
    with writing(engine) as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        there, comment = connection.execute(text(_FOUND)).one()
        if there:
            ours = _OURS.fullmatch(comment or "")
            if ours is None:
                raise ConfigError(
                    "the database already has tables of procrastinate that another program made",
                    hint="give cosell-sync a database, or a schema, of its own (store.url)",
                )
            if ours["digest"] == digest:
                return
            if _number(ours["version"]) > _number(__version__):
                raise ConfigError(
                    f"the queue was made by a newer procrastinate ({ours['version']}) than this one ({__version__})",
                    hint="run the newer version here as well",
                )
            _execute(connection, _DROP)
        _execute(connection, schema)
        # A comment takes no parameters; both values are ours.
        note = f"The queue of cosell-sync, by procrastinate {__version__}, schema {digest}"
        _execute(connection, f"COMMENT ON TABLE procrastinate_jobs IS '{note}'")


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _execute(connection: Connection, statements: Any) -> None:
    """Several statements at once, which only the driver itself takes, and only without parameters."""
    driver: Any = connection.connection.driver_connection
    driver.execute(statements)
