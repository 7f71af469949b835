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
"""What Arrow raises at damaged data; strings that are no UTF-8 and times out of range are ValueErrors."""


def read(path: Path, reading: Reading) -> Iterator[Row]:
    """One row per row, numbered from 1."""
    try:
        file = pq.ParquetFile(path)
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable Parquet file ({first_line(error)})") from None
    with file:
        yield from arrow_rows(str(path), file.iter_batches(ROWS_PER_BATCH), reading)


def arrow_rows(name: str, batches: Iterable[pa.RecordBatch | pa.Table], reading: Reading) -> Iterator[Row]:
    """Rows of Arrow data; one with a value that cannot be read goes to ``reading.bad``.

    Raises:
        UserError: The data end in what cannot be read; the message names the row before it.
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
    """The rows, or in place of one what reading it raised."""
    try:
        batch.validate(full=True)  # for Arrow's own files, whose offsets may lead anywhere
        return batch.to_pylist()
    except DAMAGED as error:
        if batch.num_rows == 1:
            return [error]
        half = batch.num_rows // 2
        return [*_values(batch.slice(0, half)), *_values(batch.slice(half))]


def write(path: Path, types: Types, rows: Iterable[Sequence[Any]]) -> None:
    """One row per row."""
    schema, rows = pa.schema(list(types.items())), iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while part := list(islice(rows, ROWS_PER_BATCH)):
            made = map(columns.array, zip(*part, strict=True), types.values())
            writer.write_table(pa.table(list(made), schema=schema))


PARQUET = TableFormat((".parquet",), read, write)
