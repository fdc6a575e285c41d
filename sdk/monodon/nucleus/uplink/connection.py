"""One MQTT 5 connection to the cloud: awscrt's client, seen from asyncio.

awscrt calls back on threads of its own. Each callback does one thing, posting to the loop, and each of awscrt's futures
is copied into one of asyncio's, so that giving up on an answer never touches the original.

awscrt takes as long to load as the rest of the nucleus's start: it is loaded when the connection is opened.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from monodon.deadlines import timeout
from monodon.errors import ConfigurationError, NetworkError
from monodon.nucleus.identity import CloudIdentity
from monodon.nucleus.uplink.protocol import IotMessage

if TYPE_CHECKING:
    from awscrt import http, io, mqtt5

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 5.0
UNTRIED_STOP_TIMEOUT_S = 0.2
MIN_RECONNECT_MS = 100
MAX_RECONNECT_MS = 5_000
#: What AWS is told on the port of HTTPS. Source: IoT Core developer guide, "Device communication protocols".
TLS_PORT, ALPN = 443, "x-amzn-mqtt-ca"
_FAILURE = 0x80  # reason codes from here on are refusals

OnMessage = Callable[[IotMessage, tuple[int, ...]], None]
OnChange = Callable[[bool], None]


class Connection:
    """Keeps connecting from `open` to `close`; the session is rejoined each time.

    ``on_message`` gets every message with the identifiers of the subscriptions it matched (none when the server has
    no identifiers); ``on_change`` gets each change of ``is_connected``. Both are called on the loop.
    """

    def __init__(self, cloud: CloudIdentity, *, client_id: str, on_message: OnMessage, on_change: OnChange) -> None:
        self._cloud = cloud
        self._client_id = client_id
        self._patience_s = cloud.mqtt.operation_timeout_s
        self._on_message = on_message
        self._on_change = on_change
        self._client: mqtt5.Client | None = None
        self._stopped = asyncio.Event()
        self._failures = 0
        self._is_stopping = False
        self._has_attempted = False
        self.is_connected = False
        self.is_session_present = False
        self.has_subscription_identifiers = False

    def open(self) -> None:
        """Begin to connect.

        Raises:
            ConfigurationError: the certificate, its key or the CA cannot be used.
        """
        from awscrt import mqtt5

        self._loop = asyncio.get_running_loop()
        self._client = mqtt5.Client(client_options=self._options())
        self._client.start()

    async def close(self) -> None:
        """Disconnect, and connect no more."""
        if self._client is None:
            return
        from awscrt import mqtt5

        self._is_stopping = True
        self._client.stop(mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.NORMAL_DISCONNECTION))
        # A client stopped before its first attempt never says that it has stopped.
        timeout_s = STOP_TIMEOUT_S if self._has_attempted else UNTRIED_STOP_TIMEOUT_S
        try:
            async with timeout(timeout_s):
                await self._stopped.wait()
        except TimeoutError:
            if self._has_attempted:
                log.warning("the MQTT client did not stop within %s s", STOP_TIMEOUT_S)
        self._changed(False)

    def send(self, message: IotMessage, qos: int) -> "asyncio.Future[str | None]":
        """Hand a message to the client, now and in order; what comes back is why the server refused it, or None.

        The result fails with NetworkError when nobody acknowledged. QoS 1 messages stay with the client when the
        connection breaks, and are sent again after the next connect.

        Raises:
            NetworkError: the client could not take it.
        """
        from awscrt import mqtt5

        if self._client is None:
            raise NetworkError(f"publishing on {message.topic} failed: there is no connection yet")
        packet = mqtt5.PublishPacket(
            topic=message.topic,
            payload=message.payload,
            qos=mqtt5.QoS(qos),
            retain=message.retain,
            payload_format_indicator=None
            if message.payload_format is None
            else mqtt5.PayloadFormatIndicator(message.payload_format),
            message_expiry_interval_sec=message.message_expiry_s,
            response_topic=message.response_topic,
            correlation_data_bytes=message.correlation_data,
            content_type=message.content_type,
            user_properties=[mqtt5.UserProperty(name=name, value=value) for name, value in message.user_properties],
        )
        try:
            answer = self._client.publish(packet)
        except Exception as error:
            raise NetworkError(f"publishing on {message.topic} failed: {error}") from error
        return self._copied(answer, f"publishing on {message.topic}", _refusal)

    async def publish(self, message: IotMessage, qos: int) -> None:
        """Send a message and wait until the server has it.

        Raises:
            NetworkError: refused, or no acknowledgement in time; it may still be delivered then.
        """
        if not self.is_connected:
            raise NetworkError(f"publishing on {message.topic} failed: the cloud is away")
        answer = self.send(message, qos)
        refusal = await _within(answer, self._patience_s, f"publishing on {message.topic}")
        if refusal is not None:
            raise NetworkError(f"publishing on {message.topic} was refused: {refusal}")

    async def subscribe(self, topic_filter: str, qos: int, identifier: int) -> bool:
        """Subscribe; False when the server refuses the filter.

        Raises:
            NetworkError: the connection broke, or no answer came in time.
        """
        from awscrt import mqtt5

        assert self._client is not None
        packet = mqtt5.SubscribePacket(
            subscriptions=[mqtt5.Subscription(topic_filter=topic_filter, qos=mqtt5.QoS(qos))],
            subscription_identifier=identifier if self.has_subscription_identifiers else None,
        )
        what = f"subscribing to {topic_filter}"
        codes = await _within(self._copied(self._client.subscribe(packet), what, _granted), self._patience_s, what)
        return all(code < _FAILURE for code in codes)

    async def unsubscribe(self, topic_filter: str) -> None:
        """Unsubscribe; a filter that the server doesn't know is fine.

        Raises:
            NetworkError: the connection broke, or no answer came in time.
        """
        from awscrt import mqtt5

        assert self._client is not None
        packet = mqtt5.UnsubscribePacket(topic_filters=[topic_filter])
        what = f"unsubscribing from {topic_filter}"
        await _within(self._copied(self._client.unsubscribe(packet), what, _nothing), self._patience_s, what)

    def _options(self) -> "mqtt5.ClientOptions":
        from awscrt import mqtt5

        cloud = self._cloud
        return mqtt5.ClientOptions(
            host_name=cloud.data_endpoint,
            port=cloud.mqtt.port,
            tls_ctx=_tls(cloud),
            http_proxy_options=_proxy(cloud),
            connect_options=mqtt5.ConnectPacket(
                client_id=self._client_id,
                keep_alive_interval_sec=cloud.mqtt.keep_alive_s,
                session_expiry_interval_sec=cloud.mqtt.session_expiry_s,
            ),
            session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
            offline_queue_behavior=mqtt5.ClientOperationQueueBehaviorType.FAIL_NON_QOS1_PUBLISH_ON_DISCONNECT,
            retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.FULL,
            min_reconnect_delay_ms=MIN_RECONNECT_MS,
            max_reconnect_delay_ms=MAX_RECONNECT_MS,
            min_connected_time_to_reset_reconnect_delay_ms=MAX_RECONNECT_MS,
            ping_timeout_ms=int(cloud.mqtt.ping_timeout_s * 1000),
            connack_timeout_ms=10_000,
            ack_timeout_sec=max(1, int(self._patience_s)),
            disable_metrics=True,
            on_publish_callback_fn=lambda data: self._post(self._received, data.publish_packet),
            on_lifecycle_event_attempting_connect_fn=lambda data: self._post(self._attempting),
            on_lifecycle_event_connection_success_fn=lambda data: self._post(self._succeeded, data),
            on_lifecycle_event_connection_failure_fn=lambda data: self._post(self._failed, data.exception),
            on_lifecycle_event_disconnection_fn=lambda data: self._post(self._lost, data.exception),
            on_lifecycle_event_stopped_fn=lambda data: self._post(self._stopped.set),
        )

    def _post(self, call: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop has closed: nobody is left to tell
            log.debug("the loop has closed before the MQTT client")

    def _attempting(self) -> None:
        self._has_attempted = True

    def _received(self, packet: "mqtt5.PublishPacket") -> None:
        self._on_message(_message(packet), tuple(packet.subscription_identifiers or ()))

    def _succeeded(self, data: "mqtt5.LifecycleConnectSuccessData") -> None:
        settings = data.negotiated_settings
        self.is_session_present = bool(settings.rejoined_session)
        self.has_subscription_identifiers = bool(settings.subscription_identifiers_available)
        self._failures = 0
        cloud = self._cloud
        log.info("connected to %s:%d as %s", cloud.data_endpoint, cloud.mqtt.port, self._client_id)
        self._changed(True)

    def _failed(self, error: Exception | None) -> None:
        self._failures += 1
        level = logging.WARNING if self._failures == 1 else logging.DEBUG
        cloud = self._cloud
        log.log(level, "no connection to %s:%d (%s); trying on", cloud.data_endpoint, cloud.mqtt.port, error)
        self._changed(False)

    def _lost(self, error: Exception | None) -> None:
        if self.is_connected and not self._is_stopping:
            log.warning("the connection to the cloud is lost (%s); trying again", error)
        self._changed(False)

    def _changed(self, is_connected: bool) -> None:
        if is_connected != self.is_connected:
            self.is_connected = is_connected
            self._on_change(is_connected)

    def _copied(self, future: Any, what: str, read: Callable[[Any], Any]) -> "asyncio.Future[Any]":
        copy: asyncio.Future[Any] = self._loop.create_future()

        def settle() -> None:
            if copy.done():
                return
            error = future.exception()
            if error is not None:
                copy.set_exception(NetworkError(f"{what} failed: {error}"))
                return
            copy.set_result(read(future.result()))

        future.add_done_callback(lambda _: self._post(settle))
        return copy


async def _within(answer: "asyncio.Future[Any]", timeout_s: float, what: str) -> Any:
    try:
        async with timeout(timeout_s):
            return await answer
    except TimeoutError:
        raise NetworkError(f"{what} was not answered within {timeout_s:g} s") from None


def _refusal(data: Any) -> str | None:
    if data.puback is None or int(data.puback.reason_code) < _FAILURE:
        return None
    return str(data.puback.reason_string or data.puback.reason_code.name)


def _granted(data: Any) -> list[int]:
    return [int(code) for code in data.reason_codes]


def _nothing(data: Any) -> None:
    return None


def _message(packet: "mqtt5.PublishPacket") -> IotMessage:
    return IotMessage(
        topic=packet.topic,
        payload=bytes(packet.payload or b""),
        retain=bool(packet.retain),
        user_properties=tuple((item.name, item.value) for item in packet.user_properties or ()),
        message_expiry_s=packet.message_expiry_interval_sec,
        correlation_data=packet.correlation_data_bytes,
        response_topic=packet.response_topic,
        payload_format=None if packet.payload_format_indicator is None else int(packet.payload_format_indicator),
        content_type=packet.content_type,
    )


def _proxy(cloud: CloudIdentity) -> "http.HttpProxyOptions | None":
    from awscrt import http

    proxy = cloud.proxy
    if proxy is None or not proxy.is_for(cloud.data_endpoint):
        return None
    way, kinds = http.HttpProxyConnectionType.Tunneling, http.HttpProxyAuthenticationType
    kind = kinds.Nothing if proxy.username is None else kinds.Basic
    return http.HttpProxyOptions(
        host_name=proxy.host,
        port=proxy.port,
        auth_type=kind,
        auth_username=proxy.username,
        auth_password=None if proxy.username is None else proxy.password or "",
        connection_type=way,
    )


def _tls(cloud: CloudIdentity) -> "io.ClientTlsContext":
    from awscrt import io

    try:
        options = io.TlsContextOptions.create_client_with_mtls_from_path(str(cloud.certificate), str(cloud.private_key))
        options.override_default_trust_store_from_path(None, str(cloud.root_ca))
        if cloud.mqtt.port == TLS_PORT:
            options.alpn_list = [ALPN]
        return io.ClientTlsContext(options)
    except Exception as error:
        raise ConfigurationError(
            f"{cloud.certificate} and {cloud.private_key} cannot be used for MQTT: {error}",
            hint="they must be PEM, with an EC P-256, P-384 or RSA key",
        ) from error
