"""Datasets in BEIR layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.

The folder may also contain the files of ``sidecars``: the document of each passage, and how each generated query was
made. Knows the layout; must not know models. Layout: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot
Evaluation", NeurIPS 2021.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.data import columns, metadata
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import sidecars, tables
from retrieval_distill.data.formats.jsonl import JSONL
from retrieval_distill.data.formats.reading import Format, Reading
from retrieval_distill.errors import UserError


def load(folder: str | Path, reading: Reading | None = None) -> Dataset:
    """Read a folder in BEIR layout.

    Args:
        folder: The folder; its tables may also be CSV, TSV or Parquet.
        reading: How to read it; ``None``: refuse bad rows and keep all texts in memory.

    Raises:
        UserError: A file is missing, a line is malformed, an id is not a string, empty or a duplicate, a passage
            or query is empty, the corpus is empty, or judgements name ids that do not exist.
    """
    return sidecars.read(Path(folder), tables.read_folder(str(folder), reading or Reading()))


def save(dataset: Dataset, folder: str | Path) -> None:
    """Write a dataset in BEIR layout.

    Raises:
        UserError: An id contains a tab or a line break, which judgement files cannot hold.
    """
    folder = Path(folder)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    assert JSONL.write is not None
    further = metadata.types(dataset)
    types = {"_id": columns.TEXT, "title": columns.TEXT, "text": columns.TEXT}
    JSONL.write(folder / "corpus.jsonl", {**types, **further}, metadata.records(dataset, [*further]))
    queries = ((id_, text) for id_, _, text in dataset.queries.records())
    JSONL.write(folder / "queries.jsonl", {"_id": columns.TEXT, "text": columns.TEXT}, queries)
    for split, judged in dataset.qrels.items():
        with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as out:
            out.write("query-id\tcorpus-id\tscore\n")
            for query_id, doc_id, grade in tables.judgement_rows(judged):
                if {"\t", "\n", "\r", "\0"} & {*query_id, *doc_id}:
                    raise UserError(
                        f"{out.name}: id {query_id!r} or {doc_id!r} contains a tab or line break; use parquet"
                    )
                out.write(f"{query_id}\t{doc_id}\t{grade}\n")
    sidecars.write(dataset, folder)


BEIR = Format(
    "beir",
    lambda source: bool(tables.tables_named(Path(source), "corpus")),
    lambda source, reading: load(source, reading),
    lambda dataset, out, _: save(dataset, out),
)
