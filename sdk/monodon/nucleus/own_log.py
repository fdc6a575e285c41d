"""The nucleus's own loggers write into its logs, and say no less than those keep."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from monodon.nucleus.logs import Logs, LogSettings

LOGS_FOLDER = "logs"


def open_logs(root: Path, settings: LogSettings, now_s: Callable[[], float], stack: AsyncExitStack) -> Logs:
    """Open the logs of a device; until the stack is left, the nucleus's own loggers write into them."""
    logs = Logs(root / LOGS_FOLDER, settings, now_s)
    stack.callback(logs.close)
    handler, logger = logs.handler(), logging.getLogger("monodon")
    stack.callback(logger.setLevel, logger.level)
    for each in (logger, logging.getLogger("asyncio")):
        each.addHandler(handler)
        stack.callback(each.removeHandler, handler)
    set_level(settings)
    return logs


def set_level(settings: LogSettings) -> None:
    """Let the nucleus's own loggers say no less than its logs keep."""
    level = {"TRACE": 5, "WARN": logging.WARNING}.get(settings.level) or logging.getLevelName(settings.level)
    logging.getLogger("monodon").setLevel(level)
