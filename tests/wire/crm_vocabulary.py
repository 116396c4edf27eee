"""One vocabulary for the rows and edits of both CRMs, so that a test is written once.

Rows and edits speak in words: those of the field table (``value``, ``close_date``, ``sync_state``), and for the rows
around an opportunity those below. A stage is what it means: ``Standby``, ``Accepted``, one of the four sales stages,
``Won`` or ``Lost``. Where the CRMs keep a thing in different places (contacts, team, a close), the verb is the same.

    crm.edit("opportunity", row["id"], value=11, stage="Won")

``calls`` names the requests at which faults strike; the product's own words are in none of this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from cosell_sync.sandbox.server import Server
from cosell_sync.sandbox.systems import Sandbox

Row = dict[str, Any]
CRMS = ("salesforce", "dynamics")

# The columns of the field table: word → its name on Salesforce between `Cosell_` and `__c`.
OWN = {
    "sync": "Sync", "referral_id": "Referral_Id", "referral_link": "Referral_Link", "status": "Status",
    "direction": "Direction", "deal_type": "Deal_Type", "action": "Action", "reason": "Reason",
    "reason_note": "Reason_Note", "visible": "Visible_To_Microsoft", "help": "Help", "help_note": "Help_Note",
    "consent": "Consent", "campaign_id": "Campaign_Id", "marketplace_intent": "Marketplace_Intent",
    "partner_role": "Partner_Role", "solution_area": "Solution_Area", "solution_play": "Solution_Play",
    "location": "Location", "notes": "Notes", "favorite": "Favorite",
    "respond_by": "Respond_By", "microsoft_status": "Microsoft_Status", "microsoft_id": "Microsoft_Id",
    "sync_state": "Sync_State", "message": "Message", "last_sync": "Last_Sync",
}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """``columns``: word → column. Words without a column of their own are for the CRM's class to tell."""

    name: str
    key: str
    columns: Mapping[str, str]

    def word(self, column: str) -> str:
        return next((word for word, each in self.columns.items() if each == column), column)


@dataclass
class Board:
    """Everything that stands on the opportunities, read once."""

    deals: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))  # by referral id
    accounts: dict[str, Row] = field(default_factory=dict)
    contacts: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))  # by opportunity
    team: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))  # user ids by opportunity
    solutions: dict[str, list[Row]] = field(default_factory=lambda: defaultdict(list))
    users: dict[str, Row] = field(default_factory=dict)


