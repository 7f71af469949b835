"""Several seeds of one system as one result: its mean, how far seeds lie apart, and an interval for both doubts.

Knows numbers only, one per seed and query; must not know measures, Runs or what was trained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval_distill.evaluation import significance


@dataclass(frozen=True)
class Seeds:
    """A mean over seeds and queries; ``low`` to ``high`` is its 95 % interval for another seed and other queries."""

    mean: float
    low: float
    high: float
    standard_deviation: float
    """Of the seeds' means over these queries; 0 for a single seed, which says nothing."""
    seeds: int
    queries: int


def summarise(values: np.ndarray, seed: int = 0) -> Seeds:
    """Summarise one measure of the students of several seeds over the same queries.

    The interval is a two-level bootstrap: each resample draws seeds and queries with replacement, independently of
    each other, for every seed has met every query. Before, the seeds' means are drawn apart by sqrt(n / (n - 1)),
    without which resampling n of them would make them look closer than they are. Fewer than five seeds still give
    too narrow an interval where seeds matter more than queries, for nobody knows their spread from so few.

    Owen: The pigeonhole bootstrap, Annals of Applied Statistics 2007.

    Args:
        values: The measure, shape [seeds, queries].
        seed: Fixes the resamples.

    Raises:
        ValueError: Not a matrix of finite numbers.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError("need a matrix [seeds, queries] of at least one number, all finite")
    seeds, queries = values.shape
    means = values.mean(axis=1, keepdims=True)
    spread = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    apart = values + (spread - 1) * (means - means.mean())
    rng = np.random.default_rng(seed)
    seed_shares, query_shares = (_shares(rng, count) for count in (seeds, queries))
    low, high = np.quantile(np.einsum("rs,sq,rq->r", seed_shares, apart, query_shares, optimize=True), [0.025, 0.975])
    deviation = float(means.std(ddof=1)) if seeds > 1 else 0.0
    return Seeds(float(values.mean()), float(low), float(high), deviation, seeds, queries)


def _shares(rng: np.random.Generator, count: int) -> np.ndarray:
    """How often each of ``count`` things is drawn, as shares: [resamples, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), size=significance.RESAMPLES) / count
