"""Usage as it is, and as it was known at a time: the store keeps enough to tell both."""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace

from runfold.api.auth import Caller
from runfold.api.errors import BadRequest, Conflict
from runfold.api.log_access import LogAccess
from runfold.fold.rules import Rules
from runfold.replay.cut import cut_at_time
from runfold.replay.usage_as_of import Period, usage_known_to_store
from runfold.store.port import Store
from runfold.store.summing import summed
from runfold.store.usage_query import UsageQuery, UsageSum


class UsageReading:
    """Questions to an open store about usage; every one takes the caller, whose project goes into the query."""

    def __init__(self, store: Store, log: LogAccess, rules: Rules) -> None:
        self._store, self._log, self._rules = store, log, rules
        self._looking_back = asyncio.Semaphore(1)  # it walks over all runs: one at a time, whoever asks

    async def sums(self, caller: Caller, wanted: UsageQuery, *, known_at: int | None) -> list[UsageSum]:
        """Sums as known now, or at a time in Unix seconds: from the records that were published before it.

        Raises BadRequest for a time to come, Conflict where the store has not come as far as that time.
        """
        if len(wanted.edges) < 2:
            return []
        confined = _confined(wanted, caller)
        if known_at is None:
            return await self._store.sum_usage(confined)
        if known_at > time.time():
            raise BadRequest("'as_known_at' is in the future.", param="as_known_at", code="invalid_value")
        source = await self._log.source()
        async with self._looking_back:
            cut = await cut_at_time(source, known_at * 1000)
            period = Period(confined.edges[0], confined.edges[-1])
            known = await usage_known_to_store(source, self._store, self._rules, cut=cut, period=period)
        if known is None:
            raise Conflict("The store has not come as far as 'as_known_at' yet: try again.", code="not_as_things_stand")
        return summed(known.rows, confined)


def _confined(wanted: UsageQuery, caller: Caller) -> UsageQuery:
    project = caller.project_id
    if project is None:
        return wanted
    seen = project in wanted.only.get("project_id", (project,))
    return replace(wanted, only={**wanted.only, "project_id": (project,) if seen else ()})
