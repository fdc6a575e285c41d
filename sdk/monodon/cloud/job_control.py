"""Jobs under control: made, handed out as the rollout says, aborted, timed out, cancelled; things told of it.

A notification leaves after the transaction that changed the queue is on disk, so whoever asks because of it finds what
it announced.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from monodon.cloud import job_topics as topics
from monodon.cloud.job_store import Job, JobExecution, JobStore
from monodon.cloud.protocol.errors import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.core.names import job_arn
from monodon.core.rollout import LIVE, MINUTE_S, Event, ExecutionStatus, advance, decide
from monodon.errors import InvalidTransition

logger = logging.getLogger(__name__)

_THING = ":thing/"
_LIVE_JOB = "IN_PROGRESS"
#: One thing more than any rate lets through at once: enough to know that some are left.
_MORE_THAN_A_MINUTE = 1002


class Publish(Protocol):
    """``Broker.publish``, as far as it is used here."""

    def __call__(self, topic: str, payload: bytes) -> None: ...


def _ignore(*_: object) -> None:
    """For callers that do not listen."""


class JobControl:
    """Every job of the account, as the cloud sees it.

    Args:
        broker_publish: how messages leave (topic, payload).
        group_members: the things in a group, by the group's ARN; nested ones included.
        is_member: whether a group (ARN) has a thing, where that can be said without listing the group.
        on_execution: told of each execution that is new or has changed, inside the transaction.
        on_job: told of each job whose status changed: job id, IN_PROGRESS, COMPLETED or CANCELED.
        now: seconds since the epoch.
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
    ) -> None:
        self._store = store
        self._jobs = JobStore(store)
        self._publish = broker_publish
        self._group_members = group_members
        self._is_member = is_member or (lambda group, thing: thing in group_members(group))
        self._on_execution = on_execution
        self._on_job = on_job
        self._now = now
        self._region = region
        self._account = account
        self._changed: dict[tuple[str, str | None], str | None] = {}

    # Control

    def create(
        self,
        job_id: str,
        targets: Collection[str],
        document: Mapping[str, Json],
        namespace: str | None = None,
        continuous: bool = False,
        rollout: Mapping[str, Json] | None = None,
        abort: Mapping[str, Json] | None = None,
        timeout: Mapping[str, Json] | None = None,
    ) -> str:
        """Make a job for things and groups (by ARN) and begin to hand it out; return its ARN.

        Raises:
            ServiceError: ResourceAlreadyExistsException, the id is taken.
        """
        if self._jobs.job(job_id) is not None:
            raise ServiceError("ResourceAlreadyExistsException", f"Job {job_id} already exists", resourceId=job_id)
        now = self._now()
        job = Job(
            job_id=job_id,
            arn=str(job_arn(self._region, self._account, job_id)),
            targets=tuple(targets),
            namespace=namespace,
            is_continuous=continuous,
            created_at=now,
            updated_at=now,
            rollout=rollout,
            abort=abort,
            timeout=timeout,
        )
        with self._store.transaction():
            self._jobs.put_job(job)
            self._jobs.put_document(job_id, dict(document))
            self._jobs.wait(job_id, sorted(self._things(job)))
            self._roll(job, now)
        logger.info("job %s for %s", job_id, ", ".join(targets))
        return job.arn

    def cancel(
        self, job_id: str, *, force: bool = False, reason_code: str | None = None, comment: str | None = None
    ) -> None:
        """End a job: who has not started never will; who has may finish, unless ``force``.

        Raises:
            ServiceError: ResourceNotFoundException; InvalidRequestException, it is over.
        """
        job, now = self._live(job_id), self._now()
        with self._store.transaction():
            self._jobs.release(job_id, 1 << 30)
            job = replace(job, is_forced=force, reason_code=reason_code, comment=comment)
            self._end_job(job, "CANCELED", now)
            event = Event.FORCE_CANCELED if force else Event.CANCELED
            for execution in list(self._jobs.executions(job_id)):
                if execution.status is ExecutionStatus.QUEUED or (force and execution.is_live):
                    self._move(execution, event, now)

    def cancel_execution(
        self, job_id: str, thing: str, *, force: bool = False, details: Mapping[str, str] | None = None
    ) -> None:
        """Take a job from one thing; from one that has started only with ``force``.

        Raises:
            ServiceError: ResourceNotFoundException; InvalidStateTransitionException, it is over or has started.
        """
        execution = self._jobs.execution(job_id, thing)
        if execution is None:
            raise ServiceError("ResourceNotFoundException", f"Job {job_id} has no execution on {thing}")
        with self._store.transaction():
            try:
                self._move(execution, Event.FORCE_CANCELED if force else Event.CANCELED, self._now(), details)
            except InvalidTransition as error:
                raise ServiceError("InvalidStateTransitionException", str(error)) from error

    def delete_execution(self, job_id: str, thing: str, number: int, *, force: bool = False) -> None:
        """Forget one execution; one that is in progress only with ``force``.

        Raises:
            ServiceError: ResourceNotFoundException; InvalidStateTransitionException, it is in progress.
        """
        execution = self._jobs.execution(job_id, thing)
        if execution is None or execution.number != number:
            raise ServiceError("ResourceNotFoundException", f"Job {job_id} has no execution {number} on {thing}")
        if execution.status is ExecutionStatus.IN_PROGRESS and not force:
            text = f"Job {job_id} is in progress on {thing}; force its deletion"
            raise ServiceError("InvalidStateTransitionException", text)
        with self._store.transaction():
            if execution.is_live:
                self._will_notify(thing, execution.namespace)
            self._jobs.delete(execution)
            self._roll(self.job(job_id), self._now())

    def update(
        self,
        job_id: str,
        *,
        rollout: Mapping[str, Json] | None = None,
        abort: Mapping[str, Json] | None = None,
        timeout: Mapping[str, Json] | None = None,
    ) -> None:
        """Change the rules of a job from now on; what is in progress keeps its time-out.

        Raises:
            ServiceError: ResourceNotFoundException; InvalidRequestException, it is over.
        """
        job, now = self._live(job_id), self._now()
        with self._store.transaction():
            job = replace(
                job,
                rollout=rollout or job.rollout,
                abort=abort or job.abort,
                timeout=timeout or job.timeout,
                updated_at=now,
            )
            self._jobs.put_job(job)
            self._roll(job, now)

    def associate(self, job_id: str, targets: Collection[str]) -> Job:
        """Give a continuous job more targets.

        Raises:
            ServiceError: ResourceNotFoundException; InvalidRequestException, it is over or a snapshot.
        """
        job, now = self._live(job_id), self._now()
        if not job.is_continuous:
            raise ServiceError("InvalidRequestException", f"Job {job_id} is a snapshot; its targets are fixed")
        with self._store.transaction():
            job = replace(job, targets=tuple(dict.fromkeys([*job.targets, *targets])), updated_at=now)
            self._jobs.put_job(job)
            known = {*self._jobs.waiting(job_id), *(each.thing for each in self._jobs.executions(job_id))}
            self._jobs.wait(job_id, sorted(self._things(job) - known))
            self._roll(job, now)
        return job

    def delete(self, job_id: str) -> None:
        """Forget a job and its executions; things that had it queued are told."""
        job = self.job(job_id)
        with self._store.transaction():
            for execution in self._jobs.executions(job_id):
                if execution.is_live:
                    self._will_notify(execution.thing, job.namespace)
            self._jobs.delete_job(job_id)

    def job(self, job_id: str) -> Job:
        """One job.

        Raises:
            ServiceError: ResourceNotFoundException.
        """
        job = self._jobs.job(job_id)
        if job is None:
            raise ServiceError("ResourceNotFoundException", f"Job {job_id} cannot be found", resourceId=job_id)
        return job

    def jobs(self, *, after: str | None = None) -> Iterator[Job]:
        """Every job, by id; past the one of id ``after``."""
        return self._jobs.jobs(after=after)

    def _live(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job.status != _LIVE_JOB:
            raise ServiceError("InvalidRequestException", f"Job {job_id} is {job.status} already")
        return job

    def document(self, job_id: str) -> Json:
        """A job's document."""
        return self._jobs.document(job_id)

    def counts(self, job_id: str) -> Mapping[ExecutionStatus, int]:
        """Executions by status; things that the rollout has not reached are in none."""
        return self._jobs.counts(job_id)

    def executions(self, job_id: str, *, after: str | None = None) -> Iterator[JobExecution]:
        """Executions of a job, by thing; past the one of the thing ``after``."""
        return self._jobs.executions(job_id, after=after)

    def executions_of(self, thing: str) -> list[JobExecution]:
        """Executions of a thing, of any namespace."""
        return list(self._jobs.executions_of(thing))

    def membership_changed(self, thing: str) -> None:
        """A thing joined or left a group, or was deleted: continuous jobs reach it, or leave it alone."""
        now = self._now()
        with self._store.transaction():
            for job in list(self._jobs.jobs()):
                if job.status == _LIVE_JOB and job.is_continuous:
                    self._membership(job, thing, now)

    def forget_thing(self, thing: str) -> None:
        """A thing was deleted: what it had not ended is REMOVED, of every job."""
        now = self._now()
        with self._store.transaction():
            for job in list(self._jobs.jobs()):
                if job.status == _LIVE_JOB and self._jobs.drop_waiting(job.job_id, thing):
                    self._roll(job, now)
            for execution in list(self._jobs.executions_of(thing)):
                if execution.is_live:
                    self._move(execution, Event.REMOVED, now)

    def _membership(self, job: Job, thing: str, now: float) -> None:
        is_target = any(
            target.partition(_THING)[2] == thing if _THING in target else self._is_member(target, thing)
            for target in job.targets
        )
        execution = self._jobs.execution(job.job_id, thing)
        if not is_target:
            self._jobs.drop_waiting(job.job_id, thing)
            if execution is not None and execution.is_live:
                self._move(execution, Event.REMOVED, now)
        elif execution is None or execution.status is ExecutionStatus.REMOVED:
            self._jobs.drop_waiting(job.job_id, thing)
            self._jobs.wait(job.job_id, [thing])
            self._roll(job, now)

    def _things(self, job: Job) -> set[str]:
        things: set[str] = set()
        for target in job.targets:
            _, is_thing, name = target.partition(_THING)
            things.update([name] if is_thing else self._group_members(target))
        return things

    # Time

    def tick(self, now: float) -> None:
        """Go on with rollouts, and time out what has been in progress for too long; call it every second or so."""
        overdue = self._jobs.overdue(now)
        rolling = [job for job in self._jobs.jobs() if job.again_at is not None and job.again_at <= now]
        if not overdue and not rolling:
            return
        with self._store.transaction():
            for job_id, thing in overdue:
                execution = self._jobs.execution(job_id, thing)
                if execution is not None:
                    self._move(execution, Event.TIMED_OUT, now)
            for job in rolling:
                self._roll(self.job(job.job_id), now)

    def _roll(self, job: Job, now: float) -> None:
        """Hand out, or give up, as the rules say now."""
        if job.status != _LIVE_JOB:
            return
        rules = job.rules
        is_paced = rules.maximum_per_minute is not None or rules.exponential is not None
        waiting = self._jobs.waiting(job.job_id, _MORE_THAN_A_MINUTE if is_paced else None)
        if not waiting and job.is_continuous and not rules.abort:
            return
        counts = self._jobs.counts(job.job_id)
        decision = decide(rules, job.pace, len(waiting), counts, now)
        if decision.abort is not None:
            logger.warning("job %s is aborted: %s", job.job_id, decision.abort)
            self.cancel(job.job_id, reason_code="ABORTED", comment=f"abort criterion reached: {decision.abort}")
            return
        job = replace(job, pace=decision.pace, again_at=decision.again_at_s)
        self._jobs.put_job(job)
        things = self._jobs.release(job.job_id, decision.release)
        for sequence, thing in enumerate(things, start=self._jobs.take_sequence(len(things)) if things else 0):
            self._queue(job, thing, sequence, now)
        counts = self._jobs.counts(job.job_id)
        is_over = len(waiting) == len(things) and not any(counts[status] for status in LIVE)
        if is_over and not job.is_continuous:
            self._end_job(job, "COMPLETED", now)

    def _queue(self, job: Job, thing: str, sequence: int, now: float) -> None:
        before = self._jobs.execution(job.job_id, thing)
        self._will_notify(thing, job.namespace)
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

    def _end_job(self, job: Job, status: str, now: float) -> None:
        self._jobs.put_job(replace(job, status=status, updated_at=now, completed_at=now, again_at=None))
        self._on_job(job.job_id, status)

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
            self._will_notify(execution.thing, execution.namespace)
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
        if not after.is_live:
            self._roll(job, now)
        return after

    def _will_notify(self, thing: str, namespace: str | None) -> None:
        """A thing's list of pending jobs is about to change: say so once it has and is on disk."""
        key = (thing, namespace)
        if key not in self._changed:  # left over from a transaction that was undone: still as it was then
            before = self._jobs.next(thing, namespace)
            self._changed[key] = None if before is None else before.job_id
        self._store.after_commit(lambda: self._notify(key))

    def _notify(self, key: tuple[str, str | None]) -> None:
        if key not in self._changed:  # another change of the same transaction has said it
            return
        thing, namespace = key
        before = self._changed.pop(key)
        now = self._now()
        pending = self._jobs.pending(thing, namespace)
        self._send(topics.notify_topic(thing, namespace), topics.notification(pending, now))
        execution = self._jobs.next(thing, namespace)
        if (None if execution is None else execution.job_id) != before:
            self._send(topics.notify_next_topic(thing, namespace), self._answer(execution, now))

    def _answer(self, execution: JobExecution | None, now: float, *, with_document: bool = True) -> dict[str, Json]:
        document = self._jobs.document(execution.job_id) if execution is not None and with_document else None
        return topics.answer(execution, document, now)

    def _send(self, topic: str, payload: Mapping[str, Json]) -> None:
        self._publish(topic, json.dumps(payload, separators=(",", ":")).encode())
