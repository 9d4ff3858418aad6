from collections.abc import Sequence
from typing import Any, overload

from runfold.fold.changes import Changes
from runfold.fold.record import Record
from runfold.fold.rules import Rules
from runfold.fold.short_cut import Held, Left, Runs, Unsettled

class Columns(Sequence[Record]):
    def __init__(self, sources: tuple[Any, ...], names: list[bytes], first: int, last: int) -> None: ...
    @overload
    def __getitem__(self, wanted: int) -> Record: ...
    @overload
    def __getitem__(self, wanted: slice) -> Sequence[Record]: ...
    def __len__(self) -> int: ...

class Met:
    def __init__(self, records: int) -> None: ...
    def before(self, keys: list[bytes | None]) -> list[bytes | None]: ...

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
