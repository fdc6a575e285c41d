"""A component's configuration explained from the files of its device: every key, who set it, and what it would be.

Its nucleus may run meanwhile, or not: nothing is written, and nothing is locked.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monodon.core.configuration import EMPTY, Configuration
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.origins import Origin, Origins, pointer_of
from monodon.core.plan import Installed
from monodon.core.pointers import MISSING, Missing
from monodon.core.semver import Version
from monodon.errors import StateError
from monodon.nucleus.journal import JOURNAL_FOLDER, peek
from monodon.nucleus.state import INSTALLED
from monodon.nucleus.store import stored_recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key: its value now, the one that the running version's recipe gives it, and who set it, if that is known.

    ``value`` or ``default`` is `MISSING` where there is none; ``at_ms`` is the time by which merges are judged.
    """

    pointer: str
    value: Json | Missing
    default: Json | Missing
    at_ms: int = 0
    origin: Origin | None = None

    @property
    def is_default(self) -> bool:
        """Whether the value is what the recipe says."""
        return type(self.value) is type(self.default) and self.value == self.default


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The configuration of one component, keys in their order."""

    name: ComponentName
    version: Version
    keys: tuple[Key, ...]


def explain(root: Path, name: str) -> Explanation:
    """Explain the configuration of a component of the device in ``root``.

    Raises:
        StateError: the device has no such component, or its journal cannot be read.
    """
    records = peek(root / JOURNAL_FOLDER)
    record = records.get(INSTALLED + name)
    if record is None:
        known = ", ".join(sorted(key.removeprefix(INSTALLED) for key in records if key.startswith(INSTALLED)))
        raise StateError(f"the device in {root} has no component {name}", hint=f"it has {known or 'none'}")
    installed = Installed.from_record(record)
    recipe = stored_recipe(root, installed.name, installed.version)
    defaults = {} if recipe is None else recipe.configuration
    keys = tuple(explained(installed.configuration, installed.origins, defaults))
    return Explanation(name=installed.name, version=installed.version, keys=keys)


def explained(live: Configuration, origins: Origins, defaults: Mapping[str, Json]) -> Iterator[Key]:
    """Yield every key of ``live``, then those that only the defaults have."""
    given = EMPTY.merge((), defaults, at_ms=1)
    for path, value, at_ms in live.leaves():
        pointer = pointer_of(path)
        default = given.get(path) if given.is_leaf(path) else MISSING
        origin = origins.get(pointer.lower())
        yield Key(pointer=pointer, value=value, default=default, at_ms=at_ms, origin=origin)
    for path, value, _ in given.leaves():
        if not live.is_leaf(path):
            yield Key(pointer=pointer_of(path), value=MISSING, default=value)
