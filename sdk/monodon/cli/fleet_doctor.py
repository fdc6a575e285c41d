"""``monodon fleet doctor``: what a fleet lacks in AWS, or a device in itself."""

import json
from collections.abc import Iterable
from pathlib import Path

import click


@click.command()
@click.option("--thing", "things", multiple=True, help="Look at this thing; may be given more than once.")
@click.option("--group", help="Look at each member of a thing group.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    help="A device's root folder on this machine; with --on-device the nucleus's.  [default there: /greengrass/v2]",
)
@click.option(
    "--recipes",
    type=click.Path(path_type=Path, exists=True),
    help="A folder of recipes that will be deployed: their grants are checked as well.",
)
@click.option("--role-alias", help="The role alias of the devices.  [default: the root's, else Monodon's own]")
@click.option("--on-device", is_flag=True, help="Look at this machine as a device; needs no AWS credentials.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check and line.")
@click.pass_context
def doctor(
    context: click.Context,
    things: tuple[str, ...],
    group: str | None,
    root: Path | None,
    recipes: Path | None,
    role_alias: str | None,
    on_device: bool,
    as_json: bool,
) -> None:
    """Look for what is wrong, and say what to do about it; exit 1 if anything is.

    Of the account: endpoints, clock, role alias, s3:GetObject on the artifacts. Of each thing: its certificate, and
    whether its IoT policies allow all that the nucleus and the components' mqttproxy grants need; what is missing is
    printed as a statement to paste. It only reads.
    """
    from monodon.fleet.on_device import Verdict
    from monodon.fleet.on_device_report import is_fine, lines

    verdicts: Iterable[Verdict]
    if on_device:
        if things or group or recipes or role_alias:
            raise click.UsageError("--on-device looks at this machine alone: it goes with --root and --json")
        from monodon.fleet.on_device import judge
        from monodon.fleet.on_device_facts import gather

        verdicts = judge(gather(root))
    else:
        from monodon.fleet.aws import Aws
        from monodon.fleet.doctor import examine

        verdicts = examine(Aws(), things=things, group=group, root=root, recipes=recipes, role_alias=role_alias)
    found = []
    for verdict in verdicts:
        found.append(verdict)
        for line in [json.dumps(verdict.to_json())] if as_json else lines([verdict]):
            click.echo(line)
    if not is_fine(found):
        context.exit(1)
