"""Makes in an org what `schema` lists and the org lacks: read, compare, deploy, grant, assign.

What is missing goes in one deployment, all or nothing, permission sets included. What exists is never written again, also
where it differs: the finding then says how, and a person decides. Permission sets that exist are completed by `permissions`.
Buttons, the compact layout, reports and the dashboard follow when the permission set is assigned, each kind in a deployment of its
own: what an org has against one of them holds nothing else back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS
from cosell_sync.crm.report import Finding, Status, stop_when_unclear
from cosell_sync.crm.salesforce.install import package, reports, setup
from cosell_sync.crm.salesforce.install.differences import differences
from cosell_sync.crm.salesforce.install.permissions import Permissions
from cosell_sync.crm.salesforce.install.schema import Body, Component, components
from cosell_sync.crm.salesforce.install.setup import Installed
from cosell_sync.crm.salesforce.org import ACCOUNT, DUNS, OPPORTUNITY, field_names
from cosell_sync.crm.salesforce.queries import soql
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.errors import Rejected

Held = tuple[Status, str] | None
REMEDY: Final = "cure what Salesforce names, then run provision again"
# What the daemon can do without: type, and what to do where the org refuses it. Each is a deployment of its own.
OPTIONAL: Final[Mapping[str, str]] = {
    "QuickAction": "sellers answer in the field Co-sell action meanwhile; cure what Salesforce names, then run provision again",
    "CompactLayout": "add the fields to a compact layout of yours, or cure what Salesforce names and run provision again",
    "Report": (
        "a report is made by somebody who sees its fields: to have these, assign Cosell Seller to the user who runs provision, "
        "and run it again"
    ),
    "Dashboard": "the reports are there without it; editions differ in how many dashboards show each viewer the viewer's own data",
}
NO_REPORTS: Final = "the signed-in user sees no reports; run provision as an admin to have them"


def provision(
    rest: Rest,
    names: Mapping[str, str] | None = None,
    *,
    dry_run: bool = False,
    assign: str | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    words: Words = ENGLISH_WORDS,
) -> Sequence[Finding]:
    """One finding a component, the daemon's before the sellers'.

    ``assign``: name of the user who receives the integration permission set; by default the signed-in user. ``choices``: see
    `components`. ``words``: the language of what is made.
    Raises `SetupRefused` where the signed-in user lacks the rights, `Unavailable` where the org does not answer.
    """
    with stop_when_unclear(SYSTEM):
        return _Provisioning(rest, field_names(names), choices, dry_run=dry_run, words=words).findings(assign)


class _Provisioning:
    """One run over one org."""

    def __init__(
        self,
        rest: Rest,
        names: Mapping[str, str],
        choices: Mapping[str, Sequence[str]] | None,
        *,
        dry_run: bool,
        words: Words,
    ) -> None:
        self.rest = rest
        self.choices = choices
        self.names = names
        self.words = words
        self.dry_run = dry_run
        self.made = Status.TO_MAKE if dry_run else Status.MADE

    def findings(self, assign: str | None) -> Sequence[Finding]:
        """Runs every step; one finding a component."""
        user_id, user_name = self._user(assign)
        own_duns = setup.has_field(self.rest, ACCOUNT, DUNS[0])
        made = components(self.names, self.choices, own_duns=own_duns, words=self.words)
        wanted = [each for each in made if each.type not in OPTIONAL]
        extra = [each for each in made if each.type in OPTIONAL]
        extra += reports.components(self.names, self.words)
        installed = setup.read_installed(self.rest, [*wanted, *extra])
        missing = [each for each in wanted if str(each) not in installed.bodies]
        failures = self._deploy(missing)
        found = [
            self._deployed(each, failures)
            if each in missing
            else self._compared(each, installed.bodies[str(each)])
            for each in wanted
        ]
        known = {str(each) for each in missing}
        found += [
            Finding(name or "deployment", Status.FAILED, text, REMEDY)
            for name, text in failures.items()
            if name not in known
        ]
        permissions = Permissions(self.rest, self.dry_run, deployed=not failures)
        new_fields = {each.name for each in missing if each.type == "CustomField"}
        for each in wanted:
            if each.type == "PermissionSet" and each.name in installed.permission_sets:
                found += permissions.complete(each, installed.permission_sets[each.name], new_fields)
        found.append(permissions.assignment(user_id, user_name))
        held = (Status.BLOCKED, "the deployment failed") if failures else None
        return [*found, *self._optional(extra, installed, held, waits=bool(missing))]

    def _optional(
        self, wanted: Sequence[Component], installed: Installed, held: Held, *, waits: bool
    ) -> Iterator[Finding]:
        """One finding a component. ``held``: what becomes of all that is missing, and why. ``waits``: whether what these rest on is
        missing; a dry run then has nothing to check them against.
        """
        for kind, remedy in OPTIONAL.items():
            part = [each for each in wanted if each.type in {kind, f"{kind}Folder"}]
            missing = [each for each in part if str(each) not in installed.bodies]
            if not held and kind == "Report" and not installed.sees_reports:
                held = (Status.LEFT_OUT, NO_REPORTS)
            failures = {} if held or (self.dry_run and waits) else self._deploy(missing)
            for each in part:
                yield self._filed(each, failures, remedy, held if each in missing else (Status.THERE, ""))
            known = {package.told_as(each) for each in missing}
            for name, text in failures.items():
                if name not in known:
                    yield Finding(name or f"deployment of {kind}", Status.LEFT_OUT, text, remedy)
            if kind == "Report":  # the dashboard shows them
                held = held or ((Status.LEFT_OUT, "rests on the reports") if failures else None)
                waits = waits or bool(missing)

    def _filed(self, each: Component, failures: Mapping[str, str], remedy: str, known: Held) -> Finding:
        """``known``: what became of it without a deployment."""
        if known:
            return Finding(str(each), *known)
        if not failures:
            return Finding(str(each), self.made)
        if text := failures.get(package.told_as(each)):
            return Finding(str(each), Status.LEFT_OUT, text, remedy)
        return Finding(
            str(each), Status.LEFT_OUT, "a deployment is all or nothing, and another one was refused"
        )

    def _user(self, name: str | None) -> tuple[str, str]:
        """Id and name of the user who receives the integration permission set."""
        column, value = ("Username", name) if name else ("Id", self.rest.user_id)
        for row in setup.query(
            self.rest, soql("SELECT Id, Username FROM User WHERE {:literal} = {}", column, value)
        ):
            return str(row["Id"]), str(row["Username"])
        raise Rejected(f"the org shows no user with {column} {value}", code="no_user")

    def _deploy(self, missing: Sequence[Component]) -> Mapping[str, str]:
        """Component that failed → the org's text; empty where all of them were deployed or none was missing."""
        if not missing:
            return {}
        zipped = package.bundle(missing, self.names, self.rest.version, self.words)
        return setup.deploy(self.rest, zipped, check_only=self.dry_run)

    def _deployed(self, each: Component, failures: Mapping[str, str]) -> Finding:
        if not failures:
            return Finding(str(each), self.made, each.note)
        if text := failures.get(str(each)):
            return Finding(str(each), Status.FAILED, text, REMEDY)
        return Finding(
            str(each), Status.BLOCKED, "a deployment is all or nothing, and another component failed"
        )

    def _compared(self, each: Component, found: Body) -> Finding:
        if differing := differences(each, found):
            return Finding(str(each), Status.DIFFERS, "; ".join(differing), self._remedy(each))
        off = each.type == "ValidationRule" and found.get("active") is False
        return Finding(str(each), Status.THERE, "switched off by an admin" if off else each.note)

    def _remedy(self, each: Component) -> str:
        change = f"left as it is; change it in Setup > Object Manager > {each.object or each.name}"
        ours = next((key for key in OPPORTUNITY_COLUMNS if self.names[key] == each.own_name), None)
        if ours and each.type == "CustomField" and each.object == OPPORTUNITY:
            return f"{change}, or name another field in mapping.fields.{ours}"
        return change
