"""``replace`` gives what the library's gives, and refuses what it refuses."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cached_property

import pytest

import cosell_sync.core
from core.deals import SHAPE
from cosell_sync import ports
from cosell_sync.core.deal import Member
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Memory

PERSON = Member("a@x.example", "A", "Ek", extra={"row": "00K1"})


def test_a_changed_value_is_the_one_that_the_library_makes() -> None:
    for item, changes in (
        (PERSON, {"phone": "1", "last_name": None}),
        (Memory(parked=True), {"attempts": 3}),
        (SHAPE, {}),
    ):
        made, theirs = replace(item, **changes), dataclasses.replace(item, **changes)  # type: ignore[type-var,misc]
        assert made == theirs
        assert vars(made) == vars(theirs)
        assert made is not item
    assert replace(PERSON, phone="1").extra is PERSON.extra


def test_the_value_itself_stays_as_it_was() -> None:
    replace(PERSON, email="b@x.example")
    assert PERSON.email == "a@x.example"


def test_a_field_that_a_value_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError):
        replace(PERSON, fax="1")  # type: ignore[call-arg]


def test_no_value_computes_anything_when_it_is_made_or_keeps_what_it_computed() -> None:
    """Else a changed copy would keep what was true of the value before."""
    names = [each.name for each in pkgutil.walk_packages(cosell_sync.core.__path__, "cosell_sync.core.")]
    modules = [ports, *map(importlib.import_module, names)]
    everything = (each for module in modules for each in vars(module).values())
    values = {each for each in everything if isinstance(each, type) and dataclasses.is_dataclass(each)}
    assert len(values) > 30
    for value in values:
        assert not hasattr(value, "__post_init__"), value
        assert not any(isinstance(each, cached_property) for each in vars(value).values()), value
