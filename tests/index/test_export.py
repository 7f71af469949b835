"""Exported vectors are the stored ones, and a vector database finds with them what exact search finds."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest

from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.embedding.export import export
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval import exact
from tests.index.conftest import DIMENSIONS, corpus, vector_of


@pytest.fixture
def vectors(fake_model, tmp_path):
    embed(fake_model[0], corpus({f"d{i}": f"text {i}" for i in range(30)}), tmp_path / "v")
    return tmp_path / "v"


def test_parquet(vectors, tmp_path):
    assert export(vectors, str(tmp_path / "out" / "x.parquet")) == 30
    table = pq.read_table(tmp_path / "out" / "x.parquet")
    assert str(table.schema.field("vector").type) == f"fixed_size_list<element: float>[{DIMENSIONS}]"
    assert table.schema.metadata[b"model"].decode() == Embeddings.open(vectors).manifest["inputs"]["model"]
    assert table["id"].to_pylist() == [f"d{i}" for i in range(30)]
    expected = [vector_of(f"text {i}").tolist() for i in range(30)]
    assert table["vector"].to_pylist() == expected
    assert pq.ParquetFile(tmp_path / "out" / "x.parquet").num_row_groups == 8  # one for a shard: none is held longer


def test_other_endings_are_refused(vectors, tmp_path):
    with pytest.raises(UserError, match=r"x.csv: end it with .parquet, or with .lance"):
        export(vectors, str(tmp_path / "x.csv"))


def test_lance_finds_the_same(vectors, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    for _ in range(2):  # the second time the table is replaced
        assert export(vectors, str(tmp_path / "database" / "passages.lance")) == 30
    table = lancedb.connect(tmp_path / "database").open_table("passages")
    assert table.count_rows() == 30
    asked = np.random.default_rng(1).normal(size=(5, DIMENSIONS)).astype(np.float32)
    embeddings = Embeddings.open(vectors)
    scores, rows = exact.best(asked, embeddings.shards, 7)
    for query, score, row in zip(asked, scores, rows, strict=True):
        found = table.search(query).distance_type("dot").limit(7).to_arrow()
        assert found["id"].to_pylist() == embeddings.ids_of(row).tolist()
        np.testing.assert_allclose(1 - found["_distance"].to_numpy(), score, atol=1e-4)
