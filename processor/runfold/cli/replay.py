"""``runfold replay``: what happened to a run, and whether the store is what the log says. Read-only on the log."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter, Token

from runfold.cli import as_of
from runfold.cli.archive import archive
from runfold.cli.exits import DONE, NO, NoError, WrongUseError
from runfold.cli.opening import reading_store, reading_whole_log
from runfold.cli.options import HERE, AsJson, AsOneObject, Places
from runfold.cli.pace import pace
from runfold.cli.printing import print_json, print_line, print_table, shown_time
from runfold.cli.rebuild import rebuild
from runfold.cli.restore import restore
from runfold.cli.retrying import usage_moves
from runfold.cli.text import counted
from runfold.cli.workspace import Workspace, workspace_of
from runfold.collector import LARGE_BATCHES, quieten_collector
from runfold.config import Settings
from runfold.fold.usage import SUMS
from runfold.replay import history as replay_history
from runfold.replay import verify as replay_verify
from runfold.replay.history import Change, HistoryEntry
from runfold.replay.partial import begins_of, named
from runfold.replay.partial import sample as sampled
from runfold.replay.verify import Part, Verification
from runfold.store.port import Store

app = App(
    name="replay",
    help="A run's history, how things stood, the proof that the store is right, building it anew, the log kept for good.",
    default_parameter=Parameter(negative=()),
)
app.command(as_of.app)
app.command(rebuild)
app.command(archive)
app.command(restore)


def _share(_: Any, tokens: Sequence[Token]) -> float:
    text = tokens[0].value
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise ValueError(f"{text!r} is no share: such as 1% or 0.01 is wanted")
    return share


Share = Annotated[
    float | None, Parameter(converter=_share, n_tokens=1, help="Only about this share of all runs, such as 1%.")
]

_LONGEST_VALUE = 60
_NOTHING: tuple[Any, ...] = (None, "", [], {})
_SAID_ANYWAY = frozenset(("id", "object"))


@app.command
def history(
    run_id: str,
    /,
    *,
    follow: Annotated[
        bool, Parameter(help="Stay, and show what is published from now on; also of a run yet to come.")
    ] = False,
    json: AsJson = False,
    places: Places = HERE,
) -> int:
    """Every record of a run: what became of it, and what it changed. Exit code 1 where there is no such run.

    It is folded again from the log, from the run's own range alone, with today's code.
    """
    if follow:
        asyncio.run(_follow(places.settings(), run_id, json=json))
    entries = asyncio.run(_history(places.settings(), run_id))
    if not entries:
        raise NoError(f"the store knows nothing of a run {run_id!r}")
    if json:
        print_json(*map(_as_dict, entries))
    else:
        print_table(
            ("place", "published (UTC)", "event", "at (UTC)", "source", "no", "outcome", "what changed"),
            map(_row, entries),
        )
    return DONE


@app.command
def verify(
    *,
    sample: Share = None,
    runs: Annotated[tuple[str, ...], Parameter(consume_multiple=True, help="Only these runs.")] = (),
    workspace: Workspace = None,
    json: AsOneObject = False,
    places: Places = HERE,
) -> int:
    """Fold the log again up to the store's own positions, and compare; also beside a running serve.

    The exit code is 1 where they differ, and the first run and field that do are named. Nothing is written but the
    workspace, where nothing is left. With --sample or --runs the log is read as before, and little of it folded: a cheap
    check for every night, of runs, their letters and their differences, and not of usage.
    """
    settings = places.settings()
    folder = workspace_of(settings, workspace)
    if sample is not None and runs:
        raise WrongUseError("--sample and --runs are two choices: make one")
    quieten_collector(LARGE_BATCHES)
    found = asyncio.run(_verify(settings, folder, sample=sample, runs=runs, json=json))
    if json:
        print_json(_verification(found))
    else:
        _print_verification(found)
    return DONE if found.identical else NO


async def _history(settings: Settings, run_id: str) -> list[HistoryEntry]:
    async with reading_whole_log(settings) as source, reading_store(settings) as store:
        return await replay_history.history(source, store, settings.rules, run_id)


async def _follow(settings: Settings, run_id: str, *, json: bool) -> None:
    async with reading_whole_log(settings) as source, reading_store(settings) as store:
        async for entry in replay_history.follow(source, store, settings.rules, run_id):
            if json:
                print_json(_as_dict(entry))
            else:
                _print_entry(entry)
            sys.stdout.flush()


def _print_entry(entry: HistoryEntry) -> None:
    """An entry by itself: where it stands, what it is, and beneath it what it changed."""
    *told, changed = _row(entry)
    print_line("  ".join(str(part) for part in told if part is not None))
    for line in changed if isinstance(changed, list) else ():
        print_line(f"    {line}")


async def _part(store: Store, *, sample: float | None, runs: tuple[str, ...]) -> Part | None:
    if runs:
        return Part(chosen=named(runs), begins=await begins_of(store, runs))
    return None if sample is None else Part(chosen=sampled(sample, seed=secrets.randbits(63)))  # others each night


async def _verify(
    settings: Settings, folder: Path, *, sample: float | None, runs: tuple[str, ...], json: bool
) -> Verification:
    with pace("verifying", json=json) as told:
        async with reading_whole_log(settings) as source, reading_store(settings) as store:
            return await replay_verify.verify(
                source,
                store,
                settings.rules,
                workspace=folder,
                part=await _part(store, sample=sample, runs=runs),
                progress=told,
                compiled=settings.compiled == "yes",
            )


def _row(entry: HistoryEntry) -> tuple[object, ...]:
    changed = [_told(name, change) for name, change in entry.changed.items() if name not in _SAID_ANYWAY]
    for move in entry.usage:
        told = ", ".join(f"{name} {number:+,}" for name, number in zip(SUMS, move.sums, strict=True) if number)
        changed.append(f"usage: {told}")
    if entry.outcome != "applied":
        changed.insert(0, entry.explanation)
    return (
        f"{entry.partition}:{entry.offset}",
        shown_time(entry.timestamp if entry.timestamp >= 0 else None),
        None if entry.type is None else entry.type.removeprefix("thread.run."),
        shown_time(entry.occurred_at),
        entry.source,
        entry.sequence,
        entry.outcome if entry.reason is None else f"{entry.outcome}: {entry.reason}",
        changed,
    )


def _told(name: str, change: Change) -> str:
    after = _short(change.after)
    return f"{name}: {after}" if change.before in _NOTHING else f"{name}: {_short(change.before)} -> {after}"


def _short(value: Any) -> str:
    if value in _NOTHING:
        return "-"
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _as_dict(entry: HistoryEntry) -> dict[str, Any]:
    told = {name: getattr(entry, name) for name in entry.__struct_fields__}
    return {**told, "usage": usage_moves({move.bucket: move.sums for move in entry.usage})}


def _verification(found: Verification) -> dict[str, Any]:
    return {"identical": found.identical, **{name: getattr(found, name) for name in found.__struct_fields__}}


def _print_verification(found: Verification) -> None:
    _print_digests(found)
    print_line("")
    for finding in found.findings:
        where = "usage" if finding.partition is None else f"partition {finding.partition}"
        field = "" if finding.field is None else f", {finding.field}"
        print_line(f"{where}: {finding.table} {finding.key}{field}: {_sides(finding.stored, finding.recomputed)}")
    _print_left_out(found)
    verdict = "identical" if found.identical else "different"
    if found.runs is None:
        print_line(f"{verdict}: {counted(found.records, 'record')} folded again")
    else:
        print_line(
            f"{verdict}: {counted(found.runs, 'run')} of {counted(found.records, 'record')} read; usage not compared"
        )
    sys.stdout.flush()


def _print_digests(found: Verification) -> None:
    partitions = sorted(found.stored.partitions.keys() | found.recomputed.partitions.keys())
    rows = [
        (
            f"partition {which}",
            str(found.positions.get(which, "-")),
            found.stored.partitions.get(which),
            found.recomputed.partitions.get(which),
        )
        for which in partitions
    ]
    if found.runs is None:
        rows.append(("usage", "", found.stored.usage, found.recomputed.usage))
    print_table(
        ("what", "position", "in the store", "from the log"),
        [(*line[:3], "the same" if line[2] == line[3] else line[3]) for line in rows],
    )


def _print_left_out(found: Verification) -> None:
    """What was not compared, and why."""
    if found.superseded:
        runs = ", ".join(run_id for _, run_id in found.superseded[:5])
        print_line(
            f"{len(found.superseded):,} superseded: today's code could read letters of {runs}; see dead-letters retry"
        )
    if found.superseded_letters:
        print_line(
            f"{found.superseded_letters:,} letters of no run superseded: a store built anew shows them as today's code does"
        )
    if found.unverifiable:
        print_line(f"{found.unverifiable:,} unverifiable: the log no longer has the first records of these runs")


def _sides(stored: object, recomputed: object) -> str:
    if recomputed is None:
        return "the store has it, the log does not say so"
    if stored is None:
        return "the store lacks it"
    return f"the store has {_short(stored)}, the log says {_short(recomputed)}"
