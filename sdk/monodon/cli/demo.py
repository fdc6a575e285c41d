"""``monodon demo``: the whole loop on this machine, told as it happens."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from monodon.dev.demo import Event, Options, demo
from monodon.dev.lab import stop_running
from monodon.errors import StateError


@click.command()
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path(".monodon"), show_default=True, help="State folder."
)
@click.option("--clip", type=click.Path(path_type=Path), help="Your own video instead of the narwhal's.")
@click.option("--keep", metavar="LABEL", help="Keep the frames that show LABEL, such as 'ice bear'.")
@click.option("--keep-running", is_flag=True, help="Leave cloud and device up, and say how to reach them.")
@click.option("--stop", "is_stop", is_flag=True, help="Stop what --keep-running left up, and do nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; the telling goes to stderr.")
def command(state: Path, clip: Path | None, keep: str | None, keep_running: bool, is_stop: bool, as_json: bool) -> None:
    """Package, deploy, classify, keep: on a real clip, with nothing but this machine."""
    if is_stop:
        for server in stop_running(state.resolve()):
            click.echo(f"stopped {server.name} (pid {server.pid})")
        return
    options = Options(checkout=find_checkout(), state=state, clip=clip, keep=keep, keep_running=keep_running)
    result = _tell(demo(options), to_stderr=as_json)
    if as_json:
        click.echo(json.dumps(result))
    else:
        _report(result)


def find_checkout() -> Path:
    """Return the folder with ``components/`` and ``recipes/``: the current one, or the one this code lies in.

    Raises:
        StateError: neither is one.
    """
    for folder in (Path.cwd(), Path(__file__).parents[3]):
        if (folder / "components").is_dir() and (folder / "recipes").is_dir():
            return folder
    raise StateError("no components/ and recipes/ here", hint="run it in a checkout of Monodon")


def _tell(events: Iterator[Event], *, to_stderr: bool) -> Mapping[str, Any]:
    """Show the events, a live line on a terminal and plain lines elsewhere; return the result."""
    from rich.console import Console

    console = Console(stderr=to_stderr, highlight=False, soft_wrap=True)
    result: Mapping[str, Any] = {}
    status = console.status("") if console.is_terminal else None
    stage = ""
    try:
        for event in events:
            if event.kind == "result":
                result = event.data
            elif event.kind == "stage":
                stage = event.text
                if status is not None:
                    status.update(stage)
                    status.start()
            elif event.kind == "live":
                if status is not None:
                    status.update(f"{stage}: {event.text}")
                else:
                    console.print(f"         {event.text}", markup=False)
            elif event.kind == "done":
                if status is not None:
                    status.stop()
                console.print(f"{event.seconds:6.1f} s  {stage}: {event.text}", markup=False)
            else:
                console.print(f"          {event.text}", markup=False)
    finally:
        if status is not None:
            status.stop()
    return result


def _report(result: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What the drone kept", title_justify="left")
    rows = [(version, run) for version, run in result["runs"].items() if run is not None]
    table.add_column("")
    for version, _ in rows:
        table.add_column(f"model {version}", justify="right")
    for title, show in _ROWS.items():
        table.add_row(title, *(show(run) for _, run in rows))
    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for version, run in rows:
        click.echo(f"kept by model {version}: {run['kept_dir']}")
    click.echo(f"contact sheet: {result['contact_sheet']}")
    if result["running"] is not None:
        _report_running(result["running"])


def _report_running(running: Mapping[str, Any]) -> None:
    cloud, device = running["cloud"], running["device"]
    click.echo("\nstill running; from another terminal:")
    click.echo(f"  export AWS_ENDPOINT_URL={cloud['endpoint']} AWS_REGION={cloud['region']}")
    click.echo("  export AWS_ACCESS_KEY_ID=monodon AWS_SECRET_ACCESS_KEY=local")
    click.echo("  scripts/fleet_status")
    click.echo(f"  device: {device['root']} (logs in logs/)")
    click.echo(f"  MQTT 5: {cloud['mqtt_host']}:{cloud['mqtt_port']}, CA {cloud['ca_file']}")
    click.echo("stop them: scripts/demo --stop")


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f}"


def _megabytes(value: int) -> str:
    return f"{value / 1e6:,.1f} MB"


_ROWS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "keeps": lambda run: run["label"],
    "frames seen": lambda run: str(run["frames_seen"]),
    "frames kept": lambda run: str(run["frames_kept"]),
    "frames dropped": lambda run: str(run["frames_dropped"]),
    "pixels seen": lambda run: _megabytes(run["bytes_seen"]),
    "pictures kept": lambda run: _megabytes(run["bytes_kept"]),
    "precision": lambda run: _share(run["precision"]),
    "recall": lambda run: _share(run["recall"]),
    "latency p50": lambda run: f"{run['latency_ms']['p50']:.1f} ms",
    "latency p95": lambda run: f"{run['latency_ms']['p95']:.1f} ms",
    "heard by the cloud": lambda run: str(run["heard_by_cloud"]),
}
