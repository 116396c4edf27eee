"""A seller in Spain: setup, import, answer, conflict, refusal in Spanish, on both CRMs, and back to English without a storm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from acceptance import Stage

from cosell_sync.sandbox.systems import Sandbox

pytestmark = pytest.mark.wire

SPANISH, ENGLISH = 3082, 1033
SPEAK_SPANISH = {"COSELL_MAPPING__LANGUAGE": "es", "COSELL_MAPPING__FIELDS__VALUE__CONFLICT": "ask"}
SOLUTIONS = [{"id": "SOL-1", "name": "One", "type": "Solutions"}]


# Salesforce; Dynamics with Spanish alone, with both, and in English with Spanish beside it.
@pytest.fixture(
    params=[(), (SPANISH,), (SPANISH, ENGLISH), (ENGLISH, SPANISH)],
    ids=["salesforce", "dynamics-es", "dynamics-es-en", "dynamics-en-es"],
)
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    """A CRM that holds nothing of ours, and whose sellers read Spanish."""
    with Sandbox(installed=False, crm="dynamics" if request.param else "salesforce") as sandbox:
        if request.param:
            sandbox.dynamics.set_languages(*request.param)
        stage = Stage(sandbox, tmp_path, dict(SPEAK_SPANISH))
        stage.cosell("provision", "--json")
        yield stage


def labels(stage: Stage, word: str) -> tuple[set[str], dict[str, set[str]]]:
    """Labels of a column and, by value, of its choices: every label that people may read, in any language."""
    if stage.crm.name == "salesforce":
        name = stage.crm.tables["opportunity"].columns[word]
        field = stage.sandbox.salesforce._org.schema["Opportunity"].fields[name]
        return {field.label}, {each: {label} for each, label in zip(field.values, field.labels, strict=True)}
    column: Any = stage.sandbox.dynamics._org.schema["opportunity"].columns[
        stage.crm.tables["opportunity"].columns[word]
    ]
    options = {str(each.value): {each.label, *each.translations.values()} for each in column.options}
    return {column.label, *column.translations.values()}, options


def test_the_setup_is_labelled_in_spanish_and_values_stay(stage: Stage) -> None:
    column, choices = labels(stage, "action")
    assert "Acción Co-sell" in column
    assert any("Aceptar" in each for each in choices.values())
    if stage.crm.name == "salesforce":
        assert choices == {"Accept": {"Aceptar"}, "Decline": {"Rechazar"}}
    again = stage.cosell("provision", "--json").json()
    assert {each["status"] for each in again["components"]} == {"there"}, "another language is no difference"


def shown(stage: Stage, deal: Any, word: str) -> str:
    """What the seller sees in a choice of ours: its Spanish label."""
    value = stage.deal(deal)[word]
    if stage.crm.name == "salesforce":
        (label,) = labels(stage, word)[1][value]
        return label
    every = [each for each in labels(stage, word)[1].values() if value in each]
    assert len(every) == 1
    spanish = {"In sync": "Sincronizada", "Needs attention": "Requiere atención", "Conflict": "Conflicto"}
    return next(each for each in every[0] if each in spanish.values())


def accept(stage: Stage) -> str:
    """The value that a seller's choice of *Aceptar* leaves: of Salesforce its API name, of the fake Dynamics its base label."""
    known = labels(stage, "action")[1]
    if stage.crm.name == "salesforce":
        return next(value for value, said in known.items() if said == {"Aceptar"})
    return "Accept" if stage.sandbox.dynamics.setup.languages[0] == ENGLISH else "Aceptar"


def test_a_seller_works_in_spanish_and_back_in_english_nothing_is_rewritten(stage: Stage) -> None:
    opened = {"details": {"requirements": {"solutions": SOLUTIONS}}}
    deal, other = (stage.add("inbound_pending", **opened) for _ in range(2))
    stage.sync()
    told = stage.deal(deal)["message"]
    assert told.startswith("Responda antes del "), told
    assert "elija Aceptar o Rechazar en Acción Co-sell." in told
    assert "Nueva oportunidad de Microsoft." in told
    assert shown(stage, deal, "sync_state") == "Sincronizada"

    stage.seller(deal, action=accept(stage))
    stage.sync()
    assert stage.referral(deal)["status"] == "Active"
    assert stage.deal(deal)["action"] is None
    assert "Usted aceptó esta oportunidad; Microsoft lo sabe." in stage.deal(deal)["message"]

    stage.seller(deal, value=9000)
    stage.pc.edit(deal["id"], "details/dealValue", 8000)
    stage.sync(expect=1)
    told = stage.deal(deal)["message"]
    assert "se cambió en ambos lados: Partner Center tiene 8.000" in told, told
    assert shown(stage, deal, "sync_state") == "Conflicto"

    if stage.crm.name == "salesforce":  # whose rule lets nobody decline without a reason
        stage.seller(other, stage="Lost")
        words = "Cerrar una oportunidad que no ha aceptado la rechaza en Microsoft de forma definitiva."
    else:
        stage.seller(other, action="Decline" if accept(stage) == "Accept" else "Rechazar")
        words = "Para rechazar esta oportunidad, rellene Motivo Co-sell."
    stage.sync(expect=1)
    told = stage.deal(other)["message"]
    assert told.startswith(words), told
    assert stage.referral(other)["status"] == "New"
    assert shown(stage, other, "sync_state") == "Requiere atención"

    stage.env["COSELL_MAPPING__LANGUAGE"] = "en"
    stage.quiet(expect=1)
    assert "se cambió" in stage.deal(deal)["message"], "told again only when there is something to tell"
    stage.forget_calls()
    stage.pc.edit(deal["id"], "name", "Another name")
    stage.sync(expect=1)
    assert "was changed on both sides" in stage.deal(deal)["message"]
    assert stage.deal(other)["message"] == told
    assert stage.patches(deal["id"]) == []
    stage.quiet(expect=1)
