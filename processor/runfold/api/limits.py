"""How often a caller may ask: a bucket of tokens for each, which fills at the rate that is allowed.

The framework's own limiter counts behind its routing, by address, in windows; this one has to stand in front of it, by key.
Each process counts for itself.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from runfold.api.errors import TooManyRequests

MOST_CALLERS = 10_000
"""Buckets in memory; whoever has not asked for longest is forgotten first, and begins with a full one."""


class Limits:
    """``rate`` requests a second for each caller, and as many at once; 0 sets no bound. ``clock`` gives seconds."""

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._most, self._clock = rate, max(1.0, rate), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> None:
        """Count a request. Raises TooManyRequests, which says when to come back."""
        if not self._rate:
            return
        now = self._clock()
        tokens, at = self._buckets.pop(caller, (self._most, now))
        tokens = min(self._most, tokens + (now - at) * self._rate)
        self._buckets[caller] = (max(0.0, tokens - 1), now) if tokens >= 1 else (tokens, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        if tokens < 1:
            wait = math.ceil((1 - tokens) / self._rate)
            raise TooManyRequests(
                f"Rate limit reached: {self._rate:g} requests a second. Please try again in {wait}s.",
                code="rate_limit_exceeded",
                headers={"retry-after": str(wait)},
            )
