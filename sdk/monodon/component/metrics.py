"""A component's figures: kept in a bounded window, told to AWS IoT once a minute."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from monodon.component.link import IotPublish, Link
from monodon.core.metrics import REPORT_S, Window, shadow_update, update_topic
from monodon.errors import IpcError

logger = logging.getLogger(__name__)


class Metrics:
    """What a component measures of itself. Values may be added from any thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._window = Window()
        self._lock = threading.Lock()

    def add(self, name: str, value: float = 1.0) -> None:
        """Add a value of a metric; what is only counted has the value 1.

        Raises:
            ValueError: a name of more than 32 bytes, a 17th metric, or no finite number.
        """
        with self._lock:
            self._window.add(name, value, self._clock())

    def update(self, component: str) -> bytes | None:
        """Return the shadow update that tells all of it; None if there is nothing to tell."""
        with self._lock:
            report = self._window.report(self._clock())
        return None if report is None else shadow_update(component, report)


@asynccontextmanager
async def reporting(
    link: Link, *, component: str, thing_name: str, every_s: float = REPORT_S, clock: Callable[[], float] = time.time
) -> AsyncIterator[Metrics]:
    """Tell what is measured within the block, every so often, the first time after that long."""
    metrics = Metrics(clock)
    if not thing_name:
        logger.debug("no thing, so nobody to tell metrics to")
        yield metrics
        return
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        telling = tasks.create_task(_tell(link, metrics, component, thing_name, every_s), name="metrics")
        try:
            yield metrics
        except Exception as error:
            failure = error  # raised below, since the group would wrap it
        finally:
            telling.cancel()
    if failure is not None:
        raise failure


async def _tell(link: Link, metrics: Metrics, component: str, thing_name: str, every_s: float) -> None:
    is_told = True
    while True:
        await asyncio.sleep(every_s)
        payload = metrics.update(component)
        if payload is None:
            continue
        try:
            await link.publish_to_iot(IotPublish(topic=update_topic(thing_name), payload=payload))
        except IpcError as error:
            if is_told:
                logger.warning("metrics are not told: %s%s", error.message, f" ({error.hint})" if error.hint else "")
            is_told = False
        else:
            is_told = True
