"""``monodon fleet simulate``: devices that are not there, with the faults of those that are."""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from monodon.errors import FleetError

if TYPE_CHECKING:
    from monodon.simulator.device import Device
    from monodon.simulator.fleet import Fleet
    from monodon.simulator.tally import Tally

CERTIFICATES = Path(".monodon/simulator")
_LOOK_EVERY_S = 0.2
_LINE_EVERY_S = 1.0
_MQTT_PORT = 8883

Command = TypeVar("Command", bound=Callable[..., None])

_FAULTS: Mapping[str, tuple[str, str]] = {
    "offline": ("SHARE[:WHEN]", "Not connected: ever, until WHEN (10m), or in between (10m..2h)."),
    "fail": ("SHARE[:CODE[:COMPONENT[@VERSION]]]", "Deployments fail, by default with COMPONENT_BROKEN."),
    "slow": ("SHARE[:SPAN]", "Deployments take SPAN, such as 30s or 10s..2m."),
    "flap": ("SHARE[:EVERY]", "Connections are lost EVERY 30s or so, and after a few answers."),
    "reject": ("SHARE", "Deployments are rejected."),
    "hang": ("SHARE", "Deployments begin and never end."),
    "duplicate": ("SHARE", "Every message is sent twice."),
    "disorder": ("SHARE", "Messages come late and in a wrong order; cancellations are not heard."),
    "garbage": ("SHARE", "Some messages are no messages."),
}


def _fault_options(command: Command) -> Command:
    for name, (metavar, help_text) in reversed(list(_FAULTS.items())):
        command = click.option(f"--{name}", multiple=True, metavar=metavar, help=help_text)(command)
    return command


