"""Secrets of AWS Secrets Manager, asked for with the device's role credentials."""

import base64
import json
from http import HTTPStatus
from typing import Final

from monodon.core.json import Json
from monodon.errors import NetworkError
from monodon.nucleus.cloud_secrets import FetchedSecret
from monodon.nucleus.uplink.exchange import Answer, Request
from monodon.nucleus.uplink.https import DataPlane

_HEADERS: Final = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "secretsmanager.GetSecretValue"}
_MAX_BYTES: Final = 1024 * 1024


class SecretsManager:
    """The cloud's secrets. No value is ever part of an error."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def fetch(self, arn: str, label: str) -> FetchedSecret:
        """Return the version of a secret that has a label.

        Raises:
            NetworkError: it is not there, this device may not read it, or the cloud did not answer.
        """
        body = json.dumps({"SecretId": arn, "VersionStage": label}).encode()
        request = Request(url="/", method="POST", headers=_HEADERS, body=body, limit_bytes=_MAX_BYTES)
        answer = await self._plane.ask_service("secretsmanager", request)
        found = _object(answer)
        if answer.status != HTTPStatus.OK:
            kind = str(found.get("__type", answer.headers.get("x-amzn-errortype", answer.status))).rpartition("#")[2]
            raise NetworkError(
                f"{label} of {arn} was refused with {kind}: {found.get('message', found.get('Message', ''))}",
                hint="the device's role must allow secretsmanager:GetSecretValue on it (and kms:Decrypt with its key)",
            )
        try:
            text, data = found.get("SecretString"), found.get("SecretBinary")
            value = text if data is None else base64.b64decode(data, validate=True)
            if not isinstance(value, str | bytes):
                raise TypeError("no value")
            found["Name"].encode()
            return FetchedSecret(
                name=found["Name"],
                arn=str(found["ARN"]),
                version_id=str(found["VersionId"]),
                labels=tuple(str(each) for each in found["VersionStages"]),
                value=value,
            )
        except (KeyError, TypeError, AttributeError, ValueError):
            raise NetworkError(f"the answer for {arn} cannot be read") from None


def _object(answer: Answer) -> dict[str, Json]:
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise NetworkError(f"Secrets Manager's answer ({answer.status}) is not a JSON object")
    return body
