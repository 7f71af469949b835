"""Two rankings of the same documents side by side, with enough text to see why they differ.

Knows Runs, texts and judgements; must not know which query is worth showing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.snippets import snippet

SHOWN = 10
"""Documents of a ranking that are shown."""


@dataclass(frozen=True)
class Document:
    """One document of a ranking; its ``grade`` is empty where nobody judged it."""

    doc_id: str
    title: str
    snippet: str
    score: float
    grade: int | None


@dataclass(frozen=True)
class SideBySide:
    """A query, and the best documents of teacher and student."""

    query_id: str
    query: str
    teacher: list[Document]
    student: list[Document]


def side_by_side(
    teacher: Run, student: Run, query_ids: Sequence[str], dataset: Dataset, qrels: Qrels
) -> list[SideBySide]:
    """The best documents of teacher and student for some queries."""
    best = [
        {query_id: list(zip(docs, scores, strict=True)) for query_id, docs, scores in run.select(query_ids).top(SHOWN)}
        for run in (teacher, student)
    ]
    rows = []
    for query_id in query_ids:
        query, judged = dataset.queries[query_id], qrels[query_id]
        shown = [[document(doc, float(score), query, dataset, judged) for doc, score in of[query_id]] for of in best]
        rows.append(SideBySide(query_id, query, *shown))
    return rows


def document(doc_id: str, score: float, query: str, dataset: Dataset, grades: Mapping[str, int]) -> Document:
    """One document of a ranking."""
    title, text = dataset.documents.record(doc_id)
    return Document(doc_id, title, snippet(text, query), score, grades.get(doc_id))
