"""Deployments: revisions of a target, delivered by a job (group) or the deployment shadow (thing)."""

import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Protocol

from monodon.cloud.context import RequestContext
from monodon.cloud.greengrass.document import read_deployment, with_defaults
from monodon.cloud.greengrass.effective import Effective
from monodon.cloud.greengrass.errors import conflict, invalid, not_found
from monodon.cloud.greengrass.large_documents import LargeDocuments
from monodon.cloud.greengrass.limits import Limits
from monodon.cloud.greengrass.tags import Tags
from monodon.cloud.greengrass.tokens import ClientTokens
from monodon.cloud.iot.registry import Registry
from monodon.cloud.paging import page, read_token
from monodon.cloud.store import Store
from monodon.core.json import Json
from monodon.core.names import TargetKind, configuration_arn, deployment_arn

log = logging.getLogger(__name__)

Request = dict[str, Any]
NAMESPACE = "aws-gg-deployment"
SHADOW = "AWSManagedGreengrassV2Deployment"
_KIND = "DEPLOYMENT"
_KNOWN_JOBS = 64
_KEPT = ("deploymentName", "components", "iotJobConfiguration", "parentTargetArn")
#: A deployment of a thing by what its device reports of it.
_REPORTED = {
    "IN_PROGRESS": "ACTIVE",
    "SUCCEEDED": "COMPLETED",
    "FAILED": "FAILED",
    "REJECTED": "FAILED",
    "CANCELED": "CANCELED",
}
#: Newest first: keys count down from here, in milliseconds.
_END_OF_TIME = 10**14


class JobControl(Protocol):
    """What is needed of IoT jobs (``cloud.jobs.Jobs``)."""

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
    ) -> str: ...

    def cancel(self, job_id: str) -> None: ...


