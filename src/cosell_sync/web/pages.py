"""The pages of the console: how the program stands, the deals by state and deadline, and one deal with its history.

Server-rendered HTML without scripts. Every value is escaped by the templates; the one style is named by its hash, so that
nothing else may load or run. What is shown of a deal was made fit for it by ``privacy``.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote, urlencode

from cosell_sync.core.messages import minute
from cosell_sync.core.quota import Allowance
from cosell_sync.store.history import PastCycle
from cosell_sync.store.listing import Query, Which
from cosell_sync.summary import NEEDS_A_PERSON, NEEDS_NOBODY
from cosell_sync.web.health import Facts, readiness

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES: Final = Path(__file__).with_name("templates")
STYLE: Final = (_TEMPLATES / "console.css").read_text(encoding="utf-8")
POLICY: Final = (
    "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    f"style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'"
)
LABELS: Final = {
    Which.ALL: "All",
    Which.PERSON: "Needs a person",
    Which.UNANSWERED: "Unanswered",
    Which.WITHHELD: "Withheld",
    Which.PARKED: "Parked",
    Which.IN_SYNC: "In sync",
    Which.WAITING: "Waiting",
    Which.ATTENTION: "Needs attention",
    Which.CONFLICT: "Conflict",
    Which.CLOSED: "Closed",
    Which.SKIPPED: "Skipped",
    Which.UNLINKED: "Unlinked",
}


@dataclass(frozen=True)
class Deal:
    """One deal as a list shows it. ``id``: by which its page is found. ``waits``: what has not landed, in short; ``todo``: the
    next step of a person, empty where there is none. ``portal`` and ``record``: https addresses, None where there is none.
    """

    id: str
    name: str
    customer: str
    referral_id: str | None
    opportunity_id: str | None
    status: str
    sync_state: str
    marks: Sequence[str] = ()
    respond_by: datetime | None = None
    waits: Sequence[str] = ()
    todo: str = ""
    portal: str | None = None
    record: str | None = None


@dataclass(frozen=True)
class Explained:
    """What became of one field on one side. ``status``: landed, decided, or why it waits."""

    field: str
    side: str
    status: str
    value: str
    before: str
    reason: str
    at: datetime | None = None
    cycle: str = ""
    until: datetime | None = None


@dataclass(frozen=True)
class Line:
    """One line of the history."""

    at: datetime
    side: str
    action: str
    field: str
    old: str
    new: str
    rule: str
    cycle: str


@dataclass(frozen=True)
class Order:
    """What a person asks for with one button. ``verb``, ``field`` and ``side`` as of an ``OperatorCommand``. ``seen``: what the
    page showed of it, as a digest: where that has changed, nothing is done.
    """

    verb: str
    field: str = ""
    side: str = ""
    seen: str = ""


@dataclass(frozen=True)
class Offer:
    """What a person may ask for on a deal's page, with a button for each way. ``about``: what it does."""

    title: str
    about: str
    buttons: Sequence[tuple[str, Order]]


@dataclass(frozen=True)
class Story:
    """One deal in full. ``history``: the newest lines first; ``older``: whether there are more. ``offers``: what may be asked for
    now; ``orders``: what was asked for and waits for the next cycle.
    """

    deal: Deal
    explained: Sequence[Explained] = ()
    history: Sequence[Line] = ()
    older: bool = False
    offers: Sequence[Offer] = ()
    orders: Sequence[str] = ()


@dataclass(frozen=True)
class Visitor:
    """Who looks at a page. ``may_sign_in``: whether there are actions at all. ``form_key``: goes into each form; empty where nobody
    is signed in. ``back``: the address of the page.
    """

    may_sign_in: bool = False
    form_key: str = ""
    back: str = "/"


@dataclass(frozen=True)
class DealList:
    """A page of deals; ``next`` as in ``Deals``."""

    deals: Sequence[Deal] = ()
    next: str = ""


