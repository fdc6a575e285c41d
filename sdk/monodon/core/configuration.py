"""The configuration of one component: an immutable tree whose leaves remember when they were written.

A tree has maps inside and leaves outside; a leaf is a string, number, boolean, null or list (a list is replaced
whole). Each leaf carries the time of its value in milliseconds, a map is as new as its newest child. Keys match
without regard to case and keep the spelling they were created with; keys that begin with ``_`` are neither
read with a map nor kept in a record.

Source: Greengrass nucleus, ``config/Topics.java`` and ``config/Topic.java``; `ConfigurationResolver` for `resolve`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from monodon.core import configuration_nodes as nodes
from monodon.core.configuration_nodes import Path as Path
from monodon.core.json import Json
from monodon.errors import ConfigurationError

#: Defaults of a recipe are merged as if written at this time, so that whatever was deployed before stays.
DEFAULTS_MS = 1


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """One component's configuration with its times; every change gives a new one."""

    _root: nodes.Branch = nodes.EMPTY_BRANCH

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and nodes.same(
            nodes.record_of(self._root, private=True), nodes.record_of(other._root, private=True)
        )

    def __hash__(self) -> int:
        return hash(frozenset((path, time_ms) for path, _, time_ms in self.leaves()))

    def __repr__(self) -> str:
        return f"Configuration({self.value()!r})"

    def get(self, path: Sequence[str] = ()) -> Json:
        """Return the value at ``path``: a map as a dict without its private keys, a leaf as its value; a copy.

        Raises:
            ConfigurationError: nothing is there.
        """
        return nodes.value_of(self._found(path))

    def value(self) -> dict[str, Json]:
        """Return the whole tree as a dict of its own, without times and private keys."""
        value: dict[str, Json] = nodes.value_of(self._root)
        return value

    def contains(self, path: Sequence[str]) -> bool:
        """Say whether a leaf or map is at ``path``."""
        return nodes.find(self._root, path) is not None

    def is_leaf(self, path: Sequence[str]) -> bool:
        """Say whether a leaf is at ``path`` (a leaf with the value null too)."""
        return isinstance(nodes.find(self._root, path), nodes.Leaf)

    def modified_ms(self, path: Sequence[str] = ()) -> int:
        """Return when the leaf at ``path`` was written; of a map, when its newest leaf was.

        Raises:
            ConfigurationError: nothing is there.
        """
        return nodes.modified_ms(self._found(path))

    def spelling(self, path: Sequence[str]) -> Path:
        """Return ``path`` as its keys were spelled when they were created.

        Raises:
            ConfigurationError: nothing is there.
        """
        self._found(path)
        spelled: list[str] = []
        node: nodes.Node = self._root
        for key in path:
            assert isinstance(node, nodes.Branch)
            name, node = node.children[key.lower()]
            spelled.append(name)
        return tuple(spelled)

    def leaves(self) -> Iterator[tuple[Path, Json, int]]:
        """Yield path, value and time in milliseconds of every leaf, private ones too."""
        yield from nodes.leaves_of(self._root, ())

    def merge(self, path: Sequence[str], value: Mapping[str, Json], *, at_ms: int) -> Configuration:
        """Return the tree with ``value`` merged into the map at ``path``, as if written at ``at_ms``.

        A leaf changes unless it is newer than ``at_ms``. Where a leaf meets a map, the old node goes whatever its
        time. Null is a value and removes nothing. Levels of ``path`` that are missing are made; a leaf at ``path``
        itself is replaced by the map.

        Raises:
            ConfigurationError: ``path`` leads through a leaf, or ``value`` is not JSON.

        Source: Greengrass nucleus, ``Topics.updateFromMap`` with behaviour MERGE.
        """
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{nodes.pointer_of(path)}: only a map can be merged, not {nodes.kind_of(value)}")
        return Configuration(nodes.merged_at(self._root, tuple(path), 0, value, at_ms))

    def replace(self, value: Mapping[str, Json], *, at_ms: int) -> Configuration:
        """Return the tree made to look like ``value``: what ``value`` lacks goes whatever its time; every other
        leaf is written with ``at_ms``, or left alone when it is newer.

        Raises:
            ConfigurationError: ``value`` is not JSON.

        Source: Greengrass nucleus, ``Topics.updateFromMap`` with behaviour REPLACE.
        """
        return Configuration(nodes.overwritten(self._root, value, at_ms, ()))

    def reset(self, pointers: Sequence[str]) -> tuple[Configuration, tuple[str, ...]]:
        """Return the tree without the nodes that the JSON pointers name, and the pointers that were refused.

        ``""`` clears everything and ends. A pointer with a segment of digits alone could mean an array index and
        is refused, as is one that is no JSON pointer. A pointer to nothing does nothing.

        Source: Greengrass nucleus, ``ConfigurationResolver.reset``.
        """
        root = self._root
        refused: list[str] = []
        for pointer in pointers:
            path = nodes.parsed(pointer)
            if path is None:
                refused.append(pointer)
            elif not path:
                return EMPTY, tuple(refused)
            else:
                root = nodes.without(root, path)
        return Configuration(root), tuple(refused)

    def losing_paths(self, value: Mapping[str, Json], *, at_ms: int) -> tuple[Path, ...]:
        """Return the leaves that would keep another value than ``value`` says, being newer than ``at_ms``."""
        after = self.merge((), value, at_ms=at_ms)
        wanted = EMPTY.merge((), value, at_ms=at_ms)
        return tuple(
            path for path, leaf, _ in wanted.leaves() if after.is_leaf(path) and not nodes.same(after.get(path), leaf)
        )

    def to_record(self) -> Json:
        """Return the tree as JSON with its times; private keys are not kept."""
        return nodes.record_of(self._root, private=False)

    @classmethod
    def from_record(cls, record: Json) -> Configuration:
        """Return the tree that `to_record` wrote.

        Raises:
            ConfigurationError: it is not such a record.
        """
        root = nodes.from_record(record, ())
        if not isinstance(root, nodes.Branch):
            raise ConfigurationError("a configuration record must be a map at its top")
        return cls(root)

    def _found(self, path: Sequence[str]) -> nodes.Node:
        node = nodes.find(self._root, path)
        if node is None:
            raise ConfigurationError(f"no configuration at {nodes.pointer_of(path)}")
        return node


