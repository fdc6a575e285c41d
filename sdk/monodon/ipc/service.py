"""What a service of the nucleus is to the IPC server: a table of operations.

A handler gets the request and the caller's component name. One of a request/response operation is a function or a
coroutine function that returns the response (None: an empty one). One of a streaming operation is either

* an async generator: it yields the response first, then events, and is closed when the stream ends; or
* a function or coroutine function that also gets the :class:`Stream`, returns the response, and sends events
  whenever there are some: no task and no queue for each subscription.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from monodon.ipc.operations import OPERATIONS
from monodon.ipc.serialisation import Shape


class Stream(Protocol):
    """An open subscription of one client."""

    @property
    def is_open(self) -> bool:
        """Neither side has ended it."""

    def send(self, event: Shape) -> None:
        """Send an event: behind the reply and behind earlier events; on a closed stream nothing happens."""

    def on_close(self, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Call this once when the stream ends, whatever the reason; at once if it has ended."""


@dataclass(frozen=True, slots=True)
class Operation:
    """How one operation is carried out.

    ``resource`` gives what the caller's policies must cover: one text, or several. It may raise what is to be
    checked before authorisation. None: the operation asks for no policy. ``read`` makes the request of a body where
    that is not done the usual way.
    """

    handler: Callable[..., Any]
    resource: Callable[[Any], str | tuple[str, ...]] | None = None
    read: Callable[[bytes | memoryview], Shape] | None = None

    is_generator: bool = field(init=False)
    is_coroutine: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_generator", inspect.isasyncgenfunction(self.handler))
        object.__setattr__(self, "is_coroutine", inspect.iscoroutinefunction(self.handler))


@dataclass(frozen=True, slots=True)
class Service:
    """Operations that belong together, by their full names (``aws.greengrass#PublishToTopic``)."""

    name: str
    operations: Mapping[str, Operation]

    def __post_init__(self) -> None:
        for name, operation in self.operations.items():
            model = OPERATIONS[name]
            assert model.event or not operation.is_generator, f"{name} answers once"
            assert model.service is None or operation.resource is not None, f"{name} asks for a policy"
