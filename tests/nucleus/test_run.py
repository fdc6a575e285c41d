"""How a nucleus ends."""

import asyncio

from monodon.nucleus.run import End


async def test_a_restart_that_a_deployment_asks_for_ends_this_life() -> None:
    end = End()
    end.restart(100)
    async with asyncio.timeout(1):
        await end.wait()
    assert end.code == 100


async def test_who_says_stop_is_obeyed_also_during_a_restart() -> None:
    for asked in ((lambda end: end.restart(100), End.stop), (End.stop, lambda end: end.restart(100))):
        end = End()
        for ask in asked:
            ask(end)
        await end.wait()
        assert end.code is None
