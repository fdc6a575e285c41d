"""Run benchmarks: ``scripts/bench [NAME…]``, each a module bench_<name>.py beside this one with ``main() -> dict``.

What begins with ``--`` (``--quick``) is for the benchmark to read.

Figures go to stdout as JSON, a line a benchmark; what a benchmark has to say meanwhile goes to stderr.
"""

import importlib.util
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def names() -> list[str]:
    """Return the benchmarks there are."""
    return sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))


def run(name: str) -> dict[str, Any]:
    """Run one benchmark and return its figures."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"bench_{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    started = time.perf_counter()
    figures: dict[str, Any] = module.main()
    return {"benchmark": name, **figures, "took_s": round(time.perf_counter() - started, 1)}


if __name__ == "__main__":
    wanted = [each for each in sys.argv[1:] if not each.startswith("--")] or names()
    if unknown := [name for name in wanted if name not in names()]:
        sys.exit(f"error: no benchmark {unknown[0]!r}\nhint: there are {', '.join(names())}")
    sys.path.insert(0, str(HERE.parents[1]))  # what the journeys use serves here, too
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for name in wanted:
        print(json.dumps(run(name)), flush=True)
