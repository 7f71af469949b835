"""Generated queries that are held out as dev split, and the documents that they are asked over."""

from __future__ import annotations

import pandas as pd
import pytest

from retrieval_distill.config import parse_recipe
from retrieval_distill.data import generated, sources
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run


@pytest.fixture
def dataset() -> Dataset:
    """Twenty documents, each with a title query that was taken out and one that stayed."""
    bare = Dataset.from_records("bare", [(f"d{n}", f"title {n}", f"text {n}") for n in range(20)], [], {})
    rows = [(f"titles:d{n}#1", "titles", f"d{n}", f"title {n}", "", f"text {n}") for n in range(20)]
    rows += [(f"titles:d{n}#2", "titles", f"d{n}", f"text {n}", None, None) for n in range(20)]
    made = pd.DataFrame(rows, columns=["query_id", "way", "doc_id", "query", "title", "text"])
    return generated.add_generated(bare, made)


def held_out(dataset: Dataset, count: int, seed: int = 3) -> Dataset:
    return sources.with_dev(
        dataset, parse_recipe({"name": "a", "seed": seed, "dataset": {"source": "x", "dev_queries": count}})
    )


@pytest.mark.parametrize(("asked", "got"), [(3, 3), (200, 4)])
def test_one_query_of_a_document_is_held_out_and_none_of_its_others_trains(dataset, asked, got):
    found = held_out(dataset, asked)
    documents = {doc for judged in found.qrels["dev"].values() for doc in judged}
    assert len(found.qrels["dev"]) == len(documents) == got
    trained = {doc for judged in found.qrels["generated"].values() for doc in judged}
    assert trained == set(dataset.documents.ids) - documents
    assert len(found.qrels["generated"]) == 2 * (20 - got)
    assert held_out(dataset, asked).qrels == found.qrels != held_out(dataset, asked, seed=4).qrels


def test_a_query_that_stayed_in_its_document_is_not_held_out(dataset):
    assert all(query.endswith("#1") for query in held_out(dataset, 4).qrels["dev"])


def test_queries_of_a_way_that_takes_nothing_out_are_held_out(dataset):
    marks = dataset.generated.to_pandas().assign(way="seq2seq", title=None, text=None)
    written = dataset.replace(generated=type(dataset.generated).from_pandas(marks, generated.MARKS))
    assert len(held_out(written, 4).qrels["dev"]) == 4


def test_held_out_queries_see_their_documents_without_them(dataset):
    found = held_out(dataset, 4)
    view = generated.held_out_view(found, "dev")
    assert len(view.documents) == 20
    for query, judged in view.qrels["dev"].items():
        ((copy, grade),) = judged.items()
        (document,) = found.qrels["dev"][query]
        assert grade == 1 and document not in view.documents
        assert view.documents.record(copy) == ("", f"text {document[1:]}")
        assert generated.use_copies(Run.from_dict({query: {document: 2.0}}), found).pairs == [(query, copy)]
    run = Run.from_dict({query: dict.fromkeys(found.documents.ids, 1.0) for query in found.qrels["dev"]})
    of_view = generated.in_view(run, found, view)
    assert len(of_view) == 4 * 17 and {doc for _, doc in of_view.pairs} == set(view.documents.ids)
    others = set(found.documents.ids) & set(view.documents.ids)
    assert len(others) == 16 and all(view.documents.record(id_) == found.documents.record(id_) for id_ in others)


def test_a_split_without_generated_queries_is_seen_as_it_is(dataset):
    asked = Dataset.from_records("asked", [("d", "", "text")], [("q", "query")], {"dev": [("q", "d", 1)]})
    assert generated.held_out_view(asked, "dev") is asked
    assert generated.held_out_view(dataset.replace(qrels={"dev": {}}), "dev").documents is dataset.documents
