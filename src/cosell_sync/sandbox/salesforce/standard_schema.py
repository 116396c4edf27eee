"""The objects and fields of an org as data: Salesforce's standard ones and our own.

Orgs differ by a few switches (several currencies, team selling, address picklists, our fields installed), so `build` puts the
schema together from parts.
"""

from typing import Any

from cosell_sync.sandbox.picklists import CLOSED_REASONS, HELP_KINDS
from cosell_sync.sandbox.salesforce.schema import (
    Field,
    SObject,
    checkbox,
    computed,
    fixed,
    linked,
    long_text,
    lookup,
    moment,
    money,
    owner,
    picklist,
    system,
    text,
)
from cosell_sync.sandbox.salesforce.standard_values import (
    CORPORATE_CURRENCY,
    COUNTRIES,
    CURRENCIES,
    STAGES,
    STATES,
)


def address(kind: str, label: str, *, codes: bool) -> list[Field]:
    """The fields of an address; `codes`: with country and state picklists."""
    made = [
        Field(f"{kind}Street", f"{label} Street", "textarea", 255),
        text(f"{kind}City", f"{label} City", 40),
        text(f"{kind}State", f"{label} State/Province", 80),
        text(f"{kind}PostalCode", f"{label} Zip/Postal Code", 20),
        text(f"{kind}Country", f"{label} Country", 80),
        computed(f"{kind}Address", f"{label} Address", "address"),
    ]
    if codes:
        states = {code: name for of in STATES.values() for code, name in of.items()}
        made += [
            picklist(
                f"{kind}StateCode", f"{label} State/Province Code", states, labels=tuple(states.values())
            ),
            picklist(
                f"{kind}CountryCode", f"{label} Country Code", COUNTRIES, labels=tuple(COUNTRIES.values())
            ),
        ]
    return made


def currency_column() -> Field:
    """Only orgs with several currencies have this column at all."""
    return picklist(
        "CurrencyIsoCode", "Currency", CURRENCIES, default=CORPORATE_CURRENCY, defaulted=True, length=3
    )


COSELL_OPPORTUNITY = (
    checkbox("Cosell_Sync__c", "Co-sell sync"),
    text("Cosell_Referral_Id__c", "Co-sell referral ID", 64, external_id=True, unique=True),
    Field("Cosell_Referral_Link__c", "Co-sell referral link", "url", 255),
    picklist(
        "Cosell_Status__c", "Co-sell status", ("Received", "Accepted", "Won", "Lost", "Declined", "Expired")
    ),
    picklist("Cosell_Direction__c", "Co-sell direction", ("Inbound", "Outbound")),
    picklist("Cosell_Deal_Type__c", "Co-sell deal type", ("Private", "Partner-led", "Co-sell", "Lead")),
    picklist("Cosell_Action__c", "Co-sell action", ("Accept", "Decline")),
    picklist("Cosell_Reason__c", "Co-sell reason", CLOSED_REASONS),
    long_text("Cosell_Reason_Note__c", "Co-sell reason note"),
    checkbox("Cosell_Visible_To_Microsoft__c", "Visible to Microsoft"),
    picklist("Cosell_Help__c", "Help from Microsoft", HELP_KINDS),
    long_text("Cosell_Help_Note__c", "Note to Microsoft"),
    checkbox("Cosell_Consent__c", "Customer consent"),
    text("Cosell_Campaign_Id__c", "Co-sell campaign ID", 255),
    picklist(
        "Cosell_Marketplace_Intent__c",
        "Marketplace intent",
        ("Have not decided", "Yes", "No"),
        restricted=False,
    ),
    text("Cosell_Partner_Role__c", "Partner role", 255),
    text("Cosell_Solution_Area__c", "Solution area", 255),
    text("Cosell_Solution_Play__c", "Solution play", 255),
    text("Cosell_Location__c", "Partner location", 255),
    long_text("Cosell_Notes__c", "Co-sell notes"),
    checkbox("Cosell_Favorite__c", "Co-sell favorite"),
    moment("Cosell_Respond_By__c", "Co-sell respond by"),
    text("Cosell_Microsoft_Status__c", "Microsoft status", 255),
    text("Cosell_Microsoft_Id__c", "Microsoft ID", 255),
    picklist(
        "Cosell_Sync_State__c",
        "Co-sell sync state",
        ("In sync", "Waiting", "Needs attention", "Conflict", "Closed"),
    ),
    long_text("Cosell_Message__c", "Co-sell message"),
    moment("Cosell_Last_Sync__c", "Co-sell last sync"),
)


