"""Say how fit this machine is: lines for people, JSON for machines. Standard library alone; ``doctor.pyz`` runs it."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from monodon.fleet.on_device import Level, Verdict, judge
from monodon.fleet.on_device_facts import gather


def lines(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Return what people read: a line for each verdict, and under it what to do."""
    for verdict in verdicts:
        yield f"{verdict.level:8} {verdict.check}: {verdict.message}"
        if verdict.fix:
            yield f"         → {verdict.fix}"
        if verdict.statement:
            yield from ("         " + line for line in json.dumps(verdict.statement, indent=2).splitlines())


def is_fine(verdicts: Iterable[Verdict]) -> bool:
    """Tell whether nothing is wrong; warnings and what could not be found out do not count."""
    return all(verdict.level is not Level.WRONG for verdict in verdicts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at this machine and say what was found; 0 all fine, 1 something is wrong, 2 usage."""
    parser = argparse.ArgumentParser(description="Is this machine fit to be a Greengrass core device? Changes nothing.")
    parser.add_argument("--root", type=Path, help="the nucleus's root folder [default: /greengrass/v2]")
    parser.add_argument("--json", action="store_true", help="one JSON object a check and line")
    options = parser.parse_args(arguments)
    verdicts = judge(gather(options.root))
    if options.json:
        text = "".join(json.dumps(verdict.to_json()) + "\n" for verdict in verdicts)
    else:
        text = "\n".join(lines(verdicts)) + "\n"
    sys.stdout.write(text)
    return 0 if is_fine(verdicts) else 1
