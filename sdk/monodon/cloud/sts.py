"""STS: who a key belongs to, and credentials for roles."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.keys import AccessKeys
from monodon.cloud.protocol import ServiceError
from monodon.core.json import Json

Request = dict[str, Any]
_DEFAULT_DURATION_S = 3600


class Sts:
    """Operations of STS, named as in the model; credentials that nobody knows are the account's own."""

    def __init__(self, keys: AccessKeys, *, now: Callable[[], float]) -> None:
        self._keys = keys
        self._now = now

    def get_caller_identity(self, request: Request, context: RequestContext) -> dict[str, Json]:
        known = self._keys.find(context.access_key) if context.access_key else None
        if known is not None:
            if known.expiration is not None and known.expiration < self._now():
                message = "The security token included in the request is expired"
                raise ServiceError("ExpiredToken", message, status=403)
            return {"Account": context.account, "Arn": known.arn, "UserId": known.user_id}
        return {
            "Account": context.account,
            "Arn": f"arn:aws:iam::{context.account}:user/monodon",
            "UserId": "AIDAMONODON",
        }

    def assume_role(self, request: Request, context: RequestContext) -> dict[str, Json]:
        role, session = request["RoleArn"], request["RoleSessionName"]
        duration = request.get("DurationSeconds", _DEFAULT_DURATION_S)
        credentials = self.issue(role, session, duration, context)
        user_id = f"AROAMONODON:{session}"
        return {
            "Credentials": {
                "AccessKeyId": credentials["accessKeyId"],
                "SecretAccessKey": credentials["secretAccessKey"],
                "SessionToken": credentials["sessionToken"],
                "Expiration": credentials["expiration_s"],
            },
            "AssumedRoleUser": {"AssumedRoleId": user_id, "Arn": _assumed(role, session)},
        }

    def get_session_token(self, request: Request, context: RequestContext) -> dict[str, Json]:
        duration = request.get("DurationSeconds", 12 * _DEFAULT_DURATION_S)
        credentials = self.issue(f"arn:aws:iam::{context.account}:role/monodon", "session", duration, context)
        return {
            "Credentials": {
                "AccessKeyId": credentials["accessKeyId"],
                "SecretAccessKey": credentials["secretAccessKey"],
                "SessionToken": credentials["sessionToken"],
                "Expiration": credentials["expiration_s"],
            }
        }

    def issue(self, role_arn: str, session: str, duration_s: int, context: RequestContext) -> dict[str, Json]:
        """Return new credentials of a role, as the credential provider words them, and the end in seconds."""
        end = self._now() + duration_s
        key = self._keys.lend(_assumed(role_arn, session), f"AROAMONODON:{session}", end)
        return {
            "accessKeyId": key.access_key,
            "secretAccessKey": key.secret,
            "sessionToken": key.token,
            "expiration": datetime.fromtimestamp(end, UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "expiration_s": end,
        }


def _assumed(role_arn: str, session: str) -> str:
    """The identity of a session: ``arn:aws:sts::<account>:assumed-role/<role>/<session>``."""
    account, _, role = role_arn.partition("::")[2].partition(":")
    return f"arn:aws:sts::{account}:assumed-role/{role.rpartition('/')[2]}/{session}"
