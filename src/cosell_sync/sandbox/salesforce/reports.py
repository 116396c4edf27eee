"""Checks the reports, dashboards and folders of a deployment. Raises InvalidComponent.

A report is checked with the eyes of the user who deploys it: a custom field without field-level security for that user is no
column. Salesforce documents that nowhere; deployment tools open the fields to the deploying user before they deploy reports
(CumulusCI's flows do), and a fake that did not would hide it.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

from cosell_sync.sandbox.salesforce.custom_fields import InvalidComponent
from cosell_sync.sandbox.salesforce.package import Tree, many
from cosell_sync.sandbox.salesforce.schema import NUMBER_TYPES, Field, SObject

# Column codes of the standard report type Opportunity, as retrieved reports have them → what they show.
CODES: Final[Mapping[str, str]] = {
    "OPPORTUNITY_NAME": "Name",
    "STAGE_NAME": "StageName",
    "AMOUNT": "Amount",
    "CLOSE_DATE": "CloseDate",
    "CREATED_DATE": "CreatedDate",
    "ACCOUNT_NAME": "AccountId",
    "FULL_NAME": "OwnerId",
}
REPORT_TYPES: Final = frozenset({"Opportunity"})
PARAMS: Final[Mapping[str, Collection[str]]] = {
    "open": {"all", "open", "closed", "closedwon"},
    "probability": {"0", "10", "20", "30", "40", "50", "60", "70", "80", "90", "100"},
}
FORMATS: Final = {"Tabular": (0, 0), "Summary": (1, 3)}  # how many groupings: at most three
GRANULARITIES: Final = frozenset({"None", "Day", "Week", "Month", "Quarter", "Year"})
DATES: Final = frozenset({"date", "datetime"})
OPERATORS: Final[Mapping[str, Collection[str]]] = {
    "picklist": {"equals", "notEqual", "contains", "notContain", "startsWith", "lessThan", "greaterThan"},
    "boolean": {"equals", "notEqual"},
}
ANY: Final = frozenset({
    "equals", "notEqual", "lessThan", "greaterThan", "lessOrEqual", "greaterOrEqual", "contains", "notContain", "startsWith",
})  # fmt: skip
NAME: Final = 40  # characters of a report's name; of a description 255
DESCRIPTION: Final = 255
LEVELS: Final = frozenset({"View", "EditAllContents", "Manage"})
COLUMNS: Final = 12  # of a dashboard's grid
TILES: Final = 20
# Dashboards that show each viewer the viewer's own data, in Enterprise Edition.
# https://help.salesforce.com/s/articleView?id=analytics.dashboards_dynamic_about.htm
DYNAMIC: Final = 5
NEEDED_OF_A_DASHBOARD: Final = (
    "backgroundEndColor", "backgroundFadeDirection", "backgroundStartColor", "textColor", "title", "titleColor", "titleSize",
)  # fmt: skip
CHARTS: Final = frozenset({"Bar", "BarStacked", "Column", "ColumnStacked", "Donut", "Funnel", "Line", "Pie"})


def check_folder(tree: Tree) -> None:
    """Metadata API, Folder and FolderShare: a name, and with whom it is shared at which level."""
    if not tree.get("name"):
        raise InvalidComponent("Required field is missing: name")
    for each in many(tree, "folderShares"):
        for need in ("accessLevel", "sharedTo", "sharedToType"):
            if not each.get(need):
                raise InvalidComponent(f"Required field is missing: {need}")
        if each["accessLevel"] not in LEVELS:
            raise InvalidComponent(f"{each['accessLevel']} is not a valid value for FolderShareAccessLevel")
        if (each["sharedToType"], each["sharedTo"]) != ("Organization", "AllInternalUsers"):
            raise InvalidComponent(f"Could not find {each['sharedToType']}: {each['sharedTo']}")


def check_report(tree: Tree, seen: Mapping[str, SObject]) -> None:
    """``seen``: the objects with the fields that the deploying user sees."""
    for need in ("name", "format", "reportType"):
        if not tree.get(need):
            raise InvalidComponent(f"Required field is missing: {need}")
    _check_texts(tree, tree["name"])
    if tree["reportType"] not in REPORT_TYPES:
        raise InvalidComponent(f"invalid report type: {tree['reportType']}")
    shape = seen.get("Opportunity")
    if shape is None:
        raise InvalidComponent("reportType: the user has no access to opportunities")
    _check_columns(tree, shape)
    for each in many(tree.get("filter") or {}, "criteriaItems"):
        _check_filter(each, _column(shape, each["column"]))
    for each in many(tree, "params"):
        if each["value"] not in PARAMS.get(each["name"], ()):
            raise InvalidComponent(f"params: {each['name']} cannot be {each['value']}")
    frame = tree.get("timeFrameFilter")
    if not frame or _column(shape, frame["dateColumn"]).type not in DATES or not frame.get("interval"):
        raise InvalidComponent("timeFrameFilter needs a date and an interval")


def _check_columns(tree: Tree, shape: SObject) -> None:
    groups = [each["field"] for each in many(tree, "groupingsDown")]
    least, most = FORMATS.get(tree["format"], (1, 0))
    if not least <= len(groups) <= most:
        raise InvalidComponent(f"a report of format {tree['format']} cannot have {len(groups)} groupings")
    for each in many(tree, "groupingsDown"):
        _check_grouping(each, _column(shape, each["field"]))
    for each in many(tree, "columns"):
        if each["field"] in groups:
            raise InvalidComponent(f"{each['field']} is a grouping, and no column beside")
        column = _column(shape, each["field"])
        if each.get("aggregateTypes") and column.type not in NUMBER_TYPES:
            raise InvalidComponent(f"{each['field']} cannot be summarized")


def _check_texts(tree: Tree, name: str) -> None:
    if len(name) > NAME:
        raise InvalidComponent(f"Name: data value too large: {name} (max length={NAME})")
    if len(tree.get("description") or "") > DESCRIPTION:
        raise InvalidComponent(f"Description: data value too large (max length={DESCRIPTION})")


def _column(shape: SObject, code: str) -> Field:
    of, _, own = code.partition(".")
    name = CODES.get(code) or (own if of == shape.name and own.endswith("__c") else "")
    found = shape.fields.get(name)
    if found is None:
        raise InvalidComponent(f"columns-Invalid value specified: {code}")
    return found


def _check_grouping(given: Tree, column: Field) -> None:
    if column.long:
        raise InvalidComponent(f"{given['field']} cannot be grouped by")
    granularity = given.get("dateGranularity", "None")
    if granularity not in GRANULARITIES or (granularity != "None" and column.type not in DATES):
        raise InvalidComponent(f"{given['field']} has no dateGranularity {granularity}")
    if given.get("sortOrder") not in {"Asc", "Desc"}:
        raise InvalidComponent("Required field is missing: sortOrder")


def _check_filter(given: Tree, column: Field) -> None:
    if column.long or given.get("operator") not in OPERATORS.get(column.type, ANY):
        raise InvalidComponent(f"{given['column']} cannot be filtered by {given.get('operator')}")
    known = {*column.values, *column.labels}
    for value in (given.get("value") or "").split(","):
        if value and known and value not in known:
            raise InvalidComponent(f"Picklist value: {value} in the filter does not exist")


def check_dashboard(
    tree: Tree, reports: Mapping[str, Tree], usernames: Collection[str], dynamic: Collection[object]
) -> None:
    """``reports``: those of the org and of the deployment, by full name. ``dynamic``: dashboards of the org that show each viewer
    the viewer's own data.
    """
    for need in NEEDED_OF_A_DASHBOARD:
        if not tree.get(need):
            raise InvalidComponent(f"Required field is missing: {need}")
    _check_texts(tree, "")
    _check_viewer(tree, usernames, dynamic)
    grid = tree.get("dashboardGridLayout")
    if tree.get("isGridLayout") != "true" or not grid or grid.get("numberOfColumns") != str(COLUMNS):
        raise InvalidComponent("this sandbox takes dashboards of a grid of twelve columns only")
    tiles = many(grid, "dashboardGridComponents")
    if not 1 <= len(tiles) <= TILES:
        raise InvalidComponent(f"a dashboard has between 1 and {TILES} components")
    taken: set[tuple[int, int]] = set()
    for each in tiles:
        cells = _cells(each)
        if taken & cells or any(column >= COLUMNS for column, _ in cells):
            raise InvalidComponent("components overlap, or stand outside the grid")
        taken |= cells
        _check_tile(each["dashboardComponent"], reports)


def _check_viewer(tree: Tree, usernames: Collection[str], dynamic: Collection[object]) -> None:
    kind, running = tree.get("dashboardType"), tree.get("runningUser")
    if kind not in {"SpecifiedUser", "LoggedInUser"}:
        raise InvalidComponent(f"{kind} is not a valid value for the enum 'DashboardType'")
    if kind == "SpecifiedUser" and running not in usernames:
        raise InvalidComponent(f"runningUser-Invalid user: {running}")
    if kind == "LoggedInUser" and len(dynamic) >= DYNAMIC:
        raise InvalidComponent("You have reached the limit of dynamic dashboards for your organization.")


def _cells(tile: Tree) -> set[tuple[int, int]]:
    column, row, width, height = (
        int(tile[name]) for name in ("columnIndex", "rowIndex", "colSpan", "rowSpan")
    )
    return {(column + x, row + y) for x in range(width) for y in range(height)}


def _check_tile(tile: Tree, reports: Mapping[str, Tree]) -> None:
    report = reports.get(tile.get("report", ""))
    if report is None:
        raise InvalidComponent(f"report-Invalid report: {tile.get('report')}")
    groups: Any = [each["field"] for each in many(report, "groupingsDown")]
    wanted = many(tile, "groupingColumn")
    if tile.get("componentType") not in {"Metric", *CHARTS}:
        raise InvalidComponent(f"{tile.get('componentType')} is not taken by this sandbox")
    if tile["componentType"] in CHARTS and wanted != groups[: len(wanted) or 1]:
        raise InvalidComponent("groupingColumn: a chart is drawn by the groupings of its report")
    summed = {each["field"] for each in many(report, "columns") if each.get("aggregateTypes")}
    for each in many(tile, "chartSummary"):
        if each.get("column") not in {"RowCount", *summed}:
            raise InvalidComponent(f"chartSummary: the report does not summarize {each.get('column')}")
