"""The data plane of AWS IoT: shadows over MQTT and HTTP, publishing, retained messages, connections.

A shadow's record stays after a delete, without its document, so that its versions go on counting as AWS's do.
"""

import base64
import functools
import json
import logging
import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from monodon.cloud.broker.identity import Identity
from monodon.cloud.context import RequestContext
from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.store import Store
from monodon.core import shadow as shadows
from monodon.core.json import Json, read_json
from monodon.core.shadow import Request, Shadow, ShadowError, Update
from monodon.core.topics import MAX_IOT_PAYLOAD_BYTES, iot_limit_problem, valid_iot_topic
from monodon.mqtt import Message

logger = logging.getLogger(__name__)

SHADOW_TOPICS: Final = "$aws/things/+/shadow/#"

_THING = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_SHADOW = re.compile(r"[$a-zA-Z0-9:_-]{1,64}")
_PAGE = 25
#: ShadowError's codes as the errors of the HTTP API.
_ERRORS: Final = {
    400: "InvalidRequestException",
    404: "ResourceNotFoundException",
    409: "ConflictException",
    413: "RequestEntityTooLargeException",
}


class Messages(Protocol):
    """What is needed of the broker (``broker.server.Broker``)."""

    def publish(
        self,
        topic: str,
        payload: bytes,
        qos: int = 1,
        retain: bool = False,
        *,
        user_properties: tuple[tuple[str, str], ...] = (),
        message_expiry_s: int | None = None,
        content_type: str | None = None,
        response_topic: str | None = None,
        correlation_data: bytes | None = None,
        payload_format: int = 0,
    ) -> None: ...
    def retained(self) -> Mapping[str, tuple[Message, float]]: ...
    def disconnect(self, client_id: str) -> bool: ...


