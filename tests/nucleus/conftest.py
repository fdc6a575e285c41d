"""What the tests of the nucleus share: a supervisor by itself, and a device whose cloud is a folder."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.nucleus.bench import Bench
from tests.nucleus.device import Cloud, Device
from tests.nucleus.device import device as running_device


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    async with asyncio.timeout(60), bench.supervisor:
        changes = bench.supervisor.changes()
        listening = asyncio.create_task(bench.listen(changes))
        yield bench
        await changes.aclose()
        await listening
    bench.logs.close()


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return Cloud(tmp_path / "cloud")


@pytest.fixture
async def device(tmp_path: Path, cloud: Cloud) -> AsyncIterator[Device]:
    async with running_device(tmp_path / "root", cloud) as one:
        yield one
