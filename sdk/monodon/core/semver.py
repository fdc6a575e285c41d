"""Versions and version requirements, as a core device reads them.

The device's requirements look like npm's and are not: a partial version after a comparator stays partial
(``>=2.0`` leaves 2.0.0 out), a lone comparator admits pre-releases, ``1.0.0 2.0.0`` is one nonsense version.

Source: semver4j 3.1.0, ``Requirement.java``, ``Tokenizer.java``, ``Semver.java``, as the Greengrass nucleus uses it.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self, TypeAlias

from monodon.errors import InvalidRequirement, InvalidVersion

MAX_VERSION_LENGTH = 64
MAX_NUMBER = 999_999

_NUMBER = r"0|[1-9]\d*"
_IDENTIFIER = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
_STRICT = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)
_LAX = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:\.[^-+]*)?(?:-([^+]*))?(?:\+(.+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Version:
    """A semantic version. ``<`` and ``>`` compare precedence, which ignores the build; ``==`` compares everything."""

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...] = ()
    build: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str, *, lax: bool = False) -> Self:
        """Return the version that ``text`` spells by semver.org.

        Args:
            lax: also take what a device takes and semver.org refuses (``01.0.0``, ``1.0.0.0``, ``1.0.0-``).

        Raises:
            InvalidVersion: not a version, longer than 64 characters, or a number above 999999.
        """
        if len(text) > MAX_VERSION_LENGTH:
            raise InvalidVersion(f"version of {len(text)} characters: at most {MAX_VERSION_LENGTH} are allowed")
        found = _STRICT.fullmatch(text) or (_LAX.fullmatch(text) if lax else None)
        if found is None:
            raise InvalidVersion(f"{text!r} is not a version", hint=_version_hint(text))
        major, minor, patch = (int(number) for number in found.group(1, 2, 3))
        if max(major, minor, patch) > MAX_NUMBER:
            raise InvalidVersion(f"{text!r} has a number above {MAX_NUMBER}")
        prerelease, build = (tuple(part.split(".")) if part else () for part in found.group(4, 5))
        return cls(major, minor, patch, prerelease, build)

    def __str__(self) -> str:
        return self.without_build + ("+" + ".".join(self.build) if self.build else "")

    @property
    def without_build(self) -> str:
        """The text up to the build part."""
        numbers = f"{self.major}.{self.minor}.{self.patch}"
        return numbers + ("-" + ".".join(self.prerelease) if self.prerelease else "")

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.precedence < other.precedence

    def __le__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.precedence <= other.precedence

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.precedence > other.precedence

    def __ge__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self.precedence >= other.precedence

    @property
    def precedence(self) -> tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]:
        """The sort key of semver.org, section 11: a pre-release is below its release, numbers are below words."""
        identifiers = tuple(
            (False, int(part), "") if part.isdecimal() else (True, 0, part) for part in self.prerelease
        )
        return self.major, self.minor, self.patch, not self.prerelease, identifiers


def _version_hint(text: str) -> str:
    if re.fullmatch(r"[vV=]\s*\d.*", text):
        return f"write {text.lstrip('vV= ')!r}, without the letter in front"
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return f"write three numbers: {text + '.0' * (2 - text.count('.'))!r}"
    return "write major.minor.patch, such as 1.0.0 or 1.0.0-rc.1"


@dataclass(frozen=True, slots=True)
class Bound:
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


def _bound(
    major: int, minor: int, patch: int, prerelease: tuple[str, ...] = (), build: str | None = None
) -> Bound:
    text = f"{major}.{minor}.{patch}" + ("-" + ".".join(prerelease) if prerelease else "")
    return Bound(text, major, minor, patch, prerelease, build)


@dataclass(frozen=True, slots=True)
class Comparator:
    """One operator and its version."""

    operator: str
    bound: Bound

    def __str__(self) -> str:
        return f"{self.operator}{self.bound}"

    def admits(self, version: Version) -> bool:
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

    def _builds_agree(self, version: Version) -> bool:
        return (self.bound.build or "") == ".".join(version.build)

    def opens_to(self, version: Version) -> bool:
        """Tell whether this comparator names a pre-release of the version's own major.minor.patch."""
        return bool(self.bound.prerelease) and (version.major, version.minor, version.patch) == (
            self.bound.major,
            self.bound.minor,
            self.bound.patch,
        )


def _exceeds(version: Version, bound: Bound) -> bool:
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


