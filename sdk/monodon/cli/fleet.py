"""``monodon fleet``: provision, deploy to and watch a fleet, on AWS or on the embedded cloud."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from monodon.cli.fleet_deploy import deploy
from monodon.cli.fleet_plan import export, plan


@click.group()
def command() -> None:
    """Provision, deploy to and watch a fleet: on AWS, or on the embedded cloud that AWS_ENDPOINT_URL names."""


for verb in (plan, deploy, export):
    command.add_command(verb)


@command.command()
@click.argument("thing")
@click.option("--group", required=True, help="The thing group it joins; made if missing.")
@click.option("--root", type=click.Path(path_type=Path), required=True, help="The device's root folder, written here.")
@click.option(
    "--root-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    required=True,
    help="What the device trusts: AmazonRootCA1.pem, or the embedded cloud's ca_file.",
)
@click.option(
    "--cloud", type=click.Path(path_type=Path, exists=True), help="An embedded cloud's folder, for its ports."
)
def provision(thing: str, group: str, root: Path, root_ca: Path, cloud: Path | None) -> None:
    """Make THING with certificate, policy and role alias, and write its root folder."""
    from monodon.fleet import Aws, cloud_endpoints
    from monodon.fleet import provision as steps

    endpoints = cloud_endpoints(json.loads((cloud / "ready.json").read_text())) if cloud else None
    for step in steps(Aws(), thing=thing, group=group, root=root, root_ca=root_ca, endpoints=endpoints):
        click.echo(f"{'made' if step.made else 'found'} {step.what}")


@command.command()
@click.option("--group", help="Only the members of a thing group.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a device and line.")
def status(group: str | None, as_json: bool) -> None:
    """Show each core device, its health and its components, as last reported."""
    from monodon.fleet import Aws, fleet_status

    tell = teller(as_json)
    for device in fleet_status(Aws(), group=group):
        tell(f"{device.thing}  {device.status}  {device.platform}  reported {device.reported_at}", device.to_json())
        for one in device.components if not as_json else ():
            root = "root" if one.is_root else "    "
            tell(f"  {root}  {one.name} {one.version}  {one.state}  {one.details}".rstrip(), {})


def teller(as_json: bool) -> Callable[[str, Any], None]:
    """Return what prints a line for people, or its JSON for machines."""
    if as_json:
        return lambda text, value: click.echo(json.dumps(value))
    return lambda text, value: click.echo(text)
