"""What aiokafka logs, in bounds: of a missing topic it tells thousands of times a second.

Each message, whatever it is about, passes once in some seconds, with the number of those that did not. Where the
application has not set up logging of its own, they go where ours go.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from runfold.telemetry import get_logger

SECONDS = 10.0

_MOST_TEMPLATES = 1_000


class Throttle(logging.Filter):
    """Lets a message template pass once in ``seconds``. ``clock`` gives seconds that never go back."""

    def __init__(self, *, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds, self._clock = seconds, clock
        self._passed: dict[tuple[str, str], float] = {}
        self._suppressed: dict[tuple[str, str], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it passes; if it does, how many did not is written behind it."""
        template, now = (record.name, str(record.msg)), self._clock()
        if now - self._passed.get(template, -self._seconds) < self._seconds:
            self._suppressed[template] = self._suppressed.get(template, 0) + 1
            return False
        if len(self._passed) > _MOST_TEMPLATES:  # messages that were built with what they are about
            self._passed.clear()
        self._passed[template] = now
        if suppressed := self._suppressed.pop(template, 0):
            record.msg = f"{record.getMessage()} ({suppressed} more like it since)"
            record.args = None
        return True


class _Forward(logging.Handler):
    """Hands a record of the standard library's logging to our logger."""

    def emit(self, record: logging.LogRecord) -> None:
        get_logger().log(record.levelno, "kafka_client", said=record.getMessage(), by=record.name)


_throttle = Throttle()
_forward = _Forward(logging.WARNING)


def throttle_client_logs() -> None:
    """Put the bounds on all of aiokafka's loggers; doing it again changes nothing."""
    # A filter does not hold for the loggers below it, so that each of them needs it.
    for name in list(logging.root.manager.loggerDict):
        if name == "aiokafka" or name.startswith("aiokafka."):
            logging.getLogger(name).addFilter(_throttle)
    if not logging.root.handlers:
        logging.getLogger("aiokafka").addHandler(_forward)
