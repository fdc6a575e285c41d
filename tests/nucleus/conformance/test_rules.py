"""Rules of the device notes, sections 3 and 5, that no case of section 7 shows; real processes wherever it has one."""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus.bench import FOREVER, Bench, F, R
from tests.nucleus.device import DEADLINE_S

from monodon.core.deployment import Status, read_document
from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import RunWith
from monodon.core.recipe.reading import parse_recipe
from monodon.nucleus.component_environment import nucleus_variables, token_variables
from monodon.nucleus.identity import CloudIdentity, Identity
from monodon.nucleus.journal import Journal
from monodon.nucleus.limits import Limits
from monodon.nucleus.nucleus import Nucleus, running
from monodon.nucleus.proxy import Proxy
from monodon.nucleus.settings import Settings
from monodon.nucleus.state import DeviceState

PATH = "/usr/local/bin:/usr/bin:/bin"


async def deploy(nucleus: Nucleus, recipes: Mapping[str, Mapping[str, Any]]) -> None:
    """Deploy components that have these lifecycles, and nothing else."""
    for name, lifecycle in recipes.items():
        recipe = {
            "RecipeFormatVersion": "2020-01-25",
            "ComponentName": name,
            "ComponentVersion": "1.0.0",
            "Manifests": [{"Lifecycle": lifecycle}],
        }
        nucleus.store.put_recipe(parse_recipe(json.dumps(recipe).encode(), file="recipe.json"), None)
    document = {
        "deploymentId": "d",
        "creationTimestamp": time.time_ns() // 1_000_000,
        "components": {name: {"version": "1.0.0"} for name in recipes},
        "componentUpdatePolicy": {"action": "SKIP_NOTIFY_COMPONENTS"},
    }
    nucleus.deployer.submit(read_document(document))
    async with asyncio.timeout(DEADLINE_S):
        while (progress := nucleus.deployer.progress("d")) is None or progress.outcome is None:
            await asyncio.sleep(0.01)
    assert progress.outcome.has_succeeded, progress.outcome


def found(root: Path, name: str) -> dict[str, str]:
    """The environment that a script of a component wrote down with ``env > found``."""
    lines = (root / "work" / name / "found").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


async def test_rule_e3_of_two_values_for_a_variable_the_later_source_wins(tmp_path: Path) -> None:
    """The nucleus's own environment; what the nucleus provides; the token; lifecycle.Setenv; the step's Setenv."""
    own = dict.fromkeys(("OWN", "AWS_IOT_THING_NAME", "SVCUID", "GGC_VERSION", "BOTH"), "the process's") | {
        "PATH": PATH
    }
    lifecycle = {
        "Setenv": {"GGC_VERSION": "the recipe's", "BOTH": "the recipe's", "RECIPE": "the recipe's"},
        "Startup": {"Script": "env > found", "Setenv": {"BOTH": "the step's"}},
    }
    async with running(tmp_path / "root", thing="drone-1", environment=own) as nucleus:
        await deploy(nucleus, {"A": lifecycle, "B": {"Startup": "env > found"}})
        seen, other = found(nucleus.root, "A"), found(nucleus.root, "B")
        assert seen["OWN"] == "the process's"
        assert seen["AWS_IOT_THING_NAME"] == "drone-1"
        assert seen["GGC_VERSION"] == seen["RECIPE"] == "the recipe's"
        assert seen["BOTH"] == "the step's"
        assert other["BOTH"] == "the process's"
        assert other["GGC_VERSION"] == nucleus.identity.version
        for name, variables in (("A", seen), ("B", other)):
            token = nucleus.tokens.of(ComponentName(name))
            assert variables["SVCUID"] == variables["AWS_CONTAINER_AUTHORIZATION_TOKEN"] == token
        assert seen["SVCUID"] != other["SVCUID"]


