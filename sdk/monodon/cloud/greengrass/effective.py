"""How each deployment stands on each device: what ListEffectiveDeployments shows."""

from collections.abc import Callable, Iterator, Mapping

from monodon.cloud.store import Store
from monodon.core.json import Json, read_json


class Effective:
    """Executions by device and deployment."""

    def __init__(self, store: Store, *, now: Callable[[], float]) -> None:
        #: ``<thing>/<deployment id>``.
        self._table = store.table("greengrass.effective")
        #: ``<group ARN>|<thing>``: devices that succeeded with a deployment of a group, also after they left it.
        self._succeeded = store.table("greengrass.succeeded")
        self._now = now

    def of(self, thing: str) -> Iterator[tuple[str, dict[str, Json]]]:
        """Yield deployment ids and records of a device."""
        for key, record in self._table.items(f"{thing}/"):
            yield key.partition("/")[2], record

    def devices_of_group(self, group_arn: str) -> set[str]:
        """Return the devices that have successfully deployed a deployment of a group."""
        return {key.rpartition("|")[2] for key in self._succeeded.keys(f"{group_arn}|")}

    def forget(self, thing: str) -> None:
        """Drop all of a device."""
        for key in list(self._table.keys(f"{thing}/")):
            self._table.delete(key)

    def job_execution(
        self, *, thing: str, deployment_id: str, target: str, status: str, details: Mapping[str, str], queued_at: float
    ) -> None:
        """Keep an execution of a group's job; a device that left the target has none."""
        if status == "REMOVED":
            self._table.delete(f"{thing}/{deployment_id}")
            return
        self._put(
            thing,
            deployment_id,
            status,
            reason=_reason(details.get("detailed-deployment-status"), details.get("deployment-failure-cause")),
            stack=_texts(details.get("deployment-error-stack")),
            types=_texts(details.get("deployment-error-types")),
            created=queued_at,
        )
        if status == "SUCCEEDED":
            self._succeeded.put(f"{target}|{thing}", {})

    def thing_status(self, thing: str, deployment_id: str, status: str, details: Mapping[str, Json]) -> None:
        """Keep what a device reports of its own deployment; a finished one is COMPLETED (cloud notes, section 4)."""
        cause = details.get("failureCause")
        self._put(
            thing,
            deployment_id,
            "COMPLETED" if status == "SUCCEEDED" else status,
            reason=_reason(details.get("detailedStatus"), cause if isinstance(cause, str) else None),
            stack=_list(details.get("errorStack")),
            types=_list(details.get("errorTypes")),
        )

    def cancel_queued(self, thing: str, deployment_id: str) -> None:
        """A deployment that the device has not begun is canceled."""
        record = self._table.get(f"{thing}/{deployment_id}")
        if record is not None and record["status"] == "QUEUED":
            self._put(thing, deployment_id, "CANCELED", reason=None, stack=[], types=[])

    def _put(
        self,
        thing: str,
        deployment_id: str,
        status: str,
        *,
        reason: str | None,
        stack: list[str],
        types: list[str],
        created: float | None = None,
    ) -> None:
        now = self._now()
        if created is None:
            before = self._table.get(f"{thing}/{deployment_id}")
            created = now if before is None else before["created"]
        self._table.put(
            f"{thing}/{deployment_id}",
            {
                "status": status,
                "reason": reason,
                "error_stack": stack,
                "error_types": types,
                "created": created,
                "modified": now,
            },
        )


def describe(deployment_id: str, record: Mapping[str, Json], deployment: Mapping[str, Json]) -> dict[str, Json]:
    """An entry of ListEffectiveDeployments."""
    entry = {
        "deploymentId": deployment_id,
        **deployment,
        "coreDeviceExecutionStatus": record["status"],
        "reason": record["reason"],
        "creationTimestamp": record["created"],
        "modifiedTimestamp": record["modified"],
    }
    if record["error_stack"] or record["error_types"]:
        entry["statusDetails"] = {"errorStack": record["error_stack"], "errorTypes": record["error_types"]}
    return entry


def _reason(detailed: Json, cause: str | None) -> str | None:
    """The detailed status, followed by the cause of a failure."""
    status = detailed if isinstance(detailed, str) else None
    return f"{status}: {cause}" if status and cause else status or cause


def _texts(text: str | None) -> list[str]:
    """A JSON list in a job's status details; anything else is no list."""
    if text is None:
        return []
    try:
        return _list(read_json(text))
    except ValueError:
        return []


def _list(value: Json) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
