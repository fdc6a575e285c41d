"""What the nucleus itself is told: config.yaml, and over it what was deployed to it."""

import datetime
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.nucleus.identity import NUCLEUS
from monodon.nucleus.journal import Journal
from monodon.nucleus.logs import LogFormat
from monodon.nucleus.settings import Configurations, Settings
from monodon.nucleus.state import DeviceState


@pytest.fixture
def state(tmp_path: Path) -> Iterator[DeviceState]:
    with Journal.open(tmp_path) as journal:
        yield DeviceState(journal)


def deploy(state: DeviceState, name: str, value: Mapping[str, Any]) -> None:
    configuration = EMPTY.merge((), value, at_ms=9)
    state.put_installed(
        Installed(name=ComponentName(name), version=Version.parse("2.18.0"), configuration=configuration)
    )


def test_what_is_deployed_is_merged_key_by_key(state: DeviceState) -> None:
    settings = Settings({"logging": {"level": "DEBUG"}, "awsRegion": "eu-west-1"}, state)
    deploy(state, NUCLEUS, {"Logging": {"format": "JSON"}})
    assert (settings.logging.level, settings.logging.format) == ("DEBUG", LogFormat.JSON)
    assert settings.text("AWSREGION") == "eu-west-1"


@pytest.mark.parametrize("odd", [5, "text", [1], None, {"level": 7}, datetime.date(2026, 1, 1), {1: 2}])
def test_odd_values_are_as_if_they_were_not_there(state: DeviceState, odd: Any) -> None:
    settings = Settings(dict.fromkeys(("logging", "runWithDefault", "componentStoreMaxSizeBytes"), odd), state)
    assert settings.logging.level == "INFO"
    assert settings.text("runWithDefault", "posixUser") is None
    assert settings.whole(10, "componentStoreMaxSizeBytes") in (5, 10)


def test_the_nucleuss_own_configuration_is_readable_as_any_other(state: DeviceState) -> None:
    """IPC notes 4.3: any component's configuration may be read."""
    deploy(state, "a", {"k": 1})
    shown = Configurations(Settings({"awsRegion": "eu-west-1"}, state), state)
    found = [shown.configuration(ComponentName(name)) for name in (NUCLEUS, "a", "b")]
    assert [each and each.value() for each in found] == [{"awsRegion": "eu-west-1"}, {"k": 1}, None]
