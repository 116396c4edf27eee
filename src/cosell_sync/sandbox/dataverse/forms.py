"""Checks the XML of a form that a client posts, as the form schema and the form editor have it.

https://learn.microsoft.com/power-apps/developer/model-driven-apps/form-xml-schema
https://learn.microsoft.com/power-apps/developer/model-driven-apps/customize-entity-forms
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.schema import Column, Table
from cosell_sync.sandbox.dataverse.values import Refused

MAIN: Final = 2
GUID: Final = re.compile(r"\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}")
SUBGRID: Final = "E7A81278-8635-4D9E-8D4D-59480B391C5B"
# Control → kinds of column that it can draw: FormControlClassId of the platform.
CONTROLS: Final[Mapping[str, frozenset[str]]] = {
    "4273EDBD-AC1D-40D3-9FB2-095C621B552D": frozenset({"string"}),
    "71716B6C-711E-476C-8AB8-5D11542BFB47": frozenset({"string"}),
    "E0DECE4B-6FC8-4A8F-A065-082708572369": frozenset({"memo"}),
    "67FAC785-CD58-4F9F-ABB3-4B7DDC6ED5ED": frozenset({"boolean"}),
    "B0C6723A-8503-4FD7-BB28-C8A06AC933C2": frozenset({"boolean"}),
    "3EF39988-22BB-4F0B-BBBE-64B5A3748AEE": frozenset({"choice"}),
    "5D68B988-0661-4DB2-BC3E-17598AD3BE6C": frozenset({"status", "state"}),
    "5B773807-9FB2-42DB-97C3-7A91EFF8ADFF": frozenset({"date", "datetime"}),
    "533B9E00-756B-4312-95A0-DC888637AC78": frozenset({"money"}),
    "270BD3DB-D9AF-4782-9025-509E298DEC0A": frozenset({"lookup"}),
}
URL: Final = "71716B6C-711E-476C-8AB8-5D11542BFB47"
# Element → attributes that the schema knows, of those that matter here.
ATTRIBUTES: Final[Mapping[str, frozenset[str]]] = {
    "form": frozenset({"showImage", "shownavigationbar", "maxWidth", "enablerelatedinformation"}),
    "tab": frozenset({"name", "id", "expanded", "showlabel", "verticallayout", "visible", "IsUserDefined", "locklevel"}),
    "column": frozenset({"width"}),
    "section": frozenset({
        "name", "id", "showlabel", "showbar", "columns", "IsUserDefined", "visible", "labelwidth", "celllabelalignment",
        "celllabelposition", "layout", "locklevel",
    }),
    "row": frozenset(),
    "cell": frozenset({"id", "showlabel", "rowspan", "colspan", "visible", "locklevel", "auto"}),
    "control": frozenset({"id", "classid", "datafieldname", "disabled", "indicationOfSubgrid", "relationship", "uniqueid"}),
}  # fmt: skip
FLAGS: Final = frozenset(
    {"expanded", "showlabel", "verticallayout", "visible", "showbar", "disabled", "showImage"}
)

IsView = Callable[[str, str], bool]
"""Whether a view of that id shows that table."""


def bad_form(why: str) -> Refused:
    return Refused(values.BAD_ARGUMENT, f"The form XML is not valid: {why}")


def check(
    row: Mapping[str, object], schema: Mapping[str, Table], languages: Sequence[int], is_view: IsView
) -> None:
    """Raises Refused for a row of a form that the platform would not take."""
    table = schema.get(str(row.get("objecttypecode")))
    if table is None or not row.get("name"):
        raise Refused(values.BAD_ARGUMENT, "A form needs a name and an entity that is there.")
    if row.get("type") != MAIN:
        raise Refused(values.BAD_ARGUMENT, "The sandbox takes main forms (type 2) only.")
    try:
        root = ET.fromstring(str(row.get("formxml")))  # noqa: S314  (a sandbox on loopback)
    except ET.ParseError:
        raise bad_form("it is no XML.") from None
    tabs = root.findall("tabs/tab")
    if root.tag != "form" or not 1 <= len(tabs) <= 100:
        raise bad_form("a form has one to a hundred tabs.")
    _attributes(root)
    _identities(root.iter("tab"), root.iter("section"), root.iter("cell"))
    _labels(root, languages)
    for tab in tabs:
        _tab(tab)
    controls = [each.get("id") or "" for each in root.iter("control")]
    if len(set(controls)) < len(controls) or "" in controls:
        raise bad_form("every control has an id of its own.")
    for each in root.iter("control"):
        _control(each, table, schema, is_view)
    shown = root.find("DisplayConditions")
    if shown is not None and not [*shown.findall("Everyone"), *shown.findall("Role")]:
        raise bad_form("DisplayConditions name Everyone or roles.")


def _attributes(root: ET.Element) -> None:
    for each in root.iter():
        known = ATTRIBUTES.get(each.tag)
        for name, value in each.attrib.items():
            if known is not None and name not in known:
                raise bad_form(f"The '{name}' attribute is not declared on '{each.tag}'.")
            if name in FLAGS and value not in {"true", "false"}:
                raise bad_form(f"'{value}' is not a valid Boolean value.")


def _identities(*groups: Iterable[ET.Element]) -> None:
    ids = [each.get("id") or "" for group in groups for each in group]
    if wrong := next((each for each in ids if not GUID.fullmatch(each)), None):
        raise bad_form(f"'{wrong}' is no id in braces.")
    if "" in ids or len({each.lower() for each in ids}) < len(ids):
        raise bad_form("every tab, section and cell has an id of its own.")


def _labels(root: ET.Element, languages: Sequence[int]) -> None:
    for each in root.iter("label"):
        code = each.get("languagecode") or ""
        if not code.isdigit() or int(code) not in languages or not each.get("description"):
            raise bad_form(f"a label is in a language that is not provisioned ({code}), or empty.")
    for labels in root.iter("labels"):
        if str(languages[0]) not in {each.get("languagecode") for each in labels}:
            raise bad_form("a label is missing in the base language.")


def _tab(tab: ET.Element) -> None:
    columns = tab.findall("columns/column")
    widths = [each.get("width") or "" for each in columns]
    if not 1 <= len(columns) <= 3 or not all(re.fullmatch(r"\d{1,3}%", each) for each in widths):
        raise bad_form("a tab has one to three columns, each with a width in percent.")
    if sum(int(each.rstrip("%")) for each in widths) > 100:
        raise bad_form("the columns of a tab are wider than the tab.")
    for section in tab.iter("section"):
        due = 0  # rows that the span of a cell above still takes
        for row in section.findall("rows/row"):
            cells = row.findall("cell")
            if len(cells) > len(section.get("columns") or "1"):
                raise bad_form("a row holds more cells than its section has columns.")
            if bool(cells) == bool(due):
                raise bad_form(
                    "a cell that spans rows is followed by as many empty ones, and no other row is empty."
                )
            due = due - 1 if due else max(int(each.get("rowspan") or 1) for each in cells) - 1
        if due:
            raise bad_form("a cell spans more rows than its section has.")


def _control(control: ET.Element, table: Table, schema: Mapping[str, Table], is_view: IsView) -> None:
    kind = (control.get("classid") or "").strip("{}").upper()
    if kind == SUBGRID:
        _subgrid(control, table, schema, is_view)
        return
    name = control.get("datafieldname") or ""
    column = table.columns.get(name)
    if column is None:
        raise bad_form(f"'{table.name}' has no column '{name}'.")
    if column.kind not in CONTROLS.get(kind, ()) or (kind == URL and not _is_link(column)):
        raise bad_form(f"the control {kind} does not draw '{name}', which is of kind {column.kind}.")


def _is_link(column: Column) -> bool:
    return column.format.lower() == "url"


def _subgrid(control: ET.Element, table: Table, schema: Mapping[str, Table], is_view: IsView) -> None:
    given = {each.tag: each.text or "" for each in control.findall("parameters/*")}
    target = schema.get(given.get("TargetEntityType", ""))
    if control.get("indicationOfSubgrid") != "true" or target is None:
        raise bad_form("a list of rows names the table that it shows.")
    related = {
        each.collection(table.name)
        for each in target.columns.values()
        if each.kind == "lookup" and table.name in each.targets
    }
    if given.get("RelationshipName") not in related:
        raise bad_form(f"there is no relationship '{given.get('RelationshipName')}' with '{target.name}'.")
    view = given.get("ViewId", "")
    if not GUID.fullmatch(view) or not is_view(view.strip("{}").lower(), target.name):
        raise bad_form(f"there is no view {view} of '{target.name}'.")
