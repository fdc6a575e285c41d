"""What the nucleus asks of the cloud about client devices.

Source: aws.greengrass.clientdevices.Auth, ``iot/IotAuthClient.java``, ``connectivity/ConnectivityInformation.java``.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import quote

from monodon.core.client_devices import ASSOCIATION_PATH, IDENTITY_PATH, associated_path, connectivity_path
from monodon.core.json import Json
from monodon.errors import NetworkError
from monodon.nucleus.uplink.exchange import Answer, Request
from monodon.nucleus.uplink.https import DataPlane

_NO = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND})
_NO_NAMES = ("ValidationException", "ResourceNotFoundException")
_PAGE = 100


class CloudRegistry:
    """The cloud's registry of client devices. Each call raises NetworkError where it has no answer to go by."""

    def __init__(self, plane: DataPlane, thing: str, *, page: int = _PAGE) -> None:
        self._plane, self._thing, self._page = plane, thing, page

    async def is_active(self, certificate_pem: str) -> bool:
        """Whether a certificate is known and ACTIVE."""
        answer = await self._plane.call("POST", IDENTITY_PATH, {"clientDeviceCertificate": certificate_pem})
        return _is_so(answer, "VerifyClientDeviceIdentity")

    async def is_attached(self, thing: str, certificate_id: str) -> bool:
        """Whether a certificate belongs to a thing that is a client device of this core device."""
        body = {"clientDeviceThingName": thing, "clientDeviceCertificateId": certificate_id}
        return _is_so(
            await self._plane.call("POST", ASSOCIATION_PATH, body), "VerifyClientDeviceIoTCertificateAssociation"
        )

    async def hosts(self) -> tuple[str, ...]:
        """The addresses by which client devices reach this core device."""
        answer = await self._plane.call("GET", connectivity_path(self._thing))
        if answer.status in _NO:
            return ()
        found = _listed(_body(answer, "GetConnectivityInfo"), "connectivityInfo")
        return tuple(str(_member(each, "hostAddress", "HostAddress")) for each in found)

    async def associated(self) -> frozenset[str]:
        """The client devices of this core device; asked with the device's role, which must be allowed to."""
        names: set[str] = set()
        token: str | None = None
        while True:
            query = f"?maxResults={self._page}" + (f"&nextToken={quote(token, safe='')}" if token else "")
            answer = await self._plane.ask_service("greengrass", Request(url=associated_path(self._thing) + query))
            body = _body(answer, "ListClientDevicesAssociatedWithCoreDevice")
            names |= {str(_member(each, "thingName")) for each in _listed(body, "associatedClientDevices")}
            token = str(body.get("nextToken") or "")
            if not token:
                return frozenset(names)


def _is_so(answer: Answer, operation: str) -> bool:
    kind = answer.headers.get("x-amzn-errortype", "").partition(":")[0]
    if answer.status in _NO and (not kind or kind in _NO_NAMES):
        return False
    _body(answer, operation)
    return True


def _body(answer: Answer, operation: str) -> Mapping[str, Json]:
    if answer.status != HTTPStatus.OK:
        raise NetworkError(
            f"{operation} was refused with {answer.status} {answer.headers.get('x-amzn-errortype', '')}".rstrip(),
            hint=f"the core device's policy, or its role, must allow greengrass:{operation}",
        )
    try:
        body = json.loads(answer.body or b"{}")
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, Mapping):
        raise NetworkError(f"the cloud's answer to {operation} is not a JSON object")
    return body


def _listed(body: Mapping[str, Json], name: str) -> list[Json]:
    found = body.get(name) or []
    if not isinstance(found, list):
        raise NetworkError(f"the cloud's answer has no list {name}")
    return found


def _member(value: Json, *names: str) -> Json:
    found = [value[name] for name in names if name in value] if isinstance(value, Mapping) else []
    if not found:
        raise NetworkError(f"the cloud's answer has no {names[0]}")
    return found[0]
