"""The nuclei to run the same tests against: in memory, the device's own services, and one with every fault at hand.

``SocketNucleus`` puts a :class:`LoopbackNucleus` behind the real wire protocol, so that the real client speaks to it,
and does on request what a nucleus should not: drop, refuse, keep silent, end a stream.
"""

import asyncio
import base64
import json
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import pytest

from monodon.component.component import Component
from monodon.component.link import IotPublish, State
from monodon.component.loopback import LoopbackNucleus
from monodon.component.loopback_link import LoopbackLink
from monodon.component.messages import Message
from monodon.component.runtime import SOCKET, TOKEN, under_nucleus
from monodon.component.settings import default_configuration
from monodon.component.subscription import Mailbox
from monodon.core.configuration import EMPTY
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.policy import SERVICES
from monodon.core.semver import Version
from monodon.core.topics import iot_matches, local_matches
from monodon.errors import ConfigurationError, IpcError
from monodon.ipc.connection import Connect, Connection, Fault, Phase, Request, StreamClosed
from monodon.ipc.serialisation import Shape, write_shape
from monodon.ipc.server import IpcServer
from monodon.nucleus.journal import Journal
from monodon.nucleus.policies import Policies
from monodon.nucleus.secrets import Secrets
from monodon.nucleus.services.configuration import Validation, configuration_service
from monodon.nucleus.services.lifecycle import ComponentUpdates, lifecycle_service
from monodon.nucleus.services.mqtt import mqtt_service
from monodon.nucleus.services.pubsub import Bus, pubsub_service
from monodon.nucleus.services.secrets import secret_service
from monodon.nucleus.services.shadows import shadow_service
from monodon.nucleus.shadows import Shadows
from monodon.nucleus.state import DeviceState
from monodon.nucleus.told_shadows import ToldShadows
from monodon.nucleus.uplink.offline import OfflineUplink

S = TypeVar("S")
MODEL = "aws.greengrass#"


class LoopbackWorld:
    """The nucleus in memory."""

    def __init__(self) -> None:
        self.nucleus = LoopbackNucleus()

    @asynccontextmanager
    async def open(self, settings: S, *, name: str) -> AsyncIterator[Component[S]]:
        yield self.nucleus.component(settings, name=name)

    async def set_configuration(self, changes: Mapping[str, Json], *, name: str, validate: bool = True) -> None:
        await self.nucleus.set_configuration(changes, name=name, validate=validate)

    async def ask_update(self) -> float:
        return await self.nucleus.ask_update()

    def put_secret(self, name: str, value: str | bytes) -> None:
        self.nucleus.put_secret(name, value)


