"""What devices ask over HTTPS with their certificate and no signature (cloud notes, sections 2 and 8).

Components' candidates and artifact URLs, large deployment documents, the thing groups of a core device, its client
devices and addresses, and credentials of a role alias.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import unquote

from monodon.cloud.broker.identity import Identity
from monodon.cloud.context import RequestContext
from monodon.cloud.gateway import Call
from monodon.cloud.greengrass.client_devices import ClientDeviceRegistry
from monodon.cloud.iot.access import Access
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page_of
from monodon.cloud.protocol import ServiceError, WireResponse, parse_request, route, serialise, serialise_error
from monodon.cloud.protocol.model import load
from monodon.cloud.store import Store
from monodon.core.client_devices import ASSOCIATION_PATH, IDENTITY_PATH
from monodon.core.json import Json

_THING_GROUPS = re.compile(r"/greengrass/v2/coreDevices/([^/]+)/thingGroups/?")
_CONFIGURATION = re.compile(r"/greengrass/v2/coreDevices/([^/]+)/deployments/([^/]+)/configuration/?")
_CONNECTIVITY = re.compile(r"/greengrass/things/([^/]+)/connectivityInfo/?")
_CREDENTIALS = re.compile(r"/role-aliases/([^/]+)/credentials/?")
#: Operations of the model that devices may call.
_OPERATIONS = {"ResolveComponentCandidates", "GetComponentVersionArtifact"}
_MAX_BODY = 1024 * 1024
_PAGE = 100


class Issuer(Protocol):
    """What is needed of STS."""

    def issue(self, role_arn: str, session: str, duration_s: int, context: RequestContext) -> dict[str, Json]: ...


class DataPlane:
    """Answers devices.

    Args:
        configuration: (thing, deployment id, context) → the answer to GetDeploymentConfiguration.
        role_alias: the record of a role alias: ``role`` (ARN) and ``duration`` in seconds; raises ServiceError.
        backends: objects that have the methods ``resolve_component_candidates`` and ``get_component_version_artifact``.
    """

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        access: Access,
        role_alias: Callable[[str], Mapping[str, Json]],
        issuer: Issuer,
        configuration: Callable[[str, str, RequestContext], Json],
        backends: Sequence[object],
    ) -> None:
        self._store = store
        self._registry = registry
        self._access = access
        self._role_alias = role_alias
        self._issuer = issuer
        self._configuration = configuration
        self._backends = backends
        self._clients = ClientDeviceRegistry(store, access)

    async def __call__(self, call: Call) -> WireResponse:
        """Answer one request, errors included."""
        try:
            body = await call.body.read(_MAX_BODY)
            with self._store.transaction():
                return self._answer(call, self._caller(call.context), body)
        except ServiceError as error:
            return serialise_error(load("greengrassv2"), error, request_id=call.context.request_id)

    def _caller(self, context: RequestContext) -> Identity:
        if context.certificate_id is None:
            raise ServiceError(
                "AccessDeniedException",
                "the request has no signature, and the connection no client certificate",
                status=403,
            )
        identity = self._access.identity(context.certificate_id)
        if identity is None:
            raise ServiceError("AccessDeniedException", "the certificate is unknown or not active", status=403)
        return identity

    def _answer(self, call: Call, caller: Identity, body: bytes) -> WireResponse:
        request = call.request
        groups = _THING_GROUPS.fullmatch(request.raw_path)
        if groups is not None and request.method == "GET":
            return self._thing_groups(unquote(groups[1]), caller, dict(request.query))
        configuration = _CONFIGURATION.fullmatch(request.raw_path)
        if configuration is not None and request.method == "GET":
            thing, deployment_id = map(unquote, configuration.groups())
            _check_own(thing, caller)
            return _json(self._configuration(thing, deployment_id, call.context))
        connectivity = _CONNECTIVITY.fullmatch(request.raw_path)
        if connectivity is not None and request.method == "GET":
            thing = unquote(connectivity[1])
            _check_own(thing, caller)
            return _json(self._clients.connectivity(thing))
        match request.method, request.raw_path:
            case "POST", path if path == IDENTITY_PATH:
                return _json(self._clients.verify_identity(body))
            case "POST", path if path == ASSOCIATION_PATH:
                return _json(self._clients.verify_association(body, caller.thing_names))
        credentials = _CREDENTIALS.fullmatch(request.raw_path)
        if credentials is not None and request.method == "GET":
            return self._credentials(unquote(credentials[1]), caller, call)
        return self._operate(call, body)

    def _operate(self, call: Call, body: bytes) -> WireResponse:
        model = load("greengrassv2")
        match = route(model, call.request)
        if match.operation.name not in _OPERATIONS:
            raise ServiceError("AccessDeniedException", f"devices may not call {match.operation.name}", status=403)
        value = parse_request(model, match, call.request, body)
        method = next(
            getattr(backend, match.operation.method_name)
            for backend in self._backends
            if hasattr(backend, match.operation.method_name)
        )
        output: Mapping[str, Json] = method(value, call.context)
        return serialise(model, match.operation, output, request_id=call.context.request_id)

    def _thing_groups(self, thing: str, caller: Identity, query: Mapping[str, str]) -> WireResponse:
        _check_own(thing, caller)
        entries = (
            (
                group,
                {
                    **self._named(group),
                    "rootToParentThingGroups": [self._named(parent) for parent in self._registry.ancestors(group)],
                },
            )
            for group in self._registry.groups_of(thing)
        )
        limit = query.get("maxResults", "")
        found, token = page_of(
            entries,
            query.get("nextToken"),
            int(limit) if limit.isdecimal() and int(limit) else _PAGE,
            error="ValidationException",
        )
        return _json({"thingGroups": found, **({"nextToken": token} if token else {})})

    def _credentials(self, alias: str, caller: Identity, call: Call) -> WireResponse:
        thing = call.request.headers.get("x-amzn-iot-thingname")
        if thing is not None:
            _check_own(thing, caller)
        if not self._access.may_assume(caller, alias):
            raise ServiceError(
                "AccessDeniedException",
                f"no policy of the certificate allows iot:AssumeRoleWithCertificate on the role alias {alias}",
                status=403,
            )
        record = self._role_alias(alias)
        issued = self._issuer.issue(record["role"], caller.certificate_id, record["duration"], call.context)
        return _json({"credentials": {name: value for name, value in issued.items() if name != "expiration_s"}})

    def _named(self, group: str) -> dict[str, Json]:
        return {"thingGroupName": group, "thingGroupArn": self._registry.group_arn(group)}


def _check_own(thing: str, caller: Identity) -> None:
    if thing not in caller.thing_names:
        raise ServiceError("AccessDeniedException", f"the certificate is not attached to {thing}", status=403)


def _json(value: Json) -> WireResponse:
    return WireResponse(status=200, headers=(("content-type", "application/json"),), body=json.dumps(value).encode())
