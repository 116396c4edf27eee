"""Forms of our own: an additional main form of Opportunity, and one of the solutions' table; pure.

A form that exists is the customer's, and a layout cannot be merged into it without risk. So sellers receive a form beside theirs,
which they choose in the form selector. Ids are worked out from names, so that the form that `provision` makes and the one in the
solution file are the same.
https://learn.microsoft.com/power-apps/developer/model-driven-apps/form-xml-schema
https://learn.microsoft.com/power-apps/developer/model-driven-apps/customize-entity-forms
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, SubElement, tostring

from cosell_sync.crm.columns import (
    FORM_WORDS,
    PARENT_WORD,
    SOLUTION_COLUMNS,
    SOLUTION_LABEL,
    Column,
    ColumnKind,
)
from cosell_sync.crm.dynamics.install.schema import (
    OPPORTUNITY,
    PARENT,
    RELATIONSHIP,
    SOLUTION,
    SOLUTION_NAMES,
    Body,
    Labels,
    fetch,
    grid,
    identity,
)

MAIN: Final = 2  # type of a systemform
# What draws a column; the platform's own controls.
CONTROLS: Final[Mapping[str, str]] = {
    "String": "{4273EDBD-AC1D-40D3-9FB2-095C621B552D}",
    "Url": "{71716B6C-711E-476C-8AB8-5D11542BFB47}",
    "Memo": "{E0DECE4B-6FC8-4A8F-A065-082708572369}",
    "Boolean": "{67FAC785-CD58-4F9F-ABB3-4B7DDC6ED5ED}",
    "Picklist": "{3EF39988-22BB-4F0B-BBBE-64B5A3748AEE}",
    "Status": "{5D68B988-0661-4DB2-BC3E-17598AD3BE6C}",
    "DateTime": "{5B773807-9FB2-42DB-97C3-7A91EFF8ADFF}",
    "Money": "{533B9E00-756B-4312-95A0-DC888637AC78}",
    "Lookup": "{270BD3DB-D9AF-4782-9025-509E298DEC0A}",
}
SUBGRID: Final = "{E7A81278-8635-4D9E-8D4D-59480B391C5B}"
KINDS: Final[Mapping[ColumnKind, str]] = {
    ColumnKind.FLAG: "Boolean",
    ColumnKind.TEXT: "String",
    ColumnKind.LINK: "Url",
    ColumnKind.CHOICE: "Picklist",
    ColumnKind.LONG: "Memo",
    ColumnKind.MOMENT: "DateTime",
}
MEMO_ROWS: Final = 3
# Sales' own columns on the first tab: what draws each, and its English label where the environment tells none.
STOCK: Final[Mapping[str, tuple[str, str]]] = {
    "name": ("String", "Topic"),
    "parentaccountid": ("Lookup", "Account"),
    "parentcontactid": ("Lookup", "Contact"),
    "estimatedvalue": ("Money", "Est. Revenue"),
    "transactioncurrencyid": ("Lookup", "Currency"),
    "estimatedclosedate": ("DateTime", "Est. Close Date"),
    "statuscode": ("Status", "Status Reason"),
    "ownerid": ("Lookup", "Owner"),
    "description": ("Memo", "Description"),
}
FORM, _TAB, _HAPPENED, _ANSWER, _SHARE, _SERVICES = FORM_WORDS
SECTIONS: Final[Sequence[Sequence[tuple[str, Sequence[str]]]]] = (  # by column of the tab: heading, our names
    (
        (
            _HAPPENED,
            ("sync_state", "message", "status", "respond_by", "direction", "deal_type", "microsoft_status",
             "microsoft_id", "referral_link", "referral_id", "last_sync"),
        ),
        (_ANSWER, ("action", "reason", "reason_note")),
    ),
    (
        (_SHARE, ("sync", "consent", "visible", "help", "help_note", "notes", "favorite", "campaign_id")),
        (_SERVICES, ("marketplace_intent", "partner_role", "solution_area", "solution_play", "location")),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One column on a form. ``titles``: its label by language of Windows. ``kind``: of `CONTROLS`."""

    column: str
    kind: str
    titles: Mapping[int, str]
    read_only: bool = False


Section = tuple[str, Sequence[Cell]]


FORM_ID: Final = identity("form/opportunity")
SOLUTION_FORM_ID: Final = identity("form/cosell_solution")
SOLUTION_VIEW_ID: Final = identity(f"view/{SOLUTION_LABEL}s")


