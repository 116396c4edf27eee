"""OData texts: literals, keys, filters and addresses, each written by one function. Pure.

Query strings are built here only. OData does not read ``+`` as a blank, so every blank is ``%20``; a quote inside a text is
doubled before it is encoded. Ids are written without quotes, after a check that they are ids. Links that the service made are
used as they came.
https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/filter-rows
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import quote

from cosell_sync.crm.values import moment, packed

# Conditions in one filter. 100 ids are about 6,000 characters; an address may have 32,768.
AT_ONCE: Final = 100
NAMES: Final = 20  # names in one query; each may take several conditions
PEOPLE: Final = 50  # users in one query, each with two conditions
LONGEST_NAME: Final = 300  # of an opportunity; an account's has 160
ADDRESS_SHARE: Final = 24_000  # characters of an address that names may take
# Characters that the value of an alternate key must not have inside an address.
# https://learn.microsoft.com/power-apps/developer/data-platform/define-alternate-keys-entity
UNUSABLE: Final = frozenset('/<>*%&:\\?+#"')

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_IN_BRACKETS: Final = re.compile(r"\(([0-9a-fA-F-]{36})\)/?$")
_WILD: Final = frozenset("%_[]^")
# Characters of a path or filter that are not encoded, beside letters and digits.
_SAFE: Final = "(),'=$/@:;!*.-_~"


def is_guid(text: object) -> bool:
    """Whether the text has the form of a row's id."""
    return isinstance(text, str) and _GUID.fullmatch(text) is not None


def guid(text: object) -> str:
    """An id as Dataverse writes it, bare and in lower case. Raises ValueError for anything else."""
    if not is_guid(text):
        raise ValueError("no id of a Dataverse row")
    return str(text).lower()


def guid_in(address: str) -> str | None:
    """The id at the end of ``…/opportunities(<id>)``, or a bare one; None for an address by another key."""
    if is_guid(address):
        return address.lower()
    found = _IN_BRACKETS.search(address)
    return found[1].lower() if found and is_guid(found[1]) else None


def literal(text: str) -> str:
    """A text in quotes, not yet encoded. Control characters, which no filter may have, become blanks, so nothing equals them."""
    return "'" + "".join(max(sign, " ") for sign in text).replace("'", "''") + "'"


def encoded(text: str) -> str:
    """Percent-encoded for an address: blanks as ``%20``, quotes and brackets as they are.

    Half of a surrogate pair, which no UTF-8 can hold, becomes a replacement sign.
    """
    return quote(text.encode("utf-8", "replace"), safe=_SAFE)


def row(collection: str, row_id: str) -> str:
    """The address of one row by its id."""
    return f"{collection}({guid(row_id)})"


def usable_key(value: str) -> bool:
    """Whether a row can be addressed by an alternate key of this value."""
    return bool(value) and UNUSABLE.isdisjoint(value) and value.isprintable()


def keyed(collection: str, column: str, value: str) -> str:
    """The address of one row by an alternate key."""
    if not usable_key(value):
        raise ValueError("this value cannot stand in an address")
    return f"{collection}({column}={encoded(literal(value))})"


def bind(collection: str, row_id: str) -> str:
    """The value of ``…@odata.bind``."""
    return f"/{row(collection, row_id)}"


def query(
    collection: str,
    *,
    select: Iterable[str],
    where: str = "",
    order: str = "",
    top: int | None = None,
) -> str:
    """The address of a query; every part is encoded."""
    parts = [f"$select={','.join(dict.fromkeys(select))}"]
    if where:
        parts.append(f"$filter={encoded(where)}")
    if order:
        parts.append(f"$orderby={encoded(order)}")
    if top is not None:
        parts.append(f"$top={top}")
    return f"{collection}?{'&'.join(parts)}"


# --- filters ----------------------------------------------------------------------------------------------------


def any_of(tests: Iterable[str]) -> str:
    """A condition that one of these holds; needs at least one."""
    found = list(dict.fromkeys(tests))
    return found[0] if len(found) == 1 else f"({' or '.join(found)})"


def all_of(*tests: str) -> str:
    """A condition that all of these hold; empty ones are left out."""
    return " and ".join(test for test in tests if test)


def ids(column: str, wanted: Iterable[str]) -> str:
    """Rows whose id, or lookup (``_column_value``), is one of these."""
    return any_of(f"{column} eq {guid(each)}" for each in wanted)


def texts(column: str, wanted: Iterable[str]) -> str:
    """Rows whose column has one of these texts; Dataverse ignores case."""
    return any_of(f"{column} eq {literal(each)}" for each in wanted)


def named(column: str, names: Iterable[str]) -> str:
    """Rows of one of these names. Dataverse ignores case but compares blanks exactly, so a name of several words asks for rows
    with all of its words; it finds too many rows, and the caller compares them again. Names with characters that ``contains``
    reads as wildcards are compared as a whole.
    https://learn.microsoft.com/power-apps/developer/data-platform/wildcard-characters
    """
    tests = []
    for name in names:
        words = name.split()
        if len(words) > 1 and all(_WILD.isdisjoint(word) for word in words):
            tests.append(f"({' and '.join(f'contains({column},{literal(word)})' for word in words)})")
        else:
            tests.append(f"{column} eq {literal(' '.join(words))}")
    return any_of(tests)


def name_pieces(names: Sequence[str], column: str = "name") -> Iterator[Sequence[str]]:
    """The names that a row can have, in parts of which each makes an address short enough: an address takes 32,768 characters,
    and one of another alphabet becomes nine. A name that is longer than any column of names equals none.
    """
    usable = [name for name in names if len(name) <= LONGEST_NAME]
    return packed(usable, NAMES, lambda name: len(encoded(named(column, [name]))) + 8, ADDRESS_SHARE)


def text_pieces(wanted: Sequence[str], column: str) -> Iterator[Sequence[str]]:
    """Texts for two conditions on columns of about that name, in parts of which each makes an address short enough."""
    return packed(
        wanted, PEOPLE, lambda text: 2 * len(encoded(f" or {column} eq {literal(text)}")), ADDRESS_SHARE
    )


def since(at: datetime) -> str:
    """Rows modified at that time or later: stamps have whole seconds, so ``gt`` would miss changes of the same second."""
    return f"modifiedon ge {moment(at)}"
