"""What a core device says to the cloud about deployments, and what it makes of the answers. Pure.

Source: cloud notes, section 5; Greengrass nucleus, ``IotJobsHelper.java``, ``ShadowDeploymentListener.java``.
"""

import json
from collections.abc import Mapping
from typing import Final, NamedTuple

from monodon.core.json import Json, read_json
from monodon.core.outcome import Outcome, Status

NAMESPACE: Final = "namespace-aws-gg-deployment"
SHADOW: Final = "AWSManagedGreengrassV2Deployment"
CANCELED: Final = "CANCELED"
FINAL: Final = frozenset({"SUCCEEDED", "FAILED", "REJECTED", "CANCELED"})
NOTIFY: Final = f"jobs/notify-{NAMESPACE}"
NEXT_GET: Final = f"jobs/$next/{NAMESPACE}/get"
SHADOW_GET: Final = f"shadow/name/{SHADOW}/get"
SHADOW_UPDATE: Final = f"shadow/name/{SHADOW}/update"
_JOB: Final = f"/{NAMESPACE}/update"
_KEPT_IDS: Final = 100
_IN_PROGRESS: Final = Outcome(status=Status.IN_PROGRESS)


class Outgoing(NamedTuple):
    """A message to the cloud. A ``receipt`` above 0 comes back to the device once the broker has taken it."""

    topic: str
    payload: bytes
    receipt: int = 0


def prefix_of(thing: str) -> str:
    """What all reserved topics of a thing begin with."""
    return f"$aws/things/{thing}/"


def filters(thing: str) -> tuple[str, ...]:
    """What a device listens to: answers about jobs and the deployment shadow, and news of jobs."""
    prefix = prefix_of(thing)
    return (
        f"{prefix}{NOTIFY}",
        f"{prefix}jobs/+/{NAMESPACE}/get/+",
        f"{prefix}jobs/+/{NAMESPACE}/update/+",
        f"{prefix}{SHADOW_GET}/+",
        f"{prefix}{SHADOW_UPDATE}/accepted",
        f"{prefix}{SHADOW_UPDATE}/rejected",
    )


def read_object(payload: bytes) -> Mapping[str, Json]:
    """A message as an object; an empty one if it is none."""
    try:
        body = read_json(payload) if payload else {}
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def write(body: Mapping[str, Json]) -> bytes:
    """An object as a message."""
    return json.dumps(body, separators=(",", ":")).encode()


def is_job_update(name: str) -> bool:
    """Whether a topic (without the thing's prefix) answers an update of a job."""
    return _JOB in name


class JobTalk:
    """The device's side of jobs."""

    __slots__ = ("_last_queued_at", "_prefix", "_seen", "_thing")

    def __init__(self, thing: str) -> None:
        self._thing = thing
        self._prefix = prefix_of(thing)
        self._last_queued_at = -1.0
        self._seen: tuple[str, ...] = ()

    def ask(self, token: str) -> Outgoing:
        """Ask for the next job."""
        body = {"jobId": "$next", "thingName": self._thing, "includeJobDocument": True, "clientToken": token}
        return Outgoing(self._prefix + NEXT_GET, write(body))

    def update(self, job_id: str, status: str, outcome: Outcome | None, token: str) -> Outgoing:
        """Say how a job fares."""
        details = {} if outcome is None else outcome.job_details()
        body = {
            "jobId": job_id,
            "thingName": self._thing,
            "status": status,
            "statusDetails": details,
            "clientToken": token,
        }
        return Outgoing(f"{self._prefix}jobs/{job_id}{_JOB}", write(body))

    def new(self, execution: Json) -> tuple[str, Json] | None:
        """Job id and document of an execution that is not known yet; an older one never is."""
        if not isinstance(execution, Mapping) or not isinstance(execution.get("jobId"), str):
            return None
        job_id, queued_at = str(execution["jobId"]), execution.get("queuedAt")
        at = float(queued_at) if isinstance(queued_at, int | float) else 0.0
        if at < self._last_queued_at or (at == self._last_queued_at and job_id in self._seen):
            return None
        self._seen = (job_id,) if at > self._last_queued_at else (*self._seen, job_id)[-_KEPT_IDS:]
        self._last_queued_at = at
        return job_id, execution.get("jobDocument")


class ShadowTalk:
    """The device's side of the deployment shadow."""

    __slots__ = ("_last_arn", "_prefix", "_version")

    def __init__(self, thing: str) -> None:
        self._prefix = prefix_of(thing)
        self._version: int | None = None
        self._last_arn: str | None = None

    def ask(self, token: str) -> Outgoing:
        """Read the shadow."""
        return Outgoing(self._prefix + SHADOW_GET, write({"clientToken": token}))

    def update(self, arn: str | None, status: str, outcome: Outcome | None, version: str, token: str) -> Outgoing:
        """Report how a configuration fares, against the version of the shadow seen last."""
        reported = {
            "ggcVersion": version,
            "fleetConfigurationArnForStatus": arn,
            "status": status,
            "statusDetails": (outcome or _IN_PROGRESS).shadow_details(),
        }
        body: dict[str, Json] = {"state": {"reported": reported}, "clientToken": token}
        if self._version is not None:
            body["version"] = self._version
        return Outgoing(self._prefix + SHADOW_UPDATE, write(body))

    def forget_version(self) -> None:
        """There is no shadow, or another one than was thought."""
        self._version = None

    def new(self, body: Mapping[str, Json]) -> tuple[str, Json] | None:
        """What an accepted get or update asks for: desired status and document; None: nothing new."""
        version, state = body.get("version"), body.get("state")
        if isinstance(version, int):
            if self._version is not None and version < self._version:
                return None
            self._version = version
        state = state if isinstance(state, Mapping) else {}
        desired, reported = state.get("desired"), state.get("reported")
        if not isinstance(desired, Mapping) or desired.get("desiredStatus") is None:
            return None
        document = read_object(str(desired.get("fleetConfig") or "").encode())
        arn = document.get("configurationArn")
        if not isinstance(arn, str):
            return None
        return self._wanted(arn, str(desired["desiredStatus"]), document, reported)

    def _wanted(self, arn: str, status: str, document: Json, reported: Json) -> tuple[str, Json] | None:
        said = reported if isinstance(reported, Mapping) else {}
        is_first, is_known = self._last_arn is None, self._last_arn == arn
        is_over = said.get("fleetConfigurationArnForStatus") == arn and said.get("status") in FINAL
        self._last_arn = arn
        if is_first and (status == CANCELED or is_over):
            return None
        if status == CANCELED:
            return CANCELED, None
        return None if is_known else (status, document)
