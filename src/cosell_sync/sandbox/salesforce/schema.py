"""Objects and fields as values: what a field is, and one function per kind of field.

Everything the fake checks is read from them, and `describe` prints them. Field types are the words of the REST describe result,
not those of the setup pages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

NUMBER_TYPES = frozenset({"currency", "double", "percent", "int"})
LONG_TEXT = 255
"""A text area longer than this is a long text area, which SOQL can neither filter nor sort."""


@dataclass(frozen=True)
class Field:
    """One column. `required` is the platform's own demand (not nillable and without a default)."""

    name: str
    label: str
    type: str = "string"
    length: int = 0
    precision: int = 0
    scale: int = 0
    required: bool = False
    createable: bool = True
    updateable: bool = True
    external_id: bool = False
    unique: bool = False
    values: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    restricted: bool = False
    refers_to: tuple[str, ...] = ()
    relationship: str = ""
    cascade: bool = False
    default: object = None
    calculated: bool = False
    defaulted: bool = False
    child_name: str = ""

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    @property
    def long(self) -> bool:
        return self.type == "textarea" and self.length > LONG_TEXT

    @property
    def nillable(self) -> bool:
        return not (self.required or self.type in {"boolean", "id"} or self.default is not None)


@dataclass(frozen=True)
class Child:
    """How a parent reaches its children: the relationship name of a sub-select."""

    relationship: str
    object: str
    field: str
    cascade: bool


@dataclass(frozen=True)
class SObject:
    """One object with its columns, found by name whatever the case, as the platform does."""

    name: str
    label: str
    prefix: str
    fields: Mapping[str, Field]
    children: tuple[Child, ...] = ()
    createable: bool = True
    replicateable: bool = True
    recycled: bool = True
    _by_lower: dict[str, Field] = field(default_factory=dict, repr=False, compare=False)

    def find(self, name: str) -> Field | None:
        """The field of that name, without regard to case; None when there is none."""
        if not self._by_lower:
            self._by_lower.update({each.name.lower(): each for each in self.fields.values()})
        return self._by_lower.get(name.lower())

    def parent(self, relationship: str) -> Field | None:
        """The lookup with that relationship name; None when there is none."""
        wanted = relationship.lower()
        return next((each for each in self.fields.values() if each.relationship.lower() == wanted), None)

    def child(self, relationship: str) -> Child | None:
        """The child relationship of that name; None when there is none."""
        wanted = relationship.lower()
        return next((each for each in self.children if each.relationship.lower() == wanted), None)


Schema: TypeAlias = Mapping[str, SObject]


def text(name: str, label: str, length: int = 255, **more: object) -> Field:
    return replace(Field(name, label, "string", length), **more)  # type: ignore[arg-type]


def long_text(name: str, label: str, length: int = 32_000) -> Field:
    return Field(name, label, "textarea", length)


def checkbox(name: str, label: str, *, default: bool = False) -> Field:
    return Field(name, label, "boolean", default=default, defaulted=True)


def moment(name: str, label: str) -> Field:
    return Field(name, label, "datetime")


def money(name: str, label: str, **more: object) -> Field:
    return replace(Field(name, label, "currency", precision=18, scale=2), **more)  # type: ignore[arg-type]


def picklist(
    name: str, label: str, values: Iterable[str], *, restricted: bool = True, **more: object
) -> Field:
    made = Field(name, label, "picklist", 255, values=tuple(values), restricted=restricted)
    return replace(made, **more)  # type: ignore[arg-type]


def lookup(name: str, label: str, to: str | tuple[str, ...], relationship: str, **more: object) -> Field:
    targets = (to,) if isinstance(to, str) else to
    return replace(
        Field(name, label, "reference", 18, refers_to=targets, relationship=relationship),
        **more,  # type: ignore[arg-type]
    )


def computed(name: str, label: str, kind: str = "string", length: int = 0, **more: object) -> Field:
    """A field that the platform computes and nobody writes."""
    made = Field(name, label, kind, length, createable=False, updateable=False, calculated=True)
    return replace(made, **more)  # type: ignore[arg-type]


def fixed(each: Field) -> Field:
    """The same field, written once at creation and never again."""
    return replace(each, updateable=False)


def owner() -> Field:
    return lookup("OwnerId", "Owner ID", "User", "Owner", defaulted=True)


def system() -> tuple[Field, ...]:
    """The columns that every object has and nobody writes."""
    by = {"createable": False, "updateable": False}
    return (
        Field("Id", "Record ID", "id", 18, createable=False, updateable=False, defaulted=True),
        Field("IsDeleted", "Deleted", "boolean", createable=False, updateable=False, defaulted=True, default=False),
        Field("CreatedDate", "Created Date", "datetime", createable=False, updateable=False, defaulted=True),
        lookup("CreatedById", "Created By ID", "User", "CreatedBy", defaulted=True, **by),
        Field("LastModifiedDate", "Last Modified Date", "datetime", createable=False, updateable=False, defaulted=True),
        lookup("LastModifiedById", "Last Modified By ID", "User", "LastModifiedBy", defaulted=True, **by),
        Field("SystemModstamp", "System Modstamp", "datetime", createable=False, updateable=False, defaulted=True),
    )  # fmt: skip


CHILD_NAMES = {
    ("Contact", "AccountId"): "Contacts",
    ("Opportunity", "AccountId"): "Opportunities",
    ("OpportunityContactRole", "OpportunityId"): "OpportunityContactRoles",
    ("OpportunityContactRole", "ContactId"): "OpportunityContactRoles",
    ("OpportunityTeamMember", "OpportunityId"): "OpportunityTeamMembers",
    ("Cosell_Solution__c", "Opportunity__c"): "Cosell_Solutions__r",
    ("Task", "WhatId"): "Tasks",
    ("PermissionSetAssignment", "PermissionSetId"): "Assignments",
}


def linked(objects: Mapping[str, SObject]) -> dict[str, SObject]:
    """The same objects, each with the child relationships that point at it."""
    children: dict[str, list[Child]] = {name: [] for name in objects}
    for name, shape in objects.items():
        for each in shape.fields.values():
            for target in each.refers_to:
                if target in children:
                    relationship = CHILD_NAMES.get((name, each.name), each.child_name)
                    children[target].append(Child(relationship, name, each.name, each.cascade))
    return {
        name: SObject(
            shape.name, shape.label, shape.prefix, shape.fields, tuple(children[name]),
            shape.createable, shape.replicateable, shape.recycled,
        )
        for name, shape in objects.items()
    }  # fmt: skip
