"""Several datasets as one: equal ids stay apart, and each query finds its own dataset's documents only."""

from __future__ import annotations

import pytest

from retrieval_distill.config import parse_recipe
from retrieval_distill.data import sources
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.mixture import by_source, join_datasets
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval.bm25 import BM25

ONE = Dataset.from_records(
    "one",
    [("d1", "T", "red apple"), ("d2", "", "green apple")],
    [("q1", "apple"), ("q2", "red")],
    {"train": [("q1", "d2", 1), ("q2", "d1", 1)], "test": [("q2", "d1", 2)]},
)
TWO = Dataset.from_records("two", [("d1", "", "apple pie")], [("q1", "apple cake")], {"train": [("q1", "d1", 1)]})


def test_equal_ids_do_not_collide():
    both = join_datasets({"x": ONE, "y": TWO})
    assert list(both.documents.records()) == [
        ("x/d1", "T", "red apple"),
        ("x/d2", "", "green apple"),
        ("y/d1", "", "apple pie"),
    ]
    assert both.queries.take(["y/q1", "x/q1"]) == ["apple cake", "apple"]
    assert both.qrels == {
        "train": {"x/q1": {"x/d2": 1}, "x/q2": {"x/d1": 1}, "y/q1": {"y/d1": 1}},
        "test": {"x/q2": {"x/d1": 2}},
    }
    assert both.sources == {"x": range(2), "y": range(2, 3)} and both.parents is None


def test_passages_of_one_and_whole_documents_of_another():
    from dataclasses import replace

    import pyarrow as pa

    cut = replace(ONE, parents=pa.chunked_array([pa.array(["d", "d"], pa.large_string())]))
    both = join_datasets({"x": cut, "y": TWO})
    assert both.parents_of(["x/d2", "y/d1"]) == ["x/d", "y/d1"]
    assert both.in_passages(10) == 15  # three passages of two documents


def test_a_query_finds_its_own_datasets_documents():
    both = join_datasets({"x": ONE, "y": TWO})
    index = BM25(both.documents)
    everything = index.search(both.queries, 3).as_dict()
    assert set(everything["y/q1"]) == {"x/d1", "x/d2", "y/d1"}
    for own, allowed in by_source(both, both.queries):
        for query, found in index.search(own, 3, allowed).as_dict().items():
            mine = {doc: score for doc, score in everything[query].items() if doc[0] == query[0]}
            assert found == pytest.approx(mine)
    [(queries, allowed)] = by_source(ONE, ONE.queries)
    assert queries is ONE.queries and allowed is None


@pytest.fixture
def folders(tmp_path):
    beir.save(ONE, tmp_path / "one")
    beir.save(TWO, tmp_path / "two")
    return {"x": {"source": str(tmp_path / "one")}, "y": {"source": str(tmp_path / "two"), "test": None}}


def test_splits_of_each_under_the_recipes_names(tmp_path, folders):
    folders["x"]["train_queries"] = 1
    recipe = parse_recipe({"name": "mix", "datasets": folders})
    found = sources.of_run(recipe, tmp_path / "cache")
    [drawn] = ONE.queries("train").sample(1, recipe.seed).ids
    assert set(found.qrels["train"]) == {f"x/{drawn}", "y/q1"}
    assert set(found.qrels["test"]) == {"x/q2"}
    folders["y"].pop("test")
    with pytest.raises(UserError, match="'two' has no split 'test'; it has: train; or set its test"):
        sources.of_run(parse_recipe({"name": "mix", "datasets": folders}), tmp_path / "cache")
