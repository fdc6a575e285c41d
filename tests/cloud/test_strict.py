"""``--strict`` with real boto3: who may ask, and how a refusal is called, in each protocol."""

import configparser
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from tests.sessions import REGION, session

from monodon.cloud.cloud import Cloud
from monodon.errors import NetworkError

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})


@pytest.fixture
async def cloud(tmp_path: Path, run_cloud: Any) -> AsyncIterator[Any]:
    async with run_cloud(tmp_path / "state", strict=True) as cloud:
        yield cloud


def root_key(tmp_path: Path) -> tuple[str, str]:
    """The account's first key, from where AWS's tools would read it."""
    file = tmp_path / "state" / "credentials"
    assert file.stat().st_mode & 0o777 == 0o600
    parser = configparser.ConfigParser()
    parser.read(file)
    return parser["default"]["aws_access_key_id"], parser["default"]["aws_secret_access_key"]


def client(cloud: Any, service: str, key: tuple[str, ...], scheme: str = "http", **options: Any) -> Any:
    config = Config(retries={"max_attempts": 0}, connect_timeout=5, read_timeout=10, **options)
    endpoint = cloud.ready.endpoint if scheme == "http" else cloud.ready.https_endpoint
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    keys = dict(zip(names, key, strict=False))
    return closing(session().client(service, endpoint_url=endpoint, verify=cloud.ready.ca_file, config=config, **keys))


def refused(call: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Code"])


#: What each protocol is asked here, and what it calls a wrong secret, an unknown key, and a clock that is wrong.
ASKED: dict[str, tuple[Callable[[Any], Any], str, str, str]] = {
    "s3": (
        lambda s3: s3.list_buckets(),
        "SignatureDoesNotMatch",
        "InvalidAccessKeyId",
        "RequestTimeTooSkewed",
    ),
    "sts": (
        lambda sts: sts.get_caller_identity(),
        "SignatureDoesNotMatch",
        "InvalidClientTokenId",
        "SignatureDoesNotMatch",
    ),
    "iam": (lambda iam: iam.list_roles(), "SignatureDoesNotMatch", "InvalidClientTokenId", "SignatureDoesNotMatch"),
    "greengrassv2": (
        lambda greengrass: greengrass.list_components(),
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    ),
    "iot": (
        lambda iot: iot.create_thing(thingName="drone:1_a"),
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    ),
    "iot-data": (
        lambda data: data.publish(topic="a/b c/ü", payload=b"x"),
        "InvalidSignatureException",
        "UnrecognizedClientException",
        "InvalidSignatureException",
    ),
}


async def test_each_protocol_takes_the_key_and_names_its_refusals(cloud: Any, tmp_path: Path) -> None:
    key = root_key(tmp_path)

    def work() -> None:
        for service, (ask, mismatch, unknown, skewed) in ASKED.items():
            for scheme in ("http", "https"):
                with client(cloud, service, key, scheme) as good:
                    ask(good)
            with client(cloud, service, (key[0], "wrong")) as wrong:
                assert refused(lambda: ask(wrong)) == mismatch, service  # noqa: B023
            with client(cloud, service, ("AKIANOBODY", key[1])) as nobody:
                assert refused(lambda: ask(nobody)) == unknown, service  # noqa: B023
            for offset in (-301, 301):
                cloud.clock.offset = offset
                with client(cloud, service, key) as late:
                    assert refused(lambda: ask(late)) == skewed, service  # noqa: B023
            for offset in (-295, 295):
                cloud.clock.offset = offset
                with client(cloud, service, key) as good:
                    ask(good)
            cloud.clock.offset = 0

    await cloud.off_loop(work)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_objects_go_in_and_out_and_urls_end(cloud: Any, tmp_path: Path, scheme: str) -> None:
    """Plain and chunked bodies, odd keys, parts, presigned URLs: valid, tampered with, late."""
    key = root_key(tmp_path)
    context = ssl.create_default_context(cafile=cloud.ready.ca_file)

    def get(url: str) -> int:
        try:
            with urllib.request.urlopen(url, timeout=10, context=context if scheme == "https" else None) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def work() -> None:
        with client(cloud, "s3", key, scheme) as s3:
            s3.create_bucket(Bucket="whales")
            name = "a b/ü+~(1)//x*.zip"
            s3.put_object(Bucket="whales", Key=name, Body=b"zip")
            assert s3.get_object(Bucket="whales", Key=name)["Body"].read() == b"zip"
            assert [each["Key"] for each in s3.list_objects_v2(Bucket="whales", Prefix="a b/")["Contents"]] == [name]
            upload = s3.create_multipart_upload(Bucket="whales", Key="p")["UploadId"]
            part = s3.upload_part(Bucket="whales", Key="p", UploadId=upload, PartNumber=1, Body=b"x" * 100)
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            s3.complete_multipart_upload(Bucket="whales", Key="p", UploadId=upload, MultipartUpload=parts)
            url = s3.generate_presigned_url("get_object", {"Bucket": "whales", "Key": name}, ExpiresIn=60)
        with client(cloud, "s3", key, scheme, signature_version="s3v4") as s3:
            signed = s3.generate_presigned_url("get_object", {"Bucket": "whales", "Key": name}, ExpiresIn=60)
        assert get(url) == 400  # boto3's default for URLs is the older signature, which AWS takes no more either
        assert get(signed) == 200
        assert get(signed.replace("x%2A", "y%2A")) == 403
        assert get(signed.replace("Expires=60", "Expires=6000")) == 403
        cloud.clock.offset = 61
        assert get(signed) == 403
        cloud.clock.offset = 0

    await cloud.off_loop(work)


async def test_keys_of_users_and_of_roles(cloud: Any, tmp_path: Path) -> None:
    key = root_key(tmp_path)

    def work() -> None:
        with client(cloud, "iam", key) as iam:
            iam.create_user(UserName="ann")
            made = iam.create_access_key(UserName="ann")["AccessKey"]
            anns = (made["AccessKeyId"], made["SecretAccessKey"])
            with client(cloud, "sts", anns) as sts:
                assert sts.get_caller_identity()["Arn"] == "arn:aws:iam::123456789012:user/ann"
                lent = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="me")["Credentials"]
            listed = iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]
            assert [(each["AccessKeyId"], each["Status"]) for each in listed] == [(anns[0], "Active")]
            iam.update_access_key(UserName="ann", AccessKeyId=anns[0], Status="Inactive")
            with client(cloud, "sts", anns) as sts:
                assert refused(sts.get_caller_identity) == "InvalidClientTokenId"
            assert refused(lambda: iam.delete_user(UserName="ann")) == "DeleteConflict"
            iam.delete_access_key(UserName="ann", AccessKeyId=anns[0])
            iam.delete_user(UserName="ann")
            assert refused(lambda: iam.get_user(UserName="ann")) == "NoSuchEntity"
        session = (lent["AccessKeyId"], lent["SecretAccessKey"], lent["SessionToken"])
        names = {
            "s3": ("InvalidToken", "ExpiredToken"),
            "sts": ("InvalidClientTokenId", "ExpiredToken"),
            "greengrassv2": ("UnrecognizedClientException", "ExpiredTokenException"),
        }
        for service, (invalid, expired) in names.items():
            ask = ASKED[service][0]
            with client(cloud, service, session) as lender:
                ask(lender)
            for bad in (session[:2], (*session[:2], "another")):
                with client(cloud, service, bad) as forger:
                    assert refused(lambda: ask(forger)) == invalid, service  # noqa: B023
            signed_late = Late(session, cloud, service)
            assert signed_late.code() == expired, service

    await cloud.off_loop(work)


