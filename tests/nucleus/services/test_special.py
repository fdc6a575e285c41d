"""Operations for special components alone, through awsiotsdk: ipc.md 4.8."""

from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

A, STREAM_MANAGER = "com.example.A", "aws.greengrass.StreamManager"
METRIC = model.Metric(name="n", unit="COUNT", value=1.5)


async def test_only_the_stream_manager_asks_for_tokens(device: Any) -> None:
    with pytest.raises(model.UnauthorizedError):
        await (await device.client(A)).call("validate_authorization_token", token="good")
    client = await device.client(STREAM_MANAGER)
    assert (await client.call("validate_authorization_token", token="good")).is_valid is True
    for token in (None, "bad"):
        with pytest.raises(model.InvalidTokenError):
            await client.call("validate_authorization_token", token=token)


async def test_only_components_of_aws_put_metrics(device: Any) -> None:
    everything = {"p": {"operations": ["*"], "resources": ["n"]}}
    for name in (A, "aws.example.B"):
        device.install(name, {"accessControl": {"aws.greengrass.ipc.componentmetric": everything}})
    with pytest.raises(model.UnauthorizedError):
        await (await device.client(A)).call("put_component_metric", metrics=[METRIC])
    with pytest.raises(model.UnauthorizedError):
        await (await device.client("aws.example.C")).call("put_component_metric", metrics=[METRIC])
    client = await device.client("aws.example.B")
    await client.call("put_component_metric", metrics=[METRIC])
    with pytest.raises(model.UnauthorizedError):
        await client.call("put_component_metric", metrics=[METRIC, model.Metric(name="m", unit="COUNT", value=1)])
    await (await device.client(STREAM_MANAGER)).call("put_component_metric", metrics=[METRIC])
    assert {key: [sample.value for sample in samples] for key, samples in device.metrics.samples.items()} == {
        ("aws.example.B", "n"): [1.5],
        (STREAM_MANAGER, "n"): [1.5],
    }


@pytest.mark.parametrize(
    "metrics",
    [
        None,
        [],
        [model.Metric(name="", unit="COUNT", value=1)],
        [model.Metric(name="x" * 33, unit="COUNT", value=1)],
        [model.Metric(name="n", unit="PARSECS", value=1)],
        [model.Metric(name="n", unit="COUNT", value=-1)],
        [model.Metric(name="n", unit="COUNT")],
        [METRIC, model.Metric(name="n", unit="COUNT", value=-1)],
    ],
)
async def test_metrics_are_checked_before_any_is_taken(device: Any, metrics: Any) -> None:
    with pytest.raises(model.InvalidArgumentsError):
        await (await device.client(STREAM_MANAGER)).call("put_component_metric", metrics=metrics)
    assert device.metrics.samples == {}


async def test_what_is_not_offered_says_so(device: Any) -> None:
    client = await device.client(A)
    certificate = model.ClientDeviceCredential(client_device_certificate="x")
    for operation, fields in (
        ("verify_client_device_identity", {"credential": certificate}),
        ("get_client_device_auth_token", {}),
        ("authorize_client_device_action", {}),
    ):
        with pytest.raises(model.ServiceError) as unsupported:
            await client.call(operation, **fields)
        assert "is not supported by Greengrass" in unsupported.value.message
    with pytest.raises(model.ServiceError):
        await client.stream("subscribe_to_certificate_updates")


async def test_a_debug_password_is_good_for_eight_hours(device: Any) -> None:
    with pytest.raises(model.UnauthorizedError):
        await (await device.client(A)).call("create_debug_password")
    client = await device.client("greengrass-cli#user-1")
    made = await client.call("create_debug_password")
    other = await client.call("create_debug_password")
    assert made.username == "debug"
    assert len(made.password) == 32
    assert made.password != other.password
    assert made.password_expiration.timestamp() == device.now_ms / 1000 + 8 * 3600
    assert (made.certificate_sha256_hash, made.certificate_sha1_hash) == (None, None)
    assert device.debug_passwords.allows("debug", made.password)
    assert not device.debug_passwords.allows("root", made.password)
    assert not device.debug_passwords.allows("debug", "x")
    device.now_ms += 8 * 3600 * 1000
    assert not device.debug_passwords.allows("debug", made.password)
