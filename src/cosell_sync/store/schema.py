"""The tables of the store, in the words of ``core.deal``; ``migrations/`` builds exactly these, a test compares them.

What is asked for by value has a column of its own (ids, phase, dirty, due, versions); the rest of a link is JSON that
only ``serialize`` understands. Every row belongs to a *connection* (one Partner Center account paired with one CRM).
Keys sort by code point on both databases, so that paging by key means the same everywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    column,
    false,
    text,
)

DEFAULT: Final = "default"


class Moment(TypeDecorator[datetime]):
    """An aware moment, UTC in and out; SQLite forgets time zones, so they are taken off and put back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)


metadata = MetaData()

_KEY = String().with_variant(String(collation="C"), "postgresql")
_DATA = JSON(none_as_null=True)


def _connection() -> Column[str]:
    return Column("connection", String, ForeignKey("connection.name"), nullable=False)


def _only(name: str, flag: str) -> Index:
    """An index of the links that have this flag, which are few."""
    # SQLite takes it only for a question in the same words.
    return Index(
        name, "connection", "key", sqlite_where=text(f"{flag} = 1"), postgresql_where=column(flag, Boolean)
    )


# ``paused_at`` and ``due`` as in ``connections.Turn``.
connection = Table(
    "connection",
    metadata,
    Column("name", String, primary_key=True),
    Column("paused_at", Moment),
    Column("due", Moment),
)

link = Table(
    "link",
    metadata,
    _connection(),
    Column("key", _KEY, nullable=False),
    Column("referral_id", _KEY),
    Column("opportunity_id", _KEY),
    Column("phase", String, nullable=False),
    Column("dirty", Boolean, nullable=False),
    Column("due", Moment),
    Column("sync_state", String, nullable=False),
    Column("parked", Boolean, nullable=False),
    Column("rejected", Boolean, nullable=False),
    Column("withheld", Boolean, nullable=False, server_default=false()),
    Column("respond_by", Moment),  # while the referral waits for accept or decline
    Column("search", String),  # as in ``listing.searched``
    Column("referral_version", String),
    Column("opportunity_version", String),
    Column("referral", _DATA),
    Column("opportunity", _DATA),
    Column("base_referral", _DATA, nullable=False),
    Column("base_opportunity", _DATA, nullable=False),
    Column("memory", _DATA, nullable=False),
    PrimaryKeyConstraint("connection", "key", name="pk_link"),
    UniqueConstraint("connection", "referral_id", name="uq_link_referral"),
    UniqueConstraint("connection", "opportunity_id", name="uq_link_opportunity"),
    Index("ix_link_dirty", "connection", "dirty", "key"),
    Index("ix_link_due", "connection", "due"),
    Index("ix_link_respond_by", "connection", "respond_by"),
    Index("ix_link_phase", "connection", "phase", "key"),
    _only("ix_link_parked", "parked"),
    _only("ix_link_withheld", "withheld"),
    Index("ix_link_search", "connection", "phase", "sync_state", "key", "search"),
    Index("ix_link_standing", "connection", "phase", "sync_state", "parked", "rejected", "withheld", "key"),
)

# Child row (a contact role, a solution, …) → the opportunity whose snapshot was read from it.
link_row = Table(
    "link_row",
    metadata,
    _connection(),
    Column("link", _KEY, nullable=False),
    Column("row", _KEY, nullable=False),
    Column("opportunity_id", _KEY, nullable=False),
    PrimaryKeyConstraint("connection", "link", "row", name="pk_link_row"),
    ForeignKeyConstraint(["connection", "link"], ["link.connection", "link.key"], name="fk_link_row_link"),
    Index("ix_link_row_row", "connection", "row"),
)

# How far each side was read; what the text means only that side's adapter knows.
watermark = Table(
    "watermark",
    metadata,
    _connection(),
    Column("name", String, nullable=False),
    Column("value", String, nullable=False),
    PrimaryKeyConstraint("connection", "name", name="pk_watermark"),
)

# What a cycle leaves for the next beside deals and watermarks, as in ``ports.CycleState``.
cycle_state = Table(
    "cycle_state",
    metadata,
    _connection(),
    Column("compared_at", Moment),
    Column("clock", Moment),
    Column("rules", String),
    Column("shape", _DATA),
    Column("engagements", _DATA),
    Column("broken", _DATA),
    PrimaryKeyConstraint("connection", name="pk_cycle_state"),
)