class Late:
    """A request that is signed by a clock as far ahead as the cloud's."""

    def __init__(self, key: tuple[str, ...], cloud: Any, service: str) -> None:
        self._key, self._cloud, self._service = key, cloud, service

    def code(self) -> str:
        """The error, an hour and a bit after the key was made."""
        from datetime import UTC, datetime, timedelta

        host = self._cloud.ready.endpoint.removeprefix("http://")
        name = {"greengrassv2": "greengrass"}.get(self._service, self._service)
        path = {"s3": "/", "sts": "/", "greengrassv2": "/greengrass/v2/components"}[self._service]
        request = AWSRequest("GET", f"http://{host}{path}", headers={"Host": host})
        stamp = (datetime.now(UTC) + timedelta(seconds=3700)).strftime("%Y%m%dT%H%M%SZ")
        request.context["timestamp"] = stamp
        request.headers["X-Amz-Date"] = stamp
        request.headers["X-Amz-Security-Token"] = self._key[2]
        auth = SigV4Auth(Credentials(*self._key), name, REGION)
        text = auth.string_to_sign(request, auth.canonical_request(request))
        auth._inject_signature_to_request(request, auth.signature(text, request))
        self._cloud.clock.offset = 3700
        try:
            with closing(http.client.HTTPConnection(host, timeout=10)) as connection:
                connection.request("GET", path, headers=dict(request.headers.items()))
                answer = connection.getresponse()
                body = answer.read().decode()
        finally:
            self._cloud.clock.offset = 0
        return answer.headers.get("x-amzn-ErrorType") or body.partition("<Code>")[2].partition("<")[0]


