"""Secrets through awsiotsdk: ipc.md 4.5."""

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
