"""An index answers exactly and only its own student."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.index import faiss_index
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.student import encoder


def vectors_of(folder) -> np.ndarray:
    return np.concatenate(list(Embeddings.open(folder).shards()))


@pytest.fixture
def embedded(encoders, dataset, tmp_path):
    embed(encoders["bert"], dataset.documents, tmp_path / "vectors", "float32")
    return tmp_path / "vectors"


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
        def search(self, vectors, depth, params=None):
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
