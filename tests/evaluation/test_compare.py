"""Systems over the same queries: every number from the functions that are tested alone, put in its place."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.significance import (
    differences_with_intervals,
    holm,
    mean_with_interval,
    minimum_detectable_difference,
    paired_p,
)
from retrieval_distill.reporting import letters

QUERIES = [f"q{i}" for i in range(40)]
QRELS = {query: {"good": 1} for query in QUERIES}


def system(rank_of_good) -> Run:
    """A run with the one relevant document at these ranks."""
    return Run.from_dict(
        {
            q: {"good": 0.5 - rank, **{f"d{i}": float(-i) for i in range(1, 9)}}
            for q, rank in zip(QUERIES, rank_of_good, strict=True)
        }
    )


@pytest.fixture(scope="module")
def systems():
    rng = np.random.default_rng(1)
    return {"best": system([1] * 40), "middle": system(rng.integers(1, 6, 40)), "other": system(rng.integers(1, 6, 40))}


def test_per_query_is_a_table_of_systems_and_queries(systems, tmp_path):
    values = compare.per_query(systems, QRELS, ["RR@10", "Success@5"])
    assert list(values.columns) == ["system", "query_id", "RR@10", "Success@5"]
    assert values["system"].tolist() == [name for name in systems for _ in QUERIES]
    assert values["query_id"].tolist() == QUERIES * 3
    assert values.loc[values["system"] == "best", "RR@10"].tolist() == [1.0] * 40


def test_p_values_are_corrected_over_all_pairs_of_a_measure(systems):
    values = compare.per_query(systems, QRELS, ["RR@10"])
    by_system = {name: rows["RR@10"].to_numpy() for name, rows in values.groupby("system")}
    raw = {
        (a, b): paired_p(by_system[a], by_system[b])
        for a, b in (("best", "middle"), ("best", "other"), ("middle", "other"))
    }
    corrected, found = holm(raw), compare.summarise(values)
    for (a, b), p in raw.items():
        assert found[a]["RR@10"].p_vs[b] == found[b]["RR@10"].p_vs[a] == p
        assert found[a]["RR@10"].p_holm_vs[b] == found[b]["RR@10"].p_holm_vs[a] == corrected[a, b] >= p
    middle, expected = found["middle"]["RR@10"], mean_with_interval(by_system["middle"])
    assert (middle.mean, *middle.interval) == (expected.mean, *expected.interval)
    assert compare.compare(systems, QRELS, ["RR@10"]) == found


def test_differences_carry_intervals_that_are_corrected_as_their_p_values_are(systems):
    values = compare.per_query(systems, QRELS, ["RR@10"])
    by_system = {name: rows["RR@10"].to_numpy() for name, rows in values.groupby("system")}
    pairs = [("best", "middle"), ("best", "other"), ("middle", "other")]
    p = {pair: paired_p(by_system[pair[0]], by_system[pair[1]]) for pair in pairs}
    expected = differences_with_intervals({(a, b): by_system[a] - by_system[b] for a, b in pairs}, p)
    found = compare.summarise(values)
    for a, b in pairs:
        won, lost = found[a]["RR@10"].difference_vs[b], found[b]["RR@10"].difference_vs[a]
        assert won == expected[a, b]
        assert (won.mean, won.low, won.high) == (-lost.mean, -lost.high, -lost.low)
        assert (won.low > 0 or won.high < 0) == (found[a]["RR@10"].p_holm_vs[b] < 0.05)


def test_the_detectable_difference_is_the_largest_over_the_pairs(systems):
    values = compare.per_query(systems, QRELS, ["RR@10"])
    a, b, c = (rows["RR@10"].to_numpy() for _, rows in values.groupby("system"))
    pairs = [minimum_detectable_difference(x - y) for x, y in ((a, b), (a, c), (b, c))]
    assert compare.minimum_detectable(values) == {"RR@10": max(pairs)}
    assert compare.minimum_detectable(values[values["system"] == "best"]) == {"RR@10": None}
    assert compare.minimum_detectable(values[values["query_id"] == "q0"]) == {"RR@10": None}


def test_letters_follow_the_corrected_p_values():
    def measured(mean, p):
        return Measured(mean, mean, mean, dict.fromkeys(p, 0.001), p)

    table = {
        "student": measured(0.6, {"bm25": 0.01, "mine": 0.06}),
        "bm25": measured(0.5, {"student": 0.01, "mine": 0.01}),
        "mine": measured(0.55, {"student": 0.06, "bm25": 0.01}),
    }
    assert letters.beaten("student", table) == ["bm25"]  # 0.06 is not enough, whatever it was before
    assert letters.beaten("bm25", table) == []  # significantly worse is no win
    assert letters.marks(table) == {"student": "d", "bm25": "b", "mine": "a"}
    many = letters.marks(["bm25", *(f"m{i}" for i in range(40))])
    assert len(set(many.values())) == 41


def test_a_system_alone_is_compared_with_none(systems):
    alone = compare.compare({"best": systems["best"]}, QRELS, ["RR@10"])
    assert alone == {"best": {"RR@10": Measured(1.0, 1.0, 1.0)}}
