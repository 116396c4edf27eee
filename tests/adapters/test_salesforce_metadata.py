"""The files that an admin deploys are valid Salesforce metadata and say what the documented fields say.

Names, types and values are restated here rather than imported: they are what customers and other programs hold on to.
"""

from __future__ import annotations

import json
import re
import tomllib
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import simple_salesforce
from lxml import etree

from cosell_sync.crm.salesforce.install import package, reports
from cosell_sync.crm.salesforce.install.differences import differences
from cosell_sync.crm.salesforce.install.schema import PANEL, Component, components
from cosell_sync.settings import value_lists

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config" / "salesforce"
SOURCE = CONFIG / "force-app" / "main" / "default"
NS = "{http://soap.sforce.com/2006/04/metadata}"
XSD = "{http://www.w3.org/2001/XMLSchema}"

REASONS = [
    "Budget insufficient", "Customer did not respond", "Other vendor chosen", "Requirement not met", "Not a customer",
    "Timeline too short", "Abuse, spam or phishing", "Other",
]  # fmt: skip
HELP = [
    "Workload-specific value proposition", "Customer technical architecture", "Proof of concept or demo",
    "Quotes or licensing", "Post-sales customer success", "General or other",
]  # fmt: skip
OPPORTUNITY: Mapping[str, object] = {
    "Cosell_Sync__c": "Checkbox",
    "Cosell_Referral_Id__c": "Text",
    "Cosell_Referral_Link__c": "Url",
    "Cosell_Status__c": ["Received", "Accepted", "Won", "Lost", "Declined", "Expired"],
    "Cosell_Direction__c": ["Inbound", "Outbound"],
    "Cosell_Deal_Type__c": ["Private", "Partner-led", "Co-sell", "Lead"],
    "Cosell_Action__c": ["Accept", "Decline"],
    "Cosell_Reason__c": REASONS,
    "Cosell_Reason_Note__c": "LongTextArea",
    "Cosell_Visible_To_Microsoft__c": "Checkbox",
    "Cosell_Help__c": HELP,
    "Cosell_Help_Note__c": "LongTextArea",
    "Cosell_Consent__c": "Checkbox",
    "Cosell_Campaign_Id__c": "Text",
    "Cosell_Marketplace_Intent__c": ["Have not decided", "Yes", "No"],
    "Cosell_Partner_Role__c": "Text",
    "Cosell_Solution_Area__c": "Text",
    "Cosell_Solution_Play__c": "Text",
    "Cosell_Location__c": "Text",
    "Cosell_Notes__c": "LongTextArea",
    "Cosell_Favorite__c": "Checkbox",
    "Cosell_Respond_By__c": "DateTime",
    "Cosell_Microsoft_Status__c": "Text",
    "Cosell_Microsoft_Id__c": "Text",
    "Cosell_Sync_State__c": ["In sync", "Waiting", "Needs attention", "Conflict", "Closed"],
    "Cosell_Message__c": "LongTextArea",
    "Cosell_Last_Sync__c": "DateTime",
}
ACCOUNT: Mapping[str, object] = {"Cosell_Duns__c": "Text"}
SOLUTION: Mapping[str, object] = {
    "Opportunity__c": "MasterDetail",
    "Solution_Id__c": "Text",
    "Solution_Name__c": "Text",
    "Solution_Type__c": ["Own", "Microsoft", "Third party"],
    "Cosell_Key__c": "Text",
}
SELLERS_EDIT = {
    "Cosell_Sync__c", "Cosell_Action__c", "Cosell_Reason__c", "Cosell_Reason_Note__c", "Cosell_Visible_To_Microsoft__c",
    "Cosell_Help__c", "Cosell_Help_Note__c", "Cosell_Consent__c", "Cosell_Campaign_Id__c", "Cosell_Notes__c",
    "Cosell_Favorite__c", "Solution_Id__c", "Solution_Name__c", "Solution_Type__c",
    "Cosell_Marketplace_Intent__c", "Cosell_Partner_Role__c", "Cosell_Solution_Area__c", "Cosell_Solution_Play__c",
    "Cosell_Location__c", "Cosell_Duns__c",
}  # fmt: skip
# Of standard objects, what is read and written; the profile of the integration user gives none of it.
STANDARD = {
    "Account.BillingAddress", "Contact.AccountId", "Contact.Email", "Contact.Phone", "Opportunity.AccountId",
    "Opportunity.Amount",
}  # fmt: skip
DOCUMENTS = sorted(CONFIG.rglob("*.xml"))


