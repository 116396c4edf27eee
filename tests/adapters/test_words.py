"""Labels in the language of the sellers, and choices understood whatever language they are labelled in."""

from __future__ import annotations

from collections import defaultdict

import pytest

from cosell_sync.catalogues import catalogue, languages
from cosell_sync.crm.columns import DUNS_COLUMN, SOLUTION_COLUMNS, VIEWS, opportunity_columns
from cosell_sync.crm.dynamics import describe
from cosell_sync.crm.dynamics.install.schema import Labels, label_languages
from cosell_sync.crm.dynamics.org import DEFAULT_NAMES, OPPORTUNITIES, Choice, Column
from cosell_sync.crm.salesforce.install.reports import REPORTS
from cosell_sync.crm.salesforce.install.schema import components
from cosell_sync.crm.values import folded
from cosell_sync.crm.words import ENGLISH_WORDS, Words, region_of, region_of_lcid
from cosell_sync.settings import value_lists

SHIPPED = value_lists.choices(value_lists.shipped())
SPANISH = Words("es", languages(), catalogue, lambda: SHIPPED)
COLUMNS = {
    **opportunity_columns(SHIPPED),
    **{f"solution {name}": column for name, column in SOLUTION_COLUMNS.items()},
    "duns": DUNS_COLUMN,
}


@pytest.mark.parametrize("name", [name for name, column in COLUMNS.items() if column.values])
def test_no_two_choices_of_a_column_have_one_label_in_any_language(name: str) -> None:
    """Else a choice that an environment has in one language only could be taken for another one."""
    meant: dict[str, set[str]] = defaultdict(set)
    for value in COLUMNS[name].values:
        for label in SPANISH.all_of(value):
            meant[folded(label)].add(value)
    assert {label: values for label, values in meant.items() if len(values) > 1} == {}
    for value in COLUMNS[name].values:
        for label in SPANISH.all_of(value):
            assert SPANISH.english(COLUMNS[name].values, [label]) == value


def test_a_choice_that_is_none_or_more_than_one_of_ours_is_not_guessed() -> None:
    assert SPANISH.english(("Accept", "Decline"), ["Quizás"]) is None
    assert SPANISH.english(("Accept", "Decline"), ["Aceptar", "Rechazar"]) is None
    assert ENGLISH_WORDS.english(("Accept", "Decline"), ["Aceptar"]) is None


@pytest.mark.parametrize(
    ("listed", "labels", "meant"),
    [
        (SHIPPED["marketplace_intent"], ("Sin decidir", "Sí", "No"), ["Have not decided", "Yes", "No"]),
        (("Sí", "No", "Sin decidir"), ("Sí", "No", "Sin decidir"), ["Sí", "No", "Sin decidir"]),
        (("Yes", "No"), ("Sí", "Quizás"), ["Yes", "Quizás"]),
    ],
)
def test_choices_of_a_list_that_microsoft_renews_are_understood_by_the_list_in_force(
    listed: tuple[str, ...], labels: tuple[str, ...], meant: list[str]
) -> None:
    words = Words("es", languages(), catalogue, lambda: {"marketplace_intent": listed})
    name = DEFAULT_NAMES["marketplace_intent"]
    choices = tuple(Choice(value, each, frozenset({folded(each)})) for value, each in enumerate(labels))
    columns = {name: Column(name, "Picklist", choices=choices)}
    found = describe.understood(OPPORTUNITIES, columns, DEFAULT_NAMES, words)
    assert [each.label for each in found[name].choices] == meant


@pytest.mark.parametrize("code", languages())
def test_labels_fit_where_people_read_them(code: str) -> None:
    """Salesforce: 40 characters of a label, 510 of a help text. Dataverse: 50 of a display name, and 2,000."""
    words = Words(code, languages(), catalogue)
    columns = COLUMNS.values()
    assert [words(each.label) for each in columns if len(words(each.label)) > 40] == []
    assert [words(each.help) for each in columns if len(words(each.help)) > 510] == []
    assert [words(each.label) for each in VIEWS if len(words(each.label)) > 40] == []
    assert [words(each.label) for each in REPORTS if len(words(each.label)) > 40] == []
    assert [words(each.description) for each in REPORTS if len(words(each.description)) > 255] == []


def test_on_salesforce_only_labels_are_in_spanish() -> None:
    english, spanish = (
        {each.name: each for each in components(words=words)} for words in (ENGLISH_WORDS, SPANISH)
    )
    assert english.keys() == spanish.keys()
    field = spanish["Opportunity.Cosell_Action__c"].body
    values = field["valueSet"]["valueSetDefinition"]["value"]
    assert field["label"] == "Acción Co-sell"
    assert [(each["fullName"], each["label"]) for each in values] == [
        ("Accept", "Aceptar"),
        ("Decline", "Rechazar"),
    ]
    rule = "Opportunity.Cosell_Decline_Needs_Reason"
    assert spanish[rule].body["errorConditionFormula"] == english[rule].body["errorConditionFormula"]
    assert spanish[rule].body["errorMessage"] == "Elija un motivo Co-sell antes de rechazar."


def test_on_dynamics_each_language_of_the_environment_has_its_label() -> None:
    assert label_languages(1033, [1033, 3082, 1031], SPANISH) == (1033, 3082)
    assert label_languages(3082, [3082], SPANISH) == (3082,)
    assert label_languages(1031, [1031, 1033], ENGLISH_WORDS) == (1031, 1033)
    labels = Labels((1031, 1033, 3082), SPANISH)("Accept")["LocalizedLabels"]
    assert [(each["LanguageCode"], each["Label"]) for each in labels] == [
        (1031, "Aceptar"),  # there is no German catalogue: what sellers read
        (1033, "Accept"),
        (3082, "Aceptar"),
    ]


@pytest.mark.parametrize(
    ("name", "region"), [("es_MX", "MX"), ("en-GB", "GB"), ("zh_Hant_TW", "TW"), ("es", ""), ("", "")]
)
def test_the_region_of_a_locale(name: str, region: str) -> None:
    assert region_of(name) == region


def test_the_region_of_a_locale_of_windows() -> None:
    assert [region_of_lcid(each) for each in (2057, 3082, 0, None)] == ["GB", "ES", "", ""]
