"""States, component updates and pauses through awsiotsdk: ipc.md 4.4."""

import asyncio
from typing import Any

import pytest
from awsiot.greengrasscoreipc import model

A, B, C = "com.example.A", "com.example.B", "com.example.C"


@pytest.mark.parametrize("state", ["RUNNING", "ERRORED"])
async def test_a_component_reports_its_state(device: Any, state: str) -> None:
    await (await device.client(C)).call("update_state", state=state)
    assert device.supervision.asked == [("report", C, state)]


@pytest.mark.parametrize("state", [None, "FINISHED", "running"])
async def test_other_states_are_no_reports(device: Any, state: str | None) -> None:
    with pytest.raises(model.ServiceError):
        await (await device.client(C)).call("update_state", state=state)


async def test_a_stranger_has_no_state(device: Any) -> None:
    client = await device.client("com.example.Unknown")
    with pytest.raises(model.ResourceNotFoundError):
        await client.call("update_state", state="RUNNING")
    with pytest.raises(model.ResourceNotFoundError):
        await client.stream("subscribe_to_component_updates")


async def test_an_update_waits_for_the_longest_deferral(device: Any) -> None:
    a, b = await device.client(A), await device.client(B)
    of_a = await a.stream("subscribe_to_component_updates")
    of_b = await b.stream("subscribe_to_component_updates")
    asked = asyncio.ensure_future(device.updates.ask("d1", 5))
    for events in (of_a, of_b):
        event = (await events.next()).pre_update_event
        assert (event.deployment_id, event.is_ggc_restarting) == ("d1", False)
    assert device.updates.awaited() == f"{A} (to agree), {B} (to agree)"
    await a.call("defer_component_update", deployment_id="d1", recheck_after_ms=1500, message="busy")
    assert device.updates.awaited() == f"{B} (to agree)"
    with pytest.raises(model.ServiceError):
        await a.call("defer_component_update", deployment_id="d1", recheck_after_ms=9000)
    assert not asked.done()
    await b.call("defer_component_update", deployment_id="d1", recheck_after_ms=0)
    assert await asked == 1.5
    assert device.updates.awaited() == f"{A} (defers by 1.5 s)"
    await device.updates.done("d1")
    assert (await of_a.next()).post_update_event.deployment_id == "d1"


async def test_no_answer_and_no_subscriber_mean_go_ahead(device: Any) -> None:
    assert await device.updates.ask("d1", 60) == 0
    client = await device.client(C)
    events = await client.stream("subscribe_to_component_updates")
    assert await device.updates.ask("d1", 0.05) == 0
    await events.next()
    with pytest.raises(model.ServiceError) as late:
        await client.call("defer_component_update", deployment_id="d1", recheck_after_ms=5)
    assert "Time limit" in late.value.message


async def test_deferrals_that_make_no_sense(device: Any) -> None:
    client = await device.client(C)
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("defer_component_update", deployment_id="d1")
    await client.stream("subscribe_to_component_updates")
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("defer_component_update", deployment_id=None)
    with pytest.raises(model.InvalidArgumentsError):
        await client.call("defer_component_update", deployment_id="d1", recheck_after_ms=-1)


async def test_pause_and_resume(device: Any) -> None:
    a = await device.client(A)
    await a.call("pause_component", component_name=B)
    with pytest.raises(model.InvalidArgumentsError):
        await a.call("pause_component", component_name=B)
    await a.call("resume_component", component_name=B)
    with pytest.raises(model.InvalidArgumentsError):
        await a.call("resume_component", component_name=B)
    assert device.supervision.asked == [("pause", B), ("pause", B), ("resume", B), ("resume", B)]


@pytest.mark.parametrize("operation", ["pause_component", "resume_component"])
async def test_pauses_are_checked_in_order(device: Any, operation: str) -> None:
    """The empty name before authorization, the unknown one after."""
    stranger, a = await device.client(C), await device.client(A)
    for name in (None, ""):
        with pytest.raises(model.InvalidArgumentsError):
            await stranger.call(operation, component_name=name)
    with pytest.raises(model.UnauthorizedError):
        await stranger.call(operation, component_name="com.example.X")
    with pytest.raises(model.ResourceNotFoundError):
        await a.call(operation, component_name="com.example.X")
