"""Stored vectors are what FAISS and a student in training take them for."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
import torch

from retrieval_distill.embedding import backend_choice
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import views
from tests.index.conftest import DIMENSIONS, corpus, vector_of


@pytest.fixture
def sample() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)


def test_eight_bits_are_those_of_faiss(sample):
    quantizer = faiss.ScalarQuantizer(20, faiss.ScalarQuantizer.QT_8bit)
    quantizer.train(sample)
    others = np.random.default_rng(1).normal(size=(500, 20)).astype(np.float32) * 1.5  # some beyond the ranges
    storage = Storage.fit("int8", sample)
    codes = storage.encode(others)
    assert codes.dtype == np.uint8
    theirs = quantizer.compute_codes(others)
    assert np.abs(codes.astype(int) - theirs).max() <= 1  # one step where a value lies on its edge
    assert (codes == theirs).mean() > 0.999
    np.testing.assert_allclose(storage.decode(theirs), quantizer.decode(theirs), atol=1e-6)


def test_a_student_in_training_sees_the_same(sample):
    for name in ("int8", "binary"):
        storage = Storage.fit(name, sample)
        unit = sample / np.linalg.norm(sample, axis=1, keepdims=True) if name == "binary" else sample
        seen = views.PRECISIONS[name](torch.from_numpy(unit)).numpy()
        stored = storage.decode(storage.encode(unit))
        steps = np.abs(stored - seen) / (sample.max(axis=0) - sample.min(axis=0)) * 255
        assert (steps < 1e-3).mean() > 0.999
        assert steps.max() < 1.001


@pytest.mark.parametrize(
    ("name", "kind", "size"), [("float16", "float16", 24), ("int8", "uint8", 12), ("binary", "uint8", 2)]
)
def test_smaller_folders(fake_model, tmp_path, monkeypatch, name, kind, size):
    monkeypatch.setattr(backend_choice, "CALIBRATION_DOCUMENTS", 5)
    texts = {f"d{i}": f"text {i}" for i in range(11)}
    manifest = embed(fake_model[0], corpus(texts), tmp_path / "v", storage=name)
    opened = Embeddings.open(tmp_path / "v")
    assert (opened.open_shard(0).dtype, opened.open_shard(0).nbytes) == (kind, 4 * size)
    assert (manifest["counts"]["dimensions"], manifest["counts"]["bytes"]) == (DIMENSIONS, 11 * size)
    exact = np.stack([vector_of(text) for text in texts.values()])
    stored = opened.take(list(texts))
    assert stored.dtype == np.float32
    if name == "int8":
        sampled = np.stack([vector_of(text) for text in fake_model[1][:5]])  # what was embedded first
        low, high = sampled.min(axis=0), sampled.max(axis=0)
        inside = (exact >= low) & (exact <= high)
        assert inside.mean() > 0.4
        assert (np.abs(stored - exact)[inside] <= ((high - low) / 510 * 1.001 + np.zeros_like(exact))[inside]).all()
        assert (np.abs(stored - np.clip(exact, low, high)) <= (high - low) / 255).all()
    elif name == "binary":
        np.testing.assert_allclose(stored, np.where(exact > 0, 1, -1) / np.sqrt(DIMENSIONS), rtol=1e-6)
    else:
        np.testing.assert_array_equal(stored, exact.astype(np.float16))


def test_ranges_stay_when_the_corpus_grows(fake_model, tmp_path):
    texts = {f"d{i}": f"text {i}" for i in range(9)}
    embed(fake_model[0], corpus(texts), tmp_path / "v", storage="int8")
    before = Embeddings.open(tmp_path / "v")
    kept, ranges = before.take(list(texts)), before.storage
    texts |= {f"e{i}": f"more {i}" for i in range(9)}
    embed(fake_model[0], corpus(texts), tmp_path / "v", storage="int8")
    after = Embeddings.open(tmp_path / "v")
    assert after.storage == ranges
    np.testing.assert_array_equal(after.take([f"d{i}" for i in range(9)]), kept)


def test_unknown_storage(fake_model, tmp_path):
    with pytest.raises(UserError, match="storage 'int9' is unknown; did you mean 'int8'"):
        embed(fake_model[0], corpus({"d": "t"}), tmp_path / "v", storage="int9")
