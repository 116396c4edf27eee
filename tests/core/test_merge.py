"""The three-way merge: examples tell the story of its table, properties guard it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from deals import SHAPE
from hypothesis import given
from hypothesis import strategies as st

from cosell_sync.core.deal import ABSENT, HIDDEN, Customer, Member, Side, Solution, Value
from cosell_sync.core.decision import Conflict
from cosell_sync.core.fields import KINDS, Kind
from cosell_sync.core.merge import Merged, Sides, Written, landed, learn, merge, settle_notes, settle_set
from cosell_sync.core.normalize import agree, by_key, for_crm, same
from cosell_sync.core.rules import FieldRule, Flow, Policy

A, B, C = Decimal(1), Decimal(2), Decimal(3)
PC, CRM = Side.PARTNER_CENTER, Side.CRM


def value_rule(policy: Policy = Policy.CRM, flow: Flow = Flow.BOTH, name: str = "value") -> FieldRule:
    return FieldRule(name, name, flow, policy)


# --- the table ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("referral", "opportunity", "to_crm", "to_referral"),
    [
        (A, A, ABSENT, ABSENT),  # same, same
        (B, A, B, ABSENT),  # changed, same
        (A, B, ABSENT, B),  # same, changed
        (B, B, ABSENT, ABSENT),  # changed to the same
        (None, A, None, ABSENT),  # cleared is a change
        (A, None, ABSENT, None),
    ],
)
def test_one_side_changed(referral: Value, opportunity: Value, to_crm: Value, to_referral: Value) -> None:
    merged = merge(value_rule(), Sides(referral, opportunity, A, A), SHAPE)
    agreed = referral if referral == opportunity else A
    rule = (
        ""
        if referral == opportunity
        else "changed in the CRM"
        if to_crm is ABSENT
        else "changed in Partner Center"
    )
    assert merged == Merged(agreed, agreed, to_crm, to_referral, rule=rule)


@pytest.mark.parametrize(
    ("policy", "answer", "to_crm", "to_referral", "kept"),
    [
        (Policy.CRM, None, ABSENT, C, CRM),
        (Policy.PARTNER_CENTER, None, B, ABSENT, PC),
        (Policy.ASK, None, ABSENT, ABSENT, None),
        (Policy.ASK, PC, B, ABSENT, PC),
        (Policy.CRM, PC, B, ABSENT, PC),
    ],
)
def test_both_sides_changed(
    policy: Policy, answer: Side | None, to_crm: Value, to_referral: Value, kept: Side | None
) -> None:
    """The policy decides, a person's answer before it; both values are named."""
    merged = merge(value_rule(policy), Sides(B, C, A, A), SHAPE, answer)
    why = "a person decided" if answer else f"policy {policy}"
    conflict = Conflict("value", B, C, kept, why)
    assert merged == Merged(A, A, to_crm, to_referral, conflict, why), "no base moves: nothing has landed yet"


def test_agreement_moves_the_base() -> None:
    merged = merge(value_rule(), Sides(B, B, A, A), SHAPE)
    assert (merged.base_referral, merged.base_opportunity) == (B, B)


def test_bases_may_differ() -> None:
    """A flow rewrote our write: both sides are as they were left, so nothing happens."""
    merged = merge(value_rule(), Sides(A, B, A, B), SHAPE)
    assert (merged.to_crm, merged.to_referral, merged.conflict) == (ABSENT, ABSENT, None)


@pytest.mark.parametrize("policy", Policy)
def test_without_a_base_the_empty_one_is_filled(policy: Policy) -> None:
    assert merge(value_rule(policy), Sides(A, None), SHAPE).to_crm == A
    assert merge(value_rule(policy), Sides(None, A), SHAPE).to_referral == A


def test_without_a_base_the_policy_decides() -> None:
    merged = merge(value_rule(), Sides(A, B), SHAPE)
    why = "policy crm at first sight"
    assert merged == Merged(
        ABSENT, ABSENT, to_referral=B, conflict=Conflict("value", A, B, CRM, why), rule=why
    )


@pytest.mark.parametrize("bases", [(A, ABSENT), (ABSENT, A)])
def test_half_a_base_is_none(bases: tuple[Value, Value]) -> None:
    merged = merge(value_rule(), Sides(A, B, *bases), SHAPE)
    assert merged.conflict is not None
    assert merged.conflict.rule == "policy crm at first sight"


