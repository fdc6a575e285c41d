"""The fleet status message: written by the nucleus, read by the cloud.

A device publishes it on ``$aws/things/<thing>/greengrassv2/health/json``, in parts of at most 128,000 bytes.

Source: Greengrass nucleus, ``status/model/FleetStatusDetails.java``, ``ComponentDetails.java``,
``DeploymentInformation.java`` and ``util/MqttChunkedPayloadPublisher.java``.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from monodon.core.json import Json, read_json
from monodon.core.lifecycle import State
from monodon.errors import NetworkError

MAX_MESSAGE_BYTES = 128_000
MAX_SEQUENCE = 2**63 - 1  # AWS's nucleus counts in a long
MAX_ESCAPED_BYTES = 12  # of one character in ASCII JSON: two escaped surrogates

#: What a component is called that has left the device; the cloud drops it from its list.
UNINSTALLED = "UNINSTALLED"
BROKEN = "BROKEN"
_STATUSES = frozenset(State) - {State.UNINSTALLING}

Choice = TypeVar("Choice", bound=StrEnum)


class DeviceHealth(StrEnum):
    """UNHEALTHY as soon as one component is BROKEN."""

    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"


class MessageType(StrEnum):
    """COMPLETE replaces what the cloud knows of the device, PARTIAL is merged into it."""

    COMPLETE = "COMPLETE"
    PARTIAL = "PARTIAL"


class Trigger(StrEnum):
    """Why a status message was sent."""

    NUCLEUS_LAUNCH = "NUCLEUS_LAUNCH"
    CADENCE = "CADENCE"
    NETWORK_RECONFIGURE = "NETWORK_RECONFIGURE"
    LOCAL_DEPLOYMENT = "LOCAL_DEPLOYMENT"
    THING_DEPLOYMENT = "THING_DEPLOYMENT"
    THING_GROUP_DEPLOYMENT = "THING_GROUP_DEPLOYMENT"
    COMPONENT_STATUS_CHANGE = "COMPONENT_STATUS_CHANGE"
    RECONNECT = "RECONNECT"

    @property
    def message_type(self) -> MessageType:
        return MessageType.COMPLETE if self in _COMPLETE else MessageType.PARTIAL


_COMPLETE = frozenset({Trigger.NUCLEUS_LAUNCH, Trigger.CADENCE, Trigger.NETWORK_RECONFIGURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentHealth:
    """One component as the device reports it; codes and reason accompany ERRORED and BROKEN alone."""

    name: str
    version: str
    status: str
    is_root: bool = False
    fleet_config_arns: tuple[str, ...] = ()
    status_codes: tuple[str, ...] = ()
    status_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentInformation:
    """How a deployment ended on the device."""

    deployment_id: str
    status: str
    detailed_status: str | None = None
    failure_cause: str | None = None
    error_stack: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()
    fleet_configuration_arn: str | None = None
    unchanged_root_components: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """One fleet status message, or one chunk of it (``chunk_id`` counts from 1)."""

    thing: str
    ggc_version: str
    platform: str
    architecture: str
    sequence_number: int
    timestamp_ms: int
    trigger: Trigger
    overall: DeviceHealth = DeviceHealth.HEALTHY
    message_type: MessageType = MessageType.PARTIAL
    components: tuple[ComponentHealth, ...] = ()
    deployment: DeploymentInformation | None = None
    runtime: str | None = None
    chunk_id: int | None = None
    total_chunks: int | None = None


def overall_health(components: Sequence[ComponentHealth]) -> DeviceHealth:
    """UNHEALTHY when any component is BROKEN."""
    return DeviceHealth.UNHEALTHY if any(c.status == BROKEN for c in components) else DeviceHealth.HEALTHY


def encode(report: HealthReport) -> bytes:
    """The message as bytes for MQTT."""
    return _dump(to_json(report))


def to_json(report: HealthReport) -> dict[str, Json]:
    """The message as the JSON object that AWS's nucleus sends."""
    message: dict[str, Json] = {
        "ggcVersion": report.ggc_version,
        "platform": report.platform,
        "architecture": report.architecture,
        "thing": report.thing,
        "overallDeviceStatus": report.overall.value,
        "sequenceNumber": report.sequence_number,
        "timestamp": report.timestamp_ms,
        "messageType": report.message_type.value,
        "trigger": report.trigger.value,
        "components": [_component(component) for component in report.components],
    }
    if report.runtime is not None:
        message["runtime"] = report.runtime
    if report.chunk_id is not None:
        message["chunkInfo"] = {"chunkId": report.chunk_id, "totalChunks": report.total_chunks}
    if report.deployment is not None:
        message["deploymentInformation"] = _deployment(report.deployment)
    return message


