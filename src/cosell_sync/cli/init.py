"""``init``: a commented configuration after a few questions, or from ``--crm`` and ``--set`` where nobody can be asked."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from cosell_sync import settings
from cosell_sync.cli.common import show
from cosell_sync.errors import ConfigError
from cosell_sync.settings import CrmName, InvalidSettings
from cosell_sync.settings.keys import KeyPath, variable_name
from cosell_sync.settings.required import PLACEHOLDERS, mistake
from cosell_sync.settings.template import example, filled, parse_assignments


@dataclass(frozen=True)
class Question:
    """What a person is asked for one key. An empty answer leaves the example's value."""

    path: KeyPath
    text: str


_MICROSOFT: Final = (
    Question(("partner_center", "tenant_id"), "Directory (tenant) id of your Partner Center account"),
    Question(
        ("partner_center", "client_id"), "Application (client) id of the app registration that signs in there"
    ),
)
QUESTIONS: Final[Mapping[CrmName, tuple[Question, ...]]] = {
    "salesforce": (
        *_MICROSOFT,
        Question(("salesforce", "login_url"), "My Domain address, https://….my.salesforce.com"),
        Question(("salesforce", "consumer_key"), "Consumer key of the External Client App"),
        Question(
            ("salesforce", "consumer_secret_file"),
            "File that holds its consumer secret (empty: JWT or later)",
        ),
        Question(
            ("mapping", "default_owner"), "E-mail of the CRM user who owns deals without a colleague's name"
        ),
    ),
    "dynamics": (
        *_MICROSOFT,
        Question(("dynamics", "url"), "Address of the environment, https://….crm.dynamics.com"),
        Question(("dynamics", "tenant_id"), "Directory (tenant) id of the environment"),
        Question(("dynamics", "client_id"), "Application (client) id of its application user"),
        Question(
            ("dynamics", "client_secret_file"),
            "File that holds its client secret (empty: certificate or later)",
        ),
        Question(
            ("mapping", "default_owner"), "E-mail of the CRM user who owns deals without a colleague's name"
        ),
    ),
}


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.", metavar="PATH", show_default=False)],
    crm: Annotated[
        str | None,
        typer.Option(
            "--crm", help="salesforce or dynamics; asked for where it is not given.", show_default=False
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a key; may be repeated.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
) -> None:
    """Write a commented configuration after a few questions, or from --crm and --set.

    Example: cosell-sync init my.yaml --crm salesforce --set salesforce.login_url=https://acme.my.salesforce.com
    """
    given = parse_assignments(assignments or [])
    asking = sys.stdin.isatty() and sys.stderr.isatty()
    chosen = _crm(crm or given.pop(("crm",), ""), asking=asking)
    if path.exists() and not force:
        raise ConfigError(f"{path} exists", hint="give another PATH, or --force to write over it")
    values = dict(given)
    if asking:
        for question in QUESTIONS[chosen]:
            if question.path not in values and (answer := _answer(question)):
                values[question.path] = answer
    text = filled(example(chosen), values)
    left = _written(path, text)
    show(f"Wrote {path}.")
    if left:
        show("Still to be filled in there:\n" + "\n".join(f"- {each}" for each in left))
    show(f"Next: cosell-sync config check --config {path}")


def _crm(name: str, *, asking: bool) -> CrmName:
    if not name and asking:
        name = typer.prompt("CRM: salesforce or dynamics", default="salesforce", err=True)
    match name.strip().lower():
        case "salesforce" | "":
            return "salesforce"
        case "dynamics":
            return "dynamics"
    raise ConfigError("--crm takes salesforce or dynamics", hint="cosell-sync init PATH --crm dynamics")


def _answer(question: Question) -> str:
    """What a person answers, asked again while it cannot be right; empty: nothing."""
    while True:
        answer = str(typer.prompt(question.text, default="", show_default=False, err=True)).strip()
        if not answer or question.path[-1].endswith("_file"):
            return answer
        try:
            settings.load(None, {variable_name(question.path): answer})
        except InvalidSettings as error:
            typer.echo(f"  {error.problems[0].what}", err=True)
        else:
            if (wrong := mistake(question.path, answer)) is None:
                return answer
            typer.echo(f"  {'. '.join(wrong)}", err=True)


def _written(path: Path, text: str) -> list[str]:
    """Write the file, owner-only; returns what is still to be filled in. Nothing is written where a value cannot be right."""
    before = path.read_bytes() if path.exists() else None
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}",
            hint="give a PATH in a directory that exists and that you may write",
        ) from error
    try:
        settings.load(path, {})
    except InvalidSettings as error:
        missing = [problem for problem in error.problems if problem.key.endswith("_file")]
        if len(missing) == len(error.problems):
            return [f"{problem.key}: {problem.what}" for problem in missing] + _placeholders(text)
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
        raise
    return _placeholders(text)


def _placeholders(text: str) -> list[str]:
    """Lines of the file that still hold the example's value."""
    return [
        f"line {number}: {line.split('#')[0].strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if line.split(": ", 1)[-1].split("#")[0].strip() in PLACEHOLDERS
    ]