COSELL_ACCOUNT = (text("Cosell_Duns__c", "D-U-N-S number", 40),)


# What an org lacks that was set up before these were asked for.
NEWER = frozenset(
    {
        "Cosell_Marketplace_Intent__c", "Cosell_Partner_Role__c", "Cosell_Solution_Area__c", "Cosell_Solution_Play__c",
        "Cosell_Location__c", "Cosell_Duns__c",
    }
)  # fmt: skip


def _user(*, multi_currency: bool) -> list[Field]:
    made = [
        text("Username", "Username", 80, required=True, unique=True),
        text("FirstName", "First Name", 40),
        text("LastName", "Last Name", 80, required=True),
        computed("Name", "Full Name", length=121),
        Field("Email", "Email", "email", 128, required=True),
        Field("Phone", "Phone", "phone", 40),
        Field("MobilePhone", "Mobile", "phone", 40),
        text("Title", "Title", 80),
        text("CompanyName", "Company Name", 80),
        text("Alias", "Alias", 8),
        checkbox("IsActive", "Active", default=True),
        picklist("UserType", "User Type", ("Standard", "Guest", "PowerPartner"), default="Standard", createable=False),
        text("TimeZoneSidKey", "Time Zone", 40, default="America/Los_Angeles", defaulted=True),
        text("LanguageLocaleKey", "Language", 40, default="en_US", defaulted=True),
    ]  # fmt: skip
    if multi_currency:
        made.append(
            picklist(
                "DefaultCurrencyIsoCode", "Default Currency ISO Code", CURRENCIES, default=CORPORATE_CURRENCY
            )
        )
    return made


def _account(*, codes: bool, data_com: bool) -> list[Field]:
    # "This field is available on business accounts, not person accounts, in organizations with Data.com":
    # https://developer.salesforce.com/docs/atlas.en-us.object_reference.meta/object_reference/sforce_api_objects_account.htm
    own = [text("DunsNumber", "D-U-N-S Number", 9)] if data_com else []
    return [
        *own,
        text("Name", "Account Name", 255, required=True),
        picklist("Type", "Account Type", ("Prospect", "Customer - Direct", "Partner", "Other"), restricted=False),
        lookup("ParentId", "Parent Account ID", "Account", "Parent"),
        *address("Billing", "Billing", codes=codes),
        Field("Phone", "Account Phone", "phone", 40),
        Field("Website", "Website", "url", 255),
        picklist("Industry", "Industry", ("Banking", "Education", "Energy", "Technology", "Other"), restricted=False),
        Field("NumberOfEmployees", "Employees", "int", precision=8),
        text("AccountNumber", "Account Number", 40),
        long_text("Description", "Account Description"),
        computed("MasterRecordId", "Master Record ID", "reference", 18, refers_to=("Account",), relationship="MasterRecord", calculated=False),
        owner(),
    ]  # fmt: skip


def _contact(*, codes: bool) -> list[Field]:
    return [
        lookup("AccountId", "Account ID", "Account", "Account", cascade=True),
        text("FirstName", "First Name", 40),
        text("LastName", "Last Name", 80, required=True),
        computed("Name", "Full Name", length=121),
        picklist("Salutation", "Salutation", ("Mr.", "Ms.", "Dr.", "Prof."), restricted=False),
        Field("Email", "Email", "email", 80),
        Field("Phone", "Business Phone", "phone", 40),
        Field("MobilePhone", "Mobile Phone", "phone", 40),
        text("Title", "Title", 128),
        *address("Mailing", "Mailing", codes=codes),
        computed("MasterRecordId", "Master Record ID", "reference", 18, refers_to=("Contact",), relationship="MasterRecord", calculated=False),
        owner(),
    ]  # fmt: skip


