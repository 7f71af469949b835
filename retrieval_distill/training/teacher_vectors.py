"""An embedding teacher's vectors of the training texts, stored on disk and read by id.

Knows texts and the embedder; must not know objectives or batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_distill.config import Recipe
from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.student.encoder import Kind

START = "start"
"""Name of the embedding teacher that is the student itself before training."""


@dataclass(frozen=True, eq=False)
class TeacherVectors:
    """Vectors of queries and documents, float32, memory-mapped."""

    queries: Embeddings
    documents: Embeddings

    @property
    def dimensions(self) -> int:
        """Number of dimensions of the teacher's vectors."""
        return int(self.queries.manifest["counts"]["dimensions"])

    def take(self, kind: Kind, ids: Sequence[str]) -> np.ndarray:
        """Vectors by id: float32 [ids, dimensions]."""
        return (self.queries if kind == "query" else self.documents).take(ids)


def teacher_vectors(recipe: Recipe, queries: Texts, documents: Texts, folder: Path) -> TeacherVectors | None:
    """Embed the training texts with the recipe's embedding teacher; ``None`` if the recipe has none.

    A resumed training reuses the vectors that are already there.

    Args:
        recipe: Section ``embedding_teacher``, and ``student.model`` for the teacher ``start``.
        queries: The training queries.
        documents: Their candidates.
        folder: Where the vectors are stored.
    """
    config = recipe.embedding_teacher
    if config.model is None:
        return None
    name = recipe.student.model if config.model == START else config.model
    embed(name, queries, folder / "queries", config.dtype, config.max_length, kind="query")
    embed(name, documents, folder / "documents", config.dtype, config.max_length)
    return TeacherVectors(Embeddings.open(folder / "queries"), Embeddings.open(folder / "documents"))
