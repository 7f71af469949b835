"""Uncertainty of means: intervals, paired tests, corrections and detectable differences.

Knows only numbers, one per query; must not know measures, Runs or systems.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.special import ndtri

K = TypeVar("K", bound=Hashable)

RESAMPLES = 10_000
"""Bootstrap resamples, and random sign flips: the smallest possible p-value is 1 / (1 + RESAMPLES)."""

EXACT_UP_TO = 13
"""Number of differences up to which all sign assignments (2**13 = 8,192) are enumerated."""

ALPHA = 0.05
"""Significance level of corrected p-values."""

_CHUNK_VALUES = 2_000_000
"""Values in memory while resampling: about 16 MB in each of two or three arrays."""

_COMPARISONS_AT_ONCE = 64
"""Comparisons whose subset means are in memory at once: about 5 MB."""


@dataclass(frozen=True)
class Mean:
    """A mean over queries, or a ratio of two, with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.low, self.high

    def __neg__(self) -> Mean:
        """The mean of ``b - a``, given that of ``a - b``."""
        return Mean(0.0 - self.mean, 0.0 - self.high, 0.0 - self.low)


def mean_with_interval(values: np.ndarray, seed: int = 0) -> Mean:
    """The mean with its 95 % percentile bootstrap interval, queries drawn with replacement.

    The same interval as ``scipy.stats.bootstrap(method="percentile")``, in half the time and in bounded memory.
    One query gives an interval of zero width, which is meaningless.
    """
    values = _finite(values)
    return Mean(float(values.mean()), *_middle(_resampled_means(values, seed)))


def macro_mean_with_interval(groups: Sequence[np.ndarray], seed: int = 0) -> Mean:
    """The mean of several datasets' means, with its interval: queries are resampled within each dataset.

    The datasets are fixed: the interval says nothing about other datasets.
    """
    means = np.mean([_resampled_means(_finite(values), seed + i) for i, values in enumerate(groups)], axis=0)
    return Mean(float(np.mean([np.mean(values) for values in groups])), *_middle(means))


def ratio_with_interval(numerator: np.ndarray, denominator: np.ndarray, seed: int = 0) -> Mean | None:
    """The ratio of two means over the same queries with its 95 % percentile bootstrap interval.

    ``None`` if the denominator's own interval includes 0 or less: the ratio is then unbounded. Resamples whose
    denominator is not positive (at most one in forty) are dropped.
    """
    numerator, denominator = _check_paired(numerator, denominator)
    over, under = _resampled_means(numerator, seed), _resampled_means(denominator, seed)
    if _middle(under)[0] <= 0:
        return None
    positive = under > 0
    return Mean(float(numerator.mean() / denominator.mean()), *_middle(over[positive] / under[positive]))


def paired_p(a: np.ndarray, b: np.ndarray, seed: int = 0) -> float:
    """Two-sided p-value of the paired randomisation test for the mean of ``a - b``; 1.0 if all are equal.

    Under the null hypothesis the systems' labels are exchangeable within each query, so every difference may carry
    either sign; p is the share of sign assignments whose mean is at least as far from 0 as the observed one. All are
    enumerated for up to 13 differences other than 0 (zeros change nothing); beyond, 10,000 are drawn and
    p = (1 + hits) / (1 + flips), which is valid and never 0.

    Smucker, Allan, Carterette: A comparison of statistical significance tests for information retrieval evaluation,
    CIKM 2007.
    """
    a, b = _check_paired(a, b)
    differences = (a - b)[a != b]
    if not len(differences):
        return 1.0
    # Sums that are mathematically equal may differ by rounding; the margin keeps ties with the observed sum.
    least = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if len(differences) <= EXACT_UP_TO:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(differences))))
        return float((np.abs(signs @ differences) >= least).mean())
    hits = sum(int((np.abs(sums) >= least).sum()) for sums in _flipped_sums(differences, np.random.default_rng(seed)))
    return (1 + hits) / (1 + RESAMPLES)


