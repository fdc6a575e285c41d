"""How a rollout would go: a fleet with its faults, the job's rules, and a clock that jumps. Pure."""

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from monodon.core.json import Json
from monodon.core.rollout import read_rules
from monodon.simulator.device import Device
from monodon.simulator.rollout import MemoryJobs
from monodon.simulator.tally import Tally
from monodon.simulator.virtual import Clock, VirtualFleet

#: When a rehearsal begins does not matter: no real time is in it.
_START_S: Final = 1_700_000_000.0
#: A rollout that is not over by then never will be.
LONGEST_S: Final = 30 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How far a rollout has come at a time; ``counts`` are executions by status, CANCELED ones included."""

    at_s: float
    counts: Mapping[str, int]
    note: str = ""

    def to_json(self) -> dict[str, Json]:
        """The same for machines."""
        return {"at_s": round(self.at_s, 1), "statuses": dict(self.counts), "note": self.note}


def rehearse(
    devices: Callable[[float], list[Device]], job: Mapping[str, Json], components: Mapping[str, str], tally: Tally
) -> Iterator[Stage]:
    """Yield how a rollout goes, ever later, until nothing more happens.

    Args:
        devices: makes the fleet, given the time of its beginning.
        job: ``iotJobConfiguration`` as AWS spells it.
        components: exact versions; what is a range stands as it is.
    """
    clock = Clock(_START_S)
    fleet = VirtualFleet(devices(_START_S), clock)
    document = {
        "deploymentId": str(uuid.UUID(int=0)),
        "creationTimestamp": int(_START_S * 1000),
        "components": {name: {"version": version} for name, version in components.items()},
    }
    rules = read_rules(*(job.get(name) for name in ("jobExecutionsRolloutConfig", "abortConfig", "timeoutConfig")))
    cloud = MemoryJobs(
        job_id="rehearsal",
        document=document,
        things=list(fleet.devices),
        rules=rules,
        deliver=fleet.deliver,
        now=clock,
    )
    fleet.begin(cloud)
    cloud.begin()
    step_s, seen = 1.0, -1
    while clock.now - _START_S < LONGEST_S and not cloud.is_over:
        fleet.run(cloud, clock.now + step_s)
        ended = sum(cloud.counts.values()) * 2 + tally.ended
        if ended != seen and not cloud.is_over:
            yield _stage(cloud, clock)
        seen, step_s = ended, step_s * 1.5
    yield _stage(cloud, clock, _why_over(cloud))


def _stage(cloud: MemoryJobs, clock: Clock, note: str = "") -> Stage:
    at_s = clock.now - _START_S
    if cloud.is_over:  # it was before the clock got here
        at_s = max((each.ended_at or _START_S for each in cloud.executions.values()), default=_START_S) - _START_S
    return Stage(at_s=at_s, counts={str(status): count for status, count in cloud.counts.items()}, note=note)


def _why_over(cloud: MemoryJobs) -> str:
    if cloud.status == "CANCELED":
        return "an abort criterion was met"
    return "done" if cloud.is_over else "some devices never end it"
