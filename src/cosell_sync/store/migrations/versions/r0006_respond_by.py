"""When an unanswered referral expires, in a column: counted and sorted without reading a deal; the newest cycles; hints.

The column is filled from what was read of the referral. Never imports ``schema``, as any revision.
"""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_PAGE = 500


def upgrade() -> None:
    op.create_table(
        "cycle",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=False),
        sa.PrimaryKeyConstraint("connection", "id", name="pk_cycle"),
    )
    op.create_index("ix_cycle_at", "cycle", ["connection", "at"])
    op.create_table(
        "hint",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("referral_id", _KEY, nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("changed", sa.String(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("taken", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("connection", "referral_id", "event", "changed", name="pk_hint"),
    )
    op.create_index("ix_hint_taken", "hint", ["connection", "taken", "at"])
    op.add_column("link", sa.Column("respond_by", sa.DateTime(timezone=True)))
    op.create_index("ix_link_respond_by", "link", ["connection", "respond_by"])
    database = op.get_bind()
    link = sa.table(
        "link",
        sa.column("connection"),
        sa.column("key"),
        sa.column("phase"),
        sa.column("referral", sa.JSON()),
        sa.column("respond_by", sa.DateTime(timezone=True)),
    )
    fields = link.c.referral["fields"]
    unanswered = (
        sa.select(link.c.connection, link.c.key, fields["respond_by"].as_string().label("until"))
        .where(link.c.phase.in_(["linked", "waiting"]), fields["state"].as_string() == "Received")
        .where(fields["respond_by"].as_string().is_not(None))
    )
    found = database.execute(unanswered).all()
    fill = (
        sa.update(link)
        .where(link.c.connection == sa.bindparam("of"), link.c.key == sa.bindparam("named"))
        .values(respond_by=sa.bindparam("until"))
    )
    sqlite = database.dialect.name == "sqlite"
    for start in range(0, len(found), _PAGE):
        page = found[start : start + _PAGE]
        database.execute(
            fill,
            [
                {"of": row.connection, "named": row.key, "until": _moment(row.until, sqlite=sqlite)}
                for row in page
            ],
        )


def _moment(text: str, *, sqlite: bool) -> datetime:
    """SQLite keeps no time zone: there a moment is UTC without one."""
    moment = datetime.fromisoformat(text).astimezone(UTC)
    return moment.replace(tzinfo=None) if sqlite else moment
