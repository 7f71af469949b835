"""Systems as they are timed: real retrievers, whose figures say the same things and can be compared."""

from __future__ import annotations

import pytest

from retrieval_distill.benchmarks import timed_systems
from retrieval_distill.config import MemberConfig
from retrieval_distill.embedding.embed import embed
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.index.faiss_index import search as search_index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.student import build, encoder
from retrieval_distill.teacher import teacher_loader


@pytest.fixture(scope="module")
def systems(dataset, encoders, cross_encoders, tmp_path_factory):
    """BM25, one architecture at two lengths, their fusion with BM25, and a teacher above one of them."""
    folder, queries = tmp_path_factory.mktemp("timed"), dataset.queries("test")
    found = {"bm25": timed_systems.bm25_system(BM25(dataset.documents))}
    for name, limit in (("short", 16), ("long", 64), ("again", 64)):
        embed(encoders["bert"], dataset.documents, folder / name, "float32", limit)
        index(folder / name, folder / f"index-{name}")
        opened = Index.open(folder / f"index-{name}")
        found[name] = timed_systems.dense_system(opened, encoders["bert"], "float32", queries, dataset.documents)
    found["fused"] = timed_systems.hybrid_system(found["bm25"], found["long"], Fusion("score", 0.7))
    teachers = [teacher_loader.load(MemberConfig(model=cross_encoders["bert"], max_length=48))]
    found["teacher"] = timed_systems.reranking_system(found["fused"], teachers, dataset.documents, 5)
    return found, folder


@pytest.fixture(scope="module")
def measured(systems, dataset):
    return timed_systems.measure(systems[0], dataset.queries("test"), dataset.documents)


def test_they_find_what_a_search_finds(systems, dataset, encoders):
    found, folder = systems
    queries = dataset.queries("test")
    opened = Index.open(folder / "index-long")
    dense = search_index(opened, encoders["bert"], queries, timed_systems.FUSION_DEPTH, "float32")
    fused = Fusion("score", 0.7).fuse(BM25(dataset.documents).search(queries, timed_systems.FUSION_DEPTH), dense)
    for number, (_, docs, _) in enumerate(fused.top(7)):
        alone = found["fused"].search(queries.take()[number], 7)
        assert alone.frame["doc_id"].tolist() == docs


def test_sizes_are_those_on_disk(measured, systems, dataset, encoders):
    model, index_file = encoder.load(encoders["bert"]), systems[1] / "index-long" / "index.faiss"
    long, bm25, fused = (measured[name] for name in ("long", "bm25", "fused"))
    assert long["model_bytes"] == 4 * build.parameters(model) == 4 * long["parameters"]
    assert long["index_bytes"] == index_file.stat().st_size and long["dimensions"] == 32
    assert fused["index_bytes"] == long["index_bytes"] + bm25["index_bytes"]
    assert (measured["short"]["max_length"], long["max_length"]) == (16, 64)
    postings = {(doc, word) for doc in dataset.documents for word in dataset.documents[doc].split()}
    assert bm25["index_bytes"] >= 8 * len(postings) * 0.9  # a float and an id per posting; stop words are left out


def test_all_are_timed_alike(measured):
    for system in measured.values():
        for part in ("latency_ms", "cold_latency_ms"):
            assert 0 < system[part]["p50"] <= system[part]["p95"]
        assert system["latency_ms"]["low"] <= system["latency_ms"]["high"]
        assert system["peak_memory_bytes"] > 50e6 and "threads" in system["hardware"]
    assert set(measured["bm25"]) < set(measured["long"])
    tokens = [measured["long"]["encode"][name]["tokens"] for name in ("short", "medium", "long")]
    assert tokens == sorted(tokens) and tokens[0] < tokens[2]
    assert measured["long"]["index_search_ms"]["p50"] < measured["long"]["latency_ms"]["p50"]  # a part of the whole


def test_one_architecture_has_one_speed(measured):
    """Queries are shorter than either limit, so that only documents are read at two lengths."""
    assert [measured[name]["timed_as"] for name in measured] == ["bm25", "short", "short", "short", "fused", "teacher"]
    latencies = [measured[name]["latency_ms"] for name in ("short", "long", "again")]
    assert latencies[0] == latencies[1] == latencies[2]
    assert measured["long"]["encode"] == measured["again"]["encode"] != measured["short"]["encode"]


def test_a_teacher_reads_its_pool_for_every_query(systems, dataset):
    asked = []

    class Counting:
        fingerprint, description = "counting", {"kind": "cross-encoder", "model": "counting"}

        def score(self, pairs):
            asked.append((pairs.queries, len(pairs)))
            yield pairs.positions, pairs.positions

    reranked = timed_systems.reranking_system(systems[0]["bm25"], [Counting(), Counting()], dataset.documents, 3)
    reranked.search("path file root", 10)
    assert asked == [(["path file root"], 3)] * 2  # every member of an ensemble, and no store in between