@dataclass
class Crm:
    """What both have in common; ``world`` is the sandbox's own object, for what only one vendor has."""

    world: Any
    server: Server
    name: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)
    labels: Mapping[str, str] = field(
        default_factory=dict
    )  # what a seller calls a field, where the two differ
    calls: Mapping[str, Row] = field(default_factory=dict)
    name_length: int = 120

    # -- one row -----------------------------------------------------------------------------------------------------

    def get(self, kind: str, row_id: str) -> Row:
        return self.worded(kind, self.world.get(self.tables[kind].name, row_id))

    def rows(self, kind: str, **equals: object) -> list[Row]:
        found = (self.worded(kind, row) for row in self.world.rows(self.tables[kind].name))
        return [row for row in found if all(row[word] == value for word, value in equals.items())]

    def create(self, kind: str, *, by: str | None = None, **words: object) -> str:
        made: str = self.world.create(self.tables[kind].name, by=by, **self.columns(kind, words))
        return made

    def edit(self, kind: str, row_id: str, *, by: str | None = None, **words: object) -> None:
        self.world.edit(self.tables[kind].name, row_id, by=by, **self.columns(kind, words))

    def delete(self, kind: str, row_id: str) -> None:
        self.world.delete(self.tables[kind].name, row_id)

    def undelete(self, kind: str, row_id: str) -> None:
        self.world.undelete(self.tables[kind].name, row_id)

    def touch(self, kind: str, row_id: str) -> None:
        """What jobs in the background do: nothing that anybody edited."""
        self.world.touch(self.tables[kind].name, row_id)

    def column(self, word: str) -> str:
        """What `plan`, `deals resolve` and events call a field of the opportunity."""
        return self.tables["opportunity"].columns[word]

    def word(self, column: str) -> str:
        return self.tables["opportunity"].word(column)

    def said(self, columns: Mapping[str, Any]) -> Row:
        """Columns of an opportunity as words."""
        return {self.word(column): value for column, value in columns.items()}

    def spoken(self, pattern: str) -> str:
        """`{value}` and `{Lost}` as the messages of this CRM call that field and that stage."""
        return pattern.format(**self.labels, **self.stages)

    # -- what admins set up ------------------------------------------------------------------------------------------

    def add_validation_rule(self, broken: Callable[[Row], bool], message: str) -> None:
        """Of opportunities."""
        name = self.tables["opportunity"].name
        self.world.add_validation_rule(name, lambda row: broken(self.worded("opportunity", row)), message)

    def add_automation(self, rewrite: Callable[[Row, Row], Row]) -> None:
        """Of opportunities: gets the row before and the changes, gives the changes that are saved."""
        table = self.tables["opportunity"]

        def run(before: Row, changes: Row) -> Row:
            said = {table.word(column): value for column, value in changes.items()}
            wanted = rewrite(self.worded("opportunity", before) if before else {}, said)
            return {table.columns.get(word, word): value for word, value in wanted.items()}

        self.world.add_automation(table.name, run)

    def worded(self, kind: str, row: Mapping[str, Any]) -> Row:
        table = self.tables[kind]
        said = {word: plain(row[column]) for word, column in table.columns.items() if column in row}
        return {"id": row[table.key], **said}

    def columns(self, kind: str, words: Mapping[str, object]) -> Row:
        return {self.tables[kind].columns[word]: value for word, value in words.items()}

    # -- the people around a deal ------------------------------------------------------------------------------------

    unclaimed = "Accepted"  # what stands for a stage of which nobody has said anything

    @property
    def stages(self) -> Mapping[str, str]:
        """Stage → what the CRM calls it."""
        raise NotImplementedError

    @property
    def users(self) -> list[Row]:
        return self.rows("user")

    @property
    def robot(self) -> str:
        """The user as whom the sync works."""
        return str(self.world.integration_user)

    def contacts(self, opportunity: str) -> list[Row]:
        """Customer contacts, each with whether it is the primary one."""
        raise NotImplementedError

    def team(self, opportunity: str) -> list[str]:
        """Ids of the users on its team."""
        raise NotImplementedError

    def board(self) -> Board:
        board = Board()
        for row in self.rows("opportunity"):
            board.deals[row["referral_id"] or ""].append(row)
        board.accounts = {row["id"]: row for row in self.rows("account")}
        board.users = {row["id"]: row for row in self.users}
        for row in self.rows("solution"):
            board.solutions[row["opportunity"]].append(row)
        people = {row["id"]: row for row in self.rows("contact")}
        for opportunity, contact, primary in self.memberships():
            if contact in people:
                board.contacts[opportunity].append({**people[contact], "primary": primary})
            elif contact in board.users:
                board.team[opportunity].append(contact)
        return board

    def memberships(self) -> Iterable[tuple[str, str, bool]]:
        """(opportunity, contact or user, whether it is the primary contact)."""
        raise NotImplementedError


@dataclass
class Salesforce(Crm):
    """Roles, team members, one picklist for status and sales stage."""

    @property
    def stages(self) -> Mapping[str, str]:
        return SALESFORCE_STAGES

    def worded(self, kind: str, row: Mapping[str, Any]) -> Row:
        said = super().worded(kind, row)
        if "stage" in said:
            said["stage"] = SALESFORCE_MEANS.get(said["stage"], said["stage"])
        return said

    def said(self, columns: Mapping[str, Any]) -> Row:
        said = super().said(columns)
        return {**said, "stage": SALESFORCE_MEANS.get(said["stage"])} if "stage" in said else said

    def columns(self, kind: str, words: Mapping[str, object]) -> Row:
        if "stage" in words:
            words = {**words, "stage": SALESFORCE_STAGES[str(words["stage"])]}
        return super().columns(kind, words)

    def contacts(self, opportunity: str) -> list[Row]:
        roles = self.world.rows("OpportunityContactRole", OpportunityId=opportunity)
        return [{**self.get("contact", role["ContactId"]), "primary": role["IsPrimary"]} for role in roles]

    def team(self, opportunity: str) -> list[str]:
        return [row["UserId"] for row in self.world.rows("OpportunityTeamMember", OpportunityId=opportunity)]

    def add_contact(self, opportunity: str, contact: str, *, primary: bool = False) -> None:
        self.world.create("OpportunityContactRole", OpportunityId=opportunity, ContactId=contact, IsPrimary=primary)  # fmt: skip

    def add_member(self, opportunity: str, user: str) -> None:
        self.world.create("OpportunityTeamMember", OpportunityId=opportunity, UserId=user)

    def memberships(self) -> Iterable[tuple[str, str, bool]]:
        for row in self.world.rows("OpportunityContactRole"):
            yield row["OpportunityId"], row["ContactId"], row["IsPrimary"]
        for row in self.world.rows("OpportunityTeamMember"):
            yield row["OpportunityId"], row["UserId"], False

    @property
    def currencies(self) -> set[str]:
        return {row["IsoCode"] for row in self.world.rows("CurrencyType")}

    def decimals(self, currency: str) -> int:
        """What an amount in this currency holds."""
        del currency
        return 2

    def refuse_sign_in(self) -> str:
        """Returns the code of the refusal."""
        self.world.refuse_sign_in("invalid_client_id", "client identifier invalid")
        return "invalid_client_id"

    @property
    def expired(self) -> object:
        """What a token that is no longer good is answered."""
        return [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]

    @property
    def sessions(self) -> Sequence[str]:
        return list(self.world._sign_in.sessions)


