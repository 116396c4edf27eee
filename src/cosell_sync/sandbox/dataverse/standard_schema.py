"""The tables and columns of a Dynamics 365 Sales environment as data: Microsoft's and our own.

Environments differ by one switch: whether our own columns, child table and keys are installed.
"""

from dataclasses import replace
from typing import Any

from cosell_sync.sandbox.dataverse.cosell_schema import (
    COSELL_ACCOUNT,
    COSELL_COLUMNS,
    NEWER,
    REFERRAL_KEY,
    SOLUTION_KEY,
    solution,
)
from cosell_sync.sandbox.dataverse.schema import (
    Column,
    Option,
    Table,
    active,
    choice,
    currency,
    flag,
    linked,
    lookup,
    memo,
    money,
    number,
    read_only,
    stamps,
    states,
    text,
)


def _address() -> list[Column]:
    return [
        text("address1_line1", "Address 1: Street 1", 250),
        text("address1_line2", "Address 1: Street 2", 250),
        text("address1_line3", "Address 1: Street 3", 250),
        text("address1_city", "Address 1: City", 80),
        text("address1_stateorprovince", "Address 1: State/Province", 50),
        text("address1_postalcode", "Address 1: ZIP/Postal Code", 20),
        text("address1_country", "Address 1: Country/Region", 80),
    ]


_INDUSTRIES = {1: "Accounting", 7: "Consulting", 15: "Financial", 20: "Manufacturing", 33: "Wholesale"}


def _account() -> list[Column]:
    return [
        text("name", "Account Name", 160, required="ApplicationRequired"),
        text("accountnumber", "Account Number", 20),
        *_address(),
        text("telephone1", "Main Phone", 50),
        text("websiteurl", "Website", 200, format="Url"),
        text("emailaddress1", "Email", 100, format="Email"),
        number("numberofemployees", "Number of Employees"),
        choice("industrycode", "Industry", _INDUSTRIES),
        lookup("primarycontactid", "Primary Contact", "contact"),
        lookup("parentaccountid", "Parent Account", "account"),
        read_only(lookup("masterid", "Master ID", "account")),
        read_only(flag("merged", "Merged")),
        memo("description", "Description"),
        *currency(), *active(), *stamps(),
    ]  # fmt: skip


def _contact() -> list[Column]:
    return [
        text("firstname", "First Name", 50),
        text("lastname", "Last Name", 50, required="ApplicationRequired"),
        read_only(text("fullname", "Full Name", 160)),
        text("jobtitle", "Job Title", 100),
        text("emailaddress1", "Email", 100, format="Email"),
        text("telephone1", "Business Phone", 50),
        text("mobilephone", "Mobile Phone", 50),
        *_address(),
        lookup("parentcustomerid", "Company Name", "account", "contact", on_delete="cascade", child_name="contact_customer_accounts"),
        memo("description", "Description"),
        *currency(), *active(), *stamps(),
    ]  # fmt: skip


OPPORTUNITY_STATES = (
    (Option(0, "Open"), (Option(1, "In Progress"), Option(2, "On Hold"))),
    (Option(1, "Won"), (Option(3, "Won"),)),
    (Option(2, "Lost"), (Option(4, "Canceled"), Option(5, "Out-Sold"))),
)


