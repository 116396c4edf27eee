"""The configuration file: YAML read node by node, so that every key keeps its line. See ``sources`` for the reasons."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from cosell_sync.settings.keys import (
    CONFIG_VARIABLE,
    CONNECTIONS,
    LISTS,
    KeyPath,
    is_known,
    within_connection,
)
from cosell_sync.settings.problems import Problem
from cosell_sync.settings.sources import TextSource, own_name
from cosell_sync.settings.values import DEFAULT_STORE

RELATIVE_STORE: Final = re.compile(r"(sqlite(?:\+pysqlite)?:///)([^/?][^?]*)")
_DEEPEST: Final = 8  # keys inside keys; no valid key is that deep, and an alias may nest without end


class YamlSource(TextSource):
    """The texts of one YAML file; empty, with a problem, where it cannot be read. ``store``: whether a store that the file does
    not name lies beside it.
    """

    def __init__(self, path: Path, *, store: bool = True) -> None:
        super().__init__(str(path), path.parent)
        self.places[()] = str(path)
        node = self._read(path)
        if isinstance(node, yaml.MappingNode):
            self.tree = self._map((), node)
        elif node is not None:
            self._reject("YAML", str(path), "must be a map of sections at the top")
        self.finish()
        self._settle_paths(self.tree, beside=store)
        for source in self.connections.values():
            if "url" in (source.tree.get("store") or {}):
                self._settle_paths(source.tree, beside=False)
            else:
                self._settle_roots(source.tree)

    def _settle_roots(self, tree: dict[str, Any]) -> None:
        webhooks = tree.get("webhooks")
        if isinstance(webhooks, dict) and isinstance(roots := webhooks.get("trusted_roots"), str):
            webhooks["trusted_roots"] = str(self.folder / Path(roots).expanduser())

    def _settle_paths(self, tree: dict[str, Any], *, beside: bool) -> None:
        """A store that is a file lies beside this file, wherever the command is started: not a second, empty one elsewhere."""
        self._settle_roots(tree)
        store = tree.get("store", {})
        url = store.get("url", DEFAULT_STORE) if isinstance(store, dict) else None
        found = RELATIVE_STORE.fullmatch(url) if isinstance(url, str) else None
        if found is None or found[2] == ":memory:":
            return
        if "url" not in store and (
            not beside or (Path(found[2]).exists() and not (self.folder / found[2]).exists())
        ):
            return  # the image names another place; or it lies where earlier versions kept it
        tree["store"] = {**store, "url": f"{found[1]}{(self.folder / found[2]).absolute()}"}

    def _read(self, path: Path) -> yaml.Node | None:
        try:
            node: yaml.Node | None = yaml.SafeLoader(path.read_text(encoding="utf-8-sig")).get_single_node()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            self._reject("--config", str(path), f"cannot be read: {reason}", _cure(error))
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            where = f"{path}:{mark.line + 1}" if mark else str(path)
            if "'\\t'" in (error.problem or ""):
                self._reject("YAML", where, "has a tab where spaces belong", "Indent with spaces")
            else:
                hint = "An indent, a quote, a bracket or a colon there or in the lines above is not as it should be"
                self._reject("YAML", where, error.problem or "cannot be read", hint)
        except yaml.YAMLError:
            self._reject("YAML", str(path), "holds characters that YAML does not allow")
        except RecursionError:
            self._reject("YAML", str(path), "is nested too deep")
        else:
            return node
        return None

    def _reject(self, key: str, where: str, what: str, hint: str = "") -> None:
        self.problems.append(Problem(key, where, what, hint))

    def _map(self, path: KeyPath, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            below = (*path, key)
            where = f"{self.name}:{key_node.start_mark.line + 1}"
            self.places.setdefault(below, where)
            if key in values:
                self._reject(".".join(below), where, "stands here twice", "Keep one")
            elif len(within_connection(below)) > _DEEPEST:
                self.report(path, "is nested too deep")
            else:
                values[key] = self._value(below, value_node)
        # An empty value counts as not given; of an unknown key it stays, so that the key is reported.
        return {
            key: value for key, value in values.items() if value is not None or not is_known((*path, key))
        }

    def _value(self, path: KeyPath, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._map(path, node)
        if isinstance(node, yaml.SequenceNode):
            return [self._item((*path, str(number)), item) for number, item in enumerate(node.value)]
        if node.tag != "tag:yaml.org,2002:null":
            return node.value
        return {} if path[:-1] == (CONNECTIONS,) else None  # a connection with nothing of its own

    def _item(self, path: KeyPath, node: yaml.Node) -> Any:
        """One item of a list: a text, or a map where the list holds sections."""
        if within_connection(path[:-1]) in LISTS:
            self.places[path] = f"{self.name}:{node.start_mark.line + 1}"
            return self._map(path, node) if isinstance(node, yaml.MappingNode) else None
        return node.value if isinstance(node, yaml.ScalarNode) else None


def _cure(error: OSError | UnicodeDecodeError) -> str:
    """What to do about a file that cannot be read."""
    match error:
        case UnicodeDecodeError():
            return "Save it as UTF-8"
        case IsADirectoryError():
            return "Name a file; in a container, a folder there was made by the mount of a file that does not exist"
        case PermissionError():
            return f"Let {own_name()} read it"
    return f"Check the path, or {CONFIG_VARIABLE}"