@dataclass(frozen=True, slots=True)
class AllOf:
    """Comparators that all have to pass; they admit a pre-release only if one of them names it (V2)."""

    comparators: tuple[Comparator, ...]

    def __str__(self) -> str:
        return " ".join(map(str, self.comparators))

    def admits(self, version: Version) -> bool:
        """Tell whether every comparator passes, and a pre-release is asked for."""
        if not all(comparator.admits(version) for comparator in self.comparators):
            return False
        return not version.prerelease or any(comparator.opens_to(version) for comparator in self.comparators)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Alternatives, one of which has to pass."""

    alternatives: "tuple[Node, ...]"

    def __str__(self) -> str:
        return " || ".join(map(str, self.alternatives))

    def admits(self, version: Version) -> bool:
        """Tell whether one alternative passes."""
        return any(alternative.admits(version) for alternative in self.alternatives)


Node: TypeAlias = Comparator | AllOf | AnyOf


@dataclass(frozen=True, slots=True)
class Requirement:
    """Which versions of a component will do; equal when written alike."""

    text: str
    node: Node = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the requirement that ``text`` spells for a device.

        Raises:
            InvalidRequirement: a device refuses it.
        """
        tokens = _join_prereleases(list(_tokens(text or "*")))
        try:
            return cls(text, _evaluate(_polish(tokens)))
        except (_Malformed, IndexError):
            raise InvalidRequirement(
                f"{text!r} is not a version requirement", hint=_requirement_hint(text)
            ) from None

    def matches(self, version: Version) -> bool:
        """Tell whether a device takes ``version`` for this requirement."""
        return self.node.admits(version)

    @property
    def rendered(self) -> str:
        """Plain comparators that mean the same, as the device writes them when it merges requirements."""
        return str(self.node)

    @property
    def comparators(self) -> tuple[Comparator, ...]:
        """Every comparator, in order of writing."""
        found: list[Comparator] = []
        waiting: list[Node] = [self.node]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Comparator):
                found.append(node)
            else:
                waiting.extend(reversed(node.comparators if isinstance(node, AllOf) else node.alternatives))
        return tuple(found)

    def __str__(self) -> str:
        return self.text


def conjunction(requirements: Iterable[Requirement]) -> Requirement:
    """Return what several sources ask of one component together, as the device joins them: by text.

    With an ``||`` inside, joining changes the meaning: ``a || b`` and ``>=c`` become ``a or (b and >=c)`` (V4).

    Raises:
        InvalidRequirement: the joined text is none.
    """
    return Requirement.parse(" ".join(requirement.rendered for requirement in requirements))


def best(versions: Iterable[Version], requirement: Requirement) -> Version | None:
    """Return the highest version that meets the requirement, or None; of equal precedence, the last by build text."""
    return max(
        filter(requirement.matches, versions), key=lambda version: (version.precedence, version.build), default=None
    )


# --- Reading a requirement: tokens, reverse Polish order, a tree --------------------------------------------------


class _Malformed(Exception):
    """The text is no requirement; stays inside this module."""


_Token: TypeAlias = tuple[str, str]  # kind, text; the kind is VERSION, AND, or the character itself
_VERSION, _AND = "version", "and"
_UNARY = {"~": "~", "^": "^", "=": "=", "<": "<", "\u2264": "<=", ">": ">", "\u2265": ">="}
_SPECIAL = frozenset(_UNARY) | frozenset("-|()")
_JAVA_BLANKS = "".join(map(chr, range(33)))
_JAVA_INTEGER = re.compile(r"[-+]?\d{1,10}")


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
                raise _Malformed
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
    raise _Malformed


def _operand(token: _Token) -> str:
    if token[0] != _VERSION:
        raise _Malformed
    return token[1]


def _combine(operator: str, left: Node, right: Node) -> Node:
    if operator == "|":
        return AnyOf((left, *right.alternatives) if isinstance(right, AnyOf) else (left, right))
    parts: list[Comparator] = []
    for node in (left, right):
        if isinstance(node, AnyOf):
            raise _Malformed  # alternatives in brackets beside a comparator: nobody's requirement
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
        return AllOf((Comparator(">=", low.completed), Comparator("<=", high.completed)))
    major, minor = (high.major + 1, 0) if high.minor is None else (high.major, high.minor + 1)
    return _between(low, _bound(major, minor, high.patch or 0, high.prerelease, high.build))


def _between(low: Bound, high: Bound) -> AllOf:
    return AllOf((Comparator(">=", low.completed), Comparator("<", high)))


def _is_version(text: str) -> bool:
    try:
        _read_bound(text, npm=True)
    except _Malformed:
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
        raise _Malformed
    pieces = tail.split("+")
    build = pieces[1] if len(pieces) == 2 else None
    numbers = _java_split(main if hyphen else pieces[0])
    prerelease = _java_split(pieces[0] if len(pieces) == 2 else suffix) if hyphen else ()
    major = _java_integer(numbers[0]) if numbers else None
    if major is None:
        raise _Malformed
    minor, patch = (_optional_number(numbers, index, npm=npm) for index in (1, 2))
    return Bound(text.replace(f"+{build}", "") if build else text, major, minor, patch, prerelease, build)


def _optional_number(numbers: tuple[str, ...], index: int, *, npm: bool) -> int | None:
    if index >= len(numbers) or (npm and numbers[index] in ("x", "X", "*")):
        return None
    number = _java_integer(numbers[index])
    if number is None:
        raise _Malformed
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


def _requirement_hint(text: str) -> str:
    if "," in text:
        return f"join comparators with a blank: {re.sub(r', *', ' ', text)!r}"
    if "!=" in text:
        return "there is no '!='; write what is allowed, such as '<1.0.0 || >1.0.0'"
    if re.search(r"[<>=]=?\s*\d+(\.(\d+|[xX*]))*\.?[xX*]", text):
        return "write three numbers after a comparator, or a range such as '1.x'"
    if re.fullmatch(r"\s*[xX]\s*", text):
        return "write '*' for any version"
    if re.search(r"-\d", text):
        return "a pre-release tag that starts with a digit cannot stand in a requirement"
    return "write a range such as '^1.2.0', '~1.2.3' or '>=1.0.0 <2.0.0'"
