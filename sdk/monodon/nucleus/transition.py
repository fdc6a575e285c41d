"""Carrying a device from one set of components to another: steps to the supervisor, then waiting until it settles.

Source: Greengrass nucleus, ``deployment/DeploymentConfigMerger.java``; device notes 5.6 and 5.7.
"""

import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.plan import Configure, Install, Installed, Remove, Restart, Start, Step, Target, dependers
from monodon.deadlines import timeout
from monodon.errors import DeploymentError, MonodonError
from monodon.nucleus.changes import ComponentStatus
from monodon.nucleus.side_by_side import side_by_side

_log = logging.getLogger(__name__)

#: How often a deployment that waits says for whom.
AWAITED_S = 30.0

#: How long a Run must last before a deployment trusts it. AWS's device looks once a second, which is how it sees a
#: component that exits at once. Source: ``deployment/DeploymentConfigMerger.java``, WAIT_SVC_START_POLL_INTERVAL.
STEADY_S = 1.0

_GOOD = frozenset({State.RUNNING, State.FINISHED})


class Supervisor(Protocol):
    """What a deployment asks of the supervisor; each request is taken at once and carried out by and by."""

    def put(self, installed: Installed) -> None: ...
    def start(self, name: ComponentName) -> None: ...
    def stop(self, name: ComponentName) -> None: ...
    def restart(self, name: ComponentName) -> None: ...
    def reinstall(self, name: ComponentName) -> None: ...
    def remove(self, name: ComponentName) -> Coroutine[Any, Any, None]: ...
    async def bootstrap(self, name: ComponentName) -> int: ...
    def statuses(self) -> Mapping[ComponentName, ComponentStatus]: ...
    async def wait_until(self, predicate: Callable[[Mapping[ComponentName, ComponentStatus]], bool]) -> object: ...


@dataclass(slots=True, kw_only=True)
class Transition:
    """Steps under way, and what became of them.

    Args:
        timeout_s: how long all may take to settle; None waits as AWS does, without end.
        steady_s: how long what has a Run must go on running to count as settled.
    """

    supervisor: Supervisor
    timeout_s: float | None = None
    steady_s: float = STEADY_S
    at: Callable[[str], None] = lambda point: None
    _removals: list[ComponentName] = field(default_factory=list)
    _awaited: frozenset[ComponentName] = frozenset()

    def begin(self, steps: Iterable[Step]) -> frozenset[ComponentName]:
        """Hand every step but the removals to the supervisor; return the components to wait for."""
        touched: set[ComponentName] = set()
        for step in steps:
            self.at(f"step {type(step).__name__} {step.name}")
            match step:
                case Configure():
                    self.supervisor.put(step.installed)
                case Install():
                    self.supervisor.put(step.installed)
                    if not step.is_new:
                        self.supervisor.reinstall(step.name)
                    touched.add(step.name)
                case Restart():
                    self.supervisor.put(step.installed)
                    self.supervisor.restart(step.name)
                    touched.add(step.name)
                case Start():
                    self.supervisor.start(step.name)
                    touched.add(step.name)
                case Remove():
                    self._removals.append(step.name)
        return frozenset(touched)

    async def settle(
        self, target: Target, touched: Collection[ComponentName], *, ignoring: Collection[ComponentName] = ()
    ) -> None:
        """Wait until ``touched`` and whoever depends on them run, or have finished.

        Args:
            ignoring: components that were broken before; neither they nor their hard dependers are waited for.

        Raises:
            DeploymentError: a component of ``target`` broke, or time ran out; the message says which and why.
        """
        exempt = {*ignoring, *dependers(target, ignoring)}
        awaited = ({*touched, *dependers(target, touched)} & set(target)) - exempt
        watched = set(target) - exempt
        self._awaited = frozenset(awaited)

        def is_over(statuses: Mapping[ComponentName, ComponentStatus]) -> bool:
            return bool(_broken(statuses, watched)) or not unsettled(statuses, awaited)

        try:
            async with timeout(self.timeout_s):
                await self._wait(is_over, awaited)
                while not _broken(self.supervisor.statuses(), watched) and await self._falls(target, awaited, watched):
                    await self._wait(is_over, awaited)
        except TimeoutError:
            raise DeploymentError(
                f"the deployment's time is over; it still waits for {self.waits_for()}",
                codes=("COMPONENT_UPDATE_ERROR",),
            ) from None
        statuses = self.supervisor.statuses()
        broken = _broken(statuses, watched)
        if broken:
            raise DeploymentError(
                "; ".join(_why(name, statuses[name]) for name in broken),
                codes=("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"),
            )

    def waits_for(self) -> str:
        """The components that have not settled yet, each with its state."""
        statuses = self.supervisor.statuses()
        states = {name: statuses[name].state if name in statuses else State.NEW for name in self._awaited}
        return ", ".join(f"{name} ({states[name]})" for name in unsettled(statuses, self._awaited))

    async def _wait(
        self, is_over: Callable[[Mapping[ComponentName, ComponentStatus]], bool], awaited: Collection[ComponentName]
    ) -> None:
        while True:
            try:
                async with timeout(AWAITED_S) as waiting:
                    await self.supervisor.wait_until(is_over)
            except TimeoutError:
                if not waiting.expired():
                    raise
                _log.info("still waiting for %s", self.waits_for())
            else:
                return

    async def _falls(
        self, target: Target, awaited: Collection[ComponentName], watched: Collection[ComponentName]
    ) -> bool:
        """Watch for a while what runs by a Run, which counts as RUNNING as soon as it exists; say whether it fell."""
        statuses = self.supervisor.statuses()
        fragile = [name for name in awaited if statuses[name].state is State.RUNNING and _has_run(target[name])]
        if not fragile:
            return False
        try:
            async with timeout(self.steady_s) as steady:
                await self.supervisor.wait_until(lambda now: bool(_broken(now, watched) or unsettled(now, fragile)))
        except TimeoutError:
            if not steady.expired():
                raise
            return False
        return True

    async def finish(self) -> None:
        """Carry out the removals; the supervisor lets dependers go first (D4).

        Raises:
            DeploymentError: a component could not be removed.
        """
        try:
            await side_by_side({name: self.supervisor.remove(name) for name in self._removals})
        except MonodonError as error:
            raise DeploymentError(
                f"could not remove a component: {error.message}", codes=("REMOVE_COMPONENT_ERROR",)
            ) from error


def unsettled(
    statuses: Mapping[ComponentName, ComponentStatus], names: Iterable[ComponentName]
) -> tuple[ComponentName, ...]:
    """Return those of ``names`` that have not yet come to where they shall be."""
    return tuple(
        sorted(
            name
            for name in names
            if name not in statuses or not (statuses[name].is_settled and statuses[name].state in _GOOD)
        )
    )


def _broken(
    statuses: Mapping[ComponentName, ComponentStatus], names: Collection[ComponentName]
) -> tuple[ComponentName, ...]:
    return tuple(
        sorted(
            name
            for name in names
            if name in statuses and statuses[name].state is State.BROKEN and statuses[name].is_settled
        )
    )


def _has_run(installed: Installed) -> bool:
    return any(step.lower() == "run" for step in installed.lifecycle)


def _why(name: ComponentName, status: ComponentStatus) -> str:
    codes = ", ".join(status.codes)
    return f"{name} is BROKEN" + (f" ({codes})" if codes else "") + (f": {status.reason}" if status.reason else "")
