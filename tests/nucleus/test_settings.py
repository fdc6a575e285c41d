"""The nucleus's own configuration: what config.yaml says, and what was deployed over it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import Installed, RunWith
from monodon.core.semver import Version
from monodon.nucleus.journal import Journal
from monodon.nucleus.settings import Platform, Settings
from monodon.nucleus.state import DeviceState


@pytest.fixture
def state(tmp_path: Path) -> Iterator[DeviceState]:
    with Journal.open(tmp_path) as journal:
        yield DeviceState(journal)


def deployed(state: DeviceState, value: dict[str, Any]) -> None:
    nucleus = Installed(name=ComponentName("aws.greengrass.Nucleus"), version=Version.parse("2.18.0"))
    state.put_installed(replace(nucleus, configuration=EMPTY.merge((), value, at_ms=1)))


def test_what_was_deployed_goes_over_what_is_configured(state: DeviceState) -> None:
    settings = Settings({"RunWithDefault": {"posixUser": "own"}, "awsRegion": "x"}, state)
    assert settings.text("runWithDefault", "posixuser") == "own"
    deployed(state, {"RunWithDefault": {"posixUser": "other"}, "componentStoreMaxSizeBytes": 5})
    assert settings.text("runWithDefault", "posixUser") == "other"
    assert settings.text("awsRegion") == "x"
    assert settings.whole(7, "componentStoreMaxSizeBytes") == 5
    assert settings.whole(7, "awsRegion") == 7
    assert settings.text("componentStoreMaxSizeBytes") is None


def test_logging_platform_and_limits_are_those_of_the_moment(state: DeviceState) -> None:
    settings = Settings({}, state)
    platform = Platform({"os": "linux", "architecture": "amd64"}, settings)
    assert (len(platform), settings.logging.level, settings.limits) == (2, "INFO", RunWith())
    deployed(
        state,
        {
            "platformOverride": {"architecture": "mine", "key": "value", "number": 1},
            "logging": {"level": "DEBUG"},
            "runWithDefault": {"systemResourceLimits": {"memory": 1024, "cpus": 0.5, "pids": True}},
        },
    )
    assert dict(platform) == {"os": "linux", "architecture": "mine", "key": "value"}
    assert settings.logging.level == "DEBUG"
    assert settings.limits == RunWith(memory_kb=1024, cpus=0.5)
