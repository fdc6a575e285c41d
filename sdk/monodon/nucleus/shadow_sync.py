"""Keeps shadows of the device the same as the cloud's, as the configuration of aws.greengrass.ShadowManager says.

A shadow is looked at when it changes on either side, when the cloud comes back, and when the configuration changes: the
cloud's document is read, :func:`monodon.core.shadow_sync.plan_sync` compares the two with what they last had in common,
and each side is told the difference. What was synchronised is on disk, so changes made while the cloud was away, or the
nucleus was down, are found by the same comparison.
"""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

from monodon.core.json import Json
from monodon.core.shadow import ShadowError
from monodon.core.shadow_sync import Direction, Pace, Side, Synced, SyncPlan, SyncSettings, plan_sync
from monodon.deadlines import timeout
from monodon.errors import NetworkError, StateError
from monodon.nucleus.shadows import Records
from monodon.nucleus.told_shadows import ToldShadows, json_bytes, topic_prefix
from monodon.nucleus.uplink.protocol import IotMessage

log = logging.getLogger(__name__)

SHADOW_MANAGER: Final = "aws.greengrass.ShadowManager"
REPLY_TIMEOUT_S: Final = 10.0
RETRY_S: Final = 5.0
#: After the cloud refused a subscription, which its policies must allow first.
REFUSED_RETRY_S: Final = 60.0

_PREFIX: Final = "shadow-sync/"
_NOT_FOUND: Final = 404
_CONFLICT: Final = 409

_Key = tuple[str, str]
_Unsubscribe = Callable[[], Awaitable[None]]


class IotTopics(Protocol):
    """The part of an uplink that is needed."""

    @property
    def is_connected(self) -> bool:
        """Whether the cloud can be reached now."""

    def watch_connection(self, notify: Callable[[bool], None]) -> Callable[[], None]:
        """Call ``notify`` with each change."""

    async def publish(self, message: IotMessage, qos: int) -> None:
        """Send a message."""

    async def subscribe(self, topic_filter: str, qos: int, deliver: Callable[[IotMessage], None]) -> _Unsubscribe:
        """Deliver what matches until the result is called."""


