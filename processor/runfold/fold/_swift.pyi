from collections.abc import Mapping

from runfold.fold.changes import Changes, RunChange
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold.fold.short_cut import Held, Left

class Swift:
    def __init__(self, partition: int, rules: Rules) -> None: ...
    def fold(
        self,
        runs: Mapping[bytes | None, list[Record]],
        held: dict[bytes | None, Held],
        changes: Changes,
        unsettled: list[RunChange],
    ) -> tuple[int, dict[bytes | None, Left]]: ...
