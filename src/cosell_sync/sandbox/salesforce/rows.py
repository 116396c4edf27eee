"""The org's rows and the rules that guard every write, whoever writes.

The REST surface and the sellers of a test go through the same door (`insert`, `update`, `delete`), because the platform
makes no difference between them either: required fields, restricted picklists, unique keys, references, validation
rules and automations hold for all. What only a person may do (products, merging accounts, emptying the bin) is here too.

Rows are never changed in place but replaced, so that a snapshot for a rollback is a copy of a few dictionaries.

Stamps: a write stamps the row it touches and no other. A child does not stamp its parent, an account merge re-parents its
children without stamping them, a deletion moves SystemModstamp.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from cosell_sync.sandbox.salesforce import values
from cosell_sync.sandbox.salesforce.schema import (
    CATEGORY_LABELS,
    CORPORATE_CURRENCY,
    COUNTRIES,
    CURRENCIES,
    STAGES,
    STATES,
    Field,
    SObject,
)  # fmt: skip
from cosell_sync.sandbox.salesforce.values import Refused, Row

Record = dict[str, Any]
Rule = Callable[[Record], bool]
Automation = Callable[[Record, Record], Record]

GATED = ("Account", "Contact")
"""Objects that duplicate rules look at."""

_STAGE = {stage.name: stage for stage in STAGES}


@dataclass(frozen=True)
class Grave:
    """An entry in the log of deletions, which outlives the Recycle Bin."""

    object: str
    id: str
    at: datetime


@dataclass
class Kept:
    """A copy to roll back to."""

    tables: dict[str, dict[str, Row]]
    keys: dict[tuple[str, str], dict[str, str]]
    graves: list[Grave]
    went_with: dict[str, str]


@dataclass
class Org:
    """One org: its schema, its rows and what its admins have set up."""

    schema: dict[str, SObject]
    clock: Callable[[], datetime]
    duplicate_rule: str = "off"
    tables: dict[str, dict[str, Row]] = field(default_factory=dict)
    keys: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    graves: list[Grave] = field(default_factory=list)
    rules: list[tuple[str, Rule, str]] = field(default_factory=list)
    automations: list[tuple[str, Automation]] = field(default_factory=list)
    _went_with: dict[str, str] = field(default_factory=dict)
    _families: dict[tuple[str, str], dict[str, dict[str, None]]] = field(default_factory=dict)
    _count: int = 0

    # ------------------------------------------------------------ reading (what SOQL needs)

    def now(self) -> datetime:
        return self.clock().astimezone(UTC).replace(microsecond=0)

    def today(self) -> date:
        return self.now().date()

    def normal_id(self, text: str) -> str | None:
        return values.normal_id(text)

    def render(self, each: Field, row: Row) -> object:
        return values.render(each, row)

    def scan(self, name: str, *, deleted: bool = False) -> Iterable[Row]:
        rows = self.tables.get(name, {}).values()
        return list(rows) if deleted else [row for row in rows if not row.get("IsDeleted")]

    def find(self, name: str, row_id: str) -> Row | None:
        return self.tables.get(name, {}).get(row_id)

    def shape(self, name: str) -> SObject:
        wanted = name.lower()
        for each in self.schema.values():
            if each.name.lower() == wanted:
                return each
        raise Refused("NOT_FOUND", "The requested resource does not exist")

    def live(self, name: str, row_id: object) -> Row:
        """The row of that id; a deleted one and an unknown one are refused differently."""
        made = values.normal_id(row_id)
        row = self.find(name, made) if made is not None else None
        if row is None:
            raise Refused("NOT_FOUND", "The requested resource does not exist")
        if row.get("IsDeleted"):
            raise Refused("ENTITY_IS_DELETED", "entity is deleted")
        return row

    def record(self, name: str, row: Row) -> Record:
        """A row as the platform shows it, every column."""
        return {each.name: values.render(each, row) for each in self.schema[name].fields.values()}

    def key_field(self, name: str, column: str) -> Field:
        each = self.schema[name].find(column)
        if each is None or not each.external_id:
            raise Refused(
                "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {column}"
            )
        return each

    def by_key(self, name: str, each: Field, value: object) -> list[Row]:
        """Rows with that external id, compared as the platform does, without case."""
        wanted = str(value).strip().casefold()
        if each.unique:
            found = self.keys.get((name, each.name), {}).get(wanted)
            return [self.tables[name][found]] if found is not None else []
        return [row for row in self.scan(name) if str(row.get(each.name) or "").casefold() == wanted]

    def children(self, name: str, column: str, parent: str) -> list[Row]:
        """Living rows that point at a parent, found through an index that is made when first asked for."""
        family = self._families.get((name, column))
        if family is None:
            family = self._families[name, column] = {}
            for row in self.tables.get(name, {}).values():
                family.setdefault(row.get(column) or "", {})[row["Id"]] = None
        table = self.tables.get(name, {})
        found = [table[each] for each in family.get(parent, {}) if each in table]
        return [row for row in found if not row.get("IsDeleted")]

    def adopt(self, schema: dict[str, SObject]) -> None:
        """Another schema for the same rows; a new column starts with its default, as after a deployment."""
        self.schema = schema
        for name, table in self.tables.items():
            starts = {each.name: each.default for each in schema[name].fields.values()}
            self.tables[name] = {row_id: {**starts, **row} for row_id, row in table.items()}

    # ------------------------------------------------------------ rolling back

    def keep(self) -> Kept:
        return Kept(
            {name: dict(table) for name, table in self.tables.items()},
            {name: dict(keys) for name, keys in self.keys.items()},
            list(self.graves),
            dict(self._went_with),
        )

    def restore(self, kept: Kept) -> None:
        self.tables, self.keys, self.graves, self._went_with = (
            kept.tables,
            kept.keys,
            kept.graves,
            kept.went_with,
        )
        self._families.clear()

    # ------------------------------------------------------------ writing

    def insert(
        self,
        name: str,
        sent: Mapping[str, object],
        actor: str,
        *,
        allow_save: bool = False,
        trusted: bool = False,
    ) -> str:
        """A new row by that user. `trusted` is for what no client may write (users, setup rows, stamps)."""
        shape = self.shape(name)
        if not (shape.createable or trusted):
            raise Refused("INVALID_TYPE_FOR_OPERATION", f"entity type {name} does not support create")
        changes = self._readable(shape, sent, creating=True, trusted=trusted)
        changes = self._automated(shape, {}, changes)
        row: Record = {each.name: None for each in shape.fields.values()}
        row.update({each.name: each.default for each in shape.fields.values() if each.default is not None})
        given = {
            column: value
            for column, value in changes.items()
            if not self._blank_default(shape, column, value)
        }
        row.update(given)
        if "OwnerId" in shape.fields and row["OwnerId"] is None:
            row["OwnerId"] = actor
        now = self.now()
        self._count += 1
        row.update(
            Id=values.make_id(shape.prefix, self._count), IsDeleted=False, CreatedDate=now, CreatedById=actor,
        )  # fmt: skip
        if name == "OpportunityTeamMember":
            twin = self._same_member(row)
            if twin is not None:
                self.update(
                    name,
                    twin,
                    {k: v for k, v in given.items() if k not in {"OpportunityId", "UserId"}},
                    actor,
                )
                return twin
        if name == "Cosell_Solution__c":
            row["Name"] = f"CS-{self._count:06d}"
        self._finish(shape, row, changes, None, actor, allow_save=allow_save, trusted=trusted)
        if name == "Opportunity" and row.get("ContactId"):
            link = {"OpportunityId": row["Id"], "ContactId": row["ContactId"], "IsPrimary": True}
            self.insert("OpportunityContactRole", link, actor)
        return str(row["Id"])

    def update(
        self, name: str, row_id: str, sent: Mapping[str, object], actor: str, *, trusted: bool = False
    ) -> None:
        shape = self.shape(name)
        before = self.live(name, row_id)
        if not (shape.createable or trusted):
            raise Refused("INVALID_TYPE_FOR_OPERATION", f"entity type {name} does not support update")
        changes = self._readable(shape, sent, creating=False, trusted=trusted)
        changes = self._automated(shape, before, changes)
        if name == "Opportunity" and before.get("HasOpportunityLineItem") and not trusted:
            # The platform keeps the sum of the products, says nothing and reports success.
            changes.pop("Amount", None)
        if "OwnerId" in changes and changes["OwnerId"] is None:
            raise Refused("INVALID_CROSS_REFERENCE_KEY", "Owner ID: owner cannot be blank", ("OwnerId",))
        self._finish(shape, {**before, **changes}, changes, before, actor, trusted=trusted)

    def _readable(
        self, shape: SObject, sent: Mapping[str, object], *, creating: bool, trusted: bool
    ) -> Record:
        """Columns by their true names with converted values; unknown and unwritable ones are refused."""
        changes: Record = {}
        locked: list[str] = []
        for name, value in sent.items():
            if name == "attributes":
                continue
            each, value = self._column(shape, name, value)  # noqa: PLW2901  (a nested reference becomes its id)
            writable = each.createable if creating else each.updateable
            if not (writable or trusted):
                locked.append(each.name)
                continue
            changes[each.name] = values.convert(each, value)
        if locked:
            raise Refused(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {', '.join(locked)}. Please check the security settings of this "
                "field and verify that it is read/write for your profile or permission set.",
                tuple(locked),
            )
        return changes

    def _column(self, shape: SObject, name: str, value: object) -> tuple[Field, object]:
        each = shape.find(name)
        if each is not None:
            return each, value
        lookup = shape.parent(name)
        if lookup is None or not lookup.relationship or not isinstance(value, Mapping):
            raise Refused("INVALID_FIELD", f"No such column '{name}' on sobject of type {shape.name}")
        named = {key: inner for key, inner in value.items() if key != "attributes"}
        if len(named) != 1:
            raise Refused("INVALID_FIELD", f"{name}: a reference takes exactly one external id")
        [(column, wanted)] = named.items()
        target = lookup.refers_to[0]
        found = self.by_key(target, self.key_field(target, column), wanted)
        if not found:
            raise Refused(
                "INVALID_FIELD",
                f"Foreign key external ID: {wanted} not found for field {column} in entity {target}",
            )
        return lookup, found[0]["Id"]

    def _blank_default(self, shape: SObject, column: str, value: object) -> bool:
        return value is None and shape.fields[column].default is not None

    def _automated(self, shape: SObject, before: Row, changes: Record) -> Record:
        """What the org's own flows make of a write, before it is saved."""
        for name, rewrite in self.automations:
            if name != shape.name:
                continue
            shown = self.record(shape.name, before) if before else {}
            plain = {column: values.render(shape.fields[column], changes) for column in changes}
            made = rewrite(shown, plain)
            changes = {}
            for column, value in made.items():
                each, found = self._column(shape, column, value)
                changes[each.name] = values.convert(each, found)
        return changes

    def _finish(
        self, shape: SObject, row: Record, changes: Record, before: Row | None, actor: str,
        *, allow_save: bool = False, trusted: bool = False,
    ) -> None:  # fmt: skip
        """The checks that see the whole row, then the save."""
        missing = tuple(
            each.name for each in shape.fields.values() if each.required and row.get(each.name) is None
        )
        if missing:
            raise Refused(
                "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", missing
            )
        if not trusted:
            self._check_references(shape, row, changes)
        self._derive(shape, row, changes, before)
        for name, broken, message in self.rules:
            if name == shape.name and not trusted and broken(self.record(name, row)):
                raise Refused("FIELD_CUSTOM_VALIDATION_EXCEPTION", message)
        self._check_keys(shape, row)
        if before is None and not (allow_save and self.duplicate_rule == "alert"):
            self._check_duplicates(shape, row)
        row.update(LastModifiedDate=self.now(), LastModifiedById=actor, SystemModstamp=self.now())
        self._put(shape, row, before)
        if shape.name == "OpportunityContactRole" and row["IsPrimary"]:
            self._only_primary(row, actor)

    def _put(self, shape: SObject, row: Row, before: Row | None) -> None:
        self.tables.setdefault(shape.name, {})[row["Id"]] = row
        for (name, column), parents in self._families.items():
            if name == shape.name:
                if before is not None:
                    parents.get(before.get(column) or "", {}).pop(row["Id"], None)
                parents.setdefault(row.get(column) or "", {})[row["Id"]] = None
        for each in shape.fields.values():
            if each.unique:
                keys = self.keys.setdefault((shape.name, each.name), {})
                old = before.get(each.name) if before is not None and not before.get("IsDeleted") else None
                if old is not None:
                    keys.pop(old.casefold(), None)
                new = row.get(each.name)
                if new is not None and not row.get("IsDeleted"):
                    keys[new.casefold()] = row["Id"]

    def _check_references(self, shape: SObject, row: Row, changes: Record) -> None:
        for column in changes:
            each, target = shape.fields[column], row.get(column)
            if each.type != "reference" or target is None:
                continue
            kind = next((name for name in each.refers_to if self.schema[name].prefix == target[:3]), None)
            if kind is None:
                raise Refused(
                    "MALFORMED_ID", f"{each.label}: id value of incorrect type: {target}", (column,)
                )
            found = self.find(kind, target)
            if found is None:
                raise Refused("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", (column,))
            if found.get("IsDeleted"):
                raise Refused("ENTITY_IS_DELETED", "entity is deleted", (column,))
            if kind == "User" and not found["IsActive"]:
                raise Refused(
                    "INACTIVE_OWNER_OR_USER",
                    f"operation performed with inactive user [{target}] as owner of {shape.name.lower()}",
                    (column,),
                )

    def _check_keys(self, shape: SObject, row: Row) -> None:
        for each in shape.fields.values():
            value = row.get(each.name)
            if not each.unique or value is None:
                continue
            holder = self.keys.get((shape.name, each.name), {}).get(value.casefold())
            if holder is not None and holder != row["Id"]:
                raise Refused(
                    "DUPLICATE_VALUE",
                    f"duplicate value found: {each.name} duplicates value on record with id: {holder[:15]}",
                )

    def _check_duplicates(self, shape: SObject, row: Row) -> None:
        if self.duplicate_rule == "off" or shape.name not in GATED:
            return
        column = "Name" if shape.name == "Account" else "Email"
        wanted = (row.get(column) or "").casefold()
        matches = [
            each for each in self.scan(shape.name) if wanted and (each.get(column) or "").casefold() == wanted
        ]
        if matches:
            rule = f"Standard_{shape.name}_Duplicate_Rule"
            found = [
                {"record": {"attributes": {"type": shape.name}, "Id": each["Id"]}, "matchConfidence": 100.0}
                for each in matches
            ]
            result = {
                "allowSave": self.duplicate_rule == "alert",
                "duplicateRule": rule,
                "duplicateRuleEntityType": shape.name,
                "errorMessage": "Use one of these records?",
                "matchResults": [
                    {"entityType": shape.name, "matchEngine": "FuzzyMatchEngine", "matchRecords": found}
                ],
            }
            raise Refused("DUPLICATES_DETECTED", "Use one of these records?", duplicateResult=result)

    def _same_member(self, row: Row) -> str | None:
        """Adding a colleague twice to a team changes the first row instead of making a second."""
        team = self.children("OpportunityTeamMember", "OpportunityId", row["OpportunityId"])
        return next((str(each["Id"]) for each in team if each["UserId"] == row["UserId"]), None)

    def _only_primary(self, row: Row, actor: str) -> None:
        """A new primary contact takes the mark from the old one, as the platform does."""
        shape = self.schema["OpportunityContactRole"]
        for each in self.children(shape.name, "OpportunityId", row["OpportunityId"]):
            if each["Id"] != row["Id"] and each["IsPrimary"]:
                stamps = {
                    "LastModifiedDate": self.now(),
                    "LastModifiedById": actor,
                    "SystemModstamp": self.now(),
                }
                self._put(shape, {**each, "IsPrimary": False, **stamps}, each)

    # ------------------------------------------------------------ columns that follow from others

    def _derive(self, shape: SObject, row: Record, changes: Record, before: Row | None) -> None:
        for kind in ("Billing", "Mailing"):
            if f"{kind}CountryCode" in shape.fields:
                self._address_codes(kind, row, changes)
        if shape.name in {"User", "Contact", "Lead"}:
            row["Name"] = " ".join(part for part in (row.get("FirstName"), row.get("LastName")) if part)
        if shape.name == "Opportunity":
            self._derive_opportunity(row, changes, before)
        if shape.name == "Task":
            row["IsClosed"] = row.get("Status") == "Completed"
            about = row.get("WhatId")
            deal = self.find("Opportunity", about) if about else None
            row["AccountId"] = (
                deal["AccountId"] if deal else about if about and about.startswith("001") else None
            )
        if shape.name == "OpportunityTeamMember":
            user = self.find("User", row["UserId"])
            row["Name"] = user["Name"] if user else None

    def _derive_opportunity(self, row: Record, changes: Record, before: Row | None) -> None:
        stage = _STAGE.get(row["StageName"])
        if stage is not None:
            moved = before is None or before["StageName"] != row["StageName"]
            if moved and changes.get("Probability") is None:
                row["Probability"] = Decimal(stage.probability)
            if moved and changes.get("ForecastCategoryName") is None:
                row["ForecastCategoryName"] = CATEGORY_LABELS.get(stage.category, stage.category)
            row.update(IsClosed=stage.closed, IsWon=stage.won)
        names = {label: name for name, label in CATEGORY_LABELS.items()}
        row["ForecastCategory"] = names.get(row["ForecastCategoryName"], row["ForecastCategoryName"])
        if row["Amount"] is not None and row["Probability"] is not None:
            expected = row["Amount"] * row["Probability"] / 100
            row["ExpectedRevenue"] = expected.quantize(Decimal("0.01"), ROUND_HALF_UP)
        else:
            row["ExpectedRevenue"] = None
        closes = row["CloseDate"]
        row.update(FiscalYear=Decimal(closes.year), FiscalQuarter=Decimal((closes.month + 2) // 3))

    def _address_codes(self, kind: str, row: Record, changes: Record) -> None:
        """With address picklists, text and code are two views of one value; whichever was sent sets the other."""
        country, code = f"{kind}Country", f"{kind}CountryCode"
        by_name = {name.casefold(): each for each, name in COUNTRIES.items()}
        if changes.get(code) is not None or (code in changes and country not in changes):
            row[country] = COUNTRIES.get(row[code]) if row[code] else None
        elif country in changes:
            name = (row[country] or "").casefold()
            if name and name not in by_name:
                raise Refused(
                    "FIELD_INTEGRITY_EXCEPTION",
                    "There's a problem with this country, even though it may appear correct. Please select a "
                    "country/territory from the list of valid countries.",
                    (country,),
                )
            row[code] = by_name.get(name)
        state, state_code = f"{kind}State", f"{kind}StateCode"
        states = STATES.get(row.get(code) or "", {})
        sent = state_code if changes.get(state_code) is not None else state
        given = row.get(sent)
        if given is None or (sent in changes and changes[sent] is None):
            row[state] = row[state_code] = None
            return
        found = (
            given
            if sent == state_code
            else {n.casefold(): c for c, n in states.items()}.get(given.casefold())
        )
        if row.get(code) is None:
            raise Refused(
                "FIELD_INTEGRITY_EXCEPTION",
                f"A country/territory must be specified before specifying a state value for field: {kind} State/Province",
                (state,),
            )
        if found not in states:
            raise Refused(
                "FIELD_INTEGRITY_EXCEPTION",
                "There's a problem with this state, even though it may appear correct. Please select a state from "
                "the list of valid states.",
                (state,),
            )
        row[state_code], row[state] = found, states[found]

    # ------------------------------------------------------------ deleting

    def delete(self, name: str, row_id: str, actor: str, *, trusted: bool = False) -> None:
        shape = self.shape(name)
        row = self.live(name, row_id)
        if not (shape.createable or trusted):
            raise Refused("INVALID_TYPE_FOR_OPERATION", f"entity type {name} does not support delete")
        self._bury(shape, row, actor, row["Id"])

    def _bury(self, shape: SObject, row: Row, actor: str, root: str) -> None:
        for child in shape.children:
            for each in self.children(child.object, child.field, row["Id"]):
                if child.cascade:
                    self._bury(self.schema[child.object], each, actor, root)
                else:
                    self._put(self.schema[child.object], {**each, child.field: None}, each)
        self.graves.append(Grave(shape.name, row["Id"], self.now()))
        gone = {**row, "IsDeleted": True, "SystemModstamp": self.now(), "LastModifiedDate": self.now()}
        gone["LastModifiedById"] = actor
        self._put(shape, gone, row)
        if shape.recycled:
            self._went_with[row["Id"]] = root
        else:
            del self.tables[shape.name][row["Id"]]

    def undelete(self, name: str, row_id: str, actor: str) -> None:
        """Brings a row back from the bin with what was deleted together with it."""
        wanted = values.normal_id(row_id)
        row = self.find(name, wanted) if wanted else None
        if row is None or not row.get("IsDeleted"):
            raise Refused("UNDELETE_FAILED", "Entity is not in the recycle bin")
        together = [each for each, root in self._went_with.items() if root == wanted]
        for each in together:
            shape = next(shape for shape in self.schema.values() if shape.prefix == each[:3])
            old = self.tables[shape.name][each]
            self._check_keys(shape, old)
            stamps = {"LastModifiedDate": self.now(), "LastModifiedById": actor, "SystemModstamp": self.now()}
            self._put(shape, {**old, "IsDeleted": False, **stamps}, old)
            self.graves = [grave for grave in self.graves if grave.id != each]
            del self._went_with[each]

    def purge(self, name: str, row_id: str) -> None:
        """Empties one row from the bin: neither a query nor the log of deletions shows it any more."""
        wanted = values.normal_id(row_id) or ""
        for each in [each for each, root in self._went_with.items() if root == wanted] or [wanted]:
            shape = next(shape for shape in self.schema.values() if shape.prefix == each[:3])
            self.tables[shape.name].pop(each, None)
            self._went_with.pop(each, None)
            self.graves = [grave for grave in self.graves if grave.id != each]
        self.tables.get(name, {}).pop(wanted, None)

    def merge(self, name: str, winner: str, loser: str, actor: str) -> None:
        """Two accounts become one: children change their parent without a stamp or a trigger."""
        shape = self.schema[name]
        kept, gone = self.live(name, winner), self.live(name, loser)
        for child in shape.children:
            if child.field == "MasterRecordId":
                continue
            for each in self.children(child.object, child.field, gone["Id"]):
                self._put(self.schema[child.object], {**each, child.field: kept["Id"]}, each)
        merged = {**gone, "MasterRecordId": kept["Id"]}
        self._put(shape, merged, gone)
        self._bury(shape, merged, actor, gone["Id"])
        now = self.now()
        self._put(
            shape, {**kept, "LastModifiedDate": now, "LastModifiedById": actor, "SystemModstamp": now}, kept
        )

    def touch(self, name: str, row_id: str) -> None:
        row = self.live(name, row_id)
        self._put(self.schema[name], {**row, "SystemModstamp": self.now()}, row)

    # ------------------------------------------------------------ the first rows

    def furnish(self, actor: str) -> None:
        """What every org holds before its first record."""
        self.insert("Organization", {"Name": "Contoso Partner", "OrganizationType": "Enterprise Edition", "InstanceName": "FAKE1"}, actor, trusted=True)  # fmt: skip
        for place, stage in enumerate(STAGES, start=1):
            row = {
                "MasterLabel": stage.name, "ApiName": stage.name, "SortOrder": place, "IsClosed": stage.closed,
                "IsWon": stage.won, "ForecastCategory": stage.category, "DefaultProbability": stage.probability,
                "ForecastCategoryName": CATEGORY_LABELS.get(stage.category, stage.category),
            }  # fmt: skip
            self.insert("OpportunityStage", row, actor, trusted=True)
        if "CurrencyType" in self.schema:
            for code, rate in CURRENCIES.items():
                row = {
                    "IsoCode": code, "ConversionRate": rate, "IsCorporate": code == CORPORATE_CURRENCY,
                    "DecimalPlaces": 0 if code == "JPY" else 2,
                }  # fmt: skip
                self.insert("CurrencyType", row, actor, trusted=True)
