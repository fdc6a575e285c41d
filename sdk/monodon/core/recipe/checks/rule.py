"""What a rule is: a small function with a stable code, and a page that explains it."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Found:
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


@dataclass(frozen=True, slots=True)
class Rule:
    """A check and what is to be known about it."""

    code: str
    severity: Severity
    targets: frozenset[Target]
    title: str
    page: str
    check: Callable[[Subject], Iterable[Found]]


def rule(code: str, severity: Severity, *targets: Target) -> Callable[[Callable[[Subject], Iterable[Found]]], Rule]:
    """Make a rule of a function; its docstring is the rule's page, and its first line the title.

    Without ``targets`` it holds for all.
    """

    def make(check: Callable[[Subject], Iterable[Found]]) -> Rule:
        page = inspect.cleandoc(check.__doc__ or "")
        title = page.partition("\n")[0].rstrip(".")
        return Rule(code, severity, frozenset(targets) or EVERYWHERE, title, page, check)

    return make
