"""Topic-aware batches: queries are clustered once, and the queries of a step are of one topic.

Negatives that queries of a step lend one another are then about the same things, and hard. Knows vectors and the
order of queries; must not know where vectors come from.

Source: Hofstaetter et al., "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling",
2021, arXiv:2104.06967, section 3 (one topic per batch; their margin-balanced pairs are not part of this).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import faiss
import numpy as np

from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

ITERATIONS = 25
"""Of k-means: FAISS's own default."""


def cluster(vectors: np.ndarray, topics: int, seed: int) -> np.ndarray:
    """The topic of every query, int64 [queries], by k-means.

    Args:
        vectors: float32 [queries, dimensions].
        topics: How many.
        seed: Of k-means.

    Raises:
        UserError: There are fewer queries than topics.
    """
    return nearest(fit(vectors, topics, seed, "training.topics"), vectors)


def fit(vectors: np.ndarray, topics: int, seed: int, option: str) -> faiss.Index:
    """The topics' means as an index; see :func:`cluster`. ``option`` is what the message names."""
    if len(vectors) < topics:
        raise UserError(f"{option}={topics}: only {len(vectors)} texts to find topics of; set it to fewer than that")
    # FAISS would cluster a sample of 256 per topic, and warn of topics of fewer than 39
    kmeans = faiss.Kmeans(
        vectors.shape[1], topics, niter=ITERATIONS, seed=seed, min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )  # fmt: skip
    kmeans.train(vectors)
    return kmeans.index


def nearest(means: faiss.Index, vectors: np.ndarray) -> np.ndarray:
    """The topic of every vector, int64 [vectors]: that of the nearest mean."""
    return means.search(np.ascontiguousarray(vectors, np.float32), 1)[1][:, 0]


def by_topic(topics: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[int]:
    """Queries without end, in batches of ``size`` that are of one topic as far as topics allow.

    An epoch deals out each topic's queries in fresh batches. What is left of topics, less than a batch of each, is
    joined to batches of several topics, and batches come in random order. What does not fill a last batch opens the
    next epoch's left-overs: after any epoch, every query was drawn once per epoch but for those fewer than ``size``.

    Args:
        topics: The topic of every query, int64 [queries].
        size: Queries of a batch.
        rng: Draws the order.
    """
    left = np.empty(0, np.int64)
    while True:
        members = [rng.permutation(np.flatnonzero(topics == topic)) for topic in rng.permutation(np.unique(topics))]
        whole = [len(rows) // size * size for rows in members]
        left = np.concatenate([left, *(rows[count:] for rows, count in zip(members, whole, strict=True))])
        mixed = len(left) // size * size
        batches = np.concatenate(
            [*(rows[:count] for rows, count in zip(members, whole, strict=True)), left[:mixed]]
        ).reshape(-1, size)
        left = left[mixed:]
        for batch in rng.permutation(batches):
            yield from batch.tolist()


def share_of_one_topic(topics: np.ndarray, size: int) -> float:
    """The share of an epoch's queries that come in batches of one topic."""
    return float((np.bincount(topics) // size * size).sum() / len(topics))
