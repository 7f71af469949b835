"""Datasets made of tables: documents and, optionally, queries and judgements per split.

Either a folder in BEIR's layout (``corpus.*``, ``queries.*``, ``qrels/SPLIT.*``) with tables of any format, or a table
of documents, with the others named in the options. Knows which tables belong together; must not know how one is read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from retrieval_distill.data import columns, metadata
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.formats import hub_tables, judgements, sidecars, texts
from retrieval_distill.data.formats.delimited import CSV, TSV
from retrieval_distill.data.formats.jsonl import JSONL
from retrieval_distill.data.formats.parquet import PARQUET
from retrieval_distill.data.formats.reading import Format, Reading, Table, TableFormat, Types
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime.files import identity

logger = logging.getLogger("retrieval_distill")

TABLES = (JSONL, CSV, TSV, PARQUET)

DOCUMENTS: Types = dict.fromkeys(("id", "title", "text"), columns.TEXT)
QUERIES: Types = dict.fromkeys(("id", "text"), columns.TEXT)
JUDGEMENTS: Types = {"query_id": columns.TEXT, "doc_id": columns.TEXT, "score": pa.int64()}
"""Columns of written tables."""

BY_ENDING = {ending: table for table in TABLES for ending in table.endings}


def table(source: str | Path) -> Table:
    """A table by its file or ``hf:`` address.

    Raises:
        UserError: There is no such file, or its suffix is not that of a table.
    """
    if hub_tables.recognises(str(source)):
        return hub_tables.table(str(source))
    path = Path(source)
    if path.suffix.lower() not in BY_ENDING:
        raise UserError(f"{path}: not a table; supported are {', '.join(BY_ENDING)}")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    key = identity(path)
    format_ = BY_ENDING[path.suffix.lower()]
    return Table(str(path), key["size"], key, lambda reading: format_.read(path, reading), format_.typed)


def qrels(source: str | Path | Table, documents: Texts, queries: Texts, reading: Reading) -> Qrels:
    """The judgements of one file or table."""
    if not isinstance(source, Table) and Path(source).suffix.lower() in judgements.TEXT_ENDINGS:
        if not Path(source).is_file():
            raise UserError(f"{source}: no such file")
        return judgements.collect(str(source), judgements.of_lines(Path(source), reading), documents, queries, reading)
    judged = source if isinstance(source, Table) else table(source)
    return judgements.collect(judged.name, judgements.of_table(judged, reading), documents, queries, reading)


def dataset(
    name: str, documents: Table, queries: Table | None, judged: Mapping[str, str | Path | Table], reading: Reading
) -> Dataset:
    """A dataset of documents, queries and judgements; tables named in the options take precedence.

    Raises:
        UserError: There are no documents, or a row is bad and bad rows are refused.
    """
    kept, further = texts.documents(documents, reading)
    if not len(kept):
        raise UserError(f"{documents.name}: the corpus is empty")
    if reading.options.queries is not None:
        queries = table(reading.options.queries)
    query_texts = Texts.from_records(()) if queries is None else texts.read(queries, "queries", reading)
    splits = reading.options.qrels or judged
    found = Dataset(
        name,
        kept,
        query_texts,
        {split: qrels(of, kept, query_texts, reading) for split, of in splits.items()},
        metadata=further,
    )
    _name_unjudged(name, found)
    return found


def read_file(source: str, reading: Reading) -> Dataset:
    """Read one table of documents."""
    return dataset(Path(source).stem, table(source), None, {}, reading)


def read_folder(source: str, reading: Reading) -> Dataset:
    """Read a folder in BEIR's layout; queries and judgements may be missing, for a corpus to generate queries from.

    Raises:
        UserError: A table is missing, there are two with the same name, or a row is bad and bad rows are refused.
    """
    folder = Path(source)
    documents, queries = _one(folder, "corpus"), _one(folder, "queries")
    has_queries = queries is not None or reading.options.queries is not None
    if documents is None or (not has_queries and (folder / "qrels").exists()):
        part = "queries.jsonl" if documents else "corpus.jsonl"
        raise UserError(
            f"{folder}: no {part} there; a dataset folder contains corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv "
            f"(or tables that end in {', '.join(BY_ENDING)})"
        )
    files = _judgement_files(folder / "qrels", reading)
    if len({path.stem for path in files}) < len(files):
        raise UserError(f"{folder / 'qrels'}: two files for one split: {', '.join(path.name for path in files)}")
    given = None if queries is None else table(queries)
    return dataset(folder.name, table(documents), given, {path.stem: path for path in files}, reading)


def write(kind: TableFormat, found: Dataset, folder: Path) -> None:
    """Write a folder in BEIR's layout, with all tables in one format.

    Raises:
        UserError: The format cannot hold a text.
    """
    assert kind.write is not None
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    ending = kind.endings[0]
    further = metadata.types(found)
    kind.write(folder / f"corpus{ending}", {**DOCUMENTS, **further}, metadata.records(found, [*further]))
    kind.write(folder / f"queries{ending}", QUERIES, ((id_, text) for id_, _, text in found.queries.records()))
    for split, judged in found.qrels.items():
        kind.write(folder / "qrels" / f"{split}{ending}", JUDGEMENTS, judgement_rows(judged))
    sidecars.write(found, folder)


def judgement_rows(judged: Qrels) -> Iterator[tuple[str, str, int]]:
    """(query id, document id, grade) of every judgement."""
    return ((query_id, doc_id, grade) for query_id, docs in judged.items() for doc_id, grade in docs.items())


def tables_named(folder: Path, name: str) -> list[Path]:
    """The tables in a folder with this name, in any case."""
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    alike = (path for path in inside if path.stem.lower() == name and path.suffix.lower() in BY_ENDING)
    return [path for path in alike if path.is_file()]


def _one(folder: Path, name: str) -> Path | None:
    found = tables_named(folder, name)
    if len(found) > 1:
        raise UserError(f"{folder}: {' and '.join(path.name for path in found)} both exist; keep one")
    return found[0] if found else None


def _judgement_files(folder: Path, reading: Reading) -> list[Path]:
    """The files of judgements in a folder; hidden files are skipped, and others reported."""
    inside = [path for path in sorted(folder.glob("*")) if not path.name.startswith(".")]
    endings = {*BY_ENDING, *judgements.TEXT_ENDINGS}
    found = [
        path
        for path in inside
        if path.suffix.lower() in endings and (path.suffix.lower() != ".txt" or judgements.begins(path, reading))
    ]
    if others := [path.name for path in inside if path not in found]:
        logger.warning("%s: skipped files without judgements: %s", folder, ", ".join(others))
    return found


def _name_unjudged(name: str, found: Dataset) -> None:
    judged = set().union(*found.qrels.values())
    unjudged = [id_ for id_ in found.queries if id_ not in judged]
    if unjudged:
        count = counted(len(unjudged), "query", "have")
        logger.warning("%s: %s no judgements, so not used, first %r", name, count, unjudged[0])


def _writer(kind: TableFormat) -> Format:
    name = kind.endings[0].removeprefix(".")
    return Format(
        name, lambda source: source.lower().endswith(kind.endings), read_file, lambda d, out, _: write(kind, d, out)
    )


FILES = tuple(_writer(kind) for kind in TABLES)
