"""Reads the configuration of a run and checks it as a whole, before anything is contacted.

Four layers make one tree: built-in defaults, those of a container image (``COSELL_DEFAULT_<SECTION>__<KEY>``), the YAML file,
variables ``COSELL_<SECTION>__<KEY>``; the last wins. What is said of one connection, in whatever layer, lies over all of them:
the top level is each connection's default.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from cosell_sync.errors import ConfigError
from cosell_sync.settings.keys import (
    CONFIG_VARIABLE,
    CONNECTIONS,
    IMAGE_CONFIG,
    IMAGE_PREFIX,
    LISTS,
    KeyPath,
)
from cosell_sync.settings.model import Settings
from cosell_sync.settings.origin import Origin
from cosell_sync.settings.plain_words import in_plain_words
from cosell_sync.settings.problems import InvalidSettings, Problem
from cosell_sync.settings.sources import EnvironmentSource, TextSource
from cosell_sync.settings.values import DEFAULT_CONNECTION

_NAMED_AT_MOST: Final = 20  # connections that an error lists


def load(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """The configuration at the top level; the arguments and what is raised as of ``Configuration``."""
    return Configuration(path, env).shared


class Configuration:
    """The configuration of this run: the top level, checked at once, and each connection, checked when it is asked for.

    ``path``: the YAML file; None: the one that COSELL_CONFIG names, else that of COSELL_DEFAULT_CONFIG if it is there, else none.
    ``env``: the variables; None: those of the process. Raises ``InvalidSettings`` (a ``ConfigError``) with every mistake there is at the top level; mistakes of one
    connection are that connection's.
    """

    def __init__(self, path: Path | None = None, env: Mapping[str, str] | None = None) -> None:
        variables = os.environ if env is None else env
        file, absent = _file(path, variables)
        self.origin = Origin(path, absent)
        self._sources = _sources(file, variables)
        names = (name for source in reversed(self._sources) for name in source.connections)
        self._given = tuple(dict.fromkeys(names))
        self._checked: dict[str, Settings] = {}
        mine = [each for each in self._problems if self._owner(each) is None]
        try:
            self.shared = _settings(self._sources, (), mine, self.origin)
        except InvalidSettings as error:
            raise InvalidSettings([*error.problems, *self._others(error.problems)], self.origin) from None

    @property
    def names(self) -> tuple[str, ...]:
        """Every connection that is configured, in the order of the file; without ``connections`` there is one, ``default``."""
        return self._given or (DEFAULT_CONNECTION,)

    @property
    def named(self) -> bool:
        """Whether ``connections`` is given at all."""
        return bool(self._given)

    def settings(self, name: str | None = None) -> Settings:
        """Those of one connection; None: the one called ``default``. Raises ``ConfigError`` where there is none of that name,
        ``InvalidSettings`` with every mistake of this connection.
        """
        name = name or DEFAULT_CONNECTION
        if name not in self.names:
            raise self._unknown(name)
        if not self._given:
            return self.shared
        if name not in self._checked:
            mine = [each for each in self._problems if self._owner(each) == name]
            layers = [source.connections[name] for source in self._sources if name in source.connections]
            found = _settings([*layers, *self._sources], (CONNECTIONS, name), mine, self.origin)
            self._checked[name] = found.of_connection(name)
        return self._checked[name]

    def place(self, name: str) -> str:
        """Where this connection is first spoken of; empty for the one that no file and no variable names."""
        found = (
            source.connections[name].place(())
            for source in reversed(self._sources)
            if name in source.connections
        )
        return next((place for place in found if place), "")

    @cached_property
    def _problems(self) -> Sequence[Problem]:
        found = [problem for source in self._sources for problem in source.problems]
        below = (each for source in self._sources for each in source.connections.values())
        return [*found, *(problem for source in below for problem in source.problems)]

    def _owner(self, problem: Problem) -> str | None:
        """The connection that has this problem; None: all have it."""
        keys = ((name, f"{CONNECTIONS}.{name}") for name in self._given)
        return next((name for name, key in keys if f"{problem.key}.".startswith(f"{key}.")), None)

    def _others(self, known: Sequence[Problem]) -> Iterator[Problem]:
        """What is wrong with the connections beside what is wrong at the top level, so that all is told at once."""
        places = {problem.where for problem in known}
        for name in self._given:
            try:
                self.settings(name)
            except InvalidSettings as error:
                yield from (problem for problem in error.problems if problem.where not in places)

    def _unknown(self, name: str) -> ConfigError:
        some = ", ".join(self.names[:_NAMED_AT_MOST])
        more = len(self.names) - _NAMED_AT_MOST
        return ConfigError(
            f"there is no connection {name}",
            hint=f"give --connection with one of: {some}{f' and {more} more' if more > 0 else ''}"
            if self._given
            else f"there is one: {DEFAULT_CONNECTION}",
        )


def _file(path: Path | None, env: Mapping[str, str]) -> tuple[Path | None, Path | None]:
    """The YAML file to be read, and the one that the image looks for in vain; None: none. What a person names must be there; what
    the image suggests need not: whoever mounts nothing gives variables.
    """
    if path is not None:
        return path, None
    if named := env.get(CONFIG_VARIABLE, "").strip():
        return Path(named), None
    if not (suggested := env.get(IMAGE_CONFIG, "").strip()):
        return None, None
    file = Path(suggested)
    try:
        file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None, file
    except OSError:
        pass  # it may be there: the reader says why not
    return file, None


def _sources(path: Path | None, env: Mapping[str, str]) -> list[TextSource]:
    """The layers above the built-in defaults, the strongest first."""
    image = EnvironmentSource(env, IMAGE_PREFIX)
    sources: list[TextSource] = [EnvironmentSource(env)]
    if path is not None:
        from cosell_sync.settings.yaml_source import YamlSource  # noqa: PLC0415 - variables alone need no YAML

        sources.append(YamlSource(path, store="store" not in image.tree))
    return [*sources, image]


def _settings(
    sources: Sequence[TextSource], prefix: KeyPath, problems: Iterable[Problem], origin: Origin
) -> Settings:
    """The sources as one checked whole. ``problems``: what is known to be wrong with it. Raises ``InvalidSettings``."""
    found = list(problems)
    try:
        settings = Settings(**_merged(sources))
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        found += [_problem(each, sources, prefix) for each in details]
    if found:
        raise InvalidSettings(list(dict.fromkeys(found)), origin)
    return settings.read_from(replace(origin, places=[source.places for source in sources]))


def _merged(sources: Sequence[TextSource]) -> dict[str, Any]:
    """The texts of all sources in one tree; where two give the same key, the earlier source wins."""

    class Texts(BaseSettings, extra="allow"):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            """Ours instead of the library's: its own forget places and pass over unknown keys."""
            del settings_cls, init_settings, env_settings, dotenv_settings, file_secret_settings
            return tuple(sources)

    return Texts().model_extra or {}


def _problem(error: Any, sources: Sequence[TextSource], prefix: KeyPath) -> Problem:
    """One finding of the models, with its place in the strongest source that gave the value."""
    # The models name their own functions inside a path; the last number is the position in a list.
    keys = [str(part) for part in error["loc"]]
    path = tuple(key for key in keys if not key.startswith(("function-", "constrained-")))
    if path and path[-1].isdigit() and path[:-1] not in LISTS:
        path = path[:-1]
    above = [path[:n] for n in range(len(path), 1, -1)] + [path[:1]] * (path[:1] in LISTS)
    at_or_above = [source.places[at] for source in sources for at in above if at in source.places]
    below = [
        place for source in sources for at, place in source.places.items() if at and at[: len(path)] == path
    ]
    where = next(iter((*at_or_above, *below)), "")
    return Problem(".".join((*prefix, *path)) or "configuration", where, in_plain_words(error))
