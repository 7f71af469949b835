"""Topic-aware batches: queries are clustered once, and the queries of a step are of one topic.

In-batch negatives are then on the same topic as the query, and therefore hard. Knows vectors and the order of queries;
must not know where vectors come from.

Source: Hofstaetter et al., "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling",
2021, arXiv:2104.06967, section 3 (one topic per batch; their margin-balanced pairs are not part of this).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import faiss
import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")

ITERATIONS = 25
"""Iterations of k-means; FAISS's own default."""


def cluster(vectors: np.ndarray, topics: int, seed: int) -> np.ndarray:
    """The topic of every query, int64 [queries], by k-means.

    Args:
        vectors: float32 [queries, dimensions].
        topics: Number of topics.
        seed: Random seed of k-means.

    Raises:
        UserError: There are fewer queries than topics.
    """
    return nearest(fit(vectors, topics, seed, "training.topics"), vectors)


def fit(vectors: np.ndarray, topics: int, seed: int, option: str) -> faiss.Index:
    """An index of the topics' centroids; see :func:`cluster`. ``option`` is named in the error message."""
    if len(vectors) < topics:
        raise UserError(f"{option}={topics}: there are only {counted(len(vectors), 'text')}; set it to fewer than that")
    # FAISS would cluster a sample of 256 per topic, and warn of topics of fewer than 39
    kmeans = faiss.Kmeans(
        vectors.shape[1], topics, niter=ITERATIONS, seed=seed, min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )  # fmt: skip
    kmeans.train(vectors)
    return kmeans.index


def nearest(centroids: faiss.Index, vectors: np.ndarray) -> np.ndarray:
    """The topic of each vector, int64 [vectors]: that of the nearest centroid."""
    return centroids.search(np.ascontiguousarray(vectors, np.float32), 1)[1][:, 0]


def by_topic(topics: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[int]:
    """An endless stream of queries, in batches of ``size`` that have a single topic where possible.

    Every epoch splits each topic's queries into new batches. The remainders, fewer than a batch per topic, are joined
    to batches of mixed topics, and all batches are shuffled. Queries that do not fill a last mixed batch are carried
    over to the next epoch, so after any epoch all but fewer than ``size`` queries were drawn once per epoch.

    Args:
        topics: The topic of each query, int64 [queries].
        size: Queries per batch.
        rng: Random generator.
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


def single_topic_share(topics: np.ndarray, size: int) -> float:
    """The share of an epoch's queries that are in batches of a single topic."""
    return float((np.bincount(topics) // size * size).sum() / len(topics))
