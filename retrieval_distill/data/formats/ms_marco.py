"""MS MARCO's files, without headers: ``collection.tsv``, ``queries.SPLIT.tsv``, ``qrels.SPLIT.tsv`` and ``triples``.

Knows these files' names and fields; must not know how they are used. In triples the second text is relevant to the
first (grade 1) and the third is assumed not to be (grade 0). Source: Bajaj et al., "MS MARCO: A Human Generated MAchine
Reading COmprehension Dataset", arXiv 1611.09268.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from retrieval_distill.data import metadata
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import judgements, sidecars, tables, texts, training_table
from retrieval_distill.data.formats.delimited import tsv_records
from retrieval_distill.data.formats.reading import Format, Reading, Row, Table
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

COLLECTION = "collection.tsv"

FIELDS = {2: ("id", "text"), 4: ("id", "url", "title", "text")}
"""Number of fields -> their names: passages and queries, or documents."""


def read(source: str, reading: Reading) -> Dataset:
    """Read a folder with ``collection.tsv`` and any of the other files.

    A file ``qidpidtriples*.tsv`` contains ids; its judgements are added to the split ``train``.

    Raises:
        UserError: A row is bad and bad rows are refused.
    """
    folder = Path(source)
    documents, further = texts.documents(_table([folder / COLLECTION]), reading)
    queries = texts.read(_table(sorted(folder.glob("queries*.tsv"))), "queries", reading)
    dataset = Dataset(folder.name, documents, queries, metadata=further)
    for path in sorted(folder.glob("qrels*.tsv")):
        split = path.stem.partition(".")[2] or "test"
        dataset.qrels[split] = tables.qrels(path, documents, queries, reading)
    for path in sorted(folder.glob("qidpidtriples*.tsv")):
        rows = judgements.of_rows(_triples(path, reading), reading)
        found = judgements.collect(str(path), rows, documents, queries, reading)
        train = dataset.qrels.setdefault("train", {})
        for query_id, grades in found.items():
            train[query_id] = {**grades, **train.get(query_id, {})}
    return sidecars.read(folder, dataset)


def write(dataset: Dataset, folder: Path) -> None:
    """Write ``collection.tsv`` (with four fields if there are titles), ``queries.tsv`` and ``qrels.SPLIT.tsv``.

    Raises:
        UserError: A text or an id contains what these files cannot hold, such as a tab or a line break.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata.warn_of_dropped_columns(dataset, folder)
    titled = any(title for _, title, _ in dataset.documents.records())
    collection = ((id_, "", title, text) if titled else (id_, text) for id_, title, text in dataset.documents.records())
    _write(folder / COLLECTION, collection)
    _write(folder / "queries.tsv", ((id_, text) for id_, _, text in dataset.queries.records()))
    for split, judged in dataset.qrels.items():
        rows = ((query, "0", doc, str(grade)) for query, doc, grade in tables.judgement_rows(judged))
        _write(folder / f"qrels.{split}.tsv", rows)
    sidecars.write(dataset, folder)


def _write(path: Path, rows: Iterable[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        for row in rows:
            if any(end in field for field in row for end in "\t\n\r\0") or row[0].startswith("\ufeff"):
                what = "a tab, a line break, a NUL byte or, at the beginning, a byte-order mark"
                raise UserError(f"{path}: {row[0]!r} contains {what}; use jsonl or parquet")
            out.write("\t".join(row) + "\n")


def read_triples(source: str, reading: Reading) -> Dataset:
    """Read a file ``triples*.tsv`` of texts: query, relevant passage, other passage.

    Raises:
        UserError: A row is bad and bad rows are refused.
    """
    path, names = Path(source), ("query", "positive", "negative")

    def rows(reading: Reading) -> Iterator[Row]:
        return ((where, dict(zip(names, fields, strict=True))) for where, fields in _threes(path, reading))

    return training_table.of_table(path.stem, replace(tables.table(path), rows=rows), reading)


def _threes(path: Path, reading: Reading) -> Iterator[tuple[str, list[str]]]:
    for where, fields in tsv_records(path, reading):
        if len(fields) == 3:
            yield where, fields
        else:
            reading.bad.row(where, "ragged row", f"{counted(len(fields), 'field')}; a triple is query, relevant, other")


def _triples(path: Path, reading: Reading) -> Iterator[tuple[str, tuple[str, str, int]]]:
    """The distinct judgements of a file of triples; a passage that is relevant in one triple is relevant in all."""
    relevant: dict[tuple[str, str], str] = {}
    others: dict[tuple[str, str], str] = {}
    for where, (query, positive, negative) in _threes(path, reading):
        relevant.setdefault((query, positive), where)
        others.setdefault((query, negative), where)
    graded = chain(
        ((pair, where, 1) for pair, where in relevant.items()),
        ((pair, where, 0) for pair, where in others.items() if pair not in relevant),
    )
    return ((where, (*pair, grade)) for pair, where, grade in graded)


def _table(paths: list[Path]) -> Table:
    """Several files without header as one table; a row that occurs in two of them counts once."""

    def rows(reading: Reading) -> Iterator[Row]:
        before: dict[str, list[str]] = {}
        for path in paths:
            here: dict[str, list[str]] = {}
            for where, fields in tsv_records(path, reading):
                if len(fields) not in FIELDS:
                    detail = f"{counted(len(fields), 'field')}; expected id and text, or id, url, title and text"
                    reading.bad.row(where, "ragged row", detail)
                elif before.get(fields[0]) != fields:
                    yield where, dict(zip(FIELDS[len(fields)], fields, strict=True))
                    if path != paths[-1]:
                        here[fields[0]] = fields
            before |= here

    parts = [tables.table(path) for path in paths]
    size, key = sum(part.size for part in parts), {"files": [part.key for part in parts], "header": False}
    return Table(", ".join(part.name for part in parts) or "no file", size, key, rows, typed=False)


MS_MARCO = Format(
    "ms-marco", lambda source: (Path(source) / COLLECTION).is_file(), read, lambda dataset, out, _: write(dataset, out)
)

TRIPLES = Format(
    "ms-marco-triples",
    lambda source: Path(source).name.startswith("triples") and source.endswith(".tsv") and Path(source).is_file(),
    read_triples,
)
