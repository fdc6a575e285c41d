"""What a nucleus has to bear: floods, fork bombs, scripts that hang or hear nothing, artifacts that are cut short."""

import asyncio
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus.bench import B_, A, B, Bench, F
from tests.nucleus.device import FOREVER, Cloud, Device, running
from tests.nucleus.device import device as running_device

from monodon.core.deployment import DetailedStatus, Status
from monodon.core.names import ComponentName
from monodon.core.plan import RunWith
from monodon.nucleus.limits import Kind, Limits
from monodon.nucleus.logs import LogSettings

BYTES = 16_000_000
#: What floods, and what a piece of it looks like in the log.
FLOODS = {
    "lines": (f"yes {'x' * 99} | head -c {BYTES}", f"[INFO] (Copier) com.example.lines: stdout. {'x' * 99}. {{"),
    "errors": (f"yes {'x' * 99} | head -c {BYTES} >&2", f"[WARN] (Copier) com.example.errors: stderr. {'x' * 99}. {{"),
    "endless": (f"head -c {BYTES} /dev/zero | tr '\\0' x", f"stdout. {'x' * 16384}. {{"),
    "nul": (f"head -c {BYTES} /dev/zero", "stdout. \0\0\0"),
}


def memory_kb(which: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which))


@pytest.mark.slow
async def test_floods_of_output_stay_in_their_logs_and_take_no_memory(bench: Bench) -> None:
    """Four components at once print 16 MB each: lines, errors, a single line without end, NULs."""
    limits = LogSettings(file_size_bytes=256 * 1024, total_size_bytes=1024 * 1024)
    bench.logs.configure(limits)
    names = {kind: ComponentName.parse(f"com.example.{kind}") for kind in FLOODS}
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory_kb("VmRSS")
    for kind, (script, _) in FLOODS.items():
        bench.put({"Run": script}, names[kind])
        bench.supervisor.start(names[kind])
    await bench.supervisor.wait_until(
        lambda statuses: all(status.is_settled and status.state is F for status in statuses.values())
    )
    assert memory_kb("VmHWM") - before < 16 * 1024
    for kind, (_, piece) in FLOODS.items():
        files = sorted((bench.root / "logs").glob(f"{names[kind]}*.log"))
        sizes = [file.stat().st_size for file in files]
        assert len(files) > 2
        assert max(sizes) <= limits.file_size_bytes
        assert sum(sizes) <= limits.total_size_bytes
        assert piece in bench.log(names[kind])


@pytest.mark.slow
@pytest.mark.parametrize("is_rlimit", [False, True], ids=["what this machine has", "rlimit"])
async def test_a_fork_bomb_stays_in_its_limit_and_is_ended(tmp_path: Path, is_rlimit: bool) -> None:
    """``systemResourceLimits.pids``: a component that starts ever more processes hurts itself alone.

    RLIMIT_NPROC binds no root: there it runs as a plain user.
    """
    limits = Limits("bomb", membership=tmp_path / "missing") if is_rlimit else Limits("bomb")
    bench = Bench(tmp_path, limits=limits)
    async with asyncio.timeout(60), bench.supervisor:
        needs_user = limits.kind is Kind.RLIMIT and os.geteuid() == 0
        run_with = RunWith(pids=40, posix_user="nobody" if needs_user else None)
        bench.put({"Run": "bomb() { while :; do bomb & sleep 0.1; done; }; bomb"}, run_with=run_with)
        bench.supervisor.start(A)
        await bench.said("Cannot fork")
        assert len(bench.supervisor.pids(A)) <= 40
        started = asyncio.get_running_loop().time()
        await bench.run({"Startup": "true"}, B_)
        assert asyncio.get_running_loop().time() - started < 5
        bench.supervisor.stop(A)
        await bench.until(lambda now: now[A].state in (F, B) and now[A].is_settled)
        assert bench.supervisor.pids(A) == []
        await bench.supervisor.remove(A)
    bench.logs.close()


