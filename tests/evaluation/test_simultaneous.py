"""Intervals of differences: by hand, by brute force, never against their corrected p, and true all at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from retrieval_distill.evaluation.significance import Mean, differences_with_intervals, holm, paired_p


def intervals(differences: dict) -> dict:
    p = {name: paired_p(values, np.zeros(len(values))) for name, values in differences.items()}
    return differences_with_intervals(differences, p)


def test_by_hand():
    """Of 2 ** 8 sign assignments, 2 * (1 + 5) / 256 = 0.047 is below 0.05 and 2 * (1 + 6) / 256 = 0.055 is not.

    So a bound is the sixth subset mean from its end: 1, 1.5, 2, 7 / 3, 2.5, 3 and 128, 96, 80, 224 / 3, 72, 208 / 3.
    """
    found = intervals({"one": 2.0 ** np.arange(8)})["one"]
    assert (found.mean, found.low, found.high) == pytest.approx((255 / 8, 3.0, 208 / 3))


@pytest.mark.parametrize("queries", [9, 11])
def test_a_bound_is_where_the_exact_test_begins_to_reject(queries):
    rng = np.random.default_rng(queries)
    differences = {name: rng.normal(0.3, 1, queries) for name in "abc"}
    signs = np.array(list(itertools.product((-1, 1), repeat=queries)))

    def p(values):
        return (np.abs(signs @ values) >= abs(values.sum()) - 1e-12).mean()

    for name, found in intervals(differences).items():
        values, level = differences[name], 0.05 / 3
        for bound, outside in ((found.low, -1e-6), (found.high, 1e-6)):
            assert p(values - bound - outside) < level <= p(values - bound + outside)


def test_many_queries_approach_bonferronis_t_interval():
    rng = np.random.default_rng(1)
    differences = {name: rng.normal(0.2, 0.3, 600) for name in range(5)}
    for name, found in intervals(differences).items():
        values = differences[name]
        half = stats.t.ppf(1 - 0.05 / 5 / 2, 599) * values.std(ddof=1) / math.sqrt(600)
        expected = (values.mean() - half, values.mean() + half)
        assert (found.low, found.high) == pytest.approx(expected, abs=0.1 * half)


@pytest.mark.parametrize("queries", [6, 12, 40])
def test_an_interval_excludes_zero_exactly_where_its_corrected_p_is_below_a_twentieth(queries):
    rng = np.random.default_rng(queries)
    sides = set()
    for _ in range(40):
        shifts = rng.choice([0.0, 0.4, 0.8, -0.8], 4)
        some = rng.random((4, queries)) < 0.8  # equal queries too
        differences = {i: some[i] * rng.normal(shifts[i], 1, queries) for i in range(4)}
        p = {i: paired_p(values, np.zeros(queries)) for i, values in differences.items()}
        corrected = holm(p)
        for i, found in differences_with_intervals(differences, p).items():
            shown = found.low > 0 or found.high < 0
            assert shown == (corrected[i] < 0.05)
            assert found.low <= found.mean <= found.high
            sides.add((shown, found.mean > 0))
    assert len(sides) > 1


def test_what_holm_alone_tells_from_zero_does_not_contradict_its_interval():
    """The second p, 22 / 512 = 0.043, is below 0.05 but not below 0.05 / 2."""
    small = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, -1.0, -2.0])
    differences = {"large": np.full(9, 1.0), "small": small}
    p = {name: paired_p(values, np.zeros(9)) for name, values in differences.items()}
    assert p["large"] == 2 / 512 and 0.025 < p["small"] < 0.05 and holm(p)["small"] == p["small"]
    found = differences_with_intervals(differences, p)
    assert found["small"].low > 0 and found["large"] == Mean(1.0, 1.0, 1.0)


def test_all_of_them_hold_at_once():
    rng = np.random.default_rng(3)
    truth = np.array([0.0, 0.5, -1.0, 2.0])
    hits = 0
    for _ in range(200):
        values = truth[:, None] + rng.normal(0, 1, (4, 10))
        found = intervals(dict(enumerate(values)))
        hits += all(found[i].low <= truth[i] <= found[i].high for i in range(4))
    assert hits / 200 > 0.93  # 0.95 and more; the standard error is 0.015


def test_equal_systems_and_a_single_query_say_nothing():
    assert intervals({"same": np.zeros(30)}) == {"same": Mean(0.0, 0.0, 0.0)}
    assert intervals({"one": np.array([0.5])}) == {"one": Mean(0.5, 0.0, 0.5)}
    assert differences_with_intervals({}, {}) == {}
