"""What receivers of notices were told, or are to be. Never imports ``schema``, as any revision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "notice",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("due", sa.DateTime(timezone=True)),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("connection", "target", "key", name="pk_notice"),
    )
    op.create_index("ix_notice_due", "notice", ["connection", "due"])
