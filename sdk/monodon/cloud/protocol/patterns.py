"""AWS's patterns are Java's regular expressions; Python knows no ``\\p{…}``."""

import re
import sys
import unicodedata
from functools import cache
from itertools import groupby

#: Java's POSIX classes are ASCII. Source: java.util.regex.Pattern.
_POSIX = {
    "Graph": r"\x21-\x7e",
    "Print": r"\x20-\x7e",
    "Upper": "A-Z",
    "Lower": "a-z",
    "Alpha": "A-Za-z",
    "Digit": "0-9",
    "Alnum": "A-Za-z0-9",
    "Cntrl": r"\x00-\x1f\x7f",
    "Space": r"\x09-\x0d\x20",
    "ASCII": r"\x00-\x7f",
}


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a pattern of a service model as a compiled one; to be used with ``fullmatch``, as Java matches.

    Raises:
        re.error: the pattern uses something else that Python does not know.
    """
    translated = re.sub(r"\\p\{(\w+)\}", _class, pattern)
    return re.compile(translated, re.ASCII)


def _class(match: re.Match[str]) -> str:
    """The inside of a character class for one property, bracketed if it stood alone."""
    name = match[1]
    inside = _POSIX.get(name) or _category(name.removeprefix("Is"))
    before = match.string[: match.start()]
    opened = before.replace(r"\[", "").rfind("[") > before.replace(r"\]", "").rfind("]")
    return inside if opened else f"[{inside}]"


def _category(category: str) -> str:
    """Ranges of all code points of a general category (``L``) or subcategory (``Lu``)."""
    ranges: list[list[int]] = []
    for name, first, last in _runs():
        if not name.startswith(category):
            continue
        if ranges and ranges[-1][1] == first - 1:
            ranges[-1][1] = last
        else:
            ranges.append([first, last])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


@cache
def _runs() -> tuple[tuple[str, int, int], ...]:
    """All of Unicode as runs of one category: (category, first, last)."""
    categories = map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))
    runs: list[tuple[str, int, int]] = []
    start = 0
    for category, members in groupby(categories):
        length = sum(1 for _ in members)
        runs.append((category, start, start + length - 1))
        start += length
    return tuple(runs)
