"""The fleet's scripts, unchanged, against moto as far as it goes (s3, iot, iam, sts); greengrassv2 by botocore's model.

moto has no greengrassv2. What the scripts send to it is caught on its way, and checked: as a request of botocore's own
model, and by the embedded cloud's, which reads the limits that botocore leaves to the server.
"""

import base64
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

CHECKOUT = Path(__file__).parents[2]
PATIENCE_S = 120


class Caught(http.server.ThreadingHTTPServer):
    """A greengrassv2 that knows no component, and takes none: it notes what it was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Note)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Note(http.server.BaseHTTPRequestHandler):
    server: Caught
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(404, "ResourceNotFoundException")

    def do_POST(self) -> None:
        self._answer(403, "AccessDeniedException")

    def _answer(self, status: int, name: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, body))
        text = json.dumps({"message": "this far and no further"}).encode()
        self.send_response(status)
        self.send_header("x-amzn-ErrorType", name)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


@pytest.fixture
def caught() -> Iterator[Caught]:
    with Caught() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def keys(moto_endpoint: str, caught: Caught) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {
        **plain,
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_ENDPOINT_URL_GREENGRASSV2": caught.url,
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }


def script(name: str, *arguments: str, keys: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [CHECKOUT / "scripts" / name, *arguments], env=keys, capture_output=True, text=True, timeout=PATIENCE_S
    )


def test_provision_fleet_on_moto(keys: dict[str, str], tmp_path: Path) -> None:
    arguments = ("drone-1", "drone-2", "--group", "drones", "--roots", str(tmp_path), "--bundle", "java")
    first = script("provision_fleet", *arguments, "-o", str(tmp_path), keys=keys)
    assert first.returncode == 0, first.stderr
    assert "made thing drone-2" in first.stdout
    assert (tmp_path / "drone-2.tar.gz").is_file()
    assert "BEGIN CERTIFICATE" in (tmp_path / "drone-1/certs/root-ca.pem").read_text(), "Amazon's root, unasked"
    again = script("provision_fleet", *arguments, "-o", str(tmp_path), keys=keys)
    made = {line.split()[1] for line in again.stdout.splitlines() if line.startswith("made")}
    assert made <= {"bundle", "configuration"}, "moto makes up other endpoints each time"


@pytest.mark.xdist_group("journeys")  # where the components are built already
def test_publish_components_sends_what_botocores_model_takes(
    keys: dict[str, str], caught: Caught, packages: Any, build_cache: Path
) -> None:
    assert packages
    done = script("publish_components", "--cache", str(build_cache), keys=keys)
    assert done.returncode == 1
    assert "AccessDeniedException" in done.stderr
    assert "Traceback" not in done.stderr
    (sent,) = {json.loads(body)["inlineRecipe"] for command, _, body in caught.requests if command == "POST"}
    model = botocore.session.get_session().get_service_model("greengrassv2").operation_model("CreateComponentVersion")
    (path,) = {path for command, path, _ in caught.requests if command == "POST"}
    assert path == model.http["requestUri"]
    recipe = base64.b64decode(sent)
    report = ParamValidator().validate({"inlineRecipe": recipe}, model.input_shape)
    assert not report.has_errors(), report.generate_report()
    document = json.loads(recipe)
    uris = [artifact["Uri"] for manifest in document["Manifests"] for artifact in manifest.get("Artifacts", ())]
    assert uris
    uploads = [line for line in done.stdout.splitlines() if "uploaded" in line]
    assert len(uploads) == len(uris)
    for uri in uris:
        assert uri.startswith("s3://monodon-123456789012-eu-west-1/")
