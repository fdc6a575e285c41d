"""What the journal says of the deployment under way, so that a killed nucleus knows where it was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from monodon.core.deployment import DetailedStatus, Outcome, failure, from_record, read_local, to_record
from monodon.core.json import Json
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, Target
from monodon.core.semver import Version
from monodon.errors import DeploymentError, MonodonError, StateError
from monodon.nucleus.queue import Entry
from monodon.nucleus.uplink.protocol import DeploymentArrived

#: Component versions that a deployment brought to the device.
Versions = tuple[tuple[ComponentName, Version], ...]


class Phase(StrEnum):
    """How far a deployment has come."""

    PREPARING = "preparing"
    BOOTSTRAPPING = "bootstrapping"
    APPLYING = "applying"
    ROLLING_BACK = "rolling_back"
    REPORTING = "reporting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a deployment leaves: its outcome, and the roots and last deployment of targets that change with it."""

    outcome: Outcome
    roots: Mapping[str, Mapping[ComponentName, str] | None] = field(default_factory=dict)
    last: Mapping[str, Mapping[str, Json]] = field(default_factory=dict)
    tried: Versions = ()
    unchanged_roots: tuple[str, ...] = ()

    def to_record(self) -> dict[str, Json]:
        """The JSON object that ``from_record`` reads."""
        return {
            "outcome": self.outcome.to_record(),
            "roots": {target: None if roots is None else dict(roots) for target, roots in self.roots.items()},
            "last": {target: dict(last) for target, last in self.last.items()},
            "tried": [[str(name), str(version)] for name, version in self.tried],
            "unchanged_roots": list(self.unchanged_roots),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Ending":
        """Read what ``to_record`` wrote."""
        return cls(
            outcome=Outcome.from_record(record["outcome"]),
            roots={
                target: None if roots is None else {ComponentName.parse(name): text for name, text in roots.items()}
                for target, roots in record["roots"].items()
            },
            last=record["last"],
            tried=tuple((ComponentName.parse(name), Version.parse(text, lax=True)) for name, text in record["tried"]),
            unchanged_roots=tuple(record["unchanged_roots"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One deployment and how far it has come.

    ``goal`` is the set it moves the device to, ``origin`` the fingerprint of the one it began to move from,
    ``before`` the set to come back to, ``broken`` what was BROKEN in it, ``ending`` how it ends if all goes well.
    """

    phase: Phase
    entry: Entry
    goal: Target = field(default_factory=dict)
    before: Target = field(default_factory=dict)
    origin: str = ""
    broken: frozenset[ComponentName] = frozenset()
    ending: Ending | None = None
    #: Components whose Bootstrap step has still to run, and those whose step ran, when the nucleus restarts for it all.
    pending: tuple[ComponentName, ...] = ()
    ran: tuple[ComponentName, ...] = ()
    restarts: bool = False

    @property
    def is_standstill(self) -> bool:
        """Whether nothing may run before Bootstrap steps have."""
        return self.restarts and self.phase is not Phase.APPLYING

    def to_record(self) -> dict[str, Json]:
        """The JSON object that ``from_record`` reads."""
        arrival = self.entry.arrival
        return {
            "phase": str(self.phase),
            "deployment": to_record(self.entry.deployment),
            "arrival": None if arrival is None else {"job_id": arrival.job_id},
            "created_ms": self.entry.created_ms,
            "goal": _written(self.goal),
            "before": _written(self.before),
            "origin": self.origin,
            "broken": sorted(self.broken),
            "ending": None if self.ending is None else self.ending.to_record(),
            "pending": list(self.pending),
            "ran": list(self.ran),
            "restarts": self.restarts,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Json]) -> "Note":
        """Read what ``to_record`` wrote.

        Raises:
            StateError: it is not such a record.
        """
        try:
            return cls._from_record(record)
        except (KeyError, TypeError, ValueError, AttributeError, MonodonError) as error:
            raise StateError(
                f"what the journal says of the deployment under way cannot be read: {error!r}",
                hint="start the version of Monodon that wrote it once more, or begin with a new --root",
            ) from error

    @classmethod
    def _from_record(cls, record: Mapping[str, Json]) -> "Note":
        deployment, arrival, ending = from_record(record["deployment"]), record["arrival"], record["ending"]
        return cls(
            phase=Phase(record["phase"]),
            entry=Entry(
                deployment=deployment,
                arrival=None if arrival is None else DeploymentArrived(deployment=deployment, job_id=arrival["job_id"]),
                created_ms=record["created_ms"],
            ),
            goal=_read(record["goal"]),
            before=_read(record["before"]),
            origin=record["origin"],
            broken=frozenset(map(ComponentName.parse, record["broken"])),
            ending=None if ending is None else Ending.from_record(ending),
            pending=tuple(map(ComponentName.parse, record.get("pending", ()))),
            ran=tuple(map(ComponentName.parse, record.get("ran", ()))),
            restarts=record.get("restarts", False),
        )


def local_record(entry: Entry, outcome: Outcome | None) -> dict[str, Json]:
    """What is kept of a local deployment for who asks how it fares, also after the nucleus was killed."""
    return {
        "timestamp_ms": entry.deployment.timestamp_ms,
        "created_ms": entry.created_ms,
        "outcome": None if outcome is None else outcome.to_record(),
    }


def read_local_record(deployment_id: str, record: Mapping[str, Json]) -> tuple[Entry, Outcome]:
    """Read what `local_record` wrote; the deployment has its id and time alone.

    One without an end was cut short by the end of the nucleus, and nothing of it was applied: it has failed.
    """
    deployment = read_local({}, deployment_id=deployment_id, timestamp_ms=record["timestamp_ms"])
    entry = Entry(deployment=deployment, arrival=None, created_ms=record["created_ms"])
    return entry, interrupted() if record["outcome"] is None else Outcome.from_record(record["outcome"])


def interrupted() -> Outcome:
    """How a local deployment ends that a nucleus had not begun to apply when it stopped. Source: section 5.9."""
    stopped = DeploymentError(
        "the nucleus stopped before the deployment was applied", codes=("DEPLOYMENT_INTERRUPTED",)
    )
    return failure(stopped, DetailedStatus.FAILED_NO_STATE_CHANGE, is_local=True)


def fingerprint(installed: Target) -> str:
    """Return a text that differs between any two installed sets, configuration and its times included."""
    return hashlib.sha256(json.dumps(_written(installed), sort_keys=True).encode()).hexdigest()


def _written(installed: Target) -> dict[str, Json]:
    return {str(name): one.to_record() for name, one in installed.items()}


def _read(record: Mapping[str, Json]) -> dict[ComponentName, Installed]:
    return {one.name: one for one in map(Installed.from_record, record.values())}
