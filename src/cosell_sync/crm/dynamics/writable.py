"""Which fields of an update an opportunity's row takes; the others are refused before anything is sent.

A closed row takes our own columns at most, and no page says whether an environment allows even that: a refusal is the
outcome, and `cycle.closed_rows` remembers it.
"""

from __future__ import annotations

from cosell_sync.core.deal import ABSENT, Fields, Snapshot
from cosell_sync.core.fields import inseparable
from cosell_sync.core.texts import Text
from cosell_sync.crm.dynamics import closing, translate
from cosell_sync.crm.dynamics.org import STOCK, Choice, Org
from cosell_sync.crm.writes import PendingWrite
from cosell_sync.errors import Cure, Rejected


def writable(pending: PendingWrite, org: Org) -> Fields:
    """The fields that are to be sent. Those that are not are noted as ``refused``, or as the ``partial_error``."""
    return _storable(pending, org, _changeable(pending, org))


def _storable(pending: PendingWrite, org: Org, wanted: Fields) -> Fields:
    """The fields whose values the environment has a choice or a currency for; the others are refused."""
    for unit in inseparable(wanted):
        try:
            translate.columns({name: wanted[name] for name in unit}, org)
        except LookupError as error:
            pending.refused |= dict.fromkeys(unit, unknown_choice(error))
    return {name: item for name, item in wanted.items() if name not in pending.refused}


def _changeable(pending: PendingWrite, org: Org) -> Fields:
    """The fields that the row takes. A currency that is set stays; a closed row takes only our own columns."""
    before = pending.before
    if before is None:
        return pending.fields
    wanted = dict(pending.fields)
    currency = before["currency"]
    if "currency" in wanted and currency not in {None, ABSENT} and wanted.pop("currency") != currency:
        text = "a currency is never changed once it is set"
        pending.fail_field("currency", Rejected(text, code="fixed", fields=("currency",)))
        if wanted.pop("value", ABSENT) is not ABSENT:  # an amount of another currency is another amount
            pending.fail_field("value", pending.refused["currency"])
    if "value" in wanted and "value" in before.readonly and before["is_closed"] is False:
        del wanted["value"]
        text = "the amount is summed from products"
        pending.fail_field("value", Rejected(text, code="computed", fields=("value",)))
    return _closed_row_fields(pending, wanted) if stays_closed(pending, org) else wanted


def _closed_row_fields(pending: PendingWrite, wanted: Fields) -> Fields:
    """What a row that stays closed takes: our own columns where they may be written, and related rows."""
    if late := sorted(STOCK & wanted.keys()):
        text = Text("the row is closed; reopen it to change it")
        pending.partial_error = Rejected(text, code="closed_row", fields=tuple(late), cure=Cure.SELLER)
    own = {name: item for name, item in wanted.items() if name not in STOCK}
    if not own:
        pending.may_have_landed = True  # nothing is sent, but the record is read back
    return own


def current_status(before: Snapshot, org: Org) -> Choice:
    """The status reason that the row had when the write was planned."""
    state = closing.state_of(is_closed=before.flag("is_closed"), is_won=before.flag("is_won"))
    label = before.text("stage")
    fitting = [each for each in org.statuses if each.state == state]
    return next((each for each in fitting if each.label == label), Choice(-1, label, state=state))


def stays_closed(pending: PendingWrite, org: Org) -> bool:
    """Whether the row is closed and this write leaves it in the same status reason."""
    if pending.before is None or not pending.before.flag("is_closed"):
        return False
    target = org.status(pending.fields["stage"]) if "stage" in pending.fields else None
    return target is None or target.value == current_status(pending.before, org).value


def unknown_status(stage: object) -> Rejected:
    """The error of a stage that is no status reason of this environment."""
    text = f'the environment has no status reason "{stage}"; correct mapping.stages'
    return Rejected(text, code="unknown_status", fields=("stage",))


def unknown_choice(error: LookupError) -> Rejected:
    """The error of a value that is no choice, or no currency, of this environment."""
    return Rejected(f'the environment has no choice or currency "{error}"', code="unknown_choice")
