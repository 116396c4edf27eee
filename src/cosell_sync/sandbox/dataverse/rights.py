"""Which privileges a request needs, and what the application user's roles lack."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.roles import privilege
from cosell_sync.sandbox.dataverse.values import Refused, Row


@dataclass
class Rights:
    """What the roles of the application user lack."""

    denied: set[str] = field(default_factory=set)  # privilege names such as prvWriteOpportunity
    secured: set[tuple[str, str]] = field(
        default_factory=set
    )  # (table, column) without a field security profile
    # Of those, the ones that a profile of the application user opens, and what a masking rule shows instead of a value.
    # https://learn.microsoft.com/power-platform/admin/create-manage-masking-rules
    opened: set[tuple[str, str]] = field(default_factory=set)
    masks: dict[tuple[str, str], str] = field(default_factory=dict)
    unseen: set[str] = field(
        default_factory=set
    )  # ids of rows that the application user's depth does not reach
    has_roles: bool = True
    organization_wide_read: bool = True
    may: Callable[[str], frozenset[str] | None] = lambda _: None  # by user; None: everything
    asked: set[str] = field(default_factory=set)  # the privileges that were needed so far

    def need(self, verb: str, table: str, actor: str) -> None:
        """Refuses the request unless the user has the privilege of that verb and table."""
        if not self.has_roles:
            raise Refused(
                values.NO_ROLES,
                "The user has not been assigned any License or role. No roles are assigned.",
                403,
            )
        self.need_named(privilege(verb, table), table, actor)

    def need_named(self, name: str, table: str, actor: str) -> None:
        """Refuses the request unless the user has the privilege of that name."""
        mine = self.may(actor)
        self.asked.add(name)
        if name.lower() in {each.lower() for each in self.denied} or (
            mine is not None and name.lower() not in mine
        ):
            raise Refused(
                values.NO_PRIVILEGE,
                f"Principal user (Id={actor}, type=8, roleCount=1, privilegeCount=42, accessMode=4) is missing {name} "
                f"privilege on OTC=3 for entity '{table}'. context.Caller={actor}",
                403,
            )

    def need_column(self, table: str, columns: Mapping[str, Any], *, creating: bool) -> None:
        """Refuses a write to columns that a field security profile protects."""
        for name in columns:
            if (table, name) in self.secured - self.opened:
                code, word = ("0x8004F502", "create") if creating else ("0x8004F507", "update")
                raise Refused(
                    code, f"Caller does not have permission to {word} the secured attribute '{name}'.", 403
                )

    def may_see(self, table: str, column: str) -> bool:
        """Whether the column is readable."""
        return (table, column) not in self.secured or (table, column) in self.opened

    def reached(self, rows: Iterable[Row], key: str) -> list[Row]:
        """The rows that the application user may read: others are left out of every list."""
        return [row for row in rows if row[key] not in self.unseen]
