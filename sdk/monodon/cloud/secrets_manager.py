"""Secrets Manager: secrets, their versions, and the labels that move between these.

Values are encrypted in the state (AES-256-GCM) under a key beside it, so that a copy of the database says nothing.
Source: AWS Secrets Manager API reference and user guide, "What's in a secret? Version".
"""

import base64
import json
import os
import re
import secrets
import string
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from monodon.cloud.context import RequestContext
from monodon.cloud.paging import page_of
from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store, write_whole
from monodon.core.json import Json
from monodon.core.names import partition_of

Request = dict[str, Any]

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
KEY_FILE: Final = "secrets.key"

_NAME: Final = re.compile(r"[A-Za-z0-9/_+=.@-]{1,512}")
_SUFFIX: Final = string.ascii_letters + string.digits
_SUFFIX_LENGTH: Final = 6
_NONCE: Final = 12
_MAX_VALUE: Final = 65_536
_MAX_STAGES: Final = 20
_RECOVERY_DAYS: Final = 30
_DAY_S: Final = 86_400.0
_PAGE: Final = 100


class SecretsManager:
    """Operations named as in the model."""

    def __init__(self, store: Store, *, region: str, account: str, now: Callable[[], float]) -> None:
        self._secrets = store.table("secretsmanager.secrets")
        self._vault = _Vault(store.folder / KEY_FILE)
        self._arn_prefix = f"arn:{partition_of(region)}:secretsmanager:{region}:{account}:secret:"
        self._now = now

    # Secrets

    def create_secret(self, request: Request, context: RequestContext) -> dict[str, Json]:
        name = request["Name"]
        if not _NAME.fullmatch(name):
            raise _invalid("Invalid name. Must be a valid name containing alphanumeric characters, or any of /_+=.@-")
        before = self._live(name)
        version_id = request.get("ClientRequestToken") or str(uuid.uuid4())
        if before is not None:
            if before["deleted"] is not None:
                raise ServiceError(
                    "InvalidRequestException",
                    "You can't create this secret because a secret with this name is already scheduled for deletion.",
                    status=400,
                )
            if not self._is_repeated(before, version_id, request):
                raise ServiceError(
                    "ResourceExistsException",
                    f"The operation failed because the secret {name} already exists.",
                    status=400,
                )
            return self._named(before, VersionId=version_id)
        suffix = "".join(secrets.choice(_SUFFIX) for _ in range(_SUFFIX_LENGTH))
        record: dict[str, Json] = {
            "name": name,
            "arn": f"{self._arn_prefix}{name}-{suffix}",
            "description": request.get("Description"),
            "kms": request.get("KmsKeyId"),
            "tags": request.get("Tags", []),
            "created": self._now(),
            "changed": self._now(),
            "deleted": None,
            "versions": {},
        }
        has_value = _value_of(request) is not None
        if has_value:
            self._add(record, version_id, request, [CURRENT])
        self._secrets.put(name, record)
        return self._named(record, VersionId=version_id if has_value else None)

    def update_secret(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._usable(request["SecretId"])
        for member, key in (("Description", "description"), ("KmsKeyId", "kms")):
            if member in request:
                record[key] = request[member]
        version_id = None
        if _value_of(request) is not None:
            version_id = request.get("ClientRequestToken") or str(uuid.uuid4())
            self._add(record, version_id, request, [CURRENT])
        self._put(record)
        return self._named(record, VersionId=version_id)

    def describe_secret(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._found(request["SecretId"])
        return {**self._described(record), "VersionIdsToStages": _stages_of(record)}

    def list_secrets(self, request: Request, context: RequestContext) -> dict[str, Json]:
        with_deleted = request.get("IncludePlannedDeletion", False)
        filters = request.get("Filters", [])
        entries = (
            (name, {**self._described(record), "SecretVersionsToStages": _stages_of(record)})
            for name, record in self._secrets.items()
            if not self._is_gone(record)
            and (with_deleted or record["deleted"] is None)
            and all(_fits(record, each) for each in filters)
        )
        found, token = page_of(
            entries, request.get("NextToken"), request.get("MaxResults", _PAGE), error="InvalidNextTokenException"
        )
        return {"SecretList": found, "NextToken": token}

    def delete_secret(self, request: Request, context: RequestContext) -> dict[str, Json]:
        days, is_forced = request.get("RecoveryWindowInDays"), request.get("ForceDeleteWithoutRecovery", False)
        if is_forced and days is not None:
            raise _invalid("You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.")
        if days is not None and not 7 <= days <= _RECOVERY_DAYS:
            raise _invalid(f"RecoveryWindowInDays value must be between 7 and {_RECOVERY_DAYS} days (inclusive).")
        record = self._found(request["SecretId"])
        if is_forced:
            self._secrets.delete(record["name"])
            return self._named(record, DeletionDate=self._now())
        record["deleted"] = self._now() + (days or _RECOVERY_DAYS) * _DAY_S
        self._put(record)
        return self._named(record, DeletionDate=record["deleted"])

    def restore_secret(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._found(request["SecretId"])
        record["deleted"] = None
        self._put(record)
        return self._named(record)

    # Versions

    def get_secret_value(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._usable(request["SecretId"])
        stage = request.get("VersionStage")
        version_id: str = request.get("VersionId") or _labelled(record, stage or CURRENT) or ""
        version = record["versions"].get(version_id)
        if version is None or (stage is not None and stage not in version["stages"]):
            what = f"value for staging label: {stage or CURRENT}" if request.get("VersionId") is None else "version"
            raise _missing(f"Secrets Manager can't find the specified secret {what}")
        value = self._vault.open(version["value"], _place(record, version_id))
        return self._named(
            record,
            VersionId=version_id,
            VersionStages=version["stages"],
            CreatedDate=version["created"],
            **({"SecretString": value} if isinstance(value, str) else {"SecretBinary": value}),
        )

    def put_secret_value(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._usable(request["SecretId"])
        if _value_of(request) is None:
            raise _invalid("You must provide either SecretString or SecretBinary.")
        stages = request.get("VersionStages") or [CURRENT]
        version_id = request.get("ClientRequestToken") or str(uuid.uuid4())
        self._add(record, version_id, request, stages)
        self._put(record)
        return self._named(record, VersionId=version_id, VersionStages=record["versions"][version_id]["stages"])

    def update_secret_version_stage(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._usable(request["SecretId"])
        stage, target = request["VersionStage"], request.get("MoveToVersionId")
        source, holder = request.get("RemoveFromVersionId"), _labelled(record, request["VersionStage"])
        for version_id in (target, source):
            if version_id is not None and version_id not in record["versions"]:
                raise _missing("Secrets Manager can't find the specified secret version")
        if target is None and source is None:
            raise _invalid("You must specify MoveToVersionId or RemoveFromVersionId.")
        if target is None and stage == CURRENT:
            raise _invalid(
                "You can only move staging label AWSCURRENT to a different secret version. It can't be completely "
                "removed."
            )
        if holder not in (None, target) and holder != source:
            raise _invalid(
                f"The parameter RemoveFromVersionId must name {holder}, which has the staging label {stage}."
            )
        if source is not None and source != holder:
            raise _invalid(f"The staging label {stage} is not attached to version {source}.")
        _label(record, stage, target)
        self._put(record)
        return self._named(record)

    def list_secret_version_ids(self, request: Request, context: RequestContext) -> dict[str, Json]:
        record = self._found(request["SecretId"])
        with_deprecated = request.get("IncludeDeprecated", False)
        entries = (
            (
                version_id,
                {
                    "VersionId": version_id,
                    "VersionStages": version["stages"] or None,
                    "CreatedDate": version["created"],
                },
            )
            for version_id, version in sorted(record["versions"].items())
            if with_deprecated or version["stages"]
        )
        found, token = page_of(
            entries, request.get("NextToken"), request.get("MaxResults", _PAGE), error="InvalidNextTokenException"
        )
        return self._named(record, Versions=found, NextToken=token)

    # Tags

    def tag_resource(self, request: Request, context: RequestContext) -> None:
        record = self._usable(request["SecretId"])
        tags = {tag["Key"]: tag for tag in (*record["tags"], *request["Tags"])}
        record["tags"] = list(tags.values())
        self._put(record)

    def untag_resource(self, request: Request, context: RequestContext) -> None:
        record = self._usable(request["SecretId"])
        record["tags"] = [tag for tag in record["tags"] if tag["Key"] not in request["TagKeys"]]
        self._put(record)

    # What they share

    def _add(self, record: dict[str, Json], version_id: str, request: Request, stages: Sequence[str]) -> None:
        """Add a version, to which the labels move; the one before the current is the previous."""
        if version_id in record["versions"]:
            if self._is_repeated(record, version_id, request):
                return
            raise ServiceError(
                "ResourceExistsException",
                f"You can't use ClientRequestToken {version_id} because that value is already in use for a version of "
                f"secret {record['arn']}.",
                status=400,
            )
        value = _value_of(request)
        assert value is not None
        if not 0 < len(value if isinstance(value, bytes) else value.encode()) <= _MAX_VALUE:
            raise _invalid(f"The secret value must have 1 to {_MAX_VALUE} bytes.")
        record["versions"][version_id] = {
            "value": self._vault.close(value, _place(record, version_id)),
            "stages": [],
            "created": self._now(),
        }
        for stage in dict.fromkeys(stages):
            _label(record, stage, version_id)
        if len(record["versions"][version_id]["stages"]) > _MAX_STAGES:
            raise ServiceError("LimitExceededException", f"A version has at most {_MAX_STAGES} labels.", status=400)

    def _is_repeated(self, record: dict[str, Json], version_id: str, request: Request) -> bool:
        version = record["versions"].get(version_id)
        if version is None:
            return False
        return self._vault.open(version["value"], _place(record, version_id)) == _value_of(request)

    def _put(self, record: dict[str, Json]) -> None:
        record["changed"] = self._now()
        self._secrets.put(record["name"], record)

    def _live(self, name: str) -> dict[str, Json] | None:
        record = self._secrets.get(name)
        return None if record is None or self._is_gone(record) else record

    def _is_gone(self, record: dict[str, Json]) -> bool:
        return record["deleted"] is not None and record["deleted"] <= self._now()

    def _found(self, secret_id: str) -> dict[str, Json]:
        """The record of a name or an ARN, whole or without the six characters at its end."""
        name = secret_id.removeprefix(self._arn_prefix)
        for candidate in (name, name[: -_SUFFIX_LENGTH - 1] if secret_id != name else ""):
            record = self._live(candidate) if candidate else None
            if record is not None and (candidate == name or record["arn"] == secret_id):
                return record
        raise _missing("Secrets Manager can't find the specified secret.")

    def _usable(self, secret_id: str) -> dict[str, Json]:
        record = self._found(secret_id)
        if record["deleted"] is not None:
            raise ServiceError(
                "InvalidRequestException",
                "You can't perform this operation on the secret because it was marked for deletion.",
                status=400,
            )
        return record

    def _named(self, record: dict[str, Json], **members: Json) -> dict[str, Json]:
        return {"ARN": record["arn"], "Name": record["name"], **members}

    def _described(self, record: dict[str, Json]) -> dict[str, Json]:
        return self._named(
            record,
            Description=record["description"],
            KmsKeyId=record["kms"],
            Tags=record["tags"] or None,
            CreatedDate=record["created"],
            LastChangedDate=record["changed"],
            DeletedDate=record["deleted"],
        )


def _labelled(record: dict[str, Json], stage: str) -> str | None:
    found = (version_id for version_id, version in record["versions"].items() if stage in version["stages"])
    return next(found, None)


def _label(record: dict[str, Json], stage: str, version_id: str | None) -> None:
    """Move a label to a version, or away for None; with AWSCURRENT the former holder becomes AWSPREVIOUS."""
    former = _labelled(record, stage)
    if former == version_id:
        return
    if former is not None:
        record["versions"][former]["stages"].remove(stage)
    if version_id is not None:
        record["versions"][version_id]["stages"].append(stage)
    if stage == CURRENT and former is not None:
        _label(record, PREVIOUS, former)


def _stages_of(record: dict[str, Json]) -> dict[str, Json] | None:
    found = {version_id: version["stages"] for version_id, version in record["versions"].items() if version["stages"]}
    return found or None


def _value_of(request: Request) -> str | bytes | None:
    text, data = request.get("SecretString"), request.get("SecretBinary")
    if text is not None and data is not None:
        raise _invalid("You can't specify both a binary secret value and a string secret value in the same secret.")
    value: str | bytes | None = text if data is None else data
    return value


def _fits(record: dict[str, Json], wanted: Request) -> bool:
    """Whether a filter of ListSecrets lets a secret through; a value with ``!`` in front excludes."""
    texts = {
        "name": [record["name"]],
        "description": [record["description"] or ""],
        "tag-key": [tag["Key"] for tag in record["tags"]],
        "tag-value": [tag["Value"] for tag in record["tags"]],
    }
    found = texts.get(wanted.get("Key", ""), [text for each in texts.values() for text in each])
    return any(
        any(text.startswith(value.removeprefix("!")) for text in found) is not value.startswith("!")
        for value in wanted.get("Values", [])
    )


def _place(record: dict[str, Json], version_id: str) -> bytes:
    return f"{record['arn']} {version_id}".encode()


def _invalid(message: str) -> ServiceError:
    return ServiceError("InvalidParameterException", message, status=400)


def _missing(message: str) -> ServiceError:
    return ServiceError("ResourceNotFoundException", message, status=400)


class _Vault:
    """Encrypts values; its key is made with the first. What a value belongs to is authenticated with it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cipher: AESGCM | None = None

    def close(self, value: str | bytes, place: bytes) -> str:
        """Return the value encrypted."""
        kind = b"s" if isinstance(value, str) else b"b"
        nonce = os.urandom(_NONCE)
        content = kind + (value.encode() if isinstance(value, str) else value)
        return base64.b64encode(nonce + self._opened().encrypt(nonce, content, place)).decode()

    def open(self, text: str, place: bytes) -> str | bytes:
        """Return the value."""
        data = base64.b64decode(text)
        try:
            content = self._opened().decrypt(data[:_NONCE], data[_NONCE:], place)
        except InvalidTag as error:
            raise ServiceError(
                "DecryptionFailure", f"{self._path} is not the key of this secret", status=400
            ) from error
        return content[1:].decode() if content[:1] == b"s" else content[1:]

    def _opened(self) -> AESGCM:
        if self._cipher is None:
            if not self._path.exists():
                write_whole(self._path, json.dumps({"key": AESGCM.generate_key(256).hex()}).encode(), mode=0o600)
            self._cipher = AESGCM(bytes.fromhex(json.loads(self._path.read_bytes())["key"]))
        return self._cipher
