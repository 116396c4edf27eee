"""``health``: whether the running daemon carries edits, asked of its listener; for container probes and people.

Only the standard library is loaded for the question, because a probe runs every few seconds.
"""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException
from typing import Annotated, Final

import typer

from cosell_sync import settings
from cosell_sync.cli.common import ConfigOption, JsonOption, show, show_json
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY

TIMEOUT: Final = 4.0  # seconds; a probe has five
# A listener on every address is asked on this machine.
_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 - replaced, not listened on


def health(
    config: ConfigOption = None,
    alive: Annotated[
        bool,
        typer.Option(
            "--alive", help="Ask only whether the process answers, also while it stands by or fails."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Ask the running daemon whether it carries edits: 0 ready, 1 not; with the reasons, those of single connections as well.

    Example: cosell-sync health --config my.yaml
    """
    host, port = settings.load(config).http.address
    host = _EVERYWHERE.get(host, host)
    ready, reasons = _asked(host, port, "/livez" if alive else "/readyz")
    if as_json:
        show_json({"ready": ready, "reasons": reasons})
    else:
        word = "alive" if alive else "ready" if ready else "not ready"
        show("\n".join((word, *(f"- {reason}" for reason in reasons))))
    raise typer.Exit(NEEDS_NOBODY if ready else NEEDS_A_PERSON)


def _asked(host: str, port: int, path: str) -> tuple[bool, list[str]]:
    """What the listener says; no answer is a reason as well. No proxy stands between a probe and its process."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    connection = HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = json.loads(answer.read(100_000))
        ready, reasons = (
            bool(said.get("ready", said.get("alive"))),
            [str(each) for each in said.get("reasons", ())],
        )
    except (OSError, HTTPException) as error:
        what = getattr(error, "strerror", None) or type(error).__name__
        return False, [
            f"nothing answers at {where} ({what}): start `cosell-sync run`, or correct http.listen"
        ]
    except (ValueError, AttributeError):
        return False, [f"what answers at {where} is no cosell-sync: correct http.listen"]
    finally:
        connection.close()
    return ready and answer.status == 200, reasons
