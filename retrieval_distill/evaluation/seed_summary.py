"""Summarises several seeds of one system: mean, spread over seeds, and an interval for seeds and queries.

Knows numbers, one per seed and query; must not know how they were measured or what was trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import significance


@dataclass(frozen=True)
class Seeds:
    """A mean over seeds and queries, with its 95 % interval over both, ``low`` to ``high``."""

    mean: float
    low: float
    high: float
    standard_deviation: float
    """Standard deviation of the seeds' means; 0, without meaning, for a single seed."""
    seeds: int
    queries: int


def summarise(values: np.ndarray, seed: int = 0) -> Seeds:
    """Summarise one measure of students with several seeds over the same queries.

    The interval is a two-level bootstrap: each resample draws seeds and queries with replacement, independently, since
    every seed was measured on every query. The seeds' means are first spread by sqrt(n / (n - 1)), because resampling n
    of them underestimates their variance. With fewer than five seeds the interval is still too narrow if seeds matter
    more than queries, since so few do not show their spread.

    Owen: The pigeonhole bootstrap, Annals of Applied Statistics 2007.

    Args:
        values: The measure, shape [seeds, queries].
        seed: Random seed of the resamples.

    Raises:
        ValueError: ``values`` is not a matrix of finite numbers.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError("need a matrix [seeds, queries] of at least one number, all finite")
    seeds, queries = values.shape
    means = values.mean(axis=1, keepdims=True)
    spread = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    apart = values + (spread - 1) * (means - means.mean())
    resampled = np.concatenate(list(_resampled_means(apart, np.random.default_rng(seed))))
    low, high = np.clip(np.quantile(resampled, [0.025, 0.975]), values.min(), values.max())  # the spread may go beyond
    deviation = float(means.std(ddof=1)) if seeds > 1 else 0.0
    return Seeds(float(values.mean()), float(low), float(high), deviation, seeds, queries)


def matrix(tables: Sequence[pd.DataFrame], system: str, measure: str) -> np.ndarray:
    """One measure of one system in several runs, shape [seeds, queries].

    Args:
        tables: The runs' ``per_query.parquet``, one per seed.
        system: Name such as ``"student"``.
        measure: Name such as ``"nDCG@10"``.

    Raises:
        UserError: The runs have different queries.
    """
    rows = [table.loc[table["system"] == system].set_index("query_id")[measure] for table in tables]
    if any(set(row.index) != set(rows[0].index) for row in rows):
        raise UserError(
            f"the runs measured {system!r} on different queries; seeds can only be compared on the same queries"
        )
    return np.stack([row.loc[rows[0].index].to_numpy() for row in rows])


def _resampled_means(values: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    seeds, queries = values.shape
    for rows in significance.chunks(queries):
        seed_shares, query_shares = (_shares(rng, rows, count) for count in (seeds, queries))
        yield ((seed_shares @ values) * query_shares).sum(axis=1)


def _shares(rng: np.random.Generator, rows: int, count: int) -> np.ndarray:
    """Share of each of ``count`` items among as many draws with replacement: [rows, count]."""
    drawn = rng.integers(count, size=(rows, count)) + count * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count) / count
