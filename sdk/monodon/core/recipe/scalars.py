"""The type of an unquoted YAML scalar, as a core device sees it; no stock YAML loader agrees with it.

Dates and ``12:30`` are text, ``0755`` is 493, ``1e3`` a float, ``yes`` a boolean.

Source: Jackson 2.17 ``YAMLParser._decodeScalar`` over snakeyaml's ``Resolver``.
"""

import math
import re

from monodon.core.json import Json

_BOOLEANS = {
    spelling: value
    for word, value in (("yes", True), ("true", True), ("on", True), ("no", False), ("false", False), ("off", False))
    for spelling in (word, word.capitalize(), word.upper())
}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"([-+]?)(?:0b([01_]+)|0([0-7_]+)|0x([0-9a-fA-F_]+)|((?:0|[1-9][0-9_]*)))", re.ASCII)
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?(?:[0-9][0-9_]*)[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?",
    re.ASCII,
)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FIRST_OF_NUMBER = frozenset("+-.0123456789")
MAX_DIGITS = 1000


class NotJsonError(ValueError):
    """A scalar that the device cannot hold: infinite, not a number, or endless digits."""


def typed(text: str) -> Json:
    """Return the value of a plain scalar without a tag.

    Raises:
        NotJsonError: ``.inf``, ``.nan``, a float out of range, or more than a thousand digits.
    """
    if text[:1] in _FIRST_OF_NUMBER:
        return _number(text)
    if text in _NULLS:
        return None
    return _BOOLEANS.get(text, text)


def tagged(text: str, tag: str) -> Json:
    """Return the value of a scalar with an explicit tag; tags the device does not know leave text.

    Raises:
        NotJsonError: as ``typed``.
    """
    kind = tag.removeprefix("tag:yaml.org,2002:")
    if kind == "null":
        return None
    if kind == "bool":
        return _BOOLEANS.get(text, text)
    if kind == "int":
        number = typed(text)
        return number if isinstance(number, int) else text
    if kind == "float":
        number = typed(text)
        return float(number) if isinstance(number, int | float) and not isinstance(number, bool) else text
    return text


def _number(text: str) -> Json:
    if text.isdecimal() and text[0] != "0" and len(text) < 20 and text.isascii():
        return int(text)
    if len(text) > MAX_DIGITS and _INTEGER.fullmatch(text):
        raise NotJsonError(f"a number of {len(text)} digits")
    found = _INTEGER.fullmatch(text)
    if found:
        return _integer(found, text)
    if _FLOAT.fullmatch(text):
        number = float(text.replace("_", ""))
        if math.isfinite(number):
            return number
        raise NotJsonError(f"{text} is out of range")
    if _NOT_FINITE.fullmatch(text):
        raise NotJsonError(f"{text} cannot be written in JSON")
    return text


def _integer(found: re.Match[str], text: str) -> Json:
    sign = -1 if found[1] == "-" else 1
    for group, base in ((2, 2), (3, 8), (4, 16), (5, 10)):
        digits = (found[group] or "").replace("_", "")
        if digits:
            return sign * int(digits, base)
    return text
