"""The lifecycle of a component: one table of states, events and effects, and one function that follows it.

What a component is asked to do is a list of *desired* states. `request` writes it, `due` says which event it calls
for next, `advance` follows the table. Whoever carries out the effects feeds back what came of them::

    status = request(status, Request.START)
    while event := due(status, is_ready=...):
        status, effects = advance(status, event, now)

Source: Greengrass nucleus, ``lifecyclemanager/Lifecycle.java``, ``lifecyclemanager/GreengrassService.java``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from monodon.core.steps import ERROR_RESET_S
from monodon.core.steps import Step as Step
from monodon.core.steps import read_step as read_step
from monodon.errors import InvalidTransition

#: So many errors in one state, each within the reset time of the one before, break a component.
MAX_ERRORS = 3


class State(StrEnum):
    """Where a component is, in the words that a device reports."""

    NEW = "NEW"
    INSTALLED = "INSTALLED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    ERRORED = "ERRORED"
    BROKEN = "BROKEN"
    FINISHED = "FINISHED"
    UNINSTALLING = "UNINSTALLING"
    UNINSTALLED = "UNINSTALLED"


class Event(StrEnum):
    """What can happen to a component."""

    # What desired states call for (`due`).
    INSTALL = "install"
    START = "start"
    STOP = "stop"
    FINISH = "finish"
    RENEW = "renew"
    RETURN = "return"
    UNINSTALL = "uninstall"
    # What comes of an effect.
    INSTALLED = "installed"
    STARTED = "started"
    NOTHING_TO_RUN = "nothing to run"
    UNREADY = "a dependency is not ready"
    DONE = "ended well"
    FAILED = "failed"
    STOPPED = "stopped"
    RECOVERED = "recovered"
    UNINSTALLED = "uninstalled"
    # What `advance` makes of one of those, by errors and desired states.
    BROKE = "failed once too often"
    STOPPED_TO_RETURN = "stopped, to start again"
    STOPPED_TO_RENEW = "stopped, to install again"
    RECOVERED_TO_RENEW = "recovered, to install again"


class Effect(StrEnum):
    """What the supervisor must carry out; each ends in an event."""

    INSTALL = "run Install"
    START = "run Startup or Run"
    SHUT_DOWN = "run Shutdown, end the processes"
    RECOVER = "run Recover"
    UNINSTALL = "run Uninstall"


class Request(StrEnum):
    """What others may ask of a component."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"
    REINSTALL = "reinstall"
    UNINSTALL = "uninstall"


_NONE: tuple[Effect, ...] = ()

#: Every legal pair of state and event, and only those.
TRANSITIONS: Mapping[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    (State.NEW, Event.INSTALL): (State.NEW, (Effect.INSTALL,)),
    (State.NEW, Event.INSTALLED): (State.INSTALLED, _NONE),
    (State.NEW, Event.FAILED): (State.ERRORED, (Effect.RECOVER,)),
    (State.NEW, Event.BROKE): (State.BROKEN, _NONE),
    (State.NEW, Event.UNINSTALL): (State.UNINSTALLING, (Effect.UNINSTALL,)),
    (State.INSTALLED, Event.START): (State.STARTING, (Effect.START,)),
    (State.INSTALLED, Event.RENEW): (State.NEW, _NONE),
    (State.INSTALLED, Event.FINISH): (State.FINISHED, _NONE),
    (State.STARTING, Event.STARTED): (State.RUNNING, _NONE),
    (State.STARTING, Event.NOTHING_TO_RUN): (State.FINISHED, _NONE),
    (State.STARTING, Event.UNREADY): (State.INSTALLED, _NONE),
    (State.STARTING, Event.STOP): (State.STOPPING, (Effect.SHUT_DOWN,)),
    (State.STARTING, Event.DONE): (State.STOPPING, (Effect.SHUT_DOWN,)),
    (State.STARTING, Event.FAILED): (State.ERRORED, (Effect.RECOVER,)),
    (State.STARTING, Event.BROKE): (State.BROKEN, (Effect.SHUT_DOWN,)),
    (State.RUNNING, Event.STOP): (State.STOPPING, (Effect.SHUT_DOWN,)),
    (State.RUNNING, Event.DONE): (State.STOPPING, (Effect.SHUT_DOWN,)),
    (State.RUNNING, Event.FAILED): (State.ERRORED, (Effect.RECOVER,)),
    (State.RUNNING, Event.BROKE): (State.BROKEN, (Effect.SHUT_DOWN,)),
    (State.STOPPING, Event.STOPPED): (State.FINISHED, _NONE),
    (State.STOPPING, Event.STOPPED_TO_RETURN): (State.INSTALLED, _NONE),
    (State.STOPPING, Event.STOPPED_TO_RENEW): (State.NEW, _NONE),
    (State.STOPPING, Event.FAILED): (State.ERRORED, (Effect.RECOVER,)),
    (State.ERRORED, Event.RECOVERED): (State.STOPPING, (Effect.SHUT_DOWN,)),
    (State.ERRORED, Event.RECOVERED_TO_RENEW): (State.NEW, _NONE),
    (State.ERRORED, Event.STOPPED): (State.FINISHED, _NONE),
    (State.ERRORED, Event.STOPPED_TO_RETURN): (State.INSTALLED, _NONE),
    (State.ERRORED, Event.STOPPED_TO_RENEW): (State.NEW, _NONE),
    (State.BROKEN, Event.STOPPED): (State.BROKEN, _NONE),
    (State.BROKEN, Event.FAILED): (State.BROKEN, _NONE),
    (State.BROKEN, Event.RENEW): (State.NEW, _NONE),
    (State.BROKEN, Event.UNINSTALL): (State.UNINSTALLING, (Effect.UNINSTALL,)),
    (State.FINISHED, Event.RETURN): (State.INSTALLED, _NONE),
    (State.FINISHED, Event.RENEW): (State.NEW, _NONE),
    (State.FINISHED, Event.UNINSTALL): (State.UNINSTALLING, (Effect.UNINSTALL,)),
    (State.UNINSTALLING, Event.UNINSTALLED): (State.UNINSTALLED, _NONE),
}

