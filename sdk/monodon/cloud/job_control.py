"""Jobs under control: made, changed, cancelled and forgotten, by the cloud's other backends."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from monodon.cloud.job_rollout import LIVE_JOB, JobRollout
from monodon.cloud.job_store import Job, JobExecution
from monodon.cloud.protocol.errors import ServiceError
from monodon.core.json import Json
from monodon.core.names import job_arn
from monodon.core.rollout import Event, ExecutionStatus
from monodon.errors import InvalidTransition

logger = logging.getLogger(__name__)

_THING = ":thing/"


class JobControl(JobRollout):
    """Every job of the account, as the cloud's other backends see it."""

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
        self._cancel(self._live(job_id), force=force, reason_code=reason_code, comment=comment)

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
                self._notices.expect_change(thing, execution.namespace)
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
                    self._notices.expect_change(execution.thing, job.namespace)
            self._jobs.delete_job(job_id)

    def jobs(self, *, after: str | None = None) -> Iterator[Job]:
        """Every job, by id; past the one of id ``after``."""
        return self._jobs.jobs(after=after)

    def _live(self, job_id: str) -> Job:
        job = self.job(job_id)
        if job.status != LIVE_JOB:
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
                if job.status == LIVE_JOB and job.is_continuous:
                    self._membership(job, thing, now)

    def forget_thing(self, thing: str) -> None:
        """A thing was deleted: what it had not ended is REMOVED, of every job."""
        now = self._now()
        with self._store.transaction():
            for job in list(self._jobs.jobs()):
                if job.status == LIVE_JOB and self._jobs.drop_waiting(job.job_id, thing):
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
