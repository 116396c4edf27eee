"""Checks a view that a client posts: what it fetches, and how it shows that.

https://learn.microsoft.com/power-apps/developer/model-driven-apps/customize-entity-views
"""

from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree as ET

from cosell_sync.sandbox.dataverse import values
from cosell_sync.sandbox.dataverse.schema import Table
from cosell_sync.sandbox.dataverse.values import Refused

OPERATORS: Final = frozenset({"eq", "in", "null", "not-null", "next-x-days", "on-or-after", "on-or-before"})


def check(row: Mapping[str, object], schema: Mapping[str, Table]) -> None:
    """Raises Refused for a row of a view that the platform would not take."""
    table = schema.get(str(row.get("returnedtypecode")))
    if table is None or not row.get("name") or row.get("querytype") is None:
        raise Refused(values.BAD_ARGUMENT, "A view needs a name, a type and an entity that is there.")
    try:
        fetch = ET.fromstring(str(row.get("fetchxml")))  # noqa: S314  (a sandbox on loopback)
        grid = ET.fromstring(str(row.get("layoutxml")))  # noqa: S314
    except ET.ParseError:
        raise Refused(values.BAD_ARGUMENT, "The fetchxml or layoutxml is no XML.") from None
    _fetch(fetch, table)
    shown = {each.get("name") for each in fetch.findall("entity/attribute")}
    cells = [each.get("name") for each in grid.findall("row/cell")]
    line = grid.find("row")
    if grid.get("object") != str(table.code) or line is None or line.get("id") != table.key:
        raise Refused(values.BAD_ARGUMENT, f"The layout is not that of {table.name}.")
    if not cells or any(cell not in shown for cell in cells):
        raise Refused(values.BAD_ARGUMENT, "The layout shows a column that the query does not fetch.")


def _fetch(fetch: ET.Element, table: Table) -> None:
    entity = fetch.find("entity")
    if fetch.tag != "fetch" or entity is None or entity.get("name") != table.name:
        raise Refused(values.BAD_ARGUMENT, f"The query does not fetch {table.name}.")
    conditions = list(entity.iter("condition"))
    for each in (*entity.findall("attribute"), *entity.findall("order"), *conditions):
        name = each.get("name") or each.get("attribute") or ""
        if name not in table.columns:
            raise Refused("0x80041103", f"'{table.name}' entity doesn't contain attribute with Name = '{name}'.")  # fmt: skip
    for each in conditions:
        column = table.columns[str(each.get("attribute"))]
        given = [each.get("value") or "", *[child.text or "" for child in each.findall("value")]]
        if each.get("operator") not in OPERATORS:
            raise Refused(values.BAD_ARGUMENT, f"Invalid condition operator {each.get('operator')}.")
        for value in filter(None, given):
            if column.options and not (value.isdigit() and column.option(int(value))):
                raise Refused(values.BAD_ARGUMENT, f"{value} is no value of {column.name}.")
