"""What a rollout has to do: a plan for each target of each ring, and what earlier runs of the same file left."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn

from monodon.core.names import ComponentName
from monodon.core.semver import Version
from monodon.errors import FleetError
from monodon.fleet.aws import Aws
from monodon.fleet.deploying import make_plan
from monodon.fleet.desired import Desired, DesiredComponent, Ring
from monodon.fleet.entries import Entry, Outcome
from monodon.fleet.gates import Gates, read_gates
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import live_id, target_arn
from monodon.fleet.patience import Patience
from monodon.fleet.planned import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A ring, and a plan for each of its targets."""

    ring: Ring
    gates: Gates
    plans: tuple[Plan, ...]

    @property
    def arns(self) -> tuple[str, ...]:
        """The targets."""
        return tuple(plan.target_arn for plan in self.plans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """All stages, what the ledger has of each target (the live one last), and the name of the run."""

    stages: tuple[Stage, ...]
    entries: Mapping[str, tuple[Entry, ...]]
    run: str

    def condemned(self) -> dict[str, Entry]:
        """Targets that still have what an earlier run found to be bad."""
        lasts = {arn: self.entries[arn][-1] for stage in self.stages for arn in stage.arns if self.entries[arn]}
        return {arn: one for arn, one in lasts.items() if one.run == self.run and one.outcome is Outcome.BAD}

    def refuse_bad(self) -> None:
        """Refuse what was rolled back before.

        Raises:
            FleetError: some target had just this, and it was bad.
        """
        for stage in self.stages:
            for arn in stage.arns:
                bad = [one for one in self.entries[arn] if one.run == self.run and one.outcome is Outcome.BAD]
                if bad:
                    raise FleetError(
                        f"{short(arn)} had just this before, and it was rolled back: {bad[-1].note or 'it was bad'}",
                        hint="to try it once more, add --again",
                    )

    def refuse_errors(self) -> None:
        """Refuse to begin if any ring's plan cannot be applied.

        Raises:
            FleetError: some plan has errors.
        """
        for stage in self.stages:
            for plan in stage.plans:
                if plan.errors:
                    first = plan.errors[0]
                    where = f"ring {stage.ring.name}, {short(plan.target_arn)}"
                    raise FleetError(f"nothing was deployed: {where}: {first.message}", hint=first.hint)

    def is_good(self, stage: Stage) -> bool:
        """Whether nothing is left to do for a ring."""
        return all(
            plan.is_empty and bool(last := self.entries[plan.target_arn]) and last[-1].outcome is Outcome.GOOD
            for plan in stage.plans
        )


class Staging:
    """Reads what is live, and plans.

    Args:
        allow: codes of findings that are meant.
        now_s: seconds since 1970.
    """

    def __init__(
        self,
        aws: Aws,
        desired: Desired,
        ledger: Ledger,
        *,
        patience: Patience,
        allow: tuple[str, ...],
        now_s: float,
    ) -> None:
        self._aws = aws
        self._desired = desired
        self._ledger = ledger
        self._patience = patience
        self._allow = allow
        self._now_s = now_s

    def read(self) -> Staged:
        """Plan every target of every ring; a run that was begun goes on with the versions it began with.

        Raises:
            FleetError: a target is in two rings, gates cannot be read, or AWS refuses a call.
        """
        arns = [(ring, [target_arn(self._aws, name) for name in ring.targets]) for ring in self._desired.rings]
        flat = [arn for _, some in arns for arn in some]
        if len(set(flat)) < len(flat):
            twice = next(arn for arn in flat if flat.count(arn) > 1)
            raise FleetError(f"{short(twice)} is in two rings", hint="a target gets one deployment: take one out")
        entries = {arn: self._ledger.read(arn) for arn in flat}
        lives = {arn: self._patience.call(partial(live_id, self._aws, arn)) for arn in flat}
        for arn, live in lives.items():  # the last entry is what is live: who has none has no deployment
            known = [one for one in entries[arn] if one.deployment_id == live]
            entries[arn] = (*(one for one in entries[arn] if one not in known), *known) if known else ()
        versions = self._pinned(flat, entries)
        pinned = self._exact(versions) if versions else None
        stages = []
        for ring, some in arns:
            plans = []
            for arn in some:
                plan = self._plan(pinned or self._desired, arn)
                pinned = pinned or self._exact(plan.versions)
                plans.append(plan)
            stages.append(Stage(ring=ring, gates=read_gates(ring.gates, _refuse(ring)), plans=tuple(plans)))
        run = digest(self._desired) + digest(pinned or self._desired)
        return Staged(stages=tuple(stages), entries=entries, run=run)

    def _pinned(self, arns: Sequence[str], entries: Mapping[str, tuple[Entry, ...]]) -> dict[str, str]:
        """The versions that a rollout of this file, which is not over, has begun with: ranges are not read anew."""
        lasts = [entries[arn][-1] if entries[arn] else None for arn in arns]
        begun = [one for one in lasts if one is not None and one.run.startswith(digest(self._desired))]
        if not begun or (
            len(begun) == len(arns) and all(one.outcome is Outcome.GOOD and one.run == begun[0].run for one in begun)
        ):
            return {}
        content = self._ledger.content(begun[0])
        wanted = {str(name) for name in self._desired.components}
        parts = content.components if content is not None else {}
        return {name: part.version for name, part in parts.items() if name in wanted}

    def _exact(self, versions: Mapping[str, str]) -> Desired:
        components: dict[ComponentName, DesiredComponent] = {}
        for name, one in self._desired.components.items():
            exact = versions.get(str(name))
            components[name] = replace(one, version=Version.parse(exact, lax=True)) if exact else one
        return replace(self._desired, components=components)

    def _plan(self, desired: Desired, arn: str) -> Plan:
        """The plan of one target. All but the parent itself are its subdeployments, if the file names one."""
        parent = desired.parent_target
        if parent and target_arn(self._aws, parent) == arn:
            parent = None
        one = replace(desired, target=arn, rings=(), parent_target=parent)
        return make_plan(self._aws, one, allow=self._allow, patience=self._patience, now_s=self._now_s)


def deployed_targets(aws: Aws, desired: Desired, ledger: Ledger) -> tuple[str, ...]:
    """Return the ARNs of the rings' targets that have what a file says: by the ledger, or by the live deployment.

    Raises:
        FleetError: none has, or AWS refuses a call.
    """
    names = dict.fromkeys(target_arn(aws, name) for ring in desired.rings for name in ring.targets)
    found = tuple(arn for arn in names if _has(aws, desired, ledger, arn))
    if not found:
        raise FleetError(
            "no target of the file's rings has what it says", hint="name the target that shall go back: thinggroup/NAME"
        )
    return found


def _has(aws: Aws, desired: Desired, ledger: Ledger, arn: str) -> bool:
    live = live_id(aws, arn)
    if live is None:
        return False
    entry = next((one for one in ledger.read(arn) if one.deployment_id == live), None)
    if entry is not None and entry.run:
        return entry.run.startswith(digest(desired))
    return make_plan(aws, replace(desired, target=arn, rings=())).is_empty


def _refuse(ring: Ring) -> Callable[[tuple[str | int, ...], str, str | None], NoReturn]:
    def refuse(path: tuple[str | int, ...], what: str, hint: str | None) -> NoReturn:
        raise FleetError(f"ring {ring.name}: gates.{'.'.join(map(str, path))} {what}", hint=hint)

    return refuse


def digest(desired: Desired) -> str:
    """Six digits that tell one file from another."""
    return hashlib.sha256(repr(desired).encode()).hexdigest()[:6]


def short(arn: str) -> str:
    """Return what an ARN names, such as ``thinggroup/rest``."""
    return arn.split(":", 5)[5]
