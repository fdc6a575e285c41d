"""moto's server: an AWS that somebody else wrote, to try our scripts against."""

import urllib.request
from collections.abc import Iterator

import pytest

from monodon.fleet import Aws


@pytest.fixture
def moto_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def moto_aws(moto_endpoint: str) -> Aws:
    urllib.request.urlopen(urllib.request.Request(f"{moto_endpoint}/moto-api/reset", method="POST")).close()
    return Aws(endpoint_url=moto_endpoint, region="eu-west-1")
