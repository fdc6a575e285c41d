"""The server over a real socket: raw clients that break rules, and awsiotsdk's own."""

import asyncio
import gc
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from awsiot.eventstreamrpc import AccessDeniedError, StreamClosedError
from awsiot.greengrasscoreipc import model

from monodon.errors import StateError
from monodon.ipc.errors import ResourceNotFoundError
from monodon.ipc.eventstream import Header, HeaderType, Message, encode
from monodon.ipc.server import IpcServer
from monodon.ipc.service import Operation, Service, Stream
from monodon.ipc.shapes import (
    ConfigurationUpdateEvent,
    ConfigurationUpdateEvents,
    ConnectionStatusEvent,
    DeferComponentUpdateRequest,
    GetConfigurationRequest,
    GetConfigurationResponse,
    IoTCoreConnectionStatusEvent,
    JsonMessage,
    MessageContext,
    PublishToTopicRequest,
    SubscribeToConfigurationUpdateRequest,
    SubscribeToConfigurationUpdateResponse,
    SubscribeToIoTCoreConnectionStatusRequest,
    SubscribeToIoTCoreConnectionStatusResponse,
    SubscribeToTopicRequest,
    SubscribeToTopicResponse,
    SubscriptionResponseMessage,
)

PREFIX = "aws.greengrass#"
Raw = Callable[[], Awaitable[Any]]
Sdk = Callable[[str], Awaitable[Any]]


