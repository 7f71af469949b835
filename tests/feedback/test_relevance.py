"""What clicks say of relevance, corrected for position bias: by hand, and against what simulated users find relevant."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.config import FeedbackConfig
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.feedback.log import FeedbackLog, Search
from retrieval_distill.feedback.propensities import Propensities, by_swaps
from retrieval_distill.feedback.relevance import estimate
from scripts.simulated_users import Users


def search(shown: str, clicks: str = "", query: str = "q", **options) -> Search:
    return Search(f"{id(object())}", "", query, "s", tuple(shown), clicks=set(clicks), **options)


def table(searches, eta=1.0, **options):
    found = estimate(searches, Propensities(eta), FeedbackConfig(**options))
    return found.set_index("doc_id")


def test_a_click_counts_as_much_as_its_rank_is_seldom_looked_at():
    """a: clicked at rank 1 in one of 4 searches; c: at ranks 3 and 3; d: once at rank 4, once at 1."""
    logged = [search("abcd", "ac"), search("abcd", "d"), search("abcd", "c"), search("dbca", "d")]
    found = table(logged)
    assert found["relevance"].to_dict() == {"a": 1 / 4, "b": 0.0, "c": (3 + 3) / 4, "d": (4 + 1) / 4}
    assert table(logged, clip=2)["relevance"].to_dict() == {"a": 1 / 4, "b": 0.0, "c": 1.0, "d": 3 / 4}
    assert table(logged, eta=0)["relevance"].to_dict() == {"a": 1 / 4, "b": 0.0, "c": 1 / 2, "d": 1 / 2}
    assert (found["shown"].tolist(), found["clicks"].tolist()) == ([4] * 4, [1, 0, 2, 2])
    assert found["skipped"].to_dict() == {"a": 2, "b": 3, "c": 1, "d": 0}
    assert found["negative"].to_dict() == {"a": False, "b": True, "c": False, "d": False}


def test_estimates_are_lowered_by_what_they_may_be_off():
    """Effective clicks of c: 2 (of one weight); of d: (4 + 1)^2 / (16 + 1)."""
    logged = [search("abcd", "ac"), search("abcd", "d"), search("abcd", "c"), search("dbca", "d")]
    bounds = {
        "a": 0.25 * (1 - 0.5) ** 2,
        "b": 0.0,
        "c": 1.5 * (1 - 0.5 / np.sqrt(2)) ** 2,
        "d": 1.25 * (1 - 0.5 / np.sqrt(25 / 17)) ** 2,
    }
    assert table(logged)["value"].to_dict() == pytest.approx(
        {doc: bound / bounds["c"] for doc, bound in bounds.items()}
    )
    plain = {"a": 0.25 / 1.5, "b": 0.0, "c": 1.0, "d": 1.25 / 1.5}
    assert table(logged, caution=0)["value"].to_dict() == pytest.approx(plain)


def test_grades_rise_from_the_share_that_is_relevant_to_the_best():
    logged = [search("abcd", clicks) for clicks in ["abcd"] * 5 + ["abc"] * 2 + ["ab"] * 1 + ["a"] * 2]
    found = table(logged, eta=0, caution=0, relevant=0.6)
    assert found["value"].to_dict() == pytest.approx({"a": 1.0, "b": 0.8, "c": 0.7, "d": 0.5})
    assert found["grade"].to_dict() == {"a": 3, "b": 2, "c": 1, "d": 0}
    assert table(logged, eta=0, relevant=1)["grade"].to_dict() == {"a": 3, "b": 0, "c": 0, "d": 0}
    assert table(logged, eta=0, min_clicks=11)["grade"].sum() == 0


def test_judgements_override_clicks():
    logged = [search("abcd", "a", judgements={"a": -1, "b": 3}), search("abcd", "a", judgements={"b": 1, "c": 0})]
    found = table(logged, eta=0)
    assert found["grade"].to_dict() == {"a": 0, "b": 2, "c": 0, "d": 0}
    assert found["negative"].to_dict() == {"a": True, "b": False, "c": True, "d": False}
    assert found["value"].to_dict() == pytest.approx({"a": -1.0, "b": 2 / 3, "c": 0.0, "d": 0.0})


def test_searches_with_the_same_words_are_one_query():
    logged = [search("ab", query=query) for query in ("Sort  a list", "sort a LIST ", "sort a lists")]
    found = estimate(logged, Propensities(1.0))
    assert found["query"].unique().tolist() == ["Sort a list", "sort a lists"]
    assert found["shown"].tolist() == [2, 2, 1, 1] and found["query_id"].nunique() == 2
    assert estimate(logged[1:], Propensities(1.0))["query_id"].iloc[0] == found["query_id"].iloc[0]


def test_later_pages_begin_where_the_ones_before_end():
    assert table([search("ab", "b", offset=3)], clip=100)["relevance"].to_dict() == {"a": 0.0, "b": 5.0}


def test_nothing_is_estimated_of_nothing():
    assert estimate([], Propensities(1.0)).empty
    assert table([search("ab")])[["grade", "negative"]].sum().sum() == 0


@pytest.mark.parametrize(("swaps", "raw", "margin"), [(0.0, 0.85, 0.12), (0.1, 0.95, 0.03)])
def test_corrected_clicks_find_what_is_relevant_and_raw_ones_what_stood_above(tmp_path, swaps, raw, margin):
    """The start system puts the one relevant document anywhere among ten, and people click on others too.

    Ranked by raw click-through, its place decides; corrected, by the model and by measured propensities, relevance does.
    Where some searches are swapped at random, raw clicks are less biased, too.
    """
    rng, users = np.random.default_rng(3), Users(eta=1.0, relevant=0.8, noise=0.15, swaps=swaps)
    rankings = {f"query {n}": [f"{n}-{doc}" for doc in rng.permutation(10)] for n in range(40)}
    relevant = {query: {f"{n}-0"} for n, query in enumerate(rankings)}
    with FeedbackLog.open(tmp_path / "feedback.db") as log:
        users.search(log, rankings, relevant, times=150, seed=5)
        searches = list(log.read().searches.values())
    ways = {"raw": Propensities(0.0), "model": Propensities(1.0)} | ({"swaps": by_swaps(searches)} if swaps else {})
    ndcg = {}
    for name, propensities in ways.items():
        found = estimate(searches, propensities)
        run = Run.from_columns(found["query"], found["doc_id"], found["relevance"])
        ndcg[name] = evaluate(run, {q: dict.fromkeys(docs, 1) for q, docs in relevant.items()}, ["nDCG@10"])["nDCG@10"].mean()  # fmt: skip
    corrected = min(value for name, value in ndcg.items() if name != "raw")
    assert ndcg["raw"] < raw and corrected > max(ndcg["raw"] + margin, 0.96), ndcg
