"""What S3 keeps: a record for each bucket and object, a file for each object's bytes.

A file is written under a name of its own, synced, and only then named by a record; a file that no record names (the
cloud was killed in between) is removed at the next start.
"""

import asyncio
import hashlib
import os
import re
import uuid
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from monodon.cloud.protocol import ServiceError
from monodon.cloud.store import Store, Table, sync_folder
from monodon.core.json import Json

_BATCH = 256 * 1024
_FOLDER = "s3"
#: Where the cloud keeps what it gives to devices alone.
OWN_BUCKET = "monodon-greengrass-own"
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectInfo:
    """An object as others read it; ``sha256`` is hexadecimal."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Bytes that are on the disk, not yet named by any record; digests in hexadecimal."""

    blob: str
    size: int
    md5: str
    sha256: str


class Records:
    """The records and files of S3, shared by its backends."""

    def __init__(self, store: Store, *, region: str, now: Callable[[], float]) -> None:
        self.store = store
        self.region = region
        self.now = now
        self.buckets: Table = store.table("s3.buckets")
        self.objects: Table = store.table("s3.objects")
        self.uploads: Table = store.table("s3.uploads")
        self.parts: Table = store.table("s3.parts")
        self._folder = store.blobs / _FOLDER
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._sweep()

    def bucket(self, name: str) -> dict[str, Json]:
        """Return a bucket's record.

        Raises:
            ServiceError: NoSuchBucket.
        """
        record = self.buckets.get(name)
        if record is None:
            raise ServiceError("NoSuchBucket", "The specified bucket does not exist", status=404, BucketName=name)
        return record

    def object(self, bucket: str, key: str) -> dict[str, Json]:
        """Return an object's record.

        Raises:
            ServiceError: NoSuchBucket, NoSuchKey.
        """
        self.bucket(bucket)
        record = self.objects.get(f"{bucket}/{key}")
        if record is None:
            raise ServiceError("NoSuchKey", "The specified key does not exist.", status=404, Key=key)
        return record

    def find(self, bucket: str, key: str) -> ObjectInfo:
        """Return what another backend needs of an object.

        Raises:
            ServiceError: NoSuchBucket, NoSuchKey.
        """
        record = self.object(bucket, key)
        return ObjectInfo(path=self.path(record["blob"]), size=record["size"], sha256=record["sha256"])

    def path(self, blob: str) -> Path:
        """Where the bytes of a blob are."""
        return self._folder / blob

    def put(self, bucket: str, key: str, record: Mapping[str, Json]) -> None:
        """Name an object's new bytes; the old ones are removed once that is durable."""
        name = f"{bucket}/{key}"
        with self.store.transaction():
            old = self.objects.get(name)
            self.objects.put(name, dict(record))
            if old is not None:
                self.drop(old["blob"])

    def keep(self, key: str, data: bytes) -> None:
        """Name bytes of the cloud's own, for devices with a presigned URL; in a bucket that no listing shows.

        Raises:
            ServiceError: 503, the disk is full.
        """
        blob = uuid.uuid4().hex
        try:
            with self.path(blob).open("xb", buffering=0) as file:
                _write_all(file.fileno(), data)
                os.fsync(file.fileno())
            sync_folder(self._folder)
        except OSError as error:
            self.path(blob).unlink(missing_ok=True)
            raise ServiceError("ServiceUnavailable", f"cannot store: {error.strerror}", status=503) from error
        if self.buckets.get(OWN_BUCKET) is None:
            self.buckets.put(OWN_BUCKET, {"created": self.now(), "region": self.region})
        md5, sha256 = hashlib.md5(data, usedforsecurity=False), hashlib.sha256(data)
        self.put(
            OWN_BUCKET,
            key,
            {
                "size": len(data),
                "etag": f'"{md5.hexdigest()}"',
                "modified": self.now(),
                "blob": blob,
                "sha256": sha256.hexdigest(),
                "checksums": {},
                "headers": {"ContentType": "application/json"},
                "metadata": {},
            },
        )

    def has(self, key: str) -> bool:
        """Whether there are bytes of the cloud's own of that name."""
        return self.objects.get(f"{OWN_BUCKET}/{key}") is not None

    def forget(self, key: str) -> None:
        """Remove bytes of the cloud's own, if there are any of that name."""
        record = self.objects.get(f"{OWN_BUCKET}/{key}")
        if record is not None:
            self.objects.delete(f"{OWN_BUCKET}/{key}")
            self.drop(record["blob"])

    def drop(self, blob: str) -> None:
        """Remove a blob's file after the commit that forgets it."""
        self.store.after_commit(lambda: self.path(blob).unlink(missing_ok=True))

    async def write(self, chunks: AsyncIterable[bytes]) -> Written:
        """Write a stream of bytes to a file of its own, durably, in bounded memory.

        Raises:
            ServiceError: what the stream raises; 503 if the disk is full. The file is removed then.
        """
        blob = uuid.uuid4().hex
        path = self.path(blob)
        md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
        size = 0
        try:
            with path.open("xb", buffering=0) as file:

                def write(batch: bytes) -> None:
                    md5.update(batch)
                    sha256.update(batch)
                    _write_all(file.fileno(), batch)

                pending = bytearray()
                async for chunk in chunks:
                    pending += chunk
                    size += len(chunk)
                    if len(pending) >= _BATCH:
                        await asyncio.to_thread(write, bytes(pending))
                        pending.clear()
                write(bytes(pending))
                await asyncio.to_thread(os.fsync, file.fileno())
            sync_folder(self._folder)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise ServiceError(
                "ServiceUnavailable", f"cannot store the object: {error.strerror}", status=503
            ) from error
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return Written(blob=blob, size=size, md5=md5.hexdigest(), sha256=sha256.hexdigest())

    def _sweep(self) -> None:
        """Remove files that no record names: uploads that were under way when the cloud was killed."""
        named = {record["blob"] for table in (self.objects, self.parts) for _, record in table.items()}
        for path in self._folder.iterdir():
            if path.name not in named:
                path.unlink()


def check_bucket_name(name: str) -> None:
    """Refuse a name that S3 would refuse.

    Raises:
        ServiceError: InvalidBucketName.
    """
    if _BUCKET_NAME.fullmatch(name) is None or ".." in name or re.fullmatch(r"\d+\.\d+\.\d+\.\d+", name):
        raise ServiceError("InvalidBucketName", "The specified bucket is not valid.", status=400, BucketName=name)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
