"""Jobs and their executions as records: what is kept, and under which keys.

A thing's work is found by its name, a job's by its id; nothing is held in memory, so a transaction that is undone
leaves no trace.

================== ============================== =====================================================
table              key                            record
================== ============================== =====================================================
jobs               job                            targets, rules, status; ``documents`` has the document
jobs.counts        job                            number of executions by status
jobs.executions    job/thing                      one execution
jobs.of_thing      thing/job                      (nothing)
jobs.pending       thing/namespace/sequence/job   (nothing): QUEUED and IN_PROGRESS ones, oldest first
jobs.waiting       job/sequence/thing             (nothing): things the rollout has not reached
jobs.deadlines     time/job/thing                 (nothing): when an execution times out
================== ============================== =====================================================
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from itertools import islice

from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.core.rollout import LIVE, ExecutionStatus, Pace, Rules, read_rules


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExecution:
    """One job on one thing; times in seconds since the epoch."""

    job_id: str
    thing: str
    status: ExecutionStatus
    queued_at: float
    updated_at: float
    started_at: float | None = None
    version: int = 1
    number: int = 1
    namespace: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    sequence: int = 0
    deadline: float | None = None

    @property
    def is_live(self) -> bool:
        """QUEUED or IN_PROGRESS."""
        return self.status in LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job without its document; ``status`` is IN_PROGRESS, COMPLETED or CANCELED."""

    job_id: str
    arn: str
    targets: tuple[str, ...]
    namespace: str | None
    is_continuous: bool
    created_at: float
    updated_at: float
    completed_at: float | None = None
    status: str = "IN_PROGRESS"
    rollout: Mapping[str, Json] | None = None
    abort: Mapping[str, Json] | None = None
    timeout: Mapping[str, Json] | None = None
    pace: Pace = field(default_factory=Pace)
    again_at: float | None = None
    reason_code: str | None = None
    comment: str | None = None
    is_forced: bool = False

    @property
    def rules(self) -> Rules:
        """How it is rolled out."""
        return read_rules(self.rollout, self.abort, self.timeout)


_EXECUTION = tuple(each.name for each in fields(JobExecution))
_JOB = tuple(each.name for each in fields(Job))
_RECENT = 8


