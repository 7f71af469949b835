"""Prepares document vectors for an index: normalised, truncated, in blocks, never all in memory.

Knows stored vectors; must not know FAISS or files of an index.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from retrieval_distill.embedding.embeddings import Embeddings, comparable
from retrieval_distill.errors import UserError

BLOCK = 8192
"""Number of vectors prepared at once."""


@dataclass(frozen=True, eq=False)
class PreparedVectors:
    """Vectors whose inner product is their similarity.

    Args:
        embeddings: The stored vectors.
        similarity: ``"cosine"`` or ``"dot"``.
        cut: Number of leading dimensions to keep; ``None``: all.

    Raises:
        UserError: The vectors have fewer dimensions.
    """

    embeddings: Embeddings
    similarity: str = "cosine"
    cut: int | None = None

    def __post_init__(self) -> None:
        have = self.embeddings.manifest["counts"]["dimensions"]
        if self.cut is not None and not 1 <= self.cut <= have:
            raise UserError(f"index dimensions {self.cut}: the vectors have {have}")

    @property
    def documents(self) -> int:
        """Number of vectors."""
        return self.embeddings.manifest["counts"]["documents"]

    @property
    def dimensions(self) -> int:
        """Length of a prepared vector."""
        return self.cut or self.embeddings.manifest["counts"]["dimensions"]

    def blocks(self) -> Iterator[np.ndarray]:
        """The vectors in row order, float32 [up to BLOCK, dimensions].

        Raises:
            UserError: A vector holds a NaN or an infinity.
        """
        start = 0
        for shard in self.embeddings.shards():
            for at in range(0, len(shard), BLOCK):
                block = comparable(np.array(shard[at : at + BLOCK]), self.similarity, self.cut)
                require_finite_rows(block, f"{self.embeddings.folder}: the vector of row", start)
                yield block
                start += len(block)

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """The vectors of these rows (ascending), float32 [rows, dimensions]; reads only their shards."""
        found, start = [np.empty((0, self.dimensions), np.float32)], 0
        for shard in self.embeddings.shards():
            here = rows[(rows >= start) & (rows < start + len(shard))] - start
            if len(here):
                found.append(comparable(np.asarray(shard[here]), self.similarity, self.cut))
            start += len(shard)
        return np.concatenate(found)

    def sample(self, count: int, seed: int = 7) -> np.ndarray:
        """A random sample of vectors without replacement, in row order; all if there are no more than ``count``."""
        rows = np.random.default_rng(seed).choice(self.documents, min(count, self.documents), replace=False)
        return self.rows(np.sort(rows))


def require_finite_rows(vectors: np.ndarray, whose: str, start: int = 0) -> None:
    """Refuse NaN and infinite vectors.

    Args:
        vectors: [vectors, dimensions].
        whose: Beginning of the message, before the row number.
        start: Number of the first row.

    Raises:
        UserError: One holds a NaN or an infinity.
    """
    finite = np.isfinite(vectors).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise UserError(
            f"{whose} {start + row} holds NaN or infinity; embed again, with dtype float32 if it was another"
        )
