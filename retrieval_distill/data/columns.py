"""Tables of texts larger than memory: written batch by batch, opened memory-mapped, read in parts.

Knows Arrow; must not know ids' meaning, file formats or judgements.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Record = tuple[str, str, str]
"""Id, title (may be empty) and text."""

TEXT = pa.large_string()
"""Type of a column of strings; Arrow's plain ``string`` is limited to 2 GB."""

SCHEMA = pa.schema([(name, TEXT) for name in ("id", "title", "text")])

ROWS_PER_BATCH = 65_536
CHARACTERS_PER_BATCH = 1 << 26
"""A batch ends at whichever limit comes first, so that long documents do not make it large."""


def batches(records: Iterable[Record]) -> Iterator[pa.RecordBatch]:
    """The records as Arrow batches; only one batch is in memory at a time."""
    rows: list[Record] = []
    characters = 0
    for record in records:
        rows.append(record)
        characters += len(record[1]) + len(record[2])
        if len(rows) >= ROWS_PER_BATCH or characters >= CHARACTERS_PER_BATCH:
            yield _batch(rows)
            rows, characters = [], 0
    if rows:
        yield _batch(rows)


def write(parts: Iterable[pa.RecordBatch], path: Path) -> None:
    """Write batches of :data:`SCHEMA` to an Arrow IPC file."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        for part in parts:
            writer.write_batch(part)


def open_mapped(path: Path) -> pa.Table:
    """An Arrow IPC file as a memory-mapped table, whose pages the system loads and drops as needed."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def read_slices(path: Path, name: str) -> Iterator[pa.Array]:
    """A column of an Arrow IPC file, read batch by batch without a memory map."""
    wanted = pa.ipc.IpcReadOptions(included_fields=[SCHEMA.get_field_index(name)])
    with pa.OSFile(str(path)) as file, pa.ipc.open_file(file, options=wanted) as reader:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number).column(0)


def slices(column: pa.ChunkedArray) -> Iterator[pa.Array]:
    """A column in arrays of at most ``ROWS_PER_BATCH`` values."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), ROWS_PER_BATCH):
            yield chunk.slice(start, ROWS_PER_BATCH)


def parts(column: pa.ChunkedArray) -> Iterator[list[str]]:
    """A column's values as lists of at most ``ROWS_PER_BATCH``."""
    for part in slices(column):
        yield part.to_pylist()


def array(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    """Values as an array of a type; in a string array, other values become JSON."""
    if type_ == TEXT:
        return pa.array([value if value is None else as_text(value) for value in values], type_)
    if type_ == pa.float64():
        return pa.array([value if value is None else float(value) for value in values], type_)
    return pa.array(values, type_)


def as_text(value: Any) -> str:
    """A string unchanged, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def joined_bytes(part: pa.LargeStringArray, end: str) -> memoryview:
    """The UTF-8 bytes of all strings, each followed by ``end``, without creating Python strings."""
    nothing, added = (pa.scalar(value, pa.large_string()) for value in ("", end))
    ended = pc.binary_join_element_wise(part, added, nothing)
    offsets = np.frombuffer(ended.buffers()[1], np.int64)[ended.offset : ended.offset + len(ended) + 1]
    return memoryview(ended.buffers()[2])[offsets[0] : offsets[-1]]


def gather(chunks: Sequence[pa.RecordBatch], rows: np.ndarray) -> pa.Table:
    """The table of these rows, in this order.

    Args:
        chunks: The batches of a table, in order, at least one.
        rows: Row numbers over all batches; repetitions are allowed.

    ``Table.take`` would first concatenate all batches (arrow#39565): a copy of the whole file for a few rows.
    """
    ends = np.cumsum([chunk.num_rows for chunk in chunks])
    order = np.argsort(rows, kind="stable")
    cuts = np.searchsorted(rows[order], ends)
    taken, start = [], 0
    for chunk, end, cut in zip(chunks, ends, cuts, strict=True):
        if cut > start:
            taken.append(chunk.take(pa.array(rows[order[start:cut]] - (end - chunk.num_rows))))
        start = cut
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    return pa.Table.from_batches(taken, chunks[0].schema).take(back)


def values_at(column: pa.ChunkedArray, rows: np.ndarray) -> np.ndarray:
    """A column's values in these rows, an object array of the same shape; ``None`` for rows below 0."""
    flat = rows.ravel()
    found, valid = np.full(len(flat), None, object), flat >= 0
    if valid.any():
        found[valid] = gather(pa.table({"value": column}).to_batches(), flat[valid])["value"].to_pylist()
    return found.reshape(rows.shape)


def _batch(rows: list[Record]) -> pa.RecordBatch:
    return pa.record_batch([pa.array(column, pa.large_string()) for column in zip(*rows, strict=True)], SCHEMA)