def _opportunity() -> list[Field]:
    stages = tuple(stage.name for stage in STAGES)
    return [
        lookup("AccountId", "Account ID", "Account", "Account", cascade=True),
        checkbox("IsPrivate", "Private"),
        text("Name", "Name", 120, required=True),
        long_text("Description", "Description"),
        picklist("StageName", "Stage", stages, required=True),
        money("Amount", "Amount"),
        Field("Probability", "Probability (%)", "percent", precision=3, defaulted=True),
        computed("ExpectedRevenue", "Expected Amount", "currency", precision=18, scale=2),
        Field("CloseDate", "Close Date", "date", required=True),
        picklist("Type", "Opportunity Type", ("Existing Business", "New Business"), restricted=False),
        text("NextStep", "Next Step", 255),
        picklist("LeadSource", "Lead Source", ("Web", "Partner Referral", "Other"), restricted=False),
        computed("IsClosed", "Closed", "boolean", default=False),
        computed("IsWon", "Won", "boolean", default=False),
        computed("ForecastCategory", "Forecast Category", "picklist", 40),
        picklist("ForecastCategoryName", "Forecast Category", ("Omitted", "Pipeline", "Best Case", "Most Likely", "Commit", "Closed"), defaulted=True),
        computed("HasOpportunityLineItem", "Has Line Item", "boolean", default=False, calculated=False),
        computed("FiscalYear", "Fiscal Year", "int", precision=9),
        computed("FiscalQuarter", "Fiscal Quarter", "int", precision=9),
        fixed(lookup("ContactId", "Contact ID", "Contact", "Contact")),
        owner(),
    ]  # fmt: skip


def _stage() -> list[Field]:
    return [
        text("MasterLabel", "Master Label", 255),
        text("ApiName", "API Name", 255),
        checkbox("IsActive", "Active", default=True),
        Field("SortOrder", "Sort Order", "int", precision=9),
        checkbox("IsClosed", "Closed"),
        checkbox("IsWon", "Won"),
        text("ForecastCategory", "Forecast Category", 40),
        text("ForecastCategoryName", "Forecast Category Name", 40),
        Field("DefaultProbability", "Probability (%)", "percent", precision=3),
        text("Description", "Description", 255),
    ]


ROLES = (
    "Business User",
    "Decision Maker",
    "Economic Buyer",
    "Evaluator",
    "Executive Sponsor",
    "Influencer",
    "Other",
)

TEAM_ROLES = (
    "Account Manager",
    "Channel Manager",
    "Executive Sponsor",
    "Opportunity Owner",
    "Sales Rep",
    "Other",
)


def _contact_role() -> list[Field]:
    return [
        fixed(
            lookup(
                "OpportunityId", "Opportunity ID", "Opportunity", "Opportunity", required=True, cascade=True
            )
        ),
        lookup("ContactId", "Contact ID", "Contact", "Contact", required=True, cascade=True),
        picklist("Role", "Role", ROLES, restricted=False),
        checkbox("IsPrimary", "Primary"),
    ]


def _team_member() -> list[Field]:
    return [
        fixed(lookup("OpportunityId", "Opportunity ID", "Opportunity", "Opportunity", required=True, cascade=True)),
        fixed(lookup("UserId", "User ID", "User", "User", required=True)),
        computed("Name", "Name", length=361),
        picklist("OpportunityAccessLevel", "Opportunity Access Level", ("Read", "Edit", "All"), default="Read", defaulted=True),
        picklist("TeamMemberRole", "Member Role", TEAM_ROLES, restricted=False),
    ]  # fmt: skip


