"""``config check|show|schema``: the configuration, before anything is contacted."""

from __future__ import annotations

import typer

from cosell_sync import settings
from cosell_sync.cli.common import ConfigOption, JsonOption, show, show_json
from cosell_sync.cli.lazy import CONNECTION

app = typer.Typer(
    help="Validate the configuration, print it with secrets masked, or print its JSON Schema.",
    no_args_is_help=True,
)


@app.command()
def check(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Validate the configuration; contacts nothing.

    Example: cosell-sync config check --config my.yaml
    """
    configuration = settings.Configuration(config)
    valid, refused = settings.check_all(configuration, "sync", settings.plausible)
    if refused:
        problems = [each for error in refused.values() for each in error.problems]
        raise settings.InvalidSettings(list(dict.fromkeys(problems)), configuration.origin)
    warnings = list(settings.shared_organizations(valid.values()))
    if as_json:
        show_json({"valid": True, "connections": list(valid), "warnings": warnings})
        return
    for warning in warnings:
        show(f"Warning: {warning}.")
    of, named = f" (crm: {configuration.shared.crm})", f" --config {config}" if config else ""
    if configuration.named:
        of, named = f" for {len(valid)} connections", f" --connection {configuration.names[0]}{named}"
    show(f"The configuration is valid{of}{configuration.origin.words()}. Next: cosell-sync doctor{named}")


@app.command(name="show")
def show_values(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Print the effective values, defaults included, with secrets masked.

    Example: cosell-sync config show --config my.yaml
    """
    configuration, name = settings.Configuration(config), CONNECTION.get()
    if configuration.named and name is None and settings.DEFAULT_CONNECTION not in configuration.names:
        values = {**configuration.shared.masked(), "connections": list(configuration.names)}
    else:
        values = configuration.settings(name).masked()
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
