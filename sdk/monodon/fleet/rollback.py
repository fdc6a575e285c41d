"""Going back to a revision that the ledger knows: planned like any deployment, applied like any."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from monodon.core.names import ComponentName
from monodon.core.semver import Version
from monodon.errors import FleetError
from monodon.fleet.aws import Aws
from monodon.fleet.configuring import Foretold
from monodon.fleet.content import Content, content_of
from monodon.fleet.deploying import Applied, apply
from monodon.fleet.desired import Desired, DesiredComponent
from monodon.fleet.entries import Entry, Outcome
from monodon.fleet.hazards import warning
from monodon.fleet.ledger import Ledger
from monodon.fleet.live import each, live_deployment, published_recipe, read_live, target_arn
from monodon.fleet.patience import Patience
from monodon.fleet.planned import Finding, Plan
from monodon.fleet.planning import planned
from monodon.fleet.returning import Return, State, returned, states

#: Revisions that are followed to tell what devices have: older ones do not count.
MAX_REVISIONS = 50
#: What speaks against a deployment, and not against going back to where devices were before.
MEANT = ("REMOVES", "CONFLICT", "PLATFORM", "DEPENDENCY", "NO_ARTIFACT", "DELETED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """A plan that goes back.

    Args:
        to: the revision that it goes back to; None for the time before the first.
        bad: the revision that is left, and is marked bad for it; None if what is live is where it goes back to.
    """

    plan: Plan
    to: Entry | None
    bad: Entry | None


@dataclass(frozen=True, slots=True)
class _Known:
    """A target's revisions whose content is known, up to the live one, the oldest first."""

    entries: tuple[Entry, ...]
    followed: tuple[State, ...]


class Way:
    """The way back for one target after the other.

    Args:
        patience: for calls that AWS is too busy for.
        now_s: seconds since 1970.
    """

    def __init__(
        self, aws: Aws, ledger: Ledger, *, patience: Patience | None = None, now_s: float | None = None
    ) -> None:
        self._aws = aws
        self._ledger = ledger
        self._patience = patience or Patience(network=False)
        self._now_s = time.time() if now_s is None else now_s
        self._recipe = cache(lambda name, version: published_recipe(aws, name, version))

    def plan(self, target: str, *, to: str | None = None) -> Rollback:
        """Plan to go back to the last good revision that differs from what is live; only reads.

        A rollback that was interrupted is found again: then there is nothing left to do but to follow it.

        Args:
            target: ``thinggroup/<name>``, ``thing/<name>`` or an ARN.
            to: a deployment's id, or a revision, instead.

        Raises:
            FleetError: there is nothing to go back to, or AWS refuses a call.
        """
        arn = target_arn(self._aws, target)
        known = self._known(arn)
        live = known.entries[-1]
        if to is None and (origin := _origin(known)) is not None:
            return self._return(known, origin, None)
        chosen = _named(known, arn, to) if to is not None else _last_good(known)
        if chosen is None:
            raise FleetError(
                f"the ledger knows no good revision of {_short(arn)} but what is live (revision {live.revision})",
                hint=f"see monodon fleet history {_short(arn)}, and choose one: --to REVISION",
            )
        return self._return(known, chosen, live)

    def plan_before(self, arn: str, deployment_id: str | None) -> Rollback:
        """Plan to go back to what a deployment was that a rollout replaced; to the last good one if that was bad.

        With None, or if nothing is known of it: to what devices have without the target's deployment. For a
        subdeployment that is what its parent has, else no components at all.

        Raises:
            FleetError: AWS refuses a call.
        """
        known = self._known(arn)
        number = next((n for n, one in enumerate(known.entries) if one.deployment_id == deployment_id), None)
        if number is not None and known.entries[number].outcome is Outcome.BAD:
            number = _last_good(_Known(known.entries[: number + 1], known.followed[: number + 1]))
        if number is not None:
            return self._return(known, number, known.entries[-1])
        return self._emptied(known, arn)

    def apply(self, found: Rollback) -> Applied:
        """Go back, and write it down; what is left is marked bad first, so that an interrupted run knows.

        Raises:
            FleetError: the plan has errors, what is live changed since it was made, or AWS refuses it.
        """
        arn = found.plan.target_arn
        if found.bad is not None and not found.plan.errors:
            note = found.bad.note or "rolled back"
            self._ledger.judge(arn, found.bad.deployment_id, Outcome.BAD, note=note)
        applied = apply(self._aws, found.plan, patience=self._patience)
        note = f"back to revision {found.to.revision} ({found.to.deployment_id})" if found.to else "back to nothing"
        self._ledger.record(applied.created, found.plan.request, replaces=found.plan.replaces, note=note)
        return applied

    def _known(self, arn: str) -> _Known:
        live = self._patience.call(lambda: live_deployment(self._aws, arn))
        if live is None:
            raise FleetError(f"{_short(arn)} has no deployment", hint="there is nothing to go back from")
        entries = self._ledger.read(arn)
        last = next((one for one in entries if one.deployment_id == live["deploymentId"]), None)
        if last is None:
            last = Entry(deployment_id=live["deploymentId"], target_arn=arn, revision=str(live.get("revisionId") or ""))
        earlier = [one for one in entries if one.number < last.number][-MAX_REVISIONS:]
        contents = each(lambda one: (one, self._ledger.content(one)), earlier)
        readable = [(one, content) for one, content in contents if content is not None]
        revisions = [*(content for _, content in readable), content_of(live)]
        self._read_recipes(revisions)
        return _Known((*(one for one, _ in readable), last), states(revisions, self._recipe))

    def _read_recipes(self, revisions: Sequence[Content]) -> None:
        wanted = {(name, part.version) for content in revisions for name, part in content.components.items()}
        _ = self._aws.greengrass, self._aws.account  # made before threads share them
        each(lambda one: self._patience.call(lambda: self._recipe(*one)), sorted(wanted))

    def _return(self, known: _Known, number: int, bad: Entry | None) -> Rollback:
        back = returned(known.followed, number, self._recipe)
        live = known.followed[-1]
        if live.is_like(known.followed[number]):
            back = Return(content=live.content, foretold={})
            bad = None
        plan = self._planned(live, back)
        return Rollback(plan=plan, to=known.entries[number], bad=bad)

    def _emptied(self, known: _Known, arn: str) -> Rollback:
        live = known.followed[-1]
        content, foretold = Content(target_arn=arn, name=live.content.name), dict[str, Foretold]()
        if live.content.parent_arn:
            parent_arn = live.content.parent_arn
            parent = self._patience.call(lambda: live_deployment(self._aws, parent_arn))
            if parent is not None:
                above = replace(content_of(parent), target_arn=arn, parent_arn=parent_arn)
                self._read_recipes([above])
                before = states([above], self._recipe)[0]
                back = returned([before, live], 0, self._recipe)
                content, foretold = back.content, dict(back.foretold)
            else:
                content = replace(content, parent_arn=parent_arn)
        plan = self._planned(live, Return(content=content, foretold=foretold))
        return Rollback(plan=plan, to=None, bad=known.entries[-1])

    def _planned(self, live: State, back: Return) -> Plan:
        exact = {
            ComponentName(name): DesiredComponent(version=Version.parse(part.version, lax=True))
            for name, part in back.content.components.items()
        }
        desired = Desired(target=live.content.target_arn, components=exact)
        there = self._patience.call(lambda: read_live(self._aws, desired))
        plan = planned(desired, live.content, back.content, there, back.foretold, now_s=self._now_s, allow=MEANT)
        return replace(plan, findings=(*plan.findings, *_not_brought(back.stays, self._recipes_missing(back.content))))

    def _recipes_missing(self, content: Content) -> tuple[str, ...]:
        return tuple(
            f"{name} {part.version}"
            for name, part in content.components.items()
            if self._recipe(name, part.version) is None
        )


