"""Cases 38 to 50: the lifecycle of components, with real processes."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.nucleus.bench import B_, FOREVER, A, B, Bench, C, D, E, F, G, I, N, P, R, trace
from tests.nucleus.device import running, said

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName


async def test_case_38_a_run_that_ends_well_is_finished_after_shutdown(bench: Bench) -> None:
    """Given: Run `exit 0`

    Expect: RUNNING, STOPPING, FINISHED; Shutdown ran
    """
    status = await bench.run({"Run": "exit 0", "Shutdown": trace("shutdown")}, to=F)
    assert bench.states() == [I, G, R, P, F]
    assert bench.trace() == ["shutdown"]
    assert (status.codes, status.reason) == ((), "")


async def test_case_39_the_third_error_breaks_and_says_why(bench: Bench) -> None:
    """Given: Run `exit 1`

    Expect: RUNNING/ERRORED/STOPPING/INSTALLED/STARTING twice, third error BROKEN

    Differs: the reason names step, exit code, attempts and the last lines on stderr.
    """
    script = 'echo "no camera" >&2; echo "at /dev/video9" >&2; exit 1'
    status = await bench.run({"Run": {"Script": script}, "Shutdown": trace("shutdown")}, to=B)
    assert bench.states() == [I, G, R, E, P, I, G, R, E, P, I, G, R, B]
    assert len(bench.trace()) == 3
    assert (status.codes, status.attempts) == (("RUN_ERROR",), 3)
    assert status.reason == (
        "broken after 3 attempts: Run.Script exited with code 1; last on stderr:\nno camera\nat /dev/video9"
    )
    bench.supervisor.restart(A)
    bench.supervisor.start(A)
    assert bench.supervisor.status(A).state is B
    bench.put({"Run": FOREVER})
    bench.supervisor.reinstall(A)
    assert (await bench.settled()).state is R
    assert bench.supervisor.status(A).attempts == 0


async def test_case_40_errors_an_hour_apart_never_break(bench: Bench) -> None:
    """Given: same with ≥1 h between errors

    Expect: never BROKEN
    """
    bench.put({"Run": FOREVER})
    bench.supervisor.start(A)
    for _ in range(5):
        await bench.settled()
        bench.now += 3600
        os.kill(bench.supervisor.pids(A)[0], signal.SIGKILL)
        await bench.until(lambda statuses: not statuses[A].is_settled)
    assert (await bench.settled()).state is R
    assert B not in bench.states()


async def test_case_41_an_install_that_fails_once_then_works(bench: Bench) -> None:
    """Given: Install fails once then works

    Expect: NEW, ERRORED, NEW, INSTALLED
    """
    await bench.run({"Install": "test -e tried || { touch tried; exit 1; }", "Run": FOREVER})
    assert bench.states() == [E, N, I, G, R]


async def test_case_42_an_install_that_overruns_leaves_nothing(bench: Bench) -> None:
    """Given: Install longer than Timeout

    Expect: ERRORED, INSTALL_TIMEOUT
    """
    status = await bench.run({"Install": {"Script": "sleep 1000 & sleep 1000", "Timeout": 0}})
    assert status.state is B
    assert status.codes == ("INSTALL_TIMEOUT",)
    assert bench.states() == [E, N, E, N, B]
    assert "Install.Script took longer than 0 s" in status.reason
    assert bench.supervisor.pids(A) == []


@pytest.mark.parametrize(("recover", "state"), [("touch repaired", R), (trace("tried"), B)])
async def test_case_43_recover_may_repair_the_cause(bench: Bench, recover: str, state: State) -> None:
    """Given: Recover repairs the cause

    Expect: back to RUNNING; cannot repair → BROKEN
    """
    status = await bench.run({"Startup": "test -e repaired", "Recover": recover})
    assert status.state is state
    assert len(bench.trace()) == (0 if state is R else 2)


async def test_case_44_no_steps_at_all(bench: Bench) -> None:
    """Given: no steps at all

    Expect: FINISHED
    """
    assert (await bench.run({})).state is F
    assert bench.states() == [I, G, F]


async def test_case_45_a_step_to_skip_is_treated_as_absent(bench: Bench) -> None:
    """Given: Skipif `exists` true on Install

    Expect: not run, INSTALLED
    """
    (bench.root / "there").touch()
    lifecycle = {
        "Install": {"Script": trace("install"), "Skipif": "exists ~root/there"},
        "Startup": {"Script": trace("startup"), "Skipif": "onpath sh"},
        "Run": {"Script": trace("run") + f"; {FOREVER}", "Skipif": "!exists ~root/there"},
    }
    assert (await bench.run(lifecycle)).state is R
    assert bench.states() == [I, G, R]
    await bench.said("Startup.Script is skipped")
    assert not {"install", "startup"} & set(bench.trace())
    assert "Install.Script is skipped" in bench.log()
    assert "Startup.Script is skipped" in bench.log()


@pytest.mark.parametrize("step", ["Install", "Startup", "Run"])
@pytest.mark.parametrize("value", [{"Script": "x", "Skipif": "foo bar"}, {"Timeout": 5}])
async def test_case_46_a_skipif_that_cannot_be_read(bench: Bench, step: str, value: Any) -> None:
    """Given: Skipif `foo bar`

    Expect: ERRORED, *_CONFIG_NOT_VALID
    """
    status = await bench.run({step: value})
    assert status.state is B
    assert bench.states().count(E) == 2
    assert status.codes == (f"{step.upper()}_CONFIG_NOT_VALID",)


async def test_case_47_a_new_version_stops_by_the_old_shutdown_and_installs(
    device: Any, cloud: Any, tmp_path: Path
) -> None:
    """Given: version change of a running one

    Expect: old Shutdown script, reinstall
    """
    cloud.publish("A", "1.0.0", running("one"))
    cloud.publish("A", "2.0.0", running("two"))
    await device.deploy({"A": "1.0.0"})
    await device.heard("run-one")
    await device.deploy({"A": "2.0.0"})
    await device.heard("run-two")
    assert said(tmp_path) == ["install-one", "run-one", "stop-one", "install-two", "run-two"]
    assert device.state.installed["A"].previous_version == device.store.versions(ComponentName("A"))[0]


async def test_case_48_what_restarts_a_component(device: Any, cloud: Any) -> None:
    """Given: Run text changes / Setenv changes / only configuration changes

    Expect: restart / restart / nothing
    """
    lifecycle = {"Setenv": {"COLOUR": "{configuration:/colour}"}, "Run": "echo {configuration:/word}; " + FOREVER}
    cloud.publish("A", "1.0.0", lifecycle, configuration={"word": "a", "colour": "red", "unused": 1})

    async def pid_after(**merge: object) -> list[int]:
        update = {"version": "1.0.0", "configurationUpdate": {"merge": merge}}
        outcome = await device.deploy({"A": update})
        assert outcome.has_succeeded
        pids: list[int] = device.pids("A")
        return pids

    first = await pid_after()
    assert await pid_after(unused=2) == first
    assert device.configuration("A") == {"word": "a", "colour": "red", "unused": 2}
    second = await pid_after(word="b")
    assert second != first
    assert await pid_after(colour="blue") != second


async def test_case_49_what_a_hard_dependency_does_to_its_depender(bench: Bench) -> None:
    """Given: hard dependency errors

    Expect: depender stops, waits, starts again; finishes → depender untouched
    """
    bench.put({"Startup": "test -e allowed"}, A)
    bench.put({"Run": FOREVER}, B_, needs=[A])
    (bench.root / "work" / A).mkdir(parents=True)
    (bench.root / "work" / A / "allowed").touch()
    bench.supervisor.start(B_)
    await bench.state(I, B_)
    bench.supervisor.start(A)
    await bench.settled(A, B_)
    first = bench.supervisor.pids(B_)
    bench.history.clear()
    assert bench.supervisor.report(A, E)
    await bench.until(lambda statuses: statuses[B_].state is R and statuses[B_].is_settled)
    assert bench.states(A) == [E, P, I, G, R]
    assert bench.states(B_)[:3] == [P, I, G]
    assert bench.states(B_)[-1] is R
    assert bench.supervisor.pids(B_) != first
    await bench.run({"Run": "read -r _ < gate", "Install": "mkfifo gate"}, C)
    await bench.run({"Run": FOREVER}, D, needs=[C])
    bench.history.clear()
    (bench.root / "work" / C / "gate").write_text("go\n")
    await bench.state(F, C)
    assert bench.states(D) == []


async def test_case_50_a_soft_dependency_that_breaks_leaves_its_depender_alone(bench: Bench) -> None:
    """Given: soft dependency errors or is BROKEN

    Expect: depender untouched
    """
    bench.put({"Run": FOREVER}, B_, soft=[A])
    bench.put({"Run": "exit 1"}, A)
    bench.supervisor.start(B_)
    await bench.state(R, B_)
    first = bench.supervisor.pids(B_)
    bench.supervisor.start(A)
    await bench.until(lambda statuses: statuses[A].state is B and statuses[A].is_settled)
    assert bench.states(B_) == [I, G, R]
    assert bench.supervisor.pids(B_) == first
