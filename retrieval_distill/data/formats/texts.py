"""Reads a table's rows into Texts: checks each row and duplicate ids, and keeps large tables memory-mapped on disk.

Further columns of documents are kept separately. Knows what a passage or a query needs; must not know files of any
format.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from retrieval_distill.data import columns
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import MAPPED, Texts
from retrieval_distill.data.formats.names import Kind, Roles, number, text
from retrieval_distill.data.formats.reading import Reading, RowError, Table
from retrieval_distill.data.metadata import Collector
from retrieval_distill.runtime import stages

logger = logging.getLogger("retrieval_distill")

MAPPED_FROM_BYTES = 64 << 20
"""Source size above which texts are cached as a memory map; smaller sources are read every time."""

VERSION = 3
"""Increased whenever the same source and options give other files."""

METADATA = "metadata"
"""Subfolder of the further columns."""

WHAT: dict[Kind, str] = {"documents": "passage", "queries": "query"}


def read(table: Table, kind: Kind, reading: Reading) -> Texts:
    """The texts of a table; unusable rows go to ``reading.bad``."""
    return _read(table, kind, reading)[0]


def documents(table: Table, reading: Reading) -> tuple[Texts, Texts | None]:
    """The documents of a table, and their further columns as in :class:`Dataset`."""
    return _read(table, "documents", reading)


def _read(table: Table, kind: Kind, reading: Reading) -> tuple[Texts, Texts | None]:
    if reading.cache is None or table.size < MAPPED_FROM_BYTES:
        return _collect(table, kind, reading, None)
    options = reading.options.model_dump(exclude={"queries", "qrels", "unpack"})
    inputs = {"source": table.key, "kind": kind, "options": options, "version": VERSION}
    folder = reading.cache / "texts" / stages.fingerprint(inputs)[:16]

    def work(out: Path) -> dict[str, Any]:
        (out / METADATA).mkdir(exist_ok=True)
        own = reading.apart()
        kept, rest = _collect(table, kind, own, out)
        kept.keep(out)
        if rest is not None:
            rest.keep(out / METADATA)
        return {"texts": len(kept), "left_out": own.bad.as_dict()}

    manifest = stages.stage("texts", folder, inputs, work, cache=True)
    reading.bad.merge(manifest["counts"]["left_out"])
    further = folder / METADATA
    return Texts.open(folder), Texts.open(further) if (further / MAPPED).is_file() else None


def _collect(table: Table, kind: Kind, reading: Reading, folder: Path | None) -> tuple[Texts, Texts | None]:
    """The table's records and further columns, in memory or in files of ``folder``."""
    path = folder and folder / MAPPED
    roles, further = Roles(reading.options, kind), Collector(folder and folder / METADATA / MAPPED)
    kept = _distinct(_records(table, kind, reading, roles, further), table, kind, reading, path)
    if roles.further:
        use = "for --where" if kind == "documents" else "not used"
        logger.info("%s: read %s; further columns, %s: %s", table.name, roles.summary(), use, ", ".join(roles.further))
    return kept, further.collected()


def _distinct(
    records: Iterable[tuple[str, Record]], table: Table, kind: Kind, reading: Reading, path: Path | None
) -> Texts:
    """The records, in memory or in a file (``path``); of records with the same id, the first."""
    found = _store(columns.batches(record for _, record in records), path)
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
        return _store(parts, None)
    _store(parts, path.with_suffix(".distinct"))
    path.with_suffix(".distinct").replace(path)
    return Texts(columns.open_mapped(path))


def _store(parts: Iterable[pa.RecordBatch], path: Path | None) -> Texts:
    if path is None:
        return Texts(pa.Table.from_batches(parts, columns.SCHEMA))
    columns.write(parts, path)
    return Texts(columns.open_mapped(path))


def _name_repeats(repeats: list[tuple[int, int]], table: Table, kind: Kind, reading: Reading) -> None:
    """Report every repeated id to ``reading.bad``; the source is read again to find the rows' places."""
    wanted = {row for pair in repeats for row in pair}
    again = enumerate(_records(table, kind, reading.apart(), Roles(reading.options, kind), None))
    found = {row: (where, record[0]) for row, (where, record) in again if row in wanted}
    for row, first in repeats:
        (where, id_), (before, _) = found[row], found[first]
        (file, _, _), (other, _, line) = where.rpartition(":"), before.rpartition(":")
        reading.bad.row(
            where,
            "duplicate id",
            f"duplicate id {id_!r}, first used on line {line}" + (f" of {other}" if other != file else ""),
        )


def _records(
    table: Table, kind: Kind, reading: Reading, roles: Roles, further: Collector | None
) -> Iterator[tuple[str, Record]]:
    """(place, record) of every usable row; other values of documents go to ``further``."""
    for where, row in table.rows(reading):
        try:
            record = _record(row, roles, WHAT[kind])
            if kind == "documents" and further is not None and (rest := roles.rest(row)):
                further.add(record[0], rest if table.typed else {name: number(value) for name, value in rest.items()})
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)
        else:
            yield where, record


def _record(row: Any, roles: Roles, what: str) -> Record:
    """A row's id, title and text.

    Raises:
        RowError: One of them is missing, empty or neither a string nor a whole number.
    """
    found = roles.values(row) if isinstance(row, dict) else {}
    if not {"id", "text"} <= found.keys():
        has = f"; it has {', '.join(map(repr, row))}" if isinstance(row, dict) else ""
        needed = f'"{roles.names["id"][0]}" and "{roles.names["text"][0]}"'
        raise RowError(
            f"{what} without id or text",
            f"a {what} needs the fields {needed}{has}; if they have other names, use columns id=NAME, text=NAME",
        )
    title = found.get("title")
    id_, title, body = text(found["id"]), text("" if title is None else title), text(found["text"])
    if not id_:
        detail = f'"{roles.names["id"][0]}" must be a non-empty string or a whole number, not {found["id"]!r:.200}'
        raise RowError("id that is no string", detail)
    if body is None or title is None:
        raise RowError("text that is no string", '"text" and "title" must be strings')
    if not f"{title}{body}".strip():
        raise RowError(f"empty {what}", f"the {what} {id_!r} is empty; remove it or give it text")
    return id_, title, body
