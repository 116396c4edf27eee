"""``config check|show|schema``: the configuration, before anything is contacted."""

from __future__ import annotations

import typer

from cosell_sync import settings
from cosell_sync.cli.common import ConfigOption, JsonOption, show, show_json

app = typer.Typer(
    help="Validate the configuration, print it with secrets masked, or print its JSON Schema.",
    no_args_is_help=True,
)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Validate the configuration; contacts nothing.

    Example: cosell-sync config check --config my.yaml
    """
    loaded = settings.load(config)
    settings.plausible(loaded, "sync")
    named = f" --config {config}" if config else ""
    show(f"The configuration is valid (crm: {loaded.crm}). Next: cosell-sync doctor{named}")


@app.command(name="show")
def show_values(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the effective values, defaults included, with secrets masked.

    Example: cosell-sync config show --config my.yaml
    """
    values = settings.load(config).masked()
    if as_json:
        show_json(values)
    else:
        import yaml  # noqa: PLC0415 - `check` of variables alone reads no YAML

        show(yaml.safe_dump(values, sort_keys=False, allow_unicode=True).rstrip())


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration file, for editors.

    Example: cosell-sync config schema > cosell-sync.schema.json
    """
    show_json(settings.json_schema())
