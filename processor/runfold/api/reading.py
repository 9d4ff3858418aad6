"""The port through which routes read the store: every question names the caller, whose project goes into the query.

A route that asks the store past this port could forget that; none does.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from runfold.api.auth import Caller
from runfold.fold.state import RunState, decode_state
from runfold.store.port import RunFilter, Store
from runfold.store.split import chosen

Place = tuple[int, str]
"""Where a run stands in lists: (created_at, run_id)."""


class RunRow(Struct, frozen=True):
    """A run's row, read: what :func:`runfold.store.split.chosen` chooses by, and the state."""

    partition: int
    run_id: str
    flags: int
    state: RunState


class Page(Struct, frozen=True, kw_only=True):
    """A part of a list, and whether there is more of it."""

    states: list[RunState]
    has_more: bool


class Reading:
    """Questions to an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, caller: Caller, run_id: str) -> RunState | None:
        """The run as it stands; None where there is none, or none of the caller's project."""
        rows = await self._store.find_run(run_id, project_id=caller.project_id)
        if len(rows) == 1:
            return decode_state(rows[0].body)
        read = [(row.partition, decode_state(row.body)) for row in rows]
        of_run = chosen(RunRow(partition, state.run_id, state.flags, state) for partition, state in read)
        return of_run[run_id].state if of_run else None

    async def runs(self, caller: Caller, wanted: RunFilter) -> Page:
        """Runs in the filter's order, as many as it says."""
        if caller.project_id is not None:
            if wanted.project_id not in (None, caller.project_id):
                return Page(states=[], has_more=False)
            wanted = replace(wanted, project_id=caller.project_id)
        one_more = replace(wanted, limit=wanted.limit + 1)
        rows = await self._store.list_runs(one_more)
        return Page(states=[decode_state(row.body) for row in rows[: wanted.limit]], has_more=len(rows) > wanted.limit)


def place_of(state: RunState) -> Place:
    """Where a run stands in lists."""
    return state.created_at, state.run_id
