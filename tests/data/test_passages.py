"""Passages pooled to documents, against pooling by a plain loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.data.passages import best_passages, max_pool
from retrieval_distill.data.run import Run

scores = st.dictionaries(
    st.sampled_from(["q1", "q2"]),
    st.dictionaries(st.sampled_from([f"{d}#{n}" for d in "abc" for n in range(3)]), st.floats(-9, 9), min_size=1),
    min_size=1,
)


@given(scores)
def test_the_best_passage_counts(found):
    run = Run.from_dict(found)
    pooled = max_pool(run, [doc_id.partition("#")[0] for doc_id in run.frame["doc_id"]])
    expected: dict[str, dict[str, float]] = {}
    for query, passages in found.items():
        for passage, score in passages.items():
            document = expected.setdefault(query, {})
            document[passage[0]] = max(score, document.get(passage[0], -100.0))
    assert pooled.as_dict() == expected
    assert pooled.pairs == Run.from_dict({query: expected[query] for query in run.query_ids}).pairs


def test_the_best_passage_stands_for_its_document():
    run = Run.from_dict({"q": {"a#1": 1.0, "b": 2.0, "a#2": 3.0}, "r": {"a#1": 5.0, "a#2": 4.0}})
    best = best_passages(run, [doc_id.partition("#")[0] for doc_id in run.frame["doc_id"]])
    assert best.as_dict() == {"q": {"a#2": 3.0, "b": 2.0}, "r": {"a#1": 5.0}}
    assert best.pairs == [("q", "a#2"), ("q", "b"), ("r", "a#1")]
