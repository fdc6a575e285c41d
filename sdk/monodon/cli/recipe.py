"""``monodon recipe``: check, show, format and explain recipes before a device sees them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from monodon.core.recipe.problems import Problem, Severity
from monodon.errors import ConfigurationError, RecipeError

if TYPE_CHECKING:
    from monodon.core.recipe.checks import Published

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.HINT: "cyan"}
#: Fixes that overlap are applied one after the other.
MAX_FIXES = 5
PATH = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Check, show, format and explain recipes before a device sees them."""


@command.command()
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option(
    "--target",
    "targets",
    multiple=True,
    type=click.Choice(["device", "cloud", "lite"]),
    help="Who will read it; may be given again.  [default: cloud and device]",
)
@click.option("--cloud", is_flag=True, help="Ask AWS, or the cloud of AWS_ENDPOINT_URL, for versions of dependencies.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--fix", is_flag=True, help="Apply the safe fixes, and show what changed.")
def check(paths: tuple[Path, ...], targets: tuple[str, ...], cloud: bool, as_json: bool, fix: bool) -> None:
    """Say everything that is wrong with recipes: files, or folders of components.

    Exit 0 without an error, 1 with errors.
    """
    from monodon.authoring.checking import Checked, check_paths
    from monodon.core.recipe.checks import DEFAULT_TARGETS, Target

    wanted = frozenset(Target(name) for name in targets) or DEFAULT_TARGETS
    published = _published() if cloud else None
    checked: Sequence[Checked] = list(check_paths(paths, targets=wanted, published=published))
    for _ in range(MAX_FIXES if fix else 0):
        if not [one for one in checked if one.is_written_by_hand and _fix(one.file, one.text, one.problems)]:
            break
        checked = list(check_paths(paths, targets=wanted, published=published))
    if as_json:
        files = [{"file": one.label, "problems": [_as_json(problem) for problem in one.problems]} for one in checked]
        click.echo(json.dumps({"files": files}, indent=2, ensure_ascii=False))
    else:
        for one in checked:
            for problem in one.problems:
                _print(problem, one.label, one.text)
        click.echo(_summary([problem for one in checked for problem in one.problems], len(checked)), err=True)
    raise click.exceptions.Exit(1 if any(one.has_errors for one in checked) else 0)


def _published() -> "Published":
    from functools import cache

    from monodon.fleet import Aws
    from monodon.publish.versions import versions_of

    aws = Aws()
    return cache(lambda name: versions_of(name, aws.greengrass, region=aws.region, account=aws.account))


def _fix(file: Path, text: str, problems: Sequence[Problem]) -> bool:
    """Apply the safe fixes to a file and show them on stderr; tell whether there were any."""
    from difflib import unified_diff

    from monodon.core.recipe.checks import fixed

    after = fixed(text, problems)
    if after == text:
        return False
    file.write_text(after, encoding="utf-8", newline="")
    lines = unified_diff(text.splitlines(keepends=True), after.splitlines(keepends=True), str(file), str(file))
    click.echo("".join(lines), err=True)
    return True


def _as_json(problem: Problem) -> dict[str, object]:
    names = ("code", "severity", "line", "column", "pointer", "message", "hint")
    return {name: getattr(problem, name) for name in names}


def _print(problem: Problem, label: str, text: str) -> None:
    severity = click.style(f"{problem.severity} {problem.code}", fg=_COLOURS[problem.severity])
    click.echo(f"{label}:{problem.line}:{problem.column}: {severity}: {problem.message}")
    lines = text.splitlines()
    if problem.line <= len(lines) and lines[problem.line - 1].strip():
        line = lines[problem.line - 1].replace("\t", " ")
        start = max(0, problem.column - 100)
        click.echo(f"    {line[start : start + 160]}")
        click.echo("    " + " " * (problem.column - 1 - start) + click.style("^", fg=_COLOURS[problem.severity]))
    if problem.hint:
        click.echo(f"    hint: {problem.hint}")


