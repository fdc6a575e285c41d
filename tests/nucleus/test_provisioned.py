"""A root folder whose config.yaml is gone: it says so, instead of becoming a device without a cloud."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.nucleus.test_nucleus import broker

from monodon.errors import ConfigurationError
from monodon.nucleus.identity import CloudIdentity, Identity
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.nucleus import running
from monodon.nucleus.provisioned import remember

CLOUD = CloudIdentity(
    region="eu-west-1",
    certificate=Path("crt"),
    private_key=Path("key"),
    root_ca=Path("ca"),
    data_endpoint="data.example.com",
    data_plane_host="localhost",
    data_plane_port=8443,
)
DRONE, LOCAL = Identity(thing="drone-1", cloud=CLOUD), Identity(thing="local")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / JOURNAL_FOLDER) as journal:
        yield journal


def test_a_device_of_a_cloud_is_remembered(journal: Journal) -> None:
    remember(journal, DRONE, is_configured=True)
    with pytest.raises(
        ConfigurationError, match=r"config.yaml is gone.*drone-1, a device of data.example.com"
    ) as raised:
        remember(journal, LOCAL, is_configured=False)
    assert "--init-config" in str(raised.value.hint)
    remember(journal, DRONE, is_configured=True)


def test_a_configuration_without_a_cloud_is_the_operators_decision(journal: Journal) -> None:
    remember(journal, DRONE, is_configured=True)
    remember(journal, LOCAL, is_configured=True)
    remember(journal, LOCAL, is_configured=False)


def test_a_device_that_never_had_a_cloud_needs_no_configuration(journal: Journal) -> None:
    remember(journal, LOCAL, is_configured=False)
    assert journal.items() == {}


@pytest.mark.slow
async def test_a_nucleus_remembers_its_cloud(tmp_path: Path) -> None:
    async with broker(tmp_path) as root:
        async with running(root):
            pass
        (root / "config" / "config.yaml").unlink()
        with pytest.raises(ConfigurationError, match="is gone"):
            async with running(root, thing="another"):
                pytest.fail("it started")
        assert not (root / "ready.json").exists()


def test_the_command_ends_with_one_line(tmp_path: Path) -> None:
    with Journal.open(tmp_path / JOURNAL_FOLDER) as journal:
        remember(journal, DRONE, is_configured=True)
    done = subprocess.run(
        [sys.executable, "-m", "monodon", "nucleus", "run", "--root", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: config/config.yaml is gone, and this is the root folder of drone-1")
    assert hint.startswith("hint: restore the file")