def _solution() -> list[Field]:
    """Our child object. Its Name is an auto number, so a client that tries to write it is refused."""
    return [
        computed("Name", "Co-sell Solution Name", length=80, calculated=False),
        fixed(
            lookup(
                "Opportunity__c", "Opportunity", "Opportunity", "Opportunity__r", required=True, cascade=True
            )
        ),
        text("Solution_Id__c", "Solution ID", 255),
        text("Solution_Name__c", "Solution name", 255),
        picklist("Solution_Type__c", "Solution type", ("Own", "Microsoft", "Third party")),
        text("Cosell_Key__c", "Co-sell key", 255, external_id=True, unique=True),
    ]


def _task() -> list[Field]:
    return [
        lookup("WhoId", "Name ID", ("Contact", "Lead"), "Who"),
        lookup("WhatId", "Related To ID", ("Account", "Opportunity"), "What", cascade=True),
        text("Subject", "Subject", 255),
        Field("ActivityDate", "Due Date Only", "date"),
        picklist("Status", "Status", ("Not Started", "In Progress", "Completed", "Deferred"), default="Not Started", defaulted=True),
        picklist("Priority", "Priority", ("High", "Normal", "Low"), default="Normal", defaulted=True),
        computed("IsClosed", "Closed", "boolean", default=False),
        computed("AccountId", "Account ID", "reference", 18, refers_to=("Account",), relationship="Account"),
        long_text("Description", "Description"),
        owner(),
    ]  # fmt: skip


def _lead() -> list[Field]:
    return [
        text("FirstName", "First Name", 40),
        text("LastName", "Last Name", 80, required=True),
        computed("Name", "Full Name", length=121),
        text("Company", "Company", 255, required=True),
        Field("Email", "Email", "email", 80),
        Field("Phone", "Phone", "phone", 40),
        picklist("Status", "Status", ("Open - Not Contacted", "Working - Contacted", "Closed - Converted"), default="Open - Not Contacted", defaulted=True),
        owner(),
    ]  # fmt: skip


def _of_permission_set() -> Field:
    return fixed(lookup("ParentId", "Parent ID", "PermissionSet", "Parent", required=True, cascade=True))


def _object_permissions() -> list[Field]:
    rights = ("Create", "Read", "Edit", "Delete", "ViewAllRecords", "ModifyAllRecords")
    made = [checkbox(f"Permissions{right}", right) for right in rights]
    return [_of_permission_set(), fixed(text("SobjectType", "SObject Type", 40, required=True)), *made]


def _field_permissions() -> list[Field]:
    return [
        _of_permission_set(),
        fixed(text("SobjectType", "SObject Type", 40, required=True)),
        fixed(text("Field", "Field Name", 80, required=True)),
        checkbox("PermissionsRead", "Read Access"),
        checkbox("PermissionsEdit", "Edit Access"),
    ]


