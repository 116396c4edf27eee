"""Where values come from: sources of texts for pydantic-settings, which lays them over each other.

Each source is a tree of texts in which every part remembers where it stands (file and line, or the variable), so that a
mistake is reported with its place. Values stay texts until the models read them: YAML's own guesses are not used,
because they read ``off`` as false and ``66.0`` as a number. A source collects its problems and goes on, so that all
mistakes are reported at once; ``docs/decisions/0012-sources-of-settings.md`` says why the library's own environment,
YAML and secret sources are not used.

A secret may be named instead of given: ``client_secret_file`` in YAML, ``COSELL_…__CLIENT_SECRET_FILE`` in the
environment. Paths in YAML are relative to the YAML file, those of variables to the working directory. Empty variables
and empty YAML values count as not given.

What a source says of one connection (below ``connections.NAME``) is a source of its own, written like the top level.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from cosell_sync.settings import token_file, value_lists
from cosell_sync.settings.keys import (
    CONNECTIONS,
    FIELD_RULES,
    FREE_MAPS,
    IMAGE_PREFIX,
    LISTS,
    PREFIX,
    SHARED,
    KeyPath,
    is_known,
    keys_below,
    nearest_key,
    secret_keys,
    variable_name,
    within_connection,
)
from cosell_sync.settings.model import Settings
from cosell_sync.settings.problems import Problem
from cosell_sync.settings.values import is_connection_name

PEM: Final = frozenset({"private_key", "certificate"})  # secrets of several lines
_NAMES: Final = "Use small letters, digits and single hyphens, at most 40 of them, for example acme-eu"


class TextSource(PydanticBaseSettingsSource):
    """One source: its texts as a tree, the place of each part, and what is wrong with it.

    ``name`` is what a problem of the whole source is reported under, ``folder`` where its relative paths begin, ``prefix``
    where its keys stand. ``connections``: what it says of each connection.
    """

    def __init__(self, name: str, folder: Path, prefix: KeyPath = ()) -> None:
        super().__init__(BaseSettings)  # only asked for the library's own options, and we use none
        self.name = name
        self.folder = folder
        self.prefix = prefix
        self.connections: dict[str, TextSource] = {}
        self.tree: dict[str, Any] = {}
        self.places: dict[KeyPath, str] = {}
        self.problems: list[Problem] = []

    def __call__(self) -> dict[str, Any]:
        """The texts. A map of the user's own keys is left out where a stronger source gives it: it replaces this one."""
        tree = dict(self.tree)
        for section, key in FREE_MAPS:
            if section in tree and key in self.current_state.get(section, {}):
                tree[section] = {name: value for name, value in tree[section].items() if name != key}
        return tree

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The text or map of one section, as the library asks for it; None where it is not given."""
        del field
        return self.tree.get(field_name), field_name, False

    def place(self, path: KeyPath) -> str:
        """Where ``path`` stands, or the nearest part above it; empty where the source knows neither."""
        above = (path[:n] for n in range(len(path), -1, -1))
        return next((self.places[part] for part in above if part in self.places), "")

    def report(self, path: KeyPath, what: str, hint: str = "") -> None:
        """Collect a problem with its place."""
        key = ".".join((*self.prefix, *path))
        self.problems.append(Problem(key or self.name, self.place(path), what, hint))

    def finish(self) -> None:
        """Drop from the tree what is unknown or of the wrong shape, and read the secret files; each problem is reported."""
        if not self.prefix and (given := self.tree.pop(CONNECTIONS, None)) is not None:
            self._split_off(given)
        self.tree = {key: value for key, value in self._checked(self.tree, ()).items() if value is not None}
        self._find_value_lists()
        self._find_token_file()
        for path, values in self._blocks():
            for secret in secret_keys(path[0]):
                if (named := values.pop(f"{secret}_file", None)) is not None:
                    self._read_secret_file(path, values, secret, named)

    def _split_off(self, given: Any) -> None:
        """Make what is said of each connection a source of its own; one that nobody may be called is reported."""
        if not isinstance(given, dict):
            self.report((CONNECTIONS,), "must be a map of names, each with sections below it")
            return
        places: dict[str, dict[KeyPath, str]] = {name: {} for name in given}
        for path, place in self.places.items():
            if path[:1] == (CONNECTIONS,) and len(path) > 1 and path[1] in places:
                places[path[1]][path[2:]] = place
        for name, values in given.items():
            below = TextSource(self.name, self.folder, (CONNECTIONS, name))
            below.places = places[name]
            self.connections[name] = below
            if not is_connection_name(name):
                below.report((), "is no name of a connection", _NAMES)
            if not isinstance(values, dict):
                below.report((), "must be a map of sections")
                continue
            for section in SHARED.keys() & values.keys():
                hint = f"Give {section} at the top of the file, once for all connections"
                below.report((section,), f"cannot be given for one connection: {SHARED[section]}", hint)
            below.tree = {key: value for key, value in values.items() if key not in SHARED}
            self._refuse_own_sign_in(below)
            below.finish()

    @staticmethod
    def _refuse_own_sign_in(below: TextSource) -> None:
        """Who signs in to the console acts on all connections; what it shows of one is that connection's."""
        console = below.tree.get("console")
        for key in ("token_file", "hosts"):
            if isinstance(console, dict) and console.pop(key, None) is not None:
                what = "cannot be given for one connection: one sign-in opens the console of all"
                below.report(("console", key), what, f"Give console.{key} at the top of the file")

    def _blocks(self) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        """Every section, and every item of a list of sections, with its path."""
        for name, values in self.tree.items():
            if isinstance(values, dict):
                yield (name,), values
            elif (name,) in LISTS:
                yield from (((name, str(number)), item) for number, item in enumerate(values))

    def _checked(self, tree: Any, path: KeyPath) -> Any:
        if path in LISTS:
            return self._checked_items(tree, path)
        below = keys_below(path)
        if below is None:
            if isinstance(tree, dict):
                self.report(path, "takes one value, not a map")
                return None
            return tree
        if not isinstance(tree, dict):
            if path[:-1] == FIELD_RULES and isinstance(tree, str):
                return {"crm": tree}
            self.report(path, "must be a map of keys")
            return None
        checked = {}
        for key, value in tree.items():
            if below and key not in below:
                self.report((*path, key), "unknown key", self._meant((*path, key)))
            elif (good := self._checked(value, (*path, key))) is not None:
                checked[key] = good
        return checked

    def _meant(self, path: KeyPath) -> str:
        """What to do about an unknown key: a section that is indented too far, or the key that resembles it."""
        if len(path) > 1 and path[-1] in Settings.model_fields:
            return f"{path[-1]} is a section of its own: indent it as far as {path[0]}"
        return f"Did you mean {nearest_key((*self.prefix, *path))}?"

    def _checked_items(self, items: Any, path: KeyPath) -> list[Any] | None:
        if not isinstance(items, list):
            self.report(path, "must be a list of maps")
            return None
        return [self._checked(item, (*path, str(number))) or {} for number, item in enumerate(items)]

    def _find_value_lists(self) -> None:
        """The file of value lists by its whole path; one that cannot be used is reported here, where its place is known."""
        mapping = self.tree.get("mapping")
        if not isinstance(mapping, dict) or not isinstance(named := mapping.get("value_lists"), str):
            return
        file = self.folder / Path(named).expanduser()
        mapping["value_lists"] = str(file)
        try:
            value_lists.read(file)
        except value_lists.Unusable as fault:
            written = "config/value-lists.yaml in the source of cosell-sync shows how it is written"
            mounted = "Check the path; in a container the file must be mounted there"
            self.report(("mapping", "value_lists"), str(fault), written if file.is_file() else mounted)

    def _find_token_file(self) -> None:
        """The file of the console's token by its whole path; one that may not be used is reported here. It is read at each sign-in."""
        console = self.tree.get("console")
        if not isinstance(console, dict) or not isinstance(named := console.get("token_file"), str):
            return
        file = self.folder / Path(named).expanduser()
        console["token_file"] = str(file)
        try:
            token_file.read(file)
        except token_file.Unusable as fault:
            self.report(("console", "token_file"), str(fault), fault.hint)

    def _read_secret_file(self, path: KeyPath, values: dict[str, Any], secret: str, named: Any) -> None:
        """Put the content of the file in the secret's place; only trailing line ends are cut off."""
        key = (*path, f"{secret}_file")
        if secret in values:
            self.report(key, f"and {'.'.join((*path, secret))} are both given", "Keep one")
            return
        if not isinstance(named, str):
            self.report(key, "must be a path")
            return
        file = self.folder / Path(named).expanduser()
        try:
            text = file.read_text(encoding="utf-8-sig").rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            hint = f"Check the path, and that {own_name()} may read it"
            self.report(key, f"cannot read {file}: {reason}", hint)
            return
        if not text:
            self.report(key, f"{file} is empty")
            return
        if "\n" in text and secret not in PEM:
            self.report(key, f"{file} holds more than one line", "Keep the line with the secret alone")
            return
        values[secret] = text
        self.places[*path, secret] = self.place(key)


