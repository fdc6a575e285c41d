"""What a deployer asks of others, and what it tells them: hooks into components, and how each deployment fares."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from monodon.core.deployment import Deployment, Outcome, Status
from monodon.core.json import Json
from monodon.core.names import ComponentName


async def _go_ahead(deployment_id: str, timeout_s: float) -> float:
    return 0.0


async def _accept(name: ComponentName, configuration: Json, deployment_id: str, timeout_s: float) -> str | None:
    return None


async def _tell_nobody(deployment_id: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """What components have to say to a deployment, by way of the IPC services.

    ``ask_update(deployment_id, timeout_s)`` tells every subscriber, waits for answers, and returns for how many
    seconds the longest deferral asks, 0 for none; ``awaited()`` names those who still have to agree.
    ``updated(deployment_id)`` tells that it is done.
    ``validate(name, configuration, deployment_id, timeout_s)`` returns why a component refuses its new
    configuration (or that it did not answer in time), None if it does not.
    """

    ask_update: Callable[[str, float], Awaitable[float]] = _go_ahead
    awaited: Callable[[], str] = lambda: ""
    updated: Callable[[str], Awaitable[None]] = _tell_nobody
    validate: Callable[[ComponentName, Json, str, float], Awaitable[str | None]] = _accept


#: Nobody is asked.
NO_HOOKS = Hooks()


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How one deployment fares: ``unchanged_roots`` are the roots that it found as it wanted them, ``awaited`` is for
    whom it waits at the moment.
    """

    deployment: Deployment
    status: Status
    created_ms: int
    outcome: Outcome | None = None
    unchanged_roots: tuple[str, ...] = ()
    awaited: str = ""
