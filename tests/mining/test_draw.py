"""Candidates are drawn from where they should be, in the numbers asked for, none twice, and by the seed alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.run import Run
from retrieval_distill.mining.draw import apportion, draw

CORPUS = [f"d{i:03}" for i in range(200)]
RANKED = Run.from_dict({q: {doc: 100.0 - i for i, doc in enumerate(CORPUS[start : start + 60])}
                        for q, start in (("q1", 0), ("q2", 100))})  # fmt: skip
POOLS = {"random": lambda query: CORPUS, "in-topic": lambda query: CORPUS[90:110] if query == "q1" else []}


def drawn(shares, keep=8, seed=3, relevant=None, queries=("q1", "q2")) -> dict[str, Run]:
    return draw(RANKED, queries, shares, keep, POOLS, relevant or {}, seed)


def docs(run: Run, query: str) -> list[str]:
    return run.as_dict().get(query, {}) and list(run.as_dict()[query])


@given(st.dictionaries(st.text(max_size=3), st.floats(0.01, 10), min_size=1, max_size=6), st.integers(1, 60))
def test_shares_become_whole_numbers_that_add_up(shares, total):
    counts = apportion(shares, total)
    assert list(counts) == list(shares)
    assert sum(counts.values()) == total
    for source, count in counts.items():
        assert abs(count - total * shares[source] / sum(shares.values())) < 1


def test_shares_by_hand():
    assert apportion({"a": 1, "b": 1, "c": 1}, 8) == {"a": 3, "b": 3, "c": 2}
    assert apportion({"a": 0.5, "b": 0.25, "c": 0.25}, 5) == {"a": 3, "b": 1, "c": 1}


def test_the_top_is_the_head_of_the_list_with_its_scores():
    found = drawn({"top": 1.0}, keep=5)["top"]
    assert found.frame.equals(RANKED.top(5).frame)


def test_bands_are_ranks_from_one_both_ends_included():
    found = drawn({"3-10": 1.0}, keep=8)["3-10"]
    assert docs(found, "q1") == CORPUS[2:10]
    assert docs(drawn({"1-1": 1.0}, keep=8)["1-1"], "q2") == [CORPUS[100]]  # as many as there are


def test_a_band_is_drawn_evenly():
    counts = Counter(doc for seed in range(400) for doc in docs(drawn({"11-20": 1.0}, 2, seed)["11-20"], "q1"))
    assert set(counts) == set(CORPUS[10:20])
    assert min(counts.values()) > 45 and max(counts.values()) < 115  # 80 expected, standard deviation 8


@settings(max_examples=40)
@given(st.integers(0, 1000), st.integers(1, 30))
def test_nothing_is_drawn_twice_and_nothing_relevant_by_chance(seed, keep):
    shares = {"random": 1, "top": 2, "1-20": 1, "in-topic": 1}
    relevant = {"q1": ["d090", "d091", "d150"], "q2": ["d000"]}
    found = drawn(shares, keep, seed, relevant)
    counts = apportion(shares, keep)
    for query in ("q1", "q2"):
        lists = {source: docs(run, query) for source, run in found.items()}
        everything = [doc for own in lists.values() for doc in own]
        assert len(everything) == len(set(everything))
        assert not set(lists["random"] or ()) & set(relevant[query])
        assert not set(lists["in-topic"] or ()) & set(relevant[query])
        assert len(lists["random"]) == counts["random"] and len(lists["top"]) == counts["top"]
    assert set(docs(found["in-topic"], "q1")) <= set(CORPUS[90:110])
    assert not docs(found["in-topic"], "q2")


def test_the_seed_fixes_the_draw():
    shares = {"random": 1, "10-50": 1}
    for source, run in drawn(shares, seed=5).items():
        assert run.frame.equals(drawn(shares, seed=5)[source].frame)
        assert not run.frame.equals(drawn(shares, seed=6)[source].frame)


def test_a_query_that_nothing_was_found_for_is_still_drawn_for():
    found = drawn({"top": 1, "random": 1}, keep=6, queries=("q1", "nothing found"))
    assert len(docs(found["random"], "nothing found")) == 3
    assert found["top"].query_ids == ["q1"]
    assert set(found["random"].frame["score"]) <= {0.0, *RANKED.frame["score"]}
    assert found["random"].frame.groupby("query_id")["score"].max()["nothing found"] == 0


def test_more_than_there_is():
    assert len(docs(drawn({"random": 1.0}, keep=500)["random"], "q1")) == pytest.approx(200)
