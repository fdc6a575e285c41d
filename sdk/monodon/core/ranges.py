"""The comparators that a version requirement is made of, and reading them from text as a core device does.

Source: semver4j 3.1.0, ``Requirement.java``, ``Tokenizer.java``, ``Semver.java``, as the Greengrass nucleus uses it.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from monodon.core.semver import Version


class Bound(NamedTuple):
    """The version in a comparator, as loosely as the device holds it; ``text`` has no build part."""

    text: str
    major: int
    minor: int | None
    patch: int | None
    prerelease: tuple[str, ...] = ()
    build: str | None = None

    def __str__(self) -> str:
        return self.text if self.build is None else f"{self.text}+{self.build}"

    @property
    def completed(self) -> "Bound":
        """The same with zeros for the missing numbers."""
        return _bound(self.major, self.minor or 0, self.patch or 0, self.prerelease, self.build)


def _bound(major: int, minor: int, patch: int, prerelease: tuple[str, ...] = (), build: str | None = None) -> Bound:
    text = f"{major}.{minor}.{patch}" + ("-" + ".".join(prerelease) if prerelease else "")
    return Bound(text, major, minor, patch, prerelease, build)


class Comparator(NamedTuple):
    """One operator and its version."""

    operator: str
    bound: Bound

    def __str__(self) -> str:
        return f"{self.operator}{self.bound}"

    def admits(self, version: "Version") -> bool:
        """Tell whether the version passes this comparator alone."""
        equal = version.without_build == self.bound.text and (self.operator != "=" or self._builds_agree(version))
        if self.operator == "=":
            return equal
        greater = _exceeds(version, self.bound)
        if self.operator == ">":
            return greater
        if self.operator == ">=":
            return greater or equal
        if self.operator == "<=":
            return not greater
        return not greater and not equal

    def _builds_agree(self, version: "Version") -> bool:
        return (self.bound.build or "") == ".".join(version.build)

    def opens_to(self, version: "Version") -> bool:
        """Tell whether this comparator names a pre-release of the version's own major.minor.patch."""
        return bool(self.bound.prerelease) and (version.major, version.minor, version.patch) == (
            self.bound.major,
            self.bound.minor,
            self.bound.patch,
        )


def _exceeds(version: "Version", bound: Bound) -> bool:
    """Tell whether ``version`` is above ``bound``; missing numbers count as 0, words compare without case."""
    numbers = (version.major, version.minor, version.patch)
    limits = (bound.major, bound.minor or 0, bound.patch or 0)
    if numbers != limits:
        return numbers > limits
    if not version.prerelease or not bound.prerelease:
        return not version.prerelease and bool(bound.prerelease)
    for ours, theirs in zip(version.prerelease, bound.prerelease, strict=False):
        order = _order(ours, theirs)
        if order:
            return order > 0
    return len(version.prerelease) > len(bound.prerelease)


def _order(ours: str, theirs: str) -> int:
    left, right = _java_integer(ours), _java_integer(theirs)
    if left is not None and right is not None:
        return left - right
    folded, other = ours.upper().lower(), theirs.upper().lower()
    return (folded > other) - (folded < other)


class AllOf(NamedTuple):
    """Comparators that all have to pass; they admit a pre-release only if one of them names it (V2)."""

    comparators: tuple[Comparator, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.comparators))

    def admits(self, version: "Version") -> bool:
        """Tell whether every comparator passes, and a pre-release is asked for."""
        if not all(comparator.admits(version) for comparator in self.comparators):
            return False
        return not version.prerelease or any(comparator.opens_to(version) for comparator in self.comparators)


class AnyOf(NamedTuple):
    """Alternatives, one of which has to pass."""

    alternatives: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " || ".join(map(str, self.alternatives))

    def admits(self, version: "Version") -> bool:
        """Tell whether one alternative passes."""
        return any(alternative.admits(version) for alternative in self.alternatives)


Node: TypeAlias = Comparator | AllOf | AnyOf


# --- Reading a requirement: tokens, reverse Polish order, a tree --------------------------------------------------


