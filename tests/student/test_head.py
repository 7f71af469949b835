"""Pooling, projection and decoders: vectors by hand from token vectors, and the library's own after saving."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from retrieval_distill.config import StudentConfig
from retrieval_distill.errors import UserError
from retrieval_distill.student import build, encoder
from tests.student.conftest import config_of, save

TEXTS = ["path file", "", "a much longer text about the graph " * 6, "Hash Byte buffer", "sort node edge tree " * 4]

BY_HAND = {
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
    "last": lambda states: states[-1],
    "max": lambda states: states.max(0).values,
    "weightedmean": lambda states: torch.linspace(1, len(states), len(states)) @ states / sum(range(len(states) + 1)),
}


def token_vectors(folder: str, text: str, end: bool = False) -> torch.Tensor:
    """One text alone through the plain model, without any padding: [tokens, width]."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    ids = tokenizer(text, truncation=True, max_length=64 - end)["input_ids"] + [tokenizer.eos_token_id] * end
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize("pooling", BY_HAND)
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_pooling(families, kind, pooling, tmp_path):
    config = StudentConfig(model=families[kind], max_length=64, pooling=pooling, similarity="dot")
    student = build.build(config)
    expected = [BY_HAND[pooling](token_vectors(families[kind], text, kind == "gpt2")).numpy() for text in TEXTS]
    np.testing.assert_allclose(encoder.encode(student, TEXTS, "document"), expected, atol=2e-5)
    student.save_pretrained(str(tmp_path))
    np.testing.assert_allclose(SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS), expected, atol=2e-5)


@pytest.mark.parametrize(("kind", "own"), [("bert", "mean"), ("mpnet", "mean"), ("gpt2", "lasttoken")])
def test_pooling_left_to_the_model(families, kind, own):
    assert build.build(StudentConfig(model=families[kind]))[1].pooling_mode == own


def test_a_saved_students_pooling_is_kept(families, tmp_path):
    build.build(StudentConfig(model=families["gpt2"], pooling="mean")).save_pretrained(str(tmp_path))
    assert build.build(StudentConfig(model=str(tmp_path)))[1].pooling_mode == "mean"


def test_a_decoder_without_padding_token(families, tmp_path):
    """Its end mark pads, on the right, and the mask keeps the two apart: no text's vector depends on its neighbours."""
    student = build.build(StudentConfig(model=families["gpt2"], max_length=30))
    ours = encoder.encode(student, TEXTS, "query")
    student.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert (loaded.tokenizer.pad_token, loaded.tokenizer.padding_side) == ("<|endoftext|>", "right")
    np.testing.assert_allclose(loaded.encode(TEXTS), ours, atol=1e-5)
    np.testing.assert_allclose([loaded.encode(text) for text in TEXTS], ours, atol=1e-5)
    assert np.linalg.norm(ours[1]) == pytest.approx(1)  # the empty text has its end mark


def test_a_decoder_trains(families):
    student = build.build(StudentConfig(model=families["gpt2"], max_length=30))
    tokens = encoder.tokens_of(student, TEXTS, "query")
    vectors = encoder.encode_rows(student, [tokens[row] for row in range(len(TEXTS))], cache_texts=2)
    np.testing.assert_allclose(vectors.detach(), student.encode_query(TEXTS), atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_projection(families, kind, similarity, tmp_path):
    torch.manual_seed(0)
    config = {"model": families[kind], "max_length": 40, "similarity": similarity}
    whole = build.build(StudentConfig(**{**config, "similarity": "dot"}))
    student = build.build(StudentConfig(**config, dimensions=12))
    weight = student[2].linear.weight.detach()
    torch.testing.assert_close(weight @ weight.T, torch.eye(12), atol=1e-5, rtol=0)
    expected = whole.encode_query(TEXTS) @ weight.T.numpy()
    if similarity == "cosine":
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    student.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert loaded.get_embedding_dimension() == 12
    for found in (encoder.encode(student, TEXTS, "query"), loaded.encode_query(TEXTS)):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_more_dimensions_keep_every_inner_product(families):
    narrow = build.build(StudentConfig(model=families["bert"], similarity="dot")).encode_query(TEXTS)
    wide = build.build(StudentConfig(model=families["bert"], similarity="dot", dimensions=50)).encode_query(TEXTS)
    assert wide.shape == (len(TEXTS), 50)
    np.testing.assert_allclose(wide @ wide.T, narrow @ narrow.T, rtol=1e-4, atol=1e-4)


def test_the_own_number_of_dimensions_adds_nothing(families):
    assert len(build.build(StudentConfig(model=families["bert"], dimensions=32))) == 3


def test_a_tokenizer_that_knows_more_than_the_model(tokenizers_by_kind, tmp_path):
    tokenizer = tokenizers_by_kind["bert"]
    config = config_of("bert", tokenizer)
    config.vocab_size -= 3
    folder = save(config, tokenizer, tmp_path)
    sizes = f"has {len(tokenizer)} tokens, its embedding matrix vectors for {len(tokenizer) - 3}"
    with pytest.raises(UserError, match=rf"{sizes}; .*resize_token_embeddings\({len(tokenizer)}\)"):
        build.build(StudentConfig(model=folder))
