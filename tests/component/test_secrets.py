"""Secrets, the same in memory and over IPC."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from monodon.component.component import Component
from monodon.errors import IpcError

ONE = "com.example.One"


@dataclass(frozen=True)
class Settings:
    pass


class World(Protocol):
    def open(self, settings: Settings, *, name: str) -> AbstractAsyncContextManager[Component[Settings]]: ...

    def put_secret(self, name: str, value: str | bytes) -> None: ...


@pytest.fixture(autouse=True)
async def _in_time() -> Any:
    async with asyncio.timeout(20):
        yield


async def test_a_secret_is_found_by_name_and_by_arn(world: World) -> None:
    world.put_secret("camera", '{"user": "orca", "password": "kelp"}')
    async with world.open(Settings(), name=ONE) as one:
        secret = await one.secret("camera")
        assert secret.json == {"user": "orca", "password": "kelp"}
        assert "AWSCURRENT" in secret.stages
        assert (await one.secret(secret.arn, version_id=secret.version_id)).text == secret.text
        assert "kelp" not in repr(secret)


async def test_binary_secrets_are_bytes(world: World) -> None:
    world.put_secret("key", b"\xff\x00")
    async with world.open(Settings(), name=ONE) as one:
        secret = await one.secret("key")
        assert secret.value == b"\xff\x00"
        with pytest.raises(IpcError, match="is not text"):
            _ = secret.text


async def test_what_the_device_does_not_have_is_not_found(world: World) -> None:
    world.put_secret("camera", "x")
    async with world.open(Settings(), name=ONE) as one:
        for name, stage in (("door", None), ("camera", "AWSPENDING")):
            with pytest.raises(IpcError) as caught:
                await one.secret(name, stage=stage)
            assert caught.value.code == "ResourceNotFoundError"


async def test_what_is_no_json_never_shows_its_value(world: World) -> None:
    world.put_secret("camera", "kelp{")
    async with world.open(Settings(), name=ONE) as one:
        secret = await one.secret("camera")
        with pytest.raises(IpcError, match="is not JSON") as caught:
            _ = secret.json
    assert "kelp" not in str(caught.value)


async def test_a_rotated_secret_keeps_its_former_version(world: World) -> None:
    async with world.open(Settings(), name=ONE) as one:
        world.put_secret("camera", "first")
        first = await one.secret("camera")
        world.put_secret("camera", "second")
        assert (await one.secret("camera")).text == "second"
        assert (await one.secret("camera", stage="AWSPREVIOUS")).text == "first"
        assert (await one.secret("camera", version_id=first.version_id)).text == "first"
        with pytest.raises(IpcError) as caught:
            await one.secret("camera", version_id=first.version_id, stage="AWSPREVIOUS")
        assert caught.value.code == "ServiceError"
