"""The solution file says what `provision` makes, and uses the elements of the published schema and no others.

https://learn.microsoft.com/dynamics365/customerengagement/on-premises/developer/customize-dev/customization-solutions-file-schema
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from served_dynamics import World

from cosell_sync.crm.dynamics.install import package
from cosell_sync.crm.dynamics.install.deploy import provision
from cosell_sync.sandbox.certificates import Certificates

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "config" / "dynamics" / "solution"
KINDS = {
    "nvarchar": {"string"}, "ntext": {"memo"}, "bit": {"boolean"}, "picklist": {"choice"}, "datetime": {"datetime"},
    "lookup": {"lookup"},
}  # fmt: skip
# What the schema knows inside an element, of what stands in ours.
KNOWN = {
    "attribute": {
        "Type", "Name", "LogicalName", "RequiredLevel", "DisplayMask", "ImeMode", "ValidForUpdateApi", "ValidForReadApi",
        "ValidForCreateApi", "IsCustomField", "IsAuditEnabled", "IsSecured", "IntroducedVersion", "IsCustomizable",
        "IsRenameable", "CanModifySearchSettings", "CanModifyRequirementLevelSettings", "CanModifyAdditionalSettings",
        "SourceType", "Format", "MaxLength", "CanChangeDateTimeBehavior", "Behavior", "LookupStyle", "LookupTypes",
        "AppDefaultValue", "optionset", "displaynames", "Descriptions",
    },
    "EntityKey": {"Name", "LogicalName", "IntroducedVersion", "IsCustomizable", "displaynames", "EntityKeyAttributes"},
    "systemform": {
        "formid", "IsCustomizable", "IntroducedVersion", "CanBeDeleted", "FormPresentation", "FormActivationState", "form",
        "LocalizedNames",
    },
    "EntityRelationship": {
        "EntityRelationshipType", "IntroducedVersion", "IsHierarchical", "IsCustomizable", "ReferencingAttributeName",
        "RelationshipDescription", "ReferencingEntityName", "ReferencedEntityName", "CascadeAssign", "CascadeDelete",
        "CascadeReparent", "CascadeShare", "CascadeUnshare", "IsValidForAdvancedFind", "EntityRelationshipRoles",
    },
}  # fmt: skip
# These stand in this order: the schema has a sequence there.
ORDERED = {
    "optionset": ["OptionSetType", "IsGlobal", "IntroducedVersion", "IsCustomizable", "displaynames", "options"],
    "EntityRelationshipRole": [
        "NavPaneDisplayOption", "NavPaneArea", "NavPaneOrder", "NavigationPropertyName", "RelationshipRoleType",
    ],
}  # fmt: skip
GUID = re.compile(r"\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}")


@pytest.fixture(scope="module")
def customizations() -> ET.Element:
    with zipfile.ZipFile(io.BytesIO(package.bundle())) as archive:
        assert sorted(archive.namelist()) == ["[Content_Types].xml", "customizations.xml", "solution.xml"]
        return ET.fromstring(archive.read("customizations.xml"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An environment that `provision` has set up."""
    certificates = Certificates()
    bundle = certificates.write(tmp_path_factory.mktemp("package") / "ca.pem")
    made = World(certificates, bundle, cosell_installed=False)
    made.server.start()
    provision(made.rest())
    yield made
    made.close()


def _entity(customizations: ET.Element, name: str) -> ET.Element:
    (found,) = (
        each
        for each in customizations.findall("Entities/Entity")
        if each.findtext("Name", "").lower() == name
    )
    return found


def _attributes(entity: ET.Element) -> Mapping[str, ET.Element]:
    return {
        each.findtext("LogicalName", ""): each
        for each in entity.iter("attribute")
        if each.find("LogicalName") is not None
    }


def _flat(xml: str) -> str:
    """Without the white space that makes it readable."""
    root = ET.fromstring(xml)
    for each in root.iter():
        each.tail = None
        each.text = (each.text or "").strip() or None
    return ET.tostring(root, encoding="unicode")


def test_the_files_are_those_in_the_solution_file() -> None:
    """Run the module `package` after a change."""
    assert {path.name: path.read_bytes() for path in FOLDER.iterdir()} == package.solution_files()


def test_the_file_is_the_same_every_time(tmp_path: Path) -> None:
    package.write(tmp_path / "one.zip")
    assert (tmp_path / "one.zip").read_bytes() == package.bundle()


def test_columns_are_those_that_provision_makes(customizations: ET.Element, world: World) -> None:
    for name in ("opportunity", "account", "cosell_solution"):
        listed = _attributes(_entity(customizations, name))
        made = {each.name: each for each in world.org._org.schema[name].columns.values() if each.custom}
        made.pop("cosell_solutionid", None)  # the key of our own table comes with it
        assert listed.keys() == made.keys()
        for column, each in made.items():
            told = listed[column]
            assert each.kind in KINDS[told.findtext("Type", "")], column
            if each.kind in {"string", "memo"}:
                assert told.findtext("MaxLength") == str(each.length), column
            if each.format.lower() == "url":
                assert told.findtext("Format") == "url"
            required = "required" if each.required == "ApplicationRequired" else "none"
            assert told.findtext("RequiredLevel") == required, column
            (label,) = told.findall("displaynames/displayname")
            assert label.get("description") == each.label


