"""JSON text → nodes, strictly by RFC 8259, with the line and column of every part, and without recursion."""

import json
import math
import re
from typing import TYPE_CHECKING

from monodon.core.recipe.nodes import MAX_DEPTH, MAX_NODES, Entries, Items, Node, Scalar
from monodon.core.recipe.problems import UnreadableError
from monodon.core.recipe.scalars import MAX_DIGITS

if TYPE_CHECKING:
    from monodon.core.json import Json

_TOKEN = re.compile(
    r"[ \t\n\r]*(?:"
    r"(?P<mark>[{}\[\]:,])"
    r'|(?P<string>"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)(?![0-9A-Za-z.+-])"
    r"|(?P<word>true|false|null)(?![0-9A-Za-z_])"
    r"|(?P<end>\Z))"
)
_BLANKS = re.compile(r"[ \t\n\r]*")
_WORDS = {"true": True, "false": False, "null": None}


def parse_json(text: str) -> Node:
    """Return the tree of a JSON text.

    Raises:
        UnreadableError: not JSON, or nested too deeply.
    """
    return _Parser(text).document()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._parts = 0
        self._line, self._line_start = 1, 0
        self._kind, self._token, self._at = "", "", (1, 1)
        self._open: list[Items | Entries] = []

    def document(self) -> Node:
        self._advance()
        root = self._value()
        while self._open:
            self._parts += 1
            if self._parts > MAX_NODES:
                raise UnreadableError(
                    "R002", f"more than {MAX_NODES} parts: not read", hint="move data into an artifact"
                )
            parent = self._open[-1]
            if self._is_mark(_end_of(parent)):
                self._open.pop()
                self._advance()
                continue
            if parent.items if isinstance(parent, Items) else parent.entries:
                self._expect(",", f"',' or '{_end_of(parent)}'")
            self._element(parent)
        if self._kind != "end":
            raise self._unexpected("the end of the text")
        return root

    def _element(self, parent: Items | Entries) -> None:
        """Read the next part of ``parent``; of a list or map only its beginning."""
        if isinstance(parent, Items):
            parent.items.append(self._value())
            return
        if self._kind != "string":
            raise self._unexpected("a key in double quotes")
        key = self._string()
        self._advance()
        self._expect(":", "':'")
        parent.entries.append((key, self._value()))

    def _expect(self, mark: str, wanted: str) -> None:
        if not self._is_mark(mark):
            raise self._unexpected(wanted)
        self._advance()

    def _is_mark(self, mark: str) -> bool:
        return self._kind == "mark" and self._token == mark

    def _open_up(self, node: Items | Entries) -> Node:
        if len(self._open) == MAX_DEPTH:
            message = f"nested deeper than {MAX_DEPTH} levels"
            raise UnreadableError("R004", message, node.at, hint="no recipe needs that; flatten it")
        self._open.append(node)
        return node

    def _value(self) -> Node:
        node: Node
        if self._kind == "string":
            node = self._string()
        elif self._kind == "number":
            node = Scalar(self._at, self._token, self._number())
        elif self._kind == "word":
            node = Scalar(self._at, self._token, _WORDS[self._token])
        elif self._is_mark("{"):
            node = self._open_up(Entries(self._at, []))
        elif self._is_mark("["):
            node = self._open_up(Items(self._at, []))
        else:
            raise self._unexpected("a value")
        self._advance()
        return node

    def _string(self) -> Scalar:
        decoded: str = json.loads(self._token)
        return Scalar(self._at, decoded, decoded, is_plain=False)

    def _number(self) -> "Json":
        digits = len(self._token)
        number = float("inf") if digits > MAX_DIGITS else json.loads(self._token)
        if isinstance(number, float) and not math.isfinite(number):
            raise UnreadableError("R009", "a device cannot hold this number: out of range", self._at, hint="quote it")
        return number

    def _advance(self) -> None:
        found = _TOKEN.match(self._text, self._position)
        start = _BLANKS.match(self._text, self._position).end()  # type: ignore[union-attr]  # it matches nothing, too
        newlines = self._text.count("\n", self._position, start)
        if newlines:
            self._line += newlines
            self._line_start = self._text.rfind("\n", self._position, start) + 1
        self._at = (self._line, start - self._line_start + 1)
        if found is None:
            complaint, hint = _complaint(self._text, start)
            raise UnreadableError("R001", f"not JSON: {complaint}", self._at, hint=hint)
        self._kind = found.lastgroup or ""
        self._token = found[self._kind]
        self._position = found.end()

    def _unexpected(self, wanted: str) -> UnreadableError:
        shown = "the text ends" if self._kind == "end" else f"there is {self._token[:40]!r}"
        hint = None
        if self._is_mark("}") or self._is_mark("]"):
            hint = "remove the comma in front of it"
        return UnreadableError("R001", f"not JSON: {wanted} expected, {shown}", self._at, hint=hint)


def _end_of(node: Items | Entries) -> str:
    return "]" if isinstance(node, Items) else "}"


def _complaint(text: str, start: int) -> tuple[str, str | None]:
    if text.startswith('"', start):
        return "the string has no end, a raw control character or an unknown escape", None
    if text.startswith(("//", "/*", "#"), start):
        return "it has no comments", "remove it, or write the recipe in YAML"
    hint = "use double quotes" if text.startswith("'", start) else None
    return f"{text[start : start + 20].split(chr(10))[0]!r} is no value", hint
