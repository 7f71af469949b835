"""The runtime taken is the fastest one whose vectors agree, and it is taken once."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.indexing import choice
from retrieval_distill.indexing.choice import choose
from retrieval_distill.indexing.embed import Embeddings, embed
from retrieval_distill.indexing.making import Encoding
from retrieval_distill.student import backends, encoder
from tests.conftest import WORDS
from tests.indexing.conftest import corpus, vector_of

TEXTS = [f"text {i}" for i in range(20)]

SECONDS = {"torch": 4.0, "exact": 2.0, "wrong": 0.5, "slow": 8.0}


@pytest.fixture
def runtimes(monkeypatch, fake_model):
    """Runtimes of different speeds; one is quick and wrong."""
    loaded, clock = [], [0.0]
    monkeypatch.setattr(choice, "perf_counter", lambda: clock[0])

    def encoders(self):
        loaded.append(self.backend)

        def encode(texts, advance):
            clock[0] += SECONDS[self.backend]
            vectors = np.stack([vector_of(text) for text in texts])
            return vectors[:, ::-1] if self.backend == "wrong" else vectors

        return [encode]

    monkeypatch.setattr(Encoding, "encoders", encoders)
    return loaded


def test_the_fastest_that_agrees_is_taken(runtimes):
    chosen = choose(Encoding("m", "float32", None, "document", backend="auto"), TEXTS, ["exact", "wrong", "slow"])
    assert chosen["backend"] == "exact"
    rows = {row["backend"]: row for row in chosen["measured"]}
    assert rows["exact"]["lowest_cosine"] == 1
    exact = np.stack([vector_of(text) for text in TEXTS])
    unit = exact / np.linalg.norm(exact, axis=1, keepdims=True)
    assert rows["wrong"]["lowest_cosine"] == pytest.approx((unit * unit[:, ::-1]).sum(axis=1).min(), abs=1e-5)
    assert {name: row["texts_per_second"] for name, row in rows.items()} == {
        "torch": 5, "exact": 10, "wrong": 40, "slow": 2.5,
    }  # fmt: skip


def test_the_choice_is_remembered(runtimes, fake_model, monkeypatch, tmp_path):
    monkeypatch.setattr(backends, "installed", lambda: ["exact"])
    texts = dict(zip(map(str, range(20)), TEXTS, strict=True))
    counts = embed(fake_model[0], corpus(texts), tmp_path / "v", backend="auto")["counts"]
    assert counts["backend"] == "exact"
    assert [row["backend"] for row in counts["measured"]] == ["torch", "exact"]
    runtimes.clear()
    again = embed(fake_model[0], corpus(texts | {"new": "text"}), tmp_path / "v", backend="auto")
    assert (again["counts"]["backend"], again["counts"]["new"], set(runtimes)) == ("exact", 1, {"exact"})
    assert Embeddings.open(tmp_path / "v").take(["new"]).tolist() == [vector_of("text").tolist()]


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_runtime_gives_the_model_s_vectors(backend, encoders):
    if backend not in backends.installed():
        pytest.skip(f"{backend} is not installed")
    texts = [" ".join(WORDS[i : i + 3 + i % 9]) for i in range(30)]
    exact = encoder.encode(encoder.load(encoders["bert"]), texts, "document")
    found = encoder.encode(backends.load(encoders["bert"], backend), texts, "document")
    cosines = (exact * found).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.98


def test_runtimes_that_are_not_there(fake_model, encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(backends, "installed", list)
    with pytest.raises(UserError, match="backend 'onyx' is unknown; did you mean 'onnx'"):
        backends.load(encoders["bert"], "onyx")
    with pytest.raises(UserError, match=r"pip install 'retrieval-distill\[onnx\]'"):
        backends.load(encoders["bert"], "onnx")
    with pytest.raises(UserError, match="with --engine ray use torch"):
        embed(fake_model[0], corpus({"d": "t"}), tmp_path / "v", engine="ray", backend="onnx")
