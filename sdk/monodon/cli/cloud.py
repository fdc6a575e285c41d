"""``monodon cloud``: run the embedded cloud."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from monodon.cloud.cloud import Cloud

DEFAULT_STATE = Path(".monodon/cloud")
#: The ports that AWS's nuclei use if nobody says otherwise (data plane, MQTT).
DEFAULT_PORT = 8443
DEFAULT_MQTT_PORT = 8883


@click.group()
def command() -> None:
    """Run the embedded cloud: what boto3, devices and MQTT clients need of AWS, on this machine."""


@command.command()
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE,
    show_default=True,
    help="Folder that keeps everything; it survives a restart.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port for HTTP and HTTPS alike; 0 picks one.",
)
@click.option(
    "--mqtt-port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_MQTT_PORT,
    show_default=True,
    help="Port for MQTT 5 with TLS; 0 picks one.",
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; one that is not loopback needs --strict.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Check the signature of each request. The first key is in the file `credentials` of the state folder.",
)
@click.option("--region", default=None, help="Region of a new state folder.  [default: us-east-1]")
@click.option(
    "--limit",
    "limits",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a limit: recipe_bytes=20000, mqtt.receive_maximum=10, rate.CreateDeployment=2 (calls a second).",
)
@click.option("-v", "--verbose", is_flag=True, help="Log each request.")
def run(
    state: Path,
    port: int,
    mqtt_port: int,
    host: str,
    region: str | None,
    verbose: bool,
    strict: bool,
    limits: tuple[str, ...],
) -> None:
    """Run until interrupted.

    \b
    One line on stdout, and ready.json in the state folder, say when it is ready and where.
    Point clients to it:  export AWS_ENDPOINT_URL=http://127.0.0.1:8443
    """
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for library in ("asyncio", "uvicorn.error"):
        logging.getLogger(library).setLevel(logging.WARNING)
    from monodon.cloud.allocation import keep_one_heap
    from monodon.cloud.cloud import Cloud
    from monodon.cloud.collecting import collecting_little
    from monodon.cloud.fairness import fair_loop
    from monodon.cloud.open_files import allow_open_files
    from monodon.cloud.settings import read_settings

    try:
        settings = read_settings(limits)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--limit") from error
    cloud = Cloud(state, host=host, port=port, mqtt_port=mqtt_port, region=region, strict=strict, settings=settings)
    keep_one_heap()
    allow_open_files()
    with collecting_little(), asyncio.Runner(loop_factory=fair_loop) as runner:
        runner.run(_run(cloud))


async def _run(cloud: "Cloud") -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with cloud.running() as ready:
        click.echo(
            f"monodon cloud ready: {ready.endpoint} {ready.https_endpoint} "
            f"mqtts://{ready.mqtt_host}:{ready.mqtt_port} (CA {ready.ca_file})"
        )
        await stop.wait()
