"""What a connection may do: the policies of its certificate, and of the groups of its things."""

from collections.abc import Mapping

from monodon.cloud.broker.identity import CONNECT, PUBLISH, RECEIVE, RETAIN_PUBLISH, SUBSCRIBE, Identity
from monodon.cloud.certificates import identify
from monodon.cloud.iot.registry import Registry
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Table
from monodon.core.iot_policy import Policy, allowed, read_policy
from monodon.core.json import Json

_DECISIONS = 200_000
_IDENTITIES = 1000

#: The kind of resource in an ARN, by action. Source: AWS IoT Core developer guide, "AWS IoT Core action resources".
_RESOURCES = {
    CONNECT: "client",
    PUBLISH: "topic",
    RETAIN_PUBLISH: "topic",
    SUBSCRIBE: "topicfilter",
    RECEIVE: "topic",
}


class Access:
    """Certificates and policies as records, shared by the backends; and their evaluation."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        store = registry.store
        self.certificates: Table = store.table("iot.certificates")
        self.policies: Table = store.table("iot.policies")
        #: ``<target ARN>|<policy>`` and ``<policy>|<target ARN>``.
        self.attached: Table = store.table("iot.attached")
        self.targets: Table = store.table("iot.targets")
        self._decisions: dict[tuple[Identity, str, str], bool] = {}
        self._loaded: dict[str, tuple[Policy, ...]] = {}
        self._identities: dict[str, Identity] = {}
        registry.on_membership_change(lambda thing: self.forget_decisions())

    def authenticate(self, certificate_der: bytes) -> Identity | None:
        """Return who shows a certificate; None if it is unknown or not active."""
        return self.identity(identify(certificate_der))

    def identity(self, certificate_id: str) -> Identity | None:
        """Return whose an active certificate is; None if it is unknown or not active."""
        known = self._identities.get(certificate_id)
        if known is not None:
            return known
        record = self.certificates.get(certificate_id)
        if record is None or record["status"] != "ACTIVE":
            return None
        things = self._registry.things_of_principal(certificate_id)
        if len(self._identities) >= _IDENTITIES:
            self._identities.clear()
        identity = Identity(certificate_id=certificate_id, thing_names=tuple(things))
        self._identities[certificate_id] = identity
        return identity

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
        arn = self.arn(f"rolealias/{role_alias}")
        policies = self._policies_of(identity.certificate_id)
        return allowed(policies, "iot:AssumeRoleWithCertificate", arn, _variables(identity))

    def _decide(self, identity: Identity, action: str, resource: str) -> bool:
        arn = self.arn(f"{_RESOURCES[action]}/{resource}")
        policies = self._policies_of(identity.certificate_id)
        return allowed(policies, action, arn, _variables(identity))

    def _policies_of(self, certificate_id: str) -> tuple[Policy, ...]:
        """The policies of a certificate, and of the groups of its things; none if it is not active."""
        loaded = self._loaded.get(certificate_id)
        if loaded is not None:
            return loaded
        record = self.certificates.get(certificate_id)
        names: list[str] = []
        if record is not None and record["status"] == "ACTIVE":
            names = self.policies_at(self.certificate_arn(certificate_id))
            for thing in self._registry.things_of_principal(certificate_id):
                for group in self._registry.all_groups_of(thing):
                    names += self.policies_at(self._registry.group_arn(group))
        documents = (self.policies.get(name) for name in dict.fromkeys(names))
        loaded = tuple(read_policy(default_document(found)) for found in documents if found is not None)
        self._loaded[certificate_id] = loaded
        return loaded

    def forget_decisions(self) -> None:
        """Something changed that a decision may hang on."""
        self._decisions.clear()
        self._loaded.clear()
        self._identities.clear()

    def certificate(self, certificate_id: str) -> dict[str, Json]:
        """Return a certificate's record.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        record = self.certificates.get(certificate_id)
        if record is None:
            raise ServiceError(
                "ResourceNotFoundException", f"The certificate {certificate_id} does not exist", status=404
            )
        return record

    def policies_at(self, target: str) -> list[str]:
        """Return the names of the policies that are attached to a target."""
        return [key.rpartition("|")[2] for key in self.attached.keys(f"{target}|")]

    def detach(self, policy: str, target: str) -> None:
        """Take a policy from a target."""
        self.attached.delete(f"{target}|{policy}")
        self.targets.delete(f"{policy}|{target}")
        self.forget_decisions()

    def principal(self, arn: str) -> str:
        """Return the certificate id in an ARN.

        Raises:
            ServiceError: InvalidRequestException, it is no certificate of this account.
        """
        prefix = self.certificate_arn("")
        if not arn.startswith(prefix):
            raise ServiceError(
                "InvalidRequestException", f"{arn} is not a certificate of this account and region", status=400
            )
        return arn.removeprefix(prefix)

    def certificate_arn(self, certificate_id: str) -> str:
        """The ARN of a certificate."""
        return self.arn(f"cert/{certificate_id}")

    def arn(self, resource: str) -> str:
        """An ARN of AWS IoT in this account: ``policy/<name>``, ``topic/<topic>``."""
        return self._registry.thing_arn("").removesuffix("thing/") + resource


def _variables(identity: Identity) -> dict[str, str]:
    """What policies may say of a connection."""
    variables = {"iot:ClientId": identity.client_id, "iot:Connection.Thing.IsAttached": "false"}
    thing = identity.of_client(identity.client_id).thing_names
    if thing:
        variables["iot:Connection.Thing.ThingName"] = thing[0]
        variables["iot:Connection.Thing.IsAttached"] = "true"
    return variables


def default_document(record: Mapping[str, Json]) -> str:
    """The text of a policy's default version."""
    return str(record["versions"][record["default"]]["document"])
