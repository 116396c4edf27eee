"""What `doctor` checks in Salesforce: each precondition on its own, with the one next step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from cosell_sync.core.fields import KINDS, NEWER, SELLER, Kind
from cosell_sync.crm.report import Check
from cosell_sync.crm.salesforce import composite, describe, errors, queries, translate, versions
from cosell_sync.crm.salesforce.org import (
    ACCOUNT,
    CONTACT,
    DEFAULT_NAMES,
    DUNS,
    KEY,
    LABELS,
    OPPORTUNITY,
    ROLE,
    SOLUTION,
    TEAM,
    USER,
    Org,
)
from cosell_sync.crm.salesforce.org import OPTIONAL as READ
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.values import pieces
from cosell_sync.errors import OutsideError, Surprise

GRANT: Final = "grant it in the permission set `Cosell Sync` and assign that to the integration user"
SHARE: Final = "give View All on accounts and contacts in the permission set `Cosell Sync`, or share these rows with the integration user"
SAMPLE: Final = 200  # opportunities that are looked through for rows out of sight
PROVISION: Final = f"run `cosell-sync provision`; if it exists, {GRANT}"

# Kind of our field → describe types that can hold it.
TYPES: Final[Mapping[Kind, frozenset[str]]] = {
    Kind.TEXT: frozenset({"string", "textarea", "picklist", "combobox", "url"}),
    Kind.NOTES: frozenset({"string", "textarea"}),
    Kind.NUMBER: frozenset({"currency", "double"}),
    Kind.DATE: frozenset({"date"}),
    Kind.MOMENT: frozenset({"datetime"}),
    Kind.FLAG: frozenset({"boolean"}),
}
OPTIONAL: Final = frozenset({"currency"})
# object → rights needed there: creating rows, changing them, removing them.
RIGHTS: Final[Mapping[str, Sequence[str]]] = {
    OPPORTUNITY: ("createable", "updateable"),
    ACCOUNT: ("createable", "updateable"),
    CONTACT: ("createable", "updateable"),
    ROLE: ("createable", "updateable", "deletable"),
    SOLUTION: ("createable", "updateable", "deletable"),
    TEAM: ("createable", "deletable"),
}
WORDS: Final = {"createable": "create", "updateable": "edit", "deletable": "delete"}


def check(rest: Rest, names: Mapping[str, str], stages: Sequence[str] = ()) -> Sequence[Check]:
    """One result a precondition. ``stages``: those that the mapping names. Never raises for a system that is away: the result
    then carries the error.
    """
    return list(_checks(rest, names, stages))


def check_fields(org: Org, names: Mapping[str, str]) -> Sequence[Check]:
    """The part of ``check`` that needs no call: the fields of Opportunity in the org as it was read."""
    return list(_fields({"fields": list(org.fields[OPPORTUNITY].values())}, names))


def _checks(rest: Rest, names: Mapping[str, str], stages: Sequence[str]) -> Iterator[Check]:
    try:
        rest.sign_in()
        yield Check("salesforce.sign_in", "ok", "signed in")
        objects = _describe(rest)
        yield from _fields(objects.get(OPPORTUNITY), names)
        yield from _objects(objects)
        yield from _stages(rest, stages)
        yield from _cycle(rest, names)
    except OutsideError as error:
        yield Check("salesforce.reachable", "fault", str(error), error.hint or "try again later", error)
        return
    yield from _budget(rest)


def _describe(rest: Rest) -> Mapping[str, Mapping[str, Any]]:
    """Object → its describe, one call each; an object that is missing or hidden is left out."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in RIGHTS:
        try:
            found[name] = getattr(rest.salesforce(), name).describe()
        except errors.refusals():
            continue
    return found


def _fields(described: Mapping[str, Any] | None, names: Mapping[str, str]) -> Iterator[Check]:
    if described is None:
        yield Check("salesforce.Opportunity", "fault", "the integration user cannot see opportunities", GRANT)
        return
    columns = {each["name"]: each for each in described["fields"]}
    for name, crm in names.items():
        if crm in columns:
            yield _field(name, crm, columns[crm])
        elif name not in OPTIONAL:
            ours = crm != DEFAULT_NAMES.get(name) or crm.endswith("__c")
            status = "fault" if ours and name not in NEWER else "warning"
            text = f"field {crm} is missing, or hidden from the integration user"
            made = crm.endswith("__c")
            todo = PROVISION if made else f"correct mapping.fields.{name}; if {crm} exists, {GRANT}"
            yield Check(f"salesforce.Opportunity.{crm}", status, text, todo)


def _field(name: str, crm: str, column: Mapping[str, Any]) -> Check:
    label = f"salesforce.Opportunity.{crm}"
    kinds = TYPES[KINDS[name]]
    if column["type"] not in kinds:
        text = f"field {crm} is of type {column['type']}"
        return Check(label, "fault", text, f"it must be one of: {', '.join(sorted(kinds))}")
    if name == "referral_id" and not (column.get("externalId") and column.get("unique")):
        text = f"field {crm} is not a unique external id"
        return Check(label, "fault", text, "set External ID and Unique on it")
    if name in READ and not column.get("updateable"):
        return Check(label, "ok", "there, of the right type, readable")
    if not column.get("updateable"):
        status = "warning" if name in {*SELLER, *NEWER} and name != "action" else "fault"
        return Check(label, status, f"the integration user cannot edit {crm}", GRANT)
    return Check(label, "ok", "there, of the right type, editable")


