"""``monodon logs``: what a device's components, and its nucleus, say and have said."""

import json
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from monodon.cli.root import find_root, root_option
from monodon.errors import StateError

if TYPE_CHECKING:
    from monodon.nucleus.log_reader import LogReader, Record

#: How often a log that is followed is looked at.
_LOOK_S = 0.1
#: Without --lines and --since.
_LINES = 100
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_STYLES: dict[str, dict[str, Any]] = {
    "ERROR": {"fg": "red"},
    "WARN": {"fg": "yellow"},
    "DEBUG": {"dim": True},
    "TRACE": {"dim": True},
}


class Since(click.ParamType):  # type: ignore[type-arg,unused-ignore] # generic from Click 8.4 on
    """A moment, in seconds since 1970: ``90s``, ``10m``, ``2h``, ``3d`` ago, or an ISO date or time (else UTC)."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the moment that the text names."""
        text = str(value)
        if match := re.fullmatch(r"(\d+)([smhd])", text):
            return time.time() - int(match[1]) * _UNITS[match[2]]
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is neither an age (90s, 10m, 2h, 3d) nor a time (2026-01-31T12:00)", param, ctx)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


@click.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--since", type=Since(), metavar="AGE|TIME", help="Only what is younger: 90s, 10m, 2h, 3d, an ISO time.")
@click.option("-n", "--lines", type=click.IntRange(min=0), help=f"Only the last N records.  [default: {_LINES}]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a record.")
@click.option("--raw", is_flag=True, help="The lines as they stand in the file.")
@root_option
def command(
    name: str, follow: bool, since: float | None, lines: int | None, as_json: bool, raw: bool, root: Path | None
) -> None:
    """Show what component NAME has printed; `nucleus` is the nucleus itself.

    These are the files in the device's logs folder, or where its nucleus is told to have them: it need not be running.
    """
    from monodon.nucleus.log_reader import LogReader, names
    from monodon.nucleus.logs import NUCLEUS_LOG
    from monodon.nucleus.settings import logging_of

    device = find_root(root)
    logging = logging_of(device)
    folder = logging.folder or device / "logs"
    base = NUCLEUS_LOG if name in ("nucleus", "aws.greengrass.Nucleus") else name
    known = names(folder) if folder.is_dir() else ()
    if logging.is_console:
        if base not in known or follow:
            raise StateError(
                f"this device prints its logs instead of keeping them: the nucleus's logging.outputType is CONSOLE, so "
                f"what {name} says is where the nucleus's own output goes",
                hint="look there (`journalctl -u …` of a service), or deploy outputType FILE to aws.greengrass.Nucleus",
            )
        click.echo("what follows is old: logging.outputType is CONSOLE, and the nucleus prints its logs now", err=True)
    if base not in known:
        if not follow:
            raise StateError(f"{folder} has no log of {name}", hint=f"there are logs of {', '.join(known) or 'nobody'}")
        click.echo(f"{name} has no log yet; waiting for it", err=True)
    with LogReader(folder, base, since_s=since or 0.0) as reader:
        limit = lines if lines is not None else None if since is not None else _LINES
        _show(deque(_younger(reader, since), limit), as_json=as_json, raw=raw)
        while follow:
            time.sleep(_LOOK_S)
            _show(_younger(reader, since), as_json=as_json, raw=raw)


def _younger(reader: "LogReader", since: float | None) -> Iterator[str]:
    from monodon.nucleus.log_reader import parse_record

    for text in reader.read():
        if since is None or parse_record(text).at_s >= since:
            yield text


def _show(texts: Iterable[str], *, as_json: bool, raw: bool) -> None:
    from monodon.nucleus.log_reader import parse_record

    shown = []
    for text in texts:
        if raw:
            shown.append(text)
            continue
        record = parse_record(text)
        line = json.dumps(record.to_json(), ensure_ascii=False) if as_json else _line(record)
        shown.append(line + "\n")
    if shown:
        click.echo("".join(shown), nl=False)


def _line(record: "Record") -> str:
    moment = datetime.fromtimestamp(record.at_s, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    level = record.entry.level
    said = record.said.rstrip("\n").replace("\n", "\n" + " " * 30)
    return f"{click.style(moment, dim=True)} {click.style(f'{level:<5} {said}', **_STYLES.get(level, {}))}"
