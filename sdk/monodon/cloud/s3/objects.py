"""Objects: put, get with Range and conditions, head, copy, delete, tags."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from monodon.cloud.bodies import Body
from monodon.cloud.context import RequestContext
from monodon.cloud.protocol import FileBody, ServiceError, WireResponse, serialise
from monodon.cloud.protocol.model import load
from monodon.cloud.protocol.scalars import UnreadableError, read_time
from monodon.cloud.s3.records import Records, Written
from monodon.core.json import Json

Request = dict[str, Any]

#: What an object keeps of its request and gives back with it.
KEPT_HEADERS = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType", "Expires")
_MAX_KEY_BYTES = 1024
_MAX_SIZE = 5 * 1024**3
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_PIECE = 256 * 1024
_RESPONSE_OVERRIDES = ("CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage", "ContentType")


class Objects:
    """Operations of S3 on objects, named as in the model."""

    def __init__(self, records: Records) -> None:
        self._records = records

    async def put_object(self, request: Request, context: RequestContext) -> dict[str, Json]:
        bucket, key, body = request["Bucket"], request["Key"], request["Body"]
        self._check_put(bucket, key, request, body)
        written = await self._records.write(body.chunks())
        return self._keep(bucket, key, request, written, body.checksums)

    async def copy_object(self, request: Request, context: RequestContext) -> dict[str, Json]:
        source_bucket, source_key = copy_source(request["CopySource"])
        source = self._records.object(source_bucket, source_key)
        bucket, key = request["Bucket"], request["Key"]
        self._records.bucket(bucket)
        replaces = request.get("MetadataDirective") == "REPLACE"
        if (source_bucket, source_key) == (bucket, key) and not replaces:
            raise ServiceError("InvalidRequest", "This copy request would not change anything", status=400)
        written = await self._records.write(read_file(self._records.path(source["blob"])))
        record = {
            **(described(request) if replaces else {name: source[name] for name in ("metadata", "headers")}),
            "size": written.size,
            "etag": source["etag"],
            "modified": self._records.now(),
            "blob": written.blob,
            "sha256": written.sha256,
            "checksums": source["checksums"],
        }
        self._records.put(bucket, key, record)
        return {"CopyObjectResult": {"ETag": record["etag"], "LastModified": record["modified"]}}

    def get_object(self, request: Request, context: RequestContext) -> WireResponse | dict[str, Json]:
        record = self._find(request)
        unchanged = _unchanged(request, record)
        if unchanged is not None:
            return unchanged
        size = record["size"]
        part = _range(request.get("Range"), size)
        output = self._describe(record, request)
        for name in _RESPONSE_OVERRIDES:
            if f"Response{name}" in request:
                output[name] = request[f"Response{name}"]
        path = self._records.path(record["blob"])
        if part is None:
            return {**output, "Body": FileBody(path=path, size=size), "ContentLength": size}
        start, end = part
        for name in [name for name in output if name.startswith("Checksum")]:
            del output[name]
        output["Body"] = FileBody(path=path, offset=start, size=end - start + 1)
        output["ContentLength"] = end - start + 1
        output["ContentRange"] = f"bytes {start}-{end}/{size}"
        operation = load("s3").operations["GetObject"]
        return serialise(load("s3"), operation, output, request_id=context.request_id, status=206)

    def head_object(self, request: Request, context: RequestContext) -> WireResponse | dict[str, Json]:
        record = self._find(request)
        unchanged = _unchanged(request, record)
        if unchanged is not None:
            return unchanged
        return {**self._describe(record, request), "ContentLength": record["size"]}

    def delete_object(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._records.bucket(request["Bucket"])
        self._delete(request["Bucket"], request["Key"])
        return {}

    def delete_objects(self, request: Request, context: RequestContext) -> dict[str, Json]:
        bucket, wanted = request["Bucket"], request["Delete"]
        self._records.bucket(bucket)
        if len(wanted["Objects"]) > 1000:
            raise ServiceError("MalformedXML", "at most 1000 keys are deleted at once", status=400)
        for entry in wanted["Objects"]:
            self._delete(bucket, entry["Key"])
        return {} if wanted.get("Quiet") else {"Deleted": [{"Key": entry["Key"]} for entry in wanted["Objects"]]}

    def put_object_tagging(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._tag(request, request["Tagging"]["TagSet"])
        return {}

    def get_object_tagging(self, request: Request, context: RequestContext) -> dict[str, Json]:
        return {"TagSet": self._records.object(request["Bucket"], request["Key"]).get("tags", [])}

    def delete_object_tagging(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._tag(request, [])
        return {}

    def get_object_acl(self, request: Request, context: RequestContext) -> dict[str, Json]:
        self._records.object(request["Bucket"], request["Key"])
        return {"Owner": {"ID": context.account}, "Grants": []}

    def _tag(self, request: Request, tags: Json) -> None:
        record = self._records.object(request["Bucket"], request["Key"])
        record["tags"] = tags
        self._records.objects.put(f"{request['Bucket']}/{request['Key']}", record)

    def _find(self, request: Request) -> dict[str, Json]:
        if request.get("VersionId", "null") != "null":
            raise ServiceError("NoSuchVersion", "The specified version does not exist.", status=404)
        return self._records.object(request["Bucket"], request["Key"])

    def _check_put(self, bucket: str, key: str, request: Request, body: Body) -> None:
        """What can be refused before the body is asked for."""
        self._records.bucket(bucket)
        if len(key.encode()) > _MAX_KEY_BYTES:
            raise ServiceError("KeyTooLongError", "Your key is too long", status=400)
        if body.announced_size is not None and body.announced_size > _MAX_SIZE:
            raise ServiceError("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size", status=400)
        self._check_conditions(bucket, key, request)

    def _check_conditions(self, bucket: str, key: str, request: Request) -> None:
        existing = self._records.objects.get(f"{bucket}/{key}")
        wanted, unwanted = request.get("IfMatch"), request.get("IfNoneMatch")
        if (unwanted == "*" and existing is not None) or (
            wanted is not None and (existing is None or not _matches(wanted, existing["etag"]))
        ):
            raise ServiceError(
                "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", status=412
            )

    def _keep(
        self, bucket: str, key: str, request: Request, written: Written, checksums: Mapping[str, str]
    ) -> dict[str, Json]:
        try:
            self._records.bucket(bucket)
            self._check_conditions(bucket, key, request)
        except ServiceError:
            self._records.drop(written.blob)
            raise
        record = {
            **described(request),
            "size": written.size,
            "etag": f'"{written.md5}"',
            "modified": self._records.now(),
            "blob": written.blob,
            "sha256": written.sha256,
            "checksums": {name: value for name, value in checksums.items() if name != "md5"},
        }
        self._records.put(bucket, key, record)
        return {"ETag": record["etag"], **checksum_members(record["checksums"])}

    def _delete(self, bucket: str, key: str) -> None:
        record = self._records.objects.get(f"{bucket}/{key}")
        if record is not None:
            self._records.objects.delete(f"{bucket}/{key}")
            self._records.drop(record["blob"])

    @staticmethod
    def _describe(record: Mapping[str, Json], request: Request) -> dict[str, Json]:
        output: dict[str, Json] = {
            "AcceptRanges": "bytes",
            "ETag": record["etag"],
            "LastModified": float(int(record["modified"])),
            "ContentType": "binary/octet-stream",
            **record["headers"],
            "Metadata": record["metadata"],
        }
        if record.get("tags"):
            output["TagCount"] = len(record["tags"])
        if request.get("ChecksumMode") == "ENABLED":
            output.update(checksum_members(record["checksums"]))
        return output


def described(request: Request) -> dict[str, Json]:
    """What a request says about an object: its headers and metadata, as records keep them."""
    headers = {name: request[name] for name in KEPT_HEADERS if request.get(name) is not None}
    encodings = [text.strip() for text in headers.get("ContentEncoding", "").split(",")]
    kept = ",".join(text for text in encodings if text and text != "aws-chunked")
    headers.pop("ContentEncoding", None)
    if kept:
        headers["ContentEncoding"] = kept
    record: dict[str, Json] = {"headers": headers, "metadata": request.get("Metadata", {})}
    if "Tagging" in request and isinstance(request["Tagging"], str):
        pairs = (pair.partition("=") for pair in request["Tagging"].split("&") if pair)
        record["tags"] = [{"Key": unquote(name), "Value": unquote(value)} for name, _, value in pairs]
    return record


def checksum_members(checksums: Mapping[str, str]) -> dict[str, Json]:
    """Checksums as members of an output: ``crc32`` → ``ChecksumCRC32``."""
    members: dict[str, Json] = {f"Checksum{name.upper()}": value for name, value in checksums.items()}
    if members:
        is_composite = any("-" in value for value in checksums.values())
        members["ChecksumType"] = "COMPOSITE" if is_composite else "FULL_OBJECT"
    return members


async def read_file(path: Path, offset: int = 0, size: int = sys.maxsize) -> AsyncIterator[bytes]:
    """Yield at most ``size`` bytes of a file from ``offset`` on, in pieces, read in a thread."""
    with await asyncio.to_thread(path.open, "rb") as file:
        file.seek(offset)
        while piece := await asyncio.to_thread(file.read, min(size, _PIECE)):
            size -= len(piece)
            yield piece


def copy_source(text: str) -> tuple[str, str]:
    """Bucket and key that ``x-amz-copy-source`` names.

    Raises:
        ServiceError: InvalidArgument, it names none.
    """
    bucket, _, key = unquote(text.partition("?")[0]).removeprefix("/").partition("/")
    if not bucket or not key:
        raise ServiceError("InvalidArgument", "Copy Source must mention the source bucket and key", status=400)
    return bucket, key


def _range(text: str | None, size: int) -> tuple[int, int] | None:
    """Return first and last byte that a Range header asks for; None for all (no Range, or none that S3 heeds).

    Raises:
        ServiceError: InvalidRange, it lies outside the object.
    """
    match = _RANGE.fullmatch(text.strip()) if text else None
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        length = min(int(match[2]), size)
        start, end = size - length, size - 1
    else:
        start = int(match[1])
        end = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < start:
            return None
    if start > end or start >= size:
        raise ServiceError(
            "InvalidRange",
            "The requested range is not satisfiable",
            status=416,
            ActualObjectSize=size,
            RangeRequested=text,
        )
    return start, end


def _matches(condition: str, etag: str) -> bool:
    wanted = {text.strip().removeprefix("W/").strip('"') for text in condition.split(",")}
    return "*" in wanted or etag.strip('"') in wanted


def _unchanged(request: Request, record: Mapping[str, Json]) -> WireResponse | None:
    """Apply If-Match and its relatives: None to go on, or a 304.

    Raises:
        ServiceError: PreconditionFailed.

    Source: RFC 9110, 13.2.2.
    """
    modified = int(record["modified"])
    etag = record["etag"]
    if "IfMatch" in request:
        holds = _matches(request["IfMatch"], etag)
    elif "IfUnmodifiedSince" in request:
        holds = modified <= _seconds(request["IfUnmodifiedSince"])
    else:
        holds = True
    if not holds:
        raise ServiceError(
            "PreconditionFailed", "At least one of the pre-conditions you specified did not hold", status=412
        )
    if "IfNoneMatch" in request:
        is_same = _matches(request["IfNoneMatch"], etag)
    elif "IfModifiedSince" in request:
        is_same = modified <= _seconds(request["IfModifiedSince"])
    else:
        is_same = False
    return WireResponse(status=304, headers=(("etag", etag),)) if is_same else None


def _seconds(value: float | str) -> float:
    if not isinstance(value, str):
        return value
    try:
        return read_time(value)
    except UnreadableError:
        raise ServiceError("InvalidArgument", "a condition is not a date", status=400) from None
