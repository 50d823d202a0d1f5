"""Logs of a service on standard error: one JSON object a line, or text for people. No secret is ever given to a log call."""

from __future__ import annotations

import logging
import sys
from collections import OrderedDict
from typing import Any

import structlog

CHATTY = ("aiokafka", "faust", "mode", "kafka", "numba")  # a line a poll, or for each step of compiling, or two for each attempt
EVERY = 60.0  # seconds


class Seldom(logging.Filter):
    """Passes one of equal records of chatty libraries within ``EVERY`` seconds, with how many were left out before it."""

    LIMIT = 1000  # different records that are remembered

    def __init__(self) -> None:
        super().__init__()
        self._told: OrderedDict[tuple[str, int, str], tuple[float, int]] = OrderedDict()  # when, and how many were left out since

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record goes out."""
        if record.name.partition(".")[0] not in CHATTY:
            return True
        text = record.getMessage()
        key = record.name, record.levelno, text
        when, left_out = self._told.get(key, (-EVERY, 0))
        if 0 <= record.created - when < EVERY:
            self._told[key] = when, left_out + 1
            return False
        self._told[key] = record.created, 0
        self._told.move_to_end(key)
        if len(self._told) > self.LIMIT:
            self._told.popitem(last=False)
        if left_out:
            record.msg, record.args = f"{text} (and {left_out} times more in the {record.created - when:.0f} s before)", None
        return True


def set_up(level: str, form: str) -> None:
    """Send every library's logs through structlog, at a level; ``form``: ``json`` or ``text``."""
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if form == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in CHATTY:
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
