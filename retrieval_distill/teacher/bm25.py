"""BM25 as teacher, for ensembles.

Its scores depend on the word statistics of the corpus, and so does its fingerprint. A pair without a common word scores
0. Knows BM25; must not know stores, Runs or judgements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.retrieval.bm25 import BM25, reader
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream

PAIRS = 4096
"""Pairs scored at once; about 50 MB of words and counts."""


@dataclass(frozen=True, eq=False)
class BM25Teacher:
    """A teacher that scores pairs by BM25.

    Args:
        documents: The corpus, for word statistics and document lengths.
        options: Options of :class:`retrieval_distill.retrieval.bm25.BM25`.
    """

    documents: Texts
    options: dict[str, Any]

    silent = 0.0

    @property
    def fingerprint(self) -> str:
        """Hash of the corpus and the options."""
        return stages.fingerprint(identity(self.documents, self.options))[:32]

    @property
    def description(self) -> dict[str, Any]:
        """Facts about the teacher, for people."""
        return {**identity(self.documents, self.options), "model": "bm25", "documents": len(self.documents)}

    def score(self, pairs: Pairs) -> ScoreStream:
        """Score the pairs of some documents at a time; a score depends only on the pair's texts and the corpus."""
        positions = pairs.positions[np.argsort(pairs.rows[pairs.positions, 1], kind="stable")]
        for start in range(0, len(positions), PAIRS):
            own = positions[start : start + PAIRS]
            (own_queries, query_rows), (own_documents, document_rows) = (
                np.unique(pairs.rows[own, side], return_inverse=True) for side in (0, 1)
            )
            queries, documents = (
                [pairs.queries[row] for row in own_queries],
                [pairs.documents[row] for row in own_documents],
            )
            yield own, self._index.scores(queries, documents, np.stack([query_rows, document_rows], axis=1))

    @cached_property
    def _index(self) -> BM25:
        return BM25(self.documents, **self.options)


def load(documents: Texts, options: dict[str, Any]) -> BM25Teacher:
    """BM25 as teacher; the corpus is indexed when the first pair is scored.

    Raises:
        UserError: The stemmer or language is unknown, or PyStemmer is not installed.
    """
    reader(options["stemmer"], options["language"])
    return BM25Teacher(documents, options)


def identity(documents: Texts, options: dict[str, Any]) -> dict[str, Any]:
    """Everything that changes a score."""
    return {"kind": "bm25", "corpus": documents.fingerprint, **options}
