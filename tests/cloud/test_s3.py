"""S3 with real boto3 over real sockets, plain and TLS: the two send different bodies (findings 4)."""

import asyncio
import filecmp
import hashlib
import http.client
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from monodon.cloud.keys import AccessKeys
from monodon.cloud.presign import presign_get
from monodon.cloud.s3 import Buckets, MultipartUploads, Objects, Records
from monodon.cloud.store import Store
from monodon.cloud.sts import Sts

REGION = "us-east-1"
ACCOUNT = "123456789012"


@pytest.fixture
async def cloud(tmp_path: Path, serve: Any, clock: Any) -> AsyncIterator[Any]:
    def backends(store: Store) -> dict[str, Sequence[object]]:
        records = Records(store, region=REGION, now=clock)
        return {
            "s3": [Buckets(records), Objects(records), MultipartUploads(records)],
            "sts": [Sts(AccessKeys(store, account=ACCOUNT, now=clock), now=clock)],
        }

    async with serve(tmp_path / "state", backends, clock) as cloud:
        yield cloud


def blobs(cloud: Any) -> list[Path]:
    return list((cloud.store.blobs / "s3").iterdir())


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_object_goes_in_and_comes_out(cloud: Any, scheme: str) -> None:
    data = os.urandom(300_000)

    def work(s3: Any) -> None:
        s3.create_bucket(Bucket="whales")
        put = s3.put_object(
            Bucket="whales", Key="a b/ü+%41.bin", Body=data, ContentType="image/png", Metadata={"name": "narwhal"}
        )
        assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
        assert put["ChecksumCRC32"]
        got = s3.get_object(Bucket="whales", Key="a b/ü+%41.bin")
        assert got["Body"].read() == data
        assert got["ContentType"] == "image/png"
        assert got["Metadata"] == {"name": "narwhal"}
        assert "ContentEncoding" not in got
        part = s3.get_object(Bucket="whales", Key="a b/ü+%41.bin", Range="bytes=10-19")
        assert part["Body"].read() == data[10:20]
        assert part["ContentRange"] == "bytes 10-19/300000"
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
        tail = s3.get_object(Bucket="whales", Key="a b/ü+%41.bin", Range="bytes=-5")
        assert tail["Body"].read() == data[-5:]
        head = s3.head_object(Bucket="whales", Key="a b/ü+%41.bin")
        assert (head["ContentLength"], head["ETag"]) == (len(data), put["ETag"])
        s3.put_object(Bucket="whales", Key="empty", Body=b"")
        assert s3.get_object(Bucket="whales", Key="empty")["Body"].read() == b""

    await cloud.using(work, scheme=scheme)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_upload_file_of_30_mb_goes_in_parts(cloud: Any, scheme: str, tmp_path: Path) -> None:
    source = tmp_path / "artifact.zip"
    source.write_bytes(os.urandom(1024) * (30 * 1024))

    def work(s3: Any) -> None:
        s3.create_bucket(Bucket="whales")
        s3.upload_file(str(source), "whales", "artifact.zip", Config=TransferConfig(max_concurrency=4))
        head = s3.head_object(Bucket="whales", Key="artifact.zip")
        assert head["ETag"].endswith('-4"')
        s3.download_file("whales", "artifact.zip", str(tmp_path / "back.zip"))

    await cloud.using(work, scheme=scheme)
    assert filecmp.cmp(tmp_path / "back.zip", source, shallow=False)
    record = cloud.store.table("s3.objects").get("whales/artifact.zip")
    assert record is not None
    with source.open("rb") as file:
        assert record["sha256"] == hashlib.file_digest(file, "sha256").hexdigest()
    assert len(blobs(cloud)) == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_error_before_the_body_does_not_hang_the_next_call(cloud: Any, scheme: str) -> None:
    """findings 4: a PUT waits for 100 Continue; answered without reading, its connection must not be used again."""

    def work(s3: Any) -> None:
        started = time.monotonic()
        for size in (0, 10, 3_000_000):
            with pytest.raises(s3.exceptions.NoSuchBucket):
                s3.put_object(Bucket="none", Key="k", Body=b"x" * size)
            assert s3.list_buckets()["Buckets"] == []
        assert time.monotonic() - started < 8

    await cloud.using(work, scheme=scheme)


