"""The CRM port over Salesforce: each call of a cycle is passed to the module that does it.

read       changes, records, look-alikes, users, index; its SOQL is in `queries`
write      guarded updates; `create`: new opportunities; both with `customers` and `related`
org        what this org can hold, which `describe` reads once
translate  rows ⇄ values, pure, with `versions` and `states`
rest       one call; above it `composite` (several requests in one) and `bulk` (many rows in one)
install    what an admin installs and `doctor` checks; no cycle uses it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from cosell_sync.crm.adapter import MATCH, CrmAdapter, CrmFunctions
from cosell_sync.crm.salesforce import create, describe, org, read
from cosell_sync.crm.salesforce.org import Org
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.write import Guard, Writer
from cosell_sync.crm.users import Directory
from cosell_sync.crm.writes import Ownership


class SalesforceCrm(CrmAdapter[Org, Writer]):
    """``names``: our name → field of Opportunity, replacing defaults. ``match``: the parts of a customer by which two are one."""

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
        self.names = named = org.field_names(names)
        directory = Directory(lambda people: read.users(rest, self.org, people))
        functions = CrmFunctions(
            calls=lambda: rest.calls,
            identity=lambda: describe.identity(rest),
            org=lambda: describe.read(rest, named),
            changed_since=partial(read.changed_since, rest),
            fetch=partial(read.fetch, rest),
            find=partial(read.find, rest),
            index=partial(read.index, rest),
            writer=lambda now: Writer(rest, now, directory, guard or Guard(), tuple(match)),
            create=create.create,
            directory=directory,
        )
        super().__init__(functions, match=match, ownership=ownership)
