"""A table's rows as Texts: each row checked, ids told apart, large ones kept on disk as a memory map.

Knows what a passage or a query needs; must not know files of any format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_distill.data import columns
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import MAPPED, Texts
from retrieval_distill.data.formats.contract import Reading, RowError, Table
from retrieval_distill.data.formats.names import Kind, value
from retrieval_distill.data.formats.names import columns as named
from retrieval_distill.runtime import stages

MAPPED_FROM_BYTES = 64 << 20
"""Size of a source from which its texts are kept in the cache as a memory map; smaller ones are read every time."""

VERSION = 2
"""Raised when the same source and options would leave other files."""

WHAT: dict[Kind, str] = {"documents": "passage", "queries": "query"}


def read(table: Table, kind: Kind, reading: Reading) -> Texts:
    """The texts of a table; rows that cannot be used go to ``reading.bad``."""
    if reading.cache is None or table.size < MAPPED_FROM_BYTES:
        return _collect(table, kind, reading, None)
    options = reading.options.model_dump(exclude={"queries", "qrels"})
    inputs = {"source": table.key, "kind": kind, "options": options, "version": VERSION}
    folder = reading.cache / "texts" / stages.fingerprint(inputs)[:16]

    def work(out: Path) -> dict[str, Any]:
        own = reading.apart()
        kept = _collect(table, kind, own, out / MAPPED)
        kept.keep(out)
        return {"texts": len(kept), "left_out": own.bad.as_dict()}

    manifest = stages.stage("texts", folder, inputs, work, cache=True)
    reading.bad.merge(manifest["counts"]["left_out"])
    return Texts.open(folder)


def _collect(table: Table, kind: Kind, reading: Reading, path: Path | None) -> Texts:
    """The table's records, in memory or (``path``) in a file."""
    found = _stored(columns.batches(record for _, record in _records(table, kind, reading)), path)
    repeats = found.rows.repeats()
    if not repeats:
        return found
    _name_repeats(repeats, table, kind, reading)
    kept = np.ones(len(found), bool)
    kept[[row for row, _ in repeats]] = False
    batches = found.table.to_batches()
    ends = np.cumsum([batch.num_rows for batch in batches])
    parts = (batch.filter(pa.array(kept[end - batch.num_rows : end])) for batch, end in zip(batches, ends, strict=True))
    if path is None:
        return _stored(parts, None)
    _stored(parts, path.with_suffix(".distinct"))
    path.with_suffix(".distinct").replace(path)
    return Texts(columns.open_mapped(path))


def _stored(parts: Iterable[pa.RecordBatch], path: Path | None) -> Texts:
    if path is None:
        return Texts(pa.Table.from_batches(parts, columns.SCHEMA))
    columns.write(parts, path)
    return Texts(columns.open_mapped(path))


def _name_repeats(repeats: list[tuple[int, int]], table: Table, kind: Kind, reading: Reading) -> None:
    """Send every repeated id to ``reading.bad``; the source is read again for the rows' places, which nobody kept."""
    wanted = {row for pair in repeats for row in pair}
    again = enumerate(_records(table, kind, reading.apart()))
    found = {row: (where, record[0]) for row, (where, record) in again if row in wanted}
    for row, first in repeats:
        (where, id_), (before, _) = found[row], found[first]
        (file, _, _), (other, _, line) = where.rpartition(":"), before.rpartition(":")
        reading.bad.row(
            where,
            "duplicate id",
            f"duplicate id {id_!r}, first used on line {line}" + (f" of {other}" if other != file else ""),
        )


def _records(table: Table, kind: Kind, reading: Reading) -> Iterator[tuple[str, Record]]:
    """(where, record) of every row that can be used."""
    names = named(reading.options, kind)
    for where, row in table.rows(reading):
        try:
            record = _record(row, names, WHAT[kind])
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)
        else:
            yield where, record


def _record(row: Any, names: dict[str, tuple[str, ...]], what: str) -> Record:
    """A row's id, title and text.

    Raises:
        RowError: One of them is missing, empty or no string.
    """
    if not isinstance(row, dict) or not all(any(name in row for name in names[role]) for role in ("id", "text")):
        has = f"; it has {', '.join(map(repr, row))}" if isinstance(row, dict) else ""
        needed = f'"{names["id"][0]}" and "{names["text"][0]}"'
        raise RowError(
            f"{what} without id or text",
            f"a {what} needs the fields {needed}{has}; if they have other names, say columns id=NAME, text=NAME",
        )
    id_, title, text = value(row, names["id"]), value(row, names["title"]) or "", value(row, names["text"])
    if not isinstance(id_, str) or not id_:
        detail = f'"{names["id"][0]}" must be a non-empty string, not {id_!r}; put it in quotes'
        raise RowError("id that is no string", detail)
    if not isinstance(text, str) or not isinstance(title, str):
        raise RowError("text that is no string", '"text" and "title" must be strings')
    if not f"{title}{text}".strip():
        raise RowError(f"empty {what}", f"the {what} {id_!r} is empty; remove it or give it text")
    try:
        f"{id_}{title}{text}".encode()
    except UnicodeEncodeError as error:
        detail = f"the {what} {id_!r} holds half a character (a lone surrogate, {error.object[error.start]!a})"
        raise RowError("text that is not Unicode", detail) from None
    return id_, title, text
