"""By which lock of its session the holder of a lease is known to be there; the few parked and withheld deals in indexes.

Never imports ``schema``, as any revision.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("lease", sa.Column("presence", sa.BigInteger()))
    for flag in ("parked", "withheld"):
        op.create_index(
            f"ix_link_{flag}",
            "link",
            ["connection", "key"],
            sqlite_where=sa.text(f"{flag} = 1"),
            postgresql_where=sa.column(flag, sa.Boolean()),
        )
