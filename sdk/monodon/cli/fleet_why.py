"""``monodon fleet why`` and ``drift``: what is the matter, and who differs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from monodon.fleet.diagnosing import Diagnosis
    from monodon.fleet.drifting import Deviation, DeviceDrift


@click.command()
@click.argument("subject", metavar="DEVICE|DEPLOYMENT")
@click.option("--json", "as_json", is_flag=True, help="The diagnosis as one JSON object.")
def why(subject: str, as_json: bool) -> None:
    """Say why a device (by its thing's name) or a deployment (by its id) is as it is: one cause and one next step.

    Exit 0: nothing is wrong, 1: something is. It only reads.
    """
    from monodon.fleet.aws import Aws
    from monodon.fleet.why import explain

    found = explain(Aws(), subject)
    if as_json:
        click.echo(json.dumps(found.to_json()))
    else:
        _tell(found)
    click.get_current_context().exit(0 if found.is_well else 1)


def _tell(found: "Diagnosis") -> None:
    click.echo(f"{found.subject}: {found.cause}")
    if found.next_step:
        click.secho(f"next: {found.next_step}", bold=True)
    for line in found.seen:
        click.echo(f"  {line}")


@click.command()
@click.argument("target", required=False, metavar="[TARGET|FILE]")
@click.option("--all", "all_devices", is_flag=True, help="Show devices that do not differ, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a device and line.")
def drift(target: str | None, all_devices: bool, as_json: bool) -> None:
    """Show devices whose reported components differ from what their deployments say.

    TARGET is thinggroup/NAME, thing/NAME or an ARN; without one all core devices are compared. With a fleet FILE its
    target's devices are compared with the file. Exit 1: some differ. It only reads; AWS hears nothing of
    configurations, so they are not compared.
    """
    from monodon.fleet.aws import Aws
    from monodon.fleet.drift import drift as compare
    from monodon.fleet.reading import read_desired

    desired = read_desired(Path(target)) if target is not None and _is_file(target) else None
    compared = differing = 0
    ways: set[str] = set()
    for device in compare(Aws(), None if desired else target, desired=desired):
        compared += 1
        differing += device.differs
        ways.update(_ways_back(device))
        if as_json:
            if all_devices or device.differs:
                click.echo(json.dumps(device.to_json()))
        elif all_devices or device.differs:
            _show(device)
    if not as_json:
        verb = "differs" if 1 in (differing, compared) else "differ"
        click.echo(f"{differing} of {compared} device{'' if compared == 1 else 's'} {verb}")
        for way in sorted(ways):
            click.echo(f"hint: {way}", err=True)
    click.get_current_context().exit(1 if differing else 0)


def _ways_back(device: "DeviceDrift") -> Iterator[str]:
    """What brings a device back to what it should run, where nothing is under way that does."""
    from monodon.fleet.drifting import LOCALLY, Kind
    from monodon.fleet.known import SUCCESSES

    for one in device.deviations:
        if one.kind is Kind.EXTRA and one.note == LOCALLY:
            yield "on the device, `monodon deployment create --remove COMPONENT` removes what was deployed there"
        elif one.kind in (Kind.MISSING, Kind.OTHER_VERSION) and one.execution in ("", *SUCCESSES):
            yield "`monodon fleet deploy FILE --again` brings it back: a device does not repeat a deployment by itself"
        elif not one.is_pending:
            yield "`monodon fleet why DEVICE` tells the cause and a next step"


def _is_file(target: str) -> bool:
    return not target.startswith("arn:") and Path(target).suffix in (".yaml", ".yml", ".json") and Path(target).exists()


def _show(device: "DeviceDrift") -> None:
    if device.reported_s is None:
        click.echo(f"{device.thing}  has never reported")
        return
    when = datetime.fromtimestamp(device.reported_s, UTC).isoformat(timespec="seconds")
    waits = "  (its deployments are not over)" if device.is_pending else ""
    click.echo(f"{device.thing}  reported {when}{waits}")
    for one in device.deviations:
        click.echo(f"  {_deviation(one)}")


def _deviation(one: "Deviation") -> str:
    wanted = f", wanted {one.wanted} by {one.target}" if one.wanted else ""
    found = one.found or "not there"
    stands = f" [{one.execution}]" if one.execution else ""
    note = f"  {one.note}" if one.note else ""
    return f"{one.kind.value:14} {one.component}: {found}{wanted}{stands}{note}"
