"""What a recipe grants against what the component's code uses."""

from collections.abc import Iterator, Mapping

from monodon.authoring.grants import PREFIX, Needs
from monodon.core.json import Json
from monodon.core.policy import MQTT_PROXY, PUBSUB, SERVICE_OF, SERVICES, AccessControl
from monodon.core.recipe.problems import Problem, Severity
from monodon.errors import ConfigurationError


def compare(granted: Json, needs: Needs) -> Iterator[Problem]:
    """Yield where a recipe's accessControl and the code's needs differ; where the code is in doubt, only what lacks."""
    try:
        control = AccessControl.read(granted or {})
    except ConfigurationError:
        return  # the recipe's own check says so
    for operation, resources in needs.resources.items():
        name = f"{PREFIX}{operation}"
        for resource in resources:
            if not control.allows(SERVICE_OF[name], name, _example(resource, SERVICE_OF[name])):
                yield Problem(
                    code="R820",
                    severity=Severity.ERROR,
                    message=f"the code uses {operation} on {resource}, and accessControl does not allow it",
                    hint="monodon recipe grants prints what it needs",
                )
    if not needs.doubts:
        yield from _unused(granted, needs)


def _example(resource: str, service: str) -> str:
    """Return a topic that stands for a pattern."""
    text = resource.replace("*", "x")
    if service == MQTT_PROXY:
        text = "/".join("x" if level == "+" else level for level in text.split("/"))
    return text


def _unused(granted: Json, needs: Needs) -> Iterator[Problem]:
    for service, policies in granted.items() if isinstance(granted, Mapping) else ():
        if service not in (PUBSUB, MQTT_PROXY) or not isinstance(policies, Mapping):
            continue
        for name, policy in policies.items():
            if not isinstance(policy, Mapping):
                continue
            for message in _too_wide(service, policy, needs):
                yield Problem(
                    code="R821",
                    severity=Severity.WARNING,
                    message=f"{name} allows {message}",
                    hint="monodon recipe grants prints the least",
                )


def _too_wide(service: str, policy: Mapping[str, Json], needs: Needs) -> Iterator[str]:
    """Yield what a policy allows beyond the code's use: operations that it does not call, and every resource."""
    called = {name: needs.resources[name] for name in needs.resources if SERVICE_OF[f"{PREFIX}{name}"] == service}
    for operation in _texts_of(policy, "operations"):
        name = operation.removeprefix(PREFIX)
        if operation != "*" and name not in called:
            yield f"{name}, which the code does not use"
        elif operation == "*" and any(other.removeprefix(PREFIX) not in called for other in SERVICES[service]):
            yield f"'*', and the code uses {', '.join(called) or 'nothing of it'}"
    used = dict.fromkeys(resource for resources in called.values() for resource in resources)
    for resource in _texts_of(policy, "resources"):
        is_everything = resource == "*" or (resource == "#" and service == MQTT_PROXY)
        if is_everything and resource not in used:
            yield f"{resource!r}, and the code uses {', '.join(used) or 'nothing of it'}"


def _texts_of(policy: Mapping[str, Json], field: str) -> list[str]:
    values = policy.get(field)
    return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []
