"""Our columns, keys, table, relationship, views and forms as an unmanaged solution file, for those who move customizations by import.

Every part is translated from the very body that `provision` posts, so the two cannot differ, and views and forms have the same ids:
an import over a provisioned environment doubles nothing. Change tracking of tables that are not ours, and the roles with their
assignment, stay with `provision`, which is run afterwards.

    python -m cosell_sync.crm.dynamics.install.package cosellsync.zip        the file to import
    python -m cosell_sync.crm.dynamics.install.package config/dynamics       its contents, to read and to compare

Elements are those of the schemas that Microsoft published for version 9.0, and of solutions exported since. No import was ever tried.
https://learn.microsoft.com/dynamics365/customerengagement/on-premises/developer/customize-dev/customization-solutions-file-schema
https://learn.microsoft.com/power-apps/developer/model-driven-apps/customization-xml-reference
"""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, fromstring, indent, tostring

from cosell_sync.crm.columns import DUNS_COLUMN, SOLUTION_COLUMNS, VIEWS, opportunity_columns
from cosell_sync.crm.dynamics.install import forms, schema
from cosell_sync.crm.dynamics.install.schema import OPPORTUNITY, SOLUTION, SOLUTION_NAMES, Body, Labels
from cosell_sync.crm.dynamics.org import ACCOUNTS, DEFAULT_NAMES, DUNS, OPPORTUNITIES, SOLUTIONS, TABLES
from cosell_sync.settings import value_lists

ENGLISH: Final = 1033
VERSION: Final = "1.0.0.0"
PLATFORM: Final = "9.2"
OPPORTUNITY_CODE: Final = 3  # the same in every environment; a custom table's is put right by the import
SOLUTION_CODE: Final = 10_500
FILES: Final = ("[Content_Types].xml", "customizations.xml", "solution.xml")
# As metadata calls a column's type → as a solution file does.
TYPES: Final[Mapping[str, str]] = {
    "String": "nvarchar",
    "Memo": "ntext",
    "Boolean": "bit",
    "Picklist": "picklist",
    "DateTime": "datetime",
    "Lookup": "lookup",
}
BEHAVIORS: Final = {"UserLocal": "1", "DateOnly": "2", "TimeZoneIndependent": "3"}
LEVELS: Final = {"None": "none", "ApplicationRequired": "required"}
_ON_ATTRIBUTES: Final = {
    "ImeMode": "auto",
    "ValidForUpdateApi": "1",
    "ValidForReadApi": "1",
    "ValidForCreateApi": "1",
    "IsCustomField": "1",
    "IsAuditEnabled": "1",
    "IsSecured": "0",
    "IntroducedVersion": VERSION,
    "IsCustomizable": "1",
    "IsRenameable": "1",
    "CanModifySearchSettings": "1",
    "CanModifyRequirementLevelSettings": "1",
    "CanModifyAdditionalSettings": "1",
    "SourceType": "0",
}
_ON_TABLE: Final = {
    "EntitySetName": SOLUTIONS,
    "IsDuplicateCheckSupported": "0",
    "IsBusinessProcessEnabled": "0",
    "IsConnectionsEnabled": "0",
    "OwnershipTypeMask": "UserOwned",
    "IsAuditEnabled": "0",
    "IsActivity": "0",
    "IsVisibleInMobile": "1",
    "IsVisibleInMobileClient": "1",
    "IntroducedVersion": VERSION,
    "IsCustomizable": "1",
    "IsRenameable": "1",
    "CanCreateAttributes": "1",
    "CanCreateForms": "1",
    "CanCreateViews": "1",
    "ChangeTrackingEnabled": "1",
    "HasRelatedNotes": "False",
}
_EMPTY: Final = ("Roles", "Workflows", "FieldSecurityProfiles", "Templates", "EntityMaps")


def solution_files() -> Mapping[str, bytes]:
    """Name → content of the files in the solution file, with default names and the lists that cosell-sync brings, in English."""
    labels = Labels((ENGLISH,))
    return dict(zip(FILES, (_content_types(), _customizations(labels), _manifest()), strict=True))