@pytest.fixture(scope="module")
def schema() -> etree.XMLSchema:
    """The schema inside the library's WSDL, with an element for each type, so that a file can be its root."""
    wsdl = etree.parse(Path(simple_salesforce.__file__).with_name("metadata.wsdl"))
    node = wsdl.find(f".//{XSD}schema")
    assert node is not None
    known = {each.get("name") for each in node.findall(f"{XSD}element")}
    for each in node.findall(f"{XSD}complexType"):
        name = each.get("name")
        if name not in known:
            etree.SubElement(node, f"{XSD}element", name=name, type=f"tns:{name}")
    return etree.XMLSchema(etree.fromstring(etree.tostring(node)))  # alone, with the prefixes it inherits


def _sorted(element: etree._Element) -> None:
    """The order of the schema: by name, after the full name that every component inherits."""
    children = sorted(element, key=lambda child: (child.tag != f"{NS}fullName", child.tag))
    element[:] = children
    for child in children:
        _sorted(child)


def _document(path: Path) -> etree._Element:
    """The file as the schema knows it; the targets of a Lightning component are opaque there."""
    root = etree.parse(path).getroot()
    for each in root.findall(f"{NS}targetConfigs"):
        root.remove(each)
    _sorted(root)
    return root


def _texts(path: Path, *names: str) -> list[str]:
    way = "/".join(f"{NS}{name}" for name in names)
    return [each.text or "" for each in ET.parse(path).getroot().findall(way)]


def _text(path: Path, *names: str) -> str:
    return (_texts(path, *names) or [""])[0]


def _field(of: str, name: str) -> Path:
    return SOURCE / "objects" / of / "fields" / f"{name}.field-meta.xml"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_is_valid(path: Path, schema: etree.XMLSchema) -> None:
    root = _document(path)
    assert schema.validate(root), schema.error_log


def test_the_schema_sees_faults(schema: etree.XMLSchema) -> None:
    """A check that lets everything pass would prove nothing."""
    for wrong in ("<type>Txet</type>", "<colour>red</colour>"):
        root = etree.fromstring(
            f'<CustomField xmlns="{NS[1:-1]}"><fullName>A__c</fullName>{wrong}</CustomField>'
        )
        assert not schema.validate(root)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_a_file_is_named_by_what_it_holds(path: Path) -> None:
    if path.suffixes == [".field-meta", ".xml"] or path.parent.name in {
        "fields",
        "validationRules",
        "listViews",
        "compactLayouts",
    }:
        assert _text(path, "fullName") == path.name.partition(".")[0]
    else:
        assert not _texts(path, "fullName")


def test_the_files_are_those_that_provision_makes() -> None:
    """The files and what provision sends come from one place; run the module `package` after a change."""
    written = {path.relative_to(CONFIG).as_posix() for path in CONFIG.rglob("*") if path.is_file()}
    expected = package.source_files(package.everything())
    assert written == expected.keys()
    for path, content in expected.items():
        assert (CONFIG / path).read_bytes() == content, path


@pytest.mark.parametrize(
    ("of", "fields"), [("Opportunity", OPPORTUNITY), ("Account", ACCOUNT), ("Cosell_Solution__c", SOLUTION)]
)
def test_fields_are_the_documented_ones(of: str, fields: Mapping[str, object]) -> None:
    found = {path.name.partition(".")[0] for path in (SOURCE / "objects" / of / "fields").iterdir()}
    assert found == fields.keys()
    for name, kind in fields.items():
        path = _field(of, name)
        values = _texts(path, "valueSet", "valueSetDefinition", "value", "fullName")
        if isinstance(kind, list):
            assert _text(path, "type") == "Picklist"
            assert values == kind
            renewed = (
                name == "Cosell_Marketplace_Intent__c"
            )  # Microsoft's answers are shown, whatever the list says
            assert _text(path, "valueSet", "restricted") == str(not renewed).lower()
        else:
            assert (_text(path, "type"), values) == (kind, [])


