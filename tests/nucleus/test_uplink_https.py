"""The nucleus's HTTPS calls against a small server of the standard library that asks for the device's certificate."""

import asyncio
import base64
import hashlib
import http.server
import json
import resource
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.nucleus.connect_proxy import proxying

from monodon.cloud.certificates import HTTP_PROTOCOLS, CertificateAuthority
from monodon.errors import DeploymentError, NetworkError
from monodon.nucleus.identity import CloudIdentity
from monodon.nucleus.proxy import Proxy
from monodon.nucleus.uplink.https import DataPlane
from monodon.nucleus.uplink.protocol import CandidateRequest
from monodon.nucleus.uplink.s3 import object_address

ARN = "arn:aws:greengrass:eu-west-1:1:components:a:versions:1.0.0"
CONTENT = bytes(range(256)) * 4_000


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it; ``device`` is the common name in the client's certificate, if it gave one."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    device: str | None


@dataclass(frozen=True)
class Given:
    """An answer; ``announced`` is a Content-Length that differs from the truth."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    announced: int | None = None


class Server:
    """Where the server listens, what it was asked, and the function that answers (on a thread of the server's)."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Given] = lambda asked: Given(404, b'{"message": "nothing here"}')

    def answers(self, body: object, status: int = 200) -> None:
        self.answer = lambda asked: Given(status, json.dumps(body).encode())


@contextmanager
def serving(context: ssl.SSLContext | None) -> Iterator[Server]:
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            peer = self.connection.getpeercert() if isinstance(self.connection, ssl.SSLSocket) else None
            names = dict(pair for part in (peer or {}).get("subject", ()) for pair in part)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(self.command, self.path, headers, body, names.get("commonName"))
            server.asked.append(asked)
            given = server.answer(asked)
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body) if given.announced is None else given.announced))
            self.end_headers()
            self.wfile.write(given.body)
            self.close_connection = True

        do_GET = do_POST = handle_any  # noqa: N815 - named by the base class

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that leaves early, or does not trust us, is part of the tests

    httpd = Quiet(("127.0.0.1", 0), Handler)
    if context is not None:
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True, do_handshake_on_connect=False)
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CertificateAuthority]:
    folder = tmp_path_factory.mktemp("pki")
    authority = CertificateAuthority.open(folder)
    device = authority.issue("drone-1")
    (folder / "device.crt").write_text(device.certificate_pem)
    (folder / "device.key").write_text(device.private_key_pem)
    return folder, authority


@pytest.fixture
def server(pki: tuple[Path, CertificateAuthority]) -> Iterator[Server]:
    context = pki[1].server_context(client_certificate=ssl.CERT_OPTIONAL, protocols=HTTP_PROTOCOLS)
    with serving(context) as running:
        yield running


@pytest.fixture
def s3() -> Iterator[Server]:
    with serving(None) as running:
        yield running


@pytest.fixture
def cloud(pki: tuple[Path, CertificateAuthority], server: Server) -> CloudIdentity:
    return CloudIdentity(
        region="eu-west-1",
        certificate=pki[0] / "device.crt",
        private_key=pki[0] / "device.key",
        root_ca=pki[1].ca_file,
        data_endpoint="localhost",
        data_plane_host="localhost",
        data_plane_port=server.port,
        credentials_host="localhost",
        credentials_port=server.port,
        role_alias="alias",
    )


@pytest.fixture
def plane(cloud: CloudIdentity, s3: Server) -> DataPlane:
    return DataPlane(cloud, thing="drone-1", environment={"AWS_ENDPOINT_URL": f"http://127.0.0.1:{s3.port}"})


REQUEST = CandidateRequest(
    name="a",
    local_version="1.0.0",
    requirements={"thinggroup/g": "=1.0.0", "b": ">=1.0.0 <2.0.0"},
    platform={"os": "linux", "architecture": "amd64"},
)


async def test_a_candidate_is_asked_for_with_the_devices_certificate(plane: DataPlane, server: Server) -> None:
    resolved = {"arn": ARN, "componentName": "a", "componentVersion": "1.0.0", "recipe": base64.b64encode(b"{}")}
    server.answers({"resolvedComponentVersions": [{**resolved, "recipe": "e30="}]})
    candidate = await plane.candidate(REQUEST)
    assert (candidate.arn, candidate.name, candidate.version, candidate.recipe_text) == (ARN, "a", "1.0.0", b"{}")
    (asked,) = server.asked
    assert (asked.method, asked.path, asked.device) == ("POST", "/greengrass/v2/resolveComponentCandidates", "drone-1")
    assert "authorization" not in asked.headers
    assert json.loads(asked.body) == {
        "platform": {"attributes": {"os": "linux", "architecture": "amd64"}},
        "componentCandidates": [
            {
                "componentName": "a",
                "componentVersion": "1.0.0",
                "versionRequirements": {"thinggroup/g": "=1.0.0", "b": ">=1.0.0 <2.0.0"},
            }
        ],
    }


