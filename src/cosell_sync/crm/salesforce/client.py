"""The CRM port over Salesforce: what the cycle asks for, handed to the module that knows how.

org        what this org can hold, read once
reading    changes, records, look-alikes, users, index
writing    guarded updates          creating   new opportunities
checks     what `doctor` looks at
rest       one call; beneath it `signin`, above it `composite` (several in one) and `bulk` (many rows in one)
records    rows ⇄ values, pure, with `versions`, `states` and `children`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from cosell_sync.crm.adapter import MATCH, CrmAdapter, Parts
from cosell_sync.crm.salesforce import checks, create, org, read
from cosell_sync.crm.salesforce.org import Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.write import Guard, Writer
from cosell_sync.crm.users import Directory
from cosell_sync.crm.writes import Ownership


class SalesforceCrm(CrmAdapter[Org, Writer]):
    """``names``: our field → field of Opportunity, laid over the defaults. ``match``: what makes two customers one."""

    def __init__(
        self,
        rest: Rest,
        *,
        names: Mapping[str, str] | None = None,
        match: Sequence[str] = MATCH,
        ownership: Ownership | None = None,
        guard: Guard | None = None,
    ) -> None:
        self.rest = rest
        named = org.field_names(names)
        directory = Directory(lambda people: read.users(rest, self.org, people))
        parts = Parts(
            calls=lambda: rest.calls,
            org=lambda: org.read(rest, named),
            changed_since=partial(read.changed_since, rest),
            fetch=partial(read.fetch, rest),
            find=partial(read.find, rest),
            index=partial(read.index, rest),
            writer=lambda now: Writer(rest, now, directory, guard or Guard(), tuple(match)),
            create=create.create,
            check=partial(checks.check, rest, named),
            directory=directory,
        )
        super().__init__(parts, match=match, ownership=ownership)
