"""Structured logs: JSON lines on standard error, one a decision, none when nothing happens."""

import logging
import sys
from typing import Any

import structlog

from kpm.errors import one_line

Log = structlog.typing.FilteringBoundLogger
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def _escaped(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Texts that come from the API cannot end a line or colour a terminal."""
    return {key: one_line(value, 1000) if isinstance(value, str) else value for key, value in event.items()}


def make_log(component: str, level: str = "info") -> Log:
    """The log of one process."""
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True), _escaped, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    log: Log = structlog.get_logger(component=component)
    return log
