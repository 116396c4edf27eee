"""Tables, columns, choices and keys as values, and one function per kind of column.

Everything the fake checks is read from them, and its metadata queries print them. Names are logical names (lower case). A lookup
is read as `_name_value` and written through its navigation property, whose name is case sensitive and carries the table where
several tables are possible (`customerid_account`). Choices are stored as numbers and shown by label.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Kind = Literal[
    "guid", "string", "memo", "money", "decimal", "integer", "bigint", "boolean", "datetime", "date", "choice",
    "state", "status", "lookup",
]  # fmt: skip
CHOICES = frozenset({"choice", "state", "status"})
NUMBERS = frozenset({"money", "decimal", "integer", "bigint"})
PREFIX_VALUE = 727_000_000
"""The publisher's option prefix: our choices count from here."""


@dataclass(frozen=True)
class Option:
    """One value of a choice; a status reason belongs to a state, a state has its default reason."""

    value: int
    label: str
    state: int | None = None
    default: int | None = None
    translations: Mapping[int, str] = field(default_factory=dict)  # language -> label, where it is another


@dataclass(frozen=True)
class Column:
    """One column: what it accepts, who may write it, how metadata shows it."""

    name: str
    label: str
    kind: Kind = "string"
    schema_name: str = ""
    length: int = 0
    low: float = -1e12
    high: float = 1e12
    precision: int = 2
    precision_source: int = 2  # of money: 0 own, 1 the organization's, 2 the row's currency's
    required: Literal["None", "ApplicationRequired", "SystemRequired"] = "None"
    creatable: bool = True
    updatable: bool = True
    options: tuple[Option, ...] = ()
    default: object = None
    targets: Mapping[str, str] = field(default_factory=dict)  # table -> navigation property
    on_delete: Literal["clear", "cascade", "restrict"] = "clear"
    child_name: str = ""  # the parent's collection of these rows
    format: str = ""
    behavior: str = ""  # of a moment, where it is not the usual one
    shared: str = ""  # the global choice that the options come from
    translations: Mapping[int, str] = field(default_factory=dict)  # language -> label, where it is another

    @property
    def custom(self) -> bool:
        return self.name.startswith("cosell_")

    @property
    def read_as(self) -> str:
        """The name that a client reads the column under."""
        return f"_{self.name}_value" if self.kind == "lookup" else self.name

    def collection(self, target: str) -> str:
        """What a row of that table calls the rows that point at it through this lookup."""
        return self.child_name.replace("{table}", target).replace("{Table}", target.capitalize())

    def option(self, value: object) -> Option | None:
        """The option of that number; None when there is none."""
        return next((each for each in self.options if each.value == value), None)

    def labelled(self, label: str) -> Option | None:
        """The option of that label, without regard to case; None when there is none."""
        wanted = label.casefold()
        return next((each for each in self.options if each.label.casefold() == wanted), None)


@dataclass(frozen=True)
class Key:
    """An alternate key; only an active one may be used, and only then is it enforced."""

    name: str
    schema_name: str
    columns: tuple[str, ...]
    status: Literal["Pending", "InProgress", "Active", "Failed"] = "Active"


@dataclass(frozen=True)
class Child:
    """A parent's collection: its name, and the lookup of the other table it rests on."""

    name: str
    table: str
    column: str


@dataclass(frozen=True)
class Table:
    """One table with its columns, keys and collections."""

    name: str
    set_name: str
    label: str
    code: int
    key: str
    primary: str
    columns: Mapping[str, Column]
    keys: tuple[Key, ...] = ()
    children: tuple[Child, ...] = ()
    writable: bool = True
    change_tracking: bool = True
    trackable: bool = True
    concurrency: bool = True
    activity: bool = False

    @property
    def custom(self) -> bool:
        return self.name.startswith("cosell_")

    def reading(self, name: str) -> Column | None:
        """The column that a client reads under this name."""
        if name.startswith("_") and name.endswith("_value"):
            found = self.columns.get(name[1:-6])
            return found if found is not None and found.kind == "lookup" else None
        found = self.columns.get(name)
        return found if found is not None and found.kind != "lookup" else None

    def navigation(self, name: str) -> tuple[Column, tuple[str, ...]] | None:
        """The lookup behind a navigation property, and the tables that it leads to."""
        for column in self.columns.values():
            leads = tuple(table for table, way in column.targets.items() if way == name)
            if leads:
                return column, leads
        return None

    def child(self, name: str) -> Child | None:
        """The collection of that name; None when there is none."""
        return next((each for each in self.children if each.name == name), None)


