"""``runfold store``: the store itself: its schema, its soundness, its content as lines and as a digest."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

from cyclopts import App, Parameter

from runfold import wiring
from runfold.cli.exits import DONE, NO
from runfold.cli.opening import reading_store
from runfold.cli.options import HERE, AsOneObject, Places
from runfold.cli.printing import print_json, print_line, print_table
from runfold.cli.store_check import Check
from runfold.cli.store_check import check as checked
from runfold.cli.text import counted
from runfold.config import Settings, without_password
from runfold.store.digest import StoreDigest
from runfold.store.digest import digest as digest_of
from runfold.store.digest import dump as dump_of
from runfold.store.port import StoreIdentity

app = App(name="store", help="Migrate, check, dump and digest the store.", default_parameter=Parameter(negative=()))


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
