"""``Referrals`` over HTTP: each call of a cycle is passed to the module that does it.

lists          what changed, by watermark; all; the sides of a deal
lookup         one referral by its id
write          guarded PATCHes, and the POST of a new one; JSON by `patch` and `create`
read           JSON → values, pure
forms          what Partner Center's pages leave open and its answers show
outage         whether it answers
organizations  which of them are ours

There is no read or write of several referrals by their ids, so these go through a small pool. When Partner Center goes away in
the middle of a batch, nothing further is started: what is known is returned, and ``outage`` holds the reason.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final, TypeVar

from cosell_sync.core.deal import Snapshot
from cosell_sync.errors import CosellError, OutsideError
from cosell_sync.partner_center.forms import Forms
from cosell_sync.partner_center.lists import Lists
from cosell_sync.partner_center.lookup import Lookup
from cosell_sync.partner_center.organizations import Organizations
from cosell_sync.partner_center.outage import Outage
from cosell_sync.partner_center.paging import SYSTEM
from cosell_sync.partner_center.sight import Sight, look
from cosell_sync.partner_center.values import WireOptions, tenant_of
from cosell_sync.partner_center.write import Writer
from cosell_sync.ports import Findings, Identity, Outcome, Page, ReferralDraft, ReferralWrite
from cosell_sync.transport.client import HttpCaller

# For the caller: one new GUID for every request.
ID_HEADERS: Final = ("client-request-id", "MS-CorrelationId")

T = TypeVar("T")
R = TypeVar("R")


class PartnerCenter:
    """Implements ``ports.Referrals``. ``caller`` must know the sign-in.

    ``tenant``: the configured one, where the token does not name it. ``organization_id``: ours, where it is configured; see
    ``organizations``. ``workers``: how many referrals are read or written at once.
    """

    def __init__(
        self,
        caller: HttpCaller,
        wire: WireOptions | None = None,
        *,
        organization_id: str | None = None,
        tenant: str = "",
        workers: int = 4,
        page_size: int | None = None,
        findings: Findings | None = None,
    ) -> None:
        wire = wire or WireOptions()
        forms, organizations = Forms(wire, findings or Findings()), Organizations(organization_id)
        self._caller = caller
        self._tenant = tenant
        self._workers = workers
        self._outage = Outage()
        self._lookup = Lookup(caller, wire, organizations, self._outage)
        self._lists = Lists(caller, wire, forms, organizations, self._outage, page_size)
        self._writer = Writer(caller, wire, forms, organizations, self._outage, self._lookup)

    def identity(self) -> Identity:
        """Whose referrals these are: the tenant that the sign-in names, else the configured one."""
        token = self._caller.sign_in()
        tenant = tenant_of(token.value) if token else ""
        return Identity(SYSTEM, tenant or self._tenant.lower(), self._caller.address)

    def sight(self) -> Sight:
        """What this sign-in shows, by one call."""
        return look(self._caller)

    @property
    def calls(self) -> int:
        """HTTP requests made so far, retries included, sign-ins not."""
        return self._caller.calls

    @property
    def outage(self) -> OutsideError | None:
        """Why the last batch was cut short; None once the system answers again."""
        return self._outage.cause

    def changed_since(self, watermark: str | None, overlap: timedelta) -> Iterator[Page]:
        """Referrals updated since the watermark less the overlap; all of them without a watermark."""
        return self._lists.changed_since(watermark, overlap)

    def index(self) -> Iterator[Page]:
        """Every referral there is."""
        return self._lists.index()

    def fetch(self, ids: Sequence[str]) -> Mapping[str, Snapshot | None]:
        """Each referral as it is now; None where it is gone or out of sight (404).

        One that could not be read for reasons of its own is a snapshot with a ``problem``.
        """
        distinct = list(dict.fromkeys(ids))
        return dict(zip(distinct, self._spread(self._lookup.find, distinct), strict=True))

    def engagement(self, engagement_id: str) -> Sequence[Snapshot]:
        """All sides of a deal, other organizations' included (``category`` is ``foreign`` there)."""
        return self._lists.engagement(engagement_id)

    def find_created(self, external_reference: str) -> Snapshot | None:
        """Among the newest referrals, the one that carries this opportunity's id."""
        return self._lists.find_created(external_reference)

    def write(self, batch: Sequence[ReferralWrite]) -> Sequence[Outcome]:
        """Carry out each write; the outcomes stand in the order of the batch."""
        self._outage.forget()
        return self._spread(self._writer.write, batch)

    def create(self, draft: ReferralDraft) -> Outcome:
        """One POST, never repeated; ``Unclear`` where no answer came."""
        return self._writer.create(draft)

    def _spread(self, work: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Each item on a thread of the pool, with the log context of the one who asked."""
        if len(items) < 2:
            return list(map(work, items))
        with ThreadPoolExecutor(min(self._workers, len(items)), thread_name_prefix=SYSTEM) as pool:
            tasks = [pool.submit(contextvars.copy_context().run, work, item) for item in items]
            try:
                return [task.result() for task in tasks]
            except CosellError:
                for task in tasks:
                    task.cancel()
                raise