# The newest cycles, as `cycle.finished` told them, with their exit code; `history` keeps so many.
cycle = Table(
    "cycle",
    metadata,
    _connection(),
    Column("id", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("data", _DATA, nullable=False),
    PrimaryKeyConstraint("connection", "id", name="pk_cycle"),
    Index("ix_cycle_at", "connection", "at"),
)

# What a webhook said of a referral: worth a look. ``taken``: a cycle has looked; kept for a day, so that a repetition is known.
hint = Table(
    "hint",
    metadata,
    _connection(),
    Column("referral_id", _KEY, nullable=False),
    Column("event", String, nullable=False),
    Column("changed", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("taken", Boolean, nullable=False),
    PrimaryKeyConstraint("connection", "referral_id", "event", "changed", name="pk_hint"),
    Index("ix_hint_taken", "connection", "taken", "at"),
)

# When a step that cannot be undone was last announced for a link without a person's word; the guard counts them.
final_step = Table(
    "final_step",
    metadata,
    _connection(),
    Column("link", _KEY, nullable=False),
    Column("kind", String, nullable=False),
    Column("at", Moment, nullable=False),
    PrimaryKeyConstraint("connection", "link", "kind", name="pk_final_step"),
    Index("ix_final_step_at", "connection", "at"),
)

# Whose records the deals of this store are, by side, as in ``ports.Identity``.
binding = Table(
    "binding",
    metadata,
    _connection(),
    Column("side", String, nullable=False),
    Column("system", String, nullable=False),
    Column("account", String, nullable=False),
    Column("host", String, nullable=False),
    PrimaryKeyConstraint("connection", "side", name="pk_binding"),
)

# What was found out of the other systems' capabilities, as in ``core.capabilities.Verdict``.
verdict = Table(
    "verdict",
    metadata,
    _connection(),
    Column("capability", String, nullable=False),
    Column("answer", String, nullable=False),
    Column("code", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("basis", String, nullable=False),
    PrimaryKeyConstraint("connection", "capability", name="pk_verdict"),
)

# What a receiver of notices was told, or is to be, as in ``core.notices``. ``target``: a digest of its address. ``due``: when to
# send it, in the order of ``place``; null: it arrived (``told``) or was given up. Deals stand in it by key only.
notice = Table(
    "notice",
    metadata,
    _connection(),
    Column("target", String, nullable=False),
    Column("key", _KEY, nullable=False),
    Column("at", Moment, nullable=False),
    Column("due", Moment),
    Column("place", Integer, nullable=False),
    Column("told", Boolean, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("data", _DATA, nullable=False),
    PrimaryKeyConstraint("connection", "target", "key", name="pk_notice"),
    Index("ix_notice_due", "connection", "due"),
)

intent = Table(
    "intent",
    metadata,
    _connection(),
    Column("link", _KEY, nullable=False),
    Column("side", String, nullable=False),
    Column("creates", Boolean, nullable=False),
    Column("version", String, nullable=False),
    Column("fields", _DATA, nullable=False),
    Column("source", _DATA, nullable=False),
    Column("cycle", String, nullable=False),
    Column("at", Moment, nullable=False),
    PrimaryKeyConstraint("connection", "link", "side", name="pk_intent"),
    ForeignKeyConstraint(["connection", "link"], ["link.connection", "link.key"], name="fk_intent_link"),
)

# What a person asked for while another process may hold the lease; the next cycle takes it from here.
order = Table(
    "orders",
    metadata,
    _connection(),
    Column("id", _KEY, nullable=False),
    Column("data", _DATA, nullable=False),
    PrimaryKeyConstraint("connection", "id", name="pk_orders"),
)

# Only ever appended to, and purged by age. ``id`` is the order of events. The lines of one write share a row (``serialize``).
journal = Table(
    "journal",
    metadata,
    Column(
        "id",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
        nullable=False,
    ),
    _connection(),
    Column("link", _KEY, nullable=False),
    Column("cycle", String, nullable=False),
    Column("at", Moment, nullable=False),
    Column("side", String, nullable=False),
    Column("action", String, nullable=False),
    Column("field", String),
    Column("old", _DATA),
    Column("new", _DATA),
    Column("rule", String, nullable=False),
    Index("ix_journal_link", "connection", "link", "id"),
    Index("ix_journal_at", "connection", "at"),
)

# One writer per connection, on PostgreSQL. ``fence`` grows with every new holder; ``deadline`` is the database's time;
# ``presence``: the lock that the holder's session has, as in ``presence``, null where it has none.
lease = Table(
    "lease",
    metadata,
    _connection(),
    Column("holder", String),
    Column("fence", BigInteger, nullable=False),
    Column("deadline", Moment),
    Column("presence", BigInteger),
    PrimaryKeyConstraint("connection", name="pk_lease"),
)

# API calls made on a day (UTC) to a system, those included that a running process has reserved.
budget = Table(
    "budget",
    metadata,
    _connection(),
    Column("system", String, nullable=False),
    Column("day", Date, nullable=False),
    Column("used", Integer, nullable=False),
    PrimaryKeyConstraint("connection", "system", "day", name="pk_budget"),
)

# ``secret`` is ciphertext; ``seed`` a keyed digest of the configured token that was last taken in.
token = Table(
    "token",
    metadata,
    _connection(),
    Column("name", String, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("seed", String),
    PrimaryKeyConstraint("connection", "name", name="pk_token"),
)
