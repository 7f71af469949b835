"""Weights of hybrid search: the grid's best by an independent computation, kept, and read back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retrieval_distill.data.passages import max_pool
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion, weighted_sum
from retrieval_distill.retrieval.hybrid import Fusion, FusionTuning

LEXICAL = Run.from_dict({"q1": {"a": 9.0, "b": 5.0, "c": 1.0}, "q2": {"x": 3.0, "y": 2.0, "z": 1.0}})
DENSE = Run.from_dict({"q1": {"c": 0.9, "b": 0.8, "a": 0.1}, "q2": {"y": 0.9, "z": 0.5, "x": 0.1}})


def test_the_best_weight_is_found():
    """q1 wants b: scaled to 0..1 it has 0.5 from BM25 and 0.875 from dense search, a and c one of 1 and one of 0."""
    found = hybrid.tune(LEXICAL, DENSE, {"q1": {"b": 1}, "q2": {"y": 1}})
    assert found.mean == 1.0 and found.queries == 2 and found.measure == "nDCG@10"
    assert found.chosen == Fusion("score", 0.5)
    by = {(tried.method, tried.dense): tried.mean for tried in found.tried}
    assert len(by) == 22
    second = 1 / np.log2(3)
    assert by["score", 0.0] == pytest.approx(second)  # b and y are second
    assert by["score", 1.0] == pytest.approx((second + 1) / 2)


def test_of_equal_weights_the_nearest_to_a_half_is_kept():
    same = hybrid.tune(DENSE, DENSE, {"q1": {"c": 1}})
    assert same.chosen.dense == 0.5 and same.mean == 1.0


def test_the_better_one_on_dev_is_the_one_to_use():
    """Alone, dense search has y first and b second."""
    qrels = {"q1": {"b": 1}, "q2": {"y": 1}}
    found = hybrid.tune(LEXICAL, DENSE, qrels)
    found.decide()
    assert found.use == "hybrid-student"
    alone, fused = (found.plain()["dev"][name]["nDCG@10"]["mean"] for name in ("student", "hybrid-student"))
    assert (alone, fused) == (pytest.approx((1 + 1 / np.log2(3)) / 2), 1.0)
    useless = Run.from_dict({"q1": {"z": 1.0}, "q2": {"w": 1.0}})
    found = hybrid.tune(useless, DENSE, {"q1": {"c": 1}})
    found.decide()
    assert found.use == "student"  # as good alone, and cheaper


def test_any_measure_of_any_unit_is_tuned():
    """Passages of two documents: P finds both, and each document counts by its best passage."""
    passages = Run.from_dict({"q": {"A#1": 3.0, "A#2": 2.0, "B#1": 1.0}})

    def pooled(run):
        return max_pool(run, run.frame["doc_id"].str.partition("#")[0])

    found = hybrid.tune(passages, passages, {"q": {"B": 1}}, pooled, "RR")
    assert (found.measure, found.mean) == ("RR", 0.5)


def test_fusing_keeps_documents_that_one_side_alone_found():
    """By hand: ranks 1, 2 of one side and 1 of the other; scores 1 and 0 of three, 1 of a side of one."""
    one, other = Run.from_dict({"q": {"a": 5.0, "b": 3.0}, "p": {"x": 1.0}}), Run.from_dict({"q": {"c": 0.2}})
    ranks = reciprocal_rank_fusion([one, other], weights=[0.25, 0.75]).as_dict()
    assert ranks == {
        "q": pytest.approx({"c": 0.75 / 61, "a": 0.25 / 61, "b": 0.25 / 62}), "p": pytest.approx({"x": 0.25 / 61}),
    }  # fmt: skip
    scores = weighted_sum([one, other], weights=[0.25, 0.75]).as_dict()
    assert scores == {"q": pytest.approx({"c": 0.75, "a": 0.25, "b": 0.0}), "p": pytest.approx({"x": 0.25})}
    nothing = Run.from_dict({})
    assert len(weighted_sum([nothing, nothing])) == 0 and weighted_sum([one, nothing]).query_ids == ["q", "p"]


def test_weights_are_read_back_and_bad_ones_refused(tmp_path):
    assert FusionTuning.read(tmp_path) is None
    found = hybrid.tune(LEXICAL, DENSE, {"q1": {"b": 1}})
    found.write(tmp_path)
    assert FusionTuning.read(tmp_path) == found
    assert found.chosen == Fusion("score", 0.5) == hybrid.parse(str(Fusion("score", 0.5)))
    (tmp_path / "fusion.json").write_text("{}")
    with pytest.raises(UserError, match=r"no file of fusion weights \(chosen: .*; tune again with --tune SPLIT"):
        FusionTuning.read(tmp_path)
    assert hybrid.parse("rank:0.25") == Fusion("rank", 0.25)
    for bad in ("score", "scores:0.5", "score:2", "score:-0.1", "rank:x", "score:nan"):
        with pytest.raises(UserError, match="such as score"):
            hybrid.parse(bad)


def test_weights_say_what_they_gain_and_for_what(tmp_path):
    found = hybrid.tune(LEXICAL, DENSE, {"q1": {"b": 1}})
    assert found.gain.mean == pytest.approx(1 - 1 / np.log2(3))  # b is second in dense search alone
    assert found.alone == pytest.approx(1 / np.log2(3))
    assert hybrid.tuned_for(tmp_path, "ours") is None
    found.key = "ours"
    found.write(tmp_path)
    assert hybrid.tuned_for(tmp_path, "ours") == found and hybrid.tuned_for(tmp_path, "other") is None
    (tmp_path / "fusion.json").write_text("[]")
    assert hybrid.tuned_for(tmp_path, "ours") is None


def test_weights_of_before_the_version_are_read(tmp_path):
    found = hybrid.tune(LEXICAL, DENSE, {"q1": {"b": 1}})
    found.key = "ours"
    values = found.plain()
    assert "version" not in values
    (tmp_path / "fusion.json").write_text(json.dumps(values))
    assert hybrid.tuned_for(tmp_path, "ours") == found


def test_passages_are_tuned_as_documents():
    """Dense search finds a passage of each document first; pooled, the two have the same documents in the same order."""

    def pool(run):
        return max_pool(run, [{"a": "x", "b": "x", "c": "y"}[id_] for id_ in run.frame["doc_id"]])

    found = hybrid.tune(LEXICAL.select(["q1"]), DENSE.select(["q1"]), {"q1": {"y": 1}}, pool)
    assert found.alone == 1.0 and found.mean == 1.0
    assert hybrid.tune(LEXICAL.select(["q1"]), LEXICAL.select(["q1"]), {"q1": {"y": 1}}, pool).alone < 1
