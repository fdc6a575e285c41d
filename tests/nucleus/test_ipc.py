"""A whole nucleus and awsiotsdk's own client: every operation of the model has somebody who answers."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from awsiot.greengrasscoreipc import connect, model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2

from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.policy import SERVICES
from monodon.core.semver import Version
from monodon.ipc.operations import OPERATIONS
from monodon.nucleus.nucleus import TOOL, Nucleus, running
from monodon.nucleus.secrets import SECRETS_FOLDER, Secrets

A = "com.example.A"
EVERYTHING = {service: {"all": {"operations": ["*"], "resources": ["*"]}} for service in SERVICES}


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mn"))
    yield folder
    shutil.rmtree(folder)


def install(nucleus: Nucleus, name: str) -> None:
    configuration = EMPTY.merge((), {"accessControl": EVERYTHING, "colour": "red"}, at_ms=1)
    nucleus.state.put_installed(
        Installed(name=ComponentName(name), version=Version.parse("1.0.0"), configuration=configuration)
    )


@asynccontextmanager
async def client(nucleus: Nucleus, name: str) -> AsyncIterator[Callable[..., Any]]:
    """Call an operation as the component of that name."""
    made = await asyncio.to_thread(connect, ipc_socket=str(nucleus.socket), authtoken=nucleus.tokens.of(name))
    sdk = GreengrassCoreIPCClientV2(client=made)

    async def call(operation: str, **fields: Any) -> Any:
        async with asyncio.timeout(10):
            return await asyncio.wrap_future(getattr(sdk, f"{operation}_async")(**fields))

    try:
        yield call
    finally:
        await asyncio.to_thread(sdk.close)


async def test_shadows_secrets_metrics_and_tokens_of_a_real_nucleus(root: Path) -> None:
    async with AsyncExitStack() as stack:
        nucleus = await stack.enter_async_context(running(root))
        install(nucleus, A)
        call = await stack.enter_async_context(client(nucleus, A))
        manager = await stack.enter_async_context(client(nucleus, "aws.greengrass.StreamManager"))
        tool = await stack.enter_async_context(client(nucleus, TOOL))

        arn = Secrets(nucleus.root / SECRETS_FOLDER).put("camera", "hunter2").arn
        secret = await call("get_secret_value", secret_id="camera")
        assert (secret.secret_id, secret.secret_value.secret_string) == (arn, "hunter2")

        payload = json.dumps({"state": {"reported": {"lid": "open"}}}).encode()
        await call("update_thing_shadow", thing_name="t", shadow_name="s", payload=payload)
        metric = model.Metric(name="n", unit="COUNT", value=1)
        await manager("put_component_metric", metrics=[metric])
        with pytest.raises(model.UnauthorizedError):
            await call("put_component_metric", metrics=[metric])
        token = nucleus.tokens.of(A)
        assert (await manager("validate_authorization_token", token=token)).is_valid
        assert len((await tool("create_debug_password")).password) == 32

    async with AsyncExitStack() as stack:
        nucleus = await stack.enter_async_context(running(root))
        call = await stack.enter_async_context(client(nucleus, A))
        got = json.loads((await call("get_thing_shadow", thing_name="t", shadow_name="s")).payload)
        assert (got["state"], got["version"]) == ({"reported": {"lid": "open"}}, 1)


async def test_every_operation_of_the_model_is_offered(root: Path) -> None:
    async with running(root) as nucleus:
        assert {name for name in OPERATIONS if name not in nucleus.server.operations} == set()
