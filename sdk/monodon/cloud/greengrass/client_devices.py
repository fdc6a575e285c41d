"""What core devices ask about client devices: whether a certificate is active, and whose it is.

Only devices ask it, with their certificate: boto3 has none of these operations.
Source: aws.greengrass.clientdevices.Auth, ``iot/IotAuthClient.java``, for the names of members and errors.
"""

import json
from collections.abc import Collection, Mapping

from monodon.cloud.certificates import identify_pem
from monodon.cloud.iot.access import Access
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json


class ClientDeviceRegistry:
    """The registry of things and certificates, as core devices see it."""

    def __init__(self, store: Store, access: Access) -> None:
        self._clients = store.table("greengrass.client_devices")
        self._connectivity = store.table("greengrass.connectivity")
        self._things = store.table("iot.principal_things")
        self._access = access

    def verify_identity(self, body: bytes) -> dict[str, Json]:
        """Return the id of an active certificate: ``VerifyClientDeviceIdentity``.

        Raises:
            ServiceError: it is no certificate, unknown, or not active.
        """
        try:
            certificate_id = identify_pem(_text(body, "clientDeviceCertificate"))
        except ValueError as error:
            raise _invalid("clientDeviceCertificate is not a certificate in PEM") from error
        if not self._is_active(certificate_id):
            raise _missing("The certificate is unknown or not active")
        return {"clientDeviceCertificateId": certificate_id}

    def verify_association(self, body: bytes, cores: Collection[str]) -> dict[str, Json]:
        """Answer for a thing and its active certificate: ``VerifyClientDeviceIoTCertificateAssociation``.

        The certificate must be attached to the thing, and the thing associated with one of ``cores``, who ask.

        Raises:
            ServiceError: one of these is not so.
        """
        thing, certificate_id = _text(body, "clientDeviceThingName"), _text(body, "clientDeviceCertificateId")
        if not self._is_active(certificate_id) or self._things.get(f"{certificate_id}/{thing}") is None:
            raise _missing(f"The certificate is not active, or not attached to thing {thing}")
        if not any(self._clients.get(f"{core}/{thing}") is not None for core in cores):
            raise _missing(f"Thing {thing} is not associated with core device {', '.join(cores)}")
        return {}

    def connectivity(self, thing: str) -> dict[str, Json]:
        """Return the addresses of a core device: ``GetConnectivityInfo``."""
        record = self._connectivity.get(thing)
        return {"connectivityInfo": [] if record is None else record["info"]}

    def _is_active(self, certificate_id: str) -> bool:
        record = self._access.certificates.get(certificate_id)
        return record is not None and record["status"] == "ACTIVE"


def _text(body: bytes, member: str) -> str:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _invalid("the body is not JSON") from error
    value = document.get(member) if isinstance(document, Mapping) else None
    if not isinstance(value, str) or not value:
        raise _invalid(f"{member} must be a text")
    return value


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message, status=400, reason="FIELD_VALIDATION_FAILED")


def _missing(message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message, status=404)
