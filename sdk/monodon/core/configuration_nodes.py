"""The nodes of a configuration tree, and what merging, replacing and comparing does to them.

`monodon.core.configuration` is what others use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from monodon.core.json import Json
from monodon.errors import ConfigurationError

#: Full path of a node below ``configuration``.
Path: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    value: Json
    time_ms: int


@dataclass(frozen=True, slots=True)
class Branch:
    """Children by key in lower case, each with the spelling it was created with; its own time counts while empty."""

    time_ms: int
    children: Mapping[str, tuple[str, Node]] = field(default_factory=dict)


Node: TypeAlias = Leaf | Branch

#: A tree with nothing in it.
EMPTY_BRANCH = Branch(0)


def find(root: Branch, path: Sequence[str]) -> Node | None:
    """Return the node at a path, None where there is none."""
    node: Node = root
    for key in path:
        if not isinstance(node, Branch) or key.lower() not in node.children:
            return None
        _, node = node.children[key.lower()]
    return node


def modified_ms(node: Node) -> int:
    """Return when a node was written last: a map with its newest child."""
    if isinstance(node, Leaf) or not node.children:
        return node.time_ms
    return max(modified_ms(child) for _, child in node.children.values())


def value_of(node: Node) -> Json:
    """Return a node as JSON, without private keys."""
    if isinstance(node, Leaf):
        return _copied(node.value, ())
    return {name: value_of(child) for name, child in node.children.values() if not name.startswith("_")}


def leaves_of(node: Branch, path: Path) -> Iterator[tuple[Path, Json, int]]:
    """Yield path, value and time of every leaf."""
    for name, child in node.children.values():
        if isinstance(child, Leaf):
            yield (*path, name), _copied(child.value, ()), child.time_ms
        else:
            yield from leaves_of(child, (*path, name))


def merged_at(node: Branch, path: Path, depth: int, value: Mapping[str, Json], at_ms: int) -> Branch:
    """Return the tree with ``value`` merged into its node at ``path``, which is made where it is not."""
    if depth == len(path):
        return _merged(node, value, at_ms, path)
    key = path[depth].lower()
    name, child = node.children.get(key, (path[depth], None))
    if isinstance(child, Leaf):
        if depth + 1 < len(path):
            raise ConfigurationError(f"{pointer_of(path[: depth + 1])} is a value and has no keys below it")
        child = None
    below = merged_at(child or Branch(at_ms), path, depth + 1, value, at_ms)
    return Branch(node.time_ms, {**node.children, key: (name, below)})


def _merged(node: Branch, value: Mapping[str, Json], at_ms: int, path: Path) -> Branch:
    children = dict(node.children)
    for name, incoming in value.items():
        key = _key(name, path)
        spelled, child = children.get(key, (name, None))
        merged: Node
        if isinstance(incoming, Mapping):
            merged = _merged(child if isinstance(child, Branch) else Branch(at_ms), incoming, at_ms, (*path, name))
        else:
            merged = _written(child, incoming, at_ms, (*path, name))
        children[key] = (spelled, merged)
    return Branch(node.time_ms, children)


def overwritten(node: Branch, value: Mapping[str, Json], at_ms: int, path: Path) -> Branch:
    """Return the node with exactly the keys of ``value``; a leaf written later stays."""
    wanted = {_key(name, path) for name in value}
    children = {key: child for key, child in node.children.items() if key in wanted}
    for name, incoming in value.items():
        key = _key(name, path)
        spelled, child = children.get(key, (name, None))
        replaced: Node
        if isinstance(incoming, Mapping):
            replaced = overwritten(
                child if isinstance(child, Branch) else Branch(at_ms), incoming, at_ms, (*path, name)
            )
        else:
            replaced = _written(child, incoming, at_ms, (*path, name))
        children[key] = (spelled, replaced)
    return Branch(node.time_ms, children)


def _written(old: Node | None, value: Json, at_ms: int, path: Path) -> Leaf:
    if isinstance(old, Leaf) and old.time_ms > at_ms:
        return old
    return Leaf(_copied(value, path), at_ms)


def without(node: Branch, path: Path) -> Branch:
    """Return the tree without the node at a path."""
    key = path[0].lower()
    if key not in node.children:
        return node
    name, child = node.children[key]
    children = dict(node.children)
    if len(path) == 1:
        del children[key]
    elif isinstance(child, Branch):
        children[key] = (name, without(child, path[1:]))
    return Branch(node.time_ms, children)


def changes(before: Branch, after: Branch, path: Path) -> Iterator[Path]:
    """Yield the paths of the leaves that differ."""
    for key, (name, old) in before.children.items():
        if key not in after.children:
            yield (*path, name)
            continue
        spelled, new = after.children[key]
        where = (*path, spelled)
        match old, new:
            case Branch(), Branch():
                yield from changes(old, new, where)
            case Leaf(), Leaf():
                if not same(old.value, new.value):
                    yield where
            case _:
                yield where
                yield from _new_leaves(new, where)
    for key, (name, new) in after.children.items():
        if key in before.children:
            continue
        if isinstance(new, Leaf):
            yield (*path, name)
        yield from _new_leaves(new, (*path, name))


def _new_leaves(node: Node, path: Path) -> Iterator[Path]:
    if isinstance(node, Branch):
        yield from (leaf for leaf, _, _ in leaves_of(node, path))


def record_of(node: Node, *, private: bool) -> Json:
    """Return a node with its times, as JSON."""
    if isinstance(node, Leaf):
        return {"v": _copied(node.value, ()), "t": node.time_ms}
    children = {
        name: record_of(child, private=private)
        for name, child in node.children.values()
        if private or not name.startswith("_")
    }
    return {"c": children, "t": node.time_ms}


def from_record(record: Json, path: Path) -> Node:
    """Read what `record_of` wrote."""
    match record:
        case {"v": value, "t": int(time_ms)}:
            return Leaf(_copied(value, path), time_ms)
        case {"c": dict(children), "t": int(time_ms)}:
            return Branch(
                time_ms,
                {_key(name, path): (name, from_record(child, (*path, name))) for name, child in children.items()},
            )
    raise ConfigurationError(f"{pointer_of(path)}: not a configuration record")


def parsed(pointer: str) -> Path | None:
    """Return the path that a pointer of a reset names; None where it is refused."""
    if not pointer:
        return ()
    if not pointer.startswith("/"):
        return None
    path = tuple(segment.replace("~1", "/").replace("~0", "~") for segment in pointer[1:].split("/"))
    return None if any(segment.isdecimal() for segment in path) else path


def _key(name: object, path: Sequence[str]) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"{pointer_of(path)}: a key must be text, not {name!r}")
    return name.lower()


def _copied(value: Json, path: Sequence[str]) -> Json:
    """A copy that shares nothing that can change with ``value``."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_copied(item, path) for item in value]
    if isinstance(value, Mapping):
        return {name: _copied(item, path) for name, item in value.items() if _key(name, path) is not None}
    raise ConfigurationError(f"{pointer_of(path)}: a value must be JSON, not {kind_of(value)}")


def same(one: Json, other: Json) -> bool:
    """Equal as JSON: ``1`` is neither ``True`` nor ``1.0``."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    return bool(one == other)


def pointer_of(path: Sequence[str]) -> str:
    """Return a path as a pointer, for messages."""
    return "".join("/" + key.replace("~", "~0").replace("/", "~1") for key in path) or "the top of the configuration"


def kind_of(value: object) -> str:
    """Return what a value is, for messages."""
    return type(value).__name__
