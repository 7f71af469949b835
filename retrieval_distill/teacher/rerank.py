"""Scoring and reranking of a Run by one teacher or several.

Knows Runs, texts and the score store; must not know the kinds of teacher.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.scores.teacher_contract import Teacher
from retrieval_distill.teacher import ensemble, scoring
from retrieval_distill.teacher.ensemble import Ensemble


def score(run: Run, queries: Texts, documents: Texts, teacher: Teacher | Ensemble, store: str | Path) -> Run:
    """Score every pair of a Run, through the score store in folder ``store``.

    A single teacher yields raw scores, an ensemble calibrated ones; the store keeps raw scores only. The result's
    ``facts`` are ``pairs``, ``scored`` and ``stored``.
    """
    found: tuple[Run, dict[str, Any]]
    if isinstance(teacher, Ensemble):
        found = ensemble.score(run, queries, documents, teacher, ScoreStore(store))
    else:
        found = scoring.score(run, queries, documents, teacher, ScoreStore(store))
    return found[0].with_facts(**found[1])


def rerank(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher | Ensemble, store: str | Path, depth: int
) -> Run:
    """Reorder the first ``depth`` documents of every query by the teacher; the others follow in their old order."""
    head = score(run.top(depth), queries, documents, teacher, store)
    tail = run.frame[run.frame.groupby("query_id", sort=False).cumcount() >= depth]
    if tail.empty:
        return head
    floor = tail["query_id"].map(head.frame.groupby("query_id")["score"].min())
    below = tail.groupby("query_id", sort=False).cumcount() + 1
    merged = pd.concat([head.frame, tail.assign(score=floor - below)])
    return Run.from_columns(merged["query_id"], merged["doc_id"], merged["score"]).with_facts(**head.facts)