@pytest.mark.slow
async def test_a_deployment_whose_install_hangs_goes_back(device: Device, cloud: Cloud) -> None:
    """Each try has its time, three break the component; the former set runs on meanwhile, and others answer."""
    cloud.publish("A", "1.0.0", running("one"))
    cloud.publish("A", "2.0.0", {"Install": {"Script": FOREVER, "Timeout": 1}, "Run": FOREVER})
    cloud.publish("Other", "1.0.0", running("other"))
    assert (await device.deploy({"A": "1.0.0", "Other": "1.0.0"})).has_succeeded
    (other,) = device.supervisor.pids(ComponentName("Other"))
    await device.idle()
    outcome = await device.deploy({"A": "2.0.0", "Other": "1.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_ROLLBACK_COMPLETE
    assert "Install" in str(outcome.cause)
    assert "took longer than" in str(outcome.cause)
    assert device.installed() == {"A": "1.0.0", "Other": "1.0.0"}
    assert device.states() == {"A": "RUNNING", "Other": "RUNNING"}
    assert device.supervisor.pids(ComponentName("Other")) == [other]
    assert len(device.supervisor.pids(ComponentName("A"))) == 1


@pytest.mark.slow
async def test_an_artifact_that_is_cut_short_in_the_cloud_changes_nothing(device: Device, cloud: Cloud) -> None:
    whole = bytes(range(256)) * 40
    cloud.publish("A", "1.0.0", running("one"))
    cloud.publish("A", "2.0.0", running("two"), artifacts={"f": whole})
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    pids = device.supervisor.pids(ComponentName("A"))
    served = cloud.folder / "objects" / "A" / "2.0.0" / "f"
    served.write_bytes(whole[:5000])
    outcome = await device.deploy({"A": "2.0.0"})
    assert outcome.detailed is DetailedStatus.FAILED_NO_STATE_CHANGE
    assert "ARTIFACT_CHECKSUM_MISMATCH" in outcome.error_stack
    assert device.supervisor.pids(ComponentName("A")) == pids
    assert not (device.root / "packages" / "artifacts" / "A" / "2.0.0" / "f").exists()
    served.write_bytes(whole)
    assert (await device.deploy({"A": "2.0.0"})).has_succeeded
    assert (device.root / "packages" / "artifacts" / "A" / "2.0.0" / "f").read_bytes() == whole


@pytest.mark.slow
async def test_artifacts_that_were_cut_short_on_disk_are_brought_again(tmp_path: Path, cloud: Cloud) -> None:
    """By the next deployment that names them, of the very same version too; unpacked ones likewise."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("main.sh", "true\n" * 1000)
    cloud.publish("A", "1.0.0", running("one"), artifacts={"f": b"f" * 9000})
    cloud.publish("Z", "1.0.0", running("zip"), artifacts={"z.zip": buffer.getvalue()}, unarchive="ZIP")
    wanted = {"A": "1.0.0", "Z": "1.0.0"}
    packages = tmp_path / "root" / "packages"
    files = [packages / "artifacts/A/1.0.0/f", packages / "artifacts-unarchived/Z/1.0.0/z/main.sh"]
    async with running_device(tmp_path / "root", cloud) as one:
        assert (await one.deploy(wanted)).has_succeeded
        await one.idle()
        document = one.document(wanted)
    whole = [file.read_bytes() for file in files]
    for file in files:
        os.truncate(file, 4096)
    async with running_device(tmp_path / "root", cloud) as one:
        one.submit(document)
        assert (await one.ended(document["deploymentId"])).status is Status.SUCCEEDED
        assert one.states() == {"A": "RUNNING", "Z": "RUNNING"}
    assert [file.read_bytes() for file in files] == whole


DEAF = "trap '' TERM INT HUP; while :; do sleep 1000; done"


@pytest.mark.slow
async def test_a_component_that_hears_nothing_is_replaced_all_the_same(device: Device, cloud: Cloud) -> None:
    """A Run and a Shutdown that both ignore SIGTERM: Shutdown's time, then SIGKILL, then the new version."""
    deaf: dict[str, Any] = {"Run": f"({DEAF}) & {DEAF}", "Shutdown": {"Script": DEAF, "Timeout": 1}}
    cloud.publish("A", "1.0.0", deaf)
    cloud.publish("A", "2.0.0", running("two"))
    assert (await device.deploy({"A": "1.0.0"})).has_succeeded
    await device.idle()
    assert len(device.supervisor.pids(ComponentName("A"))) >= 2
    assert (await device.deploy({"A": "2.0.0"})).has_succeeded
    assert device.states() == {"A": "RUNNING"}
    assert len(device.supervisor.pids(ComponentName("A"))) == 1
    assert (await device.deploy({})).has_succeeded
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if "sleep" in Path(f"/proc/{pid}/cmdline").read_text()] == []
