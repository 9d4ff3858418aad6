"""Settings of the HTTP API: where it listens, whom it answers, within which bounds. See :mod:`runfold.config`."""

from __future__ import annotations

from msgspec import Struct


class ApiOptions(Struct, frozen=True, kw_only=True):
    """Times are in seconds, sizes in bytes. ``rate`` is in requests a second for each key; 0 sets no bound.

    ``hosts`` are names, beside those of ``host`` and this machine's loopback, that requests may name in ``Host``; ``origins``
    are web origins whose pages may ask (CORS). Both are comma-separated. ``url`` is an API that
    `runfold runs watch` asks, ``key`` what it shows there.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    hosts: str = ""
    origins: str = ""
    rate: float = 0.0
    largest_body: int = 16_000_000
    time_limit: float = 30.0
    silent: float = 600.0
    stream: float = 900.0
    slow: float = 30.0
    url: str = ""
    key: str = ""