@pytest.mark.parametrize(
    ("status", "message", "said", "code"),
    [
        (404, "x does not claim platform y", "platform", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"),
        (404, "no usable version", "b needs >=1.0.0 <2.0.0", "NO_AVAILABLE_COMPONENT_VERSION"),
        (403, "no", "refused with 403: no", "RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED"),
        (400, "bad", "refused with 400: bad", "BAD_REQUEST"),
        (409, "twice", "refused with 409: twice", "CONFLICTED_REQUEST"),
    ],
)
async def test_a_refusal_becomes_awss_error_codes(
    plane: DataPlane, server: Server, status: int, message: str, said: str, code: str
) -> None:
    server.answers({"message": message}, status)
    with pytest.raises(DeploymentError, match=said) as refused:
        await plane.candidate(REQUEST)
    assert code in refused.value.codes
    assert refused.value.types


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_what_may_pass_is_a_network_error(plane: DataPlane, server: Server, status: int) -> None:
    server.answers({"message": "later"}, status)
    with pytest.raises(NetworkError, match="later"):
        await plane.candidate(REQUEST)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nope", b'{"resolvedComponentVersions": [{"arn": "x"}]}', b'{"resolvedComponentVersions":[]}']
)
async def test_an_answer_that_makes_no_sense_is_refused(plane: DataPlane, server: Server, body: bytes) -> None:
    server.answer = lambda asked: Given(200, body)
    with pytest.raises((NetworkError, DeploymentError)):
        await plane.candidate(REQUEST)


async def test_thing_groups_come_with_their_parents_and_page_by_page(plane: DataPlane, server: Server) -> None:
    def answer(asked: Asked) -> Given:
        if "nextToken" not in asked.path:
            groups = [{"thingGroupName": "g1", "rootToParentThingGroups": [{"thingGroupName": "root"}]}]
            return Given(200, json.dumps({"thingGroups": groups, "nextToken": "a b/c"}).encode())
        assert asked.path.endswith("&nextToken=a%20b%2Fc")
        return Given(200, json.dumps({"thingGroups": [{"thingGroupName": "g2"}]}).encode())

    server.answer = answer
    assert await plane.thing_groups() == ("g1", "root", "g2")
    assert server.asked[0].path.startswith("/greengrass/v2/coreDevices/drone-1/thingGroups?")


async def test_a_server_that_the_device_does_not_trust_is_refused(cloud: CloudIdentity, tmp_path: Path) -> None:
    stranger = CertificateAuthority.open(tmp_path)
    context = stranger.server_context(client_certificate=ssl.CERT_OPTIONAL, protocols=HTTP_PROTOCOLS)
    with serving(context) as server:
        moved = replace(cloud, data_plane_port=server.port)
        with pytest.raises(NetworkError, match="not trusted"):
            await DataPlane(moved, thing="drone-1", environment={}).candidate(REQUEST)


async def test_a_server_that_is_not_there_is_a_network_error(cloud: CloudIdentity) -> None:
    gone = replace(cloud, data_plane_port=1)
    with pytest.raises(NetworkError, match="refused"):
        await DataPlane(gone, thing="drone-1", environment={}).candidate(REQUEST)


# --- artifacts -------------------------------------------------------------------------------------------------------


def ranged(asked: Asked) -> Given:
    begin = asked.headers.get("range")
    if begin is None:
        return Given(200, CONTENT)
    start = int(begin.removeprefix("bytes=").rstrip("-"))
    return Given(416) if start >= len(CONTENT) else Given(206, CONTENT[start:])


