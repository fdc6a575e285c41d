"""Client devices over IPC: a local broker has them verified and authorised, and gets its server certificate.

Offered while aws.greengrass.clientdevices.Auth is deployed; without it every call is answered as AWS's nucleus does
without that plugin.

Source: aws.greengrass.clientdevices.Auth, ``ipc/*OperationHandler.java``; ipc.md 4.8.
"""

import logging
from collections.abc import Callable
from typing import Any, Final

from monodon.core.client_devices import ServiceMismatchError
from monodon.core.policy import CLIENT_DEVICES
from monodon.errors import StateError
from monodon.ipc.errors import (
    InvalidArgumentsError,
    InvalidClientDeviceAuthTokenError,
    InvalidCredentialError,
    ServiceError,
)
from monodon.ipc.service import Operation, Service, Stream
from monodon.ipc.shapes import (
    AuthorizeClientDeviceActionRequest,
    AuthorizeClientDeviceActionResponse,
    CertificateUpdate,
    CertificateUpdateEvent,
    GetClientDeviceAuthTokenRequest,
    GetClientDeviceAuthTokenResponse,
    SubscribeToCertificateUpdatesRequest,
    SubscribeToCertificateUpdatesResponse,
    VerifyClientDeviceIdentityRequest,
    VerifyClientDeviceIdentityResponse,
)
from monodon.nucleus.client_devices import BusyError, ClientDevices, RefusedError, UnknownTokenError, to_pem
from monodon.nucleus.server_certificates import ServerCertificate, ServerCertificates

log = logging.getLogger(__name__)

_PREFIX: Final = "aws.greengrass#"
_SERVER: Final = "SERVER"


def client_device_service(
    devices: ClientDevices, certificates: ServerCertificates, is_deployed: Callable[[], bool]
) -> Service:
    """Return the service of client devices; ``is_deployed`` says whether the component is there at the moment."""
    operations = _Operations(devices, certificates)

    def offered(name: str, handler: Callable[..., Any]) -> Operation:
        def resource(request: object) -> str:
            if not is_deployed():
                raise ServiceError(f"Operation {name} is not supported by Greengrass")
            return "*"

        return Operation(handler, resource=resource)

    handlers: dict[str, Callable[..., Any]] = {
        _PREFIX + "VerifyClientDeviceIdentity": operations.verify,
        _PREFIX + "GetClientDeviceAuthToken": operations.get_token,
        _PREFIX + "AuthorizeClientDeviceAction": operations.authorize,
        _PREFIX + "SubscribeToCertificateUpdates": operations.subscribe,
    }
    return Service(CLIENT_DEVICES, {name: offered(name, handler) for name, handler in handlers.items()})


class _Operations:
    def __init__(self, devices: ClientDevices, certificates: ServerCertificates) -> None:
        self._devices = devices
        self._certificates = certificates

    async def verify(
        self, request: VerifyClientDeviceIdentityRequest, caller: str
    ) -> VerifyClientDeviceIdentityResponse:
        if request.credential is None:
            raise InvalidArgumentsError("Client device credential is required")
        certificate = request.credential.client_device_certificate
        if not certificate:
            raise InvalidArgumentsError("Client device certificate is required")
        try:
            is_valid = await self._devices.verify(_pem(certificate))
        except (RefusedError, BusyError, StateError) as error:
            raise ServiceError(f"Verifying client device identity failed: {_told(error)}") from error
        return VerifyClientDeviceIdentityResponse(is_valid_client_device=is_valid)

    async def get_token(
        self, request: GetClientDeviceAuthTokenRequest, caller: str
    ) -> GetClientDeviceAuthTokenResponse:
        credential = None if request.credential is None else request.credential.mqtt_credential
        if credential is None or not credential.certificate_pem:
            raise InvalidArgumentsError("Invalid client device credentials")
        try:
            token = await self._devices.open_session(credential.client_id or "", _pem(credential.certificate_pem))
        except RefusedError as error:
            log.warning("%s asked for the session of a client device that is refused: %s", caller, error)
            raise InvalidCredentialError(
                f"Unable to authenticate the client device with the given credentials: {_told(error)}"
            ) from error
        except (BusyError, StateError) as error:
            raise ServiceError(f"Getting client device auth token failed: {_told(error)}") from error
        return GetClientDeviceAuthTokenResponse(client_device_auth_token=token)

    def authorize(
        self, request: AuthorizeClientDeviceActionRequest, caller: str
    ) -> AuthorizeClientDeviceActionResponse:
        given = {
            "Auth token": request.client_device_auth_token,
            "Operation": request.operation,
            "Resource": request.resource,
        }
        for name, value in given.items():
            if not value:
                raise InvalidArgumentsError(f"{name} is required")
        try:
            is_authorized = self._devices.allows(
                request.client_device_auth_token or "", request.operation or "", request.resource or ""
            )
        except UnknownTokenError as error:
            raise InvalidClientDeviceAuthTokenError(
                "Unable to find a valid session with the given auth token"
            ) from error
        except ServiceMismatchError as error:
            raise ServiceError(f"Authorizing client device action failed: {error}") from error
        return AuthorizeClientDeviceActionResponse(is_authorized=is_authorized)

    async def subscribe(
        self, request: SubscribeToCertificateUpdatesRequest, caller: str, stream: Stream
    ) -> SubscribeToCertificateUpdatesResponse:
        if request.certificate_options is None:
            raise InvalidArgumentsError("Certificate options are required.")
        if request.certificate_options.certificate_type != _SERVER:
            raise InvalidArgumentsError("Valid certificate type is required.")

        def send(certificate: ServerCertificate) -> None:
            stream.send(
                CertificateUpdateEvent(
                    certificate_update=CertificateUpdate(
                        private_key=certificate.private_key,
                        public_key=certificate.public_key,
                        certificate=certificate.certificate,
                        ca_certificates=(certificate.authority,),
                    )
                )
            )

        try:
            unsubscribe = await self._certificates.subscribe(caller, send)
        except StateError as error:
            raise ServiceError(f"Subscribe to certificate updates failed: {_told(error)}") from error
        stream.on_close(unsubscribe)
        return SubscribeToCertificateUpdatesResponse()


def _pem(text: str) -> str:
    pem = to_pem(text)
    if pem is None:
        raise InvalidArgumentsError("Unable to convert certificate PEM")
    return pem


def _told(error: RefusedError | BusyError | StateError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)