async def test_the_clouds_own_urls_and_role_credentials_work_on_a_device(cloud: Any, tmp_path: Path) -> None:
    """What a nucleus uses: credentials of its role alias as keys with a token, and URLs of artifacts."""
    key = root_key(tmp_path)

    def work() -> None:
        with client(cloud, "iot", key) as iot, client(cloud, "s3", key) as s3:
            iot.create_thing(thingName="drone-1")
            made = iot.create_keys_and_certificate(setAsActive=True)
            iot.attach_thing_principal(thingName="drone-1", principal=made["certificateArn"])
            iot.create_role_alias(roleAlias="alias", roleArn="arn:aws:iam::123456789012:role/r")
            document = {"Effect": "Allow", "Action": "iot:AssumeRoleWithCertificate", "Resource": "*"}
            policy = json.dumps({"Version": "2012-10-17", "Statement": [document]})
            iot.create_policy(policyName="p", policyDocument=policy)
            iot.attach_policy(policyName="p", target=made["certificateArn"])
            s3.create_bucket(Bucket="artifacts")
            s3.put_object(Bucket="artifacts", Key="k", Body=b"zip")
        certificate, private = tmp_path / "c.pem", tmp_path / "c.key"
        certificate.write_text(made["certificatePem"])
        private.write_text(made["keyPair"]["PrivateKey"])
        context = ssl.create_default_context(cafile=cloud.ready.ca_file)
        context.load_cert_chain(certificate, private)
        host = cloud.ready.https_endpoint.removeprefix("https://")
        with closing(http.client.HTTPSConnection(host, timeout=10, context=context)) as connection:
            connection.request("GET", "/role-aliases/alias/credentials", headers={"x-amzn-iot-thingname": "drone-1"})
            given = json.loads(connection.getresponse().read())["credentials"]
        with client(
            cloud, "s3", (given["accessKeyId"], given["secretAccessKey"], given["sessionToken"]), "https"
        ) as s3:
            assert s3.get_object(Bucket="artifacts", Key="k")["Body"].read() == b"zip"
        own = cloud._parts._presign(cloud.ready.endpoint, "artifacts", "k", 60)
        with urllib.request.urlopen(own, timeout=10) as answer:
            assert answer.read() == b"zip"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(own.replace("/k?", "/other?"), timeout=10)
        with caught.value:
            assert caught.value.code == 403

    await cloud.off_loop(work)


async def test_another_address_than_loopback_needs_strict(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"does not listen on 0\.0\.0\.0") as caught:
        async with Cloud(tmp_path / "open", host="0.0.0.0").running():
            pass
    assert "--strict" in str(caught.value.hint)
    async with Cloud(tmp_path / "strict", host="0.0.0.0", strict=True).running() as ready:
        assert "localhost" not in ready.https_endpoint


async def test_what_a_nucleus_signs_is_taken(cloud: Any, tmp_path: Path) -> None:
    """The nucleus's own code (awscrt's signer): a GET of an object, a call with an ARN in its path."""
    from monodon.nucleus.uplink.exchange import Request
    from monodon.nucleus.uplink.protocol import RoleCredentials
    from monodon.nucleus.uplink.s3 import ObjectAddress, signed_get
    from monodon.nucleus.uplink.signing import signed

    key = root_key(tmp_path)

    def lend() -> RoleCredentials:
        with client(cloud, "sts", key) as sts, client(cloud, "s3", key) as s3:
            s3.create_bucket(Bucket="artifacts")
            s3.put_object(Bucket="artifacts", Key="a b/k~(1).zip", Body=b"zip")
            lent = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/r", RoleSessionName="me")["Credentials"]
        return RoleCredentials(
            access_key_id=lent["AccessKeyId"],
            secret_access_key=lent["SecretAccessKey"],
            session_token=lent["SessionToken"],
            expiration=lent["Expiration"],
        )

    credentials = await cloud.off_loop(lend)
    address = ObjectAddress(url=f"{cloud.ready.endpoint}/artifacts/a%20b/k~%281%29.zip", region=REGION)
    arn = "arn%3Aaws%3Agreengrass%3Aus-east-1%3A123456789012%3Acomponents%3Anone"
    versions = Request(url=f"{cloud.ready.endpoint}/greengrass/v2/components/{arn}/versions")
    asked = (
        (await signed_get(address, credentials), 200),
        (await signed(versions, credentials, service="greengrass", region=REGION), 404),
        (await signed(versions, credentials, service="greengrass", region="eu-west-1"), 404),
    )

    def get(request: Request) -> int:
        given = urllib.request.Request(request.url, headers=dict(request.headers))
        try:
            with urllib.request.urlopen(given, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    for request, status in asked:
        assert await cloud.off_loop(lambda request=request: get(request)) == status
