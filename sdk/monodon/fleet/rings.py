"""Deploy ring by ring: each one is deployed to, baked under its gates, and only then the next one begins.

A rollout has no state of its own but what is live, the ledger, and the figures taken before each ring. So a run that
was interrupted, wherever that was, is gone on with by starting it again; nothing is deployed twice.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from monodon.core.metrics import read_reports
from monodon.errors import FleetError
from monodon.fleet import evidence as records
from monodon.fleet.aws import Aws
from monodon.fleet.deploying import apply
from monodon.fleet.desired import Desired
from monodon.fleet.entries import Entry, Outcome
from monodon.fleet.evidence import Evidence, RingSeen
from monodon.fleet.following import Created, Ending, Result, told_ending, watch
from monodon.fleet.gates import Baseline, Gates, Reports, Standing, Verdict, evaluate, standing
from monodon.fleet.happening import Event, Rolled
from monodon.fleet.known import FAILURES, FINAL
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import live_id, members_of
from monodon.fleet.observing import Observer, current_reports
from monodon.fleet.patience import Patience
from monodon.fleet.planned import Plan
from monodon.fleet.rollback import Way
from monodon.fleet.staging import Stage, Staging, short

#: Looks at a ring while it bakes: twenty, and not more often, nor more rarely, than this.
LOOKS, LEAST_PAUSE_S, MOST_PAUSE_S = 20, 1.0, 30.0


class Rollout:
    """One rollout of a file with rings.

    Args:
        timeout_s: for the devices of each ring, and for each rollback.
        allow: codes of findings that are meant, such as REMOVES.
        again: try what was rolled back before.
        evidence: the folder for what is left behind when a ring fails.
        clock, sleep, now: time, for tests.
    """

    def __init__(
        self,
        aws: Aws,
        desired: Desired,
        ledger: Ledger,
        *,
        timeout_s: float = 600.0,
        allow: tuple[str, ...] = (),
        again: bool = False,
        evidence: Path = records.FOLDER,
        state: Path = Path(".monodon/rings"),
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._aws = aws
        self._desired = desired
        self._ledger = ledger
        self._timeout_s = timeout_s
        self._allow = allow
        self._again = again
        place = f"{aws.account}-{aws.region}"
        self._folder = evidence / place
        self._state = state / place
        self._patience = patience or Patience(clock=clock, sleep=sleep)
        self._clock, self._sleep, self._now = clock, sleep, now
        self._run = ""
        self._failures: dict[str, str] = {}
        self._made: set[str] = set()
        self._evidence = Evidence(target=desired.target, run="", operator=aws.operator, began_s=now())

    def run(self) -> Generator[Event, None, Rolled]:
        """Yield what happens, until all rings are good, or one was not and all are rolled back.

        Raises:
            FleetError: it cannot be begun, somebody else deployed meanwhile, or AWS refuses a call for good. What is
                deployed by then stays, and running it again goes on with it.
        """
        staging = Staging(
            self._aws, self._desired, self._ledger, patience=self._patience, allow=self._allow, now_s=self._now()
        )
        staged = staging.read()
        stages, entries, self._run = staged.stages, staged.entries, staged.run
        self._evidence.run = self._run
        if condemned := staged.condemned():
            reason = next(iter(condemned.values())).note or "an earlier run failed its gates"
            yield Event(kind="failed", text=f"an earlier run was stopped: {reason}; going on with rolling it back")
            return (yield from self._back(list(condemned), f"an earlier run was stopped: {reason}"))
        if not self._again:
            staged.refuse_bad()
        for stage in stages:
            for plan in stage.plans:
                yield Event(kind="plan", ring=stage.ring.name, text=f"ring {stage.ring.name}", plan=plan)
        staged.refuse_errors()
        done: list[str] = []
        waiting: list[str] = []
        for number, stage in enumerate(stages):
            name = stage.ring.name
            if staged.is_good(stage):
                done += [arn for arn in stage.arns if entries[arn][-1].run == self._run]
                yield Event(kind="promoted", ring=name, text=f"ring {name} is good already")
                continue
            done += stage.arns
            later = tuple(arn for one in stages[number + 1 :] for arn in one.arns)
            reason = yield from self._ring(stage, number, later, waiting)
            if reason:
                reason = f"ring {name} is not healthy: {reason}"
                yield Event(kind="failed", ring=name, text=reason)
                self._condemn(done, reason)
                return (yield from self._back(done, reason))
        return Rolled(waiting=tuple(waiting))

    # One ring

    def _ring(
        self, stage: Stage, number: int, later: tuple[str, ...], waiting: list[str]
    ) -> Generator[Event, None, str]:
        """Deploy, wait, bake; return why it is not healthy, "" if it is."""
        name = stage.ring.name
        yield Event(kind="ring", ring=name, text=f"ring {name}: {', '.join(short(arn) for arn in stage.arns)}")
        seen = RingSeen(name=name, began_s=self._now(), metrics=stage.gates.metrics)
        self._evidence.rings.append(seen)
        before = self._before(stage, number)
        made: list[Created] = []
        for plan in stage.plans:
            applied = apply(self._aws, plan, patience=self._patience)
            created = applied.created
            self._ledger.record(created, plan.request, replaces=plan.replaces, run=self._run)
            made.append(created)
            self._made.add(created.deployment_id)
            told = {"deployment_id": created.deployment_id, "target": short(created.target_arn)}
            seen.deployments.append({**told, "revision": created.revision})
            live = "" if applied.is_new else ", live already"
            yield Event(
                kind="created",
                ring=name,
                text=f"deployment {created.deployment_id} for {short(created.target_arn)}{live}",
                details={**told, "revision": created.revision, "is_new": applied.is_new},
            )
        reason, left = yield from self._wait(made, stage.plans, stage.gates)
        if reason:
            observer = self._observer(made, stage, before)
            devices = observer.look()
            seen.saw(self._now(), evaluate(stage.gates, devices, Baseline(before=before)), devices)
            return reason
        waiting += left
        reason = yield from self._bake(stage, made, seen, before, later)
        if not reason:
            for created in made:
                self._ledger.judge(created.target_arn, created.deployment_id, Outcome.GOOD)
            yield Event(kind="promoted", ring=name, text=f"ring {name} is good")
        return reason

    def _before(self, stage: Stage, number: int) -> dict[str, Reports]:
        """Figures of the ring's devices before the deployment; of an interrupted run, those that it took."""
        path = self._state / f"{self._run}-{number}.json"
        if not any(gate.is_relative for gate in stage.gates.metrics):
            return {}
        if any(plan.is_empty for plan in stage.plans):
            return {thing: read_reports(one) for thing, one in records.read_saved(path).items()}
        things = self._things(stage.arns)
        found = current_reports(self._aws, things, patience=self._patience, now=self._now)
        records.save_reports(path, found)
        return found

    def _things(self, arns: Sequence[str]) -> set[str]:
        return {thing for arn in arns for thing in self._patience.call(partial(members_of, self._aws, arn))}

    def _wait(
        self, made: Sequence[Created], plans: Sequence[Plan], gates: Gates
    ) -> Generator[Event, None, tuple[str, list[str]]]:
        """Follow until every device that is not known to be offline has ended, or so many failed that the ring has."""
        deadline = self._clock() + self._timeout_s
        left: list[str] = []
        for created, plan in zip(made, plans, strict=True):
            known = plan.devices
            away = {*known.silent, *known.unknown}
            statuses = dict.fromkeys((*known.recent, *known.silent, *known.unknown), "NOT_STARTED")
            ending = yield from self._follow(created, statuses, away, max(deadline - self._clock(), 0.0), gates)
            left += [thing for thing, status in statuses.items() if status not in FINAL]
            if ending:
                return ending, left
        return "", left

    def _follow(
        self, created: Created, statuses: dict[str, str], away: set[str], timeout_s: float, gates: Gates | None
    ) -> Generator[Event, None, str]:
        watching = watch(self._aws, created, timeout_s=timeout_s, clock=self._clock, sleep=self._sleep)
        while True:
            try:
                progress = next(watching)
            except StopIteration as end:
                result: Result = end.value
                return self._ended(created, result, timeout_s)
            for change in progress.changes:
                statuses[change.thing] = change.status
                if change.is_failure:
                    self._failures[change.thing] = change.reason
            yield Event(kind="progress", progress=progress)
            failed = sum(status in FAILURES for status in statuses.values())
            if gates is not None and failed > (1.0 - gates.success_share) * len(statuses) + 1e-9:
                watching.close()
                self._refuse_superseded([created])  # which cancels what had not begun
                return f"{failed} of {len(statuses)} devices failed ({self._why(statuses)})"
            if all(status in FINAL for thing, status in statuses.items() if thing not in away):
                watching.close()
                return ""

    def _ended(self, created: Created, result: Result, timeout_s: float) -> str:
        if result.ending is Ending.SUPERSEDED:
            raise FleetError(
                told_ending(created, result, timeout_s),
                hint="the rollout was left as it is; see what is live now: monodon fleet history",
            )
        return told_ending(created, result, timeout_s) if result.ending is Ending.STOPPED else ""

    def _why(self, statuses: Mapping[str, str]) -> str:
        failed = sorted(thing for thing, status in statuses.items() if status in FAILURES)
        told = [f"{thing}: {self._failures.get(thing) or statuses[thing]}" for thing in failed[:3]]
        return "; ".join(told) + (f" and {len(failed) - 3} more" if len(failed) > 3 else "")

    def _observer(self, made: Sequence[Created], stage: Stage, before: Mapping[str, Reports]) -> Observer:
        names = {name for plan in stage.plans for name in plan.request["components"]}
        return Observer(
            self._aws,
            made,
            names,
            patience=self._patience,
            measures=bool(stage.gates.metrics),
            reasons=self._failures,
            before=before,
        )

    def _bake(
        self,
        stage: Stage,
        made: Sequence[Created],
        seen: RingSeen,
        before: Mapping[str, Reports],
        later: tuple[str, ...],
    ) -> Generator[Event, None, str]:
        """Look until the ring has baked and every gate holds; return why one does not."""
        name, bake_s = stage.ring.name, stage.ring.bake_s
        ends_s = stage.gates.ends_s(bake_s)
        observer = self._observer(made, stage, before)
        needs_later = any(gate.is_relative and gate.baseline != "before" for gate in stage.gates.metrics)
        others = self._things(later) - self._things(stage.arns) if needs_later else set[str]()
        yield Event(kind="baking", ring=name, text=f"ring {name} bakes for {bake_s:g} s", details={"bake_s": bake_s})
        began = self._clock()
        pause_s = min(max(bake_s / LOOKS, LEAST_PAUSE_S), MOST_PAUSE_S)
        said: tuple[Standing, ...] = ()
        figures: dict[str, Reports] = {}
        is_whole = False
        while True:
            elapsed_s = self._clock() - began
            devices = observer.look(whole=is_whole)
            if others and (is_whole or not figures):
                figures = current_reports(self._aws, others, patience=self._patience, now=self._now)
            seen.baseline = Baseline(before=before, later=figures)
            verdicts = evaluate(stage.gates, devices, seen.baseline)
            stands = standing(verdicts)
            is_over = elapsed_s >= bake_s if stands is Standing.PASSED else elapsed_s >= ends_s
            if not is_whole and (bool(others) if stands is Standing.FAILED else is_over):
                is_whole = True  # no ring is promoted, nor compared with others, by what is remembered
                continue
            is_whole = False
            seen.saw(self._now(), verdicts, devices)
            self._refuse_superseded(made)
            if (now_said := tuple(one.standing for one in verdicts)) != said or is_over:
                said = now_said
                yield from self._verdicts(name, verdicts, elapsed_s)
            if stands is Standing.FAILED:
                return records.told(verdicts, Standing.FAILED)
            if is_over:
                unknown = records.told(verdicts, Standing.UNKNOWN)
                return f"not known after {elapsed_s:.0f} s, so not good: {unknown}" if unknown else ""
            self._sleep(min(pause_s, max((bake_s if elapsed_s < bake_s else ends_s) - elapsed_s, 0.01)))

    def _verdicts(self, ring: str, verdicts: Sequence[Verdict], elapsed_s: float) -> Iterator[Event]:
        for one in verdicts:
            yield Event(
                kind="verdict",
                ring=ring,
                text=f"{elapsed_s:6.1f} s  {one.gate} {one.standing}: {one.seen}",
                details={"gate": one.gate, "standing": str(one.standing), "seen": one.seen, "at_s": elapsed_s},
            )

    def _refuse_superseded(self, made: Sequence[Created]) -> None:
        for created in made:
            live = self._patience.call(partial(live_id, self._aws, created.target_arn))
            if live != created.deployment_id:
                now = live or "nothing"
                raise FleetError(
                    f"somebody else deployed to {short(created.target_arn)} while it baked: {now} is live now",
                    hint="the rollout was left as it is; plan again, and see what would change now",
                )

    # The way back

    def _condemn(self, arns: Sequence[str], reason: str) -> None:
        """Mark all rings bad before any goes back: who is interrupted now goes on with going back."""
        for arn in arns:
            entry = self._ours(arn)
            if entry is not None:
                self._ledger.judge(arn, entry.deployment_id, Outcome.BAD, note=reason[:1000])

    def _ours(self, arn: str) -> Entry | None:
        """This run's deployment of a target, if it is live."""
        live = self._patience.call(partial(live_id, self._aws, arn))
        if live is None:
            return None
        entry = next((one for one in self._ledger.read(arn) if one.deployment_id == live), None)
        if entry is None:
            return None
        return entry if entry.run == self._run or entry.deployment_id in self._made else None

    def _back(self, arns: Sequence[str], reason: str) -> Generator[Event, None, Rolled]:
        """Roll back all these targets, the last one first."""
        self._evidence.reason = reason
        self._write_evidence()
        way = Way(self._aws, self._ledger, patience=self._patience, now_s=self._now())
        made: list[tuple[Created, dict[str, Any], Plan]] = []
        for arn in reversed(arns):
            told: dict[str, Any] = {"target": short(arn)}
            self._evidence.rollbacks.append(told)
            try:
                entry = self._ours(arn)
                if entry is None:
                    raise FleetError("somebody else deployed to it meanwhile")
                found = way.plan_before(arn, entry.replaces)
                yield Event(kind="plan", text=f"back: {short(arn)}", plan=found.plan)
                applied = way.apply(found)
            except FleetError as error:
                told["problem"] = error.message
                yield Event(kind="rollback", text=f"{short(arn)} cannot be rolled back: {error.message}", details=told)
                continue
            told["to"] = f"revision {found.to.revision}" if found.to else "what it had before the first deployment"
            told["deployment_id"] = applied.created.deployment_id
            text = f"{short(arn)} goes back to {told['to']} by deployment {applied.created.deployment_id}"
            yield Event(kind="rollback", text=text, details=dict(told))
            made.append((applied.created, told, found.plan))
        for created, told, plan in made:
            yield from self._see_back(created, told, plan)
        paths, problem = self._write_evidence()
        details = {"markdown": str(paths[0]), "json": str(paths[1])} if paths else {"problem": problem}
        yield Event(kind="evidence", text=f"evidence: {paths[0]}" if paths else problem, details=details)
        bad = any(told.get("problem") or told["failed"] for told in self._evidence.rollbacks)
        waiting = tuple(thing for told in self._evidence.rollbacks for thing in told.get("waiting", ()))
        return Rolled(reason=reason, is_back=not bad, evidence=paths, waiting=waiting)

    def _write_evidence(self) -> tuple[tuple[Path, ...], str]:
        """The files, or why there are none: a full disk keeps no ring from going back."""
        try:
            return self._evidence.write(self._folder), ""
        except FleetError as error:
            return (), error.message

    def _see_back(self, created: Created, told: dict[str, Any], plan: Plan) -> Generator[Event, None, None]:
        known = plan.devices
        statuses = dict.fromkeys((*known.recent, *known.silent, *known.unknown), "NOT_STARTED")
        told |= {"succeeded": [], "failed": [], "waiting": []}
        try:
            problem = yield from self._follow(created, statuses, {*known.silent, *known.unknown}, self._timeout_s, None)
        except FleetError as error:
            problem = error.message
        if problem:
            told["problem"] = problem
        for thing, status in sorted(statuses.items()):
            which = "failed" if status in FAILURES else "succeeded" if status in FINAL else "waiting"
            told[which].append(thing)
        if not problem and not told["failed"] and told["succeeded"]:
            self._ledger.judge(created.target_arn, created.deployment_id, Outcome.GOOD)
