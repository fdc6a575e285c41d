"""Who set each key of a component's configuration: a default, a deployment or the component itself; and who tried.

A leaf's time alone does not tell: a deployment gives every leaf its own time, defaults included (5.5, C1). So with the
configuration goes, for each leaf by its JSON pointer in lower case, an `Origin`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from monodon.core.configuration import DEFAULTS_MS, EMPTY, Configuration, ConfigurationUpdate, Path
from monodon.core.json import Json

#: How many attempts that lost are remembered of a key.
MOST_LOST = 3


class Setter(StrEnum):
    """What kind of thing sets a key."""

    DEFAULT = "default"
    DEPLOYMENT = "deployment"
    COMPONENT = "component"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A value that a key did not take, because the one it has was there first (a default) or is newer (a merge)."""

    setter: Setter
    of: str
    at_ms: int
    value: Json

    def to_record(self) -> Json:
        """The JSON that ``from_record`` reads."""
        return [str(self.setter), self.of, self.at_ms, self.value]

    @classmethod
    def from_record(cls, record: Json) -> "Attempt":
        """Read what ``to_record`` wrote."""
        setter, of, at_ms, value = record
        return cls(setter=Setter(setter), of=of, at_ms=at_ms, value=value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Who set a key, and who lately failed to; ``of`` is the default's component version or the deployment's id."""

    setter: Setter
    of: str = ""
    at_ms: int
    lost: tuple[Attempt, ...] = ()

    def to_record(self) -> Json:
        """The JSON that ``from_record`` reads."""
        return [str(self.setter), self.of, self.at_ms, *(attempt.to_record() for attempt in self.lost)]

    @classmethod
    def from_record(cls, record: Json) -> "Origin":
        """Read what ``to_record`` wrote."""
        setter, of, at_ms, *lost = record
        return cls(setter=Setter(setter), of=of, at_ms=at_ms, lost=tuple(map(Attempt.from_record, lost)))


#: By JSON pointer in lower case; a key that is missing was set before origins were kept.
Origins: TypeAlias = Mapping[str, Origin]


def pointer_of(path: Path) -> str:
    """Return the JSON pointer of a path."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path)


def written(former: Origins, before: Configuration, after: Configuration) -> dict[str, Origin]:
    """Return the origins after the component itself changed ``before`` into ``after``."""
    known = {_key(path): (value, at_ms) for path, value, at_ms in before.leaves()}
    origins: dict[str, Origin] = {}
    for path, value, at_ms in after.leaves():
        key = _key(path)
        if known.get(key) != (value, at_ms):
            origins[key] = Origin(setter=Setter.COMPONENT, at_ms=at_ms)
        elif key in former:
            origins[key] = former[key]
    return origins


def deployed(
    former: Origins,
    running: Configuration,
    live: Configuration,
    *,
    defaults: Mapping[str, Json],
    version: str,
    update: ConfigurationUpdate | None,
    deployment_id: str,
    at_ms: int,
) -> dict[str, Origin]:
    """Return the origins after a deployment changed ``running`` into ``live``.

    Args:
        defaults: DefaultConfiguration of ``version``, the one that runs now.
        update: what the deployment asked of this component.
        at_ms: the time of its merge.
    """
    wanted = update or ConfigurationUpdate()
    attempts = _attempts(defaults, version, wanted, deployment_id, at_ms)
    before = {_key(path) for path, _, _ in running.leaves()}
    kept = {_key(path) for path, _, _ in running.reset(wanted.reset)[0].leaves()}
    origins: dict[str, Origin] = {}
    for path, value, time_ms in live.leaves():
        key = _key(path)
        was, attempt = former.get(key) if key in before else None, attempts.get(key)
        is_late = attempt is not None and attempt.setter is Setter.DEFAULT and key in kept
        if attempt is None or (is_late and not _is_default(was)):
            changed = was
        elif not is_late and time_ms <= at_ms:
            changed = Origin(setter=attempt.setter, of=attempt.of, at_ms=at_ms)
        elif value == attempt.value and type(value) is type(attempt.value):
            changed = was
        else:
            changed = was and _with_lost(was, attempt)
        if changed is not None:
            origins[key] = changed
    return origins


def _attempts(
    defaults: Mapping[str, Json], version: str, wanted: ConfigurationUpdate, deployment_id: str, at_ms: int
) -> dict[str, Attempt]:
    """What would set each key, if nothing stood in the way: the deployment's merge, else the default."""
    given = EMPTY.merge((), defaults, at_ms=DEFAULTS_MS)
    merged = EMPTY if wanted.merge is None else EMPTY.merge((), wanted.merge, at_ms=at_ms)
    found = {
        _key(path): Attempt(setter=Setter.DEFAULT, of=version, at_ms=at_ms, value=value)
        for path, value, _ in given.leaves()
    }
    found |= {
        _key(path): Attempt(setter=Setter.DEPLOYMENT, of=deployment_id, at_ms=at_ms, value=value)
        for path, value, _ in merged.leaves()
    }
    return found


def _is_default(was: Origin | None) -> bool:
    """Consequence C1: where an earlier default is, the default of another recipe does not arrive."""
    return was is not None and was.setter is Setter.DEFAULT


def _with_lost(was: Origin, attempt: Attempt) -> Origin:
    """A default is tried anew by every deployment: its first time counts."""
    others = [one for one in was.lost if (one.setter, one.of) != (attempt.setter, attempt.of)]
    again = next((one for one in was.lost if replace(one, at_ms=attempt.at_ms) == attempt), attempt)
    return replace(was, lost=(*others, again)[-MOST_LOST:])


def _key(path: Path) -> str:
    return pointer_of(path).lower()