def test_keys_are_unique_external_ids() -> None:
    for of, name, length in (
        ("Opportunity", "Cosell_Referral_Id__c", "64"),
        ("Cosell_Solution__c", "Cosell_Key__c", "255"),
    ):
        path = _field(of, name)
        found = [_text(path, each) for each in ("externalId", "unique", "caseSensitive", "length")]
        assert found == ["true", "true", "false", length]


def test_fields_teach_the_seller_within_the_platforms_limits() -> None:
    for path in SOURCE.rglob("*.field-meta.xml"):
        assert 0 < len(_text(path, "label")) <= 40
        assert 0 < len(_text(path, "description")) <= 1000
        if _text(path, "type") != "MasterDetail":
            assert 0 < len(_text(path, "inlineHelpText")) <= 510


def test_a_solution_hangs_under_its_opportunity() -> None:
    path = _field("Cosell_Solution__c", "Opportunity__c")
    assert (_text(path, "referenceTo"), _text(path, "relationshipName")) == (
        "Opportunity",
        "Cosell_Solutions",
    )
    about = SOURCE / "objects" / "Cosell_Solution__c" / "Cosell_Solution__c.object-meta.xml"
    assert _text(about, "sharingModel") == "ControlledByParent"


def test_a_decline_needs_a_reason() -> None:
    path = SOURCE / "objects/Opportunity/validationRules/Cosell_Decline_Needs_Reason.validationRule-meta.xml"
    formula = _text(path, "errorConditionFormula")
    assert 'ISPICKVAL(Cosell_Action__c, "Decline")' in formula
    assert "ISBLANK(TEXT(Cosell_Reason__c))" in formula


def test_list_views_name_fields_that_are_there() -> None:
    views = {_text(path, "label"): path for path in SOURCE.rglob("*.listView-meta.xml")}
    assert views.keys() == {
        "Co-sell: Inbound", "Co-sell: Outbound", "Co-sell: Favorites", "Co-sell: Needs attention", "Co-sell: Expiring",
        "Co-sell: Unanswered",
    }  # fmt: skip
    for path in views.values():
        for name in [*_texts(path, "columns"), *_texts(path, "filters", "field")]:
            assert name in OPPORTUNITY or re.fullmatch(r"(OPPORTUNITY|ACCOUNT)\.[A-Z_]+", name), name
        for each in ET.parse(path).getroot().findall(f"{NS}filters"):
            values = OPPORTUNITY[each.findtext(f"{NS}field") or ""]
            if isinstance(values, list):
                assert set((each.findtext(f"{NS}value") or "").split(",")) <= set(values)


@pytest.mark.parametrize("name", ["Cosell_Sync", "Cosell_Seller"])
def test_permission_sets_give_what_is_needed_and_no_more(name: str) -> None:
    path = SOURCE / "permissionsets" / f"{name}.permissionset-meta.xml"
    root = ET.parse(path).getroot()
    rights = {each.findtext(f"{NS}field"): each for each in root.findall(f"{NS}fieldPermissions")}
    # A deployment that names a required or a master-detail field fails.
    standard = set() if name == "Cosell_Seller" else STANDARD
    assert rights.keys() == standard | {
        *(f"Opportunity.{field}" for field in OPPORTUNITY),
        *(f"Account.{field}" for field in ACCOUNT),
        *(f"Cosell_Solution__c.{field}" for field in SOLUTION if field != "Opportunity__c"),
    }
    assert {each.findtext(f"{NS}readable") for each in rights.values()} == {"true"}
    editable = {
        (field or "").partition(".")[2]
        for field, each in rights.items()
        if each.findtext(f"{NS}editable") == "true" and field not in standard
    }
    assert editable == (
        SELLERS_EDIT if name == "Cosell_Seller" else {*OPPORTUNITY, *ACCOUNT, *SOLUTION} - {"Opportunity__c"}
    )
    assert set(_texts(path, "objectPermissions", "modifyAllRecords")) == {"false"}
    given = {
        each.findtext(f"{NS}object"): {right.tag.removeprefix(NS) for right in each if right.text == "true"}
        for each in root.findall(f"{NS}objectPermissions")
    }
    assert given["Opportunity"] == (
        {"allowRead"}
        if name == "Cosell_Seller"
        else {"allowRead", "allowCreate", "allowEdit", "viewAllRecords"}
    )
    assert not _texts(path, "userPermissions")
    assert not _texts(path, "license")


