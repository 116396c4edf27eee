"""What is deleted from the store when a person is to be forgotten, and what stays so that no merge takes it for an edit.

Forgetting changes our store, never the two systems. What is remembered of a deal steers merges, so each part is removed in a
way that cannot be mistaken for an edit:

snapshots  of a linked deal are dropped whole and read again: one without the person would look like a removal
bases      keep a digest of the address in the person's place, and nothing else of them. It stands for "both sides had
           this one": without it a removal that is still under way would be undone, as at first sight nothing is deleted.
           It is gone after the next merge
intents    lose the fields that speak of the person; what those wrote is then found equal on both sides, which is agreed
journal    keeps its lines: when, which field, by which rule; the person is taken out of the values
texts      (notes, what was said on the record) have the address, the full name and the phone number blotted out

Pure, and repeatable: what is forgotten already is found nowhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from cosell_sync.core.deal import Fields, Member, Snapshot, Solution, Value
from cosell_sync.core.frozen import replace
from cosell_sync.core.memory import Failure, Intent, JournalEntry, Link, Memory, Phase
from cosell_sync.core.texts import Text

BLOT: Final = "(forgotten)"
UNREAD: Final = "forgotten"  # the version of a snapshot that is no longer what was read
_DIGEST: Final = "forgotten:"

Record = Member | Solution


@dataclass(frozen=True)
class Person:
    """Who is to be forgotten: the address, and the names and numbers that stood beside it anywhere."""

    email: str
    names: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()

    def with_traces(self, values: Iterable[Value]) -> Person:
        """Knowing also the names and numbers that these values give this address."""
        found = [member for value in values for member in _members(value) if member.email == self.email]
        names = {
            f"{each.first_name} {each.last_name}" for each in found if each.first_name and each.last_name
        }
        phones = {each.phone for each in found if each.phone and len(each.phone) > 5}
        return replace(self, names=self.names | names, phones=self.phones | phones)

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches the address, the names and the numbers as whole words."""
        words = sorted({self.email, *self.names, *self.phones}, key=len, reverse=True)
        return re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words), re.IGNORECASE)


@dataclass(frozen=True)
class ErasureResult:
    """How much was touched."""

    deals: int = 0
    intents: int = 0
    journal: int = 0


def digest_of(email: str) -> str:
    """What stands in a base instead of an address."""
    return _DIGEST + hashlib.sha256(email.encode()).hexdigest()[:32]


def recalled(
    base: Mapping[str, Record], own: Mapping[str, Record], other: Mapping[str, Record]
) -> dict[str, Record]:
    """A side's base with its digests understood. Who stands on both sides is seen for the first time; who is gone from
    one of them was taken away there and is, where they still stand, as they were; who is on neither is over.
    """
    known = {digest_of(key): key for key in {**own, **other}} if any(map(_is_digest, base)) else {}
    found = {key: member for key, member in base.items() if not _is_digest(key)}
    for key in filter(_is_digest, base):
        address = known.get(key)
        if address is not None and not (address in own and address in other):
            found.setdefault(address, own.get(address, Member(address)))
    return found


def _is_digest(key: str) -> bool:
    return key.startswith(_DIGEST)


def values(link: Link) -> list[Value]:
    """Everything of a link that may contain a person's name and number."""
    sides = [side.fields for side in (link.referral, link.opportunity) if side is not None]
    return [
        value for fields in (*sides, link.base_referral, link.base_opportunity) for value in fields.values()
    ]


def from_link(link: Link, person: Person) -> Link:
    """The link without the person; the very same one where they are not in it."""
    referral, opportunity = from_snapshot(link.referral, person), from_snapshot(link.opportunity, person)
    read_again = link.phase is Phase.LINKED and link.memory.gone is None
    changed = replace(
        link,
        referral=None if read_again and referral != link.referral else referral,
        opportunity=None if read_again and opportunity != link.opportunity else opportunity,
        base_referral=_from_base(link.base_referral, person),
        base_opportunity=_from_base(link.base_opportunity, person),
        memory=_from_memory(link.memory, person),
    )
    if changed == link:
        return link
    return replace(changed, dirty=link.dirty or read_again)


def from_snapshot(snapshot: Snapshot | None, person: Person) -> Snapshot | None:
    """The snapshot without the person; with another version where that changed it, so that it is read again."""
    if snapshot is None:
        return None
    fields = {name: from_value(value, person) for name, value in snapshot.fields.items()}
    return (
        snapshot
        if fields == snapshot.fields
        else replace(snapshot, fields=fields, unkeyed={}, version=UNREAD)
    )


def from_intent(intent: Intent, person: Person) -> Intent:
    """The intent without the fields that speak of the person."""
    dropped = {
        name
        for fields in (intent.fields, intent.source)
        for name, value in fields.items()
        if from_value(value, person) != value
    }
    if not dropped:
        return intent
    return replace(intent, fields=_without(intent.fields, dropped), source=_without(intent.source, dropped))


def from_entry(entry: JournalEntry, person: Person) -> JournalEntry:
    """The line of the journal with the person taken out of its values."""
    return replace(entry, old=from_value(entry.old, person), new=from_value(entry.new, person))


def from_value(value: Value, person: Person) -> Value:
    """The value without the person: members removed, texts blotted out."""
    if isinstance(value, str):
        return person.pattern.sub(BLOT, value)
    if isinstance(value, tuple):
        return tuple(item for item in value if not (isinstance(item, Member) and item.email == person.email))  # type: ignore[return-value]  # of one kind as before
    return value


def _from_base(base: Fields, person: Person) -> Fields:
    return {name: _without_person(value, person) for name, value in base.items()}


def _without_person(value: Value, person: Person) -> Value:
    if not any(member.email == person.email for member in _members(value)):
        return from_value(value, person)
    return tuple(
        Member(digest_of(person.email)) if member.email == person.email else member
        for member in _members(value)
    )


def _from_memory(memory: Memory, person: Person) -> Memory:
    return replace(
        memory,
        notices=tuple(_blotted(text, person) for text in memory.notices),
        failure=_from_failure(memory.failure, person),
        refused={
            name: replace(each, text=person.pattern.sub(BLOT, each.text))
            for name, each in memory.refused.items()
        },
        untold=person.pattern.sub(BLOT, memory.untold),
    )


def _from_failure(failure: Failure | None, person: Person) -> Failure | None:
    return failure and replace(failure, text=_blotted(failure.text, person))


def _blotted(text: str, person: Person) -> str:
    """A text that names nobody stays as it is, so that it can still be said in another language."""
    blot = partial(person.pattern.sub, BLOT)
    return text.each_word(blot) if isinstance(text, Text) else blot(text)


def _members(value: Value) -> tuple[Member, ...]:
    return tuple(item for item in value if isinstance(item, Member)) if isinstance(value, tuple) else ()


def _without(fields: Fields, names: Iterable[str]) -> Fields:
    gone = set(names)
    return {name: value for name, value in fields.items() if name not in gone}
