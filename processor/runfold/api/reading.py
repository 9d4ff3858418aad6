"""The port through which routes read the store: every question names the caller, whose project goes into the query.

A route that asks the store past this port could forget that; none does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from runfold.api.auth import Caller
from runfold.api.errors import Forbidden
from runfold.fold.changes import Letter
from runfold.fold.state import RunState, ShownState, decode_shown, decode_state
from runfold.store.port import RunFilter, Store
from runfold.store.split import chosen
from runfold_schemas.run import RunStatus

S = TypeVar("S", bound=ShownState)

Place = tuple[int, str]
"""Where a run stands in lists: (created_at, run_id)."""


class RunRow(Struct, frozen=True):
    """A run's row, read: what :func:`runfold.store.split.chosen` chooses by, and the state."""

    partition: int
    run_id: str
    flags: int
    state: RunState


class Page(Struct, Generic[S], frozen=True, kw_only=True):
    """A part of a list. ``next`` is the place to go on behind, None where there is no more of it."""

    states: list[S]
    next: Place | None

    @property
    def has_more(self) -> bool:
        return self.next is not None


BROWSING_SECONDS: Final = 0.1
"""So long a page may look for runs that no index finds."""

OPEN: Final = tuple(status for status in RunStatus if not status.ended)


class Reading:
    """Questions to an open store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self, caller: Caller, run_id: str) -> ShownState | None:
        """The run as it stands; None where there is none, or none of the caller's project."""
        rows = await self._store.find_run(run_id, project_id=caller.project_id)
        if len(rows) == 1:
            return decode_shown(rows[0].body)
        read = [(row.partition, decode_state(row.body)) for row in rows]
        of_run = chosen(RunRow(partition, state.run_id, state.flags, state) for partition, state in read)
        return of_run[run_id].state if of_run else None

    async def runs(self, caller: Caller, wanted: RunFilter, *, read: Callable[[bytes], S]) -> Page[S]:
        """Runs in the filter's order, as many as it says; fewer where looking for them takes too long.

        ``read`` is how much of each state is wanted: decode_state, or decode_shown.
        """
        if caller.project_id is not None:
            if wanted.project_id not in (None, caller.project_id):
                return Page(states=[], next=None)
            wanted = replace(wanted, project_id=caller.project_id)
        named = (wanted.model, wanted.assistant_id, wanted.project_id) != (None, None, None)
        if named and wanted.thread_id is None:
            found = await self._store.browse_runs(wanted, seconds=BROWSING_SECONDS)
            return Page(states=[read(row.body) for row in found.rows], next=found.next)
        rows = await self._store.list_runs(replace(wanted, limit=wanted.limit + 1))
        states = [read(row.body) for row in rows[: wanted.limit]]
        return Page(states=states, next=place_of(states[-1]) if len(rows) > wanted.limit else None)

    async def parts(self, caller: Caller, run_id: str) -> dict[int, RunState]:
        """The run's state in each partition that holds a part of it; more than one where producers split it."""
        rows = await self._store.find_run(run_id, project_id=caller.project_id)
        return {row.partition: decode_state(row.body) for row in rows}

    async def letters(
        self, caller: Caller, *, run_id: str | None, after: tuple[int, int] | None, limit: int
    ) -> list[Letter]:
        """Dead letters, in the log's order. A confined key has those of its project's runs, asked for by run.

        Raises Forbidden where a confined key names no run.
        """
        if caller.project_id is not None:
            if run_id is None:
                raise Forbidden(
                    "A key that is confined to a project sees the dead letters of its runs: name one with run_id.",
                    code="insufficient_permissions",
                )
            mine = await self.parts(caller, run_id)
            found = await self._store.letters(run_id=run_id, after=after, limit=limit) if mine else []
            return [letter for letter in found if letter.partition in mine]
        return await self._store.letters(run_id=run_id, after=after, limit=limit)

    async def letter(self, caller: Caller, place: tuple[int, int]) -> Letter | None:
        """The dead letter at a place of the log; None where there is none, or none of a run of the caller's project."""
        found = await self._store.letters(place=place, limit=1)
        if not found:
            return None
        if caller.project_id is not None:
            run_id = found[0].run_id
            mine = {} if run_id is None else await self.parts(caller, run_id)
            return found[0] if place[0] in mine else None
        return found[0]

    async def discarded(self) -> dict[tuple[int, int], str]:
        """Why people discarded letters, by place."""
        return {
            (note.partition, note.offset): note.reason for note in await self._store.notes() if note.kind == "discard"
        }


def place_of(state: ShownState) -> Place:
    """Where a run stands in lists."""
    return state.created_at, state.run_id
