"""The API calls of each day and system. A revision never imports ``schema``: it must stay what it was when it was written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "budget",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("system", sa.String(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("used", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "system", "day", name="pk_budget"),
    )
