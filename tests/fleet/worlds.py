"""What AWS might say, made up for tests of pure rules."""

from collections.abc import Mapping
from typing import Any

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.recipe.model import Artifact, Dependency, Manifest, Recipe
from monodon.core.semver import Requirement, Version
from monodon.fleet.content import Content
from monodon.fleet.desired import Desired
from monodon.fleet.known import Device, Live, Published, PublishedVersion
from monodon.fleet.planned import Plan
from monodon.fleet.planning import plan
from monodon.fleet.reading import parse_desired

GROUP = "arn:aws:iot:eu-west-1:123456789012:thinggroup/drones"
NOW_S = 1_800_000_000.0
DEFAULT_POLICIES = {
    "failureHandlingPolicy": "ROLLBACK",
    "componentUpdatePolicy": {"timeoutInSeconds": 60, "action": "NOTIFY_COMPONENTS"},
    "configurationValidationPolicy": {"timeoutInSeconds": 30},
}


def recipe(
    name: str,
    version: str,
    defaults: Mapping[str, Json] | None = None,
    *,
    platform: Mapping[str, str] | None = None,
    needs: Mapping[str, str] | None = None,
    artifacts: tuple[str, ...] = (),
) -> Recipe:
    manifest = Manifest(platform=platform or {}, artifacts=tuple(Artifact(uri=uri) for uri in artifacts))
    return Recipe(
        name=ComponentName(name),
        version=Version.parse(version),
        configuration=defaults or {},
        manifests=(manifest,),
        dependencies={
            ComponentName(one): Dependency(requirement=Requirement.parse(text)) for one, text in (needs or {}).items()
        },
    )


def published(chosen: Recipe, live: Recipe | None = None, **members: Any) -> Published:
    return Published(chosen=version(chosen, **members), live=version(live) if live is not None else None)


def version(of: Recipe, **members: Any) -> PublishedVersion:
    return PublishedVersion(version=of.version, arn=f"arn:of:{of.name}", recipe=of, **members)


def deployment(request: Mapping[str, Any], **members: Any) -> dict[str, Any]:
    """GetDeployment's answer to a request: AWS fills in the policies."""
    policies = request.get("deploymentPolicies") or {}
    filled = {
        key: {**default, **policies.get(key, {})} if isinstance(default, dict) else policies.get(key, default)
        for key, default in DEFAULT_POLICIES.items()
    }
    return {
        "deploymentId": "11111111-1111-1111-1111-111111111111",
        "revisionId": "3",
        "deploymentStatus": "ACTIVE",
        "isLatestForTarget": True,
        "iotJobId": "job",
        **request,
        "deploymentPolicies": filled,
        **members,
    }


def live_of(content: Content, components: Mapping[str, Published], **members: Any) -> Live:
    return live(deployment(content.request()), components, **members)


def live(answer: Mapping[str, Any] | None, components: Mapping[str, Published], **members: Any) -> Live:
    members.setdefault("members", ("drone-1",))
    members.setdefault("devices", {"drone-1": device("drone-1")})
    return Live(target_arn=GROUP, deployment=answer, components=components, **members)


def device(thing: str, **members: Any) -> Device:
    defaults = {"status": "HEALTHY", "reported_s": NOW_S - 60, "platform": "linux", "architecture": "amd64"}
    return Device(thing=thing, **(defaults | members))


def planned(text: str | Desired, world: Live, **options: Any) -> Plan:
    """Plan what a fleet file says; ``target`` may be left out of it."""
    if isinstance(text, Desired):
        return plan(text, world, now_s=NOW_S, **options)
    whole = text if text.startswith("target") else f"target: thinggroup/drones\n{text}"
    return plan(parse_desired(whole, file="fleet.yaml"), world, now_s=NOW_S, **options)


def codes(made: Plan) -> list[str]:
    return [finding.code for finding in made.findings]


def told(made: Plan) -> list[tuple[str, str | None, str, str, Json, Json]]:
    """The differences, short."""
    return [(str(one.kind), one.component, one.what, one.pointer, one.old, one.new) for one in made.differences]
