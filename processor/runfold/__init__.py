"""runfold: Run state changes as immutable events, folded exactly once into current Runs and what they used.

The names that applications import are found on first use, so that importing runfold costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runfold.log.checking import InvalidEvent as InvalidEvent
    from runfold.log.publisher import Publisher as Publisher
    from runfold.log.sync_publisher import SyncPublisher as SyncPublisher
    from runfold.publishing import open_publisher as open_publisher
    from runfold.publishing import open_sync_publisher as open_sync_publisher

__version__ = "0.1.0"
__all__ = ["InvalidEvent", "Publisher", "SyncPublisher", "__version__", "open_publisher", "open_sync_publisher"]

_FOUND_IN = {
    "InvalidEvent": "runfold.log.checking",
    "Publisher": "runfold.log.publisher",
    "SyncPublisher": "runfold.log.sync_publisher",
    "open_publisher": "runfold.publishing",
    "open_sync_publisher": "runfold.publishing",
}


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_FOUND_IN[name]), name)
