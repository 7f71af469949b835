"""Vectors survive a kill shard by shard; an index answers exactly and only its own student."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.indexing import embed as embedding
from retrieval_distill.indexing import faiss_index
from retrieval_distill.indexing.embed import Embeddings, embed
from retrieval_distill.indexing.faiss_index import Index, index
from retrieval_distill.student import encoder

DRIVER = """
import os, signal, sys
from retrieval_distill.data.formats import beir
from retrieval_distill.indexing import embed as embedding
embedding.SHARD = 16
real, count = embedding._save, 0
def dying(path, vectors):
    global count
    real(path, vectors)
    count += 1
    if count == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)
embedding._save = dying
manifest = embedding.embed(sys.argv[1], beir.load(sys.argv[2]).documents, sys.argv[3], "float32")
print(manifest["counts"]["embedded"])
"""


def vectors_of(folder) -> np.ndarray:
    return np.concatenate(list(Embeddings.open(folder).shards()))


@pytest.fixture
def embedded(encoders, dataset, tmp_path):
    embed(encoders["bert"], dataset.documents, tmp_path / "vectors", "float32")
    return tmp_path / "vectors"


def test_killed_embedding_continues_at_the_last_shard(encoders, dataset_folder, tmp_path):
    def run(out, dies_after):
        arguments = [
            sys.executable,
            "-c",
            DRIVER,
            encoders["bert"],
            dataset_folder,
            str(tmp_path / out),
            str(dies_after),
        ]
        return subprocess.run(arguments, capture_output=True, text=True)

    assert run("killed", 2).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()  # nothing half-done under the final name
    resumed = run("killed", 0)
    assert resumed.stdout.split()[-1] == str(60 - 32), resumed.stderr
    assert run("whole", 0).stdout.split()[-1] == "60"
    np.testing.assert_array_equal(vectors_of(tmp_path / "killed"), vectors_of(tmp_path / "whole"))


def test_embedding_again_is_skipped_and_other_weights_are_not(encoders, dataset, embedded):
    assert embed(encoders["bert"], dataset.documents, embedded, "float32")["skipped"]
    assert not embed(encoders["distilbert"], dataset.documents, embedded, "float32")["skipped"]


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_flat_search_is_exact(encoders, dataset, embedded, tmp_path, similarity):
    index(embedded, tmp_path / "index", "flat", similarity)
    found = faiss_index.search(Index.open(tmp_path / "index"), encoders["bert"], dataset.queries, 5, "float32")
    model = encoder.load(encoders["bert"])
    asked, documents = model.encode_query(dataset.queries.take()), vectors_of(embedded)
    if similarity == "cosine":
        asked, documents = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (asked, documents))
    scores = asked @ documents.T
    for row, (query_id, doc_ids, values) in enumerate(found):
        assert query_id == dataset.queries.ids[row]
        np.testing.assert_allclose(values, np.sort(scores[row])[::-1][:5], rtol=1e-4)
        np.testing.assert_allclose(scores[row][[dataset.documents.rows[d] for d in doc_ids]], values, rtol=1e-4)


@pytest.mark.parametrize("kind", ["hnsw", "sq8"])
def test_other_kinds_find_nearly_the_same(encoders, dataset, embedded, tmp_path, kind):
    index(embedded, tmp_path / "flat")
    index(embedded, tmp_path / kind, kind)
    exact, other = (
        faiss_index.search(Index.open(tmp_path / name), encoders["bert"], dataset.queries, 10, "float32").as_dict()
        for name in ("flat", kind)
    )
    overlap = np.mean([len(exact[q].keys() & other[q].keys()) / 10 for q in exact])
    assert overlap > 0.8


def test_places_that_a_graph_leaves_empty(encoders, dataset, embedded, tmp_path, monkeypatch):
    index(embedded, tmp_path / "index")
    opened = Index.open(tmp_path / "index")

    class Sparse:
        def search(self, vectors, depth, params):
            rows = np.tile([3, 1, -1], (len(vectors), 1))
            return np.tile(np.array([0.9, 0.5, -3.4e38], np.float32), (len(vectors), 1)), rows

    monkeypatch.setitem(opened.__dict__, "faiss", Sparse())
    found = faiss_index.search(opened, encoders["bert"], dataset.queries, 3)
    assert all(docs == ["d3", "d1"] for _, docs, _ in found)


def test_an_index_refuses_another_student(encoders, dataset, embedded, tmp_path):
    index(embedded, tmp_path / "index")
    with pytest.raises(UserError, match="was not built with"):
        faiss_index.search(Index.open(tmp_path / "index"), encoders["distilbert"], dataset.queries, 5)


def test_missing_and_unknown(tmp_path, embedded):
    with pytest.raises(UserError, match="no embeddings there"):
        index(tmp_path / "nothing", tmp_path / "index")
    with pytest.raises(UserError, match="no index there"):
        Index.open(tmp_path / "nothing")
    with pytest.raises(UserError, match="did you mean 'flat'"):
        index(embedded, tmp_path / "index", "flatt")


def test_a_shard_is_embedded_in_the_order_of_the_ids(encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(embedding, "SHARD", 4)
    texts = [("graph " * n).strip() for n in (3, 20, 1, 9, 7, 30, 2)]
    documents = Texts.from_records((f"d{i}", "", text) for i, text in enumerate(texts))
    embed(encoders["roberta"], documents, tmp_path / "v", "float32")
    expected = encoder.load(encoders["roberta"]).encode_document(texts)
    np.testing.assert_allclose(vectors_of(tmp_path / "v"), expected, atol=1e-5)
