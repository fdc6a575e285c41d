"""``Component.run``: from the end of a main.py to an exit code, under a nucleus or on a plain terminal."""

import asyncio
import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from monodon.component.component import Component
from monodon.component.logs import set_up_logging
from monodon.component.settings import read_settings
from monodon.component.sharing import sweep
from monodon.errors import IpcError, MonodonError

logger = logging.getLogger(__name__)

S = TypeVar("S")

SOCKET = "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"
TOKEN = "SVCUID"  # noqa: S105 - the variable's name

#: Seconds that clean-up may take after SIGTERM; a nucleus kills what is left after 5.
#: Source: Greengrass nucleus, ``AndroidBaseGenericExternalService.java``; nucleus.md 3.3.
GRACE_S = 4.5

DONE, FAILED, INTERRUPTED = 0, 1, 130


def run(
    main: Callable[[Component[S]], Awaitable[None]],
    settings: type[S],
    *,
    arguments: Sequence[str] | None = None,
    environ: MutableMapping[str, str] = os.environ,
    grace_s: float = GRACE_S,
) -> int:
    """Run ``main`` until it returns, fails or is asked to stop; return the exit code of the process.

    Args:
        arguments: of the command line, without the program; only read without a nucleus.
        grace_s: how long clean-up may take once a signal asked to stop; then the process is ended with 1.
    """
    for_nucleus = SOCKET in environ or TOKEN in environ
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a nucleus reads lines, and so may a person
    set_up_logging(for_nucleus=for_nucleus, environ=environ, stdout=sys.stdout, stderr=sys.stderr)
    stop = _Stop(grace_s)
    try:
        if for_nucleus:
            opening = under_nucleus(main, settings, environ)
        else:
            from monodon.component.terminal import on_terminal

            opening = on_terminal(main, settings, sys.argv[1:] if arguments is None else arguments)
        return asyncio.run(_serve(main, opening, stop))
    except MonodonError as error:
        return _report(error)
    finally:
        stop.done()


async def _serve(main: Callable[[Component[S]], Awaitable[None]], opening: Any, stop: "_Stop") -> int:
    """Run ``main`` and say what became of it; what threads are left then have the grace period to end as well."""
    code = FAILED
    try:
        stop.watch()
        async with opening as component:
            await main(component)
        code = stop.code
    except asyncio.CancelledError:
        code = stop.code if stop.signal is not None else _report_crash(asyncio.CancelledError("main was cancelled"))
    except Exception as error:
        code = _report_crash(error)
    finally:
        stop.expire(code)
    return code


def _report(error: MonodonError) -> int:
    """One clear line, and what to do about it on a second."""
    print(f"error: {error.message}", file=sys.stderr, flush=True)  # noqa: T201
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr, flush=True)  # noqa: T201
    return FAILED


def _report_crash(error: BaseException) -> int:
    """The traceback, and then the line that says it all, since a nucleus shows the last lines."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, MonodonError):
        return _report(error)
    traceback.print_exception(error, file=sys.stderr)
    reason = " | ".join(str(error).splitlines())
    print(f"error: the component failed: {type(error).__name__}: {reason}", file=sys.stderr, flush=True)  # noqa: T201
    return FAILED


class _Stop:
    """SIGTERM and SIGINT: cancel ``main`` once, and end the process if it takes too long over its clean-up."""

    def __init__(self, grace_s: float) -> None:
        self.signal: signal.Signals | None = None
        self._grace_s = grace_s
        self._task: asyncio.Task[Any] | None = None
        self._timer: threading.Timer | None = None
        self._forced_code = FAILED

    def watch(self) -> None:
        """Let the signals cancel the current task."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for which in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(which, self._on_signal, which)

    def _on_signal(self, which: signal.Signals) -> None:
        if self.signal is not None:
            return
        self.signal = which
        logger.info("asked to stop (%s)", which.name)
        self.expire(FAILED)
        if self._task is not None:
            self._task.cancel()

    @property
    def code(self) -> int:
        """The exit code of an end without an error."""
        return INTERRUPTED if self.signal is signal.SIGINT else DONE

    def expire(self, code: int) -> None:
        """From now on the process has its grace period to end, else it ends with ``code``."""
        if self._timer is None:
            self._timer = threading.Timer(self._grace_s, self._give_up)
            self._timer.daemon = True
            self._timer.start()
        self._forced_code = code

    def _give_up(self) -> None:
        logger.error("did not stop within %g s; ending", self._grace_s)
        os._exit(self._forced_code)

    def done(self) -> None:
        """The component has ended in time."""
        if self._timer is not None:
            self._timer.cancel()


@asynccontextmanager
async def under_nucleus(
    main: Callable[..., Any], settings: type[S], environ: Mapping[str, str], *, work: Path | None = None
) -> AsyncIterator[Component[S]]:
    """Connect to the nucleus that the environment names, and give the component its settings.

    ``work`` is its own folder: the current one, as a nucleus starts it, unless given.

    Raises:
        IpcError: a variable is missing, or the nucleus does not answer or refuses.
        ConfigurationError: the component's configuration does not fit its settings.
    """
    for name in (SOCKET, TOKEN):
        if not environ.get(name):
            raise IpcError(
                f"the environment has no {name}",
                hint="a nucleus sets both variables; unset the other one to run without a nucleus",
            )
    from monodon.component.client import connect

    async with connect(socket=environ[SOCKET], token=environ[TOKEN]) as link:
        name, configuration = await link.configuration()
        component = Component(
            link,
            read_settings(settings, configuration),
            name=name or Path.cwd().name,
            thing_name=environ.get("AWS_IOT_THING_NAME", ""),
            artifacts=folder_of(main),
            work=work or Path.cwd(),
        )
        await link.watch_configuration(component.apply, component.refusal)
        sweep()
        try:
            yield component
        finally:
            component.close()


def folder_of(main: Callable[..., Any]) -> Path:
    """Return the folder of the file that ``main`` was written in."""
    names = getattr(main, "__globals__", {})
    file = names.get("__file__") or getattr(sys.modules.get("__main__"), "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()
