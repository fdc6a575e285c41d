"""`monodon logs` over the files of a device that is not running, and of one that writes on."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from monodon.cli import monodon
from monodon.core.configuration import EMPTY
from monodon.core.names import ComponentName
from monodon.core.plan import Installed
from monodon.core.semver import Version
from monodon.errors import StateError
from monodon.nucleus.journal import JOURNAL_FOLDER, Journal
from monodon.nucleus.logs import Entry, Logs, LogSettings
from monodon.nucleus.state import DeviceState

AT = 1767323045.678  # 2026-01-02T03:04:05.678Z


def entry(message: str, level: str = "INFO") -> Entry:
    event = "stdout" if level == "INFO" else "stderr"
    return Entry(level=level, thread="Copier", logger="a.B", event=event, message=message, contexts={"x": "1"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    now = [AT]
    logs = Logs(tmp_path / "logs", LogSettings(file_size_bytes=500), lambda: now[0])
    for number in range(20):
        logs.component("a.B").write(entry(f"line {number}"))
        now[0] += 60
    logs.component("a.B").write(entry("trouble", "WARN"))
    logs.close()
    return tmp_path


def run(root: Path, *arguments: str) -> str:
    done = CliRunner().invoke(monodon, ["logs", "--root", str(root), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_all_is_shown_in_order_across_files(root: Path) -> None:
    lines = run(root, "a.B").splitlines()
    assert lines[0] == "2026-01-02 03:04:05.678 INFO  line 0"
    assert [line.rpartition("INFO  ")[2] for line in lines[:-1]] == [f"line {number}" for number in range(20)]
    assert lines[-1].endswith("WARN  trouble")


def test_the_last_lines_and_what_is_younger(root: Path) -> None:
    assert [line[24:] for line in run(root, "a.B", "-n", "2").splitlines()] == ["INFO  line 19", "WARN  trouble"]
    since = run(root, "a.B", "--since", "2026-01-02T03:22:00Z").splitlines()
    assert [line[24:] for line in since] == ["INFO  line 18", "INFO  line 19", "WARN  trouble"]
    assert run(root, "a.B", "--since", "1h") == ""


def test_records_as_json_and_as_they_are(root: Path) -> None:
    document = json.loads(run(root, "a.B", "-n", "1", "--json"))
    assert document["time"] == "2026-01-02T03:24:05.678Z"
    assert (document["level"], document["event"], document["message"]) == ("WARN", "stderr", "trouble")
    raw = run(root, "a.B", "-n", "1", "--raw")
    assert raw == "2026-01-02T03:24:05.678Z [WARN] (Copier) a.B: stderr. trouble. {x=1}\n"


def test_a_wrong_name_is_told_which_there_are(root: Path) -> None:
    with pytest.raises(StateError, match=r"has no log of a\.C") as refused:
        run(root, "a.C")
    assert refused.value.hint == "there are logs of a.B"


def configure(root: Path, logging: dict[str, str]) -> None:
    (root / "config").mkdir()
    document = {"services": {"aws.greengrass.Nucleus": {"configuration": {"Logging": logging}}}}
    (root / "config" / "config.yaml").write_text(json.dumps(document))


def test_a_folder_of_its_own_is_looked_into(root: Path, tmp_path: Path) -> None:
    """As config.yaml says, and over it what was deployed."""
    (root / "logs").rename(tmp_path / "elsewhere")
    configure(root, {"outputDirectory": "nowhere"})
    with pytest.raises(StateError, match="nowhere has no log of a.B"):
        run(root, "a.B")
    logging = {"logging": {"outputDirectory": str(tmp_path / "elsewhere")}}
    nucleus = Installed(
        name=ComponentName("aws.greengrass.Nucleus"),
        version=Version.parse("2.18.0"),
        configuration=EMPTY.merge((), logging, at_ms=1),
    )
    with Journal.open(root / JOURNAL_FOLDER) as journal:
        DeviceState(journal).put_installed(nucleus)
    assert run(root, "a.B", "-n", "1").endswith("trouble\n")


def test_logs_that_are_printed_are_said_to_be(root: Path) -> None:
    configure(root, {"outputType": "CONSOLE"})
    assert "what follows is old" in run(root, "a.B")
    for arguments in (("a.C",), ("a.B", "-f")):
        with pytest.raises(StateError, match="prints its logs instead of keeping them") as raised:
            run(root, *arguments)
        assert "journalctl" in str(raised.value.hint)


def test_a_wrong_time_is_wrong_usage(root: Path) -> None:
    done = CliRunner().invoke(monodon, ["logs", "--root", str(root), "a.B", "--since", "yesterday"])
    assert done.exit_code == 2
    assert "neither an age" in done.output


@pytest.mark.slow
def test_it_follows_a_log_that_comes_later_and_rolls(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monodon", "logs", "--root", str(tmp_path), "-f", "a.B"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]
        assert process.stderr.readline() == "a.B has no log yet; waiting for it\n"
        logs = Logs(tmp_path / "logs", LogSettings(file_size_bytes=300), time.time)
        for number in range(20):
            logs.component("a.B").write(entry(f"line {number}"))
            assert process.stdout.readline().endswith(f"line {number}\n")
        logs.close()
        process.terminate()
        process.communicate(timeout=20)
