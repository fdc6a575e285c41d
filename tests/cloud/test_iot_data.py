"""Shadows over their topics and over HTTP, publishing, retained messages."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from monodon.cloud.broker.identity import Identity
from monodon.cloud.context import RequestContext
from monodon.cloud.iot_data import IotData
from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.mqtt import Message

CONTEXT = RequestContext(region="eu-west-1", account="123456789012")
CLASSIC = "$aws/things/one/shadow"
NAMED = "$aws/things/one/shadow/name/config"


@dataclass
class Messages:
    """A broker that only remembers."""

    published: list[tuple[str, bytes, dict[str, Any]]] = field(default_factory=list)
    kept: dict[str, tuple[Message, float]] = field(default_factory=dict)

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False, **properties: Any) -> None:
        self.published.append((topic, payload, {"qos": qos, "retain": retain, **properties}))

    def retained(self) -> dict[str, tuple[Message, float]]:
        return self.kept

    def disconnect(self, client_id: str) -> bool:
        return client_id == "one"


@dataclass
class World:
    store: Store
    broker: Messages = field(default_factory=Messages)
    now: float = 1_000.0

    def __post_init__(self) -> None:
        self.data = IotData(
            store=self.store, broker=self.broker, now=lambda: self.now, thing_exists=lambda thing: thing != "nobody"
        )

    def ask(self, topic: str, body: Json = None) -> dict[str, Json]:
        """Publish a request; return what is published because of it, by the end of the topic."""
        self.broker.published.clear()
        payload = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.data.handle(Identity(certificate_id="c", client_id="one"), topic, payload)
        base = topic.rsplit("/", 1)[0]
        return {name.removeprefix(f"{base}/"): json.loads(data) for name, data, _ in self.broker.published}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Store.open(tmp_path / "state") as store:
        yield World(store)


@pytest.mark.parametrize("shadow", [CLASSIC, NAMED])
def test_an_update_is_accepted_with_delta_and_documents(world: World, shadow: str) -> None:
    said = world.ask(f"{shadow}/update", {"state": {"desired": {"on": True}}, "clientToken": "t"})
    assert list(said) == ["update/accepted", "update/delta", "update/documents"]
    assert said["update/accepted"]["version"] == 1
    assert said["update/delta"]["state"] == {"on": True}
    assert said["update/documents"]["previous"] is None
    assert {body["clientToken"] for body in said.values()} == {"t"}
    said = world.ask(f"{shadow}/update", {"state": {"reported": {"on": True}}, "version": 1})
    assert list(said) == ["update/accepted", "update/documents"]
    answer = world.ask(f"{shadow}/get", {"clientToken": "g"})["get/accepted"]
    assert answer["state"] == {"desired": {"on": True}, "reported": {"on": True}}
    assert (answer["version"], answer["clientToken"]) == (2, "g")


def test_classic_and_named_shadows_are_apart(world: World) -> None:
    world.ask(f"{CLASSIC}/update", {"state": {"desired": {"a": 1}}})
    assert world.ask(f"{NAMED}/get")["get/rejected"]["code"] == 404


REFUSALS: list[tuple[str, Json, int]] = [
    (f"{CLASSIC}/get", None, 404),
    (f"{CLASSIC}/delete", None, 404),
    (f"{NAMED}/get", {"clientToken": "t"}, 404),
    (f"{CLASSIC}/update", b"{", 400),
    (f"{CLASSIC}/update", b'{"state": {"desired": {"a": NaN}}}', 400),
    (f"{CLASSIC}/update", rb'{"state": {"desired": {"a": "\ud800"}}}', 400),
    (f"{CLASSIC}/update", {"state": {"desired": 1}}, 400),
    (f"{CLASSIC}/update", {"state": {"desired": {"a": "x" * 9000}}}, 413),
    ("$aws/things/one/shadow/name/a b/update", {"state": {}}, 400),
]


@pytest.mark.parametrize(("topic", "body", "code"), REFUSALS)
def test_a_wrong_request_is_rejected_with_its_code(world: World, topic: str, body: Json, code: int) -> None:
    said = world.ask(topic, body)
    verb = topic.rsplit("/", 1)[1]
    assert said[f"{verb}/rejected"]["code"] == code
    assert said[f"{verb}/rejected"]["timestamp"] == 1000
    assert (
        said[f"{verb}/rejected"].get("clientToken") == (body or {}).get("clientToken")
        if isinstance(body, dict)
        else True
    )


def test_a_version_that_has_passed_is_a_conflict(world: World) -> None:
    for _ in range(2):
        world.ask(f"{NAMED}/update", {"state": {"desired": {"a": 1}}})
    assert world.ask(f"{NAMED}/update", {"state": {}, "version": 1})["update/rejected"]["code"] == 409


def test_versions_go_on_counting_after_a_delete(world: World) -> None:
    for _ in range(3):
        world.ask(f"{CLASSIC}/update", {"state": {"desired": {"a": 1}}})
    assert world.ask(f"{CLASSIC}/delete", {"version": 2})["delete/rejected"]["code"] == 409
    assert world.ask(f"{CLASSIC}/delete", {"clientToken": "d", "version": 3})["delete/accepted"] == {
        "version": 3, "timestamp": 1000, "clientToken": "d",
    }  # fmt: skip
    assert world.ask(f"{CLASSIC}/get")["get/rejected"]["code"] == 404
    assert world.ask(f"{CLASSIC}/update", {"state": {}})["update/accepted"]["version"] == 4


@pytest.mark.parametrize("topic", [f"{CLASSIC}/get/accepted", f"{CLASSIC}/x", "$aws/things/one/shadow", f"{NAMED}"])
def test_what_is_no_request_is_ignored(world: World, topic: str) -> None:
    assert world.ask(topic, {}) == {}


def test_the_cloud_itself_may_set_more_than_a_client(world: World) -> None:
    name = "AWSManagedGreengrassV2Deployment"
    desired = {"fleetConfig": "x" * 20_000, "desiredStatus": "IN_PROGRESS"}
    seen: list[tuple[str, str | None, int]] = []
    world.data.watch(lambda thing, shadow, document: seen.append((thing, shadow, document.version)))
    assert world.data.update_shadow("one", name, desired=desired).version == 1
    assert world.broker.published[0][0] == f"$aws/things/one/shadow/name/{name}/update/accepted"
    shadow = world.data.update_shadow("one", name, desired={"desiredStatus": "CANCELED"}, replace=True)
    assert shadow.desired.state == {"desiredStatus": "CANCELED"}
    assert seen == [("one", name, 1), ("one", name, 2)]


def test_messages_leave_after_the_commit_and_never_without_it(world: World) -> None:
    with pytest.raises(RuntimeError), world.store.transaction():
        world.data.update_shadow("one", None, desired={"a": 1})
        assert world.broker.published == []
        raise RuntimeError
    assert world.broker.published == []
    assert world.data.shadow("one", None) is None


def test_the_http_api_has_the_same_shadows(world: World) -> None:
    data, thing = world.data, {"thingName": "one"}
    payload = json.dumps({"state": {"desired": {"a": 1}}}).encode()
    answer = json.loads(
        data.update_thing_shadow({**thing, "shadowName": "config", "payload": payload}, CONTEXT)["payload"]
    )
    assert (answer["version"], answer["state"]) == (1, {"desired": {"a": 1}})
    assert world.ask(f"{NAMED}/get")["get/accepted"]["version"] == 1
    data.update_thing_shadow({**thing, "payload": payload}, CONTEXT)
    document = json.loads(data.get_thing_shadow(thing, CONTEXT)["payload"])
    assert document["state"] == {"desired": {"a": 1}, "delta": {"a": 1}}
    assert data.list_named_shadows_for_thing(thing, CONTEXT)["results"] == ["config"]
    data.delete_thing_shadow({**thing, "shadowName": "config"}, CONTEXT)
    assert data.list_named_shadows_for_thing(thing, CONTEXT)["results"] == []
    for call, code in (
        (lambda: data.get_thing_shadow({**thing, "shadowName": "config"}, CONTEXT), "ResourceNotFoundException"),
        (lambda: data.get_thing_shadow({"thingName": "nobody"}, CONTEXT), "ResourceNotFoundException"),
        (lambda: data.update_thing_shadow({**thing, "payload": b"{"}, CONTEXT), "InvalidRequestException"),
        (
            lambda: data.update_thing_shadow({**thing, "payload": b'{"state": {}, "version": 9}'}, CONTEXT),
            "ConflictException",
        ),
    ):
        with pytest.raises(ServiceError) as caught:
            call()
        assert caught.value.code == code


def test_named_shadows_are_listed_in_pages(world: World) -> None:
    for number in range(5):
        world.data.update_shadow("one", f"s{number}", desired={})
    found: list[str] = []
    request: dict[str, Json] = {"thingName": "one", "pageSize": 2}
    while True:
        page = world.data.list_named_shadows_for_thing(request, CONTEXT)
        found += page["results"]
        if "nextToken" not in page:
            break
        request["nextToken"] = page["nextToken"]
    assert found == ["s0", "s1", "s2", "s3", "s4"]


def test_publishing_checks_its_topic_and_passes_all_properties_on(world: World) -> None:
    request = {"topic": "a/b", "qos": 1, "payload": b"x", "retain": True, "userProperties": '[{"k": "v"}]'}
    world.data.publish(request, CONTEXT)
    topic, payload, options = world.broker.published[0]
    assert (topic, payload, options["qos"], options["retain"]) == ("a/b", b"x", 1, True)
    assert options["user_properties"] == (("k", "v"),)
    for bad in ("a/+", "", "a/b/c/d/e/f/g/h/i"):
        with pytest.raises(ServiceError):
            world.data.publish({"topic": bad, "payload": b""}, CONTEXT)


def test_retained_messages_are_read_and_listed(world: World) -> None:
    for number in range(3):
        message = Message(topic=f"t/{number}", payload=b"on", qos=1, retain=True)
        world.broker.kept[message.topic] = (message, 1_000.5)
    answer = world.data.get_retained_message({"topic": "t/1"}, CONTEXT)
    assert answer == {"topic": "t/1", "payload": b"on", "qos": 1, "lastModifiedTime": 1_000_500}
    page = world.data.list_retained_messages({"maxResults": 2}, CONTEXT)
    assert [each["topic"] for each in page["retainedTopics"]] == ["t/0", "t/1"]
    page = world.data.list_retained_messages({"maxResults": 2, "nextToken": page["nextToken"]}, CONTEXT)
    assert [each["topic"] for each in page["retainedTopics"]] == ["t/2"]
    with pytest.raises(ServiceError):
        world.data.get_retained_message({"topic": "none"}, CONTEXT)


def test_a_connection_can_be_ended(world: World) -> None:
    world.data.delete_connection({"clientId": "one"}, CONTEXT)
    with pytest.raises(ServiceError):
        world.data.delete_connection({"clientId": "two"}, CONTEXT)
