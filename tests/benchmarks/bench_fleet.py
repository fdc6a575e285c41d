"""From ``create_deployment`` to every device SUCCEEDED: simulated devices and the embedded cloud, a process each.

``deploy_s`` runs from boto3's call to the moment when DescribeJob counts every device as SUCCEEDED; ``update_s`` is the
same for the next version. ``connect_s`` is what the devices' TLS handshakes, CONNECTs and subscriptions took before.
``…_kb`` is memory for one connected device, ``…_cpu_ms`` processor time for one device and deployment, in each process.
Both may open as many files as the system's hard limit allows. A growth of 1.0 is linear in the number of devices.

``MONODON_BENCH_FLEET=200,400`` (or ``--quick``) measures other sizes.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

SIZES = (1_000, 5_000, 10_000)
QUICK = (200, 400)
AIMS_S = {1_000: 2.0, 5_000: 10.0, 10_000: 20.0}
WITHIN_S = 300.0
COMPONENT = "com.example.Simulated"


async def serve(folder: Path, count: int) -> None:
    """The cloud's process: makes the things, says where it is, runs until its stdin ends."""
    from tests.simulator.world import enlist

    from monodon.cloud.cloud import Cloud
    from monodon.simulator.fleet import allow_open_files

    allow_open_files(count)
    cloud = Cloud(folder / "cloud")
    async with cloud.running() as ready:
        assert cloud.parts is not None
        world = enlist(cloud.parts, ready, folder / "certificates", count)
        await say({"ready": asdict(ready), **asdict(world)})
        await until_stdin_ends()


async def simulate(folder: Path) -> None:
    """The devices' process: says when all are connected, runs until its stdin ends."""
    from monodon.simulator.device import Device
    from monodon.simulator.faults import Profile
    from monodon.simulator.fleet import Address, Fleet, allow_open_files, device_context
    from monodon.simulator.settings import Settings

    world = json.loads((folder / "world.json").read_text())
    ready, things = world["ready"], world["things"]
    allow_open_files(len(things))
    before = rss_kb("self")
    contexts = [device_context(ready["ca_file"], *files) for files in world["certificates"]]
    settings, profile, now = Settings(), Profile(), time.time()
    devices = [Device(thing, profile, settings, now=now) for thing in things]
    share = -(-len(things) // len(contexts))
    fleet = Fleet(
        devices,
        address=Address(host=ready["mqtt_host"], port=ready["mqtt_port"]),
        contexts=[contexts[index // share] for index in range(len(things))],
    )
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(fleet.run())
        while fleet.open_count < len(devices) or not all(device.is_settled for device in devices):
            await asyncio.sleep(0.05)
        connect_s = time.perf_counter() - started
        await say({"connect_s": connect_s, "device_kb": (rss_kb("self") - before) / len(devices)})
        await until_stdin_ends()
        running.cancel()


async def say(value: dict[str, Any]) -> None:
    await asyncio.to_thread(print, json.dumps(value), flush=True)


async def until_stdin_ends() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


def rss_kb(pid: str) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise RuntimeError("no VmRSS")


def cpu_s(process: "subprocess.Popen[str]") -> float:
    """Processor time that a process has used; it says more than the clock where others work as well."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Child:
    """A process of this file; it ends when its stdin does."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def listen(self) -> dict[str, Any]:
        line = _of(self.process.stdout).readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended with {self.process.wait()}")
        told: dict[str, Any] = json.loads(line)
        return told

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        _of(self.process.stdin).close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        _of(self.process.stdout).close()


def _of(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def deploy(clients: Any, group_arn: str, version: str, count: int) -> float:
    """Seconds until every device has succeeded."""
    greengrass, iot = clients
    started = time.perf_counter()
    answer = greengrass.create_deployment(targetArn=group_arn, components={COMPONENT: {"componentVersion": version}})
    while time.perf_counter() - started < WITHIN_S:
        details = iot.describe_job(jobId=answer["iotJobId"])["job"]["jobProcessDetails"]
        if details["numberOfSucceededThings"] == count:
            return time.perf_counter() - started
        if details["numberOfFailedThings"] or details["numberOfRejectedThings"]:
            raise RuntimeError(f"devices failed: {details}")
        time.sleep(0.1)
    raise RuntimeError(f"not all succeeded within {WITHIN_S:g} s: {details}")


def measure(count: int) -> dict[str, Any]:
    """Figures of one size."""
    from monodon.fleet import Aws

    with tempfile.TemporaryDirectory(prefix="mn") as name:
        folder = Path(name)
        with Child("serve", name, str(count)) as cloud:
            told = cloud.listen()
            (folder / "world.json").write_text(json.dumps(told))
            before = rss_kb(str(cloud.process.pid))
            aws = Aws(endpoint_url=told["ready"]["endpoint"], region=told["ready"]["region"])
            clients = aws.greengrass, aws.iot
            with Child("simulate", name) as simulator:
                connected = simulator.listen()
                after = rss_kb(str(cloud.process.pid))
                processes = cloud.process, simulator.process
                used = [cpu_s(each) for each in processes]
                took = [deploy(clients, told["group_arn"], version, count) for version in ("1.0.0", "1.1.0")]
                used = [cpu_s(each) - then for each, then in zip(processes, used, strict=True)]
    return {
        "connect_s": round(connected["connect_s"], 1),
        "deploy_s": round(took[0], 2),
        "update_s": round(took[1], 2),
        "cloud_cpu_ms": round(used[0] * 1000 / len(took) / count, 2),
        "simulator_cpu_ms": round(used[1] * 1000 / len(took) / count, 2),
        "aim_s": AIMS_S.get(count),
        "simulator_kb": round(connected["device_kb"], 1),
        "cloud_kb": round((after - before) / count, 1),
    }


def sizes() -> tuple[int, ...]:
    given = os.environ.get("MONODON_BENCH_FLEET")
    if given:
        return tuple(int(each) for each in given.split(","))
    return QUICK if "--quick" in sys.argv else SIZES


def main() -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for count in sizes():
        figures[str(count)] = measure(count)
        print(f"fleet of {count}: {figures[str(count)]}", file=sys.stderr)
    first, last = figures[str(sizes()[0])], figures[str(sizes()[-1])]
    growth = last["deploy_s"] / first["deploy_s"] / (sizes()[-1] / sizes()[0])
    return {**figures, "growth": round(growth, 2)}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    if sys.argv[1:2] == ["serve"]:
        from monodon.cloud.collecting import collecting_little
        from monodon.cloud.fairness import fair_loop

        with collecting_little(), asyncio.Runner(loop_factory=fair_loop) as runner:  # as ``monodon cloud run`` does
            runner.run(serve(Path(sys.argv[2]), int(sys.argv[3])))
    elif sys.argv[1:2] == ["simulate"]:
        asyncio.run(simulate(Path(sys.argv[2])))
    else:
        print(json.dumps(main()))
