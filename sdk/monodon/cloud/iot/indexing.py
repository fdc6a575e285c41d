"""Fleet indexing: what things are searched by, as far as it is configured, and the searches and statistics over it.

The index is the registry itself, read when it is asked: it is never behind. Source: AWS IoT Core developer guide,
"Fleet indexing".
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.query import Fields, Query, QueryError, Value, is_field, read_query
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
INDEX = "AWS_Things"
GROUP_INDEX = "AWS_ThingGroups"
QUERY_VERSION = "2017-09-30"
_PAGE = 100
_OFF: dict[str, Json] = {
    "thingIndexingMode": "OFF",
    "thingConnectivityIndexingMode": "OFF",
    "deviceDefenderIndexingMode": "OFF",
    "namedShadowIndexingMode": "OFF",
    "managedFields": [],
    "customFields": [],
}
_GROUPS_OFF: dict[str, Json] = {"thingGroupIndexingMode": "OFF", "managedFields": [], "customFields": []}


class Around(Protocol):
    """What the index shows besides the registry."""

    def shadow_state(self, thing: str, name: str | None) -> Mapping[str, Json] | None:
        """``desired``, ``reported``, ``hasDelta`` and ``version`` of a shadow; None: there is none."""
        ...

    def is_connected(self, thing: str) -> bool: ...


class Indexing:
    """Operations of AWS IoT on the index, named as in the model."""

    def __init__(self, registry: Registry, around: Around) -> None:
        self._registry = registry
        self._around = around
        self._settings = registry.store.table("iot.indexing")
        self._changed: list[Callable[[], None]] = []

    # Configuration

    def get_indexing_configuration(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"thingIndexingConfiguration": self._things(), "thingGroupIndexingConfiguration": self._groups()}

    def update_indexing_configuration(self, request: Request, context: RequestContext) -> None:
        given = request.get("thingIndexingConfiguration")
        if given is not None:
            if given["thingIndexingMode"] == "OFF" and next(self._registry.dynamic.keys(), None) is not None:
                text = "thing indexing cannot be turned off while there are dynamic thing groups"
                raise ServiceError("InvalidRequestException", text, status=400)
            self._settings.put("things", {**_OFF, **given})
        given = request.get("thingGroupIndexingConfiguration")
        if given is not None:
            self._settings.put("groups", {**_GROUPS_OFF, **given})
        for changed in self._changed:
            changed()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call ``changed`` when the configuration has changed, inside its transaction."""
        self._changed.append(changed)

    def list_indices(self, request: Request, context: RequestContext) -> dict[str, Json]:
        names = [INDEX] if self.is_on else []
        names += [GROUP_INDEX] if self._groups()["thingGroupIndexingMode"] != "OFF" else []
        return {"indexNames": names}

    def describe_index(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["indexName"]
        if name not in self.list_indices({}, context)["indexNames"]:
            raise ServiceError("ResourceNotFoundException", f"Index {name} does not exist", status=404)
        schema = self._things()["thingIndexingMode"] if name == INDEX else "REGISTRY"
        if name == INDEX and self._has_connectivity:
            schema += "_AND_CONNECTIVITY_STATUS"
        return {"indexName": name, "indexStatus": "ACTIVE", "schema": schema}

    # Searches

    def search_index(self, request: Request, context: RequestContext) -> dict[str, Json]:
        if request.get("indexName", INDEX) == GROUP_INDEX:
            return self._search_groups(request)
        after, found = read_token(request.get("nextToken")), self._found(request)
        entries = ((name, self._described(name, fields)) for name, fields in found(after))
        things, token = page(entries, request.get("maxResults", _PAGE))
        return {"things": things, "nextToken": token}

    def _search_groups(self, request: Request) -> dict[str, Json]:
        if self._groups()["thingGroupIndexingMode"] == "OFF":
            raise not_ready(GROUP_INDEX)
        matches = check_query(request["queryString"].replace("thingGroupName:", "thingName:"))
        entries = (
            (
                name,
                {
                    "thingGroupName": name,
                    "thingGroupId": record["id"],
                    "thingGroupDescription": record["properties"].get("thingGroupDescription"),
                    "attributes": record["properties"].get("attributePayload", {}).get("attributes", {}),
                    "parentGroupNames": self._registry.ancestors(name),
                },
            )
            for name, record in self._registry.groups.items(after=read_token(request.get("nextToken")))
            if matches({"thingName": (name,)})
        )
        groups, token = page(entries, request.get("maxResults", _PAGE))
        return {"thingGroups": groups, "nextToken": token}

    def get_statistics(self, request: Request, context: RequestContext) -> dict[str, Json]:
        field = request.get("aggregationField")
        if field is None:
            return {"statistics": {"count": sum(1 for _ in self._found(request)(None))}}
        values = list(self._values(request, field))
        numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if not numbers:
            return {"statistics": {"count": len(values)}}
        mean = math.fsum(numbers) / len(numbers)
        variance = math.fsum((number - mean) ** 2 for number in numbers) / len(numbers)
        statistics = {
            "count": len(numbers),
            "average": mean,
            "sum": math.fsum(numbers),
            "minimum": min(numbers),
            "maximum": max(numbers),
            "sumOfSquares": math.fsum(number * number for number in numbers),
            "variance": variance,
            "stdDeviation": math.sqrt(variance),
        }
        return {"statistics": statistics}

    def get_cardinality(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"cardinality": len(set(self._values(request, request.get("aggregationField", "thingName"))))}

    def get_buckets_aggregation(self, request: Request, context: RequestContext) -> dict[str, Json]:
        counts = Counter(_text(value) for value in self._values(request, request["aggregationField"]))
        most = request["bucketsAggregationType"].get("termsAggregation", {}).get("maxBuckets", 10)
        ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
        buckets = [{"keyValue": value, "count": count} for value, count in ordered]
        return {"totalCount": sum(counts.values()), "buckets": buckets}

    # For dynamic groups

    @property
    def is_on(self) -> bool:
        """Whether things are indexed at all."""
        return bool(self._things()["thingIndexingMode"] != "OFF")

    def fields(self, thing: str) -> Fields | None:
        """What a thing is searched by; None: there is no such thing."""
        record = self._registry.things.get(thing)
        return None if record is None else self._fields(thing, record)

    def _things(self) -> dict[str, Json]:
        return self._settings.get("things") or _OFF

    def _groups(self) -> dict[str, Json]:
        return self._settings.get("groups") or _GROUPS_OFF

    @property
    def _has_connectivity(self) -> bool:
        return bool(self._things()["thingConnectivityIndexingMode"] == "STATUS")

    def _found(self, request: Request) -> Callable[[str | None], Iterator[tuple[str, Fields]]]:
        if request.get("indexName", INDEX) != INDEX:
            raise ServiceError("ResourceNotFoundException", f"Index {request['indexName']} does not exist", status=404)
        if not self.is_on:
            raise not_ready(INDEX)
        matches = check_query(request["queryString"])

        def find(after: str | None) -> Iterator[tuple[str, Fields]]:
            for name, record in self._registry.things.items(after=after):
                fields = self._fields(name, record)
                if matches(fields):
                    yield name, fields

        return find

    def _values(self, request: Request, field: str) -> Iterator[Value]:
        if not is_field(field):
            raise ServiceError("InvalidAggregationException", f"there is no field {field!r}", status=400)
        return (value for _, fields in self._found(request)(None) for value in fields.get(field, ()))

    def _fields(self, name: str, record: Mapping[str, Json]) -> Fields:
        fields: dict[str, tuple[Value, ...]] = {
            "thingName": (name,),
            "thingId": (record["id"],),
            "thingGroupNames": tuple(self._registry.all_groups_of(name)),
            **{f"attributes.{key}": (value,) for key, value in record["attributes"].items()},
        }
        if record["type"] is not None:
            fields["thingTypeName"] = (record["type"],)
        settings = self._things()
        if settings["thingIndexingMode"] == "REGISTRY_AND_SHADOW":
            _flatten("shadow", self._around.shadow_state(name, None), fields)
        if settings["namedShadowIndexingMode"] == "ON":
            for shadow in settings.get("filter", {}).get("namedShadowNames", ()):
                _flatten(f"shadow.name.{shadow}", self._around.shadow_state(name, shadow), fields)
        if settings["thingConnectivityIndexingMode"] == "STATUS":
            fields["connectivity.connected"] = (self._around.is_connected(name),)
        return fields

    def _described(self, name: str, fields: Fields) -> dict[str, Json]:
        record = self._registry.thing(name)
        described: dict[str, Json] = {
            "thingName": name,
            "thingId": record["id"],
            "thingTypeName": record["type"],
            "thingGroupNames": list(fields["thingGroupNames"]),
            "attributes": record["attributes"],
        }
        if any(field.startswith("shadow.") for field in fields):
            names = self._things().get("filter", {}).get("namedShadowNames", ())
            named = {shadow: self._around.shadow_state(name, shadow) for shadow in names}
            shadows = {**(self._around.shadow_state(name, None) or {}), "name": {k: v for k, v in named.items() if v}}
            described["shadow"] = json.dumps({key: value for key, value in shadows.items() if value})
        if "connectivity.connected" in fields:
            described["connectivity"] = {"connected": bool(fields["connectivity.connected"][0])}
        return described


def check_query(text: str) -> Query:
    """Return the predicate of a query; ``*`` is every thing.

    Raises:
        ServiceError: InvalidQueryException.
    """
    try:
        return read_query(text)
    except QueryError as error:
        raise ServiceError("InvalidQueryException", f"Invalid query: {error}", status=400) from error


def not_ready(index: str) -> ServiceError:
    """The index is not there: indexing is off."""
    text = f"Index {index} is not ready: indexing is OFF; turn it on with UpdateIndexingConfiguration"
    return ServiceError("IndexNotReadyException", text, status=400)


def _flatten(prefix: str, value: Json, fields: dict[str, tuple[Value, ...]]) -> None:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _flatten(f"{prefix}.{key}", inner, fields)
    elif isinstance(value, list):
        fields[prefix] = tuple(each for each in value if isinstance(each, str | bool | int | float))
    elif isinstance(value, str | bool | int | float):
        fields[prefix] = (value,)


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
