"""The first tables. A revision never imports ``schema``: it must stay what it was when it was written."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    connection = op.create_table("connection", sa.Column("name", sa.String(), primary_key=True))
    op.bulk_insert(connection, [{"name": "default"}])
    op.create_table(
        "link",
        _connection(),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("referral_id", _KEY),
        sa.Column("opportunity_id", _KEY),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("dirty", sa.Boolean(), nullable=False),
        sa.Column("due", _MOMENT),
        sa.Column("sync_state", sa.String(), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False),
        sa.Column("rejected", sa.Boolean(), nullable=False),
        sa.Column("referral_version", sa.String()),
        sa.Column("opportunity_version", sa.String()),
        sa.Column("referral", sa.JSON()),
        sa.Column("opportunity", sa.JSON()),
        sa.Column("base_referral", sa.JSON(), nullable=False),
        sa.Column("base_opportunity", sa.JSON(), nullable=False),
        sa.Column("memory", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "key", name="pk_link"),
        sa.UniqueConstraint("connection", "referral_id", name="uq_link_referral"),
        sa.UniqueConstraint("connection", "opportunity_id", name="uq_link_opportunity"),
    )
    op.create_index("ix_link_dirty", "link", ["connection", "dirty", "key"])
    op.create_index("ix_link_due", "link", ["connection", "due"])
    op.create_index("ix_link_phase", "link", ["connection", "phase", "key"])
    op.create_table(
        "link_row",
        _connection(),
        sa.Column("link", _KEY, nullable=False),
        sa.Column("row", _KEY, nullable=False),
        sa.Column("opportunity_id", _KEY, nullable=False),
        sa.PrimaryKeyConstraint("connection", "link", "row", name="pk_link_row"),
        sa.ForeignKeyConstraint(
            ["connection", "link"], ["link.connection", "link.key"], name="fk_link_row_link"
        ),
    )
    op.create_index("ix_link_row_row", "link_row", ["connection", "row"])
    op.create_table(
        "watermark",
        _connection(),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "name", name="pk_watermark"),
    )
    op.create_table(
        "intent",
        _connection(),
        sa.Column("link", _KEY, nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("creates", sa.Boolean(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("cycle", sa.String(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("connection", "link", "side", name="pk_intent"),
        sa.ForeignKeyConstraint(
            ["connection", "link"], ["link.connection", "link.key"], name="fk_intent_link"
        ),
    )
    op.create_table(
        "journal",
        sa.Column("id", _NUMBER, primary_key=True, autoincrement=True, nullable=False),
        _connection(),
        sa.Column("link", _KEY, nullable=False),
        sa.Column("cycle", sa.String(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("side", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("field", sa.String()),
        sa.Column("old", sa.JSON()),
        sa.Column("new", sa.JSON()),
        sa.Column("rule", sa.String(), nullable=False),
    )
    op.create_index("ix_journal_link", "journal", ["connection", "link", "id"])
    op.create_index("ix_journal_at", "journal", ["connection", "at"])
    op.create_table(
        "orders",
        _connection(),
        sa.Column("id", _KEY, nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "id", name="pk_orders"),
    )
    op.create_table(
        "lease",
        _connection(),
        sa.Column("holder", sa.String()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("deadline", _MOMENT),
        sa.PrimaryKeyConstraint("connection", name="pk_lease"),
    )
    op.create_table(
        "token",
        _connection(),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("seed", sa.String()),
        sa.PrimaryKeyConstraint("connection", "name", name="pk_token"),
    )


def _connection() -> sa.Column[str]:
    return sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False)
