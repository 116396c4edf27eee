"""Who is a CRM user: active people by e-mail or user name, asked for as needed and kept for one cycle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cosell_sync.crm.dynamics import odata
from cosell_sync.crm.dynamics.org import USERS
from cosell_sync.crm.dynamics.rest import Rest
from cosell_sync.crm.values import folded, pieces

AT_ONCE = 50  # names in one question, each compared twice


class Directory:
    """The application user is nobody's colleague and never found here."""

    def __init__(self, rest: Rest) -> None:
        self._rest = rest
        self._known: dict[str, str | None] = {}

    def forget(self) -> None:
        self._known.clear()

    def find(self, names: Iterable[str], but: str) -> Mapping[str, str]:
        """User id of each e-mail or user name that an active user has. ``but``: our own user id."""
        wanted = list(dict.fromkeys(folded(name) for name in names if name.strip()))
        unknown = [name for name in wanted if name not in self._known]
        found: dict[str, str] = {}
        for some in pieces(unknown, AT_ONCE):
            person = odata.any_of(
                [odata.texts("internalemailaddress", some), odata.texts("domainname", some)]
            )
            path = odata.query(
                USERS,
                select=("systemuserid", "internalemailaddress", "domainname"),
                where=odata.all_of("isdisabled eq false", person),
                order="createdon asc,systemuserid asc",
            )
            for row in self._rest.rows(path):
                user_id = str(row["systemuserid"]).lower()
                if user_id != but:
                    found.setdefault(folded(row.get("domainname")), user_id)
                    found.setdefault(folded(row.get("internalemailaddress")), user_id)
        self._known |= {name: found.get(name) for name in unknown}
        return {name: user for name in wanted if (user := self._known[name]) is not None}
