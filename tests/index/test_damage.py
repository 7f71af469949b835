"""Vectors and indexes that were altered are refused by name, and made again by the command that wrote them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.index.faiss_index import index
from retrieval_distill.index.index import Index
from tests.index.conftest import corpus, vector_of

TEXTS = {f"d{i}": f"text {i}" for i in range(20)}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def by_id(folder: Path) -> dict[str, list[float]]:
    opened = Embeddings.open(folder)
    return dict(zip(opened.ids, (row for shard in opened.shards() for row in shard.tolist()), strict=True))


def expected(texts: dict[str, str]) -> dict[str, list[float]]:
    return {id_: vector_of(text).tolist() for id_, text in texts.items()}


@pytest.mark.parametrize("name", ["ids.parquet", "storage.json", "shards.json", "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "gone"])
def test_an_altered_file_of_vectors_is_refused_and_made_again(fake_model, tmp_path, name, how):
    model, asked = fake_model
    embed(model, corpus(TEXTS), tmp_path / "v")
    flip(tmp_path / "v" / name) if how == "flipped" else (tmp_path / "v" / name).unlink()
    with pytest.raises(UserError, match=rf"v/{name}: .*(damaged|altered|missing)|v: no embeddings there"):
        Embeddings.open(tmp_path / "v")
    if (name, how) == ("manifest.json", "gone"):
        return  # nobody knows any more that it is embed's
    asked.clear()
    assert not embed(model, corpus(TEXTS), tmp_path / "v")["skipped"]
    assert by_id(tmp_path / "v") == expected(TEXTS)
    assert len(asked) == (1 if name == "storage.json" else 0)  # the texts that tell how vectors are stored


def test_an_altered_shard_alone_is_embedded_again(fake_model, tmp_path):
    model, asked = fake_model
    embed(model, corpus(TEXTS), tmp_path / "v")
    before = {path.name for path in (tmp_path / "v").glob("vectors-*")}
    flip(sorted((tmp_path / "v").glob("vectors-*"))[2])
    with pytest.raises(UserError, match=r"this shard was altered.*run `embed`, which wrote it, again"):
        list(Embeddings.open(tmp_path / "v").shards())
    asked.clear()
    mark = embed(model, corpus(TEXTS), tmp_path / "v")
    assert mark["counts"]["embedded"] == 4 and len(asked) == 4
    assert {path.name for path in (tmp_path / "v").glob("vectors-*")} == before
    assert by_id(tmp_path / "v") == expected(TEXTS)


def test_vectors_that_were_brought_up_to_date_are_made_again_too(fake_model, tmp_path):
    model, _ = fake_model
    embed(model, corpus(TEXTS), tmp_path / "v")
    more = TEXTS | {"new": "another text"}
    updated = embed(model, corpus(more), tmp_path / "v")
    flip(sorted((tmp_path / "v").glob("vectors-*"))[0])
    again = embed(model, corpus(more), tmp_path / "v")
    assert by_id(tmp_path / "v") == expected(more)
    assert again["fingerprint"] != updated["fingerprint"]  # their rows stand in another order


@pytest.mark.parametrize("name", ["index.faiss", "ids.parquet", "vectors.npy", "manifest.json"])
def test_an_altered_index_is_built_again(fake_model, tmp_path, name):
    embed(fake_model[0], corpus(TEXTS), tmp_path / "v")
    index(tmp_path / "v", tmp_path / "i", "sq8", rescore=2)
    flip(tmp_path / "i" / name)
    with pytest.raises(UserError, match=name):
        Index.open(tmp_path / "i").verify()
    assert not index(tmp_path / "v", tmp_path / "i", "sq8", rescore=2)["skipped"]
    Index.open(tmp_path / "i").verify()


def test_nothing_is_added_to_an_altered_index(fake_model, tmp_path):
    embed(fake_model[0], corpus(TEXTS), tmp_path / "v")
    index(tmp_path / "v", tmp_path / "i")
    flip(tmp_path / "i" / "index.faiss")
    embed(fake_model[0], corpus(TEXTS | {"new": "another text"}), tmp_path / "v")
    assert index(tmp_path / "v", tmp_path / "i")["counts"]["added"] == 21  # all of it is new
    vectors = np.stack([vector_of(text) for text in TEXTS.values()])
    assert Index.open(tmp_path / "i").search(vectors, 1)[1][:, 0].tolist() == list(TEXTS)
