"""Reads the configuration of a run and checks it as a whole, before anything is contacted.

Four layers make one tree: built-in defaults, those of a container image (``COSELL_DEFAULT_<SECTION>__<KEY>``), the YAML file,
variables ``COSELL_<SECTION>__<KEY>``; the last wins.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from cosell_sync.settings.keys import CONFIG_VARIABLE, IMAGE_PREFIX, LISTS
from cosell_sync.settings.model import Settings
from cosell_sync.settings.plain_words import in_plain_words
from cosell_sync.settings.problems import InvalidSettings, Problem
from cosell_sync.settings.sources import EnvironmentSource, TextSource


def load(path: Path | None = None, env: Mapping[str, str] | None = None) -> Settings:
    """The configuration of this run.

    ``path``: the YAML file; None: the one that COSELL_CONFIG names, else none. ``env``: the variables; None: those of
    the process. Raises ``InvalidSettings`` (a ``ConfigError``) with every mistake there is.
    """
    env = os.environ if env is None else env
    if path is None and env.get(CONFIG_VARIABLE, "").strip():
        path = Path(env[CONFIG_VARIABLE].strip())
    image = EnvironmentSource(env, IMAGE_PREFIX)
    sources: list[TextSource] = [EnvironmentSource(env)]
    if path is not None:
        from cosell_sync.settings.yaml_source import YamlSource  # noqa: PLC0415 - variables alone need no YAML

        sources.append(YamlSource(path, store="store" not in image.tree))
    sources.append(image)
    problems = [problem for source in sources for problem in source.problems]
    try:
        settings = Settings(**_merged(sources))
    except ValidationError as error:
        problems += [
            _problem(details, sources) for details in error.errors(include_url=False, include_input=False)
        ]
    if problems:
        raise InvalidSettings(list(dict.fromkeys(problems)))
    return settings


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


def _problem(error: Any, sources: Sequence[TextSource]) -> Problem:
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
    return Problem(".".join(path) or "configuration", where, in_plain_words(error))