class MalformedRangeError(Exception):
    """The text is no requirement; ``semver`` turns it into InvalidRequirement."""


_Token: TypeAlias = tuple[str, str]  # kind, text; the kind is VERSION, AND, or the character itself
_VERSION, _AND = "version", "and"
_UNARY = {"~": "~", "^": "^", "=": "=", "<": "<", "\u2264": "<=", ">": ">", "\u2265": ">="}
_SPECIAL = frozenset(_UNARY) | frozenset("-|()")
_JAVA_BLANKS = "".join(map(chr, range(33)))
_JAVA_INTEGER = re.compile(r"[-+]?\d{1,10}")


def parse_range(text: str) -> Node:
    """Return the tree of comparators that ``text`` spells for a device.

    Raises:
        MalformedRangeError: a device refuses it.
    """
    tokens = _join_prereleases(list(_tokens(text or "*")))
    try:
        return _evaluate(_polish(tokens))
    except IndexError:
        raise MalformedRangeError from None


def _tokens(text: str) -> Iterator[_Token]:
    """Yield versions and operators, with the AND that two comparators side by side imply."""
    text = text.replace("||", "|").replace("<=", "\u2264").replace(">=", "\u2265").replace(" ", "")
    previous = ""
    for part in re.split(r"([~^=<\u2264>\u2265|()-])", text):
        if not part:
            continue
        kind = part if part in _SPECIAL else _VERSION
        if kind in _UNARY and previous == _VERSION:
            yield _AND, ""
        yield kind, part
        previous = kind


def _join_prereleases(tokens: list[_Token]) -> list[_Token]:
    """Put ``1.0.0`` ``-`` ``rc`` together again, unless what follows the hyphen is a version itself (V5)."""
    joined: list[_Token] = []
    i = 0
    while i < len(tokens):
        kinds = [kind for kind, _ in tokens[i : i + 3]]
        if kinds == [_VERSION, "-", _VERSION] and not _is_version(tokens[i + 2][1]):
            joined.append((_VERSION, f"{tokens[i][1]}-{tokens[i + 2][1]}"))
            i += 3
        else:
            joined.append(tokens[i])
            i += 1
    return joined


def _polish(tokens: list[_Token]) -> list[_Token]:
    """Order tokens so that operators follow their operands; ``|`` binds weakest, the others alike."""
    enclosed: list[_Token] = [("(", "")]
    for token in tokens:
        enclosed += [(")", ""), token, ("(", "")] if token[0] == "|" else [token]
    enclosed.append((")", ""))
    ordered: list[_Token] = []
    waiting: list[_Token] = []
    following = iter(enclosed)
    for token in following:
        kind = token[0]
        if kind == _VERSION:
            ordered.append(token)
        elif kind == ")":
            while waiting[-1][0] != "(":
                ordered.append(waiting.pop())
            waiting.pop()
        elif kind in _UNARY:
            operand = next(following, None)
            if operand is None:
                raise MalformedRangeError
            ordered += [operand, token]
        else:
            waiting.append(token)
    return ordered + waiting[::-1]


def _evaluate(ordered: list[_Token]) -> Node:
    """Build the tree from the last operator backwards; what no operator asks for is ignored, as on the device."""
    pending: list[tuple[str, Node | None]] = []
    while True:
        kind, text = ordered.pop()
        if kind in (_AND, "|"):
            pending.append((kind, None))
            continue
        node = _leaf(kind, text, ordered)
        while pending:
            operator, right = pending.pop()
            if right is None:
                pending.append((operator, node))
                break
            node = _combine(operator, node, right)
        else:
            return node


def _leaf(kind: str, text: str, ordered: list[_Token]) -> Node:
    if kind == _VERSION:
        if text in ("*", "latest"):
            return Comparator(">=", _bound(0, 0, 0))
        exact = _read_bound(text, npm=True)
        return _tilde(exact) if exact.minor is None or exact.patch is None else Comparator("=", exact)
    if kind == "-":
        upper, lower = ordered.pop(), ordered.pop()
        return _hyphen(_operand(lower), _operand(upper))
    if kind in _UNARY:
        operand = _operand(ordered.pop())
        if kind == "~":
            return _tilde(_read_bound(operand, npm=True))
        if kind == "^":
            return _caret(_read_bound(operand, npm=True))
        return Comparator(_UNARY[kind], _read_bound(operand, npm=False))
    raise MalformedRangeError


