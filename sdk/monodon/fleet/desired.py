"""The desired state of a fleet, as YAML: what a target shall run.

::

    target: thinggroup/drones           # or thing/drone-1, or a whole ARN
    name: drones watch for whales       # optional
    components:
      monodon.CameraClassifier:
        version: 1.0.0
        merge: {labels: [narwhal]}      # configuration, plain YAML; optional
        reset: [/threshold]             # optional
    onFailure: ROLLBACK                 # or DO_NOTHING
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.semver import Version
from monodon.errors import FleetError, MonodonError

_KEYS = frozenset({"target", "name", "components", "onFailure"})
_COMPONENT_KEYS = frozenset({"version", "merge", "reset"})


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredComponent:
    """One component of a fleet: its exact version, and how its configuration changes."""

    version: Version
    merge: Mapping[str, Json] | None = None
    reset: tuple[str, ...] = ()

    def request(self) -> dict[str, Any]:
        """Return the component as CreateDeployment takes it."""
        update: dict[str, Any] = {}
        if self.merge is not None:
            update["merge"] = json.dumps(self.merge)
        if self.reset:
            update["reset"] = list(self.reset)
        return {"componentVersion": str(self.version), **({"configurationUpdate": update} if update else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a target shall run; components that it does not name are removed from the target."""

    target: str
    components: Mapping[ComponentName, DesiredComponent]
    name: str | None = None
    on_failure: str = "ROLLBACK"
    update_policy: Mapping[str, Json] = field(default_factory=dict)

    def request(self, target_arn: str) -> dict[str, Any]:
        """Return the arguments of CreateDeployment."""
        policies: dict[str, Any] = {"failureHandlingPolicy": self.on_failure}
        if self.update_policy:
            policies["componentUpdatePolicy"] = dict(self.update_policy)
        request: dict[str, Any] = {
            "targetArn": target_arn,
            "components": {str(name): component.request() for name, component in self.components.items()},
            "deploymentPolicies": policies,
        }
        return request | ({"deploymentName": self.name} if self.name else {})


def read_desired(path: Path) -> Desired:
    """Read a fleet file.

    Raises:
        FleetError: it cannot be read, or a key is unknown, missing or of a wrong type.
    """
    try:
        # Versions and the like are text: 1.10 must not become the number 1.1.
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise FleetError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise FleetError(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise FleetError(f"{path}: a fleet file is a mapping with target and components")
    _refuse_unknown(path, "", document, _KEYS)
    components = document.get("components")
    if not isinstance(components, dict) or not isinstance(document.get("target"), str):
        raise FleetError(f"{path}: target (text) and components (a mapping) are needed")
    if not isinstance(document.get("name", ""), str):
        raise FleetError(f"{path}: name is not text", hint="put it in quotes")
    on_failure = str(document.get("onFailure", "ROLLBACK"))
    if on_failure not in ("ROLLBACK", "DO_NOTHING"):
        raise FleetError(f"{path}: onFailure is {on_failure}, not ROLLBACK or DO_NOTHING")
    return Desired(
        target=document["target"],
        name=document.get("name"),
        components={_name(path, name): _component(path, name, entry) for name, entry in components.items()},
        on_failure=on_failure,
    )


def _name(path: Path, name: object) -> ComponentName:
    try:
        return ComponentName.parse(str(name))
    except MonodonError as error:
        raise FleetError(f"{path}: {error.message}", hint=error.hint) from error


def _component(path: Path, name: str, entry: object) -> DesiredComponent:
    where = f"components.{name}"
    if not isinstance(entry, dict) or not isinstance(entry.get("version"), str):
        raise FleetError(f"{path}: {where}.version is missing, or not text such as 1.0.0")
    _refuse_unknown(path, f"{where}.", entry, _COMPONENT_KEYS)
    merge, reset = entry.get("merge"), entry.get("reset", [])
    if merge is not None and not isinstance(merge, dict):
        raise FleetError(f"{path}: {where}.merge is not a mapping")
    try:
        json.dumps(merge, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise FleetError(
            f"{path}: {where}.merge is not JSON: {error}", hint="dates are text there: put them in quotes"
        ) from error
    if not isinstance(reset, list) or not all(isinstance(one, str) for one in reset):
        raise FleetError(f"{path}: {where}.reset is not a list of JSON pointers")
    try:
        version = Version.parse(entry["version"])
    except MonodonError as error:
        raise FleetError(f"{path}: {where}.version: {error.message}", hint=error.hint) from error
    return DesiredComponent(version=version, merge=merge, reset=tuple(reset))


def _refuse_unknown(path: Path, where: str, document: Mapping[Any, Any], known: frozenset[str]) -> None:
    if unknown := sorted(str(key) for key in document if key not in known):
        raise FleetError(f"{path}: unknown key {where}{unknown[0]}", hint=f"known are {', '.join(sorted(known))}")
