"""The desired state of a fleet as values: what a target shall run. What a file leaves out stays as it is live.

``reading`` makes these of a file, ``planning`` compares them with what is live.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.semver import Requirement, Version

#: An exact version, or a range whose newest deployable version is meant.
Wanted: TypeAlias = Version | Requirement


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredComponent:
    """One component of a fleet. None is "not named": it stays as it is live.

    Args:
        version: exact, or a range; None keeps the live version.
        merge: laid over the live deployment's merge, key by key.
        reset: JSON pointers, instead of the live deployment's; what they name leaves its merge, too. ``()`` drops them.
        run_with: posixUser, windowsUser, systemResourceLimits as AWS spells them; ``{}`` drops it.
    """

    version: Wanted | None = None
    merge: Mapping[str, Json] | None = None
    reset: tuple[str, ...] | None = None
    run_with: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A part of a fleet that gets a deployment before the next part does.

    Args:
        targets: ``thinggroup/<name>``, ``thing/<name>`` or ARNs.
        bake_s: how long its gates must hold before the next ring begins, in seconds.
        gates: as the file has them.
    """

    name: str
    targets: tuple[str, ...]
    bake_s: float = 0.0
    gates: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What a target shall run: all its components; the rest only as far as it is named.

    None is "not named": it stays as it is live. An empty mapping drops what is live.

    Args:
        target: ``thinggroup/<name>``, ``thing/<name>`` or an ARN.
        on_failure: ROLLBACK or DO_NOTHING.
        update_policy: ``action`` and ``timeoutInSeconds``, each carried over if it is not there.
        validation_timeout_s: for components that check a new configuration.
        job: ``jobExecutionsRolloutConfig``, ``abortConfig``, ``timeoutConfig``, each carried over if it is not there.
        parent_target: the group whose subdeployment this is; ``""`` drops it.
    """

    target: str
    components: Mapping[ComponentName, DesiredComponent]
    name: str | None = None
    on_failure: str | None = None
    update_policy: Mapping[str, Json] | None = None
    validation_timeout_s: int | None = None
    job: Mapping[str, Json] | None = None
    tags: Mapping[str, str] | None = None
    parent_target: str | None = None
    rings: tuple[Ring, ...] = ()
