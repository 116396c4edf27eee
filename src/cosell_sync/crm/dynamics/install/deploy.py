"""Makes in an environment what `schema` lists and the environment lacks: read, compare, make, publish, grant, wait.

Each component is a request of its own, because Dataverse has no request that makes all of them or none. What depends on a
component that failed is not made, and the finding says so; a second run makes the rest. What exists is never written again,
also where it differs: the finding then says how, and a person decides. Two things take effect later: an alternate key works
once the platform has built its index, for which the run waits, and a changed table once it is published.
https://learn.microsoft.com/power-apps/developer/data-platform/define-alternate-keys-entity
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cosell_sync.crm.columns import DUNS_COLUMN, SOLUTION_COLUMNS, Column, opportunity_columns
from cosell_sync.crm.dynamics import odata, org
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.install import differences, schema
from cosell_sync.crm.dynamics.install.pages import Pages
from cosell_sync.crm.dynamics.install.permissions import Permissions, find_user
from cosell_sync.crm.dynamics.install.schema import (
    IN_SOLUTION,
    KEEP_LABELS,
    RELATIONSHIP,
    SOLUTION,
    SOLUTION_NAMES,
    UNIQUE_NAME,
)
from cosell_sync.crm.dynamics.install.setup import BUSY_LIMIT, Installed, Progress, Setup, definition
from cosell_sync.crm.dynamics.org import ACCOUNTS, OPPORTUNITIES, SOLUTIONS, TABLES, field_names
from cosell_sync.crm.dynamics.rest import Rest, Row
from cosell_sync.crm.report import Finding, Status, stop_when_unclear
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.errors import RecordError, Rejected
from cosell_sync.settings import value_lists
from cosell_sync.transport.errors import Scope

REMEDY: Final = "cure what Dataverse names, then run provision again"
MAKER: Final = "make.powerapps.com"
# Seconds to wait before each read of a new column; Microsoft's own SDK polls in the same way.
VISIBILITY_PAUSES: Final = (0, 3, 10, 20)
PUBLISHER_LABEL: Final = f"Publisher {UNIQUE_NAME}"
SOLUTION_LABEL: Final = f"Solution {UNIQUE_NAME}"
TABLE_LABEL: Final = f"Table {SOLUTION}"


def _silent(_: str) -> None:
    pass


def provision(
    rest: Rest,
    names: Mapping[str, str] | None = None,
    *,
    dry_run: bool = False,
    assign: str | None = None,
    progress: Progress = _silent,
    words: Words = ENGLISH_WORDS,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> Sequence[Finding]:
    """One finding a component.

    ``assign``: application id or name of the user who receives the daemon's role; by default the signed-in user.
    ``progress`` is called with what is being made or waited for. ``choices``: the values of the lists that Microsoft renews;
    those that cosell-sync brings where not given. ``words``: the languages of what is made. Raises `SetupRefused` where the
    signed-in user lacks the rights, `Unavailable` where the environment does not answer.
    """
    with stop_when_unclear(SYSTEM):
        listed = value_lists.choices(value_lists.shipped()) if choices is None else choices
        setup = Setup(rest.consistent(), progress, field_names(names), words)
        return _Provisioning(setup, listed, dry_run=dry_run).findings(assign)


@dataclass(frozen=True)
class _Key:
    """An alternate key whose index is being built. ``finding``: what to report once it is."""

    finding: Finding
    collection: str
    column: str


class _Provisioning:
    """One run over one environment. ``missing``: components that do not exist and were not made."""

    installed: Installed

    def __init__(self, setup: Setup, choices: Mapping[str, Sequence[str]], *, dry_run: bool) -> None:
        self.setup = setup
        self.choices = choices
        self.names = setup.names
        self.dry_run = dry_run
        self.missing: set[str] = set()
        self.changed: set[str] = set()  # tables to publish
        self.new_columns: dict[str, list[str]] = {}  # set → columns made in this run

    def findings(self, assign: str | None) -> Sequence[Finding]:
        """Runs every step; one finding a component."""
        user = find_user(self.setup, assign)
        self.installed = self.setup.read_installed()
        if OPPORTUNITIES not in self.installed.flags:
            raise Rejected(
                "the environment has no table opportunity; dynamics.url must name one with Dynamics 365 Sales",
                code="no_sales",
            )
        found = [*self._solution()]
        for ours, column in opportunity_columns(self.choices).items():
            found.append(self._column(OPPORTUNITIES, self.names[ours], column, ours))
        found.append(self._column(ACCOUNTS, org.DUNS, DUNS_COLUMN))
        found += self._children()
        found += self._tracking()
        keys = [*self._keys()]
        columns = opportunity_columns(self.choices)
        pages = Pages(self.setup, self._make, columns, self.installed, self.missing, dry_run=self.dry_run)
        shown = [*pages.findings(SOLUTION_LABEL, TABLE_LABEL)]
        self.changed |= pages.changed
        found += self._publish()
        permissions = Permissions(
            self.setup,
            self._make,
            self.dry_run,
            new_table=SOLUTIONS not in self.installed.flags,
            depends_on=(SOLUTION_LABEL, TABLE_LABEL),
        )
        granted = [*permissions.findings(user)]
        found += self._await_keys(keys)
        self._await_columns()
        return [*found, *shown, *granted]

    def _make(self, label: str, op: Op, depends_on: Sequence[str] = ()) -> Finding:
        """Send the change, unless a component that it depends on is missing or this is a dry run."""
        lacking = next((each for each in depends_on if each in self.missing), None)
        if lacking is not None:
            self.missing.add(label)
            return Finding(label, Status.BLOCKED, f"it rests on {lacking}")
        if self.dry_run:
            return Finding(label, Status.TO_MAKE)
        self.setup.progress(label)
        refusal = self.setup.change(op)
        if refusal is None:
            return Finding(label, Status.MADE)
        if refusal.exists:
            return Finding(
                label, Status.THERE, "made by somebody else meanwhile; run provision again to compare it"
            )
        self.missing.add(label)
        return Finding(label, Status.FAILED, refusal.text, REMEDY)

    # --- publisher and solution ---------------------------------------------------------------------------------

    def _solution(self) -> Iterator[Finding]:
        yield self._publisher()
        row = self.installed.solution
        if row is None:
            publisher = self.installed.publisher or ({} if self.dry_run else self.setup.publisher()) or {}
            body = schema.solution(str(publisher.get("publisherid", "")))
            yield self._make(SOLUTION_LABEL, Op("POST", "solutions", body), [PUBLISHER_LABEL])
        elif (
            self.installed.publisher
            and row.get("_publisherid_value") != self.installed.publisher["publisherid"]
        ):
            self.missing.add(SOLUTION_LABEL)
            text = f"belongs to another publisher than {UNIQUE_NAME}"
            todo = f"left as it is; give that solution another name in {MAKER} > Solutions, then run provision again"
            yield Finding(SOLUTION_LABEL, Status.DIFFERS, text, todo)
        else:
            yield Finding(SOLUTION_LABEL, Status.THERE)

    def _publisher(self) -> Finding:
        row = self.installed.publisher
        if row is None:
            return self._make(PUBLISHER_LABEL, Op("POST", "publishers", schema.publisher()))
        if row.get("customizationprefix") != schema.PREFIX:
            self.missing |= {PUBLISHER_LABEL, SOLUTION_LABEL}
            text = f"its prefix is {row.get('customizationprefix')}, not {schema.PREFIX}"
            todo = (
                f"left as it is; set the prefix in {MAKER} > Solutions > Publishers, then run provision again"
            )
            return Finding(PUBLISHER_LABEL, Status.DIFFERS, text, todo)
        return Finding(PUBLISHER_LABEL, Status.THERE)

    # --- columns, child table -----------------------------------------------------------------------------------

    def _column(self, collection: str, name: str, wanted: Column, ours: str = "") -> Finding:
        table = TABLES[collection]
        label = f"Column {table}.{name}"
        found = self.installed.columns.get(collection, {}).get(name)
        if found is not None:
            behavior = self.installed.behaviors.get((collection, name), "UserLocal")
            differing = "; ".join(differences.column(wanted, found, behavior))
            if not differing:
                return Finding(label, Status.THERE, wanted.note)
            way = f", or name another column in mapping.fields.{ours}" if ours else ""
            todo = f"left as it is; change it in {MAKER} > Tables > {table} > Columns{way}"
            return Finding(label, Status.DIFFERS, differing, todo)
        if not schema.creatable(name):
            self.missing.add(label)
            todo = f"make it in {MAKER} as {schema.TYPES[wanted.kind]}, or leave mapping.fields.{ours} out"
            text = f"is not there, and only columns with the prefix {schema.PREFIX}_ are made here"
            return Finding(label, Status.FAILED, text, todo)
        publisher = self.installed.publisher or {}
        prefix = publisher.get("customizationoptionvalueprefix") or schema.OPTION_PREFIX
        body = schema.column(name, wanted, self.installed.labels, int(prefix))
        depends_on = [SOLUTION_LABEL, *([TABLE_LABEL] if collection == SOLUTIONS else [])]
        made = self._make(
            label, Op("POST", f"{definition(collection)}/Attributes", body, IN_SOLUTION), depends_on
        )
        if made.status is Status.MADE:
            self.new_columns.setdefault(collection, []).append(name)
            self.changed.add(table)
        return replace(made, text=made.text or wanted.note)

    def _children(self) -> Iterator[Finding]:
        yield self._table()
        yield self._relationship()
        for ours, column in SOLUTION_COLUMNS.items():
            yield self._column(SOLUTIONS, SOLUTION_NAMES[ours], column)

    def _table(self) -> Finding:
        if SOLUTIONS not in self.installed.flags:
            op = Op("POST", "EntityDefinitions", schema.table(self.installed.labels), IN_SOLUTION)
            made = self._make(TABLE_LABEL, op, [SOLUTION_LABEL])
            self.changed |= {SOLUTION} if made.status is Status.MADE else set()
            return made
        if "cosell_name" not in self.installed.columns[SOLUTIONS]:
            todo = f"left as it is; give it a text column cosell_name in {MAKER}"
            return Finding(TABLE_LABEL, Status.DIFFERS, "has no column cosell_name", todo)
        return Finding(TABLE_LABEL, Status.THERE)

    def _relationship(self) -> Finding:
        label = f"Relationship {RELATIONSHIP}"
        found = self.installed.relationship
        if found is None:
            body = schema.relationship(self.installed.labels)
            made = self._make(label, Op("POST", "RelationshipDefinitions", body, IN_SOLUTION), [SOLUTION_LABEL, TABLE_LABEL])  # fmt: skip
            if made.status is Status.MADE:
                self.new_columns.setdefault(SOLUTIONS, []).append(f"_{schema.PARENT}_value")
            return made
        if differing := "; ".join(differences.relationship(found)):
            todo = f"left as it is; change it in {MAKER} > Tables > {SOLUTION} > Relationships"
            return Finding(label, Status.DIFFERS, differing, todo)
        return Finding(label, Status.THERE)

    # --- change tracking ----------------------------------------------------------------------------------------

    def _tracking(self) -> Iterator[Finding]:
        for collection in schema.TRACKED:
            table = TABLES[collection]
            label = f"Change tracking {table}"
            flags = self.installed.flags.get(collection)
            if flags is None:  # the solutions' table, made with it
                made = Status.TO_MAKE if self.dry_run else Status.MADE
                blocked = TABLE_LABEL in self.missing
                yield Finding(
                    label,
                    Status.BLOCKED if blocked else made,
                    f"it rests on {TABLE_LABEL}" if blocked else "",
                )
            elif flags.get("ChangeTrackingEnabled"):
                yield Finding(label, Status.THERE)
            else:
                yield self._tracked(label, collection)

    def _tracked(self, label: str, collection: str) -> Finding:
        """Enable change tracking. PUT replaces the whole definition, so what was read is sent back with one change."""
        body = self.setup.whole(collection)
        if (body.get("CanChangeTrackingBeEnabled") or {}).get("Value") is False:
            text = "off, and this environment does not let it be enabled: deletions are seen once a day"
            return Finding(label, Status.THERE, text)
        body["ChangeTrackingEnabled"] = True
        headers = {**IN_SOLUTION, **KEEP_LABELS}
        made = self._make(label, Op("PUT", definition(collection), body, headers), [SOLUTION_LABEL])
        self.changed |= {TABLES[collection]} if made.status is Status.MADE else set()
        return made

    def _publish(self) -> Iterator[Finding]:
        if self.changed and not self.dry_run:
            label = "Publication"
            made = self._make(label, Op("POST", "PublishXml", schema.publication(sorted(self.changed))))
            if made.status is not Status.MADE:
                yield made

    # --- alternate keys -----------------------------------------------------------------------------------------

    def _keys(self) -> Iterator[Finding | _Key]:
        wanted = ((OPPORTUNITIES, self.names["referral_id"]), (SOLUTIONS, SOLUTION_NAMES["key"]))
        for collection, column in wanted:
            label = f"Key {TABLES[collection]}.{column}"
            found = _key_on(self.installed.keys.get(collection, ()), column)
            made = self._missing_key(label, collection, column) if found is None else self._known_key(label, collection, column, found)  # fmt: skip
            waits = made.status is Status.MADE or (found is not None and made.status is Status.THERE)
            yield _Key(made, collection, column) if waits and not self.dry_run else made

    def _missing_key(self, label: str, collection: str, column: str) -> Finding:
        body = schema.key(collection, column, self.installed.labels)
        op = Op("POST", f"{definition(collection)}/Keys", body, IN_SOLUTION)
        return self._make(label, op, [SOLUTION_LABEL, TABLE_LABEL, f"Column {TABLES[collection]}.{column}"])

    def _known_key(self, label: str, collection: str, column: str, found: Row) -> Finding:
        status = found.get("EntityKeyIndexStatus")
        if status == "Failed":
            if self.dry_run:
                return _duplicate_values(label, column, Status.DIFFERS)
            body = {"EntityLogicalName": TABLES[collection], "EntityKeyLogicalName": found.get("LogicalName")}
            return self._make(label, Op("POST", "ReactivateEntityKey", body))
        return Finding(
            label, Status.THERE, "" if status == "Active" else f"its index is being built ({status})"
        )

    def _await_keys(self, keys: Sequence[Finding | _Key]) -> Iterator[Finding]:
        end = self.setup.rest.clock() + BUSY_LIMIT
        for each in keys:
            if isinstance(each, Finding):
                yield each
                continue
            pause = 1.0
            while (status := self._status(each)) not in {"Active", "Failed"}:
                if self.setup.rest.clock() > end:
                    break
                self.setup.progress(f"{each.finding.component}: the platform builds its index ({status})")
                self.setup.rest.wait(pause)
                pause = min(15.0, pause * 2)
            if status == "Active":
                yield replace(each.finding, text="")
            elif status == "Failed":
                yield _duplicate_values(each.finding.component, each.column, Status.FAILED)
            else:
                text = f"its index is still being built ({status})"
                todo = "run provision again later: it waits for it. Nothing can be synchronised before"
                yield Finding(each.finding.component, Status.FAILED, text, todo)

    def _status(self, key: _Key) -> str:
        found = _key_on(self.setup.keys(key.collection), key.column) or {}
        return str(found.get("EntityKeyIndexStatus"))

    # --- until data calls know the new columns ----------------------------------------------------------------------------

    def _await_columns(self) -> None:
        """Read the new columns until data calls know them, for less than a minute."""
        for collection, columns in self.new_columns.items():
            path = odata.query(collection, select=columns, top=1)
            for pause in VISIBILITY_PAUSES:
                self.setup.rest.wait(pause)
                try:
                    self.setup.rest.get(path, scope=Scope.RECORD)
                    break
                except RecordError as error:
                    if error.status != 400:
                        break  # the user who provisions may lack the right to read deals
                    self.setup.progress("new columns are not known everywhere yet")


def _key_on(keys: Sequence[Row], column: str) -> Row | None:
    return next((row for row in keys if row.get("KeyAttributes") == [column]), None)


def _duplicate_values(label: str, column: str, status: Status) -> Finding:
    todo = f"find the rows that share a value of {column}, clear all but one, then run provision again: it starts the index anew"
    return Finding(label, status, "its index could not be built, as several rows share a value", todo)