@pytest.mark.parametrize(("forced", "up", "down"), [(CRM, A, ABSENT), (PC, ABSENT, B)])
def test_a_side_that_is_forced_counts_as_changed(forced: Side, up: Value, down: Value) -> None:
    """An automation rewrote it: then its base holds that already."""
    merged = merge(value_rule(), Sides(B, A, B, A, frozenset({forced})), SHAPE)
    assert (merged.to_referral, merged.to_crm, merged.conflict) == (up, down, None)


def test_what_is_sent_is_what_the_other_side_can_hold() -> None:
    rule = FieldRule("name", "Name")
    down = merge(rule, Sides("A name too long", "A", "A", "A"), SHAPE)
    assert down == Merged("A", "A", to_crm="A name t", rule="changed in Partner Center")
    up = merge(rule, Sides("A", " B ", "A", "A"), SHAPE)
    assert up == Merged("A", "A", to_referral="B", rule="changed in the CRM")


def test_one_way_nothing_clashes() -> None:
    """Where one side is not listened to, its edit is no change, and its base stays."""
    sides = Sides(B, C, A, A)
    to_crm = merge(value_rule(flow=Flow.TO_CRM), sides, SHAPE)
    assert to_crm == Merged(A, A, to_crm=B, rule="changed in Partner Center")
    to_referral = merge(value_rule(flow=Flow.TO_PARTNER_CENTER), sides, SHAPE)
    assert to_referral == Merged(A, A, to_referral=C, rule="changed in the CRM")
    assert merge(value_rule(flow=Flow.OFF), sides, SHAPE) == Merged(A, A)


@pytest.mark.parametrize("name", ["value", "notes", "contacts"])
def test_what_is_not_known_is_left_alone(name: str) -> None:
    """ABSENT is not an empty value."""
    some: dict[str, Value] = {"value": A, "notes": "one", "contacts": (Member("a@x"),)}
    for sides in (
        Sides(ABSENT, some[name], some[name], some[name]),
        Sides(some[name], ABSENT, some[name], some[name]),
    ):
        merged = merge(value_rule(Policy.MERGE, name=name), sides, SHAPE)
        assert (merged.to_crm, merged.to_referral) == (ABSENT, ABSENT)


@pytest.mark.parametrize("sides", [Sides(B, C, A, A), Sides(B, A, A, A), Sides(A, C, A, A), Sides(A, B)])
def test_a_closed_direction_carries_nothing(sides: Sides) -> None:
    assert merge(value_rule(flow=Flow.TO_CRM), sides, SHAPE).to_referral is ABSENT
    assert merge(value_rule(flow=Flow.TO_PARTNER_CENTER), sides, SHAPE).to_crm is ABSENT
    off = merge(value_rule(flow=Flow.OFF), sides, SHAPE)
    assert (off.to_crm, off.to_referral) == (ABSENT, ABSENT)


def test_disputed_counts_as_changed_on_both_sides() -> None:
    """A write of unknown fate: neither edit may get lost silently."""
    merged = merge(value_rule(), Sides(B, A, A, A, frozenset(Side)), SHAPE)
    assert merged.conflict is not None
    assert merged.to_referral == A


def test_a_cut_name_agrees() -> None:
    """Compared is what each side can hold."""
    rule = FieldRule("name", "Name")
    merged = merge(rule, Sides("A name too long", "A name t", "A", "A"), SHAPE)
    assert (merged.to_crm, merged.to_referral, merged.base_referral) == (ABSENT, ABSENT, "A name too long")


# --- sets --------------------------------------------------------------------------------------------------------

ANN, BEN, CID = Member("ann@x"), Member("ben@x"), Member("cid@x")


def contacts(
    referral: Value, opportunity: Value, base: Value = (ANN,), policy: Policy = Policy.CRM
) -> tuple[Value, Value, Conflict | None]:
    merged = merge(value_rule(policy, name="contacts"), Sides(referral, opportunity, base, base), SHAPE)
    return merged.to_crm, merged.to_referral, merged.conflict


def test_both_additions_are_kept() -> None:
    assert contacts((ANN, BEN), (ANN, CID)) == ((ANN, CID, BEN), (ANN, BEN, CID), None)