def test_choices_have_the_numbers_and_labels_that_provision_gives(
    customizations: ET.Element, world: World
) -> None:
    checked = 0
    for name in ("opportunity", "cosell_solution"):
        for column, told in _attributes(_entity(customizations, name)).items():
            if told.findtext("Type") != "picklist":
                continue
            listed = {
                int(each.get("value", "")): each.find("labels/label").get("description")  # type: ignore[union-attr]
                for each in told.iter("option")
            }
            made = world.org._org.schema[name].columns[column]
            assert listed == {each.value: each.label for each in made.options}, column
            checked += 1
    assert checked >= 8


def test_keys_and_the_relationship_are_those_that_provision_makes(
    customizations: ET.Element, world: World
) -> None:
    for name in ("opportunity", "cosell_solution"):
        listed = [
            (
                each.findtext("LogicalName"),
                tuple(one.text for one in each.findall("EntityKeyAttributes/AttributeName")),
            )
            for each in _entity(customizations, name).iter("EntityKey")
        ]
        assert listed == [(each.name, each.columns) for each in world.org._org.schema[name].keys]
    (relation,) = customizations.findall("EntityRelationships/EntityRelationship")
    lookup = world.org._org.schema["cosell_solution"].columns["cosell_opportunity"]
    assert relation.get("Name") == lookup.collection("opportunity")
    assert relation.findtext("ReferencingAttributeName") == lookup.name
    assert relation.findtext("CascadeDelete", "").lower() == lookup.on_delete


def test_views_and_forms_are_the_very_ones_that_provision_makes(
    customizations: ET.Element, world: World
) -> None:
    """Word for word and with the same ids, but for the number that the environment gave the solutions' table."""
    views = {row["savedqueryid"]: row for row in world.org.rows("savedquery")}
    listed = {each.findtext("savedqueryid", ""): each for each in customizations.iter("savedquery")}
    assert {each.strip("{}") for each in listed} == views.keys()
    for view_id, each in listed.items():
        row = views[view_id.strip("{}")]
        name, fetch, grid = (
            each.find(path) for path in ("LocalizedNames/LocalizedName", "fetchxml/fetch", "layoutxml/grid")
        )
        assert name is not None
        assert fetch is not None
        assert grid is not None
        assert name.get("description") == row["name"]
        assert _flat(ET.tostring(fetch, encoding="unicode")) == _flat(row["fetchxml"])
        drawn = _flat(ET.tostring(grid, encoding="unicode"))
        number = re.compile(r'object="\d+"')
        assert number.sub("", drawn) == number.sub("", _flat(row["layoutxml"]))
    forms = {row["formid"]: row for row in world.org.rows("systemform")}
    found = {
        each.findtext("formid", "").strip("{}"): each.find("form")
        for each in customizations.iter("systemform")
    }
    assert found.keys() == forms.keys()
    for form_id, form in found.items():
        assert form is not None
        # Labels of Sales' own columns are the environment's there, and English here.
        assert _flat(ET.tostring(form, encoding="unicode")) == _flat(forms[form_id]["formxml"])


def test_every_element_is_one_that_the_schema_knows(customizations: ET.Element) -> None:
    for tag, known in KNOWN.items():
        found = [each for each in customizations.iter(tag) if len(each)]
        assert found
        assert {child.tag for each in found for child in each} <= known
    for tag, order in ORDERED.items():
        for each in customizations.iter(tag):
            tags = [child.tag for child in each]
            assert tags == [name for name in order if name in tags], tag
    for tag in ("formid", "savedqueryid"):
        assert all(GUID.fullmatch(each.text or "") for each in customizations.iter(tag))
    for each in customizations.iter("attribute"):
        assert 1 <= len(each.get("PhysicalName", "")) <= 50 or each.get("name")


def test_the_manifest_takes_nothing_of_the_customers_tables(customizations: ET.Element) -> None:
    """Of Opportunity and Account only what stands in the file; a full table would bring its every column along."""
    root = ET.fromstring(package.solution_files()["solution.xml"])
    behaviors = {each.get("schemaName"): each.get("behavior") for each in root.iter("RootComponent")}
    assert behaviors == {"opportunity": "2", "account": "2", "cosell_solution": "0"}
    assert root.findtext("SolutionManifest/Managed") == "0"
    names = {
        each for name in ("opportunity", "account") for each in _attributes(_entity(customizations, name))
    }
    assert all(each.startswith("cosell_") for each in names)
