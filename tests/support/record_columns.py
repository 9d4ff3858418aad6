"""Records in columns, as an archive gives them to the fold, made of records that lie apart."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate

from runfold.fold.record import Record
from runfold.fold.short_cut import in_columns


def columns_of(records: Sequence[Record], *, doubled: bool = False) -> Sequence[Record]:
    """The records in columns, where all of them are as usual, else as they are; ``doubled``: every key has two names."""
    if any(each.key is None or each.value is None or each.timestamp < 0 or each.headers for each in records):
        return records
    names = list(dict.fromkeys(each.key for each in records))
    places = [names.index(each.key) + (len(names) if doubled and nth % 2 else 0) for nth, each in enumerate(records)]
    values = [each.value for each in records]
    made = in_columns(
        array("q", [each.offset for each in records]),
        array("q", [each.timestamp for each in records]),
        array("i", places),
        array("i", accumulate(map(len, values), initial=0)),
        b"".join(values),
        names=names * 2,
        count=len(records),
    )
    assert made is not None
    return made
