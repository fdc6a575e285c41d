"""Core devices, as their health messages tell."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.effective import Effective
from monodon.cloud.greengrass.effective import describe as describe_effective
from monodon.cloud.greengrass.errors import not_found
from monodon.cloud.greengrass.limits import Limits
from monodon.cloud.paging import page, page_of, read_token
from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.core.status import UNINSTALLED, ComponentHealth, HealthReport, MessageType, Trigger, read
from monodon.errors import NetworkError

log = logging.getLogger(__name__)

Request = dict[str, Any]
_KIND = "CORE_DEVICE"
_LOCAL = "LOCAL"
_MAX_DETAILS = 1000
#: AWS's nucleus counts its messages from 0, Monodon's from 1.
_FIRST_SEQUENCE = 1
#: What a nucleus that does not say is.
_DEFAULT_RUNTIME = "aws_nucleus_classic"


class CoreDevices:
    """Operations on core devices, named as in the model.

    Args:
        describe_deployment: what is shown of a deployment by its id; None if it was deleted.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], float],
        arn_prefix: str,
        effective: Effective,
        describe_deployment: Callable[[str], dict[str, Json] | None],
        limits: Limits,
    ) -> None:
        self._store = store
        self._table = store.table("greengrass.cores")
        #: ``<thing>/<component>``.
        self._installed = store.table("greengrass.installed")
        self._now = now
        self._arn_prefix = arn_prefix
        self._effective = effective
        self._describe_deployment = describe_deployment
        self._limits = limits

    def has(self, arn: str) -> bool:
        """Whether there is a core device of that ARN."""
        return arn.startswith(self._arn_prefix) and self._table.get(arn.removeprefix(self._arn_prefix)) is not None

    def on_health(self, thing: str, payload: bytes) -> None:
        """Keep a health message; garbage, another thing's and a stale one are ignored."""
        try:
            report = read(payload)
        except NetworkError as error:
            log.warning("health message of %s ignored: %s", thing, error.message)
            return
        if report.thing != thing:
            log.warning("health message of %s ignored: it speaks for %s", thing, report.thing)
            return
        record = self._table.get(thing)
        if record is not None and _is_stale(report, record):
            log.debug("health message %d of %s is stale", report.sequence_number, thing)
            return
        with self._store.transaction():
            self._keep(thing, report, record)

    def _keep(self, thing: str, report: HealthReport, record: Mapping[str, Json] | None) -> None:
        now = self._now()
        is_first_part = record is None or record["sequence"] != report.sequence_number or not record["in_parts"]
        if report.message_type is MessageType.COMPLETE and is_first_part:
            named = {component.name for component in report.components}
            for key in list(self._installed.keys(f"{thing}/")):
                if key.partition("/")[2] not in named:
                    self._installed.delete(key)
        for component in report.components:
            self._keep_component(thing, component, report, now)
        if report.deployment is not None:
            for name in report.deployment.unchanged_root_components:
                known = self._installed.get(f"{thing}/{name}")
                if known is not None:
                    known.update(source=_source(report), reported=now)
                    self._installed.put(f"{thing}/{name}", known)
        if record is None:
            log.info("core device %s reported for the first time", thing)
        self._table.put(
            thing,
            {
                "status": str(report.overall),
                "version": report.ggc_version,
                "platform": report.platform,
                "architecture": report.architecture,
                "runtime": report.runtime or _DEFAULT_RUNTIME,
                "sequence": report.sequence_number,
                "said": report.timestamp_ms,
                "in_parts": report.total_chunks is not None and report.total_chunks > 1,
                "updated": now,
            },
        )

    def _keep_component(self, thing: str, component: ComponentHealth, report: HealthReport, now: float) -> None:
        key = f"{thing}/{component.name}"
        if component.status == UNINSTALLED:
            self._installed.delete(key)
            return
        before = self._installed.get(key)
        is_same = before is not None and (before["state"], before["version"]) == (component.status, component.version)
        source = _source(report) or (before["source"] if before is not None else None)
        self._installed.put(
            key,
            {
                "version": component.version,
                "state": component.status,
                "details": component.status_reason[:_MAX_DETAILS],
                "codes": list(component.status_codes),
                "is_root": component.is_root,
                "source": source,
                "reported": now,
                "changed": before["changed"] if before is not None and is_same else now,
            },
        )

    # Operations

    def list_core_devices(self, request: Request, context: RequestContext) -> dict[str, Json]:
        group = request.get("thingGroupArn")
        things = self._effective.devices_of_group(group) if group is not None else None
        after = read_token(request.get("nextToken"), error="ValidationException")
        entries = (
            (
                name,
                {
                    "coreDeviceThingName": name,
                    "status": record["status"],
                    "lastStatusUpdateTimestamp": record["updated"],
                    "platform": record["platform"],
                    "architecture": record["architecture"],
                    "runtime": record["runtime"],
                },
            )
            for name, record in self._table.items(after=after)
            if (things is None or name in things)
            and request.get("status", record["status"]) == record["status"]
            and request.get("runtime", record["runtime"]) == record["runtime"]
        )
        devices, token = page(entries, request.get("maxResults", self._limits.page))
        return {"coreDevices": devices, "nextToken": token}

    def get_core_device(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["coreDeviceThingName"]
        record = self._find(name)
        return {
            "coreDeviceThingName": name,
            "coreVersion": record["version"],
            "platform": record["platform"],
            "architecture": record["architecture"],
            "runtime": record["runtime"],
            "status": record["status"],
            "lastStatusUpdateTimestamp": record["updated"],
            "tags": self._store.table("greengrass.tags").get(self._arn_prefix + name),
        }

    def delete_core_device(self, request: Request, context: RequestContext) -> None:
        name = request["coreDeviceThingName"]
        self._find(name)
        self._table.delete(name)
        for key in list(self._installed.keys(f"{name}/")):
            self._installed.delete(key)
        self._effective.forget(name)
        self._store.table("greengrass.tags").delete(self._arn_prefix + name)
        log.info("core device %s deleted", name)

    def list_installed_components(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["coreDeviceThingName"]
        self._find(name)
        roots_only = request.get("topologyFilter", "ROOT") == "ROOT"
        entries = (
            (key, _installed(key.partition("/")[2], record))
            for key, record in self._installed.items(f"{name}/")
            if record["is_root"] or not roots_only
        )
        found, token = self._page(entries, request)
        return {"installedComponents": found, "nextToken": token}

    def list_effective_deployments(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["coreDeviceThingName"]
        self._find(name)
        described = (
            (deployment_id, record, self._describe_deployment(deployment_id))
            for deployment_id, record in self._effective.of(name)
        )
        entries = (
            (deployment_id, describe_effective(deployment_id, record, deployment))
            for deployment_id, record, deployment in described
            if deployment is not None
        )
        found, token = self._page(entries, request)
        return {"effectiveDeployments": found, "nextToken": token}

    def _page(self, entries: Any, request: Request) -> tuple[list[dict[str, Json]], str | None]:
        limit = request.get("maxResults", self._limits.page)
        return page_of(entries, request.get("nextToken"), limit, error="ValidationException")

    def _find(self, name: str) -> dict[str, Json]:
        record = self._table.get(name)
        if record is None:
            raise not_found(_KIND, name)
        return record


def _is_stale(report: HealthReport, record: Mapping[str, Json]) -> bool:
    """A lower sequence number is stale, unless a device that was set up anew begins to count, later than it did."""
    sequence: int = record["sequence"]
    if report.sequence_number >= sequence:
        return False
    is_anew = report.trigger is Trigger.NUCLEUS_LAUNCH and report.sequence_number <= _FIRST_SEQUENCE
    return not is_anew or report.timestamp_ms <= record.get("said", 0)


def _source(report: HealthReport) -> str | None:
    """Which deployment touched the components of a message."""
    if report.trigger is Trigger.LOCAL_DEPLOYMENT:
        return _LOCAL
    return report.deployment.deployment_id if report.deployment is not None else None


def _installed(name: str, record: Mapping[str, Json]) -> dict[str, Json]:
    return {
        "componentName": name,
        "componentVersion": record["version"],
        "lifecycleState": record["state"],
        "lifecycleStateDetails": record["details"] or None,
        "lifecycleStatusCodes": record["codes"],
        "isRoot": record["is_root"],
        "lastStatusChangeTimestamp": record["changed"],
        "lastReportedTimestamp": record["reported"],
        "lastInstallationSource": record["source"],
    }
