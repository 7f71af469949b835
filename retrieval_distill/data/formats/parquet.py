"""Parquet files, and the rows of any Arrow table. Knows Arrow; must not know what the columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data import columns
from retrieval_distill.data.formats.reading import Reading, Row, TableFormat, Types
from retrieval_distill.errors import UserError, first_line

ROWS_PER_BATCH = 8192

DAMAGED = (pa.ArrowException, OSError, ValueError, OverflowError, SystemError)
"""Exceptions of Arrow for damaged data; invalid UTF-8 and times out of range are ValueErrors."""


def read(path: Path, reading: Reading) -> Iterator[Row]:
    """Read the rows of a file, numbered from 1."""
    try:
        file = pq.ParquetFile(path)
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable Parquet file ({first_line(error)})") from None
    with file:
        yield from arrow_rows(str(path), file.iter_batches(ROWS_PER_BATCH), reading)


def arrow_rows(name: str, batches: Iterable[pa.RecordBatch | pa.Table], reading: Reading) -> Iterator[Row]:
    """Rows of Arrow data; those with unreadable values go to ``reading.bad``.

    Raises:
        UserError: The rest of the data is unreadable; the message names the row before it.
    """
    number = 0
    batches = iter(batches)
    while True:
        try:
            batch = next(batches, None)
        except DAMAGED as error:
            raise UserError(f"{name}: damaged data after row {number:,} ({first_line(error)})") from None
        if batch is None:
            return
        for values in _values(batch):
            number += 1
            if isinstance(values, dict):
                yield f"{name}:{number}", values
            else:
                reading.bad.row(f"{name}:{number}", "value that cannot be read", f"{first_line(values)}")


def _values(batch: pa.RecordBatch | pa.Table) -> list[dict[str, Any] | Exception]:
    """The rows; for an unreadable row, the exception."""
    try:
        batch.validate(full=True)  # Arrow's own files may have invalid offsets
        return batch.to_pylist()
    except DAMAGED as error:
        if batch.num_rows == 1:
            return [error]
        half = batch.num_rows // 2
        return [*_values(batch.slice(0, half)), *_values(batch.slice(half))]


def write(path: Path, types: Types, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows to a file."""
    schema, rows = pa.schema(list(types.items())), iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while part := list(islice(rows, ROWS_PER_BATCH)):
            made = map(columns.array, zip(*part, strict=True), types.values())
            writer.write_table(pa.table(list(made), schema=schema))


PARQUET = TableFormat((".parquet",), read, write)
