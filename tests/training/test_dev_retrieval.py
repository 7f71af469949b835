"""Dev evaluation: a bounded pool with the relevant documents in it, and real retrieval over it."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from retrieval_distill.config import StudentConfig
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.student import build
from retrieval_distill.training.dev_retrieval import DevSet, measure, retrieve

SMALL = Dataset.from_records(
    "small",
    [(f"d{i}", "", f"text {i}") for i in range(9)],
    [(f"q{i}", f"query {i}") for i in range(3)],
    {"dev": [("q0", "d8", 1), ("q0", "d7", 0), ("q1", "d3", 2), ("q2", "d6", 1)]},
)
CANDIDATES = Run.from_dict({"q1": {"d3": 9.0, "d0": 8.0, "d1": 7.0}, "q0": {"d2": 5.0, "d1": 4.0}})


def pool(size: int, seed: int = 0) -> DevSet:
    return DevSet.pool(CANDIDATES, "dev", SMALL, size, seed)


def test_what_goes_into_the_pool():
    """Relevant documents of the asked queries, first candidates, second ones, third ones, then any others."""
    dev = pool(6)
    assert dev.queries.ids == ["q1", "q0"]
    assert dev.qrels == {"q1": {"d3": 2}, "q0": {"d8": 1, "d7": 0}}
    assert dev.documents.ids[:5] == ["d3", "d8", "d2", "d0", "d1"]
    assert dev.documents.ids[5] in {"d4", "d5", "d6", "d7"}
    assert pool(3).documents.ids == ["d3", "d8", "d2"]
    assert pool(1).documents.ids == ["d3", "d8"]  # never fewer than the relevant ones
    assert set(pool(50).documents.ids) == set(SMALL.documents.ids)


def test_the_rest_is_drawn_by_the_seed():
    assert pool(6).documents.ids == pool(6).documents.ids
    assert len({pool(6, seed).documents.ids[5] for seed in range(20)}) > 1


def test_the_fingerprint_covers_it_all():
    other = Run.from_dict({"q1": {"d3": 9.0}})
    marks = {pool(6).fingerprint, pool(7).fingerprint, DevSet.pool(other, "dev", SMALL, 6, 0).fingerprint}
    assert len(marks) == 3
    assert pool(6).fingerprint in marks


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_values_are_the_librarys(encoders, dataset, similarity):
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40, similarity=similarity)).train()
    dev = DevSet(dataset.queries("dev"), dataset.qrels("dev"), dataset.documents)
    found = measure(student, dev, "nDCG@10", depth=20)
    evaluator = InformationRetrievalEvaluator(
        dict(zip(dev.queries.ids, dev.queries.take(), strict=True)),
        dict(zip(dev.documents.ids, dev.documents.take(), strict=True)),
        {query: set(judged) for query, judged in dev.qrels.items()},
        show_progress_bar=False,
    )
    theirs = evaluator(student)
    [key] = [key for key in theirs if key.endswith(f"{similarity}_ndcg@10")]
    assert 0 < found["eval_nDCG@10"] < 1
    assert found["eval_nDCG@10"] == pytest.approx(theirs[key], abs=1e-6)
    assert found["eval_queries"] == 6
    run = retrieve(student, dev, depth=5)
    assert len(run) == 30
    for query, documents, scores in run:
        own = student.similarity(
            student.encode_query([dataset.queries[query]]), student.encode_document(dataset.documents.take())
        )
        best = np.argsort(-own[0].numpy())[:5]
        assert documents == [dataset.documents.ids[row] for row in best]
        np.testing.assert_allclose(scores, own[0].numpy()[best], rtol=1e-4)


def test_the_interval_is_that_of_the_values_by_query(encoders, dataset):
    student = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    dev = DevSet(dataset.queries("dev"), dataset.qrels("dev"), dataset.documents)
    found = measure(student, dev, "RR", depth=60)
    ranks = [documents.index(next(iter(dev.qrels[query]))) + 1 for query, documents, _ in retrieve(student, dev, 60)]
    interval = mean_with_interval(1 / np.array(ranks))
    assert found == pytest.approx(
        {"eval_RR": interval.mean, "eval_low": interval.low, "eval_high": interval.high, "eval_queries": 6}
    )
