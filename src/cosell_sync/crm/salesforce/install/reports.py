"""Reports on co-sell deals, a dashboard of them, and the folders of both, as data.

They are deployed after everything else, the dashboard last. A report is checked with the eyes of the user who deploys it, who
sees our fields only with one of our permission sets; and an edition may have no place left for a dashboard of this kind. Neither
may hold back the fields that the daemon needs.

Columns of the standard report type Opportunity have codes of their own; a custom field is `Opportunity.<field>`. The codes below
are those of reports that people retrieved from their orgs; Salesforce publishes no list of them.
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_report.htm
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_dashboard.htm
https://developer.salesforce.com/docs/atlas.en-us.api_meta.meta/api_meta/meta_foldershare.htm
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cosell_sync.core.deal import State, SyncState
from cosell_sync.crm.salesforce.install.schema import Body, Component
from cosell_sync.crm.salesforce.org import DEFAULT_NAMES, OPPORTUNITY
from cosell_sync.crm.words import ENGLISH_WORDS, Words

FOLDER: Final = "Cosell"
TITLE: Final = "Microsoft co-sell"
DASHBOARD: Final = "Cosell_Deals"
CODES: Final[Mapping[str, str]] = {
    "name": "OPPORTUNITY_NAME",
    "account": "ACCOUNT_NAME",
    "owner": "FULL_NAME",
    "value": "AMOUNT",
    "close_date": "CLOSE_DATE",
}


@dataclass(frozen=True)
class Report:
    """Opportunities in groups. ``where``: our name and the values that it may have; none means any. ``summed``: our name of a
    column whose sum each group shows. ``by_day``: whether the groups are days.
    """

    name: str
    label: str
    description: str
    columns: tuple[str, ...]
    groups: tuple[str, ...]
    where: tuple[str, tuple[str, ...]]
    summed: str = ""
    by_day: bool = False


@dataclass(frozen=True)
class Tile:
    """One component of the dashboard: what it draws of which report. ``place``: column, row, width, height; twelve columns."""

    kind: str
    report: str
    place: tuple[int, int, int, int]


REPORTS: Final = (
    Report(
        "Cosell_Unanswered",
        "Co-sell: Unanswered",
        "Deals from Microsoft that wait for an answer, by the day on which they expire.",
        ("name", "account", "owner", "value", "help"),
        ("respond_by",),
        ("status", (State.RECEIVED,)),
        summed="value",
        by_day=True,
    ),
    Report(
        "Cosell_Needs_Attention",
        "Co-sell: Needs attention",
        "Deals on which a person has to act; the message says how.",
        ("name", "account", "owner", "status", "message", "last_sync"),
        ("sync_state",),
        ("sync_state", (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT)),
    ),
    Report(
        "Cosell_Won_Lost",
        "Co-sell: Won and lost by direction",
        "Closed deals and their value, by who brought them.",
        ("name", "account", "owner", "value", "close_date", "reason"),
        ("direction", "status"),
        ("status", (State.WON, State.LOST)),
        summed="value",
    ),
    Report(
        "Cosell_Sync_State",
        "Co-sell: Sync state",
        "Every co-sell deal, by whether it is in sync.",
        ("name", "account", "owner", "direction", "status", "last_sync"),
        ("sync_state",),
        ("sync_state", ()),
    ),
)
TILES: Final = (
    Tile("Metric", "Cosell_Unanswered", (0, 0, 3, 5)),
    Tile("Column", "Cosell_Unanswered", (3, 0, 9, 8)),
    Tile("Metric", "Cosell_Needs_Attention", (0, 5, 3, 5)),
    Tile("Donut", "Cosell_Sync_State", (3, 8, 4, 8)),
    Tile("BarStacked", "Cosell_Won_Lost", (7, 8, 5, 8)),
)
WORDS: Final = (TITLE, *(each.label for each in REPORTS), *(each.description for each in REPORTS))


def components(names: Mapping[str, str] | None = None, words: Words = ENGLISH_WORDS) -> tuple[Component, ...]:
    """The folders, the reports and the dashboard, for the field names in use and in the language of the sellers."""
    return tuple(_components({**DEFAULT_NAMES, **(names or {})}, words))


def _components(named: Mapping[str, str], words: Words) -> Iterator[Component]:
    yield Component("ReportFolder", FOLDER, _folder(words))
    for each in REPORTS:
        yield Component("Report", f"{FOLDER}/{each.name}", _report(each, named, words))
    yield Component("DashboardFolder", FOLDER, _folder(words))
    yield Component("Dashboard", f"{FOLDER}/{DASHBOARD}", _dashboard(named, words))


def _folder(words: Words) -> Body:
    """Seen by every internal user, as the list views are; the rows are still those that each may see."""
    share = {"accessLevel": "View", "sharedTo": "AllInternalUsers", "sharedToType": "Organization"}
    return {"name": words(TITLE), "folderShares": share}


def _code(ours: str, named: Mapping[str, str]) -> str:
    return CODES.get(ours) or f"{OPPORTUNITY}.{named[ours]}"


def _report(report: Report, named: Mapping[str, str], words: Words) -> Body:
    columns: list[dict[str, Any]] = [{"field": _code(ours, named)} for ours in report.columns]
    for ours, column in zip(report.columns, columns, strict=True):
        if ours == report.summed:
            column["aggregateTypes"] = "Sum"
    ours, values = report.where
    # Whether a filter compares a picklist with its values or with their labels is documented nowhere: it names both.
    wanted = dict.fromkeys(text for value in values for text in (value, words(value)))
    return {
        "name": words(report.label),
        "description": words(report.description),
        "reportType": OPPORTUNITY,
        "format": "Summary",
        "scope": "organization",
        "showDetails": True,
        "showGrandTotal": True,
        "showSubTotals": True,
        "columns": columns,
        "groupingsDown": [
            {
                "field": _code(each, named),
                "sortOrder": "Asc",
                "dateGranularity": "Day" if report.by_day else "None",
            }
            for each in report.groups
        ],
        "filter": {
            "criteriaItems": {
                "column": _code(ours, named),
                "operator": "equals" if values else "notEqual",
                "value": ",".join(wanted),
            }
        },
        "params": [{"name": "open", "value": "all"}, {"name": "probability", "value": "0"}],
        "timeFrameFilter": {"dateColumn": CODES["close_date"], "interval": "INTERVAL_CUSTOM"},  # of any time
    }


def _dashboard(named: Mapping[str, str], words: Words) -> Body:
    """Shown to each viewer with that viewer's rights; a fixed running user would show everybody's deals to everybody."""
    white, black = "#FFFFFF", "#000000"
    return {
        "title": words(TITLE),
        "dashboardType": "LoggedInUser",
        "isGridLayout": True,
        "dashboardGridLayout": {
            "dashboardGridComponents": [_tile(each, named, words) for each in TILES],
            "numberOfColumns": 12,
            "rowHeight": 36,
        },
        "backgroundStartColor": white,
        "backgroundEndColor": white,
        "backgroundFadeDirection": "Diagonal",
        "chartTheme": "light",
        "colorPalette": "unity",
        "dashboardChartTheme": "light",
        "dashboardColorPalette": "unity",
        "textColor": black,
        "titleColor": black,
        "titleSize": 12,
    }


def _tile(tile: Tile, named: Mapping[str, str], words: Words) -> Body:
    (report,) = (each for each in REPORTS if each.name == tile.report)
    body: dict[str, Any] = {
        "autoselectColumnsFromReport": False,
        "componentType": tile.kind,
        "decimalPrecision": -1,
        "displayUnits": "Auto",
        "header": words(report.label),
        "report": f"{FOLDER}/{report.name}",
    }
    summary = {"column": "RowCount"}
    if tile.kind == "Metric":
        ink = "#16325C"
        body |= {f"indicator{each}Color": ink for each in ("High", "Low", "Middle")}
        body |= {"chartSummary": summary, "showRange": False}
    else:
        body |= {
            "chartAxisRange": "Auto",
            "chartSummary": {"axisBinding": "y", **summary},
            "drillEnabled": False,
            "drillToDetailEnabled": False,
            "enableHover": True,
            "expandOthers": False,
            "groupingColumn": [_code(each, named) for each in report.groups],
            "legendPosition": "Bottom",
            "showPercentage": False,
            "showTotal": tile.kind == "Donut",
            "showValues": True,
            "sortBy": "RowLabelAscending",
            "useReportChart": False,
        }
    column, row, width, height = tile.place
    return {
        "dashboardComponent": body,
        "columnIndex": column,
        "rowIndex": row,
        "colSpan": width,
        "rowSpan": height,
    }
