"""Hybrid-aware distillation: the student learns what BM25 lacks.

What is served is often the fusion of the student with BM25. So the objectives hold ``similarity + weight * BM25 / sd``
against the teacher, for every pair of a step: candidates, in-batch documents and remembered ones alike. The student's
part is then a residual, and its capacity goes to what words do not tell. ``sd`` is the standard deviation of the BM25
scores of training candidates, so the weight is in units of the similarities as training has them (``student.scale``
included), whatever the collection. Nothing is subtracted: a pair without a common word stays at 0, and a level that all
documents of a query share is the same to every objective but ``score_mse``.

Knows scores of pairs; must not know where they come from, models or objectives.

Source: Gao et al., "Complementing Lexical Retrieval with Semantic Residual Embedding", 2021, arXiv:2004.13969 (their
residual is in the margin of a hinge loss; here it is in the similarity, so that every objective has it).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.training.groups import Group

logger = logging.getLogger("retrieval_distill")

Scores = Callable[[Texts, Sequence[str]], np.ndarray]
"""Queries and ids of documents to the BM25 scores of all their pairs, float32 [queries, documents]."""

Pairs = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Ids of queries and of documents to what is added to the similarities of all their pairs, float32 of that shape."""

SAMPLED = 1000
"""Training queries whose candidates tell the standard deviation, at most."""


@dataclass(frozen=True, eq=False)
class Lexical:
    """What BM25 adds to the student's similarities: ``factor`` times its scores."""

    scores: Scores
    factor: float

    @classmethod
    def weighted(cls, scores: Scores, weight: float, groups: Sequence[Group], queries: Texts) -> Lexical:
        """BM25 by a weight in units of the similarities.

        Args:
            scores: BM25's.
            weight: What one standard deviation of these adds to a similarity.
            groups: The training groups; evenly spaced ones tell the standard deviation of their candidates' scores.
            queries: Their texts.

        Raises:
            UserError: BM25 scores all candidates alike.
        """
        rows = np.linspace(0, len(groups) - 1, min(SAMPLED, len(groups))).round().astype(int)
        sampled = [groups[row] for row in rows]
        found = [scores(queries.select([group.query_id]), group.doc_ids).ravel() for group in sampled]
        deviation = float(np.concatenate(found).std(dtype=np.float64))
        if deviation == 0:
            raise UserError(
                "training.lexical_weight: BM25 scores all candidates of the training queries alike and adds nothing; "
                "leave it out, or see to retrieve.language and retrieve.stemmer"
            )
        logger.info("the student learns what BM25 lacks: similarities + %g * BM25 / %.3g", weight, deviation)
        return cls(scores, weight / deviation)

    def __call__(self, queries: Texts, doc_ids: Sequence[str]) -> np.ndarray:
        """What is added for all pairs, float32 [queries, documents]."""
        return (self.factor * self.scores(queries, doc_ids)).astype(np.float32)

    def of(self, queries: Texts) -> Pairs:
        """The same for some of these queries, by their ids."""
        return lambda query_ids, doc_ids: self(queries.select(query_ids), doc_ids)
