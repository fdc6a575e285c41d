"""``monodon fleet plan`` and ``deploy`` of a file with rings, ``rollback`` and ``history``."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monodon.cli.fleet_deploy import EXPIRED, RingOptions, end, follow_it, interruptible, live_line, teller
from monodon.cli.fleet_plan import document_of, kept_plan, show
from monodon.errors import FleetError

if TYPE_CHECKING:
    from monodon.fleet.aws import Aws
    from monodon.fleet.deploying import Applied
    from monodon.fleet.desired import Desired
    from monodon.fleet.following import Created, Progress, Result
    from monodon.fleet.happening import Event, Rolled
    from monodon.fleet.history import Revision
    from monodon.fleet.ledger import Ledger
    from monodon.fleet.rollback import Rollback, Way
    from monodon.fleet.staging import Staged


def ringed(file: Path) -> "Desired | None":
    """Return what a fleet file desires if it has rings.

    Raises:
        FleetError: it cannot be read.
    """
    from monodon.fleet import read_desired

    if kept_plan(file) is not None:
        return None
    desired = read_desired(file)
    return desired if desired.rings else None


def plan_rings(
    aws: "Aws", desired: "Desired", *, allow: tuple[str, ...], again: bool, values: bool, as_json: bool
) -> None:
    """Show what a rollout would change, ring by ring, and exit: 0 nothing, 2 changes, 1 it cannot be.

    Raises:
        FleetError: a target is in two rings, this was rolled back before, or AWS refuses a call.
    """
    from monodon.fleet.ledger import Ledger
    from monodon.fleet.patience import Patience
    from monodon.fleet.staging import Staging

    def say(text: str) -> None:
        click.echo(text, err=True)

    patience = Patience(network=False, say=say)
    ledger = Ledger(aws, say=say, patience=patience)
    staged = Staging(aws, desired, ledger, patience=patience, allow=allow, now_s=time.time()).read()
    _show_rings(staged, values=values, as_json=as_json)
    plans = [plan for stage in staged.stages for plan in stage.plans]
    if condemned := staged.condemned():
        reason = next(iter(condemned.values())).note or "an earlier run failed its gates"
        raise FleetError(
            f"an earlier run was stopped, and is not rolled back yet: {reason}",
            hint="monodon fleet deploy of this file goes on with rolling it back",
        )
    if not again:
        staged.refuse_bad()
    errors = any(plan.errors for plan in plans)
    click.get_current_context().exit(1 if errors else 0 if all(plan.is_empty for plan in plans) else 2)


def _show_rings(staged: "Staged", *, values: bool, as_json: bool) -> None:
    from monodon.cli.fleet_drawing import draw, ring_line

    if as_json:
        rings = [
            {
                "name": stage.ring.name,
                "targets": list(stage.arns),
                "plans": [document_of(plan, values=values) for plan in stage.plans],
            }
            for stage in staged.stages
        ]
        click.echo(json.dumps({"kind": "rings", "rings": rings}))
        return
    for stage in staged.stages:
        draw([ring_line(stage.ring.name, stage.arns)])
        for plan in stage.plans:
            show(plan, as_json=False, values=values)


def deploy_rings(aws: "Aws", desired: "Desired", file: Path, options: RingOptions) -> None:
    """Deploy ring by ring, tell what happens, and exit: 0 all are good, 1 one was not, 3 devices have not answered."""
    from monodon.fleet.ledger import Ledger
    from monodon.fleet.patience import Patience
    from monodon.fleet.rings import Rollout

    say = teller(options.as_json)
    patience = Patience(say=say)
    rollout = Rollout(
        aws,
        desired,
        Ledger(aws, say=say, patience=patience),
        timeout_s=options.timeout_s,
        allow=options.allow,
        again=options.again,
        patience=patience,
    )
    state = f"what is deployed stays; to go on where it was, run it again: monodon fleet deploy {file}"
    with interruptible(state), live_line(options.as_json) as update:
        running = rollout.run()
        while True:
            try:
                _tell(next(running), options, update)
            except StopIteration as ended:
                rolled: Rolled = ended.value
                break
    _end_rings(rolled, options.as_json)


def _tell(event: "Event", options: RingOptions, update: "Callable[[Progress], None]") -> None:
    if event.progress is not None:
        update(event.progress)
    elif event.plan is not None:
        if not options.as_json:
            click.echo(event.text)
        show(event.plan, as_json=options.as_json, values=options.values)
    elif options.as_json:
        click.echo(json.dumps({"kind": event.kind, "ring": event.ring, "text": event.text, **event.details}))
    else:
        click.echo(event.text)


def _end_rings(rolled: "Rolled", as_json: bool) -> None:
    if as_json:
        document = {**asdict(rolled), "evidence": [str(path) for path in rolled.evidence]}
        click.echo(json.dumps({"kind": "result", **document}))
    if rolled.reason:
        paths = f"see {rolled.evidence[0]}" if rolled.evidence else None
        back = "all rings were rolled back" if rolled.is_back else "NOT all devices went back"
        raise FleetError(f"{rolled.reason}; {back}", hint=paths)
    if rolled.waiting:
        more = f" and {len(rolled.waiting) - 5:,} more" if len(rolled.waiting) > 5 else ""
        names = ", ".join(rolled.waiting[:5])
        click.echo(f"error: all rings are good, and {names}{more} have not taken it up yet", err=True)
        click.echo("hint: an offline device takes it up when it comes back", err=True)
        click.get_current_context().exit(EXPIRED)
    if not as_json:
        click.echo("all rings are good")


def judge(ledger: "Ledger", created: "Created", result: "Result") -> None:
    """Write down how a deployment ended; while devices have not answered, nobody knows."""
    from monodon.fleet.entries import Outcome
    from monodon.fleet.following import Ending

    if result.failed or result.ending is Ending.STOPPED:
        reason = result.failed[0].reason if result.failed else "it was canceled"
        ledger.judge(created.target_arn, created.deployment_id, Outcome.BAD, note=reason[:300])
    elif result.ending is Ending.DONE and result.succeeded:
        ledger.judge(created.target_arn, created.deployment_id, Outcome.GOOD)


@click.command()
@click.argument("target", metavar="TARGET|FILE")
@click.option("--to", metavar="DEPLOYMENT_ID|REVISION", help="Go back to this one.  [default: the last good one]")
@click.option("--plan", "plan_only", is_flag=True, help="Only show the plan. Exit 0: nothing to do, 2: changes.")
@click.option("--no-values", is_flag=True, help="Leave values of configurations out: they may be secret.")
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to wait for all devices.")
@click.option("--no-follow", is_flag=True, help="Do not wait for the devices.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def rollback(
    target: str, to: str | None, plan_only: bool, no_values: bool, timeout_s: float, no_follow: bool, as_json: bool
) -> None:
    """Go back to the last good revision of TARGET (thinggroup/NAME, thing/NAME or an ARN), every field of it.

    With a fleet FILE: of its target, or of all targets of its rings that have what it says, the last ring first. What
    later revisions left in configurations is reset. Exit codes are those of deploy.
    """
    from monodon.fleet import Aws
    from monodon.fleet.ledger import Ledger
    from monodon.fleet.rollback import Way

    aws = Aws()
    ledger = Ledger(aws, say=teller(as_json))
    way = Way(aws, ledger)
    with interruptible("nothing was changed"):
        plans = [way.plan(one, to=to) for one in _targets(aws, ledger, target, to)]
        for found in plans:
            show(found.plan, as_json=as_json, values=not no_values)
        _refuse(plans)
    if plan_only:
        click.get_current_context().exit(0 if all(found.plan.is_empty for found in plans) else 2)
    _go_back(aws, way, ledger, plans, f"monodon fleet rollback {target}", None if no_follow else timeout_s, as_json)


def _targets(aws: "Aws", ledger: "Ledger", target: str, to: str | None) -> tuple[str, ...]:
    from monodon.fleet import read_desired
    from monodon.fleet.staging import deployed_targets

    if target.startswith(("arn:", "thing/", "thinggroup/")) and not Path(target).is_file():
        return (target,)
    if not Path(target).is_file():
        raise FleetError(f"{target!r} is neither a target nor a file", hint="write thinggroup/NAME, or a fleet file")
    desired = read_desired(Path(target))
    if not desired.rings:
        return (desired.target,)
    if to is not None:
        raise click.UsageError("--to is for one target")
    return tuple(reversed(deployed_targets(aws, desired, ledger)))


def _refuse(plans: "list[Rollback]") -> None:
    for found in plans:
        if found.plan.errors:
            first = found.plan.errors[0]
            raise FleetError(f"nothing was rolled back: {first.message}", hint=first.hint)


def _go_back(
    aws: "Aws",
    way: "Way",
    ledger: "Ledger",
    plans: "list[Rollback]",
    again: str,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    made: list[Applied] = []
    with interruptible(f"some of it may be done; to go on, run it again: {again}"):
        for found in plans:
            applied = way.apply(found)
            made.append(applied)
            created = applied.created
            to = f"revision {found.to.revision}" if found.to else ""
            text = f"deployment {created.deployment_id} for {created.target_arn} goes back to {to}"
            event = {"kind": "created", **asdict(created), "is_new": applied.is_new, "to": to}
            click.echo(json.dumps(event) if as_json else text)
    if timeout_s is None:
        return
    results = []
    with interruptible(f"the devices go on without us; to follow on, run it again: {again}"):
        for applied in made:
            results.append(follow_it(aws, applied, timeout_s, as_json))
            judge(ledger, applied.created, results[-1])
    for applied, result in zip(made, results, strict=True):
        end(applied, result, timeout_s)


@click.command()
@click.argument("target")
@click.option("--last", default=20, show_default=True, type=click.IntRange(1, 100), help="How many revisions.")
@click.option("--no-values", is_flag=True, help="Leave values of configurations out: they may be secret.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a revision and line.")
def history(target: str, last: int, no_values: bool, as_json: bool) -> None:
    """Show the revisions of TARGET, the newest first: who made each, when, what it changed, how it turned out.

    It only reads: the ledger's local file, the target's tags, and AWS's list of deployments.
    """
    from monodon.fleet import Aws
    from monodon.fleet.history import history as read
    from monodon.fleet.ledger import Ledger

    aws = Aws()
    revisions = read(aws, Ledger(aws, say=teller(as_json)), target, last=last)
    for one in revisions:
        if as_json:
            click.echo(json.dumps(_document(one, values=not no_values)))
        else:
            _show(one, values=not no_values)
    if not revisions and not as_json:
        click.echo(f"{target} never had a deployment")


def _document(one: "Revision", *, values: bool) -> dict[str, Any]:
    document = one.to_json()
    for change in document["changes"] or ():
        if not values and change["what"] in ("configuration", "merge"):
            change["old"] = change["new"] = None
    return document


def _show(one: "Revision", *, values: bool) -> None:
    from monodon.cli.fleet_drawing import change_lines

    entry = one.entry
    when = datetime.fromtimestamp(entry.made_s, UTC).isoformat(timespec="seconds") if entry.made_s else "nobody knows"
    live = "  (live)" if one.is_live else ""
    click.secho(f"revision {entry.revision}  {entry.outcome}{live}  {entry.deployment_id}", bold=one.is_live)
    click.echo(f"  {when}  by {entry.operator or 'somebody without Monodon'}")
    if entry.note:
        click.echo(f"  {entry.note}")
    if one.changes is None:
        click.echo("  what it changed is not known any more")
        return
    for line in change_lines(one.changes, values=values):
        click.echo("  " * line.depth + line.text)