def test_a_member_taken_away_goes() -> None:
    assert contacts((), (ANN,)) == ((), ABSENT, None)
    assert contacts((ANN,), ()) == (ABSENT, (), None)
    assert contacts((), ()) == (ABSENT, ABSENT, None)


def test_taken_away_here_and_added_there() -> None:
    assert contacts((ANN, BEN), ()) == ((BEN,), (BEN,), None)


def test_a_merged_set_whole() -> None:
    """Bases take in what both hold; new members go over bare, known ones keep what only a side knows of them."""
    title, row = {"title": "CEO"}, {"row": "003"}
    ann_there, ann_here = Member("ann@x", phone="1", extra=title), Member("ann@x", phone="2", extra=row)
    sides = Sides(
        (ann_there, BEN, Member("new@x", extra=title)),
        (replace(CID, extra=row), ann_here, BEN),
        (ANN, CID),
        (ANN, Member("gone@x")),
    )
    merged = merge(value_rule(name="contacts"), sides, SHAPE)
    why = f"policy {CRM} per member"
    clash = Conflict("contacts", sides.referral, sides.opportunity, CRM, why)
    new = Member("new@x")
    assert merged == Merged(
        base_referral=(ANN, CID, BEN),
        base_opportunity=(ANN, BEN),
        to_crm=(CID, ann_here, BEN, new),
        to_referral=(ann_here, BEN, new, CID),
        conflict=clash,
        rule="merged member by member",
    )
    assert isinstance(merged.to_crm, tuple)
    assert isinstance(merged.to_referral, tuple)
    assert [each.extra for each in merged.to_crm] == [row, row, {}, {}]
    assert [each.extra for each in merged.to_referral] == [title, {}, title, {}]


@pytest.mark.parametrize(
    ("there", "here", "base", "result", "clashes"),
    [
        ("2", "1", "1", "2", False),  # changed there
        ("1", "2", "1", "2", False),  # changed here
        (None, "1", "1", None, False),  # cleared there
        ("1", None, "1", None, False),
        (None, "2", "1", "2", False),  # cleared there and changed here: what is there wins
        ("2", None, "1", "2", False),
        ("3", "2", "1", "2", True),
        ("2", None, ABSENT, "2", False),  # first sight fills, and never empties
        (None, "2", ABSENT, "2", False),
        ("3", "2", ABSENT, "2", True),
    ],
)
@pytest.mark.parametrize("half", [False, True])
def test_one_attribute(
    there: str | None, here: str | None, base: object, result: str | None, *, clashes: bool, half: bool
) -> None:
    def ann(phone: str | None) -> tuple[Member, ...]:
        return (Member("ann@x", phone=phone),)

    if half and base is not ABSENT:
        return  # with half a base it is first sight
    bases = ((ABSENT, ann("9")) if half else (ABSENT, ABSENT)) if base is ABSENT else (ann(base), ann(base))  # type: ignore[arg-type]
    merged = merge(value_rule(name="contacts"), Sides(ann(there), ann(here), *bases), SHAPE)
    final = {PC: merged.to_referral, CRM: merged.to_crm}
    assert final[PC] in {ABSENT, ann(result)}
    assert (final[PC] is ABSENT) is (there == result)
    assert final[CRM] in {ABSENT, ann(result)}
    assert (final[CRM] is ABSENT) is (here == result)
    assert (merged.conflict is not None) is clashes


def test_without_a_base_nothing_is_deleted() -> None:
    merged = merge(value_rule(name="contacts"), Sides((ANN,), (BEN,)), SHAPE)
    assert by_key(merged.to_crm).keys() == by_key(merged.to_referral).keys() == {"ann@x", "ben@x"}


def test_order_is_no_change() -> None:
    assert contacts((ANN, BEN), (BEN, ANN)) == (ABSENT, ABSENT, None)


def test_attributes_merge_one_by_one() -> None:
    """The portal gives Ann a phone, the seller a name: she gets both."""
    there, here = Member("ann@x", phone="1"), Member("ann@x", first_name="Ann")
    both = Member("ann@x", first_name="Ann", phone="1")
    assert contacts((there,), (here,)) == ((both,), (both,), None)


@pytest.mark.parametrize(
    ("policy", "winner"), [(Policy.CRM, "2"), (Policy.PARTNER_CENTER, "1"), (Policy.MERGE, "2")]
)
def test_the_same_attribute_changed_twice(policy: Policy, winner: str) -> None:
    to_crm, to_referral, conflict = contacts(
        (Member("ann@x", phone="1"),), (Member("ann@x", phone="2"),), policy=policy
    )
    assert conflict is not None
    written = to_crm if to_referral is ABSENT else to_referral
    assert written == (Member("ann@x", phone=winner),)


