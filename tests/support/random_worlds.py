"""Random logs that were folded in random batches: what the properties of replay are tried on.

Every example has a log and a store in files of its own. With duplicates, disorder, second ends, corrections, wrong keys and
broken bytes.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from fold_histories import SMALL, random_log
from hypothesis import Phase, settings
from hypothesis import strategies as st
from replay_world import World, opened

from runfold.log.port import Message
from runfold.replay.run_range import every_letter
from runfold_schemas.codec import decode_lean

randoms = st.randoms(use_true_random=False)
# No shrinking: every example makes and folds files, and a thousand smaller ones would take minutes.
few = settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))


def messages(rng: Random) -> list[Message]:
    """A random log's records, in its order. Some are keyed by another run's id: such a run can lie on both partitions."""
    return [Message(record.key or b"", record.value or b"") for record in random_log(rng)]


async def with_world(rng: Random, claim, *, told: list[Message] | None = None, decode=decode_lean) -> None:
    """Publish a random log, fold it in random batches, and check a claim."""
    with TemporaryDirectory() as folder:
        async with opened(Path(folder), rules=SMALL) as world:
            left = messages(rng) if told is None else told
            while left:
                count = rng.randrange(1, 12)
                await world.publish(*left[:count])
                left = left[count:]
                if rng.random() < 0.4:
                    await world.serve(most=rng.randrange(1, 5), decode=decode)
            await world.serve(decode=decode)
            await claim(world)


async def all_run_ids(world: World) -> list[str]:
    """Every run of which the store has a row or a letter."""
    snapshot = await world.store.snapshot()
    try:
        rows = {str(row[0]) for _, row in snapshot.scan_runs()}
    finally:
        await snapshot.close()
    return sorted(rows | {letter.run_id async for letter in every_letter(world.store) if letter.run_id is not None})
