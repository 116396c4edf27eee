"""What sellers and admins do in the org, without HTTP: records, users, switches, rules and fields.

Sellers make edits through `create`, `edit` and `delete`, stamped with the seller's name. Admins have switches and rules.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from cosell_sync.sandbox.salesforce import schema, standard_schema
from cosell_sync.sandbox.salesforce.auth import INTEGRATION_USERNAME
from cosell_sync.sandbox.salesforce.composite import Composite
from cosell_sync.sandbox.salesforce.duplicates import DuplicateRules
from cosell_sync.sandbox.salesforce.rest import Rest
from cosell_sync.sandbox.salesforce.rows import Automation, Org, Rule
from cosell_sync.sandbox.salesforce.schema import Field
from cosell_sync.sandbox.salesforce.setup import Setup
from cosell_sync.sandbox.salesforce.store import Record
from cosell_sync.sandbox.salesforce.values import normal_id, render


class Actions:
    """One org. Switches that tests turn are plain attributes; everything else is a method."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        multi_currency: bool,
        team_selling: bool,
        state_country_picklists: bool,
        cosell_fields_installed: bool,
        of_earlier_version: bool,
        data_com: bool,
        api_calls_limit: int,
    ) -> None:
        self._lock = threading.RLock()
        self._shape = {
            "multi_currency": multi_currency,
            "team_selling": team_selling,
            "state_country_picklists": state_country_picklists,
            "cosell_fields_installed": cosell_fields_installed,
            "of_earlier_version": of_earlier_version,
            "data_com": data_com,
        }
        self.api_calls_limit = api_calls_limit
        self.api_used = 0
        self._org = Org(standard_schema.build(**self._shape), clock)
        self._setup = Setup(self._org, clock)
        self._composite = Composite()
        self._rest = Rest(
            self._org,
            usage=lambda: (self.api_used, self.api_calls_limit),
            composite=self._composite,
            access=self._setup.access,
        )
        self.integration_user = self._first_user()
        self._org.add_standard_rows(self.integration_user)
        self._setup.access.minimal.add(self.integration_user)
        if cosell_fields_installed:
            self._grant_deployed()
        self.seller = self.add_user("Sam", "Seller", "sam.seller@contoso.example", "+1 555 0100")

    # ------------------------------------------------------------ what an admin switches

    @property
    def precondition_field(self) -> str:
        """Which stamp `If-Unmodified-Since` compares: `LastModifiedDate` or `SystemModstamp`."""
        return self._rest.precondition_field

    @precondition_field.setter
    def precondition_field(self, name: str) -> None:
        if name not in {"LastModifiedDate", "SystemModstamp"}:
            raise ValueError(name)
        self._rest.precondition_field = name

    @property
    def composite_honours_headers(self) -> bool:
        return self._composite.honours_headers

    @composite_honours_headers.setter
    def composite_honours_headers(self, honoured: bool) -> None:
        self._composite.honours_headers = honoured

    @property
    def may_customize(self) -> bool:
        """Whether those who sign in may look at the setup and change it."""
        return self._setup.may_customize

    @may_customize.setter
    def may_customize(self, allowed: bool) -> None:
        self._setup.may_customize = allowed

    @property
    def page_size(self) -> int:
        return self._rest.page_size

    @page_size.setter
    def page_size(self, rows: int) -> None:
        self._rest.page_size = rows

    @property
    def duplicate_rule(self) -> str:
        """`off`, `alert` (as in a new org; passed with allowSave) or `block`, for new accounts and contacts."""
        return self._org.duplicates.on_create

    @duplicate_rule.setter
    def duplicate_rule(self, rule: str) -> None:
        if rule not in {"off", "alert", "block"}:
            raise ValueError(rule)
        self._org.duplicates.on_create = rule

    @property
    def duplicates(self) -> DuplicateRules:
        """The duplicate rules: for edits, whether matches are named, and the leads that contacts may resemble."""
        return self._org.duplicates

    @property
    def closed_rows_writable(self) -> bool:
        """Whether the org lets a closed opportunity be edited; many have a rule against it."""
        return self._org.closed_rows_writable

    @closed_rows_writable.setter
    def closed_rows_writable(self, writable: bool) -> None:
        self._org.closed_rows_writable = writable

    def lock(self, row_id: str, /) -> None:
        """An approval process takes the row: writes to it are refused until `unlock`."""
        with self._lock:
            self._org.locked.add(self._id(row_id))

    def unlock(self, row_id: str, /) -> None:
        """The approval is done, or recalled; nothing of the row changes by that."""
        with self._lock:
            self._org.locked.discard(self._id(row_id))

    def install_cosell_fields(self) -> None:
        """What a metadata deployment does to an org that had none of our fields."""
        with self._lock:
            self._shape["cosell_fields_installed"] = True
            self._org.adopt(standard_schema.build(**self._shape))
            self._grant_deployed()

    def _grant_deployed(self) -> None:
        """The prepared org: our fields and objects are closed, and the deployed permission set opens them."""
        access = self._setup.access
        access.objects.add("Cosell_Solution__c")
        for name in ("Opportunity", "Account", "Cosell_Solution__c"):
            access.fields |= {
                (name, each.name) for each in self._org.schema[name].fields.values() if each.custom
            }
        access.grant_deployed(self.integration_user)

    def revoke(self, name: str, *rights: str) -> None:
        """An admin takes rights out of the integration user's permission set: of an object (`ViewAllRecords` …), or of a field
        (`Contact.Phone`; without rights, both).
        """
        with self._lock:
            kind, key = ("FieldPermissions", "Field") if "." in name else ("ObjectPermissions", "SobjectType")
            taken = {f"Permissions{right}": False for right in rights or ("Read", "Edit")}
            for row in self.rows(kind, **{key: name}):
                self._org.update(kind, row["Id"], taken, self.seller, trusted=True)

    def change_field(self, name: str, column: str, **changes: object) -> None:
        """An admin's change of one field, e.g. `required=True`, `updateable=False`, `values=(…)`."""
        with self._lock:
            shape = self._org.schema[name]
            changed: Field = replace(shape.fields[column], **changes)  # type: ignore[arg-type]
            self._reshape(name, {**shape.fields, column: changed})

    def hide_field(self, name: str, column: str) -> None:
        """Hides the field from the integration user, as missing field-level security does."""
        with self._lock:
            fields = self._org.schema[name].fields
            self._reshape(name, {key: each for key, each in fields.items() if key != column})

    def drop_field(self, name: str, column: str) -> None:
        """An admin deletes a custom field; the permission sets forget it."""
        with self._lock:
            self.hide_field(name, column)
            for row in self.rows("FieldPermissions", Field=f"{name}.{column}"):
                self.delete("FieldPermissions", row["Id"])

    def described(self, name: str, /, *, by: str | None = None) -> tuple[str, ...]:
        """The fields that this user sees, none of an object out of sight; the integration user by default."""
        with self._lock:
            shape = self._setup.access.visible_to(by or self.integration_user).get(name)
            return tuple(shape.fields) if shape is not None else ()

    def place_on_page(self, *names: str) -> None:
        """An admin puts buttons, layouts or panels of these names on a page, which keeps them from being deleted."""
        with self._lock:
            self._setup.placed.update(names)

    def take_reports_away(self) -> None:
        """The integration user may not run reports, so that objects of reports are unknown to it."""
        with self._lock:
            self._setup.access.without_reports.add(self.integration_user)

    def fill_dashboards(self) -> None:
        """Admins have made as many dashboards of the viewer's own data as the edition allows."""
        with self._lock:
            self._setup.fill_dashboards()

    def remove_report(self, developer_name: str) -> None:
        """Somebody deletes a report."""
        with self._lock:
            self._setup.remove_report(developer_name)

    def _reshape(self, name: str, fields: Mapping[str, Field]) -> None:
        shape = replace(self._org.schema[name], fields=fields, _by_lower={})
        self._org.schema = schema.linked({**self._org.schema, name: shape})

    def rename_stage(self, old: str, new: str) -> None:
        """An admin replaces a stage by one of another name; the opportunities in it show the new name."""
        with self._lock:
            (stage,) = self.rows("OpportunityStage", ApiName=old)
            renamed = {"ApiName": new, "MasterLabel": new}
            self._org.put(self._org.schema["OpportunityStage"], {**stage, **renamed}, stage)
            values = self._org.schema["Opportunity"].fields["StageName"].values
            now = tuple(new if each == old else each for each in values)
            self.change_field("Opportunity", "StageName", values=now, labels=())
            for row in self.rows("Opportunity", StageName=old):
                self.edit("Opportunity", row["Id"], StageName=new)

    def add_validation_rule(
        self, name: str, broken: Rule, message: str, fields: tuple[str, ...] = ()
    ) -> None:
        """Refuses every save of that object whose record makes `broken` true. `fields`: the error location, else the page."""
        self._org.rules.append((name, broken, message, fields))

    def add_automation(self, name: str, rewrite: Automation) -> None:
        """A flow that runs before each save: gets the record before and the changes, returns the changes to save."""
        self._org.automations.append((name, rewrite))

    def clear_rules(self) -> None:
        self._org.rules.clear()
        self._org.automations.clear()

    # ------------------------------------------------------------ what people do

    def _first_user(self) -> str:
        row = {
            "Username": INTEGRATION_USERNAME, "FirstName": "Cosell", "LastName": "Sync",
            "Email": INTEGRATION_USERNAME,
        }  # fmt: skip
        return self._org.insert("User", row, "", trusted=True)

    def add_user(
        self, first: str, last: str, email: str, phone: str | None = None, *, active: bool = True
    ) -> str:
        """A new user; returns its id."""
        with self._lock:
            row = {"FirstName": first, "LastName": last, "Email": email, "Phone": phone, "IsActive": active}
            username = f"{email}.{len(list(self._org.scan('User')))}"
            return self._org.insert(
                "User", {**row, "Username": username}, self.integration_user, trusted=True
            )

    def take_membership(self, user: str) -> None:
        """This user can be on no opportunity team (a licence without opportunities)."""
        with self._lock:
            self._org.no_members.add(user)

    def make_read_only(self, account: str) -> None:
        """The integration user may read this account and not change it."""
        with self._lock:
            self._org.read_only_accounts.add(self._id(account))

    def make_person(self, account: str) -> None:
        """This account is a person account: its name is read-only."""
        with self._lock:
            self._org.person_accounts.add(self._id(account))

    def take_read(self, user: str) -> None:
        """This user may not read opportunities any more, and so cannot own one."""
        with self._lock:
            self._org.without_read.add(user)

    @property
    def users(self) -> list[Record]:
        return self.rows("User")

    def create(self, object_name: str, /, *, by: str | None = None, **fields: object) -> str:
        """A record made by a seller in the browser; returns its id."""
        with self._lock:
            return self._org.insert(object_name, fields, by or self.seller, allow_save=True)

    def edit(self, object_name: str, row_id: str, /, *, by: str | None = None, **fields: object) -> None:
        """Changes fields as a seller in the browser does."""
        with self._lock:
            trusted = not self._org.shape(object_name).createable
            actor = by or self.seller
            self._org.update(object_name, self._id(row_id), fields, actor, allow_save=True, trusted=trusted)

    def delete(self, object_name: str, row_id: str, /, *, by: str | None = None) -> None:
        """Moves a record to the bin."""
        with self._lock:
            self._org.delete(object_name, self._id(row_id), by or self.seller)

    def undelete(self, object_name: str, row_id: str, /, *, by: str | None = None) -> None:
        """Takes a record out of the bin, with what was deleted together with it."""
        with self._lock:
            self._org.undelete(object_name, self._id(row_id), by or self.seller)

    def purge(self, object_name: str, row_id: str, /) -> None:
        """Deletes for good: not in the bin, not in the log of deletions."""
        with self._lock:
            self._org.purge(object_name, self._id(row_id))

    def merge_accounts(self, winner: str, loser: str, /, *, by: str | None = None) -> None:
        """Merges two accounts: the records of the loser move to the winner."""
        with self._lock:
            self._org.merge("Account", self._id(winner), self._id(loser), by or self.seller)

    def add_products(self, opportunity: str, /, amount: object) -> None:
        """From now on the amount is the sum of the products, and writes to it are silently ignored."""
        with self._lock:
            fields = {"HasOpportunityLineItem": True, "Amount": amount}
            self._org.update("Opportunity", self._id(opportunity), fields, self.seller, trusted=True)

    def touch(self, object_name: str, row_id: str, /) -> None:
        """Moves SystemModstamp alone, as roll-ups and background jobs do."""
        with self._lock:
            self._org.touch(object_name, self._id(row_id))

    def get(self, object_name: str, row_id: str, /) -> Record:
        """The record with every column as JSON shows it, also when it is in the bin; KeyError when there is none."""
        with self._lock:
            row = self._org.find(object_name, self._id(row_id))
            if row is None:
                raise KeyError(row_id)
            return self._org.record(object_name, row)

    def rows(self, object_name: str, /, **equals: object) -> list[Record]:
        """Living records whose columns equal these values, in the order of creation."""
        with self._lock:
            found = [self._org.record(object_name, row) for row in self._org.scan(object_name)]
            return [row for row in found if all(row[column] == value for column, value in equals.items())]

    def snapshot(self) -> dict[str, dict[str, Record]]:
        """Everything, the bin included, to compare field by field."""
        with self._lock:
            return {
                name: {
                    row_id: {each.name: render(each, row) for each in self._org.schema[name].fields.values()}
                    for row_id, row in table.items()
                }
                for name, table in self._org.tables.items()
            }

    def _id(self, given: str) -> str:
        made = normal_id(given)
        if made is None:
            raise KeyError(given)
        return made
