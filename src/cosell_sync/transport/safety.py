"""Which calls may be made again.

What may be repeated depends on what a call does:

========= ===================================================================================================
READ      changes nothing: repeated on every transient failure
HARMLESS  a write that may be done twice without harm, such as a deletion by id: repeated like a READ
GUARDED   a write with If-Match, or by a key: repeated only when it surely did not land (429, an answered 503, no connection)
UNGUARDED a write without a guard: repeated only when it was refused at the door (429, no connection)
ONCE      a write that nobody may see twice: never repeated
========= ===================================================================================================

A 401 was refused at the door as well: whatever the call does, it is sent once more with another token. A write whose
answer is lost raises ``Unclear``, also where a later try did not even get there; the caller looks before doing anything else.
"""

from __future__ import annotations

from enum import StrEnum

from cosell_sync.transport.codes import Disposition
from cosell_sync.transport.errors import TRANSIENT, surely_not_landed


class Safety(StrEnum):
    """What a call does, as far as its repetition is concerned; see above."""

    READ = "read"
    HARMLESS = "harmless"
    GUARDED = "guarded"
    UNGUARDED = "unguarded"
    ONCE = "once"


def repeated(safety: Safety, found: Disposition, status: int) -> bool:
    """Whether a call that was answered so is made again."""
    match safety:
        case Safety.READ | Safety.HARMLESS:
            return found in TRANSIENT
        case Safety.GUARDED:
            return surely_not_landed(found, status)
        case Safety.UNGUARDED:
            return found is Disposition.THROTTLED
        case Safety.ONCE:
            return False
