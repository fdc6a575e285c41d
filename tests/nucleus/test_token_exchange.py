"""Components get role credentials over HTTP on loopback, with their token alone."""

import asyncio
import json
from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest

from monodon.errors import NetworkError
from monodon.nucleus.services.token_exchange import TokenExchange
from monodon.nucleus.uplink.protocol import RoleCredentials

CREDENTIALS = RoleCredentials(
    access_key_id="AK", secret_access_key="SK", session_token="ST", expiration=datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)
)


def exchange(answer: RoleCredentials | NetworkError | None = CREDENTIALS) -> TokenExchange:
    async def credentials() -> RoleCredentials | None:
        if isinstance(answer, NetworkError):
            raise answer
        return answer

    return TokenExchange(authenticate={"token": "a.b"}.get, credentials=credentials)


async def ask(
    uri: str, *, token: str | None = "token", method: str = "GET", path: str | None = None
) -> tuple[int, str]:
    parts = urlsplit(uri)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    header = "" if token is None else f"Authorization: {token}\r\n"
    writer.write(f"{method} {path or parts.path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n".encode())
    head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert f"Content-Length: {len(body)}" in head
    return int(head.split(" ")[1]), body


async def test_a_component_gets_credentials_as_aws_sdks_read_them() -> None:
    async with exchange().serving() as uri:
        assert uri.startswith("http://localhost:")
        assert uri.endswith("/2016-11-01/credentialprovider/")
        status, body = await ask(uri)
    assert status == 200
    assert json.loads(body) == {
        "AccessKeyId": "AK",
        "SecretAccessKey": "SK",
        "Token": "ST",
        "Expiration": "2027-01-02T03:04:05Z",
    }


@pytest.mark.parametrize("token", [None, "", "other", "Token"])
async def test_without_a_components_token_there_is_nothing(token: str | None) -> None:
    async with exchange().serving() as uri:
        status, body = await ask(uri, token=token)
    assert status == 403
    assert "SK" not in body


async def test_other_paths_and_methods_are_refused() -> None:
    async with exchange().serving() as uri:
        assert (await ask(uri, path="/"))[0] == 404
        assert (await ask(uri, method="POST"))[0] == 405
        assert (await ask(uri, path="/2016-11-01/credentialprovider"))[0] == 200


async def test_a_cloud_that_is_away_is_an_error_of_the_server() -> None:
    async with exchange(NetworkError("nobody there")).serving() as uri:
        assert await ask(uri) == (500, '{"message": "nobody there"}')
    async with exchange(None).serving() as uri:
        assert (await ask(uri))[0] == 404


async def test_nonsense_and_silence_cost_nothing() -> None:
    async with exchange().serving() as uri:
        parts = urlsplit(uri)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"x" * 100_000)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        _, silent = await asyncio.open_connection(parts.hostname, parts.port)
        assert (await ask(uri))[0] == 200
        silent.close()


async def test_leaving_does_not_wait_for_a_cloud_that_does_not_answer() -> None:
    asked = asyncio.Event()

    async def never() -> RoleCredentials | None:
        asked.set()
        await asyncio.Event().wait()
        return None

    slow = TokenExchange(authenticate={"token": "a.b"}.get, credentials=never)
    async with asyncio.timeout(5), slow.serving() as uri:
        parts = urlsplit(uri)
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(f"GET {parts.path} HTTP/1.1\r\nAuthorization: token\r\n\r\n".encode())
        await asked.wait()
    writer.close()
