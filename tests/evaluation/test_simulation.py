"""The doubt is what it says: simulated many times over, intervals cover and tests reject as often as they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from retrieval_distill.evaluation import seed_summary, significance
from retrieval_distill.evaluation.significance import (
    holm,
    macro_mean_with_interval,
    mean_with_interval,
    minimum_detectable_difference,
    paired_p,
    ratio_with_interval,
)

TRIALS = 600
QUERIES = 60


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """A tenth of the resamples: each interval and p-value is a little rougher, their average is not."""
    monkeypatch.setattr(significance, "RESAMPLES", 999)


def within(share: float, promised: float, slack: float = 0.0) -> bool:
    """Whether a share of ``TRIALS`` fits a promise: three and a half standard errors, and what is known to be off."""
    return abs(share - promised) <= 3.5 * math.sqrt(promised * (1 - promised) / TRIALS) + slack


def reciprocal_ranks(rng: np.random.Generator, shape: tuple[int, ...], misses: float = 0.2) -> np.ndarray:
    """Values as they occur: 1, 1/2, 1/3, ... or 0, far from any bell curve."""
    ranks = rng.geometric(0.4, shape)
    return np.where(rng.random(shape) < misses, 0.0, 1 / ranks)


def true_mean(misses: float = 0.2) -> float:
    ranks = np.arange(1, 200)
    return (1 - misses) * float((stats.geom.pmf(ranks, 0.4) / ranks).sum())


def test_intervals_cover_the_mean():
    rng = np.random.default_rng(1)
    found = [mean_with_interval(values, seed) for seed, values in enumerate(reciprocal_ranks(rng, (TRIALS, QUERIES)))]
    covered = np.mean([i.low <= true_mean() <= i.high for i in found])
    assert within(covered, 0.95, slack=0.005)  # percentile intervals of 60 values are a trifle narrow


def test_intervals_cover_the_average_over_datasets():
    rng = np.random.default_rng(2)
    truth = (true_mean(0.1) + true_mean(0.5)) / 2
    found = [
        macro_mean_with_interval([reciprocal_ranks(rng, (40,), 0.1), reciprocal_ranks(rng, (80,), 0.5)], seed)
        for seed in range(TRIALS)
    ]
    assert within(np.mean([i.low <= truth <= i.high for i in found]), 0.95, slack=0.01)


def test_intervals_cover_a_ratio():
    rng = np.random.default_rng(3)
    teacher = reciprocal_ranks(rng, (TRIALS, QUERIES))
    student = teacher * rng.uniform(0.6, 1.0, teacher.shape)
    found = [ratio_with_interval(a, b, seed) for seed, (a, b) in enumerate(zip(student, teacher, strict=True))]
    assert within(np.mean([i.low <= 0.8 <= i.high for i in found]), 0.95, slack=0.01)


def test_the_paired_test_rejects_as_often_as_it_may():
    rng = np.random.default_rng(4)
    a, b = reciprocal_ranks(rng, (2, TRIALS, QUERIES))
    p = np.array([paired_p(x, y, seed) for seed, (x, y) in enumerate(zip(a, b, strict=True))])
    for alpha in (0.05, 0.2):
        assert within(np.mean(p <= alpha), alpha, slack=0.002)


def test_holm_holds_the_family():
    """Five equal systems, ten comparisons: without correction one is wrong far too often, with it at most 5 %."""
    rng = np.random.default_rng(5)
    wrong = {"as they are": 0, "corrected": 0}
    for _ in range(TRIALS):
        systems = rng.normal(size=(5, QUERIES))
        a, b = np.triu_indices(5, 1)
        p = dict(enumerate(stats.ttest_1samp(systems[a] - systems[b], 0, axis=1).pvalue))
        wrong["as they are"] += min(p.values()) < 0.05
        wrong["corrected"] += min(holm(p).values()) < 0.05
    assert wrong["as they are"] / TRIALS > 0.15
    assert wrong["corrected"] / TRIALS <= 0.05 + 3.5 * math.sqrt(0.05 * 0.95 / TRIALS)


def test_the_detectable_difference_is_detected():
    """Differences of that size, found by the randomisation test itself, four times in five."""
    rng = np.random.default_rng(6)
    noise = reciprocal_ranks(rng, (2, 20_000))
    spread = noise[0] - noise[1]
    shift = minimum_detectable_difference(spread) * math.sqrt(len(spread) / QUERIES)
    a, b = reciprocal_ranks(rng, (2, TRIALS, QUERIES))
    found = [paired_p(x + shift, y, seed) < 0.05 for seed, (x, y) in enumerate(zip(a, b, strict=True))]
    assert within(np.mean(found), 0.8, slack=0.02)  # a normal approximation


def test_the_interval_over_seeds_covers_another_seed_and_other_queries():
    """Either doubt alone is too narrow where the other counts; both together cover."""
    rng = np.random.default_rng(7)
    both = queries_alone = 0
    for trial in range(TRIALS):
        values = (
            0.5
            + 0.04 * rng.normal(size=(10, 1))
            + 0.2 * rng.normal(size=QUERIES)
            + 0.1 * rng.normal(size=(10, QUERIES))
        )
        found = seed_summary.summarise(values, trial)
        both += found.low <= 0.5 <= found.high
        alone = mean_with_interval(values[0], trial)
        queries_alone += alone.low <= 0.5 <= alone.high
    assert 0.92 <= both / TRIALS <= 0.985
    assert queries_alone / TRIALS < 0.9
