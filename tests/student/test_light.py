"""Light encoders give a model's own vectors, or there is none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

from retrieval_distill import models
from retrieval_distill.student import encoder
from retrieval_distill.student.query_encoder import QueryEncoder

TEXTS = ["split a path into root and extension", "file", "", "read write open close " * 30, "über 東京 \U0001f600 Ω"]


def saved(plain, folder, pooling="mean", *more, **options):
    """A sentence-transformers model around a plain encoder, with weights large enough to tell mistakes."""
    first = Transformer(plain)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in first.auto_model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * (0.3 if "LayerNorm" in name or "bias" in name else 0.1))
    modules = [first, Pooling(first.get_embedding_dimension(), pooling), *more]
    SentenceTransformer(modules=modules, **options).save_pretrained(str(folder))
    return str(folder)


def lightened(model, folder, max_length=None, dtype="float32"):
    return QueryEncoder(model, dtype, max_length).with_light_encoder(folder, models.fingerprint(model), TEXTS[:2])


@pytest.mark.parametrize("kind", ["bert", "roberta", "distilbert"])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_the_models_own(encoders, kind, pooling, tmp_path):
    model = saved(
        encoders[kind], tmp_path / "model", pooling, Normalize(), prompts={"query": "query: ", "document": ""}
    )
    found = lightened(model, tmp_path / "light")
    own = encoder.encode(encoder.load(model), TEXTS, "query")
    assert found.light is not None
    for text, expected in zip(TEXTS, own, strict=True):
        np.testing.assert_allclose(found([text])[0], expected, atol=1e-5)
    np.testing.assert_array_equal(found(TEXTS), own)  # many go through the model itself


def test_lengths_and_unnormalised_vectors(encoders, tmp_path):
    model = saved(encoders["bert"], tmp_path / "model")
    found = lightened(model, tmp_path / "light", max_length=8)
    own = encoder.encode(encoder.load(model, max_length=8), TEXTS, "query")
    np.testing.assert_allclose([found([text])[0] for text in TEXTS], own, atol=1e-4)
    assert found.light is not None and np.linalg.norm(own[0]) > 1.1


def test_a_light_encoder_is_kept_and_needs_no_model(encoders, tmp_path, monkeypatch):
    model = saved(encoders["bert"], tmp_path / "model")
    before = lightened(model, tmp_path / "light")([TEXTS[0]])
    monkeypatch.setattr(encoder, "load", None)  # nothing can be loaded any more
    np.testing.assert_array_equal(lightened(model, tmp_path / "light")([TEXTS[0]]), before)


def test_other_weights_are_tried_again(encoders, tmp_path):
    model = saved(encoders["bert"], tmp_path / "model")
    before = lightened(model, tmp_path / "light")([TEXTS[0]])
    path = tmp_path / "model" / "model.safetensors"
    weights = {name: 1.1 * weight for name, weight in load_file(path).items()}
    save_file(weights, path, metadata={"format": "pt"})
    again = lightened(model, tmp_path / "light")
    assert again.light is not None
    np.testing.assert_allclose(again([TEXTS[0]]), encoder.encode(encoder.load(model), TEXTS[:1], "query"), atol=1e-4)
    assert np.abs(again([TEXTS[0]]) - before).max() > 1e-3


@pytest.mark.parametrize("kind", ["modernbert", "dense", "max", "relu", "bfloat16"])
def test_what_is_not_known_or_not_equal_goes_through_the_library(encoders, kind, tmp_path):
    plain, pooling, more, dtype = encoders["bert"], "mean", [], "float32"
    if kind == "modernbert":
        plain = encoders["modernbert"]
    elif kind == "dense":
        more = [Dense(32, 16)]
    elif kind == "max":
        pooling = "max"
    elif kind == "bfloat16":
        dtype = "bfloat16"
    model = saved(plain, tmp_path / "model", pooling, *more)
    if kind == "relu":
        config = tmp_path / "model" / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "relu"}))
    found = lightened(model, tmp_path / "light", dtype=dtype)
    assert found.light is None
    np.testing.assert_array_equal(found([TEXTS[0]]), encoder.encode(encoder.load(model, dtype), TEXTS[:1], "query"))


def test_a_difference_is_noticed(encoders, tmp_path, monkeypatch):
    from retrieval_distill.student.light_encoder import LightEncoder

    right = LightEncoder.__call__
    monkeypatch.setattr(LightEncoder, "__call__", lambda self, text: right(self, text) * np.float32(1.001))
    assert lightened(saved(encoders["bert"], tmp_path / "model"), tmp_path / "light").light is None


def test_a_place_that_cannot_be_written_has_none(encoders, tmp_path):
    (tmp_path / "file").write_text("")
    model = saved(encoders["bert"], tmp_path / "model")
    assert lightened(model, tmp_path / "file" / "light").light is None
