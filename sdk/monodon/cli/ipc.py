"""``monodon ipc``: any operation of a running nucleus, from a shell."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click

from monodon.cli.root import find_root, root_option


@click.group()
def command() -> None:
    """Call any operation of a running nucleus."""


@command.command()
@click.argument("operation")
@click.argument("request", metavar="[JSON]", default="{}")
@click.option("--count", type=click.IntRange(1), help="End a streaming operation after that many events.")
@root_option
def call(operation: str, request: str, count: int | None, root: Path | None) -> None:
    """Perform OPERATION (GetConfiguration, or get_configuration) and print its answer as JSON.

    The request is JSON as on the wire (`{"componentName": "com.example.X"}`; blobs in base64), or `-` to read it from
    standard input. A streaming operation prints an event a line until it is interrupted.
    """
    content = _read(sys.stdin.read() if request == "-" else request)
    asyncio.run(_call(find_root(root), operation, content, count))


def _read(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"not JSON: {error}", param_hint="JSON") from error
    if not isinstance(value, dict):
        raise click.BadParameter("not a JSON object", param_hint="JSON")
    return value


async def _call(root: Path, name: str, request: dict[str, Any], count: int | None) -> None:
    from contextlib import aclosing

    from monodon.device.device import connected
    from monodon.device.operations import operation, to_text

    found = operation(name)
    async with connected(root) as device:
        if not found.is_streaming:
            click.echo(to_text(await device.call(name, request), indent=2))
            return
        stream = device.stream(name, request, on_gap=lambda: click.echo("events may be missing here", err=True))
        async with aclosing(stream) as events:
            async for event in events:
                click.echo(to_text(event))
                if count is not None:
                    count -= 1
                    if not count:
                        return