def test_the_panel_imports_fields_that_are_there_and_no_apex() -> None:
    script = (SOURCE / "lwc/cosellPanel/cosellPanel.js").read_text()
    imports = dict(re.findall(r'import (\w+) from "@salesforce/schema/Opportunity\.(\w+)"', script))
    assert set(imports.values()) <= OPPORTUNITY.keys()
    assert "@salesforce/apex" not in script
    markup = (SOURCE / "lwc/cosellPanel/cosellPanel.html").read_text()
    assert set(re.findall(r"fields\.(\w+)", markup)) <= imports.keys()
    about = (SOURCE / "lwc/cosellPanel/cosellPanel.js-meta.xml").read_text()
    assert "<target>lightning__RecordPage</target>" in about
    assert "<object>Opportunity</object>" in about


def test_the_wheel_carries_the_files_that_an_admin_deploys_and_copies() -> None:
    """One source: what the wheel includes is the folder that is read here."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    packed = {ROOT / path: ROOT / "src" / there for path, there in build["force-include"].items()}
    beside = Path(value_lists.__file__).parent
    assert packed == {
        package.panel_folder(): Path(package.__file__).with_name(PANEL),
        ROOT / "config" / value_lists.FILE: beside / value_lists.FILE,
        **{
            ROOT / "config" / f"{crm}.yaml": beside / "examples" / f"{crm}.yaml"
            for crm in ("salesforce", "dynamics")
        },
    }


def test_no_layout_or_page_of_the_customer_is_replaced() -> None:
    assert {path.name for path in SOURCE.iterdir()} == {"lwc", "objects", "permissionsets", "quickActions"}
    assert not (SOURCE / "objects/Opportunity/Opportunity.object-meta.xml").exists()


def test_the_project_is_one_that_the_cli_finds() -> None:
    project = json.loads((CONFIG / "sfdx-project.json").read_text())
    assert project["packageDirectories"] == [{"path": "force-app", "default": True}, {"path": "reports"}]


def _listed(path: Path) -> list[tuple[str, str]]:
    """Type and name of each member of a manifest, in its order."""
    return [
        (each.findtext(f"{NS}name") or "", member.text or "")
        for each in ET.parse(path).getroot().findall(f"{NS}types")
        for member in each.findall(f"{NS}members")
    ]


def _named(each: Component) -> tuple[str, str]:
    """As a manifest lists it: a folder among what it holds."""
    return {"ReportFolder": "Report", "DashboardFolder": "Dashboard"}.get(each.type, each.type), each.name


def test_the_manifest_lists_every_component() -> None:
    listed = _listed(CONFIG / "manifest" / "package.xml")
    assert sorted(listed) == sorted(map(_named, package.everything()))


# --- what sellers see beside the fields ------------------------------------------------------------------------------


def _layout_items(path: Path) -> dict[str, str]:
    way = f"{NS}quickActionLayout/{NS}quickActionLayoutColumns/{NS}quickActionLayoutItems"
    items = ET.parse(path).getroot().findall(way)
    return {each.findtext(f"{NS}field") or "": each.findtext(f"{NS}uiBehavior") or "" for each in items}


@pytest.mark.parametrize(
    ("answer", "asked"),
    [
        ("Accept", {}),
        ("Decline", {"Cosell_Reason__c": "Required", "Cosell_Reason_Note__c": "Edit"}),
    ],
)
def test_a_button_sets_the_answer_and_asks_for_what_belongs_to_it(answer: str, asked: dict[str, str]) -> None:
    path = SOURCE / "quickActions" / f"Opportunity.Cosell_{answer}.quickAction-meta.xml"
    assert (_text(path, "type"), _text(path, "targetObject")) == ("Update", "Opportunity")
    assert _text(path, "fieldOverrides", "field") == "Cosell_Action__c"
    assert _text(path, "fieldOverrides", "literalValue") == answer
    assert _layout_items(path) == {"Cosell_Action__c": "Required", **asked}
    assert _text(path, "label") == f"{answer} co-sell deal"


def test_sellers_may_write_what_the_buttons_ask_for() -> None:
    """A button whose field is read-only for the user saves nothing."""
    for path in SOURCE.rglob("*.quickAction-meta.xml"):
        assert _layout_items(path).keys() <= SELLERS_EDIT


def test_the_compact_layout_keeps_to_what_the_platform_takes() -> None:
    """Ten fields at most, none of them a text area; the first ones are seen on a phone too."""
    path = SOURCE / "objects/Opportunity/compactLayouts/Cosell_Highlights.compactLayout-meta.xml"
    fields = _texts(path, "fields")
    assert fields[:4] == ["Name", "AccountId", "Cosell_Sync_State__c", "Cosell_Status__c"]
    assert len(fields) <= 10
    for name in fields:
        assert OPPORTUNITY.get(name, "") != "LongTextArea"
        assert name in OPPORTUNITY or "__" not in name


FILED = CONFIG / "reports" / "main" / "default"
CODES = {"OPPORTUNITY_NAME", "ACCOUNT_NAME", "FULL_NAME", "AMOUNT", "CLOSE_DATE"}


@pytest.mark.parametrize(
    ("name", "group", "values"),
    [
        ("Unanswered", ["Respond_By"], "Received"),
        ("Needs_Attention", ["Sync_State"], "Needs attention,Conflict"),
        ("Won_Lost", ["Direction", "Status"], "Won,Lost"),
        ("Sync_State", ["Sync_State"], ""),
    ],
)
def test_reports_name_fields_and_values_that_are_there(name: str, group: list[str], values: str) -> None:
    path = FILED / "reports/Cosell" / f"Cosell_{name}.report-meta.xml"
    assert _texts(path, "groupingsDown", "field") == [f"Opportunity.Cosell_{each}__c" for each in group]
    assert _text(path, "filter", "criteriaItems", "value") == values
    (filtered,) = _texts(path, "filter", "criteriaItems", "column")
    allowed = OPPORTUNITY[filtered.removeprefix("Opportunity.")]
    assert isinstance(allowed, list)
    assert set(filter(None, values.split(","))) <= set(allowed)
    for column in [*_texts(path, "columns", "field"), *_texts(path, "groupingsDown", "field")]:
        of, _, own = column.partition(".")
        assert column in CODES or (of == "Opportunity" and own in OPPORTUNITY), column
    assert len(_text(path, "name")) <= 40


def test_the_dashboard_shows_each_viewer_no_more_than_the_viewer_may_see() -> None:
    path = FILED / "dashboards/Cosell/Cosell_Deals.dashboard-meta.xml"
    assert _text(path, "dashboardType") == "LoggedInUser"
    assert not _texts(path, "runningUser")
    shown = _texts(path, "dashboardGridLayout", "dashboardGridComponents", "dashboardComponent", "report")
    there = {f"Cosell/{each.name.partition('.')[0]}" for each in (FILED / "reports/Cosell").iterdir()}
    assert set(shown) == there


def test_a_renamed_field_is_renamed_in_reports_too() -> None:
    made = {each.name: each.body for each in reports.components({"status": "Partner_Status__c"})}
    assert "Cosell_Status__c" not in str(made)
    assert "Opportunity.Partner_Status__c" in str(made["Cosell/Cosell_Won_Lost"])
    assert "Opportunity.Partner_Status__c" in str(made["Cosell/Cosell_Deals"])


# --- uninstalling ----------------------------------------------------------------------------------------------------


def test_the_uninstall_names_all_that_is_made() -> None:
    """Nothing is forgotten and nothing of the customer's is named; fields of our own object go with it."""
    listed = _listed(CONFIG / "uninstall" / "destructiveChanges.xml")
    made = {_named(each) for each in package.everything()}
    with_it = {name for name in made if name[1].startswith("Cosell_Solution__c.")}
    assert len(listed) == len(set(listed))
    assert set(listed) == made - with_it
    assert not _listed(CONFIG / "uninstall" / "package.xml")


