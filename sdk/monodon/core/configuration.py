"""The configuration of one component: an immutable tree whose leaves remember when they were written.

A tree has maps inside and leaves outside; a leaf is a string, number, boolean, null or list (a list is replaced
whole). Each leaf carries the time of its value in milliseconds, a map is as new as its newest child. Keys match
without regard to case and keep the spelling they were created with; keys that begin with ``_`` are neither
read with a map nor kept in a record.

Source: Greengrass nucleus, ``config/Topics.java`` and ``config/Topic.java``; `ConfigurationResolver` for `resolve`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from monodon.core.json import Json
from monodon.errors import ConfigurationError

#: Full path of a node below ``configuration``.
Path: TypeAlias = tuple[str, ...]

#: Defaults of a recipe are merged as if written at this time, so that whatever was deployed before stays.
DEFAULTS_MS = 1


@dataclass(frozen=True, slots=True)
class _Leaf:
    value: Json
    time_ms: int


@dataclass(frozen=True, slots=True)
class _Map:
    """Children by key in lower case, each with the spelling it was created with; its own time counts while empty."""

    time_ms: int
    children: Mapping[str, tuple[str, _Node]] = field(default_factory=dict)


_Node: TypeAlias = _Leaf | _Map


@dataclass(frozen=True, slots=True, eq=False)
class Configuration:
    """One component's configuration with its times; every change gives a new one."""

    _root: _Map = _Map(0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and _same(
            _record(self._root, private=True), _record(other._root, private=True)
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
        return _value(self._found(path))

    def value(self) -> dict[str, Json]:
        """Return the whole tree as a dict of its own, without times and private keys."""
        value: dict[str, Json] = _value(self._root)
        return value

    def contains(self, path: Sequence[str]) -> bool:
        """Say whether a leaf or map is at ``path``."""
        return _find(self._root, path) is not None

    def is_leaf(self, path: Sequence[str]) -> bool:
        """Say whether a leaf is at ``path`` (a leaf with the value null too)."""
        return isinstance(_find(self._root, path), _Leaf)

    def modified_ms(self, path: Sequence[str] = ()) -> int:
        """Return when the leaf at ``path`` was written; of a map, when its newest leaf was.

        Raises:
            ConfigurationError: nothing is there.
        """
        return _modified_ms(self._found(path))

    def spelling(self, path: Sequence[str]) -> Path:
        """Return ``path`` as its keys were spelled when they were created.

        Raises:
            ConfigurationError: nothing is there.
        """
        self._found(path)
        spelled: list[str] = []
        node: _Node = self._root
        for key in path:
            assert isinstance(node, _Map)
            name, node = node.children[key.lower()]
            spelled.append(name)
        return tuple(spelled)

    def leaves(self) -> Iterator[tuple[Path, Json, int]]:
        """Yield path, value and time in milliseconds of every leaf, private ones too."""
        yield from _leaves(self._root, ())

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
            raise ConfigurationError(f"{_pointer(path)}: only a map can be merged, not {_kind(value)}")
        return Configuration(_merged_at(self._root, tuple(path), 0, value, at_ms))

    def replace(self, value: Mapping[str, Json], *, at_ms: int) -> Configuration:
        """Return the tree made to look like ``value``: what ``value`` lacks goes whatever its time; every other
        leaf is written with ``at_ms``, or left alone when it is newer.

        Raises:
            ConfigurationError: ``value`` is not JSON.

        Source: Greengrass nucleus, ``Topics.updateFromMap`` with behaviour REPLACE.
        """
        return Configuration(_replaced(self._root, value, at_ms, ()))

    def reset(self, pointers: Sequence[str]) -> tuple[Configuration, tuple[str, ...]]:
        """Return the tree without the nodes that the JSON pointers name, and the pointers that were refused.

        ``""`` clears everything and ends. A pointer with a segment of digits alone could mean an array index and
        is refused, as is one that is no JSON pointer. A pointer to nothing does nothing.

        Source: Greengrass nucleus, ``ConfigurationResolver.reset``.
        """
        root = self._root
        refused: list[str] = []
        for pointer in pointers:
            path = _parsed(pointer)
            if path is None:
                refused.append(pointer)
            elif not path:
                return EMPTY, tuple(refused)
            else:
                root = _without(root, path)
        return Configuration(root), tuple(refused)

    def losing_paths(self, value: Mapping[str, Json], *, at_ms: int) -> tuple[Path, ...]:
        """Return the leaves that would keep another value than ``value`` says, being newer than ``at_ms``."""
        after = self.merge((), value, at_ms=at_ms)
        wanted = EMPTY.merge((), value, at_ms=at_ms)
        return tuple(
            path for path, leaf, _ in wanted.leaves() if after.is_leaf(path) and not _same(after.get(path), leaf)
        )

    def to_record(self) -> Json:
        """Return the tree as JSON with its times; private keys are not kept."""
        return _record(self._root, private=False)

    @classmethod
    def from_record(cls, record: Json) -> Configuration:
        """Return the tree that `to_record` wrote.

        Raises:
            ConfigurationError: it is not such a record.
        """
        root = _from_record(record, ())
        if not isinstance(root, _Map):
            raise ConfigurationError("a configuration record must be a map at its top")
        return cls(root)

    def _found(self, path: Sequence[str]) -> _Node:
        node = _find(self._root, path)
        if node is None:
            raise ConfigurationError(f"no configuration at {_pointer(path)}")
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
    return tuple(_changes(before._root, after._root, ()))


def _find(root: _Map, path: Sequence[str]) -> _Node | None:
    node: _Node = root
    for key in path:
        if not isinstance(node, _Map) or key.lower() not in node.children:
            return None
        _, node = node.children[key.lower()]
    return node


def _modified_ms(node: _Node) -> int:
    if isinstance(node, _Leaf) or not node.children:
        return node.time_ms
    return max(_modified_ms(child) for _, child in node.children.values())


def _value(node: _Node) -> Json:
    if isinstance(node, _Leaf):
        return _copied(node.value, ())
    return {name: _value(child) for name, child in node.children.values() if not name.startswith("_")}


def _leaves(node: _Map, path: Path) -> Iterator[tuple[Path, Json, int]]:
    for name, child in node.children.values():
        if isinstance(child, _Leaf):
            yield (*path, name), _copied(child.value, ()), child.time_ms
        else:
            yield from _leaves(child, (*path, name))


def _merged_at(node: _Map, path: Path, depth: int, value: Mapping[str, Json], at_ms: int) -> _Map:
    if depth == len(path):
        return _merged(node, value, at_ms, path)
    key = path[depth].lower()
    name, child = node.children.get(key, (path[depth], None))
    if isinstance(child, _Leaf):
        if depth + 1 < len(path):
            raise ConfigurationError(f"{_pointer(path[: depth + 1])} is a value and has no keys below it")
        child = None
    below = _merged_at(child or _Map(at_ms), path, depth + 1, value, at_ms)
    return _Map(node.time_ms, {**node.children, key: (name, below)})


def _merged(node: _Map, value: Mapping[str, Json], at_ms: int, path: Path) -> _Map:
    children = dict(node.children)
    for name, incoming in value.items():
        key = _key(name, path)
        spelled, child = children.get(key, (name, None))
        merged: _Node
        if isinstance(incoming, Mapping):
            merged = _merged(child if isinstance(child, _Map) else _Map(at_ms), incoming, at_ms, (*path, name))
        else:
            merged = _written(child, incoming, at_ms, (*path, name))
        children[key] = (spelled, merged)
    return _Map(node.time_ms, children)


def _replaced(node: _Map, value: Mapping[str, Json], at_ms: int, path: Path) -> _Map:
    wanted = {_key(name, path) for name in value}
    children = {key: child for key, child in node.children.items() if key in wanted}
    for name, incoming in value.items():
        key = _key(name, path)
        spelled, child = children.get(key, (name, None))
        replaced: _Node
        if isinstance(incoming, Mapping):
            replaced = _replaced(child if isinstance(child, _Map) else _Map(at_ms), incoming, at_ms, (*path, name))
        else:
            replaced = _written(child, incoming, at_ms, (*path, name))
        children[key] = (spelled, replaced)
    return _Map(node.time_ms, children)


def _written(old: _Node | None, value: Json, at_ms: int, path: Path) -> _Leaf:
    if isinstance(old, _Leaf) and old.time_ms > at_ms:
        return old
    return _Leaf(_copied(value, path), at_ms)


def _without(node: _Map, path: Path) -> _Map:
    key = path[0].lower()
    if key not in node.children:
        return node
    name, child = node.children[key]
    children = dict(node.children)
    if len(path) == 1:
        del children[key]
    elif isinstance(child, _Map):
        children[key] = (name, _without(child, path[1:]))
    return _Map(node.time_ms, children)


def _changes(before: _Map, after: _Map, path: Path) -> Iterator[Path]:
    for key, (name, old) in before.children.items():
        if key not in after.children:
            yield (*path, name)
            continue
        spelled, new = after.children[key]
        where = (*path, spelled)
        match old, new:
            case _Map(), _Map():
                yield from _changes(old, new, where)
            case _Leaf(), _Leaf():
                if not _same(old.value, new.value):
                    yield where
            case _:
                yield where
                yield from _new_leaves(new, where)
    for key, (name, new) in after.children.items():
        if key in before.children:
            continue
        if isinstance(new, _Leaf):
            yield (*path, name)
        yield from _new_leaves(new, (*path, name))


def _new_leaves(node: _Node, path: Path) -> Iterator[Path]:
    if isinstance(node, _Map):
        yield from (leaf for leaf, _, _ in _leaves(node, path))


def _record(node: _Node, *, private: bool) -> Json:
    if isinstance(node, _Leaf):
        return {"v": _copied(node.value, ()), "t": node.time_ms}
    children = {
        name: _record(child, private=private)
        for name, child in node.children.values()
        if private or not name.startswith("_")
    }
    return {"c": children, "t": node.time_ms}


def _from_record(record: Json, path: Path) -> _Node:
    match record:
        case {"v": value, "t": int(time_ms)}:
            return _Leaf(_copied(value, path), time_ms)
        case {"c": dict(children), "t": int(time_ms)}:
            return _Map(
                time_ms,
                {_key(name, path): (name, _from_record(child, (*path, name))) for name, child in children.items()},
            )
    raise ConfigurationError(f"{_pointer(path)}: not a configuration record")


def _parsed(pointer: str) -> Path | None:
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        return None
    path = tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/"))
    return None if any(segment.isdecimal() for segment in path) else path


def _key(name: object, path: Sequence[str]) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"{_pointer(path)}: a key must be text, not {name!r}")
    return name.lower()


def _copied(value: Json, path: Sequence[str]) -> Json:
    """A copy that shares nothing that can change with ``value``."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_copied(item, path) for item in value]
    if isinstance(value, Mapping):
        return {name: _copied(item, path) for name, item in value.items() if _key(name, path) is not None}
    raise ConfigurationError(f"{_pointer(path)}: a value must be JSON, not {_kind(value)}")


def _same(one: Json, other: Json) -> bool:
    """Equal as JSON: ``1`` is neither ``True`` nor ``1.0``."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def _pointer(path: Sequence[str]) -> str:
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path) or "the top of the configuration"


def _kind(value: object) -> str:
    return type(value).__name__
