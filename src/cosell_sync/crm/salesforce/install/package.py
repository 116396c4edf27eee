"""Components as files: Salesforce's source format for `sf project deploy`, or one zip for the Metadata API.

Both are written from the same `Component` values, so the files under `config/salesforce/` and what `provision` sends cannot
differ. After a change of `schema`, write the files anew:

    python -m cosell_sync.crm.salesforce.install.package config/salesforce

The record-page panel is not generated: its one source is `config/salesforce/force-app/main/default/lwc/cosellPanel`. A wheel
carries these files beside this module (`force-include` in pyproject.toml); in a checkout they are read from `config/`.

What an uninstall deletes is written beside them, from the same components.

In source format every component has its own file. In the zip, the components of an object are in that object's file, and
`package.xml` lists those that are meant, so that a file named Opportunity changes nothing else there.
A folder of reports is listed in `package.xml` among the reports, and what it is stands in `reports/<folder>-meta.xml`.
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/file_based_zip_file.htm
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_folder.htm
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_deploy_deleting_files.htm
"""

from __future__ import annotations

import io
import json
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from xml.etree.ElementTree import Element, SubElement, indent, tostring
from xml.sax.saxutils import quoteattr

from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS, PANEL_WORDS
from cosell_sync.crm.salesforce.install import reports
from cosell_sync.crm.salesforce.install.schema import PANEL, Component, components
from cosell_sync.crm.salesforce.org import DEFAULT_NAMES
from cosell_sync.crm.words import ENGLISH_WORDS, Words

NAMESPACE: Final = "http://soap.sforce.com/2006/04/metadata"
VERSION: Final = "66.0"
SOURCE: Final = "force-app/main/default"
REPORTS: Final = "reports/main/default"  # a package directory of its own, because it is deployed on its own
UNINSTALL: Final = "uninstall"

# Type → folder and suffix in source format; inside an object's folder where the type belongs to one.
PLACES: Final[Mapping[str, tuple[str, str]]] = {
    "CustomField": ("fields", "field"),
    "ValidationRule": ("validationRules", "validationRule"),
    "ListView": ("listViews", "listView"),
    "CompactLayout": ("compactLayouts", "compactLayout"),
    "PermissionSet": ("permissionsets", "permissionset"),
    "QuickAction": ("quickActions", "quickAction"),
    "Report": ("reports", "report"),
    "ReportFolder": ("reports", "reportFolder"),
    "Dashboard": ("dashboards", "dashboard"),
    "DashboardFolder": ("dashboards", "dashboardFolder"),
}
# Type → element inside an object's file of the zip.
PARTS: Final = {
    "CustomField": "fields",
    "ValidationRule": "validationRules",
    "ListView": "listViews",
    "CompactLayout": "compactLayouts",
}
FOLDERS: Final = {"ReportFolder": "Report", "DashboardFolder": "Dashboard"}  # listed among what they hold
# What is deleted, in this order: nothing that is still named by something that stays.
DELETED: Final = (
    "Dashboard",
    "DashboardFolder",
    "Report",
    "ReportFolder",
    "QuickAction",
    "CompactLayout",
    "ListView",
    "ValidationRule",
    "LightningComponentBundle",
    "PermissionSet",
    "CustomField",
    "CustomObject",
)
_PANEL_FIELD: Final = re.compile(r"(@salesforce/schema/Opportunity\.)(\w+)")


def everything() -> tuple[Component, ...]:
    """What is made in an org with the default names, in English."""
    return (*components(), *reports.components())


def source_files(wanted: Sequence[Component], names: Mapping[str, str] | None = None) -> Mapping[str, bytes]:
    """Path → content, the whole sfdx project."""
    made = {
        "sfdx-project.json": _project(),
        "manifest/package.xml": manifest(wanted),
        f"{UNINSTALL}/package.xml": manifest(()),
        f"{UNINSTALL}/destructiveChanges.xml": destructive_changes(wanted),
    }
    for each in wanted:
        if each.type == "LightningComponentBundle":
            made |= {f"{SOURCE}/lwc/{PANEL}/{name}": content for name, content in panel(names).items()}
        elif each.type == "CustomObject":
            made[f"{SOURCE}/objects/{each.name}/{each.name}.object-meta.xml"] = _document(
                each.type, each.body
            )
        else:
            folder, suffix = PLACES[each.type]
            part = each.type in PARTS
            within = f"objects/{each.object}/{folder}" if part else folder
            body = {"fullName": each.own_name, **each.body} if part else each.body
            source = REPORTS if folder in {"reports", "dashboards"} else SOURCE
            name = each.own_name if part else each.name
            made[f"{source}/{within}/{name}.{suffix}-meta.xml"] = _document(each.type, body)
    return made


