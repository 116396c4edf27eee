"""``support-bundle``: what somebody who helps needs to know, in one file, without a secret and without anybody's data."""

from __future__ import annotations

import json
import platform
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cosell_sync.bootstrap.store import store_of
from cosell_sync.cli.common import ConfigOption, load, show
from cosell_sync.cli.doctor import checked
from cosell_sync.errors import ConfigError, CosellError
from cosell_sync.log import redact_text
from cosell_sync.settings import Settings, variables_set
from cosell_sync.store.migrate import NEWEST
from cosell_sync.store.sql import SqlStore

CYCLES: Final = 100


def support_bundle(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The zip to write.", show_default=False)],
    config: ConfigOption = None,
    doctor: Annotated[
        bool,
        typer.Option("--doctor/--no-doctor", help="Ask both systems, as `doctor` does, or contact nobody."),
    ] = True,
) -> None:
    """Write version, masked settings, doctor, last cycles and counts to one file, without secrets or people.

    Example: cosell-sync support-bundle cosell.zip --config my.yaml
    """
    loaded = load(config, "deals")
    if file.exists():
        raise ConfigError(f"{file} exists", hint="give another FILE")
    parts: dict[str, Any] = {"about.json": _about(loaded), "settings.json": loaded.masked()}
    store = store_of(loaded)
    try:
        parts |= _remembered(store)
    finally:
        store.close()
    if doctor:
        parts["doctor.json"] = _diagnosis(loaded)
    try:
        with zipfile.ZipFile(file, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, content in parts.items():
                archive.writestr(
                    name, json.dumps(_masked(content), indent=2, default=str, ensure_ascii=False)
                )
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}",
            hint="give a FILE in a directory that you may write",
        ) from error
    file.chmod(0o600)
    show(f"Wrote {', '.join(parts)} to {file}. Look into it before you send it.")


def _about(loaded: Settings) -> Mapping[str, Any]:
    return {
        "version": version("cosell-sync"),
        "python": sys.version,
        "platform": platform.platform(),
        "crm": loaded.crm,
        "store": "sqlite" if loaded.store.on_sqlite else "postgresql",
        "store_revision": NEWEST,
        "variables": variables_set(),  # names only
    }


def _remembered(store: SqlStore) -> Mapping[str, Any]:
    """Counts and the last cycles; of single deals nothing."""
    return {
        "counts.json": {
            "deals": [asdict(each) for each in store.counts()],
            "outlook": asdict(store.outlook()),
        },
        "cycles.json": [
            {"at": each.at, "exit_code": each.exit_code, **each.counts} for each in store.last_cycles(CYCLES)
        ],
    }


def _diagnosis(loaded: Settings) -> Any:
    try:
        rows, code = checked(loaded)
    except CosellError as error:
        return {"error": str(error)}
    return {"exit_code": code, "checks": [asdict(row) for row in rows]}


def _masked(content: Any) -> Any:
    """Every text without addresses, tokens and phone numbers: a second line of defence, as in the log."""
    match content:
        case str():
            return redact_text(content, phones=False)
        case Mapping():
            return {str(key): _masked(value) for key, value in content.items()}
        case list() | tuple():
            return [_masked(each) for each in content]
    return content
