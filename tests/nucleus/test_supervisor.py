"""The supervisor with real processes: nucleus.md 3; the numbered cases are in conformance/test_lifecycle.py."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.nucleus.bench import B_, DEADLINE_S, FOREVER, A, B, Bench, C, E, F, G, I, N, P, R, trace

from monodon.core.names import ComponentName
from monodon.core.plan import RunWith
from monodon.errors import DeploymentError, StateError
from monodon.nucleus.limits import Limits


async def test_the_hour_is_shorter_where_the_recipe_says_so(bench: Bench) -> None:
    bench.put({"Run": FOREVER, "errorResetTime": 10})
    bench.supervisor.start(A)
    for _ in range(4):
        await bench.settled()
        bench.now += 10
        os.kill(bench.supervisor.pids(A)[0], signal.SIGKILL)
        await bench.until(lambda statuses: not statuses[A].is_settled)
    assert (await bench.settled()).state is R


async def test_a_new_version_is_stopped_by_the_old_script_and_installed(bench: Bench) -> None:
    def lifecycle(version: str) -> dict[str, str]:
        return {"Install": trace(f"install {version}"), "Startup": trace(f"start {version}"),
                "Shutdown": trace(f"shutdown {version}")}  # fmt: skip

    await bench.run(lifecycle("1"))
    bench.put(lifecycle("2"), version="2.0.0")
    bench.supervisor.reinstall(A)
    await bench.settled()
    assert bench.trace() == ["install 1", "start 1", "shutdown 1", "install 2", "start 2"]


async def test_a_restart_does_not_install_and_a_new_definition_alone_does_nothing(bench: Bench) -> None:
    lifecycle = {"Install": trace("install"), "Startup": trace("startup"), "Shutdown": trace("shutdown")}
    installed = await bench.run(lifecycle)
    assert installed.state is R
    bench.put(lifecycle | {"Startup": trace("startup 2")})
    assert (await bench.settled()).state is R
    assert bench.trace() == ["install", "startup"]
    bench.supervisor.restart(A)
    await bench.settled()
    assert bench.trace() == ["install", "startup", "shutdown", "startup 2"]
    assert bench.states() == [I, G, R, P, I, G, R]


async def test_a_missing_hard_dependency_is_waited_for(bench: Bench) -> None:
    bench.put({"Run": FOREVER}, B_, needs=[A])
    bench.supervisor.start(B_)
    await bench.state(I, B_)
    assert not bench.supervisor.status(B_).is_settled
    await bench.run({}, A)
    await bench.settled(B_)


@pytest.mark.slow
async def test_startup_is_running_when_it_ends_well_or_says_so_itself(bench: Bench) -> None:
    """X9: a process that reports its readiness stays in Startup, and its Timeout ends there."""
    bench.put({"Startup": {"Script": "sleep 1.1; echo late; " + FOREVER, "Timeout": 1}})
    bench.supervisor.start(A)
    await bench.state(G)
    assert bench.supervisor.report(A, R)
    assert bench.supervisor.status(A).state is R
    assert not bench.supervisor.report(A, R)
    await bench.said("stdout. late")
    assert bench.supervisor.status(A).state is R
    os.kill(bench.supervisor.pids(A)[0], signal.SIGTERM)
    await bench.until(lambda statuses: not statuses[A].is_settled)
    bench.supervisor.stop(A)
    await bench.settled()
    error = next(change.status for change in bench.history if change.after is E)
    assert error.codes == ("STARTUP_ERROR",)
    assert "was ended by SIGTERM" in error.reason


async def test_a_startup_that_overruns_is_an_error(bench: Bench) -> None:
    status = await bench.run({"Startup": {"Script": FOREVER, "Timeout": 0}})
    assert (status.state, status.codes) == (B, ("STARTUP_TIMEOUT",))
    assert bench.supervisor.pids(A) == []


async def test_a_run_that_overruns_is_closed(bench: Bench) -> None:
    status = await bench.run({"Run": {"Script": FOREVER, "Timeout": 0}}, to=B)
    assert (status.state, status.codes) == (B, ("RUN_TIMEOUT",))
    assert bench.supervisor.pids(A) == []


async def test_a_shutdown_that_overruns_ends_everything_and_goes_on(bench: Bench) -> None:
    await bench.run({"Run": FOREVER, "Shutdown": {"Script": FOREVER, "Timeout": 0}})
    bench.supervisor.stop(A)
    await bench.settled()
    assert bench.states() == [I, G, R, P, E, F]
    assert bench.supervisor.pids(A) == []


@pytest.mark.slow
async def test_a_process_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    script = "trap '' TERM; echo ready; while :; do sleep 1000; done"
    await bench.run({"Run": script, "Shutdown": {"Script": "true", "Timeout": 1}})
    await bench.said("stdout. ready")
    bench.supervisor.stop(A)
    await bench.settled()
    assert bench.supervisor.pids(A) == []
    assert bench.states()[-2:] == [E, F]


async def test_a_daemon_that_left_its_session_is_found_and_ended(bench: Bench) -> None:
    pid_file = bench.root / "pid"
    daemon = f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 1000' >/dev/null 2>&1 </dev/null &"
    await bench.run({"Startup": f"{daemon} while ! test -s {pid_file}; do sleep 0.01; done"})
    pid = int(pid_file.read_text())
    assert pid in bench.supervisor.pids(A)
    bench.supervisor.stop(A)
    await bench.settled()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_an_exit_of_the_former_process_is_no_news_of_the_new_one(bench: Bench) -> None:
    """X7."""
    await bench.run({"Run": "trap 'exit 9' TERM; while :; do sleep 0.05; done"})
    for _ in range(4):
        bench.supervisor.restart(A)
        await bench.settled()
    assert E not in bench.states()
    assert bench.supervisor.status(A).state is R


async def test_what_a_step_finds(bench: Bench) -> None:
    lifecycle = {
        "Setenv": {"GLOBAL": "g", "BOTH": "global", "WHO": "recipe"},
        "Install": {"Script": 'echo "$GLOBAL $BOTH $WHO $SVCUID $PWD $(stat -c %a .)"; echo bad >&2',
                    "Setenv": {"BOTH": "step"}},
    }  # fmt: skip
    assert (await bench.run(lifecycle)).state is F
    log = bench.log()
    assert f"stdout. g step recipe token {bench.root}/work/{A} 700. " in log
    assert (
        "[WARN] (Copier) com.example.A: stderr. bad. {scriptName=services.com.example.A.lifecycle.Install.Script, "
        in log
    )
    assert "serviceName=com.example.A, currentState=NEW}" in log


async def test_a_script_goes_on_after_a_command_that_fails(bench: Bench) -> None:
    """Rule E1: ``sh -c`` without ``-e``; rule E5: the system's folders are on PATH."""
    status = await bench.run({"Startup": 'false; case ":$PATH:" in *:/usr/sbin:*) echo on >> "$ROOT/trace";; esac'})
    assert (status.state, bench.trace()) == (R, ["on"])


