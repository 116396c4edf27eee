"""An environment's setup: what it has of ours, and one change of it after another.

Customizations exclude each other, so each change waits until the platform accepts it (0x80071151). Everything here is read
with `Consistency: Strong`; otherwise a change of the last half minute might be missing.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/use-web-api-metadata
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from cosell_sync.crm.dynamics import describe, odata, org
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.errors import SYSTEM
from cosell_sync.crm.dynamics.install import forms, schema
from cosell_sync.crm.dynamics.org import ACCOUNTS, DEFAULT_NAMES, OPPORTUNITIES, SOLUTIONS, TABLES, Column
from cosell_sync.crm.dynamics.rest import Rest, Row, strange
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.errors import Flaky, RecordError, Rejected, Unavailable, Unclear
from cosell_sync.transport.answers import error_body
from cosell_sync.transport.errors import Scope

# How long the org may be busy with other customizations, or with an index.
BUSY_LIMIT: Final = timedelta(minutes=15)
HINT: Final = (
    "sign in for this one command as an application user with the role System Administrator (the daemon never needs "
    "it), and name the daemon's application with --assign-to"
)
# SolutionConcurrencyFailure, ConcurrentOperationFailure, deadlock, SQL timeout: to be tried again a little later.
BUSY: Final = frozenset({"0x80071151", "0x80071154", "0x80044150", "0x80044151"})
EXISTS: Final = frozenset({"0x80047013", "0x80060893", "0x80060894"})  # a column, a key
DEFAULT_LANGUAGE: Final = 1033
_OURS: Final = f"uniquename eq {odata.literal(schema.UNIQUE_NAME)}"

Progress = Callable[[str], None]


class SetupRefused(Rejected):
    """The environment does not let this user read or change its setup."""

    def __init__(self, code: str, text: str, status: int | None) -> None:
        super().__init__(
            f"Dataverse does not let the signed-in user see or change the setup ({code}: {text})",
            code=code,
            status=status,
        )
        self.hint = HINT


@dataclass(frozen=True)
class Refusal:
    """Why the org refused one change. ``exists``: because the component exists by now."""

    code: str
    text: str
    exists: bool = False


@dataclass(frozen=True)
class Installed:
    """What the org has of ours, by entity set. ``flags``: what a table says of itself; only of tables that exist.
    ``behaviors``: how a date and time behaves, by set and column. ``views``: names of those of Opportunity.
    """

    publisher: Row | None
    solution: Row | None
    labels: schema.Labels
    flags: Mapping[str, Row]
    columns: Mapping[str, Mapping[str, org.Column]]
    behaviors: Mapping[tuple[str, str], str]
    relationship: Row | None
    keys: Mapping[str, Sequence[Row]]
    views: frozenset[str]
    pages: frozenset[str]  # ids of ours among forms and views


@dataclass(frozen=True)
class Setup:
    """``rest`` reads consistently; ``progress`` is called with what is being waited for, for the person at the terminal.

    ``names``: our name → column of opportunity. ``words``: the languages that labels are written and choices understood in.
    """

    rest: Rest
    progress: Progress
    names: Mapping[str, str] = field(default_factory=lambda: DEFAULT_NAMES)
    words: Words = ENGLISH_WORDS

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, path: str) -> Mapping[str, Any]:
        """Raises `SetupRefused` for a missing right, `Unavailable` where the environment fails for the moment."""
        try:
            found = self.rest.get(path, scope=Scope.RECORD)
        except (Flaky, Unclear) as error:
            raise Unavailable(SYSTEM, f"Dataverse failed ({error.code})", code=error.code) from None
        except RecordError as error:
            raise SetupRefused(error.code, error.text, error.status) from None
        if not isinstance(found, Mapping):
            raise strange()
        return found

    def rows(self, path: str) -> Sequence[Row]:
        """The rows of one page, which is all that these queries return."""
        found = self.get(path).get("value")
        if not isinstance(found, list):
            raise strange()
        return [row for row in found if isinstance(row, Mapping)]

    def one(self, path: str) -> Row | None:
        """The first row; None where there is none."""
        return next(iter(self.rows(path)), None)

    def columns(self, collection: str) -> Mapping[str, Column]:
        """The columns of a table, with our own choices under our names for them."""
        found = describe.table_columns(self.rest, collection)
        return describe.understood(collection, found, self.names, self.words)

    def publisher(self) -> Row | None:
        """Our publisher; None where there is none yet."""
        columns = ("publisherid", "customizationprefix", "customizationoptionvalueprefix")
        return self.one(odata.query("publishers", select=columns, where=_OURS))

    def read_installed(self) -> Installed:
        """What the environment has of ours, in about a dozen calls."""
        solution = odata.query("solutions", select=("solutionid", "_publisherid_value"), where=_OURS)
        flags = describe.table_flags(self.rest)
        existing = [name for name in (OPPORTUNITIES, SOLUTIONS) if name in flags]
        described = [*existing, *([ACCOUNTS] if ACCOUNTS in flags else [])]
        views = odata.query(
            "savedqueries",
            select=("name",),
            where=f"returnedtypecode eq {odata.literal(schema.OPPORTUNITY)} and querytype eq 0",
        )
        return Installed(
            publisher=self.publisher(),
            solution=self.one(solution),
            labels=schema.Labels(self._languages(), self.words),
            flags=flags,
            columns={name: self.columns(name) for name in described},
            behaviors=self._behaviors(existing),
            relationship=self._relationship() if SOLUTIONS in flags else None,
            keys={name: self.keys(name) for name in existing},
            views=frozenset(str(row.get("name")) for row in self.rows(views)),
            pages=frozenset(
                self._ids("systemforms", "formid", forms.FORM_ID, forms.SOLUTION_FORM_ID)
                + self._ids("savedqueries", "savedqueryid", forms.SOLUTION_VIEW_ID)
            ),
        )

    def _ids(self, collection: str, key: str, *wanted: str) -> list[str]:
        """Those of these rows that are there."""
        where = " or ".join(f"{key} eq {each}" for each in wanted)
        rows = self.rows(odata.query(collection, select=(key,), where=where))
        return [str(row.get(key)).lower() for row in rows]

    def _languages(self) -> Sequence[int]:
        row = self.one(odata.query("organizations", select=("organizationid", "languagecode"))) or {}
        base = row.get("languagecode")
        provisioned = self.get("RetrieveProvisionedLanguages()").get("RetrieveProvisionedLanguages")
        return schema.label_languages(
            base if isinstance(base, int) else DEFAULT_LANGUAGE,
            provisioned if isinstance(provisioned, list) else (),
            self.words,
        )

    def _behaviors(self, tables: Sequence[str]) -> Mapping[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for name in tables:
            path = f"{describe.attributes(name, 'DateTime')}?$select=LogicalName,Format,DateTimeBehavior"
            for row in self.rows(path):
                behavior = str((row.get("DateTimeBehavior") or {}).get("Value"))
                days = row.get("Format") == "DateOnly"
                found[name, str(row.get("LogicalName"))] = "DateOnly" if days else behavior
        return found

    def _relationship(self) -> Row | None:
        """The relationship, by its name or by its column."""
        path = f"{definition(SOLUTIONS)}/ManyToOneRelationships"
        rows = self.rows(f"{path}?$select=SchemaName,ReferencingAttribute,CascadeConfiguration")
        wanted = [row for row in rows if row.get("SchemaName") == schema.RELATIONSHIP]
        return next(iter(wanted or [r for r in rows if r.get("ReferencingAttribute") == schema.PARENT]), None)

    def keys(self, collection: str) -> Sequence[Row]:
        """The alternate keys of a table, with the state of their indexes."""
        path = f"{definition(collection)}/Keys"
        return self.rows(f"{path}?$select=LogicalName,SchemaName,KeyAttributes,EntityKeyIndexStatus")

    def whole(self, collection: str) -> dict[str, Any]:
        """The whole definition of a table, to be sent back with one change, because PUT replaces all of it."""
        found = dict(self.get(definition(collection)))
        found.pop("@odata.context", None)
        return found

    # --- changing -----------------------------------------------------------------------------------------------

    def change(self, op: Op) -> Refusal | None:
        """None once it is done, else why it was refused. Raises `Unclear` for a lost answer, `SetupRefused` for a missing right."""
        end = self.rest.clock() + BUSY_LIMIT
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
    """The address of a table's definition."""
    return f"EntityDefinitions(LogicalName={odata.literal(TABLES[collection])})"
