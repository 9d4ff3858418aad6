"""``runfold store``: the store itself: its schema, its soundness, its content as lines and as a digest."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from cyclopts import App, Parameter

from runfold import wiring
from runfold.cli.asking import confirmed
from runfold.cli.exits import DONE, NO, NoError
from runfold.cli.opening import reading_log, reading_store, writing_store
from runfold.cli.options import HERE, AsOneObject, Places, Yes
from runfold.cli.printing import print_json, print_line, print_table, tell
from runfold.cli.store_check import Check
from runfold.cli.store_check import check as checked
from runfold.cli.text import counted
from runfold.config import Settings, without_password
from runfold.fold.rules import COMPATIBLE
from runfold.log.clock import wall_clock
from runfold.replay.run_range import own_identity
from runfold.store.digest import StoreDigest
from runfold.store.digest import digest as digest_of
from runfold.store.digest import dump as dump_of
from runfold.store.growth import open_runs
from runfold.store.identity import check_owner
from runfold.store.port import Growth, PartitionsGrown, StoreIdentity

app = App(
    name="store",
    help="Migrate, check, dump and digest the store.",
    default_parameter=Parameter(negative=()),
)


Anyway = Annotated[bool, Parameter(name="--json", help="May be said: the lines are JSON anyway.")]


@app.command
def migrate(*, json: AsOneObject = False, places: Places = HERE) -> int:
    """Bring the store's tables to the version of this runfold, making the store where there is none."""
    settings = places.settings()
    identity = asyncio.run(_migrate(settings))
    if json:
        print_json(identity)
    else:
        print_line(f"{without_password(settings.store)}: schema version {identity.schema_version}")
    return DONE


@app.command(name="accept-growth")
def accept_growth(*, yes: Yes = False, json: AsOneObject = False, places: Places = HERE) -> int:
    """Expect the partitions that the log has now, after somebody added some; to be said once, before serve goes on.

    It first shows how many open runs may be split by that, and asks. The other way is to copy the log to a new topic.
    """
    settings = places.settings()
    growth = asyncio.run(_growth(settings))
    what = f"{growth.before} to {growth.partitions} partitions"
    tell(f"the log has grown from {what}; {growth.open_runs:,} open runs may be split over two partitions")
    confirmed("Accept that?", yes=yes)
    asyncio.run(_accept(settings, growth))
    if json:
        print_json(growth)
    else:
        print_line(f"accepted: {what}")
    return DONE


@app.command
def check(*, json: AsOneObject = False, places: Places = HERE) -> int:
    """Read all of the store and see that it agrees with itself. Exit code 1 where it does not.

    Every row has to be readable, to agree with its columns, and usage has to be the sum of the runs. That it agrees with
    the log as well is what `runfold replay verify` shows.
    """
    found = asyncio.run(_check(places.settings()))
    if json:
        print_json({"sound": found.sound, **{name: getattr(found, name) for name in found.__struct_fields__}})
    else:
        for problem in found.problems:
            print_line(problem)
        state = "sound" if found.sound else f"not sound: {counted(found.wrong, 'problem')}"
        read = ((found.runs, "run"), (found.letters, "dead letter"), (found.buckets, "usage bucket"))
        print_line(f"{state}; {', '.join(counted(number, noun) for number, noun in read)}")
    return DONE if found.sound else NO


@app.command
def dump(*, json: Anyway = False, places: Places = HERE) -> int:  # noqa: ARG001 - what all verbs take is no error here
    """Everything that the digest covers, as JSON Lines in one order: two right stores of one log give the same."""
    asyncio.run(_dump(places.settings()))
    return DONE


@app.command
def digest(*, json: AsOneObject = False, places: Places = HERE) -> int:
    """One number for each partition and one for usage: two right stores of one log have the same."""
    found = asyncio.run(_digest(places.settings()))
    if json:
        print_json(found)
    else:
        lines = [(f"partition {which}", value) for which, value in sorted(found.partitions.items())]
        print_table(("what", "digest"), [*lines, ("usage", found.usage)])
    return DONE


async def _migrate(settings: Settings) -> StoreIdentity:
    store = wiring.open_store(settings, make_folder=True)
    await store.open(write=True)
    try:
        return await store.identity()
    finally:
        await store.close()


async def _growth(settings: Settings) -> Growth:
    async with reading_store(settings) as store, reading_log(settings) as source:
        owner, kept = await own_identity(source, settings.rules), await store.identity()
        try:
            check_owner(kept, owner, compatible=COMPATIBLE)
        except PartitionsGrown:
            return Growth(
                before=kept.partitions or 0,
                partitions=owner.partitions or 0,
                open_runs=await open_runs(store),
                accepted_at=wall_clock(),
            )
        raise NoError(
            f"the log has the {owner.partitions} partitions that the store expects: there is nothing to accept"
        )


async def _accept(settings: Settings, growth: Growth) -> None:
    async with writing_store(settings) as store:
        await store.accept_growth(growth)


async def _check(settings: Settings) -> Check:
    async with reading_store(settings) as store:
        snapshot = await store.snapshot()
        try:
            return await checked(snapshot)
        finally:
            await snapshot.close()


async def _dump(settings: Settings) -> None:
    async with reading_store(settings) as store:
        snapshot = await store.snapshot()
        try:
            async for line in dump_of(snapshot):
                sys.stdout.buffer.write(line)
        finally:
            await snapshot.close()


async def _digest(settings: Settings) -> StoreDigest:
    async with reading_store(settings) as store:
        snapshot = await store.snapshot()
        try:
            return await digest_of(snapshot)
        finally:
            await snapshot.close()
