"""Things, thing types and tags."""

import uuid
from collections.abc import Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.registry import Registry, check_version
from monodon.cloud.paging import page, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250
_MAX_ATTRIBUTES = 50
#: A thing type may be deleted when it has been deprecated for so long.
_DEPRECATED_S = 300


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
            self._registry.thing_changed(name)
        return {"thingName": name, "thingArn": self._registry.thing_arn(name), "thingId": record["id"]}

    def describe_thing(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["thingName"]
        record = self._registry.thing(name)
        return {"defaultClientId": name, "thingId": record["id"], **self._thing(name, record)}

    def update_thing(self, request: Request, context: RequestContext) -> None:
        name = request["thingName"]
        record = self._registry.thing(name)
        check_version(request, record)
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
        self._registry.thing_changed(name)

    def delete_thing(self, request: Request, context: RequestContext) -> None:
        name = request["thingName"]
        record = self._registry.things.get(name)
        if record is None:
            return
        check_version(request, record)
        if self._registry.principals_of(name):
            raise ServiceError(
                "InvalidRequestException", f"Thing {name} has principals attached; detach them first", status=400
            )
        for group in self._registry.groups_of(name):
            self._registry.leave(group, name)
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
        record = self._type_record(name)
        return {"thingTypeId": record["id"], **self._type(name, record)}

    def deprecate_thing_type(self, request: Request, context: RequestContext) -> None:
        name = request["thingTypeName"]
        record = self._type_record(name)
        record["deprecated"] = None if request.get("undoDeprecate") else self._registry.now()
        self._registry.types.put(name, record)

    def delete_thing_type(self, request: Request, context: RequestContext) -> None:
        name = request["thingTypeName"]
        since = self._type_record(name).get("deprecated")
        if since is None:
            text = f"Thing Type {name} must be deprecated before it is deleted"
            raise ServiceError("InvalidRequestException", text, status=400)
        if self._registry.now() - since < _DEPRECATED_S:
            text = f"Thing Type {name} was deprecated less than 5 minutes ago"
            raise ServiceError("InvalidRequestException", text, status=400)
        self._registry.types.delete(name)

    def list_thing_types(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("nextToken"))
        wanted = request.get("thingTypeName")
        types = self._registry.types.items(after=after)
        entries = ((name, self._type(name, record)) for name, record in types if wanted in {None, name})
        found, token = page(entries, request.get("maxResults", _PAGE))
        return {"thingTypes": found, "nextToken": token}

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
            "thingTypeMetadata": {
                "deprecated": record.get("deprecated") is not None,
                "deprecationDate": record.get("deprecated"),
                "creationDate": record["created"],
            },
        }

    def _type_arn(self, name: str) -> str:
        return self._registry.thing_arn("").removesuffix("thing/") + f"thingtype/{name}"

    def _type_record(self, name: str) -> dict[str, Json]:
        record = self._registry.types.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"Thing Type {name} cannot be found.", status=404)
        return record

    def _check_type(self, name: str | None) -> None:
        if name is not None and self._type_record(name).get("deprecated") is not None:
            raise ServiceError(
                "InvalidRequestException", f"Can not create new thing with deprecated type {name}", status=400
            )


def _attributes(payload: Mapping[str, Json]) -> dict[str, Json]:
    attributes: dict[str, Json] = payload.get("attributes", {})
    if len(attributes) > _MAX_ATTRIBUTES:
        raise ServiceError("InvalidRequestException", f"a thing has at most {_MAX_ATTRIBUTES} attributes", status=400)
    return attributes


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
