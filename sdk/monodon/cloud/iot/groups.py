"""Thing groups: static ones with their hierarchy, dynamic ones with their query."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.registry import MAX_DEPTH, Registry, check_version
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250


class Groups:
    """Operations of AWS IoT on thing groups, named as in the model."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def create_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, parent = request["thingGroupName"], request.get("parentGroupName")
        if parent is not None:
            _check_static(parent, self._registry.group(parent))
            if len(self._registry.ancestors(parent)) + 2 > MAX_DEPTH:
                raise ServiceError(
                    "InvalidRequestException", f"a hierarchy of groups has at most {MAX_DEPTH} levels", status=400
                )
        properties = group_properties(request.get("thingGroupProperties", {}))
        existing = self._registry.groups.get(name)
        if existing is not None and (existing["parent"] != parent or existing["properties"] != properties):
            raise ServiceError(
                "ResourceAlreadyExistsException",
                f"Thing Group {name} already exists in current account with different properties",
                status=409,
                resourceId=existing["id"],
                resourceArn=self._registry.group_arn(name),
            )
        record = existing or {
            "id": str(uuid.uuid4()),
            "parent": parent,
            "properties": properties,
            "version": 1,
            "created": self._registry.now(),
        }
        if existing is None:
            self._registry.groups.put(name, record)
            self._registry.tag(self._registry.group_arn(name), request.get("tags", []))
        return {
            "thingGroupName": name,
            "thingGroupArn": self._registry.group_arn(name),
            "thingGroupId": record["id"],
        }

    def describe_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingGroupName"]
        record = self._registry.group(name)
        ancestors = self._registry.ancestors(name)
        return {
            "thingGroupName": name,
            "thingGroupId": record["id"],
            "thingGroupArn": self._registry.group_arn(name),
            "version": record["version"],
            "thingGroupProperties": record["properties"],
            "thingGroupMetadata": {
                "parentGroupName": record["parent"],
                "rootToParentThingGroups": [self._named(group) for group in ancestors],
                "creationDate": record["created"],
            },
            **self._dynamics(record),
        }

    def update_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingGroupName"]
        record = self._registry.group(name)
        _check_static(name, record)
        check_version(request, record)
        record["properties"] = group_properties(request["thingGroupProperties"], record["properties"])
        record["version"] += 1
        self._registry.groups.put(name, record)
        return {"version": record["version"]}

    def delete_thing_group(self, request: Request, context: RequestContext) -> None:
        name = request["thingGroupName"]
        record = self._registry.groups.get(name)
        if record is None:
            return
        _check_static(name, record)
        check_version(request, record)
        if next(self._registry.children(name), None) is not None:
            raise ServiceError("InvalidRequestException", f"Thing Group {name} has child groups", status=400)
        things = self._registry.members_of(name, recursive=False)
        for thing in things:
            self._registry.leave(name, thing)
        self._registry.groups.delete(name)
        self._registry.tags.delete(self._registry.group_arn(name))
        for thing in things:
            self._registry.membership_changed(thing)

    def list_thing_groups(self, request: Request, context: RequestContext) -> dict[str, Json]:
        parent = request.get("parentGroup")
        recursive = request.get("recursive", True)
        allowed: set[str] | None = None
        if parent is not None:
            self._registry.group(parent)
            allowed = (
                self._registry.descendants(parent) - {parent} if recursive else set(self._registry.children(parent))
            )
        after = read_token(request.get("nextToken"))
        found = (
            (name, self._named(name))
            for name, record in self._registry.groups.items(request.get("namePrefixFilter", ""), after=after)
            if (allowed is None or name in allowed) and (recursive or parent is not None or record["parent"] is None)
        )
        groups, token = page(found, request.get("maxResults", _PAGE))
        return {"thingGroups": groups, "nextToken": token}

    # Membership

    def add_thing_to_thing_group(self, request: Request, context: RequestContext) -> None:
        group, thing = self._pair(request)
        self._registry.join(group, thing)
        self._registry.membership_changed(thing)

    def remove_thing_from_thing_group(self, request: Request, context: RequestContext) -> None:
        group, thing = self._pair(request)
        self._registry.leave(group, thing)
        self._registry.membership_changed(thing)

    def update_thing_groups_for_thing(self, request: Request, context: RequestContext) -> None:
        thing = request.get("thingName")
        if thing is None:
            raise ServiceError("InvalidRequestException", "thingName is needed", status=400)
        self._registry.thing(thing)
        for change, groups in (
            (self._registry.join, request.get("thingGroupsToAdd", [])),
            (self._registry.leave, request.get("thingGroupsToRemove", [])),
        ):
            for group in groups:
                record = self._registry.group(group)
                if "query" in record and not request.get("overrideDynamicGroups"):
                    _check_static(group, record)
                if "query" not in record:
                    change(group, thing)
        self._registry.membership_changed(thing)

    def list_things_in_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        group = request["thingGroupName"]
        self._registry.group(group)
        names = self._registry.members_of(group, recursive=request.get("recursive", False))
        entries = ((name, name) for name in names)
        things, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"things": things, "nextToken": token}

    def list_thing_groups_for_thing(self, request: Request, context: RequestContext) -> dict[str, Json]:
        thing = request["thingName"]
        self._registry.thing(thing)
        entries = ((name, self._named(name)) for name in self._registry.groups_of(thing))
        groups, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"thingGroups": groups, "nextToken": token}

    def _pair(self, request: Request) -> tuple[str, str]:
        group = _given(
            request, "thingGroupName", "thingGroupArn", lambda arn: self._registry.name_of(arn, "thinggroup")
        )
        thing = _given(request, "thingName", "thingArn", lambda arn: self._registry.name_of(arn, "thing"))
        _check_static(group, self._registry.group(group))
        self._registry.thing(thing)
        return group, thing

    @staticmethod
    def _dynamics(record: Mapping[str, Json]) -> dict[str, Json]:
        if "query" not in record:
            return {}
        return {
            "indexName": record["index"],
            "queryString": record["query"],
            "queryVersion": record["query_version"],
            "status": "ACTIVE" if record["building_after"] is None else "BUILDING",
        }

    def _named(self, group: str) -> dict[str, Json]:
        return {"groupName": group, "groupArn": self._registry.group_arn(group)}


def group_properties(given: Mapping[str, Json], before: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """The properties that a request gives, on top of those before."""
    properties = dict(before or {})
    if "thingGroupDescription" in given:
        properties["thingGroupDescription"] = given["thingGroupDescription"]
    payload = given.get("attributePayload")
    if payload is not None:
        old = properties.get("attributePayload", {}).get("attributes", {}) if payload.get("merge") else {}
        properties["attributePayload"] = {"attributes": {**old, **payload.get("attributes", {})}}
    return properties


def _given(request: Request, name: str, arn: str, read: Callable[[str], str | None]) -> str:
    """A name that may be given as such or as an ARN."""
    if name in request:
        return str(request[name])
    found = read(request[arn]) if arn in request else None
    if found is None:
        raise ServiceError("InvalidRequestException", f"{name} or {arn} of this account is needed", status=400)
    return found


def _check_static(name: str, record: Mapping[str, Json]) -> None:
    if "query" in record:
        text = f"Thing Group {name} is a dynamic thing group: its query says what is in it"
        raise ServiceError("InvalidRequestException", text, status=400)
