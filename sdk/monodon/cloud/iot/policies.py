"""IoT policies, their versions, and what they are attached to."""

from collections.abc import Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.iot.access import Access, default_document
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.iot_policy import PolicyError, read_policy
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250
_MAX_VERSIONS = 5


class Policies:
    """Operations of AWS IoT on policies, named as in the model."""

    def __init__(self, registry: Registry, access: Access) -> None:
        self._registry = registry
        self._access = access

    def create_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, document = request["policyName"], request["policyDocument"]
        _check_document(document)
        if self._access.policies.get(name) is not None:
            raise ServiceError(
                "ResourceAlreadyExistsException",
                f"Policy cannot be created - name already exists (name={name})",
                status=409,
                resourceId=name,
                resourceArn=self._access.arn(f"policy/{name}"),
            )
        now = self._registry.now()
        version = {"document": document, "created": now}
        self._access.policies.put(
            name, {"default": "1", "last": 1, "versions": {"1": version}, "created": now, "modified": now}
        )
        self._registry.tag(self._access.arn(f"policy/{name}"), request.get("tags", []))
        return {
            "policyName": name,
            "policyArn": self._access.arn(f"policy/{name}"),
            "policyDocument": document,
            "policyVersionId": "1",
        }

    def get_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["policyName"]
        record = self._policy(name)
        return {
            "policyName": name,
            "policyArn": self._access.arn(f"policy/{name}"),
            "policyDocument": default_document(record),
            "defaultVersionId": record["default"],
            "creationDate": record["created"],
            "lastModifiedDate": record["modified"],
        }

    def list_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("marker"))
        entries = ((name, self._named(name)) for name, _ in self._access.policies.items(after=after))
        found, token = page(entries, request.get("pageSize", _PAGE))
        return {"policies": found, "nextMarker": token}

    def delete_policy(self, request: Request, context: RequestContext) -> None:
        name = request["policyName"]
        record = self._policy(name)
        if next(self._access.targets.keys(f"{name}|"), None) is not None or len(record["versions"]) > 1:
            raise ServiceError(
                "DeleteConflictException",
                f"Cannot delete the policy because it is attached or has several versions (name={name})",
                status=409,
            )
        self._access.policies.delete(name)
        self._registry.tags.delete(self._access.arn(f"policy/{name}"))
        self._access.forget_decisions()

    def create_policy_version(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, document = request["policyName"], request["policyDocument"]
        record = self._policy(name)
        _check_document(document)
        if len(record["versions"]) >= _MAX_VERSIONS:
            raise ServiceError(
                "VersionsLimitExceededException",
                f"The policy {name} already has the maximum number of versions ({_MAX_VERSIONS})",
                status=409,
            )
        version = str(record["last"] + 1)
        now = self._registry.now()
        record["versions"][version] = {"document": document, "created": now}
        record.update(last=record["last"] + 1, modified=now)
        if request.get("setAsDefault"):
            record["default"] = version
        self._access.policies.put(name, record)
        self._access.forget_decisions()
        return {
            "policyArn": self._access.arn(f"policy/{name}"),
            "policyDocument": document,
            "policyVersionId": version,
            "isDefaultVersion": record["default"] == version,
        }

    def get_policy_version(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, version = request["policyName"], request["policyVersionId"]
        record = self._policy(name)
        found = _version(record, version)
        return {
            "policyArn": self._access.arn(f"policy/{name}"),
            "policyName": name,
            "policyDocument": found["document"],
            "policyVersionId": version,
            "isDefaultVersion": record["default"] == version,
            "creationDate": found["created"],
            "lastModifiedDate": found["created"],
        }

    def list_policy_versions(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._policy(request["policyName"])
        versions = sorted(record["versions"].items(), key=lambda pair: -int(pair[0]))
        return {
            "policyVersions": [
                {"versionId": name, "isDefaultVersion": record["default"] == name, "createDate": version["created"]}
                for name, version in versions
            ]
        }

    def set_default_policy_version(self, request: Request, context: RequestContext) -> None:
        record = self._policy(request["policyName"])
        _version(record, request["policyVersionId"])
        record.update(default=request["policyVersionId"], modified=self._registry.now())
        self._access.policies.put(request["policyName"], record)
        self._access.forget_decisions()

    def delete_policy_version(self, request: Request, context: RequestContext) -> None:
        record = self._policy(request["policyName"])
        _version(record, request["policyVersionId"])
        if record["default"] == request["policyVersionId"]:
            raise ServiceError("DeleteConflictException", "the default version cannot be deleted", status=409)
        del record["versions"][request["policyVersionId"]]
        self._access.policies.put(request["policyName"], record)

    def attach_policy(self, request: Request, context: RequestContext) -> None:
        name, target = request["policyName"], request["target"]
        self._policy(name)
        self._check_target(target)
        self._access.attached.put(f"{target}|{name}", {})
        self._access.targets.put(f"{name}|{target}", {})
        self._access.forget_decisions()

    def detach_policy(self, request: Request, context: RequestContext) -> None:
        self._policy(request["policyName"])
        self._access.detach(request["policyName"], request["target"])

    def list_attached_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        target = request["target"]
        names = set(self._access.policies_at(target))
        group = self._registry.name_of(target, "thinggroup")
        if request.get("recursive") and group is not None:
            for parent in self._registry.ancestors(group):
                names.update(self._access.policies_at(self._registry.group_arn(parent)))
        entries = ((name, self._named(name)) for name in sorted(names))
        found, token = page_of(entries, request.get("marker"), request.get("pageSize", _PAGE))
        return {"policies": found, "nextMarker": token}

    def list_targets_for_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["policyName"]
        self._policy(name)
        targets = (key.partition("|")[2] for key in self._access.targets.keys(f"{name}|"))
        entries = ((target, target) for target in targets)
        found, token = page_of(entries, request.get("marker"), request.get("pageSize", _PAGE))
        return {"targets": found, "nextMarker": token}

    def get_effective_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        """Of a certificate, of the groups of its things or of the thing that is named."""
        principal, thing = request.get("principal"), request.get("thingName")
        if principal is None and thing is None:
            raise ServiceError("InvalidRequestException", "principal or thingName is needed", status=400)
        names: list[str] = []
        things = [] if thing is None else [thing]
        if principal is not None:
            certificate_id = self._access.principal(principal)
            self._access.certificate(certificate_id)
            names += self._access.policies_at(principal)
            things = things or self._registry.things_of_principal(certificate_id)
        for each in things:
            self._registry.thing(each)
            for group in self._registry.all_groups_of(each):
                names += self._access.policies_at(self._registry.group_arn(group))
        effective = [
            {**self._named(name), "policyDocument": default_document(self._policy(name))} for name in sorted(set(names))
        ]
        return {"effectivePolicies": effective}

    # The older names of the four above

    def attach_principal_policy(self, request: Request, context: RequestContext) -> None:
        self.attach_policy({"policyName": request["policyName"], "target": request["principal"]}, context)

    def detach_principal_policy(self, request: Request, context: RequestContext) -> None:
        self.detach_policy({"policyName": request["policyName"], "target": request["principal"]}, context)

    def list_principal_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return self.list_attached_policies({**request, "target": request["principal"]}, context)

    def list_policy_principals(self, request: Request, context: RequestContext) -> dict[str, Json]:
        listed = self.list_targets_for_policy(request, context)
        return {"principals": listed["targets"], "nextMarker": listed["nextMarker"]}

    def _policy(self, name: str) -> dict[str, Json]:
        record = self._access.policies.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"The policy {name} does not exist", status=404)
        return record

    def _named(self, policy: str) -> dict[str, Json]:
        return {"policyName": policy, "policyArn": self._access.arn(f"policy/{policy}")}

    def _check_target(self, target: str) -> None:
        group = self._registry.name_of(target, "thinggroup")
        if group is not None:
            self._registry.group(group)
        else:
            self._access.certificate(self._access.principal(target))


def _check_document(document: str) -> None:
    try:
        read_policy(document)
    except PolicyError as error:
        raise ServiceError("MalformedPolicyException", f"Policy document is Malformed: {error}", status=400) from error


def _version(record: Mapping[str, Json], version: str) -> dict[str, Json]:
    found: dict[str, Json] | None = record["versions"].get(version)
    if found is None:
        raise ServiceError("ResourceNotFoundException", f"The policy version {version} does not exist", status=404)
    return found
