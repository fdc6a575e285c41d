"""What a device runs, and the steps that lead from one set of components to another.

``plan`` is a pure difference: carried out, its steps turn ``current`` into ``target``. Rolling back is
``plan(now, before)``, and going on after a crash is planning again from where the device truly is.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TypeAlias

from monodon.core.configuration import EMPTY, Configuration
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.origins import Origin, Origins
from monodon.core.recipe.model import DependencyType
from monodon.core.semver import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class RunWith:
    """As whom, and within which limits, a component runs; None is the nucleus's own default.

    ``posix_user`` is ``user`` or ``user:group``, ``windows_user`` is for devices with Windows alone, ``memory_kb`` in
    KiB, ``cpus`` a fraction such as 0.5, ``pids`` how many processes and threads there may be at once (Monodon's own;
    AWS's device has no such limit).
    """

    posix_user: str | None = None
    memory_kb: int | None = None
    cpus: float | None = None
    pids: int | None = None
    windows_user: str | None = None

    @property
    def limits(self) -> tuple[int | None, float | None, int | None]:
        """What is limited: memory in KiB, share of CPUs, processes; None is no limit."""
        return self.memory_kb, self.cpus, self.pids

    def or_limits(self, default: "RunWith") -> "RunWith":
        """Return this with the limits that it leaves open taken from ``default``."""
        if default.limits == (None, None, None):
            return self
        return replace(
            self,
            memory_kb=default.memory_kb if self.memory_kb is None else self.memory_kb,
            cpus=default.cpus if self.cpus is None else self.cpus,
            pids=default.pids if self.pids is None else self.pids,
        )

    def to_record(self) -> dict[str, Json]:
        """The JSON object that ``from_record`` reads."""
        return {"posix_user": self.posix_user, "memory_kb": self.memory_kb, "cpus": self.cpus, "pids": self.pids}

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "RunWith":
        """Read what ``to_record`` wrote."""
        return cls(
            posix_user=record["posix_user"],
            memory_kb=record["memory_kb"],
            cpus=record["cpus"],
            pids=record.get("pids"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One component as a device runs it.

    ``lifecycle`` is the part of the recipe selected for this platform, with its variables replaced.
    ``arn`` is that of the component version, or None for a local component. ``origins`` explains the configuration,
    and makes no difference.
    """

    name: ComponentName
    version: Version
    previous_version: Version | None = None
    dependencies: Mapping[ComponentName, DependencyType] = field(default_factory=dict)
    lifecycle: Mapping[str, Json] = field(default_factory=dict)
    run_with: RunWith = RunWith()
    configuration: Configuration = EMPTY
    is_root: bool = False
    arn: str | None = None
    origins: Origins = field(default_factory=dict, compare=False)

    def to_record(self) -> dict[str, Json]:
        """The JSON object that ``from_record`` reads: the journal's form."""
        return {
            "name": str(self.name),
            "version": str(self.version),
            "previous_version": None if self.previous_version is None else str(self.previous_version),
            "dependencies": {str(name): str(kind) for name, kind in self.dependencies.items()},
            "lifecycle": dict(self.lifecycle),
            "run_with": self.run_with.to_record(),
            "configuration": self.configuration.to_record(),
            "is_root": self.is_root,
            "arn": self.arn,
            "origins": {key: origin.to_record() for key, origin in self.origins.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Installed":
        """Read what ``to_record`` wrote."""
        previous = record["previous_version"]
        return cls(
            name=ComponentName.parse(record["name"]),
            version=Version.parse(record["version"]),
            previous_version=None if previous is None else Version.parse(previous),
            dependencies={
                ComponentName.parse(name): DependencyType(kind) for name, kind in record["dependencies"].items()
            },
            lifecycle=record["lifecycle"],
            run_with=RunWith.from_record(record["run_with"]),
            configuration=Configuration.from_record(record["configuration"]),
            is_root=record["is_root"],
            arn=record["arn"],
            origins={key: Origin.from_record(origin) for key, origin in record.get("origins", {}).items()},
        )


#: Everything a device runs, or is to run.
Target: TypeAlias = Mapping[ComponentName, Installed]


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Learn the new definition; the running process goes on untouched."""

    name: ComponentName
    installed: Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Install:
    """Learn the definition of a new component, or stop one (by its old Shutdown) and install it again."""

    name: ComponentName
    installed: Installed
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """Learn the new definition and restart the process; Install does not run again."""

    name: ComponentName
    installed: Installed


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Ask a new component to run; its dependencies gate it."""

    name: ComponentName


@dataclass(frozen=True, slots=True, kw_only=True)
class Remove:
    """Stop a component that nobody wants any more, run its Uninstall, forget it."""

    name: ComponentName


Step: TypeAlias = Configure | Install | Restart | Start | Remove


class Change(StrEnum):
    """What a new definition does to a component that the device has already."""

    NOTHING = "nothing"
    CONFIGURE = "configure"
    RESTART = "restart"
    REINSTALL = "reinstall"


def plan(current: Target, target: Target, broken: Collection[ComponentName] = ()) -> tuple[Step, ...]:
    """Return the steps that turn ``current`` into ``target``, in the order to carry them out.

    First every definition, dependencies before dependers; then the starts of new components in the same order;
    then the removals, dependers first. Whoever carries them out waits for all to settle before the removals.
    Components of ``broken`` that stay are installed again, changed or not.

    Source: Greengrass nucleus, ``GenericExternalService.java`` (reactions to its configuration),
    ``DeploymentConfigMerger.java`` (broken components, removal last); rules D4, X5 and section 3.6 of our notes.
    """
    order = dependency_order(target)
    definitions: list[Step] = []
    for name in order:
        installed = target[name]
        before = current.get(name)
        if before is None:
            definitions.append(Install(name=name, installed=installed, is_new=True))
            continue
        change = compare(before, installed, known=current.keys(), is_broken=name in broken)
        if change is Change.REINSTALL:
            definitions.append(Install(name=name, installed=installed, is_new=False))
        elif change is Change.RESTART:
            definitions.append(Restart(name=name, installed=installed))
        elif change is Change.CONFIGURE:
            definitions.append(Configure(name=name, installed=installed))
    starts = [Start(name=name) for name in order if name not in current]
    removals = [Remove(name=name) for name in reversed(dependency_order(current)) if name not in target]
    return (*definitions, *starts, *removals)


def compare(
    before: Installed, after: Installed, *, known: Collection[ComponentName] = (), is_broken: bool = False
) -> Change:
    """Return what becoming ``after`` asks of a component that runs as ``before``.

    A version, an Install step or a user that changes means installing again; any other part of the lifecycle
    but Shutdown, or a new hard dependency that is not among ``known``, a restart. Limits, the Shutdown text,
    configuration and bookkeeping touch no process. A broken component is always installed again.
    """
    old, new = _comparable(before.lifecycle), _comparable(after.lifecycle)
    if (
        is_broken
        or before.version != after.version
        or str(before.version) != str(after.version)
        or before.run_with.posix_user != after.run_with.posix_user
        or old.get("install") != new.get("install")
    ):
        return Change.REINSTALL
    if _without_shutdown(old) != _without_shutdown(new) or _awaited(before, after, known):
        return Change.RESTART
    return Change.NOTHING if before == after else Change.CONFIGURE


def dependency_order(components: Target) -> tuple[ComponentName, ...]:
    """Return all names, each after its dependencies; those of a cycle come last. The same set gives the same order.

    Source: Greengrass nucleus, ``util/DependencyOrder.java``.
    """
    pending = sorted(components)
    taken: dict[ComponentName, None] = {}
    while ready := [
        name
        for name in pending
        if all(other in taken or other not in components or other == name for other in components[name].dependencies)
    ]:
        taken.update(dict.fromkeys(ready))
        pending = [name for name in pending if name not in taken]
    return (*taken, *pending)


def dependers(components: Target, names: Iterable[ComponentName]) -> frozenset[ComponentName]:
    """Return the components that need one of ``names`` to run, by hard dependencies, directly or not."""
    reached = set(names)
    found: set[ComponentName] = set()
    while more := {
        name
        for name, installed in components.items()
        if name not in reached
        and any(kind is DependencyType.HARD and other in reached for other, kind in installed.dependencies.items())
    }:
        found |= more
        reached |= more
    return frozenset(found)


def _awaited(before: Installed, after: Installed, known: Collection[ComponentName]) -> bool:
    """Whether ``after`` depends hard on something that the device does not run yet."""
    return any(
        kind is DependencyType.HARD and before.dependencies.get(name) is not DependencyType.HARD and name not in known
        for name, kind in after.dependencies.items()
    )


def _comparable(lifecycle: Mapping[str, Json]) -> dict[str, Json]:
    """The lifecycle with the keys that the device compares without case in lower case; environment names stay."""
    return {
        step.lower(): _comparable_step(value) if step.lower() != "setenv" else value
        for step, value in lifecycle.items()
    }


def _comparable_step(step: Json) -> Json:
    return {key.lower(): value for key, value in step.items()} if isinstance(step, Mapping) else step


def _without_shutdown(lifecycle: Mapping[str, Json]) -> dict[str, Json]:
    return {step: value for step, value in lifecycle.items() if step != "shutdown"}
