"""The link to a real nucleus: what a component asks, as IPC operations. Import it only where one is to be reached."""

import asyncio
import datetime
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from awsiot.greengrasscoreipc import model

from monodon.component.connection import DEADLINE_S, IpcConnection, Renew, Stream
from monodon.component.link import IotPublish, Secret, State, shadow_topic
from monodon.component.messages import INVALID_MESSAGE, Message
from monodon.component.subscription import Closing, Mailbox
from monodon.core.json import Json
from monodon.core.policy import MQTT_PROXY, PUBSUB, SECRET_MANAGER, SHADOW_MANAGER, grant
from monodon.errors import IpcError

logger = logging.getLogger(__name__)

#: Seconds until a changed configuration that could not be read is asked for again.
RETRY_S = 1.0


@asynccontextmanager
async def connect(
    *,
    socket: str,
    token: str,
    deadline_s: float = DEADLINE_S,
    first_delay_s: float = 0.1,
    longest_delay_s: float = 5.0,
    renew: Renew | None = None,
) -> "AsyncIterator[IpcLink]":
    """Connect to a nucleus and stay connected until the block ends; then nothing is left of it.

    Args:
        socket: where it listens.
        token: what lets this process in.
        deadline_s: how long any call may take.
        first_delay_s: after which a lost connection is made again; it doubles up to ``longest_delay_s``.
        longest_delay_s: the longest pause between two attempts.
        renew: asked for socket and token before each reconnection, of one who may know those of a restarted nucleus.

    Raises:
        IpcError: no nucleus within ``deadline_s``, or it refuses the token (``AccessDenied``); also, by cancelling
            the block, when after a reconnection it refuses the token for good.
    """
    failure: Exception | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            connection = IpcConnection(socket, token, tasks, deadline_s, first_delay_s, longest_delay_s, renew)
            try:
                await connection.open()
                yield IpcLink(connection)
            except Exception as error:
                failure = error  # raised below, since the group would wrap it
            finally:
                await connection.close()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    if failure is not None:
        raise failure


