"""The CRM port over Dynamics 365 Sales: what the cycle asks for, handed to the module that knows how.

org        what this environment can hold, read once
feeds      what changed         reading    records, look-alikes, users, index
writing    guarded updates      creating   new opportunities      (both: `people`)
checks     what `doctor` looks at
rest       one call, or several in one; beneath it `signin`
records    rows ⇄ values, pure, with `odata`, `batch`, `versions`, `children` and `closing`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from cosell_sync.crm.adapter import MATCH, CrmAdapter, CrmFunctions
from cosell_sync.crm.dynamics import changes, create, describe, org, read
from cosell_sync.crm.dynamics.org import Org
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.write import Writer
from cosell_sync.crm.users import Directory
from cosell_sync.crm.writes import Ownership


class DynamicsCrm(CrmAdapter[Org, Writer]):
    """``names``: our field → column of opportunity, laid over the defaults. ``match``: what makes two customers one.

    ``closed_rows``: whether our own columns are written to a closed opportunity.
    """

    def __init__(
        self,
        rest: Rest,
        *,
        names: Mapping[str, str] | None = None,
        match: Sequence[str] = MATCH,
        ownership: Ownership | None = None,
        closed_rows: bool = False,
    ) -> None:
        self.rest = rest
        self.names = named = org.field_names(names)
        directory = Directory(lambda people: read.users(rest, self.org, people))
        closed = org.ClosedRows(write=closed_rows)
        functions = CrmFunctions(
            calls=lambda: rest.calls,
            org=lambda: replace(describe.read(rest, named), closed=closed),
            changed_since=partial(changes.changed_since, rest),
            fetch=partial(read.fetch, rest),
            find=partial(read.find, rest),
            index=partial(read.index, rest),
            writer=lambda now: Writer(rest, now, directory, tuple(match)),
            create=create.create,
            directory=directory,
        )
        super().__init__(functions, match=match, ownership=ownership)
