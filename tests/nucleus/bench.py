"""A supervisor in a folder, for tests with real processes."""

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.recipe.model import DependencyType
from monodon.core.semver import Version
from monodon.nucleus.logs import Logs
from monodon.nucleus.supervisor import Changes, ComponentStatus, StatusChange, Supervisor

N, I, G, R, P, E, B, F = (  # noqa: E741
    State.NEW, State.INSTALLED, State.STARTING, State.RUNNING, State.STOPPING, State.ERRORED, State.BROKEN,
    State.FINISHED,
)  # fmt: skip
A, B_, C, D = (ComponentName.parse(f"com.example.{letter}") for letter in "ABCD")
DEADLINE_S = 20.0
FOREVER = "exec sleep 1000"


class Bench:
    """A supervisor in a folder, and the history of all states."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.now = 0.0
        self.logs = Logs(root / "logs")
        self.history: list[StatusChange] = []
        self.supervisor = Supervisor(
            root=root, environment=self.environment, logs=self.logs, clock=lambda: self.now, **options
        )

    def environment(self, installed: Installed) -> Mapping[str, str]:
        return {"PATH": os.environ["PATH"], "SVCUID": "token", "ROOT": str(self.root), "WHO": installed.name}

    def put(self, lifecycle: Mapping[str, Any], name: ComponentName = A, **fields: Any) -> Installed:
        needs = fields.pop("needs", ())
        soft = fields.pop("soft", ())
        installed = Installed(
            name=name,
            version=Version.parse(fields.pop("version", "1.0.0")),
            lifecycle=lifecycle,
            dependencies=dict.fromkeys(needs, DependencyType.HARD) | dict.fromkeys(soft, DependencyType.SOFT),
            **fields,
        )
        self.supervisor.put(installed)
        return installed

    async def until(self, predicate: Callable[[Mapping[ComponentName, ComponentStatus]], bool]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            await self.supervisor.wait_until(predicate)

    async def settled(self, *names: ComponentName) -> ComponentStatus:
        await self.until(lambda statuses: all(statuses[name].is_settled for name in names or (A,)))
        return self.supervisor.status((names or (A,))[0])

    async def state(self, state: State, name: ComponentName = A) -> None:
        await self.until(lambda statuses: statuses[name].state is state)

    async def run(
        self, lifecycle: Mapping[str, Any], name: ComponentName = A, *, to: State | None = None, **fields: Any
    ) -> ComponentStatus:
        """Put and start a component; wait until it is settled (in state ``to``, where it passes others settled)."""
        self.put(lifecycle, name, **fields)
        self.supervisor.start(name)
        await self.until(lambda statuses: statuses[name].is_settled and to in (None, statuses[name].state))
        return self.supervisor.status(name)

    def states(self, name: ComponentName = A) -> list[State]:
        return [change.after for change in self.history if change.name == name]

    async def said(self, text: str, name: ComponentName = A) -> None:
        """Wait until a component printed ``text``."""
        async with asyncio.timeout(DEADLINE_S):
            while not (self.root / "logs" / f"{name}.log").exists() or text not in self.log(name):
                await asyncio.sleep(0.01)

    def log(self, name: ComponentName = A) -> str:
        return (self.root / "logs" / f"{name}.log").read_text()

    async def listen(self, changes: Changes) -> None:
        async for change in changes:
            self.history.append(change)

    def trace(self) -> list[str]:
        """What scripts wrote with ``echo … >> $ROOT/trace``."""
        path = self.root / "trace"
        return path.read_text().split("\n")[:-1] if path.exists() else []


def trace(text: str) -> str:
    return f'echo "{text}" >> "$ROOT/trace"'