#: A configuration without any key.
EMPTY = Configuration()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationUpdate:
    """What a deployment asks of one component's configuration: reset these pointers, then merge this map."""

    merge: Mapping[str, Json] | None = None
    reset: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[str, ...]:
        """The reset pointers that have no effect, for an error in the log."""
        return EMPTY.reset([pointer for pointer in self.reset if pointer])[1]


def resolve(
    running: Configuration, defaults: Mapping[str, Json], update: ConfigurationUpdate | None, *, at_ms: int
) -> Configuration:
    """Return the configuration that recipe variables see: running, reset, filled with defaults, merged.

    Write ``running.replace(resolved.value(), at_ms=at_ms)`` over the live tree; where that differs from the
    resolved one (`changed_paths`), a leaf newer than ``at_ms`` stood in the way of a reset.

    Args:
        running: what the component has now, `EMPTY` for a new one.
        defaults: DefaultConfiguration of the recipe.
        at_ms: the deployment's time.

    Source: Greengrass nucleus, ``ConfigurationResolver.resolveConfigurationToApply``.
    """
    wanted = update or ConfigurationUpdate()
    configuration, _ = running.reset(wanted.reset)
    configuration = configuration.merge((), defaults, at_ms=DEFAULTS_MS)
    if wanted.merge is not None:
        configuration = configuration.merge((), wanted.merge, at_ms=at_ms)
    return configuration


def changed_paths(before: Configuration, after: Configuration) -> tuple[Path, ...]:
    """Return the path of every leaf that has another value in ``after``, and of every node that is gone.

    New maps are not named, their leaves are; a change of time alone is no change.
    """
    return tuple(nodes.changes(before._root, after._root, ()))
