"""Datasets in BEIR layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.

A folder that ``prepare`` wrote holds ``passages.parquet`` too: which document each passage is part of; one that
``generate`` wrote holds ``generated.parquet``: how each generated query was made. Knows the layout; must not know
models. Layout: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation", NeurIPS 2021.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import tables
from retrieval_distill.data.formats.contract import Format, Reading
from retrieval_distill.data.formats.jsonl import JSONL
from retrieval_distill.errors import UserError

PASSAGES = "passages.parquet"
"""Columns ``passage_id`` and ``doc_id``, a row per document of ``corpus.jsonl``, in its order."""

GENERATED = "generated.parquet"
"""The table ``Dataset.generated``."""


def load(folder: str | Path, reading: Reading | None = None) -> Dataset:
    """Read a folder in BEIR layout.

    Args:
        folder: Where it is; its tables may also be CSV, TSV or Parquet.
        reading: How it is read; ``None`` refuses bad rows and holds all texts in memory.

    Raises:
        UserError: A file is missing, a line is malformed, an id is not a string, empty or a duplicate, a passage
            or query is empty, the corpus is empty, or judgements name ids that do not exist.
    """
    found = tables.read_folder(str(folder), reading or Reading())
    mapping, marks = Path(folder) / PASSAGES, Path(folder) / GENERATED
    return replace(
        found,
        parents=_parents(mapping, found) if mapping.is_file() else None,
        generated=_generated(marks, found) if marks.is_file() else None,
    )


def save(dataset: Dataset, folder: str | Path) -> None:
    """Write a dataset in BEIR layout.

    Raises:
        UserError: An id has a tab or a line break, which the files of judgements cannot hold.
    """
    folder = Path(folder)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    assert JSONL.write is not None
    JSONL.write(folder / "corpus.jsonl", ("_id", "title", "text"), dataset.documents.records())
    queries = ((id_, text) for id_, _, text in dataset.queries.records())
    JSONL.write(folder / "queries.jsonl", ("_id", "text"), queries)
    for split, judged in dataset.qrels.items():
        with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as out:
            out.write("query-id\tcorpus-id\tscore\n")
            for query_id, doc_id, grade in tables.judgement_rows(judged):
                if {"\t", "\n", "\r", "\0"} & {*query_id, *doc_id}:
                    raise UserError(f"{out.name}: id {query_id!r} or {doc_id!r} has a tab or line break; use parquet")
                out.write(f"{query_id}\t{doc_id}\t{grade}\n")
    if dataset.parents is not None:
        ids = dataset.documents.table["id"]
        pq.write_table(pa.table({"passage_id": ids, "doc_id": dataset.parents}), folder / PASSAGES)
    if dataset.generated is not None:
        pq.write_table(dataset.generated, folder / GENERATED)


def _parents(path: Path, dataset: Dataset) -> pa.ChunkedArray:
    mapping = pq.read_table(path, schema=pa.schema([("passage_id", pa.large_string()), ("doc_id", pa.large_string())]))
    if not mapping["passage_id"].equals(dataset.documents.table["id"]):
        raise UserError(f"{path} does not fit the corpus beside it: was one of them edited? run prepare again")
    return mapping["doc_id"]


def _generated(path: Path, dataset: Dataset) -> pa.Table:
    marks = pq.read_table(path)
    unknown = [id_ for id_ in marks["query_id"].to_pylist() if id_ not in dataset.queries]
    if unknown:
        raise UserError(f"{path} names {len(unknown)} queries that the folder does not hold, first {unknown[0]!r}")
    return marks


BEIR = Format(
    "beir",
    lambda source: any((Path(source) / f"corpus{ending}").is_file() for ending in tables.BY_ENDING),
    lambda source, reading: load(source, reading),
    lambda dataset, out, _: save(dataset, out),
)
