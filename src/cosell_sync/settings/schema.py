"""The JSON Schema of the configuration file, for ``config schema`` and editors."""

from __future__ import annotations

from typing import Any

from cosell_sync.settings.defaults import FIELDS, OPTIONAL_FIELDS
from cosell_sync.settings.model import Settings


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
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema
