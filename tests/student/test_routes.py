"""Encoders of their own for queries and documents: training, encoding and saving go each its way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Router

from retrieval_distill import api
from retrieval_distill.config import StudentConfig
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import Mix
from retrieval_distill.student import build, encoder, routes
from retrieval_distill.training.distillation_model import DistillationModel
from tests.training.driver import train
from tests.training.test_gradient_caching import PARTS, RAGGED, batch_of

TEXTS = ["path file", "", "a much longer text about the graph " * 12, "Hash Byte buffer", "sort " * 30]


def assert_equals_library(folder: str, student: SentenceTransformer) -> None:
    loaded = SentenceTransformer(folder, device="cpu")
    assert isinstance(loaded[0], Router)
    for kind in ("query", "document"):
        expected = loaded.encode_query(TEXTS) if kind == "query" else loaded.encode_document(TEXTS)
        np.testing.assert_allclose(encoder.encode(student, TEXTS, kind), expected, atol=1e-5)
        np.testing.assert_allclose(encoder.encode(encoder.load(folder), TEXTS, kind), expected, atol=1e-5)


def test_separate_encoders_start_as_one(families):
    config = {"model": families["bert"], "max_length": 40, "query_prompt": "ask "}
    one, two = build.build(StudentConfig(**config)), build.build(StudentConfig(**config, separate=True))
    assert build.parameters(two) == 2 * build.parameters(one)
    for kind in ("query", "document"):
        np.testing.assert_array_equal(encoder.encode(two, TEXTS, kind), encoder.encode(one, TEXTS, kind))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
@pytest.mark.parametrize("cache_texts", [None, 3])
def test_gradients_of_the_two_add_up_to_those_of_one(families, cache_texts, dtype):
    """Equal at the start, their gradients are the two parts of the one encoder's: by the chain rule."""
    batch = batch_of(RAGGED, 4, 3)
    found = {}
    for separate in (False, True):
        student = build.build(StudentConfig(model=families["bert"], max_length=40, separate=separate))
        outputs = DistillationModel(student, Mix(PARTS), 20.0, dtype, cache_texts)(**batch)
        outputs["loss"].backward()
        gradients = [
            {name: p.grad for name, p in first.named_parameters() if p.grad is not None}
            for first in routes.encoders(student)
        ]
        found[separate] = outputs, gradients
    (one, (of_one,)), (two, (of_queries, of_documents)) = found[False], found[True]
    tolerance = 1e-5 if dtype is None else 2e-2
    assert two["loss"].item() == pytest.approx(one["loss"].item(), rel=tolerance)
    assert of_one.keys() == of_queries.keys() == of_documents.keys()
    total = torch.cat([(of_queries[name] + of_documents[name]).flatten() for name in of_one])
    whole = torch.cat([gradient.flatten() for gradient in of_one.values()])
    assert (total - whole).norm() <= tolerance * whole.norm()
    assert all(sum(float(g.norm()) for g in part.values()) > 0 for part in (of_queries, of_documents))
    assert two["tokens"] == one["tokens"] == sum(RAGGED)


def test_trained_saved_and_searched(tiny_recipe, families, dataset, tmp_path):
    student = {"model": families["distilbert"], "max_length": 48, "separate": True, "dimensions": 12}
    folder = str(tmp_path / "student")
    train({**tiny_recipe, "student": student}, tmp_path / "student")
    loaded = encoder.load(folder)
    assert_equals_library(folder, loaded)
    assert np.abs(loaded.encode_query(TEXTS) - loaded.encode_document(TEXTS)).max() > 1e-3  # they have parted
    api.embed(dataset.documents, folder, out=tmp_path / "vectors", dtype="float32")
    api.index(tmp_path / "vectors", out=tmp_path / "index", kind="flat", similarity="cosine")
    queries = dataset.queries("test")
    run = api.search(queries, tmp_path / "index", model=folder, depth=5, dtype="float32").as_dict()
    documents = loaded.encode_document(dataset.documents.take())
    for id_, vector in zip(queries, loaded.encode_query(queries.take()), strict=True):
        nearest = np.argsort(-(documents @ vector))[:5]
        assert run[id_].keys() == {dataset.documents.ids[row] for row in nearest}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_encoder_for_queries(families, dtype, tmp_path):
    """Another architecture, tokenizer and prompt on either side; one length of vectors."""
    config = StudentConfig(
        model=families["roberta"], query_model=families["bert"], layers="first:3", dimensions=16, max_length=40,
        query_prompt="ask ", document_prompt="text ",
    )  # fmt: skip
    student = build.build(config)
    layers = [first.auto_model.config.num_hidden_layers for first in routes.encoders(student)]
    assert layers == [4, 3]  # the query model is taken whole
    folder = str(tmp_path)
    student.save_pretrained(folder)
    assert_equals_library(folder, student)
    expected = build.build(StudentConfig(model=families["bert"], similarity="dot", max_length=40, query_prompt="ask "))
    weight = routes.path(student, "query")[2].linear.weight.detach().numpy()
    by_hand = expected.encode_query(TEXTS) @ weight.T
    by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
    loaded = encoder.load(folder, dtype)
    np.testing.assert_allclose(
        encoder.encode(loaded, TEXTS, "query"), by_hand, atol=1e-5 if dtype == "float32" else 0.05
    )


def test_vectors_of_two_lengths(families, tokenizers_by_kind, tmp_path):
    from tests.student.conftest import config_of, save

    config = config_of("bert", tokenizers_by_kind["bert"])
    config.hidden_size = 16
    narrow = save(config, tokenizers_by_kind["bert"], tmp_path)
    with pytest.raises(UserError, match=r"vectors of 16 dimensions, student.model of 32; .*student.dimensions=16"):
        build.build(StudentConfig(model=families["bert"], query_model=narrow))


def test_a_student_of_two_encoders_is_trained_on_but_not_slimmed(families, tmp_path):
    two = build.build(StudentConfig(model=families["bert"], separate=True, max_length=40))
    two.save_pretrained(str(tmp_path))
    again = build.build(StudentConfig(model=str(tmp_path), max_length=30))
    assert [first.max_seq_length for first in routes.encoders(again)] == [30, 30]
    with pytest.raises(UserError, match=r"student\.layers: .* already has separate encoders for queries"):
        build.build(StudentConfig(model=str(tmp_path), layers=(0, 1)))


def test_frozen_documents_keep_their_vectors(tiny_recipe, families, tmp_path):
    student = {"model": families["distilbert"], "max_length": 48, "separate": True, "freeze_documents": True}
    train({**tiny_recipe, "student": student}, tmp_path / "student")
    trained, start = encoder.load(str(tmp_path / "student")), build.build(StudentConfig(**student))
    np.testing.assert_array_equal(encoder.encode(trained, TEXTS, "document"), encoder.encode(start, TEXTS, "document"))
    assert np.abs(encoder.encode(trained, TEXTS, "query") - encoder.encode(start, TEXTS, "query")).max() > 1e-3
    with pytest.raises(UserError, match="freeze_documents needs"):
        build.build(StudentConfig(**{**student, "separate": False}))
