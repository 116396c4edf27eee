"""When a connection was paused, and when its next cycle is due. Never imports ``schema``, as any revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("connection", sa.Column("paused_at", sa.DateTime(timezone=True)))
    op.add_column("connection", sa.Column("due", sa.DateTime(timezone=True)))
