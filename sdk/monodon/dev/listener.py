"""What devices tell AWS IoT, heard by an operator with a certificate of their own."""

import json
import queue
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from monodon.errors import NetworkError
from monodon.fleet.aws import Aws, told

POLICY = "MonodonOperator"
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One message: its topic, and its payload as JSON (None if it is none)."""

    topic: str
    message: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """An identity that may listen to ``monodon/…``."""

    name: str
    certificate: bytes
    key: bytes


def make_operator(aws: Aws, name: str) -> Operator:
    """Make a certificate whose policy allows to listen to ``monodon/…`` and nothing else.

    Raises:
        FleetError: AWS refuses a call.
    """
    prefix = f"arn:aws:iot:{aws.region}:{aws.account}"
    statements = [
        {"Effect": "Allow", "Action": "iot:Connect", "Resource": f"{prefix}:client/{name}"},
        {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": f"{prefix}:topicfilter/monodon/*"},
        {"Effect": "Allow", "Action": "iot:Receive", "Resource": f"{prefix}:topic/monodon/*"},
    ]
    with told():
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        aws.iot.create_policy(policyName=POLICY, policyDocument=document)
        made = aws.iot.create_keys_and_certificate(setAsActive=True)
        aws.iot.attach_policy(policyName=POLICY, target=made["certificateArn"])
    return Operator(name=name, certificate=made["certificatePem"].encode(), key=made["keyPair"]["PrivateKey"].encode())


class Listener:
    """A connection to AWS IoT that hears the topics of one filter, in order."""

    def __init__(self, operator: Operator, ready: Mapping[str, Any], topic_filter: str) -> None:
        """Take the address and the certificate authority from what the cloud said when it was ready."""
        from awscrt import mqtt5
        from awsiot import mqtt5_client_builder

        self._heard: queue.SimpleQueue[Heard] = queue.SimpleQueue()
        self._connected: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._stopped: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._topic_filter = topic_filter
        self._mqtt5 = mqtt5
        self._client = mqtt5_client_builder.mtls_from_bytes(
            cert_bytes=operator.certificate,
            pri_key_bytes=operator.key,
            endpoint=ready["mqtt_host"],
            port=ready["mqtt_port"],
            ca_bytes=Path(ready["ca_file"]).read_bytes(),
            client_id=operator.name,
            on_publish_received=self._on_publish,
            on_lifecycle_connection_success=lambda _: self._connected.put(None),
            on_lifecycle_connection_failure=lambda data: self._connected.put(str(data.exception)),
            on_lifecycle_stopped=lambda _: self._stopped.put(None),
        )

    def __enter__(self) -> Self:
        """Connect and subscribe.

        Raises:
            NetworkError: that was refused, or took too long.
        """
        self._client.start()
        try:
            if (problem := self._connected.get(timeout=CONNECT_TIMEOUT_S)) is not None:
                raise NetworkError(f"cannot listen to the cloud's MQTT: {problem}")
            packet = self._mqtt5.SubscribePacket(
                subscriptions=[self._mqtt5.Subscription(self._topic_filter, qos=self._mqtt5.QoS.AT_LEAST_ONCE)]
            )
            answer = self._client.subscribe(packet).result(CONNECT_TIMEOUT_S)
        except (queue.Empty, TimeoutError):
            self._client.stop()
            raise NetworkError("the cloud's MQTT does not answer") from None
        if int(answer.reason_codes[0]) >= 0x80:
            raise NetworkError(f"the cloud refuses to tell of {self._topic_filter}: {answer.reason_codes[0]!r}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.stop()
        self._stopped.get(timeout=CONNECT_TIMEOUT_S)

    def next(self, deadline: float) -> Heard | None:
        """Return the next message, or None once ``time.monotonic()`` has passed ``deadline``."""
        try:
            return self._heard.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def _on_publish(self, data: Any) -> None:
        packet = data.publish_packet
        try:
            message = json.loads(packet.payload or b"null")
        except ValueError:
            message = None
        self._heard.put(Heard(topic=packet.topic, message=message))
