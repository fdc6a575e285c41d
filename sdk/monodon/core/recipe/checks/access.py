"""Rules about accessControl: what the component may do over IPC."""

import re
from collections.abc import Iterator

from monodon.core.policy import MQTT_PROXY, PUBSUB, SERVICE_OF, SERVICES
from monodon.core.recipe.checks.rule import DEVICE, ERROR, HINT, LITE, WARNING, Found, rule
from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.nodes import Entries, Items, Scalar, child
from monodon.core.recipe.problems import closest

_FIELDS = ("operations", "resources", "policyDescription")


def _listed(policy: Entries, field: str, pointer: str) -> Iterator[tuple[Scalar, str]]:
    node = policy.get(field)
    if isinstance(node, Items):
        for index, item in enumerate(node.items):
            if isinstance(item, Scalar):
                yield item, child(child(pointer, field), index)


def _resources(subject: Subject) -> Iterator[tuple[Scalar, Scalar, str]]:
    for service, _, policy, pointer in subject.policies:
        for item, at in _listed(policy, "resources", pointer):
            yield service, item, at


@rule("R801", ERROR)
def no_map(subject: Subject) -> Iterator[Found]:
    """accessControl is not a map of services to policies.

    A device that cannot read it drops every policy of the component.
    """
    part = subject.access_control
    if part is None:
        return
    if not isinstance(part.node, Entries):
        if not (isinstance(part.node, Scalar) and part.node.text.lstrip().startswith("{")):
            yield Found(part.node, part.pointer, "accessControl must be a map of services", "service: {id: {…}}")
        return
    for service, policies in part.node.entries:
        entries = policies.entries if isinstance(policies, Entries) else [(service, policies)]
        for key, policy in entries:
            if not isinstance(policy, Entries):
                message = f"{key.text} must be a map: a device drops every policy of the component"
                yield Found(key, child(part.pointer, key.text), message, "id: {operations: […], resources: […]}")


@rule("R802", ERROR)
def unknown_service(subject: Subject) -> Iterator[Found]:
    """accessControl names a service that no device has: its policies allow nothing."""
    part = subject.access_control
    for service, _ in part.node.entries if part and isinstance(part.node, Entries) else ():
        if service.text not in SERVICES:
            close = closest(service.text, list(SERVICES), cutoff=0.6)
            right = close
            hint = f"did you mean {right}?" if right else f"services are {', '.join(SERVICES)}"
            assert part is not None
            message = f"{service.text} is no IPC service"
            yield Found(
                service, child(part.pointer, service.text), message, hint, service.text if right else None, right
            )


@rule("R803", ERROR)
def unknown_operation(subject: Subject) -> Iterator[Found]:
    """A policy names an operation that its service does not have.

    Operations are compared letter by letter, with their prefix: ``aws.greengrass#PublishToTopic``.
    """
    for service, _, policy, pointer in subject.policies:
        known = SERVICES.get(service.text)
        for item, at in _listed(policy, "operations", pointer) if known else ():
            assert known is not None
            if item.text == "*" or item.text in known:
                continue
            right = f"aws.greengrass#{item.text.rpartition('#')[2]}"
            close = right if right in known else closest(item.text, known, cutoff=0.6)
            if item.text in SERVICE_OF:
                hint: str | None = f"it belongs to {SERVICE_OF[item.text]}"
            else:
                hint = f"did you mean {close}?" if close else f"{service.text} has {', '.join(known)}"
            exact = right if right in known else None
            yield Found(
                item, at, f"{service.text} has no operation {item.text}", hint, item.text if exact else None, exact
            )


@rule("R804", ERROR)
def policy_that_allows_nothing(subject: Subject) -> Iterator[Found]:
    """A policy has no operations, or no resources: it allows nothing."""
    for _, name, policy, pointer in subject.policies:
        for field in ("operations", "resources"):
            node = policy.get(field)
            if not isinstance(node, Items):
                what = "is missing" if node is None else "must be a list"
                yield Found(name, pointer, f"{field} of {name.text} {what}: it allows nothing", f"{field}: ['…']")
            elif not node.items:
                yield Found(name, pointer, f"{field} of {name.text} are empty: it allows nothing", f"{field}: ['…']")


@rule("R805", ERROR)
def question_mark(subject: Subject) -> Iterator[Found]:
    """A resource has a bare question mark.

    There is no wildcard for one character. The device drops the resource, nucleus lite fails the deployment.
    ``${?}`` is the character itself.
    """
    for _, item, pointer in _resources(subject):
        if "?" in item.text.replace("${?}", ""):
            right = item.text.replace("${?}", "\0").replace("?", "${?}").replace("\0", "${?}")
            yield Found(
                item, pointer, f"{item.text}: '?' makes the resource invalid", f"write {right}", item.text, right
            )


