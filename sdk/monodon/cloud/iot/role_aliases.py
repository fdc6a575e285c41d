"""Role aliases, and the endpoints of the account."""

from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.access import Access
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, read_token
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Table
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250


class RoleAliases:
    """Operations of AWS IoT on role aliases and endpoints, named as in the model.

    Args:
        endpoints: endpoint type (``iot:Data-ATS``) → address.
    """

    def __init__(self, registry: Registry, access: Access, endpoints: Callable[[], Mapping[str, str]]) -> None:
        self._registry = registry
        self._access = access
        self._endpoints = endpoints
        self._aliases: Table = registry.store.table("iot.role_aliases")

    def create_role_alias(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["roleAlias"]
        if self._aliases.get(name) is not None:
            raise ServiceError(
                "ResourceAlreadyExistsException",
                f"The role alias {name} already exists",
                status=409,
                resourceId=name,
                resourceArn=self._access.arn(f"rolealias/{name}"),
            )
        now = self._registry.now()
        record = {
            "role": request["roleArn"],
            "duration": request.get("credentialDurationSeconds", 3600),
            "created": now,
            "modified": now,
        }
        self._aliases.put(name, record)
        self._registry.tag(self._access.arn(f"rolealias/{name}"), request.get("tags", []))
        return {"roleAlias": name, "roleAliasArn": self._access.arn(f"rolealias/{name}")}

    def describe_role_alias(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["roleAlias"]
        record = self.role_alias(name)
        return {
            "roleAliasDescription": {
                "roleAlias": name,
                "roleAliasArn": self._access.arn(f"rolealias/{name}"),
                "roleArn": record["role"],
                "owner": context.account,
                "credentialDurationSeconds": record["duration"],
                "creationDate": record["created"],
                "lastModifiedDate": record["modified"],
            }
        }

    def update_role_alias(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["roleAlias"]
        record = self.role_alias(name)
        record.update(
            role=request.get("roleArn", record["role"]),
            duration=request.get("credentialDurationSeconds", record["duration"]),
            modified=self._registry.now(),
        )
        self._aliases.put(name, record)
        return {"roleAlias": name, "roleAliasArn": self._access.arn(f"rolealias/{name}")}

    def delete_role_alias(self, request: Request, context: RequestContext) -> None:
        self.role_alias(request["roleAlias"])
        self._aliases.delete(request["roleAlias"])
        self._registry.tags.delete(self._access.arn(f"rolealias/{request['roleAlias']}"))

    def list_role_aliases(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("marker"))
        entries = ((name, name) for name, _ in self._aliases.items(after=after))
        found, token = page(entries, request.get("pageSize", _PAGE))
        return {"roleAliases": found, "nextMarker": token}

    def role_alias(self, name: str) -> dict[str, Json]:
        """Return a role alias's record: ``role`` (ARN) and ``duration`` in seconds.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        record = self._aliases.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"The role alias {name} does not exist", status=404)
        return record

    def describe_endpoint(self, request: Request, context: RequestContext) -> dict[str, Json]:
        kind = request.get("endpointType", "iot:Data")
        address = self._endpoints().get(kind)
        if address is None:
            raise ServiceError("InvalidRequestException", f"Endpoint type {kind} is not known", status=400)
        return {"endpointAddress": address}