class Execution(Protocol):
    """One job on one thing (``cloud.job_store.JobExecution``)."""

    @property
    def job_id(self) -> str: ...
    @property
    def thing(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def namespace(self) -> str | None: ...
    @property
    def details(self) -> Mapping[str, str]: ...
    @property
    def queued_at(self) -> float: ...


class Deployments:
    """Operations on deployments, named as in the model.

    Args:
        update_shadow: (thing, shadow name, desired) as the cloud.
    """

    def __init__(
        self,
        store: Store,
        *,
        registry: Registry,
        tokens: ClientTokens,
        tags: Tags,
        effective: Effective,
        jobs: JobControl,
        update_shadow: Callable[[str, str, Mapping[str, Json]], None],
        documents: LargeDocuments,
        limits: Limits,
    ) -> None:
        self._store = store
        self._table = store.table("greengrass.deployments")
        #: ``<time, counting down>/<id>``: the order of listings.
        self._order = store.table("greengrass.deployment_order")
        self._targets = store.table("greengrass.targets")
        self._of_job = store.table("greengrass.deployment_of_job")
        self._known_jobs: dict[str, Mapping[str, Json]] = {}
        self._registry = registry
        self._tokens = tokens
        self._tags = tags
        self._effective = effective
        self._jobs = jobs
        self._update_shadow = update_shadow
        self._documents = documents
        self._limits = limits

    def has(self, arn: str) -> bool:
        """Whether there is a deployment of that ARN."""
        prefix = self._arn("")
        return arn.startswith(prefix) and self._table.get(arn.removeprefix(prefix)) is not None

    def configuration_for(self, thing: str, deployment_id: str, context: RequestContext) -> dict[str, Json]:
        """Answer a device that asks for the whole document of a deployment, GetDeploymentConfiguration.

        Raises:
            ServiceError: ResourceNotFoundException, there is none, or none for this device.
        """
        arn = self._find(deployment_id)["target"]
        if arn != self._registry.thing_arn(thing) and not self._registry.is_member_of_arn(arn, thing):
            raise not_found(_KIND, deployment_id)
        return self._documents.configuration(deployment_id, context)

    # Operations

    def create_deployment(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return self._tokens.once("CreateDeployment", request.get("clientToken"), lambda: self._create(request))

    def get_deployment(self, request: Request, context: RequestContext) -> dict[str, Json]:
        deployment_id = request["deploymentId"]
        record = self._find(deployment_id)
        return {
            **self._summary(deployment_id, record),
            "components": record["components"],
            "deploymentPolicies": record["policies"],
            "iotJobConfiguration": record["iotJobConfiguration"],
            "iotJobId": record["job_id"],
            "iotJobArn": record["job_arn"],
            "tags": self._tags.of(self._arn(deployment_id)),
        }

    def list_deployments(self, request: Request, context: RequestContext) -> dict[str, Json]:
        latest_only = request.get("historyFilter", "LATEST_ONLY") == "LATEST_ONLY"
        after = read_token(request.get("nextToken"), error="ValidationException")
        found, token = page(self._listed(request, after, latest_only), request.get("maxResults", self._limits.page))
        return {"deployments": found, "nextToken": token}

    def cancel_deployment(self, request: Request, context: RequestContext) -> dict[str, Json]:
        deployment_id = request["deploymentId"]
        record = self._find(deployment_id)
        if record["status"] != "ACTIVE":
            message = f"Deployment {deployment_id} is {record['status']}; only an active one can be canceled"
            raise conflict(message, _KIND, deployment_id)
        self._end(deployment_id, record, "CANCELED")
        log.info("deployment %s canceled", deployment_id)
        return {"message": "SUCCESS"}

    def delete_deployment(self, request: Request, context: RequestContext) -> None:
        deployment_id = request["deploymentId"]
        record = self._find(deployment_id)
        if record["status"] == "ACTIVE":
            message = f"Deployment {deployment_id} is active; cancel it first"
            raise conflict(message, _KIND, deployment_id)
        self._table.delete(deployment_id)
        self._order.delete(_order_key(record, deployment_id))
        self._tags.forget(self._arn(deployment_id))
        self._documents.forget(deployment_id)
        log.info("deployment %s deleted", deployment_id)

    # What devices and jobs tell

    def on_execution(self, execution: Execution) -> None:
        """Keep how a group's deployment stands on a device."""
        known = self._deployment_of(execution.job_id) if execution.namespace == NAMESPACE else None
        if known is None:
            return
        self._effective.job_execution(
            thing=execution.thing,
            deployment_id=known["deployment_id"],
            target=known["target"],
            status=str(execution.status),
            details=execution.details,
            queued_at=execution.queued_at,
        )

    def _deployment_of(self, job_id: str) -> Mapping[str, Json] | None:
        """Deployment and target of a job; ids are never given twice, so what was found once holds."""
        known = self._known_jobs.get(job_id)
        if known is None:
            known = self._of_job.get(job_id)
            if known is not None:
                if len(self._known_jobs) >= _KNOWN_JOBS:
                    self._known_jobs.clear()
                self._known_jobs[job_id] = known
        return known

    def on_job(self, job_id: str, status: str) -> None:
        """A job ended by itself: its abort criteria were met."""
        known = self._of_job.get(job_id)
        record = self._table.get(known["deployment_id"]) if known is not None else None
        if known is not None and record is not None and record["status"] == "ACTIVE" and status == "CANCELED":
            record["status"] = "CANCELED"
            self._table.put(known["deployment_id"], record)

    def on_shadow(self, thing: str, reported: Mapping[str, Json]) -> None:
        """Keep what a device reports of its own deployment, by the deployment shadow."""
        arn, status = reported.get("fleetConfigurationArnForStatus"), reported.get("status")
        target = self._targets.get(self._registry.thing_arn(thing))
        if target is None or not isinstance(arn, str) or not isinstance(status, str) or status not in _REPORTED:
            return
        record = self._table.get(target["latest"])
        if record is None or record["configuration_arn"] != arn:
            return
        details = reported.get("statusDetails")
        self._effective.thing_status(thing, target["latest"], status, details if isinstance(details, dict) else {})
        if record["status"] == "ACTIVE":
            record["status"] = _REPORTED[status]
            self._table.put(target["latest"], record)

    # Making one

    def _create(self, request: Request) -> dict[str, Json]:
        arn = request["targetArn"]
        kind, name = self._target(request)
        target = self._targets.get(arn) or {"revision": 0, "latest": None}
        revision = target["revision"] + 1
        now = self._registry.now()
        deployment_id = str(uuid.uuid4())
        place = (self._registry.region, self._registry.account)
        configuration = str(configuration_arn(*place, kind, name, revision))
        deployment = read_deployment(
            request,
            deployment_id=deployment_id,
            configuration_arn=configuration,
            target=f"{kind}/{name}",
            timestamp_ms=int(now * 1000),
        )
        document = self._documents.sent(deployment, kind)
        record: dict[str, Json] = {
            **{member: request.get(member) for member in _KEPT},
            "policies": with_defaults(request.get("deploymentPolicies", {})),
            "target": arn,
            "revision": str(revision),
            "created": now,
            "status": "ACTIVE",
            "is_latest": True,
            "job_id": str(uuid.uuid4()),
            "job_arn": None,
            "configuration_arn": configuration,
        }
        self._supersede(target["latest"])
        self._targets.put(arn, {"revision": revision, "latest": deployment_id})
        self._table.put(deployment_id, record)
        self._order.put(_order_key(record, deployment_id), {})
        self._tags.put(self._arn(deployment_id), request.get("tags"))
        self._deliver(kind, name, deployment_id, record, document)
        log.info("deployment %s: revision %d of %s", deployment_id, revision, arn)
        answer: dict[str, Json] = {"deploymentId": deployment_id}
        if kind == "thinggroup":
            answer.update(iotJobId=record["job_id"], iotJobArn=record["job_arn"])
        return answer

    def _deliver(
        self, kind: str, name: str, deployment_id: str, record: dict[str, Json], document: Mapping[str, Json]
    ) -> None:
        if kind == "thing":
            record["job_id_of_thing"], record["job_id"] = record["job_id"], None
            self._table.put(deployment_id, record)
            self._effective.thing_status(name, deployment_id, "QUEUED", {})
            self._update_shadow(name, SHADOW, {"fleetConfig": json.dumps(document), "desiredStatus": "SUCCEEDED"})
            return
        job_id, configuration = record["job_id"], record["iotJobConfiguration"] or {}
        self._of_job.put(job_id, {"deployment_id": deployment_id, "target": record["target"]})
        record["job_arn"] = self._jobs.create(
            job_id,
            [record["target"]],
            document,
            namespace=NAMESPACE,
            continuous=True,
            rollout=configuration.get("jobExecutionsRolloutConfig"),
            abort=configuration.get("abortConfig"),
            timeout=configuration.get("timeoutConfig"),
        )
        self._table.put(deployment_id, record)

    def _supersede(self, deployment_id: str | None) -> None:
        record = self._table.get(deployment_id) if deployment_id is not None else None
        if deployment_id is None or record is None:
            return
        record["is_latest"] = False
        if record["status"] == "ACTIVE":
            self._end(deployment_id, record, "INACTIVE")
        else:
            if record["status"] == "COMPLETED":
                record["status"] = "INACTIVE"
            self._table.put(deployment_id, record)

    def _end(self, deployment_id: str, record: dict[str, Json], status: str) -> None:
        """End an active deployment: devices that have not begun never will."""
        record["status"] = status
        self._table.put(deployment_id, record)
        if record["job_id"] is not None:
            self._jobs.cancel(record["job_id"])
            return
        thing = self._registry.name_of(record["target"], "thing")
        if thing is not None and self._registry.has_thing(thing):
            self._effective.cancel_queued(thing, deployment_id)
            if status == "CANCELED":
                self._update_shadow(thing, SHADOW, {"desiredStatus": "CANCELED"})

    def _target(self, request: Request) -> tuple[TargetKind, str]:
        """Kind and name of the target.

        Raises:
            ServiceError: there is none, or it cannot have a parent.
        """
        arn, parent = request["targetArn"], request.get("parentTargetArn")
        group, thing = self._registry.name_of(arn, "thinggroup"), self._registry.name_of(arn, "thing")
        if parent is not None:
            if group is None:
                raise invalid("targetArn", "a subdeployment's target must be a thing group")
            parent_name = self._registry.name_of(parent, "thinggroup")
            if parent_name is None or self._registry.groups.get(parent_name) is None:
                raise not_found("THING_GROUP", parent)
        if group is not None and self._registry.groups.get(group) is not None:
            return "thinggroup", group
        if thing is not None and self._registry.things.get(thing) is not None:
            return "thing", thing
        raise not_found("THING" if thing is not None else "THING_GROUP", arn)

    def _listed(self, request: Request, after: str | None, latest_only: bool) -> Iterator[tuple[str, dict[str, Json]]]:
        for key in self._order.keys(after=after):
            deployment_id = key.partition("/")[2]
            record = self._table.get(deployment_id)
            if record is None or (latest_only and not record["is_latest"]):
                continue
            if request.get("targetArn", record["target"]) != record["target"]:
                continue
            if request.get("parentTargetArn", record["parentTargetArn"]) != record["parentTargetArn"]:
                continue
            yield key, self._summary(deployment_id, record)

    def _find(self, deployment_id: str) -> dict[str, Json]:
        record = self._table.get(deployment_id)
        if record is None:
            raise not_found(_KIND, deployment_id)
        return record

    def describe(self, deployment_id: str) -> dict[str, Json] | None:
        """Return what a device's list of effective deployments shows of a deployment; None if it was deleted."""
        record = self._table.get(deployment_id)
        if record is None:
            return None
        return {
            "deploymentName": record["deploymentName"] or "",
            "targetArn": record["target"],
            "iotJobId": record["job_id"] or record.get("job_id_of_thing"),
            "iotJobArn": record["job_arn"],
        }

    @staticmethod
    def _summary(deployment_id: str, record: Mapping[str, Json]) -> dict[str, Json]:
        return {
            "targetArn": record["target"],
            "revisionId": record["revision"],
            "deploymentId": deployment_id,
            "deploymentName": record["deploymentName"],
            "creationTimestamp": record["created"],
            "deploymentStatus": record["status"],
            "isLatestForTarget": record["is_latest"],
            "parentTargetArn": record["parentTargetArn"],
        }

    def _arn(self, deployment_id: str) -> str:
        return f"{deployment_arn(self._registry.region, self._registry.account, 'x')}"[:-1] + deployment_id


def _order_key(record: Mapping[str, Json], deployment_id: str) -> str:
    return f"{_END_OF_TIME - int(record['created'] * 1000):014}/{deployment_id}"
