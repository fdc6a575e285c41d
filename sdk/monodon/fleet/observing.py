"""Looking at a ring while it bakes: executions, components, and the figures that components publish."""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from monodon.core.metrics import SHADOW, Report, read_reports
from monodon.errors import FleetError
from monodon.fleet.aws import Aws, is_missing, told
from monodon.fleet.clustering import printable
from monodon.fleet.following import Created, effective, installed
from monodon.fleet.gates import ComponentSeen, DeviceSeen, Reports
from monodon.fleet.known import SUCCESSES
from monodon.fleet.live import each, members_of, paged, reported_of
from monodon.fleet.patience import Patience

#: Devices of a ring whose components and figures count.
MAX_MEASURED = 100
#: Devices whose figures are asked for at a look; those that were not asked for longest. A whole look asks for all.
MAX_ASKED = 10
#: How often a group's members are read again.
_LOOKS_PER_MEMBERS = 20
#: A baseline that is older than this says nothing of now.
MAX_AGE_S = 900.0
#: Times in the shadow are whole seconds.
_ROUNDED_S = 1.0


class Observer:
    """Looks at the deployments of one ring, time and again; it remembers what it saw, and how often states changed.

    A look costs a few calls however many devices there are: components are asked for where a device told AWS
    something since, figures of a few devices at a time. Nothing is decided for good without a whole look.

    Args:
        names: the components that the deployments name; others are not looked at.
        measures: whether figures are wanted at all.
    """

    def __init__(
        self,
        aws: Aws,
        created: Sequence[Created],
        names: Iterable[str],
        *,
        patience: Patience,
        measures: bool = True,
        reasons: Mapping[str, str] | None = None,
        before: Mapping[str, Reports] | None = None,
    ) -> None:
        self._aws = aws
        self._created = created
        self._names = frozenset(names)
        self._patience = patience
        self._measures = measures
        self._reasons = reasons or {}
        self._before = before or {}
        self._changed: dict[tuple[str, str], tuple[object, int]] = {}
        self._looks = 0
        self._members: tuple[str, ...] = ()
        self._reported: dict[str, float] = {}
        self._parts: dict[str, dict[str, ComponentSeen]] = {}
        self._stamped: dict[str, dict[str, tuple[Report, float]]] = {}
        self._asked: dict[str, int] = {}

    def look(self, *, whole: bool = True) -> tuple[DeviceSeen, ...]:
        """Return each device of the ring, by name.

        Args:
            whole: ask for everything anew.

        Raises:
            FleetError: AWS refuses a call for good.
        """
        executions = self._executions(whole)
        ran = sorted(thing for thing, (status, _) in executions.items() if status in SUCCESSES)
        measured = sample(ran)
        _ = self._aws.greengrass, self._aws.data  # made before threads share them
        self._ask_components(measured, whole)
        self._ask_figures(measured, whole)
        self._looks += 1
        chosen = set(measured)
        return tuple(
            DeviceSeen(
                thing=thing,
                status=status,
                reason=self._reasons.get(thing, ""),
                components=self._parts.get(thing, {}) if thing in chosen else {},
                reports=self._figures(thing, ended_s) if thing in chosen else {},
                is_measured=thing in chosen,
            )
            for thing, (status, ended_s) in sorted(executions.items())
        )

    def _executions(self, whole: bool) -> dict[str, tuple[str, float]]:
        if whole or self._looks % _LOOKS_PER_MEMBERS == 0:
            arns = [one.target_arn for one in self._created]
            self._members = tuple(
                thing for arn in arns for thing in self._patience.call(partial(members_of, self._aws, arn))
            )
        found = dict.fromkeys(self._members, ("NOT_STARTED", 0.0))
        for one in self._created:
            found |= self._patience.call(partial(_executions, self._aws, one))
        return found

    def _ask_components(self, measured: Sequence[str], whole: bool) -> None:
        """Ask where something may be new: when a device reported is read first, so that nothing falls in between."""
        if not measured:
            return
        reported: dict[str, float] = {}
        for one in self._created:
            reported |= self._patience.call(partial(reported_of, self._aws, one.target_arn))
        asked = [
            thing
            for thing in measured
            if whole or thing not in self._parts or self._reported.get(thing) != reported.get(thing)
        ]
        self._parts |= each(lambda thing: (thing, self._components(thing)), asked)
        self._reported |= {thing: reported[thing] for thing in asked if thing in reported}

    def _ask_figures(self, measured: Sequence[str], whole: bool) -> None:
        if not self._measures:
            return
        longest = sorted(measured, key=lambda thing: self._asked.get(thing, -1))
        asked = measured if whole else longest[:MAX_ASKED]
        found = each(lambda thing: (thing, self._patience.call(lambda: stamped_reports(self._aws, thing))), asked)
        self._stamped |= found
        self._asked |= dict.fromkeys(asked, self._looks)

    def _components(self, thing: str) -> dict[str, ComponentSeen]:
        found = {}
        for one in self._patience.call(lambda: installed(self._aws, thing)):
            name = one["componentName"]
            if name in self._names:
                found[name] = ComponentSeen(
                    version=printable(one.get("componentVersion", ""), 100),
                    state=str(one.get("lifecycleState") or ""),
                    changes=self._count(thing, name, one.get("lastStatusChangeTimestamp")),
                    details=printable(one.get("lifecycleStateDetails") or "", 300),
                )
        return found

    def _count(self, thing: str, name: str, changed: object) -> int:
        """AWS tells when a state changed last, not how often: changes between two looks count as one."""
        known, count = self._changed.get((thing, name), (changed, 0))
        count = count + 1 if known != changed else count
        self._changed[thing, name] = (changed, count)
        return count

    def _figures(self, thing: str, ended_s: float) -> Reports:
        """What was measured after the device had ended the deployment, by the cloud's clock."""
        before = self._before.get(thing, {})
        return {
            name: report
            for name, (report, written_s) in self._stamped.get(thing, {}).items()
            if name in self._names
            and written_s + _ROUNDED_S > ended_s
            and (name not in before or report.at_s > before[name].at_s)
        }


