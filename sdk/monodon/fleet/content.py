"""What a deployment says, apart from its id: read from AWS's answer, written as its request, laid over another."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from monodon.core.json import Json, is_deeper, read_json
from monodon.errors import FleetError
from monodon.fleet.desired import Desired, DesiredComponent

_MAX_DEPTH = 100
_POLICIES = ("failureHandlingPolicy", "componentUpdatePolicy", "configurationValidationPolicy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One component of a deployment. An empty merge or runWith is none."""

    version: str
    merge: Mapping[str, Json] = field(default_factory=dict)
    reset: tuple[str, ...] = ()
    run_with: Mapping[str, Json] = field(default_factory=dict)

    def request(self) -> dict[str, Any]:
        """Return the component as CreateDeployment takes it."""
        update: dict[str, Any] = {}
        if self.merge:
            update["merge"] = json.dumps(self.merge, ensure_ascii=False, separators=(",", ":"))
        if self.reset:
            update["reset"] = list(self.reset)
        request: dict[str, Any] = {"componentVersion": self.version}
        if update:
            request["configurationUpdate"] = update
        if self.run_with:
            request["runWith"] = dict(self.run_with)
        return request


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """All that a revision of a target says. ``policies`` and ``job`` are spelled as AWS does."""

    target_arn: str
    name: str = ""
    components: Mapping[str, Part] = field(default_factory=dict)
    policies: Mapping[str, Json] = field(default_factory=dict)
    job: Mapping[str, Json] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_arn: str = ""

    def request(self) -> dict[str, Any]:
        """Return the arguments of CreateDeployment, without a client token."""
        request: dict[str, Any] = {
            "targetArn": self.target_arn,
            "components": {name: self.components[name].request() for name in sorted(self.components)},
        }
        optional: dict[str, Any] = {
            "deploymentName": self.name,
            "deploymentPolicies": dict(self.policies),
            "iotJobConfiguration": dict(self.job),
            "tags": dict(self.tags),
            "parentTargetArn": self.parent_arn,
        }
        return request | {key: value for key, value in optional.items() if value}


def content_of(deployment: Mapping[str, Any]) -> Content:
    """Read what GetDeployment answers, or what CreateDeployment takes.

    Raises:
        FleetError: a merge in it is not a JSON object.
    """
    tags = deployment.get("tags") or {}
    return Content(
        target_arn=deployment["targetArn"],
        name=deployment.get("deploymentName") or "",
        components={name: _part(name, entry) for name, entry in (deployment.get("components") or {}).items()},
        policies={
            key: value
            for key, value in (deployment.get("deploymentPolicies") or {}).items()
            if key in _POLICIES and value
        },
        job={key: value for key, value in (deployment.get("iotJobConfiguration") or {}).items() if value},
        tags={
            key: value for key, value in tags.items() if not key.startswith("aws:")
        },  # AWS's own; nobody may set them
        parent_arn=deployment.get("parentTargetArn") or "",
    )


def _part(name: str, entry: Mapping[str, Any]) -> Part:
    update = entry.get("configurationUpdate") or {}
    merge = update.get("merge")
    try:
        merged = read_json(merge) if merge else {}
    except ValueError as error:
        raise FleetError(f"the merge of {name} is not JSON: {error}") from error
    if not isinstance(merged, dict) or is_deeper(merged, _MAX_DEPTH):
        raise FleetError(f"the merge of {name} is not a JSON object of at most {_MAX_DEPTH} levels")
    return Part(
        version=entry["componentVersion"],
        merge=merged,
        reset=tuple(update.get("reset") or ()),
        run_with=_over({}, entry.get("runWith") or {}),
    )


