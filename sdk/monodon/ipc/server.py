"""The IPC server: accepts, authenticates, authorises and hands requests to services."""

import asyncio
import contextlib
import errno
import json
import logging
import socket
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Final

from monodon.core import policy
from monodon.errors import StateError
from monodon.ipc.channel import MAX_PENDING_BYTES, Channel
from monodon.ipc.connection import Request
from monodon.ipc.errors import ModelledError, ServiceError, UnauthorizedError
from monodon.ipc.operations import OPERATIONS, OperationModel
from monodon.ipc.serialisation import Shape, read_shape
from monodon.ipc.service import Operation, Service
from monodon.ipc.session import Session

logger = logging.getLogger(__name__)

HANDSHAKE_TIMEOUT_S: Final = 30.0
#: How long subscriptions may take to be ended elsewhere when the server stops.
FINISH_S: Final = 2.0
#: Linux: ``sun_path`` with its NUL.
MAX_SOCKET_PATH_BYTES: Final = 107
_SCRATCH_BYTES: Final = 256 * 1024
_BACKLOG: Final = 512
_ACCEPT_AT_ONCE: Final = 64
_REMEMBERED_REFUSALS: Final = 1000
#: No topic or name is longer; a text that is would only fill the log.
_MAX_LOGGED_CHARACTERS: Final = 1024

Authenticate = Callable[[str], str | None]
Authorise = Callable[[str, str, str, str], bool]