def text(name: str, label: str, length: int = 100, **more: Any) -> Column:
    return replace(Column(name, label, "string", length=length), **more)


def memo(name: str, label: str, length: int = 2000) -> Column:
    return Column(name, label, "memo", length=length)


def flag(name: str, label: str, *, default: bool | None = False) -> Column:
    return Column(name, label, "boolean", default=default)


def number(name: str, label: str, low: float = 0, high: float = 1_000_000_000) -> Column:
    return Column(name, label, "integer", low=low, high=high)


def money(name: str, label: str, **more: Any) -> Column:
    return replace(Column(name, label, "money"), **more)


def choice(name: str, label: str, options: Mapping[int, str] | Iterable[str], **more: Any) -> Column:
    """A choice; without numbers it is one of ours and counts from the publisher's prefix."""
    pairs = (
        options.items()
        if isinstance(options, Mapping)
        else enumerate(options, start=PREFIX_VALUE)
    )  # fmt: skip
    made = tuple(Option(value, label) for value, label in pairs)
    return replace(Column(name, label, "choice", options=made), **more)


def lookup(name: str, label: str, *tables: str, way: str = "", **more: Any) -> Column:
    """A lookup; its navigation property is `way`, or the column's own name, or one for each table."""
    if len(tables) == 1 or way:
        leads = dict.fromkeys(tables, way or name)
    else:
        leads = {table: f"{name}_{table}" for table in tables}
    return replace(Column(name, label, "lookup", targets=leads), **more)


def read_only(column: Column) -> Column:
    return replace(column, creatable=False, updatable=False)


def states(*pairs: tuple[Option, tuple[Option, ...]]) -> list[Column]:
    """State and status reason; the first reason of a state is its default."""
    made = tuple(replace(state, default=reasons[0].value) for state, reasons in pairs)
    every = tuple(replace(each, state=state.value) for state, reasons in pairs for each in reasons)
    return [
        Column("statecode", "Status", "state", options=made, default=made[0].value),
        Column("statuscode", "Status Reason", "status", options=every, default=made[0].default),
    ]


def active() -> list[Column]:
    return states((Option(0, "Active"), (Option(1, "Active"),)), (Option(1, "Inactive"), (Option(2, "Inactive"),)))  # fmt: skip


def stamps(*, owned: bool = True) -> list[Column]:
    """The columns every table has; nobody writes them, but for the owner."""
    made = [
        read_only(Column("createdon", "Created On", "datetime")),
        read_only(lookup("createdby", "Created By", "systemuser")),
        read_only(Column("modifiedon", "Modified On", "datetime")),
        read_only(lookup("modifiedby", "Modified By", "systemuser")),
        read_only(lookup("modifiedonbehalfby", "Modified By (Delegate)", "systemuser")),
        replace(Column("overriddencreatedon", "Record Created On", "datetime"), updatable=False),
        read_only(Column("versionnumber", "Version Number", "bigint", low=0, high=2**63 - 1)),
    ]
    if owned:
        made += [
            lookup("ownerid", "Owner", "systemuser", "team", way="ownerid", required="SystemRequired"),
            read_only(lookup("owninguser", "Owning User", "systemuser")),
            read_only(lookup("owningteam", "Owning Team", "team")),
        ]
    return made


def currency() -> list[Column]:
    return [
        lookup("transactioncurrencyid", "Currency", "transactioncurrency", on_delete="restrict"),
        read_only(Column("exchangerate", "Exchange Rate", "decimal", precision=10)),
    ]


def linked(tables: Mapping[str, Table]) -> dict[str, Table]:
    """The same tables, each with the collections of rows that point at it."""
    children: dict[str, list[Child]] = {name: [] for name in tables}
    for name, table in tables.items():
        for column in table.columns.values():
            for target in column.targets:
                given = column.collection(target)
                if target in children and given and (target != "contact" or "accounts" not in given):
                    children[target].append(Child(given, name, column.name))
    return {name: replace(table, children=tuple(children[name])) for name, table in tables.items()}