#: What a component's own code may report of itself, and the event that it means. Anything else is ignored.
#: (choice) FINISHED reported early stops the processes first, as the end of Run does.
REPORTABLE: Mapping[tuple[State, State], Event] = {
    (State.NEW, State.ERRORED): Event.FAILED,
    (State.STARTING, State.RUNNING): Event.STARTED,
    (State.STARTING, State.ERRORED): Event.FAILED,
    (State.STARTING, State.FINISHED): Event.DONE,
    (State.RUNNING, State.ERRORED): Event.FAILED,
    (State.RUNNING, State.FINISHED): Event.DONE,
    (State.STOPPING, State.ERRORED): Event.FAILED,
}

_COUNTED = frozenset({State.NEW, State.STARTING, State.RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a component is ERRORED or BROKEN: one of AWS's component status codes, and a line for people."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """All that decides what a component does next.

    ``is_busy`` while an effect is being carried out; ``errors`` are the times of recent errors by the state they
    happened in; ``origin`` is the state that the last error happened in, for as long as it is being dealt with.
    """

    state: State = State.NEW
    desired: tuple[State, ...] = ()
    is_busy: bool = False
    errors: Mapping[State, tuple[float, ...]] = field(default_factory=dict)
    origin: State | None = None
    failure: Failure | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it reached what was asked of it, or is broken and will not."""
        if self.state is State.BROKEN:
            return not self.is_busy and due(self, is_ready=True) is None
        return not self.is_busy and not self.desired and self.state is not State.ERRORED

    @property
    def attempts(self) -> int:
        """How many errors of the failed state count together; 0 when nothing failed."""
        return len(self.errors.get(self.origin, ())) if self.origin else 0


def advance(
    status: Status, event: Event, now: float, failure: Failure | None = None, *, error_reset_s: float = ERROR_RESET_S
) -> tuple[Status, tuple[Effect, ...]]:
    """Return the next status and the effects the supervisor must carry out, in order.

    Three errors out of the same state, each within an hour of the one before, break the component; leaving that
    state any other way forgets them. ``now`` is in seconds on any monotonic clock.

    Raises:
        InvalidTransition: ``event`` cannot happen in this state.

    Source: Greengrass nucleus, ``lifecyclemanager/Lifecycle.java``, ``internalReportState``.
    """
    errors = _counted(status, event, now, error_reset_s)
    refined = _refined(status, event, len(errors.get(status.state, ())))
    try:
        state, effects = TRANSITIONS[status.state, refined]
    except KeyError:
        raise InvalidTransition(f"{event.value!r} cannot happen to a component that is {status.state}") from None
    if state is not status.state and refined not in (Event.FAILED, Event.BROKE):
        errors = {origin: times for origin, times in errors.items() if origin is not status.state}
    if refined is Event.RENEW and status.state is State.BROKEN:
        errors = {}
    after = replace(
        status,
        state=state,
        is_busy=bool(effects),
        errors=errors,
        desired=_desired_after(status, refined),
        origin=_origin_after(status, state, refined),
        failure=_failure_after(status, state, failure),
    )
    return _dropped(after), effects


def request(status: Status, wanted: Request) -> Status:
    """Return the status with the desired states that ``wanted`` asks for.

    A pending installation is never overridden by a start, stop or restart; a restart of a component that nobody
    asked to run does nothing, nor does anything once it is being removed.
    """
    if State.UNINSTALLED in status.desired or status.state in (State.UNINSTALLING, State.UNINSTALLED):
        return status
    renewing = (State.NEW,) if State.NEW in status.desired else ()
    desired: tuple[State, ...]
    match wanted:
        case Request.START:
            desired = (*renewing, State.RUNNING)
        case Request.STOP:
            desired = (*renewing, State.FINISHED)
        case Request.RESTART:
            if status.state is State.NEW and not status.desired:
                return status
            desired = (State.NEW, State.RUNNING) if renewing else (State.INSTALLED, State.RUNNING)
        case Request.REINSTALL:
            desired = (State.NEW, State.RUNNING)
        case Request.UNINSTALL:
            desired = (State.UNINSTALLED,) if status.state is State.BROKEN else (State.FINISHED, State.UNINSTALLED)
    return _dropped(replace(status, desired=desired))


def due(status: Status, *, is_ready: bool) -> Event | None:
    """Return the event that the desired states call for now, or None.

    Args:
        is_ready: every hard dependency is ready; asked for only to leave INSTALLED.
    """
    first = status.desired[0] if status.desired else None
    match status.state:
        case State.NEW if first and not status.is_busy:
            return Event.UNINSTALL if State.UNINSTALLED in status.desired else Event.INSTALL
        case State.INSTALLED if first is State.RUNNING:
            return Event.START if is_ready else None
        case State.INSTALLED:
            return {State.NEW: Event.RENEW, State.FINISHED: Event.FINISH}.get(first) if first else None
        case State.STARTING | State.RUNNING if first not in (None, State.RUNNING):
            return Event.STOP
        case State.BROKEN if not status.is_busy:
            if State.UNINSTALLED in status.desired:
                return Event.UNINSTALL
            return Event.RENEW if State.NEW in status.desired else None
        case State.FINISHED if first:
            return {State.NEW: Event.RENEW, State.UNINSTALLED: Event.UNINSTALL}.get(first, Event.RETURN)
    return None


def is_ready(dependency: Status, *, is_hard: bool) -> bool:
    """Say whether a depender may start, and go on: rules D1 and D3.

    Source: Greengrass nucleus, ``GreengrassService.dependencyReady``.
    """
    if not is_hard:
        return True
    if dependency.state is State.STOPPING:
        return dependency.origin is not State.STARTING
    return dependency.state in (State.RUNNING, State.FINISHED)


def is_out_of_the_way(depender: Status) -> bool:
    """Say whether what ``depender`` needs may be removed: it is stopped, rule D4."""
    return depender.state in (
        State.ERRORED, State.BROKEN, State.FINISHED, State.NEW, State.UNINSTALLING, State.UNINSTALLED
    )  # fmt: skip


def diagram() -> str:
    """Return the table as the source of a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> NEW"]
    for (state, event), (after, effects) in TRANSITIONS.items():
        doing = f" / {', '.join(effects)}" if effects else ""
        lines.append(f"    {state} --> {after} : {event.value}{doing}")
    return "\n".join([*lines, "    UNINSTALLED --> [*]"])


def _counted(
    status: Status, event: Event, now: float, error_reset_s: float
) -> Mapping[State, tuple[float, ...]]:  # fmt: skip
    if event is not Event.FAILED or status.state not in _COUNTED:
        return status.errors
    earlier = status.errors.get(status.state, ())
    recent = earlier if earlier and now - earlier[-1] < error_reset_s else ()
    return {**status.errors, status.state: (*recent, now)}


def _refined(status: Status, event: Event, errors: int) -> Event:
    if event is Event.FAILED and errors >= MAX_ERRORS:
        return Event.BROKE
    if event is Event.RECOVERED and status.origin is State.NEW:
        return Event.RECOVERED_TO_RENEW
    if event is Event.RECOVERED and status.origin is State.STOPPING:
        event = Event.STOPPED
    if event is Event.STOPPED and status.state is not State.BROKEN and status.desired:
        first = status.desired[0]
        if first is State.NEW:
            return Event.STOPPED_TO_RENEW
        if first in (State.INSTALLED, State.RUNNING):
            return Event.STOPPED_TO_RETURN
    return event


def _desired_after(status: Status, event: Event) -> tuple[State, ...]:
    if event is Event.DONE:
        return request(status, Request.STOP).desired
    if event is Event.UNINSTALL:
        return (State.UNINSTALLED,)
    if event is Event.NOTHING_TO_RUN and status.desired[:1] == (State.RUNNING,):
        return status.desired[1:]
    if event in (Event.RECOVERED, Event.RECOVERED_TO_RENEW) and not status.desired:
        return (State.RUNNING,)
    if event is Event.BROKE:
        kept = (State.NEW, State.UNINSTALLED)
        return status.desired if any(state in kept for state in status.desired) else ()
    if event is Event.RENEW and State.NEW in status.desired:
        return status.desired[status.desired.index(State.NEW) :]
    return status.desired


def _origin_after(status: Status, state: State, event: Event) -> State | None:
    if event in (Event.FAILED, Event.BROKE):
        return status.origin if status.state is State.BROKEN else status.state
    return status.origin if state in (State.STOPPING, State.BROKEN) and event is not Event.STOP else None


def _failure_after(status: Status, state: State, failure: Failure | None) -> Failure | None:
    if state is State.BROKEN and status.state is State.BROKEN:
        return status.failure
    return failure if state in (State.ERRORED, State.BROKEN) else None


def _dropped(status: Status) -> Status:
    """Without the desired states that are reached; while Install runs, a wanted NEW means once more."""
    desired = status.desired
    if status.state is State.NEW and status.is_busy:
        return status
    while desired and desired[0] is status.state:
        desired = desired[1:]
    return replace(status, desired=desired)


if __name__ == "__main__":
    import sys

    sys.stdout.write(diagram() + "\n")
