"""Who acts in the journeys: an operator with a fleet, and a camera that never ends."""

import http.server
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monodon.core.names import ComponentName
from monodon.core.semver import Version
from monodon.dev.lab import Lab, Server
from monodon.dev.listener import Listener, make_operator
from monodon.fleet import Aws, Change, Created, Desired, DesiredComponent, deploy, follow
from monodon.publish import Package, Registry, publish

CHECKOUT = Path(__file__).parents[2]
THING, GROUP = "drone-1", "drones"
CLASSIFIER, MODEL = ComponentName("monodon.CameraClassifier"), ComponentName("monodon.Model.EfficientNetLite0")
PATIENCE_S = 90.0


@dataclass
class Fleet:
    """A lab with its cloud and one provisioned device, and what an operator does with them."""

    lab: Lab
    cloud: Server
    root: Path
    device: Server

    @property
    def aws(self) -> Aws:
        return self.lab.aws(self.cloud)

    def publish(self, *packages: Package) -> None:
        aws = self.aws
        where = Registry(
            s3=aws.s3, greengrass=aws.greengrass, bucket=aws.bucket, region=aws.region, account=aws.account
        )
        for package in packages:
            assert [progress.step for progress in publish(package, where)][-1] == "deployable"

    def deploy(self, model: str, settings: dict[str, Any]) -> Created:
        components = {
            CLASSIFIER: DesiredComponent(version=Version.parse("1.0.0"), merge=settings),
            MODEL: DesiredComponent(version=Version.parse(model)),
        }
        return deploy(self.aws, Desired(target=f"thinggroup/{GROUP}", components=components))

    def outcome(self, created: Created) -> Change:
        return list(follow(self.aws, created, timeout_s=PATIENCE_S))[-1]

    def listen(self) -> Listener:
        return Listener(make_operator(self.aws, "journey"), self.cloud.ready, "monodon/#")


def wait_for(listener: Listener, wanted: Callable[[str, dict[str, Any]], bool]) -> dict[str, Any]:
    """Return the first message that is wanted."""
    deadline = time.monotonic() + PATIENCE_S
    seen = []
    while (heard := listener.next(deadline)) is not None:
        seen.append((heard.topic, str(heard.message)[:150]))
        if wanted(heard.topic, heard.message):
            return dict(heard.message)
    raise AssertionError(f"not heard within {PATIENCE_S:g} s; heard {len(seen)}, last {seen[-3:]}")


class EndlessCamera(http.server.ThreadingHTTPServer):
    """Streams one photograph for ever, as an MJPEG camera does."""

    daemon_threads = True

    def __init__(self, picture: bytes) -> None:
        self.part = b"--f\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n" % (len(picture), picture)
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), _Stream)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/camera.mjpg"


class _Stream(http.server.BaseHTTPRequestHandler):
    server: EndlessCamera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=f")
        self.end_headers()
        try:
            while not self.server.closing.wait(0.05):  # the camera's own pace: 20 frames a second
                self.wfile.write(self.server.part)
        except OSError:
            pass

    def log_message(self, *args: object) -> None:
        """Stay quiet."""
