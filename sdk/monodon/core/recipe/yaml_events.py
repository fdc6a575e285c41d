"""YAML text → nodes, from libyaml's events and without recursion; anchors are not expanded, as on the device."""

from typing import Any

import yaml

from monodon.core.json import Json
from monodon.core.recipe.nodes import MAX_DEPTH, MAX_NODES, Entries, Items, Node, Place, Scalar
from monodon.core.recipe.problems import Problems, Severity, UnreadableError
from monodon.core.recipe.scalars import NotJsonError, tagged, typed

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where PyYAML was built with it


def parse_yaml(text: str, problems: Problems, *, parser_class: Any = _PARSER) -> Node | None:
    """Return the first document of ``text``, or None if there is none.

    Raises:
        UnreadableError: not YAML, or nested too deeply.
    """
    parser = None
    try:
        parser = parser_class(text)
        return _Builder(parser, problems).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = ", ".join(filter(None, (error.context, error.problem)))
        raise UnreadableError("R001", f"not YAML: {reason}", at, hint=_hint(reason)) from None
    except yaml.reader.ReaderError as error:
        at, character = _first_unprintable(text)
        message = f"not YAML: the character U+{ord(character):04X} is not allowed ({error.reason})"
        raise UnreadableError("R001", message, at, hint="save the file as plain UTF-8 text") from None
    finally:
        if parser is not None:
            parser.dispose()


def _first_unprintable(text: str) -> tuple[Place, str]:
    position = next((i for i, character in enumerate(text) if not _is_printable(character)), 0)
    before = text[:position]
    return (before.count("\n") + 1, position - before.rfind("\n")), text[position]


def _is_printable(character: str) -> bool:
    return (
        character in "\t\n\r\x85"
        or " " <= character <= "~"
        or (character >= "\xa0" and not "\ud800" <= character <= "\udfff" and character not in "\ufffe\uffff")
    )


def _hint(reason: str) -> str:
    if "\\t" in reason:
        return "indent with blanks, not tabs"
    if "mapping values are not allowed" in reason:
        return "quote text that holds ': '"
    return "check the quotes and the indentation of this line and the one above"


class _Builder:
    """Turns events into nodes with a stack of open lists and maps."""

    def __init__(self, parser: Any, problems: Problems) -> None:
        self._parser = parser
        self._problems = problems
        self._open: list[Items | Entries] = []
        self._keys: list[Scalar | None] = []  # for each open map, the key that waits for its value
        self._root: Node | None = None

    def document(self) -> Node | None:
        next_event = self._parser.get_event
        for _ in range(MAX_NODES):
            event = next_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._place(self._scalar(event))
            elif kind is yaml.MappingStartEvent:
                self._place(Entries(self._start(event), []))
            elif kind is yaml.SequenceStartEvent:
                self._place(Items(self._start(event), []))
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._open.pop()
                self._keys.pop()
            elif kind is yaml.AliasEvent:
                at = self._start(event)
                self._place(Scalar(at, event.anchor, event.anchor))
            elif kind is yaml.DocumentEndEvent:
                self._look_for_more()
                return self._root
            elif kind is yaml.StreamEndEvent:
                return None
        raise UnreadableError("R002", f"more than {MAX_NODES} parts: not read", hint="move data into an artifact")

    def _start(self, event: Any) -> Place:
        mark = event.start_mark
        at = mark.line + 1, mark.column + 1
        if event.anchor is not None and not self._problems.has("R007"):
            message = f"anchors and aliases are not expanded on a device ({event.anchor!r})"
            hint = "write the value out where it is needed"
            self._problems.add("R007", message, at, hint=hint, severity=Severity.WARNING)
        return at

    def _scalar(self, event: Any) -> Scalar:
        at, text, tag = self._start(event), event.value, event.tag
        is_plain = event.implicit[0] and tag is None
        value: Json = text
        try:
            if is_plain:
                value = typed(text)
            elif tag is not None and tag != "!":
                value = tagged(text, tag)
        except NotJsonError as error:
            self._problems.add("R009", f"a device cannot hold this number: {error}", at, hint="quote it")
        return Scalar(at, text, value, is_plain)

    def _place(self, node: Node) -> None:
        if not self._open:
            self._root = node
        else:
            parent = self._open[-1]
            if isinstance(parent, Items):
                parent.items.append(node)
            elif (key := self._keys[-1]) is not None:
                parent.entries.append((key, node))
                self._keys[-1] = None
            elif isinstance(node, Scalar):
                self._keys[-1] = node
            else:
                raise UnreadableError("R001", "a list or map cannot be a key", node.at, hint="quote it, if it is text")
        if not isinstance(node, Scalar):
            if len(self._open) == MAX_DEPTH:
                message = f"nested deeper than {MAX_DEPTH} levels"
                raise UnreadableError("R004", message, node.at, hint="no recipe needs that; flatten it")
            self._open.append(node)
            self._keys.append(None)

    def _look_for_more(self) -> None:
        """Only the first document is read; whatever follows may be no YAML at all."""
        try:
            event = self._parser.get_event()
        except yaml.YAMLError:
            return
        if isinstance(event, yaml.DocumentStartEvent):
            mark: Any = event.start_mark
            at = mark.line + 1, mark.column + 1
            message = "a device reads the first document of a file alone"
            hint = "put the second recipe into a file of its own"
            self._problems.add("R008", message, at, hint=hint, severity=Severity.WARNING)
