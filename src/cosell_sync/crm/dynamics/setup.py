"""An environment's setup: what it holds of ours, and one change of it after another.

Customizations exclude each other, so each waits until the platform has time for it (0x80071151). What is read here is read
with `Consistency: Strong`, or a change of the last half minute might not be seen.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/use-web-api-metadata
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cosell_sync.crm.dynamics import metadata, odata, org
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.org import OPPORTUNITIES, SOLUTIONS, TABLES
from cosell_sync.crm.dynamics.rest import Rest, Row, strange
from cosell_sync.errors import Flaky, RecordError, Rejected, Unavailable, Unclear
from cosell_sync.transport.answers import error_body
from cosell_sync.transport.errors import Scope

PATIENCE: Final = timedelta(
    minutes=15
)  # how long the org may be busy with other customizations, or with an index
HINT: Final = (
    "sign in for this one command as an application user with the role System Administrator (the daemon never needs "
    "it), and name the daemon's application with --assign-to"
)
# SolutionConcurrencyFailure, ConcurrentOperationFailure, deadlock, SQL timeout: a moment later it may be done.
BUSY: Final = frozenset({"0x80071151", "0x80071154", "0x80044150", "0x80044151"})
EXISTS: Final = frozenset({"0x80047013", "0x80060893", "0x80060894"})  # a column, a key
ASSUMED: Final = 1033
_OURS: Final = f"uniquename eq {odata.literal(metadata.UNIQUE_NAME)}"

Progress = Callable[[str], None]


class SetupRefused(Rejected):
    """The environment does not let this user look at or change its setup."""

    def __init__(self, code: str, text: str, status: int | None) -> None:
        super().__init__(
            f"Dataverse does not let the signed-in user see or change the setup ({code}: {text})",
            code=code,
            status=status,
        )
        self.hint = HINT


@dataclass(frozen=True)
class Refusal:
    """The org's no to one change. ``there``: because it exists by now."""

    code: str
    text: str
    there: bool = False


@dataclass(frozen=True)
class There:
    """What the org holds of ours. ``behaviors``: of moments, by set and column. ``keys``: set → its keys."""

    publisher: Row | None
    solution: Row | None
    labels: metadata.Labels
    flags: Mapping[str, Row]
    columns: Mapping[str, Mapping[str, org.Column]]
    behaviors: Mapping[tuple[str, str], str]
    relationship: Row | None
    keys: Mapping[str, Sequence[Row]]
    views: frozenset[str]


@dataclass(frozen=True)
class Setup:
    """``rest`` reads consistently; ``progress`` hears what is waited for."""

    rest: Rest
    progress: Progress

    # --- looking ------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Mapping[str, Any]:
        try:
            found = self.rest.get(path, scope=Scope.RECORD)
        except (Flaky, Unclear) as error:
            raise Unavailable(SYSTEM, f"Dataverse stumbles ({error.code})", code=error.code) from None
        except RecordError as error:
            raise SetupRefused(error.code, error.text, error.status) from None
        if not isinstance(found, Mapping):
            raise strange()
        return found

    def rows(self, path: str) -> Sequence[Row]:
        """What we ask for here is never more than a page."""
        found = self.get(path).get("value")
        if not isinstance(found, list):
            raise strange()
        return [row for row in found if isinstance(row, Mapping)]

    def one(self, path: str) -> Row | None:
        return next(iter(self.rows(path)), None)

    def publisher(self) -> Row | None:
        columns = ("publisherid", "customizationprefix", "customizationoptionvalueprefix")
        return self.one(odata.query("publishers", select=columns, where=_OURS))

    def look(self) -> There:
        solution = odata.query("solutions", select=("solutionid", "_publisherid_value"), where=_OURS)
        flags = org.table_flags(self.rest)
        there = [name for name in (OPPORTUNITIES, SOLUTIONS) if name in flags]
        views = odata.query(
            "savedqueries",
            select=("name",),
            where=f"returnedtypecode eq {odata.literal(metadata.OPPORTUNITY)} and querytype eq 0",
        )
        return There(
            publisher=self.publisher(),
            solution=self.one(solution),
            labels=metadata.Labels(self._languages()),
            flags=flags,
            columns={name: org.table_columns(self.rest, name) for name in there},
            behaviors=self._behaviors(there),
            relationship=self._relationship() if SOLUTIONS in flags else None,
            keys={name: self.keys(name) for name in there},
            views=frozenset(str(row.get("name")) for row in self.rows(views)),
        )

    def _languages(self) -> Sequence[int]:
        row = self.one(odata.query("organizations", select=("organizationid", "languagecode"))) or {}
        base = row.get("languagecode")
        provisioned = self.get("RetrieveProvisionedLanguages()").get("RetrieveProvisionedLanguages")
        return metadata.spoken(
            base if isinstance(base, int) else ASSUMED, provisioned if isinstance(provisioned, list) else ()
        )

    def _behaviors(self, there: Sequence[str]) -> Mapping[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for name in there:
            path = f"{org.attributes(name, 'DateTime')}?$select=LogicalName,Format,DateTimeBehavior"
            for row in self.rows(path):
                behavior = str((row.get("DateTimeBehavior") or {}).get("Value"))
                days = row.get("Format") == "DateOnly"
                found[name, str(row.get("LogicalName"))] = "DateOnly" if days else behavior
        return found

    def _relationship(self) -> Row | None:
        """The relationship, by its name or by its column."""
        path = f"{definition(SOLUTIONS)}/ManyToOneRelationships"
        rows = self.rows(f"{path}?$select=SchemaName,ReferencingAttribute,CascadeConfiguration")
        wanted = [row for row in rows if row.get("SchemaName") == metadata.RELATIONSHIP]
        return next(
            iter(wanted or [r for r in rows if r.get("ReferencingAttribute") == metadata.PARENT]), None
        )

    def keys(self, collection: str) -> Sequence[Row]:
        path = f"{definition(collection)}/Keys"
        return self.rows(f"{path}?$select=LogicalName,SchemaName,KeyAttributes,EntityKeyIndexStatus")

    def whole(self, collection: str) -> dict[str, Any]:
        """The whole definition of a table, to be sent back with one change."""
        found = dict(self.get(definition(collection)))
        found.pop("@odata.context", None)
        return found

    # --- changing -----------------------------------------------------------------------------------------------

    def change(self, op: Op) -> Refusal | None:
        """Done, or why not. Raises ``Unclear`` for a lost answer and ``SetupRefused`` for a missing right."""
        end = self.rest.clock() + PATIENCE
        pause = 2.0
        while True:
            answer = self.rest.change(op)
            if answer.status < 300:
                return None
            said = error_body(answer.body)
            code = said.code or f"http_{answer.status}"
            if code not in BUSY:
                if answer.status == 403:
                    raise SetupRefused(code, said.text or "no reason given", answer.status)
                return Refusal(code, said.text or f"no reason given ({code})", code in EXISTS)
            if self.rest.clock() > end:
                raise Unavailable(
                    SYSTEM,
                    "the org is still busy with other customizations",
                    code="busy",
                    hint="wait for the import or publication that runs there, then run provision again",
                )
            self.progress("another customization is under way in the org")
            self.rest.wait(pause)
            pause = min(30.0, pause * 2)


def definition(collection: str) -> str:
    return f"EntityDefinitions(LogicalName={odata.literal(TABLES[collection])})"
