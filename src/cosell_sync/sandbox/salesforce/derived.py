"""Fields that the platform computes from others on every save: names, stages, forecasts, address codes."""

from decimal import ROUND_HALF_UP, Decimal

from cosell_sync.sandbox.salesforce.schema import SObject
from cosell_sync.sandbox.salesforce.standard_values import (
    CATEGORY_LABELS,
    COUNTRIES,
    STAGES,
    STATES,
)
from cosell_sync.sandbox.salesforce.store import Record, Store
from cosell_sync.sandbox.salesforce.values import Refused, Row

_STAGE = {stage.name: stage for stage in STAGES}


def derive(store: Store, shape: SObject, row: Record, changes: Record, before: Row | None) -> None:
    """Fills in the fields of ``row`` that the platform computes; ``before`` is None for a new row."""
    for kind in ("Billing", "Mailing"):
        if f"{kind}CountryCode" in shape.fields:
            _address_codes(kind, row, changes)
    if shape.name in {"User", "Contact", "Lead"}:
        row["Name"] = " ".join(part for part in (row.get("FirstName"), row.get("LastName")) if part)
    if shape.name == "Opportunity":
        _derive_opportunity(row, changes, before)
    if shape.name == "Task":
        row["IsClosed"] = row.get("Status") == "Completed"
        about = row.get("WhatId")
        deal = store.find("Opportunity", about) if about else None
        row["AccountId"] = deal["AccountId"] if deal else about if about and about.startswith("001") else None
    if shape.name == "OpportunityTeamMember":
        user = store.find("User", row["UserId"])
        row["Name"] = user["Name"] if user else None


def _derive_opportunity(row: Record, changes: Record, before: Row | None) -> None:
    stage = _STAGE.get(row["StageName"])
    if stage is not None:
        moved = before is None or before["StageName"] != row["StageName"]
        if moved and changes.get("Probability") is None:
            row["Probability"] = Decimal(stage.probability)
        if moved and changes.get("ForecastCategoryName") is None:
            row["ForecastCategoryName"] = CATEGORY_LABELS.get(stage.category, stage.category)
        row.update(IsClosed=stage.closed, IsWon=stage.won)
    names = {label: name for name, label in CATEGORY_LABELS.items()}
    row["ForecastCategory"] = names.get(row["ForecastCategoryName"], row["ForecastCategoryName"])
    if row["Amount"] is not None and row["Probability"] is not None:
        expected = row["Amount"] * row["Probability"] / 100
        row["ExpectedRevenue"] = expected.quantize(Decimal("0.01"), ROUND_HALF_UP)
    else:
        row["ExpectedRevenue"] = None
    closes = row["CloseDate"]
    row.update(FiscalYear=Decimal(closes.year), FiscalQuarter=Decimal((closes.month + 2) // 3))


def _address_codes(kind: str, row: Record, changes: Record) -> None:
    """With address picklists, text and code are two views of one value; whichever was sent sets the other."""
    country, code = f"{kind}Country", f"{kind}CountryCode"
    by_name = {name.casefold(): each for each, name in COUNTRIES.items()}
    if changes.get(code) is not None or (code in changes and country not in changes):
        row[country] = COUNTRIES.get(row[code]) if row[code] else None
    elif country in changes:
        name = (row[country] or "").casefold()
        if name and name not in by_name:
            raise Refused(
                "FIELD_INTEGRITY_EXCEPTION",
                "There's a problem with this country, even though it may appear correct. Please select a "
                "country/territory from the list of valid countries.",
                (country,),
            )
        row[code] = by_name.get(name)
    state, state_code = f"{kind}State", f"{kind}StateCode"
    states = STATES.get(row.get(code) or "", {})
    sent = state_code if changes.get(state_code) is not None else state
    given = row.get(sent)
    if given is None or (sent in changes and changes[sent] is None):
        row[state] = row[state_code] = None
        return
    found = (
        given if sent == state_code else {n.casefold(): c for c, n in states.items()}.get(given.casefold())
    )
    if row.get(code) is None:
        raise Refused(
            "FIELD_INTEGRITY_EXCEPTION",
            f"A country/territory must be specified before specifying a state value for field: {kind} State/Province",
            (state,),
        )
    if found not in states:
        raise Refused(
            "FIELD_INTEGRITY_EXCEPTION",
            "There's a problem with this state, even though it may appear correct. Please select a state from "
            "the list of valid states.",
            (state,),
        )
    row[state_code], row[state] = found, states[found]