@rule("R806", ERROR)
def unknown_escape(subject: Subject) -> Iterator[Found]:
    """A resource has an escape other than ``${*}``, ``${?}`` and ``${$}``: a device drops it."""
    for _, item, pointer in _resources(subject):
        found = re.search(r"\$\{(?![*?$]\})[^}]*\}?", item.text)
        if found:
            message = f"{item.text}: {found[0]} makes the resource invalid"
            yield Found(item, pointer, message, "escapes are ${*}, ${?} and ${$}", found[0])


@rule("R807", WARNING)
def mqtt_wildcard_for_a_local_topic(subject: Subject) -> Iterator[Found]:
    """A local topic has ``+`` or ``#``, which are plain characters there.

    In policies of local publish and subscribe only ``*`` stands for something else; those of AWS IoT Core know
    ``+`` and ``#``. A component that subscribes to ``a/#`` does need the text ``a/#``.
    """
    for service, _, policy, pointer in subject.policies:
        operations = [item.text for item, _ in _listed(policy, "operations", pointer)]
        if service.text != PUBSUB or any("Subscribe" in name or name == "*" for name in operations):
            continue
        for item, at in _listed(policy, "resources", pointer):
            if re.search(r"(?:^|/)[+#](?:/|$)", item.text):
                right = re.sub(r"(^|/)[+#](?=/|$)", r"\1*", item.text)
                message = f"{item.text}: '+' and '#' are plain characters in a local topic"
                yield Found(item, at, message, f"write {right}", item.text)


@rule("R808", WARNING, DEVICE, LITE)
def thing_name_in_a_grant(subject: Subject) -> Iterator[Found]:
    """A resource has ``{iot:thingName}``, which most devices do not fill in.

    Only with ``interpolateComponentConfiguration: true`` on the nucleus, which is not the default; without it the
    resource matches nothing.
    """
    for service, item, pointer in _resources(subject):
        if "{iot:thingName}" in item.text:
            right = item.text.replace("{iot:thingName}", "+" if service.text == MQTT_PROXY else "*")
            message = f"{item.text}: a device does not fill it in, unless its nucleus is told to"
            yield Found(item, pointer, message, f"write {right}", item.text)


@rule("R809", HINT)
def everything_is_allowed(subject: Subject) -> Iterator[Found]:
    """A policy allows every resource.

    ``monodon recipe grants`` prints what the code needs.
    """
    for service, name, policy, pointer in subject.policies:
        wildcards = ("*", "#") if service.text == MQTT_PROXY else ("*",)
        everything = any(item.text in wildcards for item, _ in _listed(policy, "resources", pointer))
        if everything and service.text in (PUBSUB, MQTT_PROXY):
            yield Found(name, pointer, f"{name.text} allows every topic", "name the topics that the component uses")


@rule("R810", WARNING)
def policy_of_another_component(subject: Subject) -> Iterator[Found]:
    """A policy's id is used by another component as well.

    Ids are to be unique on a device, or one component's deployment changes the other's.
    """
    taken: dict[str, str] = {}
    for name, recipes in subject.neighbours.items():
        for recipe in recipes:
            control = recipe.configuration.get("accessControl")
            for policies in control.values() if isinstance(control, dict) and name != subject.name else ():
                taken.update(dict.fromkeys(policies, name) if isinstance(policies, dict) else {})
    for _, name_node, _, pointer in subject.policies:
        owner = taken.get(name_node.text)
        if owner:
            hint = f"write {subject.name}:{name_node.text.rpartition(':')[2]}"
            yield Found(name_node, pointer, f"the policy id {name_node.text} is {owner}'s as well", hint)


@rule("R811", WARNING)
def unknown_field_of_a_policy(subject: Subject) -> Iterator[Found]:
    """A policy has a key that policies have not: a device drops every policy of the component."""
    for _, _, policy, pointer in subject.policies:
        for key, _ in policy.entries:
            if key.text.lower() not in [field.lower() for field in _FIELDS]:
                close = closest(key.text, _FIELDS, cutoff=0.5)
                hint = f"did you mean {close}?" if close else f"known are {', '.join(_FIELDS)}"
                message = f"{key.text!r} is no field of a policy: a device drops every policy of the component"
                yield Found(key, child(pointer, key.text), message, hint)
