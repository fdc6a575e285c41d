"""One simulated core device: what happens to it goes in, what it says comes out. No sockets, no clocks, no tasks.

====================  =================================================================================
method                 what has happened
====================  =================================================================================
connected             the connection stands and the filters are subscribed to
disconnected          it is gone; what was not answered is said again on the next
received              a message came
taken                 the broker has taken a message with a receipt
woken                 it is ``due_at``
====================  =================================================================================

Each but two returns the messages that leave now, in order. What the device does between is AWS's nucleus's way: one
deployment at a time, IN_PROGRESS before the end, reports in order and again until they are answered, status messages
at the start, after each deployment and after a reconnect.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from monodon.core.deployment import Deployment, FailureHandling
from monodon.core.json import Json
from monodon.core.metrics import shadow_update, update_topic
from monodon.core.outcome import CANCELED, SUCCEEDED, Outcome, failure
from monodon.core.provided import NUCLEUS_VERSION
from monodon.core.status import ComponentHealth, DeploymentInformation, Trigger
from monodon.errors import DeploymentError
from monodon.simulator import talk
from monodon.simulator.failing import LATE, cause_of, conflicting, failed, refused
from monodon.simulator.faults import NEVER, Profile, unit
from monodon.simulator.figures import reports
from monodon.simulator.health import Health, Note
from monodon.simulator.installed import Installed, Target
from monodon.simulator.presence import Presence
from monodon.simulator.settings import Change, Settings
from monodon.simulator.talk import JobTalk, Outgoing, ShadowTalk

log = logging.getLogger(__name__)

#: Seconds until a question is asked again, and twice as many each time: a cloud that is busy with thousands of devices
#: must not get each question twice.
REPLY_S: Final = 30.0
_DOUBLINGS: Final = 4
_GARBAGE: Final = (b"\xff\xfe\x00", b'{"thing":', b"[]", b'{"status":7,"clientToken":{}}')
_CONFLICT: Final = 409


@dataclass(frozen=True, slots=True)
class _Report:
    """How a deployment fares, to be said until it is answered; ``job_id`` None: by the shadow."""

    job_id: str | None
    arn: str | None
    status: str
    outcome: Outcome | None


@dataclass(slots=True)
class _Work:
    deployment: Deployment
    job_id: str | None
    ends_at: float = NEVER


class Device:
    """A core device. ``now`` is in seconds since 1970, on whatever clock the simulation has."""

    __slots__ = (
        "_ask_due",
        "_count",
        "_count_before",
        "_health",
        "_is_connected",
        "_jobs",
        "_metrics_due",
        "_metrics_since",
        "_must_ask",
        "_presence",
        "_reply_due",
        "_reports",
        "_settings",
        "_shadow",
        "_token",
        "_tries",
        "_waiting",
        "_work",
        "installed",
        "prefix",
        "profile",
        "thing",
    )

    def __init__(self, thing: str, profile: Profile, settings: Settings, *, now: float) -> None:
        self.thing = thing
        self.prefix = talk.prefix_of(thing)
        self.profile = profile
        self.installed = Installed()
        self._settings = settings
        self._presence = Presence(profile, thing=thing, seed=settings.seed, born=now)
        self._jobs = JobTalk(thing)
        self._shadow = ShadowTalk(thing)
        self._health = Health(thing, self.installed, architecture=settings.architecture)
        self._is_connected = False
        self._must_ask = False
        self._count = self._count_before = 0
        self._work: _Work | None = None
        self._waiting: list[_Work] = []
        self._reports: list[_Report] = []
        self._token = ""
        self._tries = 0
        self._ask_due = self._reply_due = self._metrics_due = NEVER
        self._metrics_since = now

    # What a shell asks

    def wants_connection(self, now: float) -> bool:
        """Whether it should be connected now; a shell connects or cuts the connection as this changes."""
        return self._presence.is_wanted(now)

    def due_at(self, now: float) -> float:
        """When to call ``woken``, if nothing else happens before."""
        times = [self._presence.next_at(now)]
        if self._is_connected:
            times += [self._ask_due, self._reply_due, self._metrics_due]
        if self._work is not None and self._may_finish:
            times.append(self._work.ends_at)
        return min(times)

    @property
    def is_working(self) -> bool:
        """Whether a deployment is under way."""
        return self._work is not None

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing more to do or to tell."""
        return self._work is None and not self._reports and self._health.is_told

    # What happens

    def connected(self, now: float) -> list[Outgoing]:
        """Say how the device is, then what was not answered before, then ask what there is to do."""
        self._is_connected = True
        self._tries = 0
        self._count_before = self._count
        self._presence.connected(now)
        said = self._health.greet(now)
        if self._settings.metrics and self._metrics_due == NEVER:
            self._metrics_due = now
        if self._reports:
            self._must_ask = True
            said.append(self._report(now))
        else:
            said += self._ask(now)
        return self._spoilt(said)

    def disconnected(self) -> None:
        """The connection is gone."""
        self._is_connected = False
        self._reply_due = self._ask_due = NEVER
        self._token = ""

    def taken(self, receipt: int) -> None:
        """A status message has arrived."""
        self._health.taken(receipt)

    def received(self, topic: str, payload: bytes, now: float) -> list[Outgoing]:
        """Act on a message; what is none that a device knows is passed over."""
        name = topic.removeprefix(self.prefix)
        body = talk.read_object(payload)
        said = self._spoilt(self._heard(name, body, now))
        if self._is_progress(name, body):
            self._presence.heard(now)
        return said

    def _is_progress(self, name: str, body: Mapping[str, Json]) -> bool:
        """Whether a question of this connection was answered: so one that is cut after a few still leads somewhere."""
        token = body.get("clientToken")
        is_ours = isinstance(token, str) and token.isdigit() and int(token) > self._count_before
        return is_ours and not name.endswith("/rejected")

    def _heard(self, name: str, body: Mapping[str, Json], now: float) -> list[Outgoing]:
        if name == talk.NOTIFY:
            return self._notified(body, now)
        if name == f"{talk.NEXT_GET}/accepted":
            self._ask_due, self._tries = NEVER, 0
            return self._offered(self._jobs.new(body.get("execution")), now)
        if talk.is_job_update(name):
            return self._replied(body, now)
        if name.startswith(talk.SHADOW_GET):
            if name.endswith("/rejected"):
                self._shadow.forget_version()
                return []
            return self._desired(body, now)
        if name == f"{talk.SHADOW_UPDATE}/accepted":
            return [*self._desired(body, now), *self._replied(body, now)]
        if name == f"{talk.SHADOW_UPDATE}/rejected":
            if body.get("code") == _CONFLICT and body.get("clientToken") == self._token:
                self._shadow.forget_version()
                return [self._report(now)]
            return self._replied(body, now)
        return []

    def woken(self, now: float) -> list[Outgoing]:
        """Do what is due."""
        self._presence.look(now)
        said: list[Outgoing] = []
        if self._is_connected and now >= min(self._reply_due, self._ask_due):
            self._tries += 1
            said += [self._report(now)] if now >= self._reply_due else []
            said += self._ask(now) if now >= self._ask_due else []
        said += self._finish_if_due(now)
        if self._is_connected and now >= self._metrics_due:
            said += self._measure(now)
        return self._spoilt(said)

    # Jobs and the deployment shadow

    def _later(self, now: float) -> float:
        """When to ask again what is asked now."""
        return now + REPLY_S * (1 << min(self._tries, _DOUBLINGS))

    def _next_token(self) -> str:
        self._count += 1
        return str(self._count)

    def _ask(self, now: float) -> list[Outgoing]:
        self._ask_due, self._must_ask = self._later(now), False
        return [self._jobs.ask(self._next_token()), self._shadow.ask(self._next_token())]

    def _notified(self, body: Mapping[str, Json], now: float) -> list[Outgoing]:
        jobs = body.get("jobs")
        if not isinstance(jobs, Mapping):
            return []
        if not any(jobs.values()):
            return self._canceled(now, by_job=True)
        if jobs.get("QUEUED"):
            self._ask_due = self._later(now)
            return [self._jobs.ask(self._next_token())]
        return []

    def _desired(self, body: Mapping[str, Json], now: float) -> list[Outgoing]:
        wanted = self._shadow.new(body)
        if wanted is None:
            return []
        status, document = wanted
        if status == talk.CANCELED:
            return self._canceled(now, by_job=False)
        return self._offered((None, document), now)

    def _report(self, now: float) -> Outgoing:
        """Say the oldest thing that was not answered."""
        report, self._token = self._reports[0], self._next_token()
        self._reply_due = self._later(now)
        if report.job_id is not None:
            return self._jobs.update(report.job_id, report.status, report.outcome, self._token)
        version = str(NUCLEUS_VERSION)
        return self._shadow.update(report.arn, report.status, report.outcome, version, self._token)

    def _replied(self, body: Mapping[str, Json], now: float) -> list[Outgoing]:
        """An answer: the cloud has taken a report, or never will."""
        if not self._reports or body.get("clientToken") != self._token:
            return []
        if "code" in body:
            log.debug("%s: %s was refused: %s", self.thing, self._reports[0].status, body.get("message"))
        self._reports.pop(0)
        self._token, self._reply_due, self._tries = "", NEVER, 0
        if self._reports:
            return [self._report(now)]
        said = self._finish_if_due(now)
        return said + (self._ask(now) if self._must_ask and not self._reports else [])

    # Deployments

    @property
    def _may_finish(self) -> bool:
        """The cloud knows that the deployment has begun, or cannot be told."""
        return not self._reports or not self._is_connected

    def _offered(self, offer: tuple[str | None, Json] | None, now: float) -> list[Outgoing]:
        if offer is None:
            return []
        job_id, document = offer
        try:
            work = _Work(self._settings.read(document), job_id)
        except DeploymentError as error:
            known = document if isinstance(document, Mapping) else {}
            outcome = failure(error, None)
            self._say_change(str(known.get("deploymentId")), "FAILED", now, outcome)
            return self._queue(_Report(job_id, known.get("configurationArn"), "FAILED", outcome), now)
        if self._work is not None:
            self._waiting.append(work)
            return []
        return self._start(work, now)

    def _start(self, work: _Work, now: float) -> list[Outgoing]:
        self._work = work
        refusal = refused(work.deployment, wants_none=self.profile.rejects)
        if refusal is not None:
            return self._end(refusal, (), now)
        low, high = self.profile.takes
        takes = low + (high - low) * unit(self._settings.seed, self.thing, work.deployment.deployment_id)
        work.ends_at = NEVER if self.profile.hangs else now + takes
        self._say_change(work.deployment.deployment_id, "IN_PROGRESS", now)
        if self.profile.disorders:
            return self._finish_if_due(now)
        return self._queue(_Report(work.job_id, work.deployment.configuration_arn, "IN_PROGRESS", None), now)

    def _finish_if_due(self, now: float) -> list[Outgoing]:
        work = self._work
        if work is None or now < work.ends_at or not self._may_finish:
            return []
        return self._finish(work.deployment, now)

    def _finish(self, deployment: Deployment, now: float) -> list[Outgoing]:
        roots = {str(name): root.requirement for name, root in deployment.components.items()}
        target = Target(arn=deployment.configuration_arn, roots=roots, timestamp_ms=deployment.timestamp_ms)
        problem = self.installed.conflict(deployment.target, roots)
        if problem is not None:
            return self._end(conflicting(problem), (), now)
        for trouble in self.profile.failures:
            culprit = trouble.culprit(roots)
            if culprit is not None:
                outcome = failed(deployment, trouble.code, culprit)
                news = self._break(deployment, target, trouble.code, culprit)
                return self._end(outcome, news, now)
        unchanged = self.installed.unchanged(deployment.target, roots)
        self._metrics_since = now
        if self._settings.metrics:
            self._metrics_due = now
        said = self._end(SUCCEEDED, self.installed.install(deployment.target, target), now, unchanged)
        return said + (self._measure(now) if self._is_connected and self._settings.metrics else [])

    def _break(self, deployment: Deployment, target: Target, code: str, culprit: str) -> tuple[ComponentHealth, ...]:
        """What of a failed deployment stays on the device: nothing, unless it was to stay as it is."""
        if code not in LATE or deployment.on_failure is FailureHandling.ROLLBACK or not culprit:
            return ()
        self.installed.install(deployment.target, target)
        self.installed.broken[culprit] = ("RUN_ERROR", cause_of(code, f"{culprit} {target.roots[culprit]}"))
        return tuple(each for each in self.installed.components() if each.name in target.roots)

    def _end(
        self, outcome: Outcome, news: tuple[ComponentHealth, ...], now: float, unchanged: tuple[str, ...] = ()
    ) -> list[Outgoing]:
        assert self._work is not None
        work, self._work = self._work, None
        deployment = work.deployment
        information = DeploymentInformation(
            deployment_id=deployment.deployment_id,
            status=str(outcome.status),
            detailed_status=None if outcome.detailed is None else str(outcome.detailed),
            failure_cause=outcome.cause,
            error_stack=outcome.error_stack,
            error_types=outcome.error_types,
            fleet_configuration_arn=deployment.configuration_arn,
            unchanged_root_components=unchanged,
        )
        trigger = Trigger.THING_DEPLOYMENT if work.job_id is None else Trigger.THING_GROUP_DEPLOYMENT
        self._say_change(deployment.deployment_id, str(outcome.status), now, outcome)
        said = self._queue(_Report(work.job_id, deployment.configuration_arn, str(outcome.status), outcome), now)
        note = Note(trigger, news, information)
        if self._is_connected:
            said += self._health.tell(note, now)
            said += self._stragglers(work, news, now) if self.profile.disorders else []
        else:
            self._health.keep(note)
        if self._waiting:
            said += self._start(self._waiting.pop(0), now)
        return said

    def _stragglers(self, work: _Work, news: tuple[ComponentHealth, ...], now: float) -> list[Outgoing]:
        """What should have been said before the end, and comes after it: it changes nothing any more."""
        said = self._health.stale(news, now)
        if work.job_id is not None:
            said.append(self._jobs.update(work.job_id, "IN_PROGRESS", None, self._next_token()))
        return said

    def _queue(self, report: _Report, now: float) -> list[Outgoing]:
        """Line a report up; an end takes the place of a beginning that was not said yet."""
        if report.status in talk.FINAL and self._reports and not self._token:
            self._reports = [each for each in self._reports if each.job_id != report.job_id]
        self._reports.append(report)
        return [self._report(now)] if self._is_connected and len(self._reports) == 1 else []

    def _canceled(self, now: float, *, by_job: bool) -> list[Outgoing]:
        """The cloud no longer wants what came by a job, or by the shadow. One in disorder does not hear of it."""
        if self.profile.disorders:
            return []
        self._waiting = [each for each in self._waiting if (each.job_id is not None) != by_job]
        work = self._work
        if work is None or (work.job_id is not None) != by_job:
            return []
        self._work = None
        self._say_change(work.deployment.deployment_id, "CANCELED", now)
        said: list[Outgoing] = []
        if not by_job:
            said = self._queue(_Report(None, work.deployment.configuration_arn, "CANCELED", CANCELED), now)
        return said + (self._start(self._waiting.pop(0), now) if self._waiting else [])

    # The rest

    def _measure(self, now: float) -> list[Outgoing]:
        settings = self._settings
        self._metrics_due = now + settings.metrics_every_s
        key = f"{settings.seed}/{self.thing}/{self._next_token()}"
        since = max(self._metrics_since, now - settings.metrics_every_s)
        found = reports(settings.metrics, self.installed.roots(), key=key, since_s=since, now_s=now)
        topic = update_topic(self.thing)
        return [Outgoing(topic, shadow_update(component, report)) for component, report in found]

    def _say_change(self, deployment_id: str, status: str, now: float, outcome: Outcome | None = None) -> None:
        change = Change(thing=self.thing, deployment_id=deployment_id, status=status, at_s=now, outcome=outcome)
        self._settings.on_change(change)

    def _spoilt(self, said: list[Outgoing]) -> list[Outgoing]:
        """What leaves, with what this device does wrong when it speaks."""
        if self.profile.duplicates:
            said = [twice for each in said for twice in (each, each)]
        if self.profile.talks_garbage and said:
            topics = (f"{self.prefix}greengrassv2/health/json", f"{self.prefix}{talk.NEXT_GET}", said[0].topic)
            said = [Outgoing(topic, payload) for topic in topics for payload in _GARBAGE] + said
        return said
