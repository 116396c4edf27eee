"""Composite and composite graph: many parts in one call, each of which may use what earlier ones answered.

A part is handled like any other request. This module checks the limits (25 parts, at most 5 of them queries or
collections), fills in `@{reference.path}`, rolls back where one failure has to undo the rest, and puts the answers in order.
The outer call answers 200 whatever happens inside.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from cosell_sync.sandbox.exchange import Headers, Response
from cosell_sync.sandbox.salesforce.payload import Part
from cosell_sync.sandbox.salesforce.rest import Rest
from cosell_sync.sandbox.salesforce.values import Refused

MAX_PARTS = 25
MAX_HEAVY = 5
MAX_GRAPHS = 75
MAX_NODES = 500

_REFERENCE = re.compile(r"@\{([A-Za-z][A-Za-z0-9_]*)((?:\.\w+|\[\d+\])*)\}")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_URL = re.compile(r"/services/data/v\d+\.0/(.+)", re.DOTALL)
_FORBIDDEN_HEADERS = frozenset({"authorization", "cookie", "host", "content-length", "accept", "connection"})
_ROLLED_BACK = Refused(
    "PROCESSING_HALTED",
    "The transaction was rolled back since another operation in the same transaction failed.",
)


@dataclass
class Composite:
    """Runs composites on a `Rest`. `honours_headers`: whether the headers of a part take effect."""

    honours_headers: bool = True

    def __call__(self, rest: Rest, part: Part) -> Response:
        match part.path:
            case ("composite",):
                return self._composite(rest, part)
            case ("composite", "graph"):
                return self._graphs(rest, part)
        raise Refused("NOT_FOUND", "The requested resource does not exist")

    def _composite(self, rest: Rest, outer: Part) -> Response:
        asked = _parts(outer.body)
        if len(asked) > MAX_PARTS:
            raise Refused("LIMIT_EXCEEDED", f"Composite can't contain more than {MAX_PARTS} operations")
        heavy = sum(1 for each in asked if _is_query_or_collection(str(each.get("url", ""))))
        if heavy > MAX_HEAVY:
            raise Refused(
                "LIMIT_EXCEEDED",
                f"Composite can't contain more than {MAX_HEAVY} query or collection operations",
            )
        whole = outer.body.get("allOrNone") is True
        return Response(200, {"compositeResponse": self._run_parts(rest, outer, asked, whole=whole)})

    def _graphs(self, rest: Rest, outer: Part) -> Response:
        graphs = outer.body.get("graphs") if isinstance(outer.body, dict) else None
        if not isinstance(graphs, list) or not graphs:
            raise Refused("JSON_PARSER_ERROR", "graphs must be a list")
        if len(graphs) > MAX_GRAPHS or sum(len(_parts(graph)) for graph in graphs) > MAX_NODES:
            raise Refused("LIMIT_EXCEEDED", f"at most {MAX_GRAPHS} graphs with {MAX_NODES} nodes")
        answers = []
        for graph in graphs:
            answered = self._run_parts(rest, outer, _parts(graph), whole=True)
            successful = all(each["httpStatusCode"] < 400 for each in answered)
            answers.append(
                {
                    "graphId": graph.get("graphId"),
                    "graphResponse": {"compositeResponse": answered},
                    "isSuccessful": successful,
                }
            )
        return Response(200, {"graphs": answers})

    def _run_parts(
        self, rest: Rest, outer: Part, asked: list[dict[str, Any]], *, whole: bool
    ) -> list[dict[str, Any]]:
        kept = rest.org.savepoint() if whole else None
        bodies: dict[str, Any] = {}
        failed: set[str] = set()
        answers: list[dict[str, Any]] = []
        for each in asked:
            name = str(each["referenceId"])
            if whole and failed:
                answer = Response(400, [_ROLLED_BACK.as_error()])
            else:
                answer = self._one(rest, outer, each, bodies, failed, whole=whole)
            if answer.status >= 400 or (whole and _rows_failed(answer.body)):
                failed.add(name)
            bodies[name] = answer.body
            answers.append(
                {
                    "body": answer.body,
                    "httpHeaders": answer.headers,
                    "httpStatusCode": answer.status,
                    "referenceId": name,
                }
            )
        if kept is None or not failed:
            return answers
        rest.org.roll_back(kept)
        return [
            each
            if each["referenceId"] in failed
            else {**each, "body": [_ROLLED_BACK.as_error()], "httpHeaders": {}, "httpStatusCode": 400}
            for each in answers
        ]

    def _one(
        self, rest: Rest, outer: Part, asked: dict[str, Any], bodies: Mapping[str, Any], failed: set[str], *, whole: bool
    ) -> Response:  # fmt: skip
        try:
            url = _filled(str(asked["url"]), bodies, failed)
            body = _filled(asked.get("body"), bodies, failed)
            part = self._part(
                outer, str(asked.get("method", "GET")).upper(), url, asked.get("httpHeaders"), body
            )
        except Refused as refused:
            return Response(400, [refused.as_error()])
        if whole and part.path[:2] == ("composite", "sobjects") and isinstance(part.body, dict):
            part.body["allOrNone"] = True
        return rest.answer(part)

    def _part(self, outer: Part, method: str, url: str, headers: Any, body: Any) -> Part:
        split = urlsplit(url)
        below = _URL.fullmatch(split.path)
        if below is None:
            raise Refused("INVALID_URL", f"a part's url starts with /services/data/vNN.0/: {url[:80]}")
        path = tuple(unquote(step) for step in below[1].strip("/").split("/"))
        if path[0] not in {"sobjects", "query", "queryAll"} and path[:2] != ("composite", "sobjects"):
            raise Refused("INVALID_URL", f"this resource cannot be part of a composite: {path[0]}")
        own = {str(name).lower(): str(value) for name, value in (headers or {}).items()}
        if _FORBIDDEN_HEADERS & set(own):
            raise Refused(
                "INVALID_HEADER", f"not allowed in a part: {', '.join(_FORBIDDEN_HEADERS & set(own))}"
            )
        shared = {k: v for k, v in outer.headers.items() if k.startswith("sforce-")}
        effective = {**shared, **own} if self.honours_headers else shared
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        return Part(method, path, query, Headers(effective), body, outer.actor)


def _parts(body: Any) -> list[dict[str, Any]]:
    asked = body.get("compositeRequest") if isinstance(body, dict) else None
    if not isinstance(asked, list) or not asked or not all(isinstance(each, dict) for each in asked):
        raise Refused("JSON_PARSER_ERROR", "compositeRequest must be a list of objects")
    names = [each.get("referenceId") for each in asked]
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise Refused("INVALID_REFERENCE_ID", f"Provided referenceId '{name}' must start with a letter")
        if names.count(name) > 1:
            raise Refused("INVALID_REFERENCE_ID", f"Duplicate referenceId '{name}'")
    if any("url" not in each or "method" not in each for each in asked):
        raise Refused("JSON_PARSER_ERROR", "every part needs method and url")
    return asked


def _is_query_or_collection(url: str) -> bool:
    return re.match(r"/services/data/v\d+\.0/(query|queryAll|composite/sobjects)\b", url) is not None


def _rows_failed(body: Any) -> bool:
    return isinstance(body, list) and any(
        isinstance(each, dict) and each.get("success") is False for each in body
    )


def _filled(value: Any, bodies: Mapping[str, Any], failed: set[str]) -> Any:
    """The value with every reference replaced, at any depth."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda found: _looked_up(found, bodies, failed), value)
    if isinstance(value, list):
        return [_filled(each, bodies, failed) for each in value]
    if isinstance(value, dict):
        return {name: _filled(each, bodies, failed) for name, each in value.items()}
    return value


def _looked_up(found: re.Match[str], bodies: Mapping[str, Any], failed: set[str]) -> str:
    name, path = found[1], found[2]
    missing = Refused(
        "PROCESSING_HALTED", f"Invalid reference specified. No value for {name}{path} found in {name}"
    )
    if name not in bodies or name in failed:
        raise missing
    here = bodies[name]
    for step in _STEP.finditer(path):
        try:
            here = here[int(step[2])] if step[2] else here[step[1]]
        except (KeyError, IndexError, TypeError):
            raise missing from None
    if here is None or isinstance(here, dict | list):
        raise missing
    return str(here)
