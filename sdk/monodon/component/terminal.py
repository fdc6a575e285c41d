"""A component on a plain terminal: no nucleus, its messages printed, its settings from the command line."""

import argparse
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from monodon.component.component import Component
from monodon.component.loopback import LoopbackNucleus
from monodon.component.runtime import folder_of
from monodon.component.settings import default_configuration, merge, override, read_settings, table
from monodon.core.json import Json
from monodon.errors import ConfigurationError

S = TypeVar("S")


def on_terminal(main: Callable[[Component[S]], Awaitable[None]], settings: type[S], arguments: Sequence[str]) -> Any:
    """Return an async context manager of the component, its settings changed by ``arguments``.

    Raises:
        ConfigurationError: a setting that is unknown or does not fit.
        SystemExit: with 2 for a wrong option, with 0 after ``--help``.
    """
    options = _parser(main, settings).parse_args(arguments)
    configuration = default_configuration(settings)
    for text in options.config:
        configuration = merge(configuration, _read(text))
    for assignment in options.set:
        configuration = merge(configuration, override(settings, assignment))
    return _open(main, read_settings(settings, configuration), options.name)


@asynccontextmanager
async def _open(main: Callable[[Component[S]], Awaitable[None]], settings: S, name: str) -> AsyncIterator[Component[S]]:
    nucleus = LoopbackNucleus(printer=_print, thing_name="")
    component = nucleus.component(settings, name=name, artifacts=folder_of(main), work=Path.cwd())
    try:
        yield component
    finally:
        component.close()


def _print(line: str) -> None:
    try:
        print(line, flush=True)  # noqa: T201 - this is what the terminal is for
    except BrokenPipeError:  # nobody reads on, as after `| head`: stop, with clean-up
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        signal.raise_signal(signal.SIGTERM)


def _parser(main: Callable[..., Any], settings: type[Any]) -> argparse.ArgumentParser:
    rows = [
        f"  {name}: {kind}, {f'default {default}' if default else 'required'}"
        for name, kind, default in table(settings)
    ]
    parser = argparse.ArgumentParser(
        description="Run this component without a nucleus; what it publishes is printed.",
        epilog="\n".join(["settings:", *rows]) if rows else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config", action="append", default=[], metavar="JSON|FILE", help="a configuration to merge into the defaults")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; a.b=1 reaches into an object")
    add("--name", default=folder_of(main).name, help="the component's name (default: the folder's)")
    return parser


def _read(text: str) -> dict[str, Json]:
    try:
        is_json = text.lstrip().startswith("{")
        value = json.loads(text if is_json else Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"--config {text}: {error.strerror}", hint="give a JSON object or a file of one"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"--config {text}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"--config {text}: not a JSON object")
    return value
