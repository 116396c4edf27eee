"""What the command line says about an error, and the exit code it stands for."""

from __future__ import annotations

import sys

from cosell_sync.errors import (
    AuthFailed,
    Broken,
    Busy,
    ConfigError,
    CosellError,
    Fenced,
    OutsideError,
    Surprise,
)
from cosell_sync.summary import NEEDS_A_PERSON, OUT_OF_REACH, WRONG_USAGE


def explain(error: CosellError) -> int:
    """Write to stderr what is wrong and what to do next; returns the exit code."""
    lines = [f"Error: {error}"]
    code = NEEDS_A_PERSON
    match error:
        case ConfigError():
            code = WRONG_USAGE
        case AuthFailed():
            detail = f" ({error.code})" if error.code not in str(error) else ""
            lines = [f"Error: {error.system} sign-in: {error}{detail}"]
            code = OUT_OF_REACH
        case OutsideError():
            detail = f" ({error.code})" if error.code else ""
            said = str(error)
            lines = [
                f"Error: {said if 'reached' in said else f'{error.system} cannot be reached{detail}: {said}'}"
            ]
            code = OUT_OF_REACH
        case Busy():
            lines.append("Next: stop that process, or wait until it is done.")
            code = OUT_OF_REACH
        case Fenced() | Broken():
            code = OUT_OF_REACH
        case Surprise():
            lines = [f"Stopped: {error}"]
        case _:
            pass
    hint = getattr(error, "hint", "")
    if hint:
        lines.append(f"Next: {hint}")
    sys.stderr.write("\n".join(lines) + "\n")
    return code
