"""The type of a decoded JSON value, as recipes, configurations and messages hold them; and how it is read."""

import json
import math
from typing import Any, NoReturn, TypeAlias

#: None, bool, int, float, str, list[Json] or dict[str, Json]. ``Any``, since mypy's recursive aliases
#: would ask for a cast at every look inside free-form documents.
Json: TypeAlias = Any


def read_json(text: str | bytes) -> Json:
    """Return the value of a JSON text, which can be written again as such.

    Raises:
        ValueError: it is none; or it has what Python's reader lets through: NaN, Infinity, a number beyond a double's
            range, half a surrogate pair.
    """
    text = text.decode() if isinstance(text, bytes) else text
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def is_deeper(value: Json, levels: int) -> bool:
    """Whether objects and arrays are nested in more than so many levels; what recurses over them has its own limit."""
    waiting = [(value, 1)]
    while waiting:
        each, level = waiting.pop()
        if isinstance(each, dict | list):
            if level > levels:
                return True
            waiting += [(child, level + 1) for child in (each.values() if isinstance(each, dict) else each)]
    return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is beyond the range of a number")
    return number
