"""Device certificates, and the things they are attached to."""

from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.certificates import CertificateAuthority
from monodon.cloud.context import RequestContext
from monodon.cloud.iot.access import Access
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
_PAGE = 250


class Certificates:
    """Operations of AWS IoT on certificates, named as in the model.

    Args:
        disconnect: ends the connections of a certificate, by its id, that is no longer active.
    """

    def __init__(
        self,
        registry: Registry,
        access: Access,
        authority: CertificateAuthority,
        disconnect: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._access = access
        self._authority = authority
        self._disconnect = disconnect

    def create_keys_and_certificate(self, request: Request, context: RequestContext) -> dict[str, Json]:
        issued = self._authority.issue()
        self._keep(issued.certificate_id, issued.certificate_pem, request)
        return {
            "certificateArn": self._access.certificate_arn(issued.certificate_id),
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
        arn = self._access.certificate_arn(certificate_id)
        return {"certificateArn": arn, "certificateId": certificate_id, "certificatePem": pem}

    def describe_certificate(self, request: Request, context: RequestContext) -> dict[str, Json]:
        certificate_id = request["certificateId"]
        record = self._access.certificate(certificate_id)
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
            for certificate_id, record in self._access.certificates.items(after=after)
        )
        certificates, token = page(entries, request.get("pageSize", _PAGE))
        return {"certificates": certificates, "nextMarker": token}

    def update_certificate(self, request: Request, context: RequestContext) -> None:
        record = self._access.certificate(request["certificateId"])
        if request["newStatus"] not in {"ACTIVE", "INACTIVE", "REVOKED"}:
            raise ServiceError(
                "InvalidRequestException", f"a certificate cannot become {request['newStatus']}", status=400
            )
        record.update(status=request["newStatus"], modified=self._registry.now())
        self._access.certificates.put(request["certificateId"], record)
        self._access.forget_decisions()
        if record["status"] != "ACTIVE":
            self._registry.store.after_commit(lambda: self._disconnect(request["certificateId"]))

    def delete_certificate(self, request: Request, context: RequestContext) -> None:
        certificate_id = request["certificateId"]
        record = self._access.certificate(certificate_id)
        if record["status"] == "ACTIVE":
            raise ServiceError(
                "CertificateStateException", "Certificate must be deactivated (not ACTIVE) before deletion", status=406
            )
        arn = self._access.certificate_arn(certificate_id)
        policies = self._access.policies_at(arn)
        if self._registry.things_of_principal(certificate_id) or (policies and not request.get("forceDelete")):
            raise ServiceError(
                "DeleteConflictException", "Things or policies must be detached before deletion", status=409
            )
        for policy in policies:
            self._access.detach(policy, arn)
        self._access.certificates.delete(certificate_id)
        self._access.forget_decisions()

    # Things' principals

    def attach_thing_principal(self, request: Request, context: RequestContext) -> None:
        thing, certificate_id = request["thingName"], self._access.principal(request["principal"])
        self._registry.thing(thing)
        self._access.certificate(certificate_id)
        self._registry.principals.put(f"{thing}/{certificate_id}", {})
        self._registry.principal_things.put(f"{certificate_id}/{thing}", {})
        self._access.forget_decisions()

    def detach_thing_principal(self, request: Request, context: RequestContext) -> None:
        thing, certificate_id = request["thingName"], self._access.principal(request["principal"])
        self._registry.thing(thing)
        self._registry.principals.delete(f"{thing}/{certificate_id}")
        self._registry.principal_things.delete(f"{certificate_id}/{thing}")
        self._access.forget_decisions()

    def list_thing_principals(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._registry.thing(request["thingName"])
        entries = (
            (name, self._access.certificate_arn(name)) for name in self._registry.principals_of(request["thingName"])
        )
        found, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"principals": found, "nextToken": token}

    def list_thing_principals_v2(self, request: Request, context: RequestContext) -> dict[str, Json]:
        listed = self.list_thing_principals(request, context)
        objects = [{"principal": arn, "thingPrincipalType": "NON_EXCLUSIVE_THING"} for arn in listed["principals"]]
        return {"thingPrincipalObjects": objects, "nextToken": listed["nextToken"]}

    def list_principal_things(self, request: Request, context: RequestContext) -> dict[str, Json]:
        certificate_id = self._access.principal(request["principal"])
        entries = ((name, name) for name in self._registry.things_of_principal(certificate_id))
        found, token = page_of(entries, request.get("nextToken"), request.get("maxResults", _PAGE))
        return {"things": found, "nextToken": token}

    def _keep(self, certificate_id: str, pem: str, request: Request) -> None:
        now = self._registry.now()
        status = "ACTIVE" if request.get("setAsActive") else "INACTIVE"
        self._access.certificates.put(certificate_id, {"status": status, "pem": pem, "created": now, "modified": now})
        self._access.forget_decisions()

    def _summary(self, certificate_id: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "certificateArn": self._access.certificate_arn(certificate_id),
            "certificateId": certificate_id,
            "status": record["status"],
            "creationDate": record["created"],
            "certificateMode": "DEFAULT",
        }
