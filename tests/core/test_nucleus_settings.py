"""Which settings of the nucleus do something; the page that says so is kept true here."""

from pathlib import Path
from typing import Any

import pytest

from monodon.core.nucleus_settings import SETTINGS, Effect, ignored, table
from monodon.core.target import RESTARTING_SETTINGS

PAGE = Path(__file__).parents[2] / "docs/nucleus.md"


def test_the_page_shows_every_setting() -> None:
    lines = PAGE.read_text().splitlines()
    start = lines.index("| setting | what it does | takes effect |") + 2
    shown = lines[start : lines.index("", start)]
    assert shown == list(table())


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        ({}, ()),
        ({"logging": {"level": "DEBUG"}, "MQTT": {"KeepAliveTimeoutMs": 1}, "mqtt": {"spooler": {}}}, ()),
        ({"runWithDefault": {"systemResourceLimits": {"memory": 1, "cpus": 1}}, "platformOverride": {"a": "b"}}, ()),
        ({"mqtt": {"version": "mqtt5", "spooler": {"storageType": "Memory"}}}, ()),
        ({"mqtt": {"version": "mqtt3", "spooler": {"storageType": "Disk"}}}, ("mqtt3", "a Disk is ignored")),
        ({"jvmOptions": "-Xmx64m"}, ("jvmOptions (there is no Java)",)),
        ({"telemetry": {"enabled": True}}, ("telemetry",)),
        ({"iotDataEndpoint": "x", "mqtt": {"port": 1}}, ("iotDataEndpoint", "mqtt.port (read from config.yaml alone)")),
        ({"mqtt": {"speed": 1}}, ("mqtt.speed (no setting that is known)",)),
        ({"anything": {"a": 1}, "empty": None}, ("anything (no setting that is known)",)),
        ({"mqtt": "x"}, ("mqtt (no setting that is known)",)),
    ],
)
def test_what_is_ignored_is_named_with_its_reason(configuration: dict[str, Any], words: tuple[str, ...]) -> None:
    found = ignored(configuration)
    assert len(found) == len(words)
    assert all(any(word in one for one in found) for word in words)


def test_what_is_said_to_restart_restarts() -> None:
    said = {key for key, setting in SETTINGS.items() if setting.effect is Effect.RESTART}
    restarting = {".".join(path) for path in RESTARTING_SETTINGS}
    assert all(any(key == one or key.startswith(f"{one}.") for one in restarting) for key in said)
