"""Certificates, IoT policies, role aliases, endpoints; and what a connection may do."""

from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.broker.identity import CONNECT, PUBLISH, RECEIVE, RETAIN_PUBLISH, SUBSCRIBE, Identity
from monodon.cloud.certificates import CertificateAuthority, identify
from monodon.cloud.context import RequestContext
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.policies import Policy, PolicyError, allowed, read_policy
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Table
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250
_MAX_VERSIONS = 5
_DECISIONS = 20_000

#: The kind of resource in an ARN, by action. Source: AWS IoT Core developer guide, "AWS IoT Core action resources".
_RESOURCES = {
    CONNECT: "client",
    PUBLISH: "topic",
    RETAIN_PUBLISH: "topic",
    SUBSCRIBE: "topicfilter",
    RECEIVE: "topic",
}


class Security:
    """Operations of AWS IoT on certificates and policies, named as in the model; and their evaluation.

    Args:
        endpoints: endpoint type (``iot:Data-ATS``) → address.
    """

    def __init__(
        self, registry: Registry, authority: CertificateAuthority, endpoints: Callable[[], Mapping[str, str]]
    ) -> None:
        self._registry = registry
        self._authority = authority
        self._endpoints = endpoints
        store = registry.store
        self._certificates: Table = store.table("iot.certificates")
        self._policies: Table = store.table("iot.policies")
        #: ``<target ARN>|<policy>`` and ``<policy>|<target ARN>``.
        self._attached: Table = store.table("iot.attached")
        self._targets: Table = store.table("iot.targets")
        self._aliases: Table = store.table("iot.role_aliases")
        self._decisions: dict[tuple[Identity, str, str], bool] = {}
        self._loaded: dict[str, tuple[Policy, ...]] = {}
        registry.on_membership_change(lambda thing: self._forget_decisions())

    # Evaluation

    def authenticate(self, certificate_der: bytes) -> Identity | None:
        """Return who shows a certificate; None if it is unknown or not active."""
        return self.identity(identify(certificate_der))

    def identity(self, certificate_id: str) -> Identity | None:
        """Return whose an active certificate is; None if it is unknown or not active."""
        record = self._certificates.get(certificate_id)
        if record is None or record["status"] != "ACTIVE":
            return None
        things = self._registry.things_of_principal(certificate_id)
        return Identity(certificate_id=certificate_id, thing_names=tuple(things))

    def authorise(self, identity: Identity, action: str, resource: str) -> bool:
        """Whether the policies of a certificate allow an action on a client id, topic or topic filter."""
        key = (identity, action, resource)
        decision = self._decisions.get(key)
        if decision is None:
            if len(self._decisions) >= _DECISIONS:
                self._decisions.clear()
            decision = self._decisions[key] = self._decide(identity, action, resource)
        return decision

    def may_assume(self, identity: Identity, role_alias: str) -> bool:
        """Whether the policies of a certificate allow it the credentials of a role alias."""
        arn = self._arn(f"rolealias/{role_alias}")
        policies = self._policies_of(identity.certificate_id)
        return allowed(policies, "iot:AssumeRoleWithCertificate", arn, _variables(identity))

    def _decide(self, identity: Identity, action: str, resource: str) -> bool:
        arn = self._arn(f"{_RESOURCES[action]}/{resource}")
        policies = self._policies_of(identity.certificate_id)
        return allowed(policies, action, arn, _variables(identity))

    def _policies_of(self, certificate_id: str) -> tuple[Policy, ...]:
        """The policies of a certificate, and of the groups of its things; none if it is not active."""
        loaded = self._loaded.get(certificate_id)
        if loaded is not None:
            return loaded
        record = self._certificates.get(certificate_id)
        names: list[str] = []
        if record is not None and record["status"] == "ACTIVE":
            names = self._policies_at(self._certificate_arn(certificate_id))
            for thing in self._registry.things_of_principal(certificate_id):
                for group in self._registry.all_groups_of(thing):
                    names += self._policies_at(self._registry.group_arn(group))
        documents = (self._policies.get(name) for name in dict.fromkeys(names))
        loaded = tuple(read_policy(_default_document(found)) for found in documents if found is not None)
        self._loaded[certificate_id] = loaded
        return loaded

    def _forget_decisions(self) -> None:
        self._decisions.clear()
        self._loaded.clear()

    # Certificates

    def create_keys_and_certificate(self, request: Request, context: RequestContext) -> dict[str, Json]:
        issued = self._authority.issue()
        self._keep(issued.certificate_id, issued.certificate_pem, request)
        return {
            "certificateArn": self._certificate_arn(issued.certificate_id),
            "certificateId": issued.certificate_id,
            "certificatePem": issued.certificate_pem,
            "keyPair": {"PublicKey": issued.public_key_pem, "PrivateKey": issued.private_key_pem},
        }

    def create_certificate_from_csr(self, request: Request, context: RequestContext) -> dict[str, Json]:
        try:
            certificate_id, pem = self._authority.issue_for_request(request["certificateSigningRequest"])
        except ValueError as error:
            raise ServiceError(
                "InvalidRequestException", f"The certificate signing request is not valid: {error}", status=400
            ) from error
        self._keep(certificate_id, pem, request)
        arn = self._certificate_arn(certificate_id)
        return {"certificateArn": arn, "certificateId": certificate_id, "certificatePem": pem}

    def describe_certificate(self, request: Request, context: RequestContext) -> dict[str, Json]:
        certificate_id = request["certificateId"]
        record = self._certificate(certificate_id)
        return {
            "certificateDescription": {
                **self._summary(certificate_id, record),
                "certificatePem": record["pem"],
                "ownedBy": context.account,
                "lastModifiedDate": record["modified"],
                "customerVersion": 1,
            }
        }

    def list_certificates(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("marker"))
        entries = (
            (certificate_id, self._summary(certificate_id, record))
            for certificate_id, record in self._certificates.items(after=after)
        )
        certificates, token = page(entries, request.get("pageSize", _PAGE))
        return {"certificates": certificates, "nextMarker": token}

    def update_certificate(self, request: Request, context: RequestContext) -> None:
        record = self._certificate(request["certificateId"])
        if request["newStatus"] not in {"ACTIVE", "INACTIVE", "REVOKED"}:
            raise ServiceError(
                "InvalidRequestException", f"a certificate cannot become {request['newStatus']}", status=400
            )
        record.update(status=request["newStatus"], modified=self._registry.now())
        self._certificates.put(request["certificateId"], record)
        self._forget_decisions()

    def delete_certificate(self, request: Request, context: RequestContext) -> None:
        certificate_id = request["certificateId"]
        record = self._certificate(certificate_id)
        if record["status"] == "ACTIVE":
            raise ServiceError(
                "CertificateStateException", "Certificate must be deactivated (not ACTIVE) before deletion", status=406
            )
        arn = self._certificate_arn(certificate_id)
        policies = self._policies_at(arn)
        if self._registry.things_of_principal(certificate_id) or (policies and not request.get("forceDelete")):
            raise ServiceError(
                "DeleteConflictException", "Things or policies must be detached before deletion", status=409
            )
        for policy in policies:
            self._detach(policy, arn)
        self._certificates.delete(certificate_id)
        self._forget_decisions()

    # Things' principals

    def attach_thing_principal(self, request: Request, context: RequestContext) -> None:
        thing, certificate_id = request["thingName"], self._principal(request["principal"])
        self._registry.thing(thing)
        self._certificate(certificate_id)
        self._registry.principals.put(f"{thing}/{certificate_id}", {})
        self._registry.principal_things.put(f"{certificate_id}/{thing}", {})
        self._forget_decisions()

    def detach_thing_principal(self, request: Request, context: RequestContext) -> None:
        thing, certificate_id = request["thingName"], self._principal(request["principal"])
        self._registry.thing(thing)
        self._registry.principals.delete(f"{thing}/{certificate_id}")
        self._registry.principal_things.delete(f"{certificate_id}/{thing}")
        self._forget_decisions()

    def list_thing_principals(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._registry.thing(request["thingName"])
        entries = ((name, self._certificate_arn(name)) for name in self._registry.principals_of(request["thingName"]))
        found, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"principals": found, "nextToken": token}

    def list_thing_principals_v2(self, request: Request, context: RequestContext) -> dict[str, Json]:
        listed = self.list_thing_principals(request, context)
        objects = [{"principal": arn, "thingPrincipalType": "NON_EXCLUSIVE_THING"} for arn in listed["principals"]]
        return {"thingPrincipalObjects": objects, "nextToken": listed["nextToken"]}

    def list_principal_things(self, request: Request, context: RequestContext) -> dict[str, Json]:
        certificate_id = self._principal(request["principal"])
        entries = ((name, name) for name in self._registry.things_of_principal(certificate_id))
        found, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"things": found, "nextToken": token}

    # Policies

    def create_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, document = request["policyName"], request["policyDocument"]
        _check_document(document)
        if self._policies.get(name) is not None:
            raise ServiceError(
                "ResourceAlreadyExistsException",
                f"Policy cannot be created - name already exists (name={name})",
                status=409,
                resourceId=name,
                resourceArn=self._arn(f"policy/{name}"),
            )
        now = self._registry.now()
        version = {"document": document, "created": now}
        self._policies.put(
            name, {"default": "1", "last": 1, "versions": {"1": version}, "created": now, "modified": now}
        )
        return {
            "policyName": name,
            "policyArn": self._arn(f"policy/{name}"),
            "policyDocument": document,
            "policyVersionId": "1",
        }

    def get_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["policyName"]
        record = self._policy(name)
        return {
            "policyName": name,
            "policyArn": self._arn(f"policy/{name}"),
            "policyDocument": _default_document(record),
            "defaultVersionId": record["default"],
            "creationDate": record["created"],
            "lastModifiedDate": record["modified"],
        }

    def list_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        after = read_token(request.get("marker"))
        entries = ((name, self._named(name)) for name, _ in self._policies.items(after=after))
        found, token = page(entries, request.get("pageSize", _PAGE))
        return {"policies": found, "nextMarker": token}

    def delete_policy(self, request: Request, context: RequestContext) -> None:
        name = request["policyName"]
        record = self._policy(name)
        if next(self._targets.keys(f"{name}|"), None) is not None or len(record["versions"]) > 1:
            raise ServiceError(
                "DeleteConflictException",
                f"Cannot delete the policy because it is attached or has several versions (name={name})",
                status=409,
            )
        self._policies.delete(name)
        self._forget_decisions()

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
        self._policies.put(name, record)
        self._forget_decisions()
        return {
            "policyArn": self._arn(f"policy/{name}"),
            "policyDocument": document,
            "policyVersionId": version,
            "isDefaultVersion": record["default"] == version,
        }

    def get_policy_version(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name, version = request["policyName"], request["policyVersionId"]
        record = self._policy(name)
        found = _version(record, version)
        return {
            "policyArn": self._arn(f"policy/{name}"),
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
        self._policies.put(request["policyName"], record)
        self._forget_decisions()

    def delete_policy_version(self, request: Request, context: RequestContext) -> None:
        record = self._policy(request["policyName"])
        _version(record, request["policyVersionId"])
        if record["default"] == request["policyVersionId"]:
            raise ServiceError("DeleteConflictException", "the default version cannot be deleted", status=409)
        del record["versions"][request["policyVersionId"]]
        self._policies.put(request["policyName"], record)

    def attach_policy(self, request: Request, context: RequestContext) -> None:
        name, target = request["policyName"], request["target"]
        self._policy(name)
        self._check_target(target)
        self._attached.put(f"{target}|{name}", {})
        self._targets.put(f"{name}|{target}", {})
        self._forget_decisions()

    def detach_policy(self, request: Request, context: RequestContext) -> None:
        self._policy(request["policyName"])
        self._detach(request["policyName"], request["target"])

    def list_attached_policies(self, request: Request, context: RequestContext) -> dict[str, Json]:
        target = request["target"]
        names = set(self._policies_at(target))
        group = self._registry.name_of(target, "thinggroup")
        if request.get("recursive") and group is not None:
            for parent in self._registry.ancestors(group):
                names.update(self._policies_at(self._registry.group_arn(parent)))
        entries = ((name, self._named(name)) for name in sorted(names))
        found, token = page_of(entries, request.get("marker"), request.get("pageSize", _PAGE))
        return {"policies": found, "nextMarker": token}

    def list_targets_for_policy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["policyName"]
        self._policy(name)
        targets = (key.partition("|")[2] for key in self._targets.keys(f"{name}|"))
        entries = ((target, target) for target in targets)
        found, token = page_of(entries, request.get("marker"), request.get("pageSize", _PAGE))
        return {"targets": found, "nextMarker": token}

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

    # Role aliases, endpoints

    def create_role_alias(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["roleAlias"]
        if self._aliases.get(name) is not None:
            raise ServiceError(
                "ResourceAlreadyExistsException",
                f"The role alias {name} already exists",
                status=409,
                resourceId=name,
                resourceArn=self._arn(f"rolealias/{name}"),
            )
        now = self._registry.now()
        record = {
            "role": request["roleArn"],
            "duration": request.get("credentialDurationSeconds", 3600),
            "created": now,
            "modified": now,
        }
        self._aliases.put(name, record)
        return {"roleAlias": name, "roleAliasArn": self._arn(f"rolealias/{name}")}

    def describe_role_alias(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["roleAlias"]
        record = self.role_alias(name)
        return {
            "roleAliasDescription": {
                "roleAlias": name,
                "roleAliasArn": self._arn(f"rolealias/{name}"),
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
        return {"roleAlias": name, "roleAliasArn": self._arn(f"rolealias/{name}")}

    def delete_role_alias(self, request: Request, context: RequestContext) -> None:
        self.role_alias(request["roleAlias"])
        self._aliases.delete(request["roleAlias"])

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

    def _keep(self, certificate_id: str, pem: str, request: Request) -> None:
        now = self._registry.now()
        status = "ACTIVE" if request.get("setAsActive") else "INACTIVE"
        self._certificates.put(certificate_id, {"status": status, "pem": pem, "created": now, "modified": now})
        self._forget_decisions()

    def _certificate(self, certificate_id: str) -> dict[str, Json]:
        record = self._certificates.get(certificate_id)
        if record is None:
            raise ServiceError(
                "ResourceNotFoundException", f"The certificate {certificate_id} does not exist", status=404
            )
        return record

    def _summary(self, certificate_id: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "certificateArn": self._certificate_arn(certificate_id),
            "certificateId": certificate_id,
            "status": record["status"],
            "creationDate": record["created"],
            "certificateMode": "DEFAULT",
        }

    def _policy(self, name: str) -> dict[str, Json]:
        record = self._policies.get(name)
        if record is None:
            raise ServiceError("ResourceNotFoundException", f"The policy {name} does not exist", status=404)
        return record

    def _named(self, policy: str) -> dict[str, Json]:
        return {"policyName": policy, "policyArn": self._arn(f"policy/{policy}")}

    def _policies_at(self, target: str) -> list[str]:
        return [key.rpartition("|")[2] for key in self._attached.keys(f"{target}|")]

    def _detach(self, policy: str, target: str) -> None:
        self._attached.delete(f"{target}|{policy}")
        self._targets.delete(f"{policy}|{target}")
        self._forget_decisions()

    def _check_target(self, target: str) -> None:
        group = self._registry.name_of(target, "thinggroup")
        if group is not None:
            self._registry.group(group)
        else:
            self._certificate(self._principal(target))

    def _principal(self, arn: str) -> str:
        prefix = self._certificate_arn("")
        if not arn.startswith(prefix):
            raise ServiceError(
                "InvalidRequestException", f"{arn} is not a certificate of this account and region", status=400
            )
        return arn.removeprefix(prefix)

    def _certificate_arn(self, certificate_id: str) -> str:
        return self._arn(f"cert/{certificate_id}")

    def _arn(self, resource: str) -> str:
        return self._registry.thing_arn("").removesuffix("thing/") + resource


def _variables(identity: Identity) -> dict[str, str]:
    """What policies may say of a connection; the thing is the attached one that the client id names.

    Further connections of a nucleus call themselves ``<thing>#2``, ``<thing>#3`` (cloud.md 8).
    """
    variables = {"iot:ClientId": identity.client_id, "iot:Connection.Thing.IsAttached": "false"}
    names = identity.thing_names
    own = identity.client_id.partition("#")[0]
    thing = own if own in names else names[0] if len(names) == 1 else None
    if thing is not None:
        variables["iot:Connection.Thing.ThingName"] = thing
        variables["iot:Connection.Thing.IsAttached"] = "true"
    return variables


def _check_document(document: str) -> None:
    try:
        read_policy(document)
    except PolicyError as error:
        raise ServiceError("MalformedPolicyException", f"Policy document is Malformed: {error}", status=400) from error


def _default_document(record: Mapping[str, Json]) -> str:
    return str(record["versions"][record["default"]]["document"])


def _version(record: Mapping[str, Json], version: str) -> dict[str, Json]:
    found: dict[str, Json] | None = record["versions"].get(version)
    if found is None:
        raise ServiceError("ResourceNotFoundException", f"The policy version {version} does not exist", status=404)
    return found
