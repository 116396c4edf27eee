"""The rules of every write to the org: required fields, picklists, unique keys, references, validation rules, automations.

They apply to the REST API and to sellers alike, as on the platform. What only a person can do (merging accounts, emptying the
bin) is here too.

A write stamps the row it changes and no other. A child does not stamp its parent, an account merge moves children without
stamping them, a deletion moves SystemModstamp.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cosell_sync.sandbox.salesforce import values
from cosell_sync.sandbox.salesforce.derived import derive
from cosell_sync.sandbox.salesforce.duplicates import DuplicateRules
from cosell_sync.sandbox.salesforce.schema import Field, SObject
from cosell_sync.sandbox.salesforce.standard_values import (
    CATEGORY_LABELS,
    CORPORATE_CURRENCY,
    CURRENCIES,
    STAGES,
)
from cosell_sync.sandbox.salesforce.store import Deletion, Record, Store
from cosell_sync.sandbox.salesforce.values import Refused, Row

Rule = Callable[[Record], bool]
Automation = Callable[[Record, Record], Record]


@dataclass
class Org(Store):
    """One org: its rows and what its admins have set up."""

    duplicates: DuplicateRules = field(default_factory=DuplicateRules)
    without_read: set[str] = field(default_factory=set)  # users who may not read opportunities
    read_only_accounts: set[str] = field(
        default_factory=set
    )  # out of reach of the integration user's sharing
    person_accounts: set[str] = field(default_factory=set)
    no_members: set[str] = field(default_factory=set)  # users who can be on no opportunity team
    rules: list[tuple[str, Rule, str, tuple[str, ...]]] = field(default_factory=list)
    automations: list[tuple[str, Automation]] = field(default_factory=list)
    locked: set[str] = field(default_factory=set)
    """Ids of rows that an approval holds: nobody but an admin changes them
    (developer.salesforce.com/docs/platform/apexref, Approval.lock)."""
    closed_rows_writable: bool = True
    """False: a validation rule locks closed opportunities, as many orgs have it:
    AND(PRIORVALUE(IsClosed), IsClosed) (help.salesforce.com, examples of validation rules)."""
    _count: int = 0

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
        """A new row by that user. `trusted` allows what no client may write (users, setup rows, stamps)."""
        shape = self.shape(name)
        if not (shape.createable or trusted):
            raise Refused("INVALID_TYPE_FOR_OPERATION", f"entity type {name} does not support create")
        changes = self._readable(shape, sent, creating=True, trusted=trusted)
        changes = self._run_automations(shape, {}, changes)
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
            if row["UserId"] in self.no_members:
                raise Refused(
                    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
                    "insufficient access rights on cross-reference id",
                    ("UserId",),
                )
            twin = self._existing_member(row)
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
        self._check_and_save(shape, row, changes, None, actor, allow_save=allow_save, trusted=trusted)
        if name == "Opportunity" and row.get("ContactId"):
            link = {"OpportunityId": row["Id"], "ContactId": row["ContactId"], "IsPrimary": True}
            self.insert("OpportunityContactRole", link, actor)
        return str(row["Id"])

    def update(
        self,
        name: str,
        row_id: str,
        sent: Mapping[str, object],
        actor: str,
        *,
        allow_save: bool = False,
        trusted: bool = False,
    ) -> None:
        """Changes a row by that user."""
        shape = self.shape(name)
        before = self.live(name, row_id)
        if not (shape.createable or trusted):
            raise Refused("INVALID_TYPE_FOR_OPERATION", f"entity type {name} does not support update")
        changes = self._readable(shape, sent, creating=False, trusted=trusted)
        changes = self._run_automations(shape, before, changes)
        if before["Id"] in self.locked and not trusted:
            raise Refused("ENTITY_IS_LOCKED", "the entity is locked for editing")
        if name == "Opportunity" and before.get("HasOpportunityLineItem") and not trusted:
            # The platform keeps the sum of the products and reports success.
            changes.pop("Amount", None)
            # Prices are of one currency; the words are those of the check of the products.
            # https://help.salesforce.com/s/articleView?id=sf.products_multicurrency.htm
            if changes.get("CurrencyIsoCode", before.get("CurrencyIsoCode")) != before.get("CurrencyIsoCode"):
                raise Refused(
                    "FIELD_INTEGRITY_EXCEPTION",
                    "pricebook entry currency code does not match opportunity currency code",
                    ("CurrencyIsoCode",),
                )
        if name == "Account" and not trusted:
            self._check_account(before, changes)
        if "OwnerId" in changes and changes["OwnerId"] is None:
            raise Refused("INVALID_CROSS_REFERENCE_KEY", "Owner ID: owner cannot be blank", ("OwnerId",))
        after = {**before, **changes}
        self._check_and_save(shape, after, changes, before, actor, allow_save=allow_save, trusted=trusted)

    def _check_account(self, before: Row, changes: Record) -> None:
        """An account that the user may only read, and a person account, whose name is put together from its parts.

        https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_guidelines_personaccounts.htm
        """
        if before["Id"] in self.read_only_accounts:
            raise Refused("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on object id")
        if before["Id"] in self.person_accounts and "Name" in changes:
            raise Refused(
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                "Account: bad field names on insert/update call: Name",
                ("Name",),
            )

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

    def _run_automations(self, shape: SObject, before: Row, changes: Record) -> Record:
        """The changes after the org's flows, which run before a save."""
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

    def _check_and_save(
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
        derive(self, shape, row, changes, before)
        for name, broken, message, place in self.rules:
            if name == shape.name and not trusted and broken(self.record(name, row)):
                raise Refused("FIELD_CUSTOM_VALIDATION_EXCEPTION", message, place)
        if before is not None and self._is_shut(shape, before, row) and not trusted:
            raise Refused("FIELD_CUSTOM_VALIDATION_EXCEPTION", "A closed opportunity cannot be changed.")
        self._check_keys(shape, row)
        if not trusted:
            self.duplicates.check(self, shape, row, before, allow_save=allow_save)
        row.update(LastModifiedDate=self.now(), LastModifiedById=actor, SystemModstamp=self.now())
        self.put(shape, row, before)
        if shape.name == "OpportunityContactRole" and row["IsPrimary"]:
            self._only_primary(row, actor)

    def _is_shut(self, shape: SObject, before: Row, row: Row) -> bool:
        """Whether the rule against changes of closed opportunities applies."""
        closed = shape.name == "Opportunity" and before["IsClosed"] and row["IsClosed"]
        return bool(closed) and not self.closed_rows_writable

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
            if column == "OwnerId" and shape.name == "Opportunity" and target in self.without_read:
                # https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_calls_concepts_core_data_objects.htm
                raise Refused("TRANSFER_REQUIRES_READ", "The new owner must have read permission")

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

    def _existing_member(self, row: Row) -> str | None:
        """Adding a colleague twice to a team changes the first row instead of making a second."""
        team = self.children("OpportunityTeamMember", "OpportunityId", row["OpportunityId"])
        return next((str(each["Id"]) for each in team if each["UserId"] == row["UserId"]), None)

    def _only_primary(self, row: Row, actor: str) -> None:
        """A new primary contact replaces the old one, as on the platform."""
        shape = self.schema["OpportunityContactRole"]
        for each in self.children(shape.name, "OpportunityId", row["OpportunityId"]):
            if each["Id"] != row["Id"] and each["IsPrimary"]:
                stamps = {
                    "LastModifiedDate": self.now(),
                    "LastModifiedById": actor,
                    "SystemModstamp": self.now(),
                }
                self.put(shape, {**each, "IsPrimary": False, **stamps}, each)

    # ------------------------------------------------------------ deleting

    def delete(self, name: str, row_id: str, actor: str, *, trusted: bool = False) -> None:
        """Deletes a row, with the rows that cascade."""
        shape = self.shape(name)
        row = self.live(name, row_id)
        if not (shape.createable or trusted):
            raise Refused("INVALID_TYPE_FOR_OPERATION", f"entity type {name} does not support delete")
        self._delete_row(shape, row, actor, row["Id"])

    def _delete_row(self, shape: SObject, row: Row, actor: str, root: str) -> None:
        for child in shape.children:
            for each in self.children(child.object, child.field, row["Id"]):
                if child.cascade:
                    self._delete_row(self.schema[child.object], each, actor, root)
                else:
                    self.put(self.schema[child.object], {**each, child.field: None}, each)
        self.deletions.append(Deletion(shape.name, row["Id"], self.now()))
        gone = {**row, "IsDeleted": True, "SystemModstamp": self.now(), "LastModifiedDate": self.now()}
        gone["LastModifiedById"] = actor
        self.put(shape, gone, row)
        if shape.recycled:
            self._deleted_with[row["Id"]] = root
        else:
            del self.tables[shape.name][row["Id"]]

    def undelete(self, name: str, row_id: str, actor: str) -> None:
        """Brings a row back from the bin with what was deleted together with it."""
        wanted = values.normal_id(row_id)
        row = self.find(name, wanted) if wanted else None
        if row is None or not row.get("IsDeleted"):
            raise Refused("UNDELETE_FAILED", "Entity is not in the recycle bin")
        together = [each for each, root in self._deleted_with.items() if root == wanted]
        for each in together:
            shape = next(shape for shape in self.schema.values() if shape.prefix == each[:3])
            old = self.tables[shape.name][each]
            self._check_keys(shape, old)
            stamps = {"LastModifiedDate": self.now(), "LastModifiedById": actor, "SystemModstamp": self.now()}
            self.put(shape, {**old, "IsDeleted": False, **stamps}, old)
            self.deletions = [deletion for deletion in self.deletions if deletion.id != each]
            del self._deleted_with[each]

    def purge(self, name: str, row_id: str) -> None:
        """Empties one row from the bin: neither a query nor the log of deletions shows it any more."""
        wanted = values.normal_id(row_id) or ""
        for each in [each for each, root in self._deleted_with.items() if root == wanted] or [wanted]:
            shape = next(shape for shape in self.schema.values() if shape.prefix == each[:3])
            self.tables[shape.name].pop(each, None)
            self._deleted_with.pop(each, None)
            self.deletions = [deletion for deletion in self.deletions if deletion.id != each]
        self.tables.get(name, {}).pop(wanted, None)

    def merge(self, name: str, winner: str, loser: str, actor: str) -> None:
        """Two accounts become one: children change their parent without a stamp or a trigger."""
        shape = self.schema[name]
        kept, gone = self.live(name, winner), self.live(name, loser)
        for child in shape.children:
            if child.field == "MasterRecordId":
                continue
            for each in self.children(child.object, child.field, gone["Id"]):
                self.put(self.schema[child.object], {**each, child.field: kept["Id"]}, each)
        merged = {**gone, "MasterRecordId": kept["Id"]}
        self.put(shape, merged, gone)
        self._delete_row(shape, merged, actor, gone["Id"])
        now = self.now()
        self.put(
            shape, {**kept, "LastModifiedDate": now, "LastModifiedById": actor, "SystemModstamp": now}, kept
        )

    def touch(self, name: str, row_id: str) -> None:
        """Moves SystemModstamp alone."""
        row = self.live(name, row_id)
        self.put(self.schema[name], {**row, "SystemModstamp": self.now()}, row)

    # ------------------------------------------------------------ the first rows

    def add_standard_rows(self, actor: str) -> None:
        """What every org holds before its first record."""
        self.insert("Organization", {"Name": "Contoso Partner", "OrganizationType": "Enterprise Edition", "InstanceName": "FAKE1", "DefaultLocaleSidKey": "en_GB", "TimeZoneSidKey": "GMT"}, actor, trusted=True)  # fmt: skip
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
