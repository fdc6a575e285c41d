"""A broker that is killed, not stopped: what it acknowledged is there when it comes back."""

import asyncio
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

SERVER = """
    import asyncio, ssl, sys
    from pathlib import Path
    from monodon.cloud.broker.identity import Identity
    from monodon.cloud.broker.server import Broker
    from monodon.cloud.certificates import MQTT_PROTOCOLS, CertificateAuthority, identify
    from monodon.cloud.store import Store

    async def main(folder, port):
        context = CertificateAuthority.open(folder).server_context(
            client_certificate=ssl.CERT_REQUIRED, protocols=MQTT_PROTOCOLS
        )
        with Store.open(folder) as store:
            broker = Broker(
                store=store,
                authenticate=lambda der: Identity(certificate_id=identify(der)),
                authorise=lambda *_: True,
            )
            async with broker.listen("127.0.0.1", port, context) as port:
                print(port, flush=True)
                await asyncio.Event().wait()

    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
"""


@asynccontextmanager
async def killed_broker(world: Any) -> AsyncIterator[None]:
    """The broker in a process of its own, killed at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", textwrap.dedent(SERVER), str(world.state), str(world.port), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        world.port = int(await asyncio.wait_for(process.stdout.readline(), 20.0))
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        await process.communicate()


@pytest.mark.slow
async def test_acknowledged_messages_sessions_and_retained_ones_survive_a_kill(world: Any) -> None:
    async with killed_broker(world):
        away = world.client("away", session_expiry_s=300)
        await away.start()
        await away.subscribe("mail/#")
        await away.stop()
        one = world.client("one", session_expiry_s=300)
        await one.start()
        await one.subscribe("for/one")
        for number in range(20):
            assert await one.publish(f"mail/{number}", b"%d" % number) == 0
        await one.publish("state", b"on", retain=True)
    async with killed_broker(world):
        assert (await one.until("connected")).session_present is True
        back = world.client("away", session_expiry_s=300)
        assert (await back.start()).session_present is True
        assert [(await back.receive()).payload for _ in range(20)] == [b"%d" % number for number in range(20)]
        await back.publish("for/one", b"found")
        assert (await one.receive()).payload == b"found"
        await back.subscribe("state")
        assert (await back.receive()).payload == b"on"
        await back.stop()
        await one.stop()