def current_reports(
    aws: Aws, things: Iterable[str], *, patience: Patience, now: Callable[[], float] = time.time
) -> dict[str, Reports]:
    """Return the figures that some of these things published lately; things without any are left out.

    Raises:
        FleetError: AWS refuses a call for good.
    """
    _ = aws.data  # made before threads share it
    chosen = sample(sorted(set(things)))
    found = each(lambda thing: (thing, patience.call(lambda: stamped_reports(aws, thing))), chosen)
    lately = {
        thing: {name: report for name, (report, written_s) in stamped.items() if now() - written_s <= MAX_AGE_S}
        for thing, stamped in found
    }
    return {thing: reports for thing, reports in lately.items() if reports}


def stamped_reports(aws: Aws, thing: str) -> dict[str, tuple[Report, float]]:
    """Return the report of each component of a thing, and when the cloud took it; what is none is passed over."""
    try:
        with told():
            answer = aws.data.get_thing_shadow(thingName=thing, shadowName=SHADOW)
            document = json.loads(answer["payload"].read())
        reports = read_reports(document)
        metadata = document["metadata"]["reported"]
        return {name: (report, float(metadata[name]["at"]["timestamp"])) for name, report in reports.items()}
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}
    except FleetError as error:
        if isinstance(error.__cause__, ClientError) and is_missing(error.__cause__):
            return {}
        raise


def sample(things: Sequence[str]) -> tuple[str, ...]:
    """Return at most `MAX_MEASURED` of some things, evenly spread, always the same."""
    if len(things) <= MAX_MEASURED:
        return tuple(things)
    return tuple(things[number * len(things) // MAX_MEASURED] for number in range(MAX_MEASURED))


def _executions(aws: Aws, created: Created) -> dict[str, tuple[str, float]]:
    """The status of each thing, and when the cloud heard of it; in seconds since 1970."""
    with told():
        if created.job_id is not None and ":thinggroup/" in created.target_arn:
            found = paged(aws.iot, "list_job_executions_for_job", "executionSummaries", 250, jobId=created.job_id)
            return {
                one["thingArn"].rpartition("/")[2]: (
                    one["jobExecutionSummary"]["status"],
                    _seconds(one["jobExecutionSummary"].get("lastUpdatedAt")),
                )
                for one in found
            }
        thing = created.target_arn.rpartition("/")[2]
        one = effective(aws, thing, created.deployment_id)
        return {thing: (str(one["coreDeviceExecutionStatus"]), _seconds(one.get("modifiedTimestamp")))} if one else {}


def _seconds(moment: Any) -> float:
    return float(moment.timestamp()) if moment is not None else 0.0
