"""Additional files of a dataset's folder: the document of each passage, and the origin of generated queries.

Knows these two files; must not know how passages or queries are made, or the format of the tables.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data import parquet_files
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.parquet import DAMAGED, first_line
from retrieval_distill.data.generated import MARKS
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

PASSAGES = "passages.parquet"
"""Columns ``passage_id`` and ``doc_id``, a row per document of the corpus, in order."""

GENERATED = "generated.parquet"
"""The table ``Dataset.generated``."""


def read(folder: Path, found: Dataset) -> Dataset:
    """Add the information of these files to a dataset.

    Raises:
        UserError: A file names passages or queries that are not in the dataset.
    """
    mapping, marks = folder / PASSAGES, folder / GENERATED
    return found.replace(
        parents=_parents(mapping, found) if mapping.is_file() else None,
        generated=_generated(marks, found) if marks.is_file() else None,
    )


def write(dataset: Dataset, folder: Path) -> None:
    """Write the files that the dataset needs, and remove those of an earlier dataset in the folder."""
    passages = None
    if dataset.parents is not None:
        passages = pa.table({"passage_id": dataset.documents.table["id"], "doc_id": dataset.parents})
    for name, table in ((PASSAGES, passages), (GENERATED, dataset.generated)):
        (folder / name).unlink(missing_ok=True)
        if table is not None:
            pq.write_table(table, folder / name)


def _parents(path: Path, dataset: Dataset) -> pa.ChunkedArray:
    mapping = _table(path, pa.schema([("passage_id", pa.large_string()), ("doc_id", pa.large_string())]))
    if not mapping["passage_id"].equals(dataset.documents.table["id"]):
        raise UserError(f"{path} does not fit the corpus in its folder (was one of them edited?); run prepare again")
    return mapping["doc_id"]


def _generated(path: Path, dataset: Dataset) -> pa.Table:
    marks = _table(path, MARKS)
    ids = marks["query_id"].to_pylist()
    known = dataset.queries.intersection(ids)
    unknown = [id_ for id_ in ids if id_ not in known]
    if unknown:
        count = counted(len(unknown), "query")
        raise UserError(f"{path} names {count} not in the folder, first {unknown[0]!r}")
    return marks


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of a schema, fully validated."""
    try:
        found = parquet_files.read_table(path)
        if missing := [name for name in schema.names if name not in found.column_names]:
            raise UserError(f"{path} has no column {', '.join(missing)}; run the command that wrote it again")
        return found.select(schema.names).cast(schema)
    except DAMAGED as error:
        raise UserError(f"{path}: not a readable Parquet file ({first_line(error)})") from None
