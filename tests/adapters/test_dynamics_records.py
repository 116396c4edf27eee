"""What is pure in the Dynamics adapter: rows and values, versions, batches, ways of a status, rows around a deal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import Customer, Member, Solution
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.normalize import for_crm
from cosell_sync.core.overlap import Position
from cosell_sync.core.rules import CrmShape
from cosell_sync.crm.dynamics import (
    batch,
    changes,
    closing,
    describe,
    errors,
    org,
    related,
    single_values,
    translate,
    versions,
    watermark,
)
from cosell_sync.crm.dynamics.batch import Op
from cosell_sync.crm.dynamics.org import Choice, Column, Currency, Org
from cosell_sync.crm.dynamics.translate import Bundle
from cosell_sync.crm.dynamics.versions import Version
from cosell_sync.crm.values import folded
from cosell_sync.errors import Flaky, Gone, RecordError, Rejected, Stale
from cosell_sync.transport.exact_json import encode


def guid(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


DEAL, ACCOUNT, ANN, BOB, SAM, EVE, US, EUR = (guid(number) for number in range(1, 9))
TAGS = {"opportunity": 'W/"1"'}
CONTROL = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)


def choices(*labels: str, start: int = 727_000_000) -> tuple[Choice, ...]:
    return tuple(Choice(start + at, label, frozenset({folded(label)})) for at, label in enumerate(labels))


STATUSES = tuple(
    Choice(value, label, frozenset({folded(label)}), state)
    for value, label, state in (
        (1, "In Progress", 0), (2, "On Hold", 0), (3, "Won", 1), (4, "Canceled", 2), (5, "Out-Sold", 2),
    )
)  # fmt: skip
TYPES = {Kind.TEXT: "String", Kind.NOTES: "Memo", Kind.NUMBER: "Money", Kind.FLAG: "Boolean"}


def environment(**changes: Any) -> Org:
    listed = {
        crm: Column(crm, TYPES.get(KINDS[name], "DateTime"), name.title())
        for name, crm in org.DEFAULT_NAMES.items()
    }
    listed["statuscode"] = Column("statuscode", "Status", choices=STATUSES)
    listed["cosell_action"] = Column("cosell_action", "Picklist", choices=choices("Accept", "Decline"))
    listed["transactioncurrencyid"] = Column("transactioncurrencyid", "Lookup")
    listed[org.COMPUTED] = Column(org.COMPUTED, "Boolean")
    kinds = Column("cosell_solutiontype", "Picklist", choices=choices("Own", "Microsoft", "Third party"))
    names = ("cosell_name", "cosell_opportunity", "cosell_solutioncode", "cosell_solutionname", "cosell_key")
    solutions = {name: Column(name, "String") for name in names} | {"cosell_solutiontype": kinds}
    given = {
        "names": org.DEFAULT_NAMES,
        "columns": {org.OPPORTUNITIES: listed, org.SOLUTIONS: solutions},
        "currencies": (Currency(EUR, "EUR"),),
        "base_currency": EUR,
        "guarded": frozenset(org.TABLES),
        "user_id": US,
    }
    return Org(**{**given, **changes})


WORLD = environment()


def user(user_id: str, email: str, **more: Any) -> dict[str, Any]:
    row = {"systemuserid": user_id, "internalemailaddress": email, "isdisabled": False, "firstname": "F"}
    return {"@odata.etag": f'W/"{user_id[-1]}"', **row, **more}


def contact(contact_id: str, email: str | None, **more: Any) -> dict[str, Any]:
    return {"@odata.etag": 'W/"7"', "contactid": contact_id, "emailaddress1": email, "lastname": "L", **more}


def connection(number: int, other: str) -> dict[str, Any]:
    return {
        "@odata.etag": 'W/"8"',
        "connectionid": guid(number),
        "_record1id_value": DEAL,
        "_record2id_value": other,
    }


def bundle(row: Mapping[str, Any] | None = None, **around: Any) -> Bundle:
    own = {
        "@odata.etag": 'W/"1"',
        "opportunityid": DEAL,
        "statecode": 0,
        "statuscode": 1,
        "_ownerid_value": SAM,
    }
    return Bundle(row={**own, **(row or {})}, **{"users": {SAM: user(SAM, "Sam@x.example")}, **around})


# --- values -------------------------------------------------------------------------------------------------------


@given(
    st.one_of(
        st.tuples(st.just("name"), CONTROL),
        st.tuples(st.just("value"), st.decimals(-(10**9), 10**9, places=2)),
        st.tuples(st.just("close_date"), st.dates()),
        st.tuples(st.just("last_sync"), st.datetimes(timezones=st.just(UTC))),
        st.tuples(st.just("favorite"), st.booleans()),
        st.tuples(st.just("action"), st.sampled_from(["Accept", "Decline", None])),
        st.tuples(st.just("campaign_id"), st.none()),
    )
)
def test_what_is_written_reads_back(given_: tuple[str, Any]) -> None:
    name, item = given_
    column = WORLD.column(name)
    assert column is not None
    written = json.loads(
        encode(translate.columns({name: item}, WORLD)), parse_float=Decimal, parse_int=Decimal
    )
    data = written[column.name]
    if column.choices and data is not None:
        data = int(data)
    back = single_values.value(KINDS[name], data, column)
    assert back == for_crm(name, item, CrmShape(frozenset(), {}))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("value", "nonsense", None),
        ("value", Decimal("NaN"), None),
        ("value", 5, Decimal(5)),
        ("close_date", "2027-01-31T00:00:00Z", date(2027, 1, 31)),
        ("close_date", "soon", None),
        ("last_sync", "2026-11-22T10:00:00Z", datetime(2026, 11, 22, 10, tzinfo=UTC)),
        ("favorite", None, False),
        ("notes", "a\r\nb\rc", "a\nb\nc"),
        ("action", 727_000_001, "Decline"),
        ("action", 99, None),
        ("name", "", None),
    ],
)
def test_what_cannot_be_read_is_cleared_and_never_guessed(name: str, data: object, expected: object) -> None:
    column = WORLD.column(name)
    assert column is not None
    assert single_values.value(KINDS[name], data, column) == expected


@given(
    st.sampled_from(["DateOnly", "TimeZoneIndependent", "UserLocal"]),
    st.sampled_from(
        [
            "UTC",
            "Europe/Berlin",
            "Pacific/Auckland",
            "Pacific/Honolulu",
            "Pacific/Kiritimati",
            "Pacific/Pago_Pago",
        ]
    ),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)),
)
def test_a_close_date_reads_back_by_every_behavior_in_every_zone(behavior: str, name: str, day: date) -> None:
    column, zone = Column("estimatedclosedate", "DateTime", behavior=behavior), ZoneInfo(name)
    written = single_values.column_value(Kind.DATE, day, column, zone)
    assert single_values.value(Kind.DATE, written, column, zone) == day


@pytest.mark.parametrize("day", [date(2026, 1, 15), date(2026, 7, 15)])
@pytest.mark.parametrize("configured", ["UTC", "Europe/Berlin", "Pacific/Auckland", "America/New_York"])
@pytest.mark.parametrize(
    "seller",
    [
        "Pacific/Honolulu",
        "America/New_York",
        "UTC",
        "Europe/Berlin",
        "Asia/Tokyo",
        "Pacific/Auckland",
        "Pacific/Chatham",
    ],
)
def test_a_user_local_day_is_the_one_that_its_seller_entered(configured: str, seller: str, day: date) -> None:
    """Midnight where the seller lives; the zone of close dates takes none of these people away."""
    column = Column("estimatedclosedate", "DateTime", behavior="UserLocal")
    entered = datetime.combine(day, datetime.min.time(), ZoneInfo(seller)).astimezone(UTC)
    assert single_values.value(Kind.DATE, entered.isoformat(), column, ZoneInfo(configured)) == day


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_at_the_edge_of_the_calendar_the_zone_of_close_dates_decides(zone: str) -> None:
    column = Column("estimatedclosedate", "DateTime", behavior="UserLocal")
    entered = datetime(2026, 6, 30, tzinfo=ZoneInfo(zone)).astimezone(UTC)
    assert single_values.value(Kind.DATE, entered.isoformat(), column, ZoneInfo(zone)) == date(2026, 6, 30)


def test_an_amount_travels_with_its_switch_and_a_currency_by_its_id() -> None:
    made = translate.columns({"value": Decimal("1.10"), "currency": "EUR", "stage": "Won", "team": ()}, WORLD)
    assert made == {
        "estimatedvalue": Decimal("1.10"),
        "isrevenuesystemcalculated": False,
        "transactioncurrencyid@odata.bind": f"/transactioncurrencies({EUR})",
    }
    for bad in ({"currency": "XXX"}, {"action": "Dance"}):
        with pytest.raises(LookupError):
            translate.columns(bad, WORLD)
    assert translate.columns({"name": None}, WORLD, creating=True) == {}
    assert translate.columns({"name": None}, WORLD) == {"name": None}


def test_choices_are_known_by_every_label_and_go_by_the_english_one() -> None:
    label = {
        "LocalizedLabels": [
            {"Label": "Gewonnen", "LanguageCode": 1031},
            {"Label": "Won", "LanguageCode": 1033},
        ],
        "UserLocalizedLabel": {"Label": "Gewonnen", "LanguageCode": 1031},
    }
    column = describe._column(
        "statuscode",
        {"AttributeType": "Status", "OptionSet": {"Options": [{"Value": 3, "State": 1, "Label": label}]}},
    )
    assert column.valued(3) == column.labelled("GEWONNEN") == column.labelled(" won ")
    assert column.choices[0].label == "Won"
    assert column.choices[0].state == 1
    del label["LocalizedLabels"][1]  # type: ignore[attr-defined]
    assert describe._choice({"Value": 3, "Label": label}).label == "Gewonnen"


# --- snapshots ----------------------------------------------------------------------------------------------------


def test_people_of_a_deal() -> None:
    b = bundle(
        {"_parentcontactid_value": BOB},
        contacts={ANN: contact(ANN, "Ann@x.example"), BOB: contact(BOB, "bob@x.example")},
        connections=(connection(20, ANN), connection(21, EVE), connection(22, US)),
        users={
            SAM: user(SAM, "sam@x.example"),
            EVE: user(EVE, "eve@x.example"),
            US: user(US, "us@x.example"),
        },
    )
    assert [each.email for each in translate.contacts(b, WORLD)] == ["bob@x.example", "ann@x.example"]
    assert [each.email for each in translate.team(b, WORLD)] == ["eve@x.example"]
    assert [each.email for each in translate.team(bundle(), WORLD)] == ["sam@x.example"]
    gone = bundle(users={SAM: user(SAM, "sam@x.example", isdisabled=True)})
    assert translate.team(gone, WORLD) == ()
    ours = bundle({"_ownerid_value": US}, users={US: user(US, "us@x.example")})
    assert translate.team(ours, WORLD) == ()


def test_the_version_is_made_of_every_row_the_snapshot_was_read_from() -> None:
    account = {"@odata.etag": 'W/"5"', "accountid": ACCOUNT, "name": "A"}
    b = bundle(account=account, contacts={ANN: contact(ANN, None)}, connections=(connection(20, ANN),))
    got = translate.snapshot(b, WORLD)
    assert got.rows == {ACCOUNT, ANN, SAM, guid(20)}
    version = versions.parse(got.version)
    assert version is not None
    assert version.etag == 'W/"1"'
    assert versions.covers(got.version, ACCOUNT, 'W/"5"')
    assert not versions.covers(got.version, ACCOUNT, 'W/"6"')
    assert versions.own_etag(got.version) == 'W/"1"'
    assert versions.etag({"versionnumber": 12}) == "12"
    for other in (None, "", "x", "[]", '{"etag": 1}'):
        assert versions.parse(other) is None
        assert not versions.covers(other, ACCOUNT, 'W/"5"')
    assert versions.unchanged(got.version, got.version)
    assert not versions.unchanged(None, got.version)
    assert versions.parse(Version("a", {"x": "y"}).text) == Version("a", {"x": "y"})


def test_what_a_row_does_not_take() -> None:
    assert translate.snapshot(bundle(), WORLD).readonly == frozenset()
    priced = bundle({org.COMPUTED: True, "_transactioncurrencyid_value": EUR})
    assert translate.snapshot(priced, WORLD).readonly == {"value", "currency"}
    closed = translate.snapshot(bundle({"statecode": 1, "statuscode": 3}), WORLD)
    assert closed.readonly == {*org.STOCK}


# --- customers ----------------------------------------------------------------------------------------------------


def test_only_what_differs_of_a_customer_is_written() -> None:
    before = Customer("A", "Main 1", "x, y", "Berlin", None, "10115", "DE")
    assert translate.account_columns(before, WORLD, before) == {}
    moved = Customer("A", "Main 1", "z", "Kiel", None, "10115", "DE")
    assert translate.account_columns(moved, WORLD, before) == {
        "address1_city": "Kiel",
        "address1_line2": "z",
        "address1_line3": None,
    }
    assert translate.account_columns(Customer("A" * 200, city=None), WORLD) == {"name": "A" * 160}
    assert translate.account_columns(Customer(None, city="X"), WORLD, before)["address1_city"] == "X"
    assert "name" not in translate.account_columns(Customer(None, city="X"), WORLD, before)


# --- rows around --------------------------------------------------------------------------------------------------


def test_a_set_that_fits_needs_nothing() -> None:
    b = bundle(
        {"_parentcontactid_value": ANN},
        contacts={ANN: contact(ANN, "ann@x.example")},
        connections=(connection(20, ANN), connection(21, EVE)),
        users={SAM: user(SAM, "sam@x.example"), EVE: user(EVE, "eve@x.example")},
        solutions=({"cosell_solutionid": guid(30), "cosell_solutioncode": "S", "cosell_key": "r:S"},),
    )
    got = translate.snapshot(b, WORLD)
    wanted = {name: got[name] for name in ("team", "contacts", "solutions")}
    plan = related.changes(b, WORLD, wanted, {"eve@x.example": EVE}, "r")
    assert (plan.changes, plan.new_contacts, plan.primary_contact, plan.unheld) == ((), (), None, {})


def test_people_without_an_e_mail_and_colleagues_who_left_are_let_be() -> None:
    b = bundle(
        contacts={ANN: contact(ANN, None)},
        connections=(connection(20, ANN), connection(21, EVE)),
        users={SAM: user(SAM, "sam@x.example"), EVE: user(EVE, "eve@x.example", isdisabled=True)},
    )
    plan = related.changes(b, WORLD, {"team": (), "contacts": None}, {}, "")
    assert plan.changes == ()


def test_solutions_are_matched_by_code_and_receive_their_key() -> None:
    rows = (
        {
            "cosell_solutionid": guid(30),
            "cosell_solutioncode": "A",
            "cosell_name": "mine",
            "@odata.etag": "t",
        },
        {"cosell_solutionid": guid(31), "cosell_solutioncode": "B", "@odata.etag": "u"},
        {"cosell_solutionid": guid(32), "cosell_solutioncode": None},
    )
    wanted = {"solutions": (Solution("A"), Solution("C", "See", "Microsoft"))}
    plan = related.changes(bundle(solutions=rows), WORLD, wanted, {}, "ref-1")
    kept, made, dropped = (op for _, op in plan.changes)
    assert (kept.method, kept.headers["If-Match"]) == ("PATCH", "t")
    assert kept.body is not None
    assert kept.body["cosell_key"] == "ref-1:A"
    assert (made.method, made.body) == (
        "POST",
        {
            "cosell_name": "See", "cosell_solutioncode": "C", "cosell_solutionname": "See",
            "cosell_solutiontype": 727_000_001, "cosell_key": "ref-1:C",
            "cosell_opportunity@odata.bind": f"/opportunities({DEAL})",
        },
    )  # fmt: skip
    assert (dropped.method, dropped.path) == ("DELETE", f"cosell_solutions({guid(31)})")


def test_a_contact_never_loses_its_last_name() -> None:
    b = bundle({"_parentcontactid_value": ANN}, contacts={ANN: contact(ANN, "ann@x.example", telephone1="1")})
    plan = related.changes(b, WORLD, {"contacts": (Member("ann@x.example", "A", None, None),)}, {}, "")
    ops = [op for _, op in plan.changes]
    assert [op.method for op in ops] == ["POST", "PATCH"]  # connected at last, and told the news
    assert ops[1].body == {"firstname": "A", "telephone1": None}
    made = related.contact_columns(Member("eve@x.example"), None)
    assert made == {"emailaddress1": "eve@x.example", "lastname": "eve"}


# --- the way of a status ------------------------------------------------------------------------------------------

OPEN, HOLD, WON, LOST, SOLD = STATUSES


@pytest.mark.parametrize(
    ("now", "target", "columns", "expected"),
    [
        (OPEN, None, {"a": 1}, [("PATCH", {"a": 1}, "tag")]),
        (OPEN, None, {}, []),
        (OPEN, OPEN, {}, []),
        (OPEN, HOLD, {"a": 1}, [("PATCH", {"a": 1, "statuscode": 2}, "tag")]),
        (HOLD, WON, {"a": 1}, [("PATCH", {"a": 1}, "tag"), ("WinOpportunity", 3, None)]),
        (OPEN, LOST, {"a": 1}, [("PATCH", {"a": 1}, "tag"), ("LoseOpportunity", 4, None)]),
        (WON, WON, {"a": 1}, [("PATCH", {"a": 1}, "tag")]),
        (WON, OPEN, {}, [("PATCH", {"statecode": 0, "statuscode": 1}, "tag")]),
        (WON, HOLD, {"a": 1}, [("PATCH", {"statecode": 0, "statuscode": 2}, "tag"), ("PATCH", {"a": 1}, "*")]),
        (LOST, SOLD, {}, [("PATCH", {"statecode": 0, "statuscode": 1}, "tag"), ("LoseOpportunity", 5, None)]),
        (
            LOST, WON, {"a": 1},
            [("PATCH", {"statecode": 0, "statuscode": 1}, "tag"), ("PATCH", {"a": 1}, "*"), ("WinOpportunity", 3, None)],
        ),
    ],
)  # fmt: skip
def test_every_way_from_one_status_to_another(
    now: Choice, target: Choice | None, columns: Any, expected: Any
) -> None:
    made = []
    for op in closing.status_writes(DEAL, columns, "tag", now=now, target=target, reopened=OPEN):
        if op.method == "PATCH":
            made.append(("PATCH", op.body, op.headers["If-Match"]))
        else:
            assert op.body is not None
            made.append((op.path, op.body["Status"], op.headers.get("If-Match")))
    assert made == expected


# --- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_on_the_wire() -> None:
    groups = [
        (Op("PATCH", "t(1)", {"a": Decimal("1.10")}, {"If-Match": "x"}),),
        (Op("PATCH", "t(2)", {"a": None}), Op("DELETE", "t(3)")),
    ]
    text = batch.framed(groups, "/api/data/v9.2", "batch_1").decode()
    assert "\n" not in text.replace("\r\n", "")
    assert text.count("Content-ID:") == 2
    assert "PATCH /api/data/v9.2/t(1) HTTP/1.1\r\nAccept: application/json\r\nIf-Match: x\r\n" in text
    assert '{"a":1.10}' in text
    assert "DELETE /api/data/v9.2/t(3) HTTP/1.1\r\nAccept: application/json\r\n\r\n\r\n--batch_1_1--" in text
    assert text.endswith("--batch_1--\r\n")


PART = "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 {}\r\n{}\r\n\r\n{}\r\n"
NESTED = 'content-type: multipart/mixed; boundary="cs"\r\n\r\n--cs\r\n{}--cs--\r\n'
FINE = PART.format("204 No Content", f"OData-EntityId: https://x/t({DEAL})", "")
BAD = PART.format("412 Precondition Failed", "content-type: application/json", '{"error": {"code": "0x1"}}')


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("quoted", ['"{}"', "{}"])
@pytest.mark.parametrize("failed", [BAD, NESTED.format(BAD)])
def test_answers_are_read_however_a_server_words_them(newline: str, quoted: str, failed: str) -> None:
    changes = NESTED.format(FINE + "--cs\r\n" + FINE)
    text = f"preamble\r\n--b\r\n{FINE}--b\r\n{changes}--b\r\n{failed}--b--\r\nepilogue"
    body = text.replace("\r\n", newline).encode()
    kind = f"Multipart/Mixed; BOUNDARY={quoted.format('b')}"
    assert batch.is_multipart(kind)
    one, two, three = batch.replies(body, kind)
    assert [each.status for each in (*one, *two, *three)] == [204, 204, 204, 412]
    assert one[0].entity_id == DEAL
    assert json.loads(three[0].body) == {"error": {"code": "0x1"}}
    (bare,) = batch.replies(
        b'--b\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 400\r\n\r\n{"a": 1}\r\n--b--', kind
    )
    assert (bare[0].headers, bare[0].body) == ({}, b'{"a": 1}')


@pytest.mark.parametrize("body", ["", "--b\r\n\r\nnothing\r\n--b--", "no parts"])
def test_what_is_no_answer_to_a_batch(body: str) -> None:
    with pytest.raises(ValueError):
        batch.replies(body.encode(), "multipart/mixed; boundary=b")
    with pytest.raises(ValueError):
        batch.replies(b"--b--", "multipart/mixed")


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (412, "", Stale),
        (412, "0x80060882", Stale),
        (412, "0x80060892", Rejected),
        (404, "", Gone),
        (400, "0x80060891", Gone),
        (400, "0x80060890", Flaky),
        (400, "0x80071154", Flaky),
        (400, "0x8004f507", Rejected),
        (400, "0x80040265", Rejected),
        (403, "0x80040220", Rejected),
        (429, "0x80072322", Flaky),
        (500, "0x80040224", Flaky),
        (503, "", Flaky),
    ],
)
def test_what_a_code_means(status: int, code: str, kind: type[RecordError]) -> None:
    body = json.dumps({"error": {"code": code, "message": "Because."}}).encode()
    assert type(errors.record_error(status, body)) is kind


def test_only_what_passes_is_tried_again() -> None:
    def passing(status: int, code: str) -> bool:
        return errors.passes(status, json.dumps({"error": {"code": code}}).encode())

    assert passing(429, "0x80072322")
    assert passing(503, "")
    assert passing(400, "0x80071154")
    assert not passing(400, "0x80060890")
    assert not passing(412, "0x80060882")
    assert not passing(400, "")


# --- the watermark ------------------------------------------------------------------------------------------------


def test_the_watermark_is_opaque_and_survives() -> None:
    mark = watermark.Watermark(
        {"opportunities": "https://x/?$deltatoken=1%27"},
        {"accounts": Position(datetime(2026, 11, 22, tzinfo=UTC))},
        frozenset({"connections"}),
    )
    assert watermark.parse(mark.text) == mark
    for other in (None, "", "2026-11-22T10:00:00Z", "{}", '{"format": 0}', "[1]"):
        assert watermark.parse(other) is None


def test_deleted_rows_in_either_shape() -> None:
    rows = [
        {"opportunityid": DEAL},
        {"@odata.context": "https://x/$metadata#opportunities/$deletedEntity", "id": ANN, "reason": "deleted"},
        {"@odata.context": "#opportunities/$deletedEntity", "id": f"https://x/opportunities({BOB})", "reason": "deleted"},
        {"@removed": {"reason": "deleted"}, "@id": f"opportunities({SAM})"},
        {"nonsense": 1},
    ]  # fmt: skip
    live, gone = changes._live_and_deleted("opportunities", rows)
    assert [row["opportunityid"] for row in live] == [DEAL]
    assert gone == [ANN, BOB, SAM]


def test_an_owner_is_refused_where_the_text_names_them_or_nobody() -> None:
    """0x80040220 names the principal that lacks a privilege: where that is our own user, no other owner would help."""
    eve, us = "11111111-0000-0000-0000-000000000001", "11111111-0000-0000-0000-000000000002"

    def refused(code: str, text: str) -> bool:
        return errors.owner_refused(Rejected(text, code=code), eve, us)

    assert refused("0x80040220", f"Principal user (Id={eve.upper()}, type=8) is missing prvReadOpportunity")
    assert refused("0x80042f09", "The user has not been assigned any roles.")
    assert refused("0x80040203", f"Cannot assign opportunity to a disabled user: {eve}")
    assert not refused("0x80040220", f"Principal user (Id={us}, type=8) is missing prvCreateOpportunity")
    assert not refused("0x80040265", f"A plug-in does not like {eve}")
