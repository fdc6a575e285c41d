"""What a revision makes of a component's configuration on devices, foretold with the device's own rules.

A device that has a component by the live deployment is followed to the next one; what components or other deployments
have written since is not known here.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from monodon.core.configuration import EMPTY, Configuration, ConfigurationUpdate, changed_paths, resolve
from monodon.core.json import Json
from monodon.core.recipe.model import Recipe
from monodon.fleet.content import Part, pointer_of, segments_of
from monodon.fleet.planned import Difference, Kind

_LIVE_MS, _NEXT_MS = 1_000, 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """A component's configuration: as it is, as it will be, and as a device gets it that joins afterwards."""

    before: Configuration
    after: Configuration
    fresh: Configuration


def foretell(live: Part | None, before: Recipe | None, part: Part, recipe: Recipe | None) -> Foretold:
    """Follow one component from the live deployment to the next.

    Args:
        before: the live version's recipe; without it, it has no defaults.
        recipe: the next version's.
    """
    old = EMPTY
    if live is not None:
        old = on_device(EMPTY, defaults_of(before), live, _LIVE_MS)
    defaults = defaults_of(recipe)
    return Foretold(
        before=old,
        after=on_device(old, defaults, part, _NEXT_MS),
        fresh=on_device(EMPTY, defaults, part, _NEXT_MS),
    )


def defaults_of(recipe: Recipe | None) -> Mapping[str, Json]:
    """Return a recipe's DefaultConfiguration; none where it cannot be read."""
    return recipe.configuration if recipe is not None else {}


def on_device(running: Configuration, defaults: Mapping[str, Json], part: Part, at_ms: int) -> Configuration:
    """Return what a deployment at a time makes of a device's configuration."""
    update = ConfigurationUpdate(merge=part.merge, reset=part.reset)
    resolved = resolve(running, defaults, update, at_ms=at_ms)
    return running.replace(resolved.value(), at_ms=at_ms)


def key_differences(component: str, before: Configuration, after: Configuration, what: str) -> Iterator[Difference]:
    """Yield each key that has another value, is new, or is gone."""
    for path in changed_paths(before, after):
        was, becomes = before.contains(path), after.contains(path)
        if becomes and not after.is_leaf(path):
            continue  # its leaves are told
        yield Difference(
            kind=Kind.CHANGED if was and becomes else Kind.ADDED if becomes else Kind.REMOVED,
            what=what,
            component=component,
            pointer=pointer_of(path),
            old=before.get(path) if was else None,
            new=after.get(path) if becomes else None,
        )


def kept_defaults(component: str, foretold: Foretold) -> tuple[Difference, ...]:
    """Return the defaults that do not arrive on devices that have the component: ``old`` stays, ``new`` is the default.

    Source: device notes 5.5, C1: after its first deployment every default is as new as that deployment.
    """
    return tuple(
        difference
        for difference in key_differences(component, foretold.after, foretold.fresh, "default")
        if difference.kind is not Kind.REMOVED
    )


def left_behind(component: str, foretold: Foretold) -> tuple[Difference, ...]:
    """Return the keys that stay on devices though neither the new version nor the deployment has them (C2)."""
    return tuple(
        difference
        for difference in key_differences(component, foretold.after, foretold.fresh, "default")
        if difference.kind is Kind.REMOVED
    )


def resets_for(differences: Sequence[Difference]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the JSON pointers whose reset brings these defaults, and the pointers of those that no reset can bring.

    A device refuses a pointer with a key of digits alone: then the key above it is named, with all that is below. What
    the same deployment merges comes after its resets, so it stays.
    """
    wanted: list[tuple[str, ...]] = []
    out_of_reach: list[str] = []
    for difference in differences:
        path = _reachable(difference.pointer)
        if path:
            wanted.append(path)
        else:
            out_of_reach.append(difference.pointer)
    paths = sorted(set(wanted), key=len)
    least = [path for path in paths if not any(path[: len(up)] == up for up in paths if len(up) < len(path))]
    return tuple(sorted(map(pointer_of, least))), tuple(out_of_reach)


def _reachable(pointer: str) -> tuple[str, ...]:
    while pointer:
        path = segments_of(pointer)
        if path:
            return path
        pointer = pointer.rpartition("/")[0]
    return ()
