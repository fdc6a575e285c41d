"""Lifecycle: components report their state, have deployments wait for them, and pause one another.

Source: Greengrass nucleus, ``LifecycleIPCEventStreamAgent.java``; ipc.md 4.4.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.core.policy import LIFECYCLE
from monodon.ipc.errors import InvalidArgumentsError, ResourceNotFoundError, ServiceError
from monodon.ipc.service import Operation, Service, Stream
from monodon.ipc.shapes import (
    ComponentUpdatePolicyEvents,
    DeferComponentUpdateRequest,
    PauseComponentRequest,
    PostComponentUpdateEvent,
    PreComponentUpdateEvent,
    ResumeComponentRequest,
    SubscribeToComponentUpdatesRequest,
    UpdateStateRequest,
)

_REPORTABLE: Final = {"RUNNING": State.RUNNING, "ERRORED": State.ERRORED}


class Components(Protocol):
    """The part of a supervisor that components may ask for themselves, or for one another."""

    def statuses(self) -> Mapping[ComponentName, object]:
        """Every component that is there."""

    def report(self, name: ComponentName, state: State) -> bool:
        """Take a component's word on its state; False: it can't be said now."""

    def pause(self, name: ComponentName) -> bool:
        """Freeze its processes; False: it does not run."""

    def resume(self, name: ComponentName) -> bool:
        """Let them go on; False: it is not paused."""


class ComponentUpdates:
    """Tells components of deployments, which they may defer. :meth:`ask` and :meth:`done` are the deployer's hooks."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Stream]] = {}
        self._pending: dict[tuple[str, str], asyncio.Future[float]] = {}
        #: Who asked to wait at the last time: component → seconds.
        self._deferring: dict[str, float] = {}

    async def ask(self, deployment_id: str, timeout_s: float) -> float:
        """Tell every subscribed component that a deployment is about to apply, and wait for all answers.

        Returns:
            the longest time in seconds that one asks to wait before it is asked again; 0 means go ahead. No answer
            within ``timeout_s`` is one.
        """
        loop = asyncio.get_running_loop()
        answers = {(name, deployment_id): loop.create_future() for name in self._listeners}
        if not answers:
            return 0.0
        self._pending.update(answers)
        event = PreComponentUpdateEvent(deployment_id=deployment_id, is_ggc_restarting=False)
        self._tell(ComponentUpdatePolicyEvents(pre_update_event=event))
        try:
            done, _ = await asyncio.wait(answers.values(), timeout=timeout_s)
        finally:
            for key in answers:
                del self._pending[key]
        asked = {name: answer.result() for (name, _), answer in answers.items() if answer in done}
        self._deferring = {name: recheck_s for name, recheck_s in asked.items() if recheck_s > 0}
        return max(asked.values(), default=0.0)

    def awaited(self) -> str:
        """Who has still to answer whether a deployment may go on, and who has it wait; empty where nobody does."""
        silent = sorted({name for (name, _), answer in self._pending.items() if not answer.done()})
        if silent:
            return ", ".join(f"{name} (to agree)" for name in silent)
        return ", ".join(f"{name} (defers by {s:g} s)" for name, s in sorted(self._deferring.items()))

    async def done(self, deployment_id: str) -> None:
        """Tell every subscribed component that a deployment is over."""
        self._tell(ComponentUpdatePolicyEvents(post_update_event=PostComponentUpdateEvent(deployment_id=deployment_id)))

    def _tell(self, event: ComponentUpdatePolicyEvents) -> None:
        for streams in list(self._listeners.values()):
            for stream in list(streams):
                stream.send(event)

    def listen(self, component: str, stream: Stream) -> None:
        """Tell this subscription until it closes."""
        streams = self._listeners.setdefault(component, [])
        streams.append(stream)

        def forget() -> None:
            streams.remove(stream)
            if not streams:
                del self._listeners[component]

        stream.on_close(forget)

    def defer(self, component: str, deployment_id: str, recheck_s: float) -> None:
        """Take a component's answer; one for each event.

        Raises:
            InvalidArgumentsError: the component has not subscribed.
            ServiceError: nobody waits for it, any more or yet.
        """
        if component not in self._listeners:
            raise InvalidArgumentsError(f"{component} is not subscribed to component updates")
        answer = self._pending.get((component, deployment_id))
        if answer is None or answer.done():
            raise ServiceError(f"Time limit to respond to the update of deployment {deployment_id} exceeded")
        answer.set_result(recheck_s)


def _target(request: PauseComponentRequest | ResumeComponentRequest) -> str:
    if not request.component_name:
        raise InvalidArgumentsError("componentName is required")
    return request.component_name


class _Operations:
    """The operations, on the supervised components."""

    def __init__(self, components: Components, updates: ComponentUpdates) -> None:
        self._components = components
        self._updates = updates

    def _known(self, name: str) -> ComponentName:
        if name not in self._components.statuses():
            raise ResourceNotFoundError(f"Component {name} is not there", resourceType="component", resourceName=name)
        return ComponentName(name)

    def update_state(self, request: UpdateStateRequest, caller: str) -> None:
        state = _REPORTABLE.get(request.state or "")
        if state is None:
            raise ServiceError(f"state {request.state!r} can't be reported, only RUNNING and ERRORED")
        self._components.report(self._known(caller), state)

    def subscribe_to_component_updates(
        self, request: SubscribeToComponentUpdatesRequest, caller: str, stream: Stream
    ) -> None:
        self._known(caller)
        self._updates.listen(caller, stream)

    def defer_component_update(self, request: DeferComponentUpdateRequest, caller: str) -> None:
        if request.deployment_id is None:
            raise InvalidArgumentsError("deploymentId is required")
        recheck_ms = request.recheck_after_ms or 0
        if recheck_ms < 0:
            raise InvalidArgumentsError("recheckAfterMs must not be negative")
        self._updates.defer(caller, request.deployment_id, recheck_ms / 1000)

    def pause_component(self, request: PauseComponentRequest, caller: str) -> None:
        if not self._components.pause(self._known(_target(request))):
            raise InvalidArgumentsError(f"{request.component_name} does not run, so it can't be paused")

    def resume_component(self, request: ResumeComponentRequest, caller: str) -> None:
        if not self._components.resume(self._known(_target(request))):
            raise InvalidArgumentsError(f"{request.component_name} is not paused")


def lifecycle_service(components: Components, updates: ComponentUpdates) -> Service:
    """Return the service of states, updates and pauses."""
    operations = _Operations(components, updates)
    return Service(
        LIFECYCLE,
        {
            "aws.greengrass#UpdateState": Operation(operations.update_state),
            "aws.greengrass#SubscribeToComponentUpdates": Operation(operations.subscribe_to_component_updates),
            "aws.greengrass#DeferComponentUpdate": Operation(operations.defer_component_update),
            "aws.greengrass#PauseComponent": Operation(operations.pause_component, resource=_target),
            "aws.greengrass#ResumeComponent": Operation(operations.resume_component, resource=_target),
        },
    )
