"""What sellers and admins do in the environment, without HTTP: rows, people, switches, rules and columns.

Sellers make edits through `create`, `edit`, `close`, `reopen` and `delete`, stamped with the seller's name. Admins have
switches and rules. Choices are named by label and lookups by id, and read back so: `get` says `statecode: "Open"`.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import NAMESPACE_URL, uuid5

from cosell_sync.sandbox.dataverse import schema, standard_schema, values
from cosell_sync.sandbox.dataverse.auth import CLIENT_ID
from cosell_sync.sandbox.dataverse.batch import Batch
from cosell_sync.sandbox.dataverse.metadata import Metadata
from cosell_sync.sandbox.dataverse.opportunities import LOST, WON, Opportunities
from cosell_sync.sandbox.dataverse.reading import Reader
from cosell_sync.sandbox.dataverse.rest import Rest
from cosell_sync.sandbox.dataverse.rights import Rights
from cosell_sync.sandbox.dataverse.roles import Roles
from cosell_sync.sandbox.dataverse.rows import Automation, Org, Rule
from cosell_sync.sandbox.dataverse.schema import Option
from cosell_sync.sandbox.dataverse.setup import Setup
from cosell_sync.sandbox.dataverse.standard_values import CONNECTION_ROLES, CURRENCIES
from cosell_sync.sandbox.dataverse.store import Record
from cosell_sync.sandbox.dataverse.values import Ref


class Actions:
    """One environment. Switches that tests turn are plain attributes; everything else is a method."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        cosell_installed: bool,
        of_earlier_version: bool,
        base_currency: str,
    ) -> None:
        self._lock = threading.RLock()
        schema = standard_schema.build(
            cosell_installed=cosell_installed, of_earlier_version=of_earlier_version
        )
        self._org = Org(schema, clock)
        self.rights = Rights()
        self._reader = Reader(
            self._org,
            may_see=self.rights.may_see,
            mask=lambda table, column: self.rights.masks.get((table, column)),
            reached=self.rights.reached,
        )
        self._opportunities = Opportunities(self._org)
        self.security = Roles(self._org)
        self.rights.may = self.security.may
        self._metadata = Metadata(self._org, self.security.of, secured=self.rights.secured)
        self._rest = Rest(self._org, self._reader, self._opportunities, self._metadata, self.rights)
        self.setup = Setup(self._org, self._metadata, self.rights, self.security)
        self._rest.setup = self.setup.answer
        self._batch = Batch(self._org, self._rest.answer)
        self.currencies: dict[str, str] = {}
        self.roles: dict[str, str] = {}
        self._add_standard_rows(base_currency)

    def _add_standard_rows(self, base_currency: str) -> None:
        """What every environment holds before its first record."""
        self.integration_user = str(uuid5(NAMESPACE_URL, "dataverse/application-user"))
        self.business_unit = str(uuid5(NAMESPACE_URL, "dataverse/business-unit"))
        self._put("businessunit", {"name": "contoso"}, self.business_unit)
        for code, (name, symbol, rate, digits) in CURRENCIES.items():
            row = {
                "currencyname": name, "isocurrencycode": code, "currencysymbol": symbol, "exchangerate": Decimal(rate),
                "currencyprecision": digits,
            }  # fmt: skip
            self.currencies[code] = self._put("transactioncurrency", row)
        base = Ref("transactioncurrency", self.currencies[base_currency])
        organization = {
            "name": "contoso",
            "expirechangetrackingindays": 7,
            "languagecode": 1033,
            "localeid": 2057,  # English (United Kingdom): how dates are written, apart from the language
            "pricingdecimalprecision": 2,
            "basecurrencyid": base,
        }
        self._put("organization", organization, str(uuid5(NAMESPACE_URL, "dataverse/organization")))
        self.security.introduce(self.integration_user)
        for name, category in CONNECTION_ROLES.items():
            self.roles[name] = self._put("connectionrole", {"name": name, "category": category})
        user = {
            "firstname": "#", "lastname": "cosell-sync", "applicationid": CLIENT_ID, "accessmode": 4,
            "domainname": "cosell-sync@contoso.example",
        }  # fmt: skip
        self._user(user, self.integration_user)
        self.seller = self.add_user("Sam", "Seller", "sam.seller@contoso.example", "+1 555 0100")

    def _put(self, table: str, columns: Record, row_id: str | None = None) -> str:
        return self._org.insert(table, columns, self.integration_user, row_id=row_id, trusted=True)

    def _user(self, columns: Record, row_id: str | None = None) -> str:
        full = f"{columns['firstname']} {columns['lastname']}"
        shared = {"fullname": full, "businessunitid": Ref("businessunit", self.business_unit)}
        entra_id = {
            "azureactivedirectoryobjectid": str(uuid5(NAMESPACE_URL, f"entra/{columns['domainname']}"))
        }
        return self._put("systemuser", {**shared, **entra_id, **columns}, row_id)

    # ------------------------------------------------------------ what an admin switches

    @property
    def organization_id(self) -> str:
        """The environment's own id. Setting another makes it a full copy: the same rows with the same ids."""
        return str(next(self._org.scan("organization"))["organizationid"])

    @organization_id.setter
    def organization_id(self, organization_id: str) -> None:
        (row,) = self._org.scan("organization")
        self._org.tables["organization"] = {organization_id: {**row, "organizationid": organization_id}}

    @property
    def closed_rows_writable(self) -> bool:
        """Whether a won or lost deal takes writes to its other columns; the vendor's pages disagree."""
        return self._opportunities.closed_rows_writable

    @closed_rows_writable.setter
    def closed_rows_writable(self, writable: bool) -> None:
        self._opportunities.closed_rows_writable = writable

    @property
    def delta_token_at_end(self) -> bool:
        """Whether the first load's token is as new as its last page, so that changes meanwhile are missed."""
        return self._reader.delta_token_at_end

    @delta_token_at_end.setter
    def delta_token_at_end(self, at_end: bool) -> None:
        self._reader.delta_token_at_end = at_end

    @property
    def page_size(self) -> int:
        """The largest page, whatever a client asks for."""
        return self._reader.most_rows

    @page_size.setter
    def page_size(self, rows: int) -> None:
        self._reader.most_rows = rows

    @property
    def strict_spaces(self) -> bool:
        """Refuses a plus sign for a blank, as OData's grammar has it; Dataverse itself takes it."""
        return self._rest.strict_spaces

    @strict_spaces.setter
    def strict_spaces(self, strict: bool) -> None:
        self._rest.strict_spaces = strict

    @property
    def key_honours_etag(self) -> bool:
        """Whether If-Match with an ETag is looked at where a row is addressed by alternate key."""
        return self._rest.key_honours_etag

    @key_honours_etag.setter
    def key_honours_etag(self, honoured: bool) -> None:
        self._rest.key_honours_etag = honoured

    @property
    def blank_codes(self) -> bool:
        """Whether 404 and 412 come with an empty error code, as some of the platform's do."""
        return self._rest.blank_codes

    @blank_codes.setter
    def blank_codes(self, blank: bool) -> None:
        self._rest.blank_codes = blank

    @property
    def failed_change_set(self) -> str:
        """How a failed change set is wrapped: `nested` or `bare`."""
        return self._batch.failed_change_set

    @failed_change_set.setter
    def failed_change_set(self, shape: Literal["nested", "bare"]) -> None:
        if shape not in {"nested", "bare"}:
            raise ValueError(shape)
        self._batch.failed_change_set = shape

    @property
    def change_tracking_days(self) -> int:
        return int(self.get("organization", self.organization_id)["expirechangetrackingindays"])

    @change_tracking_days.setter
    def change_tracking_days(self, days: int) -> None:
        self.edit("organization", self.organization_id, expirechangetrackingindays=days)

    def set_change_tracking(self, table: str, enabled: bool) -> None:
        """Turns change tracking of a table on or off."""
        self._reshape(table, change_tracking=enabled)

    def set_concurrency(self, table: str, enabled: bool) -> None:
        """Optimistic concurrency; without it rows carry no ETag."""
        self._reshape(table, concurrency=enabled)

    def set_key_status(self, table: str, key: str, status: str) -> None:
        """`Pending`, `InProgress`, `Failed` or `Active`; only an active key can be used."""
        with self._lock:
            self._org.set_key_status(table, key, status)

    def install_cosell(self) -> None:
        """What an imported solution does to an environment that had none of our columns."""
        with self._lock:
            self._org.adopt(standard_schema.build())
            self.security.introduce(self.integration_user)

    def change_column(self, table: str, column: str, **changes: Any) -> None:
        """An admin's change of one column, e.g. `length=20`, `required="ApplicationRequired"`."""
        with self._lock:
            columns = dict(self._org.schema[table].columns)
            columns[column] = replace(columns[column], **changes)
            self._reshape(table, columns=columns)

    def remove_column(self, table: str, column: str) -> None:
        """An admin's deletion of a column."""
        with self._lock:
            kept = {name: each for name, each in self._org.schema[table].columns.items() if name != column}
            self._reshape(table, columns=kept)

    def add_status_reason(
        self,
        label: str,
        state: Literal["Open", "Won", "Lost"],
        value: int | None = None,
        translations: Mapping[int, str] | None = None,
    ) -> int:
        """An admin's own status reason of opportunities; returns its number. Labels may repeat, as those of the platform may:
        only the number, and the state it belongs to, identify.
        """
        column = self._org.schema["opportunity"].columns["statuscode"]
        code = value if value is not None else 100_000_001 + len(column.options)
        belongs = {"Open": 0, "Won": WON, "Lost": LOST}[state]
        self.change_column(
            "opportunity",
            "statuscode",
            options=(*column.options, Option(code, label, belongs, translations=translations or {})),
        )
        return code

    def rename_status_reason(self, old: str, new: str) -> None:
        """An admin gives a status reason of opportunities another name; every row shows it, none changes."""
        options = self._org.schema["opportunity"].columns["statuscode"].options
        renamed = tuple(replace(each, label=new) if each.label == old else each for each in options)
        self.change_column("opportunity", "statuscode", options=renamed)

    def _reshape(self, table: str, **changes: Any) -> None:
        with self._lock:
            shape = replace(self._org.table(table), **changes)
            self._org.schema = schema.linked({**self._org.schema, table: shape})

    @property
    def plugin_status(self) -> int:
        """The HTTP status that the plug-ins of `add_validation_rule` refuse with; their code stays the same."""
        return self._org.plugin_status

    @plugin_status.setter
    def plugin_status(self, status: int) -> None:
        self._org.plugin_status = status

    def add_validation_rule(self, table: str, broken: Rule, message: str) -> None:
        """A plug-in that refuses every save of that table whose record makes `broken` true."""
        self._org.rules.append((table, broken, message))

    def add_automation(self, table: str, rewrite: Automation) -> None:
        """A plug-in that runs before each save: gets the record before and the changes, returns the changes to save."""
        self._org.automations.append((table, rewrite))

    def clear_rules(self) -> None:
        self._org.rules.clear()
        self._org.automations.clear()

    def set_languages(self, base: int, *others: int) -> None:
        """The environment's base language and the further ones that are provisioned, by LCID."""
        with self._lock:
            self.setup.languages = self._metadata.languages = (base, *others)
            self.edit("organization", self.organization_id, languagecode=base)

    def enforce_roles(self, *administrators: str) -> None:
        """From now on users may do what their security roles hold, these administrators everything."""
        with self._lock:
            self.security.enforced = True
            self.security.administrators.update(administrators)

    def add_business_unit(self, name: str, *members: str) -> str:
        """A business unit below the root, these users in it; the root's roles are there too."""
        with self._lock:
            root = Ref("businessunit", self.business_unit)
            made = self._put("businessunit", {"name": name, "parentbusinessunitid": root})
            for row in list(self._org.scan("role")):
                if row["parentrootroleid"] is None:
                    parent = {"parentrootroleid": Ref("role", row["roleid"])}
                    self._put(
                        "role", {"name": row["name"], "businessunitid": Ref("businessunit", made), **parent}
                    )
            for user in members:
                self.edit("systemuser", user, businessunitid=made)
            return made

    def deny(self, *privileges: str) -> None:
        """Takes privileges from the application user, e.g. `prvWriteOpportunity`; none gives all of them back."""
        if not privileges:
            self.rights.denied.clear()
        self.rights.denied.update(privileges)

    def expire_delta_tokens(self) -> None:
        """Every delta link given out so far is too old."""
        with self._lock:
            self._reader.expire_tokens()

    # ------------------------------------------------------------ what people do

    def add_user(
        self, first: str, last: str, email: str, phone: str | None = None, *, active: bool = True
    ) -> str:
        """A new user; returns its id."""
        with self._lock:
            # A user name is single in a tenant; an e-mail may be several users'.
            name = f"{first}.{email}".lower() if self.rows("systemuser", domainname=email) else email
            row: Record = {
                "firstname": first, "lastname": last, "internalemailaddress": email, "address1_telephone1": phone,
                "isdisabled": not active, "domainname": name,
            }  # fmt: skip
            return self._user(row)

    def make_read_only(self, account: str) -> None:
        """Nobody may change this row any more, though it can be read."""
        with self._lock:
            self._org.read_only_rows.add(account)

    def take_roles(self, user: str) -> None:
        """This user has no security role any more, and can be made the owner of nothing."""
        with self._lock:
            self._org.without_role.add(user)

    @property
    def users(self) -> list[Record]:
        return self.rows("systemuser")

    def create(self, table: str, /, *, by: str | None = None, **columns: object) -> str:
        """A row made by a seller in the app; returns its id."""
        with self._lock:
            shape = self._org.table(table)
            return self._org.insert(table, self._org.stored_values(shape, columns), by or self.seller)

    def edit(self, table: str, row_id: str, /, *, by: str | None = None, **columns: object) -> None:
        """Changes columns as a seller in the app does."""
        with self._lock:
            shape = self._org.table(table)
            stored = self._org.stored_values(shape, columns)
            self._org.update(table, row_id, stored, by or self.seller, trusted=not shape.writable)

    def delete(self, table: str, row_id: str, /, *, by: str | None = None) -> None:
        """Deletes a row as a seller in the app does."""
        del by  # the platform does not record who deleted a row
        with self._lock:
            self._org.delete(table, row_id, trusted=not self._org.table(table).writable)

    def undelete(self, table: str, row_id: str, /, *, by: str | None = None) -> None:
        """Takes a row out of the recycle bin, with what was deleted together with it."""
        with self._lock:
            self._org.undelete(table, row_id, by or self.seller)

    def close(
        self,
        opportunity: str,
        /,
        *,
        won: bool,
        reason: str | None = None,
        by: str | None = None,
        **about: object,
    ) -> str:
        """Closes a deal as the dialog does, with a status reason by label and columns of the close activity."""
        with self._lock:
            state = WON if won else LOST
            options = self._org.schema["opportunity"].columns["statuscode"].options
            fitting = [each for each in options if each.label == reason and each.state == state]
            option = next(iter(fitting), None)
            if reason and option is None:
                raise ValueError(f"no such status reason: {reason}")
            stored = self._org.stored_values(self._org.schema["opportunityclose"], about)
            return self._opportunities.close(
                opportunity, state, option.value if option else -1, stored, by or self.seller
            )

    def reopen(self, opportunity: str, /, *, reason: str = "In Progress", by: str | None = None) -> None:
        """Reopens a closed deal, with a status reason by label."""
        self.edit("opportunity", opportunity, by=by, statecode="Open", statuscode=reason)

    def connect(
        self, opportunity: str, other: str, /, *, role: str | None = None, by: str | None = None
    ) -> str:
        """Connects a contact or a user to a deal, in a connection role by name; returns the row seen from the deal."""
        return self.create(
            "connection", by=by, record1id=opportunity, record2id=other,
            record2roleid=self.roles[role] if role else None,
        )  # fmt: skip

    def add_products(self, opportunity: str, /, amount: object) -> None:
        """From now on the value is the sum of the products: writes to it are ignored, its currency is fixed."""
        with self._lock:
            self._opportunities.price(opportunity, amount, self.seller)

    def touch(self, table: str, row_id: str, /) -> None:
        """Moves the row's version alone, as background work does."""
        with self._lock:
            self._org.touch(table, row_id)

    def merge_accounts(self, winner: str, loser: str, /, *, by: str | None = None) -> None:
        """Merges two accounts: the rows of the loser move to the winner."""
        with self._lock:
            self._org.merge("account", winner, loser, by or self.seller)

    def get(self, table: str, row_id: str, /) -> Record:
        """The row as the form shows it: choices by label, lookups by id; KeyError when there is none."""
        with self._lock:
            row = self._org.find(table, values.guid(row_id) or row_id)
            if row is None:
                raise KeyError(row_id)
            return self._org.record(table, row)

    def rows(self, table: str, /, **equals: object) -> list[Record]:
        """Rows whose columns equal these values, in the order of creation."""
        with self._lock:
            self._org.table(table)
            found = [self._org.record(table, row) for row in self._org.scan(table)]
            return [row for row in found if all(row[column] == value for column, value in equals.items())]

    def snapshot(self) -> dict[str, dict[str, Record]]:
        """Everything, to compare field by field."""
        with self._lock:
            return {
                name: {row_id: self._org.record(name, row) for row_id, row in table.items()}
                for name, table in self._org.tables.items()
            }