@dataclass
class Dynamics(Crm):
    """Connections, a contact column, actions that close; the sales stage is a column beside the status reason."""

    unclaimed = "Qualify"  # the platform fills it in for a new row

    @property
    def stages(self) -> Mapping[str, str]:
        return DYNAMICS_STAGES

    def worded(self, kind: str, row: Mapping[str, Any]) -> Row:
        said = super().worded(kind, row)
        if kind == "opportunity":
            said["currency"] = next((code for code, row_id in self.world.currencies.items() if row_id == said["currency"]), None)  # fmt: skip
            said["stage"] = DYNAMICS_MEANS.get(said["stage"], said["stage"])
            if said["stage"] == "Accepted":
                said["stage"] = row["salesstage"] or "Accepted"
        elif kind == "account":
            lines = (row[f"address1_line{number}"] for number in (1, 2, 3))
            said["street"] = "\n".join(line for line in lines if line) or None
        elif kind == "user":
            said["active"] = not row["isdisabled"]
        return said

    def rows(self, kind: str, **equals: object) -> list[Row]:
        """Without accounts merged into another, which stay here as inactive rows where Salesforce deletes them."""
        return [row for row in super().rows(kind, **equals) if not row.get("merged")]

    def said(self, columns: Mapping[str, Any]) -> Row:
        said = super().said(columns)
        if {"stage", "salesstage"} & said.keys():
            status, sales = DYNAMICS_MEANS.get(said.get("stage", "")), said.pop("salesstage", None)
            said["stage"] = sales if sales and status in {None, "Accepted"} else status
        return said

    def columns(self, kind: str, words: Mapping[str, object]) -> Row:
        given = dict(words)
        made: Row = {}
        if kind == "account" and given.get("street"):
            lines = str(given.pop("street")).split("\n")
            made = {f"address1_line{number}": line for number, line in enumerate(lines, start=1)}
        if kind == "solution" and "title" in given:
            made = {"cosell_name": given["title"]}
        if given.get("currency"):
            given["currency"] = self.world.currencies[given["currency"]]
        stage = given.pop("stage", None)
        if stage is not None:
            made |= {"statuscode": DYNAMICS_STAGES.get(str(stage), "In Progress")}
            made |= {} if stage in DYNAMICS_STAGES else {"salesstage": stage}
        return made | super().columns(kind, given)

    def create(self, kind: str, *, by: str | None = None, **words: object) -> str:
        stage = words.get("stage")
        if stage in {"Won", "Lost"}:
            del words["stage"]
        made = super().create(kind, by=by, **words)
        if stage in {"Won", "Lost"}:
            self.world.close(made, won=stage == "Won", by=by)
        return made

    def edit(self, kind: str, row_id: str, *, by: str | None = None, **words: object) -> None:
        """Fields are saved first; then the deal is closed by its dialog. From one end to another it is reopened."""
        stage = words.get("stage")
        closed = kind == "opportunity" and self.world.get("opportunity", row_id)["statecode"] != "Open"
        if stage in {"Won", "Lost"}:
            del words["stage"]
            if closed:
                self.world.reopen(row_id, by=by)
            if words:
                super().edit(kind, row_id, by=by, **words)
            self.world.close(row_id, won=stage == "Won", by=by)
        elif closed and stage is not None:
            self.world.edit("opportunity", row_id, by=by, statecode="Open", **self.columns(kind, words))
        else:
            super().edit(kind, row_id, by=by, **words)

    def contacts(self, opportunity: str) -> list[Row]:
        found = [row for deal, row, _ in self.memberships(opportunity) if self._is("contact", row)]
        primary = self.world.get("opportunity", opportunity)["parentcontactid"]
        return [{**self.get("contact", row), "primary": row == primary} for row in dict.fromkeys(found)]

    def team(self, opportunity: str) -> list[str]:
        return [row for _, row, _ in self.memberships(opportunity) if self._is("user", row)]

    def _is(self, kind: str, row_id: str) -> bool:
        try:
            self.world.get(self.tables[kind].name, row_id)
        except KeyError:
            return False
        return True

    def add_contact(self, opportunity: str, contact: str, *, primary: bool = False) -> None:
        self.world.connect(opportunity, contact)
        if primary:
            self.world.edit("opportunity", opportunity, parentcontactid=contact)

    def add_member(self, opportunity: str, user: str) -> None:
        self.world.connect(opportunity, user)

    def memberships(self, opportunity: str | None = None) -> Iterable[tuple[str, str, bool]]:
        """The primary contact counts once, whether connected or not."""
        deals = {row["opportunityid"]: row for row in self.world.rows("opportunity")}
        for deal, row in deals.items():
            if row["parentcontactid"] and opportunity in {None, deal}:
                yield deal, row["parentcontactid"], True
        for row in self.world.rows("connection", statecode="Active"):
            deal, other = row["record1id"], row["record2id"]
            if deal in deals and opportunity in {None, deal} and deals[deal]["parentcontactid"] != other:
                yield deal, other, False

    @property
    def currencies(self) -> set[str]:
        return set(self.world.currencies)

    def decimals(self, currency: str) -> int:
        row_id = self.world.currencies.get(currency)
        return self.world.get("transactioncurrency", row_id)["currencyprecision"] if row_id else 2

    def refuse_sign_in(self) -> str:
        self.world.refuse_sign_in("invalid_client")
        return "invalid_client"

    @property
    def expired(self) -> object:
        return None

    @property
    def sessions(self) -> Sequence[str]:
        return list(self.world.entra._access)