def _summary(problems: Sequence[Problem], recipes: int) -> str:
    counts = {severity: sum(problem.severity is severity for problem in problems) for severity in Severity}
    said = [f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts.items() if count]
    return f"{recipes} recipe{'s' * (recipes != 1)}: {', '.join(said) or 'nothing to say'}"


@command.command()
@click.argument("file", type=PATH)
@click.option("--platform", "wanted", metavar="KEY=VALUE,…", help="The device's attributes.  [default: this machine's]")
@click.option("--config", metavar="JSON", help="What a deployment merges into the default configuration.")
@click.option("--thing", default="MyThing", show_default=True, help="The device's thing.")
@click.option("--root", default="/greengrass/v2", show_default=True, help="The device's root folder.")
@click.option("--version", "version", help="Of a recipe.py with several.  [default: the last]")
def show(file: Path, wanted: str | None, config: str | None, thing: str, root: str, version: str | None) -> None:
    """Print what a device would run: its manifest, and each script with the variables filled in."""
    from monodon.authoring.showing import show_recipe
    from monodon.core.recipe.writing import yaml_text

    shown, unresolved = show_recipe(
        file, platform=_platform(wanted), changes=_changes(config), thing=thing, root=root, version=version
    )
    click.echo(yaml_text(shown), nl=False)
    for placeholder in unresolved:
        click.echo(f"note: {placeholder} stays as it is", err=True)


def _platform(wanted: str | None) -> dict[str, str]:
    if wanted is None:
        import platform

        from monodon.core.recipe.platform import platform_of

        return platform_of(platform.system(), platform.machine())
    pairs = [pair.partition("=") for pair in wanted.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise click.BadParameter(f"{wanted!r} is not KEY=VALUE,…", param_hint="--platform")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _changes(config: str | None) -> dict[str, object]:
    try:
        changes = json.loads(config or "{}")
    except ValueError as error:
        raise ConfigurationError(f"--config is not JSON: {error}") from error
    if not isinstance(changes, dict):
        raise ConfigurationError("--config must be an object", hint="""--config '{"rate": 2}'""")
    return changes


@command.command()
@click.argument("code")
def explain(code: str) -> None:
    """Print the page of a problem's code, such as R501."""
    from monodon.core.recipe.checks import RULES
    from monodon.core.recipe.checks import explain as page_of

    page = page_of(code)
    if page is None:
        raise RecipeError(
            f"no problem has the code {code}", hint=f"codes of rules: {RULES[0].code} to {RULES[-1].code}"
        )
    click.echo(f"{code.upper()}: {page}")


@command.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 1 if a file would change.")
def fmt(files: tuple[Path, ...], only_check: bool) -> None:
    """Bring recipes into the documented spelling and an even layout; comments stay."""
    from monodon.authoring.formatting import format_text

    changed = False
    for file in files:
        before = file.read_bytes().decode(errors="replace")
        after = format_text(before, file=str(file))
        if after != before:
            changed = True
            click.echo(f"{'would change' if only_check else 'changed'} {file}")
            if not only_check:
                file.write_text(after, encoding="utf-8", newline="")
    raise click.exceptions.Exit(1 if changed and only_check else 0)


@command.command()
def schema() -> None:
    """Print the JSON Schema of a recipe, for editors."""
    from monodon.core.recipe.schema import schema as recipe_schema

    click.echo(json.dumps(recipe_schema(), indent=2))


@command.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
def grants(path: Path) -> None:
    """Print the accessControl that a component's Python source needs, as far as it can be told."""
    from monodon.authoring.grants import access_control_for, read_needs

    needs = read_needs(path)
    from monodon.core.recipe.writing import yaml_text

    click.echo(yaml_text({"accessControl": access_control_for(path, needs)}), nl=False)
    for doubt in needs.doubts:
        click.echo(f"cannot tell: {doubt}", err=True)
