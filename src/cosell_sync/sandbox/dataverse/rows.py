"""The rules of every write to the environment: writable columns, states, references, keys, money, plug-ins.

They apply to the Web API and to sellers alike, as on the platform. Rules of single tables are hooks (`guards`, `derivations`,
`afters`); `opportunities`, `roles` and `setup` register them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.schema import CHOICES, Column, Table
from cosell_sync.sandbox.dataverse.store import Deletion, Record, Store, key_of
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row

Rule = Callable[[Record], bool]
Automation = Callable[[Record, Record], Record]
Guard = Callable[[Record, Row | None], None]  # changes, before: may refuse and may correct the changes
Derive = Callable[
    [Record, Record, Row | None], None
]  # row, changes, before: fills columns that follow from others
After = Callable[[Row, Row | None, str], None]


@dataclass
class Org(Store):
    """One environment: its rows and what its admins have set up."""

    rules: list[tuple[str, Rule, str]] = field(default_factory=list)
    automations: list[tuple[str, Automation]] = field(default_factory=list)
    guards: dict[str, Guard] = field(default_factory=dict)
    derivations: dict[str, Derive] = field(default_factory=dict)
    afters: dict[str, After] = field(default_factory=dict)
    recycled: dict[str, list[tuple[str, Row]]] = field(default_factory=dict)
    """What was deleted, by the id of the row that people deleted, with what went along."""
    without_role: set[str] = field(default_factory=set)
    """Users who have no security role, and so may own nothing."""
    read_only_rows: set[str] = field(default_factory=set)
    """Ids of rows that may be read and not changed: they belong to another business unit, and are not shared."""
    delegate: str | None = None
    """The application user on whose behalf somebody else is named, during such a request."""
    plugin_status: int = 400
    """The HTTP status that the plug-ins refuse with: any from 400 to 599 (PluginHttpStatusCode of an
    InvalidPluginExecutionException, learn.microsoft.com/power-apps/developer/data-platform/handle-exceptions)."""
    _count: int = 0

    # ------------------------------------------------------------ writing

    def insert(
        self, name: str, sent: Record, actor: str, *, row_id: str | None = None, trusted: bool = False
    ) -> str:
        """A new row of converted values by that user; `trusted` for what no client may write."""
        table = self.schema[name]
        if not (table.writable or trusted):
            raise Refused(
                values.NO_MESSAGE, f"The 'Create' method does not support entities of type '{name}'."
            )
        changes = self._run_automations(table, None, dict(sent))
        if not trusted:
            _writable(table, changes, creating=True)
            self._guard(table, changes, None)
        row: Record = {each.name: each.default for each in table.columns.values()}
        row.update(changes)
        if "ownerid" in table.columns and row["ownerid"] is None:
            row["ownerid"] = Ref("systemuser", actor)
        if row_id is None:
            self._count += 1
            row_id = str(UUID(int=(0xC05E11 << 104) | (4 << 76) | (8 << 60) | self._count))
        now = self.now()
        row.update({table.key: row_id, "createdon": row.get("overriddencreatedon") or now})
        row["createdby"] = Ref("systemuser", actor)
        self._check_and_save(table, row, changes, None, actor, trusted=trusted)
        return row_id

    def update(self, name: str, row_id: str, sent: Record, actor: str, *, trusted: bool = False) -> None:
        """Changes a row with converted values by that user."""
        table = self.schema[name]
        before = self.live(name, row_id)
        if row_id in self.read_only_rows and not trusted:
            raise Refused(values.NO_ACCESS, f"SecLib::AccessCheckEx failed. ObjectTypeCode: {name}.", 403)
        if not (table.writable or trusted):
            raise Refused(
                values.NO_MESSAGE, f"The 'Update' method does not support entities of type '{name}'."
            )
        changes = self._run_automations(table, before, dict(sent))
        if not trusted:
            _writable(table, changes, creating=False)
            self._guard(table, changes, before)
        self._check_and_save(table, {**before, **changes}, changes, before, actor, trusted=trusted)

    def _guard(self, table: Table, changes: Record, before: Row | None) -> None:
        guard = self.guards.get(table.name)
        if guard is not None:
            guard(changes, before)

    def _run_automations(self, table: Table, before: Row | None, changes: Record) -> Record:
        """The changes after the environment's plug-ins, which run before a save."""
        for name, rewrite in self.automations:
            if name == table.name:
                shown = self.record(name, before) if before is not None else {}
                plain = {each: values.displayed(table.columns[each], changes) for each in changes}
                changes = {
                    each: changes[each]
                    if each in plain and plain[each] == value
                    else self._stored_value(table, each, value)
                    for each, value in rewrite(shown, dict(plain)).items()
                }
        return changes

    def _check_and_save(
        self, table: Table, row: Record, changes: Record, before: Row | None, actor: str, *, trusted: bool
    ) -> None:
        self._set_state(table, row, changes, before)
        missing = [
            each.name
            for each in table.columns.values()
            if each.required == "SystemRequired" and row.get(each.name) is None
        ]
        if missing and not trusted:
            raise Refused(values.BAD_ARGUMENT, f"Required field '{missing[0]}' is missing")
        if not trusted:
            self._check_references(table, changes)
        self._derive(table, row, changes, before)
        for name, broken, message in self.rules:
            if name == table.name and broken(self.record(name, row)):
                raise Refused(values.PLUGIN_REFUSED, message, self.plugin_status)
        self._check_keys(table, row)
        row["modifiedon"], row["modifiedby"] = self.now(), Ref("systemuser", actor)
        row["modifiedonbehalfby"] = Ref("systemuser", self.delegate) if self.delegate else None
        saved = self.put(table, row, before)
        after = self.afters.get(table.name)
        if after is not None:
            after(saved, before, actor)

    def _set_state(self, table: Table, row: Record, changes: Record, before: Row | None) -> None:
        if "statecode" not in table.columns:
            return
        state, reason = table.columns["statecode"], table.columns["statuscode"]
        asked = state.option(row["statecode"])
        if asked is None or row["statuscode"] is None:
            raise Refused(values.BAD_STATUS, "statecode and statuscode cannot be cleared")
        moved = before is not None and before["statecode"] != row["statecode"]
        if "statuscode" not in changes and moved:
            row["statuscode"] = asked.default
        found = reason.option(row["statuscode"])
        if found is None or found.state != asked.value:
            raise Refused(
                values.BAD_STATUS,
                f"{row['statuscode']} is not a valid status code for state code {table.label}State.{asked.label} "
                f"on {table.name} with Id {row[table.key]}.",
            )

    def _check_references(self, table: Table, changes: Record) -> None:
        for name, value in changes.items():
            if not isinstance(value, Ref):
                continue
            found = self.at(value)
            if found is None:
                raise Refused(
                    values.NO_ROW, f"Entity '{value.table}' With Id = {value.id} Does Not Exist", 404
                )
            if name == "ownerid" and value.table == "systemuser" and found["isdisabled"]:
                raise Refused(
                    values.BAD_ARGUMENT, f"Cannot assign {table.name} to a disabled user: {value.id}"
                )
            joins = table.name == "connection" and name in {"record1id", "record2id"}
            if (name == "ownerid" or joins) and value.id in self.without_role:
                # Whoever is to own a row, or is connected to one, must be able to read it; the principal that is named is the assignee.
                # https://learn.microsoft.com/troubleshoot/power-platform/dataverse/dataverse-permission-issues/missing-privilege
                raise Refused(
                    values.NO_PRIVILEGE,
                    f"Principal user (Id={value.id}, type=8, roleCount=0, privilegeCount=0, accessMode=0) is missing "
                    f"prvRead{table.name} privilege on OTC=3 for entity '{table.name}'.",
                    403,
                )

    def _check_keys(self, table: Table, row: Row) -> None:
        for key in table.keys:
            made = key_of(key, row)
            if key.status != "Active" or made is None:
                continue
            holder = self.index(table, key).get(made)
            if holder is not None and holder != row[table.key]:
                raise Refused(
                    values.DUPLICATE_KEY,
                    f"Entity Key {key.schema_name} violated. A record with the same value for "
                    f"{', '.join(key.columns)} already exists. A duplicate record cannot be created. Select one or more "
                    "unique values and try again.",
                    412,
                )

    # ------------------------------------------------------------ columns that follow from others

    def _derive(self, table: Table, row: Record, changes: Record, before: Row | None) -> None:
        if "ownerid" in table.columns and isinstance(row["ownerid"], Ref):
            owner = row["ownerid"]
            row["owninguser"] = owner if owner.table == "systemuser" else None
            row["owningteam"] = owner if owner.table == "team" else None
        derive = self.derivations.get(table.name)
        if derive is not None:
            derive(row, changes, before)
        monies = [each for each in table.columns.values() if each.kind == "money" and each.creatable]
        if monies:
            self._convert_money(monies, row, changes, before)

    def _convert_money(self, monies: list[Column], row: Record, changes: Record, before: Row | None) -> None:
        """A row has one currency; its amounts are rounded to it and shown in the base currency as well."""
        if row["transactioncurrencyid"] is None and any(row[each.name] is not None for each in monies):
            organization = next(self.scan("organization"), None)
            row["transactioncurrencyid"] = organization["basecurrencyid"] if organization else None
        found = self.at(row["transactioncurrencyid"])
        if found is None:
            return
        touched = before is None or any(each.name in changes for each in monies)
        if touched or "transactioncurrencyid" in changes or row["exchangerate"] is None:
            row["exchangerate"] = found["exchangerate"]
        for each in monies:
            amount = row[each.name]
            if amount is not None:
                step = Decimal(1).scaleb(-self._decimals(each, found))
                row[each.name] = amount.quantize(step, ROUND_HALF_UP)
                amount = (row[each.name] / row["exchangerate"]).quantize(Decimal("0.0001"), ROUND_HALF_UP)
            row[f"{each.name}_base"] = amount

    def _decimals(self, column: Column, currency: Row) -> int:
        """https://learn.microsoft.com/power-apps/developer/data-platform/transaction-currency-currency-entity"""
        if column.precision_source == 2:
            return int(currency["currencyprecision"])
        organization = next(self.scan("organization"), None)
        by_organization = column.precision_source == 1 and organization is not None
        return (
            int(organization["pricingdecimalprecision"])
            if by_organization and organization
            else column.precision
        )

    # ------------------------------------------------------------ deleting and merging

    def delete(self, name: str, row_id: str, *, trusted: bool = False) -> None:
        """Deletes a row, with the rows that cascade; they can be undeleted together."""
        table = self.schema[name]
        row = self.live(name, row_id)
        if not (table.writable or trusted):
            raise Refused(
                values.NO_MESSAGE, f"The 'Delete' method does not support entities of type '{name}'."
            )
        self.recycled[row_id] = []
        self._delete_row(table, row, row_id)

    def _delete_row(self, table: Table, row: Row, root: str) -> None:
        self.recycled[root].append((table.name, row))
        ref = Ref(table.name, row[table.key])
        pointing = [
            (other, column, each)
            for other in self.schema.values()
            for column in other.columns.values()
            if table.name in column.targets
            for each in self.children(other.name, column.name, ref)
        ]
        if any(column.on_delete == "restrict" for _, column, _ in pointing):
            raise Refused(
                "0x80040227", f"The {table.name} cannot be deleted because other records refer to it."
            )
        self.version += 1
        del self.tables[table.name][ref.id]
        for key in table.keys:
            made = key_of(key, row)
            if made is not None and self.index(table, key).get(made) == ref.id:
                del self.index(table, key)[made]
        self.deletions.append(Deletion(table.name, ref.id, self.version))
        for other, column, child in pointing:
            present = self.find(other.name, child[other.key])
            if present is None:
                continue
            if column.on_delete == "cascade":
                self._delete_row(other, present, root)
            else:
                self.put(other, {**present, column.name: None}, present)

    def undelete(self, name: str, row_id: str, actor: str) -> None:
        """Brings a row back under its id, with what was deleted together with it, as the recycle bin does.

        https://learn.microsoft.com/power-apps/developer/data-platform/restore-deleted-records
        """
        if self.find(name, row_id) is not None or row_id not in self.recycled:
            raise Refused(values.NO_ROW, f"{name} With Id = {row_id} is not in the recycle bin", 404)
        for table_name, row in self.recycled.pop(row_id):
            table = self.schema[table_name]
            self._check_keys(table, row)
            self.put(table, {**row, "modifiedon": self.now(), "modifiedby": Ref("systemuser", actor)}, None)
            self.deletions = [deletion for deletion in self.deletions if deletion.id != row[table.key]]

    def merge(self, name: str, winner: str, loser: str, actor: str) -> None:
        """Two rows become one: what pointed at the loser moves over without a stamp; the loser stays, inactive."""
        table = self.schema[name]
        kept, gone = self.live(name, winner), self.live(name, loser)
        into, out = Ref(name, winner), Ref(name, loser)
        for other in self.schema.values():
            for column in other.columns.values():
                if name in column.targets and column.name != "masterid":
                    for child in self.children(other.name, column.name, out):
                        self.put(other, {**child, column.name: into}, child)
        stamps = {"modifiedon": self.now(), "modifiedby": Ref("systemuser", actor)}
        ended = {"statecode": 1, "statuscode": 2, "merged": True, "masterid": into}
        self.put(table, {**gone, **ended, **stamps}, gone)
        self.put(table, {**kept, **stamps}, kept)

    # ------------------------------------------------------------ as people say it

    def stored_values(self, table: Table, displayed: Mapping[str, object]) -> Record:
        """Converts values as the form shows them (choices by label, lookups by id) to stored ones."""
        return {name: self._stored_value(table, name, value) for name, value in displayed.items()}

    def _stored_value(self, table: Table, name: str, value: object) -> Any:
        column = table.columns.get(name)
        if column is None:
            raise KeyError(f"no such column: {table.name}.{name}")
        if value is None:
            return None
        if column.kind == "lookup":
            return self._pointed(column, str(value))
        if column.kind in CHOICES and isinstance(value, str):
            option = column.labelled(value)
            if option is None:
                raise ValueError(f"{name} has no choice {value!r}")
            return option.value
        return values.convert(column, value, table.name)

    def _pointed(self, column: Column, row_id: str) -> Ref:
        wanted = values.guid(row_id) or row_id
        for target in column.targets:
            if self.find(target, wanted) is not None:
                return Ref(target, wanted)
        raise KeyError(f"{column.name}: no {' or '.join(column.targets)} {row_id}")

    def touch(self, name: str, row_id: str) -> None:
        """Moves the version alone, as background work of the platform does."""
        row = self.live(name, row_id)
        self.put(self.schema[name], dict(row), row)

    def set_key_status(self, name: str, key_name: str, status: Any) -> None:
        """Sets the status of a key; Active becomes Failed where rows share a value."""
        table = self.schema[name]
        if status == "Active" and any(
            key.name == key_name and self.has_duplicates(table, key) for key in table.keys
        ):
            status = "Failed"
        keys = tuple(replace(key, status=status) if key.name == key_name else key for key in table.keys)
        self.schema = {**self.schema, name: replace(table, keys=keys)}


def _writable(table: Table, changes: Record, *, creating: bool) -> None:
    for name in changes:
        column = table.columns[name]
        if not (column.creatable if creating else column.updatable):
            word = "create" if creating else "update"
            raise Refused(values.BAD_ARGUMENT, f"Attribute '{name}' of {table.name} is not valid for {word}.")