def _opportunity() -> list[Column]:
    return [
        text("name", "Topic", 300, required="ApplicationRequired"),
        lookup("customerid", "Potential Customer", "account", "contact", required="ApplicationRequired", on_delete="cascade", child_name="opportunity_customer_accounts"),
        lookup("parentaccountid", "Account", "account", child_name="opportunity_parent_account"),
        lookup("parentcontactid", "Contact", "contact", child_name="opportunity_parent_contact"),
        read_only(lookup("accountid", "Account (internal)", "account")),
        read_only(lookup("contactid", "Contact (internal)", "contact")),
        money("estimatedvalue", "Est. Revenue"),
        flag("isrevenuesystemcalculated", "Revenue"),
        money("actualvalue", "Actual Revenue"),
        Column("estimatedclosedate", "Est. Close Date", "date"),
        Column("actualclosedate", "Actual Close Date", "date"),
        Column("finaldecisiondate", "Final Decision Date", "date"),
        lookup("pricelevelid", "Price List", "pricelevel"),
        memo("description", "Description"),
        memo("customerneed", "Customer Need"),
        memo("proposedsolution", "Proposed Solution"),
        memo("currentsituation", "Current Situation"),
        number("closeprobability", "Probability", 0, 100),
        choice("opportunityratingcode", "Rating", {1: "Hot", 2: "Warm", 3: "Cold"}, default=2),
        choice("salesstage", "Sales Stage", {0: "Qualify", 1: "Develop", 2: "Propose", 3: "Close"}, default=0),
        text("stepname", "Pipeline Phase", 200),
        Column("stageid", "Process Stage", "guid"),
        Column("processid", "Process", "guid"),
        text("traversedpath", "Traversed Path", 1250),
        *currency(), *states(*OPPORTUNITY_STATES), *stamps(),
    ]  # fmt: skip


_CLOSE_STATES = (
    (Option(0, "Open"), (Option(1, "Open"),)),
    (Option(1, "Completed"), (Option(2, "Completed"),)),
    (Option(2, "Canceled"), (Option(3, "Canceled"),)),
)


def _close() -> list[Column]:
    reasons = {each.value: each.label for _, listed in OPPORTUNITY_STATES for each in listed}
    return [
        text("subject", "Subject", 200),
        memo("description", "Description"),
        lookup("opportunityid", "Opportunity", "opportunity", on_delete="cascade", child_name="Opportunity_OpportunityClose"),
        money("actualrevenue", "Actual Revenue"),
        Column("actualend", "Close Date", "date"),
        lookup("competitorid", "Competitor", "competitor"),
        read_only(choice("opportunitystatuscode", "Opportunity Status Reason", reasons)),
        *currency(), *states(*_CLOSE_STATES), *stamps(),
    ]  # fmt: skip


def _user() -> list[Column]:
    return [
        text("firstname", "First Name", 256),
        text("lastname", "Last Name", 256),
        text("fullname", "Full Name", 200),
        text("domainname", "User Name", 1024),
        text("internalemailaddress", "Primary Email", 100, format="Email"),
        text("address1_telephone1", "Main Phone", 64),
        text("mobilephone", "Mobile Phone", 64),
        text("title", "Title", 128),
        Column("azureactivedirectoryobjectid", "Microsoft Entra Object ID", "guid"),
        Column("applicationid", "Application ID", "guid"),
        flag("isdisabled", "Status"),
        choice("accessmode", "Access Mode", {0: "Read-Write", 1: "Administrative", 4: "Non-interactive"}, default=0),
        lookup("businessunitid", "Business Unit", "businessunit"),
        *stamps(owned=False),
    ]  # fmt: skip


_CATEGORIES = {
    1: "Business",
    4: "Sales",
    5: "Other",
    1000: "Stakeholder",
    1001: "Sales Team",
    1002: "Service",
}


def _ends(place: int) -> Column:
    tables = ("account", "contact", "opportunity", "systemuser", "team")
    return lookup(f"record{place}id", f"Connected {place}", *tables, required="SystemRequired", on_delete="cascade", child_name=f"{{table}}_connections{place}")  # fmt: skip


def _connection() -> list[Column]:
    return [
        read_only(text("name", "Name", 500)),
        _ends(1), _ends(2),
        lookup("record1roleid", "Role (From)", "connectionrole"),
        lookup("record2roleid", "Role (To)", "connectionrole"),
        read_only(flag("ismaster", "Is Master", default=True)),
        read_only(lookup("relatedconnectionid", "Reciprocal Connection", "connection", on_delete="cascade")),
        memo("description", "Description"),
        *active(), *stamps(),
    ]  # fmt: skip


def _annotation() -> list[Column]:
    return [
        text("subject", "Title", 500),
        memo("notetext", "Description", 100_000),
        lookup("objectid", "Regarding", "account", "contact", "opportunity", on_delete="cascade", child_name="{Table}_Annotation"),
        *stamps(),
    ]  # fmt: skip


