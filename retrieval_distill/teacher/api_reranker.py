"""A reranker behind an endpoint as a teacher: one request scores many documents of a query.

Knows pairs and how they make requests; must not know HTTP, stores, Runs or judgements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_distill import endpoints
from retrieval_distill.llm import prompts
from retrieval_distill.llm.reranking import Asked, Reranker
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream


@dataclass(frozen=True, eq=False)
class ApiReranker:
    """A teacher that sends the wanted documents of each query in as few requests as the endpoint's ``batch`` allows.

    ``fingerprint`` covers all that changes a score, and not the server, which may move.
    """

    fingerprint: str
    description: dict[str, Any]
    reranker: Reranker

    def score(self, pairs: Pairs) -> ScoreStream:
        """Raw scores, in the order in which answers arrive.

        Raises:
            UserError: As :meth:`retrieval_distill.llm.client.Endpoint.ask`.
        """
        grouped = _by_query(pairs)
        rows = pairs.rows[pairs.positions, 1]
        sizes = np.array([len(pairs.documents[row]) for row in np.unique(rows)], np.int64)
        prompts.announce_truncation(sizes, self.reranker.options.max_characters)
        asked = [
            Asked(
                pairs.queries[pairs.rows[positions[0], 0]],
                [pairs.documents[row] for row in pairs.rows[positions, 1]],
                f"scores for query {pairs.ids(int(positions[0]))[0]!r}",
            )
            for positions in grouped
        ]
        for number, documents, scores in self.reranker.score(asked):
            yield grouped[number][documents], scores


def load(name: str) -> ApiReranker:
    """The reranker that ``api:NAME`` stands for; nothing is asked yet.

    Raises:
        UserError: It was not declared, or an option cannot work.
    """
    reranker, declared = endpoints.reranker(name), endpoints.find(name)
    options = declared.options.model_dump(include=endpoints.ANSWERS - {"model"})
    description = {"kind": "api", "model": reranker.endpoint.model, **options, "endpoint": reranker.endpoint.url}
    return ApiReranker(declared.fingerprint[:32], description, reranker)


def _by_query(pairs: Pairs) -> Sequence[np.ndarray]:
    """The positions of every query's wanted pairs."""
    positions = pairs.positions
    if not len(positions):
        return []
    order = positions[np.argsort(pairs.rows[positions, 0], kind="stable")]
    ends = np.flatnonzero(np.diff(pairs.rows[order, 0])) + 1
    return np.split(order, ends)
