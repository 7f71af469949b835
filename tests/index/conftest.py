"""A model whose vectors can be written down: tests of what is embedded need no transformer."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import embed as embedding
from retrieval_distill.embedding.workers import Encoding

DIMENSIONS = 12


def vector_of(text: str) -> np.ndarray:
    """A vector that only its own text has."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    return np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)


@pytest.fixture
def fake_model(monkeypatch, tmp_path):
    """Stands in for every model; gives its folder and the list of texts that it was asked for."""
    folder, asked = tmp_path / "fake-model", []
    folder.mkdir()
    (folder / "config.json").write_text("{}")

    def encode(texts, done):
        asked.extend(text for text, had in zip(texts, done, strict=True) if not had)
        yield np.flatnonzero(~done), np.stack([vector_of(text) for text in texts])[~done]

    monkeypatch.setattr(Encoding, "encoders", lambda self: [encode])
    monkeypatch.setattr(Encoding, "cut", lambda self, texts: {"share": 0.0, "sample": 0, "max_length": None})
    monkeypatch.setattr(embedding, "SHARD", 4)
    return str(folder), asked


def corpus(texts: dict[str, str]) -> Texts:
    return Texts.from_records((id_, "", text) for id_, text in texts.items())