async def test_a_retry_waits_for_nothing(bench: Bench) -> None:
    """Rules X3 and X4: no pause between attempts; Shutdown runs once for each, the last in BROKEN."""
    started = time.monotonic()
    await bench.run({"Startup": "exit 1", "Shutdown": trace("shutdown")})
    assert bench.supervisor.status(A).state is B
    await bench.until(lambda _: len(bench.trace()) == 3)
    assert time.monotonic() - started < 5


async def test_stdin_is_left_open(bench: Bench) -> None:
    await bench.run({"Run": "read -r _; exit 1"})
    assert bench.supervisor.status(A).state is R


async def test_removal_runs_uninstall_after_dependers_stopped_and_forgets(bench: Bench) -> None:
    """D4, case 60: however Uninstall ends."""
    await bench.run({"Run": FOREVER, "Uninstall": trace("gone $GREENGRASS_COMPONENT_VERSION") + "; exit 1"}, A)
    await bench.run({"Run": FOREVER, "Shutdown": trace("depender stopped")}, B_, needs=[A])
    removal = asyncio.create_task(bench.supervisor.remove(A))
    async with asyncio.timeout(DEADLINE_S):
        await bench.supervisor.remove(B_)
        await removal
    assert bench.trace() == ["depender stopped", "gone 1.0.0"]
    assert dict(bench.supervisor.statuses()) == {}
    await bench.supervisor.remove(A)
    with pytest.raises(StateError, match=r"no component com\.example\.A"):
        bench.supervisor.start(A)


async def test_leaving_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    bench = Bench(tmp_path, close_s=0.2)
    async with bench.supervisor:
        await bench.run({"Run": "trap '' TERM; while :; do sleep 1000; done", "Shutdown": FOREVER})
    bench.logs.close()
    assert not list(Path(f"/proc/self/task/{os.getpid()}").joinpath("children").read_text().split())


async def test_the_condition_of_shutdown_is_that_of_the_moment_it_would_run(bench: Bench) -> None:
    lifecycle = {"Run": FOREVER, "Shutdown": {"Script": trace("shutdown"), "Skipif": "exists busy"}}
    await bench.run(lifecycle)
    (bench.root / "work" / A / "busy").touch()
    bench.supervisor.restart(A)
    await bench.settled()
    assert bench.trace() == []
    (bench.root / "work" / A / "busy").unlink()
    bench.supervisor.stop(A)
    await bench.settled()
    assert bench.trace() == ["shutdown"]


