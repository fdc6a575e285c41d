"""The nucleus as a process: signals, the line that says it is ready, logs on a terminal, restarts.

It is its own loader: where a deployment needs a restart, the process becomes a new nucleus, with the same id.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from monodon.nucleus.nucleus import running
from monodon.nucleus.restarting import REBOOT
from monodon.nucleus.side_by_side import first

log = logging.getLogger(__name__)


class End:
    """What ends a nucleus: being told to stop, or a deployment that needs a restart. Who says stop is obeyed, even when
    a restart is under way.
    """

    def __init__(self) -> None:
        #: The code of the restart that is wanted, None for none.
        self.code: int | None = None
        self._is_told = False
        self._has_come = asyncio.Event()

    def stop(self) -> None:
        """End for good."""
        self._is_told, self.code = True, None
        self._has_come.set()

    def restart(self, code: int) -> None:
        """End, and begin again."""
        if not self._is_told:
            self.code = code
        self._has_come.set()

    async def wait(self) -> None:
        """Wait until one of them was said."""
        await self._has_come.wait()


def ending_signals() -> tuple[signal.Signals, ...]:
    """What tells a nucleus to stop its components and end: also the end of its terminal, unless under nohup."""
    asked = (signal.SIGTERM, signal.SIGINT)
    return asked if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*asked, signal.SIGHUP)


def run(
    root: Path,
    *,
    announce: Callable[[str], None],
    init_config: Path | None = None,
    thing: str | None = None,
    is_quiet: bool = True,
    reboot: str | None = None,
) -> None:
    """Run the nucleus of ``root`` until SIGTERM, SIGINT or SIGHUP; ``announce`` gets one line when it is ready.

    Args:
        reboot: the shell command that reboots this device, for Bootstrap steps that ask for it. Without one the
            nucleus alone restarts.

    Raises:
        MonodonError: it could not start, or could not go on.
    """
    if not is_quiet:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logging.getLogger("monodon").addHandler(handler)
    try:
        code = asyncio.run(_run(root, announce=announce, init_config=init_config, thing=thing))
    except ExceptionGroup as errors:
        raise first(errors) from errors
    if code is not None:
        _begin_again(code, reboot)


def _begin_again(code: int, reboot: str | None) -> None:
    """Reboot the device where that is asked for and possible; else become a nucleus that has just started."""
    if code == REBOOT and reboot is not None:
        subprocess.run(reboot, shell=True, check=False)  # noqa: S602 - the operator's own command
        raise SystemExit(REBOOT)
    if code == REBOOT:
        log.warning("a Bootstrap step asks for a reboot, and no command for that was given: the nucleus restarts")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very program


async def _run(
    root: Path, *, announce: Callable[[str], None], init_config: Path | None, thing: str | None
) -> int | None:
    """Run until told to stop; return the code of the restart that a deployment asked for."""
    end = End()
    loop = asyncio.get_running_loop()
    for number in ending_signals():
        loop.add_signal_handler(number, end.stop)
    async with running(root, init_config=init_config, thing=thing, restart=end.restart) as nucleus:
        announce(f"monodon nucleus ready: {nucleus.identity.thing} in {nucleus.root}, process {nucleus.ready['pid']}")
        await end.wait()
    return end.code
