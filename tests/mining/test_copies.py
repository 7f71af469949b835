"""A copy of a relevant document, or of the query, never serves as a negative, whatever its id and punctuation."""

from __future__ import annotations

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.relevance import relevance
from retrieval_distill.data.run import Run
from retrieval_distill.mining.duplicates import drop_copies

DATA = Dataset.from_records(
    "tiny",
    [
        ("a", "Paths", "Split a path."),
        ("b", "", "paths  split a PATH"),  # a's words
        ("c", "", "Split a root."),
        ("d", "", "What is a path?"),
        ("e", "", "..."),
        ("f", "", "!!!"),
    ],
    [("q1", "what is a path"), ("q2", "what is a root")],
    {"train": [("q1", "a", 2), ("q1", "c", 0), ("q2", "c", 1), ("q2", "e", 1)]},
)


def kept(scores: dict) -> dict[str, set[str]]:
    run = drop_copies(Run.from_dict(scores), DATA.qrels("train"), DATA.queries, DATA.documents)
    return {query: set(docs) for query, docs in run.as_dict().items()}


def test_by_hand():
    everything = dict.fromkeys("abcdef", 1.0)
    assert kept({"q1": everything, "q2": everything}) == {
        "q1": set("acef"),  # b is a, d is the query; c is judged, and another text
        "q2": set("abcdef"),  # none of them says what c or e says: f has other signs, and no words to compare
    }


def test_a_copy_goes_only_where_its_original_is_relevant():
    assert kept({"q1": {"a": 1.0, "b": 2.0}, "q2": {"a": 1.0, "b": 2.0}}) == {"q1": {"a"}, "q2": {"a", "b"}}


def test_two_relevant_copies_both_stay():
    data = Dataset.from_records("x", [("a", "", "one"), ("b", "", "one"), ("c", "", "One!")], [("q", "two")],
                                {"train": [("q", "a", 1), ("q", "b", 1)]})  # fmt: skip
    run = drop_copies(Run.from_dict({"q": {"a": 1, "b": 1, "c": 1}}), data.qrels("train"), data.queries, data.documents)
    assert set(run.as_dict()["q"]) == {"a", "b"}


def test_relevance_is_of_pairs():
    run = Run.from_dict({"q1": {"a": 1.0, "c": 2.0}, "q2": {"a": 1.0, "c": 2.0}, "q3": {"a": 1.0}})
    found = dict(zip(run.pairs, relevance(run, DATA.qrels("train")).tolist(), strict=True))
    assert {pair for pair, is_relevant in found.items() if is_relevant} == {("q1", "a"), ("q2", "c")}
    assert not relevance(run, {}).any()
