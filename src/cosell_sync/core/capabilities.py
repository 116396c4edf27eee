"""What the other systems' pages leave open and one harmless try answers: whether a field is taken, in which form. Pure.

A *capability* is such a question, a *verdict* its answer with the moment and the evidence. A switch that stands on ``auto``
follows the verdict. Where there is none yet, the first deal that really has something to send is the try
(``docs/decisions/0015``):

- The answer and what the record holds after it are both believed: a refusal means no, and so does a success that left the
  old value in place. Anything between (a value that is neither the old one nor the one sent) says nothing.
- A verdict belongs to its *basis*: the setting, the address and the version of the interface, or for closed rows the rules
  and the shape of the CRM. Another basis, and it is forgotten.
- A no is asked again after a while (``AGAIN_AFTER``); a yes stands until a write contradicts it.

The forms in which Partner Center wants a value (sales stage, filters) are found by its adapter, which has both at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cosell_sync.core.deal import ABSENT, Side, Snapshot, Step
from cosell_sync.core.fields import KINDS
from cosell_sync.core.normalize import same


class Capability(StrEnum):
    """A question, named after its setting where it has one."""

    WRITE_NAME = "mapping.write_name"
    WRITE_FAVORITE = "mapping.write_favorite"
    SALES_STAGE = "mapping.sales_stage_wire"
    CLOSED_ROWS = "closed_rows"
    CHANGES_FILTER = "partner_center.changes_filter"
    ENGAGEMENT_FILTER = "partner_center.engagement_filter"


YES: Final = "yes"
NO: Final = "no"

# How a verdict came about, where it was not the code of a refusal.
TAKEN: Final = "taken"  # it was written, and stands there
IGNORED: Final = "ignored"  # a success, and the old value stands there
READ: Final = "read"  # seen in what the system sends; a write may still tell otherwise
FAILED: Final = "failed"  # an error of the system on this alone, nothing changed

SIDES: Final[Mapping[Capability, Side]] = MappingProxyType(
    {each: Side.CRM if each is Capability.CLOSED_ROWS else Side.PARTNER_CENTER for each in Capability}
)
# Our name of the field that a capability is about.
FIELDS: Final[Mapping[str, Capability]] = MappingProxyType(
    {"name": Capability.WRITE_NAME, "favorite": Capability.WRITE_FAVORITE}
)
AGAIN_AFTER: Final = timedelta(days=30)
CLOSED_ROWS_AGAIN_AFTER: Final = timedelta(hours=24)  # admins change such rules within a day
FAILED_AGAIN_AFTER: Final = timedelta(hours=24)  # an error of the system is weak evidence


@dataclass(frozen=True)
class Finding:
    """An answer that was just found. ``code``: how (see above), or the code of the refusal."""

    capability: Capability
    answer: str
    code: str


@dataclass(frozen=True)
class Verdict:
    """An answer as it is remembered. ``basis``: under which setting, address and version it was found."""

    capability: Capability
    answer: str
    code: str
    at: datetime
    basis: str = ""


def negative(verdict: Verdict) -> bool:
    """Whether it is an answer that may be better one day: a no, a filter that is refused, a form that is ignored."""
    return verdict.answer in {NO, "refused"} or verdict.code in {IGNORED, FAILED}


def again_at(verdict: Verdict) -> datetime | None:
    """When the question may be asked again; None: never, as long as the basis stays."""
    if not negative(verdict):
        return None
    if verdict.capability is Capability.CLOSED_ROWS:
        return verdict.at + CLOSED_ROWS_AGAIN_AFTER
    return verdict.at + (FAILED_AGAIN_AFTER if verdict.code == FAILED else AGAIN_AFTER)


def stands(verdict: Verdict, basis: str | None, now: datetime) -> bool:
    """Whether it still counts. ``basis``: of today; None where the question is not left to ``auto``."""
    again = again_at(verdict)
    return verdict.basis == basis and (again is None or now < again)


def found_of(verdicts: Iterable[Verdict]) -> dict[str, bool]:
    """Our names of fields → whether Partner Center takes them, as far as it is known."""
    known = {verdict.capability: verdict.answer == YES for verdict in verdicts}
    return {name: known[capability] for name, capability in FIELDS.items() if capability in known}


def evidence(name: str, before: Snapshot, step: Step, after: Snapshot) -> bool | None:
    """Whether a field of a step that landed was taken: it stands there, or the old value does. None: neither can be said."""
    kind, sent = KINDS[name], step.fields[name]
    if after[name] is ABSENT or same(kind, before[name], sent):
        return None
    if same(kind, after[name], sent):
        return True
    return False if same(kind, after[name], before[name]) else None


def differs(name: str, referral: Snapshot | None, opportunity: Snapshot | None) -> bool:
    """Whether both sides hold this field differently, so that something waits for the answer."""
    return (
        referral is not None
        and opportunity is not None
        and not same(KINDS[name], referral[name], opportunity[name])
    )
