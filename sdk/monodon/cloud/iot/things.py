"""Things, thing types and static thing groups."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.registry import MAX_DEPTH, Registry
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250
_MAX_ATTRIBUTES = 50


class Things:
    """Operations of AWS IoT's registry, named as in the model."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    # Things

    def create_thing(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingName"]
        attributes = _attributes(request.get("attributePayload", {}))
        thing_type = request.get("thingTypeName")
        self._check_type(thing_type)
        existing = self._registry.things.get(name)
        if existing is not None:
            if existing["attributes"] != attributes or existing["type"] != thing_type:
                raise ServiceError(
                    "ResourceAlreadyExistsException",
                    f"Thing {name} already exists in account with different properties",
                    status=409,
                    resourceId=existing["id"],
                    resourceArn=self._registry.thing_arn(name),
                )
            record = existing
        else:
            record = {"id": str(uuid.uuid4()), "attributes": attributes, "type": thing_type, "version": 1}
            self._registry.things.put(name, record)
        return {"thingName": name, "thingArn": self._registry.thing_arn(name), "thingId": record["id"]}

    def describe_thing(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingName"]
        record = self._registry.thing(name)
        return {"defaultClientId": name, "thingId": record["id"], **self._thing(name, record)}

    def update_thing(self, request: Request, context: RequestContext) -> None:
        name = request["thingName"]
        record = self._registry.thing(name)
        _check_version(request, record)
        payload = request.get("attributePayload")
        if payload is not None:
            changes = payload.get("attributes", {})
            merged = {**record["attributes"], **changes} if payload.get("merge") else changes
            record["attributes"] = _attributes({"attributes": {k: v for k, v in merged.items() if v != ""}})
        if request.get("removeThingType"):
            record["type"] = None
        elif "thingTypeName" in request:
            self._check_type(request["thingTypeName"])
            record["type"] = request["thingTypeName"]
        record["version"] += 1
        self._registry.things.put(name, record)

    def delete_thing(self, request: Request, context: RequestContext) -> None:
        name = request["thingName"]
        record = self._registry.things.get(name)
        if record is None:
            return
        _check_version(request, record)
        if self._registry.principals_of(name):
            raise ServiceError(
                "InvalidRequestException", f"Thing {name} has principals attached; detach them first", status=400
            )
        for group in self._registry.groups_of(name):
            self._leave(group, name)
        self._registry.things.delete(name)
        self._registry.tags.delete(self._registry.thing_arn(name))
        self._registry.membership_changed(name)

    def list_things(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("nextToken"))
        found = (
            (name, self._thing(name, record))
            for name, record in self._registry.things.items(after=after)
            if _has(record, request)
        )
        things, token = page(found, request.get("maxResults", _PAGE))
        return {"things": things, "nextToken": token}

    # Thing types

    def create_thing_type(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingTypeName"]
        record = self._registry.types.get(name)
        if record is not None and record["properties"] != request.get("thingTypeProperties", {}):
            raise ServiceError("ResourceAlreadyExistsException", f"Thing Type {name} already exists", status=409)
        if record is None:
            record = {
                "id": str(uuid.uuid4()),
                "properties": request.get("thingTypeProperties", {}),
                "created": self._registry.now(),
            }
            self._registry.types.put(name, record)
        return {"thingTypeName": name, "thingTypeArn": self._type_arn(name), "thingTypeId": record["id"]}

    def describe_thing_type(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingTypeName"]
        record = self._registry.types.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"Thing Type {name} cannot be found.", status=404)
        return {"thingTypeId": record["id"], **self._type(name, record)}

    def list_thing_types(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("nextToken"))
        wanted = request.get("thingTypeName")
        types = self._registry.types.items(after=after)
        entries = ((name, self._type(name, record)) for name, record in types if wanted in {None, name})
        found, token = page(entries, request.get("maxResults", _PAGE))
        return {"thingTypes": found, "nextToken": token}

    # Groups

    def create_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, parent = request["thingGroupName"], request.get("parentGroupName")
        if parent is not None:
            self._registry.group(parent)
            if len(self._registry.ancestors(parent)) + 2 > MAX_DEPTH:
                raise ServiceError(
                    "InvalidRequestException", f"a hierarchy of groups has at most {MAX_DEPTH} levels", status=400
                )
        properties = _group_properties(request.get("thingGroupProperties", {}))
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
        }

    def update_thing_group(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingGroupName"]
        record = self._registry.group(name)
        _check_version(request, record)
        record["properties"] = _group_properties(request["thingGroupProperties"], record["properties"])
        record["version"] += 1
        self._registry.groups.put(name, record)
        return {"version": record["version"]}

    def delete_thing_group(self, request: Request, context: RequestContext) -> None:
        name = request["thingGroupName"]
        record = self._registry.groups.get(name)
        if record is None:
            return
        _check_version(request, record)
        if next(self._registry.children(name), None) is not None:
            raise ServiceError("InvalidRequestException", f"Thing Group {name} has child groups", status=400)
        things = self._registry.members_of(name, recursive=False)
        for thing in things:
            self._leave(name, thing)
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
        self._join(group, thing)
        self._registry.membership_changed(thing)

    def remove_thing_from_thing_group(self, request: Request, context: RequestContext) -> None:
        group, thing = self._pair(request)
        self._leave(group, thing)
        self._registry.membership_changed(thing)

    def update_thing_groups_for_thing(self, request: Request, context: RequestContext) -> None:
        thing = request.get("thingName")
        if thing is None:
            raise ServiceError("InvalidRequestException", "thingName is needed", status=400)
        self._registry.thing(thing)
        for change, groups in (
            (self._join, request.get("thingGroupsToAdd", [])),
            (self._leave, request.get("thingGroupsToRemove", [])),
        ):
            for group in groups:
                self._registry.group(group)
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

    # Tags

    def tag_resource(self, request: Request, context: RequestContext) -> None:
        self._registry.tag(request["resourceArn"], request["tags"])

    def untag_resource(self, request: Request, context: RequestContext) -> None:
        record = self._registry.tags.get(request["resourceArn"]) or {}
        self._registry.tags.put(
            request["resourceArn"], {key: value for key, value in record.items() if key not in request["tagKeys"]}
        )

    def list_tags_for_resource(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._registry.tags.get(request["resourceArn"]) or {}
        return {"tags": [{"Key": key, "Value": value} for key, value in record.items()]}

    def _join(self, group: str, thing: str) -> None:
        self._registry.members.put(f"{group}/{thing}", {})
        self._registry.memberships.put(f"{thing}/{group}", {})

    def _leave(self, group: str, thing: str) -> None:
        self._registry.members.delete(f"{group}/{thing}")
        self._registry.memberships.delete(f"{thing}/{group}")

    def _pair(self, request: Request) -> tuple[str, str]:
        group = _given(
            request, "thingGroupName", "thingGroupArn", lambda arn: self._registry.name_of(arn, "thinggroup")
        )
        thing = _given(request, "thingName", "thingArn", lambda arn: self._registry.name_of(arn, "thing"))
        self._registry.group(group)
        self._registry.thing(thing)
        return group, thing

    def _named(self, group: str) -> dict[str, Json]:
        return {"groupName": group, "groupArn": self._registry.group_arn(group)}

    def _thing(self, name: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "thingName": name,
            "thingArn": self._registry.thing_arn(name),
            "thingTypeName": record["type"],
            "attributes": record["attributes"],
            "version": record["version"],
        }

    def _type(self, name: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "thingTypeName": name,
            "thingTypeArn": self._type_arn(name),
            "thingTypeProperties": record["properties"],
            "thingTypeMetadata": {"deprecated": False, "creationDate": record["created"]},
        }

    def _type_arn(self, name: str) -> str:
        return self._registry.thing_arn("").removesuffix("thing/") + f"thingtype/{name}"

    def _check_type(self, name: str | None) -> None:
        if name is not None and self._registry.types.get(name) is None:
            raise ServiceError("ResourceNotFoundException", f"Thing Type {name} cannot be found.", status=404)


def _attributes(payload: Mapping[str, Json]) -> dict[str, Json]:
    attributes: dict[str, Json] = payload.get("attributes", {})
    if len(attributes) > _MAX_ATTRIBUTES:
        raise ServiceError("InvalidRequestException", f"a thing has at most {_MAX_ATTRIBUTES} attributes", status=400)
    return attributes


def _group_properties(given: Mapping[str, Json], before: Mapping[str, Json] | None = None) -> dict[str, Json]:
    properties = dict(before or {})
    if "thingGroupDescription" in given:
        properties["thingGroupDescription"] = given["thingGroupDescription"]
    payload = given.get("attributePayload")
    if payload is not None:
        old = properties.get("attributePayload", {}).get("attributes", {}) if payload.get("merge") else {}
        properties["attributePayload"] = {"attributes": {**old, **payload.get("attributes", {})}}
    return properties


def _check_version(request: Request, record: Mapping[str, Json]) -> None:
    if "expectedVersion" in request and request["expectedVersion"] != record["version"]:
        raise ServiceError(
            "VersionConflictException",
            f"the version is {record['version']}, not {request['expectedVersion']}",
            status=409,
        )


def _given(request: Request, name: str, arn: str, read: Callable[[str], str | None]) -> str:
    """A name that may be given as such or as an ARN."""
    if name in request:
        return str(request[name])
    found = read(request[arn]) if arn in request else None
    if found is None:
        raise ServiceError("InvalidRequestException", f"{name} or {arn} of this account is needed", status=400)
    return found


def _has(record: Mapping[str, Json], request: Request) -> bool:
    if "thingTypeName" in request and record["type"] != request["thingTypeName"]:
        return False
    if "attributeName" not in request:
        return True
    value = record["attributes"].get(request["attributeName"])
    wanted = request.get("attributeValue")
    if value is None or wanted is None:
        return value is not None
    return bool(value.startswith(wanted)) if request.get("usePrefixAttributeValue") else bool(value == wanted)
