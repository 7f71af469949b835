"""The mining report's figures, counted by hand."""

from __future__ import annotations

import pytest

from retrieval_distill.data.run import Run
from retrieval_distill.mining import mining_report

QRELS = {"q1": {"a": 1}, "q2": {"x": 1, "y": 2, "z": 0}}
LISTS = {
    "bm25": Run.from_dict({"q1": {"a": 3.0, "b": 2.0}, "q2": {"v": 2.0, "x": 1.0}}),
    "one": Run.from_dict({"q1": {"b": 3.0, "c": 2.0, "a": 1.0}, "q2": {"w": 2.0}}),
    "two": Run.from_dict({"q2": {"v": 9.0, "w": 8.0}}),
}


def test_lists():
    found = mining_report.of_lists(LISTS, {"top": LISTS["two"]}, QRELS)
    bm25, one, two = found["retrievers"].values()
    assert (bm25["documents"], one["documents"], two["documents"]) == (4, 4, 2)
    assert bm25["found_by"] == {"one": 0.5, "two": 0.25, "any": 0.75}  # a and b; v
    assert two["found_by"] == {"bm25": 0.5, "one": 0.5, "any": 1.0}
    assert bm25["positives"]["share"] == pytest.approx(2 / 3)  # a at rank 1, x at rank 2; not y
    assert bm25["positives"]["ranks"]["0.5"] == 1.5
    assert one["positives"]["ranks"]["0.95"] == 3
    assert two["positives"] == {"share": 0.0, "ranks": None}
    assert found["drawn"] == {"top": 2}
    assert [line.split()[0] for line in mining_report.lists_table(found).splitlines()] == [
        "retriever", "bm25", "one", "two", "drawn:"
    ]  # fmt: skip
    assert mining_report.of_lists({"bm25": LISTS["bm25"]}, {}, QRELS)["retrievers"]["bm25"]["found_by"] == {}


def test_scores():
    scored = Run.from_dict(
        {"q1": {"a": 2.0, "b": 3.0, "c": -1.0}, "q2": {"x": 5.0, "y": 1.0, "v": 1.0, "w": 0.0}, "q3": {"b": 7.0}}
    )
    found = mining_report.of_scores(scored, QRELS)
    assert found["negatives"] == 5
    assert found["false_negatives"] == 0.5  # b is above a, v as high as y; c and w are below; q3 has no positive
    assert found["margins"]["0.5"] == 0.5  # of -1, 0, 1, 3
    assert "50.0%" in mining_report.scores_line(found)
    lonely = mining_report.of_scores(Run.from_dict({"q3": {"b": 7.0}}), QRELS)
    assert lonely == {"negatives": 1, "false_negatives": None, "margins": None}
    assert "no query has a scored relevant document" in mining_report.scores_line(lonely)
