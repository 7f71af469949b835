"""A bi-encoder as teacher: self-distillation, and embedding models too large to serve.

Knows bi-encoders and vectors on disk; must not know stores, Runs or judgements. Its raw score is the model's own
similarity (a cosine lies within -1 and 1: ``normalise: z-score`` or ``temperature`` gives objectives a useful scale).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill import models
from retrieval_distill.config import NO_LIMIT
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.embedding.embeddings import Embeddings, comparable
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream
from retrieval_distill.student import encoder

VECTORS_PER_READ = 4096
"""Stored vectors that are read at once."""


@dataclass(frozen=True, eq=False)
class BiEncoderTeacher:
    """A teacher that scores pairs by the similarity of their two vectors."""

    model: SentenceTransformer
    fingerprint: str
    description: dict[str, Any]
    document_vectors: Embeddings | None = None
    """Vectors that the model has made of documents: these texts are not embedded again."""

    def score(self, pairs: Pairs) -> ScoreStream:
        """Embed every text that a wanted pair needs, once; the pairs of some documents at a time.

        Documents whose vectors are stored come first, and are not embedded. All queries are, and the other documents,
        longest first, so that what a killed attempt had scored changes no batch of those that are left.
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
        for rows, found in self._vectors(texts):
            own = np.concatenate([of_document[row] for row in rows])
            documents = np.repeat(comparable(found, similarity), counts[rows], axis=0)
            scores = np.einsum("ij,ij->i", queries[pairs.rows[own, 0]], documents)
            yield own, scores.astype(np.float32)

    def _vectors(self, texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Rows of documents, and their vectors, some at a time."""
        known = np.full(len(texts), -1)
        if self.document_vectors is not None and len(self.document_vectors):
            known = _find(text_hashes(texts), self.document_vectors.hashes)
            there = np.flatnonzero(known >= 0)
            for start in range(0, len(there), VECTORS_PER_READ):
                rows = there[start : start + VECTORS_PER_READ]
                yield rows, self.document_vectors.take(self.document_vectors.ids_of(known[rows]).tolist())
        new = np.flatnonzero(known < 0)
        for batch, found in encoder.encode_parts(self.model, [texts[int(row)] for row in new], "document"):
            yield new[batch], found


def load(
    name: str, max_length: int | None = None, dtype: str = "auto", stored: Sequence[Embeddings] = ()
) -> BiEncoderTeacher:
    """Load a bi-encoder as teacher.

    Args:
        name: A hub id, a folder, or ``packaged:all-MiniLM-L6-v2``.
        max_length: Tokens of a text; ``None`` keeps the model's own limit.
        dtype: What the model computes in; ``"auto"``: bfloat16 where it is native.
        stored: Vectors of documents; those that this model made of texts as long, in this dtype, are used.

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
    made = {
        "model": identity["model"], "max_length": None if max_length and max_length >= NO_LIMIT else max_length,
        "dtype": computed, "kind": "document", "storage": "float32", "backend": "torch",
    }  # fmt: skip
    usable = (vectors for vectors in stored if made.items() <= _provenance(vectors).items())
    return BiEncoderTeacher(model, stages.fingerprint(identity)[:32], {**identity, "model": name}, next(usable, None))


def _provenance(vectors: Embeddings) -> dict[str, Any]:
    """How vectors were made."""
    inputs = vectors.manifest["inputs"]
    return {**inputs, "dtype": devices.dtype_name(inputs["dtype"])}


def _find(wanted: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Where each hash stands among others; -1: nowhere."""
    order = np.argsort(hashes, kind="stable")
    found = np.searchsorted(hashes, wanted, sorter=order)
    places = order[np.minimum(found, len(order) - 1)]
    return np.where(hashes[places] == wanted, places, -1)