def _task() -> list[Column]:
    ways = {table: f"regardingobjectid_{table}_task" for table in ("account", "contact", "opportunity")}
    return [
        text("subject", "Subject", 200, required="ApplicationRequired"),
        memo("description", "Description"),
        Column("regardingobjectid", "Regarding", "lookup", targets=ways, on_delete="cascade", child_name="{Table}_Tasks"),
        Column("scheduledend", "Due Date", "datetime"),
        choice("prioritycode", "Priority", {0: "Low", 1: "Normal", 2: "High"}, default=1),
        *states((Option(0, "Open"), (Option(2, "Not Started"), Option(3, "In Progress"))), (Option(1, "Completed"), (Option(5, "Completed"),)), (Option(2, "Canceled"), (Option(6, "Canceled"),))),
        *stamps(),
    ]  # fmt: skip


def _organization() -> list[Column]:
    return [
        text("name", "Organization Name", 160),
        number("expirechangetrackingindays", "Days to Expire Change Tracking Deltas", 0, 365),
        number("languagecode", "Language", 0, 10_000),
        number("localeid", "Locale", 0, 100_000),
        number("pricingdecimalprecision", "Pricing Decimal Precision", 0, 10),
        lookup("basecurrencyid", "Currency", "transactioncurrency"),
        *stamps(owned=False),
    ]


def _currency_table() -> list[Column]:
    return [
        text("currencyname", "Currency Name", 100),
        text("isocurrencycode", "Currency Code", 5),
        text("currencysymbol", "Currency Symbol", 13),
        number("currencyprecision", "Currency Precision", 0, 4),
        Column("exchangerate", "Exchange Rate", "decimal", precision=10),
        *active(), *stamps(owned=False),
    ]  # fmt: skip


def _role() -> list[Column]:
    return [
        text("name", "Name", 100),
        choice("category", "Connection Role Category", _CATEGORIES),
        *active(), *stamps(owned=False),
    ]  # fmt: skip


def _unit() -> list[Column]:
    return [
        text("name", "Name", 160),
        lookup("parentbusinessunitid", "Parent Business", "businessunit"),
        *stamps(owned=False),
    ]


def _publisher() -> list[Column]:
    return [
        text("uniquename", "Name", 256),
        text("friendlyname", "Display Name", 256),
        memo("description", "Description"),
        text("customizationprefix", "Prefix", 8),
        number("customizationoptionvalueprefix", "Option Value Prefix", 0, 99_999),
        *stamps(owned=False),
    ]


def _solutions() -> list[Column]:
    return [
        text("uniquename", "Name", 65),
        text("friendlyname", "Display Name", 256),
        text("version", "Version", 256),
        memo("description", "Description"),
        lookup("publisherid", "Publisher", "publisher"),
        read_only(flag("ismanaged", "Package Type")),
        *stamps(owned=False),
    ]


def _component() -> list[Column]:
    return [
        number("componenttype", "Object Type Code", 0, 100_000),
        Column("objectid", "Regarding", "guid"),
        lookup("solutionid", "Solution", "solution"),
        *stamps(owned=False),
    ]


def _form() -> list[Column]:
    return [
        text("name", "Name", 100),
        memo("description", "Description"),
        text("objecttypecode", "Entity Name", 64),
        number("type", "Form Type", 0, 1000),
        number("formactivationstate", "Form State", 0, 1),
        memo("formxml", "FormXml", 1_073_741_823),
        flag("isdefault", "Default Form"),
    ]


def _view() -> list[Column]:
    return [
        text("name", "Name", 200),
        memo("description", "Description"),
        text("returnedtypecode", "Entity Name", 64),
        number("querytype", "Query Type", 0, 100_000),
        memo("fetchxml", "FetchXml", 1_073_741_823),
        memo("layoutxml", "LayoutXml", 1_073_741_823),
        flag("isdefault", "Default View"),
        flag("isquickfindquery", "Is Quick Find Query"),
        *active(), *stamps(owned=False),
    ]  # fmt: skip


def _security_role() -> list[Column]:
    return [
        text("name", "Name", 100),
        lookup("businessunitid", "Business Unit", "businessunit"),
        read_only(lookup("parentrootroleid", "Parent Root Role", "role")),
        *stamps(owned=False),
    ]


