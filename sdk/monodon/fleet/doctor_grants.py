"""What components may do over IPC against what the thing may do in AWS IoT, and the statement that is missing. Pure.

A component that may ``PublishToIoTCore`` still fails if the IoT policy of its thing does not allow the topic: the
nucleus speaks to AWS IoT for it, as the thing. Where a grant has wildcards, the policy must allow each of three
topics that the grant allows, with nothing, one level and two levels in each wildcard's place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from monodon.core.iot_policy import Policy, allowed
from monodon.core.json import Json
from monodon.core.policy import MQTT_PROXY

THING = "${iot:Connection.Thing.ThingName}"
PUBLISH, SUBSCRIBE, RECEIVE = "iot:Publish", "iot:Subscribe", "iot:Receive"
_KINDS = {PUBLISH: "topic", SUBSCRIBE: "topicfilter", RECEIVE: "topic"}
_PREFIX = "aws.greengrass#"
#: What stands in a probe for a wildcard: letters that nobody writes into a policy, so only its own wildcards fit.
_FILLINGS = ("", "\ue000", "\ue000/\ue001")
_THING_VARIABLE = "{iot:thingName}"

#: What any core device needs. Source: AWS IoT Greengrass developer guide, "Minimal AWS IoT policy for core devices".
_DEVICE_NEEDS = (
    ("iot:Connect", "client/{thing}"),
    (PUBLISH, "topic/$aws/things/{thing}/greengrassv2/health/json"),
    (PUBLISH, "topic/$aws/things/{thing}/jobs/$next/namespace-aws-gg-deployment/get"),
    (RECEIVE, "topic/$aws/things/{thing}/jobs/notify-namespace-aws-gg-deployment"),
    (SUBSCRIBE, "topicfilter/$aws/things/{thing}/jobs/notify-namespace-aws-gg-deployment"),
    (SUBSCRIBE, "topicfilter/$aws/things/{thing}/jobs/$next/namespace-aws-gg-deployment/get/accepted"),
    (PUBLISH, "topic/$aws/things/{thing}/shadow/name/AWSManagedGreengrassV2Deployment/get"),
    (SUBSCRIBE, "topicfilter/$aws/things/{thing}/shadow/name/AWSManagedGreengrassV2Deployment/get/accepted"),
)
_DATA_PLANE = (
    "greengrass:ResolveComponentCandidates",
    "greengrass:GetComponentVersionArtifact",
    "greengrass:GetDeploymentConfiguration",
    "greengrass:ListThingGroupsForCoreDevice",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One action on one resource (an ARN of IoT without its prefix, wildcards as IoT writes them), and who needs it."""

    component: str
    action: str
    resource: str
    probes: tuple[str, ...]


def device_needs(thing: str, role_alias: str) -> tuple[Need, ...]:
    """Return what the nucleus itself needs, of jobs, shadows, health, the data plane and the role alias."""
    needs = [
        Need(
            component="the nucleus",
            action=action,
            resource=text.format(thing=THING),
            probes=(text.format(thing=thing),),
        )
        for action, text in _DEVICE_NEEDS
    ]
    needs += [Need(component="the nucleus", action=action, resource="*", probes=("",)) for action in _DATA_PLANE]
    alias = f"rolealias/{role_alias}"
    needs.append(Need(component="the nucleus", action="iot:AssumeRoleWithCertificate", resource=alias, probes=(alias,)))
    return tuple(needs)


def component_needs(component: str, configuration: Json, thing: str) -> tuple[Need, ...]:
    """Return what the mqttproxy grants of a component's configuration need; what is no grant is passed over."""
    control = _mapping(configuration).get("accessControl")
    needs: dict[Need, None] = {}
    for policy in _mapping(_mapping(control).get(MQTT_PROXY)).values():
        fields = {str(key).lower(): value for key, value in _mapping(policy).items()}
        operations = [one.removeprefix(_PREFIX) for one in _texts(fields.get("operations"))]
        for resource in _texts(fields.get("resources")):
            for action in _actions(operations):
                needs[_need(component, action, resource, thing)] = None
    return tuple(needs)


def unmet(
    needs: Iterable[Need], policies: Sequence[Policy], prefix: str, variables: Mapping[str, str]
) -> tuple[Need, ...]:
    """Return the needs that the policies do not allow altogether.

    Args:
        prefix: of the ARNs, ``arn:aws:iot:<region>:<account>:``.
        variables: what is known of the connection, as the policies call it.
    """
    return tuple(
        need
        for need in needs
        if not all(allowed(policies, need.action, prefix + probe if probe else "*", variables) for probe in need.probes)
    )


def statements(needs: Iterable[Need], prefix: str) -> tuple[dict[str, object], ...]:
    """Return the statements that would allow the needs, one for each set of actions, ready to paste."""
    actions: dict[str, set[str]] = {}
    for need in needs:
        resource = "*" if need.resource == "*" else prefix + need.resource
        actions.setdefault(resource, set()).add(need.action)
    together: dict[tuple[str, ...], list[str]] = {}
    for resource, names in actions.items():
        together.setdefault(tuple(sorted(names)), []).append(resource)
    return tuple(
        {"Effect": "Allow", "Action": list(names), "Resource": sorted(resources)}
        for names, resources in sorted(together.items())
    )


def _actions(operations: Sequence[str]) -> tuple[str, ...]:
    actions: tuple[str, ...] = ()
    if "PublishToIoTCore" in operations or "*" in operations:
        actions += (PUBLISH,)
    if "SubscribeToIoTCore" in operations or "*" in operations:
        actions += (SUBSCRIBE, RECEIVE)
    return actions


def _need(component: str, action: str, resource: str, thing: str) -> Need:
    pieces = _pieces(resource, is_filter=action == SUBSCRIBE)
    kind = _KINDS[action]
    # An IoT policy writes a literal wildcard as ${*}; the thing's name is a variable there.
    text = "".join("*" if piece is None else _literal(piece) for piece in pieces).replace(_THING_VARIABLE, THING)
    filled = (
        "".join(filling if piece is None else piece for piece in pieces).replace(_THING_VARIABLE, thing)
        for filling in _FILLINGS
    )
    probes = tuple(dict.fromkeys(f"{kind}/{probe}" for probe in filled))
    return Need(component=component, action=action, resource=f"{kind}/{text}", probes=probes)


def _pieces(resource: str, *, is_filter: bool) -> list[str | None]:
    """Split a grant's resource into its text and its wildcards (None); a filter keeps MQTT's own as text."""
    pieces: list[str | None] = []
    index = 0
    while index < len(resource):
        character = resource[index]
        if resource.startswith("${", index) and resource[index + 2 : index + 4] in ("*}", "$}", "?}"):
            pieces.append(resource[index + 2])
            index += 4
            continue
        is_level = resource[index - 1 : index] in ("", "/") and resource[index + 1 : index + 2] in ("", "/")
        is_wildcard = character == "*" or (not is_filter and character in "+#" and is_level)
        pieces.append(None if is_wildcard else character)
        index += 1
    return pieces


def _literal(character: str) -> str:
    return "${" + character + "}" if character in "*?" else character


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: Json) -> tuple[str, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(one for one in values if isinstance(one, str))
