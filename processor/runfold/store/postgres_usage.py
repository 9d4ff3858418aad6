"""Usage summed by PostgreSQL: one walk over the minutes of all parts, whatever the size of the sums."""

from __future__ import annotations

from typing import Any, Final

from runfold.fold.usage import SUMS, Dimensions
from runfold.store.postgres_connection import Session
from runfold.store.postgres_rows import stored_text, told_text
from runfold.store.summing import ordered
from runfold.store.usage_query import UsageQuery, UsageSum

# Sums come as text, which becomes a whole number of any size soonest.
_SUMS: Final = ", ".join(f"sum({name})::text" for name in SUMS)


async def sum_usage(session: Session, wanted: UsageQuery) -> list[UsageSum]:
    """As the port says. A filter with a name that was never seen finds no dimension, and so nothing."""
    named = set(wanted.by) & set(Dimensions._fields)
    columns = ", ".join(("part", *wanted.by))
    filters = [
        f"and usage.dimension in (select n from dimension where {name} = any(${number}::text[]))"
        for number, name in enumerate(wanted.only, 2)
    ]
    async with session.glancing():
        rows = await session.connection.fetch(
            f"""select {columns.replace("part", "width_bucket(minute, $1::bigint[]) - 1 as part", 1)}, {_SUMS}
                from usage {"join dimension on dimension.n = usage.dimension" if named else ""}
                where minute >= ($1::bigint[])[1] and minute < ($1::bigint[])[array_upper($1::bigint[], 1)]
                {" ".join(filters)} group by {columns}""",
            list(wanted.edges),
            *(list(map(stored_text, values)) for values in wanted.only.values()),
        )
    width = 1 + len(wanted.by)
    return ordered(
        UsageSum(row[0], tuple(map(_told, row[1:width])), tuple(map(int, row[width:]))) for row in map(tuple, rows)
    )


def _told(value: Any) -> Any:
    return told_text(value) if type(value) is str else value
