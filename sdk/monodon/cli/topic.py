"""``monodon topic``: what goes over a device's topics, and to say something on them."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monodon.cli.root import find_root, root_option
from monodon.errors import StateError

if TYPE_CHECKING:
    from monodon.device.device import Device
    from monodon.device.recording import Recorded

_iot_option = click.option("--iot", is_flag=True, help="Topics of AWS IoT Core, by way of the nucleus.")


@click.group()
def command() -> None:
    """Watch, publish, record and replay the topics of a running nucleus."""


@command.command()
@click.argument("filters", metavar="FILTER...", nargs=-1, required=True)
@_iot_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as a recording has them.")
@click.option("--count", type=click.IntRange(1), help="End after that many messages.")
@root_option
def watch(filters: tuple[str, ...], iot: bool, as_json: bool, count: int | None, root: Path | None) -> None:
    """Print every message under FILTER (`+` is one level, `#` the rest) until interrupted."""

    def show(message: "Recorded") -> None:
        click.echo(message.line if as_json else message.text)

    _with_device(root, lambda device: _follow(device, filters, iot, count, show))


@command.command()
@click.argument("topic")
@click.argument("message")
@_iot_option
@click.option("--qos", type=click.Choice(["0", "1"]), default="1", show_default=True, help="For --iot.")
@click.option("--retain", is_flag=True, help="For --iot.")
@root_option
def pub(topic: str, message: str, iot: bool, qos: str, retain: bool, root: Path | None) -> None:
    """Publish MESSAGE on TOPIC: a JSON object as one, any other text as bytes."""
    content = _content(message)

    async def publish(device: "Device") -> None:
        if iot:
            await device.publish_to_iot(topic, os.fsencode(message), qos=int(qos), retain=retain)
        else:
            await device.publish(topic, content)

    _with_device(root, publish)


def _content(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    return value if isinstance(value, dict) else os.fsencode(text)  # bytes that are no UTF-8 are kept as typed


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("filters", metavar="[FILTER]...", nargs=-1)
@_iot_option
@click.option("--count", type=click.IntRange(1), help="End after that many messages.")
@root_option
def record(file: Path, filters: tuple[str, ...], iot: bool, count: int | None, root: Path | None) -> None:
    """Write every message under FILTER (all, if none is given) to FILE, a line each, until interrupted."""

    async def follow(device: "Device") -> None:
        try:
            with file.open("w", encoding="utf-8", buffering=1) as sink:
                await _follow(device, filters or ("#",), iot, count, lambda message: print(message.line, file=sink))
        except OSError as error:
            raise StateError(f"{file} cannot be written: {error.strerror or error}") from error

    _with_device(root, follow)


@command.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option(
    "--speed", type=click.FloatRange(0), default=1.0, show_default=True, help="2 is twice as fast; 0: at once."
)
@root_option
def replay(file: Path, speed: float, root: Path | None) -> None:
    """Publish the messages of FILE again, with the pauses between them."""
    from monodon.device.recording import read_recording
    from monodon.device.recording import replay as publish_again

    recording = read_recording(file)

    async def publish(device: "Device") -> None:
        count = await publish_again(
            device,
            recording,
            speed=speed,
            on_gap=lambda: click.echo("the nucleus was gone: one may come twice", err=True),
        )
        click.echo(f"{count} messages", err=True)

    _with_device(root, publish)


async def _follow(
    device: "Device", filters: tuple[str, ...], iot: bool, count: int | None, show: "Callable[[Recorded], None]"
) -> None:
    from monodon.device.recording import watch as follow

    messages = follow(
        device,
        filters,
        is_iot=iot,
        on_ready=lambda: click.echo(f"watching {' '.join(filters)}", err=True),
        on_gap=lambda: click.echo("messages may be missing here", err=True),
    )
    async with aclosing(messages):
        async for message in messages:
            show(message)
            if count is not None:
                count -= 1
                if not count:
                    return


def _with_device(root: Path | None, work: "Callable[[Device], Awaitable[None]]") -> None:
    from monodon.device.device import connected

    async def run() -> None:
        async with connected(find_root(root)) as device:
            await work(device)

    asyncio.run(run())
