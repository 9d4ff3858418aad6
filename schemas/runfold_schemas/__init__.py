"""The language of runfold, which other teams read: events, the Run that people read, and the codec between them and bytes.

Imports msgspec alone. What is named here is public and changes by addition only.
"""

from __future__ import annotations

from runfold_schemas.codec import Codec, Malformed, Unknown, decode, encode, encode_json
from runfold_schemas.events import (
    EVENT_TYPES,
    AnyEvent,
    Event,
    JsonObject,
    RunCancelled,
    RunCancelling,
    RunCompleted,
    RunCreated,
    RunEnded,
    RunExpired,
    RunFailed,
    RunIncomplete,
    RunInProgress,
    RunModified,
    RunQueued,
    RunRequiresAction,
    RunUsageCorrected,
    TokenDetails,
    Usage,
)
from runfold_schemas.run import Run, RunStatus
from runfold_schemas.upcast import BrokenChain, Upcaster

__all__ = [
    "EVENT_TYPES",
    "AnyEvent",
    "BrokenChain",
    "Codec",
    "Event",
    "JsonObject",
    "Malformed",
    "Run",
    "RunCancelled",
    "RunCancelling",
    "RunCompleted",
    "RunCreated",
    "RunEnded",
    "RunExpired",
    "RunFailed",
    "RunInProgress",
    "RunIncomplete",
    "RunModified",
    "RunQueued",
    "RunRequiresAction",
    "RunStatus",
    "RunUsageCorrected",
    "TokenDetails",
    "Unknown",
    "Upcaster",
    "Usage",
    "decode",
    "encode",
    "encode_json",
]
