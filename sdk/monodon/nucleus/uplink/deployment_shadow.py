"""Deployments of single things: the named shadow ``AWSManagedGreengrassV2Deployment``.

The cloud desires a ``fleetConfig`` (a deployment document as a JSON string) and a ``desiredStatus``; the device reports
how that configuration ARN fares, against the last version of the shadow that it saw.

Source: Greengrass nucleus, ``deployment/ShadowDeploymentListener.java``.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Callable, Mapping

from monodon.core.json import Json
from monodon.deadlines import timeout
from monodon.errors import NetworkError
from monodon.nucleus.uplink.jobs import REPLY_TIMEOUT_S, Publish
from monodon.nucleus.uplink.protocol import IotMessage
from monodon.nucleus.uplink.reports import FINAL, Report

log = logging.getLogger(__name__)

SHADOW = "AWSManagedGreengrassV2Deployment"
CANCELED = "CANCELED"
CONFLICT = 409
#: Refusals that trying again does not change. Source: AWS IoT Device Shadow service, error messages.
FINAL_REFUSALS = frozenset({400, 401, 403, 404, 405, 413, 415, 422})


class ShadowChannel:
    """The device's side of the deployment shadow. ``publish`` sends an object to a topic and raises NetworkError.

    ``offer`` is called with each new deployment document, ``cancel`` when the desired one was canceled.
    """

    def __init__(
        self,
        thing: str,
        *,
        version: str,
        publish: Publish,
        offer: Callable[[Json], None],
        cancel: Callable[[], None],
    ) -> None:
        self._prefix = f"$aws/things/{thing}/shadow/name/{SHADOW}/"
        self._nucleus_version = version
        self._publish = publish
        self._offer = offer
        self._cancel = cancel
        self._wanted = asyncio.Event()
        self._answered = asyncio.Event()
        self._version: int | None = None
        self._last_arn: str | None = None
        self._replies: dict[str, asyncio.Future[Mapping[str, Json]]] = {}

    @property
    def filters(self) -> tuple[str, ...]:
        """What the device listens to."""
        return tuple(
            self._prefix + name for name in ("get/accepted", "get/rejected", "update/accepted", "update/rejected")
        )

    def ask(self) -> None:
        """Read the shadow, soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Read the shadow whenever its state is in doubt, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            self._answered.clear()
            try:
                await self._publish(f"{self._prefix}get", {"clientToken": uuid.uuid4().hex})
                async with timeout(REPLY_TIMEOUT_S):
                    await self._answered.wait()
            except (TimeoutError, NetworkError) as error:
                log.info("reading the deployment shadow brought no answer (%s); asking again", error or "time is up")
                await asyncio.sleep(1)
                self._wanted.set()

    def receive(self, message: IotMessage) -> None:
        """Take a message on one of `filters`."""
        try:
            body = json.loads(message.payload or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            log.warning("a message on %s is not a JSON object", message.topic)
            return
        name = message.topic.removeprefix(self._prefix)
        if name.startswith("get/"):
            self._answered.set()
        if name == "get/rejected":
            self._version = None  # there is no such shadow yet
        elif name == "update/rejected":
            self._reply(body)
        else:
            self._updated(body)
            if name == "update/accepted":
                self._reply({**body, "code": None})

    def _updated(self, body: Mapping[str, Json]) -> None:
        version = body.get("version")
        if isinstance(version, int):
            if self._version is not None and version < self._version:
                return
            self._version = version
        state = body.get("state")
        if not isinstance(state, Mapping):
            return
        desired, reported = state.get("desired"), state.get("reported")
        if isinstance(desired, Mapping) and desired.get("desiredStatus") is not None:
            self._desired(desired, reported if isinstance(reported, Mapping) else {})

    def _desired(self, desired: Mapping[str, Json], reported: Mapping[str, Json]) -> None:
        try:
            document = json.loads(desired.get("fleetConfig") or "")
            arn = str(document["configurationArn"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            log.warning("the deployment shadow holds no deployment document: %s", error)
            return
        is_canceled = desired.get("desiredStatus") == CANCELED
        is_first = self._last_arn is None
        is_known = self._last_arn == arn
        is_reported = reported.get("fleetConfigurationArnForStatus") == arn and reported.get("status") in FINAL
        self._last_arn = arn
        # What the session kept of an older connection may have come first, so `is_first` says nothing of reports.
        if is_reported or (is_first and is_canceled):
            return
        if is_canceled:
            self._cancel()
        elif not is_known:
            self._offer(document)

    async def deliver(self, report: Report) -> None:
        """Report how a deployment fares; returns when the cloud has taken it or will never take it.

        Raises:
            NetworkError: it is worth trying again.
        """
        token = uuid.uuid4().hex
        reply: asyncio.Future[Mapping[str, Json]] = asyncio.get_running_loop().create_future()
        self._replies[token] = reply
        reported = {
            "ggcVersion": self._nucleus_version,
            "fleetConfigurationArnForStatus": report.configuration_arn,
            "status": report.status,
            "statusDetails": dict(report.details),
        }
        update: dict[str, Json] = {"state": {"reported": reported}, "clientToken": token}
        if self._version is not None:
            update["version"] = self._version
        try:
            await self._publish(f"{self._prefix}update", update)
            async with timeout(REPLY_TIMEOUT_S):
                body = await reply
        except TimeoutError:
            raise NetworkError("the update of the deployment shadow was not answered") from None
        finally:
            del self._replies[token]
        if body["code"] is None:
            return
        problem = f"the update of the deployment shadow to {report.status} was refused: {body.get('message')}"
        if body["code"] == CONFLICT:
            self.ask()
        if body["code"] not in FINAL_REFUSALS:
            raise NetworkError(problem)
        log.warning("%s", problem)

    def _reply(self, body: Mapping[str, Json]) -> None:
        reply = self._replies.get(str(body.get("clientToken")))
        if reply is not None and not reply.done():
            reply.set_result({"code": 500, **body})
