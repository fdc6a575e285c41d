"""A component as an author writes it: it answers on one topic what it hears on another."""

import asyncio
import logging
import sys
import time
from dataclasses import dataclass

from monodon.component import Component
from monodon.errors import ModelError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    heard: str = "echo/in"
    said: str = "echo/out"
    times: int = 1
    trouble: str = ""


async def main(component: Component[Settings]) -> None:
    settings = component.settings
    logger.info("settings %s, artifacts %s, work %s", settings, component.artifacts.name, component.work)
    async with component.subscribe(settings.heard) as messages:
        await component.ready()
        if settings.trouble:
            await make(settings.trouble)
        try:
            while settings.trouble == "talkative":
                await component.publish(settings.said, {"on": "and on"})
            async for message in messages:
                for _ in range(component.settings.times):
                    await component.publish(settings.said, {"echo": message.json, "of": component.name})
        finally:
            await component.publish(settings.said, {"bye": component.thing_name})


async def make(trouble: str) -> None:
    """Fail as ``trouble`` says."""
    match trouble:
        case "error":
            raise ModelError("labels.txt has 3 labels, the model 1000", hint="publish both again")
        case "crash":
            raise ValueError("two\nlines")
        case "group":
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(make("error"))
        case "stuck":
            print("here")
            try:
                await asyncio.Event().wait()
            finally:
                time.sleep(60)  # noqa: ASYNC251 - a library that blocks
        case "thread":
            await asyncio.to_thread(block)
        case "noise":
            logger.warning("a warning\nof two lines")
            sys.stdout.write("plain print\n")
        case "done":
            sys.exit(0)


def block() -> None:
    """Hold a thread for long."""
    print("here")
    time.sleep(60)


if __name__ == "__main__":
    Component.run(main, Settings)