def bundle() -> bytes:
    """The solution file; the same bytes every time."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in solution_files().items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _content_types() -> bytes:
    root = Element("Types", xmlns="http://schemas.openxmlformats.org/package/2006/content-types")
    SubElement(root, "Default", Extension="xml", ContentType="application/octet-stream")
    return _written(root)


def _manifest() -> bytes:
    row, publisher = schema.solution(""), schema.publisher()
    root = _root()
    manifest = SubElement(root, "SolutionManifest")
    _texts(manifest, {"UniqueName": row["uniquename"]})
    _localized(manifest, "LocalizedNames", "LocalizedName", {ENGLISH: row["friendlyname"]})
    _localized(manifest, "Descriptions", "Description", {ENGLISH: row["description"]})
    _texts(manifest, {"Version": row["version"], "Managed": "0"})
    ours = SubElement(manifest, "Publisher")
    _texts(ours, {"UniqueName": publisher["uniquename"]})
    _localized(ours, "LocalizedNames", "LocalizedName", {ENGLISH: publisher["friendlyname"]})
    SubElement(ours, "Descriptions")
    _texts(
        ours,
        {
            "CustomizationPrefix": publisher["customizationprefix"],
            "CustomizationOptionValuePrefix": publisher["customizationoptionvalueprefix"],
        },
    )
    SubElement(ours, "Addresses")
    parts = SubElement(manifest, "RootComponents")
    # Of tables that are not ours, only what stands in the file: behavior 2 is a shell.
    for name, behavior in ((OPPORTUNITY, "2"), (TABLES[ACCOUNTS], "2"), (SOLUTION, "0")):
        SubElement(parts, "RootComponent", type="1", schemaName=name, behavior=behavior)
    SubElement(manifest, "MissingDependencies")
    return _written(root)


def _customizations(labels: Labels) -> bytes:
    ours = opportunity_columns(value_lists.choices(value_lists.shipped()))
    columns = {
        DEFAULT_NAMES[name]: schema.column(DEFAULT_NAMES[name], each, labels) for name, each in ours.items()
    }
    numbers = {
        (name, _english(option["Label"])): int(option["Value"])
        for name in ours
        for option in columns[DEFAULT_NAMES[name]].get("OptionSet", {}).get("Options", ())
    }
    views = [schema.view(each, DEFAULT_NAMES, numbers, OPPORTUNITY_CODE, labels) for each in VIEWS]
    table, relation = schema.table(labels), schema.relationship(labels)
    children = [schema.column(SOLUTION_NAMES[name], each, labels) for name, each in SOLUTION_COLUMNS.items()]
    root = _root()
    entities = SubElement(root, "Entities")
    form = forms.opportunity_form(DEFAULT_NAMES, ours, labels)
    key = schema.key(OPPORTUNITIES, DEFAULT_NAMES["referral_id"], labels)
    _entity(entities, "Opportunity", columns.values(), [form], views, key=key)
    _entity(entities, "Account", [schema.column(DUNS, DUNS_COLUMN, labels)], [], [])
    made = _entity(
        entities,
        SOLUTION,
        [*table["Attributes"], *children, relation["Lookup"]],
        [forms.solution_form(labels)],
        [forms.solution_view(SOLUTION_CODE, labels)],
        key=schema.key(SOLUTIONS, SOLUTION_NAMES["key"], labels),
        title=_english(table["DisplayName"]),
    )
    _localized(made, "LocalizedNames", "LocalizedName", _by_language(table["DisplayName"]), first=True)
    _localized(
        made,
        "LocalizedCollectionNames",
        "LocalizedCollectionName",
        _by_language(table["DisplayCollectionName"]),
    )
    _localized(made, "Descriptions", "Description", _by_language(table["Description"]))
    _texts(made, _ON_TABLE)
    for each in _EMPTY:
        SubElement(root, each)
    _relationship(SubElement(root, "EntityRelationships"), relation)
    for each in ("OrganizationSettings", "optionsets", "CustomControls", "EntityDataProviders"):
        SubElement(root, each)
    _texts(SubElement(root, "Languages"), {"Language": str(ENGLISH)})
    return _written(root)


def _entity(
    parent: Element,
    name: str,
    columns: Iterable[Body],
    main_forms: Sequence[Body],
    views: Sequence[Body],
    *,
    key: Body | None = None,
    title: str = "",
) -> Element:
    """A table with what is ours of it; the element of its own properties comes back."""
    made = SubElement(parent, "Entity")
    SubElement(made, "Name", LocalizedName=title or name, OriginalName=title or name).text = name
    about = SubElement(SubElement(made, "EntityInfo"), "entity", Name=name)
    attributes = SubElement(about, "attributes")
    for each in columns:
        _attribute(attributes, name.lower(), each)
    if key is not None:
        _key(about, key)
    if main_forms:
        listed = SubElement(SubElement(made, "FormXml"), "forms", type="main")
        for each in main_forms:
            _form(listed, each)
    if views:
        queries = SubElement(SubElement(made, "SavedQueries"), "savedqueries")
        for each in views:
            _view(queries, each)
    return about


def _attribute(parent: Element, table: str, body: Body) -> None:
    name, kind = str(body["SchemaName"]), str(body["AttributeType"])
    made = SubElement(parent, "attribute", PhysicalName=name)
    shown = "ValidForAdvancedFind|ValidForForm|ValidForGrid"
    required = LEVELS[body["RequiredLevel"]["Value"]]
    mask = f"PrimaryName|{shown}" if body.get("IsPrimaryName") else shown
    if required == "required":
        mask += "|RequiredForForm"
    _texts(made, {"Type": TYPES[kind], "Name": name, "LogicalName": name, "RequiredLevel": required})
    _texts(made, {"DisplayMask": mask, **_ON_ATTRIBUTES})
    if kind == "String":
        _texts(made, {"Format": body["FormatName"]["Value"].lower(), "MaxLength": body["MaxLength"]})
    elif kind == "Memo":
        _texts(made, {"Format": body["Format"].lower(), "MaxLength": body["MaxLength"]})
    elif kind == "DateTime":
        behavior = BEHAVIORS[body["DateTimeBehavior"]["Value"]]
        _texts(made, {"Format": "datetime", "CanChangeDateTimeBehavior": "1", "Behavior": behavior})
    elif kind == "Lookup":
        _texts(made, {"LookupStyle": "single"})
        SubElement(made, "LookupTypes")
    else:
        _option_set(made, f"{table}_{name}", kind, body)
    _localized(made, "displaynames", "displayname", _by_language(body["DisplayName"]))
    _localized(made, "Descriptions", "Description", _by_language(body["Description"]))


def _key(parent: Element, body: Body) -> None:
    made = SubElement(SubElement(parent, "EntityKeys"), "EntityKey")
    _texts(made, {"Name": body["SchemaName"], "LogicalName": body["SchemaName"]})
    _texts(made, {"IntroducedVersion": VERSION, "IsCustomizable": "1"})
    _localized(made, "displaynames", "displayname", _by_language(body["DisplayName"]))
    listed = SubElement(made, "EntityKeyAttributes")
    for each in body["KeyAttributes"]:
        _texts(listed, {"AttributeName": each})


def _option_set(parent: Element, name: str, kind: str, body: Body) -> None:
    given = body["OptionSet"]
    if kind == "Boolean":
        _texts(parent, {"AppDefaultValue": int(body["DefaultValue"])})
    made = SubElement(parent, "optionset", Name=name)
    _texts(
        made,
        {"OptionSetType": TYPES[kind], "IsGlobal": "0", "IntroducedVersion": VERSION, "IsCustomizable": "1"},
    )
    _localized(made, "displaynames", "displayname", _by_language(body["DisplayName"]))
    options = SubElement(made, "options")
    for each in given.get("Options") or (given["TrueOption"], given["FalseOption"]):
        option = SubElement(options, "option", value=str(each["Value"]), IsHidden="0")
        _localized(option, "labels", "label", _by_language(each["Label"]))


def _form(parent: Element, row: Body) -> None:
    made = SubElement(parent, "systemform")
    _texts(made, {"formid": f"{{{row['formid']}}}", "IntroducedVersion": VERSION})
    _texts(made, {"FormPresentation": "1", "FormActivationState": row["formactivationstate"]})
    made.append(_parsed(row["formxml"]))
    _texts(made, {"IsCustomizable": "1", "CanBeDeleted": "1"})
    _localized(made, "LocalizedNames", "LocalizedName", {ENGLISH: row["name"]})


def _view(parent: Element, row: Body) -> None:
    made = SubElement(parent, "savedquery")
    _texts(
        made,
        {
            "IsCustomizable": "1",
            "CanBeDeleted": "1",
            "isquickfindquery": "0",
            "isprivate": "0",
            "isdefault": "0",
        },
    )
    _texts(made, {"savedqueryid": f"{{{row['savedqueryid']}}}"})
    SubElement(made, "layoutxml").append(_parsed(row["layoutxml"]))
    _texts(made, {"querytype": row["querytype"]})
    SubElement(made, "fetchxml").append(_parsed(row["fetchxml"]))
    _texts(made, {"IntroducedVersion": VERSION})
    _localized(made, "LocalizedNames", "LocalizedName", {ENGLISH: row["name"]})


def _relationship(parent: Element, body: Body) -> None:
    cascades, lookup = body["CascadeConfiguration"], body["Lookup"]["SchemaName"]
    made = SubElement(parent, "EntityRelationship", Name=body["SchemaName"])
    _texts(
        made,
        {
            "EntityRelationshipType": "OneToMany",
            "IsCustomizable": "1",
            "IntroducedVersion": VERSION,
            "IsHierarchical": "0",
            "ReferencingEntityName": body["ReferencingEntity"],
            "ReferencedEntityName": "Opportunity",
            **{
                f"Cascade{each}": cascades[each]
                for each in ("Assign", "Delete", "Reparent", "Share", "Unshare")
            },
            "IsValidForAdvancedFind": "1",
            "ReferencingAttributeName": lookup,
        },
    )
    about = SubElement(made, "RelationshipDescription")
    _localized(about, "Descriptions", "Description", _by_language(body["Lookup"]["Description"]))
    roles, menu = SubElement(made, "EntityRelationshipRoles"), body["AssociatedMenuConfiguration"]
    shown = {
        "NavPaneDisplayOption": menu["Behavior"],
        "NavPaneArea": menu["Group"],
        "NavPaneOrder": menu["Order"],
    }
    _texts(
        SubElement(roles, "EntityRelationshipRole"),
        {**shown, "NavigationPropertyName": lookup, "RelationshipRoleType": "1"},
    )
    _texts(
        SubElement(roles, "EntityRelationshipRole"),
        {"NavigationPropertyName": body["SchemaName"], "RelationshipRoleType": "0"},
    )


# --- writing -------------------------------------------------------------------------------------------------------


def _root() -> Element:
    return Element(
        "ImportExportXml",
        {"version": f"{PLATFORM}.0.0", "SolutionPackageVersion": PLATFORM, "languagecode": str(ENGLISH), "generatedBy": "CrmLive"},
    )  # fmt: skip


def _texts(parent: Element, texts: Mapping[str, Any]) -> None:
    for name, text in texts.items():
        SubElement(parent, name).text = str(text)


def _localized(
    parent: Element, group: str, each: str, texts: Mapping[int, str], *, first: bool = False
) -> None:
    made = Element(group)
    parent.insert(0 if first else len(parent), made)
    for code, text in texts.items():
        SubElement(made, each, description=text, languagecode=str(code))


def _parsed(text: str) -> Element:
    return fromstring(text)  # noqa: S314 - written by us a moment ago


def _by_language(label: Body) -> Mapping[int, str]:
    return {each["LanguageCode"]: each["Label"] for each in label["LocalizedLabels"]}


def _english(label: Body) -> str:
    return _by_language(label)[ENGLISH]


def _written(root: Element) -> bytes:
    indent(root)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(root, encoding="unicode")}\n'.encode()


def write(target: Path) -> None:
    """The solution file where the target is called so, else its contents below that directory."""
    if target.suffix == ".zip":
        target.write_bytes(bundle())
        return
    folder = target / "solution"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in solution_files().items():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