def _operand(token: _Token) -> str:
    if token[0] != _VERSION:
        raise MalformedRangeError
    return token[1]


def _combine(operator: str, left: Node, right: Node) -> Node:
    if operator == "|":
        return AnyOf((left, *right.alternatives) if isinstance(right, AnyOf) else (left, right))
    parts: list[Comparator] = []
    for node in (left, right):
        if isinstance(node, AnyOf):
            raise MalformedRangeError  # alternatives in brackets beside a comparator: nobody's requirement
        parts += node.comparators if isinstance(node, AllOf) else (node,)
    return AllOf(tuple(parts))


def _tilde(version: Bound) -> Node:
    if version.minor is None:
        return _between(version, _bound(version.major + 1, 0, 0))
    return _between(version, _bound(version.major, version.minor + 1, 0))


def _caret(version: Bound) -> Node:
    if version.major or version.minor is None:
        return _between(version, _bound(version.major + 1, 0, 0))
    if version.minor or version.patch is None:
        return _between(version, _bound(0, version.minor + 1, 0))
    return _between(version, _bound(0, 0, version.patch + 1))


def _hyphen(lower: str, upper: str) -> Node:
    low, high = _read_bound(lower, npm=True), _read_bound(upper, npm=True)
    if high.minor is not None and high.patch is not None:
        return AllOf((Comparator(">=", low.completed), Comparator("<=", high)))
    major, minor = (high.major + 1, 0) if high.minor is None else (high.major, high.minor + 1)
    return _between(low, _bound(major, minor, high.patch or 0, high.prerelease, high.build))


def _between(low: Bound, high: Bound) -> AllOf:
    return AllOf((Comparator(">=", low.completed), Comparator("<", high)))


def _is_version(text: str) -> bool:
    try:
        _read_bound(text, npm=True)
    except MalformedRangeError:
        return False
    return True


def _read_bound(text: str, *, npm: bool) -> Bound:
    """Read a version as loosely as the device does: numbers may be missing, or with ``npm`` an ``x`` or ``*``."""
    text = text.strip(_JAVA_BLANKS)
    if npm and text[:1] in ("v", "V"):
        text = text[1:].strip(_JAVA_BLANKS)
    before_build = text.partition("+")[0]
    main, hyphen, suffix = text.partition("-") if "-" in before_build else (text, "", "")
    tail = suffix if hyphen else main
    if tail.endswith("+"):
        raise MalformedRangeError
    pieces = tail.split("+")
    build = pieces[1] if len(pieces) == 2 else None
    numbers = _java_split(main if hyphen else pieces[0])
    prerelease = _java_split(pieces[0] if len(pieces) == 2 else suffix) if hyphen else ()
    major = _java_integer(numbers[0]) if numbers else None
    if major is None:
        raise MalformedRangeError
    minor, patch = (_optional_number(numbers, index, npm=npm) for index in (1, 2))
    return Bound(text.replace(f"+{build}", "") if build else text, major, minor, patch, prerelease, build)


def _optional_number(numbers: tuple[str, ...], index: int, *, npm: bool) -> int | None:
    if index >= len(numbers) or (npm and numbers[index] in ("x", "X", "*")):
        return None
    number = _java_integer(numbers[index])
    if number is None:
        raise MalformedRangeError
    return number


def _java_split(text: str) -> tuple[str, ...]:
    """Split at dots as Java does: empty parts at the end are dropped, unless nothing else is there."""
    parts = text.split(".")
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return () if text and parts == [""] else tuple(parts)


def _java_integer(text: str) -> int | None:
    if not _JAVA_INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**31) <= number < 2**31 else None
