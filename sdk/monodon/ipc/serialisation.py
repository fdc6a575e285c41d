"""Bodies of messages: JSON text to shapes and back, by one table per shape made from its annotations.

==========================  ==========================================================================
annotation                  JSON
==========================  ==========================================================================
``str``, ``bool``           the same; an enum is a text, judged by who uses it
``int``                     a number without a fraction (``5.0`` too)
``float``                   a number; a timestamp is in seconds since the epoch
``bytes``                   standard base64 with padding
``JsonObject``              any JSON object
``Json``                    any JSON
a shape, ``tuple[T, ...]``  an object of its fields, a list
``Mapping[str, T]``         an object with free keys
==========================  ==========================================================================

A field is named as its attribute, in camel case. One that is None is left out, and null is read as absent:
clients fail to decode a null where they expect a blob, timestamp or structure.
"""

import base64
import binascii
import collections.abc
import json
import math
import re
import types
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from monodon.core.json import Json
from monodon.ipc.errors import InvalidArgumentsError

JsonObject: TypeAlias = Mapping[str, Json]

_Read = Callable[[Json, str], Any]
_Write = Callable[[Any], Json]


class Shape:
    """Base of every structure of the service model: a frozen value, each field None when absent.

    It does what a dataclass does, for what the class annotates. There are a hundred of them, and making that many
    dataclasses takes longer than everything else that a nucleus does to start.
    """

    def __init__(self, **fields: Any) -> None:
        known = type(self).__annotations__
        for name in fields:
            if name not in known:
                raise TypeError(f"{type(self).__name__} has no field {name}")
        self.__dict__.update(fields)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is not to be changed")

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in type(self).__annotations__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        given = zip(type(self).__annotations__, self._values(), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given if value is not None)})"


ShapeT = TypeVar("ShapeT", bound=Shape)


class UnionShape(Shape):
    """A structure of which exactly one field is set."""


#: Wire names that camel case does not give.
_ODD_NAMES: Final = {
    "certificate_sha256_hash": "certificateSHA256Hash",
    "certificate_sha1_hash": "certificateSHA1Hash",
}


def wire_name(attribute: str) -> str:
    """Return what an attribute is called in JSON."""
    return _ODD_NAMES.get(attribute) or re.sub(r"_(\w)", lambda match: match[1].upper(), attribute)


def _refuse(where: str, expected: str, value: Json) -> InvalidArgumentsError:
    return InvalidArgumentsError(f"{where or 'the body'} must be {expected}, not {json.dumps(value, default=str)[:60]}")


def _read_str(value: Json, where: str) -> str:
    if isinstance(value, str):
        return value
    raise _refuse(where, "a text", value)


def _read_bool(value: Json, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _refuse(where, "true or false", value)


def _read_int(value: Json, where: str) -> int:
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return int(value)
    raise _refuse(where, "a whole number", value)


def _read_float(value: Json, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise _refuse(where, "a number", value)


def _read_bytes(value: Json, where: str) -> bytes:
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            pass
    raise _refuse(where, "base64 text with padding", value)


def _read_object(value: Json, where: str) -> JsonObject:
    if isinstance(value, dict):
        return value
    raise _refuse(where, "a JSON object", value)


def _same(value: Any) -> Json:
    return value


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


_PLAIN: Final[Mapping[object, tuple[_Read, _Write]]] = {
    str: (_read_str, _same),
    bool: (_read_bool, _same),
    int: (_read_int, _same),
    float: (_read_float, _same),
    bytes: (_read_bytes, _write_bytes),
    Any: (lambda value, _where: value, _same),
    JsonObject: (_read_object, _same),
}


def _list_codec(item: object) -> tuple[_Read, _Write]:
    read, write = _codec(item)

    def read_list(value: Json, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _refuse(where, "a list", value)
        return tuple(read(element, f"{where}[{index}]") for index, element in enumerate(value))

    return read_list, lambda value: [write(element) for element in value]


def _map_codec(item: object) -> tuple[_Read, _Write]:
    read, write = _codec(item)

    def read_map(value: Json, where: str) -> dict[str, Any]:
        return {key: read(element, f"{where}.{key}") for key, element in _read_object(value, where).items()}

    return read_map, lambda value: {key: write(element) for key, element in value.items()}


def _codec(annotation: object) -> tuple[_Read, _Write]:
    if annotation in _PLAIN:
        return _PLAIN[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        (only,) = (argument for argument in arguments if argument is not type(None))
        return _codec(only)
    if origin is tuple:
        return _list_codec(arguments[0])
    if origin is collections.abc.Mapping:
        return _map_codec(arguments[1])
    assert isinstance(annotation, type), annotation
    assert issubclass(annotation, Shape), annotation
    shape = annotation
    return (lambda value, where: _read_fields(shape, value, where)), _write_fields


_fields: Final[dict[type[Shape], tuple[tuple[str, str, _Read, _Write], ...]]] = {}


def fields_of(shape: type[Shape]) -> tuple[tuple[str, str, _Read, _Write], ...]:
    """Return (attribute, wire name, reader, writer) of each field; made once for each shape."""
    known = _fields.get(shape)
    if known is not None:
        return known
    hints = get_type_hints(shape)
    made = _fields[shape] = tuple((name, wire_name(name), *_codec(hints[name])) for name in shape.__annotations__)
    return made


def _read_fields(shape: type[ShapeT], value: Json, where: str) -> ShapeT:
    if not isinstance(value, dict):
        raise _refuse(where, "a JSON object", value)
    found: dict[str, Any] = {}
    for attribute, name, read, _write in fields_of(shape):
        item = value.get(name)
        if item is not None:
            found[attribute] = read(item, f"{where}.{name}" if where else name)
    if issubclass(shape, UnionShape) and len(found) != 1:
        choices = " or ".join(name for _, name, *_ in fields_of(shape))
        raise InvalidArgumentsError(f"{where} must have exactly one of {choices}")
    return shape(**found)


def _write_fields(shape: Shape) -> dict[str, Json]:
    written: dict[str, Json] = {}
    for attribute, name, _read, write in fields_of(type(shape)):
        value = getattr(shape, attribute)
        if value is not None:
            written[name] = write(value)
    return written


def _refuse_constant(text: str) -> Json:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is beyond the range of a number")
    return number


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_ENCODER: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def read_json(body: bytes | memoryview) -> Json:
    """Return the JSON value of a body.

    Raises:
        InvalidArgumentsError: not UTF-8, not JSON (NaN and infinity are none), nested too deeply, or a number beyond a
            double's range, which could be kept but never be written again.
    """
    try:
        return _DECODER.decode(str(body, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentsError(f"the body is not JSON: {error}") from error


def read_shape(shape: type[ShapeT], body: bytes | memoryview) -> ShapeT:
    """Return the request or answer in a body; unknown fields are ignored.

    Raises:
        InvalidArgumentsError: not UTF-8, not JSON, not an object, or a field of the wrong type (named).
    """
    return _read_fields(shape, read_json(body), "")


def to_json(shape: Shape) -> dict[str, Json]:
    """Return the JSON object of a shape."""
    return _write_fields(shape)


def write_shape(shape: Shape) -> bytes:
    """Return the body of a shape: compact JSON. It is made once, however many streams it goes to.

    Raises:
        ValueError: infinity or not-a-number in a free-form document.
    """
    try:
        return shape._body  # type: ignore[attr-defined,no-any-return]
    except AttributeError:
        body = _ENCODER.encode(_write_fields(shape)).encode("ascii")
        object.__setattr__(shape, "_body", body)
        return body
