"""How often an operation may be called: nothing is limited unless a rate is set (``--limit rate.CreateDeployment=2``).

A bucket of tokens for each operation: what a second allows may be called at once, then it goes by the rate.
"""

from collections.abc import Callable, Mapping

from monodon.cloud.protocol import ServiceError

#: What each service calls it, by signing name. Source: botocore's models and retry rules.
_NAMES = {"s3": ("SlowDown", 503), "sts": ("Throttling", 400), "iam": ("Throttling", 400), "greengrass": (None, 429)}


class Throttle:
    """The rates of one account.

    Args:
        rates: calls a second, by operation; those that are not named are not limited.
        now: seconds on any clock.
    """

    def __init__(self, rates: Mapping[str, float], *, now: Callable[[], float]) -> None:
        self._rates = rates
        self._now = now
        self._left: dict[str, tuple[float, float]] = {}

    def check(self, service: str, operation: str) -> None:
        """Take a token.

        Raises:
            ServiceError: there is none; ThrottlingException, or what the service calls it.
        """
        rate = self._rates.get(operation)
        if rate is None:
            return
        now, most = self._now(), max(1.0, rate)
        tokens, at = self._left.get(operation, (most, now))
        tokens = min(most, tokens + max(0.0, now - at) * rate)
        self._left[operation] = (tokens - 1 if tokens >= 1 else tokens, now)
        if tokens >= 1:
            return
        code, status = _NAMES.get(service, (None, 400))
        if service == "greengrass":
            wait = max(1, round((1 - tokens) / rate)) if rate else 1
            text = f"Rate exceeded for {operation}"
            members = {"retryAfterSeconds": wait, "quotaCode": operation, "serviceCode": "greengrass"}
            raise ServiceError("ThrottlingException", text, status=429, **members)
        raise ServiceError(code or "ThrottlingException", f"Rate exceeded for {operation}", status=status)
