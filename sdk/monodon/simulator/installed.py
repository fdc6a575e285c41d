"""What a simulated device runs: the root components that each of its targets brought. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from monodon.core.provided import NUCLEUS, NUCLEUS_VERSION
from monodon.core.status import BROKEN, UNINSTALLED, ComponentHealth

RUNNING = "RUNNING"
FINISHED = "FINISHED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What one target (``thinggroup/<name>``, ``thing/<name>``) has brought: name to version."""

    arn: str | None
    roots: Mapping[str, str]
    timestamp_ms: int = 0


@dataclass(slots=True)
class Installed:
    """The components of a device. It has no recipes, so it knows roots alone, not what they depend on."""

    targets: dict[str, Target] = field(default_factory=dict)
    #: Broken components: error code and reason.
    broken: dict[str, tuple[str, str]] = field(default_factory=dict)

    def roots(self) -> dict[str, str]:
        """Every root: name to version."""
        return {name: version for target in self.targets.values() for name, version in target.roots.items()}

    def conflict(self, target: str, roots: Mapping[str, str]) -> str | None:
        """Why roots for a target cannot stand beside those of the others; None: they can."""
        for other, known in self.targets.items():
            for name, version in known.roots.items():
                if other != target and roots.get(name, version) != version:
                    return f"no version of {name} fits: {target} needs {roots[name]}, {other} needs {version}"
        return None

    def unchanged(self, target: str, roots: Mapping[str, str]) -> tuple[str, ...]:
        """Those of ``roots`` that the target has already, in that version."""
        before = self.targets.get(target)
        known = {} if before is None else before.roots
        return tuple(name for name, version in roots.items() if known.get(name) == version)

    def install(self, name: str, target: Target) -> tuple[ComponentHealth, ...]:
        """Run what a target asks for now; what is news: all of its roots, and what has gone."""
        before = self.roots()
        self.targets[name] = target
        after = self.roots()
        for gone in self.broken.keys() - after.keys():
            del self.broken[gone]
        for root in target.roots:
            self.broken.pop(root, None)
        removed = (
            ComponentHealth(name=each, version=version, status=UNINSTALLED, is_root=True)
            for each, version in before.items()
            if each not in after
        )
        return (*self._components(target.roots), *removed)

    def components(self) -> tuple[ComponentHealth, ...]:
        """Every component, the nucleus included."""
        nucleus = ComponentHealth(name=NUCLEUS, version=str(NUCLEUS_VERSION), status=FINISHED)
        return (nucleus, *self._components(self.roots()))

    def _components(self, names: Iterable[str]) -> Iterable[ComponentHealth]:
        versions = self.roots()
        for name in names:
            code, reason = self.broken.get(name, ("", ""))
            yield ComponentHealth(
                name=name,
                version=versions[name],
                status=BROKEN if code else RUNNING,
                is_root=True,
                fleet_config_arns=tuple(t.arn for t in self.targets.values() if t.arn and name in t.roots),
                status_codes=(code,) if code else (),
                status_reason=reason,
            )
