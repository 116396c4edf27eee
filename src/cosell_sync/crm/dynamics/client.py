"""The CRM port over Dynamics 365 Sales: each call of a cycle is passed to the module that does it.

changes    what changed; `read`: records, look-alikes, users, index; their addresses are built by `odata`
write      guarded updates; `create`: new opportunities; both with `customers`, `related` and `closing`
org        what this environment can hold, which `describe` reads once
translate  rows ⇄ values, pure, with `versions`
rest       one call, or several in one (`batch`)
install    what an admin installs and `doctor` checks; no cycle uses it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import partial

from cosell_sync.crm.adapter import MATCH, CrmAdapter, CrmFunctions
from cosell_sync.crm.dynamics import changes, create, describe, lookups, org, read
from cosell_sync.crm.dynamics.org import Org
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.dynamics.write import Writer
from cosell_sync.crm.users import Directory
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.crm.writes import Ownership


class DynamicsCrm(CrmAdapter[Org, Writer]):
    """``names``: our name → column of opportunity, replacing defaults. ``match``: the parts of a customer by which two are one.

    ``words``: the language of the sellers, and those that choices may be labelled in. ``close_date_zone``: in which a close date
    is a day; it matters where the column travels as an instant (`single_values`).
    """

    def __init__(
        self,
        rest: Rest,
        *,
        names: Mapping[str, str] | None = None,
        match: Sequence[str] = MATCH,
        ownership: Ownership | None = None,
        words: Words | None = None,
        close_date_zone: tzinfo = UTC,
    ) -> None:
        self.rest = rest
        self.words = words or ENGLISH_WORDS
        self.names = named = org.field_names(names)
        directory = Directory(lambda people: lookups.users(rest, self.org, people))
        functions = CrmFunctions(
            calls=lambda: rest.calls,
            identity=lambda: describe.identity(rest),
            org=lambda: replace(describe.read(rest, named, self.words), close_date_zone=close_date_zone),
            stages=lambda: describe.read_stages(rest, named["stage"]),
            changed_since=partial(changes.changed_since, rest),
            fetch=partial(read.fetch, rest),
            find=partial(lookups.find, rest),
            foreign_accounts=partial(lookups.foreign_accounts, rest),
            index=partial(read.index, rest),
            writer=lambda now: Writer(rest, now, directory, tuple(match)),
            create=create.create,
            directory=directory,
        )
        super().__init__(functions, match=match, ownership=ownership)

    def forget_shape(self) -> None:
        """Read the environment again, and ask whose it is: it may have been copied over."""
        self.rest.forget_who()
        super().forget_shape()
