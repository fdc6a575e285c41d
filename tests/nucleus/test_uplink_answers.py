"""What the cloud says of client devices and secrets: read, refused, or senseless."""

import json
from typing import Any

import pytest

from monodon.errors import NetworkError
from monodon.nucleus.cloud_secrets import FetchedSecret
from monodon.nucleus.uplink.client_devices import CloudRegistry
from monodon.nucleus.uplink.exchange import Answer, Request
from monodon.nucleus.uplink.secrets import SecretsManager

SECRET = {"Name": "n", "ARN": "arn:x", "VersionId": "v", "VersionStages": ["AWSCURRENT"], "SecretString": "hunter2"}


class Plane:
    """A data plane with one answer."""

    def __init__(self, body: Any, status: int = 200, kind: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = Answer(status=status, headers={"x-amzn-errortype": kind} if kind else {}, body=content)

    async def call(self, method: str, path: str, body: Any = None) -> Answer:
        return self.answer

    async def ask_service(self, service: str, request: Request) -> Answer:
        return self.answer


def registry(plane: Plane) -> CloudRegistry:
    return CloudRegistry(plane, "core")  # type: ignore[arg-type]


def secrets(plane: Plane) -> SecretsManager:
    return SecretsManager(plane)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("plane", "is_so"),
    [
        (Plane({"clientDeviceCertificateId": "x"}), True),
        (Plane({}, 404, "ResourceNotFoundException"), False),
        (Plane({}, 400, "ValidationException:http://internal"), False),
        (Plane({}, 404), False),
        (Plane({}, 404, "UnknownOperationException"), None),
        (Plane({}, 403, "AccessDeniedException"), None),
        (Plane(b"<html>", 200), None),
    ],
)
async def test_only_a_refusal_that_is_about_the_device_counts(plane: Plane, is_so: bool | None) -> None:
    if is_so is None:
        with pytest.raises(NetworkError):
            await registry(plane).is_active("pem")
        with pytest.raises(NetworkError):
            await registry(plane).is_attached("t", "c")
    else:
        assert await registry(plane).is_active("pem") is is_so
        assert await registry(plane).is_attached("t", "c") is is_so


@pytest.mark.parametrize(
    "body", [b"", b"x", b"[]", b'{"connectivityInfo": 5}', b'{"connectivityInfo": [5]}', b'{"connectivityInfo": [{}]}']
)
async def test_senseless_lists_are_network_errors(body: bytes) -> None:
    renamed = body.replace(b"connectivityInfo", b"associatedClientDevices")
    if not body:
        assert await registry(Plane(body)).hosts() == ()
        assert await registry(Plane(body)).associated() == frozenset()
        return
    with pytest.raises(NetworkError):
        await registry(Plane(body)).hosts()
    with pytest.raises(NetworkError):
        await registry(Plane(renamed)).associated()


async def test_addresses_are_read_in_both_spellings() -> None:
    body = {"connectivityInfo": [{"hostAddress": "a"}, {"HostAddress": "b"}]}
    assert await registry(Plane(body)).hosts() == ("a", "b")
    assert await registry(Plane({}, 404)).hosts() == ()


async def test_a_secret_is_read() -> None:
    fetched = FetchedSecret(name="n", arn="arn:x", version_id="v", labels=("AWSCURRENT",), value="hunter2")
    assert await secrets(Plane(SECRET)).fetch("arn:x", "AWSCURRENT") == fetched
    assert "hunter2" not in repr(fetched)
    binary = {**SECRET, "SecretString": None, "SecretBinary": "AAE="}
    assert (await secrets(Plane(binary)).fetch("arn:x", "AWSCURRENT")).value == b"\0\1"


@pytest.mark.parametrize(
    "change",
    [
        {"Name": None},
        {"Name": "\ud800"},
        {"SecretString": 5},
        {"SecretString": None},
        {"SecretBinary": "?"},
        {"VersionStages": None},
        {"VersionStages": 5},
    ],
)
async def test_a_senseless_secret_is_a_network_error_without_its_value(change: dict[str, Any]) -> None:
    with pytest.raises(NetworkError) as refused:
        await secrets(Plane({**SECRET, **change})).fetch("arn:x", "AWSCURRENT")
    assert "hunter2" not in str(refused.value)


async def test_a_refusal_says_why_and_what_to_allow() -> None:
    plane = Plane({"__type": "AccessDeniedException", "Message": "not you"}, 400)
    with pytest.raises(NetworkError, match=r"AccessDeniedException: not you") as refused:
        await secrets(plane).fetch("arn:x", "AWSCURRENT")
    assert refused.value.hint is not None
    assert "secretsmanager:GetSecretValue" in refused.value.hint
    for body in (b"", b"x", b"[]"):
        with pytest.raises(NetworkError):
            await secrets(Plane(body)).fetch("arn:x", "AWSCURRENT")