def plain(value: object) -> object:
    """Money as a number, days as text, moments as moments."""
    match value:
        case Decimal():
            return float(value)
        case datetime():
            return value
        case date():
            return value.isoformat()
        case str() if value[10:11] == "T" and value[19:] in {".000+0000", "Z"}:
            return datetime.fromisoformat(value)
    return value


SALESFORCE_STAGES = {
    "Standby": "Prospecting", "Accepted": "Qualification", "Qualify": "Needs Analysis", "Develop": "Value Proposition",
    "Propose": "Proposal/Price Quote", "Close": "Negotiation/Review", "Won": "Closed Won", "Lost": "Closed Lost",
}  # fmt: skip
SALESFORCE_MEANS = {name: stage for stage, name in SALESFORCE_STAGES.items()} | dict.fromkeys(
    ("Id. Decision Makers", "Perception Analysis"), "Develop"
)
SALESFORCE = {
    "opportunity": Table("Opportunity", "Id", {
        "name": "Name", "value": "Amount", "currency": "CurrencyIsoCode", "close_date": "CloseDate",
        "stage": "StageName", "account": "AccountId", "owner": "OwnerId", "aside": "NextStep",
        "description": "Description", **{word: f"Cosell_{name}__c" for word, name in OWN.items()},
    }),
    "account": Table("Account", "Id", {
        "name": "Name", "street": "BillingStreet", "city": "BillingCity", "state": "BillingState",
        "postal_code": "BillingPostalCode", "country": "BillingCountry", "duns": "Cosell_Duns__c",
    }),
    "contact": Table("Contact", "Id", {
        "first_name": "FirstName", "last_name": "LastName", "email": "Email", "phone": "Phone", "account": "AccountId",
    }),
    "user": Table("User", "Id", {
        "first_name": "FirstName", "last_name": "LastName", "email": "Email", "phone": "Phone", "active": "IsActive",
    }),
    "solution": Table("Cosell_Solution__c", "Id", {
        "opportunity": "Opportunity__c", "code": "Solution_Id__c", "title": "Solution_Name__c",
        "type": "Solution_Type__c", "key": "Cosell_Key__c",
    }),
}  # fmt: skip
_ROWS, _COMPOSITE = r"/composite/sobjects", r"/composite$"
SALESFORCE_CALLS: dict[str, Row] = {
    "query": {"method": "POST", "path": _COMPOSITE},
    "write": {
        "method": "POST",
        "path": _COMPOSITE,
        "body": r'"PATCH","url":"/services/data/v[\d.]+/sobjects/',
    },
    "read back": {"method": "POST", "path": _COMPOSITE, "body": "Opportunity%20WHERE%20Id%20IN"},
    "account": {"method": "POST", "path": _ROWS, "body": '"type":"Account"'},
    "opportunity": {"method": "POST", "path": _COMPOSITE, "body": "/composite/sobjects/Opportunity/"},
    "account write": {"method": "POST", "path": _COMPOSITE, "body": "/sobjects/Account/001"},
    "contact": {"method": "POST", "path": _ROWS, "body": '"type":"Contact"'},
    "solution": {"method": "POST", "path": _COMPOSITE, "body": "/composite/sobjects/Cosell_Solution__c/"},
    "person": {"method": "POST", "path": _COMPOSITE, "body": '"type":"Opportunity(ContactRole|TeamMember)"'},
    "removal": {"method": "POST", "path": _COMPOSITE, "body": '"method":"DELETE"'},
    "any": {"path": r"/services/data"},
}

