"""What a rebuild came to, gathered and shown: digests side by side, and how many rows and how much usage differ."""

from __future__ import annotations

from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from runfold.cli.printing import print_json, print_line, print_table
from runfold.cli.text import counted
from runfold.fold.rules import FOLD_VERSION, Rules
from runfold.replay.comparison import Comparison, RowDifference, compare_run
from runfold.replay.rebuild import Building
from runfold.store.shadows import Shadows

_NOUNS = {"run": "run", "letter": "dead letter", "journal": "journal entry", "usage": "usage bucket"}
_SHOWN = 5


class Outcome(Struct, kw_only=True):
    """``comparison`` is None where the rebuild was cut, or the log begins too late to compare.

    ``run`` has the differences of the one run that was ordered, None where it was not one.
    ``fold`` maps what changed of the fold, its version or the hash of its settings, to [in the live store, now].
    """

    name: str
    scope: str
    positions: dict[int, int]
    records: int
    comparison: Comparison | None
    run: list[RowDifference] | None
    unverifiable: int
    fold: dict[str, tuple[Any, Any]]
    switched: bool = False

    @property
    def good(self) -> bool:
        """Whether all that was to be compared is the same."""
        return not self.unverifiable and self.identical is not False

    @property
    def identical(self) -> bool | None:
        """Whether what was compared is the same, None where nothing was."""
        if self.run is not None:
            return not self.run
        return None if self.comparison is None else self.comparison.identical

    @property
    def differing(self) -> str:
        """How much differs, in words."""
        tables = {} if self.comparison is None else self.comparison.tables
        counts = [counted(found.rows, _NOUNS[name]) for name, found in tables.items() if found.rows]
        return f"it differs from the live store in {', '.join(counts) or 'its positions'}"


async def build(building: Building, shadows: Shadows, rules: Rules) -> Outcome:
    """Fold all that was ordered, complete the store, and compare it where it can be compared."""
    await building.follow()
    await shadows.complete(building.name)
    comparison, run, unverifiable = None, None, 0
    if building.scope.run_id is not None:
        run = await compare_run(building.live, building.shadow.store, building.scope.run_id)
    elif building.lost:
        unverifiable = await building.unverifiable()
    elif not building.scope.cut:
        comparison = await building.compare()
    identity = await building.live.identity()
    changed = {
        "version": (identity.fold_version, FOLD_VERSION),
        "settings": (identity.settings_hash, rules.settings_hash),
    }
    return Outcome(
        name=building.name,
        scope=building.scope.words,
        positions=building.shadow.positions,
        records=building.shadow.done,
        comparison=comparison,
        run=run,
        unverifiable=unverifiable,
        fold={name: (live, now) for name, (live, now) in changed.items() if live not in (None, now)},
    )


def show_outcome(outcome: Outcome, *, json: bool) -> None:
    """All of it as one JSON object, or what people want to know of it."""
    if json:
        print_json({"identical": outcome.identical, **asdict(outcome)})
        return
    for name, (live, now) in outcome.fold.items():
        print_line(f"the fold has changed: {name} {live} in the live store, {now} here")
    if outcome.comparison is not None:
        _show_digests(outcome.comparison)
        _show_differences(outcome.comparison)
    if outcome.unverifiable:
        print_line(f"{counted(outcome.unverifiable, 'run')} unverifiable: the log no longer has their first records")
    for difference in outcome.run or ():
        print_line(_example(difference))
    state = {None: "not compared", True: "identical", False: "different"}[outcome.identical]
    print_line(f"{outcome.name}: {state}; {counted(outcome.records, 'record')} folded")


def _show_digests(found: Comparison) -> None:
    rows = [
        (f"partition {which}", str(at), found.live.partitions.get(which), found.rebuilt.partitions.get(which))
        for which, at in sorted(found.positions.items())
    ]
    rows.append(("usage", "", found.live.usage, found.rebuilt.usage))
    print_table(
        ("what", "position", "live", "rebuilt"),
        [(*row[:3], "the same" if row[2] == row[3] else row[3]) for row in rows],
    )


def _show_differences(found: Comparison) -> None:
    for table, counts in found.tables.items():
        if not counts.rows:
            continue
        fields = ", ".join(f"{name} {number:,}" for name, number in counts.fields.most_common())
        print_line(
            f"{counted(counts.rows, _NOUNS[table])} differ: {counts.changed:,} changed, {counts.only_live:,} in the live store "
            f"alone, {counts.only_rebuilt:,} in the rebuilt one alone{f'; by field: {fields}' if fields else ''}"
        )
        for example in [each for each in found.examples if each.table == table][:_SHOWN]:
            print_line(f"  {_example(example)}")
    if found.usage:
        print_line(f"usage moves by {', '.join(f'{name} {number:+,}' for name, number in found.usage.items())}")


def _example(row: RowDifference) -> str:
    where = "" if row.partition is None else f" in partition {row.partition}"
    if row.only is not None:
        return f"{row.key}{where}: in the {'live store' if row.only == 'live' else 'rebuilt one'} alone"
    return f"{row.key}{where}: {'; '.join(f'{name} {live!r} -> {now!r}' for name, (live, now) in row.fields.items())}"
