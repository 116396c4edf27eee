"""What the clients take from the mapping: columns, owners, languages, and the zone of a close date."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from functools import cache
from zoneinfo import ZoneInfo

from cosell_sync.catalogues import catalogue, languages
from cosell_sync.crm.words import Words
from cosell_sync.crm.writes import Ownership
from cosell_sync.settings import Settings, value_lists


def column_names(settings: Settings) -> Mapping[str, str]:
    """The CRM's columns by our names of the fields; without the fields that are switched off."""
    return {name: rule.crm for name, rule in settings.mapping.fields.items() if rule.direction != "off"}


def ownership(settings: Settings) -> Ownership:
    """Who owns the records that the program makes."""
    mapping = settings.mapping
    return Ownership(
        team=mapping.owner == "team", default=mapping.default_owner, by_location=mapping.owner_by_location
    )


def words(settings: Settings) -> Words:
    """The languages of labels and choices; catalogues and lists are read when they are needed."""

    @cache
    def lists() -> Mapping[str, Sequence[str]]:
        return value_lists.choices(value_lists.lists(settings.mapping.value_lists))

    return Words(settings.mapping.language, languages(), catalogue, lists)


def close_date_zone(settings: Settings) -> tzinfo:
    """The zone in which a close date is a day."""
    name = settings.mapping.close_date_zone
    return UTC if name == "UTC" else ZoneInfo(name)
