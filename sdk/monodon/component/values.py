"""Typed values ↔ JSON: what settings and messages have in common.

A type is a dataclass, or anything its fields may be: bool, int, float, str, ``Path``, None, enums, ``Literal``,
``X | Y``, lists, tuples, sets, mappings with text keys, nested dataclasses, ``Any``.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from monodon.core.json import Json
from monodon.errors import MonodonError

_LISTS = (list, Sequence, Collection, Iterable)
_SETS = (set, frozenset, Set)


@dataclass(frozen=True, slots=True, kw_only=True)
class Misfit:
    """One value that does not fit its type: where it is (keys joined by ``.``), what it is, what is wrong."""

    path: str
    value: Json
    problem: str
    is_unknown: bool = False

    def __str__(self) -> str:
        text = repr(self.value)
        shown = text if len(text) <= 80 else f"{text[:77]}..."
        return f"{self.path or 'the value'} = {shown}: {self.problem}"


class _Missing:
    """The value of a required key that is not there."""

    def __repr__(self) -> str:
        return "(nothing)"


_MISSING = _Missing()


# --- JSON → value ---------------------------------------------------------------------------------------------------


def decode(hint: Any, value: Json, *, ignore: Collection[str] = (), strict: bool = True) -> tuple[Any, list[Misfit]]:
    """Read ``value`` as the type ``hint``; return it and every misfit (then the value is of no use).

    Args:
        hint: a dataclass, or another type as described above.
        ignore: keys of the outermost object that are passed over.
        strict: whether a key without a field is a misfit.

    Raises:
        TypeError: ``hint`` itself holds a type that JSON cannot carry: a mistake in the program.
    """
    reader = _Reader(strict=strict, ignore=frozenset(ignore))
    return reader.read(hint, value, ""), reader.misfits


class _Reader:
    def __init__(self, *, strict: bool, ignore: frozenset[str]) -> None:
        self.misfits: list[Misfit] = []
        self._strict = strict
        self._ignore = ignore

    def read(self, hint: Any, value: Json, path: str) -> Any:
        if hint is Any or hint is object:
            return value
        origin = get_origin(hint)
        if origin is Annotated:
            return self.read(get_args(hint)[0], value, path)
        if origin is Union or origin is types.UnionType:
            return self._union(hint, value, path)
        if origin is Literal:
            return self._one_of(hint, get_args(hint), value, path)
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return self._object(hint, value, path)
        if isinstance(hint, type) and issubclass(hint, Enum):
            return self._enum(hint, value, path)
        container = self._container(origin or hint)
        if container is not None:
            return container(hint, value, path)
        return self._scalar(hint, value, path)

    def _misfit(self, hint: Any, value: Json, path: str) -> None:
        self.misfits.append(Misfit(path=path, value=value, problem=f"expected {describe(hint)}"))

    def _container(self, kind: Any) -> Callable[[Any, Json, str], Any] | None:
        if kind is tuple:
            return self._tuple
        if kind in _LISTS or kind in _SETS:
            return self._list
        if kind in (dict, Mapping):
            return self._mapping
        return None

    def _scalar(self, hint: Any, value: Json, path: str) -> Any:
        converter = _SCALARS.get(hint)
        if converter is None:
            raise TypeError(f"{path or 'the value'}: JSON cannot carry {describe(hint)}")
        try:
            return converter(value)
        except ValueError:
            return self._misfit(hint, value, path)

    def _union(self, hint: Any, value: Json, path: str) -> Any:
        for member in get_args(hint):
            attempt = _Reader(strict=self._strict, ignore=frozenset())
            read = attempt.read(member, value, path)
            if not attempt.misfits:
                return read
        inner = [member for member in get_args(hint) if dataclasses.is_dataclass(member)]
        if len(inner) == 1 and isinstance(value, Mapping):
            return self.read(inner[0], value, path)  # for misfits that name the very key
        return self._misfit(hint, value, path)

    def _one_of(self, hint: Any, choices: Iterable[Any], value: Json, path: str) -> Any:
        for choice in choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return choice
        return self._misfit(hint, value, path)

    def _enum(self, hint: type[Enum], value: Json, path: str) -> Any:
        for member in hint:
            if member.value == value and isinstance(member.value, bool) == isinstance(value, bool):
                return member
        return self._misfit(hint, value, path)

    def _tuple(self, hint: Any, value: Json, path: str) -> Any:
        arguments = get_args(hint)
        if not isinstance(value, list | tuple):
            return self._misfit(hint, value, path)
        if not arguments or (len(arguments) == 2 and arguments[1] is Ellipsis):
            inner = arguments[0] if arguments else Any
            return tuple(self.read(inner, item, f"{path}[{index}]") for index, item in enumerate(value))
        if len(value) != len(arguments):
            return self._misfit(hint, value, path)
        pairs = zip(arguments, value, strict=True)
        return tuple(self.read(inner, item, f"{path}[{index}]") for index, (inner, item) in enumerate(pairs))

    def _list(self, hint: Any, value: Json, path: str) -> Any:
        if not isinstance(value, list | tuple):
            return self._misfit(hint, value, path)
        inner = (get_args(hint) or (Any,))[0]
        items = [self.read(inner, item, f"{path}[{index}]") for index, item in enumerate(value)]
        kind = get_origin(hint) or hint
        if kind not in _SETS:
            return items
        return set(items) if kind is set else frozenset(items)

    def _mapping(self, hint: Any, value: Json, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self._misfit(hint, value, path)
        _, inner = get_args(hint) or (str, Any)
        return {key: self.read(inner, item, _join(path, key)) for key, item in value.items()}

    def _object(self, hint: type[Any], value: Json, path: str) -> Any:
        if not isinstance(value, Mapping):
            return self._misfit(hint, value, path)
        hints = field_types(hint)
        fields = {field.name: field for field in dataclasses.fields(hint) if field.init}
        spelling = {name.casefold(): name for name in fields}  # a nucleus matches keys without regard to case
        given: dict[str, Any] = {}
        before = len(self.misfits)
        for key, item in value.items():
            name = key if key in fields else spelling.get(key.casefold())
            if name is not None:
                given[name] = self.read(hints[name], item, _join(path, name))
            elif self._strict and (path or key not in self._ignore):
                known = f"unknown; known are {', '.join(fields)}" if fields else "unknown; nothing is expected here"
                self.misfits.append(Misfit(path=_join(path, key), value=item, problem=known, is_unknown=True))
        for name, field in fields.items():
            if name not in given and is_required(field):
                problem = f"expected {describe(hints[name])}"
                self.misfits.append(Misfit(path=_join(path, name), value=_MISSING, problem=problem))
        return self._construct(hint, given, value, path) if len(self.misfits) == before else None

    def _construct(self, hint: type[Any], given: Mapping[str, Any], value: Json, path: str) -> Any:
        """Make the dataclass, whose own ``__post_init__`` may refuse what fits by type."""
        try:
            return hint(**given)
        except (ValueError, MonodonError) as error:
            self.misfits.append(Misfit(path=path, value=value, problem=str(error)))


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def is_required(field: "dataclasses.Field[Any]") -> bool:
    """Return whether the field of a dataclass has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@functools.cache
