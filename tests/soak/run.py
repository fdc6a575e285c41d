"""Run soaks: ``scripts/soak [NAME…] [--short]``, each a module soak_<name>.py beside this one with ``main(is_short)``.

A soak returns its figures; a list ``complaints`` in them that is not empty makes the exit code 1. What it has to say
meanwhile goes to stderr.
"""

import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def names() -> list[str]:
    """Return the soaks there are."""
    return sorted(path.stem.removeprefix("soak_") for path in HERE.glob("soak_*.py"))


def run(name: str, *, is_short: bool) -> dict[str, Any]:
    """Run one soak and return its figures."""
    started = time.perf_counter()
    figures: dict[str, Any] = importlib.import_module(f"tests.soak.soak_{name}").main(is_short)
    return {"soak": name, "short": is_short, **figures, "took_s": round(time.perf_counter() - started, 1)}


def main(arguments: list[str]) -> int:
    """Run the named soaks, or all."""
    is_short = "--short" in arguments
    wanted = [name for name in arguments if name != "--short"] or names()
    if unknown := [name for name in wanted if name not in names()]:
        print(f"error: no soak {unknown[0]!r}\nhint: there are {', '.join(names())}", file=sys.stderr)
        return 2
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    found = []
    for name in wanted:
        figures = run(name, is_short=is_short)
        found += figures.get("complaints", [])
        print(json.dumps(figures), flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
