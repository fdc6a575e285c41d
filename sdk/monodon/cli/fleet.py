"""``monodon fleet``: provision, deploy to and watch a fleet, on AWS or on the embedded cloud."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import click

from monodon.cli.fleet_deploy import deploy
from monodon.cli.fleet_doctor import doctor
from monodon.cli.fleet_plan import export, plan
from monodon.cli.fleet_provision import provision
from monodon.cli.fleet_rings import history, rollback
from monodon.cli.fleet_simulate import simulate
from monodon.cli.fleet_why import drift, why

#: The verbs as an operator comes to need them; one that is not named here comes last.
STORY: Sequence[str] = (
    *("provision", "doctor", "simulate", "plan", "deploy"),
    *("status", "why", "drift", "history", "rollback", "export"),
)


class Story(click.Group):
    """A group whose help lists its verbs in the order of a fleet's life."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted(self.commands, key=lambda name: (STORY.index(name) if name in STORY else len(STORY), name))


@click.group(cls=Story)
def command() -> None:
    """Provision, deploy to and watch a fleet: on AWS, or on the embedded cloud that AWS_ENDPOINT_URL names."""


for verb in (provision, doctor, simulate, plan, deploy, why, drift, history, rollback, export):
    command.add_command(verb)


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
