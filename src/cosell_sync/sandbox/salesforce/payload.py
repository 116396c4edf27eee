"""Reads what a REST request carries: its body, records, flags and ids; refuses malformed ones."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cosell_sync.sandbox.salesforce.schema import Field
from cosell_sync.sandbox.salesforce.values import Refused, normal_id

MAX_ROWS = 200


@dataclass(frozen=True)
class Part:
    """One request below the version root: `path` in its decoded steps."""

    method: str
    path: tuple[str, ...]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any
    actor: str


def json_object(body: Any) -> dict[str, Any]:
    """The body as a JSON object."""
    if not isinstance(body, dict):
        raise Refused("JSON_PARSER_ERROR", "The HTTP entity body is required to be a JSON object")
    return body


def records_of(part: Part) -> list[dict[str, Any]]:
    """The records of a collection request."""
    records = json_object(part.body).get("records")
    if not isinstance(records, list) or not all(isinstance(each, dict) for each in records):
        raise Refused("JSON_PARSER_ERROR", "records must be a list of objects")
    check_count(len(records))
    return records


def check_count(count: int, most: int = MAX_ROWS) -> None:
    """Refuses more ids or records than a request may hold."""
    if count > most:
        raise Refused(
            "EXCEEDED_ID_LIMIT",
            f"record limit reached. cannot submit more than {most} records in this request",
        )


def is_true(value: object) -> bool:
    """Whether a flag is set, as JSON or as text."""
    return value is True or str(value).lower() == "true"


def has_id(record: Mapping[str, Any]) -> bool:
    """Whether a record names an id."""
    return any(name.lower() == "id" for name in record)


def key_value(record: Mapping[str, Any], each: Field) -> str | None:
    """The value of the external id in a record; None when it is empty."""
    value = next((value for name, value in record.items() if name.lower() == each.name.lower()), None)
    kept = str(value).strip() if value is not None else ""
    return kept or None


def checked_id(given: object) -> str:
    """The id in its eighteen character form; refused when malformed."""
    made = normal_id(given)
    if made is None:
        raise Refused("MALFORMED_ID", f"malformed id {given}")
    return made


def allows_duplicates(headers: Mapping[str, str]) -> bool:
    """Whether the caller accepts a save that a duplicate rule alerts about."""
    words = headers.get("sforce-duplicate-rule-header", "").replace(" ", "").lower()
    return "allowsave=true" in re.split(r"[;,]", words)


def row_refusal(refused: Refused) -> Refused:
    """Inside a collection an unknown id is a bad reference, not a missing page."""
    if refused.code == "NOT_FOUND":
        return Refused("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id")
    return refused
