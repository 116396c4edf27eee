"""Takes one person out of everything that is stored: links, open intents and the journal; see ``core.erasure``.

Page by page, each a transaction of its own: a call that was cut short is simply made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, select, update

from cosell_sync.core.erasure import ErasureResult, Person, from_entry, from_intent, from_link, values
from cosell_sync.store import journal, links, schema, serialize
from cosell_sync.store.engine import writing
from cosell_sync.store.lease import Lease
from cosell_sync.store.rows import upsert_rows
from cosell_sync.store.statements import chunks


class Erasure:
    """In the rows of the connection of that name; ``lease`` must be held."""

    def __init__(self, engine: Engine, name: str, lease: Lease) -> None:
        self._engine = engine
        self._name = name
        self._lease = lease

    def forget(self, email: str) -> ErasureResult:
        """The address, and the names and numbers that stand beside it anywhere. How much was touched."""
        person = Person(email.strip().lower())
        for link in links.walk(self._engine, self._name):
            person = person.with_traces(values(link))
        for some in journal.pages(self._engine, self._name):
            lines = (line for row in some.values() for line in row)
            person = person.with_traces(value for line in lines for value in (line.old, line.new))
        done = ErasureResult(
            deals=self._from_links(person),
            intents=self._from_intents(person),
            journal=self._from_journal(person),
        )
        wipe(self._engine)
        return done

    def _from_links(self, person: Person) -> int:
        known = links.walk(self._engine, self._name)
        touched = [link for link in known if from_link(link, person) is not link]
        for part in chunks(touched):
            with erasing(self._engine, self._lease) as connection:
                links.put(connection, self._name, [from_link(link, person) for link in part])
        return len(touched)

    def _from_intents(self, person: Person) -> int:
        with erasing(self._engine, self._lease) as connection:
            column = schema.intent.c
            rows = connection.execute(select(schema.intent).where(column.connection == self._name))
            opened = [serialize.to_intent(row) for row in rows.mappings()]
            without = [(item, from_intent(item, person)) for item in opened]
            changed = [serialize.from_intent(after) for item, after in without if after is not item]
            upsert_rows(connection, self._name, schema.intent, changed)
        return len(changed)

    def _from_journal(self, person: Person) -> int:
        count = 0
        for some in journal.pages(self._engine, self._name):
            without = {number: [from_entry(line, person) for line in lines] for number, lines in some.items()}
            changed = {number: lines for number, lines in without.items() if lines != some[number]}
            for number, lines in changed.items():
                count += sum(line != before for line, before in zip(lines, some[number], strict=True))
            if changed:
                with erasing(self._engine, self._lease) as connection:
                    for number, lines in changed.items():
                        (row,) = serialize.from_entries(lines)
                        connection.execute(
                            update(schema.journal).where(schema.journal.c.id == number).values(**row)
                        )
        return count


@contextmanager
def erasing(engine: Engine, lease: Lease) -> Iterator[Connection]:
    """Writing as the one writer; SQLite overwrites what it gives up instead of only letting go of it."""
    with writing(engine) as connection:
        lease.check(connection)
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete = ON")
        yield connection


def wipe(engine: Engine) -> None:
    """What SQLite's log still holds of former pages goes too; PostgreSQL's vacuum does that in its own time."""
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
