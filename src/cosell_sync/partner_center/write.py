"""Changes one referral by guarded PATCHes, step by step, and makes a new one by one POST.

What the service does not say, and what is done about it:

- Whether a new name or the heart is taken is not documented: such a field comes as a step of its own, whose refusal stops
  nothing.
- The steps of one referral stay in order, each guarded by the eTag that the one before left. An answer 500 proves nothing, so
  the referral is looked at: the same eTag means that nothing happened, and it may be tried again.
- One refused property refuses the whole PATCH. What the answer names as its ``target`` is left out, and the rest is sent
  again; without a target it is searched for by halves (``core.parted``).
- PATCH may answer 204 without a body even though ``Prefer: return=representation`` was sent; then we read back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cosell_sync.core.deal import ABSENT, Snapshot, Step, state_of
from cosell_sync.core.lifecycle import TERMINAL
from cosell_sync.errors import Flaky, OutsideError, RecordError, Rejected, Stale, Unclear
from cosell_sync.partner_center import create, patch, read
from cosell_sync.partner_center.forms import Forms, about, names
from cosell_sync.partner_center.lookup import ONE, Lookup, address, check_id
from cosell_sync.partner_center.organizations import Organizations
from cosell_sync.partner_center.outage import Outage, unavailable
from cosell_sync.partner_center.paging import REFERRALS
from cosell_sync.partner_center.values import WireOptions
from cosell_sync.ports import Outcome, ReferralDraft, ReferralWrite
from cosell_sync.transport.client import HttpCaller
from cosell_sync.transport.exact_json import encode
from cosell_sync.transport.safety import Safety

# After a refusal with one of these statuses, which may be about one field of several, the step is sent in parts.
PARTED_AFTER: Final = frozenset({400, 413, 422})


@dataclass
class Progress:
    """How far a write has come."""

    steps: int = 0
    snapshot: Snapshot | None = None
    refused: dict[str, RecordError] = field(default_factory=dict)


class Writer:
    """Writes over this caller; ``lookup`` reads back what an answer leaves open."""

    def __init__(
        self,
        caller: HttpCaller,
        wire: WireOptions,
        forms: Forms,
        organizations: Organizations,
        outage: Outage,
        lookup: Lookup,
    ) -> None:
        self._caller = caller
        self._wire = wire
        self._forms = forms
        self._organizations = organizations
        self._outage = outage
        self._lookup = lookup

    def create(self, draft: ReferralDraft) -> Outcome:
        """One POST, never repeated; ``Unclear`` where no answer came.

        For an invitation the answer may be Microsoft's row: then ``category`` is ``foreign``.
        A refusal that names the sales stage made nothing: then its other form is posted, once.
        """
        wire = self._forms.wire
        outcome = self._post(draft, wire)
        sent = draft.fields.get("sales_stage", ABSENT)
        other = self._forms.other(wire) if isinstance(sent, str) else None
        if other and isinstance(outcome.error, Rejected) and names(outcome.error, "salesStage"):
            again = self._post(draft, other)
            if not isinstance(again.error, Rejected):
                outcome, wire = again, other
        if other and outcome.snapshot is not None and outcome.snapshot["sales_stage"] == sent:
            self._forms.settled(wire, taken=True)
        return outcome

    def _post(self, draft: ReferralDraft, wire: WireOptions) -> Outcome:
        try:
            body = encode(create.body(draft, wire))
        except ValueError as bug:
            return Outcome(None, Rejected(str(bug), code="not_expressible"))
        try:
            answer = self._caller.call(
                "POST",
                REFERRALS,
                template=REFERRALS,
                safety=Safety.ONCE,
                headers={"content-type": "application/json"},
                body=body,
            )
        except RecordError as cause:
            return Outcome(None, cause)
        self._outage.answered()
        snapshot = read.snapshot(answer.data, self._wire, own=self._organizations.known)
        if snapshot is None:
            return Outcome(
                None,
                Unclear(
                    "Partner Center took the referral, but its answer cannot be read",
                    code="unreadable",
                    status=answer.status,
                    request_id=answer.request_id,
                ),
            )
        if snapshot.text("category") != "foreign":
            self._organizations.learn(answer.data)
        return Outcome(snapshot.id, snapshot=snapshot, steps=1)

    def write(self, write: ReferralWrite) -> Outcome:
        """All steps of one referral, as far as they go."""
        progress = Progress()
        referral_id = write.before.id
        current, state = write.before, state_of(write.before)
        error: RecordError | None = None
        try:
            check_id(referral_id)
            for step in write.steps:
                if self._outage.cause is not None:
                    raise unavailable(self._outage.cause)
                current = progress.snapshot or current
                if progress.steps and progress.snapshot is None:
                    raise Flaky("the referral could not be read after the last step", code="no_version")
                if progress.steps and state_of(current) is not state:
                    # read after the last step, it has moved on: what was decided for it is decided anew
                    raise Stale("the referral was moved by somebody else", code="moved")
                state = step.state or state
                try:
                    self._send_step(current, step, progress, search=write.search)
                except (Rejected, Flaky) as cause:
                    if not (step.trial and _says_no(cause, step)):
                        raise
                    progress.refused |= dict.fromkeys(step.fields, cause)
                    progress.steps += 1
                    progress.snapshot = progress.snapshot or current
        except RecordError as cause:
            error = cause
        except OutsideError as cause:
            self._outage.begin(cause)
            error = unavailable(cause)
        if isinstance(error, Unclear):
            self._outage.unanswered(error)
        return Outcome(referral_id, error, progress.snapshot, progress.steps, refused=progress.refused)

    def _send_step(self, current: Snapshot, step: Step, progress: Progress, *, search: bool) -> None:
        """One step, in pieces where parts of it are refused. It counts once every piece is through.

        Raises Rejected where all of it was refused, or its move; after a refused move nothing further is sent.
        """
        write = patch.parted(step, search=search)
        pieces = 0
        while (piece := write.next_piece()) is not None:
            if pieces and progress.snapshot is None:
                raise Flaky("the referral could not be read after a part of the step", code="no_version")
            try:
                self._send_in_either_form(progress.snapshot or current, patch.piece(step, piece), progress)
            except Rejected as error:
                if error.status not in PARTED_AFTER:
                    raise
                write.refused(error, _fields_named(error))
            else:
                pieces += 1
                write.landed()
        progress.refused |= write.refusals
        if write.error is not None:
            raise write.error
        progress.steps += bool(pieces)
        for cause in write.refusals.values():
            if not pieces or cause is write.refusals.get(patch.MOVE):
                raise cause

    def _send_in_either_form(self, current: Snapshot, step: Step, progress: Progress) -> None:
        """One PATCH, its sales stage in the form that is known to be taken, else in either (``forms``)."""
        wire = self._forms.wire
        other = self._forms.other(wire) if "sales_stage" in step.fields else None
        try:
            self._send(current, step, progress, wire)
        except Rejected as refusal:
            if other is None or not about(refusal, "salesStage"):
                raise
            try:
                self._send(current, step, progress, other)
            except Rejected:
                raise refusal from None
            wire = other
        if other is not None:
            self._judge_form(current, step, progress, wire)

    def _judge_form(self, before: Snapshot, step: Step, progress: Progress, wire: WireOptions) -> None:
        """What a step that landed says of the form of its sales stage. Where it was ignored the other form is sent, once."""
        sent, after = step.fields["sales_stage"], progress.snapshot
        if after is None or before["sales_stage"] == sent:
            return
        other = self._forms.other(wire)
        if after["sales_stage"] == sent:
            self._forms.settled(wire, taken=True)
        elif after["sales_stage"] == before["sales_stage"] and step.state not in TERMINAL and other:
            try:
                self._send(after, Step({"sales_stage": sent}), progress, other)
            except Rejected:
                self._forms.settled(wire, taken=False)
            except RecordError:
                progress.snapshot = self._lookup.look_again(before.id)
            except OutsideError as cause:
                self._outage.begin(cause)
            else:
                taken = progress.snapshot is not None and progress.snapshot["sales_stage"] == sent
                self._forms.settled(other if taken else wire, taken=taken)

    def _send(self, current: Snapshot, step: Step, progress: Progress, wire: WireOptions) -> None:
        """One PATCH. Notes in ``progress`` what the referral holds then; None where that cannot be read."""
        try:
            operations = patch.operations(current, step, wire)
        except ValueError as bug:
            raise Rejected(str(bug), code="not_expressible") from bug
        if not operations:
            progress.snapshot = self._lookup.read(current.id)
            return
        if not current.version:
            raise Stale("this referral was read without its version", code="no_version")
        answer = self._caller.call(
            "PATCH",
            address(current.id),
            template=ONE,
            safety=Safety.GUARDED,
            headers={
                "content-type": "application/json",  # not json-patch+json, says the page
                "if-match": current.version,
                "prefer": "return=representation",
            },
            body=encode(operations),
            unchanged=partial(self._unchanged, current, progress),
        )
        self._outage.answered()
        found = self._lookup.own(answer, current.id)
        if found is None or not found.version:
            found = self._lookup.look_again(current.id)
            if answer.data is not None and (found is None or found.version == current.version):
                raise Unclear("Partner Center answered with something else", code="unreadable")
        progress.snapshot = found

    def _unchanged(self, current: Snapshot, progress: Progress) -> bool:
        """After an answer 500, which proves nothing: whether the referral is as it was. Else notes what it is now."""
        found = self._lookup.look_again(current.id)
        if found is not None and found.version == current.version:
            return True
        progress.snapshot = found or progress.snapshot
        return False


def _says_no(cause: Rejected | Flaky, step: Step) -> bool:
    """Whether a refusal of a trial is about its field. An error 500 counts, for then the referral was seen unchanged."""
    if isinstance(cause, Flaky):
        return cause.status == 500
    return about(cause, *step.fields)


def _fields_named(error: Rejected) -> frozenset[str]:
    """Our names of what a refusal names as its target; empty where that is nothing of ours."""
    return frozenset(name for name in map(patch.field_of, error.fields) if name)
