"""Every SOQL text we send, read by a parser that shares no code with us, in every kind of org."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cosell_sync.crm.salesforce import queries
from cosell_sync.crm.salesforce.org import DEFAULT_NAMES, Org
from cosell_sync.sandbox.salesforce import metadata, soql, standard_schema

STAMP = "2026-11-22T09:55:00Z"
HOSTILE = [
    "O'Neil", "back\\slash", "%", "_", "' OR Name != '", "line\nbreak", 'double"quote', "\\'", "{curly} {0}",
    "ünïcode 漢字", "tab\there", "a  b   c",
]  # fmt: skip
IDS = ["006000000000001AAA", "006000000000002AAA"]


def org(*, multi: bool, team: bool, codes: bool) -> Org:
    schema = standard_schema.build(multi_currency=multi, team_selling=team, state_country_picklists=codes)
    fields = {
        name: {column: metadata.describe_field(each) for column, each in shape.fields.items()}
        for name, shape in schema.items()
    }
    names = {name: crm for name, crm in DEFAULT_NAMES.items() if crm in fields["Opportunity"]}
    return Org(names=names, fields=fields)


ORGS = [
    org(multi=multi, team=team, codes=codes)
    for multi in (False, True) for team in (False, True) for codes in (False, True)
]  # fmt: skip


def texts(which: Org) -> Iterator[str]:
    yield queries.changed(which, None)
    yield queries.changed(which, STAMP)
    yield from queries.changed_around(which, STAMP).values()
    yield from queries.deleted(which, STAMP).values()
    yield queries.by_ids(which, IDS)
    yield queries.by_ids(which, IDS[:1], stamps_only=True)
    yield queries.index(which)
    yield queries.by_referrals(which, HOSTILE)
    yield queries.by_references(which, IDS)
    yield queries.lookalikes(which, HOSTILE)
    yield queries.accounts(which, HOSTILE)
    for each in HOSTILE:
        yield queries.accounts(which, [each])
    yield queries.contacts(which, ["001000000000001AAA"], HOSTILE)
    yield queries.contacts(which, (), HOSTILE)
    yield queries.users(HOSTILE)


@pytest.mark.parametrize("which", ORGS)
def test_every_text_is_soql(which: Org) -> None:
    for text in texts(which):
        soql.parse(text)


def test_without_our_child_object_and_team_selling_nothing_asks_for_them() -> None:
    full = ORGS[-1]
    bare = Org(
        names={name: crm for name, crm in full.names.items() if name != "sync"},
        fields={
            name: full.fields[name]
            for name in ("Opportunity", "Account", "Contact", "OpportunityContactRole")
        },
    )
    for text in texts(bare):
        soql.parse(text)
        assert "Cosell_Solutions__r" not in text
        assert "TeamMember" not in text
        assert "Cosell_Sync__c" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_a_literal_means_what_it_says(name: str) -> None:
    """The one function that escapes, read back by the other parser."""
    tree = soql.parse(f"SELECT Id FROM Account WHERE Name IN {queries.literal([name])}")
    assert isinstance(tree.where, soql.Within)
    assert isinstance(tree.where.values, tuple)
    (value,) = tree.where.values
    assert isinstance(value, soql.Text)
    assert value.value == name


def test_names_with_wildcards_match_themselves_only() -> None:
    """`%` and `_` in a name are letters there; the caller compares again anyway."""
    text = queries.named("Name", ["100% pure_gold"])
    assert text == "(Name LIKE '100\\%%pure\\_gold')"


def test_the_text_of_the_largest_reading_stays_within_the_platforms_limit() -> None:
    ids = [f"006{at:012d}AAA" for at in range(queries.AT_ONCE)]
    assert len(queries.by_ids(ORGS[-1], ids)) < soql.MAX_LENGTH / 4
