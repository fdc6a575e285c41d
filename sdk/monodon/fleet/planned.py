"""A plan as values: what would change, what is to be known before, and the request that ``deploying`` sends."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from monodon.core.json import Json
from monodon.errors import FleetError


class Severity(StrEnum):
    """``error``: the plan cannot be applied; ``warning``: it can, with care; ``note``: good to know."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Kind(StrEnum):
    """What happens to a part of a deployment."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One thing that a plan changes.

    Args:
        component: whose; None for the deployment's own settings.
        what: ``component``, ``version``, ``configuration``, ``reset``, ``runWith``; or a setting's key in a fleet file.
        pointer: which key of the configuration, as a JSON pointer.
    """

    kind: Kind
    what: str
    component: str | None = None
    pointer: str = ""
    old: Json = None
    new: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something an operator should know before a plan is applied.

    Args:
        code: for machines, such as ``REMOVES``.
        details: values it is about; they are kept out of the message, since they may be nobody's business.
    """

    severity: Severity
    code: str
    message: str
    hint: str | None = None
    details: tuple[Difference, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """The devices that a plan reaches, by what they last told AWS: it does not say who is connected.

    Args:
        total: things of the target.
        recent: reported within the last day and an hour (a nucleus reports every day at least).
        silent: reported longer ago; most likely offline.
        unknown: never reported: not a core device yet.
        unhealthy: said UNHEALTHY last.
    """

    total: int = 0
    recent: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    unhealthy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would change, and the request that changes it.

    Args:
        replaces: the id of the live deployment that was looked at; None if there was none.
        revision: its revision, "" if there was none.
        request: the arguments of CreateDeployment, whole, but for the client token.
        versions: component → exact version.
    """

    target_arn: str
    replaces: str | None
    revision: str = ""
    request: Mapping[str, Any]
    versions: Mapping[str, str] = field(default_factory=dict)
    differences: tuple[Difference, ...] = ()
    findings: tuple[Finding, ...] = ()
    devices: Touched = Touched()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.differences

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What keeps the plan from being applied."""
        return tuple(one for one in self.findings if one.severity is Severity.ERROR)

    @property
    def token(self) -> str:
        """The client token: the same for the same content in place of the same deployment, 64 hexadecimal digits."""
        content = json.dumps([self.request, self.replaces], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(content.encode()).hexdigest()

    def to_json(self) -> dict[str, Json]:
        """Return the plan as JSON values."""
        return {**asdict(self), "token": self.token}


def read_plan(document: Mapping[str, Json], *, file: str) -> Plan:
    """Return the plan that `Plan.to_json` wrote.

    Raises:
        FleetError: it is none, or was changed since it was written.
    """
    try:
        plan = Plan(
            target_arn=document["target_arn"],
            replaces=document["replaces"],
            revision=document["revision"],
            request=document["request"],
            versions=document["versions"],
            differences=tuple(_difference(one) for one in document["differences"]),
            findings=tuple(
                Finding(
                    severity=Severity(one["severity"]),
                    code=one["code"],
                    message=one["message"],
                    hint=one["hint"],
                    details=tuple(_difference(each) for each in one["details"]),
                )
                for one in document["findings"]
            ),
            devices=_touched(document["devices"]),
        )
        is_whole = plan.token == document["token"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FleetError(f"{file} is not a plan of this version of Monodon", hint="plan again") from error
    if not is_whole:
        raise FleetError(f"{file} was changed since it was planned", hint="change the fleet file, and plan again")
    return plan


def _difference(one: Mapping[str, Json]) -> Difference:
    return Difference(**{**one, "kind": Kind(one["kind"])})


def _touched(document: Mapping[str, Json]) -> Touched:
    names: dict[str, tuple[str, ...]] = {key: tuple(each) for key, each in document.items() if key != "total"}
    return Touched(total=document["total"], **names)
