"""The runtime taken is the fastest one whose vectors agree, and it is taken once."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.embedding import backend_measurement
from retrieval_distill.embedding.backend_measurement import choose
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.embedding.workers import Encoding
from retrieval_distill.errors import UserError
from retrieval_distill.student import backends, encoder, loading
from tests.conftest import WORDS
from tests.index.conftest import corpus, vector_of

TEXTS = [f"text {i}" for i in range(20)]

SECONDS = {"torch": 4.0, "exact": 2.0, "wrong": 0.5, "slow": 8.0}


@pytest.fixture
def runtimes(monkeypatch, fake_model):
    """Runtimes of different speeds; one is quick and wrong."""
    loaded, clock = [], [0.0]
    monkeypatch.setattr(backend_measurement, "perf_counter", lambda: clock[0])

    def encoders(self):
        loaded.append(self.backend)

        def encode(texts, done):
            clock[0] += SECONDS[self.backend]
            vectors = np.stack([vector_of(text) for text in texts])
            yield np.arange(len(texts)), vectors[:, ::-1] if self.backend == "wrong" else vectors

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
    monkeypatch.setattr(backends, "installed_backends", lambda: ["exact"])
    texts = dict(zip(map(str, range(20)), TEXTS, strict=True))
    counts = embed(fake_model[0], corpus(texts), tmp_path / "v", backend="auto")["counts"]
    assert counts["backend"] == "exact"
    assert [row["backend"] for row in counts["measured"]] == ["torch", "exact"]
    runtimes.clear()
    again = embed(fake_model[0], corpus(texts | {"new": "text"}), tmp_path / "v", backend="auto")
    assert (again["counts"]["backend"], again["counts"]["new"], set(runtimes)) == ("exact", 1, {"exact"})
    assert Embeddings.open(tmp_path / "v").take(["new"]).tolist() == [vector_of("text").tolist()]


def lowest_cosine(exact: np.ndarray, found: np.ndarray) -> float:
    cosines = (exact * found).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    return float(cosines.min())


SENTENCES = [" ".join(WORDS[i : i + 3 + i % 9]) for i in range(30)]


@pytest.mark.parametrize(("backend", "cosine"), [("onnx", 0.98), ("openvino", 0.999)])
def test_a_runtime_gives_the_model_s_vectors(backend, cosine, encoders):
    """In 8 bits to a cosine of 0.98, in bfloat16 or float32 to 0.999."""
    if backend not in backends.installed_backends():
        pytest.skip(f"{backend} is not installed")
    exact = encoder.encode(encoder.load(encoders["bert"]), SENTENCES, "document")
    found = loading.encode(backends.load(encoders["bert"], backend), SENTENCES, "document")
    assert cosine < lowest_cosine(exact, found) < 1 + 1e-6


def test_all_runtimes_are_measured_here(encoders, tmp_path):
    if not (there := backends.installed_backends()):
        pytest.skip("no runtime is installed")
    documents = corpus({f"d{i}": text for i, text in enumerate(SENTENCES)})
    counts = embed(encoders["bert"], documents, tmp_path / "v", "float32", backend="auto")["counts"]
    rows = {row["backend"]: row for row in counts["measured"]}
    assert list(rows) == ["torch", *there]
    assert counts["backend"] == max(rows, key=lambda name: rows[name]["texts_per_second"])
    chosen = encoder.load(encoders["bert"])
    if counts["backend"] != "torch":
        chosen = backends.load(encoders["bert"], counts["backend"])
    vectors = Embeddings.open(tmp_path / "v").take(list(documents.ids))
    assert lowest_cosine(loading.encode(chosen, SENTENCES, "document"), vectors) > 0.9999


def test_runtimes_that_are_not_there(fake_model, encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(backends, "installed_backends", list)
    with pytest.raises(UserError, match="backend 'onyx' is unknown; did you mean 'onnx'"):
        backends.load(encoders["bert"], "onyx")
    with pytest.raises(UserError, match=r"pip install 'retrieval-distill\[onnx\]'"):
        backends.load(encoders["bert"], "onnx")
    with pytest.raises(UserError, match="with --engine ray use torch"):
        embed(fake_model[0], corpus({"d": "t"}), tmp_path / "v", engine="ray", backend="onnx")
