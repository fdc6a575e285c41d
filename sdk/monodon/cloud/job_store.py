"""Jobs and their executions as records: what is kept, and under which keys.

A thing's work is found by its name, a job's by its id; nothing is held in memory but what is checked against the disk
each time, so a transaction that is undone leaves no trace.

================== ============================== =====================================================
table              key                            record
================== ============================== =====================================================
jobs               job                            targets, rules, status; ``documents`` has the document
jobs.tally         job/status                     number of executions
jobs.executions    job/thing                      one execution
jobs.of_thing      thing/job                      (nothing)
jobs.pending       thing/namespace/sequence/job   (nothing): QUEUED and IN_PROGRESS ones, oldest first
jobs.waiting       job/sequence/thing             (nothing): things the rollout has not reached
jobs.deadlines     time/job/thing                 (nothing): when an execution times out
================== ============================== =====================================================
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache

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
    #: Where the ending of a cancelled job's executions has come to: past this thing; None: all of them, or none has to.
    ending_after: str | None = None

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
        self._tally = store.table("jobs.tally")
        self._executions = store.table("jobs.executions")
        self._of_thing = store.table("jobs.of_thing")
        self._pending = store.table("jobs.pending")
        self._waiting = store.table("jobs.waiting")
        self._deadlines = store.table("jobs.deadlines")
        self._sequence = store.table("jobs.sequence")
        self._recent: dict[str, bytes] = {}
        #: Cancelled jobs whose executions are not all ended yet: only theirs are looked at twice.
        self.ending = {job.job_id for job in self.jobs() if job.ending_after is not None}
        with store.transaction():
            self._take_over(store)

    def _take_over(self, store: Store) -> None:
        """Read the counts of an earlier version."""
        before = store.table("jobs.counts")
        for job_id, record in before.items():
            for status, count in record.items():
                self._tally.count((f"{job_id}/{status}", count))
            before.delete(job_id)

    # Jobs

    def job(self, job_id: str) -> Job | None:
        """One job."""
        text = self._jobs.text(job_id)
        return None if text is None else _read_job(text)

    def jobs(self, *, after: str | None = None) -> Iterator[Job]:
        """Every job, by id; past the one of id ``after``."""
        found = (self.job(job_id) for job_id in self._jobs.keys(after=after))
        return (job for job in found if job is not None)

    def put_job(self, job: Job) -> None:
        """Keep a job."""
        record = {name: getattr(job, name) for name in _JOB}
        self._jobs.put(job.job_id, {**record, "pace": job.pace.to_record(), "targets": list(job.targets)})

    def document(self, job_id: str) -> Json:
        """A job's document."""
        text = self.document_text(job_id)
        return None if text is None else json.loads(text)

    def document_text(self, job_id: str) -> bytes | None:
        """A job's document as JSON; the last ones are held, since every thing of a job asks for the same."""
        if job_id not in self._recent:
            record = self._documents.get(job_id)
            if record is None:
                return None
            if len(self._recent) >= _RECENT:
                self._recent.clear()
            self._recent[job_id] = json.dumps(record["document"], separators=(",", ":")).encode()
        return self._recent[job_id]

    def put_document(self, job_id: str, document: Json) -> None:
        """Keep a job's document."""
        self._recent.pop(job_id, None)
        self._documents.put(job_id, {"document": document})

    def delete_job(self, job_id: str) -> None:
        """Forget a job with all its executions."""
        for execution in list(self.executions(job_id)):
            self.delete(execution)
        self._waiting.delete_many(list(self._waiting.keys(f"{job_id}/")))
        self._tally.delete_many([f"{job_id}/{status}" for status in ExecutionStatus])
        self._recent.pop(job_id, None)
        for table in (self._jobs, self._documents):
            table.delete(job_id)

    def counts(self, job_id: str) -> Counter[ExecutionStatus]:
        """Executions of a job by status."""
        prefix = f"{job_id}/"
        found = ((ExecutionStatus(key.removeprefix(prefix)), count) for key, count in self._tally.counted(prefix))
        return Counter({status: count for status, count in found if count})

    # Executions

    def execution(self, job_id: str, thing: str) -> JobExecution | None:
        """One execution."""
        text = self._executions.text(f"{job_id}/{thing}")
        return None if text is None else _read_execution_text(text)

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
        return [execution for execution in found if execution is not None and not self.has_ended(execution)]

    def next(self, thing: str, namespace: str | None) -> JobExecution | None:
        """The one in progress if there is one, else the oldest that is queued."""
        pending = self.pending(thing, namespace)
        running = (each for each in pending if each.status is ExecutionStatus.IN_PROGRESS)
        return next(running, pending[0] if pending else None)

    def has_ended(self, execution: JobExecution) -> bool:
        """Whether a live execution's job was cancelled, and the execution's own turn to end has not come yet."""
        if execution.job_id not in self.ending or not execution.is_live:
            return False
        job = self.job(execution.job_id)
        is_over = job is not None and job.ending_after is not None and execution.thing > job.ending_after
        return is_over and (execution.status is ExecutionStatus.QUEUED or (job is not None and job.is_forced))

    def put(self, execution: JobExecution, before: JobExecution | None) -> None:
        """Keep an execution that was ``before``, with everything that is found by it."""
        key = f"{execution.job_id}/{execution.thing}"
        self._executions.put(key, {name: getattr(execution, name) for name in _EXECUTION})
        if before is None:
            self._of_thing.put(f"{execution.thing}/{execution.job_id}", {})
        self._index(before, execution)
        if before is None or before.status is not execution.status:
            changes = [] if before is None else [(f"{execution.job_id}/{before.status}", -1)]
            self._tally.count(*changes, (f"{execution.job_id}/{execution.status}", 1))

    def delete(self, execution: JobExecution) -> None:
        """Forget one execution."""
        self._index(execution, None)
        self._executions.delete(f"{execution.job_id}/{execution.thing}")
        self._of_thing.delete(f"{execution.thing}/{execution.job_id}")
        self._tally.count((f"{execution.job_id}/{execution.status}", -1))

    def _index(self, before: JobExecution | None, after: JobExecution | None) -> None:
        for table, name in ((self._pending, _pending_key), (self._deadlines, _deadline_key)):
            old = None if before is None else name(before)
            new = None if after is None else name(after)
            if old is not None and old != new:
                table.delete(old)
            if new is not None and new != old:
                table.put(new, {})

    def overdue(self, now: float, count: int) -> list[tuple[str, str]]:
        """(job, thing) of the first ``count`` executions whose time is up."""
        found = []
        for key in self._deadlines.first_keys("", count):
            at, job_id, thing = key.split("/")
            if int(at) > now * 1000:
                break
            found.append((job_id, thing))
        return found

    # Things that the rollout has not reached

    def wait(self, job_id: str, things: list[str]) -> None:
        """Line things up."""
        first = self.take_sequence(len(things))
        self._waiting.put_marks(
            f"{job_id}/{sequence:016x}/{thing}" for sequence, thing in enumerate(things, start=first)
        )

    def waiting(self, job_id: str, count: int | None = None) -> list[str]:
        """The first ``count`` things in line (None: all)."""
        prefix = f"{job_id}/"
        keys = self._waiting.keys(prefix) if count is None else self._waiting.first_keys(prefix, count)
        return [key.rsplit("/", 1)[1] for key in keys]

    def drop_waiting(self, job_id: str, thing: str) -> bool:
        """Take a thing out of the line; False: it was not in it."""
        for key in self._waiting.keys(f"{job_id}/"):
            if key.rsplit("/", 1)[1] == thing:
                return self._waiting.delete(key)
        return False

    def release(self, job_id: str, count: int) -> list[str]:
        """Take the first ``count`` things out of the line."""
        keys = self._waiting.first_keys(f"{job_id}/", count) if count else []
        self._waiting.delete_many(keys)
        return [key.rsplit("/", 1)[1] for key in keys]

    def release_all(self, job_id: str) -> None:
        """Nobody is to be reached any more."""
        self._waiting.delete_many(list(self._waiting.keys(f"{job_id}/")))

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


@lru_cache(maxsize=256)
def _read_job(text: str) -> Job:
    record = json.loads(text)
    job = Job(**{**record, "targets": tuple(record["targets"]), "pace": Pace()})
    return replace(job, pace=Pace.from_record(record["pace"]))


@lru_cache(maxsize=1024)
def _read_execution_text(text: str) -> JobExecution:
    """The execution in a record; each is asked for several times in a row while its thing talks."""
    return _read_execution(json.loads(text))


def _read_execution(record: dict[str, Json]) -> JobExecution:
    return JobExecution(**{**record, "status": ExecutionStatus(record["status"])})
