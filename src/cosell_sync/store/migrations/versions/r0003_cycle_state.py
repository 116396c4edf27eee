"""What a cycle leaves for the next leaves the watermarks, among which it stood. Never imports ``schema``, as any revision."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

# Name among the watermarks -> column now.
_COLUMNS = {
    "full_compare": "compared_at",
    "clock": "clock",
    "rules": "rules",
    "shape": "shape",
    "microsoft": "engagements",
}


def upgrade() -> None:
    state = op.create_table(
        "cycle_state",
        sa.Column("connection", sa.String(), sa.ForeignKey("connection.name"), nullable=False),
        sa.Column("compared_at", sa.DateTime(timezone=True)),
        sa.Column("clock", sa.DateTime(timezone=True)),
        sa.Column("rules", sa.String()),
        sa.Column("shape", sa.JSON(none_as_null=True)),
        sa.Column("engagements", sa.JSON(none_as_null=True)),
        sa.PrimaryKeyConstraint("connection", name="pk_cycle_state"),
    )
    watermark = sa.table("watermark", sa.column("connection"), sa.column("name"), sa.column("value"))
    moved = watermark.c.name.in_(_COLUMNS)
    database = op.get_bind()
    rows: defaultdict[str, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(_COLUMNS.values()))
    for connection, name, value in database.execute(sa.select(watermark).where(moved)):
        rows[connection][_COLUMNS[name]] = _value(name, value, sqlite=database.dialect.name == "sqlite")
    if rows:
        database.execute(
            sa.insert(state), [{"connection": connection, **row} for connection, row in rows.items()]
        )
    database.execute(sa.delete(watermark).where(moved))


def _value(name: str, text: str, *, sqlite: bool) -> Any:
    """SQLite keeps no time zone: there a moment is UTC without one."""
    match name:
        case "full_compare" | "clock":
            moment = datetime.fromisoformat(text).astimezone(UTC)
            return moment.replace(tzinfo=None) if sqlite else moment
        case "shape" | "microsoft":
            return json.loads(text)
        case _:
            return text
