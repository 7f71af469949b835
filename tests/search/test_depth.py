"""As many documents as were asked for, whatever the number of passages that each was cut into."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.index import kinds
from retrieval_distill.index.faiss_index import index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.search.searcher import Searcher
from tests.commands import command


@pytest.fixture(scope="module")
def cut(corpus) -> Searcher:
    """Of 60 passages the 40 nearest to the query q0 are of one document, the others documents of their own."""
    searcher = corpus.searcher()
    near = searcher.dense(corpus.dataset.queries.select(["q0"]), 40).frame["doc_id"].tolist()
    parents = ["long" if id_ in near else f"{id_}-own" for id_ in corpus.dataset.documents]
    column = pa.chunked_array([pa.array(parents, pa.large_string())])
    return replace(searcher, dataset=Dataset("cut", corpus.dataset.documents, corpus.dataset.queries, {}, column))


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 20, 21])
def test_documents_are_found_beyond_one_of_many_passages(cut, depth):
    found = cut.documents(cut.dataset.queries, depth)
    assert found.query_ids == cut.dataset.queries.ids
    everything = cut.dense(cut.dataset.queries, 60)
    for query, docs, _ in found:
        passages = next(ids for id_, ids, _ in everything if id_ == query)
        assert docs == list(dict.fromkeys(cut.dataset.parents_of(passages)))[:depth]
        assert len(docs) == depth


def test_no_more_than_there_are(cut):
    found = cut.documents(cut.dataset.queries, 50)
    assert {len(docs) for _, docs, _ in found} == {21} and cut.size == 21


def test_hybrid_search_finds_as_many(cut, tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval_distill.search.searcher.FUSION_DEPTH", 3)
    both = replace(cut, lexical=BM25.cached(tmp_path / "bm25", cut.dataset.documents))
    for depth in (3, 7):
        assert {len(docs) for _, docs, _ in both.documents(cut.dataset.queries, depth)} == {depth}


def test_a_filter_leaves_as_many_as_it_allows(cut):
    allowed = np.array(
        [parent == "long" or number < 30 for number, parent in enumerate(cut.dataset.parents.to_pylist())]
    )
    left = len({parent for parent, may in zip(cut.dataset.parents.to_pylist(), allowed, strict=True) if may})
    filtered = replace(cut, allowed=allowed)
    for depth in (3, left, 60):
        assert {len(docs) for _, docs, _ in filtered.documents(cut.dataset.queries, depth)} == {min(depth, left)}


def test_lists_that_hold_too_few_are_left_for_all_vectors(corpus, tmp_path, monkeypatch):
    """An index of 30 lists, of which one is looked through."""
    monkeypatch.setattr(kinds, "POINTS_PER_CENTROID", 2)
    index(corpus.folder / "vectors", tmp_path / "ivf", "ivf")
    searcher = Searcher.open(tmp_path / "ivf", corpus.model, corpus.dataset)
    manifest = searcher.index.manifest
    counts = manifest["counts"] | {"search": {"setting": 1, "rescore": 0}}
    searcher = replace(searcher, index=replace(searcher.index, manifest=manifest | {"counts": counts}))
    assert {len(docs) for _, docs, _ in searcher.documents(corpus.dataset.queries, 60)} == {60}


def test_the_command_counts_documents(corpus, tmp_path):
    """A corpus of two documents, the first of which was cut into 59 passages."""
    parents = pa.chunked_array(
        [pa.array(["b" if id_ == "d7" else "a" for id_ in corpus.dataset.documents], pa.large_string())]
    )
    beir.save(replace(corpus.dataset, parents=parents), tmp_path / "data")
    options = [*corpus.options[:-1], str(tmp_path / "data")]
    text = command("search", *options, "path file", "--depth", "2")
    assert "2 of 2 documents in" in text
    found = json.loads(command("search", *options, "path file", "--depth", "2", "--json"))["hits"]
    assert sorted(hit["id"] for hit in found) == ["a", "b"]
