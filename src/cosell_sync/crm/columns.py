"""What cosell-sync adds to any CRM, as data: columns, choices, solution rows and views, in the words of `core.deal`.

The `install.schema` of each CRM turns this into metadata. The name of a column there is in its `DEFAULT_NAMES` or in
`mapping.fields`. Help texts are for the seller who hovers over the field, descriptions for the admin who finds it in the setup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from cosell_sync.core.deal import DealType, Direction, State, SyncState
from cosell_sync.core.fields import CLOSED_REASONS
from cosell_sync.core.requirements import HELP_KINDS

SOLUTION_TYPES: Final = ("Own", "Microsoft", "Third party")


class ColumnKind(StrEnum):
    """What a column holds, whatever the CRM calls that type."""

    FLAG = "flag"
    TEXT = "text"
    LINK = "link"
    CHOICE = "choice"
    LONG = "long text"
    MOMENT = "moment"


LONG: Final = 32_000


@dataclass(frozen=True)
class Column:
    """One column. ``values``: labels of a choice. ``key``: unique. ``editable``: by sellers, not only by the daemon.

    ``renewed``: its values come from a list that Microsoft renews. A column of text does as well, and values of another year
    may stand beside the list's own.
    """

    label: str
    kind: ColumnKind
    help: str
    description: str
    length: int = 0
    values: tuple[str, ...] = ()
    key: bool = False
    editable: bool = False
    renewed: bool = False

    @property
    def note(self) -> str:
        """What an admin is to know of a column whose list is empty."""
        missing = self.renewed and self.kind is ColumnKind.TEXT
        return "Microsoft's list of values could not be obtained, so it takes any text" if missing else ""


@dataclass(frozen=True)
class View:
    """A list of opportunities. ``where``: our name and the labels that it may have, or True. ``days``: our name of a date and
    time that lies at most so many days ahead.
    """

    name: str
    label: str
    columns: tuple[str, ...]
    where: tuple[tuple[str, tuple[str, ...] | bool], ...] = ()
    days: tuple[str, int] | None = None
    order: str = "name"  # our name of the column that sorts it, where the CRM keeps that with a view


def _flag(label: str, help_text: str, description: str) -> Column:
    return Column(label, ColumnKind.FLAG, help_text, description, editable=True)


def _choice(
    label: str, values: Sequence[str], help_text: str, description: str, *, editable: bool = False
) -> Column:
    return Column(label, ColumnKind.CHOICE, help_text, description, values=tuple(values), editable=editable)


def _long(label: str, help_text: str, description: str, *, editable: bool = True) -> Column:
    return Column(label, ColumnKind.LONG, help_text, description, length=LONG, editable=editable)


def _asked(label: str, help_text: str, description: str) -> Column:
    """Of what Partner Center asks per deal; a choice once its list is known (`opportunity_columns`)."""
    return Column(label, ColumnKind.TEXT, help_text, description, length=255, editable=True, renewed=True)


_SYNC_WRITES = "Written by cosell-sync; do not edit."

# Our name → column of the opportunity.
OPPORTUNITY_COLUMNS: Final[Mapping[str, Column]] = {
    "sync": _flag(
        "Co-sell sync",
        "Tick to share this opportunity with Microsoft Partner Center. Untick to pause: only the status and messages "
        "are updated then. What is shared already is not withdrawn.",
        "The seller's switch. Deals that Microsoft sends arrive with it on; off on a linked deal pauses it, on again merges.",
    ),
    "referral_id": Column(
        "Co-sell referral ID",
        ColumnKind.TEXT,
        "The deal's number in Partner Center.",
        "Joins the opportunity to its referral. A unique external id, so that no referral becomes two opportunities. "
        "Whoever may edit it can link an opportunity by hand, by putting a referral's id here.",
        length=64,
        key=True,
    ),
    "referral_link": Column(
        "Co-sell referral link", ColumnKind.LINK, "Opens this deal in Partner Center.", _SYNC_WRITES
    ),
    "status": _choice(
        "Co-sell status",
        [state.value for state in State if state not in {State.CLOSED, State.UNKNOWN}],
        "Where the deal stands in Partner Center. Received means that Microsoft waits for your answer.",
        _SYNC_WRITES,
    ),
    "direction": _choice(
        "Co-sell direction",
        [each.value for each in Direction],
        "Inbound: Microsoft sent this deal to us. Outbound: we shared it with Microsoft.",
        _SYNC_WRITES,
    ),
    "deal_type": _choice(
        "Co-sell deal type",
        [each.value for each in DealType],
        "Private: only we see it. Partner-led: Microsoft's sellers can see it. Co-sell: Microsoft was asked to help.",
        _SYNC_WRITES,
    ),
    "action": _choice(
        "Co-sell action",
        ("Accept", "Decline"),
        "Your answer to a deal from Microsoft. Choose one and save; to decline, also choose a reason. "
        "The field empties itself when the answer has arrived.",
        "The seller's answer to a received deal; cleared once carried out. What the status does not allow is refused "
        "and told in the message.",
        editable=True,
    ),
    "reason": _choice(
        "Co-sell reason",
        CLOSED_REASONS,
        "Why the deal is declined or lost. Microsoft sees it.",
        "The eight reasons that Partner Center knows for closing a deal. A decline needs one.",
        editable=True,
    ),
    "reason_note": _long(
        "Co-sell reason note",
        "A few words beside the reason. Microsoft sees them.",
        "Free text beside the reason.",
    ),
    "visible": _flag(
        "Visible to Microsoft",
        "Tick to let Microsoft's sellers see this private deal. This cannot be undone.",
        "One-way: makes a private deal partner-led.",
    ),
    "help": _choice(
        "Help from Microsoft",
        HELP_KINDS,
        "What Microsoft shall help with. Choosing one invites Microsoft to co-sell; this cannot be undone, and the kind "
        "of help cannot be changed afterwards.",
        "Setting it makes the deal co-sell and sends the invitation.",
        editable=True,
    ),
    "help_note": _long(
        "Note to Microsoft",
        "Travels with your request for help: what you need, by when, from whom. It cannot be changed once sent.",
        "Note to Microsoft that goes with the request for help.",
    ),
    "consent": _flag(
        "Customer consent",
        "Tick when the customer has agreed that contact details are shared with Microsoft. Without it nothing is shared.",
        "The customer agreed to share contact details; asked for before a deal is shared.",
    ),
    "campaign_id": Column(
        "Co-sell campaign ID",
        ColumnKind.TEXT,
        "The marketing campaign this deal belongs to, as Partner Center knows it.",
        "Marketing campaign id, carried both ways.",
        length=255,
        editable=True,
    ),
    "marketplace_intent": _asked(
        "Marketplace intent",
        "Does the customer want to buy through Microsoft's marketplace? Microsoft takes your answer when the deal is shared "
        "and not afterwards.",
        "Asked per deal in Partner Center; mapping.marketplace_intent goes where it is empty.",
    ),
    "partner_role": _asked(
        "Partner role",
        "Your role in a services deal. Microsoft takes your answer when the deal is shared and not afterwards.",
        "Asked of services deals; mapping.deal_attributes goes where it is empty. Values: value-lists.yaml.",
    ),
    "solution_area": _asked(
        "Solution area",
        "Microsoft's solution area of a services deal. Microsoft takes your answer when the deal is shared and not afterwards.",
        "Asked of services deals; mapping.deal_attributes goes where it is empty. Values: value-lists.yaml.",
    ),
    "solution_play": _asked(
        "Solution play",
        "Microsoft's solution play of a services deal. Microsoft takes your answer when the deal is shared and not afterwards.",
        "Asked of services deals; mapping.deal_attributes goes where it is empty. Values: value-lists.yaml.",
    ),
    "location": Column(
        "Partner location",
        ColumnKind.TEXT,
        "The MPN ID (digits) of your company's location that the deal belongs to. It is fixed once the deal is shared.",
        "The partner location's MPN id; mapping.location goes where it is empty.",
        length=255,
        editable=True,
    ),
    "notes": _long(
        "Co-sell notes",
        "The deal's notes. Everyone who takes part in the deal reads them, at Microsoft too.",
        "The deal's notes, carried both ways and merged line by line.",
    ),
    "favorite": _flag(
        "Co-sell favorite",
        "The heart in Partner Center: puts the deal on your list of favorites.",
        "The heart, carried both ways where Partner Center takes it (mapping.write_favorite).",
    ),
    "respond_by": Column(
        "Co-sell respond by",
        ColumnKind.MOMENT,
        "Answer before this moment, or the deal expires.",
        _SYNC_WRITES,
    ),
    "microsoft_status": Column(
        "Microsoft status",
        ColumnKind.TEXT,
        "Where Microsoft's side of a shared deal stands, for example New / Pending or Active / Accepted.",
        _SYNC_WRITES,
        length=255,
    ),
    "microsoft_id": Column(
        "Microsoft ID",
        ColumnKind.TEXT,
        "The deal's number in Microsoft's own CRM. Quote it when you talk to Microsoft's seller.",
        _SYNC_WRITES,
        length=255,
    ),
    "sync_state": _choice(
        "Co-sell sync state",
        [each.value for each in SyncState],
        "In sync: all is well. Waiting: goes on by itself. Needs attention or Conflict: read the message and act. "
        "Closed: the deal is over.",
        _SYNC_WRITES,
    ),
    "message": _long(
        "Co-sell message",
        "What happened last, and what you can do about it.",
        _SYNC_WRITES,
        editable=False,
    ),
    "last_sync": Column(
        "Co-sell last sync",
        ColumnKind.MOMENT,
        "When a change of this deal was last carried, in either direction.",
        _SYNC_WRITES,
    ),
}
# Of an account.
DUNS_COLUMN: Final = Column(
    "D-U-N-S number",
    ColumnKind.TEXT,
    "The nine digits by which Dun & Bradstreet knows this company. Microsoft finds the customer sooner by them.",
    "Sent with a new deal, and filled from deals that Microsoft sends (mapping.account_updates).",
    length=40,
    editable=True,
)
# Of a solution row, the child of an opportunity.
SOLUTION_COLUMNS: Final[Mapping[str, Column]] = {
    "code": Column(
        "Solution ID",
        ColumnKind.TEXT,
        "The solution's id in Partner Center, for example SOL-12345-ABC, or the id of a Microsoft product.",
        "Known to Partner Center by this id. Rows that a seller made are matched by it.",
        length=255,
        editable=True,
    ),
    "name": Column(
        "Solution name",
        ColumnKind.TEXT,
        "The solution's name as customers know it.",
        "The solution's name, carried both ways.",
        length=255,
        editable=True,
    ),
    "type": _choice(
        "Solution type",
        SOLUTION_TYPES,
        "Own: ours. Microsoft: a Microsoft product. Third party: another partner's.",
        "Whose solution it is.",
        editable=True,
    ),
    "key": Column(
        "Co-sell key",
        ColumnKind.TEXT,
        "Filled by cosell-sync.",
        "Referral and solution, joined: a unique external id, so that no solution is added twice to a deal.",
        length=255,
        key=True,
    ),
}


def opportunity_columns(choices: Mapping[str, Sequence[str]]) -> Mapping[str, Column]:
    """The columns of the opportunity, with these values where a list is renewed; such a column without values takes text."""
    return {
        ours: replace(column, kind=ColumnKind.CHOICE, values=tuple(choices[ours]), length=0)
        if column.renewed and choices.get(ours)
        else column
        for ours, column in OPPORTUNITY_COLUMNS.items()
    }


SOLUTION_LABEL: Final = "Co-sell Solution"
SOLUTION_DESCRIPTION: Final = "A solution of a co-sell deal, one row each. Partner Center asks for at least one before a deal is shared."
PARENT_DESCRIPTION: Final = "The opportunity that this solution is sold with."
PARENT_WORD: Final = "Opportunity"
# The form in Dynamics: its name, the heading of its tab, then of the sections.
FORM_WORDS: Final = (
    "Opportunity (co-sell)",
    "Microsoft co-sell",
    "What happened",
    "Your answer",
    "Sharing with Microsoft",
    "What Microsoft asks",
)
PANEL_WORDS: Final = ("Microsoft co-sell", "Saved", "Partner Center hears of it within minutes.", "Save")
# What else people read in the setup, beside the columns and views; translated with them.
OTHER_WORDS: Final = (
    SOLUTION_LABEL,
    f"{SOLUTION_LABEL}s",
    SOLUTION_DESCRIPTION,
    PARENT_DESCRIPTION,
    "Yes",
    "No",
    "Name",
    "The solution, in a few words.",
    PARENT_WORD,
    "Choose a co-sell reason before you decline.",
    *FORM_WORDS,
    # The panel on Salesforce's record page.
    *PANEL_WORDS,
)

VIEWS: Final = (
    View(
        "Unanswered",
        "Co-sell: Unanswered",
        ("value", "respond_by", "stage", "deal_type", "sync_state"),
        (("status", (State.RECEIVED,)),),
        order="respond_by",
    ),
    View(
        "Inbound",
        "Co-sell: Inbound",
        ("value", "close_date", "stage", "status", "respond_by", "sync_state"),
        (("direction", (Direction.INBOUND,)),),
    ),
    View(
        "Outbound",
        "Co-sell: Outbound",
        ("value", "close_date", "stage", "status", "microsoft_status", "sync_state"),
        (("direction", (Direction.OUTBOUND,)),),
    ),
    View(
        "Favorites",
        "Co-sell: Favorites",
        ("value", "close_date", "stage", "direction", "status", "sync_state"),
        (("favorite", True),),
    ),
    View(
        "Needs_Attention",
        "Co-sell: Needs attention",
        ("stage", "direction", "status", "sync_state", "last_sync"),
        (("sync_state", (SyncState.NEEDS_ATTENTION, SyncState.CONFLICT)),),
    ),
    View(
        "Expiring",
        "Co-sell: Expiring",
        ("value", "respond_by", "stage", "direction", "sync_state"),
        (("status", (State.RECEIVED,)),),
        ("respond_by", 7),
        order="respond_by",
    ),
)