def test_what_a_side_alone_knows_stays_there() -> None:
    """Titles and row ids survive the replace of the whole set, and never travel."""
    there = Member("ann@x", extra={"title": "CEO"})
    here = Member("ann@x", phone="1", extra={"row": "003"})
    merged = merge(value_rule(name="contacts"), Sides((there,), (here, BEN), (ANN,), (ANN,)), SHAPE)
    assert isinstance(merged.to_referral, tuple)
    assert [(each.key, each.extra) for each in merged.to_referral] == [
        ("ann@x", {"title": "CEO"}),
        ("ben@x", {}),
    ]


def test_a_member_that_the_crm_cannot_hold_stays_in_partner_center() -> None:
    """After the write the CRM still lacks Ben; that is no edit of anybody."""
    bases = learn("team", (ANN,), (ANN,), Written((ANN,), (ANN, BEN), (ANN,), (ANN, BEN)))
    merged = merge(value_rule(name="team"), Sides((ANN, BEN), (ANN,), bases[1], bases[0]), SHAPE)
    assert (merged.to_crm, merged.to_referral) == (ABSENT, ABSENT)


# --- notes -------------------------------------------------------------------------------------------------------


NOTES = FieldRule("notes", "Notes", policy=Policy.MERGE)


def notes(referral: Value, opportunity: Value, base: Value = "one\ntwo") -> tuple[Value, Value]:
    merged = merge(NOTES, Sides(referral, opportunity, base, base), SHAPE)
    assert merged.conflict is None
    return merged.to_crm, merged.to_referral


def test_both_additions_of_a_line_are_kept() -> None:
    assert notes("one\ntwo\nthere", "one\nhere\ntwo") == ("one\nhere\ntwo\nthere", "one\nhere\ntwo\nthere")


def test_a_line_taken_away_goes() -> None:
    assert notes("one", "one\ntwo") == ("one", ABSENT)
    assert notes(None, "one\ntwo") == (None, ABSENT)


def test_a_changed_line_is_one_taken_and_one_put() -> None:
    assert notes("one\nTWO", "one\ntwo\nthree") == ("one\nTWO\nthree", "one\nTWO\nthree")


def test_the_same_line_from_both_is_put_once() -> None:
    assert notes("one\ntwo\nnew", "one\ntwo\nnew\nmore") == (ABSENT, "one\ntwo\nnew\nmore")


@pytest.mark.parametrize(
    ("there", "here", "base", "result"),
    [
        ("one\nmore", "new\none", "one", "new\none\nmore"),  # put first
        ("two\none", "one\ntwo", "one\ntwo", "two\none"),  # put in another order
        ("one\ntwo", "two\none", "one\ntwo", "two\none"),
        ("a\nb", "a\na\nb\nc", "a\na\nb", "a\nb\nc"),  # of two alike one is taken away
        ("b", "a\na\nb\nc", "a\na\nb", "b\nc"),  # or both
        ("x\nd\nd", "x\nd", "x", "x\nd\nd"),  # of two alike one is new
        ("x\nd\nd", "x\nd\nd\ne", "x", "x\nd\nd\ne"),
        ("one\nthere", None, None, "one\nthere"),
        (None, "here", None, "here"),
    ],
)
def test_lines(there: Value, here: Value, base: Value, result: Value) -> None:
    """Both hold the same in the end, in one order, after one write to whoever lacks something."""
    after = write(NOTES, Sides(there, here, base, base))
    assert (after.referral, after.opportunity) == (result, result)
    assert (after.base_referral, after.base_opportunity) == (result, result)
    assert merge(NOTES, after, SHAPE) == Merged(result, result)


def test_a_line_put_first_stands_first_where_more_stands_too() -> None:
    merged = merge(NOTES, Sides("x\none", "new\none", "x\none", "one"), SHAPE)
    assert (merged.to_referral, merged.to_crm) == ("new\nx\none", ABSENT)