def _not_brought(stays: tuple[tuple[str, str], ...], unread: tuple[str, ...]) -> list[Finding]:
    found: list[Finding] = []
    if stays:
        listed = ", ".join(f"{name} {pointer}" for name, pointer in stays[:10])
        text = f"no deployment can bring back {len(stays)} keys of configurations: {listed}"
        found.append(warning("NOT_BROUGHT_BACK", text, "a device refuses to reset keys of digits alone at the top"))
    if unread:
        text = f"the recipe of {', '.join(unread)} cannot be read, so its defaults are not known"
        found.append(warning("DEFAULTS_UNKNOWN", text))
    return found


def _origin(known: _Known) -> int | None:
    """What the live revision went back to, if it is a rollback whose end nobody has seen yet."""
    if len(known.entries) < 3 or known.entries[-1].outcome is not Outcome.UNKNOWN:
        return None
    if known.entries[-2].outcome is not Outcome.BAD:
        return None
    return _last_good(known, like_live=True)


def _last_good(known: _Known, *, like_live: bool = False) -> int | None:
    live = known.followed[-1]
    for number in range(len(known.entries) - 2, -1, -1):
        if known.entries[number].outcome is Outcome.GOOD and live.is_like(known.followed[number]) is like_live:
            return number
    return None


def _named(known: _Known, arn: str, to: str) -> int:
    for number, one in enumerate(known.entries):
        if to in (one.deployment_id, one.revision):
            return number
    raise FleetError(
        f"{_short(arn)} has no revision or deployment {to[:100]!r} whose content is known",
        hint=f"see monodon fleet history {_short(arn)}",
    )


def _short(arn: str) -> str:
    return arn.split(":", 5)[5]
