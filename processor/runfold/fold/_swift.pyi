from collections.abc import Sequence

from runfold.fold.changes import Changes
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold.fold.short_cut import Held, Left, Runs, Unsettled

class Swift:
    def __init__(self, partition: int, rules: Rules) -> None: ...
    def by_run(self, records: Sequence[Record]) -> Runs: ...
    def fold(
        self,
        runs: Runs,
        held: dict[bytes | None, Held],
        changes: Changes,
        unsettled: list[Unsettled],
    ) -> tuple[int, dict[bytes | None, Left]]: ...
