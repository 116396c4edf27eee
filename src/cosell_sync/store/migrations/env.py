"""What Alembic runs to reach the store; ``store.migrate`` hands it a connection inside a transaction.

For making a new revision by hand, ``alembic -x url=sqlite:///x.db`` works as well.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, make_url

from cosell_sync.store import schema
from cosell_sync.store.engine import make_engine, writing


def _run(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=schema.metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


_given = context.config.attributes.get("connection")
if _given is not None:
    _run(_given)
else:
    with writing(make_engine(make_url(context.get_x_argument(as_dictionary=True)["url"]))) as _own:
        _run(_own)
