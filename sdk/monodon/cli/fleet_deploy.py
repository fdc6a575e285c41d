"""``monodon fleet deploy``: plan, apply, follow."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from monodon.cli.fleet_plan import allowed, plan_of, planning_options, show
from monodon.errors import FleetError

if TYPE_CHECKING:
    from monodon.fleet.aws import Aws
    from monodon.fleet.deploying import Applied
    from monodon.fleet.following import Progress, Result
    from monodon.fleet.planned import Plan

#: The time is over, and devices have not answered; none has failed.
EXPIRED = 3


class RingOptions(NamedTuple):
    """How a file with rings is deployed."""

    allow: tuple[str, ...]
    again: bool
    values: bool
    timeout_s: float
    as_json: bool


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@planning_options
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to wait for all devices.")
@click.option("--no-follow", is_flag=True, help="Do not wait for the devices.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def deploy(
    file: Path,
    allow_remove: bool,
    allow: tuple[str, ...],
    again: bool,
    no_values: bool,
    timeout_s: float,
    no_follow: bool,
    as_json: bool,
) -> None:
    """Deploy what FILE desires (or a plan that was kept), and follow it.

    It plans first, unless FILE is a plan. Run again, or after Ctrl-C, it follows the same deployment. Exit 0: every
    device runs it, 1: it cannot be, or a device failed, 3: time is over and devices have not answered yet.

    A FILE with rings is deployed ring by ring, under their gates: `--timeout` is for each ring then.
    """
    from monodon.cli.fleet_rings import deploy_rings, judge, ringed
    from monodon.fleet import Aws
    from monodon.fleet.ledger import Ledger

    if (desired := ringed(file)) is not None:
        if no_follow:
            raise click.UsageError("a file with rings is followed: each ring waits for the one before")
        options = RingOptions(allowed(allow, allow_remove), again, not no_values, timeout_s, as_json)
        deploy_rings(Aws(), desired, file, options)
        return
    aws = Aws()
    with interruptible("nothing was changed"):
        made = plan_of(aws, file, allow_remove=allow_remove, allow=allow, again=again)
        show(made, as_json=as_json, values=not no_values)
    again_hint = f"to go on, run it again: monodon fleet deploy {file}"
    ledger = Ledger(aws, say=teller(as_json))
    with interruptible(f"the deployment may have been made or not; {again_hint} makes no second one"):
        applied = _apply(aws, made, as_json)
        ledger.record(applied.created, made.request, replaces=made.replaces)
    if no_follow:
        return
    with interruptible(f"deployment {applied.created.deployment_id} goes on without us; {again_hint}"):
        result = follow_it(aws, applied, timeout_s, as_json)
        judge(ledger, applied.created, result)
    end(applied, result, timeout_s)


@contextmanager
def interruptible(state: str) -> Iterator[None]:
    """Say what Ctrl-C leaves behind."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"\ninterrupted: {state}", err=True)
        raise click.Abort from None


def _apply(aws: "Aws", made: "Plan", as_json: bool) -> "Applied":
    from monodon.fleet import apply
    from monodon.fleet.patience import Patience

    if made.errors:
        count = len(made.errors)
        first = made.errors[0]
        more = f" (and {count - 1} more)" if count > 1 else ""
        raise FleetError(f"nothing was deployed: {first.message}{more}", hint=first.hint)
    applied = apply(aws, made, patience=Patience(say=teller(as_json)))
    created = applied.created
    event = {"kind": "created", **asdict(created), "is_new": applied.is_new, "overtook": list(applied.overtook)}
    verb = "" if applied.is_new else ", live already"
    _tell(as_json, f"deployment {created.deployment_id} for {created.target_arn}{verb}", event)
    for other in applied.overtook:
        text = f"somebody deployed {other} between the plan and this: it is replaced now"
        click.echo(f"warning: {text}", err=True)
    return applied


def follow_it(aws: "Aws", applied: "Applied", timeout_s: float, as_json: bool) -> "Result":
    from monodon.cli.fleet_drawing import draw, result_lines
    from monodon.fleet import watch

    watching = watch(aws, applied.created, timeout_s=timeout_s, say=teller(as_json))
    with live_line(as_json) as update:
        while True:
            try:
                progress = next(watching)
            except StopIteration as end:
                result: Result = end.value
                break
            update(progress)
    if as_json:
        clusters = [asdict(cluster) for cluster in result.clusters]
        click.echo(json.dumps({"kind": "result", **asdict(result), "clusters": clusters}))
    else:
        draw(result_lines(result))
    return result


@contextmanager
def live_line(as_json: bool) -> "Iterator[Callable[[Progress], None]]":
    """What shows progress: events, a line a change, or on a terminal one live line above which failures stay."""
    from rich.console import Console

    from monodon.cli.fleet_drawing import counts

    console = Console(highlight=False, soft_wrap=True)
    if as_json or not console.is_terminal:
        yield lambda progress: _tell_changes(as_json, progress)
        return
    with console.status("waiting for devices") as status:

        def update(progress: "Progress") -> None:
            for change in progress.changes:
                if change.is_failure:
                    console.print(
                        f"{change.at_s:6.1f} s  {change.thing} {change.status}  {change.reason}", markup=False
                    )
            status.update(counts(progress.counts, progress.total, progress.at_s))

        yield update


def _tell_changes(as_json: bool, progress: "Progress") -> None:
    for change in progress.changes:
        line = f"{change.at_s:6.1f} s  {change.thing} {change.status}  {change.reason}".rstrip()
        _tell(as_json, line, {"kind": "change", **asdict(change)})


def end(applied: "Applied", result: "Result", timeout_s: float) -> None:
    """Exit as the result says."""
    from monodon.fleet.following import Ending, hint_of, told_ending

    created = applied.created
    if result.ending in (Ending.STOPPED, Ending.SUPERSEDED):
        raise FleetError(told_ending(created, result, timeout_s), hint=hint_of(result.ending))
    if result.failed:
        names = [one.thing for one in result.failed]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise FleetError(
            f"deployment {created.deployment_id} failed on {', '.join(names[:5])}{more}",
            hint=None if applied.is_new else "to try the same once more, add --again",
        )
    if result.ending is Ending.EXPIRED:
        click.echo(f"error: {told_ending(created, result, timeout_s)}", err=True)
        click.echo(f"hint: {hint_of(result.ending)}", err=True)
        click.get_current_context().exit(EXPIRED)


def teller(as_json: bool) -> Callable[[str], None]:
    """What tells that a call is tried again."""
    if as_json:
        return lambda text: click.echo(json.dumps({"kind": "notice", "text": text}))
    return lambda text: click.echo(text, err=True)


def _tell(as_json: bool, text: str, event: dict[str, Any]) -> None:
    click.echo(json.dumps(event) if as_json else text)
