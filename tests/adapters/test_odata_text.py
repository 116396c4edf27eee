"""Every question we ask, read by a parser that shares no code with us, with texts made to break out of their quotes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.crm.dynamics import odata
from cosell_sync.sandbox.dataverse import filters
from cosell_sync.sandbox.dataverse import odata as dataverse_odata
from cosell_sync.sandbox.dataverse.odata import Operand

HOSTILE = [
    "O'Neil", "'", "''", "' or name ne '", "back\\slash", "%", "%27", "100% & more", "_", "a+b", "#", "?x=1&$top=1",
    'double"quote', "{curly}", "ünïcode 漢字 🤝", "tab\there", "line\nbreak", "a  b   c", "[a-z]", "$filter=", "a;b", "(", ")",
    "\x00", "\ud800",
]  # fmt: skip
ID = "0f8fad5b-d9cb-469f-a165-70867728950e"


class Names:
    """A table of texts, ids and moments, for the parser."""

    def operand(self, path: str) -> Operand:
        sort: Any = "guid" if path.endswith(("id", "_value")) and path != "referralid" else "string"
        if path == "modifiedon":
            sort = "datetime"
        return Operand(sort, lambda row: row.get(path))

    def property(self, name: str) -> Operand:
        return self.operand(name)


def found(where: str, row: Mapping[str, Any]) -> bool:
    return filters.condition(where, Names())(row)


def sent(address: str) -> dict[str, str]:
    """What a strict server takes from the address, after httpx has had its hands on it."""
    url = httpx.URL(f"https://x.example/api/data/v9.2/{address}")
    raw = url.raw_path.decode().partition("?")[2]
    assert "+" not in raw.replace("%2B", "")
    assert " " not in raw
    return dataverse_odata.options(raw, strict_spaces=True)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_stays_within_its_quotes(text: str) -> None:
    address = odata.query("accounts", select=("accountid",), where=odata.texts("name", [text, "x"]))
    options = sent(address)
    assert set(options) == {"$select", "$filter"}
    assert found(options["$filter"], {"name": "x"})
    assert not found(options["$filter"], {"name": "anything else"})
    if text.isprintable():
        assert found(options["$filter"], {"name": text})


@given(st.text())
def test_any_text_does(text: str) -> None:
    options = sent(odata.query("accounts", select=("accountid",), where=odata.texts("name", [text])))
    assert not found(options["$filter"], {"name": "anything else \x01"})
    if text.isprintable():
        assert found(options["$filter"], {"name": text})


@pytest.mark.parametrize(
    "name", [*HOSTILE, "Big Deal", "O'Neil & Sons", "100% sure [now]", "  padded   name "]
)
def test_names_are_asked_for_with_whatever_blanks(name: str) -> None:
    options = sent(odata.query("accounts", select=("accountid",), where=odata.named("name", [name])))
    words = name.split()
    if name.isprintable() and all(not set("%_[]^") & set(word) for word in words):
        assert found(options["$filter"], {"name": " ".join(words)})
        assert len(words) < 2 or found(options["$filter"], {"name": "  ".join(words).upper()})
    assert not found(options["$filter"], {"name": "something else"})


def test_ids_stand_bare_and_nothing_else_is_taken_for_one() -> None:
    where = odata.ids("_parentaccountid_value", [ID.upper(), ID])
    assert where == f"_parentaccountid_value eq {ID}"
    for bad in ("", "x", f"{ID} or true", f"{{{ID}}}", ID[:-1], "' or 1 eq 1"):
        with pytest.raises(ValueError):
            odata.ids("accountid", [bad])
        with pytest.raises(ValueError):
            odata.row("accounts", bad)
        assert not odata.is_guid(bad)
    assert odata.row("accounts", ID.upper()) == f"accounts({ID})"
    assert odata.bind("accounts", ID) == f"/accounts({ID})"


def test_keys_are_addressed_only_by_values_that_an_address_can_hold() -> None:
    for bad in ("", "a/b", "a:b", "a%b", "a+b", "a?b", "a&b", "a\\b", "<", ">", "*", "a\nb"):
        assert not odata.usable_key(bad)
        with pytest.raises(ValueError):
            odata.keyed("opportunities", "cosell_referralid", bad)
    assert odata.keyed("opportunities", "k", "O'N x") == "opportunities(k='O''N%20x')"
    assert odata.keyed("opportunities", "k", ID) == f"opportunities(k='{ID}')"
    assert unquote(odata.keyed("opportunities", "k", "漢")) == "opportunities(k='漢')"


def test_stamps_are_asked_for_with_ge_and_in_whole_seconds() -> None:
    at = datetime(2026, 11, 22, 10, 0, 5, 999, tzinfo=UTC)
    assert odata.since(at) == "modifiedon ge 2026-11-22T10:00:05Z"
    assert found(odata.since(at), {"modifiedon": datetime(2026, 11, 22, 10, 0, 5, tzinfo=UTC)})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (f"https://x.example/api/data/v9.2/opportunities({ID.upper()})", ID),
        (f"/opportunities({ID})", ID),
        (ID, ID),
        ("https://x.example/api/data/v9.2/opportunities(cosell_referralid='7')", None),
        ("", None),
        (f"{ID})", None),
    ],
)
def test_the_id_in_an_address(address: str, expected: str | None) -> None:
    assert odata.guid_in(address) == expected


def test_pieces_of_a_question() -> None:
    assert odata.any_of(["a"]) == "a"
    assert odata.any_of(["a", "b", "a"]) == "(a or b)"
    assert odata.all_of("a", "", "b") == "a and b"
    options = sent(odata.query("t", select=("a", "b", "a"), where="a eq 1", order="b desc,a asc", top=1))
    assert options == {"$select": "a,b", "$filter": "a eq 1", "$orderby": "b desc,a asc", "$top": "1"}