class _Peer:
    """One connection of a client."""

    def __init__(self, nucleus: "SocketNucleus", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._nucleus = nucleus
        self._reader = reader
        self._writer = writer
        self._rpc = Connection()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._name = ""

    def flush(self) -> None:
        if not self._writer.is_closing():
            self._writer.writelines(self._rpc.take())

    async def serve(self) -> None:
        while data := await self._reader.read(65536):
            for event in self._rpc.receive(data):
                self._handle(event)
            self.flush()
            if self._rpc.phase is Phase.CLOSED:
                break

    def _handle(self, event: Any) -> None:
        if isinstance(event, Connect):
            name = self._nucleus.tokens.get(event.token)
            if name is None:
                self._rpc.refuse()
            else:
                self._name = name
                self._rpc.accept()
        elif isinstance(event, Request):
            self._tasks[event.stream_id] = asyncio.ensure_future(self._answer(event))
        elif isinstance(event, StreamClosed) and event.stream_id in self._tasks:
            self._tasks.pop(event.stream_id).cancel()
        elif isinstance(event, Fault):
            self._nucleus.faults.append(event.reason)

    def end_streams(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        for stream_id in sorted(self._rpc.open_streams):
            self._rpc.end(stream_id)
        self.flush()

    async def _answer(self, request: Request) -> None:
        operation = request.operation.removeprefix(MODEL)
        body = json.loads(bytes(request.payload))
        self._nucleus.requests.append(operation)
        if operation in self._nucleus.silent:
            return
        error = self._nucleus.errors.get(operation)
        try:
            if error is not None:
                raise IpcError(f"{error} on purpose", code=error)
            handler: Callable[[int, Any], Awaitable[Json]] = getattr(self, f"_{operation}")
            reply = await handler(request.stream_id, body)
        except IpcError as refusal:
            payload = {"message": refusal.message, "_message": refusal.message, "_errorCode": refusal.code}
            self._rpc.error(request.stream_id, f"{MODEL}{refusal.code}", json.dumps(payload).encode())
        else:
            if reply is not None:
                model = f"{MODEL}{operation}Response"
                self._rpc.reply(request.stream_id, model, json.dumps(reply).encode(), is_last=True)
        self.flush()

    def _event(self, stream_id: int, shape: str, body: Json) -> None:
        self._rpc.event(stream_id, MODEL + shape, json.dumps(body).encode())
        self.flush()

    @property
    def _link(self) -> LoopbackLink:
        return LoopbackLink(self._nucleus.nucleus, self._name)

    async def _stream(
        self, stream_id: int, operation: str, mailbox: Mailbox, event: Callable[[Message], tuple[str, Json]]
    ) -> None:
        self._rpc.reply(stream_id, f"{MODEL}{operation}Response", b"{}", is_last=False)
        self.flush()
        while (message := await mailbox.get()) is not None:
            self._event(stream_id, *event(message))

    async def _PublishToTopic(self, _: int, body: Any) -> Json:
        content = body["publishMessage"]
        if "jsonMessage" in content:
            await self._link.publish(body["topic"], content["jsonMessage"]["message"])
        else:
            await self._link.publish(body["topic"], base64.b64decode(content["binaryMessage"]["message"]))
        return {}

    async def _SubscribeToTopic(self, stream_id: int, body: Any) -> Json:
        mailbox = Mailbox()
        modes = {None: None, "RECEIVE_ALL_MESSAGES": True, "RECEIVE_MESSAGES_FROM_OTHERS": False}
        own = modes[body.get("receiveMode")]
        close = await self._link.subscribe(body["topic"], mailbox, own_messages=own)

        def event(message: Message) -> tuple[str, Json]:
            context = {"topic": message.topic}
            if isinstance(message.content, bytes):
                part = {"message": base64.b64encode(message.content).decode(), "context": context}
                return "SubscriptionResponseMessage", {"binaryMessage": part}
            part = {"message": message.content, "context": context}
            return "SubscriptionResponseMessage", {"jsonMessage": part}

        try:
            await self._stream(stream_id, "SubscribeToTopic", mailbox, event)
        finally:
            await close()

    async def _PublishToIoTCore(self, _: int, body: Any) -> Json:
        pairs = tuple((item["key"], item["value"]) for item in body.get("userProperties", []))
        correlation = body.get("correlationData")
        await self._link.publish_to_iot(
            IotPublish(
                topic=body["topicName"],
                payload=base64.b64decode(body["payload"]),
                qos=int(body["qos"]),
                retain=body.get("retain", False),
                user_properties=pairs,
                response_topic=body.get("responseTopic"),
                correlation_data=base64.b64decode(correlation) if correlation else None,
                content_type=body.get("contentType"),
            )
        )
        return {}

    async def _SubscribeToIoTCore(self, stream_id: int, body: Any) -> Json:
        mailbox = Mailbox()
        close = await self._link.subscribe_to_iot(body["topicName"], mailbox, qos=int(body["qos"]))

        def event(message: Message) -> tuple[str, Json]:
            part: dict[str, Json] = {
                "topicName": message.topic,
                "payload": base64.b64encode(message.payload).decode(),
                "retain": message.retain,
                "userProperties": [{"key": key, "value": value} for key, value in message.user_properties],
            }
            if message.response_topic:
                part["responseTopic"] = message.response_topic
            if message.correlation_data:
                part["correlationData"] = base64.b64encode(message.correlation_data).decode()
            return "IoTCoreMessage", {"message": part}

        try:
            await self._stream(stream_id, "SubscribeToIoTCore", mailbox, event)
        finally:
            await close()

    async def _UpdateState(self, _: int, body: Any) -> Json:
        await self._link.report(State(body["state"]))
        return {}

    async def _GetConfiguration(self, _: int, body: Any) -> Json:
        name, value = await self._link.configuration()
        return {"componentName": name, "value": value}

    async def _UpdateConfiguration(self, _: int, body: Any) -> Json:
        await self._nucleus.set_configuration(body["valueToMerge"], name=self._name, validate=False)
        return {}

    async def _SubscribeToConfigurationUpdate(self, stream_id: int, body: Any) -> Json:
        async with self._nucleus.listening("changed", self._name) as events:
            mailbox_reply = f"{MODEL}SubscribeToConfigurationUpdateResponse"
            self._rpc.reply(stream_id, mailbox_reply, b"{}", is_last=False)
            self.flush()
            while True:
                changed = {"componentName": self._name, "keyPath": await events.get()}
                self._event(stream_id, "ConfigurationUpdateEvents", {"configurationUpdateEvent": changed})

    async def _SubscribeToValidateConfigurationUpdates(self, stream_id: int, body: Any) -> Json:
        async with self._nucleus.listening("proposed", self._name) as events:
            model = f"{MODEL}SubscribeToValidateConfigurationUpdatesResponse"
            self._rpc.reply(stream_id, model, b"{}", is_last=False)
            self.flush()
            while True:
                proposed = {"configuration": await events.get(), "deploymentId": "d"}
                event = {"validateConfigurationUpdateEvent": proposed}
                self._event(stream_id, "ValidateConfigurationUpdateEvents", event)

    async def _SendConfigurationValidityReport(self, _: int, body: Any) -> Json:
        self._nucleus.verdicts.put_nowait(body["configurationValidityReport"])
        return {}

    async def _SubscribeToComponentUpdates(self, stream_id: int, body: Any) -> Json:
        async with self._nucleus.listening("updates", self._name) as events:
            self._rpc.reply(stream_id, f"{MODEL}SubscribeToComponentUpdatesResponse", b"{}", is_last=False)
            self.flush()
            while True:
                event = {"deploymentId": await events.get(), "isGgcRestarting": False}
                self._event(stream_id, "ComponentUpdatePolicyEvents", {"preUpdateEvent": event})

    async def _DeferComponentUpdate(self, _: int, body: Any) -> Json:
        self._nucleus.deferrals.put_nowait(body["recheckAfterMs"] / 1000)
        return {}

    async def _GetSecretValue(self, _: int, body: Any) -> Json:
        version_id, stage = body.get("versionId"), body.get("versionStage")
        secret = await self._link.secret(body["secretId"], version_id=version_id, stage=stage)
        if isinstance(secret.value, str):
            value = {"secretString": secret.value}
        else:
            value = {"secretBinary": base64.b64encode(secret.value).decode()}
        return {
            "secretId": secret.arn,
            "versionId": secret.version_id,
            "versionStage": list(secret.stages),
            "secretValue": value,
        }

    async def _GetThingShadow(self, _: int, body: Any) -> Json:
        document = await self._link.shadow(body["thingName"], body.get("shadowName", ""))
        if document is None:
            raise IpcError("No shadow found", code="ResourceNotFoundError")
        return {"payload": base64.b64encode(json.dumps(document).encode()).decode()}

    async def _UpdateThingShadow(self, _: int, body: Any) -> Json:
        request = json.loads(base64.b64decode(body["payload"]))
        accepted = await self._link.update_shadow(body["thingName"], body.get("shadowName", ""), request)
        return {"payload": base64.b64encode(json.dumps(accepted).encode()).decode()}

    async def _DeleteThingShadow(self, _: int, body: Any) -> Json:
        await self._link.delete_shadow(body["thingName"], body.get("shadowName", ""))
        return {"payload": ""}

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._writer.close()


class SocketNucleus:
    """A loopback nucleus behind a socket, with faults."""

    def __init__(self, folder: Path) -> None:
        self.nucleus = LoopbackNucleus()
        self.path = folder / "ipc.socket"
        self.tokens: dict[str, str] = {}
        self.silent: set[str] = set()
        self.errors: dict[str, str] = {}
        self.requests: list[str] = []
        self.faults: list[str] = []
        self.verdicts: asyncio.Queue[Any] = asyncio.Queue()
        self.deferrals: asyncio.Queue[float] = asyncio.Queue()
        self._listeners: dict[tuple[str, str], list[asyncio.Queue[Json]]] = {}
        self._server: asyncio.Server | None = None
        self._peers: dict[_Peer, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def listening(self, what: str, name: str) -> AsyncIterator[asyncio.Queue[Json]]:
        queue: asyncio.Queue[Json] = asyncio.Queue()
        queues = self._listeners.setdefault((what, name), [])
        queues.append(queue)
        try:
            yield queue
        finally:
            queues.remove(queue)

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._on_peer, self.path)

    async def _on_peer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _Peer(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._peers[peer] = task
        try:
            await peer.serve()
        finally:
            self._peers.pop(peer, None)
            await peer.close()

    async def drop(self) -> None:
        """Close every connection, and wait until that is done."""
        peers = list(self._peers.items())
        for peer, _ in peers:
            await peer.close()
        await asyncio.gather(*(task for _, task in peers), return_exceptions=True)

    def end_streams(self) -> None:
        """End every stream from the nucleus's side; the connections stay."""
        for peer in self._peers:
            peer.end_streams()

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop()
        self.path.unlink(missing_ok=True)

    def install(self, settings: Any, *, name: str) -> dict[str, str]:
        """Make a component known; return the environment of its process."""
        self.nucleus.component(settings, name=name)
        self.tokens[f"token of {name}"] = name
        return {SOCKET: str(self.path), TOKEN: f"token of {name}", "AWS_IOT_THING_NAME": self.nucleus.thing_name}

    @asynccontextmanager
    async def open(self, settings: S, *, name: str) -> AsyncIterator[Component[S]]:
        environ = self.install(settings, name=name)

        async def main(component: Component[S]) -> None:
            """Only says which folder the component lies in."""

        async with under_nucleus(main, type(settings), environ) as component:
            yield component

    async def set_configuration(self, changes: Mapping[str, Json], *, name: str, validate: bool = True) -> None:
        if validate:
            proposal = {**self.nucleus.configuration(name), **changes}
            for queue in self._listeners.get(("proposed", name), []):
                queue.put_nowait(proposal)
                verdict = await self.verdicts.get()
                if verdict["status"] == "REJECTED":
                    raise ConfigurationError(verdict["message"])
        await self.nucleus.set_configuration(changes, name=name, validate=False)
        for queue in self._listeners.get(("changed", name), []):
            for key in changes:
                queue.put_nowait([key])

    async def ask_update(self) -> float:
        queues = [queue for (what, _), several in self._listeners.items() if what == "updates" for queue in several]
        for queue in queues:
            queue.put_nowait("d")
        return max([await self.deferrals.get() for _ in queues], default=0.0)

    def put_secret(self, name: str, value: str | bytes) -> None:
        self.nucleus.put_secret(name, value)


@pytest.fixture
async def socket_nucleus() -> AsyncIterator[SocketNucleus]:
    """A nucleus behind a socket, listening."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    nucleus = SocketNucleus(folder)
    await nucleus.start()
    try:
        yield nucleus
    finally:
        await nucleus.stop()
        shutil.rmtree(folder)
    assert nucleus.faults == []


class ServicesWorld:
    """The device's own IPC server and services, with the nucleus's journal, policies and offline topics below."""

    thing_name = "loopback"

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.path = folder / "ipc.socket"
        self.device = DeviceState(journal)
        self.bus = Bus()
        self.uplink = OfflineUplink()
        self.validation = Validation()
        self.updates = ComponentUpdates()
        self.secrets = Secrets(folder / "secrets")
        self.states: dict[ComponentName, str] = {}
        self._local: list[Message] = []
        self._iot: list[Message] = []
        self.server = IpcServer(
            authenticate=lambda token: token if token in self.states else None,
            authorise=Policies(self.device).allows,
            services=[
                pubsub_service(self.bus),
                mqtt_service(self.uplink),
                configuration_service(self.device, self.validation),
                lifecycle_service(self, self.updates),
                shadow_service(ToldShadows(Shadows(journal), self.bus)),
                secret_service(self.secrets),
            ],
        )

    @property
    def nucleus(self) -> "ServicesWorld":
        """What a test looks at."""
        return self

    @asynccontextmanager
    async def running(self) -> AsyncIterator["ServicesWorld"]:
        self.bus.subscribe("#", lambda event: self._local.append(_event_message(event)), component="observer")
        await self.uplink.subscribe("#", 1, lambda sent: self._iot.append(Message(topic=sent.topic, content=b"")))
        async with self.server.listen(self.path):
            yield self

    # what the lifecycle service asks of a supervisor

    def statuses(self) -> Mapping[ComponentName, object]:
        return self.states

    def report(self, name: ComponentName, state: StrEnum) -> bool:
        self.states[name] = state.name
        return True

    def pause(self, name: ComponentName) -> bool:
        return False

    def resume(self, name: ComponentName) -> bool:
        return False

    # what a test asks

    def install(self, settings: Any, *, name: str) -> dict[str, str]:
        """Make a component known that may do everything; return the environment of its process."""
        everything = {"all": {"operations": ["*"], "resources": ["*"]}}
        access = dict.fromkeys(SERVICES, everything)
        defaults = {**default_configuration(settings), "accessControl": access}
        component = ComponentName.parse(name)
        self.device.put_installed(
            Installed(
                name=component,
                version=Version.parse("1.0.0"),
                configuration=EMPTY.merge((), defaults, at_ms=1),
            )
        )
        self.states[component] = "STARTING"
        return {SOCKET: str(self.path), TOKEN: name, "AWS_IOT_THING_NAME": self.thing_name}

    @asynccontextmanager
    async def open(self, settings: S, *, name: str) -> AsyncIterator[Component[S]]:
        environ = self.install(settings, name=name)

        async def main(component: Component[S]) -> None:
            """Only says which folder the component lies in."""

        async with under_nucleus(main, type(settings), environ) as component:
            yield component

    async def set_configuration(self, changes: Mapping[str, Json], *, name: str, validate: bool = True) -> None:
        component = ComponentName.parse(name)
        if validate:
            refusal = await self.validation.ask(component, {**self.configuration(name), **changes}, "d", 10)
            if refusal is not None:
                raise ConfigurationError(refusal)
        self.device.update_configuration(component, (), changes, time.time_ns() // 1_000_000)

    def configuration(self, name: str) -> Mapping[str, Json]:
        found = self.device.configuration(ComponentName.parse(name))
        assert found is not None
        return found.value()

    def state(self, name: str) -> str:
        return self.states[ComponentName.parse(name)]

    async def wait_for_state(self, state: str, *, name: str) -> None:
        while self.state(name) != state:
            await asyncio.sleep(0.005)

    async def publish(self, topic: str, message: Any) -> None:
        self.bus.publish(topic, message, sender="observer")

    def published(self, topic_filter: str = "#") -> list[Any]:
        return [message.content for message in self._local if local_matches(topic_filter, message.topic)]

    def published_to_iot(self, topic_filter: str = "#") -> list[Message]:
        return [message for message in self._iot if iot_matches(topic_filter, message.topic)]

    async def ask_update(self) -> float:
        return await self.updates.ask("d", 10)

    def put_secret(self, name: str, value: str | bytes) -> None:
        self.secrets.put(name, value)


def _event_message(event: Shape) -> Message:
    """What a subscriber reads from the wire."""
    ((member, part),) = json.loads(write_shape(event)).items()
    content = base64.b64decode(part["message"]) if member == "binaryMessage" else part["message"]
    return Message(topic=part["context"]["topic"], content=content)


@pytest.fixture
async def services_world() -> AsyncIterator[ServicesWorld]:
    """The device's own services, listening."""
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    journal = Journal.open(folder / "journal")
    try:
        async with ServicesWorld(folder, journal).running() as world:
            yield world
    finally:
        journal.close()
        shutil.rmtree(folder)


@pytest.fixture(params=["loopback", "socket", "services"])
async def world(
    request: pytest.FixtureRequest, socket_nucleus: SocketNucleus, services_world: ServicesWorld
) -> LoopbackWorld | SocketNucleus | ServicesWorld:
    """Each of the nuclei."""
    worlds: dict[str, LoopbackWorld | SocketNucleus | ServicesWorld]
    worlds = {"loopback": LoopbackWorld(), "socket": socket_nucleus, "services": services_world}
    return worlds[request.param]
