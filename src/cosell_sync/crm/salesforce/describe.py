"""Reads an org's shape: one composite of describes and two small queries.
https://developer.salesforce.com/docs/platform/api-rest/guide/resources-sobject-describe.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from cosell_sync.crm.salesforce import composite, errors, states
from cosell_sync.crm.salesforce.composite import Part, Reply
from cosell_sync.crm.salesforce.org import (
    ACCOUNT,
    CONTACT,
    OPPORTUNITY,
    ROLE,
    SOLUTION,
    TEAM,
    USER,
    Field,
    Org,
)
from cosell_sync.crm.salesforce.rest import Rest
from cosell_sync.crm.salesforce.signin import SYSTEM
from cosell_sync.errors import Surprise
from cosell_sync.ports import Identity, StageFlags

_STAGES: Final = "SELECT ApiName, IsClosed, IsWon, IsActive FROM OpportunityStage"

# How the organization's people write dates, unless they chose otherwise.
_HABITS: Final = "SELECT DefaultLocaleSidKey, TimeZoneSidKey FROM Organization"


def read(rest: Rest, names: Mapping[str, str]) -> Org:
    """The org, in one call. Raises `Surprise` where an object or the referral id's field is missing or hidden."""
    objects = (OPPORTUNITY, ACCOUNT, CONTACT, ROLE, TEAM, SOLUTION, USER)
    parts = [Part("GET", f"sobjects/{name}/describe") for name in objects]
    parts.append(composite.query(_STAGES))
    parts.append(composite.query(_HABITS))
    parts.append(composite.query("SELECT IsoCode, IsCorporate FROM CurrencyType WHERE IsActive = true"))
    replies, at = composite.send(rest, parts, repeat=True)
    described = {name: _described(rest, name, reply) for name, reply in zip(objects, replies, strict=False)}
    fields = {name: found for name, found in described.items() if found is not None}
    for name in (OPPORTUNITY, ACCOUNT, CONTACT, ROLE):
        if name not in fields:
            raise Surprise(
                f"the integration user cannot see {name}; run `cosell-sync provision`, then assign the permission set "
                "`Cosell Sync` to the integration user",
                system=SYSTEM,
                object=name,
            )
    columns = fields[OPPORTUNITY]
    key = names["referral_id"]
    if key not in columns:
        raise Surprise(
            f"Opportunity has no field {key} that the integration user can read; run `cosell-sync provision`, then "
            "assign the permission set `Cosell Sync` to the integration user",
            system=SYSTEM,
            field=key,
        )
    stages, habits, currencies = replies[len(objects) :]
    locale, zone = _habits(habits, at)
    return Org(
        names={name: crm for name, crm in names.items() if crm in columns},
        fields=fields,
        stages=_flags(composite.rows(stages, at).rows),
        states=states.known(list(fields[ACCOUNT].values())),
        countries=states.countries(list(fields[ACCOUNT].values())),
        currencies=_currencies(currencies, columns, at),
        user_id=rest.user_id,
        locale=locale,
        zone=zone,
    )


def _habits(reply: Reply, at: Any) -> tuple[str, str]:
    """Locale and time zone; empty where the integration user may not read them, for dates can be written without."""
    rows = composite.rows(reply, at).rows if reply.fine else []
    row = next(iter(rows), {})
    return str(row.get("DefaultLocaleSidKey") or ""), str(row.get("TimeZoneSidKey") or "")


def read_stages(rest: Rest) -> Mapping[str, StageFlags]:
    """The active stages as they are now, in one call."""
    (rows,) = composite.everything(rest, [composite.query(_STAGES)])
    return _flags(rows)


def _flags(rows: Iterable[Mapping[str, Any]]) -> dict[str, StageFlags]:
    return {
        str(row["ApiName"]): StageFlags(closed=bool(row["IsClosed"]), won=bool(row["IsWon"]))
        for row in rows
        if row.get("IsActive", True)
    }


def identity(rest: Rest) -> Identity:
    """Whose records these are. The sign-in says so; where it does not, the org is asked, once for each sign-in."""
    token = rest.whose()
    organization = token.organization or rest.known_of(token, lambda: _organization(rest))
    return Identity(SYSTEM, organization, urlsplit(token.base_url).netloc)


def _organization(rest: Rest) -> str:
    (rows,) = composite.everything(rest, [composite.query("SELECT Id FROM Organization")])
    return str(rows[0]["Id"]) if rows else ""


def _currencies(reply: Reply, columns: Mapping[str, Field], at: Any) -> Mapping[str, bool]:
    """ISO code → whether it is the corporate currency. Orgs with one currency answer INVALID_TYPE: there is no CurrencyType."""
    if not reply.fine:
        codes = {fault.code for fault in errors.faults(reply.body)}
        if "CurrencyIsoCode" in columns or not codes & {"INVALID_TYPE", "NOT_FOUND"}:
            raise composite.refused(errors.faults(reply.body), reply.status)
        return {}
    return {str(row["IsoCode"]): bool(row["IsCorporate"]) for row in composite.rows(reply, at).rows}


def _described(rest: Rest, name: str, reply: Reply) -> Mapping[str, Field] | None:
    """Field → its describe; None where the object is missing or hidden. A describe that fails as a part is requested alone."""
    body = reply.body
    if reply.status == 404:
        return None
    if not reply.fine:
        try:
            body = getattr(rest.salesforce(), name).describe()
        except errors.refusals() as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise composite.refused(errors.faults(error.content), error.status) from None
    found = body.get("fields") if isinstance(body, Mapping) else None
    if not isinstance(found, list):
        raise composite.strange()
    return {str(each["name"]): each for each in found}