def chunks(report: HealthReport, limit: int = MAX_MESSAGE_BYTES) -> tuple[HealthReport, ...]:
    """The report in as few messages as fit ``limit`` bytes each; itself alone when it fits.

    Components keep their order, each in one chunk. A component that would not fit alone loses the end of its
    ``status_reason``.
    """
    if len(encode(report)) <= limit:
        return (report,)
    worst = 10**6
    frame = len(encode(replace(report, components=(), chunk_id=worst, total_chunks=worst)))
    parts = [replace(report, components=group) for group in _groups(report.components, limit - frame)]
    if len(parts) == 1:
        return (parts[0],)
    return tuple(replace(part, chunk_id=n, total_chunks=len(parts)) for n, part in enumerate(parts, 1))


def _groups(components: Sequence[ComponentHealth], room: int) -> Iterator[tuple[ComponentHealth, ...]]:
    group: list[ComponentHealth] = []
    used = 0
    for whole in components:
        component = _fitted(whole, room)
        size = len(_dump(_component(component))) + 1
        if group and used + size > room:
            yield tuple(group)
            group, used = [], 0
        group.append(component)
        used += size
    yield tuple(group)


def _fitted(component: ComponentHealth, room: int) -> ComponentHealth:
    excess = len(_dump(_component(component))) + 1 - room
    while excess > 0 and component.status_reason:
        kept = max(0, len(component.status_reason) - max(1, excess // MAX_ESCAPED_BYTES))
        component = replace(component, status_reason=component.status_reason[:kept])
        excess = len(_dump(_component(component))) + 1 - room
    return component


def _component(component: ComponentHealth) -> dict[str, Json]:
    details = None
    if component.status_codes or component.status_reason:
        details = {"statusCodes": list(component.status_codes), "statusReason": component.status_reason}
    return {
        "componentName": component.name,
        "version": component.version,
        "fleetConfigArns": list(component.fleet_config_arns),
        "isRoot": component.is_root,
        "status": component.status,
        "componentStatusDetails": details,
    }


def _deployment(deployment: DeploymentInformation) -> dict[str, Json]:
    return {
        "status": deployment.status,
        "statusDetails": {
            "detailedStatus": deployment.detailed_status,
            "failureCause": deployment.failure_cause,
            "errorStack": list(deployment.error_stack),
            "errorTypes": list(deployment.error_types),
        },
        "fleetConfigurationArnForStatus": deployment.fleet_configuration_arn,
        "deploymentId": deployment.deployment_id,
        "unchangedRootComponents": list(deployment.unchanged_root_components),
    }


def _dump(value: Json) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def read(message: bytes | str | Mapping[str, Json]) -> HealthReport:
    """A status message from either of AWS's nuclei or from ours.

    Raises:
        NetworkError: not a JSON object, or a member is missing or of the wrong type.
    """
    document = message if isinstance(message, Mapping) else _load(message)
    chunk = _mapping(document, "chunkInfo")
    trigger = _choice(Trigger, document, "trigger")
    return HealthReport(
        thing=_text(document, "thing"),
        ggc_version=_text(document, "ggcVersion"),
        platform=_text(document, "platform"),
        architecture=_text(document, "architecture"),
        runtime=_optional_text(document, "runtime"),
        overall=_choice(DeviceHealth, document, "overallDeviceStatus"),
        sequence_number=_count(document, "sequenceNumber"),
        timestamp_ms=_whole(document, "timestamp"),
        message_type=_choice(MessageType, document, "messageType", trigger.message_type),
        trigger=trigger,
        chunk_id=_whole(chunk, "chunkId") if chunk else None,
        total_chunks=_whole(chunk, "totalChunks") if chunk else None,
        components=tuple(_read_component(item) for item in _sequence(document, "components")),
        deployment=_read_deployment(_mapping(document, "deploymentInformation")),
    )


def _read_component(item: Json) -> ComponentHealth:
    if not isinstance(item, Mapping):
        raise NetworkError("a fleet status message has a component that is not an object")
    details = _mapping(item, "componentStatusDetails")
    return ComponentHealth(
        name=_text(item, "componentName"),
        version=_text(item, "version"),
        status=_component_status(item),
        is_root=item.get("isRoot") is True,
        fleet_config_arns=_texts(item, "fleetConfigArns"),
        status_codes=_texts(details, "statusCodes"),
        status_reason=_optional_text(details, "statusReason") or "",
    )


def _component_status(item: Mapping[str, Json]) -> str:
    status = _text(item, "status")
    if status not in _STATUSES:
        raise _wrong("status", status)
    return status


def _read_deployment(information: Mapping[str, Json]) -> DeploymentInformation | None:
    if not information:
        return None
    details = _mapping(information, "statusDetails")
    return DeploymentInformation(
        deployment_id=_text(information, "deploymentId"),
        status=_text(information, "status"),
        detailed_status=_optional_text(details, "detailedStatus"),
        failure_cause=_optional_text(details, "failureCause"),
        error_stack=_texts(details, "errorStack"),
        error_types=_texts(details, "errorTypes"),
        fleet_configuration_arn=_optional_text(information, "fleetConfigurationArnForStatus"),
        unchanged_root_components=_texts(information, "unchangedRootComponents"),
    )


def _load(message: bytes | str) -> Mapping[str, Json]:
    try:
        document = read_json(message)
    except ValueError as error:
        raise NetworkError(f"a fleet status message is not JSON: {error}") from None
    if not isinstance(document, Mapping):
        raise NetworkError("a fleet status message is not a JSON object")
    return document


def _wrong(key: str, value: Json) -> NetworkError:
    return NetworkError(f"a fleet status message says {key} = {value!r}"[:300])


def _text(document: Mapping[str, Json], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise _wrong(key, value)
    return value


def _optional_text(document: Mapping[str, Json], key: str) -> str | None:
    return None if document.get(key) is None else _text(document, key)


def _whole(document: Mapping[str, Json], key: str) -> int:
    value = document.get(key)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(key, value)
    return value


def _count(document: Mapping[str, Json], key: str) -> int:
    value = _whole(document, key)
    if not 0 <= value <= MAX_SEQUENCE:
        raise _wrong(key, value)
    return value


def _choice(kind: type[Choice], document: Mapping[str, Json], key: str, default: Choice | None = None) -> Choice:
    if default is not None and document.get(key) is None:
        return default
    try:
        return kind(_text(document, key))
    except ValueError:
        raise _wrong(key, document.get(key)) from None


def _sequence(document: Mapping[str, Json], key: str) -> list[Json]:
    value = document.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise _wrong(key, value)
    return value


def _texts(document: Mapping[str, Json], key: str) -> tuple[str, ...]:
    items = _sequence(document, key)
    if not all(isinstance(item, str) for item in items):
        raise _wrong(key, items)
    return tuple(items)


def _mapping(document: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    value = document.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(key, value)
    return value
