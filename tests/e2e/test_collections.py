"""Reference points on real collections, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval_distill import api
from retrieval_distill.data.formats import beir

SCIFACT = Path(__file__).parents[3] / "shared" / "beir" / "scifact"


@pytest.mark.skipif(not SCIFACT.is_dir(), reason="needs ../shared/beir/scifact")
def test_bm25_on_scifact():
    dataset = beir.load(SCIFACT)
    found = api.retrieve(dataset.queries("test"), dataset.documents, depth=100)
    measured = api.evaluate({"bm25": found}, dataset.qrels("test"), measures=["nDCG@10"], dataset=dataset).systems[
        "bm25"
    ]["nDCG@10"]
    assert 0.657 <= measured["mean"] <= 0.679  # other implementations: another bm25s set-up, Lucene's with stemming
    assert measured["low"] < measured["mean"] < measured["high"]
