"""The order of training queries: datasets and topics are mixed by their shares.

Each stream of queries (a dataset, or a topic within it) has its own shuffled epochs, and the streams take turns. Knows
rows and shares; must not know texts or models.

Sources: shares by a power of the sizes, Conneau and Lample, "Cross-lingual Language Model Pretraining", 2019,
arXiv:1901.07291, section 3.1; single-dataset batches, so that in-batch negatives are of the same kind, with exponent
0.5, Li et al., "Towards General Text Embeddings with Multi-stage Contrastive Learning", 2023, arXiv:2308.03281; turns,
Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, repeat

import numpy as np

from retrieval_distill.config import TrainingConfig
from retrieval_distill.training.topics import by_topic

Order = Callable[[np.random.Generator], Iterator[int]]
"""An endless iterator of rows, from a random generator."""


def stream_shares(sizes: np.ndarray, weights: Sequence[float], exponent: float) -> np.ndarray:
    """Shares proportional to ``weight * size ** exponent``; float64 [streams], summing to 1.

    Args:
        sizes: Number of rows of each stream.
        weights: Weight of each stream.
        exponent: 1: proportional to size; 0: uniform.
    """
    powers = np.asarray(weights, np.float64) * np.asarray(sizes, np.float64) ** exponent
    return powers / powers.sum()


def order(
    sources: np.ndarray, shares: np.ndarray, topics: np.ndarray | None, config: TrainingConfig, size: int
) -> Order:
    """The order that the options ask for.

    Args:
        sources: Dataset of each row, int64 [rows], from 0.
        shares: Share of each dataset.
        topics: Topic of each row, int64 [rows]; ``None``: no topics.
        config: ``dataset_batches`` and ``topic_batches`` are used.
        size: Queries per batch.
    """

    def draw(rng: np.random.Generator) -> Iterator[int]:
        rows = [np.flatnonzero(sources == source) for source in range(len(shares))]
        streams = [_stream(own, topics, config, size, rng) for own in rows]
        return interleave(streams, shares, size if config.dataset_batches == "one" else 1)

    return draw


def interleave(streams: Sequence[Iterator[int]], shares: np.ndarray, run: int) -> Iterator[int]:
    """Mix streams by their shares, ``run`` rows per turn."""
    for stream in take_turns(shares):
        yield from islice(streams[stream], run)


def take_turns(shares: np.ndarray) -> Iterator[int]:
    """The stream of each turn; after any number of turns, each stream has had its share to within less than one turn.

    Among the ``n`` streams, those behind by at least ``1 / (2 n - 2)`` are eligible; the one with the earliest deadline
    is next.
    """
    if len(shares) == 1:
        yield from repeat(0)
    slack = 1 / (2 * len(shares) - 2)
    had = np.zeros(len(shares))
    for turn in count(1):
        behind = turn * shares - had
        late = np.where(behind >= slack - 1e-9, (1 - slack - behind) / shares, np.inf)
        chosen = int(np.argmin(late))
        had[chosen] += 1
        yield chosen


def shuffle_epochs(rows: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """Every row once per epoch, in random order, without end."""
    while True:
        yield from rng.permutation(rows).tolist()


def _stream(
    rows: np.ndarray, topics: np.ndarray | None, config: TrainingConfig, size: int, rng: np.random.Generator
) -> Iterator[int]:
    """The rows of one dataset, in the order of its topics' options."""
    if topics is None:
        return shuffle_epochs(rows, rng)
    own = topics[rows]
    if config.topic_batches == "one":
        return (int(rows[place]) for place in by_topic(own, size, rng))
    members = [rows[own == topic] for topic in np.unique(own)]
    return interleave([shuffle_epochs(of, rng) for of in members], np.full(len(members), 1 / len(members)), 1)
