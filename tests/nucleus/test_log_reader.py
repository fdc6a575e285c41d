"""Reading logs back: what was written is what is read, each record once, however the files roll."""

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monodon.nucleus.log_reader import STARTED, STDERR, STDOUT, LogReader, names, parse_record, why
from monodon.nucleus.logs import NUCLEUS_LOG, Entry, LogFormat, Logs, LogSettings, format_entry

AT = 1767323045.678  # 2026-01-02T03:04:05.678Z
SAID = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), min_size=1)


def entry(message: str, event: str = STDOUT, **contexts: str) -> Entry:
    shown = {"serviceName": "com.example.A", "currentState": "RUNNING", **contexts}
    return Entry(level="INFO", thread="Copier", logger="com.example.A", event=event, message=message, contexts=shown)


@settings(deadline=None)
@given(message=SAID, event=st.sampled_from([STDOUT, STDERR]), style=st.sampled_from(LogFormat))
def test_what_a_component_said_is_read_as_it_was_said(message: str, event: str, style: LogFormat) -> None:
    written = entry(message, event)
    record = parse_record(format_entry(written, AT, style))
    assert (record.entry, record.at_s, record.said) == (written, AT, message)


@pytest.mark.parametrize("style", LogFormat)
def test_a_script_of_several_lines_and_a_trace_belong_to_their_record(style: LogFormat) -> None:
    script = "set -e\nx=1; echo. {a=b}\necho {c}"
    record = parse_record(format_entry(entry("", STARTED, command=script), AT, style))
    assert record.said == f"starts: {script}"
    trouble = Entry(
        level="ERROR", thread="main", logger="monodon.nucleus", message="it. {} failed", trace="Trace {}\n  x\n"
    )
    assert parse_record(format_entry(trouble, AT, style)).entry.trace == trouble.trace
    assert parse_record(format_entry(trouble, AT, style)).entry.message == trouble.message


def test_what_is_no_record_is_all_message() -> None:
    assert parse_record("strange\n").entry.message == "strange"
    assert parse_record('{"thread": 1}\n').entry.message == '{"thread": 1}'


class Hours:
    """A clock of which each look is ``step_s`` later."""

    def __init__(self, step_s: float) -> None:
        self.now, self.step_s = AT, step_s

    def __call__(self) -> float:
        self.now += self.step_s
        return self.now


@settings(deadline=None, max_examples=50)
@given(
    steps=st.lists(st.integers(0, 12), min_size=1, max_size=12),
    step_s=st.sampled_from([1.0, 400.0]),
    size=st.sampled_from([300, 1000, 10**6]),
    style=st.sampled_from(LogFormat),
)
def test_each_line_is_read_once_and_in_order_over_any_rolling(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], step_s: float, size: int, style: LogFormat
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    rolling = LogSettings(file_size_bytes=size, total_size_bytes=10**9, format=style)
    logs = Logs(folder, rolling, Hours(step_s))
    read: list[str] = []
    written = 0
    with LogReader(folder, "com.example.A") as reader:
        for step in steps:
            for _ in range(step):
                logs.component("com.example.A").write(entry(f"line {written}"))
                written += 1
            read += [parse_record(text).said for text in reader.read()]
    logs.close()
    assert read == [f"line {number}" for number in range(written)]


def test_a_record_is_read_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    whole = format_entry(entry("whole"), AT, LogFormat.TEXT)
    file.write_text(whole + whole[:40])
    with LogReader(tmp_path, "a") as reader:
        assert list(reader.read()) == [whole]
        assert list(reader.read()) == []
        with file.open("a") as more:
            more.write(whole[40:])
        assert list(reader.read()) == [whole]
        file.write_text("")
        assert list(reader.read()) == []
        file.write_text(whole)
        assert list(reader.read()) == [whole]


def test_a_log_may_come_later_and_old_files_may_go(tmp_path: Path) -> None:
    with LogReader(tmp_path / "logs", "com.example.A") as reader:
        assert list(reader.read()) == []
        rolling = LogSettings(file_size_bytes=300, total_size_bytes=900)
        logs = Logs(tmp_path / "logs", rolling, Hours(1.0))
        logs.component("com.example.A").write(entry("first"))
        assert len(list(reader.read())) == 1
        for number in range(50):
            logs.component("com.example.A").write(entry(str(number)))
        logs.close()
        kept = [parse_record(text).said for text in reader.read()]
    assert kept[-1] == "49"
    assert len(kept) < 20


def test_from_the_end_only_what_is_new_is_read(tmp_path: Path) -> None:
    logs = Logs(tmp_path, now=lambda: AT)
    logs.component("com.example.A").write(entry("old"))
    with LogReader(tmp_path, "com.example.A", from_end=True) as reader:
        assert list(reader.read()) == []
        logs.component("com.example.A").write(entry("new"))
        assert [parse_record(text).said for text in reader.read()] == ["new"]
    logs.close()


def test_the_names_of_logs_are_told_whatever_was_rolled(tmp_path: Path) -> None:
    logs = Logs(tmp_path, LogSettings(file_size_bytes=200), Hours(1.0))
    for number in range(5):
        logs.component("com.example.A").write(entry(str(number)))
    logger = logging.getLogger("monodon.test_log_reader")
    handler = logs.handler()
    logger.addHandler(handler)
    logger.warning("hello")
    logger.removeHandler(handler)
    logs.close()
    assert names(tmp_path) == ("com.example.A", NUCLEUS_LOG)
    with LogReader(tmp_path, NUCLEUS_LOG) as reader:
        (record,) = map(parse_record, reader.read())
    assert (record.said, record.entry.level) == ("hello", "WARN")


def test_why_a_component_broke_is_what_was_logged_last_of_it(tmp_path: Path) -> None:
    logs = Logs(tmp_path, now=lambda: AT)

    def log(message: str) -> None:
        entry = Entry(level="ERROR", thread="main", logger="monodon.nucleus.supervisor", message=message)
        logs.component(NUCLEUS_LOG).write(entry)

    assert why(tmp_path, "a.B") is None
    log("a.B: RUNNING -> ERRORED: Run exited with code 1")
    log("a.B: ERRORED -> BROKEN: Run exited with code 2; last on stderr:\nno such camera")
    log("x.a.B: RUNNING -> BROKEN: another")
    log("a.B.C: RUNNING -> BROKEN: another")
    assert why(tmp_path, "a.B") == "Run exited with code 2; last on stderr:\nno such camera"
    log("a.B: BROKEN -> NEW")
    logs.close()
    assert why(tmp_path, "a.B") is None