async def test_errors_are_typed(cloud: Any) -> None:
    def work(s3: Any) -> None:
        s3.create_bucket(Bucket="whales")
        s3.create_bucket(Bucket="whales")  # us-east-1 says yes again
        with pytest.raises(s3.exceptions.NoSuchKey):
            s3.get_object(Bucket="whales", Key="none")
        for call, code, status in [
            (lambda: s3.head_object(Bucket="whales", Key="none"), "404", 404),
            (lambda: s3.head_bucket(Bucket="none"), "404", 404),
            (lambda: s3.create_bucket(Bucket="Whales_"), "InvalidBucketName", 400),
            (lambda: s3.get_bucket_tagging(Bucket="whales"), "NoSuchTagSet", 404),
            (lambda: s3.get_bucket_policy(Bucket="whales"), "NotImplemented", 501),
            (lambda: s3.abort_multipart_upload(Bucket="whales", Key="k", UploadId="u"), "NoSuchUpload", 404),
            (lambda: s3.list_objects_v2(Bucket="whales", ContinuationToken="ü"), "InvalidArgument", 400),
            (lambda: s3.copy_object(Bucket="whales", Key="k", CopySource="whales/none"), "NoSuchKey", 404),
        ]:
            with pytest.raises(ClientError) as caught:
                call()
            assert caught.value.response["Error"]["Code"] == code
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        s3.put_object(Bucket="whales", Key="k", Body=b"12345")
        with pytest.raises(ClientError, match="InvalidRange"):
            s3.get_object(Bucket="whales", Key="k", Range="bytes=5-")
        with pytest.raises(ClientError, match="BucketNotEmpty"):
            s3.delete_bucket(Bucket="whales")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(Bucket="whales", Key="k", Body=b"x", IfNoneMatch="*")
        with pytest.raises(ClientError, match="304"):
            s3.get_object(Bucket="whales", Key="k", IfNoneMatch=s3.head_object(Bucket="whales", Key="k")["ETag"])
        with pytest.raises(ClientError, match="BadDigest"):
            s3.put_object(Bucket="whales", Key="k", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==")
        with pytest.raises(ClientError, match="BadDigest"):
            s3.put_object(Bucket="whales", Key="k", Body=b"x", ChecksumSHA256="A" * 43 + "=")
        assert s3.get_object(Bucket="whales", Key="k")["Body"].read() == b"12345"

    await cloud.using(work)
    assert len(blobs(cloud)) == 1


async def test_listings_have_pages_prefixes_and_delimiters(cloud: Any) -> None:
    keys = [f"a/{n:02}" for n in range(5)] + ["a+b &<>", "b/c/d", "b/x", "b", "ü/\x01"]

    def work(s3: Any) -> None:
        s3.create_bucket(Bucket="whales")
        for key in keys:
            s3.put_object(Bucket="whales", Key=key, Body=key.encode())
        for paginator in ("list_objects_v2", "list_objects"):
            pages = s3.get_paginator(paginator).paginate(Bucket="whales", PaginationConfig={"PageSize": 3})
            found = [entry["Key"] for page in pages for entry in page["Contents"]]
            assert found == sorted(keys)
            pages = list(
                s3.get_paginator(paginator).paginate(Bucket="whales", Delimiter="/", PaginationConfig={"PageSize": 1})
            )
            prefixes = [entry["Prefix"] for page in pages for entry in page.get("CommonPrefixes", [])]
            plain = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
            assert prefixes == ["a/", "b/", "ü/"]
            assert plain == ["a+b &<>", "b"]
        inside = s3.list_objects_v2(Bucket="whales", Prefix="b/", Delimiter="/")
        assert [entry["Key"] for entry in inside["Contents"]] == ["b/x"]
        assert inside["CommonPrefixes"] == [{"Prefix": "b/c/"}]
        assert inside["KeyCount"] == 2
        assert s3.list_objects_v2(Bucket="whales", StartAfter="b/c/d", MaxKeys=1)["Contents"][0]["Key"] == "b/x"
        deleted = s3.delete_objects(Bucket="whales", Delete={"Objects": [{"Key": key} for key in keys[:-1]]})
        assert len(deleted["Deleted"]) == len(keys) - 1
        s3.delete_object(Bucket="whales", Key=keys[-1])  # XML has no way to say this one
        assert s3.list_objects_v2(Bucket="whales")["KeyCount"] == 0
        s3.delete_bucket(Bucket="whales")
        assert s3.list_buckets()["Buckets"] == []

    await cloud.using(work)
    assert blobs(cloud) == []


async def test_multipart_rules(cloud: Any) -> None:
    big = b"x" * (5 * 1024 * 1024)

    def work(s3: Any) -> None:
        s3.create_bucket(Bucket="whales", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        assert s3.get_bucket_location(Bucket="whales")["LocationConstraint"] == "eu-west-1"
        upload = s3.create_multipart_upload(Bucket="whales", Key="k", Metadata={"a": "b"})["UploadId"]
        place = {"Bucket": "whales", "Key": "k", "UploadId": upload}
        first = s3.upload_part(**place, PartNumber=1, Body=b"small")["ETag"]
        second = s3.upload_part(**place, PartNumber=2, Body=b"end")["ETag"]
        both = [{"PartNumber": 1, "ETag": first}, {"PartNumber": 2, "ETag": second}]
        for parts, code in [
            (both, "EntityTooSmall"),
            (both[::-1], "InvalidPartOrder"),
            ([{"PartNumber": 1, "ETag": second}], "InvalidPart"),
            ([{"PartNumber": 7, "ETag": second}], "InvalidPart"),
        ]:
            with pytest.raises(ClientError, match=code):
                s3.complete_multipart_upload(**place, MultipartUpload={"Parts": parts})
        both[0]["ETag"] = s3.upload_part(**place, PartNumber=1, Body=big)["ETag"]
        listed = s3.list_parts(**place, MaxParts=1)
        assert (listed["IsTruncated"], listed["Parts"][0]["Size"]) == (True, len(big))
        assert s3.list_multipart_uploads(Bucket="whales")["Uploads"][0]["UploadId"] == upload
        s3.complete_multipart_upload(**place, MultipartUpload={"Parts": both})
        got = s3.get_object(Bucket="whales", Key="k")
        assert got["Metadata"] == {"a": "b"}
        assert got["Body"].read() == big + b"end"
        upload = s3.create_multipart_upload(Bucket="whales", Key="k2")["UploadId"]
        s3.upload_part(Bucket="whales", Key="k2", UploadId=upload, PartNumber=1, Body=b"x")
        s3.abort_multipart_upload(Bucket="whales", Key="k2", UploadId=upload)
        s3.copy_object(Bucket="whales", Key="copy", CopySource={"Bucket": "whales", "Key": "k"})
        assert s3.head_object(Bucket="whales", Key="copy")["Metadata"] == {"a": "b"}

    await cloud.using(work, scheme="https")
    assert len(blobs(cloud)) == 2


async def test_a_large_object_is_copied_in_parts(cloud: Any) -> None:
    body = bytes(range(256)) * (6 * 4096) + b"end"

    def work(s3: Any) -> None:
        s3.create_bucket(Bucket="whales")
        s3.put_object(Bucket="whales", Key="a b+ü", Body=body)
        source = {"Bucket": "whales", "Key": "a b+ü"}
        parts = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
        s3.copy(source, "whales", "copy", Config=parts)
        assert s3.get_object(Bucket="whales", Key="copy")["Body"].read() == body
        upload = s3.create_multipart_upload(Bucket="whales", Key="k")["UploadId"]
        place = {"Bucket": "whales", "Key": "k", "UploadId": upload, "PartNumber": 1, "CopySource": source}
        for wrong in ("bytes=0-99999999", "bytes=3-2", "0-3", "bytes=-3"):
            with pytest.raises(ClientError, match="InvalidArgument"):
                s3.upload_part_copy(**place, CopySourceRange=wrong)
        s3.upload_part_copy(**place, CopySourceRange="bytes=3-5")
        assert s3.list_parts(Bucket="whales", Key="k", UploadId=upload)["Parts"][0]["Size"] == 3

    await cloud.using(work)


@pytest.mark.parametrize("version", ["s3", "s3v4"])
async def test_presigned_urls_work_until_they_expire(cloud: Any, clock: Any, version: str) -> None:
    def fetch(url: str, data: bytes | None = None) -> bytes:
        request = urllib.request.Request(url, data=data, method="PUT" if data is not None else "GET")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.headers["content-length"] is not None
            return bytes(answer.read())

    def refused(url: str) -> bytes:
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(url)
        with closing(caught.value) as error:
            assert error.code == 403
            return error.read()

    def work(s3: Any) -> None:
        clock.offset = 0
        s3.create_bucket(Bucket="whales")
        place = {"Bucket": "whales", "Key": "a b/c"}
        fetch(s3.generate_presigned_url("put_object", Params=place, ExpiresIn=60), b"narwhal")
        url = s3.generate_presigned_url("get_object", Params=place, ExpiresIn=60)
        ours = presign_get(
            endpoint=f"http://127.0.0.1:{cloud.port}",
            bucket="whales",
            key="a b/c",
            region=REGION,
            access_key="test",
            secret_key="test",
            now=time.time(),
            lasts_s=60,
        )
        assert fetch(url) == fetch(ours) == b"narwhal"
        clock.offset = 120
        assert b"Request has expired" in refused(url)
        assert b"Request has expired" in refused(ours)

    await cloud.using(work, signature_version=version)


async def test_sts_knows_who_asks(cloud: Any) -> None:
    def work(sts: Any) -> None:
        assert sts.get_caller_identity()["Account"] == ACCOUNT
        role = f"arn:aws:iam::{ACCOUNT}:role/whales/reader"
        answer = sts.assume_role(RoleArn=role, RoleSessionName="me")
        assert answer["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/reader/me"
        with pytest.raises(ClientError, match="NotImplemented"):
            sts.decode_authorization_message(EncodedMessage="x")
        with pytest.raises(ClientError, match="ValidationError"):
            sts.assume_role(RoleArn=role, RoleSessionName="a b")

    await cloud.using(work, "sts")


async def test_malformed_requests_end_in_an_answer_and_the_server_goes_on(cloud: Any) -> None:
    def ask(raw: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", cloud.port), timeout=5) as connection:
            connection.sendall(raw)
            answer = b""
            while data := connection.recv(65536):
                answer += data
            return answer

    signed = (
        b"Authorization: AWS4-HMAC-SHA256 Credential=a/20261121/us-east-1/%s/aws4_request, SignedHeaders=a, Signature=b"
    )

    def work() -> None:
        assert b" 400 " in ask(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert b" 403 " in ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        unknown = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + signed % b"lambda" + b"\r\n\r\n"
        assert b" 501 " in ask(unknown)
        assert b"HTTP" not in ask(b"\x16\x03\x01\x00\x05hello")
        put = b"PUT /whales/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + signed % b"s3"
        chunked = b"\r\nContent-Encoding: aws-chunked\r\nContent-Length: %d\r\n\r\n%s"
        ask(b"PUT /whales HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + signed % b"s3" + b"\r\n\r\n")
        for body in [b"zz\r\n", b"5\r\nab", b"2\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\nmore", b"-1\r\n\r\n"]:
            assert b"IncompleteBody" in ask(put + chunked % (len(body), body))
        good = b"3;chunk-signature=x\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"
        assert b" 200 " in ask(put + b"\r\nx-amz-trailer: x-amz-checksum-crc32" + chunked % (len(good), good))
        bad = good.replace(b"NSR", b"AAA")
        assert b"BadDigest" in ask(put + b"\r\nx-amz-trailer: x-amz-checksum-crc32" + chunked % (len(bad), bad))
        crc64 = put + b"\r\nx-amz-trailer: x-amz-checksum-crc64nvme" + chunked % (len(good), good)
        assert b" 501 " in ask(crc64)
        connection = http.client.HTTPConnection("127.0.0.1", cloud.port, timeout=5)
        with closing(connection):
            connection.request("GET", "/")
            assert connection.getresponse().status == 403

    await asyncio.to_thread(work)
    assert len(blobs(cloud)) == 1