def test_merged_lines_whole() -> None:
    """The bases wait for the writes; what the CRM is sent is cut to what it holds."""
    merged = merge(NOTES, Sides("one\n" + "t" * 50, "here\none", "one", "one"), SHAPE)
    assert merged == Merged(
        "one", "one", "here\none\n" + "t" * 31, "here\none\n" + "t" * 50, rule="merged line by line"
    )


def test_blanks_and_line_ends_are_no_change() -> None:
    assert notes("one\r\ntwo  \n", "one\ntwo") == (ABSENT, ABSENT)


def test_another_policy_takes_notes_whole() -> None:
    merged = merge(FieldRule("notes", "Notes", policy=Policy.CRM), Sides("a", "b", "c", "c"), SHAPE)
    assert (merged.to_crm, merged.to_referral) == (ABSENT, "b")


# --- after a write -----------------------------------------------------------------------------------------------


def test_the_base_is_what_the_side_holds_after_the_write() -> None:
    """A flow made 250 of our 300: that is the CRM's word now, and base there."""
    assert learn("value", A, A, Written(before=A, sent=C, after=B, source=C)) == (B, C)


def test_learn_moves_written_members_only() -> None:
    """Cid arrived while Ben was written: he still shows as new."""
    written = Written(before=(ANN,), sent=(ANN, BEN), after=(ANN, BEN, CID), source=(ANN, BEN))
    assert learn("contacts", (ANN,), (ANN,), written) == ((ANN, BEN), (ANN, BEN))


def test_learn_leaves_what_still_has_to_go_the_other_way() -> None:
    """A phone of Partner Center's and a name of the CRM's: the one that was written teaches nothing of the other."""
    was, there, here = (Member("greta@x", *each) for each in (("Greta", "Oz", "1"), ("Greta", "Oz", "77"), ("Gerda", "Oz", "1")))  # fmt: skip
    both = Member("greta@x", "Gerda", "Oz", "77")
    written = Written(before=(there,), sent=(both,), after=(both,), source=(here,))
    assert learn("contacts", (was,), (was,), written) == ((here,), (here,)), "the phone is still to come"
    assert learn("contacts", (), (), written) == ((), ()), "and so it is at first sight"
    cut = Written(before=(was,), sent=(there,), after=(there,), source=(replace(there, phone="77 ext. 4"),))
    assert learn("contacts", (was,), (was,), cut) == ((there,), cut.source), "a cut is no edit"


def test_an_answer_that_got_lost_leaves_what_still_has_to_go_the_other_way() -> None:
    was, here, both = (Member("greta@x", *each) for each in (("Greta", "Oz", "1"), ("Gerda", "Oz", "1"), ("Gerda", "Oz", "77")))  # fmt: skip
    assert settle_set((was,), (was,), (both,), (here,), (both,)) == ((here,), (here,))


def test_learn_moves_written_lines_only() -> None:
    written = Written(before="one", sent="one\ntwo", after="one\ntwo\nlate", source="one\ntwo")
    assert learn("notes", "one", "one", written) == ("one\ntwo", "one\ntwo")


def test_learn_follows_what_was_changed_or_taken_away() -> None:
    """On each side to what it holds of the members that were written."""
    tel = replace(ANN, phone="1")
    written = Written(before=(ANN, BEN), sent=(tel, CID), after=(tel,), source=(CID, tel))
    assert learn("contacts", (ANN, BEN), (BEN, ANN), written) == ((tel,), (tel, CID))


def test_notes_that_both_hold_are_base_whole() -> None:
    written = Written(before="one", sent="one\ntwo", after="one\ntwo\nlate", source="one\ntwo\nlate\n")
    assert learn("notes", "old", None, written) == ("one\ntwo\nlate", "one\ntwo\nlate\n")


def test_settled_notes_keep_what_the_written_side_added() -> None:
    assert settle_notes("old\none", "one", "one\nmine") == ("old\none\nmine", "one\nmine")


def test_settling_a_set_takes_in_what_landed() -> None:
    """Ben landed; Cid did not, or was taken away since."""
    bases = settle_set((ANN,), (ANN,), (ANN, BEN, CID), (ANN, BEN, CID), (ANN, BEN))
    assert bases == ((ANN, BEN), (ANN, BEN))


def test_landed() -> None:
    assert landed("notes", "one\n", "one")
    assert not landed("value", A, B)


# --- properties --------------------------------------------------------------------------------------------------

