"""What every block of the configuration file has in common: frozen values, no unknown keys, secrets that may stand in files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict


def _describe_secret_files(schema: dict[str, Any]) -> None:
    """Describe the ``_file`` form of each secret, which ``load`` resolves before the models see it."""
    properties = schema["properties"]
    for name in [name for name, value in properties.items() if _is_secret(value) or value.get("x-secret")]:
        properties[f"{name}_file"] = {"type": "string", "description": f"A file that holds {name}."}


def _is_secret(schema: Mapping[str, Any]) -> bool:
    return any(option.get("format") == "password" for option in (schema, *schema.get("anyOf", [])))


class Section(BaseModel):
    """One block of the file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        hide_input_in_errors=True,
        json_schema_extra=_describe_secret_files,
    )