async def test_limits_hold_from_the_start_and_change_in_place(tmp_path: Path) -> None:
    """3.6: other limits restart nothing."""
    bench = Bench(tmp_path, limits=Limits("test", membership=tmp_path / "none"))
    async with bench.supervisor:
        await bench.run({"Run": FOREVER}, run_with=RunWith(memory_kb=200_000))
        pid = bench.supervisor.pids(A)[0]
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[0] == 200_000 * 1024
        bench.put({"Run": FOREVER}, run_with=RunWith(memory_kb=300_000))
        assert resource.prlimit(pid, resource.RLIMIT_DATA)[0] == 300_000 * 1024
        assert bench.supervisor.pids(A) == [pid]
    bench.logs.close()


async def test_a_device_that_stops_leaves_no_groups_for_limits(tmp_path: Path) -> None:
    forgotten: list[str] = []

    class Recording(Limits):
        def forget(self, name: str) -> None:
            forgotten.append(name)

    bench = Bench(tmp_path, limits=Recording("test", membership=tmp_path / "none"))
    async with bench.supervisor:
        await bench.run({"Run": FOREVER}, run_with=RunWith(memory_kb=200_000))
        assert forgotten == []
    assert forgotten == [A]
    bench.logs.close()


async def test_two_devices_live_in_one_process(bench: Bench, tmp_path: Path) -> None:
    await bench.run({"Run": FOREVER})
    other = Bench(tmp_path / "other")
    async with other.supervisor:
        await other.run({"Run": FOREVER})
    other.logs.close()
    assert len(bench.supervisor.pids(A)) == 1
    await bench.run({"Startup": "setsid sleep 1000 &"}, B_)
    bench.supervisor.stop(B_)
    await bench.settled(B_)
    assert bench.supervisor.pids(B_) == []


async def test_a_device_whose_root_lies_in_that_of_another_is_left_alone(tmp_path: Path) -> None:
    outer, inner = Bench(tmp_path), Bench(tmp_path / "inner")
    async with inner.supervisor:
        await inner.run({"Run": FOREVER})
        before = inner.supervisor.pids(A)
        async with outer.supervisor:
            assert inner.supervisor.pids(A) == before
        assert inner.supervisor.pids(A) == before
    inner.logs.close()


async def test_who_falls_behind_loses_the_oldest_changes(bench: Bench) -> None:
    slow = bench.supervisor.changes()
    await bench.run({})
    for _ in range(400):
        bench.supervisor.restart(A)
        await bench.settled()
    await slow.aclose()
    assert len([change async for change in slow]) == 1000
    assert slow.missed == 3 + 400 * 3 - 1000


async def test_a_condition_that_fails_is_its_owners_problem(bench: Bench) -> None:
    waiting = asyncio.create_task(
        bench.supervisor.wait_until(lambda statuses: bool(statuses) and statuses[B_].is_settled)
    )
    await asyncio.sleep(0)
    await bench.run({})
    with pytest.raises(KeyError):
        await waiting


