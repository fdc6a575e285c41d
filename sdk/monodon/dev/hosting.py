"""A nucleus in a temporary root, for one component that somebody else runs: ``python -m monodon.dev.hosting``.

It reads one line of JSON (``{"name", "thing", "configuration"}``), answers with one (``{"environment"}``, or
``{"error", "hint"}``), and runs until its standard input ends. So it never outlives who started it, however that ended.

In the supervisor a process that only waits stands for the component. Thus the component counts as running, and its
environment is the very one that the nucleus makes.
"""

import asyncio
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from monodon.core.configuration import EMPTY
from monodon.core.deployment import LOCAL_TARGET
from monodon.core.json import Json
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.recipe.reading import parse_recipe
from monodon.core.semver import Version
from monodon.deadlines import timeout
from monodon.errors import MonodonError
from monodon.nucleus.nucleus import Nucleus, running
from monodon.nucleus.side_by_side import first

#: Seconds that the stand-in may take to run.
START_S = 20.0
_STAND_IN = {"run": {"script": "exec sleep 2147483647"}}
_VERSION = "0.0.0"


async def host(order: Mapping[str, Json]) -> None:
    """Run the nucleus until standard input ends, or SIGTERM."""
    name = ComponentName.parse(order["name"])
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    with tempfile.TemporaryDirectory(prefix="monodon-") as root:
        async with running(Path(root) / "root", thing=order["thing"]) as nucleus:
            environment = await _stand_in(nucleus, name, order["configuration"])
            _answer({"environment": environment})
            loop.add_reader(sys.stdin.fileno(), over.set)
            await over.wait()
            loop.remove_reader(sys.stdin.fileno())


async def _stand_in(nucleus: Nucleus, name: ComponentName, configuration: Mapping[str, Json]) -> dict[str, str]:
    """Install the component and let its stand-in run; return the environment that the nucleus gave it.

    It is a root of local deployments with a recipe in the store, so those that the command asks for leave it alone.
    """
    installed = Installed(
        name=name,
        version=Version.parse(_VERSION),
        lifecycle=_STAND_IN,
        configuration=EMPTY.merge((), configuration, at_ms=1),
        is_root=True,
    )
    recipe = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": _VERSION,
        "ComponentConfiguration": {"DefaultConfiguration": configuration},
        "Manifests": [{"Lifecycle": _STAND_IN}],
    }
    nucleus.store.put_recipe(parse_recipe(json.dumps(recipe), file=f"{name}.json"))
    nucleus.state.commit({name: installed}, roots={LOCAL_TARGET: {name: _VERSION}})
    nucleus.supervisor.put(installed)
    nucleus.supervisor.start(name)
    async with timeout(START_S):
        await nucleus.supervisor.wait_until(lambda statuses: statuses[name].state is State.RUNNING)
        (pid,) = nucleus.supervisor.pids(name)
        variables: dict[str, str] = {}
        while "SVCUID" not in variables:  # it shows nothing for the moment in which the shell becomes sleep
            await asyncio.sleep(0.005)
            variables = _environment_of(pid)
    return {key: value for key, value in variables.items() if key.startswith(("AWS_", "GG", "SVCUID"))}


def _environment_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def _answer(answer: Mapping[str, Json]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201 - who started this process reads it


def main() -> None:
    """Host one component."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # meant for the command on the terminal
    handler = logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.WARNING)
    logging.getLogger("monodon.ipc").addHandler(handler)  # refusals, with what would allow them
    try:
        try:
            asyncio.run(host(json.loads(sys.stdin.readline())))
        except ExceptionGroup as errors:
            raise first(errors) from errors
    except MonodonError as error:
        _answer({"error": error.message, "hint": error.hint})
    except TimeoutError:
        _answer({"error": f"the nucleus was not ready within {START_S:g} s", "hint": None})


if __name__ == "__main__":
    main()