def test_nothing_is_deleted_before_what_names_it() -> None:
    """A dashboard names reports; reports, buttons, layouts, views, rules and panels name fields; a folder is emptied first."""
    listed = _listed(CONFIG / "uninstall" / "destructiveChanges.xml")
    kinds = list(dict.fromkeys(kind for kind, _ in listed))
    fields = kinds.index("CustomField")
    assert kinds.index("Dashboard") < kinds.index("Report") < fields
    for kind in (
        "QuickAction",
        "CompactLayout",
        "ListView",
        "ValidationRule",
        "LightningComponentBundle",
        "PermissionSet",
    ):
        assert kinds.index(kind) < fields
    for kind in ("Report", "Dashboard"):
        assert [name for each, name in listed if each == kind][-1] == "Cosell"


# --- renamed fields ------------------------------------------------------------------------------------------------


def test_a_renamed_field_is_renamed_everywhere() -> None:
    renamed = {"action": "Partner_Answer__c", "status": "Partner_Status__c"}
    made = package.source_files([*components(renamed), *reports.components(renamed)], renamed)
    assert f"{package.SOURCE}/objects/Opportunity/fields/Partner_Answer__c.field-meta.xml" in made
    for path, content in made.items():
        assert b"Cosell_Action__c" not in content, path
        assert b"Cosell_Status__c" not in content, path


