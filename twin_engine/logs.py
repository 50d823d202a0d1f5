"""Logs of a service on standard error: one JSON object a line, or text for people. No secret is ever given to a log call."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog


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
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiokafka", "faust", "mode", "kafka"):  # a line a poll, or a banner
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