class IotData:
    """Shadows and messages of the account; its methods are the operations of ``iot-data``.

    Args:
        broker: where messages leave, and where retained ones are kept.
        answer: what is said on a topic, for the parts of the cloud that answer reserved ones.
        thing_exists: whether there is such a thing; AWS keeps shadows of registered things alone over HTTP.
        now: seconds since the epoch.
        limit_bytes: of one shadow document as AWS counts it (8 KB, at request up to 30).
    """

    def __init__(
        self,
        *,
        store: Store,
        broker: Messages,
        now: Callable[[], float],
        answer: Callable[[str, bytes], None] = lambda topic, payload: None,
        thing_exists: Callable[[str], bool] = lambda thing: True,
        limit_bytes: int = shadows.DEFAULT_LIMIT_BYTES,
    ) -> None:
        self._store = store
        self._table = store.table("shadows")
        self._broker = broker
        self._now = now
        self._answer_request = answer
        self._thing_exists = thing_exists
        self._limit_bytes = limit_bytes
        self._watchers: list[Callable[[str, str | None, Shadow], None]] = []

    # For the cloud's other backends

    def update_shadow(
        self, thing: str, name: str | None, desired: Mapping[str, Json] | None = None, *, replace: bool = False
    ) -> Shadow:
        """Set what is desired of a thing, as the cloud itself: no size limit; things are told as of any update.

        ``replace`` clears what was desired before instead of merging.
        """
        before = self.shadow(thing, name)
        change: dict[str, Json] = dict(desired or {})
        if replace and before is not None:
            change = {**dict.fromkeys(before.desired.state), **change}
        return self._update(thing, name, Request(sections={"desired": change}), limit_bytes=None).shadow

    def shadow(self, thing: str, name: str | None) -> Shadow | None:
        """A thing's shadow; ``name`` None is the classic one."""
        record = self._table.get(_key(thing, name))
        return None if record is None or "desired" not in record else Shadow.from_record(record)

    def watch(self, callback: Callable[[str, str | None, Shadow], None]) -> None:
        """Call ``callback(thing, name, shadow)`` after each update, inside its transaction."""
        self._watchers.append(callback)

    def forget_thing(self, thing: str) -> None:
        """A thing was deleted: its shadows go with it."""
        with self._store.transaction():
            for key in list(self._table.keys(f"{thing}/")):
                self._table.delete(key)

    # Shadows over MQTT

    def handle(self, identity: Identity, topic: str, payload: bytes) -> None:
        """Answer a request on ``$aws/things/<thing>/shadow[/name/<name>]/get|update|delete``; others are ignored."""
        found = _read_topic(topic)
        if found is None:
            logger.debug("%s published on %s, which is no request", identity.client_id, topic)
            return
        thing, name, verb = found
        token = shadows.read_token(payload)
        try:
            with self._store.transaction():
                _check_names(thing, name)
                if verb == "update":
                    self._update(thing, name, shadows.read_request(payload), limit_bytes=self._limit_bytes)
                    return
                answer = self._get(thing, name) if verb == "get" else self._delete(thing, name, payload)
        except ShadowError as error:
            self._reject(topic, error, token)
            return
        if token is not None:
            answer["clientToken"] = token
        self._send(f"{topic}/accepted", answer)

    def _reject(self, topic: str, error: ShadowError, token: str | None) -> None:
        rejection: dict[str, Json] = {"code": error.code, "message": str(error), "timestamp": int(self._now())}
        if token is not None:
            rejection["clientToken"] = token
        self._send(f"{topic}/rejected", rejection)

    def _get(self, thing: str, name: str | None) -> dict[str, Json]:
        return shadows.document(self._existing(thing, name), int(self._now()))

    def _existing(self, thing: str, name: str | None) -> Shadow:
        shadow = self.shadow(thing, name)
        if shadow is None:
            raise ShadowError(404, f"No shadow exists with name: '{thing if name is None else f'{thing}~{name}'}'")
        return shadow

    def _update(self, thing: str, name: str | None, request: Request, *, limit_bytes: int | None) -> Update:
        key, now = _key(thing, name), int(self._now())
        record = self._table.get(key)
        first = 1 if record is None else record["version"] + 1
        before = self.shadow(thing, name)
        update = shadows.update(before, request, now, first_version=first, limit_bytes=limit_bytes)
        with self._store.transaction():
            self._table.put(key, update.shadow.to_record())
            topic = f"{_prefix(thing, name)}/update"
            self._send(f"{topic}/accepted", update.accepted)
            if update.delta is not None:
                self._send(f"{topic}/delta", update.delta)
            self._send(f"{topic}/documents", update.documents)
            for watcher in self._watchers:
                watcher(thing, name, update.shadow)
        return update

    def _delete(self, thing: str, name: str | None, payload: bytes = b"") -> dict[str, Json]:
        shadow = self._existing(thing, name)
        version = shadows.read_version(payload)
        if version is not None and version != shadow.version:
            raise ShadowError(409, "Version conflict")
        self._table.put(_key(thing, name), {"version": shadow.version})
        return {"version": shadow.version, "timestamp": int(self._now())}

    def _send(self, topic: str, payload: Mapping[str, Json]) -> None:
        data = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
        self._store.after_commit(lambda: self._broker.publish(topic, data))

    # Shadows over HTTP

    def get_thing_shadow(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``GetThingShadow``."""
        thing, name = self._names(request)
        return self._answer(lambda: self._get(thing, name))

    def update_thing_shadow(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``UpdateThingShadow``."""
        thing, name = self._names(request)
        payload = _bytes(request.get("payload"))

        def update() -> Mapping[str, Json]:
            return self._update(thing, name, shadows.read_request(payload), limit_bytes=self._limit_bytes).accepted

        return self._answer(update)

    def delete_thing_shadow(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``DeleteThingShadow``."""
        thing, name = self._names(request)

        def delete() -> Mapping[str, Json]:
            answer = self._delete(thing, name)
            self._send(f"{_prefix(thing, name)}/delete/accepted", answer)
            return answer

        return self._answer(delete)

    def list_named_shadows_for_thing(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``ListNamedShadowsForThing``: names, a page at a time; the token is the last name of the page before."""
        thing, _ = self._names(request)
        size, after = request.get("pageSize") or _PAGE, _read_token(request.get("nextToken"))
        prefix = f"{thing}/"
        names = [
            key.removeprefix(prefix)
            for key, record in self._table.items(prefix)
            if "desired" in record and key != prefix and key.removeprefix(prefix) > after
        ]
        output: dict[str, Json] = {"results": names[:size], "timestamp": int(self._now())}
        if len(names) > size:
            output["nextToken"] = _write_token(names[size - 1])
        return output

    def _names(self, request: Mapping[str, Json]) -> tuple[str, str | None]:
        thing = request["thingName"]
        if not self._thing_exists(thing):
            raise ServiceError("ResourceNotFoundException", f"No thing exists with name: '{thing}'")
        return thing, request.get("shadowName") or None

    def _answer(self, act: Callable[[], Mapping[str, Json]]) -> dict[str, Json]:
        try:
            with self._store.transaction():
                payload = act()
        except ShadowError as error:
            raise ServiceError(_ERRORS[error.code], str(error)) from error
        return {"payload": json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()}

    # Messages

    def publish(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``Publish``; on disk, for those who are away, before it is answered."""
        topic, payload = request["topic"], _bytes(request.get("payload"))
        problem = iot_limit_problem(topic) if valid_iot_topic(topic) else "it has a wildcard or is empty"
        if problem is not None:
            raise ServiceError("InvalidRequestException", f"The topic is not valid: {problem}")
        if len(payload) > MAX_IOT_PAYLOAD_BYTES:
            raise ServiceError("InvalidRequestException", f"The payload exceeds {MAX_IOT_PAYLOAD_BYTES} bytes")
        expiry, correlation = request.get("messageExpiry"), request.get("correlationData")
        send = functools.partial(
            self._broker.publish,
            topic,
            payload,
            int(request.get("qos") or 0),
            bool(request.get("retain")),
            user_properties=_read_properties(request.get("userProperties")),
            message_expiry_s=None if expiry is None else int(expiry),
            content_type=request.get("contentType"),
            response_topic=request.get("responseTopic"),
            correlation_data=None if correlation is None else _decode(correlation),
            payload_format=1 if request.get("payloadFormatIndicator") == "UTF8_DATA" else 0,
        )
        self._answer_request(topic, payload)
        self._store.after_commit(send)
        return {}

    def get_retained_message(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``GetRetainedMessage``."""
        topic = request["topic"]
        found = self._broker.retained().get(topic)
        if found is None:
            raise ServiceError("ResourceNotFoundException", f"There is no retained message on {topic}")
        message, at = found
        output: dict[str, Json] = {"topic": topic, "payload": message.payload, "qos": message.qos}
        output["lastModifiedTime"] = int(at * 1000)
        if message.user_properties:
            pairs = [{name: value} for name, value in message.user_properties]
            output["userProperties"] = json.dumps(pairs).encode()
        return output

    def list_retained_messages(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``ListRetainedMessages``: by topic, a page at a time."""
        size, after = request.get("maxResults") or 200, _read_token(request.get("nextToken"))
        found = sorted((topic, entry) for topic, entry in self._broker.retained().items() if topic > after)
        summaries = [
            {
                "topic": topic,
                "payloadSize": len(message.payload),
                "qos": message.qos,
                "lastModifiedTime": int(at * 1000),
            }
            for topic, (message, at) in found[:size]
        ]
        output: dict[str, Json] = {"retainedTopics": summaries}
        if len(found) > size:
            output["nextToken"] = _write_token(found[size - 1][0])
        return output

    def delete_connection(self, request: Mapping[str, Json], context: RequestContext) -> dict[str, Json]:
        """``DeleteConnection``: end a client's connection."""
        client_id = request["clientId"]
        if not self._broker.disconnect(client_id):
            raise ServiceError("ResourceNotFoundException", f"There is no connection of client {client_id}")
        return {}


def _key(thing: str, name: str | None) -> str:
    return f"{thing}/{name or ''}"


def _prefix(thing: str, name: str | None) -> str:
    return f"$aws/things/{thing}/shadow" + ("" if name is None else f"/name/{name}")


def _read_topic(topic: str) -> tuple[str, str | None, str] | None:
    levels = topic.split("/")
    if len(levels) < 5 or levels[:2] != ["$aws", "things"] or levels[3] != "shadow":
        return None
    name, rest = None, levels[4:]
    if len(rest) == 3 and rest[0] == "name":
        name, rest = rest[1], rest[2:]
    return (levels[2], name, rest[0]) if rest in (["get"], ["update"], ["delete"]) else None


def _check_names(thing: str, name: str | None) -> None:
    if not _THING.fullmatch(thing) or (name is not None and not _SHADOW.fullmatch(name)):
        raise ShadowError(400, "Invalid thing or shadow name")


def _bytes(value: Json) -> bytes:
    return value if isinstance(value, bytes) else (value or "").encode()


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ServiceError("InvalidRequestException", "correlationData is not base64") from error


def _read_properties(value: Json) -> tuple[tuple[str, str], ...]:
    """User properties: a list of objects with one pair each, in JSON, which the header carries in base64."""
    if not value:
        return ()
    try:
        if isinstance(value, str):
            value = read_json(value if value.lstrip().startswith("[") else base64.b64decode(value, validate=True))
        return tuple((str(name), str(text)) for pair in value for name, text in pair.items())
    except (ValueError, AttributeError, TypeError) as error:
        raise ServiceError("InvalidRequestException", "userProperties is not a list of pairs") from error


def _write_token(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_token(token: Json) -> str:
    try:
        return base64.urlsafe_b64decode(token).decode() if token else ""
    except ValueError as error:
        raise ServiceError("InvalidRequestException", "nextToken is not one of ours") from error
