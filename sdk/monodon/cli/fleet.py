"""``monodon fleet``: provision, deploy to and watch a fleet, on AWS or on the embedded cloud."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from monodon.errors import FleetError


@click.group()
def command() -> None:
    """Provision, deploy to and watch a fleet: on AWS, or on the embedded cloud that AWS_ENDPOINT_URL names."""


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
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--timeout", "timeout_s", default=600.0, show_default=True, help="Seconds to wait for all devices.")
@click.option("--no-follow", is_flag=True, help="Do not wait for the devices.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def deploy(file: Path, timeout_s: float, no_follow: bool, as_json: bool) -> None:
    """Deploy what FILE desires, and follow it; exit 1 if a device fails."""
    from dataclasses import asdict

    from monodon.fleet import Aws, follow, read_desired
    from monodon.fleet import deploy as create

    aws, tell = Aws(), teller(as_json)
    created = create(aws, read_desired(file))
    tell(f"deployment {created.deployment_id} for {created.target_arn}", {"kind": "created", **asdict(created)})
    failed = []
    for change in follow(aws, created, timeout_s=timeout_s) if not no_follow else ():
        reason = f": {change.reason}" if change.reason else ""
        tell(f"{change.at_s:6.1f} s  {change.thing} {change.status}{reason}", {"kind": "change", **asdict(change)})
        if change.is_final and not change.is_success:
            failed.append(change.thing)
    if failed:
        raise FleetError(f"deployment {created.deployment_id} failed on {len(failed)}: {', '.join(sorted(failed)[:5])}")


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
