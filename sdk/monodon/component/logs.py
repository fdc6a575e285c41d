"""Logging for a nucleus: one line a record, up to INFO on stdout, WARNING and above on stderr.

A nucleus marks every line of stderr as a warning, and puts its own time before each.
"""

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import TextIO

#: Native libraries that would talk on stderr otherwise; the environment has the last word.
QUIET = {
    "GLOG_minloglevel": "2",
    "OPENCV_LOG_LEVEL": "ERROR",
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


class OneLine(logging.Formatter):
    """A record on one line: line breaks, those of a traceback too, become `` | ``."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).splitlines()
        return " | ".join(line.rstrip() for line in lines if line.strip())


def set_up_logging(
    *,
    for_nucleus: bool,
    environ: MutableMapping[str, str] = os.environ,
    stdout: TextIO = sys.stdout,
    stderr: TextIO = sys.stderr,
) -> None:
    """Send log records where a nucleus expects them; on a terminal all go to stderr, beside what is published."""
    for name, value in QUIET.items():
        environ.setdefault(name, value)
    logging.raiseExceptions = False  # a nucleus that is gone leaves no one to read
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
    form = OneLine("%(levelname)s %(name)s: %(message)s")
    quiet = logging.StreamHandler(stdout if for_nucleus else stderr)
    quiet.addFilter(lambda record: record.levelno < logging.WARNING)
    loud = logging.StreamHandler(stderr)
    loud.setLevel(logging.WARNING)
    for handler in (quiet, loud):
        handler.setFormatter(form)
        root.addHandler(handler)
    root.setLevel(logging.INFO)
