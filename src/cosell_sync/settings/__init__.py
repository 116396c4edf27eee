"""The configuration: one YAML file, overridden by the environment, checked as a whole before anything is contacted.

``values`` the types and their parsing · ``defaults`` what depends on the CRM · ``model`` the sections · ``keys`` what may
be written where · ``sources``, ``yaml_source`` the layers, with places · ``load`` all of it together · ``problems`` the
mistakes, ``plain_words`` those that pydantic finds · ``origin`` where values were read · ``required`` what a command cannot
begin without · ``connections`` all of them together · ``schema`` the JSON Schema · ``template`` a new file from the example.
"""

from cosell_sync.settings.connections import check_all, shared_organizations
from cosell_sync.settings.keys import known_keys
from cosell_sync.settings.load import Configuration, load
from cosell_sync.settings.model import Settings
from cosell_sync.settings.problems import InvalidSettings, Problem
from cosell_sync.settings.required import Command, plausible, required
from cosell_sync.settings.schema import json_schema
from cosell_sync.settings.sources import variables_set
from cosell_sync.settings.values import DEFAULT_CONNECTION, CrmName, format_duration, parse_duration

__all__ = [
    "DEFAULT_CONNECTION",
    "Command",
    "Configuration",
    "CrmName",
    "InvalidSettings",
    "Problem",
    "Settings",
    "check_all",
    "format_duration",
    "json_schema",
    "known_keys",
    "load",
    "parse_duration",
    "plausible",
    "required",
    "shared_organizations",
    "variables_set",
]