MEMBERS = st.lists(
    st.builds(Member, st.sampled_from(["a@x", "b@x", "c@x"]), phone=st.sampled_from([None, "1", "2"])),
    max_size=3,
    unique_by=lambda each: each.email,
).map(tuple)
LINES = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=4, unique=True).map(
    lambda each: "\n".join(each) or None
)
VALUES: dict[str, st.SearchStrategy[Value]] = {
    "value": st.sampled_from([None, A, B, C, Decimal("1.005")]),
    "name": st.sampled_from(["x", "y", "a name too long to hold", "a name t"]),
    "close_date": st.sampled_from([None, date(2026, 1, 1), date(2026, 2, 1)]),
    "favorite": st.booleans(),
    "customer": st.sampled_from([Customer(name="x"), Customer(name="y"), None]),
    "notes": LINES,
    "contacts": MEMBERS,
    "solutions": st.lists(
        st.builds(Solution, st.sampled_from(["S1", "S2"])), unique_by=lambda each: each.id
    ).map(tuple),
}
OWN = {
    "value",
    "close_date",
    "favorite",
    "customer",
    "contacts",
    "solutions",
}  # both sides hold the same of these


@st.composite
def cases(draw: st.DrawFn, names: list[str] | None = None) -> tuple[FieldRule, Sides]:
    name = draw(st.sampled_from(names or sorted(VALUES)))
    policy = draw(st.sampled_from([Policy.CRM, Policy.PARTNER_CENTER, Policy.ASK, Policy.MERGE]))
    values = VALUES[name]
    here = values.map(lambda each: for_crm(name, each, SHAPE))
    base = draw(values)
    bases = draw(st.sampled_from([(base, for_crm(name, base, SHAPE)), (ABSENT, ABSENT)]))
    return FieldRule(name, name, Flow.BOTH, policy), Sides(draw(values), draw(here), *bases)


def write(rule: FieldRule, sides: Sides) -> Sides:
    """Both writes land, one after the other as in a cycle, and the bases learn from them."""
    merged = merge(rule, sides, SHAPE)
    referral, opportunity = sides.referral, sides.opportunity
    base_referral, base_opportunity = merged.base_referral, merged.base_opportunity
    if merged.to_referral is not ABSENT:
        fact = Written(referral, merged.to_referral, merged.to_referral, opportunity)
        base_referral, base_opportunity = learn(rule.name, base_referral, base_opportunity, fact)
        referral = merged.to_referral
    merged = merge(rule, Sides(referral, opportunity, base_referral, base_opportunity), SHAPE)
    base_referral, base_opportunity = merged.base_referral, merged.base_opportunity
    if merged.to_crm is not ABSENT:
        fact = Written(opportunity, merged.to_crm, merged.to_crm, referral)
        base_opportunity, base_referral = learn(rule.name, base_opportunity, base_referral, fact)
        opportunity = merged.to_crm
    return Sides(referral, opportunity, base_referral, base_opportunity)


@given(cases())
def test_merging_twice_equals_once(case: tuple[FieldRule, Sides]) -> None:
    """After the writes both sides agree, or a person is asked; nothing more is written."""
    rule, sides = case
    after = write(rule, sides)
    again = merge(rule, after, SHAPE)
    assert (again.to_crm, again.to_referral) == (ABSENT, ABSENT)
    asked = again.conflict is not None and again.conflict.kept is None
    assert (
        asked or agree(rule.name, after.referral, after.opportunity, SHAPE) or KINDS[rule.name] is Kind.NOTES
    )


@given(cases(sorted(OWN)))
def test_swapping_sides_and_policy_swaps_the_outcome(case: tuple[FieldRule, Sides]) -> None:
    """Of what both sides can hold alike."""
    rule, sides = case
    alike = (
        for_crm(rule.name, each, SHAPE) for each in (sides.referral, sides.opportunity, *_bases(sides)[::-1])
    )
    sides = Sides(*alike)
    other = {Policy.CRM: Policy.PARTNER_CENTER, Policy.PARTNER_CENTER: Policy.CRM}
    merge_sets = rule.policy is Policy.MERGE and KINDS[rule.name] in {Kind.MEMBERS, Kind.SOLUTIONS}
    if merge_sets or rule.policy is Policy.ASK:
        rule = FieldRule(rule.name, rule.crm, rule.flow, Policy.PARTNER_CENTER)
    mirror = FieldRule(rule.name, rule.crm, rule.flow, other.get(rule.policy, rule.policy))
    one = merge(rule, Sides(sides.opportunity, sides.referral, *_bases(sides)), SHAPE)
    two = merge(mirror, sides, SHAPE)
    assert _same(rule.name, one.to_crm, two.to_referral)
    assert _same(rule.name, one.to_referral, two.to_crm)
    assert (one.conflict is None) is (two.conflict is None)


