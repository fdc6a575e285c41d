"""Checks: what a recipe will do on a device, in AWS, and on nucleus lite, before any of them sees it.

Three layers: *errors* (the target refuses or misreads it), *warnings* (works, surely not as meant), *hints*.
"""

from collections.abc import Collection, Mapping

from monodon.core.names import ComponentName
from monodon.core.recipe.checks import (
    access,
    artifacts,
    dependencies,
    lifecycles,
    lite,
    platforms,
    values,
    variables,
    whole,
)
from monodon.core.recipe.checks.pages import PAGES
from monodon.core.recipe.checks.rule import Found, Rule, Target
from monodon.core.recipe.checks.subject import Published, Subject
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.problems import Fix, Problem
from monodon.core.recipe.reading import PLACEHOLDERS, read_recipe

DEFAULT_TARGETS = frozenset({Target.CLOUD, Target.DEVICE})
_MODULES = (whole, platforms, lifecycles, variables, dependencies, artifacts, access, values, lite)
#: Every rule, in order of their codes.
RULES: tuple[Rule, ...] = tuple(
    sorted(
        (one for module in _MODULES for one in vars(module).values() if isinstance(one, Rule)), key=lambda one: one.code
    )
)


def check(
    text: str | bytes,
    *,
    file: str,
    targets: Collection[Target] = DEFAULT_TARGETS,
    neighbours: Mapping[ComponentName, tuple[Recipe, ...]] | None = None,
    code: Mapping[str, str] | None = None,
    published: Published | None = None,
) -> tuple[Problem, ...]:
    """Return everything that is wrong with a recipe, in order of the text.

    Args:
        file: its name, which tells JSON from YAML.
        targets: who will read it.
        neighbours: recipes of other components, by name.
        code: the component's Python source, by file name.
        published: where to ask for the versions of dependencies; what it raises is not caught.
    """
    decoded = text if isinstance(text, str) else text.decode(errors="replace")
    is_template = any(placeholder in decoded for placeholder in (*PLACEHOLDERS, "COMPONENT_VERSION"))
    reading = read_recipe(text, file=file, is_template=is_template)
    if reading.root is None:
        return reading.problems
    subject = Subject(
        root=reading.root,
        text=decoded,
        recipe=reading.recipe,
        is_template=is_template,
        neighbours={str(name): recipes for name, recipes in (neighbours or {}).items()},
        code=code or {},
        published=published,
    )
    found = [_problem(rule, one, subject) for rule in _rules_for(targets) for one in rule.check(subject)]
    once = dict.fromkeys((*reading.problems, *found))
    return tuple(sorted(once, key=lambda one: (one.line, one.column, one.code)))


def _rules_for(targets: Collection[Target]) -> list[Rule]:
    return [rule for rule in RULES if not rule.targets.isdisjoint(targets)]


def _problem(rule: Rule, found: Found, subject: Subject) -> Problem:
    place = subject.find(found.node, found.needle) if found.needle and found.at is None else None
    line, column = place or found.at or found.node.at
    fix = None
    if found.replacement is not None and found.needle is not None and (place or found.at):
        fix = Fix(line=line, column=column, old=found.needle, new=found.replacement)
    return Problem(
        code=rule.code,
        severity=rule.severity,
        message=found.message,
        hint=found.hint,
        line=line,
        column=column,
        pointer=found.pointer,
        fix=fix,
    )


def explain(code: str) -> str | None:
    """Return the page of a code, or None if there is no such rule."""
    code = code.upper()
    page = PAGES.get(code)
    return page or next((rule.page for rule in RULES if rule.code == code), None)


def fixed(text: str, problems: Collection[Problem]) -> str:
    """Return the text with every safe fix applied; of fixes that overlap the first counts."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    changes: list[tuple[int, Fix]] = []
    for problem in problems:
        fix = problem.fix
        if fix is not None and fix.line <= len(starts):
            position = starts[fix.line - 1] + fix.column - 1
            if text.startswith(fix.old, position):
                changes.append((position, fix))
    parts, end = [], 0
    for position, fix in sorted(changes, key=lambda change: change[0]):
        if position >= end:
            parts += [text[end:position], fix.new]
            end = position + len(fix.old)
    return "".join([*parts, text[end:]])


__all__ = ["DEFAULT_TARGETS", "PAGES", "RULES", "Published", "Rule", "Target", "check", "explain", "fixed"]