class EnvironmentSource(TextSource):
    """The variables ``COSELL_<SECTION>__<KEY>``, or those that begin with another ``prefix``; a whole map may be given as JSON
    in one of them.
    """

    def __init__(self, environment: Mapping[str, str], prefix: str = PREFIX) -> None:
        super().__init__("environment", Path())
        # Shorter names first, so that a whole map given as JSON is refined by variables for its parts.
        for variable in sorted(environment, key=lambda name: (name.count("__"), name)):
            text = environment[variable]
            path = _path_of(variable.removeprefix(prefix))
            if text.strip() and _is_ours(variable, prefix, path):
                self._take(variable, path, text)
            elif text.strip() and prefix == PREFIX and (meant := _misspelt(variable)):
                self.problems.append(Problem(variable, "", "is read by nothing", f"Did you mean {meant}?"))
        self.finish()

    def _take(self, variable: str, path: KeyPath, text: str) -> None:
        self.places[path] = variable
        local = within_connection(path)
        whole = next((part for part in (*FREE_MAPS, *LISTS) if local[: len(part)] == part != local), None)
        if whole is not None:
            what, how = ("map", "name by name") if whole in FREE_MAPS else ("list", "item by item")
            self.report(
                path,
                f"cannot be given {how}",
                f"Give the whole {what} as JSON in {variable_name((*path[: -len(local)], *whole))}",
            )
            return
        above = (path[: n + 1] for n in range(len(path)))
        unknown = next((part for part in above if not is_known(part)), None)
        if unknown is not None:
            self.places[unknown] = variable
            nearest = variable_name(nearest_key(unknown).split("."))
            self.report(unknown, "unknown key", f"Did you mean {nearest}?")
            return
        branch = self.tree
        for part in path[:-1]:
            if isinstance(branch.get(part), str):  # a field rule in its short form
                branch[part] = {"crm": branch[part]}
            elif not isinstance(branch.get(part), dict):
                branch[part] = {}
            branch = branch[part]
        branch[path[-1]] = self._decoded(path, text)

    def _decoded(self, path: KeyPath, text: str) -> Any:
        """Maps and lists are JSON; everything else is its text."""
        local = within_connection(path)
        is_map = keys_below(path) is not None
        may_be_json = is_map or local in LISTS or path[-1] in {"account_match", "certificate_hosts", "hosts"}
        if not (may_be_json and text.lstrip().startswith(("{", "["))):
            if is_map and local[:-1] != FIELD_RULES:  # a field rule as plain text is the CRM's field name
                self.report(path, "must be a map", "Give it as JSON, for example {…}")
                return {}
            return text
        try:
            return json.loads(text)
        except ValueError:
            self.report(path, "is no valid JSON")
            return {} if is_map else []