def _field_types(hint: Any) -> Mapping[str, Any]:
    return get_type_hints(hint, include_extras=True)


def field_types(hint: Any) -> Mapping[str, Any]:
    """Return the resolved type of each field of a dataclass."""
    return _field_types(hint)


def _bool(value: Json) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(value)


def _int(value: Json) -> int:
    """AWS's nucleus hands every number back as a float (ipc.md 3.4), so 5.0 is 5."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError(value)
    return int(value)


def _float(value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return float(value)


def _str(value: Json) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(value)


def _path(value: Json) -> Path:
    return Path(_str(value))


def _none(value: Json) -> None:
    if value is not None:
        raise ValueError(value)


_SCALARS: Mapping[Any, Callable[[Json], Any]] = {
    bool: _bool, int: _int, float: _float, str: _str, Path: _path, None: _none, type(None): _none,
}  # fmt: skip
_WORDS: Mapping[Any, str] = {
    bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path", type(None): "null",
}  # fmt: skip


def describe(hint: Any) -> str:
    """Return the type in words: what a person may write there."""
    if hint in _WORDS:
        return _WORDS[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Union or origin is types.UnionType:
        return " or ".join(describe(member) for member in arguments)
    if origin is Literal:
        return f"one of {', '.join(repr(choice) for choice in arguments)}"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(repr(member.value) for member in hint)}"
    kind = origin or hint
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        return f"a list of {len(arguments)}: {', '.join(describe(member) for member in arguments)}"
    if kind is tuple or kind in _LISTS or kind in _SETS:
        return f"a list, each {describe(arguments[0])}" if arguments and arguments[0] is not Any else "a list"
    if kind in (dict, Mapping):
        return "an object"
    if dataclasses.is_dataclass(hint):
        return f"an object with {', '.join(field.name for field in dataclasses.fields(hint))}"
    return getattr(hint, "__name__", str(hint))


# --- value → JSON ---------------------------------------------------------------------------------------------------


def encode(value: Any, path: str = "") -> Json:
    """Return ``value`` as plain JSON data: dict, list, str, int, float, bool, None.

    Knows dataclasses, enums, paths, mappings, lists, tuples and sets (sorted), and whatever offers ``tolist``, such
    as the scalars and arrays of numpy, which is not imported for it.

    Raises:
        ValueError: a value that JSON cannot carry; the message names where it is.
    """
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return encode(value.value, path)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path or 'the value'} is {value}, which JSON has no word for")
        return float(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {_key(key, path): encode(item, _join(path, str(key))) for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(encode(item, path) for item in value)
    return _encode_other(value, path)


def _encode_other(value: Any, path: str) -> Json:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: encode(getattr(value, name), _join(path, name)) for name in names}
    if isinstance(value, list | tuple):
        return [encode(item, f"{path}[{index}]") for index, item in enumerate(value)]
    if callable(getattr(value, "tolist", None)):
        return encode(value.tolist(), path)
    raise ValueError(f"{path or 'the value'} is a {type(value).__name__}, which JSON cannot carry")


def _key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return str(key.value) if isinstance(key, Enum) else key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise ValueError(f"{path or 'the value'} has the key {key!r}: keys are text in JSON")