def opportunity_form(
    names: Mapping[str, str],
    columns: Mapping[str, Column],
    labels: Labels,
    *,
    titles: Mapping[str, Mapping[int, str]] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Body:
    """The row of the form of Opportunity.

    ``columns``: ours by our name. ``titles``: what the environment calls its own columns, by language; ``kinds``: what its columns
    are, where that is known, because an admin may have made one of another kind.
    """
    known = kinds or {}
    told = titles or {}
    general = [
        Cell(
            name,
            kind,
            {code: told.get(name, {}).get(code) or english for code in labels.languages},
            read_only=name == "statuscode",
        )
        for name, (kind, english) in STOCK.items()
    ]
    parts = [
        [
            (heading, [_cell(names[ours], columns[ours], labels, known) for ours in listed])
            for heading, listed in each
        ]
        for each in SECTIONS
    ]
    root = Element("form", showImage="false")
    tabs = SubElement(root, "tabs")
    _tab(tabs, "cosell_general", PARENT_WORD, [[(PARENT_WORD, general)]], labels)
    ours = _tab(tabs, "cosell_cosell", _TAB, parts, labels)
    _solutions(ours, labels)
    _shown_to_everyone(root)
    return _row(FORM_ID, FORM, OPPORTUNITY, root, labels)


def solution_form(labels: Labels) -> Body:
    """The row of the form of a solution, which the platform's own form shows without our columns."""
    cells = [
        Cell("cosell_name", "String", _titles("Name", labels)),
        Cell(PARENT, "Lookup", _titles(PARENT_WORD, labels)),
        *(
            _cell(SOLUTION_NAMES[ours], column, labels, {})
            for ours, column in SOLUTION_COLUMNS.items()
            if ours != "key"
        ),
    ]
    root = Element("form", showImage="false")
    _tab(SubElement(root, "tabs"), "cosell_solution", SOLUTION_LABEL, [[(SOLUTION_LABEL, cells)]], labels)
    _shown_to_everyone(root)
    return _row(SOLUTION_FORM_ID, SOLUTION_LABEL, SOLUTION, root, labels)


def solution_view(code: int, labels: Labels) -> Body:
    """The row of the view that the list of solutions shows. ``code``: the number of the solutions' table in this environment."""
    listed = ["cosell_name", *(SOLUTION_NAMES[ours] for ours in ("code", "name", "type"))]
    return {
        "savedqueryid": SOLUTION_VIEW_ID,
        "name": labels.words.in_language(f"{SOLUTION_LABEL}s", labels.languages[0]),
        "returnedtypecode": SOLUTION,
        "querytype": 0,
        "fetchxml": fetch(SOLUTION, listed, "cosell_name"),
        "layoutxml": grid(SOLUTION, code, listed, "cosell_name"),
    }


def _row(form_id: str, name: str, table: str, root: Element, labels: Labels) -> Body:
    return {
        "formid": form_id,
        "name": labels.words.in_language(name, labels.languages[0]),
        "objecttypecode": table,
        "type": MAIN,
        "formactivationstate": 1,
        "formxml": tostring(root, encoding="unicode"),
    }


def _titles(text: str, labels: Labels) -> Mapping[int, str]:
    return {code: labels.words.in_language(text, code) for code in labels.languages}


def _cell(name: str, column: Column, labels: Labels, known: Mapping[str, str]) -> Cell:
    kind = KINDS[column.kind]
    actual = known.get(name, "")
    if actual in CONTROLS and (kind, actual) != ("Url", "String"):
        kind = actual
    return Cell(name, kind, _titles(column.label, labels), read_only=not column.editable)


def _tab(
    tabs: Element, name: str, heading: str, columns: Sequence[Sequence[Section]], labels: Labels
) -> Element:
    """A tab with its columns side by side; its last column comes back."""
    tab = SubElement(
        tabs, "tab", name=name, id=_braced(name), expanded="true", showlabel="true", verticallayout="true", IsUserDefined="1"
    )  # fmt: skip
    _label(tab, _titles(heading, labels))
    parent = SubElement(tab, "columns")
    for sections in columns:
        column = SubElement(SubElement(parent, "column", width=f"{100 // len(columns)}%"), "sections")
        for number, (title, cells) in enumerate(sections):
            _section(column, f"{name}_{title}_{number}", _titles(title, labels), cells)
    return column


def _section(parent: Element, name: str, titles: Mapping[int, str], cells: Sequence[Cell]) -> Element:
    """A section with a row for each cell; its rows come back."""
    section = SubElement(
        parent, "section", name=_plain(name), id=_braced(name), showlabel="true", showbar="false", columns="1", IsUserDefined="1"
    )  # fmt: skip
    _label(section, titles)
    rows = SubElement(section, "rows")
    for each in cells:
        span = MEMO_ROWS if each.kind == "Memo" else 1
        cell = SubElement(
            SubElement(rows, "row"), "cell", id=_braced(f"{name}/{each.column}"), showlabel="true", rowspan=str(span)
        )  # fmt: skip
        _label(cell, each.titles)
        SubElement(
            cell, "control", id=each.column, classid=CONTROLS[each.kind], datafieldname=each.column,
            disabled=str(each.read_only).lower(),
        )  # fmt: skip
        for _ in range(span - 1):
            SubElement(rows, "row")
    return rows


def _solutions(parent: Element, labels: Labels) -> None:
    """The list of the deal's solutions, where a seller adds one."""
    heading = f"{SOLUTION_LABEL}s"
    rows = _section(parent, "cosell_solutions", _titles(heading, labels), ())
    cell = SubElement(
        SubElement(rows, "row"), "cell", id=_braced("cosell_solutions/cell"), showlabel="false", rowspan="4"
    )
    _label(cell, _titles(heading, labels))
    control = SubElement(cell, "control", id="cosell_solutions", classid=SUBGRID, indicationOfSubgrid="true")
    parameters = SubElement(control, "parameters")
    for name, value in (
        ("ViewId", f"{{{SOLUTION_VIEW_ID}}}"),
        ("IsUserView", "false"),
        ("RelationshipName", RELATIONSHIP),
        ("TargetEntityType", SOLUTION),
        ("AutoExpand", "Fixed"),
        ("RecordsPerPage", "4"),
        ("EnableQuickFind", "false"),
        ("EnableViewPicker", "false"),
    ):
        SubElement(parameters, name).text = value
    for _ in range(3):
        SubElement(rows, "row")


def _shown_to_everyone(root: Element) -> None:
    SubElement(SubElement(root, "DisplayConditions", FallbackForm="true"), "Everyone")


def _label(parent: Element, titles: Mapping[int, str]) -> None:
    labels = SubElement(parent, "labels")
    for code, text in titles.items():
        SubElement(labels, "label", description=text, languagecode=str(code))


def _braced(name: str) -> str:
    return f"{{{identity(f'part/{name}')}}}"


def _plain(name: str) -> str:
    return "".join(each if each.isalnum() else "_" for each in name.lower())