def test_fields_of_the_platform_or_of_a_package_are_not_ours_to_make() -> None:
    made = {each.name for each in components({"notes": "Description", "message": "acme__Message__c"})}
    assert not any(name.endswith((".Description", "acme__Message__c")) for name in made)
    assert "Opportunity.Cosell_Notes__c" not in made


def test_the_zip_holds_no_more_than_its_manifest() -> None:
    """A file that names Opportunity must touch nothing of it but what is listed."""
    one = [each for each in components() if each.name == "Opportunity.Cosell_Notes__c"]
    with zipfile.ZipFile(BytesIO(package.bundle(one))) as archive:
        assert archive.namelist() == ["objects/Opportunity.object", "package.xml"]
        root = ET.fromstring(archive.read("objects/Opportunity.object"))
    assert [each.tag for each in root] == [f"{NS}fields"]


# --- differences ---------------------------------------------------------------------------------------------------


def _wanted(name: str) -> Component:
    return next(each for each in components() if each.name == name)


def _picklist(*values: str, **more: object) -> dict[str, object]:
    listed = [{"valueName": value} for value in values]
    return {"type": "Picklist", "valueSet": {"valueSetDefinition": {"value": listed}, **more}}


@pytest.mark.parametrize(
    ("name", "found", "told"),
    [
        ("Opportunity.Cosell_Notes__c", {"type": "Text", "length": 255}, ["type is Text, not LongTextArea"]),
        ("Opportunity.Cosell_Notes__c", {"type": "LongTextArea", "length": 256}, ["holds 256 characters, not 32000"]),
        ("Opportunity.Cosell_Notes__c", {"type": "LongTextArea", "length": 131072, "label": "Notes"}, []),
        (
            "Opportunity.Cosell_Referral_Id__c",
            {"type": "Text", "length": 64, "externalId": False, "unique": False},
            ["is no external id", "is not unique"],
        ),
        ("Opportunity.Cosell_Respond_By__c", {"type": "DateTime", "required": True}, ["is required"]),
        ("Opportunity.Cosell_Action__c", _picklist("Decline", "Accept"), []),
        (
            "Opportunity.Cosell_Action__c",
            _picklist("Accept", "Maybe"),
            ["lacks the values Decline", "has values that mean nothing here: Maybe"],
        ),
        (
            "Opportunity.Cosell_Action__c",
            _picklist(valueSetName="Answers"),
            ["takes its values from the global value set Answers, which is not looked into"],
        ),
        ("Cosell_Solution__c", {"sharingModel": "Private"}, ["sharing model is Private, not ControlledByParent"]),
        ("Opportunity.Cosell_Decline_Needs_Reason", {"errorConditionFormula": "FALSE"}, ["its formula is another one"]),
        ("Opportunity.Cosell_Inbound", {"label": "Mine"}, []),
    ],
)  # fmt: skip
def test_what_counts_as_a_difference(name: str, found: Mapping[str, object], told: list[str]) -> None:
    assert list(differences(_wanted(name), found)) == told


def test_a_component_does_not_differ_from_itself() -> None:
    for each in components():
        assert not differences(each, each.body)
