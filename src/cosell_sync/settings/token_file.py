"""The token of the console, in a file of its own (``console.token_file``) that is read anew each time, so that it can be changed
while the program runs.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

SHORTEST: Final = 16  # characters, as of a key of the store
LONGEST: Final = 1024
_OTHERS: Final = 0o007
_MAKE: Final = "Make one with `openssl rand -base64 32`"


class Unusable(Exception):
    """The file holds no token that may be used. The text completes "console.token_file …"; ``hint``: what to do."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what)
        self.hint = hint


def read(file: Path) -> str:
    """The token; spaces and line ends around it are cut off. Raises ``Unusable``, whose text never holds any of it."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            held = opened.read(LONGEST + 1)
        token = held.decode("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise Unusable(f"cannot read {file}: {reason}", "Check the path, and who may read the file") from None
    if os.name == "posix" and mode & _OTHERS:
        raise Unusable(f"{file} can be read or written by everybody", f"Run `chmod o= {file}`")
    if not token:
        raise Unusable(f"{file} is empty", _MAKE)
    if len(token) < SHORTEST:
        raise Unusable(f"{file} holds fewer than {SHORTEST} characters", _MAKE)
    if len(held) > LONGEST:
        raise Unusable(f"{file} holds more than {LONGEST} bytes, which is no token", _MAKE)
    return token
