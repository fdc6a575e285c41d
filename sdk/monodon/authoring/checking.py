"""Recipes on disk → their problems: finds the files, and what is known around each of them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from monodon.authoring.project import RECIPE_FILES, Kind, Source, find_components
from monodon.core.names import ComponentName
from monodon.core.recipe.checks import DEFAULT_TARGETS, Published, Target
from monodon.core.recipe.checks import check as check_text
from monodon.core.recipe.model import Recipe
from monodon.core.recipe.nodes import Entries, find
from monodon.core.recipe.problems import Problem, Severity
from monodon.core.recipe.reading import MAX_SIZE_BYTES, read_recipe
from monodon.errors import MonodonError, RecipeError


class Checked(NamedTuple):
    """One recipe and what is wrong with it; ``text`` is what its places refer to.

    For a recipe.py that is the YAML which it makes, and ``label`` says of which version.
    """

    file: Path
    label: str
    text: str
    problems: tuple[Problem, ...]
    is_written_by_hand: bool = True

    @property
    def has_errors(self) -> bool:
        """Tell whether a target would refuse it."""
        return any(problem.severity is Severity.ERROR for problem in self.problems)


def check_paths(
    paths: Sequence[Path], *, targets: Collection[Target] = DEFAULT_TARGETS, published: Published | None = None
) -> Iterator[Checked]:
    """Check every recipe in ``paths``, files and folders; the recipes of the folders know one another.

    Args:
        published: where to ask for versions of dependencies that are not in the folders; what it raises is not caught.

    Raises:
        RecipeError: a path does not exist, or a folder has no recipe.
    """
    sources: list[Source] = []
    for path in paths:
        found = find_components(path)
        if not found:
            raise RecipeError(f"no recipe in {path}", hint=f"a recipe is recipe.py, {' or '.join(RECIPE_FILES)}")
        sources += found
    neighbours = known_recipes(sources) if any(path.is_dir() for path in paths) else {}
    for source in sources:
        yield from _check_source(source, targets, neighbours, published)


def known_recipes(sources: Sequence[Source]) -> Mapping[ComponentName, tuple[Recipe, ...]]:
    """Return the recipes that can be read, by name; the others are a matter of their own check."""
    known: dict[ComponentName, dict[str, Recipe]] = {}
    for source in sources:
        try:
            recipes = source.recipes()
        except MonodonError:
            continue
        for recipe in recipes:
            known.setdefault(recipe.name, {})[str(recipe.version)] = recipe
    return {name: tuple(versions.values()) for name, versions in known.items()}


def python_files(source: Source) -> dict[str, str]:
    """Return the component's own Python source, if its folder is the component's."""
    if source.file.name not in ("recipe.py", *RECIPE_FILES):
        return {}
    files = (path for path in sorted(source.folder.glob("*.py")) if path.name != "recipe.py")
    return {path.name: path.read_text(encoding="utf-8", errors="replace") for path in files}


def _check_source(
    source: Source,
    targets: Collection[Target],
    neighbours: Mapping[ComponentName, tuple[Recipe, ...]],
    published: Published | None,
) -> Iterator[Checked]:
    code = python_files(source)
    check = partial(check_text, targets=targets, neighbours=neighbours, code=code, published=published)
    if source.kind is not Kind.PYTHON:
        with source.file.open("rb") as stream:
            content = stream.read(MAX_SIZE_BYTES + 1)  # of more nothing is read, but that it is too much
        text = content.decode(errors="replace")
        problems = (
            *check(content, file=source.file.name),
            *_compare_grants(text, source.file.name, code),
        )
        yield Checked(file=source.file, label=str(source.file), text=text, problems=problems)
        return
    try:
        recipes = source.recipes()
    except MonodonError as error:
        problem = Problem(code="R011", severity=Severity.ERROR, message=error.message, hint=error.hint)
        yield Checked(file=source.file, label=str(source.file), text="", problems=(problem,), is_written_by_hand=False)
        return
    from monodon.core.recipe.writing import write_yaml  # most recipes are text already

    for recipe in recipes:
        text = write_yaml(recipe)
        problems = (
            *check(text, file="recipe.yaml"),
            *_compare_grants(text, "recipe.yaml", code),
            *_stale_policies(recipe, recipes),
        )
        label = f"{source.file} ({recipe.version})"
        yield Checked(file=source.file, label=label, text=text, problems=problems, is_written_by_hand=False)


def _compare_grants(text: str, file: str, code: Mapping[str, str]) -> Iterator[Problem]:
    """Yield where the recipe's accessControl and what the code uses differ, at the accessControl."""
    if not code:
        return
    from dataclasses import replace

    from monodon.authoring.comparing import compare
    from monodon.authoring.grants import needs_of  # reads Python: slow to import

    reading = read_recipe(text, file=file)
    if reading.recipe is None:
        return
    try:
        needs = needs_of(code, component=str(reading.recipe.name))
    except RecipeError:
        return  # broken code is the linter's matter
    defaults = find(reading.root, "ComponentConfiguration", "DefaultConfiguration")
    key = defaults.key("accessControl") if isinstance(defaults, Entries) else None
    line, column = key.at if key else (1, 1)
    pointer = "/ComponentConfiguration/DefaultConfiguration/accessControl" if key else ""
    for problem in compare(reading.recipe.configuration.get("accessControl"), needs):
        yield replace(problem, line=line, column=column, pointer=pointer)


def _stale_policies(recipe: Recipe, all_versions: Sequence[Recipe]) -> Iterator[Problem]:
    """Yield the policies of earlier versions that a device keeps, unless a deployment resets them."""
    if recipe.version != max(one.version for one in all_versions):
        return
    present = set(_policy_pointers(recipe))
    stale = {pointer for one in all_versions for pointer in _policy_pointers(one)} - present
    if stale:
        pointers = ", ".join(f'"{pointer}"' for pointer in sorted(stale))
        message = f"devices keep {len(stale)} grant{'s' * (len(stale) != 1)} of earlier versions"
        yield Problem(code="R822", severity=Severity.HINT, message=message, hint=f"reset in a deployment: [{pointers}]")


def _policy_pointers(recipe: Recipe) -> Iterator[str]:
    services = recipe.configuration.get("accessControl")
    for service, policies in services.items() if isinstance(services, dict) else ():
        yield from (f"/accessControl/{service}/{name}" for name in policies)
