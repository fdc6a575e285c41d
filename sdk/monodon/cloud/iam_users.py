"""IAM users and their access keys: the keys that ``--strict`` knows besides the account's first one."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from monodon.cloud.context import RequestContext
from monodon.cloud.keys import AccessKey, AccessKeys
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store
from monodon.core.json import Json

Request = dict[str, Any]
_KEYS_PER_USER = 2


class IamUsers:
    """Operations of IAM on users, named as in the model."""

    def __init__(self, store: Store, *, account: str, keys: AccessKeys, now: Callable[[], float]) -> None:
        self._users = store.table("iam.users")
        self._account = account
        self._keys = keys
        self._now = now

    def create_user(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["UserName"]
        if self._users.get(name) is not None:
            raise ServiceError("EntityAlreadyExistsException", f"User with name {name} already exists.", status=409)
        record = {"path": request.get("Path", "/"), "created": self._now(), "id": f"AIDA{name.upper():0<17.17}"}
        self._users.put(name, record)
        return {"User": self._described(name, record)}

    def get_user(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"User": self._described(request["UserName"], self._user(request["UserName"]))}

    def list_users(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"Users": [self._described(*each) for each in self._users.items()], "IsTruncated": False}

    def delete_user(self, request: Request, context: RequestContext) -> None:
        name = request["UserName"]
        self._user(name)
        if self._of(name):
            raise ServiceError("DeleteConflictException", "Cannot delete entity, must delete keys first.", status=409)
        self._users.delete(name)

    def create_access_key(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = self._name(request)
        record = self._user(name)
        if len(self._of(name)) >= _KEYS_PER_USER:
            text = f"Cannot exceed quota for AccessKeysPerUser: {_KEYS_PER_USER}"
            raise ServiceError("LimitExceededException", text, status=409)
        key = self._keys.make(self._arn(name, record["path"]), record["id"])
        return {"AccessKey": {**_listed(name, key), "SecretAccessKey": key.secret}}

    def list_access_keys(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = self._name(request)
        self._user(name)
        return {"AccessKeyMetadata": [_listed(name, key) for key in self._of(name)], "IsTruncated": False}

    def update_access_key(self, request: Request, context: RequestContext) -> None:
        self._keys.put(replace(self._key(request), is_active=request["Status"] == "Active"))

    def delete_access_key(self, request: Request, context: RequestContext) -> None:
        self._keys.delete(self._key(request).access_key)

    def _name(self, request: Request) -> str:
        if "UserName" not in request:
            raise ServiceError("ValidationError", "UserName is needed here", status=400)
        return str(request["UserName"])

    def _user(self, name: str) -> dict[str, Json]:
        record = self._users.get(name)
        if record is None:
            raise ServiceError("NoSuchEntityException", f"The user with name {name} cannot be found.", status=404)
        return record

    def _key(self, request: Request) -> AccessKey:
        for key in self._of(self._name(request)):
            if key.access_key == request["AccessKeyId"]:
                return key
        text = f"The Access Key with id {request['AccessKeyId']} cannot be found."
        raise ServiceError("NoSuchEntityException", text, status=404)

    def _of(self, name: str) -> list[AccessKey]:
        arn = self._arn(name, self._user(name)["path"])
        return [key for key in self._keys.all() if key.arn == arn]

    def _arn(self, name: str, path: str) -> str:
        return f"arn:aws:iam::{self._account}:user{path}{name}"

    def _described(self, name: str, record: dict[str, Json]) -> dict[str, Json]:
        return {
            "Path": record["path"],
            "UserName": name,
            "UserId": record["id"],
            "Arn": self._arn(name, record["path"]),
            "CreateDate": record["created"],
        }


def _listed(name: str, key: AccessKey) -> dict[str, Json]:
    return {
        "UserName": name,
        "AccessKeyId": key.access_key,
        "Status": "Active" if key.is_active else "Inactive",
        "CreateDate": key.created,
    }
