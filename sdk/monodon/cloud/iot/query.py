"""The query language of fleet indexing, as far as it is documented: a text to a predicate on a thing's fields. Pure.

``attributes.model:seal-2 AND NOT thingName:lab* AND shadow.reported.battery:[20 TO 80]``; terms side by side are joined
by AND. A term without a field is looked for in every one.

Source: AWS IoT Core developer guide, "Query syntax" and "Example thing queries".
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import TypeAlias

Value: TypeAlias = str | bool | int | float
#: A thing's fields by their dotted names; what is a list has several values.
Fields: TypeAlias = Mapping[str, tuple[Value, ...]]
Query: TypeAlias = Callable[[Fields], bool]
_Test: TypeAlias = Callable[[Value], bool]

MAX_TERMS = 12
_MAX_DEPTH = 50
_TOKEN = re.compile(
    r"""\s*(?:(?P<open>\() | (?P<close>\)) | (?P<minus>[-!](?=\S))
    | (?P<term>(?:[^\s():"\[\]{}]+:)?
        (?: "(?:[^"\\]|\\.)*" | [\[{][^\[\]{}]*[\]}] | (?:\\.|[^\s()"\[\]{}])+ )))""",
    re.VERBOSE,
)
_RANGE = re.compile(r"([\[{])\s*(\S+)\s+TO\s+(\S+)\s*([\]}])")
_COMPARED = re.compile(r"(>=|<=|>|<)(.+)")


class QueryError(ValueError):
    """The text is not a query; says where and why."""


@lru_cache(maxsize=256)
def read_query(text: str) -> Query:
    """Return the predicate that a query means.

    Raises:
        QueryError: the syntax is wrong, a field is unknown, or there are more than 12 terms.
    """
    return (lambda fields: True) if text.strip() == "*" else _Parser(text).read()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._terms = 0
        self._depth = 0

    def read(self) -> Query:
        if self._peek() is None:
            raise QueryError("the query is empty")
        query = self._either()
        if self._peek() is not None:
            raise QueryError(f"{self._peek()!r} is not expected here")
        return query

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *wanted: str) -> bool:
        if self._peek() in wanted:
            self._at += 1
            return True
        return False

    def _either(self) -> Query:
        found = [self._both()]
        while self._take("OR", "||"):
            found.append(self._both())
        return found[0] if len(found) == 1 else _any(found)

    def _both(self) -> Query:
        found = [self._one()]
        while self._take("AND", "&&") or self._peek() not in (None, ")", "OR", "||"):
            found.append(self._one())
        return found[0] if len(found) == 1 else _all(found)

    def _one(self) -> Query:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise QueryError(f"nested deeper than {_MAX_DEPTH} levels")
        query = self._operand()
        self._depth -= 1
        return query

    def _operand(self) -> Query:
        if self._take("NOT", "-", "!"):
            return _not(self._one())
        if self._take("("):
            query = self._either()
            if not self._take(")"):
                raise QueryError("a bracket is not closed")
            return query
        token = self._peek()
        if token is None or token in (")", "AND", "OR", "&&", "||"):
            raise QueryError(f"a term is missing before {token or 'the end'!r}")
        self._at += 1
        self._terms += 1
        if self._terms > MAX_TERMS:
            raise QueryError(f"a query has at most {MAX_TERMS} terms")
        return _term(token)


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    end = len(text.rstrip())
    while at < end:
        found = _TOKEN.match(text, at)
        if found is None:
            raise QueryError(f"cannot read {text[at : at + 20].strip()!r}")
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


def _term(token: str) -> Query:
    field, colon, value = token.partition(":")
    if not colon or token.startswith('"'):
        test = _value(token)
        return lambda fields: any(test(each) for values in fields.values() for each in values)
    if not is_field(field):
        raise QueryError(f"there is no field {field!r}")
    if not value:
        raise QueryError(f"{field}: has no value")
    test = _value(value)
    if value == "*":
        return lambda fields: bool(fields.get(field))
    return lambda fields: any(test(each) for each in fields.get(field, ()))


def is_field(name: str) -> bool:
    """Whether things may have a field of that name."""
    fixed = {"thingName", "thingId", "thingTypeName", "thingGroupNames"}
    fixed |= {"connectivity.connected", "connectivity.timestamp", "connectivity.disconnectReason"}
    return name in fixed or (name.startswith(("attributes.", "shadow.")) and not name.endswith("."))


def _value(text: str) -> _Test:
    found = _RANGE.fullmatch(text)
    if found is not None:
        low, high = _bound(found[2]), _bound(found[3])
        tests: list[_Test] = []
        if low is not None:
            tests.append(_compare(">=" if found[1] == "[" else ">", low))
        if high is not None:
            tests.append(_compare("<=" if found[4] == "]" else "<", high))
        return lambda value: all(test(value) for test in tests)
    if text[0] in "[{":
        raise QueryError(f"{text!r} is not a range; write [1 TO 5] or {{1 TO 5}}")
    compared = _COMPARED.fullmatch(text)
    if compared is not None:
        return _compare(compared[1], compared[2])
    if text.startswith('"'):
        wanted = re.sub(r"\\(.)", r"\1", text[1:-1])
        return lambda value: _text(value) == wanted
    pattern = _wildcards(text)
    return lambda value: _is_like(pattern, _text(value))


def _bound(text: str) -> str | None:
    return None if text == "*" else text.strip('"')


def _compare(operator: str, bound: str) -> _Test:
    """Numbers as numbers, other texts by their letters."""
    number = _number(bound)

    def test(value: Value) -> bool:
        mine = _number(value)
        left, right = (mine, number) if mine is not None and number is not None else (_text(value), bound)
        less, equal = left < right, left == right  # type: ignore[operator]
        return {">": not less and not equal, ">=": not less, "<": less, "<=": less or equal}[operator]

    return test


def _number(value: Value) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


_ANY_TEXT, _ANY_LETTER = object(), object()


def _wildcards(text: str) -> list[object]:
    """The letters of a value, its wildcards told apart."""
    parts: list[object] = []
    escaped = False
    for letter in text:
        if not escaped and letter == "\\":
            escaped = True
            continue
        is_wild = not escaped and letter in "*?"
        parts.append((_ANY_TEXT if letter == "*" else _ANY_LETTER) if is_wild else letter)
        escaped = False
    return parts


def _is_like(pattern: list[object], text: str) -> bool:
    """Whether a text fits, in time that grows with the product of the two lengths at most."""
    at = seen = 0
    star, retry = -1, 0
    while at < len(text):
        if seen < len(pattern) and pattern[seen] is _ANY_TEXT:
            star, retry = seen, at
            seen += 1
        elif seen < len(pattern) and pattern[seen] in (_ANY_LETTER, text[at]):
            seen, at = seen + 1, at + 1
        elif star >= 0:
            retry += 1
            seen, at = star + 1, retry
        else:
            return False
    return all(part is _ANY_TEXT for part in pattern[seen:])


def _any(queries: Iterable[Query]) -> Query:
    found = tuple(queries)
    return lambda fields: any(query(fields) for query in found)


def _all(queries: Iterable[Query]) -> Query:
    found = tuple(queries)
    return lambda fields: all(query(fields) for query in found)


def _not(query: Query) -> Query:
    return lambda fields: not query(fields)
