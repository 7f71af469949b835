"""Hybrid-aware distillation: the student learns what BM25 misses.

A student is often served fused with BM25. The objectives therefore compare ``similarity + weight * BM25 / sd`` with the
teacher, for every pair of a step: candidates, in-batch documents and documents in memory. The student learns the
residual, so its capacity goes to what words do not tell. ``sd`` is the standard deviation of the BM25 scores of
training candidates, so the weight has the unit of the scaled similarities (``student.scale`` included) on every
collection. BM25 is not centred: a pair without a common word stays at 0, and an offset shared by all documents of a
query matters to no objective but ``score_mse``.

Knows scores of pairs; must not know where they come from, models or objectives.

Source: Gao et al., "Complementing Lexical Retrieval with Semantic Residual Embedding", 2021, arXiv:2004.13969 (their
residual is in the margin of a hinge loss; here it is in the similarity, so that it applies to every objective).
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
"""Function from queries and document ids to the BM25 scores of all pairs, float32 [queries, documents]."""

Pairs = Callable[[Sequence[str], Sequence[str]], np.ndarray]
"""Function from query ids and document ids to the term of all pairs, float32 [queries, documents]."""

SAMPLED = 1000
"""Training queries, at most, from whose candidates the standard deviation is computed."""


@dataclass(frozen=True, eq=False)
class LexicalTerm:
    """The term added to the student's similarities: ``factor`` times the BM25 scores."""

    scores: Scores
    factor: float

    @classmethod
    def from_weight(cls, scores: Scores, weight: float, groups: Sequence[Group], queries: Texts) -> LexicalTerm:
        """The term for a weight in units of the similarities.

        Args:
            scores: BM25 scores.
            weight: Added to a similarity per standard deviation of the BM25 scores.
            groups: Training groups; the standard deviation is over the candidates of an evenly spaced sample of them.
            queries: Texts of the groups' queries.

        Raises:
            UserError: All candidates have the same BM25 score.
        """
        rows = np.linspace(0, len(groups) - 1, min(SAMPLED, len(groups))).round().astype(int)
        sampled = [groups[row] for row in rows]
        found = [scores(queries.select([group.query_id]), group.doc_ids).ravel() for group in sampled]
        deviation = float(np.concatenate(found).std(dtype=np.float64))
        if deviation == 0:
            raise UserError(
                "training.lexical_weight: BM25 gives all candidates of the training queries the same score; leave the "
                "option out, or check retrieve.language and retrieve.stemmer"
            )
        logger.info("hybrid-aware distillation: similarities + %g * BM25 / %.3g", weight, deviation)
        return cls(scores, weight / deviation)

    def __call__(self, queries: Texts, doc_ids: Sequence[str]) -> np.ndarray:
        """The term of all pairs, float32 [queries, documents]."""
        return (self.factor * self.scores(queries, doc_ids)).astype(np.float32)

    def for_queries(self, queries: Texts) -> Pairs:
        """The term as a function of query ids and document ids, for ids among ``queries``."""
        return lambda query_ids, doc_ids: self(queries.select(query_ids), doc_ids)
