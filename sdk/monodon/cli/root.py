"""Which device a command is about: ``--root``, ``MONODON_ROOT``, or the only one under ``.monodon/devices``."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from monodon.errors import StateError

if TYPE_CHECKING:
    from monodon.device.device import Device

DEVICES = Path(".monodon/devices")
Command = TypeVar("Command", bound=Callable[..., object])


def root_option(command: Command) -> Command:
    """Give a command the option ``--root``."""
    return click.option(
        "--root",
        type=click.Path(path_type=Path, file_okay=False),
        help="The device's folder.  [default: $MONODON_ROOT, or the only one under .monodon/devices]",
    )(command)


def find_root(given: Path | None, environment: Mapping[str, str] = os.environ, folder: Path = Path()) -> Path:
    """Return the root folder that ``--root`` gave, MONODON_ROOT names, or that is the only one below ``folder``.

    Raises:
        StateError: it does not exist, or there is not exactly one.
    """
    variable = environment.get("MONODON_ROOT")
    named = given or (Path(variable) if variable else None)
    if named is not None:
        if not named.is_dir():
            raise StateError(f"there is no device in {named}", hint="`monodon nucleus run --root` makes one")
        return named
    found = sorted(path for path in (folder / DEVICES).glob("*/") if path.is_dir())
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise StateError(f"which device? {folder / DEVICES} has {names}", hint="give --root, or set MONODON_ROOT")
    return found[0]


def on_device(root: Path | None, work: "Callable[[Device], Awaitable[None]]") -> None:
    """Do ``work`` with the running nucleus of that device.

    Raises:
        StateError: no nucleus runs there, or it is not clear which device is meant.
        IpcError: it refuses, or does not answer.
    """
    from monodon.device.device import connected

    async def run() -> None:
        async with connected(find_root(root)) as device:
            await work(device)

    asyncio.run(run())
