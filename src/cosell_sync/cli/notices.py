"""``notices test``: one test message to each receiver."""

from __future__ import annotations

import typer

from cosell_sync.bootstrap.notices import notice_targets
from cosell_sync.catalogues import language
from cosell_sync.cli.common import ConfigOption, JsonOption, load, show, show_json
from cosell_sync.errors import ConfigError
from cosell_sync.notices.message import sample
from cosell_sync.notices.sender import NotSent, Sender
from cosell_sync.summary import NEEDS_NOBODY, OUT_OF_REACH

app = typer.Typer(
    help="Try the receivers of notices: Teams and Slack channels, and addresses of your own.",
    no_args_is_help=True,
)


@app.callback()
def _group() -> None:
    """Keeps ``test`` a command of its own."""


@app.command(name="test")
def try_out(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Send a test message to each receiver that is configured: 0 all took it, 3 one did not. Contacts nobody else.

    Example: cosell-sync notices test --config my.yaml
    """
    loaded = load(config)
    targets = notice_targets(loaded)
    if not targets:
        raise ConfigError("notices names no receiver", hint="give a url and a format there; docs/notices.md")
    message = sample(language(loaded.mapping.language))
    sender, results = Sender(), []
    for target in targets:
        try:
            status, code = sender.send(target, message), ""
        except NotSent as failure:
            status, code = failure.status or 0, failure.code
        results.append(
            {"target": target.name, "format": target.format, "status": status or None, "code": code}
        )
    sender.close()
    if as_json:
        show_json({"targets": results})
    for each in [] if as_json else results:
        answer = f"answered {each['status']}" if each["status"] else f"did not answer ({each['code']})"
        show(f"{'failed' if each['code'] else 'sent'}: {each['target']} ({each['format']}) {answer}")
    if any(each["code"] for each in results):
        if not as_json:
            show(
                "Next: check the url of that receiver: make a new one in Teams or Slack, or correct its host"
            )
        raise typer.Exit(OUT_OF_REACH)
    raise typer.Exit(NEEDS_NOBODY)