def _objects(objects: Mapping[str, Mapping[str, Any]]) -> Iterator[Check]:
    for name, rights in RIGHTS.items():
        label = f"salesforce.{name}"
        described = objects.get(name)
        if described is None and name == TEAM:
            yield Check(
                label,
                "warning",
                "team selling is off: a deal's team is its owner alone",
                "enable Team Selling in Setup to sync the colleagues of a deal",
            )
        elif described is None:
            yield Check(label, "fault", f"{name} is missing, or hidden from the integration user", PROVISION)
        elif missing := [WORDS[right] for right in rights if not described.get(right)]:
            yield Check(label, "fault", f"the integration user may not {', '.join(missing)} {name}", GRANT)
        elif name == SOLUTION and not any(
            each["name"] == KEY and each.get("externalId") for each in described["fields"]
        ):
            yield Check(label, "fault", f"{KEY} is missing, or is no external id", PROVISION)
        else:
            yield Check(label, "ok", f"may {', '.join(WORDS[right] for right in rights)}")


def _stages(rest: Rest, stages: Sequence[str]) -> Iterator[Check]:
    if not stages:
        return
    text = "SELECT ApiName, IsActive FROM OpportunityStage"
    (rows,) = composite.everything(rest, [composite.query(text)])
    there = {str(row["ApiName"]) for row in rows if row.get("IsActive", True)}
    for name in dict.fromkeys(stages):
        if name in there:
            yield Check(f"salesforce.stage.{name}", "ok", "there")
        else:
            known = ", ".join(sorted(there))
            yield Check(
                f"salesforce.stage.{name}",
                "fault",
                f"the org has no active stage {name}",
                f"name one of these in mapping: {known}",
            )


def _cycle(rest: Rest, names: Mapping[str, str]) -> Iterator[Check]:
    """What a cycle reads: fields that it has to leave out, its own queries, and rows that it does not see."""
    try:
        org = describe.read(rest, names)
    except Surprise:
        return  # what is missing was named before
    for ours, columns in {**org.hidden_parts, **org.hidden}.items():
        for column in columns:
            whole = ours in org.hidden
            left = (
                f"{LABELS.get(ours, ours)} not synchronised"
                if whole
                else f"{LABELS[ours]} synchronised without it"
            )
            todo = (
                GRANT if not column.startswith(USER) else f"give the integration user read access to {column}"
            )
            text = f"field {column} is hidden from the integration user: {left}"
            yield Check(f"salesforce.{column}", "warning", text, todo)
    if org.reads_account and not org.shape().duns:
        column = org.duns or DUNS[-1]
        why = "not editable by" if org.duns else "missing, or hidden from"
        text = f"field {column} is {why} the integration user: D-U-N-S numbers are not taken over"
        yield Check(f"salesforce.{ACCOUNT}.{column}", "warning", text, PROVISION)
    texts = _queries(org, versions.format_stamp(rest.clock()))
    replies: list[composite.Reply] = []
    for some in pieces(list(texts.values()), composite.QUERIES):
        found, at = composite.send(rest, some, repeat=True)
        replies += found
    refused = {name: reply for name, reply in zip(texts, replies, strict=True) if not reply.fine}
    for name, reply in refused.items():
        fault = next(iter(errors.faults(reply.body)), None)
        text = f"{fault.code}: {fault.text}" if fault else f"status {reply.status}"
        yield Check(
            f"salesforce.query.{name}", "fault", f"the org refuses this query of a cycle ({text})", GRANT
        )
    if not refused:
        yield Check("salesforce.query", "ok", f"all {len(texts)} queries of a cycle are answered")
        yield from _out_of_sight(org, composite.rows(replies[0], at).rows)


def _queries(org: Org, stamp: str) -> Mapping[str, composite.Part]:
    """The queries of a cycle, each for a few rows; the first one reads the opportunities changed last."""
    person = ["nobody@cosell-sync.invalid"]
    scope = queries.in_scope_filter(org)
    texts = {
        "opportunities": f"{queries.opportunities(org, scope, order='SystemModstamp DESC')} LIMIT {SAMPLE}",
        "changed": queries.changed(org, stamp),
        **{f"changed_{kind}": text for kind, text in queries.changed_around(org, stamp).items()},
        "index": f"{queries.index(org)} LIMIT 1",
        "referrals": queries.by_referrals(org, ["none"]),
        "users": queries.users(person),
        "contacts": queries.contacts(org, (), person) if "contacts" not in org.hidden else "",
        "lookalikes": queries.lookalikes(org, ["none"]) if org.identifies_accounts else "",
        "accounts": queries.accounts(org, ["none"]) if org.identifies_accounts else "",
    }
    parts = {name: composite.query(text) for name, text in texts.items() if text}
    bin_ = {f"deleted_{kind}": text for kind, text in queries.deleted(org, stamp).items()}
    return {**parts, **{name: composite.query(text, deleted=True) for name, text in bin_.items()}}


def _out_of_sight(org: Org, rows: Sequence[composite.Row]) -> Iterator[Check]:
    """Rows that opportunities name and the integration user does not see, in a sample."""
    found = Counter(name for row in rows for name in translate.out_of_sight(row, org) if name in LABELS)
    for name, count in found.items():
        text = f"{LABELS[name]}: of {len(rows)} opportunities, {count} name rows that the integration user does not see"
        yield Check(f"salesforce.sharing.{name}", "warning", text, SHARE)


def _budget(rest: Rest) -> Iterator[Check]:
    if rest.usage is None:
        return
    used, total = rest.usage
    tight = total > 0 and used / total > 0.8
    yield Check(
        "salesforce.api_calls",
        "warning" if tight else "ok",
        f"{used} of {total} API calls used in the last 24 hours",
        "set budget.crm, or buy API calls, before the org runs out" if tight else "",
    )