class IpcLink:
    """A :class:`~monodon.component.link.Link` over IPC; made by :func:`connect`."""

    def __init__(self, connection: IpcConnection) -> None:
        self._ipc = connection
        self._name = "<component>"

    @property
    def connection(self) -> IpcConnection:
        """What its calls go over, for a tool that makes others."""
        return self._ipc

    @contextmanager
    def _needing(self, service: str, operation: str, resource: str) -> Iterator[None]:
        """Let a refusal say which access would do."""
        try:
            yield
        except IpcError as error:
            if error.code == "UnauthorizedError" and not resource:
                error.hint = "no policy allows an empty topic or name"
            elif error.code == "UnauthorizedError":
                block = json.dumps(grant(self._name, service, f"aws.greengrass#{operation}", resource))
                error.hint = f"add this to the component's configuration: {block}"
            raise

    async def publish(self, topic: str, content: Mapping[str, Json] | bytes) -> None:
        """Publish a JSON object or bytes to local subscribers."""
        if isinstance(content, bytes):
            message = model.PublishMessage(binary_message=model.BinaryMessage(message=content))
        else:
            message = model.PublishMessage(json_message=model.JsonMessage(message=dict(content)))
        request = model.PublishToTopicRequest(topic=topic, publish_message=message)
        with self._needing(PUBSUB, "PublishToTopic", topic):
            await self._ipc.call("publish_to_topic", request)

    async def subscribe(self, topic_filter: str, mailbox: Mailbox, *, own_messages: bool | None) -> Closing:
        """Deliver what is published on the device."""
        modes = {None: None, True: "RECEIVE_ALL_MESSAGES", False: "RECEIVE_MESSAGES_FROM_OTHERS"}
        stream = Stream(
            title=f"subscribe to {topic_filter}",
            operation_name="subscribe_to_topic",
            request=model.SubscribeToTopicRequest(topic=topic_filter, receive_mode=modes[own_messages]),
            deliver=lambda event: mailbox.put(_local_message(event)),
            gap=mailbox.gap,
            fail=mailbox.fail,
        )
        with self._needing(PUBSUB, "SubscribeToTopic", topic_filter):
            return await self._ipc.subscribe(stream)

    async def publish_to_iot(self, message: IotPublish) -> None:
        """Hand a message for AWS IoT Core to the nucleus."""
        properties = [model.UserProperty(key=key, value=value) for key, value in message.user_properties]
        request = model.PublishToIoTCoreRequest(
            topic_name=message.topic,
            qos=str(message.qos),
            payload=message.payload,
            retain=message.retain or None,
            user_properties=properties or None,
            message_expiry_interval_seconds=message.message_expiry_s,
            response_topic=message.response_topic,
            correlation_data=message.correlation_data,
            content_type=message.content_type,
        )
        with self._needing(MQTT_PROXY, "PublishToIoTCore", message.topic):
            await self._ipc.call("publish_to_iot_core", request)

    async def subscribe_to_iot(self, topic_filter: str, mailbox: Mailbox, *, qos: int) -> Closing:
        """Deliver what comes from AWS IoT Core."""
        stream = Stream(
            title=f"subscribe to {topic_filter} of AWS IoT Core",
            operation_name="subscribe_to_iot_core",
            request=model.SubscribeToIoTCoreRequest(topic_name=topic_filter, qos=str(qos)),
            deliver=lambda event: mailbox.put(_iot_message(event.message)),
            gap=mailbox.gap,
            fail=mailbox.fail,
        )
        with self._needing(MQTT_PROXY, "SubscribeToIoTCore", topic_filter):
            return await self._ipc.subscribe(stream)

    async def report(self, state: State) -> None:
        """Report the component's own state."""
        await self._ipc.call("update_state", model.UpdateStateRequest(state=state.value))

    async def configuration(self) -> tuple[str, Mapping[str, Json]]:
        """Return the component's name and its whole configuration ("" and nothing if it has none)."""
        try:
            response = await self._ipc.call("get_configuration", model.GetConfigurationRequest(key_path=[]))
        except IpcError as error:
            if error.code != "ResourceNotFoundError":
                raise
            return "", {}
        self._name = response.component_name or self._name
        return response.component_name or "", response.value or {}

    async def update_configuration(self, changes: Mapping[str, Json]) -> None:
        """Merge ``changes`` into the component's own configuration, as of now."""
        now = datetime.datetime.now(datetime.UTC)
        request = model.UpdateConfigurationRequest(key_path=[], timestamp=now, value_to_merge=dict(changes))
        await self._ipc.call("update_configuration", request)

    async def watch_configuration(
        self, changed: Callable[[Mapping[str, Json]], None], validate: Callable[[Mapping[str, Json]], str | None]
    ) -> None:
        """Call ``changed`` after each change, and let ``validate`` judge what a deployment proposes."""
        news = asyncio.Event()
        news.set()  # what changed before the subscription is seen as well
        await self._ipc.subscribe(
            Stream(
                title="watch the configuration",
                operation_name="subscribe_to_configuration_update",
                request=model.SubscribeToConfigurationUpdateRequest(key_path=[]),
                deliver=lambda _: self._ipc.later(news.set),
                gap=news.set,
                fail=_log_lost,
            )
        )
        self._ipc.spawn(self._follow(news, changed), "configuration")
        try:
            await self._ipc.subscribe(
                Stream(
                    title="validate configurations",
                    operation_name="subscribe_to_validate_configuration_updates",
                    request=model.SubscribeToValidateConfigurationUpdatesRequest(),
                    deliver=lambda event: self._ipc.later(self._judge, event, validate),
                    gap=_nothing,
                    fail=_log_lost,
                )
            )
        except IpcError as error:
            logger.debug("new configurations are judged only after they are applied: %s", error)

    async def _follow(self, news: asyncio.Event, changed: Callable[[Mapping[str, Json]], None]) -> None:
        while True:
            await news.wait()
            news.clear()
            try:
                _, configuration = await self.configuration()
            except IpcError as error:
                logger.warning("the changed configuration could not be read, trying again: %s", error)
                news.set()
                await asyncio.sleep(RETRY_S)
            else:
                changed(configuration)

    def _judge(self, event: Any, validate: Callable[[Mapping[str, Json]], str | None]) -> None:
        if not self._ipc.is_closing:
            self._ipc.spawn(self._answer(event.validate_configuration_update_event, validate), "validation")

    async def _answer(self, proposal: Any, validate: Callable[[Mapping[str, Json]], str | None]) -> None:
        refusal = validate(proposal.configuration or {})
        if refusal is not None:
            logger.error("a deployment proposes a configuration that is refused: %s", refusal)
        report = model.ConfigurationValidityReport(
            status="ACCEPTED" if refusal is None else "REJECTED",
            deployment_id=proposal.deployment_id,
            message=refusal,
        )
        request = model.SendConfigurationValidityReportRequest(configuration_validity_report=report)
        try:
            await self._ipc.call("send_configuration_validity_report", request)
        except IpcError as error:
            logger.warning("the verdict on a new configuration was not taken: %s", error)

    async def watch_updates(self, recheck_s: Callable[[], float]) -> None:
        """Answer each deployment that is about to apply with what ``recheck_s`` returns."""
        await self._ipc.subscribe(
            Stream(
                title="watch for deployments",
                operation_name="subscribe_to_component_updates",
                request=model.SubscribeToComponentUpdatesRequest(),
                deliver=lambda event: self._ipc.later(self._on_update, event.pre_update_event, recheck_s),
                gap=_nothing,
                fail=lambda error: logger.error("deployments no longer wait for this component: %s", error),
            )
        )

    def _on_update(self, event: Any, recheck_s: Callable[[], float]) -> None:
        if event is not None and not self._ipc.is_closing:
            self._ipc.spawn(self._defer(event.deployment_id, recheck_s()), "deferral")

    async def _defer(self, deployment_id: str, recheck_s: float) -> None:
        if recheck_s:
            logger.info("deployment %s shall wait: busy", deployment_id)
        request = model.DeferComponentUpdateRequest(
            deployment_id=deployment_id, message="busy" if recheck_s else None, recheck_after_ms=round(recheck_s * 1000)
        )
        try:
            await self._ipc.call("defer_component_update", request)
        except IpcError as error:
            logger.warning("the answer to deployment %s was not taken: %s", deployment_id, error)

    async def secret(self, name: str, *, version_id: str | None, stage: str | None) -> Secret:
        """Return a version of a secret."""
        request = model.GetSecretValueRequest(secret_id=name, version_id=version_id, version_stage=stage)
        with self._needing(SECRET_MANAGER, "GetSecretValue", name if name.startswith("arn:") else "*"):
            response = await self._ipc.call("get_secret_value", request)
        found = response.secret_value
        text, binary = (found.secret_string, found.secret_binary) if found is not None else (None, None)
        value = text if text is not None else binary
        if value is None:
            raise IpcError(f"the secret {name} came without a value", code=INVALID_MESSAGE)
        return Secret(
            arn=response.secret_id or name,
            version_id=response.version_id or "",
            stages=tuple(response.version_stage or ()),
            value=value,
        )

    async def shadow(self, thing: str, name: str) -> Mapping[str, Json] | None:
        """Return a shadow's document; None if there is none."""
        request = model.GetThingShadowRequest(thing_name=thing, shadow_name=name)
        try:
            with self._needing(SHADOW_MANAGER, "GetThingShadow", shadow_topic(thing, name)):
                response = await self._ipc.call("get_thing_shadow", request)
        except IpcError as error:
            if error.code != "ResourceNotFoundError":
                raise
            return None
        return _document(response.payload)

    async def update_shadow(self, thing: str, name: str, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """Update a shadow; return what was accepted."""
        payload = json.dumps(request, ensure_ascii=False).encode()
        update = model.UpdateThingShadowRequest(thing_name=thing, shadow_name=name, payload=payload)
        with self._needing(SHADOW_MANAGER, "UpdateThingShadow", shadow_topic(thing, name)):
            response = await self._ipc.call("update_thing_shadow", update)
        return _document(response.payload)

    async def delete_shadow(self, thing: str, name: str) -> None:
        """Delete a shadow."""
        request = model.DeleteThingShadowRequest(thing_name=thing, shadow_name=name)
        with self._needing(SHADOW_MANAGER, "DeleteThingShadow", shadow_topic(thing, name)):
            await self._ipc.call("delete_thing_shadow", request)


def _document(payload: bytes | None) -> Mapping[str, Json]:
    try:
        document = json.loads(payload or b"")
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise IpcError("the nucleus answered with no shadow document", code=INVALID_MESSAGE)
    return document


def _nothing() -> None:
    """A gap between proposals needs no action: a deployment that waits asks no second time."""


def _log_lost(error: IpcError) -> None:
    logger.error("changes of the configuration are no longer seen: %s", error)


def _local_message(event: Any) -> Message:
    """The topic is the one published on, not the filter (ipc.md 4.1)."""
    part = event.json_message or event.binary_message
    topic = part.context.topic if part.context is not None else ""
    return Message(topic=topic or "", content=part.message if part.message is not None else b"")


def _iot_message(message: Any) -> Message:
    properties = message.user_properties or []
    return Message(
        topic=message.topic_name or "",
        content=message.payload or b"",
        retain=bool(message.retain),
        user_properties=tuple((item.key, item.value) for item in properties),
        response_topic=message.response_topic,
        correlation_data=message.correlation_data,
        content_type=message.content_type,
    )
