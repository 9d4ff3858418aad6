"""``runfold replay restore``: an archive written out as a new log."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

from cyclopts import Parameter

from runfold import wiring
from runfold.cli.exits import DONE
from runfold.cli.opening import reading_archive
from runfold.cli.options import HERE, AsOneObject, Places
from runfold.cli.pace import pace
from runfold.cli.printing import print_json, print_line, print_table
from runfold.cli.text import counted
from runfold.config import Settings, load_settings
from runfold.log.port import Range
from runfold.replay import restoring
from runfold.replay.restoring import Restored


def restore(
    new_log: Annotated[str, Parameter(help="URL of the log to make: kafka://HOST:9092/TOPIC or sqlite:///FILE.")],
    /,
    *,
    resume: Annotated[bool, Parameter(help="Go on with a restore that was interrupted.")] = False,
    json: AsOneObject = False,
    places: Places = HERE,
) -> int:
    """Write the archive of RUNFOLD_ARCHIVE to a new log, which has to be empty or not there yet.

    Records keep their partition, order, content and timestamps. A SQLite log keeps their offsets too; in Kafka each
    partition counts from 0. It is a log of its own: its store is built anew.
    """
    settings = places.settings()
    target = load_settings({"data": places.data, "log": new_log, "store": places.store, "archive": places.archive})
    restored = asyncio.run(_restore(settings, target, resume=resume, json=json))
    if json:
        print_json(restored)
    else:
        _print_restored(new_log, restored)
    return DONE


async def _restore(settings: Settings, target: Settings, *, resume: bool, json: bool) -> Restored:
    with pace("restoring", json=json) as told:
        async with reading_archive(settings) as archive:
            return await restoring.restore(
                archive,
                wiring.open_restorer(target),
                partial(wiring.open_source, target),
                resume=resume,
                progress=told,
            )


def _print_restored(new_log: str, restored: Restored) -> None:
    print_table(
        ("partition", "records", "found there", "archived offsets", "new offsets"),
        [
            (each.partition, each.records, each.found, _stretch(each.archived), _stretch(each.restored))
            for each in restored.partitions
        ],
    )
    print_line("")
    for remark in restored.remarks:
        print_line(remark)
    if restored.earlier:
        print_line(
            f"{counted(restored.earlier, 'record')} stamped earlier than one before: what is asked by time is approximate there"
        )
    kept = all(each.archived == each.restored for each in restored.partitions)
    print_line("offsets are as they were" if kept else "each partition counts its records anew, as the table shows")
    total = sum(each.records for each in restored.partitions)
    print_line(f"{counted(total, 'record')} restored; {new_log} is a log of its own: build a new store from it")


def _stretch(held: Range) -> str | None:
    return f"{held.begin} to {held.end - 1}" if held.begin < held.end else None
