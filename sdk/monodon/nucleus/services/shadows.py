"""Shadows over IPC, kept on the device; every operation is also told on local topics.

Source: aws.greengrass.ShadowManager, ``ipc/*RequestHandler.java``; ipc.md 4.6.
"""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Final

from monodon.core.json import read_json
from monodon.core.policy import SHADOW_MANAGER
from monodon.core.shadow import ShadowError
from monodon.core.shadow_sync import RateLimits
from monodon.ipc.errors import (
    ConflictError,
    InvalidArgumentsError,
    ModelledError,
    ResourceNotFoundError,
    ServiceError,
)
from monodon.ipc.service import Operation, Service
from monodon.ipc.shapes import (
    DeleteThingShadowRequest,
    DeleteThingShadowResponse,
    GetThingShadowRequest,
    GetThingShadowResponse,
    ListNamedShadowsForThingRequest,
    ListNamedShadowsForThingResponse,
    UpdateThingShadowRequest,
    UpdateThingShadowResponse,
)
from monodon.nucleus.told_shadows import ToldShadows, json_bytes, topic_prefix

_THING: Final = re.compile(r"[a-zA-Z0-9:_-]{1,128}")
_SHADOW: Final = re.compile(r"[a-zA-Z0-9:_-]{1,64}")
_PAGE: Final = 25
_MAX_PAGE: Final = 100
_REMEMBERED_THINGS: Final = 10_000

_ShadowRequest = GetThingShadowRequest | UpdateThingShadowRequest | DeleteThingShadowRequest


def _thing(request: _ShadowRequest | ListNamedShadowsForThingRequest) -> str:
    thing = request.thing_name or ""
    if not _THING.fullmatch(thing):
        raise InvalidArgumentsError(f"thingName {thing[:140]!r} is not 1 to 128 of letters, digits, ':', '_' and '-'")
    return thing


def _resource(request: _ShadowRequest) -> str:
    """Return the start of the shadow's topics, which is also what policies name."""
    thing, name = _thing(request), request.shadow_name or ""
    if name and not _SHADOW.fullmatch(name):
        raise InvalidArgumentsError(f"shadowName {name[:80]!r} is not 1 to 64 of letters, digits, ':', '_' and '-'")
    return topic_prefix(thing, name)


def _is_json(payload: bytes) -> bool:
    try:
        read_json(payload)
    except ValueError:
        return False
    return True


def _modelled(error: ShadowError) -> ModelledError:
    if error.code == 404:
        return ResourceNotFoundError(error.message, resourceType="shadow")
    return ConflictError(error.message) if error.code == 409 else InvalidArgumentsError(error.message)


class Rates:
    """How many requests are taken: so many a second in all, so many for each thing, as much at once.

    Args:
        limits: asked for the rates of this moment.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, limits: Callable[[], RateLimits] = RateLimits
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._buckets: dict[str | None, tuple[float, float]] = {}

    def take(self, thing: str) -> None:
        """Count a request.

        Raises:
            ServiceError: too many.
        """
        now, limits = self._clock(), self._limits()
        if len(self._buckets) > _REMEMBERED_THINGS:
            self._buckets.clear()
        left = {key: self._left(key, rate, now) for key, rate in ((None, limits.in_all), (thing, limits.of_a_thing))}
        if min(left.values()) < 1:
            raise ServiceError("Too Many Requests")
        self._buckets.update({key: (amount - 1, now) for key, amount in left.items()})

    def _left(self, key: str | None, rate: float, now: float) -> float:
        amount, at = self._buckets.get(key, (rate, now))
        return min(rate, amount + (now - at) * rate)


class _Operations:
    """The operations, on the device's shadows."""

    def __init__(self, shadows: ToldShadows, rates: Rates) -> None:
        self._shadows = shadows
        self._rates = rates
        self._secret = secrets.token_bytes(16)

    def get(self, request: GetThingShadowRequest, caller: str) -> GetThingShadowResponse:
        _resource(request)
        self._rates.take(_thing(request))
        try:
            document = self._shadows.get(_thing(request), request.shadow_name or "")
        except ShadowError as error:
            raise _modelled(error) from error
        return GetThingShadowResponse(payload=json_bytes(document))

    def update(self, request: UpdateThingShadowRequest, caller: str) -> UpdateThingShadowResponse:
        _resource(request)
        self._rates.take(_thing(request))
        payload = request.payload
        try:
            updated = self._shadows.update(_thing(request), request.shadow_name or "", payload or b"")
        except ShadowError as error:
            if payload and not _is_json(payload):
                raise ServiceError(error.message) from error
            raise _modelled(error) from error
        return UpdateThingShadowResponse(payload=json_bytes(updated.accepted))

    def delete(self, request: DeleteThingShadowRequest, caller: str) -> DeleteThingShadowResponse:
        _resource(request)
        self._rates.take(_thing(request))
        try:
            self._shadows.delete(_thing(request), request.shadow_name or "")
        except ShadowError as error:
            raise _modelled(error) from error
        return DeleteThingShadowResponse(payload=b"")

    def list_names(self, request: ListNamedShadowsForThingRequest, caller: str) -> ListNamedShadowsForThingResponse:
        thing = _thing(request)
        self._rates.take(thing)
        size = _PAGE if request.page_size is None else request.page_size
        if not 1 <= size <= _MAX_PAGE:
            raise InvalidArgumentsError(f"pageSize {size} is not within 1 and {_MAX_PAGE}")
        last = self._read_token(request.next_token, thing, caller) if request.next_token else ""
        names = [name for name in self._shadows.names(thing) if name > last]
        page = names[:size]
        return ListNamedShadowsForThingResponse(
            results=tuple(page),
            timestamp=float(self._shadows.now_s()),
            next_token=self._token(page[-1], thing, caller) if len(page) == size else None,
        )

    def _token(self, last: str, thing: str, caller: str) -> str:
        text = f"{caller}\0{thing}\0{last}".encode()
        return base64.urlsafe_b64encode(hmac.digest(self._secret, text, hashlib.sha256) + last.encode()).decode()

    def _read_token(self, token: str, thing: str, caller: str) -> str:
        try:
            last = base64.urlsafe_b64decode(token)[hashlib.sha256().digest_size :].decode()
            is_ours = hmac.compare_digest(token.encode(), self._token(last, thing, caller).encode())
        except ValueError:
            is_ours = False
        if not is_ours:
            raise InvalidArgumentsError("nextToken is not one that was given for this thing")
        return last


def shadow_service(shadows: ToldShadows, rates: Rates | None = None) -> Service:
    """Return the service of shadows."""
    operations = _Operations(shadows, rates or Rates())
    return Service(
        SHADOW_MANAGER,
        {
            "aws.greengrass#GetThingShadow": Operation(operations.get, resource=_resource),
            "aws.greengrass#UpdateThingShadow": Operation(operations.update, resource=_resource),
            "aws.greengrass#DeleteThingShadow": Operation(operations.delete, resource=_resource),
            "aws.greengrass#ListNamedShadowsForThing": Operation(operations.list_names, resource=_thing),
        },
    )
