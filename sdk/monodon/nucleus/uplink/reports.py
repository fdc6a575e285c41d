"""Reports of deployments, kept on disk until the cloud has taken them: in order, under ``uplink/pending/<number>``."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from monodon.core.json import Json
from monodon.errors import StateError
from monodon.nucleus.uplink.protocol import Channel, Records

log = logging.getLogger(__name__)

FINAL = frozenset({"SUCCEEDED", "FAILED", "REJECTED", "CANCELED"})
IN_PROGRESS = "IN_PROGRESS"
_PENDING = "uplink/pending/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the cloud is told about one deployment; ``details`` in the form of its channel."""

    channel: Channel
    deployment_id: str
    status: str
    details: Mapping[str, Json]
    job_id: str | None = None
    configuration_arn: str | None = None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


class Reports:
    """The reports to be delivered, oldest first."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._pending = {key: _read(record) for key, record in sorted(records.items(_PENDING).items())}
        self._number = max((int(key.removeprefix(_PENDING)) for key in self._pending), default=0)
        self._changed = asyncio.Event()
        self._taken = asyncio.Event()

    def add(self, report: Report) -> None:
        """Keep a report; a final one takes the place of what is not yet delivered of the same deployment.

        On a disk that refuses it, it is kept in memory, and is lost if the nucleus stops before it was delivered.
        """
        changes: dict[str, Json | None] = {}
        if report.is_final:
            for key in [k for k, r in self._pending.items() if r.deployment_id == report.deployment_id]:
                del self._pending[key]
                changes[key] = None
        self._number += 1
        key = f"{_PENDING}{self._number:012d}"
        self._pending[key] = report
        try:
            self._records.write({**changes, key: _write(report)})
        except StateError as error:
            log.warning("the report of deployment %s is kept in memory only: %s", report.deployment_id, error)
        self._changed.set()

    async def next(self) -> tuple[str, Report]:
        """The oldest report and its key, as soon as there is one."""
        while not self._pending:
            self._changed.clear()
            await self._changed.wait()
        return next(iter(self._pending.items()))

    def done(self, key: str) -> None:
        """The report was delivered, or finally refused."""
        if self._pending.pop(key, None) is not None:
            self._taken.set()
            try:
                self._records.write({key: None})
            except StateError as error:
                log.warning("a delivered report stays on disk, and is sent again after a restart: %s", error)

    def has_final(self, *, job_id: str | None, configuration_arn: str | None) -> bool:
        """Whether the end of what came by this job, or this shadow, is known here and the cloud not yet told."""
        return any(
            report.is_final and report.job_id == job_id and report.configuration_arn == configuration_arn
            for report in self._pending.values()
        )

    def holds(self, key: str) -> bool:
        """Whether the report is still to be delivered: a later one may have taken its place."""
        return key in self._pending

    async def drain(self) -> None:
        """Wait until every report was delivered."""
        while self._pending:
            self._taken.clear()
            await self._taken.wait()

    @property
    def is_empty(self) -> bool:
        return not self._pending


def _write(report: Report) -> dict[str, Json]:
    return {
        "channel": report.channel.value,
        "deploymentId": report.deployment_id,
        "status": report.status,
        "details": dict(report.details),
        "jobId": report.job_id,
        "configurationArn": report.configuration_arn,
    }


def _read(record: Json) -> Report:
    return Report(
        channel=Channel(record["channel"]),
        deployment_id=record["deploymentId"],
        status=record["status"],
        details=record["details"],
        job_id=record["jobId"],
        configuration_arn=record["configurationArn"],
    )
