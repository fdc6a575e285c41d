"""A job's rollout in memory: what IoT Jobs would do for one deployment, by the rules in ``core.rollout``; no sockets.

It is the cloud's end of a ``VirtualFleet``: it hands a job out as its rollout says, answers the things, times out those
that take too long, and gives up when the abort criteria are met.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from monodon.core.json import Json
from monodon.core.rollout import LIVE, REPORTED, Event, ExecutionStatus, Pace, Rules, advance, decide, timed_out
from monodon.errors import InvalidTransition
from monodon.simulator import talk
from monodon.simulator.faults import NEVER

_S: Final = ExecutionStatus


@dataclass(slots=True)
class Execution:
    """The job on one thing."""

    status: ExecutionStatus
    queued_at: float
    started_at: float | None = None
    ended_at: float | None = None
    details: Mapping[str, str] = field(default_factory=dict)


class MemoryJobs:
    """One job for some things. ``deliver`` takes what it says to them: topic and payload."""

    def __init__(
        self,
        *,
        job_id: str,
        document: Mapping[str, Json],
        things: Collection[str],
        rules: Rules,
        deliver: Callable[[str, bytes], None],
        now: Callable[[], float],
    ) -> None:
        self.executions: dict[str, Execution] = {}
        #: IN_PROGRESS, or CANCELED once an abort criterion was met.
        self.status = "IN_PROGRESS"
        #: (time, how many) of each release.
        self.released: list[tuple[float, int]] = []
        self._job_id = job_id
        self._document = document
        self._waiting = sorted(things)
        self._rules = rules
        self._pace = Pace()
        self._counts: Counter[ExecutionStatus] = Counter()
        self._again_at = NEVER
        self._deadline = NEVER
        self._deliver = deliver
        self._now = now

    # What a VirtualFleet asks

    def publish(self, thing: str, topic: str, payload: bytes) -> None:
        """Answer a question about the job, or a report of it; status messages and shadows are not kept here."""
        name = topic.removeprefix(talk.prefix_of(thing))
        if name == talk.NEXT_GET:
            self._answer_next(thing, topic, talk.read_object(payload))
        elif name == f"jobs/{self._job_id}/{talk.NAMESPACE}/update":
            self._answer_update(thing, topic, talk.read_object(payload))

    def next_at(self) -> float:
        """When the rollout goes on, or the first execution runs out of time."""
        return min(self._again_at, self._deadline)

    def wake(self, now: float) -> None:
        """Go on."""
        if now >= self._deadline:
            running = {t: e.started_at for t, e in self.executions.items() if e.status is _S.IN_PROGRESS}
            started = [(thing, at) for thing, at in running.items() if at is not None]
            for thing in timed_out(self._rules, started, now):
                self._move(thing, Event.TIMED_OUT, now)
            self._set_deadline()
        if now >= self._again_at:
            self._roll(now)

    # Control

    def begin(self) -> None:
        """Hand the job out."""
        self._roll(self._now())

    def join(self, thing: str) -> None:
        """A thing joins the job's group."""
        self._waiting.append(thing)
        self._roll(self._now())

    @property
    def counts(self) -> Mapping[ExecutionStatus, int]:
        """Executions by status."""
        return {status: count for status, count in self._counts.items() if count}

    @property
    def is_over(self) -> bool:
        """Whether nobody waits, or works."""
        return not self._waiting and not any(self._counts[status] for status in LIVE)

    def _roll(self, now: float) -> None:
        if self.status != "IN_PROGRESS":
            return
        decision = decide(self._rules, self._pace, len(self._waiting), self._counts, now)
        if decision.abort is not None:
            self._abort(now)
            return
        self._pace = decision.pace
        self._again_at = NEVER if decision.again_at_s is None else decision.again_at_s
        chosen, self._waiting = self._waiting[: decision.release], self._waiting[decision.release :]
        if chosen:
            self.released.append((now, len(chosen)))
        for thing in chosen:
            self.executions[thing] = Execution(_S.QUEUED, now)
            self._counts[_S.QUEUED] += 1
            self._notify(thing, now)

    def _abort(self, now: float) -> None:
        self.status, self._waiting, self._again_at = "CANCELED", [], NEVER
        for thing, execution in self.executions.items():
            if execution.status is _S.QUEUED:
                self._move(thing, Event.CANCELED, now)

    def _move(self, thing: str, event: Event, now: float, details: Mapping[str, str] | None = None) -> None:
        execution = self.executions[thing]
        status = advance(execution.status, event)
        self._counts[execution.status] -= 1
        self._counts[status] += 1
        execution.status = status
        execution.details = details or execution.details
        if status is _S.IN_PROGRESS and execution.started_at is None:
            execution.started_at = now
            if self._rules.timeout_s is not None:
                self._deadline = min(self._deadline, now + self._rules.timeout_s)
        if status not in LIVE:
            execution.ended_at = now
            self._notify(thing, now)
            self._roll(now)

    def _set_deadline(self) -> None:
        running = (e.started_at for e in self.executions.values() if e.status is _S.IN_PROGRESS)
        first = min((at for at in running if at is not None), default=NEVER)
        self._deadline = first + (self._rules.timeout_s or NEVER)

    # Words

    def _notify(self, thing: str, now: float) -> None:
        execution = self.executions[thing]
        jobs = {}
        if execution.status in LIVE:
            jobs = {execution.status.value: [{"jobId": self._job_id, "queuedAt": int(execution.queued_at)}]}
        self._say(thing, f"{talk.prefix_of(thing)}{talk.NOTIFY}", {"timestamp": int(now), "jobs": jobs})

    def _answer_next(self, thing: str, topic: str, body: Mapping[str, Json]) -> None:
        answer: dict[str, Json] = {"timestamp": int(self._now()), "clientToken": body.get("clientToken")}
        execution = self.executions.get(thing)
        if execution is not None and execution.status in LIVE:
            answer["execution"] = {
                "jobId": self._job_id,
                "thingName": thing,
                "status": execution.status.value,
                "queuedAt": int(execution.queued_at),
                "jobDocument": self._document,
            }
        self._say(thing, f"{topic}/accepted", answer)

    def _answer_update(self, thing: str, topic: str, body: Mapping[str, Json]) -> None:
        now, token, details = self._now(), body.get("clientToken"), body.get("statusDetails")
        event = REPORTED.get(str(body.get("status")))
        try:
            if event is None or thing not in self.executions:
                raise InvalidTransition(f"{thing} cannot report {body.get('status')}")
            advance(self.executions[thing].status, event)
        except InvalidTransition as error:
            code = "InvalidStateTransition" if thing in self.executions else "ResourceNotFound"
            refusal = {"code": code, "message": error.message, "timestamp": int(now), "clientToken": token}
            self._say(thing, f"{topic}/rejected", refusal)
            return
        self._say(thing, f"{topic}/accepted", {"timestamp": int(now), "clientToken": token})
        self._move(thing, event, now, details if isinstance(details, dict) else None)

    def _say(self, thing: str, topic: str, body: Mapping[str, Json]) -> None:
        self._deliver(topic, talk.write(body))
