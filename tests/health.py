"""The fleet status message of a device, as both of the tests' doors to an embedded cloud send it."""

from typing import Any


def health_message(thing: str, **members: Any) -> dict[str, Any]:
    """What a nucleus without components says at its launch, but for ``members``."""
    return {
        "ggcVersion": "2.18.0",
        "platform": "linux",
        "architecture": "amd64",
        "thing": thing,
        "overallDeviceStatus": "HEALTHY",
        "sequenceNumber": 1,
        "timestamp": 1,
        "messageType": "COMPLETE",
        "trigger": "NUCLEUS_LAUNCH",
        "components": [],
        **members,
    }
