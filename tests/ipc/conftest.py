"""What the tests of the wire share."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def golden_frames() -> dict[str, bytes]:
    """The frames recorded from awsiotsdk by name, in the order they were sent."""
    found: dict[str, str] = {}
    name = ""
    for line in Path(__file__).with_name("golden_frames.txt").read_text().splitlines():
        if line.startswith("["):
            name = line.strip("[]")
            found[name] = ""
        elif name:
            found[name] += line
    return {name: bytes.fromhex(text) for name, text in found.items()}
