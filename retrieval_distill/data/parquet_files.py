"""Reads Parquet files from any source, and refuses damaged files and columns of the wrong type.

Knows tables and columns; must not know what they mean.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from retrieval_distill.errors import UserError, first_line
from retrieval_distill.formatting import counted


def read_table(path: Path) -> pa.Table:
    """The table of a file; page checksums are verified if it has them.

    Raises:
        UserError: The file is damaged, or is not a Parquet file.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table, rows = file.read(), file.metadata.num_rows
        table.validate(full=True)  # detects text that is not UTF-8
        if len(table) != rows:
            raise ValueError(f"it has {len(table):,} rows, but its metadata say {rows:,}")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable Parquet file: {first_line(error)}") from None
    return table


def ids(path: Path, what: str, column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Ids as strings; integers are converted.

    Raises:
        UserError: They are of another type, or one is missing.
    """
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_integer(kind) or _is_text(kind) or pa.types.is_null(kind)):
        raise UserError(f"{path}: {what} ids must be strings or whole numbers, they are of type {kind}")
    if column.null_count:
        row = pc.index(column.is_null(), True).as_py() + 1
        raise UserError(f"{path}: {counted(column.null_count, f'{what} id', 'are')} empty, first in row {row}")
    return column.cast(kind).cast(pa.large_string())


def numbers(path: Path, column: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    """Scores as float64; a missing one is NaN.

    Raises:
        UserError: They are of another type.
    """
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise UserError(f"{path}: scores must be numbers, they are of type {kind}")
    return column.cast(pa.float64()).fill_null(float("nan"))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