async def test_a_greengrass_artifact_comes_from_a_presigned_url(
    plane: DataPlane, server: Server, s3: Server, tmp_path: Path
) -> None:
    server.answers({"preSignedUrl": f"http://127.0.0.1:{s3.port}/bucket/key?X-Amz-Signature=1"})
    s3.answer = ranged
    await plane.download("greengrass:sub folder/a.zip", ARN, tmp_path / "a.zip", 0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert unquote(server.asked[0].path) == f"/greengrass/v2/components/{ARN}/artifacts/sub folder/a.zip"
    assert "%3A" in server.asked[0].path
    assert s3.asked[0].path == "/bucket/key?X-Amz-Signature=1"
    assert "authorization" not in s3.asked[0].headers


def role_and_s3(server: Server, s3: Server, *, lasts: timedelta = timedelta(hours=1)) -> None:
    ends = (datetime.now(UTC) + lasts).strftime("%Y-%m-%dT%H:%M:%SZ")
    server.answers(
        {"credentials": {"accessKeyId": "AK", "secretAccessKey": "SK", "sessionToken": "ST", "expiration": ends}}
    )
    s3.answer = ranged


async def test_an_s3_artifact_is_signed_for_in_path_style(
    plane: DataPlane, server: Server, s3: Server, tmp_path: Path
) -> None:
    role_and_s3(server, s3)
    await plane.download("s3://my.bucket/some key/ü.zip", None, tmp_path / "x", 0)
    assert (tmp_path / "x").read_bytes() == CONTENT
    (asked,) = s3.asked
    assert asked.path == "/my.bucket/some%20key/%C3%BC.zip"
    assert "/eu-west-1/s3/aws4_request" in asked.headers["authorization"]
    assert "Credential=AK/" in asked.headers["authorization"]
    assert asked.headers["x-amz-security-token"] == "ST"
    assert asked.headers["x-amz-content-sha256"]
    assert asked.headers["host"] == f"127.0.0.1:{s3.port}"


@pytest.mark.parametrize("have", [1, 1_000, len(CONTENT) - 1, len(CONTENT)])
async def test_a_download_goes_on_where_it_stopped(
    plane: DataPlane, server: Server, s3: Server, tmp_path: Path, have: int
) -> None:
    role_and_s3(server, s3)
    (tmp_path / "x").write_bytes(CONTENT[:have])
    await plane.download("s3://b/k", None, tmp_path / "x", have)
    assert (tmp_path / "x").read_bytes() == CONTENT
    assert s3.asked[0].headers["range"] == f"bytes={have}-"


async def test_a_server_without_ranges_sends_everything_anew(
    plane: DataPlane, server: Server, s3: Server, tmp_path: Path
) -> None:
    role_and_s3(server, s3)
    s3.answer = lambda asked: Given(200, CONTENT)
    (tmp_path / "x").write_bytes(b"left over" * 1_000_000)
    await plane.download("s3://b/k", None, tmp_path / "x", 9_000_000)
    assert (tmp_path / "x").read_bytes() == CONTENT


async def test_a_broken_transfer_keeps_what_came(plane: DataPlane, server: Server, s3: Server, tmp_path: Path) -> None:
    role_and_s3(server, s3)
    s3.answer = lambda asked: Given(200, CONTENT[:5_000], announced=len(CONTENT))
    with pytest.raises(NetworkError, match="broke after 5000 of"):
        await plane.download("s3://b/k", None, tmp_path / "x", 0)
    assert (tmp_path / "x").read_bytes() == CONTENT[:5_000]
    s3.answer = ranged
    await plane.download("s3://b/k", None, tmp_path / "x", 5_000)
    assert (tmp_path / "x").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("status", "code"),
    [(404, "S3_GET_OBJECT_RESOURCE_NOT_FOUND"), (403, "S3_GET_OBJECT_ACCESS_DENIED"), (400, "S3_BAD_REQUEST")],
)
async def test_an_object_that_cannot_be_read_says_why(
    plane: DataPlane, server: Server, s3: Server, tmp_path: Path, status: int, code: str
) -> None:
    role_and_s3(server, s3)
    s3.answer = lambda asked: Given(status, b"<Error/>")
    with pytest.raises(DeploymentError, match="s3://b/k cannot be fetched") as refused:
        await plane.download("s3://b/k", None, tmp_path / "x", 0)
    assert refused.value.codes == ("ARTIFACT_DOWNLOAD_ERROR", code)
    assert not (tmp_path / "x").exists()