class IpcServer:
    """Serves the operations of some services to components.

    Args:
        authenticate: token to component name, None when it is unknown.
        authorise: whether (caller, service, operation, resource) is allowed by the caller's policies.
        services: what is offered; operations of the model that none offers answer with ServiceError.
    """

    def __init__(
        self,
        *,
        authenticate: Authenticate,
        authorise: Authorise,
        services: Iterable[Service],
        handshake_timeout_s: float = HANDSHAKE_TIMEOUT_S,
        max_pending_bytes: int = MAX_PENDING_BYTES,
    ) -> None:
        self.authenticate = authenticate
        self._authorise = authorise
        self._operations: dict[str, Operation] = {}
        for service in services:
            assert not self._operations.keys() & service.operations.keys(), service.name
            self._operations.update(service.operations)
        self._handshake_timeout_s = handshake_timeout_s
        self._max_pending_bytes = max_pending_bytes
        self._sessions: set[Session] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._tasks: asyncio.TaskGroup | None = None
        self._refusals: set[tuple[str, str, str]] = set()

    @property
    def operations(self) -> frozenset[str]:
        """The full names of what is offered."""
        return frozenset(self._operations)

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    @contextlib.asynccontextmanager
    async def listen(self, path: Path, mode: int = 0o600) -> AsyncIterator[None]:
        """Serve on a Unix socket until the block ends; then every connection is closed and the file removed.

        Raises:
            StateError: the path is too long for a socket, in use by another nucleus, or can't be made.
        """
        listener = _bind(path, mode)
        inode = path.stat().st_ino
        loop = asyncio.get_running_loop()
        try:
            failure: BaseException | None = None
            async with asyncio.TaskGroup() as self._tasks:
                loop.add_reader(listener, self._accept, listener, loop)
                try:
                    yield
                except BaseException as error:
                    failure = error
                loop.remove_reader(listener)
                for session in list(self._sessions):
                    session.close("the nucleus stops")
                await self._finish()
            if failure is not None:
                raise failure
        finally:
            self._tasks = None
            listener.close()
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()

    def _accept(self, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(_ACCEPT_AT_ONCE):
            try:
                client, _ = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                logger.error("can't take an IPC connection: %s; trying again in a second", error)
                loop.remove_reader(listener)
                loop.call_later(1, self._accept_again, listener, loop)
                return
            client.setblocking(False)
            session = Session(self, handshake_timeout_s=self._handshake_timeout_s, loop=loop)
            self._sessions.add(session)
            session.channel = Channel(
                client, session, loop=loop, scratch=self._scratch, max_pending_bytes=self._max_pending_bytes
            )

    def _accept_again(self, listener: socket.socket, loop: asyncio.AbstractEventLoop) -> None:
        if listener.fileno() >= 0:
            loop.add_reader(listener, self._accept, listener, loop)

    # what sessions ask

    def forget(self, session: Session) -> None:
        """The session is over."""
        self._sessions.discard(session)

    def start(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Run work in the server's task group."""
        assert self._tasks is not None
        task = self._tasks.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _finish(self) -> None:
        """Let what is under way end by itself, for a moment."""
        if self._running:
            await asyncio.wait(self._running, timeout=FINISH_S)
        for task in list(self._running):
            task.cancel()

    def request(self, session: Session, request: Request) -> None:
        """Read, authorise and start a request; every way out answers it."""
        model = OPERATIONS.get(request.operation)
        if model is None:
            body = {
                "error": "UnsupportedOperation",
                "message": f"{request.operation} is no operation of aws.greengrass#GreengrassCoreIPC",
            }
            session.connection.error(request.stream_id, None, json.dumps(body).encode("ascii"))
            return
        try:
            operation = self._operations.get(model.name)
            if operation is None:
                raise ServiceError(f"Operation {model.name} is not supported by Greengrass")
            payload = request.payload
            message = read_shape(model.request, payload) if operation.read is None else operation.read(payload)
            self._check(session.caller, model, operation, message)
        except ModelledError as error:
            session.fail(model, request.stream_id, error)
        except Exception as error:
            session.fail(model, request.stream_id, error)
        else:
            session.run(model, operation, request.stream_id, message)

    def _check(self, caller: str, model: OperationModel, operation: Operation, message: Shape) -> None:
        if operation.resource is None or model.service is None:
            return
        found = operation.resource(message)
        for resource in (found,) if isinstance(found, str) else found:
            if policy.is_exempt(caller, model.service):
                continue
            if not resource or not self._authorise(caller, model.service, model.name, resource):
                self._log_refusal(caller, model, resource)
                raise UnauthorizedError(
                    "Not Authorized"
                    if model.service == policy.MQTT_PROXY
                    else f"Principal {caller} is not authorized to perform "
                    f"{model.service}:{model.name} on resource {resource}"
                )

    def _log_refusal(self, caller: str, model: OperationModel, resource: str) -> None:
        """Say it once for each resource, with the block that would allow it."""
        if not resource:
            logger.warning("refused %s to %s on '': no policy allows an empty resource", model.name, caller)
            return
        if len(resource) > _MAX_LOGGED_CHARACTERS:
            logger.warning("refused %s to %s on a resource of %d characters", model.name, caller, len(resource))
            return
        key = (caller, model.name, resource)
        if key in self._refusals or len(self._refusals) >= _REMEMBERED_REFUSALS:
            logger.debug("refused %s to %s on %r", model.name, caller, resource)
            return
        self._refusals.add(key)
        assert model.service is not None
        logger.warning(
            "refused %s to %s on %r; this in its configuration would allow it:\n%s",
            model.name,
            caller,
            resource,
            policy.grant_text(caller, model.service, model.name, resource),
        )


def _bind(path: Path, mode: int) -> socket.socket:
    """Return a listening socket; a file left by a nucleus that is gone is replaced."""
    length = len(bytes(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise StateError(
            f"the IPC socket's path is {length} bytes long, and a Unix socket takes {MAX_SOCKET_PATH_BYTES}: {path}",
            hint="use a shorter root folder, or set ipcSocketPath of aws.greengrass.Nucleus",
        )
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        listener.bind(str(path))
        path.chmod(mode)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StateError(f"can't make the IPC socket {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise StateError(f"{path} is in the way of the IPC socket", hint="remove it, or choose another root folder")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StateError(f"another nucleus serves {path}", hint="stop it, or choose another root folder")
