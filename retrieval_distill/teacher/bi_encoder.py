"""A bi-encoder as teacher: self-distillation, and embedding models too large to serve.

Knows bi-encoders; must not know stores, Runs or judgements. Its raw score is the model's own similarity (a cosine lies
within -1 and 1: ``normalise: z-score`` or ``temperature`` gives objectives a useful scale).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill import models
from retrieval_distill.embedding.embeddings import comparable
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream
from retrieval_distill.student import encoder


@dataclass(frozen=True, eq=False)
class BiEncoderTeacher:
    """A teacher that scores pairs by the similarity of their two vectors."""

    model: SentenceTransformer
    fingerprint: str
    description: dict[str, Any]

    def score(self, pairs: Pairs) -> ScoreStream:
        """Embed every text that a wanted pair needs, once; the pairs of some documents at a time.

        All queries are embedded, and documents longest first, so that what a killed attempt had scored changes no
        batch of those that are left.
        """
        positions = pairs.positions
        needed, places = np.unique(pairs.rows[positions, 1], return_inverse=True)
        if not len(needed):
            return
        similarity = self.description["similarity"]
        queries = comparable(encoder.encode(self.model, pairs.queries, "query"), similarity)
        order, counts = np.argsort(places, kind="stable"), np.bincount(places)
        of_document = np.split(positions[order], np.cumsum(counts)[:-1])
        texts = [pairs.documents[row] for row in needed]
        for rows, found in encoder.encode_parts(self.model, texts, "document"):
            own = np.concatenate([of_document[row] for row in rows])
            documents = np.repeat(comparable(found, similarity), counts[rows], axis=0)
            scores = np.einsum("ij,ij->i", queries[pairs.rows[own, 0]], documents)
            yield own, scores.astype(np.float32)


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
