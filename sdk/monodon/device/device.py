"""A running nucleus as a tool sees it: found by its root, spoken to over IPC."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from monodon.component.client import IpcLink, connect
from monodon.component.connection import DEADLINE_S, Stream
from monodon.component.link import IotPublish
from monodon.component.messages import Message, Publishable, iot_payload, local_content
from monodon.component.subscription import Closing, Mailbox, Subscription
from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.device.operations import Operation, operation, to_json
from monodon.errors import DeploymentError, IpcError, StateError

CREDENTIALS = "cli_ipc_info"
#: Seconds between two looks at a deployment.
LOOK_S = 0.1
_ENDED = ("SUCCEEDED", "FAILED", "CANCELED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Where a nucleus listens, and the token that lets a tool in."""

    socket: str
    token: str


def read_credentials(root: Path) -> Credentials:
    """Return what the nucleus of ``root`` wrote for the tools of this user.

    Raises:
        StateError: no nucleus runs there, or none of its files is for this user.
    """
    problem = "no nucleus runs"
    for file in sorted((root / CREDENTIALS).glob("*")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            return Credentials(socket=content["domain_socket_path"], token=content["cli_auth_token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"no credentials for this user ({file.name}: {error})"
    raise StateError(f"{problem} in {root}", hint=f"start it: monodon nucleus run --root {root}")


@asynccontextmanager
async def connected(root: Path, *, deadline_s: float = DEADLINE_S) -> "AsyncIterator[Device]":
    """Connect to the nucleus of ``root`` for the length of the block, again whenever it was restarted.

    Raises:
        StateError: no nucleus runs there.
        IpcError: it does not answer.
    """

    def renew() -> tuple[str, str]:
        credentials = read_credentials(root)
        return credentials.socket, credentials.token

    socket, token = renew()
    async with connect(socket=socket, token=token, deadline_s=deadline_s, longest_delay_s=1.0, renew=renew) as link:
        yield Device(link)


class Device:
    """The nucleus of a device; made by :func:`connected`. Every call raises IpcError where the nucleus refuses."""

    def __init__(self, link: IpcLink) -> None:
        self._link = link

    async def call(self, name: str, request: Mapping[str, Json] | None = None) -> Json:
        """Perform an operation, such as ``ListComponents``, and return its answer as JSON.

        Raises:
            IpcError: no such operation, a request that does not fit it, or a refusal.
        """
        found = operation(name)
        if found.is_streaming:
            raise IpcError(f"{found.name} goes on and on: use stream", code="InvalidArgumentsError")
        return to_json(await self._link.connection.call(found.client_name, found.request(request or {})))

    async def stream(
        self, name: str, request: Mapping[str, Json] | None = None, *, on_gap: Callable[[], None] | None = None
    ) -> AsyncGenerator[Json, None]:
        """Perform a streaming operation and yield its events as JSON, through every restart of the nucleus.

        Args:
            on_gap: called before an event that others may be missing before.

        Raises:
            IpcError: no such operation, a request that does not fit it, or a refusal.
        """
        async with self._events(operation(name), request or {}) as events:
            while (event := await events.get()) is not None:
                if event.after_gap and on_gap is not None:
                    on_gap()
                yield event.content

    @asynccontextmanager
    async def _events(self, found: Operation, request: Mapping[str, Json]) -> AsyncIterator[Mailbox]:
        mailbox = Mailbox()
        stream = Stream(
            title=found.name,
            operation_name=found.client_name,
            request=found.request(request),
            deliver=lambda event: mailbox.put(Message(topic=found.name, content=to_json(event))),
            gap=mailbox.gap,
            fail=mailbox.fail,
        )
        close = await self._link.connection.subscribe(stream)
        try:
            yield mailbox
        finally:
            await close()

    def subscribe(self, *filters: str, iot: bool = False, on_gap: Callable[[], None] | None = None) -> Subscription:
        """Return what is published under local filters, or with ``iot`` what comes from AWS IoT Core, in one order.

        A message that two of the filters cover comes twice.
        """

        async def open_all(mailbox: Mailbox) -> Closing:
            closings: list[Closing] = []

            async def close_all() -> None:
                for close in closings:
                    await close()

            try:
                for each in filters:
                    closings.append(await self._open(each, mailbox, iot))  # noqa: PERF401 - those opened are closed again
            except BaseException:
                await close_all()
                raise
            return close_all

        return Subscription(" ".join(filters), open_all, on_gap=on_gap)

    async def _open(self, topic_filter: str, mailbox: Mailbox, iot: bool) -> Closing:
        if iot:
            return await self._link.subscribe_to_iot(topic_filter, mailbox, qos=1)
        return await self._link.subscribe(topic_filter, mailbox, own_messages=True)

    async def publish(self, topic: str, message: Publishable) -> None:
        """Publish on a topic of the device."""
        await self._link.publish(topic, local_content(topic, message))

    async def publish_to_iot(self, topic: str, payload: Publishable, *, qos: int = 1, retain: bool = False) -> None:
        """Publish to AWS IoT Core by way of the nucleus."""
        message = IotPublish(topic=topic, payload=iot_payload(topic, payload), qos=qos, retain=retain)
        await self._link.publish_to_iot(message)

    async def deploy(self, request: Mapping[str, Json], *, timeout_s: float = 120.0) -> Json:
        """Make a local deployment (the fields of ``CreateLocalDeployment``) and return how it is once it has ended.

        Raises:
            DeploymentError: it failed or was cancelled, and the cause is the nucleus's; or it did not end in time.
        """
        created = await self.call("CreateLocalDeployment", request)
        deployment_id = created["deploymentId"]
        try:
            async with timeout(timeout_s):
                status = await self._ended(deployment_id)
        except TimeoutError:
            raise DeploymentError(f"deployment {deployment_id} did not end within {timeout_s:g} s") from None
        if status["status"] != "SUCCEEDED":
            details = status.get("deploymentStatusDetails") or {}
            cause = details.get("deploymentFailureCause") or "no cause given"
            raise DeploymentError(
                f"deployment {deployment_id} {status['status']}: {cause}",
                codes=details.get("deploymentErrorStack") or (),
            )
        return status

    async def _ended(self, deployment_id: str) -> Json:
        while True:
            answer = await self.call("GetLocalDeploymentStatus", {"deploymentId": deployment_id})
            if answer["deployment"]["status"] in _ENDED:
                return answer["deployment"]
            await asyncio.sleep(LOOK_S)
