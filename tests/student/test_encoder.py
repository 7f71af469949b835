"""Our embedding path equals the library's, and so does the student it saves."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from retrieval_distill.config import StudentConfig
from retrieval_distill.errors import UserError
from retrieval_distill.student import build, encoder

TEXTS = ["path file", "", "a much longer text about the graph " * 12, "Hash Byte buffer", "sort " * 30]
KINDS = ["bert", "distilbert", "roberta"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_equals_library(encoders, kind, similarity):
    config = StudentConfig(
        model=encoders[kind], similarity=similarity, max_length=40, query_prompt="ask ", document_prompt="text "
    )
    model = build.build(config)
    np.testing.assert_allclose(encoder.encode(model, TEXTS, "query"), model.encode_query(TEXTS), atol=1e-6)
    np.testing.assert_allclose(encoder.encode(model, TEXTS, "document"), model.encode_document(TEXTS), atol=1e-6)
    assert not np.allclose(model.encode_query(TEXTS), model.encode_document(TEXTS), atol=1e-3)  # prompts do count


@pytest.mark.skipif(torch.cuda.is_available(), reason="batches are padded on a GPU")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_vector_does_not_depend_on_the_other_texts(encoders, kind, dtype):
    """To the last bit: so a server that batches its clients' texts gives what ``embed`` writes."""
    model = encoder.load(encoders[kind], dtype)
    texts = [
        *TEXTS,
        *("file graph " * count for count in range(1, 20)),
        *("graph file " * count for count in range(1, 20)),
    ]
    together = encoder.encode(model, texts, "document")
    for text, vector in zip(texts, together, strict=True):
        assert np.array_equal(encoder.encode(model, [text], "document")[0], vector), text


@pytest.mark.parametrize("kind", KINDS)
def test_saved_student_loads_with_the_library_alone(encoders, kind, tmp_path):
    config = StudentConfig(model=encoders[kind], similarity="cosine", layers=(0, 2), max_length=40, query_prompt="ask ")
    model = build.build(config)
    model.save_pretrained(str(tmp_path / "student"))
    loaded = SentenceTransformer(str(tmp_path / "student"), device="cpu")
    assert loaded.similarity_fn_name == "cosine"
    assert loaded.prompts["query"] == "ask "
    assert loaded[0].auto_model.config.num_hidden_layers == 2
    np.testing.assert_allclose(loaded.encode_query(TEXTS), encoder.encode(model, TEXTS, "query"), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_keeping_layers_keeps_those_weights(encoders, kind):
    whole = build.build(StudentConfig(model=encoders[kind], max_length=40))
    kept = build.build(StudentConfig(model=encoders[kind], max_length=40, layers=(1, 3)))
    layers = [m for m in whole.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 4][0]
    of_kept = [m for m in kept.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 2][0]
    for old, new in ((1, 0), (3, 1)):
        for a, b in zip(layers[old].parameters(), of_kept[new].parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_layer_that_does_not_exist(encoders):
    with pytest.raises(UserError, match="layers 0 to 3"):
        build.build(StudentConfig(model=encoders["bert"], layers=(0, 4)))


def test_rows_of_any_length_keep_order_and_gradients(encoders):
    model = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    tokens = encoder.tokens_of(model, TEXTS, "document")
    vectors = encoder.encode_rows(model, [tokens[i] for i in range(len(tokens))])
    np.testing.assert_allclose(vectors.detach().numpy(), model.encode_document(TEXTS), atol=1e-6)
    vectors.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_texts_beyond_the_models_positions_are_cut(encoders, kind):
    model = encoder.load(encoders[kind], max_length=500)
    assert model.max_seq_length == 64
    assert np.isfinite(encoder.encode(model, ["path file " * 300], "document")).all()


@pytest.mark.parametrize("kind", KINDS)
def test_texts_lose_the_end_that_the_tokenizer_says(encoders, tmp_path, kind):
    shutil.copytree(encoders[kind], folder := tmp_path / "model")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, "truncation_side": "left"}))
    texts = ["path " * 80 + "file root", "file root", "sort " * 80 + "file root"]
    model = encoder.load(str(folder))
    found = encoder.encode(model, texts, "document")
    np.testing.assert_allclose(found, model.encode_document(texts), atol=1e-5)
    assert np.abs(found - encoder.encode(encoder.load(encoders[kind]), texts, "document")).max() > 1e-3


def test_no_dropout_left(encoders):
    model = build.build(StudentConfig(model=encoders["bert"], max_length=40))
    build.set_dropout(model, 0.0)
    model.train()
    rows = [encoder.tokens_of(model, TEXTS, "query")[2]]
    assert torch.equal(encoder.encode_rows(model, rows), encoder.encode_rows(model, rows))


@pytest.mark.parametrize("kind", ["bert", "distilbert", "roberta"])
def test_training_in_bfloat16_keeps_float32_weights(encoders, kind):
    model = encoder.load(encoders[kind], "float32")
    rows = [np.arange(5, 5 + n, dtype=np.int32) for n in (3, 9, 14, 6)]
    target = torch.nn.functional.normalize(torch.randn(4, 32, generator=torch.Generator().manual_seed(0)), dim=1)
    found = {}
    for dtype in (None, torch.bfloat16):
        model.zero_grad()
        vectors = encoder.encode_rows(model, rows, dtype)
        (vectors * target).sum().backward()
        weights = dict(model.named_parameters())
        found[dtype] = vectors.detach(), {name: w.grad for name, w in weights.items() if w.grad is not None}
        assert all(weight.dtype == torch.float32 for weight in weights.values())
    (exact, gradients), (rounded, rounded_gradients) = found[None], found[torch.bfloat16]
    assert rounded.dtype == torch.float32
    assert 0 < (exact - rounded).abs().max() < 0.05 * exact.abs().max()
    assert gradients.keys() == rounded_gradients.keys()
    flat, flat_rounded = (torch.cat([g[name].flatten() for name in gradients]) for g in (gradients, rounded_gradients))
    assert flat_rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(flat, flat_rounded, dim=0) > 0.99
