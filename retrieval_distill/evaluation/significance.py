"""The doubt of a number: intervals, paired tests, their correction and what a sample could have shown.

Knows numbers only, one per query; must not know measures, Runs or systems.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import norm

K = TypeVar("K", bound=Hashable)

RESAMPLES = 10_000
"""Bootstrap resamples, and random sign flips: the smallest p-value that can be told is 1 / (1 + RESAMPLES)."""

EXACT_UP_TO = 13
"""Differences other than 0 up to which every assignment of signs (2**13 = 8,192) is enumerated."""

_CHUNK_VALUES = 2_000_000
"""Values held at once while resampling: about 16 MB in each of two or three arrays."""


@dataclass(frozen=True)
class Mean:
    """A mean over queries, or a ratio of two, with its 95 % interval."""

    mean: float
    low: float
    high: float


def mean_with_interval(values: np.ndarray, seed: int = 0) -> Mean:
    """The mean with its 95 % percentile bootstrap interval, queries drawn with replacement.

    The same interval as ``scipy.stats.bootstrap(method="percentile")``, at half its time and in bounded memory
    without the caller choosing a batch. One query gives an interval of no width, which says nothing.
    """
    values = _finite(values)
    return Mean(float(values.mean()), *_middle(_resampled_means(values, seed)))


def macro_mean_with_interval(groups: Sequence[np.ndarray], seed: int = 0) -> Mean:
    """The mean of several datasets' means, with its interval: queries are drawn anew within each dataset.

    The datasets themselves are taken as given: the interval says nothing about others.
    """
    means = np.mean([_resampled_means(_finite(values), seed + i) for i, values in enumerate(groups)], axis=0)
    return Mean(float(np.mean([np.mean(values) for values in groups])), *_middle(means))


def ratio_with_interval(numerator: np.ndarray, denominator: np.ndarray, seed: int = 0) -> Mean | None:
    """The ratio of two means over the same queries with its 95 % percentile bootstrap interval.

    ``None`` where the denominator's own interval reaches 0 or below: a share of what may be nothing has no bounds.
    Resamples whose denominator is not positive (then at most one in forty) are left out.
    """
    numerator, denominator = _paired(numerator, denominator)
    over, under = _resampled_means(numerator, seed), _resampled_means(denominator, seed)
    if _middle(under)[0] <= 0:
        return None
    positive = under > 0
    return Mean(float(numerator.mean() / denominator.mean()), *_middle(over[positive] / under[positive]))


def paired_p(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of the paired randomisation test for the mean of ``a - b``; 1.0 when all are equal.

    Under the null hypothesis the systems' labels are exchangeable within each query, so every difference may carry
    either sign; p is the share of sign assignments whose mean is at least as far from 0 as the observed one. All are
    enumerated for up to 13 differences other than 0 (zeros change nothing); beyond, 10,000 are drawn and
    p = (1 + hits) / (1 + flips), which is valid and never 0.

    Smucker, Allan, Carterette: A comparison of statistical significance tests for information retrieval evaluation,
    CIKM 2007.
    """
    a, b = _paired(a, b)
    differences = (a - b)[a != b]
    if not len(differences):
        return 1.0
    # Sums that are equal on paper may differ by rounding: without this margin, ties with the observed sum get lost.
    least = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if len(differences) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
        return float((np.abs(signs @ differences) >= least).mean())
    hits = sum(int((np.abs(sums) >= least).sum()) for sums in _flipped_sums(differences, np.random.default_rng(seed)))
    return (1 + hits) / (1 + RESAMPLES)


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Adjusted p-values that hold the chance of any false rejection among them, in the order given.

    Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    names = sorted(p, key=lambda name: p[name])
    ordered = _finite(np.array([p[name] for name in names])) if names else np.array([])
    stepped = np.maximum.accumulate(ordered * np.arange(len(names), 0, -1))
    adjusted = dict(zip(names, np.minimum(stepped, 1.0).tolist(), strict=True))
    return {name: adjusted[name] for name in p}


def minimum_detectable_difference(differences: np.ndarray, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true mean difference that a two-sided paired test on this many queries would find with this power.

    The normal approximation of the paired t-test, (z(1 - alpha/2) + z(power)) * sd / sqrt(n), with the spread of
    these per-query differences; infinite for a single query, from which nothing can be found.

    Webber, Moffat, Zobel: Statistical power in retrieval experimentation, CIKM 2008.
    """
    differences = _finite(differences)
    if len(differences) < 2:
        return math.inf
    z = norm.ppf(1 - alpha / 2) + norm.ppf(power)
    return float(z * differences.std(ddof=1) / math.sqrt(len(differences)))


def _paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _finite(a), _finite(b)
    if len(a) != len(b):
        raise ValueError(f"paired values differ in number: {len(a)} and {len(b)}")
    return a, b


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of ``RESAMPLES`` draws of as many values with replacement; the same draws for the same number and seed."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=(rows, len(values)), dtype=np.int32) for rows in chunks(len(values)))
    return np.concatenate([values[drawn].mean(axis=1) for drawn in draws])


def _middle(means: np.ndarray) -> tuple[float, float]:
    """The ends of the middle 95 %."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _finite(values: np.ndarray) -> np.ndarray:
    """As a float vector; no values, or values that are not finite, would give a number that means nothing."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("need a vector of at least one number, all finite")
    return values


def chunks(columns: int) -> Iterator[int]:
    """Numbers of rows that add up to ``RESAMPLES``, each small enough to be held with this many columns."""
    step = max(1, _CHUNK_VALUES // columns)
    for start in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - start)


def _flipped_sums(differences: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The sums of ``RESAMPLES`` random sign assignments, chunk by chunk."""
    total = differences.sum()
    for rows in chunks(len(differences)):
        row_bytes = -(-len(differences) // 8)
        packed = rng.integers(256, size=(rows, row_bytes), dtype=np.uint8)
        positive = np.unpackbits(packed, axis=1, count=len(differences)).astype(np.float64)
        yield 2 * (positive @ differences) - total
