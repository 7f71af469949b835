"""Parquet files, and the rows of any Arrow table. Knows Arrow types; must not know what the columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data.formats.contract import Reading, Row, TableFormat
from retrieval_distill.errors import UserError

ROWS_PER_BATCH = 8192


def read(path: Path, reading: Reading) -> Iterator[Row]:
    """One row per row, numbered from 1."""
    try:
        with pq.ParquetFile(path) as file:
            yield from arrow_rows(str(path), file.iter_batches(ROWS_PER_BATCH))
    except pa.ArrowException as error:
        raise UserError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def arrow_rows(name: str, batches: Iterable[pa.RecordBatch | pa.Table]) -> Iterator[Row]:
    """Rows of Arrow data; whole numbers become their decimal digits, for ids are strings everywhere."""
    number = 0
    for batch in batches:
        for values in _text_ids(batch).to_pylist():
            number += 1
            yield f"{name}:{number}", values


def write(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Types are those of the first rows; a table without rows has columns of strings."""
    writer, rows = None, iter(rows)
    while part := list(islice(rows, ROWS_PER_BATCH)):
        table = pa.table(dict(zip(names, map(list, zip(*part, strict=True)), strict=True)))
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema)
        writer.write_table(table.cast(writer.schema))
    (writer or pq.ParquetWriter(path, pa.schema([(name, pa.string()) for name in names]))).close()


def _text_ids(batch: pa.RecordBatch | pa.Table) -> pa.RecordBatch | pa.Table:
    for place, field in enumerate(batch.schema):
        if pa.types.is_integer(field.type):
            batch = batch.set_column(place, field.name, batch.column(place).cast(pa.string()))
    return batch


PARQUET = TableFormat((".parquet",), read, write)
