"""ir_datasets' collections, against a stand-in with that library's documented methods."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from retrieval_distill.data import dataset_loader
from retrieval_distill.errors import UserError


class Collection:
    def __init__(self, documents, queries=None, qrels=None):
        self.documents, self.queries, self.qrels = documents, queries, qrels

    def docs_iter(self):
        return (SimpleNamespace(doc_id=i, title="T", text=t) for i, t in self.documents)

    def queries_iter(self):
        return (SimpleNamespace(query_id=i, default_text=lambda t=t: t) for i, t in self.queries)

    def qrels_iter(self):
        return (SimpleNamespace(query_id=q, doc_id=d, relevance=g) for q, d, g in self.qrels)

    def has_queries(self):
        return self.queries is not None

    def has_qrels(self):
        return self.qrels is not None


def test_splits(tmp_path, monkeypatch):
    documents = [("d1", "one"), ("d2", "two")]
    known = {
        "toy": Collection(documents),
        "toy/train": Collection(documents, [("q1", "ask")], [("q1", "d1", 2)]),
        "toy/test": Collection(documents, [("q2", "more")], [("q2", "d2", 0)]),
    }
    monkeypatch.setitem(sys.modules, "ir_datasets", SimpleNamespace(load=lambda name: known[name]))
    found = dataset_loader.load("ir:toy", tmp_path)
    assert list(found.documents.records()) == [("d1", "T", "one"), ("d2", "T", "two")]
    assert found.queries["q2"] == "more"
    assert found.qrels == {"train": {"q1": {"d1": 2}}, "test": {"q2": {"d2": 0}}}
    assert dataset_loader.load("ir:toy/train", tmp_path).qrels == {"test": {"q1": {"d1": 2}}}
    with pytest.raises(UserError, match="no collection of that id"):
        dataset_loader.load("ir:none", tmp_path)


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(UserError, match=r"pip install 'retrieval-distill\[ir\]'"):
        dataset_loader.load("ir:toy", tmp_path)
