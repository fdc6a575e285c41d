"""What the journeys share: built packages, a lab of their own, a fleet, a camera."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journeys.scene import CHECKOUT, GROUP, THING, EndlessCamera, Fleet

from monodon.dev.lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "state") as lab:
        yield lab


@pytest.fixture
def fleet(lab: Lab) -> Fleet:
    cloud = lab.start_cloud()
    root = lab.provision(cloud, THING, GROUP)
    return Fleet(lab, cloud, root, lab.start_device(cloud, root))


@pytest.fixture
def camera() -> Iterator[EndlessCamera]:
    import cv2

    image = cv2.imread(str(CHECKOUT / "tests/data/photos/narwhal.webp"))
    server = EndlessCamera(cv2.imencode(".jpg", image)[1].tobytes())
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
