"""IAM, as far as provisioning needs it: roles and policies are kept and given back, never evaluated."""

import secrets
import string
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from monodon.cloud.context import RequestContext
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json, read_json

Request = dict[str, Any]
_LETTERS = string.ascii_uppercase + string.digits


class Iam:
    """Operations of IAM, named as in the model."""

    def __init__(self, store: Store, *, account: str, now: Callable[[], float]) -> None:
        self._roles = store.table("iam.roles")
        self._policies = store.table("iam.policies")
        self._account = account
        self._now = now

    # Roles

    def create_role(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["RoleName"]
        _check_document(request["AssumeRolePolicyDocument"])
        if self._roles.get(name) is not None:
            raise ServiceError("EntityAlreadyExistsException", f"Role with name {name} already exists.", status=409)
        record = {
            "id": "AROA" + _random(17),
            "path": request.get("Path", "/"),
            "trust": request["AssumeRolePolicyDocument"],
            "description": request.get("Description"),
            "created": self._now(),
            "duration": request.get("MaxSessionDuration", 3600),
            "inline": {},
            "attached": [],
            "tags": request.get("Tags", []),
        }
        self._roles.put(name, record)
        return {"Role": self._described(name, record)}

    def get_role(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"Role": self._described(request["RoleName"], self._role(request))}

    def list_roles(self, request: Request, context: RequestContext) -> dict[str, Json]:
        prefix = request.get("PathPrefix", "/")
        roles = [
            self._described(name, record) for name, record in self._roles.items() if record["path"].startswith(prefix)
        ]
        return {"Roles": roles, "IsTruncated": False}

    def update_assume_role_policy(self, request: Request, context: RequestContext) -> None:
        record = self._role(request)
        _check_document(request["PolicyDocument"])
        record["trust"] = request["PolicyDocument"]
        self._roles.put(request["RoleName"], record)

    def delete_role(self, request: Request, context: RequestContext) -> None:
        record = self._role(request)
        if record["inline"] or record["attached"]:
            raise ServiceError(
                "DeleteConflictException", "Cannot delete entity, must remove its policies first.", status=409
            )
        self._roles.delete(request["RoleName"])

    # Policies of a role

    def put_role_policy(self, request: Request, context: RequestContext) -> None:
        record = self._role(request)
        _check_document(request["PolicyDocument"])
        record["inline"][request["PolicyName"]] = request["PolicyDocument"]
        self._roles.put(request["RoleName"], record)

    def get_role_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        document = self._role(request)["inline"].get(request["PolicyName"])
        if document is None:
            raise _missing("The role policy", request["PolicyName"])
        return {
            "RoleName": request["RoleName"],
            "PolicyName": request["PolicyName"],
            "PolicyDocument": quote(document),
        }

    def delete_role_policy(self, request: Request, context: RequestContext) -> None:
        record = self._role(request)
        if record["inline"].pop(request["PolicyName"], None) is None:
            raise _missing("The role policy", request["PolicyName"])
        self._roles.put(request["RoleName"], record)

    def list_role_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"PolicyNames": sorted(self._role(request)["inline"]), "IsTruncated": False}

    def attach_role_policy(self, request: Request, context: RequestContext) -> None:
        record, arn = self._role(request), request["PolicyArn"]
        if arn.startswith(self._policy_arn("")) and self._policies.get(_name(arn)) is None:
            raise _missing("Policy", arn)
        if arn not in record["attached"]:
            record["attached"].append(arn)
        self._roles.put(request["RoleName"], record)

    def detach_role_policy(self, request: Request, context: RequestContext) -> None:
        record = self._role(request)
        if request["PolicyArn"] not in record["attached"]:
            raise _missing("Policy", request["PolicyArn"])
        record["attached"].remove(request["PolicyArn"])
        self._roles.put(request["RoleName"], record)

    def list_attached_role_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        attached = [{"PolicyName": _name(arn), "PolicyArn": arn} for arn in self._role(request)["attached"]]
        return {"AttachedPolicies": attached, "IsTruncated": False}

    # Managed policies

    def create_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["PolicyName"]
        _check_document(request["PolicyDocument"])
        if self._policies.get(name) is not None:
            raise ServiceError("EntityAlreadyExistsException", f"A policy called {name} already exists.", status=409)
        record = {"id": "ANPA" + _random(17), "document": request["PolicyDocument"], "created": self._now()}
        self._policies.put(name, record)
        return {"Policy": self._described_policy(name, record)}

    def get_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"Policy": self._described_policy(_name(request["PolicyArn"]), self._policy(request))}

    def get_policy_version(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._policy(request)
        version = {
            "Document": quote(record["document"]),
            "VersionId": "v1",
            "IsDefaultVersion": True,
            "CreateDate": record["created"],
        }
        return {"PolicyVersion": version}

    def list_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        policies = [self._described_policy(name, record) for name, record in self._policies.items()]
        return {"Policies": policies if request.get("Scope") != "AWS" else [], "IsTruncated": False}

    def delete_policy(self, request: Request, context: RequestContext) -> None:
        self._policy(request)
        arn = request["PolicyArn"]
        if any(arn in record["attached"] for _, record in self._roles.items()):
            raise ServiceError("DeleteConflictException", "Cannot delete a policy attached to entities.", status=409)
        self._policies.delete(_name(arn))

    def _role(self, request: Request) -> dict[str, Json]:
        record = self._roles.get(request["RoleName"])
        if record is None:
            raise _missing("The role with name", request["RoleName"])
        return record

    def _policy(self, request: Request) -> dict[str, Json]:
        record = self._policies.get(_name(request["PolicyArn"]))
        if record is None:
            raise _missing("Policy", request["PolicyArn"])
        return record

    def _described(self, name: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "Path": record["path"],
            "RoleName": name,
            "RoleId": record["id"],
            "Arn": f"arn:aws:iam::{self._account}:role{record['path']}{name}",
            "CreateDate": record["created"],
            "AssumeRolePolicyDocument": quote(record["trust"]),
            "Description": record["description"],
            "MaxSessionDuration": record["duration"],
            "Tags": record["tags"] or None,
        }

    def _described_policy(self, name: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "PolicyName": name,
            "PolicyId": record["id"],
            "Arn": self._policy_arn(name),
            "Path": "/",
            "DefaultVersionId": "v1",
            "IsAttachable": True,
            "CreateDate": record["created"],
            "UpdateDate": record["created"],
        }

    def _policy_arn(self, name: str) -> str:
        return f"arn:aws:iam::{self._account}:policy/{name}"


def _name(arn: str) -> str:
    return arn.rpartition("/")[2]


def _random(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))


def _missing(what: str, name: str) -> ServiceError:
    return ServiceError("NoSuchEntityException", f"{what} {name} cannot be found.", status=404)


def _check_document(text: str) -> None:
    try:
        read_json(text)
    except ValueError as error:
        message = f"Syntax errors in policy: {error}"
        raise ServiceError("MalformedPolicyDocumentException", message, status=400) from error
