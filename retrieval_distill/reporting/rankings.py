"""Two rankings of the same documents side by side, with enough text to see why they differ.

Knows Runs, texts and judgements; must not know which query is worth showing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.formatting import snippet

SHOWN = 10
"""Documents of a ranking that are shown."""


def side_by_side(
    runs: Mapping[str, Run], query_ids: Sequence[str], dataset: Dataset, qrels: Qrels
) -> list[dict[str, Any]]:
    """The best documents of each run for some queries.

    Returns:
        A row per query: ``query_id``, ``query``, and per run the list of its best documents, each with ``doc_id``,
        ``title``, ``snippet``, ``score`` and ``grade`` (``None``: not judged).
    """
    best = {name: run.select(query_ids).top(SHOWN) for name, run in runs.items()}
    by_query = {name: {query_id: list(zip(docs, scores, strict=True)) for query_id, docs, scores in run}
                for name, run in best.items()}  # fmt: skip
    rows = []
    for query_id in query_ids:
        query = dataset.queries[query_id]
        shown = {
            name: [document(doc_id, float(score), query, dataset, qrels[query_id]) for doc_id, score in found[query_id]]
            for name, found in by_query.items()
        }
        rows.append({"query_id": query_id, "query": query, **shown})
    return rows


def document(doc_id: str, score: float, query: str, dataset: Dataset, grades: Mapping[str, int]) -> dict[str, Any]:
    """One document of a ranking: ``doc_id``, ``title``, ``snippet``, ``score`` and ``grade``."""
    title, text = dataset.documents.record(doc_id)
    return {
        "doc_id": doc_id, "title": title, "snippet": snippet(text, query), "score": score, "grade": grades.get(doc_id),
    }  # fmt: skip
