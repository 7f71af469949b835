"""Further columns of documents, such as a year or a source, for ``--where`` and for conversion.

A document's values are a JSON object under its id, since rows may have different columns. In a table, each column has
the common type of its values. Knows ids and values; must not know files, or which columns matter.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_distill.data import columns
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset, Texts

logger = logging.getLogger("retrieval_distill")

Types = dict[str, pa.DataType]
"""Name of a column -> its type."""

_INTEGERS = range(-(2**63), 2**63)


class Collector:
    """Collects the further columns of documents.

    Args:
        path: File to store them in, memory-mapped; ``None``: keep them in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows: list[Record] = []
        self._parts: list[pa.RecordBatch] = []
        self._writer: Any = None

    def add(self, id_: str, values: Mapping[str, Any]) -> None:
        """Add the columns of one document.

        Raises:
            UnicodeEncodeError: A string contains a lone surrogate.
        """
        encoded = _encode(values)
        encoded.encode()
        self._rows.append((id_, "", encoded))
        if len(self._rows) >= columns.ROWS_PER_BATCH:
            self._flush()

    def collected(self) -> Texts | None:
        """The collected columns, as JSON objects under the documents' ids; ``None``: there were none."""
        self._flush()
        if self._path is None:
            return Texts(pa.Table.from_batches(self._parts, columns.SCHEMA)) if self._parts else None
        if self._writer is None:
            return None
        self._writer.close()
        return Texts(columns.open_mapped(self._path))

    def _flush(self) -> None:
        for part in columns.batches(self._rows):
            if self._path is None:
                self._parts.append(part)
            else:
                self._writer = self._writer or pa.ipc.new_file(str(self._path), columns.SCHEMA)
                self._writer.write_batch(part)
        self._rows = []


def types(dataset: Dataset) -> Types:
    """The further columns of a dataset's documents and their types: booleans, numbers, or strings.

    A column of other or mixed types has type string, with JSON for values that are not strings.
    """
    kinds: dict[str, set[type]] = defaultdict(set)
    for part in _parts(dataset):
        for values in part:
            for name, value in values.items():
                if value is not None:
                    kinds[name].add(str if isinstance(value, int) and value not in _INTEGERS else type(value))
    return {name: _type(found) for name, found in kinds.items()}


def table(dataset: Dataset) -> pa.Table:
    """A dataset's documents with all their columns: ``id``, ``title``, ``text`` and the further ones, in order."""
    found, typed = dataset.documents.table, types(dataset)
    chunks: dict[str, list[pa.Array]] = {name: [] for name in typed}
    for part in _parts(dataset):
        for name, type_ in typed.items():
            chunks[name].append(columns.array([values.get(name) for values in part], type_))
    for name, type_ in typed.items():
        found = found.append_column(name, pa.chunked_array(chunks[name], type_))
    return found


def records(dataset: Dataset, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Id, title, text and the further columns of these names, of every document in order."""
    if not names:
        yield from dataset.documents.records()
        return
    for record, values in zip(dataset.documents.records(), rows(dataset), strict=True):
        yield (*record, *map(values.get, names))


def rows(dataset: Dataset) -> Iterator[dict[str, Any]]:
    """The further columns of every document in order; passages have their document's. Nothing, if there are none."""
    for part in _parts(dataset):
        yield from part


def warn_of_dropped_columns(dataset: Dataset, place: Path) -> None:
    """Warn about further columns that are lost because a format does not support them."""
    if names := types(dataset):
        logger.warning("%s: this format supports no further columns; left out: %s", place, ", ".join(names))


def _parts(dataset: Dataset) -> Iterator[list[dict[str, Any]]]:
    """The values of every document in order, in lists as in ``columns.parts``; passages have their document's."""
    if (kept := dataset.metadata) is None:
        return
    start = 0
    for ids in columns.parts(dataset.documents.table["id"]):
        rows = kept.rows.find(ids)
        if dataset.parents is not None:
            parents = dataset.parents.slice(start, len(ids)).to_pylist()
            rows = np.where(rows < 0, kept.rows.find(parents), rows)
        start += len(ids)
        encoded = iter(kept.at(rows[rows >= 0]).table["text"].to_pylist())
        yield [json.loads(next(encoded)) if row >= 0 else {} for row in rows]


def _type(kinds: set[type]) -> pa.DataType:
    for type_, python in ((pa.bool_(), {bool}), (pa.int64(), {int}), (pa.float64(), {int, float})):
        if kinds <= python:
            return type_
    return columns.TEXT


def _encode(values: Mapping[str, Any]) -> str:
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:  # NaN, which pandas writes for an empty cell
        return json.dumps(_with_numbers(values), ensure_ascii=False, default=_plain)


def _with_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _with_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_numbers(inner) for inner in value]
    return None if isinstance(value, float) and value - value != 0 else value


def _plain(value: Any) -> Any:
    """A value of a type that JSON lacks: times in ISO 8601; bytes become ``None``."""
    if isinstance(value, Decimal):
        return float(value)
    return None if isinstance(value, bytes) else str(value)