def _named(label: str) -> list[Column]:
    return [text("name", label, 160), *stamps(owned=False)]


def _shapes() -> list[tuple[str, str, str, int, str, list[Column], dict[str, Any]]]:
    """Logical name, set, label, type code, primary name, columns and properties of each table."""
    setup: dict[str, Any] = {"writable": False, "change_tracking": False}
    return [
        ("organization", "organizations", "Organization", 1019, "name", _organization(), setup),
        ("businessunit", "businessunits", "Business Unit", 10, "name", _unit(), setup),
        ("publisher", "publishers", "Publisher", 7101, "friendlyname", _publisher(), {"change_tracking": False}),
        ("solution", "solutions", "Solution", 7100, "friendlyname", _solutions(), {"change_tracking": False}),
        ("solutioncomponent", "solutioncomponents", "Solution Component", 7103, "componenttype", _component(), setup),
        ("savedquery", "savedqueries", "View", 1039, "name", _view(), {"change_tracking": False}),
        ("systemform", "systemforms", "System Form", 1030, "name", _form(), {"change_tracking": False}),
        ("role", "roles", "Security Role", 1036, "name", _security_role(), {"change_tracking": False}),
        ("privilege", "privileges", "Privilege", 1023, "name", _named("Name"), setup),
        ("systemuser", "systemusers", "User", 8, "fullname", _user(), setup),
        ("team", "teams", "Team", 9, "name", _named("Team Name"), setup),
        ("transactioncurrency", "transactioncurrencies", "Currency", 9105, "currencyname", _currency_table(), setup),
        ("pricelevel", "pricelevels", "Price List", 1022, "name", _named("Name"), setup),
        ("competitor", "competitors", "Competitor", 123, "name", _named("Name"), setup),
        ("connectionrole", "connectionroles", "Connection Role", 3231, "name", _role(), setup),
        ("account", "accounts", "Account", 1, "name", _account(), {}),
        ("contact", "contacts", "Contact", 2, "fullname", _contact(), {}),
        ("opportunity", "opportunities", "Opportunity", 3, "name", _opportunity(), {}),
        ("opportunityclose", "opportunitycloses", "Opportunity Close", 4208, "subject", _close(), {"activity": True, "change_tracking": False}),
        ("connection", "connections", "Connection", 3234, "name", _connection(), {}),
        ("annotation", "annotations", "Note", 5, "subject", _annotation(), {}),
        ("task", "tasks", "Task", 4212, "subject", _task(), {"activity": True}),
    ]  # fmt: skip


_KEYS = {"systemform": "formid"}  # keys that are not named after their table


def build(*, cosell_installed: bool = True, of_earlier_version: bool = False) -> dict[str, Table]:
    """The schema of an environment, with our own parts or before `provision`. ``of_earlier_version``: without `NEWER`."""
    shapes = _shapes()
    ours = {"opportunity": COSELL_COLUMNS, "account": COSELL_ACCOUNT} if cosell_installed else {}
    lacking = NEWER if of_earlier_version else frozenset()
    if cosell_installed:
        shapes.append(("cosell_solution", "cosell_solutions", "Co-sell Solution", 10_500, "cosell_name", solution(), {}))  # fmt: skip
    made: dict[str, Table] = {}
    for name, set_name, label, code, primary, columns, properties in shapes:
        key = "activityid" if properties.get("activity") else _KEYS.get(name, f"{name}id")
        own = [each for each in ours.get(name, ()) if each.name not in lacking]
        bases = [
            read_only(replace(each, name=f"{each.name}_base", label=f"{each.label} (Base)"))
            for each in columns
            if each.kind == "money"
        ]
        identity = Column(key, label, "guid", updatable=False, required="SystemRequired")
        every = {each.name: each for each in (identity, *columns, *bases, *own)}
        keys = {"opportunity": (REFERRAL_KEY,), "cosell_solution": (SOLUTION_KEY,)}.get(name, ())
        made[name] = Table(
            name, set_name, label, code, key, primary, every, keys if cosell_installed else (), **properties
        )
    return linked(made)
