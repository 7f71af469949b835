"""BM25 as teacher: a member of an ensemble that knows which words are rare in a corpus.

Knows BM25; must not know stores, Runs or judgements. Its scores depend on the corpus, so its fingerprint does too. In a
pair that shares no word, BM25 has nothing to say: its score is 0.
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
"""Pairs scored at a time: some 50 MB of words and counts."""


@dataclass(frozen=True, eq=False)
class BM25Teacher:
    """A teacher that scores pairs by the words that they share.

    Args:
        documents: The corpus that tells which words are rare, and how long documents are.
        options: Of :class:`retrieval_distill.retrieval.bm25.BM25`.
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
        """For people."""
        return {**identity(self.documents, self.options), "model": "bm25", "documents": len(self.documents)}

    def score(self, pairs: Pairs) -> ScoreStream:
        """The pairs of some documents at a time; a pair's score depends on its texts and the corpus alone."""
        positions = pairs.positions[np.argsort(pairs.rows[pairs.positions, 1], kind="stable")]
        for start in range(0, len(positions), PAIRS):
            own = positions[start : start + PAIRS]
            (asked, query_rows), (found, document_rows) = (
                np.unique(pairs.rows[own, side], return_inverse=True) for side in (0, 1)
            )
            queries, documents = [pairs.queries[row] for row in asked], [pairs.documents[row] for row in found]
            yield own, self._index.scores(queries, documents, np.stack([query_rows, document_rows], axis=1))

    @cached_property
    def _index(self) -> BM25:
        return BM25(self.documents, **self.options)


def load(documents: Texts, options: dict[str, Any]) -> BM25Teacher:
    """BM25 over a corpus as teacher; the corpus is read when the first pair is scored.

    Raises:
        UserError: There is no such stemmer or language, or PyStemmer is not installed.
    """
    reader(options["stemmer"], options["language"])
    return BM25Teacher(documents, options)


def identity(documents: Texts, options: dict[str, Any]) -> dict[str, Any]:
    """All that changes a score."""
    return {"kind": "bm25", "corpus": documents.fingerprint, **options}