async def test_rule_e4_what_a_component_of_a_device_without_a_cloud_finds(tmp_path: Path) -> None:
    async with running(tmp_path / "root", thing="drone-1", environment={"PATH": PATH}) as nucleus:
        await deploy(nucleus, {"A": {"Startup": "env > found"}})
        seen = found(nucleus.root, "A")
        assert seen["AWS_IOT_THING_NAME"] == "drone-1"
        assert seen["GGC_VERSION"] == nucleus.identity.version
        assert seen["AWS_GG_FIPS_MODE"] == "false"
        socket = str(nucleus.socket)
        assert seen["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH"] == socket
        assert seen["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"] == socket
        assert not {"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} & set(seen)


def test_rule_e4_what_a_cloud_adds(tmp_path: Path) -> None:
    """Region, credential endpoint, root certificate, and the proxy under names in both cases (rule E3)."""
    cloud = CloudIdentity(
        region="eu-west-1",
        certificate=tmp_path / "c",
        private_key=tmp_path / "k",
        root_ca=tmp_path / "ca",
        data_endpoint="data",
        data_plane_host="plane",
        data_plane_port=8443,
        proxy=Proxy(host="proxy", port=3128, exempt=("localhost",)),
    )
    identity = Identity(thing="drone-1", version="2.18.0", region="eu-west-1", cloud=cloud)
    journal = Journal.open(tmp_path / "config")
    settings = Settings({"fipsMode": "true"}, DeviceState(journal))
    seen = nucleus_variables(
        identity, tmp_path / "socket", "http://localhost:1/2016-11-01/credentialprovider/", settings
    )
    journal.close()
    proxies = {name: value for name, value in seen.items() if name.lower().endswith("_proxy")}
    assert {name.lower(): value for name, value in proxies.items()} == {
        name.lower(): proxies[name.upper()] for name in proxies
    }
    assert {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"} <= set(proxies)
    assert "proxy:3128" in proxies["HTTPS_PROXY"]
    assert {name: value for name, value in seen.items() if name not in proxies} == {
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_IOT_THING_NAME": "drone-1",
        "GGC_VERSION": "2.18.0",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost:1/2016-11-01/credentialprovider/",
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH": str(tmp_path / "socket"),
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(tmp_path / "socket"),
        "AWS_GG_FIPS_MODE": "true",
        "AWS_USE_FIPS_ENDPOINT": "true",
        "GG_ROOT_CA_PATH": str(tmp_path / "ca"),
    }
    assert token_variables("t") == {"SVCUID": "t", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"}


async def test_rule_e6_stdin_is_open_and_each_line_goes_to_the_components_own_log(bench: Bench) -> None:
    """stdout at INFO, stderr at WARN; the key of a step written as text is without ``.Script``."""
    lifecycle = {
        "Install": "echo out; echo err >&2",
        "Run": {"Script": "echo reads; read -r _; exit 1"},
    }
    assert (await bench.run(lifecycle)).state is R
    await bench.said("stdout. reads.")
    lines = bench.log().splitlines()

    def key_of(head: str) -> str:
        (line,) = (line for line in lines if head in line)
        return line.partition("scriptName=")[2].partition(",")[0]

    name = "com.example.A"
    assert key_of(f"[INFO] (Copier) {name}: stdout. out.") == f"services.{name}.lifecycle.Install"
    assert key_of(f"[WARN] (Copier) {name}: stderr. err.") == f"services.{name}.lifecycle.Install"
    assert key_of(f"[INFO] (Copier) {name}: stdout. reads.") == f"services.{name}.lifecycle.Run.Script"
    assert bench.supervisor.status(ComponentName(name)).state is R  # an end of stdin would have ended it with 1


async def test_rule_e8_limits_hold_for_startup_and_run_alone(tmp_path: Path) -> None:
    """memory in KB; what cpus become where there are cgroups is tried in test_limits."""
    bench = Bench(tmp_path, limits=Limits("test", membership=tmp_path / "none"))
    said = 'echo "{} $(ulimit -d)" >> "$ROOT/trace"'
    lifecycle = {step: said.format(step) for step in ("Install", "Startup", "Shutdown")}
    async with bench.supervisor:
        await bench.run(lifecycle, run_with=RunWith(memory_kb=200_000))
        other = ComponentName("com.example.B")
        run = {"Script": said.format("Run"), "Setenv": {"ROOT": str(bench.root)}}
        await bench.run({"Run": run}, other, to=F, run_with=RunWith(memory_kb=300_000))
        bench.supervisor.stop(ComponentName("com.example.A"))
        await bench.settled()
    bench.logs.close()
    limits = dict(line.split() for line in bench.trace())
    assert (limits["Startup"], limits["Run"]) == ("200000", "300000")
    assert not {limits["Install"], limits["Shutdown"]} & {"200000", "300000"}


async def test_rule_d5_a_soft_dependency_is_deployed_but_gates_and_restarts_nobody(
    device: Any, cloud: Any, tmp_path: Path
) -> None:
    for version in ("1.0.0", "1.5.0", "2.0.0"):
        cloud.publish("Soft", version, {"Startup": 'until test -e "$OUT/go"; do sleep 0.02; done'})
    cloud.publish("A", "1.0.0", {"Run": FOREVER}, soft={"Soft": "^1.0.0"})
    document = device.document({"A": "1.0.0"})
    device.submit(document)
    await device.until(lambda statuses: "A" in statuses and statuses["A"].state is State.RUNNING)
    assert device.states()["Soft"] != "RUNNING"
    first = device.pids("A")
    (tmp_path / "go").touch()
    assert (await device.ended(document["deploymentId"])).status is Status.SUCCEEDED
    assert device.installed() == {"A": "1.0.0", "Soft": "1.5.0"}
    soft = ComponentName("Soft")
    device.supervisor.restart(soft)
    await device.until(lambda statuses: statuses["Soft"].is_settled)
    assert device.pids("A") == first


async def test_rule_d7_every_root_of_every_group_runs_with_what_it_needs_and_nothing_else_does(
    device: Any, cloud: Any
) -> None:
    """AWS's ``main`` depends on all roots: so each is started, and what none of them needs goes."""
    for name, needs in (
        ("A", {"Shared": "*"}),
        ("B", {"Shared": "*", "OnlyOfB": "*"}),
        ("Shared", {}),
        ("OnlyOfB", {}),
    ):
        cloud.publish(name, "1.0.0", {"Run": FOREVER}, needs=needs)
    device.uplink.groups = ("a", "b")
    assert (await device.deploy({"A": "1.0.0"}, group="a")).has_succeeded
    assert (await device.deploy({"B": "1.0.0"}, group="b")).has_succeeded
    assert device.states() == dict.fromkeys(("A", "B", "Shared", "OnlyOfB"), "RUNNING")
    assert {name for name, one in device.state.installed.items() if one.is_root} == {"A", "B"}
    assert (await device.deploy({}, group="b")).has_succeeded
    assert device.states() == dict.fromkeys(("A", "Shared"), "RUNNING")


async def test_rule_q1_one_deployment_at_a_time_and_the_next_waits_for_no_poll(device: Any, cloud: Any) -> None:
    """(choice) event-driven; AWS's device polls every 15 seconds, in which all three are over here."""
    for name in "ABC":
        cloud.publish(name, "1.0.0", {"Startup": "true"})
    gate = asyncio.Event()
    device.uplink.hold = gate.wait
    keys = [device.submit(device.document({name: "1.0.0"}, group=name)).deployment_id for name in "ABC"]
    await device.reached(keys[0], Status.IN_PROGRESS)
    assert [device.deployer.progress(key).status for key in keys] == [Status.IN_PROGRESS, Status.QUEUED, Status.QUEUED]
    started = time.monotonic()
    gate.set()
    await device.ended(keys[-1])
    assert time.monotonic() - started < 15
    told = [(one.deployment.deployment_id, one.status) for one in device.progress]
    assert told == [(key, status) for key in keys for status in (Status.IN_PROGRESS, Status.SUCCEEDED)]


@pytest.mark.parametrize("steps", [{"Run": "exit 0"}, {"Startup": "true"}])
async def test_rule_x6_and_e2_every_step_runs_in_a_folder_of_the_component_alone(
    bench: Bench, steps: Mapping[str, str]
) -> None:
    """X6: Shutdown runs before FINISHED, also after a Run that ended well; E2: in ``work/<name>``, 0700."""
    shutdown = 'echo "$PWD $(stat -c %a .)" >> "$ROOT/trace"'
    await bench.run({**steps, "Shutdown": shutdown}, to=F if "Run" in steps else R)
    name = ComponentName("com.example.A")
    if "Startup" in steps:
        bench.supervisor.stop(name)
        await bench.state(F)
    assert bench.trace() == [f"{bench.root}/work/{name} 700"]
