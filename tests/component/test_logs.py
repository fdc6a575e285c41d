"""One line a record, by level on stdout or stderr."""

import io
import logging
import sys
from collections.abc import Iterator

import pytest

from monodon.component.logs import OneLine, set_up_logging


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raising
    root.setLevel(level)


def logged(*, for_nucleus: bool) -> tuple[list[str], list[str]]:
    out, err = io.StringIO(), io.StringIO()
    set_up_logging(for_nucleus=for_nucleus, environ={}, stdout=out, stderr=err)
    logger = logging.getLogger("example")
    logger.debug("wire")
    logger.info("three\nlines\n\nhere")
    logger.warning("careful")
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("gave up")
    return out.getvalue().splitlines(), err.getvalue().splitlines()


def test_a_nucleus_gets_info_on_stdout_and_warnings_on_stderr() -> None:
    out, err = logged(for_nucleus=True)
    assert out == ["INFO example: three | lines | here"]
    assert err[0] == "WARNING example: careful"
    assert len(err) == 2
    assert err[1].startswith("ERROR example: gave up | Traceback")
    assert err[1].endswith("ValueError: bad")


def test_a_terminal_keeps_stdout_for_what_is_published() -> None:
    out, err = logged(for_nucleus=False)
    assert out == []
    assert len(err) == 3


def test_native_libraries_are_quiet_unless_the_environment_says_otherwise() -> None:
    environ = {"OPENCV_LOG_LEVEL": "INFO"}
    set_up_logging(for_nucleus=True, environ=environ, stdout=io.StringIO(), stderr=io.StringIO())
    assert environ["OPENCV_LOG_LEVEL"] == "INFO"
    assert environ["TF_CPP_MIN_LOG_LEVEL"] == "2"


def test_a_traceback_is_one_line() -> None:
    try:
        raise ValueError("a\nb")
    except ValueError:
        record = logging.LogRecord("n", logging.ERROR, "f", 1, "m", None, sys.exc_info())
    assert "\n" not in OneLine("%(message)s").format(record)
