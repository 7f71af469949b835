"""Speed: clocks that count what they should, on work whose cost is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from retrieval_distill.benchmarks import speed
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.student import build, encoder


def test_latency_counts_what_is_no_warm_up():
    asked = []

    def ask(query):
        asked.append(query)
        time.sleep(0.05 if query == "slow" else 0.002)

    seconds = speed.latency(ask, ["slow", "slow", "a", "b", "c"], warm_up=2)
    assert asked == ["slow", "slow", "a", "b", "c"]
    assert len(seconds) == 3
    assert (seconds >= 0.002).all() and (seconds < 0.05).all()
    assert len(speed.latency(ask, ["a"], warm_up=5)) == 1  # fewer than the warm-up needs: all are counted
    assert len(speed.latency(ask, ["a", "b"], warm_up=0, cold=True)) == 2


def test_a_cold_query_reads_from_memory(monkeypatch):
    """A table that fits a processor's cache is read again after other data has taken its place."""
    table = np.random.default_rng(0).random(1 << 17)  # 1 MB
    warm = speed.latency(lambda _: table.sum(), ["q"] * 60)
    cold = speed.latency(lambda _: table.sum(), ["q"] * 15, warm_up=0, cold=True)
    assert np.median(cold) > 1.1 * np.median(warm)


def test_throughput_by_length():
    lengths = np.repeat([10, 50, 200], 100)[np.random.default_rng(1).permutation(300)]
    texts = [str(length) for length in lengths]
    found = speed.throughput(lambda batch: time.sleep(1e-6 * sum(map(int, batch))), texts, lengths)
    assert [found[name]["tokens"] for name in ("short", "medium", "long")] == [10, 50, 200]
    assert found["short"]["documents_per_second"] > found["long"]["documents_per_second"]
    for row in found.values():
        assert row["tokens_per_second"] == pytest.approx(row["documents_per_second"] * row["tokens"], rel=0.01)
        assert row["tokens_per_second"] <= 1e6
    assert set(speed.throughput(len, ["a"], np.array([3]))) == {"short"}


def test_dense_and_lexical_say_the_same_things(dataset, encoders, tmp_path):
    embed(encoders["bert"], dataset.documents, tmp_path / "vectors", "float32")
    index(tmp_path / "vectors", tmp_path / "index")
    queries = dataset.queries("test")
    dense = speed.dense(
        Index.open(tmp_path / "index"), Embeddings.open(tmp_path / "vectors"), encoders["bert"], "float32", queries,
        dataset.documents,
    )  # fmt: skip
    lexical = speed.lexical(BM25(dataset.documents), queries)
    model = encoder.load(encoders["bert"])
    assert dense["model_bytes"] == 4 * build.parameters(model) == 4 * dense["parameters"]
    assert dense["index_bytes"] == (tmp_path / "index" / "index.faiss").stat().st_size
    assert dense["dimensions"] == 32
    tokens = [dense["encode"][name]["tokens"] for name in ("short", "medium", "long")]
    assert tokens == sorted(tokens) and tokens[0] < tokens[2]
    assert set(lexical) <= set(dense)
    for system in (dense, lexical):
        for part in ("latency_ms", "cold_latency_ms"):
            assert 0 < system[part]["p50"] <= system[part]["p95"]
        assert system["peak_memory_bytes"] > 50e6 and "threads" in system["hardware"]
    assert dense["index_search_ms"]["p50"] < dense["latency_ms"]["p50"]  # a part of the whole
    postings = {(doc, word) for doc in dataset.documents for word in dataset.documents[doc].split()}
    assert lexical["index_bytes"] >= 8 * len(postings) * 0.9  # a float and an id per posting; stop words are left out
