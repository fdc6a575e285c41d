"""Random deployments, kills of processes and restarts of the nucleus: the device comes to rest where the model says."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.nucleus.crashes import folder
from tests.nucleus.device import Cloud, Device
from tests.nucleus.device import device as running_device
from tests.nucleus.reference import BELOW_3, WORLD, Reference

GROUPS = ("g0", "g1")
ROOTS = st.dictionaries(st.sampled_from(sorted(WORLD)), st.sampled_from(["1.0.0", "2.0.0", "3.0.0"]), max_size=2)
#: Most deployments shall succeed, or little follows from them.
MILD = st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["1.0.0", "2.0.0"]), min_size=1, max_size=2)


class Life:
    """One device in a task of its own, told what to do while the loop runs."""

    def __init__(self, runner: asyncio.Runner, root: Path, cloud: Cloud) -> None:
        self._runner, self._root, self._cloud = runner, root, cloud
        self.start()

    def start(self) -> None:
        self._orders: asyncio.Queue[Any] = asyncio.Queue()
        self._task = self._runner.get_loop().create_task(self._live())

    def do(self, work: Callable[[Device], Awaitable[Any]]) -> Any:
        async def order() -> Any:
            answer = asyncio.get_running_loop().create_future()
            await self._orders.put((work, answer))
            await asyncio.wait([answer, self._task], return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                await self._task
            return await answer

        return self._runner.run(order())

    def stop(self) -> None:
        async def end() -> None:
            await self._orders.put(None)
            await self._task

        self._runner.run(end())

    async def _live(self) -> None:
        async with running_device(self._root, self._cloud) as device:
            device.uplink.groups = GROUPS
            while (order := await self._orders.get()) is not None:
                work, answer = order
                try:
                    answer.set_result(await work(device))
                except Exception as error:
                    answer.set_exception(error)


class Lives(RuleBasedStateMachine):
    """Hypothesis draws what happens; after each step the device and the model are compared."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = folder()
        self.place = self.memory.__enter__()
        self.cloud = Cloud(self.place / "cloud")
        for name, versions in WORLD.items():
            for version, one in versions.items():
                self.cloud.publish(
                    name,
                    version,
                    one.lifecycle,
                    configuration={"k": 0},
                    needs=dict.fromkeys(one.hard, BELOW_3),
                    soft=dict.fromkeys(one.soft, BELOW_3),
                )
        self.runner = asyncio.Runner()
        self.life = Life(self.runner, self.place / "root", self.cloud)
        self.model = Reference()
        self.deployments = 0

    def teardown(self) -> None:
        self.life.stop()
        self.runner.close()
        self.memory.__exit__(None, None, None)

    @rule(group=st.sampled_from(GROUPS), roots=ROOTS | MILD | MILD, rolls_back=st.booleans())
    def deploy(self, group: str, roots: dict[str, str], rolls_back: bool) -> None:
        self.deployments += 1
        number = self.deployments
        members = {
            name: {"version": version, "configurationUpdate": {"merge": {"k": number}}}
            for name, version in roots.items()
        }
        policy = "ROLLBACK" if rolls_back else "DO_NOTHING"

        async def work(device: Device) -> Any:
            timestamp = 1_000_000 + 1000 * number
            return await device.deploy(
                members,
                group=group,
                failureHandlingPolicy=policy,
                creationTimestamp=timestamp,
                deploymentId=f"{group}-{number}",
            )

        outcome = self.life.do(work)
        assert str(outcome.detailed) == self.model.deploy(group, roots, number, rolls_back=rolls_back), outcome

    @precondition(lambda self: self.alive())
    @rule(data=st.data(), times=st.integers(min_value=1, max_value=3))
    def kill(self, data: st.DataObject, times: int) -> None:
        name = data.draw(st.sampled_from(self.alive()))
        for _ in range(times):
            if name not in self.alive():
                return
            self.model.kill(name)
            wanted = self.model.states()

            async def work(device: Device, wanted: dict[str, str] = wanted) -> None:
                (pid,) = device.pids(name)
                os.kill(pid, signal.SIGKILL)
                await device.until(lambda now: now[name].state != "RUNNING" or not now[name].is_settled)
                await device.until(lambda now: {key: str(one.state) for key, one in now.items()} == wanted)

            self.life.do(work)

    @rule()
    def restart(self) -> None:
        self.life.stop()
        self.life.start()
        self.model.restart()

    @invariant()
    def they_agree(self) -> None:
        wanted = self.model.states()

        async def work(device: Device) -> tuple[Any, Any, Any, Any]:
            try:
                async with asyncio.timeout(10):
                    await device.supervisor.wait_until(
                        lambda now: (
                            {key: str(one.state) for key, one in now.items()} == wanted
                            and all(one.is_settled or str(one.state) == "INSTALLED" for one in now.values())
                        )
                    )
            except TimeoutError:
                pass
            values = {name: device.configuration(name)["k"] for name in device.installed()}
            roots = {
                target.removeprefix("thinggroup/"): dict(named) for target, named in device.state.targets().items()
            }
            return device.states(), device.installed(), values, roots

        found = self.life.do(work)
        assert found == (wanted, self.model.installed, self.model.values, self.model.groups)

    def alive(self) -> list[str]:
        return sorted(name for name, state in self.model.states().items() if state == "RUNNING")


@pytest.mark.slow
class TestLives(Lives.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(
        max_examples=int(os.environ.get("MONODON_EXAMPLES", "12")),
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
