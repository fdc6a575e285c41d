"""Recipe variables: ``{artifacts:path}``, ``{configuration:/pointer}``, ``{iot:thingName}`` and a dependency's own.

Applied at deployment time to every text in a lifecycle. What cannot be resolved stays as it is written, and is told.

Source: Greengrass nucleus, ``KernelConfigResolver.java``.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from monodon.core.json import Json
from monodon.core.pointers import Missing, look_up_pointer

_OWN = re.compile(r"\{([.\w-]+):([^:}]*)\}", re.ASCII)
_FOREIGN = re.compile(r"\{([.\w-]+):([.\w-]+):([^:}]*)\}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What variables can say of one component: its configuration and its folders."""

    name: str
    version: str
    configuration: Mapping[str, Json]
    artifacts: str
    unarchived: str
    work: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """Everything a component's lifecycle may refer to; ``dependencies`` are its direct ones."""

    own: Scope
    dependencies: Mapping[str, Scope]
    root: str
    thing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolated:
    """The value with its variables replaced, and the placeholders that nothing was found for, in order."""

    value: Json
    unresolved: tuple[str, ...]


def interpolate(value: Json, variables: Variables) -> Interpolated:
    """Replace the variables in every text of ``value``; keys stay as they are (I1).

    Raises:
        DeploymentError: a configuration pointer that does not start with ``/`` (I4).
    """
    return _Pass(variables, with_configuration=True).over(value)


def interpolate_configuration(value: Json, variables: Variables) -> Interpolated:
    """Replace system variables alone in a configuration: ``{configuration:…}`` is never replaced there (I9)."""
    return _Pass(variables, with_configuration=False).over(value)


class _Pass:
    """One walk over a value; remembers what it could not resolve."""

    def __init__(self, variables: Variables, *, with_configuration: bool) -> None:
        self._variables = variables
        self._with_configuration = with_configuration
        self._unresolved: dict[str, None] = {}

    def over(self, value: Json) -> Interpolated:
        return Interpolated(value=self._value(value), unresolved=tuple(self._unresolved))

    def _value(self, value: Json) -> Json:
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, Mapping):
            return {key: self._value(entry) for key, entry in value.items()}
        if isinstance(value, list | tuple):
            return [self._value(entry) for entry in value]
        return value

    def _text(self, text: str) -> str:
        """Replace this component's forms found in the text, then its dependencies' found in the result (I2)."""
        if "{" not in text:
            return text
        own = self._variables.own
        text = self._replaced(text, _OWN, lambda match: self._look_up(own, match[1], match[2]))
        return self._replaced(text, _FOREIGN, self._of_dependency)

    def _replaced(self, text: str, pattern: re.Pattern[str], look_up: Callable[[re.Match[str]], str | None]) -> str:
        original = text
        for match in pattern.finditer(original):
            found = look_up(match)
            if found is not None:
                text = text.replace(match[0], found)
            elif not original[: match.start()].endswith("$"):  # the shell's own ${NAME:-default}
                self._unresolved[match[0]] = None
        return text

    def _of_dependency(self, match: re.Match[str]) -> str | None:
        scope = self._variables.dependencies.get(match[1])
        return None if scope is None else self._look_up(scope, match[2], match[3])

    def _look_up(self, scope: Scope, namespace: str, key: str) -> str | None:
        if namespace == "configuration":
            if not self._with_configuration:
                return None
            found = look_up_pointer(scope.configuration, key)
            return None if isinstance(found, Missing) else render(found)
        return {
            ("artifacts", "path"): scope.artifacts,
            ("artifacts", "decompressedPath"): scope.unarchived,
            ("work", "path"): scope.work,
            ("kernel", "rootPath"): self._variables.root,
            ("iot", "thingName"): self._variables.thing,
        }.get((namespace, key))


def render(value: Json) -> str:
    """Return a configuration value as a script sees it: text as it is, all else as Java writes JSON (I7).

    Objects have their keys sorted by code point and no blanks; nothing is quoted for a shell.
    """
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Json) -> str:
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _java_double(value)
    if isinstance(value, Mapping):
        entries = (f"{_as_json(key)}:{_as_json(value[key])}" for key in sorted(value))
        return "{" + ",".join(entries) + "}"
    return "[" + ",".join(_as_json(entry) for entry in value) + "]"


def _java_double(value: float) -> str:
    """Write a double as ``Double.toString`` of JDK 19 and later: plain from 0.001 up to 10 million, else ``1.0E10``."""
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    if not isinstance(exponent, int):
        return {"F": "Infinity", "n": "NaN"}.get(exponent, "NaN")
    text = "".join(map(str, digits))
    point = len(text) + exponent  # the value is 0.text times ten to this power
    minus = "-" if sign else ""
    if text == "0":
        return f"{minus}0.0"
    if -2 <= point <= 7:
        if point <= 0:
            return f"{minus}0.{'0' * -point}{text}"
        return f"{minus}{text[:point].ljust(point, '0')}.{text[point:] or '0'}"
    return f"{minus}{text[0]}.{text[1:] or '0'}E{point - 1}"
