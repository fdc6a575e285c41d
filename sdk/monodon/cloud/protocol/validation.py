"""What boto3 does not check for us: patterns, enums, maxima, map keys; and, for other clients, all the rest."""

from collections.abc import Iterator, Mapping

from monodon.cloud.protocol.model import Shape
from monodon.core.json import Json

_SHOWN = 120
_NUMBERS = {"integer", "long", "float", "double", "bigdecimal"}


def problems(shape: Shape, value: Json, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, message) for all in a parsed ``value`` that its shape refuses; in AWS's words.

    Types are not looked at: parsing has made them right.
    """
    match shape.type:
        case "structure":
            yield from _structure(shape, value, path)
        case "list":
            yield from _length(shape, len(value), value, path)
            for index, element in enumerate(value):
                yield from problems(shape.element.shape, element, f"{path}.{index + 1}.member")
        case "map":
            yield from _length(shape, len(value), value, path)
            for key, element in value.items():
                yield from problems(shape.key.shape, key, f"{path}.key")
                yield from problems(shape.value.shape, element, f"{path}.{key}.value")
        case "string":
            yield from _string(shape, value, path)
        case "blob":
            yield from _length(shape, len(value), "(bytes)", path)
        case number if number in _NUMBERS:
            yield from _number(shape, value, path)


def _structure(shape: Shape, value: Mapping[str, Json], path: str) -> Iterator[tuple[str, str]]:
    for name in shape.required:
        if name not in value:
            yield _refused("null", _join(path, name), "Member must not be null")
    for name, element in value.items():
        yield from problems(shape.members[name].shape, element, _join(path, name))


def _string(shape: Shape, value: str, path: str) -> Iterator[tuple[str, str]]:
    yield from _length(shape, len(value), value, path)
    if shape.enum and value not in shape.enum:
        yield _refused(value, path, f"Member must satisfy enum value set: [{', '.join(sorted(shape.enum))}]")
    if shape.pattern is not None and shape.pattern.fullmatch(value) is None:
        pattern = shape.definition["pattern"]
        yield _refused(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _length(shape: Shape, length: int, value: Json, path: str) -> Iterator[tuple[str, str]]:
    if shape.minimum is not None and length < shape.minimum:
        yield _refused(value, path, f"Member must have length greater than or equal to {shape.minimum}")
    if shape.maximum is not None and length > shape.maximum:
        yield _refused(value, path, f"Member must have length less than or equal to {shape.maximum}")


def _number(shape: Shape, value: float, path: str) -> Iterator[tuple[str, str]]:
    if shape.minimum is not None and value < shape.minimum:
        yield _refused(value, path, f"Member must have value greater than or equal to {shape.minimum}")
    if shape.maximum is not None and value > shape.maximum:
        yield _refused(value, path, f"Member must have value less than or equal to {shape.maximum}")


def _refused(value: Json, path: str, constraint: str) -> tuple[str, str]:
    text = str(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    return path, f"Value '{shown}' at '{path}' failed to satisfy constraint: {constraint}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
