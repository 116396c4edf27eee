"""Views and forms: what an environment lacks of them, made; what is there belongs to the customer.

A view asks for choices by the numbers that the environment gave them, and a form draws a column by what it is there, so both are made
after the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from cosell_sync.crm.columns import SOLUTION_LABEL, VIEWS, Column, View
from cosell_sync.crm.dynamics import org
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.install import forms, schema
from cosell_sync.crm.dynamics.install.schema import IN_SOLUTION, OPPORTUNITY, SOLUTION, SOLUTION_NAMES, Body
from cosell_sync.crm.dynamics.install.setup import Installed, Setup, definition
from cosell_sync.crm.dynamics.org import OPPORTUNITIES, SOLUTIONS
from cosell_sync.crm.report import Finding, Status

Make = Callable[[str, Op, Sequence[str]], Finding]
FORM_REMEDY: Final = "put the columns on a form of yours, as the page on setting up Dynamics says"
SOLUTION_VIEW: Final = f"View {SOLUTION_LABEL}s"


class Pages:
    """One run. ``make`` sends a change, unless something that it rests on is ``missing``, which it notes, or this is a dry run.

    ``columns``: ours by our name. ``changed``: tables to publish.
    """

    def __init__(
        self,
        setup: Setup,
        make: Make,
        columns: Mapping[str, Column],
        installed: Installed,
        missing: Collection[str],
        *,
        dry_run: bool,
    ) -> None:
        self.setup = setup
        self.make = make
        self.columns = columns
        self.names = setup.names
        self.installed = installed
        self.missing = missing
        self.dry_run = dry_run
        self.changed: set[str] = set()
        self._there: Mapping[str, org.Column] = {}

    def findings(self, solution: str, table: str) -> Iterator[Finding]:
        """One finding a view and a form. ``solution``, ``table``: what our solution and the solutions' table go by."""
        for each in VIEWS:
            yield self._view(each, solution)
        yield self._solution_view([solution, table])
        yield self._form([solution, table, SOLUTION_VIEW])
        yield self._solution_form([solution, table])

    def _held(self, depends_on: Sequence[str]) -> bool:
        return self.dry_run or any(each in self.missing for each in depends_on)

    def _send(self, label: str, path: str, body: Body, depends_on: Sequence[str], table: str) -> Finding:
        """A form that is refused is left out: nothing needs it, and the columns can be put on the customer's own."""
        made = self.make(label, Op("POST", path, body, IN_SOLUTION), depends_on)
        self.changed |= {table} if made.status is Status.MADE else set()
        optional = path == "systemforms" and made.status is Status.FAILED
        return replace(made, status=Status.LEFT_OUT, todo=FORM_REMEDY) if optional else made

    def _columns_there(self) -> Mapping[str, org.Column]:
        """The columns of Opportunity as they are now, read once and only where something is to be made."""
        self._there = self._there or self.setup.columns(OPPORTUNITIES)
        return self._there

    def _code(self, collection: str) -> int:
        return int(self.setup.get(f"{definition(collection)}?$select=ObjectTypeCode")["ObjectTypeCode"])

    # --- views --------------------------------------------------------------------------------------------------

    def _view(self, wanted: View, solution: str) -> Finding:
        label = f"View {wanted.label}"
        if not self.setup.words.all_of(wanted.label).isdisjoint(self.installed.views):
            return Finding(label, Status.THERE)
        used = (*wanted.columns, *dict(wanted.where))
        depends_on = [solution, *(f"Column {OPPORTUNITY}.{self.names[ours]}" for ours in used)]
        if self._held(depends_on):
            return self.make(label, Op("POST", "savedqueries"), depends_on)
        numbers: dict[tuple[str, str], int] = {}
        for ours, values in wanted.where:
            for value in () if isinstance(values, bool) else values:
                column = self._columns_there().get(self.names[ours])
                choice = column.labelled(value) if column else None
                if choice is None:
                    return Finding(label, Status.BLOCKED, f"{self.names[ours]} has no choice {value}")
                numbers[ours, value] = choice.value
        body = schema.view(wanted, self.names, numbers, self._code(OPPORTUNITIES), self.installed.labels)
        return self._send(label, "savedqueries", body, depends_on, OPPORTUNITY)

    def _solution_view(self, depends_on: Sequence[str]) -> Finding:
        if forms.SOLUTION_VIEW_ID in self.installed.pages:
            return Finding(SOLUTION_VIEW, Status.THERE)
        depends_on = [*depends_on, *self._solution_columns("code", "name", "type")]
        if self._held(depends_on):
            return self.make(SOLUTION_VIEW, Op("POST", "savedqueries"), depends_on)
        body = forms.solution_view(self._code(SOLUTIONS), self.installed.labels)
        return self._send(SOLUTION_VIEW, "savedqueries", body, depends_on, SOLUTION)

    def _solution_columns(self, *ours: str) -> list[str]:
        return [f"Column {SOLUTION}.{SOLUTION_NAMES[each]}" for each in ours]

    # --- forms --------------------------------------------------------------------------------------------------

    def _form(self, depends_on: Sequence[str]) -> Finding:
        label = f"Form {forms.FORM}"
        if forms.FORM_ID in self.installed.pages:
            return Finding(label, Status.THERE)
        shown = [ours for part in forms.SECTIONS for _, listed in part for ours in listed]
        depends_on = [*depends_on, *(f"Column {OPPORTUNITY}.{self.names[ours]}" for ours in shown)]
        if self._held(depends_on):
            return self.make(label, Op("POST", "systemforms"), depends_on)
        there = self._columns_there()
        body = forms.opportunity_form(
            self.names,
            self.columns,
            self.installed.labels,
            titles={name: column.words for name, column in there.items()},
            kinds={name: column.type for name, column in there.items()},
        )
        return self._send(label, "systemforms", body, depends_on, OPPORTUNITY)

    def _solution_form(self, depends_on: Sequence[str]) -> Finding:
        label = f"Form {SOLUTION_LABEL}"
        if forms.SOLUTION_FORM_ID in self.installed.pages:
            return Finding(label, Status.THERE)
        depends_on = [
            *depends_on,
            *self._solution_columns("code", "name", "type"),
            f"Relationship {schema.RELATIONSHIP}",
        ]
        if self._held(depends_on):
            return self.make(label, Op("POST", "systemforms"), depends_on)
        return self._send(
            label, "systemforms", forms.solution_form(self.installed.labels), depends_on, SOLUTION
        )
