"""``monodon fleet plan`` and ``export``: what would change, and what is live."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from monodon.errors import FleetError

if TYPE_CHECKING:
    from monodon.fleet.aws import Aws
    from monodon.fleet.planned import Plan

#: Findings that may be meant. The same as in ``fleet.planning``, which is imported only when it is needed.
ALLOWABLE = ("CONFLICT", "DELETED", "DEPENDENCY", "NO_ARTIFACT", "PLATFORM", "REMOVES")

Command = TypeVar("Command", bound=Callable[..., object])


def planning_options(command: Command) -> Command:
    """Give a command the options that say what a plan may do."""
    for option in (
        click.option("--no-values", is_flag=True, help="Leave values of configurations out: they may be secret."),
        click.option("--again", is_flag=True, help="Make a new revision even if it says the same as the live one."),
        click.option(
            "--allow",
            multiple=True,
            type=click.Choice(ALLOWABLE, case_sensitive=False),
            help="Let a finding of this kind pass; may be repeated.",
        ),
        click.option("--allow-remove", is_flag=True, help="Components that FILE does not name leave the devices."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@planning_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Keep the plan, for `fleet deploy`.")
@click.option("--json", "as_json", is_flag=True, help="The plan as one JSON object.")
def plan(
    file: Path,
    allow_remove: bool,
    allow: tuple[str, ...],
    again: bool,
    no_values: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Show what deploying FILE would change. Only reads. Exit 0: nothing to do, 2: changes, 1: it cannot be.

    Of a FILE with rings it shows the plan of each ring, in their order.
    """
    from monodon.cli.fleet_rings import plan_rings, ringed
    from monodon.fleet import Aws

    if (desired := ringed(file)) is not None:
        if out is not None:
            raise FleetError(
                "a plan of rings cannot be kept: each ring is planned when its rollout begins",
                hint=f"leave --out out, and deploy the file itself: monodon fleet deploy {file}",
            )
        plan_rings(
            Aws(), desired, allow=allowed(allow, allow_remove), again=again, values=not no_values, as_json=as_json
        )
        return
    made = plan_of(Aws(), file, allow_remove=allow_remove, allow=allow, again=again)
    show(made, as_json=as_json, values=not no_values)
    if out is not None:
        _keep(made, out)
    click.get_current_context().exit(1 if made.errors else 0 if made.is_empty else 2)


@click.command()
@click.argument("target")
@click.option("--format", "style", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def export(target: str, style: str) -> None:
    """Write what is live on TARGET (thinggroup/NAME, thing/NAME or an ARN) as a fleet file, or as AWS's own JSON."""
    from monodon.fleet import Aws
    from monodon.fleet import export as write

    click.echo(write(Aws(), target, style=style), nl=False)


def plan_of(aws: "Aws", file: Path, *, allow_remove: bool, allow: tuple[str, ...], again: bool) -> "Plan":
    """Make the plan for a fleet file; a plan that was kept is read again.

    Raises:
        FleetError: the file cannot be read, there is no such target, or AWS refuses a call.
    """
    from monodon.fleet import make_plan, read_desired
    from monodon.fleet.patience import Patience

    kept = kept_plan(file)
    if kept is not None:
        return kept
    patience = Patience(network=False, say=lambda text: click.echo(text, err=True))
    return make_plan(aws, read_desired(file), allow=allowed(allow, allow_remove), again=again, patience=patience)


def allowed(allow: tuple[str, ...], allow_remove: bool) -> tuple[str, ...]:
    """Return the codes of findings that options let pass."""
    return (*(code.upper() for code in allow), *(["REMOVES"] if allow_remove else []))


def kept_plan(file: Path) -> "Plan | None":
    """Return the plan that a file keeps; None if it is a fleet file.

    Raises:
        FleetError: it was changed since it was kept.
    """
    from monodon.fleet.planned import read_plan

    try:
        content = file.read_bytes()
        document = json.loads(content) if content.lstrip()[:1] == b"{" else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or "token" not in document or "request" not in document:
        return None
    return read_plan(document, file=str(file))


def show(made: "Plan", *, as_json: bool, values: bool) -> None:
    """Print a plan."""
    from monodon.cli.fleet_drawing import draw, plan_lines

    if not as_json:
        draw(plan_lines(made, values=values))
        return
    click.echo(json.dumps(document_of(made, values=values)))


def document_of(made: "Plan", *, values: bool) -> dict[str, Any]:
    """Return a plan for machines."""
    document: dict[str, Any] = {"kind": "plan", **made.to_json()}
    return document if values else _without_values(document)


def _without_values(document: dict[str, Any]) -> dict[str, Any]:
    hidden = {key: value for key, value in document.items() if key != "request"}
    for one in (*hidden["differences"], *(each for finding in hidden["findings"] for each in finding["details"])):
        if one["what"] in ("configuration", "merge", "default"):
            one["old"] = one["new"] = None
    return hidden


def _keep(made: "Plan", path: Path) -> None:
    """Write a plan where only its owner can read it: configurations may be secret."""
    try:
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(json.dumps(made.to_json(), indent=2) + "\n")
    except OSError as error:
        raise FleetError(f"cannot write {path}: {error.strerror}") from error
