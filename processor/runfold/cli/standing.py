"""The stores that rebuilds have left: shown, and thrown away."""

from __future__ import annotations

from contextlib import suppress

from runfold import wiring
from runfold.cli.asking import confirmed
from runfold.cli.exits import DONE
from runfold.cli.printing import print_json, print_table, tell
from runfold.config import Settings
from runfold.replay.order import decode_scope
from runfold.store.port import StoreError, StoreRefused
from runfold.store.shadows import LIVE, Shadows


async def show_standing(settings: Settings, *, json: bool) -> int:
    """Each store: its name, what it is, how far it is behind the live one, and its size."""
    shadows = wiring.open_shadows(settings)
    found = [(each, await _positions(shadows, each.name)) for each in await shadows.standing()]
    live = next(positions for each, positions in found if each.role == LIVE) or {}
    rows = [
        {
            "name": each.name,
            "role": each.role,
            "scope": None if each.scope is None else decode_scope(each.scope).words or "all",
            "positions": positions,
            "behind": None if positions is None else sum(at - positions.get(which, at) for which, at in live.items()),
            "bytes": each.size,
        }
        for each, positions in found
    ]
    if json:
        print_json(*rows)
    else:
        columns = ("name", "role", "scope", "behind", "bytes")
        print_table(columns, [[row[name] for name in columns] for row in rows])
    return DONE


async def drop_stores(settings: Settings, name: str, *, yes: bool) -> int:
    """Drop the store of that name, or all but the live one. Raises StoreRefused where there is none of that name."""
    shadows = wiring.open_shadows(settings)
    async with shadows.alone():
        standing = await shadows.standing()
        dropped = [each for each in standing if each.role != LIVE and name in ("all", each.name)]
        if not dropped and name != "all":
            live = name in [each.name for each in standing]
            raise StoreRefused(f"{name} {'is the live store' if live else 'is no store here'}: see rebuild --status")
        if dropped:
            confirmed(f"Drop {', '.join(f'{each.name} ({each.role})' for each in dropped)} for good?", yes=yes)
        for each in dropped:
            await shadows.drop(each.name)
            tell(f"{each.name} dropped")
    return DONE


async def _positions(shadows: Shadows, name: str) -> dict[int, int] | None:
    """Where a store stands; None where it cannot be read, such as one that was not made to its end."""
    store = shadows.opened(name)
    with suppress(StoreError):
        await store.open(write=False)
        try:
            return {each.partition: each.position for each in await store.partitions()}
        finally:
            await store.close()
    return None
