"""Multipart uploads: create, parts, complete, abort, list."""

import base64
import hashlib
import re
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

from monodon.cloud.bodies import CHECKSUMS, new_digest
from monodon.cloud.context import RequestContext
from monodon.cloud.protocol import ServiceError
from monodon.cloud.s3.objects import checksum_members, copy_source, described, read_file
from monodon.cloud.s3.records import Records, Written
from monodon.core.json import Json

Request = dict[str, Any]
_MIN_PART = 5 * 1024 * 1024


class MultipartUploads:
    """Operations of S3 on multipart uploads, named as in the model."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def create_multipart_upload(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._records.bucket(request["Bucket"])
        upload_id = uuid.uuid4().hex
        algorithm = request.get("ChecksumAlgorithm")
        record = {
            **described(request),
            "bucket": request["Bucket"],
            "key": request["Key"],
            "initiated": self._records.now(),
            "algorithm": algorithm,
        }
        self._records.uploads.put(upload_id, record)
        return {
            "Bucket": request["Bucket"],
            "Key": request["Key"],
            "UploadId": upload_id,
            "ChecksumAlgorithm": algorithm,
        }

    async def upload_part(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._check_part(request)
        body = request["Body"]
        written = await self._records.write(body.chunks())
        checksums = {name: value for name, value in body.checksums.items() if name != "md5"}
        record = self._keep_part(request, written, checksums)
        return {"ETag": record["etag"], **_part_checksums(checksums)}

    async def upload_part_copy(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._check_part(request)
        source = self._records.object(*copy_source(request["CopySource"]))
        first, last = _source_range(request.get("CopySourceRange"), source["size"])
        written = await self._records.write(read_file(self._records.path(source["blob"]), first, last - first + 1))
        record = self._keep_part(request, written, {})
        return {"CopyPartResult": {"ETag": record["etag"], "LastModified": record["modified"]}}

    def _check_part(self, request: Request) -> None:
        self._upload(request)
        if not 1 <= request["PartNumber"] <= 10_000:
            raise ServiceError("InvalidArgument", "Part number must be an integer between 1 and 10000", status=400)

    def _keep_part(self, request: Request, written: Written, checksums: Mapping[str, str]) -> dict[str, Json]:
        name = f"{request['UploadId']}/{request['PartNumber']:05}"
        record: dict[str, Json] = {
            "size": written.size,
            "etag": f'"{written.md5}"',
            "blob": written.blob,
            "modified": self._records.now(),
            "checksums": dict(checksums),
        }
        try:
            self._upload(request)
        except ServiceError:
            self._records.drop(written.blob)
            raise
        with self._records.store.transaction():
            old = self._records.parts.get(name)
            self._records.parts.put(name, record)
            if old is not None:
                self._records.drop(old["blob"])
        return record

    async def complete_multipart_upload(self, request: Request, context: RequestContext) -> dict[str, Json]:
        upload_id, bucket, key = request["UploadId"], request["Bucket"], request["Key"]
        upload = self._upload(request)
        parts = self._chosen_parts(upload_id, request.get("MultipartUpload", {}).get("Parts", []))
        written = await self._records.write(self._joined(parts))
        digest = hashlib.md5(
            b"".join(bytes.fromhex(part["etag"].strip('"')) for part in parts), usedforsecurity=False
        ).hexdigest()
        record: dict[str, Json] = {
            **{name: upload[name] for name in ("headers", "metadata", "tags") if name in upload},
            "size": written.size,
            "etag": f'"{digest}-{len(parts)}"',
            "modified": self._records.now(),
            "blob": written.blob,
            "sha256": written.sha256,
            "checksums": _composite([part["checksums"] for part in parts]),
        }
        try:
            self._upload(request)
        except ServiceError:
            self._records.drop(written.blob)
            raise
        with self._records.store.transaction():
            self._records.put(bucket, key, record)
            self._forget(upload_id)
        return {
            "Location": f"{context.endpoint}/{quote(bucket)}/{quote(key, safe='/~')}",
            "Bucket": bucket,
            "Key": key,
            "ETag": record["etag"],
            **checksum_members(record["checksums"]),
        }

    def abort_multipart_upload(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._upload(request)
        self._forget(request["UploadId"])
        return {}

    def list_parts(self, request: Request, context: RequestContext) -> dict[str, Json]:
        upload_id = request["UploadId"]
        self._upload(request)
        marker = request.get("PartNumberMarker", 0)
        limit = min(request.get("MaxParts", 1000), 1000)
        parts = [(number, part) for number, part in self._parts(upload_id) if number > marker]
        shown = parts[:limit]
        return {
            "Bucket": request["Bucket"],
            "Key": request["Key"],
            "UploadId": upload_id,
            "PartNumberMarker": marker,
            "NextPartNumberMarker": shown[-1][0] if shown else marker,
            "MaxParts": limit,
            "IsTruncated": len(parts) > limit,
            "Parts": [
                {"PartNumber": number, "LastModified": part["modified"], "ETag": part["etag"], "Size": part["size"]}
                for number, part in shown
            ],
        }

    def list_multipart_uploads(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._records.bucket(request["Bucket"])
        prefix = request.get("Prefix", "")
        found = [
            {"UploadId": upload_id, "Key": upload["key"], "Initiated": upload["initiated"], "StorageClass": "STANDARD"}
            for upload_id, upload in self._records.uploads.items()
            if upload["bucket"] == request["Bucket"] and upload["key"].startswith(prefix)
        ]
        found.sort(key=lambda upload: (upload["Key"], upload["Initiated"]))
        return {
            "Bucket": request["Bucket"],
            "Prefix": prefix,
            "Uploads": found,
            "IsTruncated": False,
            "MaxUploads": 1000,
        }

    def _upload(self, request: Request) -> dict[str, Json]:
        self._records.bucket(request["Bucket"])
        upload = self._records.uploads.get(request["UploadId"])
        if upload is None or (upload["bucket"], upload["key"]) != (request["Bucket"], request["Key"]):
            raise ServiceError(
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, "
                "or the upload may have been aborted or completed.",
                status=404,
            )
        return upload

    def _parts(self, upload_id: str) -> list[tuple[int, dict[str, Json]]]:
        return [(int(name.rpartition("/")[2]), part) for name, part in self._records.parts.items(f"{upload_id}/")]

    def _chosen_parts(self, upload_id: str, wanted: list[dict[str, Json]]) -> list[dict[str, Json]]:
        stored = dict(self._parts(upload_id))
        if not wanted:
            raise ServiceError("MalformedXML", "You must specify at least one part", status=400)
        numbers = [part.get("PartNumber", 0) for part in wanted]
        if numbers != sorted(set(numbers)):
            raise ServiceError("InvalidPartOrder", "The list of parts was not in ascending order.", status=400)
        chosen = []
        for entry in wanted:
            part = stored.get(entry.get("PartNumber", 0))
            if part is None or part["etag"].strip('"') != entry.get("ETag", "").strip('"'):
                raise ServiceError(
                    "InvalidPart",
                    "One or more of the specified parts could not be found or has another ETag.",
                    status=400,
                )
            chosen.append(part)
        if any(part["size"] < _MIN_PART for part in chosen[:-1]):
            raise ServiceError(
                "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size", status=400
            )
        return chosen

    async def _joined(self, parts: list[dict[str, Json]]) -> AsyncIterator[bytes]:
        for part in parts:
            async for piece in read_file(self._records.path(part["blob"])):
                yield piece

    def _forget(self, upload_id: str) -> None:
        with self._records.store.transaction():
            for name, part in list(self._records.parts.items(f"{upload_id}/")):
                self._records.parts.delete(name)
                self._records.drop(part["blob"])
            self._records.uploads.delete(upload_id)


def _source_range(text: str | None, size: int) -> tuple[int, int]:
    """First and last byte of the source that a part is copied from.

    Raises:
        ServiceError: InvalidArgument, it is no range inside the source.
    """
    match = re.fullmatch(r"bytes=(\d{1,15})-(\d{1,15})", text) if text is not None else None
    first, last = (int(match[1]), int(match[2])) if match is not None else (0, size - 1)
    if (text is not None and match is None) or first > last or last >= size:
        message = "The x-amz-copy-source-range value must be of the form bytes=first-last, inside the source object"
        raise ServiceError("InvalidArgument", message, status=400)
    return first, last


def _part_checksums(checksums: Mapping[str, str]) -> dict[str, Json]:
    return {name: value for name, value in checksum_members(checksums).items() if name != "ChecksumType"}


def _composite(parts: list[Mapping[str, str]]) -> dict[str, str]:
    """The checksum of the parts' checksums, with their number, for each algorithm that all parts have."""
    composite: dict[str, str] = {}
    for algorithm in CHECKSUMS:
        values = [part[algorithm] for part in parts if algorithm in part]
        if len(values) == len(parts):
            digest = new_digest(algorithm)
            digest.update(b"".join(base64.b64decode(value) for value in values))
            composite[algorithm] = f"{base64.b64encode(digest.digest()).decode()}-{len(parts)}"
    return composite
