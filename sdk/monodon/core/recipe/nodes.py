"""A recipe's text as a tree that remembers where everything stood; the same from YAML and from JSON."""

from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from monodon.core.json import Json

#: Line and column, from 1.
Place: TypeAlias = tuple[int, int]
#: (choice) Deeper text is refused, since what reads a tree recurses; Jackson on the device stops at 1000.
MAX_DEPTH = 100
#: (choice) More parts are refused: 16 KB, all that AWS takes, cannot hold half as many.
MAX_NODES = 50_000


class Scalar(NamedTuple):
    """A value without parts: its text, and what a device makes of it where any type is allowed."""

    at: Place
    text: str
    value: Json
    #: Whether it stood without quotes and tag.
    is_plain: bool = True


class Items(NamedTuple):
    """A list."""

    at: Place
    items: "list[Node]"


class Entries(NamedTuple):
    """A map, in the order of the text; of equal keys the last counts."""

    at: Place
    entries: "list[tuple[Scalar, Node]]"

    def get(self, name: str) -> "Node | None":
        """Return the value of a key, spelled in any case; the last one, as on the device."""
        wanted = name.lower()
        return next((value for key, value in reversed(self.entries) if key.text.lower() == wanted), None)

    def key(self, name: str) -> Scalar | None:
        """Return the key itself, spelled in any case."""
        wanted = name.lower()
        return next((key for key, _ in reversed(self.entries) if key.text.lower() == wanted), None)


Node: TypeAlias = Scalar | Items | Entries


def plain(node: Node) -> Json:
    """Return the JSON value of a tree, which is never deeper than the reader allows."""
    if isinstance(node, Scalar):
        return node.value
    if isinstance(node, Items):
        return [plain(item) for item in node.items]
    return {key.text: plain(value) for key, value in node.entries}


def child(pointer: str, key: str | int) -> str:
    """Return the JSON pointer of a part."""
    if isinstance(key, str) and ("/" in key or "~" in key):
        key = key.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{key}"


def walk(node: Node, pointer: str = "") -> Iterator[tuple[str, Node]]:
    """Yield every node below and with ``node``, with its pointer, in order of writing."""
    yield pointer, node
    if isinstance(node, Items):
        for index, item in enumerate(node.items):
            yield from walk(item, child(pointer, index))
    elif isinstance(node, Entries):
        for key, value in node.entries:
            yield from walk(value, child(pointer, key.text))


def find(node: Node | None, *path: str | int) -> Node | None:
    """Return the node at a path of keys (in any case) and indexes, or None."""
    for step in path:
        if isinstance(step, int) and isinstance(node, Items) and step < len(node.items):
            node = node.items[step]
        elif isinstance(step, str) and isinstance(node, Entries):
            node = node.get(step)
        else:
            return None
    return node
