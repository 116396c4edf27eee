"""Validates what our Dynamics client sends by a third party's OData server (odatapy): addresses, queries, batches, bodies.

The judge knows OData and, from the environment's schema, which tables and columns there are; it knows nothing of our
client. What it cannot judge: alternate keys (odatapy has no notion of them, so a second model makes the alternate key
*the* key), the meaning of what it parses, and what a delta or paging token holds, since a service makes those itself. It
reads a plus sign as a blank; that no plus is sent is for the served Dataverse to refuse (`strict_spaces`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from odatapy.edm.csdl import (
    CsdlAbstractEdmProvider,
    CsdlAction,
    CsdlActionImport,
    CsdlComplexType,
    CsdlEntityContainer,
    CsdlEntitySet,
    CsdlEntityType,
    CsdlFunction,
    CsdlFunctionImport,
    CsdlNavigationProperty,
    CsdlParameter,
    CsdlProperty,
    CsdlPropertyRef,
    CsdlReturnType,
    CsdlSchema,
)
from odatapy.edm.model import Edm, EdmEntityType
from odatapy.edm.names import FullQualifiedName
from odatapy.errors import ODataException, UriParserException
from odatapy.http.method import HttpMethod
from odatapy.http.prefer import PreferenceName, Preferences
from odatapy.server.batch import BatchParser, get_boundary, validate_boundary
from odatapy.server.deserializer.json_deserializer import ODataJsonDeserializer
from odatapy.server.support import parse_etag_header
from odatapy.server.uri import Parser, UriValidator
from odatapy.server.uri.resource import UriResourceAction

from cosell_sync.sandbox.dataverse.schema import Table
from cosell_sync.sandbox.dataverse.service import ROOT
from cosell_sync.sandbox.dataverse.standard_schema import build
from cosell_sync.sandbox.dataverse.values import edm as edm_name
from cosell_sync.sandbox.exchange import Call

NAMESPACE = "Microsoft.Dynamics.CRM"
ROW = "crmbaseentity"  # what every table descends from
ALTERNATE = {"opportunity": "cosell_referralid"}
KNOWN_PREFERENCES = {
    value for name, value in vars(PreferenceName).items() if name.isupper() and isinstance(value, str)
}


def _entity(table: Table, key: str) -> CsdlEntityType:
    made = CsdlEntityType(table.name, base_type=f"{NAMESPACE}.{ROW}", key=[CsdlPropertyRef(key)])
    for column in table.columns.values():
        kind = "Edm.Guid" if column.kind == "lookup" else edm_name(column)
        made.properties.append(CsdlProperty(column.read_as, kind, nullable=column.name != key))
        for target, way in column.targets.items():
            # A way that leads to several tables leads to the root of all.
            to = target if list(column.targets.values()).count(way) == 1 else ROW
            if way not in {each.name for each in made.navigation_properties}:
                made.navigation_properties.append(CsdlNavigationProperty(way, f"{NAMESPACE}.{to}"))
    return made


def _metadata_types() -> list[CsdlEntityType]:
    """The part of the metadata model that the reference describes: tables, columns, choices."""

    def plain(name: str, kind: str = "Edm.String") -> CsdlProperty:
        return CsdlProperty(name, kind)

    def column(kind: str, *more: CsdlProperty, sets: Iterable[str] = ()) -> CsdlEntityType:
        ways = [CsdlNavigationProperty(name, f"{NAMESPACE}.OptionSetMetadata") for name in sets]
        return CsdlEntityType(
            f"{kind}AttributeMetadata",
            base_type=f"{NAMESPACE}.AttributeMetadata",
            properties=list(more),
            navigation_properties=ways,
        )

    logical = CsdlPropertyRef("LogicalName")
    return [
        CsdlEntityType("OptionSetMetadata", [CsdlProperty("MetadataId", "Edm.Guid", nullable=False)], key=[CsdlPropertyRef("MetadataId")]),
        CsdlEntityType(
            "AttributeMetadata",
            [
                CsdlProperty("LogicalName", "Edm.String", nullable=False),
                CsdlProperty("MetadataId", "Edm.Guid"),
                plain("AttributeType"),
                plain("IsSecured", "Edm.Boolean"),
                CsdlProperty("DisplayName", f"{NAMESPACE}.Label"),
                plain("IsValidForCreate", "Edm.Boolean"),
                plain("IsValidForUpdate", "Edm.Boolean"),
            ],
            key=[logical],
        ),
        column("String", plain("MaxLength", "Edm.Int32")),
        column("DateTime", plain("DateTimeBehavior")),
        column("Memo", plain("MaxLength", "Edm.Int32")),
        column("Money", plain("Precision", "Edm.Int32"), plain("PrecisionSource", "Edm.Int32"), plain("MaxValue", "Edm.Double"), plain("MinValue", "Edm.Double")),
        column("Picklist", sets=("OptionSet", "GlobalOptionSet")),
        column("Status", sets=("OptionSet",)),
        CsdlEntityType("EntityKeyMetadata", [CsdlProperty("LogicalName", "Edm.String", nullable=False), plain("EntityKeyIndexStatus"), plain("SchemaName"), CsdlProperty("KeyAttributes", "Edm.String", collection=True)], key=[logical]),
        CsdlEntityType(
            "EntityMetadata",
            [
                CsdlProperty("LogicalName", "Edm.String", nullable=False),
                plain("EntitySetName"),
                plain("ChangeTrackingEnabled", "Edm.Boolean"),
                plain("IsOptimisticConcurrencyEnabled", "Edm.Boolean"),
            ],
            navigation_properties=[
                CsdlNavigationProperty("Attributes", f"{NAMESPACE}.AttributeMetadata", collection=True),
                CsdlNavigationProperty("Keys", f"{NAMESPACE}.EntityKeyMetadata", collection=True),
            ],
            key=[logical],
        ),
    ]  # fmt: skip


class Environment(CsdlAbstractEdmProvider):
    """The schema of the environment as OData describes schemas. ``keys``: tables with another key than their own."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        tables = build()
        types = [_entity(table, keys.get(table.name, table.key)) for table in tables.values()]
        sets = [CsdlEntitySet(table.set_name, f"{NAMESPACE}.{table.name}") for table in tables.values()]
        closing = [
            CsdlParameter("Status", "Edm.Int32", nullable=False),
            CsdlParameter("OpportunityClose", f"{NAMESPACE}.opportunityclose"),
        ]
        names = ("WinOpportunity", "LoseOpportunity")
        who = CsdlFunction("WhoAmI", return_type=CsdlReturnType(f"{NAMESPACE}.WhoAmIResponse"))
        self.schema = CsdlSchema(
            NAMESPACE,
            entity_types=[CsdlEntityType(ROW, abstract=True), *types, *_metadata_types()],
            complex_types=[
                CsdlComplexType("Label"),
                CsdlComplexType("WhoAmIResponse", [CsdlProperty("UserId", "Edm.Guid")]),
            ],
            actions=[CsdlAction(name, list(closing)) for name in names],
            functions=[who],
            entity_container=CsdlEntityContainer(
                "System",
                [*sets, CsdlEntitySet("EntityDefinitions", f"{NAMESPACE}.EntityMetadata")],
                action_imports=[CsdlActionImport(name, f"{NAMESPACE}.{name}") for name in names],
                function_imports=[CsdlFunctionImport("WhoAmI", f"{NAMESPACE}.WhoAmI")],
            ),
        )

    def get_schemas(self) -> list[CsdlSchema]:
        return [self.schema]


