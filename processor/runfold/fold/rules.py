"""The fold's version and the settings it depends on. Change either and the same log can give another store.

``FOLD_VERSION`` goes up with every change of the fold that can give another store from the same log; versions that write
the same rows for the same log are declared in ``COMPATIBLE``. Stores remember both, and the hash of the settings.
"""

from __future__ import annotations

from hashlib import blake2b

from msgspec import Struct, msgpack, structs

FOLD_VERSION = 1
COMPATIBLE = (1,)
MOST_EVENTS = 50_000


class Rules(Struct, frozen=True, kw_only=True):
    """Settings of the fold. The three keys say under which metadata keys publishers name project, user and API key."""

    project_key: str = "project_id"
    user_key: str = "user_id"
    api_key_key: str = "api_key_id"
    largest_value: int = 1_000_000
    most_events: int = 10_000
    most_corrections: int = 100
    alarm_events: int = 1_000

    def __post_init__(self) -> None:
        """Raise ValueError for limits that a run's row has no room for: a source has two bytes in the timeline."""
        if not 0 < self.most_events + self.most_corrections <= MOST_EVENTS or self.most_corrections < 0:
            raise ValueError(f"most_events and most_corrections: from 1 to {MOST_EVENTS:,} together")

    @property
    def settings_hash(self) -> str:
        """What a store remembers of these settings, as 16 hexadecimal digits."""
        return blake2b(msgpack.encode(structs.asdict(self), order="sorted"), digest_size=8).hexdigest()


DEFAULT_RULES = Rules()