async def test_a_disk_that_refuses_a_download_is_no_broken_connection(
    plane: DataPlane, server: Server, s3: Server, tmp_path: Path
) -> None:
    """A broken connection is tried again without end; a full disk is not. A limit of file sizes stands in for it."""
    role_and_s3(server, s3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(CONTENT) // 2, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            await plane.download("s3://b/k", None, tmp_path / "x", 0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await plane.download("s3://b/k", None, tmp_path / "x", (tmp_path / "x").stat().st_size)
    assert (tmp_path / "x").read_bytes() == CONTENT


async def test_a_given_up_download_ends_at_once(plane: DataPlane, server: Server, s3: Server, tmp_path: Path) -> None:
    role_and_s3(server, s3)
    asked, release = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def stall(_: Asked) -> Given:
        loop.call_soon_threadsafe(asked.set)
        release.wait(10)
        return Given(200, CONTENT)

    s3.answer = stall
    download = asyncio.create_task(plane.download("s3://b/k", None, tmp_path / "x", 0))
    async with asyncio.timeout(5):
        await asked.wait()
    download.cancel()
    with pytest.raises(asyncio.CancelledError):
        await download
    await asyncio.wait_for(loop.shutdown_default_executor(), 5)  # the thread has ended as well
    release.set()


@pytest.mark.parametrize("uri", ["docker:image", "http://x/y", "a.zip"])
async def test_other_schemes_are_refused(plane: DataPlane, tmp_path: Path, uri: str) -> None:
    with pytest.raises(DeploymentError, match="alone"):
        await plane.download(uri, ARN, tmp_path / "x", 0)


@pytest.mark.parametrize(
    ("uri", "environment", "url"),
    [
        ("s3://b/k/l.zip", {}, "https://b.s3.eu-west-1.amazonaws.com/k/l.zip"),
        ("s3://b.c/k+1", {}, "https://s3.eu-west-1.amazonaws.com/b.c/k%2B1"),
        ("s3://b/k", {"AWS_ENDPOINT_URL": "http://h:1/"}, "http://h:1/b/k"),
        ("s3://b/k", {"AWS_ENDPOINT_URL": "http://h:1", "AWS_ENDPOINT_URL_S3": "http://s:2"}, "http://s:2/b/k"),
    ],
)
def test_where_an_object_is(uri: str, environment: Mapping[str, str], url: str) -> None:
    assert object_address(uri, region="eu-west-1", environment=environment).url == url


@pytest.mark.parametrize("uri", ["s3://", "s3://b", "s3:///k", "s3://b/"])
def test_a_uri_without_bucket_or_key_is_refused(uri: str) -> None:
    with pytest.raises(DeploymentError, match="names no object"):
        object_address(uri, region="eu-west-1", environment={})


# --- role credentials ------------------------------------------------------------------------------------------------


async def test_role_credentials_are_asked_for_once(plane: DataPlane, server: Server, s3: Server) -> None:
    role_and_s3(server, s3)
    first, second = await asyncio.gather(plane.credentials(), plane.credentials())
    assert first is second is not None
    assert first.access_key_id == "AK"
    assert "SK" not in repr(first)
    (asked,) = server.asked
    assert asked.path == "/role-aliases/alias/credentials"
    assert asked.headers["x-amzn-iot-thingname"] == "drone-1"
    assert asked.device == "drone-1"


async def test_role_credentials_near_their_end_are_asked_for_again(
    plane: DataPlane, server: Server, s3: Server
) -> None:
    role_and_s3(server, s3, lasts=timedelta(minutes=4))
    await plane.credentials()
    await plane.credentials()
    assert len(server.asked) == 2


async def test_role_credentials_end_also_when_the_clock_is_put_back(
    cloud: CloudIdentity, server: Server, s3: Server
) -> None:
    today, minutes = [datetime.now(UTC)], [0]
    plane = DataPlane(
        cloud, thing="drone-1", environment={}, now=lambda: today[0], clock=lambda: minutes[0] * 60.0
    )  # fmt: skip
    role_and_s3(server, s3)
    await plane.credentials()
    today[0] -= timedelta(hours=1)
    minutes[0] = 54
    await plane.credentials()
    assert len(server.asked) == 1
    minutes[0] = 56
    await plane.credentials()
    assert len(server.asked) == 2


async def test_a_refusing_credential_provider_says_what_to_allow(plane: DataPlane, server: Server) -> None:
    server.answers({"message": "Access Denied"}, 403)
    with pytest.raises(NetworkError, match="403: Access Denied") as refused:
        await plane.credentials()
    assert "iot:AssumeRoleWithCertificate" in (refused.value.hint or "")


async def test_without_a_role_alias_there_are_no_credentials(cloud: CloudIdentity, tmp_path: Path) -> None:
    bare = replace(cloud, role_alias=None)
    plane = DataPlane(bare, thing="drone-1", environment={})
    assert await plane.credentials() is None
    with pytest.raises(DeploymentError, match="no role alias"):
        await plane.download("s3://b/k", None, tmp_path / "x", 0)


DOCUMENT = b'{"deploymentId": "d"}'
DOCUMENT_PATH = "/greengrass/v2/coreDevices/drone-1/deployments/d/configuration"


def hands_out(server: Server, s3: Server, digest: str | None = None) -> None:
    right = base64.b64encode(hashlib.sha256(DOCUMENT).digest()).decode()
    check = {"algorithm": "SHA-256", "digest": digest or right}
    server.answers({"preSignedUrl": f"http://127.0.0.1:{s3.port}/own/d?X-Amz-Signature=s", "integrityCheck": check})


async def test_a_large_document_is_fetched_by_its_url(plane: DataPlane, server: Server, s3: Server) -> None:
    hands_out(server, s3)
    s3.answer = lambda asked: Given(200, DOCUMENT)
    assert await plane.document("d") == DOCUMENT
    assert [(asked.method, asked.path, asked.device) for asked in server.asked] == [("GET", DOCUMENT_PATH, "drone-1")]
    assert [asked.path for asked in s3.asked] == ["/own/d?X-Amz-Signature=s"]


async def test_a_large_document_that_came_damaged_is_asked_for_once_more(
    plane: DataPlane, server: Server, s3: Server
) -> None:
    hands_out(server, s3)
    s3.answer = lambda asked: Given(200, DOCUMENT if len(s3.asked) > 1 else DOCUMENT[1:])
    assert await plane.document("d") == DOCUMENT


@pytest.mark.parametrize(
    ("given", "digest", "codes", "kind"),
    [
        (Given(200, DOCUMENT), "AAAA", ("DOWNLOAD_DEPLOYMENT_DOCUMENT_ERROR",), "HTTP_ERROR"),
        (Given(403, b"<Error/>"), None, ("DOWNLOAD_DEPLOYMENT_DOCUMENT_ERROR",), "HTTP_ERROR"),
        (Given(200, bytes(10 * 1024 * 1024 + 1)), None, ("DEPLOYMENT_DOCUMENT_SIZE_EXCEEDED",), "CLOUD_SERVICE_ERROR"),
    ],
    ids=["wrong digest", "URL refused", "too large"],
)  # fmt: skip
async def test_a_large_document_that_cannot_be_had_ends_in_awss_codes(
    plane: DataPlane, server: Server, s3: Server, given: Given, digest: str | None, codes: tuple[str, ...], kind: str
) -> None:
    hands_out(server, s3, digest)
    s3.answer = lambda asked: given
    with pytest.raises(DeploymentError) as refused:
        await plane.document("d")
    assert refused.value.codes == codes
    assert refused.value.types == (kind,)


async def test_a_device_that_may_not_have_a_large_document_is_told_so(plane: DataPlane, server: Server) -> None:
    server.answers({"message": "no"}, 403)
    with pytest.raises(DeploymentError, match="refused with 403") as refused:
        await plane.document("d")
    assert refused.value.codes[-1] == "GET_DEPLOYMENT_CONFIGURATION_ACCESS_DENIED"
    assert "PERMISSION_ERROR" in refused.value.types


@pytest.mark.parametrize("body", [b"{}", b'{"preSignedUrl": "x"}', b'{"preSignedUrl": "x", "integrityCheck": 1}'])
async def test_an_answer_without_a_document_is_a_network_error(plane: DataPlane, server: Server, body: bytes) -> None:
    server.answer = lambda asked: Given(200, body)
    with pytest.raises(NetworkError, match="gave no URL"):
        await plane.document("d")


async def test_a_proxy_is_used_for_https_and_http(cloud: CloudIdentity, server: Server, s3: Server) -> None:
    hands_out(server, s3)
    s3.answer = lambda asked: Given(200, DOCUMENT)
    async with proxying() as proxy:
        way = Proxy.read(f"http://me:secret@127.0.0.1:{proxy.port}")
        plane = DataPlane(replace(cloud, proxy=way), thing="drone-1", environment={})
        assert await plane.document("d") == DOCUMENT
        token = "Basic " + base64.b64encode(b"me:secret").decode()
        assert [(first.rpartition(" HTTP/")[0], user) for first, user in proxy.asked] == [
            (f"CONNECT localhost:{server.port}", token),
            (f"GET http://127.0.0.1:{s3.port}/own/d?X-Amz-Signature=s", token),
        ]
        assert [asked.device for asked in server.asked] == ["drone-1"]
        assert "proxy-authorization" not in server.asked[0].headers
        exempt = replace(way, exempt=("localhost", "127.0.0.1"))
        plane = DataPlane(replace(cloud, proxy=exempt), thing="drone-1", environment={})
        assert await plane.document("d") == DOCUMENT
        assert len(proxy.asked) == 2
