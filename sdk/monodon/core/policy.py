"""Access control: which component may do what over IPC, and the block that would allow it.

A component's configuration holds its own policies (``accessControl``), by service and by a free policy id. They
only ever allow: the union of a component's policies for a service decides.

Source: Greengrass nucleus, ``authorization/AuthorizationHandler.java``, ``WildcardTrie.java``.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from monodon.core.json import Json

PUBSUB: Final = "aws.greengrass.ipc.pubsub"
MQTT_PROXY: Final = "aws.greengrass.ipc.mqttproxy"
LIFECYCLE: Final = "aws.greengrass.ipc.lifecycle"
COMPONENT_METRIC: Final = "aws.greengrass.ipc.componentmetric"
SECRET_MANAGER: Final = "aws.greengrass.SecretManager"  # noqa: S105 (a service, no secret)
SHADOW_MANAGER: Final = "aws.greengrass.ShadowManager"
CLI: Final = "aws.greengrass.Cli"
CLIENT_DEVICES: Final = "aws.greengrass.clientdevices.Auth"

#: The component that may put metrics without a policy, and ask whose a token is.
STREAM_MANAGER: Final = "aws.greengrass.StreamManager"

_PREFIX: Final = "aws.greengrass#"
_FIELDS: Final = {"policydescription", "operations", "resources"}
_ANY: Final = "*"

#: Every service that asks for a policy, and the operations it covers.
SERVICES: Final[Mapping[str, tuple[str, ...]]] = {
    service: tuple(_PREFIX + name for name in names.split())
    for service, names in {
        PUBSUB: "PublishToTopic SubscribeToTopic",
        MQTT_PROXY: "PublishToIoTCore SubscribeToIoTCore",
        LIFECYCLE: "PauseComponent ResumeComponent",
        COMPONENT_METRIC: "PutComponentMetric",
        SECRET_MANAGER: "GetSecretValue",
        SHADOW_MANAGER: "GetThingShadow UpdateThingShadow DeleteThingShadow ListNamedShadowsForThing",
        CLI: "ListComponents GetComponentDetails RestartComponent StopComponent CreateLocalDeployment "
        "CancelLocalDeployment GetLocalDeploymentStatus ListLocalDeployments CreateDebugPassword",
        CLIENT_DEVICES: "GetClientDeviceAuthToken VerifyClientDeviceIdentity AuthorizeClientDeviceAction "
        "SubscribeToCertificateUpdates",
    }.items()
}

#: The service of each operation that asks for a policy.
SERVICE_OF: Final[Mapping[str, str]] = {
    operation: service for service, operations in SERVICES.items() for operation in operations
}


def is_exempt(caller: str, service: str) -> bool:
    """Return whether a caller needs no policy for a service: tools for their own, the stream manager for metrics."""
    if service == CLI:
        return caller == CLI or caller.startswith("greengrass-cli#")
    return service == COMPONENT_METRIC and caller == STREAM_MANAGER


class _ResourceError(ValueError):
    """A resource text that classic drops; the message says why."""


@dataclass(frozen=True, slots=True)
class _Star:
    """``*``: any text, also empty, also with slashes."""


_Token = str | _Star
_STAR: Final = _Star()


def _tokens(resource: str) -> list[tuple[_Token, bool]]:
    """Split into characters and stars; the flag says that a character was written plainly, not as ``${…}``."""
    tokens: list[tuple[_Token, bool]] = []
    index = 0
    while index < len(resource):
        character = resource[index]
        if resource.startswith("${", index):
            if resource[index + 2 : index + 4] not in ("*}", "$}", "?}"):
                raise _ResourceError("'${' may only be followed by '*}', '$}' or '?}'")
            tokens.append((resource[index + 2], False))
            index += 4
            continue
        if character == "?":
            raise _ResourceError("'?' is not a wildcard; write '${?}' for the character")
        tokens.append((_STAR if character == "*" else character, True))
        index += 1
    return tokens


def _expression(resource: str, *, mqtt_wildcards: bool) -> str:
    """Return the regular expression of a resource.

    The text between two stars is matched where it first occurs, for good (an atomic group), so that a policy of
    many stars takes linear time on any text that a component may send.
    """
    tokens = _tokens(resource)
    parts: list[list[str]] = [[]]
    for index, (piece, is_plain) in enumerate(tokens):
        if isinstance(piece, _Star):
            parts.append([])
            continue
        before = tokens[index - 1][0] if index else "/"
        after = tokens[index + 1][0] if index + 1 < len(tokens) else "/"
        if mqtt_wildcards and is_plain and piece == "+" and before == after == "/":
            parts[-1].append("[^/]*")
        elif mqtt_wildcards and is_plain and piece == "#" and index + 1 == len(tokens) and before == "/":
            if index:
                parts[-1][-1] = "(?:/.*)?"
            else:
                parts[-1].append(".*")
        else:
            parts[-1].append(re.escape(piece))
    first, *rest = ("".join(part) for part in parts)
    if not rest:
        return first
    *middle, last = rest
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + ".*" + last


@dataclass(frozen=True, slots=True)
class _Grant:
    """What one policy allows: its operations, on these resources."""

    operations: frozenset[str]
    literals: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]
    is_everything: bool

    def allows(self, operation: str, resource: str) -> bool:
        if operation not in self.operations and _ANY not in self.operations:
            return False
        if self.is_everything or resource in self.literals:
            return True
        return any(pattern.fullmatch(resource) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class AccessControl:
    """The policies of one component. ``problems`` says which of them, or which resources, were dropped and why."""

    grants: Mapping[str, tuple[_Grant, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @classmethod
    def read(cls, value: Json) -> "AccessControl":
        """Return the policies of an ``accessControl`` value; never raises.

        ``value`` is the map of a configuration, the same as a JSON text, or None. One that can't be read as
        policies allows nothing at all, with the reason in ``problems``.
        """
        if isinstance(value, str):
            try:
                value = json.loads(value) if value.strip() else None
            except (ValueError, RecursionError) as error:
                return cls(problems=(f"accessControl is a text that is not JSON ({error}): all policies are ignored",))
        if value is None:
            return cls()
        problems: list[str] = []
        grants: dict[str, tuple[_Grant, ...]] = {}
        try:
            for service, policies in _mapping(value, "accessControl").items():
                if service not in SERVICES:
                    problems.append(f"accessControl/{service} is no service with policies: ignored")
                    continue
                read = [
                    _read_policy(policy, service, f"accessControl/{service}/{name}", problems)
                    for name, policy in _mapping(policies, f"accessControl/{service}").items()
                ]
                grants[service] = tuple(grant for grant in read if grant is not None)
        except _PolicyError as error:
            return cls(problems=(f"{error}: all policies are ignored",))
        return cls(grants=grants, problems=tuple(problems))

    def allows(self, service: str, operation: str, resource: str) -> bool:
        """Return whether ``operation`` (with its ``aws.greengrass#``) is allowed on ``resource``, matched whole."""
        return any(grant.allows(operation, resource) for grant in self.grants.get(service, ()))


class _PolicyError(ValueError):
    """accessControl is not what it should be anywhere, so classic drops all of it."""


def _mapping(value: Json, where: str) -> Mapping[str, Json]:
    if not isinstance(value, Mapping):
        raise _PolicyError(f"{where} must be a map, not {json.dumps(value, default=str)[:80]}")
    return value


def _texts(value: Json, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or any(isinstance(item, Mapping | list | tuple) for item in value):
        raise _PolicyError(f"{where} must be a list of texts, not {json.dumps(value, default=str)[:80]}")
    return tuple(item if isinstance(item, str) else json.dumps(item) for item in value if item is not None)


def _read_policy(policy: Json, service: str, where: str, problems: list[str]) -> _Grant | None:
    fields = {str(name).lower(): value for name, value in _mapping(policy, where).items()}
    for name in fields.keys() - _FIELDS:
        raise _PolicyError(f"{where} has {name}, which is none of policyDescription, operations and resources")
    operations = _texts(fields.get("operations"), f"{where}/operations")
    resources = _texts(fields.get("resources"), f"{where}/resources")
    if not operations:
        problems.append(f"{where} has no operations: ignored")
        return None
    if not resources:
        problems.append(f"{where} has no resources: it allows nothing")
    unknown = [name for name in operations if name != _ANY and name not in SERVICES[service]]
    problems.extend(f"{where} names {name}, which is no operation of {service}" for name in unknown)
    literals: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    for resource in resources:
        if "{iot:thingName}" in resource:
            problems.append(
                f"{where}: {{iot:thingName}} was not filled in, so {resource} never matches "
                "(set interpolateComponentConfiguration of aws.greengrass.Nucleus to true)"
            )
        try:
            expression = _expression(resource, mqtt_wildcards=service == MQTT_PROXY)
        except _ResourceError as error:
            problems.append(f"{where}: resource {resource} is dropped: {error}")
            continue
        if expression == re.escape(resource):
            literals.add(resource)
        else:
            patterns.append(re.compile(expression, re.DOTALL))
    return _Grant(
        operations=frozenset(operations),
        literals=frozenset(literals),
        patterns=tuple(patterns),
        is_everything=_ANY in resources,
    )


def resource_text(resource: str) -> str:
    """Return the policy resource that stands for exactly ``resource``."""
    return re.sub(r"[*?]|\$(?=\{)", lambda match: "${" + match[0] + "}", resource)


def grant(component: str, service: str, operation: str, resource: str) -> dict[str, Json]:
    """Return the ``accessControl`` block that would allow one operation of ``component`` on one resource.

    It goes into the component's ``DefaultConfiguration``, or into the merge of a deployment.
    """
    short = operation.removeprefix(_PREFIX)
    policy = {
        "policyDescription": f"Allows {short} on {resource}.",
        "operations": [operation],
        "resources": [resource_text(resource)],
    }
    return {"accessControl": {service: {f"{component}:{service.rpartition('.')[2]}:{short}": policy}}}


def grant_text(component: str, service: str, operation: str, resource: str) -> str:
    """Return :func:`grant` as YAML, ready to paste."""
    return "\n".join(_yaml_lines(grant(component, service, operation, resource), ""))


def _yaml_lines(block: Mapping[str, Json], indent: str) -> list[str]:
    lines: list[str] = []
    for name, value in block.items():
        key = name if re.fullmatch(r"[A-Za-z][\w.]*", name) else json.dumps(name)
        if isinstance(value, Mapping):
            lines.append(f"{indent}{key}:")
            lines.extend(_yaml_lines(value, indent + "  "))
        else:
            lines.append(f"{indent}{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines
