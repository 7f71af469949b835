"""The Run's order and fusion; BM25 against the formula."""

from __future__ import annotations

import math

import numpy as np
import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum


def test_order_is_trec_evals():
    run = Run.from_dict({"q2": {"a": 1.0, "c": 1.0, "b": 2.0}, "q1": {"x": 0.0}})
    assert run.pairs == [("q2", "b"), ("q2", "c"), ("q2", "a"), ("q1", "x")]  # a tie: the larger id first
    assert run.query_ids == ["q2", "q1"]
    assert run.top(1).pairs == [("q2", "b"), ("q1", "x")]
    assert run.with_scores([0.0, 5.0, 9.0, 1.0]).pairs == [("q2", "a"), ("q2", "c"), ("q2", "b"), ("q1", "x")]


def test_fusion_by_hand():
    one = Run.from_dict({"q": {"a": 9.0, "b": 8.0}})
    two = Run.from_dict({"q": {"b": 0.3, "c": 0.2}})
    fused = reciprocal_rank_fusion([one, two], k=60).as_dict()["q"]
    assert fused == pytest.approx({"b": 1 / 62 + 1 / 61, "a": 1 / 61, "c": 1 / 62})
    weighted = reciprocal_rank_fusion([one, two], weights=[3, 0.5]).as_dict()["q"]
    assert weighted == pytest.approx({"b": 3 / 62 + 0.5 / 61, "a": 3 / 61, "c": 0.5 / 62})


def test_weighted_sum_by_hand():
    one = Run.from_dict({"q": {"a": 9.0, "b": 8.0, "d": 5.0}, "r": {"a": 2.0, "b": 2.0}})
    two = Run.from_dict({"q": {"b": 0.3, "c": 0.2}})
    fused = weighted_sum([one, two], [0.75, 0.25]).as_dict()
    assert fused["q"] == pytest.approx({"a": 0.75, "b": 0.75 * 3 / 4 + 0.25, "c": 0.0, "d": 0.0})
    assert fused["r"] == pytest.approx({"a": 0.75, "b": 0.75})
    assert list(fused["q"]) == ["b", "a", "d", "c"]


def test_bm25_is_the_formula():
    texts = ["path file", "path path root tree", "graph node"]
    documents = Texts.from_records((f"d{i}", "", text) for i, text in enumerate(texts))
    found = BM25(documents, k1=1.5, b=0.75).search(Texts.from_records([("q", "", "path")]), 10).as_dict()["q"]
    mean = np.mean([len(text.split()) for text in texts])
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))

    def weight(count: int, length: int) -> float:
        return idf * count / (count + 1.5 * (1 - 0.75 + 0.75 * length / mean))

    assert found == pytest.approx({"d0": weight(1, 2), "d1": weight(2, 4)}, rel=1e-5)  # d2 shares no word: left out
