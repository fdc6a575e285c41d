"""Jobs as time goes on: handed out as their rules say, aborted, timed out, ended; a slice at a time.

What concerns thousands of things is done in slices, each a transaction of its own, so that the cloud goes on answering
meanwhile. What is left to do stands in the job's record: after a kill the next ``tick`` goes on with it.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from monodon.cloud.job_notices import Notices, Publish
from monodon.cloud.job_store import Job, JobExecution, JobStore
from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.store import Store
from monodon.core.rollout import LIVE, MINUTE_S, Event, ExecutionStatus, advance, decide

logger = logging.getLogger(__name__)

LIVE_JOB = "IN_PROGRESS"
#: As many executions as are begun or ended in one transaction.
SLICE = 200


def _ignore(*_: object) -> None:
    """For callers that do not listen."""


def _at_once(work: Callable[[], None]) -> None:
    work()


class JobRollout:
    """The executions of every job of the account.

    Args:
        broker_publish: how messages leave (topic, payload).
        group_members: the things in a group, by the group's ARN; nested ones included.
        is_member: whether a group (ARN) has a thing, where that can be said without listing the group.
        on_execution: told of each execution that is new or has changed, inside the transaction.
        on_job: told of each job whose status changed: job id, IN_PROGRESS, COMPLETED or CANCELED.
        now: seconds since the epoch.
        soon: does a piece of work in a transaction, when others have had their turn.
    """

    def __init__(
        self,
        *,
        store: Store,
        broker_publish: Publish,
        group_members: Callable[[str], Collection[str]],
        is_member: Callable[[str, str], bool] | None = None,
        on_execution: Callable[[JobExecution], None] = _ignore,
        on_job: Callable[[str, str], None] = _ignore,
        now: Callable[[], float],
        region: str,
        account: str,
        soon: Callable[[Callable[[], None]], None] = _at_once,
    ) -> None:
        self._store = store
        self._jobs = JobStore(store)
        self._notices = Notices(store, self._jobs, broker_publish, now)
        self._group_members = group_members
        self._is_member = is_member or (lambda group, thing: thing in group_members(group))
        self._on_execution = on_execution
        self._on_job = on_job
        self._now = now
        self._region = region
        self._account = account
        self._soon = soon
        #: Jobs that will be gone on with soon: a tick leaves them alone.
        self._continuing: set[str] = set()

    def job(self, job_id: str) -> Job:
        """One job.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        job = self._jobs.job(job_id)
        if job is None:
            raise ServiceError("ResourceNotFoundException", f"Job {job_id} cannot be found", resourceId=job_id)
        return job

    def tick(self, now: float) -> None:
        """Go on with rollouts, and time out what has been in progress for too long; call it every second or so."""
        overdue = self._jobs.overdue(now, SLICE)
        due = [job for job in self._jobs.jobs() if job.again_at is not None and job.again_at <= now]
        due = [job for job in due if job.job_id not in self._continuing]
        if not overdue and not due:
            return
        with self._store.transaction():
            for job_id, thing in overdue:
                execution = self._jobs.execution(job_id, thing)
                if execution is not None:
                    self._move(execution, Event.TIMED_OUT, now)
            for job in due:
                self._go_on(job.job_id)
            if len(overdue) == SLICE:
                self._store.after_commit(lambda: self._soon(lambda: self.tick(now)))

    def _go_on(self, job_id: str) -> None:
        """Do the next slice of what a job has left to do."""
        job = self._jobs.job(job_id)
        if job is None:
            return
        with self._store.transaction():
            if job.ending_after is not None:
                self._end_executions(job, self._now())
            else:
                self._roll(job, self._now())

    def _continue(self, job: Job) -> None:
        """Go on with a job after this transaction."""

        def go_on() -> None:
            self._continuing.discard(job.job_id)
            self._go_on(job.job_id)

        def soon() -> None:
            if job.job_id not in self._continuing:
                self._continuing.add(job.job_id)
                self._soon(go_on)

        self._store.after_commit(soon)

    # Handing out

    def _roll(self, job: Job, now: float) -> None:
        """Hand out, or give up, as the rules say now."""
        if job.status != LIVE_JOB:
            return
        rules = job.rules
        waiting = self._jobs.waiting(job.job_id, SLICE + 1)
        if not waiting and job.is_continuous and not rules.abort:
            return
        counts = self._jobs.counts(job.job_id)
        decision = decide(rules, job.pace, min(len(waiting), SLICE), counts, now)
        if decision.abort is not None:
            logger.warning("job %s is aborted: %s", job.job_id, decision.abort)
            self._cancel(job, reason_code="ABORTED", comment=f"abort criterion reached: {decision.abort}")
            return
        is_cut = len(waiting) > SLICE == decision.release
        job = replace(job, pace=decision.pace, again_at=now if is_cut else decision.again_at_s)
        self._jobs.put_job(job)
        things = self._jobs.release(job.job_id, decision.release)
        for sequence, thing in enumerate(things, start=self._jobs.take_sequence(len(things)) if things else 0):
            self._queue(job, thing, sequence, now)
        if is_cut:
            self._continue(job)
        if job.is_continuous or len(waiting) > len(things):
            return
        counts = self._jobs.counts(job.job_id)
        if not any(counts[status] for status in LIVE):
            self._end_job(job, "COMPLETED", now)

    def _queue(self, job: Job, thing: str, sequence: int, now: float) -> None:
        before = self._jobs.execution(job.job_id, thing)
        self._notices.expect_change(thing, job.namespace)
        execution = JobExecution(
            job_id=job.job_id,
            thing=thing,
            status=ExecutionStatus.QUEUED,
            queued_at=now,
            updated_at=now,
            namespace=job.namespace,
            number=1 if before is None else before.number + 1,
            sequence=sequence,
        )
        self._jobs.put(execution, before)
        self._on_execution(execution)

    # Ending

    def _cancel(
        self, job: Job, *, force: bool = False, reason_code: str | None = None, comment: str | None = None
    ) -> None:
        """End a job: who has not started never will; who has may finish, unless ``force``."""
        now = self._now()
        with self._store.transaction():
            self._jobs.release_all(job.job_id)
            counts = self._jobs.counts(job.job_id)
            live = counts[ExecutionStatus.QUEUED] + (counts[ExecutionStatus.IN_PROGRESS] if force else 0)
            job = replace(
                job, is_forced=force, reason_code=reason_code, comment=comment, ending_after="" if live else None
            )
            job = self._end_job(job, "CANCELED", now)
            if live:
                self._jobs.ending.add(job.job_id)
                self._end_executions(job, now)

    def _end_executions(self, job: Job, now: float) -> None:
        """Cancel the next ones of a job that has ended."""
        event = Event.FORCE_CANCELED if job.is_forced else Event.CANCELED
        executions = self._jobs.executions(job.job_id, after=job.ending_after or None)
        last, moved = None, 0
        for seen, execution in enumerate(executions):
            if moved == SLICE or seen == 10 * SLICE:
                break
            last = execution.thing
            if execution.status is ExecutionStatus.QUEUED or (job.is_forced and execution.is_live):
                self._move(execution, event, now)
                moved += 1
        else:
            last = None
        self._jobs.put_job(replace(job, ending_after=last, again_at=None if last is None else now))
        if last is not None:
            self._continue(job)
        else:
            self._store.after_commit(lambda: self._jobs.ending.discard(job.job_id))

    def _end_job(self, job: Job, status: str, now: float) -> Job:
        job = replace(job, status=status, updated_at=now, completed_at=now, again_at=None)
        self._jobs.put_job(job)
        self._on_job(job.job_id, status)
        return job

    # One execution

    def _move(
        self,
        execution: JobExecution,
        event: Event,
        now: float,
        details: Mapping[str, str] | None = None,
        step_minutes: int | None = None,
    ) -> JobExecution:
        """Let something happen to an execution; tell whoever wants to know."""
        status = advance(execution.status, event)
        if status not in LIVE:
            self._notices.expect_change(execution.thing, execution.namespace)
        job = self.job(execution.job_id)
        started_at, deadline = execution.started_at, execution.deadline
        if status is ExecutionStatus.IN_PROGRESS and started_at is None:
            started_at = now
            deadline = None if job.rules.timeout_s is None else now + job.rules.timeout_s
        if step_minutes is not None:
            deadline = None if step_minutes < 0 else now + step_minutes * MINUTE_S
        after = replace(
            execution,
            status=status,
            updated_at=now,
            started_at=started_at,
            version=execution.version + 1,
            details=execution.details if details is None else dict(details),
            deadline=deadline if status in LIVE else None,
        )
        self._jobs.put(after, execution)
        self._on_execution(after)
        if not after.is_live and (job.again_at is not None or job.rules.abort or not job.is_continuous):
            self._roll(job, now)
        return after
