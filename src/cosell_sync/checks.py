"""What must be so in the CRM: everything that ``doctor`` checks there, for it and for the guard of a writing cycle.

The modules that know a CRM's own description are loaded where they are needed: ``whole`` before the first step of a process
that cannot be undone, the pure part with each cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from cosell_sync.core.preconditions import Fault
from cosell_sync.crm.report import Check

if TYPE_CHECKING:
    from cosell_sync.crm.dynamics.client import DynamicsCrm
    from cosell_sync.crm.salesforce.client import SalesforceCrm


def check_crm(kind: str, crm: SalesforceCrm | DynamicsCrm, stages: Sequence[str]) -> Sequence[Check]:
    """Every precondition in the CRM, by asking it. ``kind``: which CRM it is. ``stages``: those that the mapping names."""
    if kind == "salesforce":
        from cosell_sync.crm.salesforce.install.checks import check as check_salesforce  # noqa: PLC0415

        org = cast("SalesforceCrm", crm)
        return check_salesforce(org.rest, org.names, stages)
    from cosell_sync.crm.dynamics.install.checks import check as check_dynamics  # noqa: PLC0415

    environment = cast("DynamicsCrm", crm)
    return check_dynamics(environment.rest, environment.names, stages)


def check_org(kind: str, crm: SalesforceCrm | DynamicsCrm) -> Sequence[Check]:
    """The part of ``check_crm`` that needs no call: what is known of the org as it was read."""
    if kind == "salesforce":
        from cosell_sync.crm.salesforce.install.checks import check_fields as fields_of_salesforce  # noqa: PLC0415

        org = cast("SalesforceCrm", crm)
        return fields_of_salesforce(org.org, org.names)
    from cosell_sync.crm.dynamics.install.checks import check_fields as fields_of_dynamics  # noqa: PLC0415

    environment = cast("DynamicsCrm", crm)
    return fields_of_dynamics(environment.org, environment.names)


class CrmPreconditions:
    """``cycle.context.Preconditions`` over a CRM; what was checked whole is kept for as long as the org was not read anew."""

    def __init__(self, kind: str, crm: SalesforceCrm | DynamicsCrm, stages: Sequence[str]) -> None:
        self._kind = kind
        self._crm = crm
        self._stages = stages
        self._checked: object = None
        self._found: Sequence[Check] = ()

    def __call__(self, whole: bool) -> Sequence[Fault]:
        """The faults. Raises OutsideError where the CRM cannot be asked."""
        org = self._crm.org
        if whole and self._checked is not org:
            found = check_crm(self._kind, self._crm, self._stages)
            for each in found:
                if each.error is not None:
                    raise each.error
            self._checked, self._found = org, found
        checks = self._found if self._checked is org else check_org(self._kind, self._crm)
        return [Fault(each.name, each.message, each.todo) for each in checks if each.status == "fault"]