def bundle(
    wanted: Sequence[Component],
    names: Mapping[str, str] | None = None,
    version: str = VERSION,
    words: Words = ENGLISH_WORDS,
) -> bytes:
    """The zip that a deployment takes. ``words``: for the panel."""
    objects: dict[str, dict[str, Any]] = {}
    made: dict[str, bytes] = {}
    for each in wanted:
        if each.type == "LightningComponentBundle":
            made |= {f"lwc/{PANEL}/{name}": content for name, content in panel(names, words).items()}
        elif each.type == "CustomObject":
            objects.setdefault(each.name, {}).update(each.body)
        elif each.type in PARTS:
            parts = objects.setdefault(each.object, {}).setdefault(PARTS[each.type], [])
            parts.append({"fullName": each.own_name, **each.body})
        else:
            folder, suffix = PLACES[each.type]
            path = f"{each.name}-meta.xml" if each.type in FOLDERS else f"{each.name}.{suffix}"
            made[f"{folder}/{path}"] = _document(each.type, each.body)
    made |= {f"objects/{name}.object": _document("CustomObject", body) for name, body in objects.items()}
    made["package.xml"] = manifest(wanted, version)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(made):
            archive.writestr(path, made[path])
    return packed.getvalue()


def manifest(wanted: Sequence[Component], version: str = VERSION) -> bytes:
    """The ``package.xml`` that lists these components."""
    types: dict[str, list[str]] = {}
    for each in wanted:
        types.setdefault(FOLDERS.get(each.type, each.type), []).append(each.name)
    listed = [{"members": sorted(names), "name": kind} for kind, names in sorted(types.items())]
    return _document("Package", {"types": listed, "version": version})


def told_as(each: Component) -> str:
    """The component as a deployment's result names it."""
    return f"{FOLDERS.get(each.type, each.type)} {each.name}"


def destructive_changes(wanted: Sequence[Component]) -> bytes:
    """The manifest that deletes these components. Fields of an object that is deleted go with it and are not named."""
    gone = {each.name for each in wanted if each.type == "CustomObject"}
    types: dict[str, list[str]] = {}
    for kind in DELETED:
        names = sorted(each.name for each in wanted if each.type == kind and each.object not in gone)
        if names:
            types.setdefault(FOLDERS.get(kind, kind), []).extend(names)
    listed = [{"members": each, "name": kind} for kind, each in types.items()]
    return _document("Package", {"types": listed, "version": VERSION})


def panel(names: Mapping[str, str] | None = None, words: Words = ENGLISH_WORDS) -> Mapping[str, bytes]:
    """The panel's files by name, with the field names in use and its few words in the language of the sellers."""
    renamed = {
        DEFAULT_NAMES[ours]: names[ours]
        for ours in OPPORTUNITY_COLUMNS
        if names is not None and ours in names
    }
    made: dict[str, bytes] = {}
    for each in sorted(panel_folder().iterdir()):
        text = each.read_text(encoding="utf-8")
        text = _PANEL_FIELD.sub(lambda found: found[1] + renamed.get(found[2], found[2]), text)
        for word in PANEL_WORDS:
            text = text.replace(
                f'"{word}"',
                quoteattr(words(word), {'"': "&quot;"})
                if each.suffix == ".html"
                else json.dumps(words(word), ensure_ascii=False),
            )
        made[each.name] = text.encode()
    return made


def panel_folder() -> Path:
    """Where the panel's files are: beside this module in an installed wheel, under ``config/`` in a checkout."""
    packed = Path(__file__).with_name(PANEL)
    return (
        packed
        if packed.is_dir()
        else Path(__file__).parents[5] / "config/salesforce" / SOURCE / "lwc" / PANEL
    )


def _project() -> bytes:
    project = {
        "packageDirectories": [{"path": "force-app", "default": True}, {"path": "reports"}],
        "name": "cosell-sync",
        "namespace": "",
        "sourceApiVersion": VERSION,
    }
    return (json.dumps(project, indent=2) + "\n").encode()


def _document(kind: str, body: Mapping[str, Any]) -> bytes:
    root = Element(kind, xmlns=NAMESPACE)
    _fill(root, body)
    indent(root, "    ")
    text = tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()


def _fill(parent: Element, body: Mapping[str, Any]) -> None:
    """Children by name, the full name first, as Salesforce's own tools write them."""
    for name in sorted(body, key=lambda each: (each != "fullName", each)):
        value = body[name]
        for each in value if isinstance(value, list) else [value]:
            child = SubElement(parent, name)
            if isinstance(each, Mapping):
                _fill(child, each)
            else:
                child.text = str(each).lower() if isinstance(each, bool) else str(each)


def write(directory: Path) -> None:
    """Write the project into that directory; remove source files that are no part of it."""
    wanted = source_files(everything())
    for stale in (*(directory / "force-app").rglob("*"), *(directory / "reports").rglob("*")):
        if stale.is_file() and stale.relative_to(directory).as_posix() not in wanted:
            stale.unlink()
    for path, content in wanted.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
