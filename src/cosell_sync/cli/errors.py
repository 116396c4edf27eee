"""What the command line says about an error, to people or as JSON, and the exit code it stands for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from cosell_sync.errors import (
    AuthFailed,
    Broken,
    Busy,
    ConfigError,
    CosellError,
    Fenced,
    ForeignSystem,
    OutsideError,
    Surprise,
)
from cosell_sync.summary import NEEDS_A_PERSON, OUT_OF_REACH, WRONG_USAGE

USAGE: Final = "usage"
# By type, the more special first: the word of ``--json`` and the exit code.
_KINDS: Final[tuple[tuple[type[CosellError], str, int], ...]] = (
    (ForeignSystem, "foreign_system", WRONG_USAGE),
    (ConfigError, "configuration", WRONG_USAGE),
    (AuthFailed, "sign_in", OUT_OF_REACH),
    (OutsideError, "out_of_reach", OUT_OF_REACH),
    (Busy, "busy", OUT_OF_REACH),
    (Fenced, "lease_lost", OUT_OF_REACH),
    (Broken, "internal", OUT_OF_REACH),
    (Surprise, "surprise", NEEDS_A_PERSON),
)


@runtime_checkable
class UsageFault(Protocol):
    """An error of the command line itself, as the library raises it: an unknown option, a missing argument."""

    exit_code: int

    def format_message(self) -> str:
        """What is wrong, in a sentence."""


@dataclass(frozen=True)
class Told:
    """An error as it is told. ``code``: a word that scripts may rely on; ``hint``: the next step, empty where there is none."""

    message: str
    hint: str
    code: str
    exit_code: int
    label: str = "Error"


def told(error: CosellError) -> Told:
    """The error in words."""
    code, exit_code = next(
        ((word, code) for kind, word, code in _KINDS if isinstance(error, kind)), ("deal", NEEDS_A_PERSON)
    )
    message, label, hint = str(error), "Error", getattr(error, "hint", "")
    match error:
        case AuthFailed():
            detail = f" ({error.code})" if error.code not in message else ""
            message = f"{error.system} sign-in: {message}{detail}"
        case OutsideError() if "reached" not in message:
            detail = f" ({error.code})" if error.code else ""
            message = f"{error.system} cannot be reached{detail}: {message}"
        case Busy():
            hint = hint or "stop that process, or wait until it is done."
        case Surprise():
            label = "Stopped"
    return Told(message, hint, code, exit_code, label)


def explain(error: CosellError) -> int:
    """Write to stderr what is wrong and what to do next; returns the exit code."""
    what = told(error)
    lines = [f"{what.label}: {what.message}"]
    if what.hint:
        lines.append(f"Next: {what.hint}")
    sys.stderr.write("\n".join(lines) + "\n")
    return what.exit_code


def explain_as_json(error: CosellError | UsageFault) -> int:
    """Write the error to stdout as one JSON object, in the place of the result; returns the exit code.

    ``{"error": {"message", "hint", "code", "exit_code"}}``, with ``system`` where an outside system is the cause. On stdout,
    since a script that asked for JSON reads there, and stderr holds the log.
    """
    from cosell_sync.cli.common import show_json  # noqa: PLC0415 - only where JSON was asked for

    if isinstance(error, CosellError):
        what = told(error)
    else:
        what = Told(error.format_message(), "see --help of this command", USAGE, error.exit_code)
    shown = {
        "message": what.message,
        "hint": what.hint,
        "code": what.code,
        "exit_code": what.exit_code,
    }
    if isinstance(error, OutsideError):
        shown["system"] = error.system
    show_json({"error": shown})
    return what.exit_code
