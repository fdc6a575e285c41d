"""Components that print 1 GB each, 100 MB when short: how soon does the nucleus answer meanwhile, and what is kept?

Lines on stdout, lines on stderr, text without a single line end, and NULs, one after the other; lines of one letter are
a fiftieth, since each becomes a hundred times as much log. A client of AWS's asks the nucleus for a component's state
all the time, from a process of its own; the baseline is the same before any flood.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
from tests.nucleus.test_nucleus import driven, write_recipe

BYTES, BYTES_SHORT = 1_000_000_000, 100_000_000
BASELINE_S = 5.0
#: Pauses between questions: a tight loop of the client's own would be a load, too.
PAUSE_S = 0.002
LINE = "x" * 99
FLOODS = {
    "stdout": f"yes {LINE} | head -c $BYTES",
    "stderr": f"yes {LINE} | head -c $BYTES >&2",
    "endless": "head -c $BYTES /dev/zero | tr '\\0' x",
    "nul": "head -c $BYTES /dev/zero",
    "letters": "yes | head -c $((BYTES / 50))",
}
P99_MS, LOG_BYTES, GROWTH_MB = 50.0, 10 * 1024 * 1024, 32.0


def state_of(client: GreengrassCoreIPCClientV2, name: str) -> str:
    return str(client.get_component_details(component_name=name).component_details.state)


def asked(client: GreengrassCoreIPCClientV2, name: str, until: Callable[[str, float], bool]) -> list[float]:
    """Ask for a component's state until ``until`` holds for it and the seconds gone by; how long each answer took."""
    times, begun = [], time.perf_counter()
    while True:
        started = time.perf_counter()
        state = state_of(client, name)
        ended = time.perf_counter()
        times.append((ended - started) * 1000)
        if until(state, ended - begun):
            return times
        time.sleep(PAUSE_S)


def figures(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "answers": len(times),
        "p50_ms": round(statistics.median(times), 2),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 2),
        "most_ms": round(ordered[-1], 1),
    }


def memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def flood(
    client: GreengrassCoreIPCClientV2, recipes: Path, logs: Path, kind: str, size: int
) -> tuple[dict[str, Any], list[str]]:
    """Deploy the component that floods, ask until it has finished; the figures, and what is wrong with them."""
    name = f"com.example.{kind}"
    print(f"flood of {kind}", file=sys.stderr)
    started = time.perf_counter()
    client.create_local_deployment(root_component_versions_to_add={name: "1.0.0"}, recipe_directory_path=str(recipes))
    while name not in {each.component_name for each in client.list_components().components}:
        time.sleep(PAUSE_S)
    times = asked(client, name, lambda state, _: state in ("FINISHED", "BROKEN", "ERRORED"))
    took = time.perf_counter() - started
    kept = sum(path.stat().st_size for path in logs.glob(f"{name}*.log"))
    found = {**figures(times), "took_s": round(took, 1), "log_kb": kept // 1024, "state": state_of(client, name)}
    checks = {
        f"p99 is {found['p99_ms']} ms": found["p99_ms"] < P99_MS,
        f"its logs are {kept} bytes": 0 < kept <= LOG_BYTES,
        f"it is {found['state']}": found["state"] == "FINISHED",
    }
    return found, [f"{kind}: {text}" for text, is_right in checks.items() if not is_right]


def main(is_short: bool) -> dict[str, Any]:
    """Flood and measure; return the figures."""
    size = BYTES_SHORT if is_short else BYTES
    found: dict[str, Any] = {"bytes_each": size}
    complaints = []
    with tempfile.TemporaryDirectory(prefix="mnflood") as folder:
        recipes, root = Path(folder) / "recipes", Path(folder) / "root"
        for kind, script in FLOODS.items():
            write_recipe(recipes, f"com.example.{kind}", Run=f"BYTES={size}; {script}")
        write_recipe(recipes, "com.example.Idle", Run="exec sleep 100000")
        with driven(root) as nucleus, nucleus.client() as client:
            assert nucleus.deploy(recipes, **{"com.example.Idle": "1.0.0"})[0] == "SUCCEEDED"
            pid = nucleus.process.pid
            found["baseline"] = figures(asked(client, "com.example.Idle", lambda _, gone_s: gone_s > BASELINE_S))
            before = memory_mb(pid)
            for kind in FLOODS:
                found[kind], wrong = flood(client, recipes, root / "logs", kind, size)
                complaints += wrong
            found["memory_before_mb"], found["memory_most_mb"] = round(before, 1), round(memory_mb(pid), 1)
            if found["memory_most_mb"] > before + GROWTH_MB:
                complaints.append(f"memory grew from {before:.1f} to {found['memory_most_mb']} MB")
            nucleus.end()
    return {**found, "complaints": complaints}