class JobStore:
    """The tables; the caller holds a transaction around what belongs together."""

    def __init__(self, store: Store) -> None:
        self._jobs = store.table("jobs")
        self._documents = store.table("jobs.documents")
        self._counts = store.table("jobs.counts")
        self._executions = store.table("jobs.executions")
        self._of_thing = store.table("jobs.of_thing")
        self._pending = store.table("jobs.pending")
        self._waiting = store.table("jobs.waiting")
        self._deadlines = store.table("jobs.deadlines")
        self._sequence = store.table("jobs.sequence")
        self._recent: dict[str, Json] = {}

    # Jobs

    def job(self, job_id: str) -> Job | None:
        """One job."""
        record = self._jobs.get(job_id)
        return None if record is None else _read_job(record)

    def jobs(self, *, after: str | None = None) -> Iterator[Job]:
        """Every job, by id; past the one of id ``after``."""
        return (_read_job(record) for _, record in self._jobs.items(after=after))

    def put_job(self, job: Job) -> None:
        """Keep a job."""
        record = {name: getattr(job, name) for name in _JOB}
        self._jobs.put(job.job_id, {**record, "pace": job.pace.to_record(), "targets": list(job.targets)})

    def document(self, job_id: str) -> Json:
        """A job's document; the last ones are held, since every thing of a job asks for the same. Not to be changed."""
        if job_id not in self._recent:
            record = self._documents.get(job_id)
            if record is None:
                return None
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[job_id] = record["document"]
        return self._recent[job_id]

    def put_document(self, job_id: str, document: Json) -> None:
        """Keep a job's document."""
        self._recent.pop(job_id, None)
        self._documents.put(job_id, {"document": document})

    def delete_job(self, job_id: str) -> None:
        """Forget a job with all its executions."""
        for execution in list(self.executions(job_id)):
            self.delete(execution)
        for thing in self.waiting(job_id):
            self.drop_waiting(job_id, thing)
        self._recent.pop(job_id, None)
        for table in (self._jobs, self._documents, self._counts):
            table.delete(job_id)

    def counts(self, job_id: str) -> Counter[ExecutionStatus]:
        """Executions of a job by status."""
        record = self._counts.get(job_id) or {}
        return Counter({ExecutionStatus(status): count for status, count in record.items() if count})

    # Executions

    def execution(self, job_id: str, thing: str) -> JobExecution | None:
        """One execution."""
        record = self._executions.get(f"{job_id}/{thing}")
        return None if record is None else _read_execution(record)

    def executions(self, job_id: str, *, after: str | None = None) -> Iterator[JobExecution]:
        """Executions of a job, by thing; past the one of the thing ``after``."""
        last = None if after is None else f"{job_id}/{after}"
        return (_read_execution(record) for _, record in self._executions.items(f"{job_id}/", after=last))

    def executions_of(self, thing: str) -> Iterator[JobExecution]:
        """Executions of a thing, by job."""
        for key in self._of_thing.keys(f"{thing}/"):
            execution = self.execution(key.partition("/")[2], thing)
            if execution is not None:
                yield execution

    def pending(self, thing: str, namespace: str | None) -> list[JobExecution]:
        """Live executions of a thing in a namespace (None: jobs without one), oldest first."""
        keys = self._pending.keys(f"{thing}/{namespace or ''}/")
        found = (self.execution(key.rsplit("/", 1)[1], thing) for key in keys)
        return [execution for execution in found if execution is not None]

    def next(self, thing: str, namespace: str | None) -> JobExecution | None:
        """The one in progress if there is one, else the oldest that is queued."""
        pending = self.pending(thing, namespace)
        running = (each for each in pending if each.status is ExecutionStatus.IN_PROGRESS)
        return next(running, pending[0] if pending else None)

    def put(self, execution: JobExecution, before: JobExecution | None) -> None:
        """Keep an execution that was ``before``, with everything that is found by it."""
        key = f"{execution.job_id}/{execution.thing}"
        self._executions.put(key, {name: getattr(execution, name) for name in _EXECUTION})
        if before is None:
            self._of_thing.put(f"{execution.thing}/{execution.job_id}", {})
        self._index(before, execution)
        counts = self._counts.get(execution.job_id) or {}
        if before is not None:
            counts[before.status] -= 1
        counts[execution.status] = counts.get(execution.status, 0) + 1
        self._counts.put(execution.job_id, counts)

    def delete(self, execution: JobExecution) -> None:
        """Forget one execution."""
        self._index(execution, None)
        self._executions.delete(f"{execution.job_id}/{execution.thing}")
        self._of_thing.delete(f"{execution.thing}/{execution.job_id}")
        counts = self._counts.get(execution.job_id) or {}
        counts[execution.status] = max(0, counts.get(execution.status, 0) - 1)
        self._counts.put(execution.job_id, counts)

    def _index(self, before: JobExecution | None, after: JobExecution | None) -> None:
        for table, name in ((self._pending, _pending_key), (self._deadlines, _deadline_key)):
            old = None if before is None else name(before)
            new = None if after is None else name(after)
            if old is not None and old != new:
                table.delete(old)
            if new is not None and new != old:
                table.put(new, {})

    def overdue(self, now: float) -> list[tuple[str, str]]:
        """(job, thing) of every execution whose time is up."""
        found = []
        for key in self._deadlines.keys():  # noqa: SIM118
            at, job_id, thing = key.split("/")
            if int(at) > now * 1000:
                break
            found.append((job_id, thing))
        return found

    # Things that the rollout has not reached

    def wait(self, job_id: str, things: list[str]) -> None:
        """Line things up."""
        for sequence, thing in enumerate(things, start=self.take_sequence(len(things))):
            self._waiting.put(f"{job_id}/{sequence:016x}/{thing}", {})

    def waiting(self, job_id: str, count: int | None = None) -> list[str]:
        """The first ``count`` things in line (None: all)."""
        return [key.rsplit("/", 1)[1] for key in islice(self._waiting.keys(f"{job_id}/"), count)]

    def drop_waiting(self, job_id: str, thing: str) -> bool:
        """Take a thing out of the line; False: it was not in it."""
        for key in self._waiting.keys(f"{job_id}/"):
            if key.rsplit("/", 1)[1] == thing:
                return self._waiting.delete(key)
        return False

    def release(self, job_id: str, count: int) -> list[str]:
        """Take the first ``count`` things out of the line."""
        keys = list(islice(self._waiting.keys(f"{job_id}/"), count))
        for key in keys:
            self._waiting.delete(key)
        return [key.rsplit("/", 1)[1] for key in keys]

    def take_sequence(self, count: int) -> int:
        """The first of ``count`` numbers that were never given out."""
        first: int = (self._sequence.get("next") or {"value": 1})["value"]
        self._sequence.put("next", {"value": first + count})
        return first


def _pending_key(execution: JobExecution) -> str | None:
    if not execution.is_live:
        return None
    return f"{execution.thing}/{execution.namespace or ''}/{execution.sequence:016x}/{execution.job_id}"


def _deadline_key(execution: JobExecution) -> str | None:
    if execution.deadline is None or not execution.is_live:
        return None
    return f"{int(execution.deadline * 1000):016d}/{execution.job_id}/{execution.thing}"


def _read_job(record: dict[str, Json]) -> Job:
    job = Job(**{**record, "targets": tuple(record["targets"]), "pace": Pace()})
    return replace(job, pace=Pace.from_record(record["pace"]))


def _read_execution(record: dict[str, Json]) -> JobExecution:
    return JobExecution(**{**record, "status": ExecutionStatus(record["status"])})
