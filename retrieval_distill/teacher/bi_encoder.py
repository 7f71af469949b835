"""A bi-encoder as teacher: self-distillation, and embedding models too large to serve.

Knows bi-encoders; must not know stores, Runs or judgements. Its raw score is the model's own similarity (a cosine lies
within -1 and 1: ``normalise: z-score`` or ``temperature`` gives objectives a useful scale).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill import models
from retrieval_distill.runtime import stages
from retrieval_distill.scores.contract import Pairs, Scored
from retrieval_distill.student import encoder

PAIRS_PER_PRODUCT = 65536
"""Pairs whose similarities are computed at once: bounds memory."""


@dataclass(frozen=True, eq=False)
class BiEncoderTeacher:
    """A teacher that scores pairs by the similarity of their two vectors."""

    model: SentenceTransformer
    fingerprint: str
    description: dict[str, Any]

    def score(self, pairs: Pairs) -> Scored:
        """Embed every text that a wanted pair needs, once; then the similarities."""
        positions = pairs.positions
        queries, query_rows = self._vectors(pairs.queries, pairs.rows[positions, 0], "query")
        documents, document_rows = self._vectors(pairs.documents, pairs.rows[positions, 1], "document")
        for start in range(0, len(positions), PAIRS_PER_PRODUCT):
            part = slice(start, start + PAIRS_PER_PRODUCT)
            scores = np.einsum("ij,ij->i", queries[query_rows[part]], documents[document_rows[part]])
            yield positions[part], scores.astype(np.float32)

    def _vectors(self, texts: Sequence[str], rows: np.ndarray, kind: encoder.Kind) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the texts that ``rows`` name, and where each row's vector is."""
        needed, places = np.unique(rows, return_inverse=True)
        vectors = encoder.encode(self.model, [texts[row] for row in needed], kind)
        if self.description["similarity"] == "cosine":
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors, places


def load(name: str, max_length: int | None = None, dtype: str = "auto") -> BiEncoderTeacher:
    """Load a bi-encoder as teacher.

    Args:
        name: A hub id, a folder, or ``packaged:all-MiniLM-L6-v2``.
        max_length: Tokens of a text; ``None`` keeps the model's own limit.
        dtype: What the model computes in; ``"auto"``: bfloat16 where it is native.

    Raises:
        UserError: The model is not to be had, or was made to be compared by a distance.
    """
    model = encoder.load(name, dtype, max_length)
    similarity = models.similarity(name)
    computed = str(next(model.parameters()).dtype).removeprefix("torch.")
    identity = {
        "kind": "bi-encoder", "model": models.fingerprint(name), "max_length": encoder.limit(model, "document"),
        "dtype": computed, "similarity": similarity,
    }  # fmt: skip
    return BiEncoderTeacher(model, stages.fingerprint(identity)[:32], {**identity, "model": name})