def holm(p: Mapping[K, float]) -> dict[K, float]:
    """Adjusted p-values that control the family-wise error rate, in the given order.

    Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    names = sorted(p, key=lambda name: p[name])
    ordered = _finite(np.array([p[name] for name in names])) if names else np.array([])
    stepped = np.maximum.accumulate(ordered * np.arange(len(names), 0, -1))
    adjusted = dict(zip(names, np.minimum(stepped, 1.0).tolist(), strict=True))
    return {name: adjusted[name] for name in p}


def differences_with_intervals(
    differences: Mapping[K, np.ndarray], p: Mapping[K, float], seed: int = 0
) -> dict[K, Mean]:
    """The mean of each comparison's differences with its 95 % interval, corrected as :func:`holm` corrects p-values.

    An interval contains the shifts that the paired randomisation test does not reject. Its bounds are order statistics
    of the means over subsets of the queries, since a shift is rejected if too few of these lie beyond it. The level is
    0.05 divided by the number of comparisons (Bonferroni), so all intervals hold simultaneously in 95 of 100 samples;
    if only Holm's procedure, which is more powerful, finds a difference, it is the level that Holm's assigns to it. An
    interval therefore excludes 0 exactly if the corrected p is below 0.05.

    Hartigan: Using subsample values as typical values, Journal of the American Statistical Association 1969.

    Args:
        differences: Values by query of each comparison, all over the same queries.
        p: Their uncorrected p-values, by :func:`paired_p`.
        seed: Random seed of the subsets, if there are too many to enumerate.
    """
    corrected, names, found = holm(p), list(differences), {}
    for start in range(0, len(names), _COMPARISONS_AT_ONCE):
        block = names[start : start + _COMPARISONS_AT_ONCE]
        values = np.stack([_finite(differences[name]) for name in block], axis=1)
        means = np.sort(_subset_means(values, seed), axis=0)
        for column, name in enumerate(block):
            level = ALPHA / len(names)
            if corrected[name] < ALPHA <= p[name] * len(names):
                level = ALPHA * p[name] / corrected[name]
            bounds = _not_rejected(means[:, column], level)
            found[name] = _agreeing(Mean(float(values[:, column].mean()), *bounds), means[:, column], corrected[name])
    return found


def minimum_detectable_difference(differences: np.ndarray, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true mean difference that a two-sided paired test on this many queries would find with this power.

    The normal approximation of the paired t-test, (z(1 - alpha/2) + z(power)) * sd / sqrt(n), with the spread of
    these per-query differences; infinite for a single query.

    Webber, Moffat, Zobel: Statistical power in retrieval experimentation, CIKM 2008.
    """
    differences = _finite(differences)
    if len(differences) < 2:
        return math.inf
    z = ndtri(1 - alpha / 2) + ndtri(power)
    return float(z * differences.std(ddof=1) / math.sqrt(len(differences)))


def _check_paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = _finite(a), _finite(b)
    if len(a) != len(b):
        raise ValueError(f"paired values differ in number: {len(a)} and {len(b)}")
    return a, b


def _resampled_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of ``RESAMPLES`` bootstrap samples; the same draws for the same number of values and seed."""
    rng = np.random.default_rng(seed)
    draws = (rng.integers(len(values), size=(rows, len(values)), dtype=np.int32) for rows in chunks(len(values)))
    return np.concatenate([values[drawn].mean(axis=1) for drawn in draws])


def _subset_means(values: np.ndarray, seed: int) -> np.ndarray:
    """Means of each column of ``values`` [queries, comparisons] over all subsets, or ``RESAMPLES`` random ones.

    The empty subset, which has no mean, is left out.
    """
    queries = len(values)
    if queries <= EXACT_UP_TO:
        chosen: Iterator[np.ndarray] = iter([np.array(list(itertools.product((0.0, 1.0), repeat=queries)))])
    else:
        chosen = _random_subsets(queries, np.random.default_rng(seed))
    parts = [(rows @ values, rows.sum(axis=1)) for rows in chosen]
    sums, counts = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
    return sums[counts > 0] / counts[counts > 0, None]


def _not_rejected(means: np.ndarray, level: float) -> tuple[float, float]:
    """The bounds of the shifts with p of at least ``level``; the extremes if there are too few subsets to reject any.

    The p of a shift is 2 (1 + number of subset means beyond it) / (1 + number of all).
    """
    beyond = math.ceil(level * (1 + len(means)) / 2 - 1 - 1e-9)
    at = max(beyond - 1, 0)
    return float(means[at]), float(means[-1 - at])


def _agreeing(found: Mean, means: np.ndarray, corrected: float) -> Mean:
    """Make the interval agree with the corrected p, in case random subsets and random signs differ by chance."""
    low, high = found.low, found.high
    if corrected >= ALPHA:
        low, high = min(low, 0.0), max(high, 0.0)
    elif found.mean > 0:
        low = max(low, float(means[means > 0][0]))
    else:
        high = min(high, float(means[means < 0][-1]))
    return Mean(found.mean, low, high)


def _middle(means: np.ndarray) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles."""
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _finite(values: np.ndarray) -> np.ndarray:
    """The values as a float vector; refuses empty and non-finite ones, whose mean would be meaningless."""
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("need a vector of at least one number, all finite")
    return values


def chunks(columns: int) -> Iterator[int]:
    """Numbers of rows that add up to ``RESAMPLES``, each small enough for memory with this many columns."""
    step = max(1, _CHUNK_VALUES // columns)
    for start in range(0, RESAMPLES, step):
        yield min(step, RESAMPLES - start)


def _flipped_sums(differences: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The sums of ``RESAMPLES`` random sign assignments, chunk by chunk."""
    total = differences.sum()
    for positive in _random_subsets(len(differences), rng):
        yield 2 * (positive @ differences) - total


def _random_subsets(size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """``RESAMPLES`` random subsets of ``size`` items as rows of 0 and 1, float64 [rows, size], chunk by chunk."""
    for rows in chunks(size):
        packed = rng.integers(256, size=(rows, -(-size // 8)), dtype=np.uint8)
        yield np.unpackbits(packed, axis=1, count=size).astype(np.float64)
