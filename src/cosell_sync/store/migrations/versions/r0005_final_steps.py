"""Steps that cannot be undone, to be counted; which links wait for a person's word on one; which preconditions are broken.

Never imports ``schema``, as any revision.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "final_step",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("link", _KEY, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("connection", "link", "kind", name="pk_final_step"),
    )
    op.create_index("ix_final_step_at", "final_step", ["connection", "at"])
    op.add_column("link", sa.Column("withheld", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("cycle_state", sa.Column("broken", sa.JSON(none_as_null=True)))
    op.drop_index("ix_link_standing", "link")
    op.create_index(
        "ix_link_standing",
        "link",
        ["connection", "phase", "sync_state", "parked", "rejected", "withheld", "key"],
    )
