"""Several seeds: means and spreads by hand, and the two limits in which one doubt is all there is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.seed_summary import matrix, summarise
from retrieval_distill.evaluation.significance import mean_with_interval


def test_by_hand():
    found = summarise(np.array([[0.0, 1.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0.0, 0.0, 0.5, 0.5]]))
    assert (found.seeds, found.queries) == (3, 4)
    assert found.mean == pytest.approx(0.5)
    assert found.standard_deviation == pytest.approx(np.std([0.5, 0.75, 0.25], ddof=1))
    assert found.low <= 0.25 and found.high >= 0.75  # three seeds: each is often drawn alone


def test_equal_seeds_leave_the_doubt_of_the_queries():
    values = np.random.default_rng(1).random(80)
    found, alone = summarise(np.tile(values, (5, 1))), mean_with_interval(values)
    assert found.standard_deviation == 0
    assert [found.low, found.high] == pytest.approx([alone.low, alone.high], abs=0.05 * (alone.high - alone.low))


def test_equal_queries_leave_the_doubt_of_the_seeds():
    """A bootstrap of n means has a variance of (n - 1) / n of theirs; drawn apart, it has all of it."""
    means = np.random.default_rng(2).normal(0.6, 0.05, 200)
    found = summarise(np.tile(means[:, None], (1, 30)))
    half = 1.96 * means.std(ddof=1) / np.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    assert found.standard_deviation == pytest.approx(means.std(ddof=1))


def test_one_seed_is_a_mean_over_queries():
    values = np.random.default_rng(3).random(50)
    found, alone = summarise(values[None]), mean_with_interval(values)
    assert (found.mean, found.standard_deviation) == (pytest.approx(alone.mean), 0.0)
    assert [found.low, found.high] == pytest.approx([alone.low, alone.high], abs=0.05 * (alone.high - alone.low))


@pytest.mark.parametrize("values", [[0.1, 0.2], [[]], [[0.1, np.nan]]])
def test_what_is_no_matrix_of_numbers_is_refused(values):
    with pytest.raises(ValueError, match="seeds, queries"):
        summarise(np.array(values))


def table(**values):
    """A run's values by query, in the order given."""
    rows = [("student", query, value) for query, value in values.items()] + [("bm25", query, 0.0) for query in values]
    return pd.DataFrame(rows, columns=["system", "query_id", "nDCG@10"])


def test_runs_are_aligned_by_query():
    found = matrix([table(p=0.1, q=0.2), table(q=0.4, p=0.3)], "student", "nDCG@10")
    assert found.tolist() == [[0.1, 0.2], [0.3, 0.4]]
    with pytest.raises(UserError, match="different queries"):
        matrix([table(p=0.1, q=0.2), table(p=0.1)], "student", "nDCG@10")


def test_an_interval_of_perfect_seeds_ends_at_one():
    values = np.ones((2, 30))
    values[1, :3] = 0.5
    found = summarise(values)
    assert 0.5 <= found.low < found.mean < found.high <= 1.0
