"""Dynamic thing groups: their query says what is in them, and every change of a thing asks it again.

AWS looks again within seconds; here it is done in the transaction of the change. A new group over many things is
filled in slices, its status BUILDING meanwhile; after a kill that goes on. Source: AWS IoT Core developer guide,
"Dynamic thing groups".
"""

import functools
import uuid
from collections.abc import Callable
from itertools import islice
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.groups import group_properties
from monodon.cloud.iot.indexing import INDEX, QUERY_VERSION, Indexing, check_query, not_ready
from monodon.cloud.iot.registry import Registry, check_version
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
_SLICE = 200


class DynamicGroups:
    """Operations of AWS IoT on dynamic thing groups, named as in the model.

    Args:
        soon: does a piece of work in a transaction, when others have had their turn.
    """

    def __init__(self, registry: Registry, indexing: Indexing, *, soon: Callable[[Callable[[], None]], None]) -> None:
        self._registry = registry
        self._indexing = indexing
        self._soon = soon
        registry.on_thing_change(self.look_at)
        indexing.on_change(self._rebuild)

    # Operations

    def create_dynamic_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, query = request["thingGroupName"], request["queryString"]
        self._check(request)
        properties = group_properties(request.get("thingGroupProperties", {}))
        record = self._registry.groups.get(name)
        if record is None:
            record = self._make(request, properties)
        elif record.get("query") != query or record["properties"] != properties:
            raise ServiceError(
                "ResourceAlreadyExistsException",
                f"Thing Group {name} already exists in current account with different properties",
                status=409,
                resourceId=record["id"],
                resourceArn=self._registry.group_arn(name),
            )
        return {
            "thingGroupName": name,
            "thingGroupArn": self._registry.group_arn(name),
            "thingGroupId": record["id"],
            "indexName": record["index"],
            "queryString": query,
            "queryVersion": record["query_version"],
        }

    def _make(self, request: Request, properties: dict[str, Json]) -> dict[str, Json]:
        name = request["thingGroupName"]
        record = {
            "id": str(uuid.uuid4()),
            "parent": None,
            "properties": properties,
            "version": 1,
            "created": self._registry.now(),
            "query": request["queryString"],
            "query_version": request.get("queryVersion", QUERY_VERSION),
            "index": INDEX,
            "building_after": "",
        }
        self._registry.groups.put(name, record)
        self._registry.dynamic.put(name, {"query": record["query"]})
        self._registry.tag(self._registry.group_arn(name), request.get("tags", []))
        self._build(name)
        return record

    def update_dynamic_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingGroupName"]
        record = self._group(name)
        check_version(request, record)
        record["properties"] = group_properties(request["thingGroupProperties"], record["properties"])
        record["version"] += 1
        query = request.get("queryString", record["query"])
        if query != record["query"]:
            self._check(request)
            record.update(query=query, building_after="")
            self._registry.dynamic.put(name, {"query": query})
        self._registry.groups.put(name, record)
        self._build(name)
        return {"version": record["version"]}

    def delete_dynamic_thing_group(self, request: Request, context: RequestContext) -> None:
        name = request["thingGroupName"]
        if self._registry.groups.get(name) is None:
            return
        check_version(request, self._group(name))
        things = self._registry.members_of(name, recursive=False)
        for thing in things:
            self._registry.leave(name, thing)
        self._registry.groups.delete(name)
        self._registry.dynamic.delete(name)
        self._registry.tags.delete(self._registry.group_arn(name))
        for thing in things:
            self._registry.membership_changed(thing)

    # Membership

    def resume(self) -> None:
        """Go on with groups that were not whole when the cloud was killed."""
        for name in self._registry.dynamic.keys():  # noqa: SIM118
            self._soon(functools.partial(self._build, name))

    def look_at(self, thing: str) -> None:
        """A thing has changed: it may join or leave."""
        queries = [(name, record["query"]) for name, record in self._registry.dynamic.items()]
        fields = self._indexing.fields(thing) if queries else None
        if fields is None:
            return
        is_moved = False
        for name, query in queries:
            belongs = check_query(query)(fields)
            if belongs != (self._registry.members.get(f"{name}/{thing}") is not None):
                (self._registry.join if belongs else self._registry.leave)(name, thing)
                is_moved = True
        if is_moved:
            self._registry.membership_changed(thing)

    def _build(self, name: str) -> None:
        """Look at the next slice of all things."""
        record = self._registry.groups.get(name)
        if record is None or record["building_after"] is None:
            return
        things = list(islice(self._registry.things.keys(after=record["building_after"] or None), _SLICE))
        record["building_after"] = things[-1] if len(things) == _SLICE else None
        self._registry.groups.put(name, record)
        for thing in things:
            self.look_at(thing)
        if record["building_after"] is not None:
            self._registry.store.after_commit(lambda: self._soon(functools.partial(self._build, name)))

    def _rebuild(self) -> None:
        """Other fields are indexed now."""
        for name in list(self._registry.dynamic.keys()):
            record = self._group(name)
            record["building_after"] = ""
            self._registry.groups.put(name, record)
            self._build(name)

    def _group(self, name: str) -> dict[str, Json]:
        record = self._registry.group(name)
        if "query" not in record:
            raise ServiceError("InvalidRequestException", f"Thing Group {name} is a static thing group", status=400)
        return record

    def _check(self, request: Request) -> None:
        if request.get("indexName", INDEX) != INDEX:
            text = f"a dynamic thing group is of the index {INDEX}"
            raise ServiceError("InvalidRequestException", text, status=400)
        if not self._indexing.is_on:
            raise ServiceError("InvalidRequestException", not_ready(INDEX).message, status=400)
        check_query(request["queryString"])
