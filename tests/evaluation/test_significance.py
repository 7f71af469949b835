import itertools
import math
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from retrieval_distill.evaluation.significance import (
    Mean,
    holm,
    mean_with_interval,
    minimum_detectable_difference,
    paired_p,
)


def exact_p(a, b):
    """Over every assignment of signs, in whole numbers so that no tie is lost; takes multiples of 1/1000."""
    differences = [round(1000 * x) - round(1000 * y) for x, y in zip(a, b, strict=True)]
    observed = abs(sum(differences))
    sums = [
        abs(sum(sign * d for sign, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(s >= observed for s in sums) / len(sums)


def thousandths(rng, n):
    return rng.integers(0, 1001, n) / 1000


def test_interval_equals_the_normal_approximation_on_a_large_sample():
    values = np.random.default_rng(1).beta(0.5, 0.8, 4000)
    got = mean_with_interval(values)
    half = stats.norm.ppf(0.975) * values.std(ddof=1) / math.sqrt(len(values))
    assert got.mean == pytest.approx(values.mean())
    assert got.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert got.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_interval_equals_scipys_on_a_skewed_sample():
    values = np.random.default_rng(2).exponential(size=60)
    got = mean_with_interval(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile").confidence_interval
    width = theirs.high - theirs.low
    assert [got.low, got.high] == pytest.approx([theirs.low, theirs.high], abs=0.04 * width)
    assert got.high - got.mean > got.mean - got.low  # not forced to be symmetric


def test_interval_covers_the_truth():
    rng = np.random.default_rng(3)
    intervals = [mean_with_interval(rng.random(50), seed) for seed in range(120)]
    assert sum(i.low <= 0.5 <= i.high for i in intervals) / 120 == pytest.approx(0.95, abs=0.06)


def test_interval_of_constant_and_single_values():
    assert mean_with_interval(np.full(20, 0.25)) == Mean(0.25, 0.25, 0.25)
    assert mean_with_interval(np.array([0.5])) == Mean(0.5, 0.5, 0.5)


def test_seed_decides():
    values = np.random.default_rng(4).random(30)
    assert mean_with_interval(values) == mean_with_interval(values, seed=0) != mean_with_interval(values, seed=1)
    other = np.random.default_rng(5).random(30)
    assert paired_p(values, other) == paired_p(values, other, seed=0) != paired_p(values, other, seed=1)


def test_memory_stays_bounded():
    values = np.random.default_rng(6).random(10_000)
    tracemalloc.start()
    mean_with_interval(values)
    paired_p(values, values[::-1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize("n", [1, 2, 5, 8, 11])
def test_small_samples_are_exact(n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        a, b = thousandths(rng, n), thousandths(rng, n)
        assert paired_p(a, b) == exact_p(a, b)


def test_ties_with_the_observed_sum_count_despite_rounding():
    a = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    b = np.array([0.2, 0.1, 0.1, 0.6, 0.2, 0.5, 0.7])
    assert paired_p(a, b) == exact_p(a, b)
    assert paired_p(np.repeat(a, 9), np.repeat(b, 9)) == pytest.approx(
        stats.permutation_test(
            (np.repeat(a, 9), np.repeat(b, 9)),
            lambda x, y, axis: (x - y).mean(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=20_000,
            batch=2000,
        ).pvalue,
        abs=0.02,
    )


def test_drawn_signs_approach_the_exact_value():
    rng = np.random.default_rng(7)
    a, b = thousandths(rng, 14), thousandths(rng, 14)
    exact = exact_p(a, b)
    assert paired_p(a, b) != exact
    assert paired_p(a, b) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))


def test_queries_without_a_difference_change_nothing():
    rng = np.random.default_rng(8)
    a, b, same = thousandths(rng, 9), thousandths(rng, 9), thousandths(rng, 200)
    assert paired_p(np.append(a, same), np.append(b, same)) == exact_p(a, b)


def test_identical_and_clearly_different():
    a = np.random.default_rng(9).random(200)
    assert paired_p(a, a) == 1.0
    assert paired_p(a, a - 0.1) == 1 / 10_001
    assert paired_p(a - 0.1, a) == 1 / 10_001
    assert paired_p(a[:10], a[:10] - 0.1) == 2 / 2**10


def test_agrees_with_the_paired_t_test_on_a_normal_sample():
    rng = np.random.default_rng(10)
    a = rng.random(300)
    b = a + rng.normal(0.02, 0.2, 300)
    assert paired_p(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.015)


def test_p_values_are_uniform_under_the_null():
    rng = np.random.default_rng(11)
    p = [paired_p(rng.exponential(size=40), rng.exponential(size=40), seed) for seed in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.035)


def test_holm_by_hand():
    """Ordered .005, .01, .03, .04 times 4, 3, 2, 1: .02, .03, .06, .04, the last raised to .06."""
    got = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert list(got) == ["a", "b", "c", "d"]
    assert got == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})


def test_holm_edges():
    assert holm({}) == {}
    assert holm({"one": 0.2}) == {"one": 0.2}
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({"a": 0.02, "b": 0.02}) == {"a": 0.04, "b": 0.04}


def test_minimum_detectable_difference_by_hand():
    differences = np.array([-0.1, 0.1] * 50)
    sd = math.sqrt(100 * 0.01 / 99)
    assert minimum_detectable_difference(differences) == pytest.approx((1.959964 + 0.841621) * sd / 10, rel=1e-6)
    assert minimum_detectable_difference(np.array([0.1])) == math.inf


def test_minimum_detectable_difference_is_found_with_the_power_promised():
    rng = np.random.default_rng(12)
    shift = minimum_detectable_difference(rng.normal(0, 0.3, 5000)) * math.sqrt(5000 / 80)
    found = stats.ttest_1samp(rng.normal(shift, 0.3, (2000, 80)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("values", [[], [0.1, math.nan], [math.inf], [[0.1]]])
def test_meaningless_values_are_refused(values):
    with pytest.raises(ValueError, match="at least one number, all finite"):
        mean_with_interval(np.array(values))


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="differ in number: 2 and 3"):
        paired_p(np.ones(2), np.ones(3))
