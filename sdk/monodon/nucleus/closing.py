"""Stopping all components with the nucleus: those that need others first, all within one time.

Source: section 3.3 of the device notes.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from monodon.core.lifecycle import State
from monodon.core.names import ComponentName
from monodon.deadlines import timeout
from monodon.nucleus import orphans
from monodon.nucleus.member import Member
from monodon.nucleus.members import Members

_LOG = logging.getLogger(__name__)

UP = (State.STARTING, State.RUNNING)


async def close_all(
    members: Members,
    *,
    finish: Callable[[Member], None],
    wait_until: Callable[[Callable[[], bool]], Awaitable[None]],
    time_s: float,
) -> None:
    """Stop every member, and end what is left of them when the time is over.

    Args:
        finish: asks a member that is up, or stopping, to be FINISHED.
        wait_until: returns when something holds, asked after every change of a status.
    """
    for member in members:
        if member.status.state not in UP:
            member.status = replace(member.status, desired=())
    try:
        async with timeout(time_s), asyncio.TaskGroup() as group:
            closing: dict[ComponentName, asyncio.Task[None]] = {}
            for member in reversed(members.in_order()):
                names = [each.installed.name for each in members.dependers(member.installed.name)]
                before = [closing[name] for name in names if name in closing]
                closing[member.installed.name] = group.create_task(_close(member, before, finish, wait_until))
    except TimeoutError:
        _LOG.warning("components took longer than %g s to stop; they are ended at once", time_s)
    for member in members:
        await _drop(member, grace_s=0)


async def _close(
    member: Member,
    before: list[asyncio.Task[None]],
    finish: Callable[[Member], None],
    wait_until: Callable[[Callable[[], bool]], Awaitable[None]],
) -> None:
    if before:
        await asyncio.wait(before)
    if member.status.state in (*UP, State.STOPPING):
        finish(member)
        await wait_until(lambda: member.status.state is not State.STOPPING)
    elif member.status.state is State.BROKEN:
        await wait_until(lambda: not member.status.is_busy)
    await _drop(member, grace_s=orphans.GRACE_S)


async def _drop(member: Member, *, grace_s: float) -> None:
    if member.task is not None and not member.task.done():
        member.task.cancel()
        await asyncio.wait([member.task])
    await member.execution.end_all(grace_s=grace_s)
