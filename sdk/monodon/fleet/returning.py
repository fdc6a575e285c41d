"""What it takes to go back to an earlier revision, so that devices are as they were then. Pure.

Deploying an earlier revision again is not enough: keys that later revisions merged stay on devices (device notes 5.5,
C1), and so do values of keys that the earlier one did not merge itself. So the revisions are followed one by one, with
the device's own rules, and what is left over is reset, or merged again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from monodon.core.configuration import EMPTY, Configuration, changed_paths
from monodon.core.json import Json
from monodon.core.recipe.model import Recipe
from monodon.fleet.configuring import Foretold, defaults_of, on_device, resets_for
from monodon.fleet.content import Content, Part, laid_over, pointer_of, same, segments_of
from monodon.fleet.planned import Difference, Kind

_STEP_MS = 1_000
#: A reset of a whole branch may take what must be merged again; once more is enough, and one to see that it was.
_ROUNDS = 3

Recipes = Callable[[str, str], Recipe | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a revision makes of a device that had all revisions before it: each component's configuration."""

    content: Content
    configurations: Mapping[str, Configuration]

    def is_like(self, other: "State") -> bool:
        """Tell whether devices run the same, configured alike, and all else that the revision says is the same."""
        return (
            same(_without_configuration(self.content), _without_configuration(other.content))
            and self.configurations.keys() == other.configurations.keys()
            and all(same(one.value(), other.configurations[name].value()) for name, one in self.configurations.items())
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """The revision that goes back.

    Args:
        foretold: each component's configuration as it is, as it will be, and on a device that joins afterwards.
        stays: component and JSON pointer of what no deployment can bring back.
    """

    content: Content
    foretold: Mapping[str, Foretold]
    stays: tuple[tuple[str, str], ...] = ()


def states(revisions: Sequence[Content], recipes: Recipes) -> tuple[State, ...]:
    """Follow a target's revisions, the oldest first.

    Args:
        recipes: of a component's name and version; None where it cannot be read: it has no defaults then.
    """
    found: list[State] = []
    running: Mapping[str, Configuration] = {}
    for number, content in enumerate(revisions, start=1):
        running = {
            name: on_device(running.get(name, EMPTY), defaults_of(recipes(name, part.version)), part, number * _STEP_MS)
            for name, part in content.components.items()
        }
        found.append(State(content=content, configurations=running))
    return tuple(found)


def returned(followed: Sequence[State], to: int, recipes: Recipes) -> Return:
    """Return what goes back from the last of some states to the one at ``to``.

    Devices may have missed any of the revisions in between, or gone back from it by themselves: it is right for them
    all.
    """
    wanted = followed[to]
    components: dict[str, Part] = {}
    foretold: dict[str, Foretold] = {}
    stays: list[tuple[str, str]] = []
    at_ms = (len(followed) + 1) * _STEP_MS
    for name, part in wanted.content.components.items():
        defaults = defaults_of(recipes(name, part.version))
        goal = wanted.configurations[name]
        starts = [state.configurations.get(name, EMPTY) for state in followed[to:]]
        components[name] = new = _completed(part, defaults, goal, starts, at_ms)
        now = followed[-1].configurations.get(name, EMPTY)
        foretold[name] = Foretold(
            before=now,
            after=on_device(now, defaults, new, at_ms),
            fresh=on_device(EMPTY, defaults, new, at_ms),
        )
        left = {path for start in starts for path in changed_paths(on_device(start, defaults, new, at_ms), goal)}
        stays += [(name, pointer_of(path)) for path in sorted(left)]
    content = replace(wanted.content, components=components)
    return Return(content=content, foretold=foretold, stays=tuple(stays))


def _completed(
    part: Part, defaults: Mapping[str, Json], goal: Configuration, starts: Sequence[Configuration], at_ms: int
) -> Part:
    """The part with the resets and merges that lead from every start to the goal."""
    for _ in range(_ROUNDS):
        fresh = on_device(EMPTY, defaults, part, at_ms)
        merge: dict[str, Json] = {}
        resets: list[Difference] = []
        wrong = {path for start in starts for path in changed_paths(on_device(start, defaults, part, at_ms), goal)}
        if not wrong:
            return part
        for path in sorted(wrong):
            if goal.contains(path) and (_is_reset(part, path) or not _brings(fresh, goal, path)):
                merge = laid_over(merge, _nested(goal.spelling(path), goal.get(path)))
            else:
                resets.append(Difference(kind=Kind.REMOVED, what="reset", pointer=pointer_of(path)))
        pointers, out_of_reach = resets_for(resets)
        for pointer in out_of_reach:
            reached = tuple(pointer.removeprefix("/").split("/"))
            if goal.contains(reached):
                merge = laid_over(merge, _nested(goal.spelling(reached), goal.get(reached)))
        part = replace(
            part,
            reset=(*part.reset, *(one for one in pointers if one not in part.reset)),
            merge=laid_over(part.merge, merge),
        )
    return part


def _brings(fresh: Configuration, goal: Configuration, path: tuple[str, ...]) -> bool:
    """Whether a reset is enough: what comes after it is what is wanted."""
    return fresh.contains(path) and same(fresh.get(path), goal.get(path))


def _is_reset(part: Part, path: tuple[str, ...]) -> bool:
    lower = tuple(key.lower() for key in path)
    for pointer in part.reset:
        segments = segments_of(pointer)
        if segments is not None and tuple(key.lower() for key in segments) == lower[: len(segments)]:
            return True
    return False


def _nested(path: Sequence[str], value: Json) -> dict[str, Json]:
    for key in reversed(path):
        value = {key: value}
    nested: dict[str, Json] = value
    return nested


def _without_configuration(content: Content) -> Json:
    """What a revision says besides configuration; AWS fills in policies that were left out, with its own defaults."""
    components = {name: [part.version, dict(part.run_with)] for name, part in sorted(content.components.items())}
    return [
        components,
        dict(with_defaults(content).policies),
        dict(content.job),
        dict(content.tags),
        content.name,
        content.parent_arn,
    ]


#: What AWS says where a request says nothing. Source: AWS, DeploymentPolicies.
_POLICIES: Mapping[str, Json] = {
    "failureHandlingPolicy": "ROLLBACK",
    "componentUpdatePolicy": {"timeoutInSeconds": 60, "action": "NOTIFY_COMPONENTS"},
    "configurationValidationPolicy": {"timeoutInSeconds": 30},
}


def with_defaults(content: Content) -> Content:
    """Return what a revision says with the policies that AWS fills in, so that requests and answers compare."""
    return replace(content, policies=dict(_filled(content.policies)))


def _filled(policies: Mapping[str, Json]) -> Iterator[tuple[str, Json]]:
    for key, default in _POLICIES.items():
        value = policies.get(key) or default
        yield key, {**default, **value} if isinstance(default, dict) and isinstance(value, dict) else value
