"""Logs: structlog, as JSON for machines and as lines for a terminal, always on stderr. Events are named in past tense."""

from __future__ import annotations

import logging
import sys

import structlog

Logger = structlog.typing.FilteringBoundLogger


def configure_logging(*, level: str, style: str) -> None:
    """Set up logging of this process. ``style`` is json, console, or auto: console where stderr is a terminal."""
    on_terminal = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Looked up for each logger: whoever replaces sys.stderr gets what is logged from then on.
        # In one write each: several workers may share it.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def get_logger() -> Logger:
    """The logger of this process."""
    logger: Logger = structlog.get_logger()
    return logger
