"""To whom a store belongs, unknown until its next contact; and an index by which deals are counted without reading them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "binding",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "side", name="pk_binding"),
    )
    op.create_index(
        "ix_link_standing", "link", ["connection", "phase", "sync_state", "parked", "rejected", "key"]
    )