class Toy:
    """Services with every kind of handler, and what happened to them."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.closed: list[str] = []
        self.started: list[str] = []
        self.gate = asyncio.Event()
        self.status = asyncio.Event()

    def publish(self, request: PublishToTopicRequest, caller: str) -> None:
        self.started.append(f"publish {request.topic}")
        message = request.publish_message.json_message.message if request.publish_message else {}  # type: ignore[union-attr]
        event = SubscriptionResponseMessage(
            json_message=JsonMessage(message=message, context=MessageContext(topic=request.topic))
        )
        for stream in list(self.streams):
            stream.send(event)

    def subscribe(self, request: SubscribeToTopicRequest, caller: str, stream: Stream) -> SubscribeToTopicResponse:
        stream.send(SubscriptionResponseMessage(json_message=JsonMessage(message={"early": True})))
        self.streams.append(stream)
        stream.on_close(lambda: self.streams.remove(stream))
        stream.on_close(self.forget)
        return SubscribeToTopicResponse(topic_name=request.topic)

    async def forget(self) -> None:
        self.closed.append("stream")

    async def defer(self, request: DeferComponentUpdateRequest, caller: str) -> None:
        self.started.append(f"defer {request.deployment_id}")
        if request.deployment_id == "gate":
            await self.gate.wait()
        if request.deployment_id == "missing":
            raise ResourceNotFoundError("no such deployment", resourceName="x")
        if request.deployment_id == "bug":
            raise ZeroDivisionError("a bug")

    def get(self, request: GetConfigurationRequest, caller: str) -> GetConfigurationResponse:
        self.started.append("get")
        return GetConfigurationResponse(component_name=caller, value={"size": "x" * int((request.key_path or "0")[0])})

    async def watch(
        self, request: SubscribeToConfigurationUpdateRequest, caller: str, stream: Stream
    ) -> SubscribeToConfigurationUpdateResponse:
        await asyncio.sleep(0)
        if request.component_name == "gate":
            await self.gate.wait()
            stream.on_close(lambda: self.closed.append("late"))
        if request.component_name == "nobody":
            raise ResourceNotFoundError("Key not found")
        stream.send(
            ConfigurationUpdateEvents(configuration_update_event=ConfigurationUpdateEvent(component_name=caller))
        )
        return SubscribeToConfigurationUpdateResponse()

    async def follow(
        self, request: SubscribeToIoTCoreConnectionStatusRequest, caller: str
    ) -> AsyncIterator[SubscribeToIoTCoreConnectionStatusResponse | IoTCoreConnectionStatusEvent]:
        try:
            yield SubscribeToIoTCoreConnectionStatusResponse()
            await self.status.wait()
            yield IoTCoreConnectionStatusEvent(connection_status_event=ConnectionStatusEvent(status="CONNECTED"))
        finally:
            self.closed.append("generator")

    def services(self) -> list[Service]:
        return [
            Service(
                "aws.greengrass.ipc.pubsub",
                {
                    PREFIX + "PublishToTopic": Operation(self.publish, resource=lambda request: request.topic),
                    PREFIX + "SubscribeToTopic": Operation(self.subscribe, resource=lambda request: request.topic),
                },
            ),
            Service(
                "others",
                {
                    PREFIX + "DeferComponentUpdate": Operation(self.defer),
                    PREFIX + "GetConfiguration": Operation(self.get),
                    PREFIX + "SubscribeToConfigurationUpdate": Operation(self.watch),
                    PREFIX + "SubscribeToIoTCoreConnectionStatus": Operation(self.follow),
                },
            ),
        ]


@pytest.fixture
def toy() -> Toy:
    return Toy()


def listening(toy: Toy, path: Path, **options: Any) -> AbstractAsyncContextManager[None]:
    return server(toy, **options).listen(path)


def server(toy: Toy, **options: Any) -> IpcServer:
    return IpcServer(
        authenticate={"T": "com.example.A", "U": "com.example.B"}.get,
        authorise=lambda caller, service, operation, resource: not resource.startswith("secret"),
        services=toy.services(),
        **options,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def kind_of(message: Message | None) -> tuple[Any, ...]:
    """Type, flags, stream and model type."""
    assert message is not None
    names = (":message-type", ":message-flags", ":stream-id")
    return (
        *(message.find(name, HeaderType.INT32) for name in names),
        message.find("service-model-type", HeaderType.STRING),
    )


PUBLISH = {"topic": "t", "publishMessage": {"jsonMessage": {"message": {"n": 1}}}}


async def test_the_socket_is_private_and_goes_with_the_server(toy: Toy, socket_path: Path) -> None:
    async with listening(toy, socket_path):
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600
    assert not socket_path.exists()
    async with server(toy).listen(socket_path, 0o666):
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o666


async def test_a_stale_socket_is_replaced_and_a_live_one_is_not(toy: Toy, socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(socket_path))
    async with listening(toy, socket_path):
        with pytest.raises(StateError, match="another nucleus"):
            async with listening(toy, socket_path):
                raise AssertionError
        assert socket_path.exists()
    socket_path.write_text("a file")
    with pytest.raises(StateError, match="in the way"):
        async with listening(toy, socket_path):
            raise AssertionError


async def test_a_path_too_long_names_the_limit(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(StateError, match="takes 107") as caught:
        async with listening(toy, tmp_path / ("x" * 120)):
            raise AssertionError
    assert "ipcSocketPath" in str(caught.value.hint)


async def test_the_sdk_is_told_that_its_token_is_unknown(toy: Toy, socket_path: Path, sdk: Sdk) -> None:
    """AccessDeniedError, and not AWS_IO_SOCKET_CLOSED: the server waits for the client to close."""
    async with listening(toy, socket_path):
        with pytest.raises(AccessDeniedError):
            await sdk("wrong")


async def test_a_refused_client_that_stays_is_closed(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        assert kind_of(await client.connect("wrong")) == (5, 0, 0, None)
        await client.send(b"anything")
        assert await client.read() is None


async def test_a_silent_client_is_closed(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path, handshake_timeout_s=0.05):
        silent, half = await raw(), await raw()
        await half.send(b"\0\0\0")
        assert await silent.read() is None
        assert await half.read() is None
        fine = await raw()
        assert kind_of(await fine.connect("T")) == (5, 1, 0, None)
        await asyncio.sleep(0.1)
        await fine.message(2, 0, 0, b"ping")
        assert (await fine.read()).payload == b"ping"


async def test_unary_replies_end_their_stream(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "PublishToTopic", PUBLISH)
        answer = await client.read()
        assert kind_of(answer) == (0, 2, 1, PREFIX + "PublishToTopicResponse")
        assert answer.payload == b"{}"
        assert answer.find(":content-type", HeaderType.STRING) == "application/json"


async def test_the_reply_is_on_the_wire_before_the_first_event(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "SubscribeToTopic", {"topic": "t"})
        await client.request(2, "SubscribeToConfigurationUpdate", {})
        assert kind_of(await client.read()) == (0, 0, 1, PREFIX + "SubscribeToTopicResponse")
        early = await client.read()
        assert kind_of(early) == (0, 0, 1, PREFIX + "SubscriptionResponseMessage")
        assert json.loads(early.payload) == {"jsonMessage": {"message": {"early": True}}}
        assert kind_of(await client.read()) == (0, 0, 2, PREFIX + "SubscribeToConfigurationUpdateResponse")
        assert kind_of(await client.read()) == (0, 0, 2, PREFIX + "ConfigurationUpdateEvents")


async def test_requests_of_a_connection_start_in_order(toy: Toy, socket_path: Path, raw: Raw) -> None:
    """Also plain functions behind coroutines that have yet to start."""
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        for number, (operation, body) in enumerate(
            [
                ("DeferComponentUpdate", {"deploymentId": "gate"}),
                ("PublishToTopic", PUBLISH),
                ("DeferComponentUpdate", {"deploymentId": "2"}),
                ("GetConfiguration", {}),
            ],
            start=1,
        ):
            await client.request(number, operation, body)
        answered = [kind_of(await client.read())[2] for _ in range(3)]
        assert sorted(answered) == [2, 3, 4]
        assert toy.started == ["defer gate", "publish t", "defer 2", "get"]
        toy.gate.set()
        assert kind_of(await client.read())[2] == 1


async def test_errors_reach_the_sdk_as_their_classes(
    toy: Toy, socket_path: Path, sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(toy, socket_path):
        client = await sdk("T")
        with pytest.raises(model.ResourceNotFoundError) as not_found:
            await asyncio.wrap_future(client.defer_component_update_async(deployment_id="missing"))
        assert (not_found.value.message, not_found.value.resource_name) == ("no such deployment", "x")
        with pytest.raises(model.ServiceError) as bug:
            await asyncio.wrap_future(client.defer_component_update_async(deployment_id="bug"))
        assert bug.value.message == "a bug"
        assert "ZeroDivisionError" in caplog.text
        with pytest.raises(model.ServiceError) as unsupported:
            await asyncio.wrap_future(client.create_debug_password_async())
        assert unsupported.value.message == f"Operation {PREFIX}CreateDebugPassword is not supported by Greengrass"
        with pytest.raises(model.InvalidArgumentsError) as invalid:
            await asyncio.wrap_future(
                client.publish_to_topic_async(
                    topic="t", publish_message=model.PublishMessage(json_message=model.JsonMessage(message=[1]))
                )
            )
        assert "must be a JSON object" in invalid.value.message
        with pytest.raises(model.ResourceNotFoundError):
            await asyncio.to_thread(
                client.subscribe_to_configuration_update, component_name="nobody", on_stream_event=print
            )
        await asyncio.wrap_future(client.defer_component_update_async(deployment_id="fine"))


async def test_an_unknown_operation_ends_its_stream_only(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "Nonsense", {})
        answer = await client.read()
        assert kind_of(answer) == (1, 2, 1, None)
        assert answer.find(":content-type", HeaderType.STRING) == "application/json"
        assert json.loads(answer.payload).keys() == {"error", "message"}
        await client.request(2, "GetConfiguration", {})
        assert kind_of(await client.read()) == (0, 2, 2, PREFIX + "GetConfigurationResponse")


@pytest.mark.parametrize("body", [b"", b"[", b"[]", b"\xff", b"[" * 100_000, b'{"topic": 1}', b"null"])
async def test_a_bad_body_ends_its_stream_only(toy: Toy, socket_path: Path, raw: Raw, body: bytes) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "PublishToTopic", body)
        assert kind_of(await client.read()) == (1, 2, 1, PREFIX + "InvalidArgumentsError")
        await client.request(2, "PublishToTopic", PUBLISH)
        assert kind_of(await client.read())[:3] == (0, 2, 2)


async def test_a_refusal_is_logged_once_with_the_block_that_allows_it(
    toy: Toy, socket_path: Path, sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(toy, socket_path):
        client = await sdk("T")
        for _ in range(2):
            with pytest.raises(model.UnauthorizedError) as refused:
                await asyncio.wrap_future(client.publish_to_topic_async(topic="secret", publish_message=None))
        assert refused.value.message == (
            "Principal com.example.A is not authorized to perform "
            "aws.greengrass.ipc.pubsub:aws.greengrass#PublishToTopic on resource secret"
        )
        with pytest.raises(model.UnauthorizedError):
            await asyncio.to_thread(client.subscribe_to_topic, topic="", on_stream_event=print)
        with pytest.raises(model.UnauthorizedError):
            await asyncio.wrap_future(client.publish_to_topic_async(topic="secret" * 500, publish_message=None))
    assert "no policy allows an empty resource" in caplog.text
    assert 'resources: [""]' not in caplog.text
    assert "a resource of 3000 characters" in caplog.text
    assert "secretsecret" not in caplog.text
    texts = [record.getMessage() for record in caplog.records if "'secret'" in record.getMessage()]
    assert len(texts) == 1
    assert 'resources: ["secret"]' in texts[0]


async def test_streams_are_cleaned_up_at_either_end(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "SubscribeToTopic", {"topic": "t"})
        await client.request(2, "SubscribeToIoTCoreConnectionStatus", {})
        await client.request(3, "SubscribeToTopic", {"topic": "t"})
        await client.request(4, "SubscribeToIoTCoreConnectionStatus", {})
        await until(lambda: len(toy.streams) == 2)
        await client.message(0, 1, 2)
        await client.message(0, 2, 2)
        await until(lambda: sorted(toy.closed) == ["generator", "stream"])
        assert len(toy.streams) == 1
        client.writer.transport.abort()
        await until(lambda: sorted(toy.closed) == ["generator", "generator", "stream", "stream"])
        assert toy.streams == []


async def test_a_subscription_ended_while_it_is_made_is_cleaned_up(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "SubscribeToConfigurationUpdate", {"componentName": "gate"})
        await client.message(0, 1, 2)
        await client.message(2, 0, 0, b"ping")
        assert (await client.read()).payload == b"ping"
        toy.gate.set()
        await until(lambda: toy.closed == ["late"])


async def test_a_generator_that_ends_ends_its_stream(toy: Toy, socket_path: Path, raw: Raw) -> None:
    toy.status.set()
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "SubscribeToIoTCoreConnectionStatus", {})
        assert kind_of(await client.read())[1:] == (0, 1, PREFIX + "SubscribeToIoTCoreConnectionStatusResponse")
        assert kind_of(await client.read())[1:] == (0, 1, PREFIX + "IoTCoreConnectionStatusEvent")
        assert kind_of(await client.read()) == (0, 2, 1, None)
        assert toy.closed == ["generator"]


async def test_leaving_closes_everything(toy: Toy, socket_path: Path, sdk: Sdk) -> None:
    ended = asyncio.get_running_loop().create_future()
    loop = asyncio.get_running_loop()
    async with listening(toy, socket_path):
        client = await sdk("T")
        await asyncio.to_thread(
            client.subscribe_to_topic,
            topic="t",
            on_stream_event=lambda event: None,
            on_stream_closed=lambda: loop.call_soon_threadsafe(ended.set_result, None),
        )
        call = client.defer_component_update_async(deployment_id="gate")
        await until(lambda: "defer gate" in toy.started)
    async with asyncio.timeout(5):
        await ended
        with pytest.raises(StreamClosedError):
            await asyncio.wrap_future(call)
    assert toy.streams == []


async def test_a_slow_reader_is_closed_alone(
    toy: Toy, socket_path: Path, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    async with listening(toy, socket_path, max_pending_bytes=1 << 20):
        slow, fast, publisher = await raw(), await raw(), await raw()
        for client in (slow, fast):
            await client.connect("T")
            await client.request(1, "SubscribeToTopic", {"topic": "t"})
            await client.read()
            await client.read()
        slow.writer.transport.pause_reading()
        await publisher.connect("U")
        body = {"topic": "t", "publishMessage": {"jsonMessage": {"message": {"x": "y" * 100_000}}}}
        for number in range(1, 60):
            await publisher.request(number, "PublishToTopic", body)
            assert kind_of(await publisher.read())[:3] == (0, 2, number)
            assert kind_of(await fast.read())[:3] == (0, 0, 1)
        await until(lambda: len(toy.streams) == 1)
        assert "com.example.A closed" in caplog.text
        assert "left unread" in caplog.text


async def test_two_frames_of_the_largest_size_fit_whatever_the_bound(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        client.writer.transport.pause_reading()
        for number in (1, 2):
            await client.request(number, "GetConfiguration", {"keyPath": [str(24 * 1024 * 1024 - 400)]})
        await client.request(3, "GetConfiguration", {"keyPath": [str(24 * 1024 * 1024)]})
        await until(lambda: len(toy.started) == 3)
        client.writer.transport.resume_reading()
        assert kind_of(await client.read(20))[:3] == (0, 2, 1)
        assert kind_of(await client.read(20))[:3] == (0, 2, 2)
        assert kind_of(await client.read(20)) == (1, 2, 3, PREFIX + "ServiceError")  # too large for a frame


async def test_a_flood_of_slow_requests_waits_in_the_kernel(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        for number in range(1, 1001):
            await client.request(number, "DeferComponentUpdate", {"deploymentId": "gate"})
        await until(lambda: len(toy.started) >= 256)
        await asyncio.sleep(0.05)
        in_progress = len(toy.started)
        toy.gate.set()
        answered = {kind_of(await client.read())[2] for _ in range(1000)}
        assert answered == set(range(1, 1001))
        assert in_progress < 1000


async def test_malformed_frames_end_their_connection_only(toy: Toy, socket_path: Path, raw: Raw) -> None:
    running = server(toy)
    async with running.listen(socket_path):
        good = await raw()
        await good.connect("T")
        for junk in (b"\xff" * 40, b"\0\0\0\x10" + b"\0" * 8, b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000)):
            for is_known in (False, True):
                bad = await raw()
                if is_known:
                    await bad.connect("T")
                await bad.send(junk)
                assert await bad.read() is None
        await good.message(2, 0, 0, b"still here")
        assert (await good.read()).payload == b"still here"
        await until(lambda: running.connections == 1)


async def test_a_fault_is_told_before_the_end(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        await client.request(1, "SubscribeToTopic", {"topic": "t"})
        await client.request(5, "GetConfiguration", {})
        kinds = []
        while (message := await client.read()) is not None:
            kinds.append(kind_of(message)[0])
        assert kinds == [0, 0, 6]
        await until(lambda: toy.streams == [])


async def test_frames_in_single_bytes_and_many_at_once(toy: Toy, socket_path: Path, raw: Raw) -> None:
    async with listening(toy, socket_path):
        client = await raw()
        await client.connect("T")
        first = await raw()
        parts = [_request_bytes(number) for number in range(1, 4)]
        for byte in parts[0]:
            await client.send(bytes([byte]))
        await client.send(parts[1] + parts[2])
        assert [kind_of(await client.read())[2] for _ in range(3)] == [1, 2, 3]
        first.close()


def _request_bytes(number: int) -> bytes:
    control = ((":message-type", 0), (":message-flags", 0), (":stream-id", number))
    headers = [Header(name, HeaderType.INT32, value) for name, value in control]
    return encode([*headers, Header("operation", HeaderType.STRING, PREFIX + "GetConfiguration")], b"{}")


async def test_connections_leave_nothing_behind(toy: Toy, socket_path: Path, raw: Raw) -> None:
    running = server(toy)
    async with running.listen(socket_path):
        files = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            clients = [await raw() for _ in range(50)]
            for client in clients:
                await client.connect("T")
                await client.request(1, "SubscribeToTopic", {"topic": "t"})
            await until(lambda: len(toy.streams) == 50)
            for client in clients:
                client.writer.transport.abort()
            await until(lambda: running.connections == 0)
            assert toy.streams == []
            del clients
        await asyncio.sleep(0)
        gc.collect()
        await until(lambda: len(os.listdir("/proc/self/fd")) <= files)


async def test_the_sdk_runs_a_whole_conversation(
    toy: Toy, socket_path: Path, sdk: Sdk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Any] = asyncio.Queue()
    async with listening(toy, socket_path):
        client = await sdk("T")
        response, operation = await asyncio.to_thread(
            client.subscribe_to_topic,
            topic="t",
            on_stream_event=lambda event: loop.call_soon_threadsafe(events.put_nowait, event),
        )
        assert response.topic_name == "t"
        message = model.PublishMessage(json_message=model.JsonMessage(message={"a": 5, "ü": [None, 1.5]}))
        await asyncio.wrap_future(client.publish_to_topic_async(topic="t", publish_message=message))
        async with asyncio.timeout(5):
            assert (await events.get()).json_message.message == {"early": True}
            event = await events.get()
        assert event.json_message.message == {"a": 5, "ü": [None, 1.5]}
        assert event.json_message.context.topic == "t"
        await asyncio.wrap_future(operation.close())
        await until(lambda: toy.streams == [])
        assert caplog.records == []
