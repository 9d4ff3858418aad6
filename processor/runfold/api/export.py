"""Reports as files: CSV, and Parquet where pyarrow is installed. One row for each result; buckets without any have none.

What does not fit into such a body is in headers: ``x-runfold-next-page`` has the cursor of the next page.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from litestar import Response
from litestar.datastructures import Headers
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from runfold.api.errors import BadRequest

Format = Literal["json", "csv", "parquet"]
MEDIA: Final[dict[str, Format]] = {
    "application/json": "json",
    "text/csv": "csv",
    "application/vnd.apache.parquet": "parquet",
}
_ARROW: Final = {int: "int64", str: "string", float: "double"}
_AMOUNT: Final = (38, 12)

Columns = dict[str, type]


@dataclass
class Exporting(Operation):
    """Says in the document which other formats a report comes in."""

    def __post_init__(self) -> None:
        for media, kind in MEDIA.items():
            told = (self.responses or {})["200"]
            if isinstance(told, OpenAPIResponse) and told.content is not None and kind != "json":
                told.content[media] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))


def format_of(told: Format | None, headers: Headers) -> Format:
    """The format that is asked for by parameter, else by the first media type in ``Accept`` that is one of ours, else JSON."""
    if told is not None:
        return told
    accepted = (part.partition(";")[0].strip().lower() for part in headers.get("accept", "").split(","))
    return next((MEDIA[media] for media in accepted if media in MEDIA), "json")


def exported(
    kind: Format, name: str, columns: Columns, rows: Sequence[dict[str, Any]], next_page: str | None
) -> Response[Any]:
    """The rows as a file to be kept. Raises BadRequest where Parquet is wanted and pyarrow is not there."""
    body = _parquet(columns, rows) if kind == "parquet" else _csv(columns, rows)
    headers = {"content-disposition": f'attachment; filename="{name}.{kind}"'}
    if next_page is not None:
        headers["x-runfold-next-page"] = next_page
    media = next(media for media, of in MEDIA.items() if of == kind)
    return Response(body, media_type=media, headers=headers)


def _csv(columns: Columns, rows: Sequence[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row[name]) for name in columns] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    return f"{value:f}" if isinstance(value, Decimal) else value


def _parquet(columns: Columns, rows: Sequence[dict[str, Any]]) -> bytes:
    try:
        # Imported here: it is an extra, and a large one.
        import pyarrow as pa  # noqa: PLC0415 - see above
        import pyarrow.parquet as pq  # noqa: PLC0415 - see above
    except ModuleNotFoundError as error:
        told = "Parquet needs pyarrow, which is not installed here: pip install 'runfold[archive]'."
        raise BadRequest(told, param="format", code="not_installed") from error
    kinds = {
        name: pa.decimal128(*_AMOUNT) if of is Decimal else pa.type_for_alias(_ARROW[of])
        for name, of in columns.items()
    }
    sink = io.BytesIO()
    try:
        made = pa.Table.from_pylist([{name: row[name] for name in columns} for row in rows], schema=pa.schema(kinds))
    except (pa.ArrowInvalid, OverflowError) as error:
        raise BadRequest("Some sums are too large for Parquet: take CSV.", param="format") from error
    pq.write_table(made, sink)
    return sink.getvalue()
