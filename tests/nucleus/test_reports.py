"""Reports of deployments reach the cloud, also when the disk refuses to keep them."""

from collections.abc import Mapping

from monodon.core.json import Json
from monodon.errors import StateError
from monodon.nucleus.uplink.protocol import Channel
from monodon.nucleus.uplink.reports import Report, Reports


class FullDisk:
    """Records on a disk without room."""

    def get(self, key: str) -> Json | None:
        return None

    def items(self, prefix: str) -> Mapping[str, Json]:
        return {}

    def write(self, changes: Mapping[str, Json | None]) -> None:
        raise StateError("no space left on device")


def report(status: str) -> Report:
    return Report(channel=Channel.JOB, deployment_id="d-1", status=status, details={}, job_id="j-1")


async def test_a_report_that_the_disk_refuses_is_delivered_all_the_same() -> None:
    reports = Reports(FullDisk())
    reports.add(report("IN_PROGRESS"))
    reports.add(report("FAILED"))
    key, next_one = await reports.next()
    assert next_one.status == "FAILED"
    assert reports.has_final(job_id="j-1", configuration_arn=None)
    reports.done(key)
    assert reports.is_empty
