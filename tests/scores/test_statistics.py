"""Statistics equal NumPy's on the distinct pairs, and each way to spoil scores is named."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.errors import UserError
from retrieval_distill.scores.statistics import statistics
from retrieval_distill.scores.store import ScoreStore


def stored(root, by_query: dict[int, list[float]]) -> ScoreStore:
    """A store where query ``q`` has these scores for documents 0, 1, ..."""
    rows = [(query, document, score) for query, scores in by_query.items() for document, score in enumerate(scores)]
    queries, documents, scores = (np.array(column) for column in zip(*rows, strict=True))
    store = ScoreStore(root)
    store.add("t", queries, documents, scores)
    return store


def normal(seed: int, queries: int = 20, documents: int = 30) -> dict[int, list[float]]:
    values = np.random.default_rng(seed).normal(-2, 4, (queries, documents)).astype(np.float32)
    return {query: row.tolist() for query, row in enumerate(values)}


def check(found: dict, by_query: dict[int, list[float]], bins: int) -> None:
    rows = [np.array(scores, np.float32).astype(float) for scores in by_query.values()]
    scores = np.concatenate(rows)
    assert (found["pairs"], found["queries"]) == (len(scores), len(rows))
    assert found["documents"] == max(map(len, rows))
    assert (found["minimum"], found["maximum"]) == (scores.min(), scores.max())
    np.testing.assert_allclose(found["mean"], scores.mean(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found["standard_deviation"], scores.std(), rtol=1e-6, atol=1e-6)
    counts, edges = np.histogram(scores, bins)
    assert found["histogram"]["counts"] == counts.tolist()
    np.testing.assert_allclose(found["histogram"]["edges"], edges)
    several = [row for row in rows if len(row) > 1]
    within = found["within_query"]
    assert within["queries"] == len(several)
    if several:
        np.testing.assert_allclose(within["standard_deviation"], np.median([row.std() for row in several]), atol=1e-6)
        np.testing.assert_allclose(within["range"], np.median([np.ptp(row) for row in several]))
    else:
        assert within["standard_deviation"] is within["range"] is None


def test_healthy_scores_equal_numpy_and_raise_no_warning(tmp_path):
    scores = normal(1) | {77: [3.5]}
    found = statistics(stored(tmp_path, scores), "t")
    check(found, scores, 20)
    assert found["warnings"] == []


SCORE = st.floats(-50, 50, width=32).map(lambda value: value + 0.0)  # no negative zero


@settings(max_examples=25, derandomize=True)
@given(
    by_query=st.dictionaries(st.integers(0, 9), st.lists(SCORE, min_size=1, max_size=6), min_size=1),
    bins=st.integers(1, 9),
)
def test_any_scores_equal_numpy(by_query, bins):
    with tempfile.TemporaryDirectory() as folder:
        check(statistics(stored(folder, by_query), "t", bins), by_query, bins)


def test_a_pair_in_two_shards_counts_once(tmp_path):
    scores = normal(2)
    store = stored(tmp_path, scores)
    store.add("t", np.array([0, 1]), np.array([0, 0]), np.array([99.0, 98.0]))  # the smallest score counts
    check(statistics(store, "t"), scores, 20)


def test_squashed_scores(tmp_path):
    squashed = {query: (0.1 + 0.8 / (1 + np.exp(-np.array(row)))).tolist() for query, row in normal(3).items()}
    (warning,) = statistics(stored(tmp_path, squashed), "t")["warnings"]
    assert warning.startswith("all scores lie between 0 and 1, as after a sigmoid")


def test_squashed_and_saturated_scores(tmp_path):
    values = np.random.default_rng(4).uniform(0.2, 0.8, (10, 20))
    values[:, :3] = 1 - 10.0 ** -np.arange(5, 8)  # different, and all at the end
    found = statistics(stored(tmp_path, dict(enumerate(values.tolist()))), "t")
    assert found["warnings"][0].startswith("all scores lie between 0 and 1")
    assert found["warnings"][1] == "15.0% of the scores are within 0.0001 of 0 or 1: their differences are lost"


@pytest.mark.parametrize(("limit", "end"), [(np.minimum, "highest one, 3.1"), (np.maximum, "lowest one, 3.1")])
def test_scores_that_are_cut_off(tmp_path, limit, end):
    cut = {query: limit(row, np.float32(3.1)).tolist() for query, row in normal(5).items()}
    share = np.mean(np.concatenate(list(cut.values())) == np.float32(3.1))
    (warning,) = statistics(stored(tmp_path, cut), "t")["warnings"]
    assert warning == f"{share:.1%} of the scores are the {end}: the scale looks clipped there"


def test_one_score_at_the_end_is_no_saturation(tmp_path):
    assert statistics(stored(tmp_path, {0: [1.5, 2.5], 1: [-3.5, 4.5]}), "t")["warnings"] == []


def test_a_teacher_that_tells_nothing_apart(tmp_path):
    flat = {query: [query + 1e-5 * document for document in range(10)] for query in range(200)}
    (warning,) = statistics(stored(tmp_path, flat), "t")["warnings"]
    assert warning.startswith("the scores of a query hardly differ")


def test_a_teacher_that_says_one_thing(tmp_path):
    found = statistics(stored(tmp_path, {0: [2.0, 2.0], 1: [2.0, 2.0]}), "t", 4)
    assert found["histogram"] == {"edges": [1.5, 1.75, 2.0, 2.25, 2.5], "counts": [0, 0, 4, 0]}
    assert any("hardly differ (standard deviation 0, of all scores 0)" in warning for warning in found["warnings"])


def test_one_score_per_query(tmp_path):
    (warning,) = statistics(stored(tmp_path, {0: [1.5], 1: [2.5], 2: [-7.0]}), "t")["warnings"]
    assert warning.startswith("there is only one score per query")


def test_an_unknown_teacher(tmp_path):
    with pytest.raises(UserError, match=r"no scores of teacher 'x'; teachers here: t"):
        statistics(stored(tmp_path, {0: [1.0]}), "x")
