"""SQLite and PostgreSQL agree with the store in plain dictionaries, whatever is asked of both and in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from runfold.fold.changes import Changes, JournalEntry, Letter, PositionChange, RunChange
from runfold.fold.usage import SUMS, BucketKey, Dimensions
from runfold.store.difference import first_difference, first_usage_difference
from runfold.store.digest import digest, dump
from runfold.store.memory import MemoryStore
from runfold.store.port import DoorChange, Lease, RunFilter, StalePosition
from runfold.store.postgres import PostgresStore
from runfold.store.sqlite import SqliteStore

PARTITIONS = (0, 1)
names = st.sampled_from([f"run_{n}" for n in range(12)])
dimensions = st.builds(Dimensions, st.sampled_from(["", "gpt"]), st.sampled_from(["", "asst"]))
numbers = st.lists(st.integers(-3, 3), min_size=len(SUMS), max_size=len(SUMS))
buckets = st.builds(BucketKey, st.integers(0, 2), dimensions, st.integers(4, 8))


@st.composite
def rows(draw: st.DrawFn, partition: int, run_ids: st.SearchStrategy[str] = names, most: int = 8) -> list[RunChange]:
    return [
        RunChange(
            partition,
            run_id,
            0,
            draw(st.sampled_from(["thread_a", "thread_b", ""])),
            draw(st.integers(0, 8)),
            draw(st.integers(0, 3)),
            draw(st.integers(0, 3)),
            draw(dimensions),
            draw(st.none() | st.integers(0, 2)),
            None,
            draw(st.binary(max_size=4)),
        )
        for run_id in draw(st.lists(run_ids, unique=True, max_size=most))
    ]


@st.composite
def events(draw: st.DrawFn, partition: int, *, begin: int, run_ids: st.SearchStrategy[str] = names) -> dict[str, Any]:
    offsets = st.integers(begin, begin + 3)
    letters = [
        Letter(partition=partition, offset=offset, timestamp=1, reason="r", detail="d", run_id=draw(run_ids))
        for offset in draw(st.sets(offsets, max_size=2))
    ]
    entry = st.builds(tuple, numbers)
    journal = [
        JournalEntry(
            partition=partition, offset=offset, run_id=draw(run_ids), timestamp=1, bucket=draw(buckets), sums=sums
        )
        for offset, sums in draw(st.lists(st.tuples(offsets, entry), max_size=2))
    ]
    return {"letters": letters, "journal": journal, "usage": draw(st.dictionaries(buckets, numbers, max_size=3))}


class Stores(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.stores: tuple[Any, Any] = (MemoryStore(), self.rival())
        self.leases: list[dict[int, Lease]] = [{}, {}]
        self.end = dict.fromkeys(PARTITIONS, 0)

    def rival(self) -> Any:
        return SqliteStore(Path(self.folder.name, "store.db"), young=4)

    def both(self, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        answers = [self.attempt(ask(store)) for store in self.stores]
        assert answers[0] == answers[1]
        return answers[0]

    def attempt(self, asked: Awaitable[Any]) -> Any:
        async def answer() -> Any:
            try:
                return await asked
            except StalePosition:
                return StalePosition

        return self.runner.run(answer())

    def placed(self, store: Any, run: RunChange) -> RunChange:
        found = self.attempt(store.load(run.partition, [run.run_id])).get(run.run_id)
        return run._replace(handle=found.handle if found else 0)

    @initialize()
    def open(self) -> None:
        self.both(lambda store: store.open())
        fold = {"fold_version": 1, "compatible": (), "settings_hash": "s"}
        self.both(lambda store: store.bind(cluster_id="c", topic="t", partitions=2, **fold))
        self.claim("me", 60)

    @rule(owner=st.sampled_from(["me", "you"]), lease=st.sampled_from([-1, 60]))
    def claim(self, owner: str, lease: int) -> None:
        begins = dict.fromkeys(PARTITIONS, 0)
        claimed = self.both(lambda store: store.claim(owner, begins, lease=lease))
        if owner == "me":
            for leases in self.leases:
                leases.update(claimed)

    @rule(owner=st.sampled_from(["me", "you"]), lease=st.sampled_from([-1, 60]))
    def renew(self, owner: str, lease: int) -> None:
        self.both(lambda store: store.renew(owner, self.leases[0], lease=lease))

    @rule(owner=st.sampled_from(["me", "you"]))
    def release(self, owner: str) -> None:
        self.both(lambda store: store.release(owner, self.leases[0]))

    @rule(data=st.data(), partitions=st.sets(st.sampled_from(PARTITIONS)), slip=st.sampled_from([0, 0, 0, 1]))
    def apply(self, data: st.DataObject, partitions: set[int], slip: int) -> None:
        batch = Changes()
        for partition in partitions:
            begin = self.end[partition]
            drawn = data.draw(events(partition, begin=begin))
            batch.runs += data.draw(rows(partition))
            batch.letters += drawn["letters"]
            batch.journal += drawn["journal"]
            batch.usage |= drawn["usage"]
            batch.tally[partition] = {"applied": 4}
            batch.positions[partition] = PositionChange(begin + slip, begin + 4, begin + 3, b"h")
        answers = []
        for store, leases in zip(self.stores, self.leases, strict=True):
            batch.runs = [self.placed(store, run) for run in batch.runs]
            answer = self.attempt(store.apply(batch, leases))
            answers.append(answer if answer is StalePosition else set(answer))
        assert answers[0] == answers[1]
        if answers[0] is not StalePosition:
            self.end |= {partition: self.end[partition] + 4 for partition in partitions}

    @rule(
        data=st.data(), partition=st.sampled_from(PARTITIONS), run_id=names, honest=st.sampled_from([True, True, False])
    )
    def door(self, data: st.DataObject, partition: int, run_id: str, honest: bool) -> None:
        row = self.both(lambda store: _body(store, partition, run_id))
        letters = self.both(lambda store: store.letters(run_id=run_id))
        only = st.just(run_id)
        # Its letters can only stand where letters of this run stood: elsewhere another record's may.
        before = [letter.offset for letter in letters if letter.partition == partition]
        change = DoorChange(
            partition=partition,
            run_id=run_id,
            before=row if honest else b"something else",
            before_letters=before,
            changes=Changes(
                runs=data.draw(rows(partition, only, 1)),
                letters=[letter for letter in letters if letter.partition == partition and data.draw(st.booleans())],
                usage=data.draw(st.dictionaries(buckets, numbers, max_size=2)),
            ),
        )
        self.both(lambda store: store.write_through_door(change))

    @rule()
    def reopen(self) -> None:
        self.both(lambda store: store.close())
        self.both(lambda store: store.open())

    @rule(
        wanted=st.builds(
            RunFilter,
            status=st.none() | st.integers(0, 8),
            thread_id=st.none() | st.sampled_from(["thread_a", ""]),
            model=st.none() | st.just("gpt"),
            incomplete=st.none() | st.booleans(),
            flagged=st.none() | st.booleans(),
            after=st.none() | st.tuples(st.integers(0, 3), names),
            limit=st.integers(1, 9),
        )
    )
    def ask(self, wanted: RunFilter) -> None:
        self.both(lambda store: _listed(store, wanted))
        self.both(lambda store: store.count_runs())
        self.both(lambda store: store.usage(begin=1))
        self.both(lambda store: store.letters(after=(0, 2)))
        self.both(lambda store: store.count_letters())

    @invariant()
    def same(self) -> None:
        self.runner.run(self.compare())

    async def compare(self) -> None:
        views = [await store.snapshot() for store in self.stores]
        dumps = [[line async for line in dump(view)] for view in views]
        assert dumps[0] == dumps[1]
        assert await digest(views[0]) == await digest(views[1])
        assert [await first_difference(*views, partition=partition) for partition in PARTITIONS] == [None, None]
        assert await first_usage_difference(*views) is None
        for view in views:
            await view.close()
        told = [[(s.position, s.epoch, s.owner, s.tally) for s in await store.partitions()] for store in self.stores]
        assert told[0] == told[1]

    def teardown(self) -> None:
        self.runner.run(self.stores[1].close())
        self.runner.close()
        self.folder.cleanup()


async def _body(store: Any, partition: int, run_id: str) -> bytes | None:
    found = (await store.load(partition, [run_id])).get(run_id)
    return found.body if found else None


async def _listed(store: Any, wanted: RunFilter) -> list[tuple[int, str, bytes]]:
    return [(row.partition, row.run_id, row.body) for row in await store.list_runs(wanted)]


class PostgresStores(Stores):
    database = ""

    def rival(self) -> Any:
        return PostgresStore(f"{self.database}?schema=agree_{uuid4().hex[:16]}")


Stores.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestStores = Stores.TestCase
TestStores.__doc__ = "Any sequence of claims, batches, refolds and reads gives the same answers and the same dump."


def test_postgresql_agrees(postgres_database: str) -> None:
    """Any sequence of claims, batches, refolds and reads gives PostgreSQL's answers and dump as it gives the model's."""
    PostgresStores.database = postgres_database
    run_state_machine_as_test(PostgresStores, settings=settings(max_examples=10, stateful_step_count=20, deadline=None))
