"""Secrets through awsiotsdk: ipc.md 4.5."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

C = "com.example.C"


def allow(device: Any, *resources: str) -> None:
    policy = {"p": {"operations": ["aws.greengrass#GetSecretValue"], "resources": list(resources)}}
    device.install(C, {"accessControl": {"aws.greengrass.SecretManager": policy}})


async def test_secrets_by_name_arn_label_and_version(device: Any) -> None:
    first = device.secrets.put("camera", "one", version_id="v1")
    device.secrets.put("camera", b"\0two", version_id="v2", stages=("AWSCURRENT", "new"))
    allow(device, first.arn)
    client = await device.client(C)
    current = await client.call("get_secret_value", secret_id="camera")
    assert (current.secret_id, current.version_id) == (first.arn, "v2")
    assert current.version_stage == ["AWSCURRENT", "new"]
    assert current.secret_value.secret_binary == b"\0two"
    for wanted in ({"version_stage": "AWSPREVIOUS"}, {"version_id": "v1"}):
        old = await client.call("get_secret_value", secret_id=first.arn, **wanted)
        assert (old.version_id, old.secret_value.secret_string) == ("v1", "one")
    assert (await client.call("get_secret_value", secret_id="camera", refresh=True)).version_id == "v2"


async def test_requests_are_checked_in_order(device: Any) -> None:
    """The id before the policy, the version after it; a policy names the ARN, never the name."""
    secret = device.secrets.put("camera", "one")
    allow(device, "camera")
    client = await device.client(C)
    with pytest.raises(model.ServiceError):
        await client.call("get_secret_value", secret_id="")
    with pytest.raises(model.ResourceNotFoundError) as missing:
        await client.call("get_secret_value", secret_id="other")
    assert (missing.value.resource_type, missing.value.resource_name) == ("secret", "other")
    with pytest.raises(model.UnauthorizedError):
        await client.call("get_secret_value", secret_id="camera", version_id="v", version_stage="s")
    allow(device, secret.arn)
    with pytest.raises(model.ServiceError):
        await client.call("get_secret_value", secret_id="camera", version_id="v", version_stage="s")
    for wanted in ({"version_id": "v"}, {"version_stage": "s"}):
        with pytest.raises(model.ResourceNotFoundError):
            await client.call("get_secret_value", secret_id="camera", **wanted)


ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:fleet/camera-AbCdEf"


def configure(device: Any, arn: str = ARN, *labels: str) -> None:
    device.install("aws.greengrass.SecretManager", {"cloudSecrets": [{"arn": arn, "labels": list(labels)}]})


async def test_a_secret_that_is_configured_and_not_here_is_fetched(device: Any) -> None:
    allow(device, ARN)
    configure(device)
    client = await device.client(C)
    with pytest.raises(model.ResourceNotFoundError):
        await client.call("get_secret_value", secret_id="fleet/camera")
    device.secret_source.put(ARN, "AWSCURRENT", "v1", b"\0one")
    for secret_id in (ARN, "fleet/camera"):
        got = await client.call("get_secret_value", secret_id=secret_id)
        assert (got.secret_id, got.version_id, got.secret_value.secret_binary) == (ARN, "v1", b"\0one")
    assert device.secret_source.asked == [(ARN, "AWSCURRENT")] * 2


@pytest.mark.parametrize("secret_id", [ARN, ARN[:-7], "fleet/camera"])
async def test_an_arn_may_be_configured_without_its_last_characters(device: Any, secret_id: str) -> None:
    allow(device, ARN[:-7])
    configure(device, ARN[:-7])
    device.secret_source.put(ARN, "AWSCURRENT", "v1", "one")
    client = await device.client(C)
    if secret_id == ARN[:-7]:
        with pytest.raises(model.ResourceNotFoundError):  # a whole ARN or a name finds what is stored
            await client.call("get_secret_value", secret_id=secret_id)
        return
    assert (await client.call("get_secret_value", secret_id=secret_id)).secret_id == ARN


async def test_refresh_asks_the_cloud_and_falls_back_to_what_is_stored(device: Any) -> None:
    allow(device, ARN)
    configure(device, ARN, "next")
    source, client = device.secret_source, await device.client(C)

    async def value(**wanted: Any) -> Any:
        return (await client.call("get_secret_value", secret_id=ARN, **wanted)).secret_value.secret_string

    source.put(ARN, "AWSCURRENT", "v1", "one")
    assert await value() == "one"
    source.put(ARN, "AWSCURRENT", "v2", "two")
    assert await value() == "one"
    assert await value(refresh=True) == "two"
    source.put(ARN, "next", "v3", "three")
    assert await value(refresh=True, version_stage="next") == "three"
    source.secrets.clear()
    assert await value(refresh=True) == "two"
    asked = len(source.asked)
    source.is_connected = False
    assert await value(refresh=True) == "two"
    assert await value(refresh=True, version_id="v3") == "three"
    assert len(source.asked) == asked
    with pytest.raises(model.ResourceNotFoundError):
        await value(version_id="v1")  # it has no label any more
    with pytest.raises(model.ResourceNotFoundError):
        await value(version_stage="other", refresh=True)
    assert (ARN, "other") not in source.asked


async def test_a_policy_is_needed_before_anything_is_fetched(device: Any) -> None:
    configure(device)
    device.secret_source.put(ARN, "AWSCURRENT", "v1", "one")
    client = await device.client(C)
    for secret_id in (ARN, "fleet/camera"):
        with pytest.raises(model.UnauthorizedError):
            await client.call("get_secret_value", secret_id=secret_id, refresh=True)
    assert device.secret_source.asked == []


async def test_secrets_are_kept_as_they_are_configured(
    device: Any, until: Callable[[Callable[[], object]], Awaitable[None]]
) -> None:
    configure(device, ARN, "next")
    device.secret_source.put(ARN, "AWSCURRENT", "v1", "one")
    device.secret_source.put(ARN, "next", "v2", "two")
    device.secrets.put("mine", "local")
    keeping = asyncio.create_task(device.cloud_secrets.run())
    await until(lambda: device.secrets.find(ARN) is not None and set(device.secrets.find(ARN).versions) == {"v1", "v2"})
    configure(device, ARN)
    device.cloud_secrets.reconfigure()
    await until(lambda: set(device.secrets.find(ARN).versions) == {"v1"})
    device.secret_source.is_connected = False
    device.install("aws.greengrass.SecretManager", {"cloudSecrets": []})
    device.cloud_secrets.reconfigure()
    await until(lambda: device.secrets.names() == ["mine"])
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_a_secret_that_was_put_here_hides_the_clouds_of_its_name(device: Any) -> None:
    own = device.secrets.put("fleet/camera", "local")
    configure(device)
    device.secret_source.put(ARN, "AWSCURRENT", "v1", "one")
    assert not await device.cloud_secrets.refresh(ARN, "AWSCURRENT")
    assert device.secrets.find("fleet/camera") == own
