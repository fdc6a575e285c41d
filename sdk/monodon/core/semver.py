"""Versions and version requirements, as a core device reads them.

The device's requirements look like npm's and are not: a partial version after a comparator stays partial
(``>=2.0`` leaves 2.0.0 out), a lone comparator admits pre-releases, ``1.0.0 2.0.0`` is one nonsense version.

The reading itself is in ``ranges``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from monodon.core.ranges import AllOf, Comparator, MalformedRangeError, Node, parse_range
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
        identifiers = tuple((False, int(part), "") if part.isdecimal() else (True, 0, part) for part in self.prerelease)
        return self.major, self.minor, self.patch, not self.prerelease, identifiers


def _version_hint(text: str) -> str:
    if re.fullmatch(r"[vV=]\s*\d.*", text):
        return f"write {text.lstrip('vV= ')!r}, without the letter in front"
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return f"write three numbers: {text + '.0' * (2 - text.count('.'))!r}"
    return "write major.minor.patch, such as 1.0.0 or 1.0.0-rc.1"


#: (choice) A device has no limit; nobody's requirement is longer, and reading one takes the square of its length.
MAX_REQUIREMENT = 4096


@dataclass(frozen=True, slots=True)
class Requirement:
    """Which versions of a component will do; equal when written alike."""

    text: str
    node: Node = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the requirement that ``text`` spells for a device.

        Raises:
            InvalidRequirement: a device refuses it, or it is longer than any.
        """
        if len(text) > MAX_REQUIREMENT:
            message = f"a version requirement of {len(text)} characters"
            raise InvalidRequirement(message, hint=f"write it with {MAX_REQUIREMENT} at most")
        try:
            return cls(text, parse_range(text))
        except MalformedRangeError:
            raise InvalidRequirement(f"{text!r} is not a version requirement", hint=_requirement_hint(text)) from None

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
