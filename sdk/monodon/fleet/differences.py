"""What changes between two revisions of a target, thing by thing."""

from collections.abc import Iterator, Mapping

from monodon.core.configuration import EMPTY
from monodon.core.json import Json
from monodon.fleet.configuring import Foretold, key_differences
from monodon.fleet.content import Content, Part, is_same, same
from monodon.fleet.planned import Difference, Kind

#: AWS's word → the key in a fleet file.
_SETTINGS = {
    "failureHandlingPolicy": "onFailure",
    "componentUpdatePolicy": "updatePolicy",
    "configurationValidationPolicy": "validationTimeoutInSeconds",
    "jobExecutionsRolloutConfig": "rollout",
    "abortConfig": "abort",
    "timeoutConfig": "timeout",
}


def differences(live: Content | None, desired: Content, foretold: Mapping[str, Foretold]) -> tuple[Difference, ...]:
    """Return what is different, components first; nothing if and only if both say the same.

    Args:
        foretold: the configuration of each desired component.
    """
    if live is not None and is_same(live, desired):
        return ()
    before = live or Content(target_arn=desired.target_arn)
    found = [*_components(before, desired, foretold), *_settings(before, desired)]
    if not found:  # merges that say the same to a device and are written differently, or a target that runs nothing
        found.append(Difference(kind=Kind.CHANGED if live else Kind.ADDED, what="deployment"))
    return tuple(found)


def _components(live: Content, desired: Content, foretold: Mapping[str, Foretold]) -> Iterator[Difference]:
    for name in sorted({*live.components, *desired.components}):
        old, new = live.components.get(name), desired.components.get(name)
        if new is None and old is not None:
            yield Difference(kind=Kind.REMOVED, what="component", component=name, old=old.version)
        elif new is not None:
            yield from _component(name, old, new, foretold.get(name))


def _component(name: str, old: Part | None, new: Part, foretold: Foretold | None) -> Iterator[Difference]:
    if old is None:
        yield Difference(kind=Kind.ADDED, what="component", component=name, new=new.version)
    elif old.version != new.version:
        yield _changed(name, "version", old.version, new.version)
    before = old or Part(version=new.version)
    configured = list(_configuration(name, before, new, foretold, is_new=old is None))
    yield from configured
    if before.reset != new.reset:
        yield _changed(name, "reset", list(before.reset), list(new.reset))
    if not same(dict(before.run_with), dict(new.run_with)):
        for key in sorted({*before.run_with, *new.run_with}):
            if not same(before.run_with.get(key), new.run_with.get(key)):
                yield _changed(name, f"runWith.{key}", before.run_with.get(key), new.run_with.get(key))


def _configuration(name: str, old: Part, new: Part, foretold: Foretold | None, *, is_new: bool) -> Iterator[Difference]:
    """What devices will see; then what only changes in the merge, for devices that join later."""
    told = set()
    if foretold is not None and not is_new:
        for difference in key_differences(name, foretold.before, foretold.after, "configuration"):
            told.add(difference.pointer)
            yield difference
    if same(dict(old.merge), dict(new.merge)):
        return
    merges = (EMPTY.merge((), old.merge, at_ms=1), EMPTY.merge((), new.merge, at_ms=1))
    what = "configuration" if is_new else "merge"
    for difference in key_differences(name, *merges, what):
        if difference.pointer not in told:
            yield difference


def _settings(live: Content, desired: Content) -> Iterator[Difference]:
    if live.name != desired.name:
        yield _changed(None, "name", live.name or None, desired.name or None)
    for before, after in ((live.policies, desired.policies), (live.job, desired.job)):
        for key, what in _SETTINGS.items():
            if not same(before.get(key), after.get(key)):
                yield _changed(None, what, before.get(key), after.get(key))
    if live.parent_arn != desired.parent_arn:
        yield _changed(None, "parentTarget", live.parent_arn or None, desired.parent_arn or None)
    for key in sorted({*live.tags, *desired.tags}):
        if live.tags.get(key) != desired.tags.get(key):
            yield _changed(None, f"tags.{key}", live.tags.get(key), desired.tags.get(key))


def _changed(component: str | None, what: str, old: Json, new: Json) -> Difference:
    kind = Kind.ADDED if old in (None, []) else Kind.REMOVED if new in (None, []) else Kind.CHANGED
    return Difference(kind=kind, what=what, component=component, old=old, new=new)