def _shapes(
    *, multi_currency: bool, team_selling: bool, codes: bool, cosell: bool, data_com: bool
) -> list[tuple[str, str, str, list[Field], dict[str, Any]]]:
    """Name, label, key prefix, own columns and properties of each object."""
    setup: dict[str, Any] = {"createable": False, "replicateable": False}
    money_column = [currency_column()] if multi_currency else []
    own = list(COSELL_OPPORTUNITY) if cosell else []
    duns = list(COSELL_ACCOUNT) if cosell else []
    shapes = [
        ("User", "User", "005", _user(multi_currency=multi_currency), {"createable": False}),
        ("Organization", "Organization", "00D", [text("Name", "Name", 80), checkbox("IsSandbox", "Is Sandbox"), text("OrganizationType", "Edition", 40), text("InstanceName", "Instance Name", 5), text("DefaultLocaleSidKey", "Locale", 40), text("TimeZoneSidKey", "Time Zone", 40)], setup),
        ("Account", "Account", "001", _account(codes=codes, data_com=data_com) + money_column + duns, {}),
        ("Contact", "Contact", "003", _contact(codes=codes) + money_column, {}),
        ("Opportunity", "Opportunity", "006", _opportunity() + money_column + own, {}),
        ("OpportunityStage", "Opportunity Stage", "01J", _stage(), setup),
        ("OpportunityContactRole", "Opportunity Contact Role", "00K", _contact_role(), {}),
        ("Task", "Task", "00T", _task(), {}),
        ("Lead", "Lead", "00Q", _lead(), {}),
        ("RecordType", "Record Type", "012", [text("Name", "Name", 80), text("DeveloperName", "API Name", 80), text("SobjectType", "SObject Type", 40), checkbox("IsActive", "Active", default=True)], setup),
        ("PermissionSet", "Permission Set", "0PS", [text("Name", "API Name", 80, required=True), text("Label", "Label", 80, required=True), text("Description", "Description", 255), text("NamespacePrefix", "Namespace Prefix", 15)], {"replicateable": False, "recycled": False}),
        ("PermissionSetAssignment", "Permission Set Assignment", "0Pa", [fixed(lookup("PermissionSetId", "Permission Set ID", "PermissionSet", "PermissionSet", required=True, cascade=True)), fixed(lookup("AssigneeId", "Assignee ID", "User", "Assignee", required=True))], {"replicateable": False, "recycled": False}),
        ("ObjectPermissions", "Object Permissions", "110", _object_permissions(), {"replicateable": False, "recycled": False}),
        ("FieldPermissions", "Field Permissions", "01k", _field_permissions(), {"replicateable": False, "recycled": False}),
        ("Folder", "Folder", "00l", [text("Name", "Name", 80), text("DeveloperName", "Unique Name", 80), text("NamespacePrefix", "Namespace Prefix", 15), text("Type", "Type", 40)], setup),
        ("Report", "Report", "00O", [text("DeveloperName", "Report Unique Name", 80), text("NamespacePrefix", "Namespace Prefix", 15), text("FolderName", "Folder Name", 256)], setup),
        ("Dashboard", "Dashboard", "01Z", [text("DeveloperName", "Dashboard Unique Name", 80), text("NamespacePrefix", "Namespace Prefix", 15), text("FolderName", "Folder Name", 256)], setup),
        ("ListView", "List View", "00B", [text("Name", "View Name", 255), text("DeveloperName", "API Name", 80), text("NamespacePrefix", "Namespace Prefix", 15), text("SobjectType", "Sobject Type", 40)], setup),
    ]  # fmt: skip
    if team_selling:
        # A member taken off the team never reaches the Recycle Bin.
        shapes.append(
            ("OpportunityTeamMember", "Opportunity Team Member", "00q", _team_member(), {"recycled": False})
        )
    if cosell:
        shapes.append(("Cosell_Solution__c", "Co-sell Solution", "a00", _solution() + money_column, {}))
    if multi_currency:
        columns = [
            text("IsoCode", "ISO Code", 3),
            checkbox("IsActive", "Active", default=True),
            checkbox("IsCorporate", "Corporate"),
            Field("ConversionRate", "Conversion Rate", "double", precision=18, scale=6),
            Field("DecimalPlaces", "Decimal Places", "int", precision=1),
        ]
        shapes.append(("CurrencyType", "Currency Type", "01L", columns, setup))
    return shapes


def build(
    *,
    multi_currency: bool = True,
    team_selling: bool = True,
    state_country_picklists: bool = False,
    cosell_fields_installed: bool = True,
    of_earlier_version: bool = False,
    data_com: bool = False,
) -> dict[str, SObject]:
    """The schema of an org with these switches. ``of_earlier_version``: without `NEWER`."""
    made: dict[str, SObject] = {}
    for name, label, prefix, columns, properties in _shapes(
        multi_currency=multi_currency,
        team_selling=team_selling,
        codes=state_country_picklists,
        cosell=cosell_fields_installed,
        data_com=data_com,
    ):
        lacking = NEWER if of_earlier_version else ()
        fields = {each.name: each for each in (*system(), *columns) if each.name not in lacking}
        made[name] = SObject(name, label, prefix, fields, **properties)
    return linked(made)
