"""``runfold dead-letters retry``: planning, showing, asking, and folding runs again from the log.

A plan is made for each run to be shown, and made anew when it is carried out: a living service may have gone on meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from runfold.cli.asking import confirmed
from runfold.cli.exits import DONE, NO
from runfold.cli.opening import reading_log, reading_store, writing_store
from runfold.cli.printing import print_json, print_line, tell
from runfold.cli.status_report import standing_letters
from runfold.config import Settings
from runfold.fold.changes import Letter
from runfold.fold.outcome import SET_ASIDE
from runfold.fold.rules import Rules
from runfold.fold.usage import SUMS, BucketKey
from runfold.replay.refold import Place, RetryPart, RetryPlan, outdated, plan_retry, run_to_retry
from runfold.replay.refold import retry as refolded
from runfold.replay.run_range import RefoldRefused
from runfold.store.port import Store


async def runs_of(store: Store, named: Sequence[Letter | str], *, rules: Rules) -> list[str]:
    """The runs that are named, by themselves or by one of their letters.

    Where nothing is named: those of all letters that today's code reads, or rejects in other words. Letters of no run stay.
    """
    if named:
        return list(dict.fromkeys(run_to_retry(item) if isinstance(item, Letter) else item for item in named))
    told = outdated(await standing_letters(store), rules=rules)
    return list(dict.fromkeys(letter.run_id for letter in told if letter.run_id is not None))


def set_aside_among(named: Iterable[Letter | str]) -> set[Place]:
    """The places among those named that were set aside: whoever names one wants it folded after all."""
    return {(item.partition, item.offset) for item in named if isinstance(item, Letter) and item.reason == SET_ASIDE}


async def retry_runs(
    settings: Settings, run_ids: Sequence[str], *, lift: Collection[Place], yes: bool, json: bool
) -> int:
    """Show what folding these runs again would change, ask, and do it. Returns the exit code.

    ``lift`` are places that were set aside, and are folded with the rest.
    """
    changing, refused = await _planned(settings, run_ids, lift=lift, json=json)
    if not changing:
        tell("nothing to do: folding again changes nothing" if not refused else "nothing was done")
        return NO if refused else DONE
    confirmed(f"Fold {len(changing):,} again?", yes=yes)
    async with reading_log(settings) as source, writing_store(settings) as store:
        for run_id in changing:
            await refolded(source, store, settings.rules, run_id, lift=lift)
    tell(f"{len(changing):,} folded again")
    return NO if refused else DONE


async def _planned(
    settings: Settings, run_ids: Sequence[str], *, lift: Collection[Place], json: bool
) -> tuple[list[str], int]:
    """Show the plan for each run; returns the runs that it changes, and how many cannot be folded again."""
    changing, refused = [], 0
    async with reading_log(settings) as source, reading_store(settings) as store:
        for run_id in run_ids:
            try:
                plan = await plan_retry(source, store, settings.rules, run_id=run_id, lift=lift)
            except RefoldRefused as error:
                if len(run_ids) == 1:
                    raise
                tell(f"{run_id!r}: {error}")
                refused += 1
                continue
            _show(plan, json=json)
            if not plan.changes_nothing:
                changing.append(run_id)
    return changing, refused


def _show(plan: RetryPlan, *, json: bool) -> None:
    for part in plan.parts:
        if json:
            print_json(_as_dict(plan.run_id, part))
            continue
        print_line(f"{plan.run_id}, partition {part.partition}:{' nothing changes' if part.changes_nothing else ''}")
        if not part.changes_nothing:
            for line in _changes(part):
                print_line(f"  {line}")


def _changes(part: RetryPart) -> list[str]:
    before, after = part.before or {}, part.after or {}
    lines = [
        f"{name}: {before.get(name, '-')} -> {after.get(name, '-')}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    ]
    lines.append(f"dead letters: {_reasons(part.letters_before)} -> {_reasons(part.letters_after)}")
    for sums in part.usage.values():
        moved = {name: number for name, number in zip(SUMS, sums, strict=True) if number}
        lines.append(f"usage: {', '.join(f'{name} {number:+,}' for name, number in moved.items())}")
    return lines


def _reasons(letters: Sequence[Letter]) -> str:
    return ", ".join(f"{letter.offset} {letter.reason}" for letter in letters) or "none"


def _as_dict(run_id: str, part: RetryPart) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "partition": part.partition,
        "changes_nothing": part.changes_nothing,
        "before": part.before,
        "after": part.after,
        "letters_before": [_letter(letter) for letter in part.letters_before],
        "letters_after": [_letter(letter) for letter in part.letters_after],
        "usage": usage_moves(part.usage),
    }


def _letter(letter: Letter) -> dict[str, Any]:
    return {"offset": letter.offset, "reason": letter.reason, "detail": letter.detail}


def usage_moves(moved: Mapping[BucketKey, Sequence[int]]) -> list[dict[str, Any]]:
    """What is added to usage: each bucket by the names of its parts, ``minute`` in Unix minutes, and its sums by name."""
    return [
        {
            "minute": bucket.minute,
            **bucket.dimensions._asdict(),
            "status": bucket.status,
            **dict(zip(SUMS, sums, strict=True)),
        }
        for bucket, sums in moved.items()
    ]