@dataclass(frozen=True)
class System:
    """An outside system. ``wrong``: what is wrong with the sign-in, empty where nothing is known to be."""

    name: str
    signed_in_at: datetime | None = None
    wrong: str = ""
    allowances: Sequence[Allowance] = ()


@dataclass(frozen=True)
class Overview:
    """What the first page shows. ``counts``: how many deals each filter has, as far as they are counted."""

    facts: Facts
    counts: Mapping[Which, int]
    urgent: DealList
    unanswered: DealList
    cycles: Sequence[PastCycle] = ()
    systems: Sequence[System] = ()
    lease: str = ""
    pause: timedelta = timedelta()


class Source(Protocol):
    """Where the pages come from. Each raises ``Unavailable`` where the store is away."""

    def overview(self) -> Overview: ...

    def deals(self, query: Query) -> DealList: ...

    def story(self, target: str) -> Story | None:
        """The deal with this referral id or opportunity id; None where none is known."""

    def order(self, target: str, order: Order) -> str | None:
        """Leave an order for the next cycle, once; the deal's id, None where none is known. Raises ``Refused``."""


def overview(found: Overview, visitor: Visitor) -> str:
    """The first page."""
    ready, reasons = readiness(found.facts)
    return _render("overview.html", found.facts, visitor, found=found, ready=ready, reasons=reasons)


def deals(facts: Facts, query: Query, found: DealList, visitor: Visitor) -> str:
    """A page of the list."""
    asked = {"state": query.which.value, "text": query.text}
    given = urlencode({key: value for key, value in asked.items() if value})
    onward = f"/deals?{given}&{urlencode({'after': found.next})}" if found.next else ""
    return _render("deals.html", facts, visitor, query=query, found=found, onward=onward)


def story(facts: Facts, found: Story, visitor: Visitor) -> str:
    """One deal."""
    return _render("deal.html", facts, visitor, found=found)


def problem(
    facts: Facts, title: str, words: str, visitor: Visitor, onward: tuple[str, str] | None = None
) -> str:
    """A page that says why there is nothing to see, or why nothing was done. ``onward``: an address and what stands there."""
    return _render("problem.html", facts, visitor, title=title, words=words, onward=onward)


def sign_in(facts: Facts, visitor: Visitor, *, wrong: bool = False) -> str:
    """The page that asks for the token. ``wrong``: the one that was given is not it."""
    return _render("sign_in.html", facts, visitor, wrong=wrong)


def deal_path(target: str) -> str:
    """The address of a deal's page."""
    return f"/deals/{quote(target, safe='')}"


def _render(template: str, facts: Facts, visitor: Visitor, **given: Any) -> str:
    page = _environment().get_template(template)
    return page.render(facts=facts, visitor=visitor, style=STYLE, labels=LABELS, **given)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - many daemons show no page

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(stamp=_stamp, minute=minute, span=span, path=deal_path, outcome=_outcome)
    made.globals.update(Which=Which)
    return made


def _stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M:%S UTC")


def span(length: timedelta) -> str:
    """A length of time in its two largest units: ``3 d 4 h``; what is below them is left out."""
    left = max(0, int(length.total_seconds()))
    counts: list[tuple[int, str]] = []
    for unit, seconds in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, seconds)
        counts.append((count, unit))
    first = next((place for place, (count, _) in enumerate(counts) if count), len(counts) - 1)
    shown = [f"{count} {unit}" for count, unit in counts[first : first + 2] if count]
    return " ".join(shown) or "0 s"


def _outcome(cycle: PastCycle) -> tuple[str, str]:
    """How a cycle ended: the class that colours it, and in words."""
    match cycle.exit_code:
        case code if code == NEEDS_NOBODY:
            return "good", "Done"
        case code if code == NEEDS_A_PERSON:
            return "warn", "Done; a person is needed"
        case _:
            return "bad", "Failed"