def own_name() -> str:
    """Who this process is to the files it reads; Windows has no number for it."""
    return f"user id {os.geteuid()}" if hasattr(os, "geteuid") else "this user"


def variables_set(environment: Mapping[str, str] | None = None) -> list[str]:
    """Names of our variables that are set, those of the process unless others are given; never a value."""
    names = os.environ if environment is None else environment
    return sorted(name for name in names if name.startswith(PREFIX))


def _is_ours(variable: str, prefix: str, path: KeyPath) -> bool:
    """Other programs may use the prefix too: only sections and the top-level keys are taken, never those of our tests."""
    others = (f"{PREFIX}TEST_", IMAGE_PREFIX) if prefix == PREFIX else ()
    if not variable.startswith(prefix) or variable.startswith(others):
        return False
    return len(path) > 1 or path[0] in (*Settings.model_fields, CONNECTIONS)


def _path_of(words: str) -> KeyPath:
    """The path of a variable's name; a connection's hyphens are underscores there."""
    path = tuple(words.lower().split("__"))
    return (
        (CONNECTIONS, path[1].replace("_", "-"), *path[2:]) if path[0] == CONNECTIONS and path[1:] else path
    )


def _misspelt(variable: str) -> str | None:
    """The variable that was meant by one with a single underscore between section and key; None where none was."""
    if not variable.startswith(PREFIX) or "__" in variable:
        return None
    words = variable.removeprefix(PREFIX).lower().split("_")
    splits = (
        ("_".join(words[:n]), "_".join(words[n:])) for n in range(1, len(words))
    )  # a section may have one of its own
    return next((variable_name(path) for path in splits if path[1] in (keys_below(path[:1]) or ())), None)
