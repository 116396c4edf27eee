"""The JSON Schema of the configuration file, for ``config schema`` and editors."""

from __future__ import annotations

from typing import Any

from cosell_sync.settings.defaults import FIELDS, OPTIONAL_FIELDS
from cosell_sync.settings.keys import CONNECTIONS, SHARED
from cosell_sync.settings.model import Settings
from cosell_sync.settings.values import CONNECTION_NAME, LONGEST_NAME


def json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the file, the ``_file`` form of each secret included."""
    schema = Settings.model_json_schema(mode="validation")
    definitions = schema["$defs"]
    # A file may give rules and stages in part; the rest comes from the defaults.
    for name in ("FieldRule", "Stages"):
        definitions[name].pop("required", None)
    definitions["NoticeSettings"]["required"] = ["format"]  # the url may stand in a file
    fields = definitions["MappingSettings"]["properties"]["fields"]
    rule = {"anyOf": [{"type": "string", "minLength": 1}, {"$ref": "#/$defs/FieldRule"}]}
    fields.pop("default", None)
    fields |= {"properties": dict.fromkeys((*FIELDS, *OPTIONAL_FIELDS), rule), "additionalProperties": False}
    schema["properties"][CONNECTIONS] = _connections(schema["properties"])
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _connections(sections: dict[str, Any]) -> dict[str, Any]:
    """The map of connections, each with the sections of the top level that may be its own."""
    own = {name: section for name, section in sections.items() if name not in SHARED}
    connection = {"type": ["object", "null"], "properties": own, "additionalProperties": False}
    return {
        "type": "object",
        "description": "Several pairs of a Partner Center account and a CRM, by name; the top level is each one's default.",
        "propertyNames": {"pattern": f"^{CONNECTION_NAME}$", "maxLength": LONGEST_NAME},
        "additionalProperties": connection,
    }
