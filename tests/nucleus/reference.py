"""A small model of sections 3 and 5 of the device notes: which components a device has after what, and in which states.

It knows no order, no time and no processes; it says where things come to rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

#: What a dependency asks of another component's version in this model.
BELOW_3 = "<3.0.0"


class Kind(StrEnum):
    """How a component version behaves, by the state it comes to rest in."""

    RUNS = "RUNNING"
    FINISHES = "FINISHED"
    BREAKS = "BROKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One component version; its needs ask for versions below 3."""

    kind: Kind
    lifecycle: Mapping[str, Any]
    hard: tuple[str, ...] = ()
    soft: tuple[str, ...] = ()


FOREVER = {"Run": "exec sleep 1000"}
WORLD: Mapping[str, Mapping[str, Published]] = {
    "A": {
        "1.0.0": Published(kind=Kind.RUNS, lifecycle=FOREVER),
        "2.0.0": Published(kind=Kind.RUNS, lifecycle={**FOREVER, "Install": "true", "Shutdown": "exit 3"}),
        "3.0.0": Published(kind=Kind.BREAKS, lifecycle={"Startup": "exit 1", "Recover": "true"}),
    },
    "B": {
        "1.0.0": Published(kind=Kind.FINISHES, lifecycle={}),
        "2.0.0": Published(kind=Kind.RUNS, lifecycle=FOREVER, hard=("A",)),
        "3.0.0": Published(kind=Kind.BREAKS, lifecycle={"Startup": {"Script": "sleep 1000", "Timeout": 0}}),
    },
    "C": {
        "1.0.0": Published(kind=Kind.RUNS, lifecycle=FOREVER, soft=("A",)),
        "2.0.0": Published(kind=Kind.BREAKS, lifecycle={"Install": "exit 1", **FOREVER}),
        "3.0.0": Published(kind=Kind.RUNS, lifecycle=FOREVER, hard=("B",)),
    },
}


@dataclass(slots=True)
class Reference:
    """A device, as far as this model goes."""

    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    installed: dict[str, str] = field(default_factory=dict)
    values: dict[str, int] = field(default_factory=dict)
    #: Errors of RUNNING that count together, and who broke by them.
    errors: dict[str, int] = field(default_factory=dict)
    fallen: set[str] = field(default_factory=set)

    def of(self, name: str) -> Published:
        """What a component of the device is."""
        return WORLD[name][self.installed[name]]

    def state(self, name: str) -> str:
        """Where a component comes to rest: D1 and D2 for those that wait."""
        if name in self.fallen or self.of(name).kind is Kind.BREAKS:
            return "BROKEN"
        if any(self.state(other) not in ("RUNNING", "FINISHED") for other in self.of(name).hard):
            return "INSTALLED"
        return str(self.of(name).kind)

    def states(self) -> dict[str, str]:
        """Where all of them are."""
        return {name: self.state(name) for name in self.installed}

    def kill(self, name: str) -> None:
        """A process of it is killed: X1; what depends on it restarts, which forgets its errors (D3, X2)."""
        self.errors[name] = self.errors.get(name, 0) + 1
        if self.errors[name] == 3:
            self.fallen.add(name)
        self._forget_dependers(name)

    def restart(self) -> None:
        """The nucleus starts again: state lives in memory only."""
        self.errors.clear()
        self.fallen.clear()

    def deploy(self, group: str, roots: Mapping[str, str], value: int, *, rolls_back: bool) -> str:
        """Deploy to a group, with ``value`` merged into the configuration of each root; return the detailed status."""
        groups = {**self.groups, group: dict(roots)}
        chosen = resolved(groups)
        if chosen is None:
            return "FAILED_NO_STATE_CHANGE"
        if any(WORLD[name][version].kind is Kind.BREAKS for name, version in chosen.items()):
            if rolls_back:
                touched = {
                    name for name in self.installed if chosen.get(name, self.installed[name]) != self.installed[name]
                }
                self._renew(touched | self.fallen)
                return "FAILED_ROLLBACK_COMPLETE"
            kept = {name: version for name, version in self.installed.items() if name not in chosen}
            self._become({**chosen, **kept}, roots, value, groups, stay=set(kept))
            return "FAILED_ROLLBACK_NOT_REQUESTED"
        self._become(chosen, roots, value, groups)
        return "SUCCESSFUL"

    def _become(
        self,
        chosen: dict[str, str],
        roots: Mapping[str, str],
        value: int,
        groups: dict[str, dict[str, str]],
        stay: frozenset[str] | set[str] = frozenset(),
    ) -> None:
        before = self.installed
        self.groups, self.installed = groups, chosen
        self._renew({name for name in chosen if before.get(name) != chosen[name]} | (self.fallen - stay))
        self.values = {name: value if name in roots else self.values.get(name, 0) for name in chosen}
        self.errors = {name: count for name, count in self.errors.items() if name in chosen}
        self.fallen &= set(chosen)

    def _renew(self, names: set[str]) -> None:
        """These are installed anew, by version (3.6) or because they were broken (X5)."""
        for name in names:
            self.errors.pop(name, None)
            self.fallen.discard(name)
            self._forget_dependers(name)

    def _forget_dependers(self, name: str) -> None:
        for other in self.installed:
            if name in self.of(other).hard and other not in self.fallen:
                self.errors.pop(other, None)
                self._forget_dependers(other)


def resolved(groups: Mapping[str, Mapping[str, str]]) -> dict[str, str] | None:
    """Return the versions that all groups agree on, with what those need at the highest that fits; None: none do."""
    chosen: dict[str, str] = {}
    for roots in groups.values():
        for name, version in roots.items():
            if chosen.setdefault(name, version) != version:
                return None
    waiting = list(chosen)
    while waiting:
        published = WORLD[name := waiting.pop()][chosen[name]]
        for other in (*published.hard, *published.soft):
            if other not in chosen:
                chosen[other] = "2.0.0"
                waiting.append(other)
            elif chosen[other] == "3.0.0":
                return None
    return chosen
