"""What is dropped, and how it is counted."""

from __future__ import annotations

import pandas as pd
import pytest

from retrieval_distill.config import GenerateConfig
from retrieval_distill.config.generate import RoundTripConfig
from retrieval_distill.data import generated as copies
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.generate import query_filters, round_trip
from retrieval_distill.generate.round_trip import Judges

DATA = Dataset.from_records(
    "data",
    [("a", "A", "alpha beta. gamma"), ("b", "B", "beta"), ("c", "", "gamma")],
    [("q1", "What lifts a wing?"), ("q2", "drag of the hull in shallow water today"), ("q3", "training query here")],
    {"test": [("q1", "a", 1), ("q2", "b", 1)], "train": [("q3", "c", 1)]},
)


def table(*rows):
    made = pd.DataFrame(rows, columns=["way", "doc_id", "query"])
    return made.assign(query_id=[f"g{i}" for i in range(len(made))], title=None, text=None)


def counts(dropped):
    return {reason: case["count"] for reason, case in dropped.as_dict().items()}


def test_by_text():
    made = table(
        ("titles", "a", "lift of wings"),
        ("titles", "a", "Lift of  Wings!"),  # the same words again
        ("titles", "b", "two words"),
        ("titles", "b", "one two three four five six"),
        ("summary", "a", "what two documents say"),
        ("summary", "c", "What two documents say?"),
        ("summary", "b", None),
        ("summary", "b", "kept as well"),
    )
    dropped = Ledger()
    kept = query_filters.by_text(made, GenerateConfig(max_words=5), dropped)
    assert kept["query"].tolist() == ["lift of wings", "kept as well"]
    assert counts(dropped) == {
        "summary: document of a single sentence": 1,
        "titles: query of fewer than 3 words": 1,
        "titles: query of more than 5 words": 1,
        "summary: query that several documents give": 2,
        "titles: query that its document gave before": 1,
    }


def test_held_out_queries_are_left_out():
    asked = ("what lifts a wing", "the hull today in shallow water drag of", "training query here", "lift a wing")
    made = table(*(("titles", "a", query) for query in asked))
    dropped = Ledger()
    kept = query_filters.by_leakage(made, DATA, GenerateConfig(), dropped)
    assert kept["query"].tolist() == ["training query here", "lift a wing"]
    assert counts(dropped) == {"titles: query that a held-out split asks": 2}
    assert len(query_filters.by_leakage(made, DATA, GenerateConfig(held_out=("dev",)), Ledger())) == 4
    strict = query_filters.by_leakage(made, DATA, GenerateConfig(query_threshold=0.3), Ledger())
    assert strict["query"].tolist() == ["training query here"]


def test_round_trip_by_retrieval():
    made = table(("titles", "a", "x"), ("titles", "b", "y"), ("titles", "c", "z"))
    ranks = {"g0": {"b": 3.0, "a": 2.0, "c": 1.0}, "g1": {"a": 3.0, "c": 2.0, "b": 1.0}, "g2": {}}

    def find(queries, depth):
        assert queries.ids == ["g0", "g1", "g2"] and queries["g1"] == "y"
        return Run.from_dict(ranks).top(depth)

    dropped = Ledger()
    kept = round_trip.keep_round_trips(made, DATA, RoundTripConfig(retrieval=2), Judges(find, None, {}), dropped)
    assert kept["query_id"].tolist() == ["g0"]
    assert counts(dropped) == {"titles: query that does not find its document among 2": 2}


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"teacher": 1}, ["g0"]),
        ({"teacher": 2}, ["g0", "g1"]),
        ({"score": 0.0}, ["g0", "g2"]),
        ({"score": 0.0, "teacher": 1}, ["g0"]),
        ({"score": -9.0}, ["g0", "g1", "g2"]),
    ],
)
def test_round_trip_by_the_teacher(options, left):
    """The teacher reads the query's copy of its document, and ranks it beside the candidates."""
    made = table(("titles", "a", "x"), ("titles", "b", "y"), ("titles", "c", "z"))
    made.loc[0, ["title", "text"]] = ["", "alpha"]
    logits = {
        ("x", "alpha"): 5.0, ("x", "B beta"): 4.0, ("y", "A alpha beta. gamma"): -1.0, ("y", "B beta"): -2.0,
        ("z", "A alpha beta. gamma"): 3.0, ("z", "B beta"): 2.0, ("z", "gamma"): 1.0,
    }  # fmt: skip

    def find(queries, depth):
        return Run.from_dict({"g0": {"b": 2.0, "a": 1.0}, "g1": {"a": 1.0}, "g2": {"a": 2.0, "b": 1.0, "c": 0.5}}).top(
            depth
        )

    def score(run, made):
        pairs, documents = copies.use_copies(run, made), copies.with_copies(made)
        return pairs.with_scores([logits[made.queries[query], documents[doc]] for query, doc in pairs.pairs])

    config = RoundTripConfig(candidates=2, **options)
    kept = round_trip.keep_round_trips(made, DATA, config, Judges(find, score, {}), Ledger())
    assert kept["query_id"].tolist() == left


def test_training_sees_copies_and_never_takes_them_for_negatives():
    made = table(("titles", "a", "x"), ("summary", "a", "y"), ("titles", "c", "z"))
    made.loc[0, ["title", "text"]] = ["", "alpha beta."]
    made.loc[1, ["title", "text"]] = ["A", "gamma"]
    generated = copies.add_generated(DATA, made)
    assert generated.queries("generated").take() == ["x", "y", "z"]
    assert generated.documents is DATA.documents  # what is searched stays as it was
    seen = copies.training_view(generated, "generated")
    run = Run.from_dict({"g0": {"a": 3.0, "b": 2.0}, "g1": {"b": 5.0, "a": 4.0}, "g2": {"a": 1.0, "c": 0.5}})
    renamed = copies.use_copies(run, generated).as_dict()
    assert renamed == {
        "g0": {"g0:document": 3.0, "b": 2.0}, "g1": {"b": 5.0, "g1:document": 4.0}, "g2": {"a": 1.0, "c": 0.5},
    }  # fmt: skip
    assert seen.documents["g0:document"] == "alpha beta." and seen.documents["g1:document"] == "A gamma"
    everything = {"a": 1, "g0:document": 1, "g1:document": 1}
    assert seen.qrels("generated") == {"g0": everything, "g1": everything, "g2": {"c": 1}}
    assert copies.training_view(generated, "train") is generated
