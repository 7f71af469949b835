"""Relevance of a Run's pairs, and relevant documents that a Run lacks.

Knows Runs and grades; must not know where they come from.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run

PAIR = ["query_id", "doc_id"]
"""The columns that identify a pair."""


def with_relevant(candidates: Run, qrels: Qrels) -> Run:
    """Candidates plus all documents judged relevant, so that the teacher scores those too."""
    found = candidates.as_dict()
    merged = {
        query: {**{doc: 0.0 for doc, grade in judged.items() if grade > 0}, **found.get(query, {})}
        for query, judged in qrels.items()
        if query in found or any(grade > 0 for grade in judged.values())
    }
    return Run.from_dict(merged)


def relevance(run: Run, qrels: Qrels) -> np.ndarray:
    """Which pairs of a Run are judged relevant, bool [pairs]."""
    pairs = [(query, doc) for query, docs in qrels.items() for doc, grade in docs.items() if grade > 0]
    judged = pd.MultiIndex.from_tuples(pairs, names=PAIR)
    return pd.MultiIndex.from_frame(run.frame[PAIR]).isin(judged)
