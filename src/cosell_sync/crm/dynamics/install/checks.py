"""What `doctor` checks in Dataverse: each precondition on its own, with the one next step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from cosell_sync.core.fields import KINDS, NEWER, SELLER, Kind
from cosell_sync.crm.columns import SOLUTION_COLUMNS
from cosell_sync.crm.dynamics import changes, describe, lookups, odata, read, translate
from cosell_sync.crm.dynamics.install.schema import PARENT, SOLUTION_NAMES
from cosell_sync.crm.dynamics.install.schema import TYPES as COLUMN_TYPES
from cosell_sync.crm.dynamics.org import (
    ACCOUNTS,
    CONNECTIONS,
    CONTACTS,
    DEFAULT_NAMES,
    DUNS,
    LOST,
    OPEN,
    OPPORTUNITIES,
    SOLUTIONS,
    TABLES,
    USERS,
    WON,
    Column,
    Org,
)
from cosell_sync.crm.dynamics.org import OPTIONAL as READ
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.stock_columns import LABELS
from cosell_sync.crm.report import Check
from cosell_sync.crm.values import folded
from cosell_sync.errors import AuthFailed, OutsideError, RecordError, Surprise
from cosell_sync.transport.errors import Scope

PROVISION: Final = "run `cosell-sync provision` against this environment"
GRANT: Final = (
    "extend the application user's security role `Co-sell Sync Service` in the Power Platform admin center"
)

PROFILE: Final = "add the application user to a column security profile that may read it"

# Kind of our field → attribute types that can hold it.
TYPES: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.TEXT: frozenset({"String", "Memo", "Picklist", "Status"}),
    Kind.NOTES: frozenset({"String", "Memo"}),
    Kind.NUMBER: frozenset({"Money", "Decimal", "Double"}),
    Kind.DATE: frozenset({"DateTime"}),
    Kind.MOMENT: frozenset({"DateTime"}),
    Kind.FLAG: frozenset({"Boolean"}),
}
LOOKUP: Final = frozenset({"Lookup"})
OPTIONAL: Final = frozenset({"sales_stage"})


def check(rest: Rest, names: Mapping[str, str], stages: Sequence[str] = ()) -> Sequence[Check]:
    """One result a precondition. ``stages``: those that the mapping names. Never raises for a system that is away: the result
    then carries the error.
    """
    return list(_checks(rest, names, stages))


def check_fields(org: Org, names: Mapping[str, str]) -> Sequence[Check]:
    """The part of ``check`` that needs no call: the columns of opportunity in the environment as it was read."""
    return list(_fields(org.columns[OPPORTUNITIES], names))


def _checks(rest: Rest, names: Mapping[str, str], stages: Sequence[str]) -> Iterator[Check]:
    try:
        rest.get("WhoAmI")
        yield Check("dynamics.sign_in", "ok", "signed in")
        tables = describe.table_flags(rest)
        yield from _tables(rest, tables)
        if OPPORTUNITIES in tables:
            columns = describe.table_columns(rest, OPPORTUNITIES)
            yield from _fields(columns, names)
            yield from _key(rest, OPPORTUNITIES, names["referral_id"])
            yield from _stages(columns.get(names["stage"]), stages)
            yield from _days(columns.get(names["close_date"]))
        if ACCOUNTS in tables and not describe.has_duns(tables):
            text = f"column {DUNS} is missing: D-U-N-S numbers are neither sent nor taken over"
            yield Check(f"dynamics.account.{DUNS}", "warning", text, PROVISION)
        if SOLUTIONS in tables:
            yield from _solutions(describe.table_columns(rest, SOLUTIONS))
            yield from _key(rest, SOLUTIONS, SOLUTION_NAMES["key"])
        yield from _cycle(rest, names)
    except OutsideError as error:
        yield Check("dynamics.reachable", "fault", str(error), error.hint or "try again later", error)
    except Surprise as error:
        yield Check("dynamics.metadata", "fault", str(error), GRANT)


def _tables(rest: Rest, tables: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    for collection, logical in TABLES.items():
        label = f"dynamics.{logical}"
        flags = tables.get(collection)
        if flags is None:
            yield Check(label, "fault", f"table {logical} is missing", PROVISION)
            continue
        path = odata.query(collection, select=(changes.ID_COLUMNS[collection],), top=1)
        try:
            rest.get(path, scope=Scope.RECORD)
        except RecordError as error:
            yield Check(label, "fault", f"the application user may not read {logical} ({error.code})", GRANT)
            continue
        if collection in {OPPORTUNITIES, CONTACTS} and not flags.get("IsOptimisticConcurrencyEnabled"):
            yield Check(
                label,
                "warning",
                "no optimistic concurrency: an edit made in the very second of ours may be overwritten",
                f"enable optimistic concurrency on {logical}",
            )
        elif collection in {OPPORTUNITIES, CONNECTIONS, SOLUTIONS} and not flags.get("ChangeTrackingEnabled"):
            yield Check(
                label,
                "warning",
                "change tracking is off: deletions are seen once a day only",
                f"{PROVISION}, or enable Track changes on {logical}",
            )
        else:
            yield Check(label, "ok", "there and readable")


def _days(column: Column | None) -> Iterator[Check]:
    if column is not None and column.behavior == "UserLocal":
        text = (
            f"column {column.name} has the behavior User Local: a close date is an instant there, and a person east of UTC+13 or "
            "west of UTC-10 sees another day"
        )
        todo = f"change the behavior of {column.name} to Date Only"
        yield Check(f"dynamics.opportunity.{column.name}.behavior", "warning", text, todo)


ROWS_OF: Final = {CONNECTIONS: "contacts and team", SOLUTIONS: "solutions"}


def _cycle(rest: Rest, names: Mapping[str, str]) -> Iterator[Check]:
    """What a cycle reads: columns that it has to leave out, its own queries, and rows that it does not see."""
    try:
        org = describe.read(rest, names)
    except (AuthFailed, Surprise):
        return  # what is missing was named before
    for collection, column in _closed_columns(org):
        text = f"column {column} is secured, and no profile of the application user opens it: it is not synchronised"
        yield Check(f"dynamics.{TABLES[collection]}.{column}.security", "warning", text, PROFILE)
    for name in changes.PARENT:
        if name in org.tracked and changes.is_narrow(rest, org, name):
            text = f"the application user may not read every row of {TABLES[name]}: {ROWS_OF[name]} are not synchronised"
            yield Check(
                f"dynamics.{TABLES[name]}.reach", "warning", text, f"{GRANT}: Read of the whole organization"
            )
    bundles: list[translate.Bundle] = []

    def sample() -> None:
        bundles.extend(next(iter(read.all_in_scope(rest, org)), ()))

    nobody = "nobody@cosell-sync.invalid"
    queries: Mapping[str, Callable[[], object]] = {
        "opportunities": sample,
        "index": lambda: next(iter(read.index(rest, org)), None),
        "referrals": lambda: rest.all_rows(lookups.referral_questions(org, ["none"])),
        "users": lambda: list(lookups.users(rest, org, [nobody])),
        "accounts": lambda: rest.all_rows(lookups.account_questions(org, ["none none"])),
        **{
            f"changed_{TABLES[name]}": partial(changes.newest_stamp, rest, name)
            for name in changes.feeds(org)
        },
    }
    refused = False
    for name, ask in queries.items():
        try:
            ask()
        except (
            AuthFailed,
            Surprise,
            RecordError,
        ) as error:  # a right that is missing is refused like a sign-in
            refused = True
            text = f"the environment refuses this query of a cycle ({error})"
            yield Check(f"dynamics.query.{name}", "fault", text, GRANT)
    if not refused:
        yield Check("dynamics.query", "ok", f"all {len(queries)} queries of a cycle are answered")
    found = Counter(
        name for each in bundles for name in set(translate.out_of_sight(each, org)) if name in LABELS
    )
    for name, count in found.items():
        text = f"{LABELS[name]}: of {len(bundles)} opportunities, {count} name rows or columns out of sight"
        yield Check(
            f"dynamics.sharing.{name}", "warning", text, f"{GRANT}: Read of the whole organization; {PROFILE}"
        )


def _closed_columns(org: Org) -> Iterator[tuple[str, str]]:
    """The secured columns that are read and that no profile opens."""
    used = {
        OPPORTUNITIES: tuple(org.names.values()),
        ACCOUNTS: org.account_columns,
        CONTACTS: translate.CONTACT,
        USERS: translate.USER,
        SOLUTIONS: (*translate.SOLUTION, *translate.SOLUTION_MORE),
    }
    for collection, listed in used.items():
        for column in listed:
            if org.security.closed(collection, column):
                yield collection, column


def _fields(columns: Mapping[str, Column], names: Mapping[str, str]) -> Iterator[Check]:
    for name, crm in names.items():
        label = f"dynamics.opportunity.{crm}"
        column = columns.get(crm)
        kinds = LOOKUP if name == "currency" else TYPES[KINDS[name]]
        if column is None:
            optional = name in OPTIONAL
            stock = crm == DEFAULT_NAMES.get(name) and not crm.startswith("cosell_")
            status = "warning" if optional or stock or name in NEWER else "fault"
            todo = PROVISION if crm.startswith("cosell_") else f"correct mapping.fields.{name}"
            yield Check(label, status, f"column {crm} is missing", todo)
        elif column.type not in kinds:
            wanted = ", ".join(sorted(kinds))
            yield Check(
                label, "fault", f"column {crm} is of type {column.type}", f"it must be one of: {wanted}"
            )
        elif not column.updatable and name not in READ:
            status = "warning" if name in {*SELLER, *NEWER} and name != "action" else "fault"
            yield Check(label, status, f"column {crm} cannot be edited", f"make {crm} editable")
        else:
            yield Check(label, "ok", "there, of the right type, editable")


def _solutions(columns: Mapping[str, Column]) -> Iterator[Check]:
    wanted = {SOLUTION_NAMES[ours]: COLUMN_TYPES[each.kind] for ours, each in SOLUTION_COLUMNS.items()}
    for name, kind in {PARENT: "Lookup", **wanted}.items():
        label = f"dynamics.{TABLES[SOLUTIONS]}.{name}"
        column = columns.get(name)
        if column is None:
            yield Check(label, "fault", f"column {name} is missing", PROVISION)
        elif column.type != kind:
            yield Check(
                label, "fault", f"column {name} is of type {column.type}", f"it must be of type {kind}"
            )
        else:
            yield Check(label, "ok", "there, of the right type")


def _key(rest: Rest, collection: str, column: str) -> Iterator[Check]:
    label = f"dynamics.{TABLES[collection]}.key"
    path = f"EntityDefinitions(LogicalName='{TABLES[collection]}')/Keys"
    found = rest.get(f"{path}?$select=SchemaName,KeyAttributes,EntityKeyIndexStatus")
    keys = [row for row in found.get("value") or [] if row.get("KeyAttributes") == [column]]
    if not keys:
        yield Check(label, "fault", f"there is no alternate key on {column}", PROVISION)
        return
    status = str(keys[0].get("EntityKeyIndexStatus"))
    if status == "Active":
        yield Check(label, "ok", f"the alternate key on {column} is active")
    elif status == "Failed":
        todo = f"remove double values of {column}, then {PROVISION}"
        yield Check(label, "fault", f"the index of the alternate key on {column} could not be built", todo)
    else:
        yield Check(
            label, "fault", f"the index of the alternate key on {column} is being built ({status})", "wait"
        )


STATES: Final = {OPEN: "Open", WON: "Won", LOST: "Lost"}


def _stages(column: Column | None, stages: Sequence[str]) -> Iterator[Check]:
    for name in dict.fromkeys(stages):
        label = f"dynamics.status_reason.{name}"
        choice = column.labelled(name) if column else None
        if choice is None:
            if alike := column.alike(name) if column else []:
                named = ", ".join(
                    f"{each.label} under {STATES.get(each.state, each.state)}" for each in alike
                )
                yield Check(
                    label,
                    "fault",
                    f"{len(alike)} status reasons are called {name}: {named}",
                    "write one of these names in mapping, or rename one status reason in the environment",
                )
                continue
            known = ", ".join(each.label for each in column.choices) if column else ""
            yield Check(
                label,
                "fault",
                f"opportunity has no status reason {name}",
                f"name one of these in mapping: {known}",
            )
        elif folded(choice.label) != folded(name):
            yield Check(
                label,
                "fault",
                f"the status reason {name} goes by the name {choice.label} here",
                f"write {choice.label} in mapping",
            )
        else:
            yield Check(label, "ok", "there")
