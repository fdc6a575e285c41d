"""The fleet status message: what is written is read back, and big ones are split (cloud.md section 6)."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monodon.core.status import (
    ComponentHealth,
    DeploymentInformation,
    DeviceHealth,
    HealthReport,
    MessageType,
    Trigger,
    chunks,
    encode,
    overall_health,
    read,
    to_json,
)
from monodon.errors import NetworkError

REPORT = HealthReport(
    thing="drone-1",
    ggc_version="2.18.0",
    platform="linux",
    architecture="amd64",
    sequence_number=7,
    timestamp_ms=1_795_000_000_123,
    trigger=Trigger.NUCLEUS_LAUNCH,
    message_type=MessageType.COMPLETE,
    components=(
        ComponentHealth(name="a", version="1.0.0", status="RUNNING", is_root=True, fleet_config_arns=("arn:1",)),
        ComponentHealth(
            name="b", version="2.0.0", status="BROKEN", status_codes=("RUN_ERROR",), status_reason="exit code 1"
        ),
    ),
)

components = st.builds(
    ComponentHealth,
    name=st.text(min_size=1, max_size=40),
    version=st.just("1.0.0"),
    status=st.sampled_from(["RUNNING", "BROKEN", "UNINSTALLED"]),
    is_root=st.booleans(),
    fleet_config_arns=st.lists(st.text(max_size=30), max_size=2).map(tuple),
    status_codes=st.lists(st.text(max_size=30), max_size=2).map(tuple),
    status_reason=st.text(max_size=200),
)
deployments = st.builds(
    DeploymentInformation,
    deployment_id=st.text(),
    status=st.just("FAILED"),
    detailed_status=st.none() | st.text(),
    failure_cause=st.none() | st.text(),
    error_stack=st.lists(st.text(), max_size=3).map(tuple),
    error_types=st.lists(st.text(), max_size=3).map(tuple),
    fleet_configuration_arn=st.none() | st.text(),
    unchanged_root_components=st.lists(st.text(), max_size=3).map(tuple),
)
reports = st.builds(
    lambda parts, deployment, runtime: replace(REPORT, components=tuple(parts), deployment=deployment, runtime=runtime),
    st.lists(components, max_size=12),
    st.none() | deployments,
    st.none() | st.just("aws_nucleus_lite"),
)


@given(reports)
def test_what_is_written_is_read_back(report: HealthReport) -> None:
    assert read(encode(report)) == report
    assert read(to_json(report)) == report


@given(reports, st.integers(min_value=2_600, max_value=6_000))
def test_chunks_fit_and_hold_every_component_once(report: HealthReport, limit: int) -> None:
    """``At most 128,000 bytes per message, split into chunks``."""
    report = replace(report, deployment=None)
    parts = chunks(report, limit)
    assert all(len(encode(part)) <= limit for part in parts)
    together = [component for part in parts for component in part.components]
    assert [c.name for c in together] == [c.name for c in report.components]
    if len(parts) > 1:
        assert [(p.chunk_id, p.total_chunks) for p in parts] == [(n + 1, len(parts)) for n in range(len(parts))]
    else:
        assert parts[0].chunk_id is None


def test_the_message_has_awss_members() -> None:
    message = to_json(REPORT)
    assert message["overallDeviceStatus"] == "HEALTHY"
    assert message["messageType"] == "COMPLETE"
    assert message["components"][0]["componentStatusDetails"] is None
    assert message["components"][1]["componentStatusDetails"] == {
        "statusCodes": ["RUN_ERROR"],
        "statusReason": "exit code 1",
    }
    assert "chunkInfo" not in message
    assert "deploymentInformation" not in message
    assert "runtime" not in message


def test_a_component_too_big_for_one_message_loses_the_end_of_its_reason() -> None:
    long = ComponentHealth(name="a", version="1.0.0", status="BROKEN", status_reason="\N{WHALE}" * 100_000)
    (part,) = chunks(replace(REPORT, components=(long,)))
    assert len(encode(part)) <= 128_000
    assert 0 < len(part.components[0].status_reason) < 100_000


def test_one_broken_component_makes_the_device_unhealthy() -> None:
    assert overall_health(REPORT.components) is DeviceHealth.UNHEALTHY
    assert overall_health(REPORT.components[:1]) is DeviceHealth.HEALTHY


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        (Trigger.NUCLEUS_LAUNCH, MessageType.COMPLETE),
        (Trigger.CADENCE, MessageType.COMPLETE),
        (Trigger.NETWORK_RECONFIGURE, MessageType.COMPLETE),
        (Trigger.THING_GROUP_DEPLOYMENT, MessageType.PARTIAL),
        (Trigger.COMPONENT_STATUS_CHANGE, MessageType.PARTIAL),
        (Trigger.RECONNECT, MessageType.PARTIAL),
    ],
)
def test_the_trigger_says_whether_a_message_is_complete(trigger: Trigger, kind: MessageType) -> None:
    assert trigger.message_type is kind


def test_numbers_may_arrive_as_floats_and_details_be_null() -> None:
    message = to_json(REPORT)
    message["sequenceNumber"] = 7.0
    message["components"][1]["componentStatusDetails"] = {"statusCodes": None, "statusReason": None}
    report = read(message)
    assert report.sequence_number == 7
    assert report.components[1].status_codes == ()


@pytest.mark.parametrize(
    "change",
    [
        {"thing": None},
        {"sequenceNumber": "7"},
        {"sequenceNumber": True},
        {"sequenceNumber": -1},
        {"sequenceNumber": 1e300},
        {"timestamp": 1.5},
        {"trigger": "WHIM"},
        {"overallDeviceStatus": []},
        {"components": {}},
        {"components": ["a"]},
        {"components": [{"componentName": "a"}]},
        {"components": [{"componentName": "a", "version": "1.0.0", "status": "FINE"}]},
        {"deploymentInformation": 1},
        {"chunkInfo": {"chunkId": "1"}},
    ],
)
def test_a_malformed_message_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(NetworkError, match="fleet status"):
        read(json.dumps({**to_json(REPORT), **change}))


@pytest.mark.parametrize("message", [b"", b"\xff", b"[1]", b"nope", b"[" * 100_000])
def test_what_is_not_a_json_object_is_refused(message: bytes) -> None:
    with pytest.raises(NetworkError, match="fleet status"):
        read(message)