DYNAMICS_STAGES = {"Standby": "On Hold", "Accepted": "In Progress", "Won": "Won", "Lost": "Canceled"}
DYNAMICS_MEANS = {name: stage for stage, name in DYNAMICS_STAGES.items()} | {"Out-Sold": "Lost"}
DYNAMICS = {
    "opportunity": Table("opportunity", "opportunityid", {
        "name": "name", "value": "estimatedvalue", "currency": "transactioncurrencyid",
        "close_date": "estimatedclosedate", "stage": "statuscode", "account": "parentaccountid", "owner": "ownerid",
        "aside": "customerneed", "description": "description",
        **{word: f"cosell_{name.replace('_', '').lower()}" for word, name in OWN.items()},
    }),
    "account": Table("account", "accountid", {
        "name": "name", "city": "address1_city", "state": "address1_stateorprovince",
        "postal_code": "address1_postalcode", "country": "address1_country", "merged": "merged",
        "duns": "cosell_duns",
    }),
    "contact": Table("contact", "contactid", {
        "first_name": "firstname", "last_name": "lastname", "email": "emailaddress1", "phone": "telephone1",
        "account": "parentcustomerid",
    }),
    "user": Table("systemuser", "systemuserid", {
        "first_name": "firstname", "last_name": "lastname", "email": "internalemailaddress",
        "phone": "address1_telephone1",
    }),
    "solution": Table("cosell_solution", "cosell_solutionid", {
        "opportunity": "cosell_opportunity", "code": "cosell_solutioncode", "title": "cosell_solutionname",
        "type": "cosell_solutiontype", "key": "cosell_key",
    }),
}  # fmt: skip


def part(method: str, path: str) -> Row:
    """A write that goes alone, or as one part of a batch."""
    alone = r"^\{" if method != "DELETE" else "^$"
    return {"path": rf"\$batch$|{path}$", "body": rf"{method} \S*{path} HTTP|{alone}"}


GUID = r"\([0-9a-f-]{36}\)"
DYNAMICS_CALLS: dict[str, Row] = {
    "query": {"method": "POST", "path": r"/\$batch$", "body": r"GET \S*/opportunities\?"},
    "write": part("PATCH", f"/opportunities{GUID}"),
    "read back": {
        "method": "POST",
        "path": r"/\$batch$",
        "body": r"GET \S*/opportunities\?\S*filter=\(?opportunityid",
    },
    "account": part("POST", "/accounts"),
    "opportunity": part("PATCH", r"/opportunities\(cosell_[^)]*\)"),
    "account write": part("PATCH", f"/accounts{GUID}"),
    "contact": part("POST", "/contacts"),
    "solution": part("POST", "/cosell_solutions"),
    "person": part("POST", "/connections"),
    "removal": part("DELETE", rf"/\w+{GUID}"),
    "any": {"path": r"/api/data"},
}


def crm(sandbox: Sandbox) -> Salesforce | Dynamics:
    """The CRM that this sandbox plays."""
    if sandbox.crm == "dynamics":
        return Dynamics(
            sandbox.dynamics, sandbox.dynamics_server, "dynamics", DYNAMICS,
            {"value": "Est. Revenue", "stage": "Status Reason", "name": "Topic", "close_date": "Est. Close Date"},
            DYNAMICS_CALLS, 300,
        )  # fmt: skip
    return Salesforce(
        sandbox.salesforce, sandbox.salesforce_server, "salesforce", SALESFORCE,
        {"value": "Amount", "stage": "Stage", "name": "Name", "close_date": "Close Date"},
        SALESFORCE_CALLS,
    )  # fmt: skip