class Judge:
    """``objections`` to a request, by OData alone; none is an acceptance. ``seen``: the distinct requests so far."""

    def __init__(self) -> None:
        self._edm = Edm.from_provider(Environment({}))
        self._by_alternate_key = Edm.from_provider(Environment(ALTERNATE))
        self._reading = ODataJsonDeserializer(strict=True)
        self.seen: set[tuple[Any, ...]] = set()

    def objections(self, call: Call) -> list[str]:
        assert call.path.startswith(ROOT), call.path
        path = call.path.removeprefix(ROOT)
        if path == "$batch":
            return self._batch(call)
        return self.request(call.method, path, call.raw_query, call.headers, call.body)

    def request(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> list[str]:
        given = {name.lower(): value for name, value in (headers or {}).items()}
        asked = (
            method,
            path,
            query,
            given.get("prefer"),
            given.get("if-match"),
            given.get("if-none-match"),
            body,
        )
        self.seen.add(asked)
        found = [*self._headers(given)]
        try:
            self._address(method, path, query, body)
        except ODataException as error:
            found.append(str(error))
        return [f"{method} {path}?{query}: {each}" for each in found]

    def _address(self, method: str, path: str, query: str, body: bytes) -> None:
        alternate = any(f"({column}=" in path for column in ALTERNATE.values())
        edm = self._by_alternate_key if alternate else self._edm
        info = Parser(edm).parse_uri(path, query or None)
        UriValidator().validate(info, HttpMethod(method))
        if not body:
            return
        target = info.last_resource
        if not isinstance(target, UriResourceAction):
            self._row(edm, target.entity_set.entity_type, body)
            return
        plain = {}
        for name, given in json.loads(body).items():
            # odatapy reads no parameter that is a row: it is read as a row of its type instead.
            declared = target.action.get_parameter(name)
            row = edm.get_entity_type(FullQualifiedName.parse(declared.type)) if declared else None
            if row is None:
                plain[name] = given
            else:
                self._row(edm, row, json.dumps(given).encode())
        self._reading.action_parameters(edm, target.action, json.dumps(plain))

    def _row(self, edm: Edm, kind: EdmEntityType, body: bytes) -> None:
        """Columns as declared; what is bound must be one row of the table that the navigation leads to."""
        for link in self._reading.entity(edm, kind, body).navigation_links:
            way = kind.get_navigation_property(link.title)
            if way is None:
                raise UriParserException(f"{kind.name} has no navigation property {link.title}")
            for address in link.bind_links:
                info = Parser(self._edm).parse_uri(address)
                UriValidator().validate(info, HttpMethod.PATCH)
                bound = info.first_entity_set().entity_type.name
                if way.type_fqn.rpartition(".")[2] not in {bound, ROW}:
                    raise UriParserException(f"{link.title} leads to {way.type_fqn}, not to {bound}")

    def _headers(self, given: Mapping[str, str]) -> list[str]:
        found = []
        for name in ("if-match", "if-none-match"):
            # "null" is Dataverse's own way to keep answers out of caches.
            if (value := given.get(name)) is not None and (name, value) != ("if-none-match", "null"):
                star, tags = parse_etag_header(value)
                if not star and not (tags and all(tag.startswith(('"', 'W/"')) for tag in tags)):
                    found.append(f"{name} is no entity tag: {value}")
        asked = Preferences.parse(given.get("prefer")).preferences
        found += [f"no such preference: {name}" for name in asked if name not in KNOWN_PREFERENCES]
        if "odata.maxpagesize" in asked and Preferences.parse(given["prefer"]).max_page_size is None:
            found.append("odata.maxpagesize is no number")
        return found

    def _batch(self, call: Call) -> list[str]:
        found = self._headers({name.lower(): value for name, value in call.headers.items()})
        kind = {name.lower(): value for name, value in call.headers.items()}["content-type"]
        try:
            parts = BatchParser(ROOT).parse(call.body, validate_boundary(get_boundary(kind)))
        except ODataException as error:
            return [*found, f"$batch: {error}"]
        for part in parts:
            for item in part.changeset.items if part.changeset is not None else [part.item]:
                asked = item.request
                found += self.request(
                    asked.method.value,
                    asked.raw_odata_path,
                    asked.raw_query_path or "",
                    asked.headers,
                    asked.body,
                )
        return found
