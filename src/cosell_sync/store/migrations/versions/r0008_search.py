"""What a deal is found by, in a column with an index: both ids, the names of deal and customer. Never imports ``schema``."""

from __future__ import annotations

import unicodedata

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_PAGE = 500
_BYTES = 1500


def upgrade() -> None:
    op.add_column("link", sa.Column("search", sa.String()))
    op.create_index("ix_link_search", "link", ["connection", "phase", "sync_state", "key", "search"])
    database = op.get_bind()
    link = sa.table(
        "link",
        sa.column("connection"),
        sa.column("key"),
        sa.column("referral_id"),
        sa.column("opportunity_id"),
        sa.column("referral", sa.JSON()),
        sa.column("opportunity", sa.JSON()),
        sa.column("search"),
    )
    names = [
        path.as_string()
        for side in (link.c.referral, link.c.opportunity)
        for path in (side["fields"]["name"], side["fields"]["customer"]["name"])
    ]
    found = database.execute(
        sa.select(link.c.connection, link.c.key, link.c.referral_id, link.c.opportunity_id, *names)
    ).all()
    fill = (
        sa.update(link)
        .where(link.c.connection == sa.bindparam("of"), link.c.key == sa.bindparam("named"))
        .values(search=sa.bindparam("words"))
    )
    for start in range(0, len(found), _PAGE):
        rows = [
            {"of": of, "named": key, "words": _words(parts)}
            for of, key, *parts in found[start : start + _PAGE]
        ]
        database.execute(fill, rows)


def _words(parts: list[str | None]) -> str:
    words = dict.fromkeys(_plain(part) for part in parts if part)
    return "\n".join(words).encode()[:_BYTES].decode(errors="ignore")


def _plain(text: str) -> str:
    kept = (letter for letter in text if unicodedata.category(letter) not in {"Cc", "Cf", "Cs"})
    return "".join(kept).casefold().strip()