def _bases(sides: Sides) -> tuple[Value, Value]:
    return sides.base_opportunity, sides.base_referral


def _same(name: str, one: Value, other: Value) -> bool:
    return (
        one is other
        if ABSENT in (one, other)
        else same(KINDS[name], for_crm(name, one, SHAPE), for_crm(name, other, SHAPE))
    )


@given(cases())
def test_nothing_one_sided_is_lost(case: tuple[FieldRule, Sides]) -> None:
    """Where only one side differs from its base, both hold its value in the end."""
    rule, sides = case
    kind = KINDS[rule.name]
    if sides.base_referral is ABSENT:
        return
    after = write(rule, sides)
    if same(kind, sides.referral, sides.base_referral):
        assert agree(rule.name, after.referral, sides.opportunity, SHAPE)
    if same(kind, sides.opportunity, sides.base_opportunity):
        assert same(kind, after.opportunity, for_crm(rule.name, sides.referral, SHAPE)) or agree(
            rule.name, sides.referral, sides.opportunity, SHAPE
        )


@given(MEMBERS, MEMBERS, MEMBERS)
def test_no_addition_to_a_set_is_lost(base: Value, referral: Value, opportunity: Value) -> None:
    after = write(value_rule(name="contacts"), Sides(referral, opportunity, base, base))
    added = (by_key(referral).keys() | by_key(opportunity).keys()) - by_key(base).keys()
    assert added <= by_key(after.referral).keys()
    assert by_key(after.referral) == by_key(after.opportunity)


@given(LINES, LINES, LINES)
def test_no_line_is_lost(base: Value, referral: Value, opportunity: Value) -> None:
    after = write(NOTES, Sides(referral, opportunity, base, base))
    lines = [
        set((text or "").split("\n")) - {""}
        for text in (base, referral, opportunity, after.referral, after.opportunity)
    ]  # type: ignore[union-attr]
    was, there, here, *now = lines
    for held in now:
        assert (there | here) - was <= held
        assert not held & (was - (there & here))


# --- what a side does not show -------------------------------------------------------------------------------------


def ann(phone: str | None, *, hidden: bool = False, name: str = "Ann") -> tuple[Member, ...]:
    return (Member("ann@x", name, "Lee", phone, {HIDDEN: ["phone"]} if hidden else {}),)


def test_a_part_that_a_side_does_not_show_is_neither_cleared_nor_written() -> None:
    rule, base = FieldRule("contacts", "x"), ann("1")
    merged = merge(rule, Sides(ann("1"), ann(None, hidden=True), base, base), SHAPE)
    assert (merged.to_crm, merged.to_referral) == (ABSENT, ABSENT)
    assert (merged.base_referral, merged.base_opportunity) == (base, base)
    renamed = merge(rule, Sides(ann("1"), ann(None, hidden=True, name="Anna"), base, base), SHAPE)
    assert renamed.to_referral == ann("1", name="Anna")


def test_an_edit_made_while_a_part_was_hidden_arrives_when_it_shows_again() -> None:
    rule, base = FieldRule("contacts", "x"), ann("1")
    hidden = merge(rule, Sides(ann("2"), ann(None, hidden=True), base, base), SHAPE)
    assert hidden.to_crm is ABSENT
    shown = merge(rule, Sides(ann("2"), ann("1"), hidden.base_referral, hidden.base_opportunity), SHAPE)
    assert (shown.to_crm, shown.to_referral) == (ann("2"), ABSENT)


def test_a_part_that_was_hidden_from_the_first_has_no_base() -> None:
    """When it shows, the empty side is filled, and nothing is deleted."""
    rule = FieldRule("contacts", "x")
    first = merge(rule, Sides(ann("2"), ann(None, hidden=True)), SHAPE)
    shown = merge(rule, Sides(ann("2"), ann(None), first.base_referral, first.base_opportunity), SHAPE)
    assert (shown.to_crm, shown.to_referral) == (ann("2"), ABSENT)
