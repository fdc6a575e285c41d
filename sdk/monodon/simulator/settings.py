"""What all devices of a simulation have in common, and what they tell whoever watches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from monodon.core.deployment import Deployment, read_document
from monodon.core.json import Json
from monodon.core.metrics import REPORT_S
from monodon.core.outcome import Outcome
from monodon.simulator.figures import MetricRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A deployment stands differently on a device; ``outcome`` says how it ended."""

    thing: str
    deployment_id: str
    status: str
    at_s: float
    outcome: Outcome | None = None


def _ignore(change: Change) -> None:
    """For simulations that nobody watches."""


@dataclass(slots=True, kw_only=True)
class Settings:
    """One for a whole simulation; ``seed`` decides all that looks random."""

    seed: int = 0
    metrics: Sequence[MetricRule] = ()
    metrics_every_s: float = REPORT_S
    architecture: str = "amd64"
    on_change: Callable[[Change], None] = _ignore
    _last: tuple[Json, Deployment] | None = field(default=None, repr=False)

    def read(self, document: Json) -> Deployment:
        """Read a deployment document; the last one is remembered, since every device of a job gets the same.

        Raises:
            DeploymentError: it is none.
        """
        if self._last is None or self._last[0] != document:
            self._last = document, read_document(document)
        return self._last[1]
