"""The nucleus as a process: signals, the line that says it is ready, logs on a terminal."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from monodon.nucleus.nucleus import running
from monodon.nucleus.side_by_side import first

log = logging.getLogger(__name__)


def run(
    root: Path,
    *,
    announce: Callable[[str], None],
    init_config: Path | None = None,
    thing: str | None = None,
    is_quiet: bool = True,
) -> None:
    """Run the nucleus of ``root`` until SIGTERM or SIGINT; ``announce`` gets one line when it is ready.

    Raises:
        MonodonError: it could not start, or could not go on.
    """
    if not is_quiet:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("monodon").addHandler(handler)
    try:
        asyncio.run(_run(root, announce=announce, init_config=init_config, thing=thing))
    except ExceptionGroup as errors:
        raise first(errors) from errors


async def _run(root: Path, *, announce: Callable[[str], None], init_config: Path | None, thing: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(root, init_config=init_config, thing=thing) as nucleus:
        announce(f"monodon nucleus ready: {nucleus.identity.thing} in {nucleus.root}, process {nucleus.ready['pid']}")
        await stop.wait()
