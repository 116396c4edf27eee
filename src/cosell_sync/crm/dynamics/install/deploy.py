"""Makes in an environment what `schema` says is needed, and nothing twice: look, compare, make, publish, grant, wait.

Each component is a request of its own, for Dataverse has no request that makes all of it or nothing. What rests on a component
that failed is held back and says so; run again, the rest follows. What is there is never written again, also where it
differs: then the finding says how, and a person decides. Two things take effect later: an alternate key works once the
platform has built its index, and a changed table once it is published; the run waits for the one and does the other.
https://learn.microsoft.com/power-apps/developer/data-platform/define-alternate-keys-entity
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS, SOLUTION_COLUMNS, VIEWS, Column, View
from cosell_sync.crm.dynamics import odata, org
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.install import differences, schema
from cosell_sync.crm.dynamics.install.permissions import Granting
from cosell_sync.crm.dynamics.install.schema import (
    IN_SOLUTION,
    KEEP_LABELS,
    OPPORTUNITY,
    RELATIONSHIP,
    SOLUTION,
    SOLUTION_NAMES,
    UNIQUE_NAME,
)
from cosell_sync.crm.dynamics.install.setup import PATIENCE, Progress, Setup, There, definition
from cosell_sync.crm.dynamics.org import OPPORTUNITIES, SOLUTIONS, TABLES, field_names
from cosell_sync.crm.dynamics.rest import Rest, Row
from cosell_sync.crm.report import Finding, Status, unsure
from cosell_sync.errors import RecordError, Rejected
from cosell_sync.transport.errors import Scope

CURE: Final = "cure what Dataverse names, then run provision again"
MAKER: Final = "make.powerapps.com"
LOOKS: Final = (0, 3, 10, 20)  # seconds until data calls know a new column; the official SDK asks so too
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
) -> Sequence[Finding]:
    """One finding a component. ``assign``: the application id or user name of who receives the daemon's role; by default
    whoever is signed in. ``progress`` hears, in a few words, what is being made or waited for.
    """
    with unsure(SYSTEM):
        return _Run(Setup(rest.consistent(), progress), field_names(names), dry_run=dry_run).findings(assign)


@dataclass(frozen=True)
class _Key:
    """An alternate key whose index is being built. ``finding``: what to report once it is."""

    finding: Finding
    collection: str
    column: str


class _Run:
    """One run over one environment. ``lost``: components that are not there and were not made."""

    there: There

    def __init__(self, setup: Setup, names: Mapping[str, str], *, dry_run: bool) -> None:
        self.setup = setup
        self.names = names
        self.dry_run = dry_run
        self.lost: set[str] = set()
        self.changed: set[str] = set()  # tables to publish
        self.fresh: dict[str, list[str]] = {}  # set → columns made in this run

    def findings(self, assign: str | None) -> Sequence[Finding]:
        grants = Granting(self.setup, self._make, self.dry_run, False, (SOLUTION_LABEL,))
        user = grants.user(assign)
        self.there = self.setup.look()
        if OPPORTUNITIES not in self.there.flags:
            raise Rejected(
                "the environment has no table opportunity; dynamics.url must name one with Dynamics 365 Sales",
                code="no_sales",
            )
        found = [*self._solution()]
        for ours, column in OPPORTUNITY_COLUMNS.items():
            found.append(self._column(OPPORTUNITIES, self.names[ours], column, ours))
        found += self._children()
        found += self._tracking()
        keys = [*self._keys()]
        views = [*self._views()]
        found += self._published()
        granting = replace(
            grants, fresh=SOLUTIONS not in self.there.flags, rests_on=(SOLUTION_LABEL, TABLE_LABEL)
        )
        granted = [*granting.findings(user)]
        found += self._awaited(keys)
        self._until_visible()
        return [*found, *views, *granted]

    def _make(self, label: str, op: Op, rests_on: Sequence[str] = ()) -> Finding:
        """Sends the change, unless something it rests on is not there or nothing is to be changed."""
        gone = next((each for each in rests_on if each in self.lost), None)
        if gone is not None:
            self.lost.add(label)
            return Finding(label, Status.HELD, f"it rests on {gone}")
        if self.dry_run:
            return Finding(label, Status.TO_MAKE)
        self.setup.progress(label)
        refusal = self.setup.change(op)
        if refusal is None:
            return Finding(label, Status.MADE)
        if refusal.there:
            return Finding(
                label, Status.THERE, "made by somebody else meanwhile; run provision again to compare it"
            )
        self.lost.add(label)
        return Finding(label, Status.FAILED, refusal.text, CURE)

    # --- publisher and solution ---------------------------------------------------------------------------------

    def _solution(self) -> Iterator[Finding]:
        yield self._publisher()
        row = self.there.solution
        if row is None:
            publisher = self.there.publisher or ({} if self.dry_run else self.setup.publisher()) or {}
            body = schema.solution(str(publisher.get("publisherid", "")))
            yield self._make(SOLUTION_LABEL, Op("POST", "solutions", body), [PUBLISHER_LABEL])
        elif self.there.publisher and row.get("_publisherid_value") != self.there.publisher["publisherid"]:
            self.lost.add(SOLUTION_LABEL)
            text = f"belongs to another publisher than {UNIQUE_NAME}"
            todo = f"left as it is; give that solution another name in {MAKER} > Solutions, then run provision again"
            yield Finding(SOLUTION_LABEL, Status.DIFFERS, text, todo)
        else:
            yield Finding(SOLUTION_LABEL, Status.THERE)

    def _publisher(self) -> Finding:
        row = self.there.publisher
        if row is None:
            return self._make(PUBLISHER_LABEL, Op("POST", "publishers", schema.publisher()))
        if row.get("customizationprefix") != schema.PREFIX:
            self.lost |= {PUBLISHER_LABEL, SOLUTION_LABEL}
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
        found = self.there.columns.get(collection, {}).get(name)
        if found is not None:
            behavior = self.there.behaviors.get((collection, name), "UserLocal")
            told = "; ".join(differences.column(wanted, found, behavior))
            if not told:
                return Finding(label, Status.THERE)
            way = f", or name another column in mapping.fields.{ours}" if ours else ""
            todo = f"left as it is; change it in {MAKER} > Tables > {table} > Columns{way}"
            return Finding(label, Status.DIFFERS, told, todo)
        if not schema.creatable(name):
            self.lost.add(label)
            todo = f"make it in {MAKER} as {schema.TYPES[wanted.form]}, or leave mapping.fields.{ours} out"
            text = f"is not there, and only columns with the prefix {schema.PREFIX}_ are made here"
            return Finding(label, Status.FAILED, text, todo)
        publisher = self.there.publisher or {}
        prefix = publisher.get("customizationoptionvalueprefix") or schema.OPTION_PREFIX
        body = schema.column(name, wanted, self.there.labels, int(prefix))
        rests_on = [SOLUTION_LABEL, *([TABLE_LABEL] if collection == SOLUTIONS else [])]
        made = self._make(
            label, Op("POST", f"{definition(collection)}/Attributes", body, IN_SOLUTION), rests_on
        )
        if made.status is Status.MADE:
            self.fresh.setdefault(collection, []).append(name)
            self.changed.add(table)
        return made

    def _children(self) -> Iterator[Finding]:
        yield self._table()
        yield self._relationship()
        for ours, column in SOLUTION_COLUMNS.items():
            yield self._column(SOLUTIONS, SOLUTION_NAMES[ours], column)

    def _table(self) -> Finding:
        if SOLUTIONS not in self.there.flags:
            op = Op("POST", "EntityDefinitions", schema.table(self.there.labels), IN_SOLUTION)
            made = self._make(TABLE_LABEL, op, [SOLUTION_LABEL])
            self.changed |= {SOLUTION} if made.status is Status.MADE else set()
            return made
        if "cosell_name" not in self.there.columns[SOLUTIONS]:
            todo = f"left as it is; give it a text column cosell_name in {MAKER}"
            return Finding(TABLE_LABEL, Status.DIFFERS, "has no column cosell_name", todo)
        return Finding(TABLE_LABEL, Status.THERE)

    def _relationship(self) -> Finding:
        label = f"Relationship {RELATIONSHIP}"
        found = self.there.relationship
        if found is None:
            body = schema.relationship(self.there.labels)
            made = self._make(label, Op("POST", "RelationshipDefinitions", body, IN_SOLUTION), [SOLUTION_LABEL, TABLE_LABEL])  # fmt: skip
            if made.status is Status.MADE:
                self.fresh.setdefault(SOLUTIONS, []).append(f"_{schema.PARENT}_value")
            return made
        if told := "; ".join(differences.relationship(found)):
            todo = f"left as it is; change it in {MAKER} > Tables > {SOLUTION} > Relationships"
            return Finding(label, Status.DIFFERS, told, todo)
        return Finding(label, Status.THERE)

    # --- change tracking ----------------------------------------------------------------------------------------

    def _tracking(self) -> Iterator[Finding]:
        for collection in schema.TRACKED:
            table = TABLES[collection]
            label = f"Change tracking {table}"
            flags = self.there.flags.get(collection)
            if flags is None:  # the solutions' table, made with it
                made = Status.TO_MAKE if self.dry_run else Status.MADE
                lost = TABLE_LABEL in self.lost
                yield Finding(
                    label, Status.HELD if lost else made, f"it rests on {TABLE_LABEL}" if lost else ""
                )
            elif flags.get("ChangeTrackingEnabled"):
                yield Finding(label, Status.THERE)
            else:
                yield self._tracked(label, collection)

    def _tracked(self, label: str, collection: str) -> Finding:
        """PUT replaces the whole definition, so what was read is sent back with one change."""
        body = self.setup.whole(collection)
        if (body.get("CanChangeTrackingBeEnabled") or {}).get("Value") is False:
            text = "off, and this environment does not let it be enabled: deletions are seen once a day"
            return Finding(label, Status.THERE, text)
        body["ChangeTrackingEnabled"] = True
        headers = {**IN_SOLUTION, **KEEP_LABELS}
        made = self._make(label, Op("PUT", definition(collection), body, headers), [SOLUTION_LABEL])
        self.changed |= {TABLES[collection]} if made.status is Status.MADE else set()
        return made

    def _published(self) -> Iterator[Finding]:
        if self.changed and not self.dry_run:
            label = "Publication"
            made = self._make(label, Op("POST", "PublishXml", schema.published(sorted(self.changed))))
            if made.status is not Status.MADE:
                yield made

    # --- alternate keys -----------------------------------------------------------------------------------------

    def _keys(self) -> Iterator[Finding | _Key]:
        wanted = ((OPPORTUNITIES, self.names["referral_id"]), (SOLUTIONS, SOLUTION_NAMES["key"]))
        for collection, column in wanted:
            label = f"Key {TABLES[collection]}.{column}"
            found = _key_on(self.there.keys.get(collection, ()), column)
            made = self._missing_key(label, collection, column) if found is None else self._known_key(label, collection, column, found)  # fmt: skip
            waits = made.status is Status.MADE or (found is not None and made.status is Status.THERE)
            yield _Key(made, collection, column) if waits and not self.dry_run else made

    def _missing_key(self, label: str, collection: str, column: str) -> Finding:
        body = schema.key(schema.KEY_NAMES[collection], column, f"Co-sell key on {column}", self.there.labels)
        op = Op("POST", f"{definition(collection)}/Keys", body, IN_SOLUTION)
        return self._make(label, op, [SOLUTION_LABEL, TABLE_LABEL, f"Column {TABLES[collection]}.{column}"])

    def _known_key(self, label: str, collection: str, column: str, found: Row) -> Finding:
        status = found.get("EntityKeyIndexStatus")
        if status == "Failed":
            if self.dry_run:
                return _doubles(label, column, Status.DIFFERS)
            body = {"EntityLogicalName": TABLES[collection], "EntityKeyLogicalName": found.get("LogicalName")}
            return self._make(label, Op("POST", "ReactivateEntityKey", body))
        return Finding(
            label, Status.THERE, "" if status == "Active" else f"its index is being built ({status})"
        )

    def _awaited(self, keys: Sequence[Finding | _Key]) -> Iterator[Finding]:
        end = self.setup.rest.clock() + PATIENCE
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
                yield _doubles(each.finding.component, each.column, Status.FAILED)
            else:
                text = f"its index is still being built ({status})"
                todo = "run provision again later: it waits for it. Nothing can be synchronised before"
                yield Finding(each.finding.component, Status.FAILED, text, todo)

    def _status(self, key: _Key) -> str:
        found = _key_on(self.setup.keys(key.collection), key.column) or {}
        return str(found.get("EntityKeyIndexStatus"))

    # --- views --------------------------------------------------------------------------------------------------

    def _views(self) -> Iterator[Finding]:
        missing = [each for each in VIEWS if each.label not in self.there.views]
        columns: Mapping[str, org.Column] = {}
        code = 0
        if missing and not self.dry_run:
            columns = org.table_columns(self.setup.rest, OPPORTUNITIES)
            code = int(
                self.setup.get(f"{definition(OPPORTUNITIES)}?$select=ObjectTypeCode")["ObjectTypeCode"]
            )
        for each in VIEWS:
            label = f"View {each.label}"
            yield (
                self._view(label, each, columns, code) if each in missing else Finding(label, Status.THERE)
            )

    def _view(self, label: str, wanted: View, columns: Mapping[str, org.Column], code: int) -> Finding:
        rests_on = [
            SOLUTION_LABEL,
            *(f"Column {OPPORTUNITY}.{self.names[ours]}" for ours in (*wanted.columns, *dict(wanted.where))),
        ]
        lost = any(each in self.lost for each in rests_on)
        if self.dry_run or lost:
            return self._make(label, Op("POST", "savedqueries"), rests_on)
        numbers: dict[tuple[str, str], int] = {}
        for ours, values in wanted.where:
            for value in () if isinstance(values, bool) else values:
                column = columns.get(self.names[ours])
                choice = column.labelled(value) if column else None
                if choice is None:
                    self.lost.add(label)
                    return Finding(label, Status.HELD, f"{self.names[ours]} has no choice {value}")
                numbers[ours, value] = choice.value
        body = schema.view(wanted, self.names, numbers, code)
        made = self._make(label, Op("POST", "savedqueries", body, IN_SOLUTION), rests_on)
        self.changed |= {OPPORTUNITY} if made.status is Status.MADE else set()
        return made

    # --- until data calls know of it ----------------------------------------------------------------------------

    def _until_visible(self) -> None:
        for collection, columns in self.fresh.items():
            path = odata.query(collection, select=columns, top=1)
            for pause in LOOKS:
                self.setup.rest.wait(pause)
                try:
                    self.setup.rest.get(path, scope=Scope.RECORD)
                    break
                except RecordError as error:
                    if error.status != 400:
                        break  # whoever provisions need not read deals
                    self.setup.progress("new columns are not known everywhere yet")


def _key_on(keys: Sequence[Row], column: str) -> Row | None:
    return next((row for row in keys if row.get("KeyAttributes") == [column]), None)


def _doubles(label: str, column: str, status: Status) -> Finding:
    todo = f"find the rows that share a value of {column}, clear all but one, then run provision again: it starts the index anew"
    return Finding(label, status, "its index could not be built, as several rows share a value", todo)
