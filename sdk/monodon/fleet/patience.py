"""Calls that are made again when AWS is busy or out of reach, each wait told."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from botocore.exceptions import ClientError, HTTPClientError
from botocore.parsers import ResponseParserError

from monodon.errors import FleetError
from monodon.fleet.aws import told

#: What passes by itself. Source: cloud notes, errors; AWS IoT's spelling of throttling.
PASSING = frozenset(
    {
        "ThrottlingException",
        "TooManyRequestsException",
        "Throttling",
        "InternalServerException",
        "InternalFailureException",
        "ServiceUnavailableException",
        "RequestAlreadyInProgressException",
    }
)
MAX_PAUSE_S = 30.0

Answer = TypeVar("Answer")


class Patience:
    """Makes calls until they get through or the time is over; botocore has tried four times before each wait.

    Args:
        limit_s: how long in all one call may be tried again.
        say: told of each wait.
        network: a network that fails is waited for, too.
    """

    def __init__(
        self,
        *,
        limit_s: float = 120.0,
        say: Callable[[str], None] = lambda text: None,
        network: bool = True,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit_s = limit_s
        self._say = say
        self._network = network
        self._clock = clock
        self._sleep = sleep

    def call(self, work: Callable[[], Answer]) -> Answer:
        """Return what ``work`` does.

        Raises:
            FleetError: it fails for good, or for too long.
        """
        started, tries = self._clock(), 0
        while True:
            try:
                with told():
                    return work()
            except FleetError as error:
                cause = error.__cause__
                if not self._passes(cause) or self._clock() - started >= self._limit_s:
                    raise
                tries += 1
                pause_s = _pause_s(cause, tries)
                self._say(f"{error.message}; trying again in {pause_s:.1f} s")
                self._sleep(pause_s)

    def _passes(self, cause: BaseException | None) -> bool:
        if isinstance(cause, ClientError):
            status = cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return cause.response["Error"]["Code"] in PASSING or int(status) >= 500
        # No connection, a time-out, or some proxy's page where XML was to be.
        return self._network and isinstance(cause, HTTPClientError | ResponseParserError)


def _pause_s(cause: BaseException | None, tries: int) -> float:
    asked = cause.response.get("retryAfterSeconds") if isinstance(cause, ClientError) else None
    if isinstance(asked, int | float) and 0 < asked <= MAX_PAUSE_S:
        return float(asked)
    return min(0.5 * 2.0**tries, MAX_PAUSE_S) * random.uniform(0.5, 1.0)  # noqa: S311  # so that many do not come at once