@click.command()
@click.option("--devices", "count", type=click.IntRange(1), default=10, show_default=True, help="How many.")
@click.option("--group", default="simulated", show_default=True, help="The thing group they join; made if missing.")
@click.option("--prefix", default="sim-", show_default=True, help="What their names begin with.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides all that looks random.")
@click.option("--takes", default="1s..5s", show_default=True, help="How long a deployment takes on a device.")
@_fault_options
@click.option("--metric", "metrics", multiple=True, metavar="NAME=LOW..HIGH", help="What every component measures.")
@click.option(
    "--metric-for",
    "metrics_for",
    nargs=2,
    multiple=True,
    metavar="COMPONENT[@VERSION] NAME=LOW..HIGH",
    help="What one component measures, or one version of it.",
)
@click.option("--metrics-every", default="60s", show_default=True, help="How often it is reported.")
@click.option(
    "--cloud",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An embedded cloud's folder. Without it: AWS as boto3 finds it.",
)
@click.option(
    "--root-ca",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What devices trust.  [default: Amazon Root CA 1; with --cloud the embedded cloud's own]",
)
@click.option(
    "--certificates",
    type=click.Path(path_type=Path, file_okay=False),
    default=CERTIFICATES,
    show_default=True,
    help="Where their certificates are kept: a folder in it for each account and region.",
)
@click.option("--for", "lasts", metavar="DURATION", help="End after that.  [default: when interrupted]")
@click.option("--until-deployed", is_flag=True, help="End when every connected device has ended a deployment.")
@click.option(
    "--rehearse",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="No cloud: tell how the rollout of this fleet file would go, in a moment.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def simulate(
    count: int,
    group: str,
    prefix: str,
    seed: int,
    takes: str,
    metrics: tuple[str, ...],
    metrics_for: tuple[tuple[str, str], ...],
    metrics_every: str,
    cloud: Path | None,
    root_ca: Path | None,
    certificates: Path,
    lasts: str | None,
    until_deployed: bool,
    rehearse: Path | None,
    as_json: bool,
    **faults: tuple[str, ...],
) -> None:
    """Simulate core devices: real things, the real MQTT topics of jobs, shadows and status, and nothing behind them.

    SHARE is 5% or a number of devices. The things and their certificates stay, for the next run.

    \b
    monodon fleet simulate --devices 1000 --cloud .monodon/cloud \\
        --offline 5% --fail 3%:COMPONENT_BROKEN --slow 10%:30s --flap 1%
    """
    from monodon.simulator.faults import Profile, draw, read_duration, read_fault, read_span
    from monodon.simulator.figures import read_metric
    from monodon.simulator.settings import Settings
    from monodon.simulator.tally import Tally

    tally = Tally()
    with _usage():
        profiles = draw(
            [read_fault(kind, text) for kind in _FAULTS for text in faults[kind]],
            count,
            seed,
            Profile(takes=read_span(takes)),
        )
        rules = [*map(read_metric, metrics), *(read_metric(text, of) for of, text in metrics_for)]
        settings = Settings(seed=seed, metrics=rules, metrics_every_s=read_duration(metrics_every), on_change=tally.add)
        lasts_s = None if lasts is None else read_duration(lasts)
    width = len(str(count))
    things = [f"{prefix}{number:0{width}d}" for number in range(1, count + 1)]

    def devices(now: float) -> "list[Device]":
        from monodon.simulator.device import Device

        return [Device(thing, profile, settings, now=now) for thing, profile in zip(things, profiles, strict=True)]

    if rehearse is not None:
        _rehearse(rehearse, devices, tally, as_json)
        return
    fleet = _fleet(devices(time.time()), things, group, cloud, root_ca, certificates)
    asyncio.run(_run(fleet, tally, as_json, lasts_s, until_deployed))
    if until_deployed and tally.ended < fleet.wanting:
        raise FleetError(f"only {tally.ended} of {fleet.wanting} devices ended a deployment")


@contextmanager
def _usage() -> Iterator[None]:
    """What cannot be understood is wrong usage."""
    try:
        yield
    except FleetError as error:
        raise click.UsageError(f"{error.message}; {error.hint}" if error.hint else error.message) from error


def _fleet(
    devices: "Sequence[Device]", things: Sequence[str], group: str, cloud: Path | None, root_ca: Path | None, kept: Path
) -> "Fleet":
    """Make what is missing in the cloud, and the fleet that will connect to it."""
    from monodon.fleet import Aws
    from monodon.fleet.credentials import amazon_root_ca
    from monodon.fleet.crowds import provision_crowd
    from monodon.fleet.provisioning import ask_endpoints
    from monodon.simulator.fleet import Address, Fleet, allow_open_files, device_context

    allow_open_files(len(devices))
    if cloud is not None:
        ready = _ready(cloud)
        aws = Aws(endpoint_url=ready["endpoint"], region=ready["region"])
        address, trusted = Address(host=ready["mqtt_host"], port=ready["mqtt_port"]), Path(ready["ca_file"])
        trusted = root_ca or trusted
    else:
        aws = Aws()
        address = Address(host=ask_endpoints(aws).iot_data, port=_MQTT_PORT)
        trusted = root_ca or _kept_root_ca(kept, amazon_root_ca)
    folder = kept / f"{aws.account}-{aws.region}" / group
    contexts, made = [], 0
    for enlisted in provision_crowd(aws, things=things, group=group, folder=folder):
        context = device_context(str(trusted), str(enlisted.certificate), str(enlisted.key))
        contexts += [context] * len(enlisted.things)
        made += enlisted.made
        if sys.stderr.isatty():
            click.echo(f"\r{len(contexts)} of {len(things)} things", nl=False, err=True)
    click.echo(f"\r{len(things)} things in {group}, {made} of them new", err=True)
    return Fleet(devices, address=address, contexts=contexts)


def _ready(cloud: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((cloud / "ready.json").read_text())
    except (OSError, ValueError) as error:
        raise FleetError(
            f"no cloud is running in {cloud}", hint=f"start one: monodon cloud run --state {cloud}"
        ) from error
    return found


def _kept_root_ca(folder: Path, read: Callable[[], bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "AmazonRootCA1.pem"
    file.write_bytes(read())
    return file


async def _run(fleet: "Fleet", tally: "Tally", as_json: bool, lasts_s: float | None, until_deployed: bool) -> None:
    """Run, and tell how it goes, until it is enough."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    show = _Show(as_json)
    started = loop.time()
    running, stopped = asyncio.ensure_future(fleet.run()), asyncio.ensure_future(stop.wait())
    try:
        while not stop.is_set() and not running.done():
            show(loop.time() - started, fleet, tally)
            if lasts_s is not None and loop.time() - started >= lasts_s:
                break
            wanting = fleet.wanting
            if until_deployed and wanting and fleet.open_count and tally.ended >= wanting:
                break
            await asyncio.wait([running, stopped], timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
        show(loop.time() - started, fleet, tally, is_last=True)
    finally:
        stopped.cancel()
        running.cancel()
        await asyncio.wait([running, stopped])
    if not running.cancelled() and (error := running.exception()) is not None:
        raise error


class _Show:
    """Tells how a simulation goes: a live line on a terminal, a line for each change elsewhere, or JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._is_live = sys.stdout.isatty() and not as_json
        self._last, self._at_s = "", -_LINE_EVERY_S

    def __call__(self, at_s: float, fleet: "Fleet", tally: "Tally", *, is_last: bool = False) -> None:
        if not (self._is_live or is_last or at_s - self._at_s >= _LINE_EVERY_S):
            return
        traffic = fleet.traffic
        news = {
            "connected": fleet.open_count,
            "devices": sum(1 for _ in fleet.devices),
            "connects": traffic.connects,
            "losses": traffic.losses,
            **tally.to_json(),
        }
        text = json.dumps(news) if self._as_json else _line(news, traffic.last_problem)
        if text == self._last and not is_last:
            return
        self._last, self._at_s = text, at_s
        if self._as_json:
            click.echo(json.dumps({"at_s": round(at_s, 1), "sent": traffic.sent, "received": traffic.received, **news}))
        elif self._is_live:
            click.echo(f"\r\x1b[K{at_s:7.1f} s  {text}", nl=is_last)
        else:
            click.echo(f"{at_s:7.1f} s  {text}")


def _line(news: Mapping[str, Any], problem: str) -> str:
    parts = [f"connected {news['connected']:,} of {news['devices']:,}"]
    parts += [f"{status} {count:,}" for status, count in news["statuses"].items()]
    parts += [f"{count:,} for {cause}" for cause, count in news["causes"].items()]
    if news["losses"]:
        parts.append(f"lost connections {news['losses']:,}")
    if problem and not news["connected"]:
        parts.append(problem)
    return " · ".join(parts)


def _rehearse(file: Path, devices: "Callable[[float], list[Device]]", tally: "Tally", as_json: bool) -> None:
    """Tell how a rollout would go, on a clock that jumps."""
    from monodon.fleet import read_desired
    from monodon.simulator.rehearsal import rehearse

    desired = read_desired(file)
    components = {str(name): str(one.version or "0.0.0") for name, one in desired.components.items()}
    for stage in rehearse(devices, desired.job or {}, components, tally):
        if as_json:
            click.echo(json.dumps(stage.to_json()))
        else:
            counts = " · ".join(f"{status} {count:,}" for status, count in stage.counts.items())
            click.echo(f"{_clock(stage.at_s)}  {counts or 'nothing yet'}{' · ' + stage.note if stage.note else ''}")


def _clock(at_s: float) -> str:
    minutes, seconds = divmod(round(at_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:4d}:{minutes:02d}:{seconds:02d}"
