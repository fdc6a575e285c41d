"""Log files: nucleus.md section 4; formats, rolling by hour and size, the limit over all files."""

import json
import logging
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from monodon.nucleus.logs import Entry, LogFormat, Logs, LogSettings, format_entry

AT = 1767323045.678  # 2026-01-02T03:04:05.678Z


class Clock:
    def __init__(self) -> None:
        self.now = AT

    def __call__(self) -> float:
        return self.now


def entry(message: str, level: str = "INFO") -> Entry:
    return Entry(
        level=level, thread="pool-1", logger="com.example.A", event="stdout", message=message,
        contexts={"scriptName": "services.com.example.A.lifecycle.Run", "currentState": "RUNNING"},
    )  # fmt: skip


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def small(tmp_path: Path, clock: Clock) -> Iterator[Logs]:
    logs = Logs(tmp_path / "logs", LogSettings(file_size_bytes=1000, total_size_bytes=3500), clock)
    yield logs
    logs.close()


def test_a_text_line_is_aws_s() -> None:
    assert format_entry(entry("hello"), AT, LogFormat.TEXT) == (
        "2026-01-02T03:04:05.678Z [INFO] (pool-1) com.example.A: stdout. hello. "
        "{scriptName=services.com.example.A.lifecycle.Run, currentState=RUNNING}\n"
    )


def test_a_json_line_is_one_object() -> None:
    line = format_entry(entry("hü\nllo"), AT, LogFormat.JSON)
    assert line.count("\n") == 1
    document = json.loads(line)
    assert (document["message"], document["eventType"], document["timestamp"]) == ("hü\nllo", "stdout", 1767323045678)


def test_a_file_rolls_at_its_size_and_the_oldest_go_over_the_total(small: Logs, tmp_path: Path) -> None:
    file = small.component("com.example.A")
    for number in range(60):
        file.write(entry(f"line {number}"))
    paths = sorted((tmp_path / "logs").iterdir())
    assert all(path.stat().st_size <= 1000 for path in paths)
    assert sum(path.stat().st_size for path in paths) <= 3500
    text = "".join(path.read_text() for path in sorted(paths, key=lambda path: (path == file.path, path.name)))
    numbers = [int(line.split("line ")[1].split(".")[0]) for line in text.splitlines()]
    assert numbers == list(range(numbers[0], 60))
    assert any(path.name.startswith("com.example.A_2026_01_02_03_") for path in paths)


def test_a_file_rolls_by_the_hour_also_across_a_restart(small: Logs, tmp_path: Path, clock: Clock) -> None:
    small.component("A").write(entry("first"))
    clock.now += 3600
    small.component("A").write(entry("second"))
    assert "first" in (tmp_path / "logs" / "A_2026_01_02_03_0.log").read_text()
    small.close()
    os.utime(tmp_path / "logs" / "A.log", (clock.now, clock.now))
    clock.now += 3600
    small.component("A").write(entry("third"))
    assert "second" in (tmp_path / "logs" / "A_2026_01_02_04_0.log").read_text()
    assert "third" in (tmp_path / "logs" / "A.log").read_text()


@pytest.mark.parametrize("how", ["deleted", "moved", "with its folder"])
def test_a_file_that_is_gone_is_made_anew(tmp_path: Path, how: str) -> None:
    logs = Logs(tmp_path / "logs")
    file = logs.component("A")
    file.write(entry("first"))
    match how:
        case "deleted":
            file.path.unlink()
        case "moved":
            file.path.rename(tmp_path / "elsewhere.log")
        case _:
            shutil.rmtree(tmp_path / "logs")
    file.write_lines(entry(""), ["second", "third"])
    file.write(entry("fourth"))
    logs.close()
    assert [line.split(". ")[1] for line in file.path.read_text().splitlines()] == ["second", "third", "fourth"]


def test_a_year_ahead_and_back_leaves_the_newest_lines(small: Logs, tmp_path: Path, clock: Clock) -> None:
    """What a wrong clock wrote takes no room from what is written now."""
    file = small.component("A")
    clock.now = AT + 365 * 86400
    for number in range(60):
        file.write(entry(f"line {number}"))
    for clock.now in (AT, AT - 3600, AT):
        for number in range(20):
            file.write(entry(f"present {number}"))
    paths = [*(tmp_path / "logs").iterdir()]
    assert sum(path.stat().st_size for path in paths) <= 3500
    text = "".join(path.read_text() for path in paths)
    assert text.count("present") > 12
    assert "line 0" not in text


def test_logs_of_names_that_begin_alike_are_apart(small: Logs, tmp_path: Path, clock: Clock) -> None:
    for name in ("A", "A_B"):
        for _ in range(30):
            small.component(name).write(entry("x" * 50))
    assert {path.name.rsplit("_2026", 1)[0] for path in (tmp_path / "logs").iterdir()} == {
        "A",
        "A_B",
        "A.log",
        "A_B.log",
    }


def test_what_the_nucleus_logs_goes_to_greengrass_log_with_its_trace(small: Logs, tmp_path: Path) -> None:
    logger = logging.Logger("monodon.nucleus.test")
    logger.addHandler(small.handler())
    logger.debug("not this")
    logger.warning("went %s", "wrong")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("failed")
    text = (tmp_path / "logs" / "greengrass.log").read_text()
    assert "[WARN] (MainThread) monodon.nucleus.test: went wrong. {}\n" in text
    assert "Traceback" in text
    assert "ValueError: why" in text
    assert "not this" not in text


def test_settings_are_read_from_the_nucleus_configuration() -> None:
    read = LogSettings.read({"Level": "warn", "format": "json", "fileSizeKB": "100", "totalLogsSizeKB": 200})
    assert read == LogSettings(
        level="WARN", format=LogFormat.JSON, file_size_bytes=102400, total_size_bytes=204800
    )  # fmt: skip
    assert LogSettings.read({"level": "loud"}) == LogSettings()


def test_settings_may_change_while_it_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Level, format, folder and the console take effect with the next line."""
    logs = Logs(tmp_path / "logs")
    entry = Entry(level="DEBUG", thread="main", logger="monodon", message="seen")
    logs.component("A").write(entry)
    logs.configure(LogSettings.read({"level": "DEBUG", "outputDirectory": str(tmp_path / "other"), "format": "JSON"}))
    logs.component("A").write(entry)
    logs.component("B").write(entry)
    logs.configure(LogSettings.read({"level": "DEBUG", "outputType": "CONSOLE"}))
    logs.component("A").write(entry)
    logs.close()
    assert not (tmp_path / "logs" / "A.log").exists()
    assert json.loads((tmp_path / "other" / "A.log").read_text())["message"] == "seen"
    assert (tmp_path / "other" / "B.log").exists()
    assert "[DEBUG] (main) monodon: seen." in capfd.readouterr().out


def test_a_disk_that_is_full_loses_lines_and_says_so_once(tmp_path: Path) -> None:
    script = """
import resource, sys
from pathlib import Path
from monodon.nucleus.logs import Entry, Logs
file = Logs(Path(sys.argv[1])).component("A")
entry = Entry(level="INFO", thread="t", logger="l", message="x" * 500)
soft = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, soft[1]))
for _ in range(5): file.write(entry)
resource.setrlimit(resource.RLIMIT_FSIZE, soft)
file.write(entry)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=True, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": "sdk"},
    )  # fmt: skip
    assert done.stderr.count("File too large; lines are lost") == 1
    assert "4 lines were lost" in done.stderr
