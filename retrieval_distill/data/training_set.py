"""``TrainingSet``: scored candidates with their judgements and texts.

Knows Runs, texts and grades; must not know tokens, models or objectives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import stages


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What a student learns from.

    Args:
        scored: Candidates of the training queries with a teacher's raw scores; NaN if one is missing.
        qrels: Judgements of the training split, which distinguish relevant candidates from the others.
        queries: Texts of the training queries.
        documents: Texts of the candidates.
    """

    scored: Run
    qrels: Qrels
    queries: Texts
    documents: Texts

    @property
    def inputs(self) -> dict[str, Any]:
        """Its fingerprints, as inputs of a stage that depends on it."""
        return {
            "scores": stages.fingerprint(self.scored.frame.to_csv(index=False)),
            "texts": [self.documents.fingerprint, self.queries.fingerprint],
            "qrels": stages.fingerprint(self.qrels),
        }

    def __repr__(self) -> str:
        queries, candidates = len(self.scored.query_ids), len(self.scored)
        return f"TrainingSet({counted(queries, 'query')}, {counted(candidates, 'scored candidate')})"
