"""What a rule is: a small function with a stable code, and a page that explains it."""

import inspect
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import NamedTuple

from monodon.core.recipe.checks.subject import Subject
from monodon.core.recipe.nodes import Node, Place
from monodon.core.recipe.problems import Severity


class Target(StrEnum):
    """Who will read the recipe: a core device, AWS when it is published, or a device with nucleus lite."""

    DEVICE = "device"
    CLOUD = "cloud"
    LITE = "lite"


DEVICE, CLOUD, LITE = Target.DEVICE, Target.CLOUD, Target.LITE
EVERYWHERE = frozenset(Target)
ERROR, WARNING, HINT = Severity.ERROR, Severity.WARNING, Severity.HINT


class Found(NamedTuple):
    """One thing that a rule found.

    Attributes:
        node: where; ``needle`` a text within it to point at.
        replacement: what a safe fix puts in the needle's place.
    """

    node: Node
    pointer: str
    message: str
    hint: str | None = None
    needle: str | None = None
    replacement: str | None = None
    at: Place | None = None


class Rule(NamedTuple):
    """A check and what is to be known about it; the docstring of ``check`` is the page, its first line the title."""

    code: str
    severity: Severity
    targets: frozenset[Target]
    check: Callable[[Subject], Iterable[Found]]

    @property
    def page(self) -> str:
        """What ``monodon recipe explain`` prints."""
        return inspect.cleandoc(self.check.__doc__ or "")

    @property
    def title(self) -> str:
        """The page's first line."""
        return self.page.partition("\n")[0].rstrip(".")


def rule(code: str, severity: Severity, *targets: Target) -> Callable[[Callable[[Subject], Iterable[Found]]], Rule]:
    """Make a rule of a function; without ``targets`` it holds for all."""

    def make(check: Callable[[Subject], Iterable[Found]]) -> Rule:
        return Rule(code, severity, frozenset(targets) or EVERYWHERE, check)

    return make
