"""Rules of single tables: the life of an opportunity, the names of contacts, the two rows of a connection.

An opportunity is closed by an action, never by writing its state, and gets a close activity; it is reopened by writing state
and reason. While closed it takes no other write (a switch allows it, since the vendor's pages disagree). With product lines
its estimated value is their sum, and writes to the value are ignored. A connection has two ends and two rows, each the mirror
of the other.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.rows import Org
from cosell_sync.sandbox.dataverse.store import Record
from cosell_sync.sandbox.dataverse.values import Ref, Refused, Row

OPEN, WON, LOST = 0, 1, 2


@dataclass
class Opportunities:
    """Registers the hooks of these tables in an environment."""

    org: Org
    closed_rows_writable: bool = False
    priced: set[str] = field(default_factory=set)  # deals with product lines

    def __post_init__(self) -> None:
        self.org.guards["opportunity"] = self._guard
        self.org.derivations["opportunity"] = self._derive
        self.org.derivations["contact"] = _name_person
        self.org.derivations["connection"] = self._name_connection
        self.org.afters["connection"] = self._mirror

    # ------------------------------------------------------------ writing a deal

    def _guard(self, changes: Record, before: Row | None) -> None:
        if before is None:
            if "statecode" in changes:
                raise Refused(
                    values.USE_THE_ACTION, "The attribute 'statecode' is not valid on create of opportunity."
                )
            return
        state = changes.get("statecode", before["statecode"])
        if state != before["statecode"] and state in {WON, LOST}:
            raise Refused(
                values.USE_THE_ACTION,
                "This message can not be used to set the state of opportunity to "
                f"{'Won. Use WinOpportunity' if state == WON else 'Lost. Use LoseOpportunity'} message instead.",
            )
        if before["statecode"] != OPEN and state != OPEN and not self._harmless(changes):
            raise Refused(
                values.READ_ONLY,
                "The object cannot be updated because it is read-only: opportunity is closed.",
            )
        currency = changes.get("transactioncurrencyid", before["transactioncurrencyid"])
        if currency != before["transactioncurrencyid"] and before["opportunityid"] in self.priced:
            raise Refused(
                values.CURRENCY_FIXED,
                "The currency of the opportunity cannot be changed because it has products, quotes or orders.",
            )

    def _harmless(self, changes: Record) -> bool:
        return self.closed_rows_writable and not {"statecode", "statuscode"} & changes.keys()

    def _derive(self, row: Record, changes: Record, before: Row | None) -> None:
        if row["isrevenuesystemcalculated"] and "estimatedvalue" in changes:
            # The platform reports no error and changes nothing.
            row["estimatedvalue"] = before["estimatedvalue"] if before is not None else None
        if {"parentaccountid", "parentcontactid"} & changes.keys() and "customerid" not in changes:
            row["customerid"] = row["parentaccountid"] or row["parentcontactid"] or row["customerid"]
        customer = row["customerid"]
        row["accountid"] = customer if customer is not None and customer.table == "account" else None
        row["contactid"] = customer if customer is not None and customer.table == "contact" else None
        if before is not None and before["statecode"] != OPEN and row["statecode"] == OPEN:
            row["actualclosedate"] = row["actualvalue"] = None

    def price(self, deal: str, amount: object, actor: str) -> None:
        """Product lines: from now on they are the estimated value."""
        self.priced.add(deal)
        row = self.org.live("opportunity", deal)
        changes = {"isrevenuesystemcalculated": True}
        total = Decimal(str(amount))
        table = self.org.schema["opportunity"]
        self.org.put(table, {**row, "estimatedvalue": total}, row)
        self.org.update("opportunity", deal, changes, actor, trusted=True)

    # ------------------------------------------------------------ closing

    def close(self, deal: str, state: int, reason: object, about: Record, actor: str) -> str:
        """WinOpportunity and LoseOpportunity; returns the id of the close activity."""
        table = self.org.schema["opportunity"]
        row = self.org.live("opportunity", deal)
        if row["statecode"] == state:
            raise Refused(values.ALREADY_CLOSED, "The opportunity has already been closed.")
        if row["statecode"] != OPEN:
            raise Refused(values.CANNOT_CLOSE, "The opportunity cannot be closed because it is not open.")
        wanted = table.columns["statecode"].option(state)
        code = wanted.default if reason == -1 and wanted is not None else reason
        option = table.columns["statuscode"].option(code)
        if option is None or option.state != state:
            named = "Won" if state == WON else "Lost"
            raise Refused(
                values.BAD_STATUS,
                f"{reason} is not a valid status code for state code OpportunityState.{named} on opportunity with Id "
                f"{deal}.",
            )
        earned = about.get("actualrevenue")
        if earned is None and state == WON:
            earned = row["estimatedvalue"]
        ended = about.get("actualend") or self.org.now().date()
        changes = {
            "statecode": state, "statuscode": option.value, "actualvalue": earned, "actualclosedate": ended,
        }  # fmt: skip
        self.org.update("opportunity", deal, changes, actor, trusted=True)
        activity = {
            "subject": "Opportunity Close", **about, "opportunityid": Ref("opportunity", deal), "actualend": ended,
            "actualrevenue": earned, "opportunitystatuscode": option.value, "statecode": 1, "statuscode": 2,
            "transactioncurrencyid": row["transactioncurrencyid"],
        }  # fmt: skip
        return self.org.insert("opportunityclose", activity, actor, trusted=True)

    # ------------------------------------------------------------ connections

    def _name_connection(self, row: Record, changes: Record, before: Row | None) -> None:
        del changes, before
        row["name"] = self.org.title(row["record2id"])

    def _mirror(self, row: Row, before: Row | None, actor: str) -> None:
        """The platform keeps a second row that reads from the other end."""
        del before
        ends: dict[str, Any] = {
            "record1id": row["record2id"], "record2id": row["record1id"],
            "record1roleid": row["record2roleid"], "record2roleid": row["record1roleid"],
            "description": row["description"], "statecode": row["statecode"], "statuscode": row["statuscode"],
        }  # fmt: skip
        table = self.org.schema["connection"]
        other = row["relatedconnectionid"]
        if other is None:
            mirrored = {
                **ends,
                "ismaster": False,
                "relatedconnectionid": Ref("connection", row["connectionid"]),
            }
            made = self.org.insert("connection", mirrored, actor, trusted=True)
            present = self.org.live("connection", row["connectionid"])
            self.org.put(table, {**present, "relatedconnectionid": Ref("connection", made)}, present)
            return
        twin = self.org.at(other)
        if twin is not None and any(twin[name] != value for name, value in ends.items()):
            self.org.put(table, {**twin, **ends, "name": self.org.title(ends["record2id"])}, twin)


def _name_person(row: Record, changes: Record, before: Row | None) -> None:
    del changes, before
    row["fullname"] = " ".join(part for part in (row["firstname"], row["lastname"]) if part) or None