async def test_leaving_stops_everything_dependers_first(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    async with bench.supervisor:
        for name, needs in ((A, []), (B_, [A]), (C, [B_])):
            await bench.run({"Run": FOREVER, "Shutdown": trace(f"{name}")}, name, needs=needs)
        bench.put({"Install": FOREVER}, ComponentName.parse("com.example.Installing"))
        bench.supervisor.start(ComponentName.parse("com.example.Installing"))
    bench.logs.close()
    assert bench.trace() == [C, B_, A]
    assert not list(Path(f"/proc/self/task/{os.getpid()}").joinpath("children").read_text().split())


def start_and_kill(script: str, root: Path) -> int:
    """Run a nucleus until it prints the pid of its component, and kill it."""
    command = [sys.executable, "-c", script, str(root)]
    environment = {**os.environ, "PYTHONPATH": "sdk"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=Path(__file__).parents[2]) as killed:
        assert killed.stdout is not None
        pid = int(killed.stdout.readline())
        killed.kill()
    return pid


async def test_what_an_earlier_nucleus_left_is_ended(tmp_path: Path) -> None:
    script = """
import asyncio, os, sys
from pathlib import Path
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.nucleus.limits import Kind, Limits
from monodon.nucleus.logs import Logs
from monodon.nucleus.supervisor import Supervisor
async def main():
    root = Path(sys.argv[1])
    name = ComponentName.parse("com.example.A")
    async with Supervisor(root=root, environment=lambda _: dict(os.environ), logs=Logs(root / "logs")) as supervisor:
        supervisor.put(Installed(name=name, version=Version.parse("1.0.0"), lifecycle={"Run": "exec sleep 1000"}))
        supervisor.start(name)
        await supervisor.wait_until(lambda statuses: statuses[name].is_settled)
        print(*supervisor.pids(name), flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""
    pid = await asyncio.to_thread(start_and_kill, script, tmp_path)
    assert Path(f"/proc/{pid}").exists()
    bench = Bench(tmp_path)
    async with bench.supervisor:
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"
    bench.logs.close()


async def test_a_component_may_be_paused(bench: Bench) -> None:
    await bench.run({"Run": FOREVER})
    pid = bench.supervisor.pids(A)[0]

    def letter() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    assert bench.supervisor.pause(A)
    assert not bench.supervisor.pause(A)
    async with asyncio.timeout(DEADLINE_S):
        while letter() != "T":
            await asyncio.sleep(0.005)
    assert bench.supervisor.resume(A)
    assert not bench.supervisor.resume(A)
    assert bench.supervisor.pause(A)
    bench.supervisor.stop(A)
    await bench.settled()
    assert bench.states()[-2:] == [P, F]


async def test_bootstrap_gives_its_exit_code(bench: Bench) -> None:
    bench.put({"Bootstrap": "exit 100"})
    assert await bench.supervisor.bootstrap(A) == 100
    bench.put({})
    assert await bench.supervisor.bootstrap(A) == 0
    bench.put({"Bootstrap": "echo no room >&2; exit 5"})
    with pytest.raises(DeploymentError, match=r"exited with code 5; last on stderr:\nno room") as failed:
        await bench.supervisor.bootstrap(A)
    assert failed.value.codes[-1] == "COMPONENT_BOOTSTRAP_ERROR"
    bench.put({"Bootstrap": {"Script": FOREVER, "Timeout": 0}})
    with pytest.raises(DeploymentError) as caught:
        await bench.supervisor.bootstrap(A)
    assert caught.value.codes[-1] == "COMPONENT_BOOTSTRAP_TIMEOUT"


async def test_changes_are_told_to_everyone_who_listens(bench: Bench) -> None:
    async with bench.supervisor.changes() as one, bench.supervisor.changes() as other:
        await bench.run({"Run": FOREVER})
        for listener in (one, other):
            told = [await anext(listener) for _ in range(3)]
            assert [(change.before, change.after) for change in told] == [(N, I), (I, G), (G, R)]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may run components as somebody else")
async def test_root_runs_a_component_as_its_posix_user(bench: Bench) -> None:
    for folder in (bench.root, *bench.root.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    lifecycle = {
        "Install": {"Script": 'echo "install as $(id -un) $HOME" ', "RequiresPrivilege": True},
        "Startup": 'echo "startup as $(id -un):$(id -gn) $HOME"; touch mine',
    }
    assert (await bench.run(lifecycle, run_with=RunWith(posix_user="nobody"))).state is R
    assert "install as root" in bench.log()
    assert "startup as nobody:nogroup /nonexistent" in bench.log()
    status = await bench.run({"Run": "true"}, B_, run_with=RunWith(posix_user="no-such-user"))
    assert (status.state, status.codes) == (B, ("RUN_CONFIG_NOT_VALID",))


async def test_a_flood_of_output_waits_and_the_loop_does_not(bench: Bench) -> None:
    await bench.run({"Run": "exec yes"})
    loop = asyncio.get_running_loop()
    gaps = []
    before = loop.time()
    for _ in range(200):
        await asyncio.sleep(0)
        gaps.append(loop.time() - before)
        before = loop.time()
    assert sorted(gaps)[int(len(gaps) * 0.95)] < 0.1
    assert sum(path.stat().st_size for path in (bench.root / "logs").iterdir()) < 11 * 1024 * 1024
    bench.supervisor.stop(A)
    await bench.settled()


@pytest.mark.slow
async def test_two_hundred_restarts_leak_no_descriptor_no_zombie_no_orphan(bench: Bench) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    await bench.run({"Run": "sleep 1000 & (setsid sleep 1000 &) ; exec sleep 1000", "Shutdown": "true"})
    bench.supervisor.restart(A)
    await bench.settled()
    before = descriptors()
    for _ in range(200):
        bench.supervisor.restart(A)
        await bench.settled()
    assert descriptors() <= before + 1
    bench.supervisor.stop(A)
    await bench.settled()
    assert bench.supervisor.pids(A) == []
    assert Path(f"/proc/self/task/{os.getpid()}/children").read_text().split() == []