def same(one: Json, other: Json) -> bool:
    """Tell whether two values are the same JSON: ``1`` is neither ``true`` nor ``1.0``."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def is_same(one: Content, other: Content) -> bool:
    """Tell whether two deployments say the same, in whatever order."""
    return same(one.request() | {"components": _plain(one)}, other.request() | {"components": _plain(other)})


def _plain(content: Content) -> dict[str, Json]:
    return {
        name: [part.version, dict(part.merge), list(part.reset), dict(part.run_with)]
        for name, part in content.components.items()
    }


def carried(
    desired: Desired, live: Content | None, *, target_arn: str, versions: Mapping[str, str], parent_arn: str
) -> Content:
    """Return what the next revision says: what is desired, and for everything it does not name, what is live.

    Args:
        versions: component → the exact version that was chosen.
        parent_arn: of the desired parent target, "" if none is named.
    """
    before = live or Content(target_arn=target_arn)
    return Content(
        target_arn=target_arn,
        name=before.name if desired.name is None else desired.name,
        components=dict(_carried_components(desired, before.components, versions)),
        policies=_policies(desired, before.policies),
        job=_over(before.job, desired.job),
        tags=before.tags if desired.tags is None else desired.tags,
        parent_arn=before.parent_arn if desired.parent_target is None else parent_arn,
    )


def _carried_components(
    desired: Desired, live: Mapping[str, Part], versions: Mapping[str, str]
) -> Iterator[tuple[str, Part]]:
    for name, one in desired.components.items():
        before = live.get(str(name))
        version = versions.get(str(name)) or (before.version if before is not None else None)
        if version is not None:  # else there is no such version, which is told elsewhere
            yield str(name), _carried_part(one, before, version)


def _carried_part(desired: DesiredComponent, live: Part | None, version: str) -> Part:
    before = live or Part(version=version)
    merge = before.merge
    if desired.reset is not None:
        merge = without(merge, desired.reset)
    if desired.merge is not None:
        merge = laid_over(merge, desired.merge)
    return replace(
        before,
        version=version,
        merge=merge,
        reset=before.reset if desired.reset is None else desired.reset,
        run_with=_over(before.run_with, desired.run_with),
    )


def _policies(desired: Desired, before: Mapping[str, Json]) -> dict[str, Json]:
    policies = dict(before)
    if desired.on_failure is not None:
        policies["failureHandlingPolicy"] = desired.on_failure
    if desired.update_policy is not None:
        policies["componentUpdatePolicy"] = _over(before.get("componentUpdatePolicy") or {}, desired.update_policy)
    if desired.validation_timeout_s is not None:
        policies["configurationValidationPolicy"] = {"timeoutInSeconds": desired.validation_timeout_s}
    return {key: value for key, value in policies.items() if value}


def _over(before: Mapping[str, Json], named: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """Replace the named keys; an empty or null value drops its key, and no key at all drops everything."""
    if named is None:
        return before
    return {key: value for key, value in {**before, **named}.items() if value not in (None, {}, "")} if named else {}


def laid_over(below: Mapping[str, Json], above: Mapping[str, Json]) -> dict[str, Json]:
    """Merge two merges into one that does what both do, one after the other; keys match as a device matches them."""
    result = dict(below)
    spelled = {key.lower(): key for key in below}
    for key, value in above.items():
        known = key if key in result else spelled.get(key.lower(), key)
        before = result.get(known)
        result[known] = laid_over(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return result


def without(merge: Mapping[str, Json], pointers: Sequence[str]) -> dict[str, Json]:
    """Return a merge without what JSON pointers name, as far as a device would take them for a reset."""
    result = dict(merge)
    for pointer in pointers:
        segments = segments_of(pointer)
        if segments == ():
            return {}
        if segments is not None:
            result = _removed(result, segments)
    return result


def _removed(merge: Mapping[str, Json], path: tuple[str, ...]) -> dict[str, Json]:
    """Without what a path leads to, however its keys are spelled: a device takes keys without regard to case."""
    result = dict(merge)
    for key in [known for known in merge if known.lower() == path[0].lower()]:
        if len(path) == 1:
            del result[key]
        elif isinstance(result[key], dict):
            result[key] = _removed(result[key], path[1:])
    return result


def segments_of(pointer: str) -> tuple[str, ...] | None:
    """Return a JSON pointer's keys; None if a device refuses it: no pointer, or a key that could be an index."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        return None
    path = tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/"))
    return None if any(segment.isdecimal() for segment in path) else path


def pointer_of(path: Sequence[str]) -> str:
    """Return the JSON pointer of a path of keys."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)