class _RejectedError(Exception):
    """The cloud refused a request; ``code`` is AWS's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ShadowSync:
    """Synchronises while :meth:`run` runs. ``settings`` gives those of this moment."""

    def __init__(
        self,
        *,
        shadows: ToldShadows,
        records: Records,
        uplink: IotTopics,
        settings: Callable[[], SyncSettings],
        retry_s: float = RETRY_S,
    ) -> None:
        self._shadows = shadows
        self._records = records
        self._uplink = uplink
        self._settings = settings
        self._retry_s = retry_s
        self._wanted = SyncSettings()
        self._subscriptions: dict[_Key, list[_Unsubscribe]] = {}
        self._due: set[_Key] = set()
        self._wake = asyncio.Event()
        self._last_pass_s: float | None = None
        self._own: _Key | None = None
        self._refused: set[_Key] = set()
        self._replies: dict[str, asyncio.Future[tuple[bool, Mapping[str, Json]]]] = {}
        self._pace = Pace()

    def reconfigure(self) -> None:
        """The settings may be others now."""
        self._last_pass_s = None
        self._wake.set()

    async def run(self) -> None:
        """Synchronise until cancelled."""
        self._shadows.watch(self._changed_here)
        unwatch = self._uplink.watch_connection(self._connection_changed)
        try:
            self._wake.set()
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self._adopt(self._settings())
                if self._uplink.is_connected and self._is_time():
                    await self._pass()
        finally:
            unwatch()

    # --- what makes a shadow due -------------------------------------------------------------------------------------

    def _changed_here(self, thing: str, name: str) -> None:
        if (thing, name) in self._subscriptions and (thing, name) != self._own:
            self._due.add((thing, name))
            self._wake.set()

    def _connection_changed(self, is_connected: bool) -> None:
        if is_connected:
            self._due |= self._subscriptions.keys()
            self._wake.set()

    def _received(self, key: _Key, message: IotMessage) -> None:
        try:
            body = json.loads(message.payload or b"{}")
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            log.warning("a message on %s is not a JSON object", message.topic)
            return
        verb, _, outcome = message.topic.removeprefix(topic_prefix(*key) + "/").partition("/")
        reply = self._replies.get(str(body.get("clientToken")))
        if reply is not None:
            if not reply.done():
                reply.set_result((outcome == "accepted", body))
            return
        synced = self._synced(key)
        is_known = synced is not None and verb == "update" and body.get("version", 0) <= synced.cloud_version
        is_listened_to = self._wanted.direction is not Direction.TO_CLOUD
        if outcome == "accepted" and verb in ("update", "delete") and not is_known and is_listened_to:
            self._due.add(key)
            self._wake.set()

    # --- passes ------------------------------------------------------------------------------------------------------

    async def _adopt(self, settings: SyncSettings) -> None:
        if settings != self._wanted:
            for problem in settings.problems:
                log.warning("%s: %s", SHADOW_MANAGER, problem)
            self._wanted = settings
            self._due |= self._subscriptions.keys()
        for key in self._subscriptions.keys() - settings.shadows:
            for unsubscribe in self._subscriptions.pop(key):
                await unsubscribe()
        for key in sorted(settings.shadows - self._subscriptions.keys()):
            try:
                await self._subscribe(key)
            except NetworkError as error:
                if key not in self._refused:
                    log.warning("%s is not synchronised yet: %s", topic_prefix(*key), error)
                self._refused.add(key)
                self._wake_later(REFUSED_RETRY_S)
            else:
                self._refused.discard(key)
        self._due &= self._subscriptions.keys()

    async def _subscribe(self, key: _Key) -> None:
        made: list[_Unsubscribe] = []
        try:
            for outcome in ("accepted", "rejected"):
                topic_filter = f"{topic_prefix(*key)}/+/{outcome}"
                made.append(await self._uplink.subscribe(topic_filter, 1, lambda m: self._received(key, m)))
        except NetworkError:
            for unsubscribe in made:
                await unsubscribe()
            raise
        self._subscriptions[key] = made
        self._due.add(key)

    def _is_time(self) -> bool:
        """Whether a pass may begin; one of a periodic strategy waits for its time."""
        now, period_s = asyncio.get_running_loop().time(), self._wanted.period_s
        if period_s is not None and self._last_pass_s is not None and now < self._last_pass_s + period_s:
            if self._due:
                self._wake_later(self._last_pass_s + period_s - now)
            return False
        return True

    def _wake_later(self, delay_s: float) -> None:
        asyncio.get_running_loop().call_later(delay_s, self._wake.set)

    async def _pass(self) -> None:
        """Look at each shadow that is due now; one that becomes due meanwhile waits for the next pass."""
        self._last_pass_s = asyncio.get_running_loop().time()
        for key in sorted(self._due):
            self._due.discard(key)
            try:
                await self._synchronise(key)
            except _RejectedError as error:
                if error.code == _CONFLICT:
                    self._due.add(key)
                    self._wake.set()
                else:
                    log.warning("the cloud refused to synchronise %s: %s (%s)", topic_prefix(*key), error, error.code)
            except ShadowError as error:
                log.warning("%s cannot be as it is in the cloud: %s", topic_prefix(*key), error)
            except (NetworkError, StateError) as error:
                log.warning("%s is not synchronised: %s; trying again", topic_prefix(*key), error)
                self._due.add(key)
                self._wake_later(self._retry_s)
                return

    async def _synchronise(self, key: _Key) -> None:
        cloud = await self._cloud_side(key)
        found, synced = self._shadows.find(*key), self._synced(key)
        local = None if found is None else Side.of(found)
        if synced is not None and local is not None and cloud is not None and synced.is_of(local, cloud):
            return
        plan = plan_sync(local, cloud, synced, self._wanted.direction)
        local_version = self._apply_here(key, plan, 0 if local is None else local.version)
        cloud_version = await self._apply_there(key, plan, 0 if cloud is None else cloud.version)
        made = plan.state and Synced(local_version=local_version, cloud_version=cloud_version, state=plan.state)
        self._records.write({_record_key(key): made.to_record() if made else None})

    async def _cloud_side(self, key: _Key) -> Side | None:
        try:
            return Side.of_document(await self._ask(key, "get", {}))
        except _RejectedError as error:
            if error.code == _NOT_FOUND:
                return None
            raise

    def _apply_here(self, key: _Key, plan: SyncPlan, version: int) -> int:
        self._own = key
        try:
            if plan.deletes_local:
                self._shadows.delete(*key)
            elif plan.local:
                version = self._shadows.update(*key, json_bytes({"state": plan.local})).shadow.version
        finally:
            self._own = None
        return version

    async def _apply_there(self, key: _Key, plan: SyncPlan, version: int) -> int:
        expected = {"version": version} if version else {}
        if plan.deletes_cloud:
            await self._ask(key, "delete", expected)
        elif plan.cloud:
            version = int((await self._ask(key, "update", {"state": dict(plan.cloud), **expected}))["version"])
        return version

    async def _ask(self, key: _Key, verb: str, body: Mapping[str, Json]) -> Mapping[str, Json]:
        """Send a request, not sooner than the rate allows, and return its answer."""
        await asyncio.sleep(self._pace.take(self._wanted.outbound_per_s, asyncio.get_running_loop().time()))
        token = uuid.uuid4().hex
        reply: asyncio.Future[tuple[bool, Mapping[str, Json]]] = asyncio.get_running_loop().create_future()
        self._replies[token] = reply
        payload = json_bytes({**body, "clientToken": token})
        try:
            await self._uplink.publish(IotMessage(topic=f"{topic_prefix(*key)}/{verb}", payload=payload), 1)
            async with timeout(REPLY_TIMEOUT_S):
                is_accepted, answer = await reply
        except TimeoutError:
            raise NetworkError(f"the cloud did not answer a {verb} within {REPLY_TIMEOUT_S:g} s") from None
        finally:
            del self._replies[token]
        if not is_accepted:
            raise _RejectedError(int(answer.get("code") or 500), str(answer.get("message")))
        return answer

    def _synced(self, key: _Key) -> Synced | None:
        record = self._records.get(_record_key(key))
        return None if record is None else Synced.from_record(record)


def _record_key(key: _Key) -> str:
    return f"{_PREFIX}{key[0]}/{key[1]}"
