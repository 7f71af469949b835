"""A bi-encoder as teacher, for self-distillation and for embedding models too large to serve.

The raw score is the model's own similarity; a cosine lies between -1 and 1, so objectives need ``normalise: z-score``
or ``temperature``. Knows bi-encoders and vectors on disk; must not know stores, Runs or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer

from retrieval_distill import models
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.embedding.embeddings import Embeddings, comparable
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream
from retrieval_distill.student import encoder

VECTORS_PER_READ = 4096
"""Stored vectors read at once."""


@dataclass(frozen=True, eq=False)
class BiEncoderTeacher:
    """A teacher that scores pairs by the similarity of their two vectors."""

    model: SentenceTransformer
    fingerprint: str
    description: dict[str, Any]
    document_vectors: Embeddings | None = None
    """Document vectors that the model computed before; these texts are not embedded again."""

    def score(self, pairs: Pairs) -> ScoreStream:
        """Embed each text of a wanted pair once, and yield scores for some documents at a time.

        Documents with stored vectors come first. The others are embedded longest first, so that the batches do not
        depend on what a killed attempt had already scored.
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
        """Batches of rows and their vectors: stored ones first, then new ones."""
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
        max_length: Tokens per text; ``None``: the model's own limit.
        dtype: The compute dtype; ``"auto"``: bfloat16 on hardware that supports it natively.
        stored: Document vectors; the first that this model computed with the same options is used.

    Raises:
        UserError: There is no such model, or its similarity is a distance.
    """
    model = encoder.load(name, dtype, max_length)
    similarity = models.similarity(name)
    computed = str(next(model.parameters()).dtype).removeprefix("torch.")
    identity = {
        "kind": "bi-encoder", "model": models.fingerprint(name), "max_length": encoder.limit(model, "document"),
        "dtype": computed, "similarity": similarity,
    }  # fmt: skip
    made = {
        "model": identity["model"], "max_length": max_length,
        "dtype": computed, "kind": "document", "storage": "float32", "backend": "torch",
    }  # fmt: skip
    usable = (vectors for vectors in stored if made.items() <= _provenance(vectors).items())
    return BiEncoderTeacher(model, stages.fingerprint(identity)[:32], {**identity, "model": name}, next(usable, None))


def _provenance(vectors: Embeddings) -> dict[str, Any]:
    """How vectors were computed."""
    inputs = vectors.manifest["inputs"]
    return {**inputs, "dtype": devices.dtype_name(inputs["dtype"])}


def _find(wanted: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """The position of each hash among ``hashes``; -1 if it is absent."""
    order = np.argsort(hashes, kind="stable")
    found = np.searchsorted(hashes, wanted, sorter=order)
    places = order[np.minimum(found, len(order) - 1)]
    return np.where(hashes[places] == wanted, places, -1)
