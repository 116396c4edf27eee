"""Makes in an org what `schema` lists and the org lacks: read, compare, deploy, grant, assign.

What is missing goes in one deployment, all or nothing, permission sets included. What exists is never written again, also
where it differs: the finding then says how, and a person decides. Permission sets that exist are completed by `permissions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from cosell_sync.crm.columns import OPPORTUNITY_COLUMNS
from cosell_sync.crm.report import Finding, Status, stop_when_unclear
from cosell_sync.crm.salesforce.install import package, setup
from cosell_sync.crm.salesforce.install.differences import differences
from cosell_sync.crm.salesforce.install.permissions import Permissions
from cosell_sync.crm.salesforce.install.schema import Body, Component, components
from cosell_sync.crm.salesforce.org import ACCOUNT, DUNS, OPPORTUNITY, field_names
from cosell_sync.crm.salesforce.queries import soql
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.crm.words import ENGLISH_WORDS, Words
from cosell_sync.errors import Rejected

REMEDY: Final = "cure what Salesforce names, then run provision again"


def provision(
    rest: Rest,
    names: Mapping[str, str] | None = None,
    *,
    dry_run: bool = False,
    assign: str | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
    words: Words = ENGLISH_WORDS,
) -> Sequence[Finding]:
    """One finding a component, in the order of `components`, then the grants and the assignment.

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
        wanted = components(self.names, self.choices, own_duns=own_duns, words=self.words)
        installed = setup.read_installed(self.rest, wanted)
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
        return [*found, permissions.assignment(user_id, user_name)]

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
