"""Training tables of sentence-transformers: ``query``, ``positive``, ``negative_1``, ... and optionally ``scores``.

A row's ``scores`` are the teacher's, for the positive and then for each negative. In tables with ``label`` or
``labels`` the column of the positive contains a text of any grade, or a list of them, and the labels are the grades.
These are the formats of ``mine_hard_negatives``, except pairs with a ``score``, which do not tell what is relevant. The
texts have no ids: they get the hash of the text, so that a text in many rows is one document. Knows these columns; must
not know how candidates were found.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from retrieval_distill.data import columns, generated
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.formats import judgements, tables
from retrieval_distill.data.formats.reading import Export, Format, Reading, RowError, Table
from retrieval_distill.data.hashes import text_hash
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import files

logger = logging.getLogger("retrieval_distill")

QUERY, POSITIVE = ("query", "anchor", "question"), ("positive", "answer")
LABELS, SCORES = ("labels", "label"), ("scores", "score")
NEGATIVE = re.compile(r"negatives?(_\d+)?")
"""Names of columns, case-insensitive."""


class TrainingRow(NamedTuple):
    """A row: a query and texts, each with its grade and, if there are scores, its score."""

    query: str
    texts: list[str]
    grades: list[int]
    scores: list[float]


def read(source: str, reading: Reading) -> Dataset:
    """Read a table file; see :func:`of_table`."""
    return of_table(Path(source).stem, tables.table(source), reading)


def of_table(name: str, table: Table, reading: Reading) -> Dataset:
    """A table's texts, with its judgements as split ``train``: the labels, or 1 for a positive and 0 for a negative.

    A text in several rows of a query has the highest of its grades.

    Raises:
        UserError: A row is bad and bad rows are refused.
    """
    queries: dict[str, str] = {}
    documents: dict[str, str] = {}
    judged: Qrels = {}
    for row in _rows(table, reading):
        grades = judged.setdefault(_id_of("q", row.query, queries), {})
        for text, grade in zip(row.texts, row.grades, strict=True):
            doc_id = _id_of("d", text, documents)
            grades[doc_id] = max(grades.get(doc_id, grade), grade)
    kept, asked = (Texts.from_records((i, "", text) for i, text in found.items()) for found in (documents, queries))
    return Dataset(name, kept, asked, {"train": judged})


def scores(source: str, reading: Reading) -> Run:
    """The teacher scores of a table, with the ids of :func:`read`; for a pair in several rows, the first score.

    Raises:
        UserError: No row has ``scores``.
    """
    found: dict[str, dict[str, float]] = {}
    for row in _rows(tables.table(source), reading):
        if row.scores:
            scored = found.setdefault(_id_of("q", row.query, {}), {})
            for text, score in zip(row.texts, row.scores, strict=True):
                scored.setdefault(_id_of("d", text, {}), score)
    if not found:
        raise UserError(f"{source}: no row has a column 'scores'")
    return Run.from_dict(found)


def write(dataset: Dataset, path: Path, export: Export) -> None:
    """Write one row per relevant document that the Run scored, with its query's best-scored other documents.

    Every row has the same number of negatives (the library allows no gaps): queries with fewer are left out and named.

    Raises:
        UserError: There is no Run, the suffix is not that of a table, or no query has enough negatives.
    """
    table = tables.BY_ENDING.get(path.suffix.lower())
    if export.run is None:
        raise UserError("a training table needs teacher scores: give --scores RUN, a run that `score` wrote")
    if table is None or table.write is None:
        raise UserError(f"{path}: a training table must end in .parquet, .jsonl or .csv")
    rows = _export_rows(dataset, export, path)
    first = next(rows, None)
    if first is None:
        raise UserError(f"{path}: no query has {counted(export.negatives, 'negative')}; ask for fewer with --negatives")
    texts = ["query", "positive", *(f"negative_{place}" for place in range(1, export.negatives + 1))]
    types = {**dict.fromkeys(texts, columns.TEXT), "scores": pa.list_(pa.float64())}
    with files.atomic(path) as temporary:
        table.write(temporary, types, chain([first], rows))


def _export_rows(dataset: Dataset, export: Export, path: Path) -> Iterator[tuple[Any, ...]]:
    assert export.run is not None
    seen, short = generated.training_view(dataset, export.split), []
    judged = seen.qrels(export.split)
    for query_id, doc_ids, values in generated.use_copies(export.run, dataset):
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
        left_out = counted(len(short), "query")
        logger.warning("%s: %s left out with %s, first %s", path, left_out, needs, ", ".join(short[:3]))


def _rows(table: Table, reading: Reading) -> Iterator[TrainingRow]:
    unused, numbers = dict[str, None](), None
    for where, row in table.rows(reading):
        try:
            found = _Row(row)
            scored = found.scored()
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)
        else:
            unused.update(dict.fromkeys(found.unused))
            numbers = (numbers is not False) and all(text.isdigit() for text in (scored.query, *scored.texts))
            yield scored
    if numbers:
        logger.warning("%s: all its texts are numbers; if these are ids, replace them by texts", table.name)
    if unused:
        logger.info("%s: unused columns: %s", table.name, ", ".join(unused))


class _Row:
    """The cells of a row by role."""

    def __init__(self, row: Any) -> None:
        cells: Mapping[str, Any] = row if isinstance(row, dict) else {}
        self.names, self.cells = list(cells), {name.casefold(): cell for name, cell in cells.items()}
        self.negatives = [name for name in self.cells if NEGATIVE.fullmatch(name)]
        kinds = (QUERY, POSITIVE, LABELS, SCORES)
        self.chosen = {names: next((name for name in names if name in self.cells), "") for names in kinds}
        self.unused = [name for name in cells if name.casefold() not in {*self.negatives, *self.chosen.values()}]

    def scored(self) -> TrainingRow:
        """The row.

        Raises:
            RowError: A text is missing, or labels or scores are invalid or do not fit the texts.
        """
        query, positive = (self.cells.get(self.chosen[names]) for names in (QUERY, POSITIVE))
        others = chain.from_iterable(_as_list(self.cells[name]) for name in self.negatives)
        texts = [*_as_list(positive), *(text for text in others if text not in (None, ""))]
        self._check([query, *texts])
        labels, scores = self.chosen[LABELS], self.chosen[SCORES]
        if scores == "score" and not labels:
            detail = "pairs with a score have no judgement; use output_format triplet or n-tuple, or a column label"
            raise RowError("pair without label", detail)
        grades = [judgements.grade(label) for label in _as_list(self.cells[labels])] if labels else [1]
        grades += [] if labels else [0] * (len(texts) - 1)
        values = _numbers(self.cells[scores], scores) if scores else []
        for what, name, found in (("labels", labels, grades), ("scores", scores, values)):
            if name and len(found) != len(texts):
                raise RowError(f"{what} that do not fit", f"{len(found)} {what} for {counted(len(texts), 'text')}")
        return TrainingRow(str(query), texts, grades, values)

    def _check(self, texts: list[Any]) -> None:
        if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
            needed = "a training row needs texts in query, positive and any negative_1, ..."
            numbers = "; numbers are not texts" if any(isinstance(text, int | float) for text in texts) else ""
            raise RowError("training row without texts", f"{needed}{numbers}; it has {', '.join(self.names)}")


def _as_list(cell: Any) -> list[Any]:
    return cell if isinstance(cell, list) else [cell]


def _numbers(cell: Any, name: str) -> list[float]:
    """The scores of a cell: a list of numbers, or such a list as JSON in a table of strings."""
    listed = cell
    if isinstance(cell, str):
        try:
            listed = json.loads(cell)
        except (ValueError, RecursionError):
            listed = None
    listed = [listed] if name == "score" else listed
    if isinstance(listed, list) and all(_is_number(score) for score in listed):
        return [float(score) for score in listed]
    raise RowError("scores that are no numbers", f"{name} must be a number for every text, not {cell!r:.200}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _id_of(prefix: str, text: str, texts: dict[str, str]) -> str:
    """The id of a text, which is added to ``texts``."""
    id_ = f"{prefix}-{text_hash(text):016x}"
    texts.setdefault(id_, text)
    return id_


TRAINING_TABLE = Format("sentence-transformers", lambda source: False, read, write)
