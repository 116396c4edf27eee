"""In which form Partner Center wants what its pages leave open: the sales stage (doubt D5), and values in filters (D4).

Each form is found out by a call that is made anyway, and remembered in ``Findings``:

- The sales stage goes out in the form in which Partner Center's own values arrive, or as a percentage where none has come
  yet. Where that is refused, or answered with a success that leaves the old value in place, the other form is sent once;
  from then on the question is closed.
- Of a filter the form that was not refused is kept, or that all are refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from cosell_sync.core.capabilities import IGNORED, READ, TAKEN, Capability, Finding
from cosell_sync.errors import Rejected
from cosell_sync.partner_center.values import WireOptions, sales_stage_form
from cosell_sync.ports import Findings

REFUSED: Final = "refused"
UNQUOTED, QUOTED = "unquoted", "quoted"
# Statuses of a refusal that may be about one property of several.
ABOUT_CONTENT: Final = frozenset({400, 405, 413, 422, 501})


def about(refusal: Rejected, *words: str) -> bool:
    """Whether a refusal is about the content, and names one of these properties or none at all."""
    return refusal.status in ABOUT_CONTENT and (not refusal.fields or names(refusal, *words))


def names(refusal: Rejected, *words: str) -> bool:
    """Whether a refusal names one of these properties as its ``target``."""
    return any(word.casefold() in target.casefold() for target in refusal.fields for word in words)


class Forms:
    """The forms to be used now, and what calls say of them. ``wire``: the configured options."""

    def __init__(self, wire: WireOptions, findings: Findings) -> None:
        self._wire, self._findings = wire, findings

    # -- the sales stage ---------------------------------------------------------------------------------------------

    @property
    def wire(self) -> WireOptions:
        """The options with the form of the sales stage in which it is to be sent."""
        if self._wire.sales_stage != "auto":
            return self._wire
        known = self._findings.get(Capability.SALES_STAGE)
        return replace(self._wire, sales_stage=known.answer if known else "percent")

    def other(self, wire: WireOptions) -> WireOptions | None:
        """The options with the other form; None where the question is closed."""
        if self._wire.sales_stage != "auto":
            return None
        known = self._findings.get(Capability.SALES_STAGE)
        if known is not None and known.code != READ:
            return None
        return replace(wire, sales_stage="name" if wire.sales_stage == "percent" else "percent")

    def saw(self, row: Any) -> None:
        """A referral came. The first form that is seen counts until something is written."""
        unknown = self._wire.sales_stage == "auto" and self._findings.get(Capability.SALES_STAGE) is None
        if unknown and (form := sales_stage_form(row)):
            self._findings.learn(Finding(Capability.SALES_STAGE, form, READ))

    def settled(self, wire: WireOptions, *, taken: bool) -> None:
        """A sales stage was written in this form, and stands there; or it was ignored in both forms."""
        if self._wire.sales_stage == "auto":
            finding = Finding(Capability.SALES_STAGE, wire.sales_stage, TAKEN if taken else IGNORED)
            self._findings.learn(finding)

    # -- filters -----------------------------------------------------------------------------------------------------

    def filters(self, capability: Capability, *usual: str) -> tuple[str, ...]:
        """The forms of a filter in the order in which they are to be tried; none where all were refused."""
        known = self._findings.get(capability)
        if known is None:
            return usual
        return tuple(sorted(usual, key=lambda form: form != known.answer)) if known.answer in usual else ()

    def filtered(self, capability: Capability, form: str, code: str = TAKEN) -> None:
        """A filter in this form was answered; ``REFUSED``: none was."""
        self._findings.learn(Finding(capability, form, code))
