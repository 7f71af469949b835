"""Scores for a whole Run, and a Run in a teacher's order; one teacher or several.

Knows Runs, texts and the score store; must not know what kind of teacher it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.scores.contract import Teacher
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher import ensemble, scoring
from retrieval_distill.teacher.ensemble import Ensemble


def score(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher | Ensemble, store: str | Path, engine: str = "local"
) -> tuple[Run, dict[str, Any]]:
    """A teacher's raw scores for every pair of a Run, through the score store in folder ``store``.

    Several teachers (an ensemble) give calibrated scores; the store keeps each one's raw ones. With ``engine="ray"``
    a cross-encoder scores on the nodes of a Ray cluster (``RAY_ADDRESS``), and the store stays here.
    """
    if engine not in ("local", "ray"):
        raise UserError(f"engine {engine!r} is unknown{nearest(engine, ('local', 'ray'))}")
    if engine == "ray":
        from retrieval_distill.teacher.on_cluster import on_cluster

        teacher = on_cluster(teacher)
    if isinstance(teacher, Ensemble):
        return ensemble.score(run, queries, documents, teacher, ScoreStore(store))
    return scoring.score(run, queries, documents, teacher, ScoreStore(store))


def rerank(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher | Ensemble, store: str | Path, depth: int
) -> tuple[Run, dict[str, Any]]:
    """The first ``depth`` documents of every query in the teacher's order, the others below them in their old order."""
    head, counts = score(run.top(depth), queries, documents, teacher, store)
    tail = run.frame[run.frame.groupby("query_id", sort=False).cumcount() >= depth]
    if tail.empty:
        return head, counts
    floor = tail["query_id"].map(head.frame.groupby("query_id")["score"].min())
    below = tail.groupby("query_id", sort=False).cumcount() + 1
    merged = pd.concat([head.frame, tail.assign(score=floor - below)])
    return Run.from_columns(merged["query_id"], merged["doc_id"], merged["score"]), counts
