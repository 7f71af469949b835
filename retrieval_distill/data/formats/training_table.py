"""Training tables of sentence-transformers: ``query``, ``positive``, ``negative_1``, ... and, scored, ``scores``.

A row's ``scores`` are the teacher's for the positive and then for each negative. The texts have no ids there: they
get the hash of the text, so that a text that stands in many rows is one document. Knows these columns; must not know
how candidates were found.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.formats import tables
from retrieval_distill.data.formats.contract import Export, Format, Reading, RowError, Table
from retrieval_distill.data.hashes import text_hash
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files

logger = logging.getLogger("retrieval_distill")

QUERY, POSITIVE = ("query", "anchor", "question"), ("positive", "answer")


def read(source: str, reading: Reading) -> Dataset:
    """A table file; see :func:`of_table`."""
    return of_table(Path(source).stem, tables.table(source), reading)


def of_table(name: str, table: Table, reading: Reading) -> Dataset:
    """A table's texts, and as split ``train`` its judgements: grade 1 for a positive, 0 for a negative.

    A text that is positive in one row and negative in another of the same query is relevant.

    Raises:
        UserError: A row is bad and bad rows are refused.
    """
    queries: dict[str, str] = {}
    documents: dict[str, str] = {}
    judged: Qrels = {}
    for query, texts, _ in _rows(table, reading):
        query_id = _named("q", query, queries)
        grades = judged.setdefault(query_id, {})
        for place, text in enumerate(texts):
            doc_id = _named("d", text, documents)
            grades[doc_id] = max(grades.get(doc_id, 0), int(place == 0))
    kept, asked = (Texts.from_records((i, "", text) for i, text in found.items()) for found in (documents, queries))
    return Dataset(name, kept, asked, {"train": judged})


def scores(source: str, reading: Reading) -> Run:
    """The teacher scores of a table, under the ids that :func:`read` gives; of a pair in several rows, the first's.

    Raises:
        UserError: No row has ``scores``.
    """
    found: dict[str, dict[str, float]] = {}
    for query, texts, values in _rows(tables.table(source), reading):
        scored = found.setdefault(_named("q", query, {}), {}) if values else {}
        for text, score in zip(texts, values, strict=bool(values)):
            scored.setdefault(_named("d", text, {}), score)
    if not found:
        raise UserError(f"{source}: no row has a column 'scores'")
    return Run.from_dict(found)


def write(dataset: Dataset, path: Path, export: Export) -> None:
    """One row per relevant document that the Run scored, with its query's best-scored other documents.

    Every row has as many negatives (the library's tables know no gaps): a query with fewer is left out, and named.

    Raises:
        UserError: There is no Run, or its ending names no table, or no query has enough negatives.
    """
    table = tables.BY_ENDING.get(path.suffix.lower())
    if export.run is None:
        raise UserError("a training table needs teacher scores: give --scores RUN, a run that `score` wrote")
    if table is None or table.write is None:
        raise UserError(f"{path}: a training table is written as .parquet, .jsonl or .csv")
    rows = _exported(dataset, export, path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path}: no query has {export.negatives} negatives; ask for fewer with --negatives")
    negatives = [f"negative_{place}" for place in range(1, export.negatives + 1)]
    with files.atomic(path) as temporary:
        table.write(temporary, ("query", "positive", *negatives, "scores"), chain([first], rows))


def _exported(dataset: Dataset, export: Export, path: Path) -> Iterator[tuple[Any, ...]]:
    assert export.run is not None
    seen, short = generated.as_trained(dataset, export.split), []
    judged = seen.split(export.split)
    for query_id, doc_ids, values in generated.renamed(export.run, dataset):
        relevant = {doc_id for doc_id, grade in judged.get(query_id, {}).items() if grade > 0}
        scored = dict(zip(doc_ids, values.tolist(), strict=True))
        others = [doc_id for doc_id in doc_ids if doc_id not in relevant][: export.negatives]
        positives = [doc_id for doc_id in doc_ids if doc_id in relevant]
        if len(others) < export.negatives or not positives:
            short.append(query_id)
            continue
        for positive in positives:
            row = [positive, *others]
            yield (seen.queries[query_id], *seen.documents.take(row), [scored[doc_id] for doc_id in row])
    if short:
        needs = f"no scored relevant document or fewer than {export.negatives} others"
        logger.warning("%s: %d queries left out with %s, first %s", path, len(short), needs, ", ".join(short[:3]))


def _rows(table: Table, reading: Reading) -> Iterator[tuple[str, list[str], list[float]]]:
    """Query, positive followed by negatives, and their scores (none: an empty list)."""
    for where, row in table.rows(reading):
        try:
            yield _row(row)
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)


def _row(row: Any) -> tuple[str, list[str], list[float]]:
    names = list(row) if isinstance(row, dict) else []
    query = next((row[name] for name in QUERY if name in names), None)
    positive = next((row[name] for name in POSITIVE if name in names), None)
    others = [row[name] for name in names if name.startswith("negative")]
    negatives = [text for cell in others for text in (cell if isinstance(cell, list) else [cell]) if text is not None]
    if not all(isinstance(text, str) and text.strip() for text in (query, positive, *negatives)):
        raise RowError(
            "training row without texts",
            f"a training row needs texts in query, positive and any negative_1, ...; it has {', '.join(names)}",
        )
    values = [float(score) for score in row.get("scores") or ()]
    if values and len(values) != 1 + len(negatives):
        raise RowError("scores that do not fit", f"{len(values)} scores for {1 + len(negatives)} texts")
    return str(query), [str(positive), *negatives], values


def _named(prefix: str, text: str, texts: dict[str, str]) -> str:
    """The id of a text, noted in ``texts``."""
    id_ = f"{prefix}-{text_hash(text):016x}"
    texts.setdefault(id_, text)
    return id_


TRAINING_TABLE = Format("sentence-transformers", lambda source: False, read, write)
