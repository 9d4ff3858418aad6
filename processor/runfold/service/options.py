"""How the consumer cuts its batches and how patient it is: plain numbers, taken from the settings."""

from __future__ import annotations

from msgspec import Struct

from runfold.config import Settings


class Options(Struct, frozen=True, kw_only=True):
    """Bounds of one batch (records, bytes, seconds to wait for more), of memory, and of waiting. Times in seconds.

    ``wary_records`` bounds a batch whose records are taken in hand one by one, so that other things are not kept waiting.
    """

    batch_records: int = 40_000
    batch_bytes: int = 16_000_000
    batch_linger: float = 0.002
    open_runs: int = 20_000
    drain: float = 10.0
    patience: float = 30.0
    idle_wait: float = 1.0
    wary_records: int = 500

    @classmethod
    def of(cls, settings: Settings) -> Options:
        """The options that the settings name."""
        return cls(
            batch_records=settings.batch_records,
            batch_bytes=settings.batch_bytes,
            batch_linger=settings.batch_linger,
            open_runs=settings.open_runs,
            drain=settings.drain,
            patience=settings.patience,
        )
