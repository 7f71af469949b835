"""Scoring goes through the store, refuses nonsense, and the gate says what the runs say."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError


class WordOverlap:
    """A teacher that can be computed by hand: the number of shared words."""

    fingerprint = "word-overlap"
    description = {"model": "word overlap"}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def score(self, pairs):
        for i in pairs.positions:
            query, document = pairs.texts(i)
            self.asked.append((query, document))
            yield np.array([i]), np.array([len(set(query.split()) & set(document.split()))], np.float32)


@pytest.fixture
def first_stage(dataset):
    return api.retrieve(dataset.queries, dataset.documents, depth=6)


def test_every_pair_gets_its_own_score(dataset, first_stage, tmp_path):
    teacher = WordOverlap()
    scored = api.score(first_stage, dataset, teacher=teacher, store=tmp_path / "s")
    counts = scored.facts
    assert (counts["pairs"], counts["scored"], counts["stored"]) == (len(first_stage), len(first_stage), 0)
    for query, document, value in scored.frame.itertuples(index=False):
        assert value == len(set(dataset.queries[query].split()) & set(dataset.documents[document].split()))


def test_nothing_is_asked_twice(dataset, first_stage, tmp_path):
    teacher = WordOverlap()
    first = api.score(first_stage.top(3), dataset, teacher=teacher, store=tmp_path / "s")
    asked = len(teacher.asked)
    scored = api.score(first_stage, dataset, teacher=teacher, store=tmp_path / "s")
    counts = scored.facts
    assert counts["stored"] == len(first) == asked
    assert len(teacher.asked) == len(set(teacher.asked)) == len(first_stage)


def test_rerank_keeps_the_tail_below_the_head(dataset, first_stage, tmp_path):
    reranked = api.rerank(first_stage, dataset, teacher=WordOverlap(), store=tmp_path / "s", depth=2)
    counts = reranked.facts
    before = {query: docs for query, docs, _ in first_stage}
    for query, docs, scores in reranked:
        assert set(docs[:2]) == set(before[query][:2])
        assert docs[2:] == before[query][2:]
        assert (np.diff(scores) <= 0).all()
    assert counts["pairs"] == len(first_stage.top(2))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers(dataset, first_stage, tmp_path, value):
    class Broken(WordOverlap):
        def score(self, pairs):
            yield np.array([0, 1]), np.array([1.0, value], np.float32)

    with pytest.raises(UserError, match=r"gave NaN or infinite scores for 1 pair, first for query 'q0'"):
        api.score(first_stage, dataset, teacher=Broken(), store=tmp_path / "s")


def test_unknown_ids(dataset, tmp_path):
    run = Run.from_dict({"q0": {"d0": 1.0, "gone": 1.0}})
    with pytest.raises(UserError, match="1 document id that the dataset does not have: 'gone'"):
        api.score(run, dataset, teacher=WordOverlap(), store=tmp_path / "s")
