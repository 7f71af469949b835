"""In which order training queries come: in shares of datasets and topics, whatever their sizes.

Every stream of queries (a dataset's, or a topic's within it) is dealt out in shuffled epochs of its own, and streams
take turns. Knows rows and shares; must not know texts or models.

Sources: shares by a power of the sizes, Conneau and Lample, "Cross-lingual Language Model Pretraining", 2019,
arXiv:1901.07291, section 3.1; a batch of one dataset, so that in-batch negatives are of the same kind, with such shares
(exponent 0.5), Li et al., "Towards General Text Embeddings with Multi-stage Contrastive Learning", 2023,
arXiv:2308.03281; turns, Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice, repeat

import numpy as np

from retrieval_distill.config import TrainingConfig
from retrieval_distill.training.topics import by_topic

Order = Callable[[np.random.Generator], Iterator[int]]
"""Draws rows without end."""


def shares(sizes: np.ndarray, weights: Sequence[float], exponent: float) -> np.ndarray:
    """Each stream's share, proportional to ``weight * size ** exponent``; float64, of sum 1.

    Args:
        sizes: Rows of each stream.
        weights: Factors.
        exponent: 1: by size; 0: all alike.
    """
    powers = np.asarray(weights, np.float64) * np.asarray(sizes, np.float64) ** exponent
    return powers / powers.sum()


def order(
    sources: np.ndarray, of_sources: np.ndarray, topics: np.ndarray | None, config: TrainingConfig, size: int
) -> Order:
    """The order that the options ask for.

    Args:
        sources: The dataset of every row, int64 [rows], from 0.
        of_sources: Share of each dataset.
        topics: The topic of every row, int64 [rows]; ``None``: there are none.
        config: ``dataset_batches`` and ``topic_batches`` are used.
        size: Queries of a batch.
    """

    def draw(rng: np.random.Generator) -> Iterator[int]:
        rows = [np.flatnonzero(sources == source) for source in range(len(of_sources))]
        streams = [_stream(own, topics, config, size, rng) for own in rows]
        return interleaved(streams, of_sources, size if config.dataset_batches == "one" else 1)

    return draw


def interleaved(streams: Sequence[Iterator[int]], of_streams: np.ndarray, run: int) -> Iterator[int]:
    """Rows of all streams, which take turns by their shares; ``run`` rows at a turn."""
    for stream in turns(of_streams):
        yield from islice(streams[stream], run)


def turns(of_streams: np.ndarray) -> Iterator[int]:
    """Whose turn it is: after any number of turns, each stream has had its share of them to within less than one.

    Of those that are behind by ``1 / (2 n - 2)`` or more, the one goes that would be late first.
    """
    if len(of_streams) == 1:
        yield from repeat(0)
    slack = 1 / (2 * len(of_streams) - 2)
    had = np.zeros(len(of_streams))
    for turn in count(1):
        behind = turn * of_streams - had
        late = np.where(behind >= slack - 1e-9, (1 - slack - behind) / of_streams, np.inf)
        chosen = int(np.argmin(late))
        had[chosen] += 1
        yield chosen


def shuffled(rows: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """Every row once an epoch."""
    while True:
        yield from rng.permutation(rows).tolist()


def _stream(
    rows: np.ndarray, topics: np.ndarray | None, config: TrainingConfig, size: int, rng: np.random.Generator
) -> Iterator[int]:
    """The rows of one dataset."""
    if topics is None:
        return shuffled(rows, rng)
    own = topics[rows]
    if config.topic_batches == "one":
        return (int(rows[place]) for place in by_topic(own, size, rng))
    members = [rows[own == topic] for topic in np.unique(own)]
    return interleaved([shuffled(of, rng) for of in members], np.full(len(members), 1 / len(members)), 1)
